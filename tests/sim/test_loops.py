"""Both forms of the simulation's loops, compiled for the CPU and in Taichi, do the same."""

import numpy as np
import pytest
import torch

from app.validation.case import disc
from precond import PoissonOperator
from precond.host import threads
from sim.device.loops import DeviceLoops
from sim.host.loops import HostLoops
from sim.settings import WALLS
from sim.walls import Walls, border_cells, read_walls, sides

SPLIT = {  # openings that meet in a corner, inflows of either kind, outflows
    "left": {"inflow": 0.7, "fluid": "heavy", "from": 0.3, "to": 0.8},
    "right": [{"inflow": -0.4, "from": 0.0, "to": 0.3}, {"from": 0.6, "fluid": "heavy"}],
    "bottom": {"inflow": 0.5, "to": 0.4},
    "top": {"from": 0.5},
}
OPEN = {side: {"fluid": "heavy"} for side in WALLS}


class Fields:
    """Two fluids with mixed cells and solids, and a flow through open faces and inflows."""

    def __init__(self, shape: tuple[int, int], walls: dict | None = None, seed: int = 0):
        random = np.random.default_rng(seed)
        nx, ny = shape
        x, y = np.mgrid[:nx, :ny]
        self.solid = torch.from_numpy((random.random(shape) < 0.1).astype(np.uint8))
        sharp = np.clip(3.0 + 2.0 * np.sin(0.7 * x) - 0.5 * (y - ny / 2), 0.0, 1.0)
        phase = np.where(random.random(shape) < 0.1, random.random(shape), sharp)
        self.phase = torch.from_numpy(phase) * (self.solid == 0)
        self.density = 1.0 + 99.0 * self.phase
        self.walls = None if walls is None else Walls(read_walls(walls), shape)
        openings, speed = (None, 0.0) if self.walls is None else (self.walls.openings, self.walls.speed)
        self.operator = PoissonOperator.from_density(
            self.density, self.solid.bool(), openings=openings, face_density="arithmetic"
        )
        if self.walls is not None:
            speed = self.walls.follow(self.operator.labels, self.operator.sealed)
        loops = HostLoops(self.solid, self.walls)
        self.velocity, self.carried = (
            torch.from_numpy(random.standard_normal((2, nx + 1, ny + 1))) * loops.open_faces + speed
            for _ in range(2)
        )

    def copies(self, *names: str) -> list[torch.Tensor]:
        return [getattr(self, name).clone() for name in names]


BOXES = [((24, 17), None), ((8, 8), None), ((13, 40), None), ((24, 17), SPLIT), ((8, 8), OPEN)]


@pytest.fixture(params=BOXES, ids=["24x17", "8x8", "13x40", "inflows", "open"])
def fields(request) -> Fields:
    return Fields(*request.param)


def both(fields: Fields):
    return HostLoops(fields.solid, fields.walls), DeviceLoops(fields.solid, fields.walls)


