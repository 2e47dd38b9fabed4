"""What the window does beside drawing, tried without a window."""

import math
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.ndimage

from app.config.settings import app_settings
from app.engine import Engine
from app.picture import draw
from app.viewer import run_demo
from app.viewer.field import reading
from app.viewer.materials import MATERIALS, MOVE
from app.viewer.session import FRAMES, Message, Session
from sim.fields import Snapshot
from sim.scenes import SCENE_FOLDER
from sim.simulation import PAINTS


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Session(Engine(app_settings({"grid": (32, 16), "colormap": "grey"})))


def test_each_field_keeps_its_colours_and_its_range(session):
    assert session.view.colours == "grey"
    session.change_view(field="speed")
    assert session.view.colours == "magma"
    session.change_view(colormap="turbo")
    session.change_view(range=(0.0, 2.5))
    session.change_view(field="density")
    assert (session.view.colours, session.view.range) == ("grey", "auto")
    session.change_view(field="speed")
    assert (session.view.colours, session.view.range) == ("turbo", (0.0, 2.5))
    session.change_view(range="auto")
    assert session.view.range == "auto"


@pytest.mark.parametrize(
    ("name", "value"),
    [("contrast", 1e6), ("grid", (4, 4)), ("scene", "tea-pot"), ("preconditioner", "magic"), ("rtol", -1.0)],
)
def test_refused_change_is_said_and_the_simulation_goes_on(session, name, value):
    before = getattr(session.engine.settings.simulation, name)
    session.change(name, value)
    assert session.message.error
    assert name in session.message.text or "magic" in session.message.text
    assert getattr(session.engine.settings.simulation, name) == before
    session.advance()
    assert session.engine.frame == 1
    session.change("contrast", 50.0)
    assert session.message is None


def test_range_that_is_none_is_refused(session):
    session.change_view(range=(3.0, 3.0))
    assert session.message.error
    assert session.view.range == "auto"


def test_a_solid_is_read_as_such(session):
    session.engine.paint(1.0, 0.5, 0.2, "solid")
    session.shown = Snapshot(session.engine.simulation)
    session.picture = draw(session.shown, session.view, (64, 32))
    assert reading(session, (1.0, 0.5)) == "(1.00, 0.50) m   solid"
    assert reading(session, (0.1, 0.9)).endswith(" kg/m³")


def test_new_scene_and_reset_start_the_plots_anew(session):
    for restart in (session.engine.reset, lambda: session.change("scene", "falling-drop")):
        session.advance()
        assert len(session.history()["frame"]) == 1
        restart()
        assert len(session.history()["frame"]) == 0
        assert session.engine.frame == 0


def test_a_leaf_that_cannot_be_outlined_is_said(session):
    session.change("preconditioner", "multigrid")
    session.toggle_leaf()
    assert session.front == "Partition"
    assert session.message.text.startswith("multigrid has no leaves: coarse-monomial, coarse-iterated, ")
    session.toggle_leaf()
    session.change("preconditioner", "coarse-iterated")
    session.toggle_leaf()
    assert session.message is None


def test_single_step_pauses_a_running_simulation(session):
    session.advance()
    session.step()
    assert session.engine.paused
    assert session.engine.frame == 2
    session.advance()
    assert session.engine.frame == 2


def test_unconverged_solve_is_a_warning_until_it_is_mended(session):
    session.engine.settings.simulation.rtol = 1e-12
    session.engine.settings.simulation.max_iterations = 1
    session.change("preconditioner", "none")
    session.advance()
    assert "iteration limit" in session.warning
    session.engine.reset()
    assert session.warning == ""


class Hand:
    """Records what reaches the simulation, in place of its methods."""

    def __init__(self, session, monkeypatch):
        self.stirs, self.paints = [], []
        engine = session.engine
        monkeypatch.setattr(engine, "stir", lambda *stir: self.stirs.append(stir))
        monkeypatch.setattr(engine, "paint", lambda *paint: self.paints.append(paint))


def test_stirring_follows_the_hand_but_is_no_jet(session, monkeypatch):
    hand = Hand(session, monkeypatch)
    session.brush.strength = 2.0
    session.stir((0.1, 0.2), (0.12, 0.2), 0.1)
    assert hand.stirs == [pytest.approx((0.12, 0.2, 0.4, 0.0, session.brush_radius))]
    hand.stirs.clear()
    session.stir((0.0, 0.0), (0.9, 0.9), 1e-6)
    speeds = [math.hypot(*stir[2:4]) for stir in hand.stirs]
    assert max(speeds) <= 4.0 * max(session.engine.simulation.domain) * 1.000001
    assert hand.stirs[-1][:2] == (0.9, 0.9)
    hand.stirs.clear()
    session.engine.paused = True
    session.stir((0.1, 0.2), (0.12, 0.2), 0.1)
    assert hand.stirs == []


@pytest.mark.parametrize("moves", [1, 2, 7])
def test_a_stroke_paints_without_gaps_however_few_moves_it_has(session, moves):
    """Corner to corner with the finest brush: a wall that no fluid passes."""
    session.change("grid", (64, 32))
    session.brush.paint, session.brush.radius = "solid", 0.01
    places = np.linspace((0.0, 0.0), (2.0, 1.0), moves + 1).tolist()
    for begin, end in pairwise(places):
        session.paint(begin, end)
    solid = session.engine.simulation.solid_mask()
    assert scipy.ndimage.label(solid, np.ones((3, 3)))[1] == 1
    assert solid.any(axis=1).all()
    assert solid.sum() < 3 * 64  # and no wider than the brush


