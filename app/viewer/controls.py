"""The panel on the left: everything that can be changed while the fluids move."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, NamedTuple

from imgui_bundle import icons_fontawesome_4 as icons
from imgui_bundle import imgui

from app.picture import COLORMAPS, VIEWS
from app.viewer import theme
from app.viewer.session import BRUSH_LIMITS, Session
from sim.settings import MAX_CONTRAST, SimulationSettings
from sim.simulation import PAINTS

LABEL_WIDTH = 108.0
NARROW = 240.0  # in a panel of less, labels stand above what they name
TOLERANCES = {f"1e-{power}": float(f"1e-{power}") for power in range(1, 13)}
SHORT_SIDES = (32, 48, 64, 96, 128, 192, 256)  # cells


class Row(NamedTuple):
    """One number or switch: a slider over ``limits``, which are multiples of ``unit``, or a tick box.

    ``hint`` empty: the description of the simulation's setting.
    """

    name: str
    label: str
    limits: tuple[float, float] | None = None
    suffix: str = ""
    unit: float = 1.0
    flags: int = imgui.SliderFlags_.logarithmic
    hint: str = ""


FLUIDS = (
    Row("contrast", "contrast", (1.0, MAX_CONTRAST), " : 1"),
    Row("gravity", "gravity", (0.0, 30.0), " m/s²", flags=0),
    Row("heavy_viscosity", "heavy viscosity", (0.1, 1e5), " mm²/s", 1e-6),
    Row("light_viscosity", "light viscosity", (0.1, 1e5), " mm²/s", 1e-6),
)
SOLVE = (
    Row("max_iterations", "iteration limit", (1, 10_000)),
    Row("warm_start", "warm start"),
    Row("reuse_setup", "reuse set-up"),
)
CUDA = (Row("single_launch", "single launch"),)
INTERFACE = (Row("interface", "interface", hint="a line where the two fluids meet"),)
BRUSH = (
    Row("radius", "radius", (1.0, 50.0), " % of side", 0.01, 0, "the wheel on the picture changes it too"),
    Row("strength", "strength", BRUSH_LIMITS["strength"], hint="the stirred fluid's speed over the mouse's"),
)


def draw_controls(session: Session) -> None:
    """Draw all sections into the current window."""
    _draw_run(session)
    sections = {
        "Scene": _draw_scene,
        "Fluids": lambda session: _draw_rows(session, FLUIDS, *_settings(session)),
        "Pressure solve": _draw_solve,
        "Picture": _draw_picture,
        "Brush": _draw_brush,
    }
    for title, draw in sections.items():
        imgui.separator_text(title)
        draw(session)


def _settings(session: Session) -> tuple[Any, Callable[[str, Any], None]]:
    """The simulation's settings, and how one is changed."""
    return session.engine.settings.simulation, session.change


def _label(text: str, hint: str) -> None:
    """A label on the left, or above; the next widget takes the rest of the row."""
    imgui.align_text_to_frame_padding()
    imgui.text(text)
    imgui.set_item_tooltip(hint)
    if imgui.get_window_width() > theme.scaled(NARROW):
        imgui.same_line(theme.scaled(LABEL_WIDTH))
    imgui.set_next_item_width(-1.0)


def _draw_rows(session: Session, rows: Iterable[Row], owner: Any, change: Callable[[str, Any], None]) -> None:
    """Sliders and tick boxes for attributes of ``owner``; typed values stay within the slider's limits."""
    for row in rows:
        value = getattr(owner, row.name)
        _label(row.label, row.hint or SimulationSettings.model_fields[row.name].description)
        if row.limits is None:
            changed, new = imgui.checkbox(f"##{row.name}", value)
        else:
            shown, flags = value / row.unit, row.flags | imgui.SliderFlags_.always_clamp
            text = f"{theme.number(float(f'{shown:.6g}'))}{row.suffix}".replace("%", "%%")
            changed, new = imgui.slider_float(f"##{row.name}", shown, *row.limits, text, flags)
            if changed and not math.isfinite(new):
                session.say(f"{row.label}: {new} is not a number", error=True)
                continue
            new = type(row.limits[0])(float(f"{new * row.unit:.3g}"))  # a whole number between whole limits
        if changed:
            session.ask(change, row.name, new)


def _combo(
    session: Session,
    name: str,
    label: str,
    hint: str,
    current: str,
    choices: dict[str, str],
    choose: Callable[[str], None],
    unusable: Collection[str] = (),
) -> None:
    """A list of names with a hint each."""
    _label(label, hint)
    if not imgui.begin_combo(f"##{name}", current, imgui.ComboFlags_.height_large):
        return
    for choice, text in choices.items():
        flags, face = 0, choice
        if choice in unusable:
            flags, face = imgui.SelectableFlags_.disabled, f"{choice}: {text}###{choice}"
        if imgui.selectable(face, choice == current, flags)[0] and choice != current:
            session.ask(choose, choice)
        if text and imgui.is_item_hovered(imgui.HoveredFlags_.allow_when_disabled):
            imgui.set_tooltip(text)
    imgui.end_combo()


