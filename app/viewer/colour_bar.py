"""The bar that says what colours stand for, and where to write numbers beside it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from imgui_bundle import imgui

from app.picture import LEVELS, Scale, colour_table
from app.viewer import theme

BAR_WIDTH = 14.0
SEGMENTS = 32


def draw_colour_bar(
    canvas: imgui.ImDrawList, colours: str, scale: Scale, unit: str, x: float, top: float, height: float
) -> None:
    """The colours from low (bottom) to high, values beside them, the unit on top."""
    line, bar = imgui.get_text_line_height(), theme.scaled(BAR_WIDTH)
    canvas.add_text((x, top - 0.2 * line), theme.packed(theme.MUTED), unit)
    top, height = top + 1.2 * line, max(height - 1.2 * line, 1.0)
    table = colour_table(colours)
    levels = [int(table[round((LEVELS - 1) * (1.0 - k / SEGMENTS))]) for k in range(SEGMENTS + 1)]
    for k, (upper, lower) in enumerate(pairwise(levels)):
        corners = (x, top + height * k / SEGMENTS), (x + bar, top + height * (k + 1) / SEGMENTS)
        canvas.add_rect_filled_multi_color(*corners, upper, upper, lower, lower)
    canvas.add_rect((x, top), (x + bar, top + height), theme.packed(theme.MUTED, 0.6))
    for value, label in ticks(scale):
        y = top + height * (1.0 - float(scale.share(value)))
        canvas.add_line((x + bar - 4.0, y), (x + bar, y), theme.packed(theme.TEXT))
        canvas.add_text((x + bar + 6.0, y - 0.5 * line), theme.packed(theme.TEXT), label)


def ticks(scale: Scale) -> list[tuple[float, str]]:
    """Round values on ``scale`` with their labels: powers of ten, or even steps."""
    low, high = scale.low, scale.high
    if scale.logarithmic:
        first, last = math.ceil(math.log10(low) - 1e-6), math.floor(math.log10(high) + 1e-6)
        values = [10.0**k for k in range(first, last + 1)]
        if len(values) < 2:
            return [(low, f"{low:.3g}"), (high, f"{high:.3g}")]
        values = [low] * (values[0] > 1.5 * low) + values + [high] * (high > 1.5 * values[-1])
        return [(min(max(value, low), high), theme.number(value)) for value in values]
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / 4.0))
    steps = [m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if span / (m * power) <= 9.0]
    step = next(step for step in steps if not scale.whole or step.is_integer())
    values = np.arange(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1) * step
    return [(float(value), theme.number(value + 0.0)) for value in values]
