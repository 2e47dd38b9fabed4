"""Both forms of the simulation's loops, compiled for the CPU and in Taichi, do the same."""

import numpy as np
import pytest
import torch

from precond import PoissonOperator
from precond.host import threads
from sim.device.loops import DeviceLoops
from sim.host.loops import HostLoops


class Fields:
    """Two fluids with mixed cells, solids and a divergence-free flow through open faces."""

    def __init__(self, shape: tuple[int, int], seed: int = 0):
        random = np.random.default_rng(seed)
        nx, ny = shape
        x, y = np.mgrid[:nx, :ny]
        self.solid = torch.from_numpy((random.random(shape) < 0.1).astype(np.uint8))
        sharp = np.clip(3.0 + 2.0 * np.sin(0.7 * x) - 0.5 * (y - ny / 2), 0.0, 1.0)
        phase = np.where(random.random(shape) < 0.1, random.random(shape), sharp)
        self.phase = torch.from_numpy(phase) * (self.solid == 0)
        self.density = 1.0 + 99.0 * self.phase
        self.velocity = torch.from_numpy(random.standard_normal((2, nx + 1, ny + 1)))
        loops = HostLoops(self.solid)
        self.velocity *= loops.open_faces
        self.carried = torch.from_numpy(random.standard_normal((2, nx + 1, ny + 1))) * loops.open_faces
        self.operator = PoissonOperator.from_density(self.density, self.solid.bool())

    def copies(self, *names: str) -> list[torch.Tensor]:
        return [getattr(self, name).clone() for name in names]


@pytest.fixture(params=[(24, 17), (8, 8), (13, 40)], ids=str)
def fields(request) -> Fields:
    return Fields(request.param)


def both(fields: Fields):
    return HostLoops(fields.solid), DeviceLoops(fields.solid)


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


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("ratio", [0.02, 0.1])
def test_transport(fields, ratio, direction):
    results = []
    for loops in both(fields):
        carried, velocity, density, phase = fields.copies("carried", "velocity", "density", "phase")
        began = 0.9 * carried
        for along, first in ((direction, True), (1 - direction, False)):
            moved = torch.zeros_like(carried)
            loops.transport_phase(phase, velocity, ratio, along, first)
            loops.transport_momentum(
                carried, velocity, began, density, phase, moved, 100.0, 0.5, ratio, along
            )
            carried = moved
        results.append((phase, density, moved))
    for one, other in zip(*results, strict=True):
        near(one, other)


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
