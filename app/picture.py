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
from numpy.typing import ArrayLike
from PIL import Image

if TYPE_CHECKING:
    from sim.simulation import Simulation

_FIELDS = {  # unit and colormap
    "density": ("kg/m³", "fluid"),
    "pressure": ("Pa", "viridis"),
    "speed": ("m/s", "magma"),
    "vorticity": ("1/s", "berlin"),
    "divergence": ("1/s", "coolwarm"),
}
VIEWS = tuple(_FIELDS)
SIGNED = ("vorticity", "divergence")  # shown in a range symmetric about zero
LEVELS = 256
SOLID_COLOUR = (142, 116, 88)
_SOURCES = {
    "fluid": ["#0d1526", "#123258", "#1c64ad", "#3fa4e8"],  # light phase, to heavy phase
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
        return self.colormap or _FIELDS[self.field][1]

    @property
    def unit(self) -> str:
        """Unit of the field."""
        return _FIELDS[self.field][0]

    @property
    def logarithmic(self) -> bool:
        """Whether the colours follow the logarithm of the value."""
        return self.field == "density"


@dataclass(frozen=True)
class Scale:
    """Colours from ``low`` to ``high``, even in the value or in its logarithm; ``whole``: of a count."""

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False

    def share(self, values: np.ndarray | float) -> np.ndarray:
        """Where ``values`` lie between ``low`` (0) and ``high`` (1), cut off there; 0 for NaN."""
        low, high = self.low, self.high
        if self.logarithmic:
            values, low, high = np.log(np.maximum(values, 1e-30)), math.log(low), math.log(high)
        share = (values - low) * (1.0 / (high - low))
        return np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Rows of a colour table for ``values``, int64."""
        return np.rint(self.share(values) * (LEVELS - 1)).astype(np.int64)


@dataclass(frozen=True)
class Picture:
    """``rgba`` (height, width, 4) uint8, row 0 on top; ``values`` (nx, ny) float32 and what colours them."""

    rgba: np.ndarray
    values: np.ndarray
    scale: Scale


def render(simulation: Simulation, view: View, scale: int = 1) -> np.ndarray:
    """Draw ``view`` as a (ny * scale, nx * scale, 3) uint8 image, row 0 on top."""
    return np.ascontiguousarray(draw(simulation, view, scale).rgba[..., :3])


def draw(simulation: Simulation, view: View, scale: int = 1) -> Picture:
    """Draw ``view`` with ``scale`` pixels to a cell; see Picture."""
    values = simulation.field(view.field)  # (nx, ny)
    solid = simulation.solid_mask()  # (nx, ny)
    walls = solid if solid.any() else None
    fluid = values.ravel() if walls is None else values[~solid]
    limits = view.range if view.range != "auto" else _automatic_range(simulation, view, fluid)
    colours = Scale(*limits, view.logarithmic)
    pixels = np.take(colour_table(view.colours), _enlarged(values, colours, walls, scale))  # RGBA words
    if view.interface:
        heavy = _enlarged(simulation.phase_fraction(), Scale(0.0, 1.0), walls, scale) >= LEVELS // 2
        np.copyto(pixels, _line_colour(view.colours), where=_interface(heavy))
    if walls is not None:
        mask = solid.T[::-1].repeat(scale, axis=0).repeat(scale, axis=1)
        np.copyto(pixels, _pack([SOLID_COLOUR])[0], where=mask)
    return Picture(pixels.view(np.uint8).reshape(*pixels.shape, 4), values, colours)


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
    return _pack(np.rint(255.0 * colours))


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


def _enlarged(values: np.ndarray, colours: Scale, solid: np.ndarray | None, scale: int) -> np.ndarray:
    """(nx, ny) values to (ny * scale, nx * scale) uint8 levels, row 0 on top; level 0 for what is not finite.

    Enlarged values follow the cubic B-spline over the cells, which turns the steps of a sharp interface
    into a smooth line; at scale 1 each pixel is its cell's value.
    """
    levels = 255.0 * colours.share(values)
    if scale > 1:
        if solid is not None:
            levels = _extend_into(solid, levels)
        levels = _with_neighbours(levels, 4.0) * np.float32(1.0 / 36.0)  # the B-spline at the cells' centres
    image = np.ascontiguousarray(levels.T[::-1] + 0.5).astype(np.uint8)  # (ny, nx)
    if scale == 1:
        return image
    size = image.shape[1] * scale, image.shape[0] * scale
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _with_neighbours(values: np.ndarray, weight: float) -> np.ndarray:
    """``weight`` times every value plus its two neighbours, along both axes; the edge goes on beyond."""
    padded = np.pad(values, 1, mode="edge")
    padded = padded[:-2] + weight * padded[1:-1] + padded[2:]
    return padded[:, :-2] + weight * padded[:, 1:-1] + padded[:, 2:]


def _extend_into(solid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``values`` (nx, ny), the solid cells beside fluid replaced by its mean there: no halo around solids."""
    fluid = (~solid).astype(np.float32)
    count, total = _with_neighbours(fluid, 1.0), _with_neighbours(values * fluid, 1.0)
    return np.where(solid & (count > 0.0), total / np.maximum(count, 1.0), values)


def _interface(heavy: np.ndarray) -> np.ndarray:
    """The heavy pixels that touch a light one: a line one pixel wide."""
    around = np.pad(heavy, 1, mode="edge")
    inner = around[1:-1, :-2] & around[1:-1, 2:] & around[:-2, 1:-1] & around[2:, 1:-1]
    return heavy & ~inner


@cache
def _line_colour(colormap: str) -> np.uint32:
    """White, or nearly black where the colormap itself is bright on the whole."""
    bright = colour_table(colormap).view(np.uint8).reshape(LEVELS, 4)[:, :3].mean() > 150.0
    return _pack([(20, 22, 28) if bright else (236, 246, 255)])[0]


def _pack(colours: ArrayLike) -> np.ndarray:
    """(n, 3) colours to (n,) uint32 words whose bytes are R, G, B, 255."""
    return np.insert(np.asarray(colours, np.uint8), 3, 255, axis=1).view(np.uint32)[:, 0]
