"""From fields to pixels: the same picture for the window, the recorder's last frame and its video.

Outlines of the fluids and of solids are worked out on the grid, and every pixel takes the share of it that
each covers: see contour, light and raster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from app.picture import contour, raster
from app.picture.light import brightness
from app.picture.palettes import (
    LEVELS,
    SOURCE_COLOURS,
    flat_inks,
    fluid_inks,
    line_ink,
    solid_ink,
    value_inks,
)
from app.picture.view import Scale, View, automatic_range
from app.picture.walls import walls_of
from sim.sources import KINDS

if TYPE_CHECKING:
    from app.picture.tracers import Tracers
    from sim.fields import Fields

MOST_PIXELS = 640_000  # on the way to the screen, whose own filter does the rest
FINE = 3.0  # pixels to a cell from which a second round of outlines can be seen
LINE_OPACITY = {True: 0.9, False: 0.8}  # lit or not


@dataclass(frozen=True)
class Picture:
    """``rgba`` (height, width, 4) uint8, row 0 on top; ``values`` (nx, ny) float32 and what colours them."""

    rgba: np.ndarray
    values: np.ndarray
    scale: Scale


def blank(shape: tuple[int, int]) -> Picture:
    """A single dark pixel, for a grid of which there is no picture yet."""
    values = np.zeros(shape, np.float32)
    return Picture(np.array([[[10, 16, 31, 255]]], np.uint8), values, Scale(1.0, 10.0, logarithmic=True))


def size_of(shape: tuple[int, int], side: float, most: float = math.inf) -> tuple[int, int]:
    """Width and height of a grid's picture with ``side`` pixels along the longer one, and ``most`` in all."""
    longer, shorter = max(shape), min(shape)
    side = min(side, math.sqrt(most * longer / shorter))
    width, height = (max(1, round(side * cells / longer)) for cells in shape)
    return width, height


def render(fields: Fields, view: View, side: int) -> np.ndarray:
    """Draw ``view`` as (height, width, 3) uint8, row 0 on top, with ``side`` pixels along the longer side; of
    sources and drains the borders.
    """
    image = np.ascontiguousarray(draw(fields, view, size_of(fields.shape, side)).rgba[..., :3])
    kinds = fields.source_kinds()  # (nx, ny), 0 or 1 + index in KINDS
    if kinds.any():
        (height, width, _), (nx, ny) = image.shape, kinds.shape
        rows = ny - 1 - np.arange(height) * ny // height
        seen = kinds[np.arange(width) * nx // width][:, rows].T  # (height, width)
        least, most = (pick(seen, size=3, mode="constant") for pick in (minimum_filter, maximum_filter))
        border = (seen > 0) & (least != most)
        image[border] = np.array([SOURCE_COLOURS[kind] for kind in KINDS], np.uint8)[seen[border] - 1]
    return image


def draw(
    fields: Fields,
    view: View,
    size: tuple[int, int],
    tracers: Tracers | None = None,
    blue_first: bool = False,
) -> Picture:
    """Draw ``view`` in ``size`` = (width, height) pixels; see Picture. ``tracers`` are moved on and shown.
    ``blue_first``: the bytes of a pixel are B, G, R, A.

    Of ``fields`` it reads field, phase_fraction, solid_mask, velocity, shape, domain, spacing, time and
    settings.contrast; for the divergence also source_kinds.
    """
    values, phase = fields.field(view.field), fields.phase_fraction()  # (nx, ny)
    solid = fields.solid_mask()  # (nx, ny)
    solid_anywhere, contrast = bool(solid.any()), fields.settings.contrast
    fluid = values[~solid] if solid_anywhere else values.ravel()
    if view.field == "divergence":  # a source's own would hide what the pressure solve left
        fluid = values[~solid & (fields.source_kinds() == 0)]
    limits = view.range if view.range != "auto" else automatic_range(view, contrast, fluid)
    colours, name = Scale(*limits, view.logarithmic), view.colours
    if solid_anywhere:
        contour.spread(phase, solid)
    (width, height), rounds = size, 2 if size[0] >= FINE * phase.shape[0] else 1
    fractions = contour.padded(phase, 0.0, 1.0)
    outline = contour.outline(fractions, rounds)
    walls = walls_of(solid)
    lit = view.light and view.field == "density"
    if view.field == "density":
        inks = [
            (fluid_inks if lit else flat_inks)(name, float(colours.share(rho))) for rho in (1.0, contrast)
        ]
        levels = brightness(fractions, walls.cells, solid_anywhere) if lit else np.zeros_like(fractions)
    else:
        inks = [value_inks(name)] * 2
        shares = ((LEVELS - 1) * colours.share(values)).astype(np.float32)
        if solid_anywhere:
            contour.spread(shares, solid)
        levels = contour.padded(shares, 0.0, LEVELS - 1.0)
    pixels, order = np.empty((height, width), np.uint32), slice(None, None, -1 if blue_first else 1)
    line = np.ascontiguousarray(line_ink(name)[order])
    raster.paint(
        pixels,
        levels,
        outline,
        contour.sides(outline),
        walls.outline,
        walls.sides,
        np.ascontiguousarray(np.stack(inks)[..., order]),
        np.ascontiguousarray(solid_ink(name)[order]),
        line,
        LINE_OPACITY[lit] * view.interface,
        view.light,
        lit,
    )
    if tracers is not None and view.traced:
        tracers.follow(fields, solid)
        tracers.draw(pixels, line, solid)
    return Picture(pixels.view(np.uint8).reshape(height, width, 4), values, colours)


def save_png(path: str | Path, image: np.ndarray) -> Path:
    """Write a (height, width, 3 or 4) uint8 image, row 0 on top, and its folder; raises OSError."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(path, format="PNG")
    return path
