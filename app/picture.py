"""From a simulation to pixels: the same picture for the window, the recorder's last frame and its video.

A field is brought to 256 levels on the grid, enlarged (bicubic) and coloured by table look-up: 512 x 256
pixels cost about a millisecond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from cmap import Colormap
from PIL import Image

if TYPE_CHECKING:
    from sim.simulation import Simulation

VIEWS = ("density", "pressure", "speed", "vorticity", "divergence")
UNITS = {"density": "kg/m³", "pressure": "Pa", "speed": "m/s", "vorticity": "1/s", "divergence": "1/s"}
SIGNED = ("vorticity", "divergence")  # shown in a range symmetric about zero
LEVELS = 256
SOLID_COLOUR = (142, 116, 88)
_FLUID = ["#0d1526", "#123258", "#1c64ad", "#3fa4e8"]  # light phase, to heavy phase

_SOURCES = {
    "fluid": _FLUID,
    "viridis": "bids:viridis",
    "magma": "bids:magma",
    "inferno": "bids:inferno",
    "cividis": "cividis:cividis",
    "turbo": "google:turbo",
    "berlin": "crameri:berlin",
    "coolwarm": "matplotlib:coolwarm",
    "RdBu": "colorbrewer:RdBu",
    "grey": "matlab:gray",
}
COLORMAPS = tuple(_SOURCES)
DEFAULT_COLORMAPS = {
    "density": "fluid",
    "pressure": "viridis",
    "speed": "magma",
    "vorticity": "berlin",
    "divergence": "coolwarm",
}


@dataclass(frozen=True)
class View:
    """What to show and how. ``colormap`` None: the field's own; ``range``: "auto" or (low, high) in its unit.

    Raises ValueError for a name that is not in VIEWS or COLORMAPS and for a range that is empty (or, for
    density, not above zero: its scale is logarithmic).
    """

    field: str = "density"
    colormap: str | None = None
    range: tuple[float, float] | Literal["auto"] = "auto"
    interface: bool = True  # draw the line where half of a cell is heavy

    def __post_init__(self) -> None:
        if self.field not in VIEWS:
            raise ValueError(f"view: {self.field!r} is not one of {', '.join(VIEWS)}")
        if self.colormap is not None and self.colormap not in COLORMAPS:
            raise ValueError(f"colormap: {self.colormap!r} is not one of {', '.join(COLORMAPS)}")
        if self.range != "auto":
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"range: {low:g} to {high:g} is empty")
            if self.logarithmic and low <= 0.0:
                raise ValueError(f"range: {low:g} must be above 0 on the logarithmic scale of {self.field}")

    @property
    def colours(self) -> str:
        """Name of the colormap in use."""
        return self.colormap or DEFAULT_COLORMAPS[self.field]

    @property
    def unit(self) -> str:
        """Unit of the field."""
        return UNITS[self.field]

    @property
    def logarithmic(self) -> bool:
        """Whether the colours follow the logarithm of the value."""
        return self.field == "density"


@dataclass(frozen=True)
class Picture:
    """``rgba`` (height, width, 4) uint8, row 0 on top; ``values`` (nx, ny) float32; range of the colours."""

    rgba: np.ndarray
    values: np.ndarray
    low: float
    high: float


def render(simulation: Simulation, view: View, scale: int = 1) -> np.ndarray:
    """Draw ``view`` as a (ny * scale, nx * scale, 3) uint8 image, row 0 on top."""
    return np.ascontiguousarray(draw(simulation, view, scale).rgba[..., :3])


def draw(simulation: Simulation, view: View, scale: int = 1) -> Picture:
    """Draw ``view`` with ``scale`` pixels to a cell; see Picture."""
    values = simulation.field(view.field)  # (nx, ny)
    solid = simulation.solid_mask()  # (nx, ny)
    has_solids = bool(solid.any())
    fluid = values[~solid] if has_solids else values.ravel()
    low, high = view.range if view.range != "auto" else _automatic_range(simulation, view, fluid)
    walls = solid if has_solids else None
    levels = _to_levels(values, low, high, view.logarithmic, walls, scale)  # (H, W)
    pixels = np.take(colour_table(view.colours), levels)  # (H, W) uint32, one RGBA word each
    if view.interface:
        fraction = _to_levels(simulation.phase_fraction(), 0.0, 1.0, False, walls, scale)
        np.copyto(pixels, _line_colour(view.colours), where=_interface(fraction))
    if has_solids:
        mask = solid.T[::-1].repeat(scale, axis=0).repeat(scale, axis=1)
        np.copyto(pixels, _pack(np.array([SOLID_COLOUR], np.uint8))[0], where=mask)
    return Picture(pixels.view(np.uint8).reshape(*pixels.shape, 4), values, low, high)


def save_png(path: str | Path, image: np.ndarray) -> Path:
    """Write a (height, width, 3 or 4) uint8 image, row 0 on top, and its folder; raises OSError."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(path, format="PNG")
    return path


