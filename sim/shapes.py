"""Shapes that fill a scene: rectangles, discs, wavy layers, stripes, scattered bubbles, beds of grains,
mazes and the benchmark's barriers.

Positions are shares of the box's width and height, radii and amplitudes shares of its height, so a scene
looks the same on every grid.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import scipy.spatial
from pydantic import BeforeValidator, Field, model_validator

from precond.config import Number, Settings, Whole, validated
from precond.problems import gallery
from sim.sources import KINDS

SAMPLES = 8  # points per cell and direction from which a cell's phase fraction is counted

Share = Annotated[Number, Field(ge=0, le=1)]
_Coordinate = Annotated[Number, Field(ge=-10, le=10)]


def _pair(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("is not a point [x, y] in shares of the box's width and height")
    return value


Point = Annotated[tuple[_Coordinate, _Coordinate], BeforeValidator(_pair)]


def _discs(discs: list[tuple[float, float, float]], grid: tuple[int, int]) -> np.ndarray:
    """Share of every cell, (nx, ny), in any of ``discs``, their x, y and radius in shares of the height."""
    nx, ny = grid
    x = ((np.arange(nx * SAMPLES) + 0.5) / (SAMPLES * ny))[:, None]
    y = ((np.arange(ny * SAMPLES) + 0.5) / (SAMPLES * ny))[None, :]
    inside = np.zeros((nx * SAMPLES, ny * SAMPLES), dtype=bool)
    for cx, cy, radius in discs:
        inside |= (x - cx) ** 2 + (y - cy) ** 2 < radius**2
    return inside.reshape(nx, SAMPLES, ny, SAMPLES).mean(axis=(1, 3))


def _overlap(start: float, end: float, cells: int) -> np.ndarray:
    """Share of each of ``cells`` equal parts of [0, 1] that lies in [start, end]."""
    edges = np.clip(np.arange(cells + 1) / cells, start, end)
    return np.diff(edges) * cells


class Shape(Settings):
    """What every shape has, in a file and here. A kind of shape says which cells it covers."""

    shape: str
    fill: Literal[("heavy", "light", "solid", *KINDS)] = "heavy"

    def cover(self, grid: tuple[int, int], random: np.random.Generator) -> np.ndarray:
        """Share of every cell that the shape covers, float64 (nx, ny)."""
        raise NotImplementedError

    def paint(
        self, phase: np.ndarray, solid: np.ndarray, sources: np.ndarray, random: np.random.Generator
    ) -> None:
        """Paint into the phase fraction ``phase``, float64 (nx, ny), into ``solid``, bool (nx, ny), or into
        ``sources``, uint8 (nx, ny), as sim.sources.Sources.kind.
        """
        covered = self.cover(phase.shape, random)
        if self.fill == "solid":
            solid |= covered >= 0.5
            return
        if self.fill in KINDS:
            sources[covered >= 0.5] = 1 + KINDS.index(self.fill)
        if self.fill != "drain":
            phase += covered * (float(self.fill.startswith("heavy")) - phase)


class _Boxed(Shape):
    """A shape between two corners, ``from`` at the lower left."""

    low: Point = Field(alias="from")
    high: Point = Field(alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> _Boxed:
        if self.low[0] > self.high[0] or self.low[1] > self.high[1]:
            raise ValueError(f"to: {list(self.high)} lies left of or below from: {list(self.low)}")
        return self


class _Area(_Boxed):
    """One that covers some of the box."""

    @model_validator(mode="after")
    def _covers(self) -> _Area:
        corners = f"from: {list(self.low)} to: {list(self.high)}"
        if self.low[0] == self.high[0] or self.low[1] == self.high[1]:
            raise ValueError(f"{corners} has no area; move one of the two")
        if min(self.high) <= 0.0 or max(self.low) >= 1.0:
            raise ValueError(f"{corners} lies outside the box, which is from: [0, 0] to: [1, 1]")
        return self


class Rectangle(_Area):
    """Everything between two corners, exact in every cell."""

    def cover(self, grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
        (x0, y0), (x1, y1) = self.low, self.high
        return np.outer(_overlap(x0, x1, grid[0]), _overlap(y0, y1, grid[1]))


class Disc(Shape):
    """A disc around a point."""

    centre: Point
    radius: Number = Field(ge=0, le=10)

    def cover(self, grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
        x, y = self.centre
        return _discs([(x * grid[0] / grid[1], y, self.radius)], grid)


class Layer(Shape):
    """Everything above ``bottom`` + amplitude cos(2 pi waves x / width); the exact area in every cell."""

    bottom: Share
    amplitude: Share = 0.0
    waves: Number = Field(1.0, ge=0, le=1000)

    def cover(self, grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
        nx, ny = grid
        x = (np.arange(nx * SAMPLES) + 0.5) / (nx * SAMPLES)
        curve = (self.bottom + self.amplitude * np.cos(2.0 * np.pi * self.waves * x)) * ny  # in cells
        above = np.clip(np.arange(1, ny + 1)[None, :] - curve[:, None], 0.0, 1.0)
        return above.reshape(nx, SAMPLES, ny).mean(axis=1)


class Bubbles(_Boxed):
    """``count`` discs with centres at random places between two corners, clear of each other by ``gap``, a
    share of the mean of their diameters, where there is room.
    """

    count: Whole = Field(ge=1, le=200)
    smallest: Share
    largest: Share
    gap: Number = Field(0.2, ge=0, le=10)

    def cover(self, grid: tuple[int, int], random: np.random.Generator) -> np.ndarray:
        low, high = sorted((self.smallest, self.largest))
        (x0, y0), (x1, y1) = self.low, self.high
        width = grid[0] / grid[1]
        placed: list[tuple[float, float, float]] = []
        for _ in range(50 * self.count):
            r = random.uniform(low, high)
            x, y = random.uniform(x0 * width, x1 * width), random.uniform(y0, y1)
            if all((x - a) ** 2 + (y - b) ** 2 > ((1.0 + self.gap) * (r + c)) ** 2 for a, b, c in placed):
                placed.append((x, y, r))
            if len(placed) == self.count:
                break
        return _discs(placed, grid)


class Stripes(_Area):
    """``count`` equal stripes between two corners, each followed by as much that stays as it was, shifted
    across by amplitude cos(2 pi waves t) at share t of the box along them; the exact area in every cell.
    """

    count: Whole = Field(ge=1, le=500)
    direction: Literal["horizontal", "vertical"] = "horizontal"
    amplitude: Share = 0.0
    waves: Number = Field(1.0, ge=0, le=1000)

    def cover(self, grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
        along, across = (1, 0) if self.direction == "vertical" else (0, 1)
        edges = np.linspace(self.low[across], self.high[across], 2 * self.count + 1)
        covered = np.diff(edges)[0] * (np.arange(2 * self.count + 1) // 2 + np.arange(2 * self.count + 1) % 2)
        t = (np.arange(grid[along] * SAMPLES) + 0.5) / (grid[along] * SAMPLES)
        shift = self.amplitude * np.cos(2.0 * np.pi * self.waves * t)
        sides = (
            np.arange(grid[across] + 1) / grid[across] - shift[:, None]
        )  # of the cells, seen from a stripe
        share = np.diff(np.interp(sides, edges, covered), axis=1) * grid[across]
        share = share.reshape(grid[along], SAMPLES, -1).mean(axis=1)
        share *= _overlap(self.low[along], self.high[along], grid[along])[:, None]
        return share if along == 0 else share.T


class Grains(_Area):
    """Stones of about ``size`` fitted to each other between two corners, with ways of width ``pore`` between
    them: the Voronoi cells of random places, one in each square of a grid.
    """

    fill: Literal["heavy", "light", "solid"] = "solid"
    size: Annotated[Number, Field(ge=0.01, le=1)]
    pore: Annotated[Number, Field(ge=0, le=1)]

    def cover(self, grid: tuple[int, int], random: np.random.Generator) -> np.ndarray:
        width = grid[0] / grid[1]
        counts = [math.ceil(extent / self.size) + 2 for extent in (width, 1.0)]
        corners = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1) - 1.0
        tree = scipy.spatial.cKDTree((corners + random.uniform(0.1, 0.9, corners.shape)).reshape(-1, 2))
        x, y = ((np.arange(n) + 0.5) / n for n in grid)
        places = np.stack(np.meshgrid(x * width, y, indexing="ij"), axis=-1)  # (nx, ny, 2), in heights
        nearest, _ = tree.query(places / self.size, k=2)
        stone = (nearest[..., 1] - nearest[..., 0]) * self.size > self.pore
        inside = np.outer(*(_overlap(a, b, n) for a, b, n in zip(self.low, self.high, grid, strict=True)))
        return stone * inside


class Maze(_Area):
    """The walls of a random maze between two corners, with one way from any of its rooms to any other; its
    sides are open. ``corridor`` and ``wall`` are the least widths, stretched to fit.
    """

    fill: Literal["heavy", "light", "solid"] = "solid"
    corridor: Annotated[Number, Field(ge=0.01, le=1)]
    wall: Annotated[Number, Field(ge=0.001, le=1)]

    def cover(self, grid: tuple[int, int], random: np.random.Generator) -> np.ndarray:
        pitch, heights = self.corridor + self.wall, (grid[0] / grid[1], 1.0)
        sides = [(b - a) * height for a, b, height in zip(self.low, self.high, heights, strict=True)]
        rooms = [max(1, int((side + self.wall) / pitch)) for side in sides]
        walls = gallery.maze_walls((2 * rooms[0] + 1, 2 * rooms[1] + 1), 1, random)[1:-1, 1:-1]
        places, inside = [], []
        for axis, n in enumerate(grid):
            share = ((np.arange(n) + 0.5) / n - self.low[axis]) / max(self.high[axis] - self.low[axis], 1e-9)
            at = share * (rooms[axis] * pitch - self.wall)
            place = 2 * np.floor(at / pitch) + (at % pitch >= self.corridor)  # odd: between two rooms
            places.append(np.clip(place, 0, 2 * rooms[axis] - 2).astype(int))
            inside.append((share >= 0.0) & (share < 1.0))
        return (walls[np.ix_(*places)] & np.outer(*inside)).astype(np.float64)


class Barriers(Shape):
    """The benchmark's test frame ``frame``, its densities mapped linearly onto phase fractions 0 to 1."""

    frame: Whole = Field(0, ge=0, le=1_000_000)

    def cover(self, grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
        density = gallery.barrier_density(grid, self.frame)
        lightest, heaviest = density.min(), density.max()
        return (density - lightest) / (heaviest - lightest)


SHAPES = {
    kind.__name__.lower(): kind for kind in (Rectangle, Disc, Layer, Stripes, Bubbles, Grains, Maze, Barriers)
}


def read_shapes(values: Any) -> list[Shape]:
    """Shapes from the list of a scene file. Raises UsageError that names the shape by its number."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"is not a list of shapes; known are {', '.join(SHAPES)}")
    return [_read(value, number) for number, value in enumerate(values, start=1)]


def _read(value: Any, number: int) -> Shape:
    if isinstance(value, Shape):
        return value
    name = value.get("shape") if isinstance(value, dict) else value
    if not isinstance(value, dict) or name not in list(SHAPES):  # a name may be anything, a list even
        raise ValueError(f"number {number}: shape: {name!r} is not one of {', '.join(SHAPES)}")
    return validated(SHAPES[name], value, f"number {number}")
