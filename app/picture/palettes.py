"""Colours: known colormaps, and palettes for two fluids that people with any colour vision tell apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from cmap import Colormap
from numpy.typing import ArrayLike

LEVELS = 256
SOLID_COLOUR = (142, 116, 88)
SOURCE_COLOURS = {"heavy source": (112, 230, 250), "light source": (204, 184, 250), "drain": (242, 107, 102)}
_SOURCES = {
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


@dataclass(frozen=True)
class Palette:
    """Colours of the light and the heavy fluid from dark to bright, of what lies between the two on a colour
    bar, of solids, and of the line between the fluids.
    """

    light: tuple[str, ...]
    heavy: tuple[str, ...]
    between: str
    solid: str
    line: str


PALETTES = {
    "fluid": Palette(
        light=("#0a101f", "#0e172b", "#142140"),
        heavy=("#0c3f94", "#1f7ad2", "#3fa0ec", "#9ee2ff"),
        between="#0c3f94",
        solid="#b8946c",
        line="#ecfaff",
    ),
    "ember": Palette(
        light=("#100d13", "#17121a", "#221a22"),
        heavy=("#9c2410", "#e2561b", "#f58a2c", "#ffdc7d"),
        between="#9c2410",
        solid="#64869d",
        line="#fff4d2",
    ),
    "paper": Palette(
        light=("#ebe2cf", "#f3ebdb", "#faf4e8"),
        heavy=("#173362", "#245490", "#3a78b4", "#79b3d9"),
        between="#79b3d9",
        solid="#bf6a3f",
        line="#0f2344",
    ),
}
COLORMAPS = (*PALETTES, *_SOURCES)


@cache
def colour_table(name: str) -> np.ndarray:
    """The LEVELS colours of a colormap, low to high, as (LEVELS,) uint32 words whose bytes are R, G, B, A."""
    return _pack(np.rint(_colours(name)))


@cache
def _colours(name: str) -> np.ndarray:
    """The same as (LEVELS, 3) float64, 0 to 255."""
    if name not in PALETTES:
        return 255.0 * Colormap(_SOURCES[name]).lut(LEVELS)[:, :3]
    palette = PALETTES[name]
    return _ramp((palette.light[1], palette.between, palette.heavy[1]))


@lru_cache(maxsize=8)
def fluid_inks(name: str, share: float) -> np.ndarray:
    """(LEVELS, 3) float32 colours, dark to bright, of a fluid at ``share`` (0 to 1) of a colormap."""
    if name in PALETTES:
        palette = PALETTES[name]
        inks = (1.0 - share) * _ramp(palette.light) + share * _ramp(palette.heavy)
    else:
        bright = np.linspace(0.0, 1.0, LEVELS)[:, None]
        base = _colours(name)[round(share * (LEVELS - 1))]
        inks = base * (0.72 + 0.34 * bright) + 70.0 * bright**3
    return np.minimum(inks, 255.0).astype(np.float32)


def flat_inks(name: str, share: float) -> np.ndarray:
    """The colour at ``share`` alone, as often as `fluid_inks`."""
    return np.tile(_colours(name)[round(share * (LEVELS - 1))], (LEVELS, 1)).astype(np.float32)


def value_inks(name: str) -> np.ndarray:
    """(LEVELS, 3) float32: the colormap itself."""
    return _colours(name).astype(np.float32)


@cache
def solid_ink(name: str) -> np.ndarray:
    """(3,) float32: the colour of solids beside a colormap."""
    return _rgb(PALETTES[name].solid) if name in PALETTES else np.array(SOLID_COLOUR, np.float32)


@cache
def line_ink(name: str) -> np.ndarray:
    """(3,) float32: a palette's own, else white, or nearly black where the colormap is bright on average."""
    if name in PALETTES:
        return _rgb(PALETTES[name].line)
    bright = _colours(name).mean() > 150.0
    return np.array((20, 22, 28) if bright else (236, 246, 255), np.float32)


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)], np.float32)


def _ramp(colours: tuple[str, ...]) -> np.ndarray:
    """(LEVELS, 3) float64 along ``colours`` at even distances."""
    stops = np.array([_rgb(colour) for colour in colours])
    places = np.linspace(0.0, len(stops) - 1.0, LEVELS)
    return np.stack([np.interp(places, np.arange(len(stops)), channel) for channel in stops.T], axis=1)


def _pack(colours: ArrayLike) -> np.ndarray:
    """(n, 3) colours to (n,) uint32 words whose bytes are R, G, B, 255."""
    return np.insert(np.asarray(colours, np.uint8), 3, 255, axis=1).view(np.uint32)[:, 0]
