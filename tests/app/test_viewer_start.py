"""How the window starts and ends, with a display and without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_demo_runs_for_the_frames_it_was_given(display, tmp_path, monkeypatch):  # noqa: ARG001
    from app.config.settings import app_settings
    from app.engine import Engine
    from app.viewer import run_demo

    monkeypatch.chdir(tmp_path)
    engine = Engine(app_settings({"grid": (32, 16)}))
    assert run_demo(engine, frames=6) == 0
    assert engine.frame == 6
    assert engine.last.draw_ms > 0.0
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
