"""The tab of the race: who solves this frame how fast, and a second method on every frame."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from imgui_bundle import icons_fontawesome_4 as icons
from imgui_bundle import imgui, implot

from app.race.lane import PARTS, UNAVAILABLE, Lane, count, ranked, sentence
from app.race.race import TYPICAL_MS
from app.viewer import axes, theme
from app.viewer.axes import Axis
from app.viewer.session import Session

LEAST_HEIGHT = 140.0  # of the table and the plots; in a lower or narrower panel they are scrolled
TABLE_WIDTH, PLOT_WIDTH = 530.0, 200.0
PARTS_NAMES = {"setup": "set-up", "inference": "inference", "solve": "solve"}
HEADINGS = {  # with their columns' widths; the last one takes what is left
    "": 22.0,
    "method": 110.0,
    "how it ended": 108.0,
    "iterations": 62.0,
    "ms": 48.0,
    "time in parts": 0.0,
}
INVITATION = (
    "One frame's pressure system, solved by every method from nothing, one after the other, under the same "
    "tolerance, while the fluids go on: who needs the fewest iterations, and who the least time?"
)
LOWEST = 1e-18  # a residual must be positive on its axis


class RacePanel:
    """Draws a session's race. ``pointed``: the method whose row the mouse is on."""

    def __init__(self) -> None:
        self.pointed = ""

    def draw(self, session: Session) -> None:
        """Draw into the current window."""
        race = session.beside.race
        imgui.begin_child("race", (0.0, 0.0))
        _draw_choices(session)
        if race.message:
            theme.say(race.message, theme.RED)
        if race.system is None:
            theme.say(INVITATION)
        else:
            theme.say(_context(session))
            theme.say(sentence(race.lanes), theme.TEXT)
            height = max(imgui.get_content_region_avail().y, theme.scaled(LEAST_HEIGHT))
            imgui.begin_child("results", (0.0, height), 0, imgui.WindowFlags_.horizontal_scrollbar)
            self._draw_results(race.lanes, race.system.rtol)
            imgui.end_child()
        imgui.end_child()

    def _draw_results(self, lanes: list[Lane], tolerance: float) -> None:
        """The table and two plots side by side."""
        space = imgui.get_content_region_avail()
        height, gap = space.y, imgui.get_style().item_spacing.x
        table = theme.scaled(TABLE_WIDTH)
        width = max(0.5 * (space.x - table - 2.0 * gap), theme.scaled(PLOT_WIDTH))
        self._draw_table(lanes, (table, height))
        for title, name in (("Against iterations", "iteration"), ("Against time", "ms, set-up included")):
            imgui.same_line()
            if implot.begin_plot(title, (width, height), axes.PLOT_FLAGS | implot.Flags_.no_legend):
                self._plot(lanes, tolerance, name, (width, height))
                implot.end_plot()

    def _plot(self, lanes: list[Lane], tolerance: float, name: str, size: tuple[float, float]) -> None:
        """Every lane's residuals; the one pointed at stands out."""
        by_time = name.startswith("ms")
        curves = {}
        for lane in lanes:
            if len(lane.residuals):
                x = lane.milliseconds if by_time else np.arange(len(lane.residuals)) + 1.0
                y = np.where(lane.residuals > LOWEST, lane.residuals, LOWEST)
                curves[lane.method] = np.maximum(x, 0.1), np.where(np.isfinite(y), y, 1.0)
        xs = [x for x, _ in curves.values()] or [np.array([1.0, 10.0])]
        ys = [y for _, y in curves.values()] or [np.ones(1)]
        least, most = min(float(x[0]) for x in xs), max(float(x[-1]) for x in xs)
        across = Axis(
            name if by_time else "iteration + 1", *axes.decades(least, max(most, 2.0 * least)), True
        )
        low = max(min(float(y.min()) for y in ys), 1e-3 * tolerance)
        limits = axes.decades(min(low, 0.9 * tolerance), max(1.0, *(float(y.max()) for y in ys)))
        axes.setup(across, Axis("relative residual", *limits, True), size)
        line = implot.Spec(line_color=theme.MUTED, flags=implot.InfLinesFlags_.horizontal)
        implot.plot_inf_lines("tolerance", np.array([tolerance]), line)
        for lane in lanes:
            if lane.method in curves:
                seen = not self.pointed or self.pointed == lane.method
                colour = (*method_colour(lane.method)[:3], 1.0 if seen else 0.25)
                weight = 3.0 if self.pointed == lane.method else 1.5
                x, y = curves[lane.method]
                implot.plot_line(lane.method, x, y, implot.Spec(line_color=colour, line_weight=weight))
                end = implot.Spec(marker=implot.Marker_.circle if lane.converged else implot.Marker_.cross)
                end.marker_line_color = end.marker_fill_color = imgui.ImVec4(*colour)
                implot.plot_scatter(f"{lane.method}##end", x[-1:], y[-1:], end)

    def _draw_table(self, lanes: list[Lane], size: tuple[float, float]) -> None:
        flag = imgui.TableFlags_
        flags = flag.scroll_y | flag.row_bg | flag.sizing_fixed_fit | flag.no_saved_settings
        self.pointed = ""
        if not imgui.begin_table("lanes", len(HEADINGS), flags, size):
            return
        imgui.table_setup_scroll_freeze(0, 1)
        column = imgui.TableColumnFlags_
        for heading, width in HEADINGS.items():
            how = column.width_fixed if width else column.width_stretch
            imgui.table_setup_column(heading, how, theme.scaled(width) if width else 1.0)
        imgui.table_headers_row()
        longest = max((lane.total_ms for lane in lanes if lane.converged), default=1.0)
        rank = 0
        for lane in ranked(lanes):
            rank += lane.converged
            imgui.table_next_row()
            imgui.table_next_column()
            imgui.text(f"{rank}." if lane.converged else "-")
            imgui.table_next_column()
            imgui.text_colored(method_colour(lane.method), lane.method)
            self._tell(lane)
            imgui.table_next_column()
            imgui.text_colored(theme.TEXT if lane.converged else theme.RED, lane.words)
            self._tell(lane)
            for text in (f"{lane.iterations:,}", f"{lane.total_ms:,.1f}"):
                imgui.table_next_column()
                if lane.outcome != UNAVAILABLE:
                    room = imgui.get_content_region_avail().x - imgui.calc_text_size(text).x
                    imgui.set_cursor_pos_x(imgui.get_cursor_pos_x() + max(room, 0.0))
                    imgui.text(text)
                    self._tell(lane)
            imgui.table_next_column()
            _draw_bar(lane, longest)
            self._tell(lane)
        imgui.end_table()

    def _tell(self, lane: Lane) -> None:
        """A tooltip, where the mouse is on what was drawn last."""
        if not imgui.is_item_hovered():
            return
        self.pointed = lane.method
        parts = [f"{name} {1e3 * lane.seconds[part]:,.2f} ms" for part, name in PARTS_NAMES.items()]
        each = 1e3 * lane.seconds["solve"] / max(lane.iterations, 1)
        lines = [lane.method, *parts, f"{each:,.3f} ms an iteration"]
        imgui.set_tooltip("\n".join(filter(None, [*lines, lane.reason])))


