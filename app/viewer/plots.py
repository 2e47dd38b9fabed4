"""The live plots below the picture."""

from __future__ import annotations

import math

import numpy as np
from imgui_bundle import imgui, implot

from app.picture import nice_ceiling
from app.viewer import theme
from app.viewer.session import FRAMES, PHASES, Session

_FLAG = implot.Flags_
PLOT_FLAGS = _FLAG.no_menus | _FLAG.no_box_select | _FLAG.no_mouse_text | _FLAG.no_inputs
AXIS_FLAGS = implot.AxisFlags_.no_highlight | implot.AxisFlags_.no_tick_marks
LEGEND_HEIGHT = 190.0  # a lower plot would vanish under its legend
LEAST_HEIGHT = 130.0  # of a row of plots, where there are several
LEAST_WIDTH = 190.0  # of a plot; in a narrower panel they are scrolled


def draw_plots(session: Session) -> None:
    """Iterations, milliseconds, frames per second and the last solve's residual, side by side, or in rows
    where the panel is narrow and high.
    """
    imgui.begin_child("plots", (0.0, 0.0), 0, imgui.WindowFlags_.horizontal_scrollbar)
    history = session.history()
    plots = {
        "Iterations": lambda: _plot_iterations(session, history),
        "Milliseconds": lambda: _plot_phases(history),
        "Frames per second": lambda: _plot_history(history["frame"], history["fps"], "frames/s"),
        "Residual, last solve": lambda: _plot_residuals(session),
    }
    space, gap = imgui.get_content_region_avail(), imgui.get_style().item_spacing
    least = theme.scaled(LEAST_WIDTH)
    columns = min(max(int(space.x / least), 1), len(plots))
    rows = -(-len(plots) // columns)
    if space.y < rows * theme.scaled(LEAST_HEIGHT):
        columns, rows = len(plots), 1
    width = max((space.x + gap.x) / columns - gap.x, least)
    height = max((space.y + gap.y) / rows - gap.y, 1.0)
    for number, (title, plot) in enumerate(plots.items()):
        if number % columns:
            imgui.same_line()
        low = height < theme.scaled(LEGEND_HEIGHT)  # the strip above the picture has the same colours
        flags = PLOT_FLAGS | (implot.Flags_.no_legend if low else 0)
        if implot.begin_plot(title, (width, height), flags):
            plot()
            implot.end_plot()
    imgui.end_child()


def _setup_frames(x: np.ndarray, top: float, unit: str) -> None:
    """Axes over the last frames, from zero to a little above ``top``."""
    implot.setup_axes("frame", unit, AXIS_FLAGS, AXIS_FLAGS)
    first = max(0.0, float(x.max(initial=0.0)) - FRAMES)
    implot.setup_axes_limits(first, first + FRAMES, 0.0, nice_ceiling(1.05 * top), implot.Cond_.always)
    implot.setup_legend(implot.Location_.north_west)


def _plot_iterations(session: Session, history: dict[str, np.ndarray]) -> None:
    """With a line where another method took over."""
    _plot_history(history["frame"], history["iterations"], "iterations", least=9.0)
    if (switches := session.switches()).size:
        implot.plot_inf_lines("other method", switches, implot.Spec(line_color=theme.AMBER))


def _plot_history(x: np.ndarray, y: np.ndarray, unit: str, least: float = 1.0) -> None:
    _setup_frames(x, max(_typical_top(y), least), unit)
    _plot_line(x, y)


def _plot_line(x: np.ndarray, y: np.ndarray) -> None:
    if y.size:
        implot.plot_line("##values", x, y, implot.Spec(line_color=theme.ACCENT, line_weight=1.5))


def _plot_phases(history: dict[str, np.ndarray]) -> None:
    """The phases of a frame on top of each other, so that the upper edge is the whole frame."""
    x, names = history["frame"], [name for name in PHASES if name in history]
    edges = np.cumsum([np.zeros_like(x), *(history[name] for name in names)], axis=0)
    _setup_frames(x, _typical_top(edges[-1]), "ms")
    for name, lower, upper in zip(names, edges[:-1], edges[1:], strict=True):
        colour = theme.PHASES[name]
        implot.plot_shaded(name, x, lower, upper, implot.Spec(fill_color=colour, line_color=colour))


def _typical_top(values: np.ndarray) -> float:
    """Nearly the largest value: the slowest frames, a hiccup each, would flatten all others."""
    if values.size == 0:
        return 1.0
    rank = int(0.96 * (values.size - 1))
    return 1.2 * float(np.partition(values, rank)[rank])


def _plot_residuals(session: Session) -> None:
    tolerance = session.engine.settings.simulation.rtol
    residuals = np.asarray(session.engine.residual_history, dtype=np.float64)
    residuals = np.where(residuals > 1e-18, residuals, 1e-18)  # also for what is not a number
    low = min(float(residuals.min(initial=1.0)), tolerance)
    high = max(float(residuals.max(initial=1.0)), 10.0 * tolerance)
    limits = (10.0 ** math.floor(math.log10(low) - 0.2), 10.0 ** math.ceil(math.log10(high) + 0.1))
    implot.setup_axes("iteration", "relative residual", AXIS_FLAGS, AXIS_FLAGS)
    implot.setup_axis_scale(implot.ImAxis_.y1, implot.Scale_.log10)
    right = nice_ceiling(max(10.0, len(residuals) - 1.0))
    implot.setup_axes_limits(0.0, right, *limits, implot.Cond_.always)
    implot.setup_legend(implot.Location_.north_east)
    line = implot.Spec(line_color=theme.AMBER, line_weight=1.5, flags=implot.InfLinesFlags_.horizontal)
    implot.plot_inf_lines("tolerance", np.array([tolerance]), line)
    _plot_line(np.arange(residuals.size, dtype=np.float64), residuals)
