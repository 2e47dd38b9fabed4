"""What runs the operations of precond.device.ops on a CUDA device."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import shutil

import torch

OLDEST_DEVICE = (8, 0)  # that the Triton kernels are compiled for in the tests


@functools.cache
def use_triton() -> None:
    """Run the operations as Triton kernels on CUDA tensors from now on, where Triton can: it wants a C
    compiler and a recent device. Starts CUDA.
    """
    if importlib.util.find_spec("triton") is None or not torch.cuda.is_available():
        return
    compiles = any(shutil.which(compiler) for compiler in ("cc", "gcc", "clang"))
    if compiles and torch.cuda.get_device_capability() >= OLDEST_DEVICE:
        importlib.import_module("precond.device.triton_kernels").register()