def near(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_stirring(fields):
    results = []
    for loops in both(fields):
        (velocity,) = fields.copies("velocity")
        loops.add_stir(velocity, 5.0, 6.0, 1.0, -2.0, 4.0)
        results.append(velocity)
    near(*results)


@pytest.mark.parametrize("light", [0.2, 0.0])
def test_viscosity(fields, light):
    results = []
    for loops in both(fields):
        fields_there = fields.copies("velocity", "carried", "density", "phase")
        loops.hold = (1.0, 0.0, 0.0, 1.0)  # some walls slip
        loops.viscous_stage(*fields_there, 3.0, light, 0.7, 0.2, 0.05)
        results.append(fields_there[1])
    near(*results)


@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("ratio", [0.02, 0.1])
def test_transport(fields, ratio, direction, steps):
    results = []
    for loops in both(fields):
        carried, velocity, density, phase = fields.copies("carried", "velocity", "density", "phase")
        began, entered = 0.9 * carried, []
        for along, first in ((direction, True), (1 - direction, False)) * steps:
            moved = torch.zeros_like(carried)
            entered.append(loops.transport_phase(phase, velocity, ratio, along, first))
            loops.transport_momentum(
                carried, velocity, began, density, phase, moved, 100.0, 0.5, ratio, along
            )
            carried = moved
        assert any(entered) == (fields.walls is not None)
        results.append((phase, density, moved, torch.tensor(entered, dtype=torch.float64)))
    for one, other in zip(*results, strict=True):
        near(one, other)


def test_nothing_waits_for_what_enters_on_a_device(fields):
    _, loops = both(fields)
    velocity, phase = fields.copies("velocity", "phase")
    through = loops.transport_phase(phase, velocity, 0.1, 0, True)
    assert isinstance(through, torch.Tensor) == (fields.walls is not None)


@pytest.mark.parametrize("centre", [None, (0.0, 0.0), (1.0, 0.4), (0.5, 1.0), (0.45, 0.55)])
@pytest.mark.parametrize("angle", [90.0, 50.0, 130.0])
def test_surface_tension(fields, centre, angle):
    """Of random cells, and of discs in a corner, at walls and among solids."""
    (nx, ny), phase, results = fields.phase.shape, fields.phase, []
    if centre is not None:
        radius = 0.35 * min(nx / ny, 1.0)
        drop = disc((nx, ny), centre[0] * nx / ny, centre[1], radius)
        phase = torch.from_numpy(drop) * (fields.solid == 0)
    density = 1.0 + 99.0 * phase
    for loops in both(fields):
        (velocity,) = fields.copies("velocity")
        loops.contact.meet(angle)
        loops.add_surface_tension(velocity, phase, density, 10.0)
        results.append((velocity, torch.tensor(loops.interface_length(phase), dtype=torch.float64)))
    assert (results[0][0] - fields.velocity).abs().max() > 0.01
    for one, other in zip(*results, strict=True):
        near(one, other)


@pytest.mark.parametrize("angle", [90.0, 50.0])
def test_surface_tension_of_a_mirror_image_is_the_mirror_image(angle):
    fields, results = Fields((24, 17)), []
    for turned in (0, 1):
        solid, phase, density = (
            field.flip(0) if turned else field for field in (fields.solid, fields.phase, fields.density)
        )
        velocity = torch.zeros_like(fields.velocity)
        loops = DeviceLoops(solid.contiguous())
        loops.contact.meet(angle)
        loops.add_surface_tension(velocity, phase.contiguous(), density.contiguous(), 10.0)
        results.append(velocity)
    one, other = results
    assert one.abs().max() > 0.1
    near(one[0, :, :-1], -other[0, :, :-1].flip(0))
    near(one[1, :-1], other[1, :-1].flip(0))


def test_a_plug_has_the_energy_that_is_in_the_box():
    """Half of the volumes on the sides is outside."""
    fields = Fields((9, 12), OPEN)
    fields.solid.zero_()
    for loops in both(fields):
        kinetic, _ = loops.energy(torch.ones_like(fields.velocity), torch.full_like(fields.density, 2.0))
        assert kinetic == pytest.approx(2.0 * 9 * 12, rel=1e-14)


def test_walls_on_sides_and_cells_belong_together():
    cells, faces = torch.arange(72.0).view(8, 9), torch.zeros(2, 9, 10)
    faces[0, :-1, :-1] = faces[1, :-1, :-1] = cells
    faces[0, -1, :-1], faces[1, :-1, -1] = cells[-1], cells[:, -1]
    assert all(torch.equal(*pair) for pair in zip(sides(faces), border_cells(cells), strict=True))


@pytest.mark.parametrize("wells", [False, True])
def test_energy_and_divergence(fields, wells):
    welling = fields.phase if wells else None
    results = [
        (*loops.energy(fields.velocity, fields.density), loops.largest_difference(fields.velocity, welling))
        for loops in both(fields)
    ]
    assert results[0] == pytest.approx(results[1], rel=1e-12)


def test_outflow_and_gradient(fields):
    results = []
    for loops in both(fields):
        velocity, phase = fields.copies("velocity", "phase")
        out = loops.net_outflow(velocity, torch.zeros_like(phase)).clone()
        largest = loops.largest_outflow(velocity)
        loops.subtract_gradient(velocity, phase, fields.operator, 0.3)
        results.append((out, torch.tensor(largest, dtype=torch.float64), velocity))
    for one, other in zip(*results, strict=True):
        near(one, other)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_flow_that_is_not_finite_shows(fields, value):
    for loops in both(fields):
        (velocity,) = fields.copies("velocity")
        velocity[0, 3, 4] = value
        assert not np.isfinite(loops.largest_outflow(velocity))


@pytest.mark.parametrize("direction", [0, 1])
def test_bits_do_not_depend_on_the_number_of_threads(direction, monkeypatch):
    """Passes that are shared, on a grid that is cut unevenly; one chunk is as several but for rounding."""
    monkeypatch.setattr(threads, "_count", threads.count())
    fields, results = Fields((67, 40)), []
    for least, number in ((10**9, 1), (0, 1), (0, 2), (0, 3)):
        monkeypatch.setattr(threads, "LEAST_CELLS", least)
        threads.use(number)
        loops = HostLoops(fields.solid)
        velocity, carried, phase, density = fields.copies("velocity", "carried", "phase", "density")
        viscous, transported = carried.clone(), torch.zeros_like(carried)
        loops.viscous_stage(velocity, viscous, density, phase, 3.0, 0.2, 0.7, 0.2, 0.05)
        loops.transport_phase(phase, velocity, 0.05, direction, True)
        flow = carried, velocity, viscous, density, phase, transported
        loops.transport_momentum(*flow, 100.0, 0.5, 0.05, direction)
        results.append((viscous, transported, density))
    whole, one, *several = results
    for a, b in zip(whole, one, strict=True):
        near(a, b)
    for other in several:
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
