"""Frames of the simulator as problems of the benchmark: density, solids and divergence as its projection met
them.
"""

from __future__ import annotations

import torch

from app.config.settings import scene_settings
from precond.errors import UsageError
from precond.problems.gallery import Problem, square_shape
from sim.scenes import load_scene
from sim.simulation import Simulation, SimulationError

SCENES = ("dam-break", "rising-bubbles")
STEPS = 20  # time steps between two frames of one scene
RTOL = 1e-6  # of the recording's own pressure solves


class StirredFrames:
    """Problems from `SCENES` in turn on a square grid of ``cells`` cells: frame i is the scene i mod 2, 20
    (1 + i // 2) time steps after its start.

    The face densities are the simulator's arithmetic means, and b is the divergence's right-hand side,
    projected. The scenes run on as far as is asked, so frames should be asked for in order. Deterministic.
    """

    def __init__(self, cells: int, contrast: float):
        self._given = {"grid": square_shape(cells), "contrast": contrast, "rtol": RTOL, "seed": 0}
        self._given["preconditioner"] = "multigrid"
        self._simulations: dict[str, Simulation] = {}

    def frame(self, number: int) -> Problem:
        """Frame ``number``. Raises UsageError when the scene cannot be run so far."""
        name, steps = SCENES[number % len(SCENES)], STEPS * (1 + number // len(SCENES))
        simulation = self._simulations.get(name)
        if simulation is None or simulation.step_count > steps:
            simulation = Simulation(scene_settings(name, self._given), load_scene(name))
            self._simulations[name] = simulation
        try:
            while simulation.step_count < steps:
                simulation.step()
        except SimulationError as error:
            raise UsageError(f"family: stirred: frame {number}, {name}: {error}") from error
        return system_met(simulation)


def system_met(simulation: Simulation) -> Problem:
    """The system of the last step's projection, its right-hand side projected and of norm one."""
    operator, right_hand_side, *_ = simulation.pressure_system()
    b = operator.project(right_hand_side.clone())
    b /= torch.linalg.vector_norm(b)
    solid = operator.solid.clone()
    return Problem(operator.density.clone(), solid, b, int((~solid).sum()), "arithmetic")
