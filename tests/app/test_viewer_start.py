"""How the window starts and ends, with a display and without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def test_demo_runs_for_the_frames_it_was_given(display, tmp_path, monkeypatch):  # noqa: ARG001
    from app.config.settings import app_settings
    from app.engine import Engine
    from app.viewer import run_demo

    monkeypatch.chdir(tmp_path)
    engine = Engine(app_settings({"grid": (32, 16)}))
    assert run_demo(engine, frames=6) == 0
    assert engine.frame == 6
    assert engine.draw_ms > 0.0
    assert list(tmp_path.iterdir()) == []  # nothing is left in the working folder


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_without_display_one_line_names_record(tmp_path):
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "app", "demo", "--grid", "16x16", "--frames", "1"]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "record" in line
    assert "display" in line or "libraries" in line


def demo(display, home, *arguments, code=""):
    """The demo in a process of its own, for three frames; ``code`` runs before it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home), "DISPLAY": display}
    environment["XDG_CACHE_HOME"] = os.path.expanduser("~/.cache")
    program = f"import os, sys\n{code}\nfrom app.cli import main\nsys.exit(main(sys.argv[1:]))"
    small = ["demo", "--grid", "32x16", "--precond", "jacobi", *arguments]
    command = [sys.executable, "-c", program, *small]
    return subprocess.run(
        command, env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )


STOP = """
from app.viewer import window
make = window.Window.__init__
def limited(self, session, frames=None):
    make(self, session)
    session.worker.steps_left = 3
window.Window.__init__ = limited
"""  # a run of --frames does not read the saved layout


@pytest.mark.parametrize(
    "damage",
    [
        "DockSpace ID=0x1 Pos=0,0 Size=9,9 Split=X\n  DockNode ID=0x2 Parent=0x9 SizeRef=9,9 CentralNode=1",
        "DockNode ID=0x2 Parent=0x2 SizeRef=9,9",  # a ring
    ],
)
def test_a_damaged_layout_is_set_aside_with_one_line(display, tmp_path, damage):
    layout = tmp_path / ".config" / "htp-fluid" / "window.ini"
    layout.parent.mkdir(parents=True)
    layout.write_text(f"[Docking][Data]\n{damage}\n")
    result = demo(display, tmp_path, code=STOP)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert "window.ini.damaged" in line
    assert "0x2" in layout.with_name("window.ini.damaged").read_text()


def test_the_window_opens_without_standard_error(display, tmp_path):
    code = "os.close(2); sys.stderr = None"
    assert demo(display, tmp_path, "--frames", "3", code=code).returncode == 0


TERMINATED = """
import signal
from app.viewer import window
end, waiting = window.Window._end_frame, [signal.SIGTERM]
def ended(self):
    end(self)
    session = self.session
    if session.engine.frame and not session.recording and waiting:
        session.toggle_recording()
    elif session.engine.frame > 5 and waiting:
        os.kill(os.getpid(), waiting.pop())
window.Window._end_frame = ended
"""


def test_a_signal_to_end_closes_the_window_and_a_recording_is_whole(display, tmp_path):
    result = demo(display, tmp_path, "--out", "run", code=TERMINATED)
    assert (result.returncode, result.stderr) == (0, "")
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["summary"]["ended"] == "completed"
    assert (tmp_path / "run" / "final.png").exists()


@pytest.mark.parametrize(("width", "height"), [(250, 700), (60, 60)])
def test_no_window_is_too_small(drive, monkeypatch, width, height):
    monkeypatch.setattr("app.viewer.window.LEAST_SIZE", (1, 1))

    def test(ctx, window):
        from imgui_bundle import hello_imgui

        ctx.yield_(2)
        hello_imgui.change_window_size((width, height))
        ctx.yield_(5)
        assert window.session.engine.frame > 5

    drive(test)


def test_the_window_remembers_and_safe_ignores(display, tmp_path):
    folder = tmp_path / ".config" / "htp-fluid"
    change = STOP + (
        "end = window.Window._end_frame\n"
        "def ended(self):\n"
        "    end(self)\n"
        "    self.session.change_view(field='speed')\n"
        "    self.session.brush.radius = 0.2\n"
        "window.Window._end_frame = ended\n"
    )
    assert demo(display, tmp_path, code=change).returncode == 0
    saved = yaml.safe_load((folder / "preferences.yaml").read_text())
    assert (saved["view"], saved["radius"], saved["explained"]) == ("speed", 0.2, False)
    tell = STOP + (
        "import atexit\n"
        "make_again = window.Window.__init__\n"
        "def told(self, session, frames=None):\n"
        "    make_again(self, session)\n"
        "    atexit.register(lambda: print(session.view.field, session.brush.radius))\n"
        "window.Window.__init__ = told\n"
    )
    assert demo(display, tmp_path, "--safe", code=tell).stdout.strip() == "density 0.08"
    assert demo(display, tmp_path, code=tell).stdout.strip() == "speed 0.2"


def test_preferences_give_way_to_flags_and_damaged_ones_to_defaults(tmp_path):
    from app.config.settings import app_settings
    from app.engine import Engine
    from app.viewer.preferences import Preferences
    from app.viewer.session import Session

    session = Session(Engine(app_settings({"grid": (32, 16), "view": "pressure"})))
    Preferences(view="speed", radius=0.3, interface=False).write(tmp_path)
    Preferences.read(tmp_path).apply(session)
    assert (session.view.field, session.view.interface, session.brush.radius) == ("pressure", False, 0.3)
    for damage in ("radius: large", "radius: 7", "[", "view: tea"):
        (tmp_path / "preferences.yaml").write_text(damage)
        assert Preferences.read(tmp_path) == Preferences()


def test_a_layout_of_another_screen_is_made_anew(drive):
    def test(ctx, window):
        window.layout_scale = 2.0 * window.screen_scale
        window._note_opened()
        assert window.session.asks_for_layout
        ctx.yield_(3)
        assert not window.session.asks_for_layout
        assert not window.params.docking_params.layout_reset  # it is done
        ctx.set_ref("Controls")
        assert ctx.item_exists("###pause")

    drive(test)


def test_the_first_line_of_help_goes_away(drive):
    def test(ctx, window):
        session = window.session
        session.explained = False
        ctx.yield_(2)
        assert session.message.text.startswith("drag to stir")
        session.ask(session.stir, (0.1, 0.1), (0.2, 0.1), 0.05)
        ctx.yield_(2)
        assert session.message is None

    drive(test)
