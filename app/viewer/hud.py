"""The strip of numbers above the picture."""

from __future__ import annotations

import time

from imgui_bundle import imgui

from app.viewer import theme
from app.viewer.session import Session

REFRESH_SECONDS = 0.15  # digits that change with every frame cannot be read
HEIGHT = 44.0


class Hud:
    """Frames per second, iterations, milliseconds by phase, and how the last solve ended."""

    def __init__(self) -> None:
        self._tiles: list[tuple[str, str, tuple]] = []
        self._due = 0.0

    def draw(self, session: Session) -> None:
        """Draw one row of tiles, as wide as the window."""
        now = time.monotonic()
        if now >= self._due or session.engine.paused:
            self._tiles, self._due = _tiles(session), now + REFRESH_SECONDS
        width = imgui.get_content_region_avail().x
        corner = imgui.get_cursor_screen_pos()
        canvas, size = imgui.get_window_draw_list(), imgui.get_font_size()
        widths = [
            theme.scaled(max(len(label) * 7.0, len(value) * 10.0) + 14.0) for label, value, _ in self._tiles
        ]
        stretch = width / max(sum(widths), 1.0)
        x = corner.x
        for (label, value, colour), tile in zip(self._tiles, widths, strict=True):
            muted = theme.packed(theme.MUTED)
            canvas.add_text(theme.fonts["text"], 0.85 * size, (x, corner.y), muted, label)
            value_at = (x, corner.y + 0.95 * size)
            value_size = 1.3 * size * min(1.0, stretch)
            canvas.add_text(theme.fonts["bold"], value_size, value_at, theme.packed(colour), value)
            x += tile * stretch
        imgui.dummy((width, theme.scaled(HEIGHT)))


def _tiles(session: Session) -> list[tuple[str, str, tuple]]:
    """(label, value, colour) of every tile."""
    engine, history = session.engine, session.history
    report = engine.last
    settings = engine.settings.simulation
    parts = {
        "sim": history.mean("sim_ms"),
        "setup": history.mean("setup_ms") + history.mean("inference_ms"),
        "solve": history.mean("solve_ms"),
        "draw": history.mean("draw_ms"),
    }
    if report is None:
        outcome, colour = "-", theme.MUTED
    elif report.fallback or report.outcome != "converged":
        outcome, colour = ("fallback" if report.fallback else report.outcome), theme.RED
    else:
        outcome, colour = report.outcome, theme.GREEN
    return [
        ("fps", f"{report.fps:.0f}" if report else "-", theme.TEXT),
        ("iterations", str(report.iterations) if report else "-", theme.TEXT),
        *((f"{name} ms", f"{value:.1f}", theme.PHASES[name]) for name, value in parts.items()),
        ("contrast", f"{settings.contrast:.4g} : 1", theme.TEXT),
        ("preconditioner", report.preconditioner if report else settings.preconditioner, theme.TEXT),
        ("outcome", "paused" if engine.paused and outcome == "converged" else outcome, colour),
    ]
