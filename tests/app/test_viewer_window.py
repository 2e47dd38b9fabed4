"""The real window, driven by the toolkit's test engine: what a hand does must arrive in the engine."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from app.picture import View, render
from app.picture.palettes import fluid_inks

BRIGHT_RED = (255, 107, 97)  # of warnings


def settle(ctx):
    """Let the window draw what has changed."""
    ctx.yield_(2)


def press(ctx, name):
    from imgui_bundle import imgui

    ctx.key_press(getattr(imgui.Key, name))
    settle(ctx)


def pick(ctx, scene):
    """Click the card of ``scene`` in the open gallery."""
    ctx.item_click(f"//**/##{scene}")
    settle(ctx)


def on_screen(window, x, y):
    """Where the point (x, y) of the domain, in metres, is on the screen."""
    left, top, width, height = window.field.rectangle
    width_m, height_m = window.session.engine.simulation.domain
    return left + width * x / width_m, top + height * (1.0 - y / height_m)


def cell_at(simulation, x, y):
    """Index (i, j) of the cell with the point (x, y)."""
    nx, ny = simulation.shape
    return int(x / simulation.domain[0] * nx), int(y / simulation.domain[1] * ny)


def capture(ctx, path):
    """The window's pixels as (height, width, 3) uint8."""
    from imgui_bundle.immapp import testing

    testing.capture(ctx, str(path))
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_panel_steers_the_engine(drive):
    def test(ctx, window):
        engine = window.session.engine
        settings = engine.settings.simulation
        ctx.set_ref("Controls")
        ctx.combo_click("##preconditioner/jacobi")
        settle(ctx)
        assert settings.preconditioner == "jacobi"
        assert engine.last.preconditioner == "jacobi"

        before = settings.contrast
        ctx.item_drag_with_delta("##contrast", (40.0, 0.0))
        settle(ctx)
        assert settings.contrast > 2.0 * before
        ctx.item_input_value("##contrast", 1000.0)
        settle(ctx)
        assert settings.contrast == 1000.0
        assert engine.simulation.field("density").max() == pytest.approx(1000.0, rel=1e-3)

        ctx.item_input_value("##gravity", 3.5)
        ctx.item_input_value("##heavy_viscosity", 250.0)  # mm^2/s
        ctx.item_input_value("##max_iterations", 77)
        ctx.combo_click("##rtol/1e-6")
        ctx.item_click("##warm_start")
        ctx.item_click("##reuse_setup")
        settle(ctx)
        assert settings.gravity == 3.5
        assert settings.heavy_viscosity == pytest.approx(2.5e-4)
        assert settings.max_iterations == 77
        assert settings.rtol == 1e-6
        assert settings.warm_start is False
        assert settings.reuse_setup is False
        assert not ctx.item_exists("##single_launch")
        settings.device = "cuda"  # as far as the controls can see
        settle(ctx)
        ctx.item_click("##single_launch")
        settle(ctx)
        settings.device = "cpu"
        assert settings.single_launch is True

        ctx.item_click("###pause")
        settle(ctx)
        assert engine.paused
        frame = engine.frame
        ctx.item_click("###step")
        settle(ctx)
        assert engine.frame == frame + 1
        ctx.item_click("###reset")
        settle(ctx)
        assert engine.frame == 0
        assert engine.simulation.time == 0.0

    drive(test)


def test_the_strip_of_numbers_stays_in_one_row(drive):
    def test(ctx, window):
        session, hud = window.session, window._hud
        while session.engine.frame < 3:
            ctx.yield_()
        for choice in ("multigrid: the cheapest lately", "coarse-iterated: not tried yet"):
            solved = replace(session.engine.last.attempts[-1], method="auto", choice=choice, iterations=1234)
            session.engine.last = replace(session.engine.last, attempts=(solved,))
            session.engine.paused = True
            settle(ctx)
            assert hud.rows == 1

    drive(test, size=(1280, 800), scale=1.0, preconditioner="jacobi")


