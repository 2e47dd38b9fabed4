"""Open sides, inflows and outflows against analytic solutions and against the balance of what passes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from precond.errors import UsageError
from precond.host import compiled
from sim.device.loops import DeviceLoops
from sim.host.loops import HostLoops
from sim.scenes import Scene
from sim.simulation import Simulation
from sim.walls import Walls, read_walls

Maker = Callable[..., Simulation]
EXACT = {"rtol": 1e-11, "preconditioner": "multigrid"}


def box(walls: dict[str, Any], *shapes: dict[str, object], background: str = "light") -> Scene:
    """A box one metre high with these walls and shapes."""
    given = "box", "box", "", 1.0, 1.0, {}, background, list(shapes), {"speed_below": 1e9}, walls
    return Scene(*given)


def block(fill: str, x0: float, y0: float, x1: float, y1: float) -> dict[str, object]:
    return {"shape": "rectangle", "from": [x0, y0], "to": [x1, y1], "fill": fill}


def net_outflow(simulation: Simulation) -> np.ndarray:
    """Of every cell, (nx, ny) in m/s, by hand."""
    u, v = simulation.velocity.numpy()
    return np.diff(u, axis=0)[:, :-1] + np.diff(v, axis=1)[:-1]


@pytest.mark.parametrize("contrast", [10.0, 10_000.0])
def test_water_at_rest_below_an_open_top_has_the_pressure_of_what_stands_above(
    make_simulation: Maker, contrast: float
) -> None:
    scene = box({"top": "open"}, block("heavy", 0.0, 0.0, 1.0, 0.5), block("solid", 0.25, 0.25, 0.5, 0.75))
    simulation = make_simulation(scene, grid=(16, 16), contrast=contrast, **EXACT)
    for _ in range(10):
        simulation.step()
    y = (np.arange(16) + 0.5) / 16
    pressure = 9.81 * np.where(y < 0.5, 0.5 + contrast * (0.5 - y), 1.0 - y)
    fluid = simulation.solid.numpy() == 0
    error = np.abs(simulation.projection.pressure.numpy() - pressure)[fluid]
    assert error.max() < 1e-9 * pressure.max()
    assert simulation.max_speed() < 1e-9
    assert abs(simulation.entered) < 1e-12


@pytest.mark.parametrize(("into", "out"), [("left", "right"), ("right", "left"), ("bottom", "top")])
def test_a_plug_of_heavy_fluid_moves_through_as_fast_as_it_enters(
    make_simulation: Maker, into: str, out: str
) -> None:
    scene = box({into: {"inflow": 0.5, "fluid": "heavy"}, out: "open"})
    settings = {"gravity": 0.0, "contrast": 100.0, "slip_walls": ("left", "right", "bottom", "top")}
    simulation = make_simulation(scene, grid=(16, 16), **settings, **EXACT)
    while simulation.time < 1.0:
        assert simulation.step().solve.converged
    full = 0.5 * simulation.time
    assert simulation.phase_volume() == pytest.approx(full, rel=1e-9)
    assert simulation.entered == pytest.approx(full, rel=1e-9)
    share = simulation.phase.numpy().mean(axis=1 if into in ("left", "right") else 0)
    share = share if into in ("left", "bottom") else share[::-1]
    assert share == pytest.approx(np.clip(16 * full - np.arange(16), 0.0, 1.0), abs=0.03)
    while simulation.time < 2.5:
        simulation.step()
    assert simulation.phase_volume() == pytest.approx(1.0, rel=1e-4)  # and leaves as fast, once it is through


def test_flow_between_plates_becomes_poiseuilles_and_stays_it_at_the_outlet(make_simulation: Maker) -> None:
    """u = 6 U y (1 - y) and dp/dx = -12 mu U for a plug of speed U that enters between plates a metre
    apart."""
    speed, viscosity, ny = 0.5, 0.1, 12
    scene = box({"left": {"inflow": speed}, "right": "open"})
    settings = {"gravity": 0.0, "contrast": 1.0, "light_viscosity": viscosity, "heavy_viscosity": viscosity}
    simulation = make_simulation(scene, grid=(3 * ny, ny), **settings, **EXACT)
    while simulation.time < 3.0:
        simulation.step()
    y = (np.arange(ny) + 0.5) / ny
    profile = 6.0 * speed * y * (1.0 - y)
    for at in (2 * ny, 3 * ny):
        u = simulation.velocity[0, at, :-1].numpy()
        assert u.mean() == pytest.approx(speed, rel=1e-9)
        assert np.abs(u - profile).max() < 0.01 * profile.max()
    pressure = simulation.projection.pressure.numpy().mean(axis=1)
    slope = (pressure[-2] - pressure[ny]) * ny / (2 * ny - 2)
    assert slope == pytest.approx(-12.0 * viscosity * speed, rel=0.02)
    assert np.abs(net_outflow(simulation)).max() < 1e-9 * speed


@pytest.mark.parametrize("contrast", [3.0, 1000.0])
def test_heavy_volume_changes_by_what_passes_the_sides(make_simulation: Maker, contrast: float) -> None:
    """A jet into an open tank past a solid, and a hole in its side that heavy fluid leaves by; flux by
    hand."""
    walls = {
        "left": {"inflow": 1.5, "fluid": "heavy", "from": 0.7, "to": 0.8},
        "right": {"from": 0.0, "to": 0.2},
        "top": "open",
    }
    scene = box(walls, block("heavy", 0.0, 0.0, 1.0, 0.4), block("solid", 0.3, 0.3, 0.4, 0.5))
    simulation = make_simulation(scene, grid=(24, 24), contrast=contrast, max_iterations=500, **EXACT)
    start, entered_at_inflow = simulation.phase_volume(), 0.0
    while simulation.time < 0.3:
        before = simulation.time
        assert simulation.step().solve.converged
        entered_at_inflow += 1.5 * (simulation.time - before) * simulation.walls.given.sum() / 24
        largest = max(simulation.max_speed(), 1.0)
        assert np.abs(net_outflow(simulation))[simulation.solid.numpy() == 0].max() < 1e-7 * largest
    assert simulation.phase_volume() - start == pytest.approx(simulation.entered, abs=1e-9)
    assert simulation.entered < entered_at_inflow  # the rest left by the hole
    assert simulation.phase.min() >= 0.0
    assert simulation.phase.max() <= 1.0


def test_a_drop_falls_out_of_a_box_without_floor(make_simulation: Maker) -> None:
    """Light fluid comes in at the top, and in the end nothing else is there."""
    scene = box({"top": "open", "bottom": "open"}, block("heavy", 0.4, 0.3, 0.6, 0.5))
    simulation = make_simulation(scene, grid=(16, 16), contrast=100.0, **EXACT)
    start = simulation.phase_volume()
    while simulation.time < 0.6:
        simulation.step()
    assert simulation.phase_volume() < 1e-6
    assert simulation.entered == pytest.approx(-start, abs=1e-6)


def test_what_enters_an_opening_loses_the_pressure_of_its_speed(make_simulation: Maker) -> None:
    """Drawn through a tube without friction from a space at rest, p = -rho u^2 / 2 (Bernoulli)."""
    scene = box({"left": "open", "right": {"inflow": -2.0}})
    settings = {"gravity": 0.0, "contrast": 1.0, "slip_walls": ("bottom", "top")}
    simulation = make_simulation(scene, grid=(16, 16), **settings, **EXACT)
    while simulation.time < 0.5:
        simulation.step()
    assert simulation.velocity[0, :, :-1].numpy() == pytest.approx(2.0, rel=1e-9)
    assert simulation.projection.pressure.numpy() == pytest.approx(-2.0, rel=0.05)


def test_mirrored_sides_give_the_mirror_image(make_simulation: Maker) -> None:
    states = []
    for into, out in (("left", "right"), ("right", "left")):
        jet = {"inflow": 1.0, "fluid": "heavy", "from": 0.25, "to": 0.5}
        simulation = make_simulation(box({into: jet, out: "open"}), grid=(16, 16), contrast=50.0, **EXACT)
        for _ in range(30):
            simulation.step()
        states.append(simulation.phase.numpy())
    assert states[1][::-1] == pytest.approx(states[0], abs=1e-6)


def test_every_kind_of_method_gives_the_same_flow(make_simulation: Maker) -> None:
    walls = {"left": {"inflow": 1.5, "fluid": "heavy", "from": 0.7, "to": 0.8}, "top": "open"}
    flows = []
    for method in ("jacobi", "multigrid", "coarse-iterated", "coarse-learned", "hmatrix", "neural-spai"):
        simulation = make_simulation(box(walls), grid=(16, 16), rtol=1e-11, preconditioner=method)
        for _ in range(15):
            report = simulation.step()
            assert report.outcome == "converged"
            assert not report.fallback
        flows.append(simulation.velocity.numpy().copy())
    for flow in flows[1:]:
        assert flow == pytest.approx(flows[0], abs=1e-7)


@pytest.mark.parametrize("forms", ["loops", "loops and solve"])
def test_the_same_flow_with_what_runs_on_cuda(
    make_simulation: Maker, monkeypatch: pytest.MonkeyPatch, forms: str
) -> None:
    """Inflows of both kinds, an outflow and openings on four sides, a solid, a source and walls that slip."""
    walls = {
        "left": {"inflow": 1.0, "fluid": "heavy", "from": 0.3, "to": 0.6},
        "right": [{"inflow": -0.5, "to": 0.2}, {"from": 0.5, "fluid": "heavy"}],
        "bottom": [{"inflow": 0.3, "to": 0.2}, {"from": 0.7}],
        "top": {"from": 0.2},
    }
    inside = block("heavy", 0.2, 0.2, 0.5, 0.9), block("solid", 0.6, 0.0, 0.7, 0.5)
    scene = box(walls, *inside, block("heavy source", 0.8, 0.2, 0.9, 0.3))
    settings = {"grid": (24, 24), "contrast": 50.0, "heavy_viscosity": 1e-3, "light_viscosity": 1e-2}
    settings |= {"slip_walls": ("top", "left"), "surface_tension": 0.5, "source_rate": 5.0}
    flows = []
    for loops in (HostLoops, DeviceLoops):
        monkeypatch.setattr("sim.simulation.HostLoops", loops)
        monkeypatch.setattr(compiled, "used", loops is HostLoops or forms == "loops")
        simulation = make_simulation(scene, **settings, **{**EXACT, "rtol": 1e-12})
        for step in range(20):
            simulation.stir(0.1, 0.5, 0.0, 1.0 if step < 5 else 0.0, 0.2)
            report = simulation.step()
        flows.append((simulation, report))
    (one, first), (other, second) = flows
    assert abs(one.entered) > 0.01
    assert other.entered == pytest.approx(one.entered, rel=1e-9)
    assert other.energies() == pytest.approx(one.energies(), rel=1e-9)
    assert first.transport_steps == second.transport_steps
    np.testing.assert_allclose(other.phase, one.phase, atol=1e-9)
    np.testing.assert_allclose(other.velocity, one.velocity, atol=1e-9)


def test_an_inflow_into_what_is_walled_in_stands_still(make_simulation: Maker) -> None:
    scene = box({"left": {"inflow": 1.0, "fluid": "heavy"}, "right": "open"})
    simulation = make_simulation(scene, grid=(16, 16), **EXACT)
    simulation.step()
    assert simulation.max_speed() > 0.99
    simulation.paint(0.5, 0.0, 0.05, "solid", 0.5, 1.0)
    for _ in range(3):
        assert simulation.step().solve.converged
    assert simulation.velocity[0, 0].abs().max() == 0.0
    simulation.paint(0.5, 0.0, 0.1, "erase", 0.5, 1.0)
    simulation.step()
    assert simulation.velocity[0, 0, :-1].numpy() == pytest.approx(1.0)


def test_a_source_below_an_open_top_needs_no_drain(make_simulation: Maker) -> None:
    scene = box({"top": "open"}, block("heavy source", 0.25, 0.0, 0.5, 0.125))
    simulation = make_simulation(scene, grid=(16, 16), **EXACT)
    start = simulation.phase_volume()
    while simulation.time < 0.1:
        simulation.step()
    assert simulation.phase_volume() - start == pytest.approx(20.0 * simulation.time * 8 / 256, rel=1e-6)


def test_a_restored_state_goes_on_as_it_would_have(make_simulation: Maker) -> None:
    walls = {"left": {"inflow": 1.5, "fluid": "heavy", "from": 0.7, "to": 0.8}, "top": "open"}
    simulation = make_simulation(box(walls), grid=(16, 16), reuse_setup=False, warm_start=False, **EXACT)
    for _ in range(5):
        simulation.step()
    kept = simulation.state()
    ends = []
    for _ in range(2):
        for _ in range(5):
            simulation.step()
        ends.append(simulation.velocity.clone())
        simulation.restore(kept)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("walls", "words"),
    [
        ({"top": "ajar"}, "top: is not closed, open or"),
        ({"lid": "open"}, "{'lid': 'open'} is not a mapping of left, right, bottom, top"),
        ({"left": {"inflow": 1.0}}, "an inflow needs an open side too"),
        ({"left": {"inflow": "fast"}, "top": "open"}, "left: inflow"),
        ({"left": {"speed": 1.0}, "top": "open"}, "left: speed"),
        ({"left": {"from": 0.5, "to": 0.5}}, "left: to: 0.5 is not above from: 0.5"),
        ({"top": [{"fluid": "wood"}]}, "top: fluid"),
    ],
)
def test_walls_that_cannot_be_are_refused_in_words(walls: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        box(walls)
    assert f"walls: {words}" in str(error.value)


def test_a_part_narrower_than_a_cell_is_one_face() -> None:
    walls = Walls(read_walls({"top": {"from": 0.5, "to": 0.501}}), (8, 12))
    assert walls.open[1, 4, 12] == walls.open.sum() == 1.0