def _context(session: Session) -> str:
    """What is raced on."""
    race, system = session.beside.race, session.beside.race.system
    nx, ny = system.shape
    scene, contrast = Path(system.scene).stem, theme.number(float(f"{system.contrast:.4g}"))
    where = "" if session.engine.settings.simulation.device == "cpu" else ", on the CPU"
    return (
        f"frame {system.frame:,} of {scene}, {nx} x {ny} cells, contrast {contrast}, "
        f"tolerance {axes.label(system.rtol)}, at most {count(system.max_iterations, 'iteration')} and "
        f"{race.seconds:.3g} s for all; cold, one thread, ms of the processor{where}"
    )


def _draw_choices(session: Session) -> None:
    """The button, the tick list and the method of the continuous mode."""
    race, companion = session.beside.race, session.beside.companion
    imgui.begin_disabled(race.running or session.compiling)
    if imgui.button(f"{icons.ICON_FA_FLAG_CHECKERED}  Race on this frame (F5)###race"):
        session.ask(race.start)
    imgui.end_disabled()
    imgui.set_item_tooltip(
        "solve this frame's system with every ticked method; the simulation is not touched"
    )
    imgui.same_line()
    if imgui.button(f"{len(race.chosen)} of {len(race.names)} methods###methods"):
        imgui.open_popup("tick list")
    imgui.set_item_tooltip("which methods race")
    if imgui.begin_popup("tick list"):
        for text, chosen in (("all", set(race.names)), ("none of them", set())):
            if imgui.small_button(text):
                race.chosen = chosen
            imgui.same_line()
        imgui.new_line()
        for name in race.names:
            ticked, now = imgui.checkbox(name, name in race.chosen)
            imgui.set_item_tooltip(session.preconditioners.get(name, name))
            if ticked:
                race.chosen = race.chosen | {name} if now else race.chosen - {name}
        imgui.end_popup()
    face = f"on every frame too: {companion.method or 'off'}"
    _go_on_if_fits(imgui.calc_text_size(face).x)
    if imgui.button(f"{face}###companion"):
        imgui.open_popup("companions")
    imgui.set_item_tooltip(
        "a second method solves every frame beside the one at work, from the same start; the plots show both"
    )
    if imgui.begin_popup("companions"):
        for name in ("", *race.names):
            usable = not name or name in session.available
            flags = 0 if usable else imgui.SelectableFlags_.disabled
            if imgui.selectable(name or "off", name == companion.method, flags)[0]:
                session.ask(companion.choose, name)
        imgui.end_popup()
    text, colour, hint = _status(session)
    if text:
        _go_on_if_fits(imgui.calc_text_size(text).x)
        imgui.text_colored(colour, text)
        imgui.set_item_tooltip(hint)


