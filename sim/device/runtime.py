"""Start Taichi once per process and hand torch tensors to its kernels without a copy."""

from __future__ import annotations

import atexit
import contextlib
import io
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import taichi as ti
import torch

from sim.caches import cache_folder

_started: str | None = None


def start(device: str) -> None:
    """Initialise Taichi for ``device``: "cuda", or "cpu" for whoever compares the kernels there.

    Starting the same device twice does nothing; another device restarts Taichi, which is safe because every
    array belongs to torch.
    """
    global _started
    if device == "cuda":
        torch.cuda.init()
    if _started != device:
        options: dict[str, Any] = {"arch": ti.cpu, "cpu_max_num_threads": 1}
        if device == "cuda":
            options = {"arch": ti.cuda, "device_memory_GB": 0.3}
        options["offline_cache_file_path"] = str(_kernel_cache())
        with contextlib.redirect_stdout(io.StringIO()):
            ti.init(default_fp=ti.f64, offline_cache=True, log_level=ti.ERROR, random_seed=0, **options)
        _started = device


@cache
def _kernel_cache() -> Path:
    """Where Taichi keeps compiled kernels: it writes there whatever it is told, and dies where it cannot."""
    folder, is_temporary = cache_folder("taichi")
    if is_temporary:
        atexit.register(_discard, folder)
    return folder


def _discard(folder: Path) -> None:
    ti.reset()  # writes the cache; later it would find no folder
    shutil.rmtree(folder, ignore_errors=True)


def kernel_argument(tensor: torch.Tensor) -> Any:
    """The form of ``tensor`` that costs least to pass to a kernel; it shares the tensor's memory."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor
