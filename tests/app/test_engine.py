"""The engine: one report a frame, live changes, what it tells, and surviving what goes wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.config.settings import app_settings
from app.engine import FPS_FRAMES, HISTORY_FRAMES, Engine, Event
from precond import Outcome
from precond.errors import UsageError


@pytest.fixture
def engine():
    return Engine(app_settings({"grid": (32, 16), "preconditioner": "jacobi", "rtol": 1e-6}))


def test_a_report_is_what_the_simulation_did(engine):
    engine.draw_ms = 12.5
    reports = [engine.step() for _ in range(4)]
    assert [report.frame for report in reports] == [1, 2, 3, 4]
    assert engine.last is reports[-1]
    assert list(engine.history) == reports
    assert reports[-1].time_s == pytest.approx(sum(report.time_step_s for report in reports))
    assert [report.draw_ms for report in reports] == [12.5] * 4
    for report in reports:
        parts = (report.sim_ms, report.setup_ms, report.inference_ms, report.solve_ms)
        assert min(parts) >= 0.0
        assert sum(parts) == pytest.approx(report.step_ms)
        assert report.step_ms <= report.frame_ms
        assert (report.preconditioner, report.outcome, report.fallback) == ("jacobi", "converged", False)
        assert (report.failed, report.failed_ms, report.failure) == ([], 0.0, "")
        assert 0 < report.iterations <= 2000
        assert report.relative_residual <= 1e-6
    assert len(engine.residual_history) == reports[-1].iterations + 1
    assert engine.residual_history[-1] == pytest.approx(reports[-1].relative_residual, rel=0.1)


def test_fps_is_of_the_last_frames_but_never_of_the_first(engine):
    assert engine.step().fps == pytest.approx(1e3 / engine.last.frame_ms)
    for _ in range(FPS_FRAMES // 2):
        engine.step()
    times = [report.frame_ms for report in engine.history]
    assert engine.last.fps == pytest.approx(1e3 / np.mean(times[1:]))
    for _ in range(FPS_FRAMES):
        engine.step()
    times = [report.frame_ms for report in engine.history]
    assert engine.last.fps == pytest.approx(1e3 / np.mean(times[-FPS_FRAMES:]))


def test_the_history_is_bounded(engine):
    first = engine.step()
    engine.history.extend(replace(first, frame=0) for _ in range(2 * HISTORY_FRAMES))
    engine.step()
    assert len(engine.history) == HISTORY_FRAMES


def test_pausing(engine):
    assert engine.advance().frame == 1
    assert engine.single_step() is None
    engine.paused = True
    assert engine.advance() is None
    assert engine.single_step().frame == 2
    assert engine.simulation.step_count == 2


def test_reset_returns_to_the_initial_state(engine):
    initial = engine.simulation.field("density")
    engine.simulation.paint(0.5, 0.5, 0.2, "solid")
    for _ in range(3):
        engine.step()
    assert not np.array_equal(engine.simulation.field("density"), initial)
    engine.reset()
    np.testing.assert_array_equal(engine.simulation.field("density"), initial)
    assert (engine.frame, engine.simulation.time, engine.last, len(engine.history)) == (0, 0.0, None, 0)
    assert engine.step().frame == 1


def test_live_changes_take_hold(engine):
    simulation = engine.simulation
    engine.set("contrast", 250.0)
    engine.set("preconditioner", "none")
    engine.set("rtol", 1e-3)
    engine.set("warm_start", False)
    report = engine.step()
    assert engine.simulation is simulation
    assert simulation.field("density").max() == pytest.approx(250.0)
    assert report.preconditioner == "none"
    assert 1e-6 < report.relative_residual <= 1e-3
    engine.set("max_iterations", 1)
    report = engine.step()
    assert (report.outcome, report.iterations) == ("iteration limit", 1)
    assert not engine.message


def test_a_single_launch_on_a_cpu_is_noted_and_changes_nothing():
    engine, other = (Engine(app_settings({"grid": (32, 16), "preconditioner": "jacobi"})) for _ in "ab")
    engine.set("single_launch", True)
    for _ in range(3):
        assert engine.step().iterations == other.step().iterations
    assert engine.note == "no single launch: there are no CUDA graphs on a CPU"
    engine.set("single_launch", False)
    engine.step()
    assert engine.note == other.note == ""


def test_a_new_grid_takes_over_what_flows(engine):
    engine.set("contrast", 30.0)
    for _ in range(8):
        engine.step()
    engine.paint(1.5, 0.5, 0.2, "solid")
    old = engine.simulation
    engine.set("grid", (64, 32))
    assert engine.simulation.shape == (64, 32)
    assert (engine.frame, engine.settings.simulation.contrast) == (8, 30.0)
    assert engine.simulation.time == old.time
    assert engine.simulation.phase_volume() == pytest.approx(old.phase_volume(), rel=1e-3)
    assert engine.simulation.solid_mask().any()
    assert engine.step().outcome == "converged"


def test_a_new_grid_without_a_flow_or_of_other_proportions_is_the_scenes(engine):
    for grid in ((64, 32), (32, 32)):
        engine.set("grid", grid)
        assert (engine.frame, engine.simulation.time) == (0, 0.0)
        phase = engine.simulation.phase_fraction()
        expected, _ = engine.simulation.scene.initial_state(grid, 0)
        np.testing.assert_array_equal(phase, expected.astype(np.float32))
        engine.step()


def test_undo_and_redo_of_strokes_and_settings_bring_the_flow_back(engine):
    engine.step()
    states = [engine.simulation.state()]
    engine.begin_stroke()
    engine.paint(0.5, 0.5, 0.2, "solid")
    engine.step()
    states.append(engine.simulation.state())
    engine.set("contrast", 500.0)
    engine.set("preconditioner", "multigrid")
    engine.step()
    states.append(engine.simulation.state())

    def is_at(number):
        return all(torch.equal(a, b) for a, b in zip(engine.simulation.state(), states[number], strict=True))

    assert engine.undo() == "preconditioner"
    assert engine.settings.simulation.preconditioner != "multigrid"
    assert engine.settings.simulation.contrast == 500.0
    assert engine.undo() == "contrast"
    assert is_at(1)
    assert engine.undo() == "stroke"
    assert is_at(0)
    assert engine.undo() == ""
    assert [engine.redo() for _ in range(4)] == ["stroke", "contrast", "preconditioner", ""]
    assert is_at(2)
    assert engine.simulation.field("density").max() == pytest.approx(500.0, rel=0.2)
    engine.undo()
    engine.set("gravity", 1.0)  # a new branch
    assert engine.redo() == ""


def test_undo_leads_back_over_grids_scenes_and_resets(engine):
    for _ in range(3):
        engine.step()
    before = engine.simulation.state()
    engine.set("grid", (48, 24))
    engine.set("scene", "lava-lamp")
    engine.step()
    engine.reset()
    assert [engine.undo() for _ in range(3)] == ["reset", "scene", "grid"]
    assert engine.settings.simulation.scene == "dam-break"
    assert all(torch.equal(a, b) for a, b in zip(engine.simulation.state(), before, strict=True))


def test_a_slider_is_undone_as_a_whole_and_a_refused_change_not_at_all(engine):
    for value in (10.0, 20.0, 30.0):
        engine.set("contrast", value)
        engine.step()
    with pytest.raises(UsageError):
        engine.set("gravity", -1.0)
    with pytest.raises(UsageError):
        engine.set("preconditioner", "magic")
    assert engine.undo() == "contrast"
    assert engine.settings.simulation.contrast == 100.0
    assert engine.undo() == ""


def test_what_undo_keeps_is_bounded(engine, monkeypatch):
    monkeypatch.setattr("app.engine.UNDO_BYTES", 3 * engine.simulation.state().bytes)
    for _ in range(9):
        engine.begin_stroke()
    assert [engine.undo() for _ in range(5)] == ["stroke"] * 4 + [""]


def test_a_saved_state_goes_on_to_the_bit_with_the_present_solver(engine, tmp_path):
    engine.set("contrast", 400.0)
    for _ in range(3):
        engine.step()
    path = engine.save(tmp_path / "state.safetensors")
    other = Engine(app_settings({"grid": (16, 16), "scene": "falling-drop", "preconditioner": "multigrid"}))
    other.load(path)
    now = other.settings.simulation
    assert (now.scene, now.grid, now.contrast) == ("dam-break", engine.simulation.shape, 400.0)
    assert now.preconditioner == "multigrid"
    assert all(
        torch.equal(a, b) for a, b in zip(other.simulation.state(), engine.simulation.state(), strict=True)
    )
    assert other.step().outcome == "converged"
    assert other.undo() == "loading a state"
    assert other.settings.simulation.scene == "falling-drop"


def test_a_state_that_cannot_be_loaded_changes_nothing(engine, tmp_path):
    (tmp_path / "no.safetensors").write_text("no")
    simulation = engine.simulation
    with pytest.raises(UsageError, match=r"no\.safetensors"):
        engine.load(tmp_path / "no.safetensors")
    assert engine.simulation is simulation
    assert engine.undo() == ""


def test_a_new_scene_brings_its_settings_but_not_over_the_given_ones(engine, tmp_path):
    scene = tmp_path / "own.yaml"
    scene.write_text(
        "{title: Own, description: Mine, height: 2.0, duration: 1.0, background: light, shapes: [],"
        " settings: {grid: [24, 16], contrast: 7, gravity: 3.0, rtol: 1.0e-2},"
        " expect: {volume_drift_below: 1.0e-6}}",
        encoding="utf-8",
    )
    engine.set("gravity", 5.0)
    engine.set("courant", 0.3)
    engine.set("scene", str(scene))
    now = engine.settings.simulation
    assert (now.contrast, now.gravity) == (7, 3.0)
    assert (now.grid, now.rtol, now.preconditioner) == ((32, 16), 1e-6, "jacobi")  # given to the engine
    assert now.courant == 0.3
    assert engine.simulation.domain == (4.0, 2.0)
    engine.set("scene", "dam-break")
    now = engine.settings.simulation
    assert now.gravity == 9.81
    assert now.courant == 0.3


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("contrast", 0.5, "contrast"),
        ("contrast", "heavy", "contrast"),
        ("gravity", math.nan, "gravity"),
        ("max_iterations", 0, "max_iterations"),
        ("grid", (4, 4), "grid"),
        ("device", "tpu", "device"),
        ("colour", 1, "colour"),
        ("preconditioner", "magic", "magic"),
        ("scene", "nowhere", "nowhere"),
    ],
)
def test_a_refused_change_keeps_the_old_state_and_is_no_event(engine, name, value, says):
    engine.step()
    simulation, settings = engine.simulation, engine.settings.simulation.with_()
    time, density = simulation.time, simulation.field("density")
    events = []
    engine.subscribe(on_event=events.append)
    with pytest.raises(UsageError, match=says):
        engine.set(name, value)
    assert events == []
    assert engine.simulation is simulation
    assert engine.settings.simulation is simulation.settings
    assert simulation.settings == settings
    assert simulation.time == time
    np.testing.assert_array_equal(simulation.field("density"), density)
    assert engine.step().outcome == "converged"


def test_a_grid_too_large_for_the_memory_keeps_the_old_state(engine, monkeypatch):
    simulation = engine.simulation

    def out_of_memory(_settings, _scene):
        raise RuntimeError("not enough memory")

    monkeypatch.setattr("app.engine.Simulation", out_of_memory)
    with pytest.raises(UsageError, match=r"grid.*not enough memory"):
        engine.set("grid", (64, 64))
    assert engine.simulation is simulation
    assert engine.step().frame == 1
    with pytest.raises(UsageError, match="64x32 on cpu"):
        Engine(app_settings({"grid": (64, 32)}))


def test_a_flow_that_is_not_finite_pauses_with_a_message_and_reset_cures_it(engine):
    engine.step()
    engine.simulation._moved[0, 5, 5] = math.nan
    report = engine.step()
    assert engine.paused
    assert "frame 2" in engine.message
    assert report.frame == 2
    assert engine.advance() is None
    engine.reset()
    assert not engine.paused
    assert engine.message == ""
    assert engine.advance().outcome == "converged"
    assert math.isfinite(engine.simulation.max_speed())


def test_a_reset_leaves_the_pause_that_somebody_asked_for(engine):
    engine.step()
    engine.paused = True
    engine.reset()
    assert engine.paused


def test_a_failed_step_is_reported_and_not_raised(engine, monkeypatch):
    engine.step()
    monkeypatch.setattr(engine.simulation, "step", lambda: 1 / 0)
    report = engine.step()
    assert (report.outcome, report.iterations, report.attempts) == ("failed", 0, ())
    assert math.isnan(report.relative_residual)
    assert "division" in report.failure
    assert engine.paused
    assert "division" in engine.message
    assert engine.residual_history == []


def indefinite(preconditioner, monkeypatch):
    monkeypatch.setattr(preconditioner, "_apply", lambda residual, out: out.copy_(residual).neg_())


def test_the_report_tells_the_failed_attempt_from_the_one_that_solved(engine, monkeypatch):
    engine.set("preconditioner", "multigrid")
    indefinite(engine.preconditioner, monkeypatch)
    report = engine.step()
    broken, solved = report.attempts
    assert (broken.method, broken.outcome) == ("multigrid", Outcome.INDEFINITE_PRECONDITIONER)
    assert (report.failed, report.solve) == ([broken], solved)
    assert (report.preconditioner, report.outcome, report.fallback) == ("jacobi", "converged", True)
    assert report.iterations == solved.iterations > 0
    assert report.setup_ms == pytest.approx(1e3 * solved.seconds["setup"])
    assert report.failed_ms == pytest.approx(1e3 * sum(broken.seconds.values()))
    assert report.failed_ms > 0.0
    parts = report.sim_ms + report.setup_ms + report.inference_ms + report.solve_ms + report.failed_ms
    assert parts == pytest.approx(report.step_ms)
    assert engine.residual_history == solved.history


def test_when_all_attempts_break_down_the_frame_still_has_them(engine, monkeypatch):
    indefinite(engine.preconditioner, monkeypatch)
    report = engine.step()
    assert (report.outcome, report.solve, report.preconditioner) == ("failed", None, "jacobi")
    assert [attempt.outcome for attempt in report.failed] == [Outcome.INDEFINITE_PRECONDITIONER]
    assert report.sim_ms + report.failed_ms == pytest.approx(report.step_ms)
    assert "indefinite preconditioner" in engine.message


def test_what_a_kept_report_holds_does_not_grow_with_the_grid(engine):
    assert all(attempt.x.numel() == 0 for attempt in engine.step().attempts)


def test_subscribers_get_frames_and_events_in_their_order_until_they_leave(engine):
    told, others = [], []
    leave = engine.subscribe(told.append, told.append)
    engine.subscribe(on_frame=others.append)
    first = engine.step()
    engine.stir(1.0, 0.5, 2, 0.0, 0.1)
    engine.paint(0.5, 0.5, 0.1, "solid")
    engine.set("grid", (16, 16))
    engine.paused = True
    engine.paused = True
    second = engine.single_step()
    engine.paused = False
    engine.reset()
    time = first.time_s
    assert told == [
        first,
        Event(1, time, "stir", {"x": 1.0, "y": 0.5, "velocity_x": 2.0, "velocity_y": 0.0, "radius": 0.1}),
        Event(1, time, "paint", {"x": 0.5, "y": 0.5, "radius": 0.1, "what": "solid"}),
        Event(1, time, "set", {"name": "grid", "value": [16, 16]}),
        Event(0, 0.0, "pause", {}),
        Event(0, 0.0, "step", {}),
        second,
        Event(1, second.time_s, "resume", {}),
        Event(1, second.time_s, "reset", {}),
    ]
    leave()
    leave()
    third = engine.step()
    assert others == [first, second, third]
    assert len(told) == 9


def test_a_drag_is_told_as_plain_values_and_only_where_something_is_solid(engine):
    told = []
    engine.subscribe(on_event=told.append)
    assert engine.drag(1.0, 0.5, 1.2, 0.5, 0.1) is None
    engine.paint(1.0, 0.5, 0.1, "solid")
    assert engine.drag(1.0, 0.5, np.float64(1.2), 0.5, 0.1) == pytest.approx((1.2, 0.5), abs=0.1)
    stroke = {"x": 1.0, "y": 0.5, "to_x": 1.2, "to_y": 0.5, "seconds": 0.1}
    assert [(event.kind, event.data) for event in told[1:]] == [("drag", stroke)]
    assert type(told[1].data["to_x"]) is float


def test_a_subscriber_may_leave_while_it_is_told(engine):
    told = []
    leave = engine.subscribe(lambda report: (told.append(report), leave()))
    engine.subscribe(on_frame=told.append)
    first = engine.step()
    assert told == [first, first, engine.step()]


def test_a_failure_is_told_as_a_frame_and_then_as_a_pause(engine):
    told = []
    engine.subscribe(told.append, lambda event: told.append(event.kind))
    engine.simulation._moved[0, 5, 5] = math.nan
    report = engine.step()
    engine.reset()
    assert told == [report, "pause", "reset", "resume"]


@pytest.mark.parametrize(
    "stroke",
    [
        lambda engine: engine.stir(math.nan, 0.5, 1.0, 0.0, 0.1),
        lambda engine: engine.stir(0.5, 0.5, math.inf, 0.0, 0.1),
        lambda engine: engine.paint(0.5, 0.5, math.nan, "solid"),
        lambda engine: engine.paint(0.5, 0.5, 0.1, "water"),
        lambda engine: engine.drag(0.5, 0.5, math.nan, 0.1, 0.1),
    ],
)
def test_strokes_that_make_no_sense_are_refused(engine, stroke):
    events = []
    engine.subscribe(on_event=events.append)
    with pytest.raises(UsageError, match=r"finite|heavy, light"):
        stroke(engine)
    assert events == []
    assert engine.step().outcome == "converged"


def test_a_new_scene_is_told_with_the_settings_that_it_brought(engine):
    events = []
    engine.subscribe(on_event=events.append)
    engine.set("scene", "lava-lamp")
    now = engine.settings.simulation
    brought = events[0].data["brought"]
    assert (events[0].data["name"], events[0].data["value"]) == ("scene", "lava-lamp")
    assert brought["contrast"] == now.contrast != 100.0
    assert all(getattr(now, name) == value for name, value in brought.items() if name != "grid")
