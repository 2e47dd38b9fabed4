"""Every kernel that a solve launches compiled for a GPU that need not be there: run by test_triton_kernels in
a process of its own, whose Triton afterwards believes in that GPU.
"""

import os
from types import SimpleNamespace

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget

from precond.device import ops, triton_kernels
from precond.krylov.cuda_cg import CudaCG
from precond.two_level.preconditioner import CoarseMonomial

assert os.environ.get("TRITON_INTERPRET") != "1", "interpreted kernels do not compile"


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Kernels compile for an architecture where they would be launched, into a list of (name, kernel)."""

    def begin(architecture):
        found = []
        gpu = SimpleNamespace(
            get_current_device=lambda: architecture,  # kernels are kept by device
            get_current_stream=lambda _: 0,
            get_current_target=lambda: GPUTarget("cuda", architecture, 32),
        )
        triton.runtime.driver.set_active(gpu)

        def at(kernel, grid):
            def compile_only(*arguments, **options):
                assert all(a.is_contiguous() for a in arguments if isinstance(a, torch.Tensor))
                found.append((kernel.__name__, kernel.warmup(*arguments, grid=grid, **options)))

            return compile_only

        monkeypatch.setattr(triton.JITFunction, "__getitem__", at)
        for name, launcher in triton_kernels.LAUNCHERS.items():
            monkeypatch.setattr(ops, name, launcher)
        return found

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return begin


@pytest.mark.parametrize(
    ("architecture", "shape", "leaf_size"), [(80, (37, 31), 128), (90, (37, 31), 64), (90, (64, 64), 128)]
)
def test_an_iteration(make_case, compiled, architecture, shape, leaf_size):
    """On the odd grid no vector but the first is aligned to 16 bytes: other code than on the even one."""
    operator = make_case(shape, 100.0, False).operator
    preconditioner = CoarseMonomial(operator, leaf_size=leaf_size, on_device=True)
    preconditioner.setup()
    loop = CudaCG(operator, preconditioner, 100, per_block=1)
    found = compiled(architecture)
    loop.block()
    loop._flexible, loop._cells = (
        True,
        0.0,
    )  # as with solids that cut the fluid in two, and without the promise
    loop.block()
    assert {name for name, _ in found} == {f"_{name}" for name in triton_kernels.LAUNCHERS}
    for name, kernel in found:
        assert kernel.asm["cubin"][:4] == b"\x7fELF", name
        assert f".target sm_{architecture}" in kernel.asm["ptx"], name
        assert ".local" not in kernel.asm["ptx"], name  # no array lives outside registers
    kinds = {name: len({kernel.hash for other, kernel in found if other == name}) for name, _ in found}
    twice = {"_dots", "_direction", "_update"}
    assert all(count == (2 if name in twice else 1) for name, count in kinds.items()), kinds
