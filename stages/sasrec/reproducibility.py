"""Which parts of a machine may shape the bits of a result, and the variables that take them out.

The last bit of a float sum depends on how many threads shared it and how wide the vectors were. PyTorch and MKL choose
both by the machine, once, when torch is imported: so this module must not import torch, and a stage must apply
`environment()` before it does.
"""

import os
from pathlib import Path
from typing import Literal

from numpy._core._multiarray_umath import __cpu_features__

from sasrec import params
from sasrec.errors import UserError

Mode = Literal["portable", "fast"]
"""portable: the same bits on every x86-64 CPU with AVX2; fast: the same bits on the same machine and thread count."""

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2" if __cpu_features__.get("AVX2") else "default",  # PyTorch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # for matrix products, which `products` takes from oneDNN
    "MKL_CBWR": "COMPATIBLE",  # should something else use MKL, whose AVX2 branch is another on AMD than on Intel
    "OMP_DYNAMIC": "FALSE",  # not fewer threads than asked for on a busy machine
    "OMP_THREAD_LIMIT": "1024",  # nor because the caller limited them
}
ALWAYS = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what PyTorch's deterministic mode demands of cuBLAS
}


def environment(path: Path = Path("params.yaml")) -> dict[str, str]:
    """Return the variables that `train.reproducibility` of the params asks for, to be set before torch is imported.

    Params that cannot be read give the portable ones; the stage reports what is wrong with them.
    """
    try:
        mode = params.read(path)["train"]["reproducibility"]
    except (UserError, KeyError, TypeError):
        mode = "portable"
    return ALWAYS if mode == "fast" else ALWAYS | PORTABLE


def is_portable() -> bool:
    """Return whether this process has the portable variables."""
    return PORTABLE.items() <= os.environ.items()
