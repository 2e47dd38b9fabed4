"""Piecewise linear interfaces: exact geometry, and transport that is conservative, bounded, sharp and
symmetric.
"""

import numpy as np
import pytest
import taichi as ti
import torch

from sim.device import interface as device
from sim.device.interface import line_offset, strip_fraction
from sim.device.runtime import start
from sim.host import interface
from sim.host.loops import HostLoops


@ti.kernel
def areas(
    lines: ti.types.ndarray(dtype=ti.f64, ndim=2),
    area: ti.types.ndarray(dtype=ti.f64, ndim=1),
    offset: ti.types.ndarray(dtype=ti.f64, ndim=1),
):
    for k in area:
        area[k] = strip_fraction(lines[k, 0], lines[k, 1], lines[k, 2])
        offset[k] = line_offset(lines[k, 0], lines[k, 1], area[k])


def half_plane_area(a: float, b: float, alpha: float) -> float:
    """Area of the unit square's part with a x + b y <= alpha, by clipping the square's polygon."""
    corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    kept: list[tuple[float, float]] = []
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        d0, d1 = a * x0 + b * y0 - alpha, a * x1 + b * y1 - alpha
        if d0 <= 0.0:
            kept.append((x0, y0))
        if d0 * d1 < 0.0:
            t = d0 / (d0 - d1)
            kept.append((x0 + t * (x1 - x0), y0 + t * (y1 - y0)))
    pairs = zip(kept, kept[1:] + kept[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2.0


@pytest.mark.parametrize("form", ["compiled", "Taichi"])
def test_areas_under_a_line_match_polygon_clipping(form: str) -> None:
    start("cpu")
    random = np.random.default_rng(0)
    lines = random.uniform(-1.0, 1.0, (500, 3))
    lines[:20, 0] = 0.0
    lines[20:40, 1] = 0.0
    area, offset = np.zeros(500), np.zeros(500)
    if form == "Taichi":
        areas(lines, area, offset)
    else:
        area[:] = [interface.strip_fraction(*line) for line in lines]
        offset[:] = [interface.line_offset(*line[:2], share) for line, share in zip(lines, area, strict=True)]
    expected = np.array([half_plane_area(*line) for line in lines])
    np.testing.assert_allclose(area, expected, atol=1e-12)
    cut = (expected > 1e-6) & (expected < 1.0 - 1e-6)
    assert cut.sum() > 150
    np.testing.assert_allclose(offset[cut], lines[cut, 2], atol=1e-9)


class Transport:
    """Both sweeps of transport_phase on a given velocity."""

    def __init__(self, phase: np.ndarray, velocity: torch.Tensor):
        self.phase, self.velocity = torch.from_numpy(phase.copy()), velocity
        self.loops = HostLoops(torch.zeros(phase.shape, dtype=torch.uint8))

    def step(self, ratio: float) -> None:
        for along in range(2):
            self.loops.transport_phase(self.phase, self.velocity, ratio, along, along == 0)


def swirl(n: int) -> torch.Tensor:
    """Face velocities of the stream function sin(pi x)^2 sin(pi y)^2 / pi in the unit box, divergence-free to
    rounding.
    """
    corner = torch.linspace(0.0, 1.0, n + 1, dtype=torch.float64)
    wave = torch.sin(torch.pi * corner) ** 2
    stream = wave[:, None] * wave[None, :] / torch.pi
    velocity = torch.zeros(2, n + 1, n + 1, dtype=torch.float64)
    velocity[0, :, :-1] = (stream[:, 1:] - stream[:, :-1]) * n
    velocity[1, :-1, :] = -(stream[1:, :] - stream[:-1, :]) * n
    return velocity


def disc(n: int) -> np.ndarray:
    points = (np.arange(8 * n) + 0.5) / (8 * n)
    inside = (points[:, None] - 0.5) ** 2 + (points[None, :] - 0.75) ** 2 < 0.15**2
    return inside.reshape(n, 8, n, 8).mean(axis=(1, 3))


def swirled_error(n: int) -> float:
    """Share of a disc that a swirl and its reverse misplace, checking bounds and volume on the way."""
    transport = Transport(disc(n), swirl(n))
    outflow = transport.loops.net_outflow(transport.velocity, torch.empty(n, n, dtype=torch.float64))
    assert outflow.abs().max() < 1e-12
    volume = transport.phase.sum()
    steps = 3 * n
    for k in range(2 * steps):
        if k == steps:
            transport.velocity.neg_()
        transport.step(0.3)
        assert 0.0 <= transport.phase.min() <= transport.phase.max() <= 1.0
    assert abs(transport.phase.sum() / volume - 1.0) < 1e-12
    return float((transport.phase - torch.from_numpy(disc(n))).abs().sum() / volume) / 2.0


def test_a_disc_comes_back_from_a_reversed_swirl() -> None:
    coarse, fine = swirled_error(32), swirled_error(64)
    assert fine < 0.06
    assert fine < 0.6 * coarse


def test_the_interface_stays_sharp() -> None:
    n = 64
    transport = Transport(disc(n), swirl(n))
    mixed = int(((transport.phase > 1e-6) & (transport.phase < 1.0 - 1e-6)).sum())
    for _ in range(2 * n):
        transport.step(0.3)
    stretched = int(((transport.phase > 1e-3) & (transport.phase < 1.0 - 1e-3)).sum())
    assert stretched < 4 * mixed  # the outline is three times as long by then and one to two cells thick


def test_volume_and_bounds_survive_a_velocity_that_is_not_quite_divergence_free() -> None:
    n = 32
    transport = Transport(disc(n), swirl(n))
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((2, n + 1, n + 1)))
    transport.velocity.add_(1e-3 * noise * (transport.velocity != 0.0))
    volume = float(transport.phase.sum())
    for _ in range(200):
        transport.step(0.3)
    assert float(transport.phase.sum()) == pytest.approx(volume, rel=1e-12)
    assert 0.0 <= transport.phase.min() <= transport.phase.max() <= 1.0


@pytest.mark.parametrize("form", ["compiled", "Taichi"])
@pytest.mark.parametrize(("volume", "left"), [(-1e-16, 1e-17), (-1e-16, 0.0), (16.0 + 1e-14, 1.0)])
def test_rounding_in_the_volume_of_a_phase_that_has_gone_is_no_matter(
    form: str, volume: float, left: float
) -> None:
    """A sweep that is asked for less than no heavy fluid, or for more than there is room for."""
    start("cpu")
    phase, solid = np.full((4, 4), left), np.zeros((4, 4), np.uint8)
    velocity, flux, cells = np.zeros((2, 5, 5)), np.zeros((2, 5, 5)), np.zeros((4, 4))
    if form == "compiled":
        volumes = np.array([volume])
        interface.transport_phase(phase, solid, velocity, flux, cells, flux.copy(), volumes, 0.1, 0, False)
    else:
        rows, fields = np.zeros((4, 5)), (phase, solid, velocity, flux, cells, flux.copy())
        rows[0, 0] = volume
        device.transport_phase(*fields, np.zeros((3, 4, 4)), rows, 0.1, 0, False)
    assert (phase == (1.0 if volume > 0.0 else 0.0)).all()
