"""The strip of numbers above the picture."""

from __future__ import annotations

import time
from typing import NamedTuple

from imgui_bundle import imgui

from app.viewer import theme
from app.viewer.session import Session

REFRESH_SECONDS = 0.15  # digits that change with every frame cannot be read
MEAN_FRAMES = 20
GAP = 18.0
PHASE_HINTS = {
    "sim": "everything but the pressure solve",
    "set-up + inference": "the preconditioner's set-up; the time in its network is counted in",
    "solve": "the iterations of conjugate gradients",
    "failed solve": "what a preconditioner took that broke down, before the fallback",
    "draw": "panels, picture, rendering",
}


class Tile(NamedTuple):
    """One number, its name above it and what it means."""

    label: str
    value: str
    colour: theme.Colour
    hint: str


class Hud:
    """Frames per second, iterations, milliseconds by phase, and how the last solve ended.

    ``height``: what it took of the window when drawn last.
    """

    def __init__(self) -> None:
        self.height = theme.FONT_SIZE
        self._tiles: list[Tile] = []
        self._due = 0.0

    def draw(self, session: Session) -> None:
        """Draw the tiles in as many rows as they need in the current window."""
        now = time.monotonic()
        if now >= self._due or session.engine.paused:
            self._tiles, self._due = _tiles(session), now + REFRESH_SECONDS
        top, right = imgui.get_cursor_screen_pos().y, imgui.get_content_region_avail().x
        right += imgui.get_cursor_screen_pos().x
        end = right
        for tile in self._tiles:
            width = max(imgui.calc_text_size(tile.label).x, 1.3 * imgui.calc_text_size(tile.value).x)
            if tile is not self._tiles[0] and end + theme.scaled(GAP) + width <= right:
                imgui.same_line(0.0, theme.scaled(GAP))
            imgui.begin_group()
            imgui.push_font(theme.fonts["text"], 0.85 * theme.FONT_SIZE)
            imgui.text_colored(theme.MUTED, tile.label)
            imgui.pop_font()
            imgui.push_font(theme.fonts["bold"], 1.3 * theme.FONT_SIZE)
            imgui.text_colored(tile.colour, tile.value)
            imgui.pop_font()
            imgui.end_group()
            imgui.set_item_tooltip(tile.hint)
            end = imgui.get_item_rect_max().x
        self.height = imgui.get_cursor_screen_pos().y - top


def _tiles(session: Session) -> list[Tile]:
    engine, report, history = session.engine, session.engine.last, session.history()
    settings = engine.settings.simulation
    recent = {name: history[name][-MEAN_FRAMES:] for name in PHASE_HINTS if name in history}
    outcome, colour = "-", theme.MUTED
    if report is not None:
        failed = report.fallback or report.outcome != "converged"
        outcome = "fallback" if report.fallback else report.outcome
        colour = theme.RED if failed else theme.GREEN
        outcome = outcome if failed or not engine.paused else "paused"
    fps, iterations = (f"{report.fps:.0f}", f"{report.iterations:,}") if report else ("-", "-")
    name = report.preconditioner if report else settings.preconditioner
    return [
        Tile("fps", fps, theme.TEXT, "frames a second, over the last 30"),
        Tile("iterations", iterations, theme.TEXT, "of the last pressure solve"),
        *(
            Tile(
                f"{phase} ms",
                f"{values.sum() / max(values.size, 1):.1f}",
                theme.PHASES[phase],
                PHASE_HINTS[phase],
            )
            for phase, values in recent.items()
        ),
        Tile("contrast", f"{theme.number(settings.contrast)} : 1", theme.TEXT, "density of heavy over light"),
        Tile("preconditioner", name, theme.TEXT, "of the last pressure solve"),
        Tile("outcome", outcome, colour, "how the last pressure solve ended"),
    ]
