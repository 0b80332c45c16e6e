"""What `--version` says: versions of the tool, the bitstream and the libraries, and the device `auto` would take.

Nothing here imports torch, which takes longer than all the rest: its version file and NVIDIA's management library are
asked instead.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bsqcodec import __version__

# Libraries whose version can change what a user sees; looked up without importing them.
LIBRARIES = ("torch", "av", "constriction", "numpy", "safetensors")
NVML = ("libnvidia-ml.so.1", "nvml.dll")  # NVIDIA Management Library, comes with the driver
NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


def version_lines() -> list[str]:
    """The answer to `--version`, a line each."""
    from bsqcodec.container import FORMAT_MAJOR, FORMAT_MINOR

    libraries = ", ".join(f"{library} {_installed(library)}" for library in LIBRARIES)
    return [
        f"bsqcodec {__version__} (bitstream {FORMAT_MAJOR}.{FORMAT_MINOR})",
        f"{libraries}, FFmpeg {_ffmpeg()}",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        f"device: {device()}",
    ]


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _ffmpeg() -> str:
    """FFmpeg's version out of the library that PyAV brings along: importing PyAV for it takes longer than all else."""
    spec = find_spec("av")
    if spec is None or spec.origin is None:
        return "not installed"
    package = Path(spec.origin).parent
    for library in (*package.parent.glob("av.libs/*avutil*"), *package.glob(".dylibs/*avutil*")):
        try:
            ask = ctypes.CDLL(str(library)).av_version_info
        except (OSError, AttributeError):
            continue
        ask.restype = ctypes.c_char_p
        return str(ask().decode())
    import av  # built against libraries of the system

    return str(getattr(av, "ffmpeg_version_info", "unknown"))


def device() -> str:
    """The device that `--device auto` would take, and why."""
    built_for = torch_cuda()
    if built_for is None:
        return f"cpu, {os.cpu_count()} threads (auto: this torch has no CUDA)"
    names = visible(gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not names:
        return f"cpu, {os.cpu_count()} threads (auto: no NVIDIA GPU for CUDA {built_for})"
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"cuda:0 (auto: {names[0]}{others}, CUDA {built_for})"


def torch_cuda() -> str | None:
    """The CUDA version the installed torch is built for, None where it is for the CPU alone or missing."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("version.py")
    found = (
        re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)", file.read_text(encoding="utf-8"), re.M) if file.exists() else None
    )
    return found[1] if found else None


def gpus(load: Callable[[str], Any] = ctypes.CDLL) -> list[str]:
    """Names of the machine's NVIDIA GPUs; empty without their driver. load: opens a shared library."""
    for name in NVML:
        try:
            return _names(load(name))
        except (OSError, AttributeError):  # not there, or too old to have these functions
            continue
    return []


def _names(nvml: Any) -> list[str]:
    if nvml.nvmlInit_v2() != 0:
        return []
    try:
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        return [_name(nvml, index) for index in range(count.value)]
    finally:
        nvml.nvmlShutdown()


def _name(nvml: Any, index: int) -> str:
    handle, text = ctypes.c_void_p(), ctypes.create_string_buffer(NAME_BYTES)
    if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
        return "NVIDIA GPU"
    if nvml.nvmlDeviceGetName(handle, text, ctypes.c_uint(NAME_BYTES)) != 0:
        return "NVIDIA GPU"
    return text.value.decode("utf-8", "replace")


def visible(names: list[str], chosen: str | None) -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES (None = not set) leaves, in its order; by UUID they have no name here."""
    if chosen is None:
        return names
    left: list[str] = []
    for entry in (part.strip() for part in chosen.split(",")):
        if entry.startswith(("GPU-", "MIG-")):
            left.append("NVIDIA GPU")
        elif entry.isdecimal() and int(entry) < len(names):
            left.append(names[int(entry)])
        else:  # CUDA stops at the first one that is not there
            break
    return left
