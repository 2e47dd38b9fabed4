"""Shapes that fill a scene: rectangles, discs, wavy layers, scattered bubbles and the benchmark's barriers.

Positions are shares of the box's width and height, radii and amplitudes shares of its height, so a scene
looks the same on every grid.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
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
    fill: Literal["heavy", "light", "solid", "heavy source", "light source", "drain"] = "heavy"

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


class Rectangle(_Boxed):
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
    """``count`` discs with centres at random places between two corners, clear of each other where there is
    room.
    """

    count: Whole = Field(ge=1, le=200)
    smallest: Share
    largest: Share

    def cover(self, grid: tuple[int, int], random: np.random.Generator) -> np.ndarray:
        low, high = sorted((self.smallest, self.largest))
        (x0, y0), (x1, y1) = self.low, self.high
        width = grid[0] / grid[1]
        placed: list[tuple[float, float, float]] = []
        for _ in range(50 * self.count):
            r = random.uniform(low, high)
            x, y = random.uniform(x0 * width, x1 * width), random.uniform(y0, y1)
            if all((x - a) ** 2 + (y - b) ** 2 > (1.2 * (r + c)) ** 2 for a, b, c in placed):
                placed.append((x, y, r))
            if len(placed) == self.count:
                break
        return _discs(placed, grid)


class Barriers(Shape):
    """The benchmark's test frame ``frame``, its densities mapped linearly onto phase fractions 0 to 1."""

    frame: Whole = Field(0, ge=0, le=1_000_000)

    def cover(self, grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
        density = gallery.barrier_density(grid, self.frame)
        lightest, heaviest = density.min(), density.max()
        return (density - lightest) / (heaviest - lightest)


SHAPES = {kind.__name__.lower(): kind for kind in (Rectangle, Disc, Layer, Bubbles, Barriers)}


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
