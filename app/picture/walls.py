"""Smooth outlines of solids, which the grid knows as whole cells alone.

A blur over five cells, sharpened so that it does not shrink what is round, smooths the stairs of large
shapes; where it would lose a cell that is solid, or a gap, with all around it, a narrow one takes over.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from app.picture import contour, light

WIDE = 2  # cells to either side
LOST = 0.1  # how far a solid cell may lie outside, or a gap inside
CLEAR = 0.15  # how far cells lie inside or outside on average, where shapes are large


class Walls(NamedTuple):
    """Of a grid's solids, as in contour: ``cells`` 1 where solid, their ``outline`` and its ``sides``."""

    cells: np.ndarray
    outline: np.ndarray
    sides: np.ndarray


def walls_of(solid: np.ndarray) -> Walls:
    """The walls of a mask (nx, ny); those of the last masks are kept, for they seldom change."""
    return _made(solid.tobytes(), solid.shape)


@lru_cache(maxsize=4)
def _made(mask: bytes, shape: tuple[int, int]) -> Walls:
    solid = np.frombuffer(mask, bool).reshape(shape).astype(np.float32)
    cells = contour.padded(solid, 0.0, 1.0)
    if not solid.any():
        return Walls(cells, cells, np.zeros(shape[::-1], np.uint8))
    soft = light.blurred(cells, WIDE)
    round_ones = 2.0 * soft - light.blurred(soft, WIDE) - 0.5
    lost = ((round_ones > 0.0) != (cells > 0.5)) & (np.abs(round_ones) > LOST)
    lost |= np.where(cells > 0.5, maximum_filter(round_ones, 3) <= 0.0, minimum_filter(round_ones, 3) >= 0.0)
    lost |= light.blurred(np.abs(round_ones), WIDE) < CLEAR
    share = np.clip(1.0 - 16.0 * light.blurred(lost.astype(np.float32), WIDE), 0.0, 1.0)
    narrow = contour.outline(contour.smoothed(cells), 0)
    outline = (share * round_ones + (1.0 - share) * narrow).astype(np.float32)
    return Walls(cells, outline, contour.sides(outline))
