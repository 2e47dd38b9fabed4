"""The panel on the left: everything that can be changed while the fluids move."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from imgui_bundle import icons_fontawesome_4 as icons
from imgui_bundle import imgui

from app.picture import COLORMAPS, VIEWS
from app.viewer import theme
from app.viewer.materials import MATERIALS, MOVE
from app.viewer.session import BRUSH_LIMITS, Session
from sim.settings import MAX_CONTRAST, MIN_ANGLE, SimulationSettings

LABEL_WIDTH = 108.0
NARROW = 240.0  # in a panel of less, labels stand above what they name
SHORT_SIDES = (32, 48, 64, 96, 128, 192, 256)  # cells


def draw_controls(session: Session) -> None:
    """Draw all sections into the current window."""
    engine, view, brush = session.engine, session.view, session.brush
    settings = engine.settings.simulation
    simulation = _Section(session, vars(settings), session.change)
    _draw_buttons(session)

    imgui.separator_text("Scene")
    _label("scene", "where the fluids start from, and their settings")
    if imgui.button(f"{Path(settings.scene).stem}  {icons.ICON_FA_TH_LARGE}###scene", (-1.0, 0.0)):
        session.ask(session.toggle_gallery)
    imgui.set_item_tooltip(f"{session.scenes.get(settings.scene, settings.scene)}\n\nall scenes (G)")
    grids = {f"{grid[0]} x {grid[1]}": (grid, "") for grid in _grids_like(*settings.grid)}
    simulation.choose("grid", "grid", grids, "cells; another grid takes over what flows")
    pace = _Section(session, {"speed": session.worker.speed}, session.change_speed)
    pace.slide("speed", "speed", (0.05, 10.0), " x", hint="simulated seconds a second, at the most")
    _draw_states(session)

    imgui.separator_text("Fluids")
    simulation.slide("contrast", "contrast", (1.0, MAX_CONTRAST), " : 1")
    simulation.slide("gravity", "gravity", (0.0, 30.0), " m/s²", flags=0)
    simulation.slide("heavy_viscosity", "heavy viscosity", (0.1, 1e5), " mm²/s", 1e-6)
    simulation.slide("light_viscosity", "light viscosity", (0.1, 1e5), " mm²/s", 1e-6)
    simulation.slide("surface_tension", "surface tension", (0.0, 10.0), " N/m")
    angles = (MIN_ANGLE, 180.0 - MIN_ANGLE)
    simulation.slide("contact_angle", "contact angle", angles, "°", flags=0)
    simulation.slide("source_rate", "source rate", (0.1, 100.0), " /s")

    imgui.separator_text("Pressure solve")
    known, hint = session.preconditioners, "what makes conjugate gradients converge in few iterations"
    forms = {name: (name, text) for name, text in known.items()}
    simulation.choose("preconditioner", "preconditioner", forms, hint, known.keys() - session.available)
    theme.say(engine.note, theme.TEXT)
    theme.say(session.notice, theme.RED)
    tolerances = {f"1e-{power}": (float(f"1e-{power}"), "") for power in range(1, 13)}
    simulation.choose("rtol", "tolerance", tolerances)
    simulation.slide("max_iterations", "iteration limit", (1, 10_000))
    simulation.tick("warm_start", "warm start")
    simulation.tick("reuse_setup", "reuse set-up")
    if settings.device == "cuda":
        simulation.tick("single_launch", "single launch")

    imgui.separator_text("Picture")
    shown, change = vars(view) | {"colormap": view.colours, "tracers": view.traced}, session.change_view
    picture = _Section(session, shown, lambda name, value: change(**{name: value}), at_once=True)
    fields = {field: (field, f"key {number}") for number, field in enumerate(VIEWS, start=1)}
    picture.choose("field", "show", fields, "what the colours stand for")
    picture.choose(
        "colormap", "colours", {name: (name, "") for name in COLORMAPS}, "each field keeps its own"
    )
    _draw_range(session)
    picture.tick("interface", "interface", "a line where the two fluids meet")
    picture.tick("light", "light", "brightness from above: on the fluids' surface and on edges of solids")
    picture.tick("tracers", "tracers", "specks that the fluids carry along, to be looked at alone")
    window = _Section(session, vars(session), partial(setattr, session), at_once=True)
    window.choose("theme", "theme", {name: (name, "") for name in theme.THEMES}, "colours of the window")

    imgui.separator_text("Brush")
    _draw_paints(session)
    sizes = _Section(session, vars(brush), partial(setattr, brush), at_once=True)
    hint = "the wheel on the picture changes it too"
    sizes.slide("radius", "radius", (1.0, 50.0), " % of side", 0.01, 0, hint)
    hint = "the stirred fluid's speed over the mouse's"
    sizes.slide("strength", "strength", BRUSH_LIMITS["strength"], hint=hint)


def _grids_like(nx: int, ny: int) -> list[tuple[int, int]]:
    """Grids of the same proportions, nx x ny among them, small to large."""
    short = min(nx, ny)
    grids = {(round(nx * side / short), round(ny * side / short)) for side in SHORT_SIDES}
    return sorted(grids | {(nx, ny)})


@dataclass
class _Section:
    """Controls for ``values`` by name; asks for a ``change`` of a name to another value.

    ``at_once``: what changes is the window's alone. A control without a ``hint`` has the description of the
    simulation's setting.
    """

    session: Session
    values: dict[str, Any]
    change: Callable[[str, Any], object]
    at_once: bool = False

    def asks(self, change: Callable[..., object], *arguments: Any) -> None:
        """Have something changed, before the next step where that matters."""
        if self.at_once:
            change(*arguments)
        else:
            self.session.ask(change, *arguments)

    def tick(self, name: str, label: str, hint: str = "") -> None:
        """A switch."""
        _label(label, _hint(name, hint))
        changed, new = imgui.checkbox(f"##{name}", self.values[name])
        imgui.set_item_tooltip(_hint(name, hint))
        if changed:
            self.asks(self.change, name, new)

    def slide(
        self,
        name: str,
        label: str,
        limits: tuple[float, float],
        suffix: str = "",
        unit: float = 1.0,
        flags: int = imgui.SliderFlags_.logarithmic,
        hint: str = "",
    ) -> None:
        """A number; ``limits``, multiples of ``unit``, are the slider's: a typed one may lie beyond them."""
        _label(label, _hint(name, hint))
        shown = self.values[name] / unit
        text = f"{theme.number(float(f'{shown:.6g}'))}{suffix}".replace("%", "%%")
        changed, new = imgui.slider_float(f"##{name}", shown, *limits, text, flags)
        imgui.set_item_tooltip(_hint(name, hint))
        if changed and math.isfinite(new):
            whole = type(limits[0])  # a whole number between whole limits
            self.asks(self.change, name, whole(float(f"{new * unit:.3g}")))
        elif changed:
            self.session.say(f"{label}: {new} is not a finite number", error=True)

    def choose(
        self,
        name: str,
        label: str,
        choices: dict[str, tuple[Any, str]],
        hint: str = "",
        unusable: Collection[str] = (),
    ) -> None:
        """One of ``choices``: what they are called, their values, and a hint each."""
        _label(label, _hint(name, hint))
        value = self.values[name]
        named = (face for face, (its_value, _) in choices.items() if its_value == value)
        current = next(named, f"{value:.3g}" if isinstance(value, float) else value)
        opened = imgui.begin_combo(f"##{name}", current, imgui.ComboFlags_.height_large)
        if not opened:
            imgui.set_item_tooltip(_hint(name, hint))
            return
        for choice, (value, text) in choices.items():
            flags, face = 0, choice
            if choice in unusable:
                flags, face = imgui.SelectableFlags_.disabled, f"{choice}: {text}###{choice}"
            if imgui.selectable(face, choice == current, flags)[0] and choice != current:
                self.asks(self.change, name, value)
            if text and imgui.is_item_hovered(imgui.HoveredFlags_.allow_when_disabled):
                imgui.set_tooltip(text)
        imgui.end_combo()


