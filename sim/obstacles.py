"""Obstacles that are moved by hand: a connected solid goes by whole cells, with what it encloses, and what
was in its way is then behind it.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage

PUSHED = 2  # cells around a moved obstacle that take its speed


def body_at(solid: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """The connected part of ``solid``, bool (nx, ny), with ``cell`` in it and all that it encloses, bool."""
    labels, _ = scipy.ndimage.label(solid)
    return scipy.ndimage.binary_fill_holes(labels == labels[cell])


def move(
    solid: np.ndarray, phase: np.ndarray, body: np.ndarray, steps: tuple[int, int]
) -> tuple[int, int, np.ndarray]:
    """Move ``body``, bool (nx, ny), by up to ``steps`` cells along x and y; the cells moved, and where it is.

    ``solid``, bool, and ``phase``, float64, follow in place; the sum of ``phase`` stays. The body remains in
    the box and a cell away from other solids, with which it would become one; what stops it along one axis
    does not along the other.
    """
    count = max(map(abs, steps))
    path = np.rint(np.linspace((0, 0), steps, count + 1)).astype(int)
    moved = [0, 0]
    for step in np.diff(path, axis=0):
        for axis in np.flatnonzero(step):
            shifted = _moved_once(solid, phase, body, axis, step[axis])
            if shifted is not None:
                body, moved[axis] = shifted, moved[axis] + int(step[axis])
    return *moved, body


def around(cells: np.ndarray, width: int = 1) -> np.ndarray:
    """``cells``, bool (nx, ny), and those up to ``width`` steps across sides away from them."""
    return scipy.ndimage.binary_dilation(cells, iterations=width)


def _moved_once(
    solid: np.ndarray, phase: np.ndarray, body: np.ndarray, axis: int, sign: int
) -> np.ndarray | None:
    """One cell along ``axis``; where the body is then; None, and no change, where something stops it."""
    if body.take(-1 if sign > 0 else 0, axis=axis).any():
        return None
    new = np.roll(body, sign, axis=axis)
    if (around(new) & solid & ~body).any():
        return None
    front, rear = new & ~body, body & ~new
    across = (lambda cells: cells.T) if axis == 0 else (lambda cells: cells)  # line by line along the axis
    displaced = across(phase)[across(front)]
    shifted_solid = np.roll(solid & body, sign, axis=axis)
    phase[new] = np.roll(phase, sign, axis=axis)[new]
    across(phase)[across(rear)] = displaced  # every line has as many cells in front as behind
    solid[body] = False
    solid |= shifted_solid
    return new
