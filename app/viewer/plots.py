"""The live plots below the picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from imgui_bundle import imgui, implot

from app.picture import nice_ceiling
from app.viewer import axes, theme
from app.viewer.axes import Axis
from app.viewer.marks import Mark
from app.viewer.session import FRAMES, PHASES, Session

LEAST_WIDTH, LEAST_HEIGHT = 180.0, 125.0  # of a plot; in a smaller panel they are scrolled
GAP = 14.0  # between two entries of the legend
NEAR = 5.0  # pixels from a mark within which the mouse is on it
Size = tuple[float, float]


def draw_plots(session: Session) -> None:
    """Iterations, milliseconds, frames per second and the last solve's residual, side by side, or in rows
    where the panel is narrow and high; in continuous mode also what both methods took.
    """
    imgui.begin_child("plots", (0.0, 0.0), 0, imgui.WindowFlags_.horizontal_scrollbar)
    history, beside = session.history(), session.beside.companion
    plots: dict[str, Callable[[Size], None]] = {
        "Iterations": lambda size: _plot_iterations(session, history, size),
        "Milliseconds": lambda size: _plot_phases(history, size),
        "Frames per second": lambda size: _plot_rate(history, size),
        "Residual, last solve": lambda size: _plot_residuals(session, size),
    }
    if beside.method:
        plots = {"Both methods' solves": lambda size: _plot_both(session, history, size), **plots}
    _draw_legend(session, history)
    space, gap = imgui.get_content_region_avail(), imgui.get_style().item_spacing
    least = theme.scaled(LEAST_WIDTH)
    columns = min(max(int(space.x / least), 1), len(plots))
    rows = -(-len(plots) // columns)
    if space.y < rows * theme.scaled(LEAST_HEIGHT):
        columns, rows = len(plots), 1
    height = max((space.y + gap.y) / rows - gap.y, theme.scaled(LEAST_HEIGHT))
    size = max((space.x + gap.x) / columns - gap.x, least), height
    for number, (title, plot) in enumerate(plots.items()):
        if number % columns:
            imgui.same_line()
        if implot.begin_plot(title, size, axes.PLOT_FLAGS | implot.Flags_.no_legend):
            plot(size)
            if not title.startswith("Residual"):
                _draw_marks(session, history["frame"])
            implot.end_plot()
    imgui.end_child()


def _draw_legend(session: Session, history: dict[str, np.ndarray]) -> None:
    """What the colours mean, above all plots, in as many rows as it needs."""
    companion = session.beside.companion.method
    entries = [(name, theme.PHASES[name], hint) for name, (hint, *_) in PHASES.items() if name in history]
    if companion:
        entries += [("at work", theme.GREEN, "the preconditioner that the simulation uses")]
        entries += [(f"{companion} beside", theme.BESIDE, "the method of the continuous mode (tab Race)")]
    entries += [("a change", theme.TEXT, "of method, contrast, scene or grid: point at the line to read it")]
    entries += [("tolerance", theme.LEAF, "where the pressure solve may stop")]
    line, gap = imgui.get_text_line_height(), theme.scaled(GAP)
    room = imgui.get_cursor_screen_pos().x + imgui.get_content_region_avail().x
    right = -1.0
    for name, colour, hint in entries:
        if right >= 0.0 and right + gap + 1.3 * line + imgui.calc_text_size(name).x <= room:
            imgui.same_line(0.0, gap)
        imgui.begin_group()
        corner = imgui.get_cursor_screen_pos()
        box = (corner.x, corner.y + 0.2 * line), (corner.x + 0.7 * line, corner.y + 0.9 * line)
        imgui.get_window_draw_list().add_rect_filled(*box, theme.packed(colour))
        imgui.dummy((0.7 * line, line))
        imgui.same_line(0.0, 0.4 * line)
        imgui.text_colored(theme.MUTED, name)
        imgui.end_group()
        imgui.set_item_tooltip(hint)
        right = imgui.get_item_rect_max().x


def _frames(x: np.ndarray) -> Axis:
    """The last frames."""
    first = max(0.0, float(x.max(initial=0.0)) - FRAMES)
    return Axis("frame", first, first + FRAMES)


def _from_zero(name: str, values: np.ndarray, least: float = 1.0) -> Axis:
    """From zero to a little above nearly the largest value: the slowest frames, a hiccup each, would flatten
    all others.
    """
    rank = int(0.96 * (values.size - 1))
    typical = float(np.partition(values, rank)[rank]) if values.size else least
    return Axis(name, 0.0, nice_ceiling(1.25 * max(typical, least)))


def _plot_line(name: str, x: np.ndarray, y: np.ndarray, colour: theme.Colour | None = None) -> None:
    if y.size:
        implot.plot_line(name, x, y, implot.Spec(line_color=colour or theme.ACCENT, line_weight=1.5))


def _plot_iterations(session: Session, history: dict[str, np.ndarray], size: Size) -> None:
    """Of the method at work, and of the one that goes along; none at all lies on the lower edge."""
    x, y, companion = history["frame"], np.maximum(history["iterations"], 1.0), session.beside.companion
    both = companion.history()
    other = np.maximum(both["iterations"], 1.0)
    high = max(float(y.max(initial=9.0)), float(other.max(initial=9.0)))
    limits = axes.decades(1.0, high)
    axes.setup(_frames(x), Axis("iterations", *limits, True), size)
    _plot_line("at work", x, y, theme.GREEN if companion.method else theme.ACCENT)
    if companion.method:
        _plot_line(companion.method, both["frame"], other, theme.BESIDE)


def _plot_both(session: Session, history: dict[str, np.ndarray], size: Size) -> None:
    """Milliseconds of set-up, inference and iterations."""
    x, both = history["frame"], session.beside.companion.history()
    y = history["set-up + inference"] + history["solve"]
    axes.setup(_frames(x), _from_zero("ms", np.concatenate([y, both["ms"]])), size)
    _plot_line("at work", x, y, theme.GREEN)
    _plot_line(session.beside.companion.method, both["frame"], both["ms"], theme.BESIDE)


def _plot_rate(history: dict[str, np.ndarray], size: Size) -> None:
    axes.setup(_frames(history["frame"]), _from_zero("frames/s", history["fps"]), size)
    _plot_line("##values", history["frame"], history["fps"])


def _plot_phases(history: dict[str, np.ndarray], size: Size) -> None:
    """The phases of a frame on top of each other, so that the upper edge is the whole frame."""
    x, names = history["frame"], [name for name in PHASES if name in history]
    edges = np.cumsum([np.zeros_like(x), *(history[name] for name in names)], axis=0)
    axes.setup(_frames(x), _from_zero("ms a frame", edges[-1]), size)
    for name, lower, upper in zip(names, edges[:-1], edges[1:], strict=True):
        colour = theme.PHASES[name]
        implot.plot_shaded(name, x, lower, upper, implot.Spec(fill_color=colour, line_color=colour))


def _draw_marks(session: Session, x: np.ndarray) -> None:
    """A line where something was changed; what it was, where the mouse is on it."""
    first = max(0.0, float(x.max(initial=0.0)) - FRAMES)
    marks = [mark for mark in list(session.marks.latest) if mark.frame >= first]
    if not marks:
        return
    places = np.array([mark.frame + 0.5 for mark in marks])
    implot.plot_inf_lines("##marks", places, implot.Spec(line_color=theme.TEXT))
    corner, size, mouse = implot.get_plot_pos(), implot.get_plot_size(), imgui.get_io().mouse_pos
    if not imgui.is_mouse_hovering_rect(corner, (corner.x + size.x, corner.y + size.y)):
        return
    offsets = [abs(implot.plot_to_pixels(place, 1.0).x - mouse.x) for place in places]
    on = [mark for mark, offset in zip(marks, offsets, strict=True) if offset <= theme.scaled(NEAR)]
    if on:
        imgui.set_tooltip("\n".join(map(_told, on)))


def _told(mark: Mark) -> str:
    """A mark in words."""
    value = mark.value
    if isinstance(value, tuple):
        value = " x ".join(map(str, value))
    elif isinstance(value, float):
        value = theme.number(value)
    return f"after frame {mark.frame:,}: {mark.name} {value}"


def _plot_residuals(session: Session, size: Size) -> None:
    tolerance = session.engine.settings.simulation.rtol
    residuals = np.asarray(session.engine.residual_history, dtype=np.float64)
    residuals = np.where(residuals > 1e-18, residuals, 1e-18)  # also for what is not a number
    limits = axes.decades(
        0.6 * min(float(residuals.min(initial=1.0)), tolerance),
        1.2 * max(float(residuals.max(initial=1.0)), 10.0 * tolerance),
    )
    right = nice_ceiling(max(10.0, len(residuals) - 1.0))
    y = Axis("relative residual", *limits, True)
    axes.setup(Axis("iteration", 0.0, right), y, size)
    line = implot.Spec(line_color=theme.LEAF, line_weight=1.5, flags=implot.InfLinesFlags_.horizontal)
    implot.plot_inf_lines("tolerance", np.array([tolerance]), line)
    _plot_line("residual", np.arange(residuals.size, dtype=np.float64), residuals)
