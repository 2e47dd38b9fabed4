"""What the window does beside drawing, tried without a window."""

import math
import sys

import numpy as np
import pytest

from app.config.settings import app_settings
from app.engine import Engine
from app.viewer import run_demo
from app.viewer.history import FRAMES, History
from app.viewer.session import Session


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Session(Engine(app_settings({"grid": (32, 16), "colormap": "grey"})))


def test_each_field_keeps_its_colours_and_its_range(session):
    assert session.view.colours == "grey"
    session.show_field("speed")
    assert session.view.colours == "magma"
    session.choose_colormap("turbo")
    session.fix_range(0.0, 2.5)
    session.show_field("density")
    assert (session.view.colours, session.view.range) == ("grey", "auto")
    session.show_field("speed")
    assert (session.view.colours, session.view.range) == ("turbo", (0.0, 2.5))
    session.free_range()
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
    session.fix_range(3.0, 3.0)
    assert session.message.error
    assert session.view.range == "auto"


def test_new_scene_and_reset_start_the_plots_anew(session):
    for restart in (session.reset, lambda: session.change("scene", "falling-drop")):
        session.advance()
        assert len(session.history) == 1
        restart()
        assert len(session.history) == 0
        assert session.engine.frame == 0


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
    session.reset()
    assert session.warning == ""


class Hand:
    """Records what reaches the simulation, in place of its methods."""

    def __init__(self, session, monkeypatch):
        self.stirs, self.paints = [], []
        simulation = session.engine.simulation
        monkeypatch.setattr(simulation, "stir", lambda *stir: self.stirs.append(stir))
        monkeypatch.setattr(simulation, "paint", lambda *paint: self.paints.append(paint))


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


def test_fast_stroke_paints_without_gaps(session, monkeypatch):
    hand = Hand(session, monkeypatch)
    session.brush.paint = "solid"
    session.paint((0.1, 0.1), (0.7, 0.4))
    places = np.array([[0.1, 0.1]] + [paint[:2] for paint in hand.paints])
    gaps = np.hypot(*np.diff(places, axis=0).T)
    assert gaps.max() <= session.brush_radius
    assert {paint[3] for paint in hand.paints} == {"solid"}
    assert tuple(places[-1]) == pytest.approx((0.7, 0.4))


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
    report = session.engine.step()
    history = History()
    assert history["frame"].size == 0
    assert history.mean("fps") == 0.0
    for frame in range(2 * FRAMES + 17):
        history.add(type(report)(**{**vars(report), "frame": frame, "sim_ms": float(frame)}))
    assert len(history) == FRAMES
    assert (history["frame"] == np.arange(FRAMES + 17, 2 * FRAMES + 17)).all()
    assert (history["sim_ms"] == history["frame"]).all()
    assert history["sim_ms"].flags.c_contiguous


def test_without_the_window_libraries_one_line_names_record(session, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("app.viewer.window")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "imgui_bundle", None)
    assert run_demo(session.engine) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "record" in line
    assert "libx11-6" in line
