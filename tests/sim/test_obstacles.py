"""Obstacles moved by hand: where they go, what stops them, and that no fluid is lost."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage

from precond.errors import UsageError
from sim import obstacles
from sim.simulation import Simulation

Maker = Callable[..., Simulation]
H = 1.0 / 32


@pytest.fixture
def simulation(make_simulation: Maker) -> Simulation:
    """A dam break of 64 x 32 cells, two metres wide, with a disc of solid at the heavy fluid's edge."""
    simulation = make_simulation(grid=(64, 32), preconditioner="multigrid")
    simulation.paint(0.7, 0.5, 0.12, "solid")
    return simulation


def test_an_obstacle_follows_the_hand_by_whole_cells(simulation: Simulation) -> None:
    before, volume = simulation.solid_mask(), simulation.phase_volume()
    held = simulation.drag(0.7, 0.5, 0.7 + 5.2 * H, 0.5 - 3.1 * H, 0.1)
    np.testing.assert_array_equal(simulation.solid_mask(), np.roll(before, (5, -4), axis=(0, 1)))
    assert held == pytest.approx((0.7 + 5.2 * H, 0.5 - 3.1 * H), abs=H)
    assert simulation.phase_volume() == pytest.approx(volume, rel=1e-13)
    assert simulation.phase[simulation.solid == 1].max() == 0.0
    assert simulation.projection.operator.solid.numpy().tolist() == simulation.solid_mask().tolist()


def test_any_drag_keeps_both_phases(simulation: Simulation) -> None:
    """Random strokes in a flow with mixed cells, many beyond the walls."""
    rng, held = np.random.default_rng(0), (0.7, 0.5)
    fluid = (simulation.solid == 0).sum()
    for _ in range(40):
        simulation.step()
        volume = simulation.phase_volume()
        goal = rng.uniform(-0.5, 2.5), rng.uniform(-0.5, 1.5)
        held = simulation.drag(*held, *goal, 0.05)
        assert simulation.solid[int(held[0] / H), int(held[1] / H)] == 1
        assert simulation.phase_volume() == pytest.approx(volume, rel=1e-13)
        assert (simulation.solid == 0).sum() == fluid
        assert 0.0 <= simulation.phase.min() <= simulation.phase.max() <= 1.0
    assert simulation.step().solve.converged


def test_walls_and_other_solids_stop_it(simulation: Simulation) -> None:
    simulation.paint(1.5, 0.5, 0.1, "solid")
    others = simulation.solid_mask()
    others[:32] = False
    held = simulation.drag(0.7, 0.5, 1.9, 0.5, 0.1)
    assert held[0] < 1.5 - 0.2
    assert simulation.solid_mask()[others].all()
    assert scipy.ndimage.label(simulation.solid_mask())[1] == 2  # they do not even touch
    held = simulation.drag(*held, -9.0, 9.0, 0.1)
    mask = simulation.solid_mask() & ~others
    assert np.argwhere(mask).min(axis=0)[0] == 0
    assert np.argwhere(mask).max(axis=0)[1] == 31


def test_what_is_stopped_along_one_axis_slides_along_the_other(simulation: Simulation) -> None:
    simulation.paint(1.5, 0.5, 0.1, "solid")
    held = simulation.drag(0.7, 0.5, 1.9, 0.6, 0.1)
    assert held[1] == pytest.approx(0.6, abs=H)


def test_a_shell_takes_along_what_it_encloses() -> None:
    solid, phase = np.zeros((16, 12), dtype=bool), np.zeros((16, 12))
    solid[2:7, 2:7] = True
    solid[3:6, 3:6] = False
    phase[3:6, 3:6] = 1.0
    solid[4, 4], phase[4, 4] = True, 0.0  # a stone in it
    phase[9:, :] = 0.5
    body = obstacles.body_at(solid, (2, 2))
    assert body.sum() == 25
    enclosed, total = phase[2:7, 2:7].copy(), phase.sum()
    assert obstacles.move(solid, phase, body, (6, 3))[:2] == (6, 3)
    np.testing.assert_array_equal(phase[8:13, 5:10], enclosed)
    assert phase.sum() == pytest.approx(total, rel=1e-15)
    assert solid[10, 7]
    assert solid.sum() == 17


def test_the_fluid_is_pushed_along(make_simulation: Maker) -> None:
    simulation = make_simulation(grid=(64, 32), gravity=0.0, preconditioner="multigrid")
    simulation.paint(1.0, 0.5, 0.12, "solid")
    simulation.step()
    assert simulation.max_speed() == 0.0
    held = simulation.drag(1.0, 0.5, 1.0 + 3.5 * H, 0.5, 0.1)
    simulation.step()
    i, j = int(held[0] / H), int(held[1] / H)
    assert simulation.velocity[0, i + 7, j - 2 : j + 3].mean() > 0.05  # in front of it
    assert 0.1 < simulation.max_speed() < 2.0  # about as fast as the hand, 0.94 m/s


def test_the_same_drags_give_the_same_flow_bit_for_bit(make_simulation: Maker) -> None:
    flows = []
    for _ in range(2):
        simulation = make_simulation(grid=(32, 16), preconditioner="multigrid")
        simulation.paint(1.0, 0.3, 0.15, "solid")
        held = (1.0, 0.3)
        for k in range(20):
            held = simulation.drag(*held, 1.0 - 0.04 * k, 0.3 + 0.02 * k, 1 / 60)
            simulation.step()
        flows.append((simulation.phase.clone(), simulation.velocity.clone()))
    assert all((a == b).all() for a, b in zip(*flows, strict=True))


def test_nothing_moves_where_nothing_is_solid_and_nonsense_is_refused(simulation: Simulation) -> None:
    before = simulation.solid_mask()
    assert simulation.drag(1.5, 0.5, 0.2, 0.2, 0.1) is None
    for nonsense in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="finite"):
            simulation.drag(0.7, 0.5, nonsense, 0.2, 0.1)
    assert (simulation.solid_mask() == before).all()
