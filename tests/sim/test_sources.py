"""Sources and drains: what comes in, what goes out, and that nothing else changes."""

from collections.abc import Callable

import numpy as np
import pytest

from sim.device.loops import DeviceLoops
from sim.scenes import Scene
from sim.simulation import Simulation

Maker = Callable[..., Simulation]
RATE = 20.0


def box(*shapes: dict[str, object], background: str = "light") -> Scene:
    """A box one metre high with the given shapes."""
    return Scene("box", "box", "", 1.0, 1.0, {}, background, list(shapes), {"speed_below": 1e9})


def block(fill: str, x0: float, y0: float, x1: float, y1: float) -> dict[str, object]:
    return {"shape": "rectangle", "from": [x0, y0], "to": [x1, y1], "fill": fill}


TAP_AND_DRAIN = block("heavy source", 0.25, 0.75, 0.375, 0.875), block("drain", 0.75, 0.0, 0.875, 0.25)


def divergence(simulation: Simulation) -> np.ndarray:
    """Of the projected velocity, (nx, ny) in 1/s, by hand."""
    u, v = simulation.velocity.numpy()
    return (np.diff(u, axis=0)[:, :-1] + np.diff(v, axis=1)[:-1]) / simulation.spacing


def test_what_wells_up_is_heavy_and_as_much_as_the_rate_says(make_simulation: Maker) -> None:
    """16 cells bring in 20 of their volumes a second as long as the drain takes light fluid alone."""
    simulation = make_simulation(
        box(*TAP_AND_DRAIN), grid=(32, 32), contrast=1000, rtol=1e-10, preconditioner="multigrid"
    )
    before = simulation.phase_volume()
    assert before == pytest.approx(16 / 32**2)
    while simulation.time < 0.2:
        assert simulation.step().solve.converged
        assert simulation.phase[simulation.sources.kind == 1].min() > 0.999  # a source holds its phase
    assert simulation.phase[simulation.sources.kind == 3].max() == 0.0
    gained = simulation.phase_volume() - before
    assert gained == pytest.approx(RATE * simulation.time * 16 / 32**2, rel=1e-9)


@pytest.mark.parametrize("contrast", [1.0, 100.0, 10_000.0])
def test_the_velocity_diverges_at_the_sources_and_nowhere_else(
    make_simulation: Maker, contrast: float
) -> None:
    simulation = make_simulation(
        box(*TAP_AND_DRAIN), grid=(32, 32), contrast=contrast, rtol=1e-10, preconditioner="multigrid"
    )
    for _ in range(20):
        simulation.step()
    expected = np.zeros((32, 32))
    expected[8:12, 24:28] = RATE
    expected[24:28, :8] = -0.5 * RATE  # 16 cells of source feed 32 of drain
    np.testing.assert_allclose(divergence(simulation), expected, atol=1e-5 * RATE)


@pytest.mark.parametrize("contrast", [2.0, 100.0, 10_000.0])
def test_phases_stay_bounded_and_the_flow_finite(make_simulation: Maker, contrast: float) -> None:
    scene = box(
        block("heavy", 0.0, 0.0, 1.0, 0.3),
        *TAP_AND_DRAIN,
        block("light source", 0.3, 0.05, 0.4, 0.12),
        block("drain", 0.1, 0.9, 0.2, 1.0),
    )
    simulation = make_simulation(scene, grid=(32, 32), contrast=contrast, preconditioner="multigrid")
    for _ in range(300):
        assert simulation.step().solve.converged
        assert 0.0 <= simulation.phase.min() <= simulation.phase.max() <= 1.0
    assert 0.1 < simulation.max_speed() < 20.0


def test_a_full_box_stays_full(make_simulation: Maker) -> None:
    simulation = make_simulation(
        box(*TAP_AND_DRAIN, background="heavy"), grid=(32, 32), preconditioner="multigrid"
    )
    for _ in range(100):
        simulation.step()
    assert simulation.phase.min() > 1.0 - 1e-12
    assert simulation.max_speed() > 0.3


@pytest.mark.parametrize("fill", ["heavy source", "drain"])
def test_a_part_without_a_way_out_or_in_is_closed(make_simulation: Maker, fill: str) -> None:
    scene = box(block("solid", 0.47, 0.0, 0.53, 1.0), block(fill, 0.1, 0.4, 0.2, 0.6))
    simulation = make_simulation(scene, grid=(32, 32), gravity=0.0)
    simulation.paint(0.8, 0.5, 0.1, "drain" if fill != "drain" else "light source")  # beyond the wall
    volume = simulation.phase_volume()
    for _ in range(5):
        simulation.step()
    assert not simulation.sources.active
    assert simulation.phase_volume() == volume
    assert simulation.max_speed() == 0.0


def test_a_solid_stops_a_drain_up_while_it_covers_it(make_simulation: Maker) -> None:
    simulation = make_simulation(box(*TAP_AND_DRAIN), grid=(32, 32))
    simulation.step()
    assert simulation.sources.active
    simulation.paint(0.81, 0.12, 0.2, "solid")
    simulation.step()
    assert not simulation.sources.active
    simulation.paint(0.81, 0.12, 0.2, "erase")  # the drain, too
    simulation.step()
    assert not simulation.sources.active
    simulation.paint(0.81, 0.12, 0.1, "drain")
    simulation.step()
    assert simulation.sources.active
    simulation.reset()
    assert (simulation.sources.kind == 3).sum() == 32


def test_sources_that_were_erased_change_nothing_bit_for_bit(make_simulation: Maker) -> None:
    first, second = make_simulation(grid=(32, 16)), make_simulation(grid=(32, 16))
    for what in ("light source", "drain", "erase"):
        second.paint(1.6, 0.8, 0.1, what)  # where the fluid is light and stays so
    for _ in range(20):
        assert first.step().solve.history == second.step().solve.history
    assert (first.phase == second.phase).all()
    assert (first.velocity == second.velocity).all()


def test_the_same_strokes_give_the_same_flow_bit_for_bit(make_simulation: Maker) -> None:
    flows = []
    for _ in range(2):
        simulation = make_simulation(grid=(32, 16))
        for k in range(30):
            if k == 5:
                simulation.paint(0.5, 0.8, 0.1, "heavy source")
                simulation.paint(1.7, 0.1, 0.1, "drain")
            simulation.step()
        flows.append((simulation.phase.clone(), simulation.velocity.clone()))
    assert all((a == b).all() for a, b in zip(*flows, strict=True))


def test_the_same_flow_with_the_loops_of_cuda(make_simulation: Maker) -> None:
    flows = [
        make_simulation(box(*TAP_AND_DRAIN), grid=(32, 32), rtol=1e-12, preconditioner="multigrid")
        for _ in range(2)
    ]
    flows[1]._loops = flows[1].projection._loops = DeviceLoops(flows[1].solid)
    for _ in range(20):
        for simulation in flows:
            simulation.step()
    np.testing.assert_allclose(*(simulation.phase.numpy() for simulation in flows), atol=1e-7)
    np.testing.assert_allclose(*(simulation.velocity.numpy() for simulation in flows), atol=1e-7)


def test_the_rate_is_a_setting_that_changes_live(make_simulation: Maker) -> None:
    simulation = make_simulation(box(*TAP_AND_DRAIN), grid=(32, 32), rtol=1e-10, preconditioner="multigrid")
    simulation.step()
    simulation.settings.source_rate = 5.0
    simulation.step()
    assert divergence(simulation).max() == pytest.approx(5.0, rel=1e-5)
    simulation.settings.source_rate = 0.0
    simulation.step()
    assert abs(divergence(simulation)).max() < 1e-4