def _draw_run(session: Session) -> None:
    """Two rows of buttons; where a text does not fit, the icon stands alone."""
    pause = (icons.ICON_FA_PLAY, "Go on") if session.engine.paused else (icons.ICON_FA_PAUSE, "Pause")
    record = "Stop recording" if session.recording else "Record"
    rows = (
        (
            ("pause", *pause, "Space", session.toggle_pause),
            ("step", icons.ICON_FA_STEP_FORWARD, "Step", "one single step  (.)", session.step),
            ("reset", icons.ICON_FA_UNDO, "Reset", "back to the scene's start  (R)", session.reset),
        ),
        (
            ("record", icons.ICON_FA_CIRCLE, record, "every frame's numbers  (F9)", session.toggle_recording),
            ("screenshot", icons.ICON_FA_CAMERA, "Screenshot", "the picture (F12)", session.save_screenshot),
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


def _draw_scene(session: Session) -> None:
    settings, change = _settings(session)
    hint = "where the fluids start from, and their settings"
    _combo(session, "scene", "scene", hint, settings.scene, session.scenes, partial(change, "scene"))
    grids = {f"{nx} x {ny}": (nx, ny) for nx, ny in grid_choices(settings.grid)}
    current, hint = "{} x {}".format(*settings.grid), "cells; another grid starts the scene anew"
    choices = dict.fromkeys(grids, "")
    _combo(session, "grid", "grid", hint, current, choices, lambda grid: change("grid", grids[grid]))


def grid_choices(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Grids of the same proportions as ``grid``, itself among them, small to large."""
    nx, ny = grid
    short = min(nx, ny)
    choices = {(round(nx * side / short), round(ny * side / short)) for side in SHORT_SIDES}
    return sorted(choices | {(nx, ny)})


def _draw_solve(session: Session) -> None:
    settings, change = _settings(session)
    choices, unusable = session.preconditioners, session.preconditioners.keys() - session.available
    name, hint = "preconditioner", "what makes conjugate gradients converge in few iterations"
    _combo(session, name, name, hint, settings.preconditioner, choices, partial(change, name), unusable)
    for note, colour in ((session.engine.note, theme.TEXT), (session.notice, theme.RED)):
        if note:
            imgui.push_style_color(imgui.Col_.text, colour)
            imgui.text_wrapped(note)
            imgui.pop_style_color()
    current = next(
        (text for text, rtol in TOLERANCES.items() if rtol == settings.rtol), f"{settings.rtol:.3g}"
    )
    choices, hint = dict.fromkeys(TOLERANCES, ""), "relative residual at which a solve ends"
    _combo(
        session, "rtol", "tolerance", hint, current, choices, lambda text: change("rtol", TOLERANCES[text])
    )
    _draw_rows(session, SOLVE + CUDA if settings.device == "cuda" else SOLVE, settings, change)


def _draw_picture(session: Session) -> None:
    view, scale = session.view, session.picture.scale
    fields = {field: f"key {number}" for number, field in enumerate(VIEWS, start=1)}
    _combo(session, "field", "show", "what the colours stand for", view.field, fields, session.show_field)
    colormaps, hint = dict.fromkeys(COLORMAPS, ""), "each field keeps its own"
    _combo(
        session,
        "colormap",
        "colours",
        hint,
        view.colours,
        colormaps,
        lambda name: session.change_view(colormap=name),
    )
    _label("range", "colours follow the field, or stay between two values")
    changed, automatic = imgui.checkbox("automatic##range", view.range == "auto")
    if changed and automatic:
        session.ask(partial(session.change_view, range="auto"))
    elif changed:
        session.ask(partial(session.change_view, range=(scale.low, scale.high)))
    elif not automatic:
        _label("from, to", "what the lowest and the highest colour stand for")
        flags = imgui.InputTextFlags_.enter_returns_true
        changed, limits = imgui.input_float2("##limits", [scale.low, scale.high], "%.4g", flags)
        if changed:
            session.ask(partial(session.change_view, range=tuple(limits)))
    _draw_rows(session, INTERFACE, view, lambda _, on: session.change_view(interface=on))


def _draw_brush(session: Session) -> None:
    brush = session.brush
    _label("right-drag", "what dragging with the right button paints")
    left = imgui.get_cursor_pos_x()
    for number, paint in enumerate(PAINTS):  # two rows of two
        if number % 2:
            imgui.same_line(left + theme.scaled(80.0))
        else:
            imgui.set_cursor_pos_x(left)
        if imgui.radio_button(paint, brush.paint == paint):
            brush.paint = paint
    _draw_rows(session, BRUSH, brush, partial(setattr, brush))
