"""The race without a window: against direct solves, beside a running simulation, with methods that fail."""

import math
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from app.config.settings import app_settings
from app.engine import Engine
from app.race import solving
from app.race.companion import Companion
from app.race.helper import Helper
from app.race.lane import FAILED, STOPPED, UNAVAILABLE, Lane, ranked, sentence
from app.race.race import Race, racers
from app.race.system import System
from precond import PCG, PoissonOperator, UsageError, available_preconditioners, make_preconditioner
from precond.classical.diagonal import Jacobi


@pytest.fixture(scope="module")
def helper():
    """A process that ends with the tests."""
    helper = Helper()
    yield helper
    helper.stop()


def maze(grid=(48, 24), contrast=1000.0, steps=3, **settings):
    """An engine on a dam break with painted walls, some steps later."""
    options = {"grid": grid, "contrast": contrast, "preconditioner": "multigrid", **settings}
    engine = Engine(app_settings(options))
    width, height = engine.simulation.domain
    for wall in range(1, 5):
        low = 0.0 if wall % 2 else 0.2
        for y in np.linspace(low, low + 0.8, 40):
            engine.paint(wall * width / 5, y * height, 0.02 * height, "solid")
    for _ in range(steps):
        engine.step()
    return engine


def finish(race, seconds=120.0):
    """Refresh until the race is over."""
    until = time.monotonic() + seconds
    while race.running:
        assert time.monotonic() < until
        race.refresh()
        time.sleep(0.005)


def state(engine):
    simulation = engine.simulation
    fields = simulation.phase, simulation.velocity, simulation._moved, simulation.projection.pressure
    return [field.clone() for field in fields], simulation.time, engine.last.iterations


def test_the_system_is_the_one_that_the_simulation_solved():
    engine = maze()
    system = System.of(engine)
    history = engine.last.solve.history
    operator = system.operator()
    preconditioner = make_preconditioner("multigrid", operator)
    preconditioner.setup()
    pcg = PCG(operator, preconditioner, system.rtol, system.max_iterations, system.atol)
    report = pcg.solve(system.right_hand_side, system.start)
    assert report.history == pytest.approx(history, rel=1e-9)
    np.testing.assert_allclose(report.x, engine.simulation.projection.pressure, rtol=1e-12, atol=1e-9)
    assert system.contrast == pytest.approx(1000.0, rel=1e-6)
    kept = system.right_hand_side.copy()
    engine.step()
    np.testing.assert_array_equal(system.right_hand_side, kept)  # a copy
    engine.settings.simulation.warm_start = False
    engine.step()
    assert System.of(engine).start is None
    engine.reset()
    with pytest.raises(UsageError, match="first frame"):
        System.of(engine)


def test_a_race_gives_what_direct_solves_give_and_leaves_the_simulation_alone(helper):
    engine, twin = maze(), maze()
    race = Race(engine, helper)
    race.start()
    while race.running:  # the simulation goes on meanwhile
        race.refresh()
        if engine.frame < 40:
            engine.step()
            twin.step()
    names = available_preconditioners(choosing=False)
    assert sorted(lane.method for lane in race.lanes) == sorted(racers())
    assert {lane.method for lane in race.lanes if lane.outcome != UNAVAILABLE} == set(names)
    system = race.system
    for lane in race.lanes:
        if lane.method not in names:
            assert lane.reason
            continue
        operator = PoissonOperator.from_density(system.density, system.solid, face_density="arithmetic")
        preconditioner = make_preconditioner(lane.method, operator)
        preconditioner.setup()
        report = PCG(operator, preconditioner, system.rtol, system.max_iterations, system.atol).solve(
            system.right_hand_side
        )
        assert lane.outcome in (report.outcome.value, STOPPED)
        if lane.outcome != STOPPED:
            assert lane.iterations == report.iterations
            np.testing.assert_allclose(lane.residuals, report.history, rtol=1e-6)
        assert lane.residuals.shape == lane.milliseconds.shape
        assert (np.diff(lane.milliseconds) >= 0.0).all()
        assert 1e3 * lane.seconds["setup"] <= lane.milliseconds[0] + 1e-9
        assert lane.milliseconds[-1] <= lane.total_ms
    for ours, theirs in zip(state(engine)[0], state(twin)[0], strict=True):
        assert torch.equal(ours, theirs)
    assert state(engine)[1:] == state(twin)[1:]