def test_the_hand_moves_an_obstacle_and_holds_it_where_it_got_to(session):
    session.brush.paint = "solid"
    session.paint((1.0, 0.5), (1.0, 0.5))
    solid = session.engine.simulation.solid_mask()
    session.take("move")
    session.paint((0.2, 0.5), (0.3, 0.5))  # the hand paints nothing
    session.move((1.0, 0.5), (1.0, 0.5), 0.02, True)
    for end in ((1.2, 0.5), (9.0, 0.5), (1.5, 0.5)):  # beyond the wall and back
        session.move((0.0, 0.0), end, 0.02, False)
    moved = session.engine.simulation.solid_mask()
    assert moved.sum() == solid.sum()
    assert np.argwhere(moved).mean(axis=0)[0] * 2.0 / 32 == pytest.approx(1.5, abs=0.07)
    session.move((0.1, 0.5), (0.1, 0.5), 0.02, True)
    assert "nothing is solid here" in session.message.text
    session.move((0.1, 0.5), (1.5, 0.5), 0.02, False)  # a stroke that began on fluid grabs nothing later
    session.move((1.5, 0.5), (1.0, 0.5), 0.02, False)
    assert (session.engine.simulation.solid_mask() == moved).all()


def test_every_material_has_its_place_in_the_palette_and_a_key_of_its_own():
    from app.viewer.keys import KEYS

    assert set(MATERIALS) == {*PAINTS, MOVE}
    names = [key.name for key in KEYS]
    assert len(set(names)) == len(names)
    assert {material.key for material in MATERIALS.values()} <= set(names)


def test_screenshot_that_cannot_be_written_is_said(session, tmp_path):
    (tmp_path / "runs").write_text("in the way")
    session.save_screenshot()
    assert session.message.error


def test_recording_that_cannot_be_written_is_said(session, tmp_path):
    (tmp_path / "runs").write_text("in the way")
    session.toggle_recording()
    assert session.message.error
    assert not session.recording


def test_history_keeps_the_last_frames(session):
    assert session.history()["fps"].size == 0
    for _ in range(3):
        session.advance()
    report = session.engine.last
    for frame in range(4, FRAMES + 18):
        session._on_frame(replace(report, frame=frame))
    history = session.history()
    assert (history["frame"] == np.arange(18, FRAMES + 18)).all()
    assert history["set-up + inference"][-1] == report.setup_ms + report.inference_ms
    assert "failed solve" not in history
    assert all(values.flags.c_contiguous for values in history.values())


def test_the_frames_where_something_was_changed_are_told(session, monkeypatch):
    monkeypatch.setattr("precond.auto.Choice.rival", lambda *_: "")  # however long a solve takes here
    monkeypatch.setattr("precond.auto.Choice._cheapest", lambda _: "multigrid")
    session.change("preconditioner", "auto:candidates=jacobi,multigrid")
    for _ in range(2):
        session.advance()  # each is tried once
    session.change("contrast", 5000.0)
    session.change("contrast", 10_000.0)  # the same drag of the slider
    session.advance()
    session.change("gravity", 3.0)
    assert list(session.marks.latest) == [
        (0, "preconditioner", "auto:candidates=jacobi,multigrid"),
        (1, "auto", "multigrid"),
        (2, "contrast", 10_000.0),
    ]
    session.change("grid", (24, 12))
    assert session.marks.latest[-1] == (3, "grid", (24, 12))
    session.engine.reset()
    assert not session.marks.latest


@pytest.mark.parametrize("value", [0.0, -5.0, math.nan, math.inf])
def test_no_brush_is_too_odd_to_paint_and_stir(session, value):
    session.brush.radius = session.brush.strength = value
    assert 0.01 <= session.brush.radius <= 0.5
    assert 0.1 <= session.brush.strength <= 10.0
    session.paint((0.2, 0.2), (0.3, 0.3))
    session.stir((0.2, 0.2), (0.3, 0.3), 0.02)
    session.advance()
    assert session.engine.last.outcome == "converged"


def test_stirring_in_a_pause_says_that_it_does_nothing(session):
    session.toggle_pause()
    session.stir((0.2, 0.2), (0.3, 0.3), 0.02)
    assert "stirring does nothing" in session.message.text


def test_an_old_warning_does_not_come_back_in_a_pause(session):
    session.advance()
    session._warned_of, session._warning = session.engine.last, Message("hmatrix failed", True, 0.0)
    session.engine.paused = True
    assert session.warning == "hmatrix failed"  # it is about the frame that is seen
    session.step()
    assert session.warning == ""


def test_actions_wait_for_the_step_and_are_done_before_it(session):
    session.ask(session.change, "contrast", 7.0)
    assert session.engine.settings.simulation.contrast != 7.0
    session.advance()
    assert session.engine.settings.simulation.contrast == 7.0
    assert session.engine.frame == 1


def test_without_the_window_libraries_one_line_names_record(session, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("app.viewer.start", "app.viewer.window"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "imgui_bundle", None)
    assert run_demo(session.engine) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "record" in line
    assert "libx11-6" in line


@pytest.mark.parametrize("speed", [0.0, -1.0, 1e4, math.nan])
def test_no_speed_is_too_odd(session, speed):
    session.change_speed("speed", speed)
    assert session.message.error
    assert "speed" in session.message.text
    session.change_speed("speed", 0.5)
    assert session.worker.speed == 0.5
    session.advance()
    assert session.engine.frame > 0


def test_an_undo_that_fails_is_said_and_can_be_tried_again(session, tmp_path):
    scene = tmp_path / "own.yaml"
    scene.write_text((SCENE_FOLDER / "falling-drop.yaml").read_text())
    session.change("scene", str(scene))
    session.change("scene", "dam-break")
    text = scene.read_text()
    scene.unlink()
    session.undo()
    assert session.message.error
    scene.write_text(text)
    session.undo()
    assert session.engine.settings.simulation.scene == str(scene)
