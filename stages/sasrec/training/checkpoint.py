"""Saves the training state. A killed run resumes from it, bit-exact with one or two processes, not with more."""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sasrec.io import files
from sasrec.training.step import TrainingState

DIGEST_BYTES = hashlib.sha256().digest_size


def key(params: Iterable[msgspec.Struct], inputs: Iterable[Path], device: torch.device) -> str:
    """Return a digest of everything that changes the result: params, inputs, device, PyTorch and the code loaded."""
    folder = Path(__file__).parents[2]
    loaded = [getattr(module, "__file__", None) for module in sys.modules.values()]
    code = sorted({Path(file) for file in loaded if file and Path(file).is_relative_to(folder)})
    digest = hashlib.sha256(f"{torch.__version__} {device.type} {msgspec.json.encode(list(params))!r}".encode())
    for path in [*code, *inputs]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def write(path: Path, state: TrainingState) -> None:
    """Write `state` atomically: weights, best weights, optimiser, generators, losses and validation curve."""
    progress = {"batch_rng": state.batch_rng.bit_generator.state, "losses": state.losses, "curve": state.curve}
    tensors = {
        "generator": state.generator.get_state(),
        "progress": torch.frombuffer(bytearray(json.dumps(progress).encode()), dtype=torch.uint8),
    }
    tensors |= {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    for number, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in values.items()}
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    with files.atomic_write(path) as partial:
        partial.write_bytes(hashlib.sha256(content).digest() + content)


def restore(path: Path, state: TrainingState) -> bool:
    """Restore the state that `write` saved into `state`; return False and leave it alone if the file is damaged."""
    content = path.read_bytes()
    if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
        return False
    try:
        tensors = load(content[DIGEST_BYTES:])
    except SafetensorError:
        return False
    progress = json.loads(tensors["progress"].numpy().tobytes())
    state.batch_rng.bit_generator.state = progress["batch_rng"]
    state.losses, state.curve = progress["losses"], progress["curve"]
    state.generator.set_state(tensors["generator"])
    state.model.load_state_dict(_with_prefix(tensors, "model."))
    state.best = _with_prefix(tensors, "best.")
    optimizer_state: dict[int, dict[str, Tensor]] = {}  # by the number of the parameter
    for name, tensor in _with_prefix(tensors, "optimizer.").items():
        number, _, kind = name.partition(".")
        optimizer_state.setdefault(int(number), {})[kind] = tensor
    state.optimizer.load_state_dict(
        {"state": optimizer_state, "param_groups": state.optimizer.state_dict()["param_groups"]}
    )
    return True


def remove(path: Path) -> None:
    """Remove the checkpoint of a finished training, and its folder if no other checkpoint is there."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
