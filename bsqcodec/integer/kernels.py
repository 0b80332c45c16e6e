"""Which kernel runs the exact arithmetic on a device; all give the same integers."""

from __future__ import annotations

import os

import torch

from bsqcodec.errors import DeviceError, UsageError
from bsqcodec.integer.arithmetic import Float32, Int8, int8_is_exact

KERNELS = ("auto", "int8", "float32")
KERNEL_VARIABLE = "BSQCODEC_KERNEL"  # for tests and timings


def best_kernel(device: torch.device) -> type[Float32]:
    """The kernel that BSQCODEC_KERNEL names, else int8 where it is exact and fast (AVX-512 or CUDA), else float32.

    Raises UsageError for a name that is none, DeviceError where int8 is asked for and not exact here.
    """
    wanted = os.environ.get(KERNEL_VARIABLE, "auto")
    if wanted not in KERNELS:
        raise UsageError(f"{KERNEL_VARIABLE}={wanted}: not a kernel; use {', '.join(KERNELS)}")
    if wanted == "float32":
        return Float32
    exact = int8_is_exact(device)
    if wanted == "int8" and not exact:
        raise DeviceError("this machine's int8 kernel is not exact; unset " + KERNEL_VARIABLE)
    fast = device.type == "cuda" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return Int8 if exact and (fast or wanted == "int8") else Float32
