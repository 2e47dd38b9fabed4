"""The strip of numbers above the picture."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from imgui_bundle import imgui

from app.viewer import theme
from app.viewer.session import PHASES, Session

REFRESH_SECONDS = 0.15  # digits that change with every frame cannot be read
MEAN_FRAMES = 20
GAP = 11.0, 22.0  # between two tiles: at least, and at most
LABEL_SIZE, VALUE_SIZE = 0.85, 1.2  # of the ordinary text
BOLD = 1.06  # how much wider bold letters are
SHORT = {"set-up + inference": "set-up", "failed solve": "failed"}  # names of phases


class Tile(NamedTuple):
    """A name, the number below it, its colour and meaning, and a usual number, which keeps its room."""

    label: str
    value: str
    colour: theme.Colour
    hint: str
    usual: str

    @property
    def width(self) -> float:
        """Pixels."""
        values = (imgui.calc_text_size(text).x for text in (self.usual, self.value))
        return max(LABEL_SIZE * imgui.calc_text_size(self.label).x, VALUE_SIZE * BOLD * max(values))


class Hud:
    """Frames per second, iterations, milliseconds by phase, and how the last solve ended.

    ``height``: what it took of the window when drawn last; ``rows``: in how many rows.
    """

    def __init__(self) -> None:
        self.height, self.rows, self._due = theme.FONT_SIZE, 1, 0.0
        self._tiles: list[Tile] = []

    def draw(self, session: Session) -> None:
        """Draw the tiles in as many rows as they need in the current window."""
        now = time.monotonic()
        if now >= self._due or session.engine.paused:
            self._tiles, self._due = _tiles(session), now + REFRESH_SECONDS
        corner, room = imgui.get_cursor_screen_pos(), imgui.get_content_region_avail().x
        widths = [tile.width for tile in self._tiles]
        least, most = map(theme.scaled, GAP)
        gap = min(max((room - sum(widths)) / (len(widths) - 1), least), most)
        x, y, self.rows = corner.x, corner.y, 1
        for tile, width in zip(self._tiles, widths, strict=True):
            if x > corner.x and x + width > corner.x + room + 1.0:
                x, y, self.rows = corner.x, imgui.get_cursor_screen_pos().y, self.rows + 1
            imgui.set_cursor_screen_pos((x, y))
            imgui.begin_group()
            for text, its_colour, font, size in (
                (tile.label, theme.MUTED, "text", LABEL_SIZE),
                (tile.value, tile.colour, "bold", VALUE_SIZE),
            ):
                imgui.push_font(theme.fonts[font], size * theme.FONT_SIZE)
                imgui.text_colored(its_colour, text)
                imgui.pop_font()
            imgui.end_group()
            imgui.set_item_tooltip(tile.hint)
            x += width + gap
        self.height = imgui.get_cursor_screen_pos().y - corner.y


def _tiles(session: Session) -> list[Tile]:
    engine, report, history = session.engine, session.engine.last, session.history()
    settings = engine.settings.simulation
    iterations, outcome, colour, name, worker = "-", "-", theme.MUTED, settings.preconditioner, session.worker
    used, label = "of the last pressure solve", "preconditioner"
    if report is not None:
        failed = report.fallback or report.outcome != "converged"
        outcome = "fallback" if report.fallback else report.outcome
        colour = theme.RED if failed else theme.GREEN
        outcome = outcome if failed or not engine.paused else "paused"
        iterations, name = f"{report.iterations:,}", report.preconditioner
        if report.choice:
            name, label = report.choice.partition(":")[0], f"{name} uses"
            used = f"of the last pressure solve; {report.choice}"
    energy = divergence = "-"
    parts = drift = "once a step was taken"
    if report is not None and math.isfinite(report.divergence):
        kinds = {name: getattr(report, f"{name}_energy") for name in ("kinetic", "potential", "surface")}
        energy, divergence = theme.number(sum(kinds.values())), f"{report.divergence:.1e}"
        parts = ", ".join(f"{name} {value:.4g}" for name, value in kinds.items())
        drift = f"a cell gains or loses up to {report.volume_error:.1e} of its volume in the step"
    rate, steps = f"{worker.rate:.2g} x", f"{worker.steps_a_second:.0f}"
    pictures = f"{session.pictures_a_second:.0f}"
    tiles = [
        Tile("real time", rate, theme.TEXT, "simulated seconds a second; speed is the limit", "0.25 x"),
        Tile("steps/s", steps, theme.TEXT, "time steps of the simulation a second", "100"),
        Tile("pictures/s", pictures, theme.TEXT, "pictures of the window a second", "100"),
        Tile("iterations", iterations, theme.TEXT, "of the last pressure solve", "1,000"),
    ]
    for phase, (hint, *_) in PHASES.items():
        if phase in history:
            recent = history[phase][-MEAN_FRAMES:]
            mean = recent.sum() / max(recent.size, 1)
            name_of_phase = f"{SHORT.get(phase, phase)} ms"
            tiles.append(Tile(name_of_phase, f"{mean:.1f}", theme.PHASES[phase], hint, "100.0"))
    drift = f"the largest that the pressure solve left: {drift}"
    contrast = theme.number(settings.contrast)
    return [
        *tiles,
        Tile("energy J/m", energy, theme.TEXT, f"a metre of depth, above the floor: {parts}", "10,000"),
        Tile("div. 1/s", divergence, theme.TEXT, f"divergence, {drift}", "1.0e-08"),
        Tile("contrast", contrast, theme.TEXT, "density of heavy over light", "100"),
        Tile(label, name, theme.TEXT, used, "coarse-iterated"),
        Tile("outcome", outcome, colour, "how the last pressure solve ended", "converged"),
    ]
