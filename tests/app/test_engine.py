"""The engine: one report a frame, live changes, and surviving what goes wrong."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from app.config.settings import app_settings
from app.engine import FPS_FRAMES, HISTORY_FRAMES, Engine, FrameReport
from precond import PreconditionerError
from precond.errors import UsageError


@pytest.fixture
def engine():
    return Engine(app_settings({"grid": (32, 16), "preconditioner": "jacobi", "rtol": 1e-6}))


def test_every_field_of_the_report_has_a_unit_and_times_are_marked():
    for field in fields(FrameReport):
        assert field.metadata["unit"]
        assert field.metadata["timing"] == (field.name.endswith("_ms") or field.name == "fps")


def test_a_report_is_what_the_simulation_did(engine):
    engine.note_draw(12.5)
    reports = [engine.step() for _ in range(4)]
    assert [report.frame for report in reports] == [1, 2, 3, 4]
    assert engine.last is reports[-1]
    assert list(engine.history) == reports
    assert reports[-1].time_s == pytest.approx(sum(report.time_step_s for report in reports))
    assert [report.draw_ms for report in reports] == [12.5, 0.0, 0.0, 0.0]
    for report in reports:
        parts = (report.sim_ms, report.setup_ms, report.inference_ms, report.solve_ms, report.draw_ms)
        assert min(parts) >= 0.0
        assert sum(parts) <= report.frame_ms
        assert (report.preconditioner, report.outcome, report.fallback) == ("jacobi", "converged", False)
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
    projection = engine.simulation.projection
    assert projection._pcg.single_launch
    assert projection.note == "no single launch: there are no CUDA graphs on a CPU"
    engine.set("single_launch", False)
    engine.step()
    assert projection.note == other.simulation.projection.note == ""


def test_a_new_grid_starts_the_scene_anew_with_the_settings_kept(engine):
    engine.set("contrast", 30.0)
    engine.step()
    engine.set("grid", (48, 24))
    assert engine.simulation.shape == (48, 24)
    assert (engine.frame, engine.settings.simulation.contrast) == (0, 30.0)
    assert engine.step().outcome == "converged"


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
    ("name", "value", "error"),
    [
        ("contrast", 0.5, UsageError),
        ("contrast", "heavy", UsageError),
        ("gravity", math.nan, UsageError),
        ("max_iterations", 0, UsageError),
        ("grid", (4, 4), UsageError),
        ("device", "tpu", UsageError),
        ("colour", 1, UsageError),
        ("preconditioner", "magic", PreconditionerError),
        ("scene", "nowhere", UsageError),
    ],
)
def test_a_refused_change_keeps_the_old_state(engine, name, value, error):
    engine.step()
    simulation, settings, time = (
        engine.simulation,
        engine.settings.simulation.model_copy(),
        engine.simulation.time,
    )
    density = simulation.field("density")
    with pytest.raises(error, match=name if value != "nowhere" and error is UsageError else str(value)):
        engine.set(name, value)
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
    engine.simulation.stir(0.5, 0.5, math.nan, 0.0, 0.3)
    report = engine.step()
    assert engine.paused
    assert "frame 2" in engine.message
    assert report.frame == 2
    assert engine.advance() is None
    engine.reset()
    engine.paused = False
    assert engine.advance().outcome == "converged"
    assert engine.message == ""
    assert math.isfinite(engine.simulation.max_speed())


def test_a_failed_step_is_reported_and_not_raised(engine, monkeypatch):
    engine.step()
    monkeypatch.setattr(engine.simulation, "step", lambda: 1 / 0)
    report = engine.step()
    assert (report.outcome, report.iterations) == ("failed", 0)
    assert math.isnan(report.relative_residual)
    assert engine.paused
    assert "division" in engine.message
    assert engine.residual_history == []
