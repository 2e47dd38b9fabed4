"""The loops are compiled ahead in a thread, and the window waits for what its first step needs."""

from types import SimpleNamespace

import pytest

from app import compilation as compilation_module
from app.compilation import NOTE, STARTED_AGAIN, Compilation, drawing, start_again_if_compiled
from app.config.settings import app_settings
from app.engine import Engine
from app.picture import VIEWS, View, contour, draw, light, raster, tracers
from app.viewer.session import Session
from precond.host import compiled


@pytest.mark.parametrize("name", ["multigrid", "coarse-monomial", "not a preconditioner"])
def test_it_becomes_ready_and_ends(name):
    compilation = Compilation(name, later=("jacobi",))
    compilation.wait()
    assert compilation.ready
    compilation.stop()
    assert not compilation._thread.is_alive()


def test_stopped_early_it_leaves_nobody_waiting():
    compilation = Compilation("multigrid", later=("jacobi",) * 1000)
    compilation.stop()
    compilation.wait()


def test_the_window_takes_no_step_before_and_does_what_is_asked_for():
    engine = Engine(app_settings({"grid": (32, 16), "preconditioner": "jacobi"}))
    session = Session(engine)
    session.compilation = SimpleNamespace(ready=False, can_draw=False, done=False)
    session.ask(session.change, "contrast", 7.0)
    assert not session.advance()
    session.step()
    assert (engine.frame, engine.settings.simulation.contrast) == (0, 7.0)
    assert session.message.text.startswith(f"{NOTE}: 0 s of about 40")
    session._begun -= 61.0
    assert session.message.text.startswith(f"{NOTE}: takes longer than usual: 61 s")
    session.say("a reason", error=True)
    assert session.message.text == "a reason"
    session.change("contrast", 8.0)
    session.toggle_pause()
    session.compilation.ready = True
    assert session.advance()
    assert (engine.frame, engine.settings.simulation.contrast) == (1, 8.0)
    assert session.message is None


def test_the_window_shows_nothing_until_pictures_are_compiled():
    session = Session(Engine(app_settings({"grid": (32, 16), "preconditioner": "jacobi"})))
    session.compilation = SimpleNamespace(ready=False, can_draw=False)
    assert session.draw().rgba.shape == (1, 1, 4)
    session.compilation.can_draw = True
    assert session.draw().rgba.shape == (256, 512, 4)


def test_no_picture_of_a_simulation_compiles_more(make_simulation):
    simulation = make_simulation("dam-break", grid=(32, 16))
    for _ in drawing():
        pass
    loops = [
        value
        for part in (contour, light, raster, tracers)
        for value in vars(part).values()
        if hasattr(value, "signatures")
    ]
    known = [len(loop.signatures) for loop in loops]
    assert sum(known) > 7  # those that are called from Python
    specks = tracers.Tracers()
    for paint in (None, "solid"):
        if paint:
            simulation.paint(1.0, 0.5, 0.2, paint)
        for field in VIEWS:
            simulation.step()
            draw(simulation, View(field, tracers=True), (200, 100), specks)
    assert [len(loop.signatures) for loop in loops] == known


@pytest.mark.parametrize(("program", "new", "again"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_a_program_that_compiled_begins_anew_once(monkeypatch, program, new, again):
    begun = []
    monkeypatch.setattr("app.compilation.is_program", lambda: program)
    monkeypatch.setattr("app.compilation.compiled_anew", lambda: new)
    monkeypatch.setattr("app.compilation.os.execv", lambda *arguments: begun.append(arguments))
    monkeypatch.setenv(STARTED_AGAIN, "")
    monkeypatch.delenv(STARTED_AGAIN)
    for _ in range(2):
        start_again_if_compiled()
    assert len(begun) == again


def test_a_second_process_takes_a_part_where_nothing_lies_on_the_disk_and_a_core_is_free(monkeypatch):
    started = []

    class Process:
        def __init__(self, command, **_):
            started.append(command)
            self.running = True

        def kill(self):
            self.running = False

        def wait(self):
            assert not self.running

    monkeypatch.setattr(compilation_module.subprocess, "Popen", Process)
    for new, cores in ((False, 2), (True, 1), (True, 2)):
        monkeypatch.setattr(compilation_module, "compiled_anew", lambda new=new: new)
        monkeypatch.setattr(compilation_module, "cores", lambda cores=cores: cores)
        compilation = Compilation("auto", later=("none",))
        compilation.wait()
        assert compilation.ready
        assert bool(started) is (new and cores > 1)
    (command,) = started
    assert command[1:] == ["-m", "app.compilation", "multigrid"]
    assert not compiled.being_compiled