def test_only_the_chosen_ones_run_and_the_quick_ones_first(helper):
    engine = maze()
    race = Race(engine, helper)
    race.chosen = {"none", "multigrid", "jacobi"}
    race.start()
    finish(race)
    assert [lane.method for lane in race.lanes] == ["multigrid", "jacobi", "none"]
    assert sentence(race.lanes).startswith(f"{ranked(race.lanes)[0].method} was first: ")
    race.chosen = set()
    race.start()
    assert race.message == "no method is ticked"
    assert not race.running


def test_before_the_first_frame_it_says_so(helper):
    race = Race(Engine(app_settings({"grid": (16, 8), "preconditioner": "jacobi"})), helper)
    race.start()
    assert "before the first frame" in race.message
    assert not race.running


def test_where_walls_were_just_painted_it_begins_with_the_next_step(here):
    engine = maze()
    race = Race(engine, here)
    race.chosen = {"jacobi", "direct"}
    width, height = engine.simulation.domain
    engine.paint(0.5 * width, 0.5 * height, 0.1 * height, "solid")
    race.start()
    assert "take a step first" in race.message
    race.refresh()
    assert not race.lanes
    engine.step()
    for _ in range(3):
        race.refresh()
    assert (race.message, race.system.frame) == ("", engine.frame)
    assert {lane.method: lane.converged for lane in race.lanes} == {"jacobi": True, "direct": True}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the first job starts the process")
def test_a_process_started_early_computes(monkeypatch):
    monkeypatch.setattr("threading.active_count", lambda: 1)
    helper = Helper()
    helper.start_early()
    pid = helper.pid
    assert pid is not None
    engine = maze()
    race = Race(engine, helper)
    race.chosen = {"jacobi", "multigrid"}
    race.start()
    finish(race)
    assert helper.pid == pid
    assert all(lane.converged for lane in race.lanes)
    helper.stop()


def spoil(monkeypatch, name, apply):
    monkeypatch.setattr("precond.classical.diagonal.Jacobi.as_diagonal", lambda _: None)
    monkeypatch.setattr(f"precond.classical.diagonal.Jacobi.{name}", apply)
    solving._warm.add("jacobi")


def test_a_method_that_gives_nan_or_raises_has_failed_and_the_race_goes_on(monkeypatch, here):
    engine = maze()

    def boom(*_):
        raise RuntimeError("out of luck")

    for name, function, outcome, words in (
        ("_apply", lambda _self, _r, out: out.fill_(math.nan), "not finite", "NaN"),
        ("_apply", boom, FAILED, "out of luck"),
        ("_setup", boom, FAILED, "out of luck"),
    ):
        with monkeypatch.context() as patch:
            spoil(patch, name, function)
            race = Race(engine, here)
            race.chosen = {"jacobi", "multigrid", "none"}
            race.start()
            race.refresh()
            lanes = {lane.method: lane for lane in race.lanes}
            assert lanes["jacobi"].outcome == outcome
            assert words in lanes["jacobi"].reason
            assert lanes["multigrid"].converged
            assert lanes["none"].iterations > 0
            assert not race.running
            assert "jacobi" in sentence(race.lanes)


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.setattr("precond.registry.MODELS", Path("nowhere"))
    lane = solving.cold(System.of(maze(steps=1)), "hmatrix", 10.0)
    assert (lane.outcome, lane.iterations) == (UNAVAILABLE, 0)
    assert "weights" in lane.reason


def test_a_slow_method_is_stopped_between_two_iterations(monkeypatch):
    apply = Jacobi._apply

    def slow(self, residual, out):
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass
        apply(self, residual, out)

    spoil(monkeypatch, "_apply", slow)
    lane = solving.cold(System.of(maze()), "jacobi", 0.1)
    assert lane.outcome == STOPPED
    assert 2 <= lane.iterations <= 6
    assert 100.0 <= lane.total_ms < 400.0
    assert lane.words.startswith("stopped after 0.1")
    steps = np.diff(lane.milliseconds)
    assert ((steps > 15.0) & (steps < 60.0)).all()  # every iteration has its own time


