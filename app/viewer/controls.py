"""The panel on the left: everything that can be changed while the fluids move."""

from __future__ import annotations

import math

from imgui_bundle import icons_fontawesome_4 as icons
from imgui_bundle import imgui

from app.picture import COLORMAPS, VIEWS
from app.viewer import theme
from app.viewer.session import Session
from sim.settings import MAX_CONTRAST
from sim.simulation import PAINTS

LABEL_WIDTH = 108.0
LOGARITHMIC = imgui.SliderFlags_.logarithmic
TOLERANCE_POWERS = range(1, 13)
SHORT_SIDES = (32, 48, 64, 96, 128, 192, 256)  # cells


def draw_controls(session: Session) -> None:
    """Draw all sections into the current window."""
    _draw_run(session)
    _draw_scene(session)
    _draw_fluids(session)
    _draw_solve(session)
    _draw_picture(session)
    _draw_brush(session)


def _label(text: str, hint: str = "") -> None:
    """A label on the left; the next widget takes the rest of the row."""
    imgui.align_text_to_frame_padding()
    imgui.text(text)
    if hint and imgui.is_item_hovered():
        imgui.set_tooltip(hint)
    imgui.same_line(theme.scaled(LABEL_WIDTH))
    imgui.set_next_item_width(-1.0)


def _draw_run(session: Session) -> None:
    engine = session.engine
    gap = imgui.get_style().item_spacing.x
    third = (imgui.get_content_region_avail().x - 2.0 * gap) / 3.0
    half = (imgui.get_content_region_avail().x - gap) / 2.0
    pause = f"{icons.ICON_FA_PLAY}  Go on" if engine.paused else f"{icons.ICON_FA_PAUSE}  Pause"
    if imgui.button(f"{pause}###pause", (third, 0.0)):
        session.toggle_pause()
    imgui.same_line()
    if imgui.button(f"{icons.ICON_FA_STEP_FORWARD}  Step###step", (third, 0.0)):
        session.step()
    imgui.same_line()
    if imgui.button(f"{icons.ICON_FA_UNDO}  Reset###reset", (third, 0.0)):
        session.reset()
    recording = session.recording
    if recording:
        imgui.push_style_color(imgui.Col_.text, theme.RED)
    record = f"{icons.ICON_FA_CIRCLE}  {'Stop recording' if recording else 'Record'}###record"
    if imgui.button(record, (half, 0.0)):
        session.toggle_recording()
    if recording:
        imgui.pop_style_color()
    imgui.same_line()
    if imgui.button(f"{icons.ICON_FA_CAMERA}  Screenshot###screenshot", (half, 0.0)):
        session.save_screenshot()


def _combo(label: str, name: str, current: str, choices: list[str]) -> str | None:
    """A combo; returns the choice made in this frame."""
    _label(label)
    chosen = None
    if imgui.begin_combo(f"##{name}", current, imgui.ComboFlags_.height_large):
        for choice in choices:
            if imgui.selectable(choice, choice == current)[0] and choice != current:
                chosen = choice
        imgui.end_combo()
    return chosen


def _slider(
    session: Session,
    label: str,
    name: str,
    limits: tuple[float, float],
    format: str,
    logarithmic: bool = False,
    hint: str = "",
    unit: float = 1.0,
) -> None:
    """A slider for the simulation setting ``name``, shown in units of ``unit`` rounded to three digits."""
    _label(label, hint)
    value = float(getattr(session.engine.settings.simulation, name)) / unit
    changed, value = imgui.slider_float(
        f"##{name}", value, *limits, format, LOGARITHMIC if logarithmic else 0
    )
    if changed:
        session.change(name, float(f"{value * unit:.3g}"))


def _draw_scene(session: Session) -> None:
    imgui.separator_text("Scene")
    settings = session.engine.settings.simulation
    scene = _combo("scene", "scene", settings.scene, session.scenes)
    if scene:
        session.change("scene", scene)
    grids = {f"{nx} x {ny}": (nx, ny) for nx, ny in grid_choices(settings.grid)}
    grid = _combo("grid", "grid", "{} x {}".format(*settings.grid), list(grids))
    if grid:
        session.change("grid", grids[grid])


