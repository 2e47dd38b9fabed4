"""What every test may use: a small simulation of any scene."""

import contextlib
from collections.abc import Callable

import pytest
import torch

from sim.scenes import Scene, load_scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation

with contextlib.suppress(ImportError):
    import triton  # noqa: F401, before a window loads Mesa, whose LLVM it would call instead of its own


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One thread, as in the program: at these sizes a second one only waits."""
    torch.set_num_threads(1)


@pytest.fixture
def make_simulation() -> Callable[..., Simulation]:
    """Build a simulation of a scene (by name, or a Scene) with settings on top of the scene's own."""

    def make(scene: str | Scene = "dam-break", **settings: object) -> Simulation:
        scene = load_scene(scene) if isinstance(scene, str) else scene
        return Simulation(SimulationSettings(**{**scene.settings, **settings}), scene)

    return make
