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
