"""The energy budget and the divergence that a step reports, against exact values and sums of another kind."""

from collections.abc import Callable

import numpy as np
import pytest

from app.validation.case import disc, simulation, stream_velocity, under
from sim.simulation import Simulation

Maker = Callable[..., Simulation]


def test_the_energies_of_a_known_state() -> None:
    """Vortices of mean square speed 1/2 in two layers, and a disc of light fluid in the upper one."""
    n, contrast, tension = 64, 5.0, 0.3
    corner = 2.0 * np.pi * np.arange(n + 1) / n
    vortices = stream_velocity(np.outer(np.sin(corner), np.sin(corner)) / (2.0 * np.pi), 1.0 / n)
    layers = under((n, n), lambda x: 0.5 + 0.0 * x)
    flow = simulation((n, n), 1.0, layers, vortices, contrast=contrast, surface_tension=tension)
    kinetic, potential, surface = flow.energies()
    differenced = np.sinc(1.0 / n) ** 2  # of a stream function at the corners
    assert kinetic == pytest.approx(0.25 * (0.5 * contrast + 0.5) * differenced, rel=1e-12)
    assert potential == pytest.approx(9.81 * (contrast * 0.125 + 0.375), rel=1e-12)
    flow.begin_with(flow.phase.new_tensor(disc((n, n), 0.5, 0.6, 0.2)))
    kinetic, potential, surface = flow.energies()
    assert kinetic == 0.0
    assert potential == pytest.approx(9.81 * (0.5 + (contrast - 1.0) * np.pi * 0.04 * 0.6), rel=1e-5)
    assert surface == pytest.approx(2.0 * np.pi * 0.2 * tension, rel=2e-3)


def test_solids_count_nothing(make_simulation: Maker) -> None:
    flow = make_simulation("dam-break", grid=(32, 16), contrast=10.0)
    before = flow.energies()
    flow.paint(0.5 * flow.domain[0], 0.9 * flow.domain[1], 0.1, "solid")
    lost = flow.solid_mask() * (np.arange(16) + 0.5) * flow.spacing
    assert before[1] - flow.energies()[1] == pytest.approx(9.81 * lost.sum() * flow.spacing**2, rel=1e-9)


def test_rest_keeps_its_energy() -> None:
    pool = under((24, 24), lambda x: 0.52 + 0.0 * x)
    flow = simulation((24, 24), 1.0, pool, contrast=1000.0, rtol=1e-12, max_time_step=0.01)
    start = flow.energies()[1]
    for _ in range(50):
        report = flow.step()
        assert report.potential_energy == pytest.approx(start, rel=1e-12)
        assert report.kinetic_energy < 1e-15 * start
        assert report.surface_energy == 0.0
        assert report.volume_error < 1e-12


@pytest.mark.parametrize("scene", ["dam-break", "fountain"])
def test_a_step_reports_its_own_divergence_and_energy(make_simulation: Maker, scene: str) -> None:
    flow = make_simulation(scene, grid=(48, 32), rtol=1e-3)
    for _ in range(20):
        report = flow.step()
    u, v = flow.velocity[0].numpy(), flow.velocity[1].numpy()
    divergence = (np.diff(u[:, :-1], axis=0) + np.diff(v[:-1], axis=1)) / flow.spacing
    welling = flow.sources.source.numpy() if flow.sources.active else 0.0
    assert report.divergence == pytest.approx(abs(divergence - welling).max(), rel=1e-9)
    assert 0.0 < report.divergence < 1.0
    assert report.volume_error == report.divergence * report.time_step_s
    assert report.kinetic_energy + report.potential_energy == flow.total_energy()
