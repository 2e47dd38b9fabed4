"""The loops of the CPU compiled ahead: half a minute on a new machine, then they lie on the disk."""

from __future__ import annotations

import contextlib
import threading

from precond.errors import UsageError
from sim.scenes import load_scene
from sim.settings import MIN_CELLS, SimulationSettings
from sim.simulation import Simulation, SimulationError

SCENE = "dam-break"
NOTE = "compiling for this machine, once"


def compile_ahead(device: str) -> threading.Thread:
    """A thread that compiles all that a step on ``device`` may need, and ends."""
    thread = threading.Thread(target=_compile if device == "cpu" else bool, name="compile ahead", daemon=True)
    thread.start()
    return thread


def _compile() -> None:
    """Take a step of a small simulation."""
    with contextlib.suppress(UsageError, SimulationError):  # whoever needs what failed here will say so
        grid = MIN_CELLS, MIN_CELLS
        settings = SimulationSettings(scene=SCENE, grid=grid, preconditioner="multigrid")
        simulation = Simulation(settings, load_scene(SCENE))
        simulation.stir(0.5, 0.5, 0.1, 0.1, 0.1)
        simulation.step()
