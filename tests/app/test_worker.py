"""The thread that takes the steps while a window draws."""

import math
import time

import numpy as np
import pytest

from app.config.settings import app_settings
from app.engine import Engine
from app.worker import Worker


def make(**settings):
    return Engine(app_settings({"grid": (32, 16), "preconditioner": "multigrid", **settings}))


@pytest.fixture
def run():
    """Starts workers, and stops them at the end."""
    started = []

    def begin(engine, *arguments):
        worker = Worker(engine, *arguments)
        started.append(worker)
        worker.start()
        return worker

    yield begin
    for worker in started:
        worker.stop()


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_a_thread_takes_the_very_steps_that_are_taken_without_one(run):
    threaded, plain = make(), make()
    worker = run(threaded, math.inf, 30)
    until(lambda: worker.done)
    for _ in range(30):
        plain.step()
    assert threaded.frame == 30
    np.testing.assert_array_equal(threaded.simulation.field("density"), plain.simulation.field("density"))


def test_the_next_look_shows_what_was_asked_for(run, monkeypatch):
    """The input, a step, the picture of that step; where steps are slow a look does not wait."""
    monkeypatch.setattr("app.worker.PATIENCE", 10.0)
    monkeypatch.setattr("app.worker.QUICK_MS", 1e6)
    engine = make(gravity=0.0)
    worker = run(engine)
    until(lambda: engine.frame > 2)
    for shift in range(5):
        place = (0.2 + 0.15 * shift) * engine.simulation.domain[0], 0.8 * engine.simulation.domain[1]
        cell = tuple(int(x / engine.simulation.spacing) for x in place)
        assert worker.look().phase[cell] < 0.5
        frame = engine.frame
        worker.ask(lambda place=place: engine.paint(*place, 1.5 * engine.simulation.spacing, "heavy"))
        assert worker.look().phase[cell] > 0.5
        assert engine.frame > frame
    monkeypatch.setattr("app.worker.QUICK_MS", 0.0)
    with worker.still():
        worker.ask(lambda: None)
        begin = time.monotonic()
        worker.look()
        assert time.monotonic() - begin < 5.0


def test_what_is_asked_for_is_done_in_its_order_and_nothing_is_lost(run):
    engine = make()
    worker, done = run(engine), []
    for number in range(500):
        worker.ask(lambda number=number: done.append(number))
        if number % 50 == 0:
            time.sleep(0.002)
    worker.drain()
    assert done == list(range(500))
    assert engine.frame > 0


def test_the_speed_is_the_limit(run):
    engine = make(gravity=0.0, max_time_step=0.01)
    begin = time.monotonic()
    worker = run(engine, 0.5)
    until(lambda: engine.simulation.time >= 0.25)
    assert time.monotonic() - begin > 0.3
    assert 0.0 < worker.rate <= 0.8
    worker.ask(lambda: setattr(engine, "paused", True))
    worker.drain()
    frame = engine.frame
    time.sleep(0.05)
    assert (engine.frame, worker.rate, worker.steps_a_second) == (frame, 0.0, 0.0)


def test_a_snapshot_stays_as_it_is_and_a_new_one_comes(run):
    engine = make()
    worker = run(engine)
    first = worker.look()
    kept = first.field("density")
    until(lambda: worker.look().time > first.time)
    np.testing.assert_array_equal(first.field("density"), kept)


def test_what_was_asked_for_shows_before_a_slow_step_is_done(monkeypatch):
    engine = make()
    worker = Worker(engine)
    worker.turn()
    seen, step = [], engine.advance

    def noted():
        seen.append(worker.snapshot.solid_mask().any())
        return step()

    monkeypatch.setattr(engine, "advance", noted)
    for slow, expected in ((False, False), (True, True)):
        monkeypatch.setattr("app.worker.SLOW_MS", 0.0 if slow else math.inf)
        engine.reset()
        worker.turn()
        worker.ask(lambda: engine.paint(1.0, 0.5, 0.1, "solid"))
        worker.turn()
        assert seen[-1] == expected
        assert worker.snapshot.solid_mask().any()


def test_nothing_moves_while_somebody_looks_into_the_engine(run):
    engine = make()
    worker = run(engine)
    until(lambda: engine.frame > 2)
    with worker.still():
        frame, density = engine.frame, engine.simulation.field("density")
        time.sleep(0.05)
        assert engine.frame == frame
        np.testing.assert_array_equal(engine.simulation.field("density"), density)
    until(lambda: engine.frame > frame)


def test_no_step_before_it_is_ready():
    engine = make()
    worker = Worker(engine)
    ready = []
    worker.ready = lambda: bool(ready)
    worker.start()
    worker.ask(lambda: engine.set("contrast", 50.0))
    worker.drain()
    assert (engine.frame, engine.settings.simulation.contrast) == (0, 50.0)
    ready.append(True)
    until(lambda: engine.frame > 0)
    worker.stop()


def test_an_error_that_nobody_expected_reaches_the_window(run):
    worker = run(make())
    worker.ask(lambda: 1 / 0)

    def raised():
        try:
            worker.look()
        except ZeroDivisionError:
            return True
        return False

    until(raised)
