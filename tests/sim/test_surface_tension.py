"""Surface tension: curvature of discs, a drop's pressure, energy at a high contrast; walls that slip."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from app.validation.case import disc, simulation, stream_velocity
from sim.device.loops import DeviceLoops
from sim.host import interface
from sim.host.loops import HostLoops
from sim.settings import WALLS
from sim.simulation import Simulation


@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.513, 0.507), (0.0, 0.0), (0.0, 0.5)])
@pytest.mark.parametrize("drop", [True, False])
def test_curvature_of_a_disc(centre: tuple[float, float], drop: bool) -> None:
    """From heights everywhere, mirrored by the walls, and from parabolas."""
    n, radius = 64, 0.2
    phase = disc((n, n), *centre, radius)
    phase = phase if drop else 1.0 - phase
    solid, found, block = np.zeros((n, n), np.uint8), np.zeros((n, n)), np.zeros((3, 3))
    fields = phase, solid, np.zeros((3, n, n))
    interface.find_curvature(*fields, found)
    exact = (1.0 if drop else -1.0) / (radius * n)
    mixed = (phase > 1e-6) & (phase < 1.0 - 1e-6)
    assert np.isfinite(found[mixed]).all()
    assert abs(found[mixed] / exact - 1.0).max() < 0.01
    if centre[0] > 0.0:
        fitted = [interface.fitted_curvature(*fields, i, j, block) for i, j in np.argwhere(mixed)]
        assert abs(np.array(fitted) / exact - 1.0).max() < 0.02


def test_a_line_leaves_its_cell_where_it_crosses_the_sides() -> None:
    x0, y0, x1, y1 = interface.line_ends(1.0, 2.0, 1.0)
    assert {(round(x0, 9), round(y0, 9)), (round(x1, 9), round(y1, 9))} == {(0.0, 0.5), (1.0, 0.0)}
    phase = disc((48, 48), 0.5, 0.5, 0.3)
    length = HostLoops(torch.zeros(48, 48, dtype=torch.uint8)).interface_length(torch.from_numpy(phase))
    assert length == pytest.approx(2.0 * np.pi * 0.3 * 48, rel=5e-3)


@pytest.mark.parametrize("form", [HostLoops, DeviceLoops])
@pytest.mark.parametrize("depth", [0, 5])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("drop", [True, False])
def test_a_half_disc_at_a_wall_is_half_a_circle_long(form: type, depth: int, turns: int, drop: bool) -> None:
    """At each side of the box, or at a solid slab of ``depth`` cells along it; a drop, or a bubble."""
    n, radius = 48, 0.3
    phase, solid = disc((n, n), depth / n, 0.5, radius), np.zeros((n, n), np.uint8)
    solid[:depth] = 1
    phase = np.where(solid == 0, phase if drop else 1.0 - phase, 0.0)
    turned = (torch.from_numpy(np.rot90(field, turns).copy()) for field in (solid, phase))
    length = form(next(turned)).interface_length(next(turned))
    assert length == pytest.approx(np.pi * radius * n, rel=3e-3)


@pytest.mark.parametrize("angle", [60.0, 120.0])
@pytest.mark.parametrize("depth", [0, 6])
def test_a_drop_meets_the_floor_at_the_contact_angle(angle: float, depth: int) -> None:
    """From half a disc to a segment, whose height over its base tells the angle; on the side of the box, and
    on solid cells.
    """
    nx, ny = 48, 32 + depth
    phase = disc((nx, ny), 0.5 * nx / ny, depth / ny, 8.0 / ny)
    settings = {"contrast": 10.0, "heavy_viscosity": 0.05, "light_viscosity": 0.05, "rtol": 1e-5}
    flow = simulation(
        (nx, ny),
        ny / 32.0,
        phase,
        gravity=0.0,
        surface_tension=1.0,
        slip_walls=WALLS,
        contact_angle=angle,
        **settings,
    )
    if depth:  # all that a disc sweeps
        flow.paint(-1.0, 0.0, depth * flow.spacing, "solid", 3.0, 0.0)
    while flow.time < 3.0:
        flow.step()
    drop = flow.phase[:, depth:].numpy()
    base = 1.5 * drop[:, 0].sum() - 0.5 * drop[:, 1].sum()
    theta = np.radians(angle)
    assert drop.sum(axis=1).max() / base == pytest.approx(0.5 * np.tan(0.5 * theta), rel=0.05)
    area = theta - np.sin(theta) * np.cos(theta)  # of a segment of radius 1: half of its least energy
    least = 2.0 * np.sqrt(flow.phase_volume() * area)
    assert flow.energies()[2] == pytest.approx(least, rel=0.05)


@pytest.mark.parametrize("contrast", [1.0, 1000.0])
def test_a_drop_keeps_its_pressure_and_comes_to_rest(contrast: float) -> None:
    n = 24
    flow = simulation(
        (n, n),
        1.0,
        disc((n, n), 0.0, 0.0, 0.5),
        contrast=contrast,
        gravity=0.0,
        surface_tension=1.0,
        heavy_viscosity=0.2 / np.sqrt(contrast),
        light_viscosity=0.2 / np.sqrt(contrast),
        slip_walls=WALLS,
        rtol=1e-10,
    )
    while flow.time < 8.0 * np.sqrt(contrast):
        flow.step()
    assert flow.max_speed() * np.sqrt(contrast) < 1e-6
    pressure = flow.projection.pressure
    assert 0.5 * float(pressure[0, 0] - pressure[-1, -1]) == pytest.approx(1.0, rel=0.01)


def test_energy_does_not_spike_at_a_high_contrast() -> None:
    """An ellipse swings between its surface energy, what it has more than a disc, and kinetic energy."""
    n = 32
    x = (np.arange(16 * n) + 0.5) / (16 * n) - 0.5
    inside = (x[:, None] / 0.25) ** 2 + (x[None] / 0.16) ** 2 < 1.0
    phase = inside.reshape(n, 16, n, 16).mean(axis=(1, 3))
    flow = simulation((n, n), 1.0, phase, contrast=1000.0, gravity=0.0, surface_tension=1.0, slip_walls=WALLS)
    spare, energies = 1.3037 - 2.0 * np.pi * np.sqrt(0.25 * 0.16), []
    while flow.time < 8.0:
        flow.step()
        energies.append(flow.total_energy())
    assert 0.8 * spare < max(energies) < 1.02 * spare
    assert np.diff(energies).max() < 0.1 * spare


def test_the_step_keeps_to_the_shortest_capillary_wave() -> None:
    phase = disc((16, 16), 0.5, 0.5, 0.3)
    settings = {"gravity": 0.0, "surface_tension": 2.0, "contrast": 9.0}
    flow = simulation((16, 16), 1.0, phase, **settings)
    assert flow.step().time_step_s == pytest.approx(np.sqrt(5.0 / 16**3 / (4.0 * np.pi)))
    none = simulation((16, 16), 1.0, phase, gravity=0.0, surface_tension=0.0)
    none.step()
    assert none.max_speed() == 0.0


@pytest.mark.parametrize(("contrast", "seconds"), [(1.0, 0.8), (1000.0, 7.0)])
def test_a_drop_on_a_round_solid_gains_no_energy(contrast: float, seconds: float) -> None:
    """The solid is a staircase, from which a length may be off by about a cell at either contact point."""
    n = 32
    flow = simulation(
        (n, n),
        1.0,
        disc((n, n), 0.5, 0.55, 0.2),
        contrast=contrast,
        gravity=0.0,
        surface_tension=1.0,
        slip_walls=WALLS,
    )
    flow.paint(0.5, 0.3, 0.2, "solid")
    start, energies = sum(flow.energies()), []
    while flow.time < seconds:
        flow.step()
        energies.append(sum(flow.energies()))
    assert max(energies) < start + 4.0 / n


def test_solids_in_the_interface_are_no_obstacle(make_simulation) -> None:
    simulated = make_simulation("falling-drop", grid=(32, 32), surface_tension=1.0, contrast=1000.0)
    simulated.paint(0.5, 0.6, 0.1, "solid")
    for _ in range(50):
        assert simulated.step().solve.converged
    assert torch.isfinite(simulated.velocity).all()


def test_the_same_flow_with_the_loops_of_cuda(
    make_simulation: Callable[..., Simulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop that falls on a solid, at a contrast of 1,000."""
    flows = []
    for loops in (HostLoops, DeviceLoops):
        monkeypatch.setattr("sim.simulation.HostLoops", loops)
        settings = {"grid": (32, 32), "surface_tension": 1.0, "contrast": 1000.0, "rtol": 1e-12}
        flow = make_simulation("falling-drop", **settings)
        flow.paint(0.5, 0.6, 0.1, "solid")
        for _ in range(20):
            flow.step()
        flows.append(flow)
    one, other = flows
    assert one.energies()[2] > 0.5
    assert other.energies() == pytest.approx(one.energies(), rel=1e-9)
    torch.testing.assert_close(other.phase, one.phase, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(other.velocity, one.velocity, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("form", [HostLoops, DeviceLoops])
def test_a_symmetric_flow_stays_symmetric(form: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ellipse, heavy and oblique to no axis, that swings in a box with two solids."""
    monkeypatch.setattr("sim.simulation.HostLoops", form)
    n = 32
    x = (np.arange(16 * n) + 0.5) / (16 * n) - 0.5
    inside = (x[:, None] / 0.3) ** 2 + (x[None] / 0.2) ** 2 < 1.0
    phase = inside.reshape(n, 16, n, 16).mean(axis=(1, 3))
    flow = simulation((n, n), 1.0, phase, contrast=100.0, gravity=1.0, surface_tension=1.0, rtol=1e-12)
    for x_solid in (0.2, 0.8):
        flow.paint(x_solid, 0.5, 0.06, "solid")
    for _ in range(20):
        flow.step()
    assert flow.max_speed() > 0.01
    torch.testing.assert_close(flow.phase, flow.phase.flip(0), rtol=0.0, atol=1e-9)


def test_walls_that_slip_do_not_hold_the_fluid() -> None:
    wave = np.sin(np.pi * np.arange(17) / 16)
    swirl, kept = stream_velocity(np.outer(wave, wave), 1.0 / 16), {}
    for walls in ((), WALLS):
        flow = simulation(
            (16, 16), 1.0, np.zeros((16, 16)), swirl, gravity=0.0, light_viscosity=0.01, slip_walls=walls
        )
        flow.settings.max_time_step = 0.01
        flow.step()
        kept[walls] = flow.total_energy()
    assert kept[()] < 0.99 * kept[WALLS]