@cache
def colour_table(name: str) -> np.ndarray:
    """The LEVELS colours of a colormap, low to high, as (LEVELS,) uint32 words whose bytes are R, G, B, A."""
    colours = Colormap(_SOURCES[name]).lut(LEVELS)[:, :3]
    return _pack(np.rint(255.0 * colours).astype(np.uint8))


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 5, 7 times a power of ten not below ``value``; 1 for zero or not finite.

    Ranges and plots that end on such numbers stand still while the data moves a little.
    """
    if not (math.isfinite(value) and value > 0.0):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (power * step for step in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0))
    return next(step for step in steps if step >= 0.999999 * value)


def _automatic_range(simulation: Simulation, view: View, fluid: np.ndarray) -> tuple[float, float]:
    if view.field == "density":
        contrast = simulation.settings.contrast
        return 1.0, contrast if contrast > 1.0 else 10.0
    fluid = fluid[np.isfinite(fluid)]
    if fluid.size == 0:
        return 0.0, 1.0
    if view.field == "speed":
        return 0.0, nice_ceiling(float(fluid.max()))
    if view.field in SIGNED:  # single cells at a corner would dim all others
        rank = int(0.995 * (fluid.size - 1))
        reach = nice_ceiling(float(np.partition(np.abs(fluid), rank)[rank]))
        return -reach, reach
    low, high = float(fluid.min()), float(fluid.max())
    step = nice_ceiling((high - low) / 8.0)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return low, high if high > low else low + step


def _to_levels(
    values: np.ndarray, low: float, high: float, logarithmic: bool, solid: np.ndarray | None, scale: int
) -> np.ndarray:
    """(nx, ny) values to (ny * scale, nx * scale) uint8 levels, row 0 on top; level 0 for what is not finite.

    Enlarged values follow the cubic B-spline over the cells, which turns the steps of a sharp interface
    into a smooth line; at scale 1 each pixel is its cell's value.
    """
    if logarithmic:
        values = np.log(np.maximum(values, np.float32(1e-30)))
        low, high = math.log(low), math.log(high)
    levels = (values - low) * (255.0 / (high - low))
    levels = np.clip(np.nan_to_num(levels, nan=0.0, posinf=255.0, neginf=0.0), 0.0, 255.0)
    if scale == 1:
        return (np.ascontiguousarray(levels.T[::-1]) + 0.5).astype(np.uint8)
    if solid is not None:
        levels = _extend_into(solid, levels)
    levels = (
        _add_neighbours(_add_neighbours(levels, 4.0), 4.0, axis=1) / 36.0
    )  # the B-spline at the cells' centres
    height, width = levels.shape[::-1]
    small = Image.fromarray((np.ascontiguousarray(levels.T[::-1]) + 0.5).astype(np.uint8))
    return np.asarray(small.resize((width * scale, height * scale), Image.Resampling.BICUBIC))


def _add_neighbours(values: np.ndarray, weight: float, axis: int = 0) -> np.ndarray:
    """``weight`` times every value plus its two neighbours along ``axis``; the edge goes on beyond."""
    total = weight * values
    source, target = (values, total) if axis == 0 else (values.T, total.T)
    target[1:] += source[:-1]
    target[:-1] += source[1:]
    target[0] += source[0]
    target[-1] += source[-1]
    return total


def _extend_into(solid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``values`` (nx, ny), the solid cells beside fluid replaced by its mean there: no halo around solids."""
    weights = (~solid).astype(np.float32)
    weighted = values * weights
    for axis in (0, 1):
        weights, weighted = _add_neighbours(weights, 1.0, axis), _add_neighbours(weighted, 1.0, axis)
    return np.where(solid & (weights > 0.0), weighted / np.maximum(weights, 1.0), values)


def _interface(fraction: np.ndarray) -> np.ndarray:
    """The heavy pixels (level 128 and above) that touch a light one: a line one pixel wide."""
    heavy = fraction >= LEVELS // 2
    line = np.zeros_like(heavy)
    line[:, 1:] |= heavy[:, 1:] > heavy[:, :-1]
    line[:, :-1] |= heavy[:, :-1] > heavy[:, 1:]
    line[1:] |= heavy[1:] > heavy[:-1]
    line[:-1] |= heavy[:-1] > heavy[1:]
    return line


@cache
def _line_colour(colormap: str) -> np.uint32:
    """White, or nearly black where the colormap itself is bright on the whole."""
    colours = colour_table(colormap).view(np.uint8).reshape(LEVELS, 4)[:, :3]
    bright = colours.mean() > 150.0
    return _pack(np.array([(20, 22, 28) if bright else (236, 246, 255)], np.uint8))[0]


def _pack(colours: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 colours to (n,) uint32 words whose bytes are R, G, B, 255."""
    opaque = np.full((len(colours), 1), 255, np.uint8)
    return np.ascontiguousarray(np.hstack([colours, opaque])).view(np.uint32)[:, 0]