def _hint(name: str, hint: str) -> str:
    """``hint``, or else the description of the simulation's setting."""
    return hint or SimulationSettings.model_fields[name].description


def _label(text: str, hint: str) -> None:
    """A label on the left, or above; the next widget takes the rest of the row."""
    imgui.align_text_to_frame_padding()
    imgui.text(text)
    imgui.set_item_tooltip(hint)
    if imgui.get_window_width() > theme.scaled(NARROW):
        imgui.same_line(theme.scaled(LABEL_WIDTH))
    imgui.set_next_item_width(-1.0)


def _draw_buttons(session: Session) -> None:
    """Rows of buttons; where a text does not fit, the icon stands alone."""
    pause = (icons.ICON_FA_PLAY, "Go on") if session.engine.paused else (icons.ICON_FA_PAUSE, "Pause")
    record = "Stop recording" if session.recording else "Record"
    rows = (
        (
            ("pause", *pause, "Space", session.toggle_pause),
            ("step", icons.ICON_FA_STEP_FORWARD, "Step", "one single step  (.)", session.step),
            ("reset", icons.ICON_FA_UNDO, "Reset", "back to the scene's start  (R)", session.engine.reset),
        ),
        (
            ("undo", icons.ICON_FA_REPLY, "Undo", "last stroke or change, flow too (Ctrl+Z)", session.undo),
            ("redo", icons.ICON_FA_SHARE, "Redo", "what was undone  (Ctrl+Y)", session.redo),
            ("save", icons.ICON_FA_SAVE, "Save", "the whole state  (Ctrl+S)", session.save_state),
        ),
        (
            ("record", icons.ICON_FA_CIRCLE, record, "every frame's numbers  (F9)", session.toggle_recording),
            ("screenshot", icons.ICON_FA_CAMERA, "Screenshot", "the picture (F12)", session.save_screenshot),
            (
                "window",
                icons.ICON_FA_WINDOW_RESTORE,
                "Layout",
                "layout and view as at first",
                session.restore_window,
            ),
        ),
    )
    style, space = imgui.get_style(), imgui.get_content_region_avail().x
    for row in rows:
        width = max(1.0, (space - (len(row) - 1) * style.item_spacing.x) / len(row))
        for name, icon, text, hint, action in row:
            if name != row[0][0]:
                imgui.same_line()
            red = name == "record" and session.recording
            imgui.push_style_color(imgui.Col_.text, theme.RED if red else theme.TEXT)
            face = f"{icon}  {text}"
            fits = imgui.calc_text_size(face).x + 2.0 * style.frame_padding.x <= width
            if imgui.button(f"{face if fits else icon}###{name}", (width, 0.0)):
                session.ask(action)
            imgui.pop_style_color()
            imgui.set_item_tooltip(f"{text}: {hint}")


