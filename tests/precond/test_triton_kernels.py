"""The Triton twins of precond.device.ops: one for each operation, registered where CUDA is; interpreted they
do the same, and all of them compile.
"""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from precond.device import ops

pytest.importorskip("triton", reason="triton is not installed")

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = """
import importlib, os, sys, torch
for available, capability, module in {cases}:
    if os.fork():  # torch is imported once for all, the kernels in every child
        assert os.wait()[1] == 0
        continue
    torch.cuda.is_available = lambda: available
    torch.cuda.get_device_capability = lambda: (capability, 0)
    importlib.import_module("precond.device." + module)
    importlib.import_module("precond.device.ops").use_triton()
    names = [operation._qualname for operation in importlib.import_module("precond.device.ops").OPERATIONS]
    on_cuda = {{torch._C._dispatch_has_kernel_for_dispatch_key(n, "CUDA") for n in names}}
    print("triton" in sys.modules, on_cuda, flush=True)
    os._exit(0)
"""


def run(*arguments: str, **environment: str) -> str:
    """What Python prints, run with ``arguments`` in the project's folder; it must succeed."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_operation_has_a_twin_with_its_arguments() -> None:
    from precond.device.triton_kernels import LAUNCHERS

    for operation, (name, launcher) in zip(ops.OPERATIONS, LAUNCHERS.items(), strict=True):
        assert operation._qualname == f"htp_fluid::{name}"
        schema = getattr(torch.ops.htp_fluid, name).default._schema
        assert [argument.name for argument in schema.arguments] == list(
            inspect.signature(launcher).parameters
        )


@pytest.mark.skipif(shutil.which("gcc") is None, reason="Triton wants a C compiler")
def test_twins_are_registered_where_cuda_is_and_nowhere_else() -> None:
    cases = [(False, 9, "ops"), (True, 7, "ops"), (True, 9, "triton_kernels")]
    printed = run("-c", IMPORTED.format(cases=cases)).splitlines()
    assert printed == ["False {False}", "False {False}", "True {True}"]


def passes(file: str, *options: str, interpret: bool) -> None:
    """Assert that the tests of a file that needs a process of its own pass, and that none is skipped."""
    arguments = ("-m", "pytest", "-p", "no:cacheprovider", str(Path(__file__).with_name(file)), *options)
    printed = run(*arguments, TRITON_INTERPRET="1" if interpret else "0")
    assert re.search(r"^\d+ passed(, \d+ deselected)? in", printed, re.MULTILINE), printed


def test_interpreted_kernels_do_what_the_plain_form_does() -> None:
    passes("compared_triton_kernels.py", interpret=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_kernels_on_a_gpu_do_what_the_plain_form_does() -> None:
    passes("compared_triton_kernels.py", "-k", "not pcg", interpret=False)  # tests/gpu solves there


def test_kernels_compile() -> None:
    passes("compiled_triton_kernels.py", interpret=False)
