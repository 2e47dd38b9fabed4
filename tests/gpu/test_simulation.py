"""On a CUDA device: the same flow and counts as on the CPU. `make test-gpu`; skipped where there is none."""

import pytest
import torch

from precond import available_preconditioners
from sim.scenes import load_scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation

CAPTURABLE = ("none", "jacobi", "multigrid", "coarse-iterated", "coarse-learned", "hmatrix", "neural-spai")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("dam-break", {}),
        ("falling-drop", {"surface_tension": 1.0, "contrast": 1000.0}),
        ("filling", {}),
        ("channel", {"heavy_viscosity": 1e-3, "light_viscosity": 1e-3, "slip_walls": ("bottom",)}),
    ],
)
def test_the_flow_agrees_with_the_cpu(name: str, own: dict) -> None:
    """In a closed box, with surface tension and solids, and through open sides and inflows."""
    scene = load_scene(name)
    flows = []
    for device in ("cpu", "cuda"):
        given = {**scene.settings, **own, "grid": (64, 32), "rtol": 1e-10, "device": device}
        simulation = Simulation(SimulationSettings(**given), scene)
        simulation.paint(0.6 * simulation.domain[0], 0.3 * simulation.domain[1], 0.05, "solid")
        for _ in range(20):
            assert simulation.step().solve.converged
        flows.append(simulation)
    one, other = flows
    assert (one.phase - other.phase.cpu()).abs().max() < 1e-6
    assert (one.velocity - other.velocity.cpu()).abs().max() < 1e-6 * max(one.max_speed(), 1.0)
    assert other.entered == pytest.approx(one.entered, abs=1e-6)
    assert other.energies() == pytest.approx(one.energies(), rel=1e-6)


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