def grid_choices(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Grids of the same proportions as ``grid``, itself among them, small to large."""
    nx, ny = grid
    short = min(nx, ny)
    choices = {(round(nx * side / short), round(ny * side / short)) for side in SHORT_SIDES}
    return sorted(choices | {(nx, ny)})


def _draw_fluids(session: Session) -> None:
    imgui.separator_text("Fluids")
    hint = "density of the heavy fluid over that of the light one"
    _slider(session, "contrast", "contrast", (1.0, MAX_CONTRAST), "%.4g : 1", logarithmic=True, hint=hint)
    _slider(session, "gravity", "gravity", (0.0, 30.0), "%.3g m/s²")
    for phase in ("heavy", "light"):
        label, hint = (
            f"{phase} viscosity",
            f"kinematic viscosity of the {phase} fluid; water has 1 mm²/s, air 15",
        )
        name, limits = f"{phase}_viscosity", (0.1, 1e5)
        _slider(session, label, name, limits, "%.4g mm²/s", logarithmic=True, hint=hint, unit=1e-6)


def _draw_solve(session: Session) -> None:
    imgui.separator_text("Pressure solve")
    settings = session.engine.settings.simulation
    _label("preconditioner")
    if imgui.begin_combo("##preconditioner", settings.preconditioner, imgui.ComboFlags_.height_large):
        for name, description in session.preconditioners.items():
            usable = name in session.available
            flags = 0 if usable else imgui.SelectableFlags_.disabled
            text = name if usable else f"{name}: {description}"
            if imgui.selectable(f"{text}###{name}", name == settings.preconditioner, flags)[0]:
                session.change("preconditioner", name)
            if imgui.is_item_hovered(imgui.HoveredFlags_.allow_when_disabled):
                imgui.set_tooltip(description)
        imgui.end_combo()
    note = session.engine.note
    if note:
        imgui.text_wrapped(note)
    if session.notice:
        imgui.push_style_color(imgui.Col_.text, theme.RED)
        imgui.text_wrapped(session.notice)
        imgui.pop_style_color()
    tolerances = [f"1e-{power}" for power in TOLERANCE_POWERS]
    current = next((text for text in tolerances if float(text) == settings.rtol), f"{settings.rtol:.3g}")
    tolerance = _combo("tolerance", "rtol", current, tolerances)
    if tolerance:
        session.change("rtol", float(tolerance))
    _label("iteration limit")
    limits = (1, 10_000)
    changed, limit = imgui.slider_int("##max_iterations", settings.max_iterations, *limits, "%d", LOGARITHMIC)
    if changed:
        session.change("max_iterations", limit)
    _label("warm start", "start each solve from the last pressure")
    changed, warm_start = imgui.checkbox("##warm_start", settings.warm_start)
    if changed:
        session.change("warm_start", warm_start)
    _label(
        "reuse set-up", "keep what still serves of the preconditioner until the iterations grow by a third"
    )
    changed, reuse_setup = imgui.checkbox("##reuse_setup", settings.reuse_setup)
    if changed:
        session.change("reuse_setup", reuse_setup)
    if settings.device == "cuda":
        _label("single launch", "one graph launch for all of a solve, which then ends by itself")
        changed, single_launch = imgui.checkbox("##single_launch", settings.single_launch)
        if changed:
            session.change("single_launch", single_launch)


def _draw_picture(session: Session) -> None:
    imgui.separator_text("Picture")
    view = session.view
    field = _combo("show", "field", view.field, list(VIEWS))
    if field:
        session.show_field(field)
    colormap = _combo("colours", "colormap", view.colours, list(COLORMAPS))
    if colormap:
        session.choose_colormap(colormap)
    _label("range", "colours follow the field, or stay between two values")
    automatic = view.range == "auto"
    changed, automatic = imgui.checkbox("automatic##range", automatic)
    if changed:
        if automatic:
            session.free_range()
        else:
            session.fix_range(session.picture.low, session.picture.high)
    if not automatic:
        low, high = session.picture.low, session.picture.high
        _label("from, to")
        flags = imgui.InputTextFlags_.enter_returns_true
        changed, (low, high) = imgui.input_float2("##limits", [low, high], "%.4g", flags)
        if changed and math.isfinite(low) and math.isfinite(high):
            session.fix_range(low, high)

    _label("interface", "a line where the two fluids meet")
    changed, interface = imgui.checkbox("##interface", view.interface)
    if changed:
        session.show_interface(interface)


def _draw_brush(session: Session) -> None:
    imgui.separator_text("Brush")
    brush = session.brush
    _label("right-drag", "what dragging with the right button paints")
    for number, paint in enumerate(PAINTS):  # two rows of two
        if number % 2:
            imgui.same_line(theme.scaled(LABEL_WIDTH + 80.0))
        else:
            imgui.set_cursor_pos_x(theme.scaled(LABEL_WIDTH))
        if imgui.radio_button(paint, brush.paint == paint):
            brush.paint = paint
    _label("radius", "the mouse wheel on the picture changes it too")
    _, percent = imgui.slider_float("##radius", 100.0 * brush.radius, 1.0, 50.0, "%.0f %% of side")
    brush.radius = percent / 100.0
    _label("strength", "speed of the stirred fluid over that of the mouse")
    _, brush.strength = imgui.slider_float("##strength", brush.strength, 0.1, 10.0, "%.2g", LOGARITHMIC)
