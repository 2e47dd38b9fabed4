"""The live plots below the picture."""

from __future__ import annotations

import math

import numpy as np
from imgui_bundle import imgui, implot

from app.picture import nice_ceiling
from app.viewer import theme
from app.viewer.history import FRAMES, History
from app.viewer.session import Session

PLOT_FLAGS = (
    implot.Flags_.no_menus
    | implot.Flags_.no_box_select
    | implot.Flags_.no_mouse_text
    | implot.Flags_.no_inputs
)
AXIS_FLAGS = implot.AxisFlags_.no_highlight | implot.AxisFlags_.no_tick_marks
COUNT = 4


def draw_plots(session: Session) -> None:
    """Iterations, milliseconds, frames per second and the last solve's residual, side by side."""
    space = imgui.get_content_region_avail()
    gap = imgui.get_style().item_spacing.x
    size = ((space.x - (COUNT - 1) * gap) / COUNT, space.y)
    _plot_history("Iterations", session.history, "iterations", size, least=9.0)
    imgui.same_line()
    _plot_milliseconds(session.history, size)
    imgui.same_line()
    _plot_history("Frames per second", session.history, "fps", size)
    imgui.same_line()
    _plot_residuals(session, size)


def _begin(title: str, size: tuple[float, float], x: np.ndarray, top: float) -> bool:
    """Begin a plot over the last frames, from zero to a little above ``top``."""
    if not implot.begin_plot(title, size, PLOT_FLAGS):
        return False
    implot.setup_axes("", "", AXIS_FLAGS, AXIS_FLAGS)
    last = float(x[-1]) if x.size else 0.0
    first = max(0.0, last - FRAMES)
    implot.setup_axes_limits(first, first + FRAMES, 0.0, nice_ceiling(1.05 * top), implot.Cond_.always)
    implot.setup_legend(implot.Location_.north_west, implot.LegendFlags_.horizontal)
    return True


def _line(colour: tuple) -> implot.Spec:
    return implot.Spec(line_color=colour, line_weight=1.5)


def _plot_history(
    title: str, history: History, name: str, size: tuple[float, float], least: float = 1.0
) -> None:
    x, y = history["frame"], history[name]
    if _begin(title, size, x, float(y.max(initial=least))):
        if y.size:
            implot.plot_line(f"##{name}", x, y, _line(theme.ACCENT))
        implot.end_plot()


def _plot_milliseconds(history: History, size: tuple[float, float]) -> None:
    """The phases of a frame on top of each other, so that the upper edge is the whole frame."""
    x = history["frame"]
    parts = {
        "sim": history["sim_ms"],
        "setup": history["setup_ms"] + history["inference_ms"],
        "solve": history["solve_ms"],
        "draw": history["draw_ms"],
    }
    edges = np.cumsum(np.vstack([np.zeros_like(x), *parts.values()]), axis=0)  # (5, frames)
    if _begin("Milliseconds", size, x, _typical_top(edges[-1])):
        for name, lower, upper in zip(parts, edges[:-1], edges[1:], strict=True):
            colour = implot.Spec(fill_color=theme.PHASES[name], line_color=theme.PHASES[name])
            implot.plot_shaded(name, x, lower, upper, colour)
        implot.end_plot()


def _typical_top(values: np.ndarray) -> float:
    """Nearly the largest value: the slowest frames, a hiccup each, would flatten all others."""
    if values.size == 0:
        return 1.0
    rank = int(0.96 * (values.size - 1))
    return 1.2 * float(np.partition(values, rank)[rank])


def _plot_residuals(session: Session, size: tuple[float, float]) -> None:
    tolerance = session.engine.settings.simulation.rtol
    residuals = np.asarray(session.engine.residual_history, dtype=np.float64)
    residuals = np.where(residuals > 1e-18, residuals, 1e-18)  # also for what is not a number
    if not implot.begin_plot("Residual, last solve", size, PLOT_FLAGS):
        return
    low = min(float(residuals.min(initial=1.0)), tolerance)
    high = max(float(residuals.max(initial=1.0)), 10.0 * tolerance)
    limits = (10.0 ** math.floor(math.log10(low) - 0.2), 10.0 ** math.ceil(math.log10(high) + 0.1))
    implot.setup_axes("", "", AXIS_FLAGS, AXIS_FLAGS)
    implot.setup_axis_scale(implot.ImAxis_.y1, implot.Scale_.log10)
    right = nice_ceiling(max(10.0, len(residuals) - 1.0))
    implot.setup_axes_limits(0.0, right, *limits, implot.Cond_.always)
    implot.setup_legend(implot.Location_.north_east)
    horizontal = implot.Spec(
        line_color=theme.PHASES["setup"], line_weight=1.5, flags=implot.InfLinesFlags_.horizontal
    )
    implot.plot_inf_lines("tolerance", np.array([tolerance]), horizontal)
    if residuals.size:
        implot.plot_line(
            "##residual", np.arange(residuals.size, dtype=np.float64), residuals, _line(theme.ACCENT)
        )
    implot.end_plot()