def _draw_states(session: Session) -> None:
    """A list of saved states to go on from."""
    _label("saved states", "go on from a saved state: its scene, grid and fluids")
    if not imgui.begin_combo("##states", "load...", imgui.ComboFlags_.height_large):
        return
    paths = session.saved_states()
    for path in paths:
        if imgui.selectable(path.stem, False)[0]:
            session.ask(session.load_state, path)
    if not paths:
        imgui.text_disabled("none yet: Save makes one")
    imgui.end_combo()


def _draw_range(session: Session) -> None:
    """A tick box, and two numbers where it is not ticked."""
    automatic, limits = session.view.range == "auto", (session.picture.scale.low, session.picture.scale.high)
    _label("range", "colours follow the field, or stay between two values")
    changed, now_automatic = imgui.checkbox("automatic##range", automatic)
    if changed and now_automatic:
        limits = "auto"
    elif not (changed or automatic):
        _label("from, to", "what the lowest and the highest colour stand for")
        flags = imgui.InputTextFlags_.enter_returns_true
        changed, typed = imgui.input_float2("##limits", list(limits), "%.4g", flags)
        limits = tuple(typed)
    if changed:
        session.ask(partial(session.change_view, range=limits))


def _draw_paints(session: Session) -> None:
    """The palette: a swatch and a name for each material, in two columns where there is room."""
    height, space = imgui.get_frame_height(), imgui.get_style().item_spacing.x
    room, canvas = imgui.get_content_region_avail().x, imgui.get_window_draw_list()
    columns = 2 if room >= theme.scaled(240.0) else 1
    width, begin = (room - (columns - 1) * space) / columns, imgui.get_cursor_pos_x()
    for number, (name, material) in enumerate(MATERIALS.items()):
        if number % columns:
            imgui.same_line(begin + width + space)
        left, top = imgui.get_cursor_screen_pos()
        if imgui.selectable(f"##paint {name}", session.brush.paint == name, 0, (width, height))[0]:
            session.take(name)
        use = "" if name == MOVE else "right-drag paints with it: "
        imgui.set_item_tooltip(f"{name} ({material.key}): {use}{material.hint}")
        pad = 0.22 * height
        swatch = (left + pad, top + pad), (left + height - pad, top + height - pad)
        canvas.add_rect_filled(*swatch, theme.packed(material.colour), 3.0)
        canvas.add_rect(*swatch, theme.packed(theme.MUTED), 3.0)
        theme.write(canvas, left + height + 2.0, top + 0.5 * (height - imgui.get_text_line_height()), name)
