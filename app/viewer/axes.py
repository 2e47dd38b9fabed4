"""Axes of all plots: named with their units, round numbers on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from imgui_bundle import implot

from app.viewer import theme

_FLAG, _AXIS = implot.Flags_, implot.AxisFlags_
PLOT_FLAGS = _FLAG.no_menus | _FLAG.no_box_select | _FLAG.no_mouse_text | _FLAG.no_inputs
AXIS_FLAGS = _AXIS.no_highlight | _AXIS.no_tick_marks
LABEL_WIDTH, LABEL_HEIGHT = 52.0, 30.0  # pixels that one number takes
FRAME_SPACE = 60.0  # of a plot's width and height that the numbers and names around it take


@dataclass(frozen=True)
class Axis:
    """``name`` with its unit, and what it spans; from ``low`` > 0 where ``logarithmic``."""

    name: str
    low: float
    high: float
    logarithmic: bool = False


def setup(x: Axis, y: Axis, size: tuple[float, float]) -> None:
    """Set the axes of the plot that was begun with ``size`` in pixels; the ranges stay as they are given."""
    implot.setup_axes(x.name, y.name, AXIS_FLAGS, AXIS_FLAGS)
    room = size[0] / theme.scaled(LABEL_WIDTH), size[1] / theme.scaled(LABEL_HEIGHT)
    taken = FRAME_SPACE / LABEL_WIDTH, FRAME_SPACE / LABEL_HEIGHT
    places = zip((implot.ImAxis_.x1, implot.ImAxis_.y1), (x, y), room, taken, strict=True)
    for place, axis, labels, lost in places:
        if axis.logarithmic:
            implot.setup_axis_scale(place, implot.Scale_.log10)
        values = ticks(axis, max(2, int(labels - lost)))
        implot.setup_axis_ticks(place, values, [label(value) for value in values], False)
        implot.setup_axis_limits(place, axis.low, axis.high, implot.Cond_.always)


def ticks(axis: Axis, most: int) -> list[float]:
    """Round values on ``axis``, two or more and about ``most``: powers of ten, or 1, 2 or 5 times one
    apart.
    """
    if axis.logarithmic:
        first = math.ceil(math.log10(axis.low) - 1e-9)
        last = math.floor(math.log10(axis.high) + 1e-9)
        stride = max(1, math.ceil((last - first + 1) / most))
        powers = [10.0**power for power in range(last, first - 1, -stride)][::-1]
        return powers if len(powers) > 1 else [axis.low, axis.high]
    rough = (axis.high - axis.low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= rough * (1.0 - 1e-9))
    values: list[float] = []
    while len(values) < 2:
        first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
        values = [step * number for number in range(first, last + 1)]
        step /= 2.0
    return values


def label(value: float) -> str:
    """A number at an axis: "10,000", "0.5", "1e-8"."""
    small = 0.0 < abs(value) < 1e-3
    return f"{value:.0e}".replace("e-0", "e-") if small else theme.number(value)


def decades(low: float, high: float) -> tuple[float, float]:
    """The powers of ten around two positive numbers."""
    bottom, top = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return 10.0**bottom, 10.0 ** max(top, bottom + 1)
