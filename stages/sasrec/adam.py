"""Adam with decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019), by PyTorch's fused operator.

torch.optim.AdamW calls the same operator, but imports PyTorch's compiler for it: a second, and a quarter at the end.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPS = 1e-8


class Adam:
    """Moves parameters along the gradients that `backward` left in them: every one must have one at every step."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]  # of the gradient
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]  # mean of its squares
        device = self.parameters[0].device
        self.num_steps = torch.zeros((), device=device)
        # A CUDA graph reads the rate from the device.
        self.lr: float | Tensor = torch.tensor(lr, device=device) if device.type == "cuda" else lr
        self.weight_decay = weight_decay

    def set_lr(self, lr: float) -> None:
        """Set the rate of the next step, without waiting for the device."""
        if isinstance(self.lr, Tensor):
            self.lr.fill_(lr)
        else:
            self.lr = lr

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        self.num_steps += 1
        gradients = [parameter.grad for parameter in self.parameters]
        torch.ops.aten._fused_adamw_(
            self.parameters,
            gradients,
            self.means,
            self.squares,
            [],
            [self.num_steps] * len(gradients),
            lr=self.lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self.weight_decay,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all that the next step depends on, beside the parameters and the rate, by name."""
        named = {"num_steps": self.num_steps}
        named |= {f"mean.{number}": tensor for number, tensor in enumerate(self.means)}
        return named | {f"square.{number}": tensor for number, tensor in enumerate(self.squares)}
