"""On a CUDA device: the same flow and counts as on the CPU. `make test-gpu`; skipped where there is none."""

import pytest
import torch

from precond import available_preconditioners
from sim.scenes import load_scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation

CAPTURABLE = ("none", "jacobi", "multigrid", "coarse-iterated", "coarse-learned", "hmatrix", "neural-spai")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


def test_the_flow_agrees_with_the_cpu() -> None:
    scene = load_scene("dam-break")
    phases = []
    for device in ("cpu", "cuda"):
        settings = SimulationSettings(**{**scene.settings, "grid": (64, 32), "rtol": 1e-10, "device": device})
        simulation = Simulation(settings, scene)
        for _ in range(20):
            assert simulation.step().solve.converged
        phases.append(simulation.phase.cpu())
    assert (phases[0] - phases[1]).abs().max() < 1e-6


def test_a_thousand_switches_leak_nothing():
    scene = load_scene("dam-break")
    simulation = Simulation(
        SimulationSettings(**{**scene.settings, "grid": (64, 32), "device": "cuda"}), scene
    )
    names = [name for name in CAPTURABLE if name in available_preconditioners()]
    held = []
    for turn in range(1000):
        simulation.projection.select_preconditioner(names[turn % len(names)])
        if turn % 50 == 0:
            simulation.step()
        if turn >= 2 * len(names) and turn % len(names) == 0:
            torch.cuda.synchronize()
            held.append(torch.cuda.memory_allocated())
    assert max(held) - min(held) < 1 << 20
