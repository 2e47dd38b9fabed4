"""The strip of numbers above the picture."""

from __future__ import annotations

import math
import time

from imgui_bundle import imgui

from app.viewer import theme
from app.viewer.session import PHASES, Session

REFRESH_SECONDS = 0.15  # digits that change with every frame cannot be read
MEAN_FRAMES = 20
GAP = 18.0
Tile = tuple[str, str, theme.Colour, str]  # a name, the number below it, its colour and what it means


class Hud:
    """Frames per second, iterations, milliseconds by phase, and how the last solve ended.

    ``height``: what it took of the window when drawn last.
    """

    def __init__(self) -> None:
        self.height, self._due = theme.FONT_SIZE, 0.0
        self._tiles: list[Tile] = []

    def draw(self, session: Session) -> None:
        """Draw the tiles in as many rows as they need in the current window."""
        now = time.monotonic()
        if now >= self._due or session.engine.paused:
            self._tiles, self._due = _tiles(session), now + REFRESH_SECONDS
        corner = imgui.get_cursor_screen_pos()
        end = right = corner.x + imgui.get_content_region_avail().x
        for label, value, colour, hint in self._tiles:
            width = max(imgui.calc_text_size(label).x, 1.3 * imgui.calc_text_size(value).x)
            if end + theme.scaled(GAP) + width <= right:
                imgui.same_line(0.0, theme.scaled(GAP))
            imgui.begin_group()
            for text, its_colour, font, size in (
                (label, theme.MUTED, "text", 0.85),
                (value, colour, "bold", 1.3),
            ):
                imgui.push_font(theme.fonts[font], size * theme.FONT_SIZE)
                imgui.text_colored(its_colour, text)
                imgui.pop_font()
            imgui.end_group()
            imgui.set_item_tooltip(hint)
            end = imgui.get_item_rect_max().x
        self.height = imgui.get_cursor_screen_pos().y - corner.y


def _tiles(session: Session) -> list[Tile]:
    engine, report, history = session.engine, session.engine.last, session.history()
    settings = engine.settings.simulation
    iterations, outcome, colour, name, worker = "-", "-", theme.MUTED, settings.preconditioner, session.worker
    used = "of the last pressure solve"
    if report is not None:
        failed = report.fallback or report.outcome != "converged"
        outcome = "fallback" if report.fallback else report.outcome
        colour = theme.RED if failed else theme.GREEN
        outcome = outcome if failed or not engine.paused else "paused"
        iterations, name = f"{report.iterations:,}", report.preconditioner
        if report.choice:
            name = f"{name}: {report.choice.partition(':')[0]}"
            used = f"of the last pressure solve; {report.choice}"
    energy = divergence = "-"
    parts = drift = "once a step was taken"
    if report is not None and math.isfinite(report.divergence):
        kinds = {name: getattr(report, f"{name}_energy") for name in ("kinetic", "potential", "surface")}
        energy, divergence = f"{sum(kinds.values()):.4g}", f"{report.divergence:.1e}"
        parts = ", ".join(f"{name} {value:.4g}" for name, value in kinds.items())
        drift = f"a cell gains or loses up to {report.volume_error:.1e} of its volume in the step"
    tiles = [
        ("real time", f"{worker.rate:.2g} x", theme.TEXT, "simulated seconds a second; speed is the limit"),
        ("steps/s", f"{worker.steps_a_second:.0f}", theme.TEXT, "time steps of the simulation a second"),
        ("pictures/s", f"{session.pictures_a_second:.0f}", theme.TEXT, "pictures of the window a second"),
        ("iterations", iterations, theme.TEXT, "of the last pressure solve"),
    ]
    for phase, (hint, *_) in PHASES.items():
        if phase in history:
            recent = history[phase][-MEAN_FRAMES:]
            mean = recent.sum() / max(recent.size, 1)
            tiles.append((f"{phase} ms", f"{mean:.1f}", theme.PHASES[phase], hint))
    return [
        *tiles,
        ("energy J/m", energy, theme.TEXT, f"a metre of depth, above the floor: {parts}"),
        ("divergence 1/s", divergence, theme.TEXT, f"the largest that the pressure solve left: {drift}"),
        ("contrast", f"{theme.number(settings.contrast)} : 1", theme.TEXT, "density of heavy over light"),
        ("preconditioner", name, theme.TEXT, used),
        ("outcome", outcome, colour, "how the last pressure solve ended"),
    ]
