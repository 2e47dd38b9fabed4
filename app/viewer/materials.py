"""What the brush can hold: the materials, their colours and keys, and the hand that moves obstacles."""

from __future__ import annotations

from typing import NamedTuple

from app.picture.palettes import SOURCE_COLOURS

Colour = tuple[float, float, float, float]
MOVE = "move"


class Material(NamedTuple):
    """How a material looks in the palette and at the cursor, its key, and what it does."""

    colour: Colour
    key: str
    hint: str


def _source(kind: str) -> Colour:
    """As pictures show it."""
    red, green, blue = SOURCE_COLOURS[kind]
    return red / 255.0, green / 255.0, blue / 255.0, 1.0


MATERIALS = {  # those of sim.simulation.PAINTS, in the order of the palette, and the hand
    "heavy": Material((0.25, 0.64, 0.91, 1.0), "Q", "the heavy fluid"),
    "light": Material((0.13, 0.22, 0.40, 1.0), "W", "the light fluid"),
    "solid": Material((0.56, 0.45, 0.35, 1.0), "E", "a solid, which nothing flows through"),
    "erase": Material((0.62, 0.66, 0.72, 1.0), "X", "takes away solids, sources and drains"),
    "heavy source": Material(_source("heavy source"), "A", "heavy fluid wells up, where a drain takes it"),
    "light source": Material(_source("light source"), "S", "light fluid wells up, where a drain takes it"),
    "drain": Material(_source("drain"), "D", "takes as much as the sources bring in"),
    MOVE: Material((0.96, 0.73, 0.32, 1.0), "F", "drags an obstacle, with either button"),
}
