"""What every test may use: a small simulation of any scene, loaded when it is asked for, so that the tests of
precond run where there is no Taichi.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

# one thread for BLAS, as in the program, set before it is loaded: its threads spin while they wait
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import pytest
import torch

if TYPE_CHECKING:
    from sim.scenes import Scene
    from sim.simulation import Simulation

with contextlib.suppress(ImportError):
    import triton  # noqa: F401, before a window loads Mesa, whose LLVM it would call instead of its own


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One thread, as in the program: at these sizes a second one only waits."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def compiled_first() -> None:
    """Each of two workers compiles a half of the loops before its first test; the other half is then on the
    disk, or nearly.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker not in ("gw0", "gw1"):
        return
    from app.compilation import drawing, solving, stepping

    if worker == "gw0":
        parts = (drawing(), stepping(), solving("jacobi"), solving("multigrid"))
    else:
        parts = (solving("coarse-iterated"), solving("hmatrix"), solving("coarse-monomial"))
    for part in parts:
        for _ in part:
            pass


@pytest.fixture
def make_simulation() -> Callable[..., Simulation]:
    """Build a simulation of a scene (by name, or a Scene) with settings on top of the scene's own, solved by
    multigrid unless they say other: a quarter of the default's time at these sizes.
    """

    from sim.scenes import load_scene
    from sim.settings import SimulationSettings
    from sim.simulation import Simulation

    def make(scene: str | Scene = "dam-break", **settings: object) -> Simulation:
        scene = load_scene(scene) if isinstance(scene, str) else scene
        return Simulation(
            SimulationSettings(**{"preconditioner": "multigrid", **scene.settings, **settings}), scene
        )

    return make
