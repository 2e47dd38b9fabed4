"""Pictures of a simulation; `draw` and `render` make them of what a `View` asks for."""

from app.picture.drawing import MOST_PIXELS, Picture, blank, draw, render, save_png, size_of
from app.picture.palettes import COLORMAPS, LEVELS, PALETTES, SOLID_COLOUR, colour_table
from app.picture.tracers import Tracers
from app.picture.view import SIGNED, VIEWS, Scale, View, nice_ceiling

__all__ = [
    "COLORMAPS",
    "LEVELS",
    "MOST_PIXELS",
    "PALETTES",
    "SIGNED",
    "SOLID_COLOUR",
    "VIEWS",
    "Picture",
    "Scale",
    "Tracers",
    "View",
    "blank",
    "colour_table",
    "draw",
    "nice_ceiling",
    "render",
    "save_png",
    "size_of",
]