def test_scene_and_grid_are_switched_while_it_runs(drive):
    def test(ctx, window):
        engine = window.session.engine
        ctx.set_ref("Controls")
        ctx.combo_click("##grid/96 x 48")
        settle(ctx)
        assert engine.simulation.shape == (96, 48)
        from imgui_bundle import imgui

        for number in range(6):  # every new size frees the old texture
            window.session.change("grid", [(32, 16), (96, 48)][number % 2])
            ctx.yield_(3)
        assert len(imgui.get_platform_io().textures) <= 3  # fonts, the picture, one on its way out
        ctx.item_click("###scene")
        ctx.yield_(3)
        assert len(window.gallery._pictures) == len(window.session.scenes)
        pick(ctx, "rising-bubbles")
        ctx.yield_(5)
        assert engine.settings.simulation.scene == "rising-bubbles"
        assert engine.frame > 0
        _, _, width, height = window.field.rectangle
        width_m, height_m = engine.simulation.domain
        assert width / height == pytest.approx(width_m / height_m, rel=1e-3)

    drive(test)


def test_refused_setting_is_said_and_nothing_breaks(drive):
    def test(ctx, window):
        engine = window.session.engine
        ctx.set_ref("Controls")
        session, settings = window.session, engine.settings.simulation
        for name, typed, kept in (("radius", -5, 0.01), ("strength", 1e30, 10.0)):
            ctx.item_input_value(f"##{name}", typed)
            settle(ctx)
            assert getattr(session.brush, name) == pytest.approx(kept)
        ctx.item_input_value("##gravity", 100.0)  # beyond the slider, not beyond the setting
        settle(ctx)
        assert settings.gravity == 100.0
        for name, typed, kept in (
            ("max_iterations", 0, 2000),
            ("gravity", -1.0, 100.0),
            ("gravity", 2e3, 100.0),
        ):
            session.say("")
            ctx.item_input_value(f"##{name}", typed)
            settle(ctx)
            assert getattr(settings, name) == kept
            assert name in session.message.text
            assert session.message.error
        ctx.item_input_value("##gravity", "inf")
        settle(ctx)
        assert settings.gravity == 100.0
        assert "not a finite number" in session.message.text
        frame = engine.frame
        ctx.yield_(3)
        assert engine.frame > frame
        ctx.item_click("automatic##range")  # off: fixed at what is shown
        settle(ctx)
        assert window.session.view.range == (1.0, 100.0)

    drive(test)


def test_keys(drive):
    def test(ctx, window):
        session, engine = window.session, window.session.engine
        for key, field in zip(
            "54321", ("divergence", "vorticity", "speed", "pressure", "density"), strict=True
        ):
            press(ctx, f"_{key}")
            assert session.view.field == field
        press(ctx, "space")
        assert engine.paused
        frame = engine.frame
        ctx.yield_(3)
        assert engine.frame == frame
        press(ctx, "period")
        assert engine.frame == frame + 1
        press(ctx, "space")
        assert not engine.paused
        ctx.yield_(3)
        assert engine.frame > frame + 1
        press(ctx, "space")
        press(ctx, "r")
        assert (engine.frame, engine.simulation.time) == (0, 0.0)
        press(ctx, "f1")
        assert session.show_help
        press(ctx, "escape")
        assert not session.show_help

    drive(test)


def test_screenshot_and_recording_are_written_where_it_says(drive, tmp_path):
    def test(ctx, window):
        session = window.session
        press(ctx, "space")
        press(ctx, "f12")
        (picture,) = (tmp_path / "runs" / "screenshots").glob("*.png")
        assert str(picture.relative_to(tmp_path)) in session.message.text
        with Image.open(picture) as image:
            stored = np.asarray(image)
        assert stored.shape[1] >= 1280
        assert (stored == render(session.engine.simulation, session.view, stored.shape[1])).all()

        press(ctx, "f9")
        for _ in range(3):
            press(ctx, "period")
        assert session.recording
        press(ctx, "f9")
        assert not session.recording
        (table,) = (tmp_path / "runs").glob("*/timings.csv")
        assert str(table.parent.relative_to(tmp_path)) in session.message.text
        assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + 3

    drive(test)