def _status(session: Session) -> tuple[str, theme.Colour, str]:
    """What is under way, in which colour, and more of it."""
    race, companion = session.beside.race, session.beside.companion
    if race.running:
        now, done = race.now, f"{len(race.lanes)} of {count(len(race.lanes) + race.left, 'method')} done"
        if now is None:
            return (f"{done}; the next one gets ready", theme.ACCENT, "its process may have to start")
        does = "is compiled for this machine, once" if now.seconds is None else "runs"
        return f"{done}; {now.method} {does}", theme.ACCENT, "one after the other, in a process of its own"
    if companion.method:
        text = f"{companion.solved:,} frames solved, {companion.skipped:,} skipped"
        colour = theme.RED if companion.trouble else theme.BESIDE
        return (
            text,
            colour,
            companion.trouble or "skipped: while it was busy with the frame before, or with a race",
        )
    return "", theme.MUTED, ""


def _go_on_if_fits(width: float) -> None:
    """Let the next item stand in the same row, where there is room for ``width`` pixels."""
    gap = imgui.get_style().item_spacing.x
    edge = imgui.get_window_pos().x + imgui.get_window_width()
    if imgui.get_item_rect_max().x + 2.0 * gap + width < edge:
        imgui.same_line()


def _draw_bar(lane: Lane, longest: float) -> None:
    """Set-up, inference and solve in a row, as long as they took; cut at the slowest that converged."""
    width, height = imgui.get_content_region_avail().x, imgui.get_text_line_height()
    corner, canvas = imgui.get_cursor_screen_pos(), imgui.get_window_draw_list()
    left, end = corner.x, corner.x + width
    colours = theme.AMBER, theme.LEAF, theme.PHASES["solve"]
    for part, colour in zip(PARTS, colours, strict=True):
        right = min(left + width * 1e3 * lane.seconds[part] / longest, end)
        if right > left:
            box = (left, corner.y + 0.15 * height), (max(right, left + 1.0), corner.y + 0.85 * height)
            canvas.add_rect_filled(*box, theme.packed(colour))
        left = right
    imgui.dummy((max(width, 1.0), height))


def method_colour(name: str) -> theme.Colour:
    """One hue a method, the same in every picture, light enough or dark enough for the theme."""
    order = list(TYPICAL_MS)
    place = order.index(name) if name in order else len(name)
    light = (0.34, 0.44) if theme.applied == "light" else (0.62, 0.74)
    return (*colorsys.hls_to_rgb(place * 0.381966 % 1.0, light[place % 2], 0.75), 1.0)
