"""Shapes that fill a scene: rectangles, discs, wavy layers, scattered bubbles and the benchmark's barriers.

Positions are shares of the box's width and height, radii and amplitudes shares of its height, so a scene
looks the same on every grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from precond.errors import UsageError
from precond.problems import gallery

FILLS = ("heavy", "light", "solid")
SAMPLES = 8  # points per cell and direction from which a cell's phase fraction is counted


class ShapeError(UsageError):
    """A shape that cannot be painted; the message names the field and what is allowed."""


def _sample_points(grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the sample points in shares of the height, (nx * SAMPLES, 1) and (1, ny * SAMPLES)."""
    nx, ny = grid
    x = (np.arange(nx * SAMPLES) + 0.5) / (SAMPLES * ny)
    y = (np.arange(ny * SAMPLES) + 0.5) / (SAMPLES * ny)
    return x[:, None], y[None, :]


def _coverage(inside: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    nx, ny = grid
    return (
        np.broadcast_to(inside, (nx * SAMPLES, ny * SAMPLES))
        .reshape(nx, SAMPLES, ny, SAMPLES)
        .mean(axis=(1, 3))
    )


def _rectangle(shape: dict[str, Any], grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
    (x0, y0), (x1, y1) = _box(shape)
    return np.outer(_overlap(x0, x1, grid[0]), _overlap(y0, y1, grid[1]))


def _overlap(start: float, end: float, cells: int) -> np.ndarray:
    """Share of each of ``cells`` equal parts of [0, 1] that lies in [start, end]."""
    edges = np.clip(np.arange(cells + 1) / cells, start, end)
    return np.diff(edges) * cells


def _disc(shape: dict[str, Any], grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
    x, y = _sample_points(grid)
    cx, cy = _point(shape, "centre")
    radius = _number(shape, "radius", 0.0, 10.0)
    return _coverage((x - cx * grid[0] / grid[1]) ** 2 + (y - cy) ** 2 < radius**2, grid)


def _layer(shape: dict[str, Any], grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
    """Everything above ``bottom`` + amplitude cos(2 pi waves x / width); exact area under the curve in every
    cell.
    """
    nx, ny = grid
    bottom = _number(shape, "bottom", 0.0, 1.0)
    amplitude = _number(shape, "amplitude", 0.0, 1.0, default=0.0)
    waves = _number(shape, "waves", 0.0, 1000.0, default=1.0)
    x = (np.arange(nx * SAMPLES) + 0.5) / (nx * SAMPLES)
    curve = (bottom + amplitude * np.cos(2.0 * np.pi * waves * x)) * ny  # in cells
    above = np.clip(np.arange(1, ny + 1)[None, :] - curve[:, None], 0.0, 1.0)
    return above.reshape(nx, SAMPLES, ny).mean(axis=1)


def _bubbles(shape: dict[str, Any], grid: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """``count`` discs with centres at random places between ``from`` and ``to``, clear of each other where
    there is room.
    """
    count = _whole(shape, "count", 1, 200)
    low, high = _number(shape, "smallest", 0.0, 1.0), _number(shape, "largest", 0.0, 1.0)
    (x0, y0), (x1, y1) = _box(shape)
    width = grid[0] / grid[1]
    x, y = _sample_points(grid)
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    placed: list[tuple[float, float, float]] = []
    for _ in range(50 * count):
        r = random.uniform(min(low, high), max(low, high))
        cx, cy = random.uniform(x0 * width, x1 * width), random.uniform(y0, y1)
        if all((cx - a) ** 2 + (cy - b) ** 2 > (1.2 * (r + c)) ** 2 for a, b, c in placed):
            placed.append((cx, cy, r))
            inside |= (x - cx) ** 2 + (y - cy) ** 2 < r**2
        if len(placed) == count:
            break
    return _coverage(inside, grid)


def _barriers(shape: dict[str, Any], grid: tuple[int, int], _: np.random.Generator) -> np.ndarray:
    """The benchmark's test frame ``frame``, its densities mapped linearly onto phase fractions 0 to 1."""
    frame = _whole(shape, "frame", 0, 1_000_000, default=0)
    density = gallery.barrier_density(grid, frame)
    lightest, heaviest = density.min(), density.max()
    return (density - lightest) / (heaviest - lightest)


SHAPES: dict[str, tuple[Callable[..., np.ndarray], tuple[str, ...]]] = {
    "rectangle": (_rectangle, ("from", "to")),
    "disc": (_disc, ("centre", "radius")),
    "layer": (_layer, ("bottom", "amplitude", "waves")),
    "bubbles": (_bubbles, ("count", "smallest", "largest", "from", "to")),
    "barriers": (_barriers, ("frame",)),
}


def paint_shape(shape: Any, phase: np.ndarray, solid: np.ndarray, random: np.random.Generator) -> None:
    """Paint one shape of a scene into ``phase`` (nx, ny) and ``solid`` (nx, ny). Raises ShapeError."""
    name = shape.get("shape") if isinstance(shape, dict) else shape
    if not isinstance(shape, dict) or not isinstance(name, str) or name not in SHAPES:
        raise ShapeError(f"shape: {name!r} is not one of {', '.join(SHAPES)}")
    cover, own_fields = SHAPES[shape["shape"]]
    for field in shape:
        if field not in ("shape", "fill", *own_fields):
            raise ShapeError(
                f"{field}: unknown for a {shape['shape']}; allowed are fill, {', '.join(own_fields)}"
            )
    fill = shape.get("fill", "heavy")
    if fill not in FILLS:
        raise ShapeError(f"fill: {fill!r} is not one of {', '.join(FILLS)}")
    covered = cover(shape, phase.shape, random)
    if fill == "solid":
        solid |= covered >= 0.5
    else:
        phase += covered * (float(fill == "heavy") - phase)


def _number(
    shape: dict[str, Any], field: str, low: float, high: float, default: float | None = None
) -> float:
    value = shape.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ShapeError(f"{field}: {value!r} is not a number from {low:g} to {high:g}")
    return float(value)


def _point(shape: dict[str, Any], field: str) -> tuple[float, float]:
    value = shape.get(field)
    if not isinstance(value, list) or len(value) != 2:
        raise ShapeError(f"{field}: {value!r} is not a point [x, y] in shares of the box's width and height")
    point = {"x": value[0], "y": value[1]}
    return _number(point, "x", -10.0, 10.0), _number(point, "y", -10.0, 10.0)


def _whole(shape: dict[str, Any], field: str, low: int, high: int, default: int | None = None) -> int:
    value = shape.get(field, default)
    if type(value) is not int or not low <= value <= high:
        raise ShapeError(f"{field}: {value!r} is not a whole number from {low} to {high}")
    return value


def _box(shape: dict[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The corners ``from``, lower left, and ``to``."""
    low, high = _point(shape, "from"), _point(shape, "to")
    if low[0] > high[0] or low[1] > high[1]:
        raise ShapeError(f"to: {shape['to']} lies left of or below from: {shape['from']}")
    return low, high