def test_a_process_that_dies_costs_one_method_and_no_more(helper):
    engine = maze()
    race = Race(engine, helper)
    race.chosen = {"jacobi", "none", "multigrid"}
    race.start()
    until = time.monotonic() + 60.0
    while helper.pid is None or not race.now:  # it runs
        race.refresh()
        assert time.monotonic() < until
    os.kill(helper.pid, signal.SIGKILL)
    finish(race)
    assert len(race.lanes) == 3
    failed = [lane for lane in race.lanes if lane.outcome == FAILED]
    assert len(failed) <= 1  # the others may have been done
    assert all("ended unexpectedly" in lane.reason for lane in failed)


def _sleep(seconds):
    time.sleep(seconds)
    yield seconds


def test_a_new_job_takes_the_place_of_the_one_before(helper):
    first = helper.submit(_sleep, 0.2)
    second = helper.submit(_sleep, 0.0)
    assert first.done
    assert "another job" in first.failure
    until = time.monotonic() + 60.0
    while not second.done:
        helper.poll()
        assert time.monotonic() < until
    assert (second.results, second.failure, first.results) == ([0.0], "", [])


def test_a_process_that_computes_loads_no_window_and_no_taichi(helper):
    job = helper.submit(_loaded)
    until = time.monotonic() + 60.0
    while not job.done:
        helper.poll()
        assert time.monotonic() < until
    assert job.results == [(False, False, 1)]


def _loaded():
    import sys

    yield "taichi" in sys.modules, "imgui_bundle" in sys.modules, torch.get_num_threads()


def test_ranks_and_words():
    def lane(method, outcome, iterations, seconds, last=1e-5):
        residuals = np.geomspace(1.0, last, iterations + 1)
        return Lane(method, outcome, "", residuals, residuals, {"setup": seconds, "solve": 0.0})

    lanes = [
        lane("none", "iteration limit", 2000, 0.1, 1e-2),
        Lane("amg", UNAVAILABLE, "needs pyamg"),
        lane("slow", "converged", 5, 0.5),
        lane("far", STOPPED, 10, 0.3, 0.5),
        lane("quick", "converged", 9, 0.01),
        Lane("nan", FAILED, "boom"),
    ]
    assert [lane.method for lane in ranked(lanes)] == ["quick", "slow", "none", "far", "nan", "amg"]
    said = sentence(lanes)
    assert said == (
        "quick was first: 10.0 ms with 9 iterations; slow needed fewer iterations, 5, and 500.0 ms; "
        "slow took 50 times as long as the first; 'none', 'far', 'nan' did not solve it."
    )
    assert sentence([*lanes, lane("direct", "converged", 1, 0.02)]) == said
    assert sentence([]) == ""
    assert sentence(lanes[:1]) == "No method solved this frame within its limits."
    assert lanes[3].words == "stopped after 0.3 s"


def test_the_companion_solves_as_the_simulation_does(here):
    """Updated, warm-started, the same systems: with the same method the counts are the simulation's own."""
    engine = maze(preconditioner="coarse-monomial", steps=0)
    companion = Companion(engine, here)
    companion.choose("coarse-monomial")
    counts = []
    for _ in range(6):
        counts.append(engine.step().iterations)
        companion.refresh()
    companion.refresh()
    history = companion.history()
    assert history["frame"].tolist() == [1, 2, 3, 4, 5, 6]
    assert history["iterations"].tolist() == counts
    assert (history["ms"] > 0.0).all()
    assert (companion.solved, companion.skipped, companion.trouble) == (6, 0, "")
    engine.paint(0.5, 0.3, 0.1, "solid")
    engine.step()
    companion.refresh()
    engine.set("grid", (24, 12))
    engine.step()
    companion.refresh()
    companion.refresh()
    assert companion.history()["frame"].tolist() == list(range(1, 9))  # the frames go on
    assert companion.trouble == ""
    companion.choose("")
    engine.step()
    companion.refresh()
    assert companion.history()["frame"].size == 0


def test_frames_that_the_companion_cannot_keep_up_with_are_counted(here):
    engine = maze(steps=0)
    companion = Companion(engine, here)
    companion.choose("jacobi")
    here.busy = True
    for _ in range(3):
        engine.step()
        companion.refresh()
    engine.step()
    engine.step()
    here.busy = False
    companion.refresh()
    companion.refresh()
    assert (companion.solved, companion.skipped) == (1, 4)
    assert companion.history()["frame"].tolist() == [5]
