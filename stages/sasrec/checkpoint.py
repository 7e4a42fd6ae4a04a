"""Saves a training state so that a killed run goes on from it and ends with the bits of an undisturbed one."""

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

from sasrec import outputs
from sasrec.training import TrainingState

DIGEST_BYTES = hashlib.sha256().digest_size


def key(params: Iterable[msgspec.Struct], inputs: Iterable[Path], device: torch.device) -> str:
    """Return a digest of all that the result depends on: params, inputs, device, PyTorch and the code loaded so far."""
    folder = Path(__file__).parent.parent
    loaded = [getattr(module, "__file__", None) for module in sys.modules.values()]
    code = sorted({Path(file) for file in loaded if file and Path(file).is_relative_to(folder)})
    digest = hashlib.sha256(f"{torch.__version__} {device.type} {msgspec.json.encode(list(params))!r}".encode())
    for path in [*code, *inputs]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def write(path: Path, state: TrainingState) -> None:
    """Write `state` whole: weights, the best so far, optimiser, generators, losses and validation."""
    progress = {"batch_rng": state.batch_rng.bit_generator.state, "losses": state.losses, "curve": state.curve}
    tensors = {
        "generator": state.generator.get_state(),
        "progress": torch.frombuffer(bytearray(json.dumps(progress).encode()), dtype=torch.uint8),
    }
    tensors |= {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in state.optimizer.tensors().items()}
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    with outputs.whole(path) as partial:
        partial.write_bytes(hashlib.sha256(content).digest() + content)


def restore(path: Path, state: TrainingState) -> bool:
    """Bring `state` to where `write` left it; return False, `state` unchanged, where the file is not intact."""
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
    for name, tensor in state.optimizer.tensors().items():
        tensor.copy_(tensors[f"optimizer.{name}"])
    return True


def remove(path: Path) -> None:
    """Remove the checkpoint of a training that ended well, and its folder where no other training has one there."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