def test_dragging_stirs(drive):
    def test(ctx, window):
        simulation = window.session.engine.simulation
        assert simulation.max_speed() < 1e-9  # no gravity: all at rest
        x, y = 0.4 * simulation.domain[0], 0.25 * simulation.domain[1]
        ctx.mouse_move_to_pos(on_screen(window, x, y))
        ctx.mouse_down(0)
        for k in range(1, 7):
            ctx.mouse_teleport_to_pos(on_screen(window, x * (1.0 + 0.1 * k), y))
            ctx.yield_()
        ctx.mouse_up(0)
        settle(ctx)
        assert simulation.max_speed() > 1e-2
        i, j = cell_at(simulation, 1.3 * x, y)
        assert simulation.velocity[0, i, j] > 0.0  # to the right, as the hand went
        assert simulation.phase_volume() == pytest.approx(volume[0], rel=1e-9)

    volume = []

    def measured(ctx, window):
        volume.append(window.session.engine.simulation.phase_volume())
        test(ctx, window)

    drive(measured, gravity=0.0)


def test_right_dragging_paints_and_the_wheel_sizes_the_brush(drive):
    def test(ctx, window):
        session, simulation = window.session, window.session.engine.simulation
        press(ctx, "space")
        width, height = simulation.domain
        points = {"heavy": (0.8 * width, 0.7 * height), "solid": (0.6 * width, 0.3 * height)}
        assert all(
            simulation.phase_fraction()[cell_at(simulation, *point)] == 0.0 for point in points.values()
        )
        ctx.mouse_move_to_pos(on_screen(window, *points["heavy"]))
        radius = session.brush.radius
        ctx.mouse_wheel_y(3.0)
        settle(ctx)
        assert session.brush.radius > radius

        ctx.mouse_down(1)
        ctx.mouse_teleport_to_pos(on_screen(window, 0.7 * width, 0.7 * height))
        ctx.yield_()
        ctx.mouse_up(1)
        settle(ctx)
        for x in (0.7, 0.75, 0.8):  # all along the stroke
            assert simulation.phase_fraction()[cell_at(simulation, x * width, 0.7 * height)] == 1.0

        ctx.item_click("Controls/##paint solid")
        ctx.mouse_move_to_pos(on_screen(window, *points["solid"]))
        ctx.mouse_click(1)
        settle(ctx)
        cell = cell_at(simulation, *points["solid"])
        assert simulation.solid_mask()[cell]
        ctx.item_click("Controls/##paint erase")
        ctx.mouse_move_to_pos(on_screen(window, *points["solid"]))
        ctx.mouse_click(1)
        settle(ctx)
        assert not simulation.solid_mask()[cell]

    drive(test)


def test_window_shows_what_render_draws(drive, tmp_path):
    def test(ctx, window):
        session, simulation = window.session, window.session.engine.simulation
        ctx.yield_(40)
        press(ctx, "space")
        simulation.paint(0.7 * simulation.domain[0], 0.6 * simulation.domain[1], 0.1, "solid")
        ctx.mouse_move_to_pos((5.0, 5.0))
        settle(ctx)
        left, top, width, height = window.field.rectangle
        nx, ny = simulation.shape
        assert width >= 8 * nx  # as large as the window allows
        for key, field in (("_1", "density"), ("_3", "speed")):
            press(ctx, key)
            pixels = capture(ctx, tmp_path / f"{field}.png").astype(int)
            columns = (left + width * (np.arange(nx) + 0.5) / nx).astype(int)
            rows = (top + height * (np.arange(ny) + 0.5) / ny).astype(int)
            seen = pixels[rows][:, columns]  # at the cells' centres
            drawn = render(simulation, View(field), 9 * nx).astype(int)[4::9, 4::9]
            assert drawn.std() > 10.0  # there is something to see
            assert np.median(np.abs(seen - drawn).max(axis=2)) <= 2
            assert np.mean(np.abs(seen - drawn).max(axis=2) > 40) < 0.05  # the thin line may lie between
            if field == "density":
                fraction = np.pad(simulation.phase_fraction(), 2, constant_values=np.nan)
                solid = np.pad(simulation.solid_mask(), 2)
                around = np.lib.stride_tricks.sliding_window_view
                clear = ~around(solid, (5, 5)).any(axis=(2, 3))
                blocks = around(fraction, (5, 5))
                for inks, inside in (
                    (fluid_inks("fluid", 1.0), np.nanmin(blocks, axis=(2, 3)) > 0.99),
                    (fluid_inks("fluid", 0.0), np.nanmax(blocks, axis=(2, 3)) < 0.001),
                ):
                    place = (inside & clear).T[::-1]
                    assert place.sum() > 100
                    off = np.abs(seen[place][:, None] - inks[None]).max(axis=2).min(axis=1)
                    assert np.mean(off > 4) < 0.1  # but for tracers
        assert session.picture.values.shape == (nx, ny)

    drive(test)


