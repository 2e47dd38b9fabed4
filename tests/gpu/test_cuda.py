"""On a CUDA device: the same flow and counts as on the CPU. `make test-gpu`; skipped where there is none."""

import pytest
import torch

from precond import PCG, make_preconditioner
from precond.problems import gallery
from sim.scenes import load_scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


def test_the_solve_agrees_with_the_cpu(capturable_name: str) -> None:
    problem = gallery.benchmark_density(1024, 0)
    reports = []
    for device in ("cpu", "cuda"):
        operator = problem.operator(device)
        preconditioner = make_preconditioner(capturable_name, operator)
        preconditioner.setup()
        reports.append(PCG(operator, preconditioner, rtol=1e-8).solve(problem.b.to(device)))
    cpu, cuda = reports
    assert cuda.converged
    assert abs(cuda.iterations - cpu.iterations) <= 1 + 0.02 * cpu.iterations
    assert (cuda.x.cpu() - cpu.x).norm() < 1e-6 * cpu.x.norm()


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
