"""What the panel on the method is given, and the small things of the plots, tried without a window."""

import numpy as np
import pytest

from app.config.settings import app_settings
from app.engine import Engine
from app.race.lessons import SECONDS, Lessons
from app.viewer.axes import Axis, decades, label, ticks
from app.viewer.partition_picture import borders, outline
from precond.analysis.ritz import ritz_values


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def make(here):
    def build(preconditioner="multigrid"):
        settings = {"grid": (32, 16), "preconditioner": preconditioner, "rtol": 1e-6}
        engine, clock = Engine(app_settings(settings)), Clock()
        lessons = Lessons(engine, here, clock)
        lessons.shown = True
        return engine, lessons, clock

    return build


def refresh(lessons):
    """Twice: to ask, and to take."""
    lessons.refresh()
    lessons.refresh()


def test_a_lesson_is_of_the_last_solve(make):
    engine, lessons, _ = make()
    refresh(lessons)
    assert "before the first frame" in lessons.reason
    engine.step()
    refresh(lessons)
    lesson = lessons.lesson
    assert (lesson.frame, lesson.method, lesson.error) == (1, "multigrid", "random")
    np.testing.assert_array_equal(lesson.ritz, ritz_values(engine.last.solve.coefficients))
    assert len(lesson.ritz) == engine.last.iterations
    assert 0.0 < lesson.correction.left < 0.5
    assert lesson.correction.before.shape == (32, 16)


def test_a_helper_that_is_busy_is_waited_for_with_a_reason(make, here, monkeypatch):
    engine, lessons, _ = make()
    engine.step()
    monkeypatch.setattr(here, "busy", True)
    refresh(lessons)
    assert lessons.lesson is None
    assert "as soon as" in lessons.reason
    monkeypatch.setattr(here, "busy", False)
    refresh(lessons)
    assert lessons.lesson.frame == 1


def test_the_error_of_the_start_is_the_pressure_that_the_solve_added(make):
    engine, lessons, _ = make()
    engine.step()
    before = engine.simulation.projection.pressure.clone()
    engine.settings.simulation.rtol = 1e-10
    engine.step()
    lessons.error = "start"
    refresh(lessons)
    added = (engine.simulation.projection.pressure - before).numpy()
    error = lessons.lesson.correction.before
    np.testing.assert_allclose(error, added - added.mean(), atol=1e-5 * np.abs(error).max())


def test_lessons_come_now_and_then_and_only_while_somebody_looks(make, monkeypatch):
    engine, lessons, clock = make()
    lessons.shown = False
    engine.step()
    refresh(lessons)
    assert lessons.lesson is None
    lessons.shown = True
    refresh(lessons)
    engine.step()
    refresh(lessons)
    assert lessons.lesson.frame == 1
    clock.now += 1.1 * SECONDS
    refresh(lessons)
    assert lessons.lesson.frame == 2
    engine.set("preconditioner", "jacobi")  # at once
    engine.step()
    refresh(lessons)
    assert lessons.lesson.method == "jacobi"
    monkeypatch.setattr("precond.classical.diagonal.Jacobi._apply", lambda *_: 1 / 0)
    lessons.error = "start"
    refresh(lessons)
    assert lessons.lesson is None
    assert lessons.reason == "division by zero"


def test_round_numbers_stand_at_the_axes():
    assert ticks(Axis("", 0.0, 600.0), 4) == [0.0, 200.0, 400.0, 600.0]
    assert ticks(Axis("", 0.0, 0.7), 8) == pytest.approx([0.1 * k for k in range(8)])
    assert ticks(Axis("", 1.0, 1e4, True), 9) == pytest.approx([1.0, 10.0, 100.0, 1e3, 1e4])
    assert ticks(Axis("", 1e-8, 10.0, True), 4) == pytest.approx([1e-8, 1e-5, 1e-2, 10.0])
    for low, high in ((0.0, 7.3), (120.0, 720.0), (-1.0, 1.0)):
        for most in (2, 5):
            assert 2 <= len(ticks(Axis("", low, high), most)) <= most + 1
    texts = [label(value) for value in (10_000.0, 0.5, 1e-8, 0.0, 20.0, 1e-12)]
    assert texts == ["10,000", "0.5", "1e-8", "0", "20", "1e-12"]
    assert decades(3.0, 811.0) == (1.0, 1000.0)
    assert decades(1.0, 1.0) == (1.0, 10.0)


def test_borders_stand_wherever_two_cells_differ():
    labels = np.random.default_rng(0).integers(0, 3, (7, 5))
    single = set()
    for x0, y0, x1, y1 in borders(labels).tolist():
        assert x0 == x1 or y0 == y1
        single |= {(x, y, x, y + 1) for x in [x0] for y in range(y0, y1)}
        single |= {(x, y, x + 1, y) for x in range(x0, x1) for y in [y0]}
    cells = [(x, y) for x in range(7) for y in range(5)]
    expected = {(x, y, x, y + 1) for x, y in cells if x and labels[x, y] != labels[x - 1, y]}
    expected |= {(x, y, x + 1, y) for x, y in cells if y and labels[x, y] != labels[x, y - 1]}
    assert single == expected
    assert len(borders(np.arange(8)[:, None] // 4 * 2 + np.arange(6) // 3)) == 2  # two whole lines
    assert len(outline(np.arange(10), (7, 5))) == 4
