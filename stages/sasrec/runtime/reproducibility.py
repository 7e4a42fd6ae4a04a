"""Environment variables that make results bit-identical across machines.

The last bit of a float sum depends on the width of the vectors. PyTorch and MKL choose it for the machine, once, when
torch is imported. So a stage must apply `environment()` before it imports torch, and this module must not import torch.
"""

import os
from pathlib import Path
from typing import Literal

from numpy._core._multiarray_umath import __cpu_features__

from sasrec.core import params
from sasrec.core.errors import UserError

Mode = Literal["portable", "fast"]
"""portable: the same bits on every x86-64 CPU with AVX2; fast: the same bits on the same machine and thread count."""

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2" if __cpu_features__.get("AVX2") else "default",  # PyTorch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # the matrix products of `model.matmul`
    "MKL_CBWR": "COMPATIBLE",  # for other uses of MKL, whose AVX2 kernels differ between AMD and Intel
    "OMP_DYNAMIC": "FALSE",  # no fewer threads on a busy machine
    "OMP_THREAD_LIMIT": "1024",  # nor under a caller's limit
}
ALWAYS = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # PyTorch's deterministic mode demands it for cuBLAS
    # How often a thread looks for the others before it sleeps: docs/reproducibility.md has a step's seconds for 1,000
    # to 300,000 looks, on a quiet and on a busy machine. It changes no bit.
    "GOMP_SPINCOUNT": "10000",
}


def environment(path: Path) -> dict[str, str]:
    """Return the variables for `train.reproducibility` of the params file, to set before torch is imported.

    Unreadable params give the portable variables, and the stage reports the mistake later.
    """
    try:
        mode = params.read(path)["train"]["reproducibility"]
    except (UserError, OSError, KeyError, TypeError):
        mode = "portable"
    return ALWAYS if mode == "fast" else ALWAYS | PORTABLE


def is_portable() -> bool:
    """Return whether the portable variables are set in this process."""
    return PORTABLE.items() <= os.environ.items()