def test_unconverged_solve_is_shown_in_red(drive, tmp_path):
    def test(ctx, window):
        session = window.session
        ctx.yield_(5)
        assert session.warning == ""
        left, top, width, height = (int(value) for value in window.field.rectangle)

        def red(path):
            picture = capture(ctx, path)[top : top + height // 4, left : left + width].astype(int)
            return (np.abs(picture - BRIGHT_RED).max(axis=2) < 30).sum()

        assert red(tmp_path / "before.png") == 0
        session.change("preconditioner", "none")
        session.change("rtol", 1e-12)
        session.change("max_iterations", 2)
        ctx.yield_(3)
        assert session.engine.last.outcome == "iteration limit"
        assert "did not converge" in session.warning
        assert red(tmp_path / "after.png") > 100

    drive(test)


def test_a_stroke_is_in_the_picture_of_the_same_frame(drive, monkeypatch):
    """In one frame of the window: the mouse, then the step, then the picture of that step."""
    from imgui_bundle import imgui

    strokes, pictures = [], {}

    def test(ctx, window):
        session, engine = window.session, window.session.engine
        point = 0.8 * engine.simulation.domain[0], 0.7 * engine.simulation.domain[1]
        paint, draw = engine.paint, session.draw

        def noted_paint(*stroke):
            strokes.append((imgui.get_frame_count(), engine.frame))
            paint(*stroke)

        def noted_draw():
            picture = draw()
            heavy = picture.values[cell_at(engine.simulation, *point)] > 50.0
            pictures[imgui.get_frame_count()] = engine.frame, heavy
            return picture

        monkeypatch.setattr(engine, "paint", noted_paint)
        monkeypatch.setattr(session, "draw", noted_draw)
        ctx.mouse_move_to_pos(on_screen(window, *point))
        ctx.mouse_down(1)
        ctx.yield_(2)
        ctx.mouse_up(1)
        settle(ctx)

    drive(test, gravity=0.0)
    painted_in, frame = strokes[0]
    assert pictures[painted_in - 1] == (frame, False)
    assert pictures[painted_in] == (frame + 1, True)


def test_drawing_is_timed_alone(drive, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("app.viewer.window.time", SimpleNamespace(perf_counter=lambda: clock.now))

    def spend(seconds):
        clock.now += seconds

    def test(ctx, window):
        session = window.session
        draw = session.draw

        def slow_draw():
            spend(0.25)
            return draw()

        monkeypatch.setattr(session, "draw", slow_draw)
        ctx.yield_(3)
        session.ask(spend, 1.5)  # as long as loading weights may take
        ctx.yield_(3)
        assert clock.now > 1.5
        assert session.history()["draw"][-5:] == pytest.approx([250.0] * 5)

    drive(test)


def gallery_is_open():
    from imgui_bundle import imgui

    return imgui.is_popup_open("", imgui.PopupFlags_.any_popup)


def test_the_gallery_opens_scenes_by_keys(drive):
    def test(ctx, window):
        session, settings = window.session, window.session.engine.settings
        names = list(session.scenes)
        press(ctx, "g")
        settle(ctx)
        assert gallery_is_open()
        assert names[window.gallery.chosen] == "dam-break"
        press(ctx, "right_arrow")
        press(ctx, "enter")
        settle(ctx)
        assert not gallery_is_open()
        assert settings.simulation.scene == names[names.index("dam-break") + 1]
        for closing in ("g", "escape"):
            press(ctx, "g")
            settle(ctx)
            assert gallery_is_open()
            press(ctx, closing)
            settle(ctx)
            assert not gallery_is_open()

    drive(test)


def test_materials_have_keys_and_places_and_the_hand_moves_what_was_painted(drive):
    def test(ctx, window):
        session, engine = window.session, window.session.engine
        for key, material in (("d", "drain"), ("a", "heavy source"), ("e", "solid")):
            press(ctx, key)
            assert session.brush.paint == material
        ctx.item_click("Controls/##paint drain")
        settle(ctx)
        assert session.brush.paint == "drain"
        engine.paint(1.2, 0.5, 0.1, "solid")
        press(ctx, "f")
        ctx.mouse_move_to_pos(on_screen(window, 1.2, 0.5))
        ctx.mouse_down(0)
        ctx.yield_(2)
        ctx.mouse_teleport_to_pos(on_screen(window, 1.6, 0.7))
        ctx.yield_(2)
        ctx.mouse_up(0)
        settle(ctx)
        solid = engine.simulation.solid_mask()
        assert solid[cell_at(engine.simulation, 1.6, 0.7)]
        assert not solid[cell_at(engine.simulation, 1.2, 0.5)]

    drive(test)


def test_escape_closes_a_list(drive):
    def test(ctx, window):
        from imgui_bundle import imgui

        ctx.set_ref("Controls")
        ctx.item_click("##colormap")
        settle(ctx)
        assert imgui.is_popup_open("", imgui.PopupFlags_.any_popup)
        press(ctx, "escape")
        assert not imgui.is_popup_open("", imgui.PopupFlags_.any_popup)
        assert not window.session.show_help

    drive(test)


def test_a_portrait_scene_uses_the_window_and_the_theme_follows_the_settings(drive, tmp_path):
    def test(ctx, window):
        session = window.session
        settle(ctx)
        _, top, _, landscape = window.field.rectangle
        ctx.set_ref("Controls")
        session.ask(session.change, "grid", (32, 64))
        ctx.yield_(10)
        width_m, height_m = session.engine.simulation.domain
        left, top, width, height = window.field.rectangle
        assert width / height == pytest.approx(width_m / height_m, rel=1e-3)
        screen = capture(ctx, tmp_path / "dark.png")
        assert height > 0.75 * (screen.shape[0] - top)
        assert height > 1.2 * landscape
        corner = screen[-3, int(left) - 20].astype(int)  # of the panel, beside the picture
        assert corner.mean() < 60
        ctx.combo_click("##theme/light")
        settle(ctx)
        screen = capture(ctx, tmp_path / "light.png").astype(int)
        assert screen[-3, int(left) - 20].mean() > 200
        middle = screen[int(top + 5) : int(top + height - 5), int(left + 5) : int(left + width - 5)]
        assert middle.mean() < 180  # the picture keeps its own colours
        session.ask(session.change, "grid", (64, 32))
        ctx.yield_(10)
        assert window.field.rectangle[3] == pytest.approx(landscape, rel=0.1)

    drive(test)


def test_view_is_changed_from_the_panel(drive):
    def test(ctx, window):
        session = window.session
        ctx.set_ref("Controls")
        assert session.view.traced
        ctx.item_click("##tracers")
        ctx.item_click("##light")
        ctx.combo_click("##colormap/ember")
        settle(ctx)
        assert not session.view.traced
        assert not session.view.light
        assert session.view.colours == "ember"
        press(ctx, "_3")
        assert session.view.colours == "magma"
        press(ctx, "_1")
        assert session.view.colours == "ember"
        assert not session.view.traced

    drive(test)
