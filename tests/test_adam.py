import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from torch import nn

from sasrec.adam import Adam

SHAPES = [(7, 5), (5,), (3, 5)]


def draw(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_its_steps_are_those_of_pytorchs_adamw(weight_decay: float) -> None:
    mine, theirs = ([nn.Parameter(start) for start in draw(0)] for _ in range(2))
    optimizer = Adam(mine, 0.3, weight_decay)
    reference = torch.optim.AdamW(theirs, 0.3, weight_decay=weight_decay, fused=True)
    for step in range(1, 6):
        optimizer.set_lr(0.1 / step)
        reference.param_groups[0]["lr"] = 0.1 / step
        for parameters in (mine, theirs):
            for parameter, gradient in zip(parameters, draw(step), strict=True):
                parameter.grad = gradient
        optimizer.step()
        reference.step()
    for parameter, expected in zip(mine, theirs, strict=True):
        assert torch.equal(parameter, expected)


def test_gradients_are_forgotten() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    Adam([parameter], 0.1, 0.0).zero_grad()
    assert parameter.grad is None


def test_a_step_does_without_pytorchs_compiler() -> None:
    code = "import sys, test_training as t; t.train(t.PARAMS, 1); sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", check=True)
