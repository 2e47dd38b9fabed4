"""What a validation case is, and what cases share. Reference numbers, set-ups and tolerances stand in
assets/reference/validation.yaml.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from app.environment import ROOT
from precond.config import read_yaml
from sim.host.loops import HostLoops
from sim.scenes import Scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation

REFERENCE = ROOT / "assets" / "reference" / "validation.yaml"
SAMPLES = 512  # of a column of cells, from which the fractions under a curve are taken
Curve = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Measured:
    """A figure, the bounds that it must keep, and the reference that they come from, in words."""

    quantity: str
    value: float
    reference: str
    low: float = -math.inf
    high: float = math.inf

    @property
    def passed(self) -> bool:
        """Whether the figure keeps its bounds; one that is not a number does not."""
        return self.low <= self.value <= self.high


@dataclass
class Case:
    """One known result. A subclass says in its docstring what flows and what is measured, and `run` measures.

    ``known``: what the reference file says of it. ``quick``: whether on a coarse grid, whose tolerances are
    its own. ``measured`` figures, measured ``curves`` and ``points`` of the reference are what `run` leaves.
    """

    known: dict[str, Any]
    quick: bool
    measured: list[Measured] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    points: dict[str, Curve] = field(default_factory=dict)
    axes: tuple[str, str] = ("t", "")

    @property
    def setup(self) -> dict[str, Any]:
        """Grid and tolerances of this run."""
        return self.known["quick" if self.quick else "full"]

    def begin(self) -> Simulation:
        """The flow at its start, of a case that is one flow."""
        raise NotImplementedError

    def run(self) -> None:
        """Fill ``measured``, ``curves`` and ``points``."""
        raise NotImplementedError

    def at_most(self, quantity: str, value: float, bound: float, reference: str = "") -> None:
        """Note a figure that must not exceed ``bound``."""
        self.measured.append(Measured(quantity, value, reference or f"at most {bound:g}", high=bound))

    def near(self, quantity: str, value: float, low: float, high: float, tolerance: float) -> None:
        """Note a figure that must lie within ``tolerance``, relative, of the reference's range."""
        spread = tolerance * max(abs(low), abs(high))
        said = f"{low:g} to {high:g}" if low < high else f"{low:g}"
        said = f"{said} ± {100 * tolerance:g} %" if tolerance else said
        self.measured.append(Measured(quantity, value, said, low - spread, high + spread))

    def draw(self, name: str, curve: Any, points: dict[Any, Any]) -> None:
        """Note a measured ``curve``, pairs of numbers, and the ``points`` of its reference."""
        self.curves[name] = tuple(map(list, zip(*curve, strict=True)))
        self.points[name] = [*points.keys()], [*points.values()]


def simulation(
    grid: tuple[int, int],
    height: float,
    phase: np.ndarray,
    velocity: np.ndarray | None = None,
    **settings: Any,
) -> Simulation:
    """A simulation that starts from ``phase`` (nx, ny) and ``velocity`` (2, nx+1, ny+1) or at rest in a box
    ``height`` m high without solids.
    """
    scene = Scene("validation", "validation", "", height, 1.0, {}, "light", [], {"speed_below": 1e9})
    defaults = {"preconditioner": "multigrid", "rtol": 1e-8, "max_time_step": 1.0}
    made = Simulation(SimulationSettings(**{"grid": tuple(grid), **defaults, **settings}), scene)
    made.begin_with(torch.from_numpy(phase), None if velocity is None else torch.from_numpy(velocity))
    return made


def under(grid: tuple[int, int], curve: Any, below: bool = True) -> np.ndarray:
    """Share of every cell below (or above) y = ``curve``(x), lengths in heights of the box: (nx, ny)."""
    nx, ny = grid
    x = (np.arange(nx * SAMPLES) + 0.5) / (SAMPLES * ny)
    shares = np.zeros(grid)
    for i, part in enumerate(np.split(x, nx)):
        shares[i] = np.clip(curve(part)[:, None] * ny - np.arange(ny), 0.0, 1.0).mean(axis=0)
    return shares if below else 1.0 - shares


def disc(grid: tuple[int, int], x: float, y: float, radius: float) -> np.ndarray:
    """Share of every cell inside a disc, lengths in heights of the box: (nx, ny)."""

    def half(side: float) -> np.ndarray:
        return under(grid, lambda at: y + side * np.sqrt(np.maximum(radius**2 - (at - x) ** 2, 0.0)))

    return half(1.0) - half(-1.0)


def stream_velocity(stream: np.ndarray, spacing: float) -> np.ndarray:
    """Face velocities (2, nx+1, ny+1) of a stream function at the corners, divergence-free to rounding."""
    velocity = np.zeros((2, *stream.shape))
    velocity[0, :, :-1] = -np.diff(stream, axis=1) / spacing
    velocity[1, :-1, :] = np.diff(stream, axis=0) / spacing
    return velocity


def carried(phase: np.ndarray, velocity: np.ndarray, ratio: float, factors: Any) -> np.ndarray:
    """``phase`` after one transport step for each of ``factors``, with ``velocity`` times it."""
    moved, flow = torch.from_numpy(phase.copy()), torch.from_numpy(velocity)
    loops = HostLoops(torch.zeros(phase.shape, dtype=torch.uint8))
    for number, factor in enumerate(factors):
        for sweep in range(2):
            loops.transport_phase(moved, flow * factor, ratio, (number + sweep) % 2, sweep == 0)
    return moved.numpy()


def crossing(values: np.ndarray, level: float = 0.5) -> float:
    """Where a row of cell values last crosses ``level``, in cells from the row's start."""
    above = values > level
    k = int(np.nonzero(above[1:] != above[:-1])[0][-1])
    return k + 0.5 + (level - values[k]) / (values[k + 1] - values[k])


def load_known() -> dict[str, Any]:
    """The reference file's cases by name. Raises UsageError where it cannot be read."""
    return read_yaml(REFERENCE)["cases"]
