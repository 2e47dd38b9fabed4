"""The recorder: what a recording holds, that it repeats, and that nothing recorded is lost."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from app.cli import main
from app.config.settings import app_settings
from app.engine import Engine
from app.output import OutputError
from app.recording.recorder import COLUMNS, HEADER, Recorder

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["record", "--grid", "32x16", "--precond", "jacobi"]
TIMING = [name.endswith("_ms") or name == "fps" for name in COLUMNS]  # what differs between equal runs


def rows_of(directory):
    """Header and rows of a recording, as texts."""
    with (directory / "timings.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return header, rows


def column(directory, name):
    header, rows = rows_of(directory)
    index = [title.split()[0] for title in header].index(name)
    return [row[index] for row in rows]


def picture_of(directory):
    """final.png as (height, width, 3) integers."""
    with Image.open(directory / "final.png") as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A finished recording of 12 frames with seed 3."""
    directory = tmp_path_factory.mktemp("recorder") / "run"
    assert main([*SMALL, "--frames", "12", "--seed", "3", "--contrast", "50", "--out", str(directory)]) == 0
    return directory


def events_of(directory):
    """The lines of events.jsonl."""
    return [
        json.loads(line) for line in (directory / "events.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def test_the_table_has_every_column_with_its_unit_and_a_row_a_frame(recording):
    header, rows = rows_of(recording)
    assert ",".join(header) == HEADER
    assert {"solve_ms [ms]", "time_s [s]", "iterations [-]", "fps [1/s]", "failed_ms [ms]"} <= set(header)
    assert column(recording, "frame") == [str(number) for number in range(1, 13)]
    assert set(column(recording, "outcome")) == {"converged"}
    assert all(float(value) > 0.0 for value in column(recording, "solve_ms"))
    falls = [float(value) for value in column(recording, "potential_energy")]
    assert falls == sorted(falls, reverse=True)
    assert float(column(recording, "kinetic_energy")[-1]) > 0.0
    assert all(0.0 < float(value) < 1.0 for value in column(recording, "divergence"))
    assert all(len(row) == len(header) for row in rows)


def test_run_yaml_says_what_is_needed_to_repeat_the_run(recording):
    run = yaml.safe_load((recording / "run.yaml").read_text(encoding="utf-8"))
    assert run["seed"] == run["settings"]["seed"] == 3
    assert (run["settings"]["grid"], run["settings"]["contrast"], run["settings"]["frames"]) == (
        "32x16",
        50.0,
        12,
    )
    for package in ("python", "torch", "taichi", "numba", "numpy", "imgui-bundle", "htp-fluid"):
        assert run["versions"][package]
    assert run["versions"]["numpy"] == np.__version__
    assert run["versions"]["htp-fluid"][0].isdigit()
    assert run["hardware"]["cores"] >= 1
    assert run["hardware"]["torch_threads"] == 1
    assert run["hardware"]["memory_gib"] > 0.0
    assert {"cpu", "gpu", "os", "torch_threads"} <= set(run["hardware"])
    assert run["command"].startswith("htp-fluid")
    assert run["started"] <= run["summary"]["finished"]
    assert "commit" in run
    again = app_settings({"settings": recording / "run.yaml"})
    assert (again.simulation.seed, again.simulation.grid, again.frames) == (3, (32, 16), 12)


def test_the_summary_is_that_of_the_table(recording):
    summary = yaml.safe_load((recording / "run.yaml").read_text(encoding="utf-8"))["summary"]
    assert (summary["rows"], summary["ended"], summary["unconverged"], summary["fallbacks"]) == (
        12,
        "completed",
        0,
        0,
    )
    assert summary["iterations_mean"] == pytest.approx(
        np.mean([int(value) for value in column(recording, "iterations")]), abs=0.01
    )
    frame_ms = sorted(float(value) for value in column(recording, "frame_ms"))
    assert summary["fps_median"] == pytest.approx(1e3 / (0.5 * (frame_ms[5] + frame_ms[6])), abs=0.01)
    for name in ("sim_ms", "setup_ms", "inference_ms", "solve_ms", "draw_ms", "frame_ms", "failed_ms"):
        values = [float(value) for value in column(recording, name)]
        assert summary["mean"][name] == pytest.approx(np.mean(values[1:]), abs=1e-4)
        assert summary["median"][name] == pytest.approx(np.median(values), abs=1e-4)
        assert summary["p95"][name] == pytest.approx(np.percentile(values, 95), abs=1e-4)
        assert summary["p99"][name] == pytest.approx(np.percentile(values, 99), abs=1e-4)
        assert summary["worst"][name] == pytest.approx(max(values[10:]), abs=1e-4)


def test_the_final_picture_shows_two_fluids(recording):
    picture = picture_of(recording)
    assert picture.shape == (640, 1280, 3)
    top, bottom = picture[20, 700], picture[-20, 20]  # dam break: light above right, heavy below left
    assert np.abs(top - bottom).max() > 50


def test_equal_runs_give_equal_tables_but_for_the_times(recording, tmp_path, capsys):
    assert main(["record", "--settings", str(recording / "run.yaml"), "--out", str(tmp_path / "again")]) == 0
    printed = capsys.readouterr().out
    assert "12 frames" in printed
    assert "frames/s" in printed
    first, second = rows_of(recording)[1], rows_of(tmp_path / "again")[1]
    for one, other in zip(first, second, strict=True):
        kept = [(a, b) for a, b, timing in zip(one, other, TIMING, strict=True) if not timing]
        assert len(kept) == 17
        assert all(a == b for a, b in kept)
    assert len(set(column(recording, "relative_residual"))) > 6  # the rows do differ from each other
    assert column(recording, "frame_ms") != column(tmp_path / "again", "frame_ms")


def test_the_table_tells_what_auto_chose(tmp_path, recording, monkeypatch):
    monkeypatch.setattr("precond.auto.Choice.rival", lambda *_: "")  # however long a solve takes here
    command = ["record", "--grid", "32x16", "--frames", "3", "--precond", "auto:candidates=jacobi,multigrid"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert column(tmp_path / "run", "preconditioner") == ["auto"] * 3
    assert column(tmp_path / "run", "choice")[:2] == ["jacobi: the first", "multigrid: not tried yet"]
    assert set(column(recording, "choice")) == {""}


def test_what_a_reader_must_know_is_said_once(tmp_path, capsys):
    assert main([*SMALL, "--frames", "2", "--single-launch", "--out", str(tmp_path / "run")]) == 0
    said = "htp-fluid record: no single launch: there are no CUDA graphs on a CPU\n"
    assert capsys.readouterr().err.count(said) == 1


def test_a_recording_is_never_overwritten(recording, capsys):
    before = {path.name: path.read_bytes() for path in recording.iterdir()}
    assert main([*SMALL, "--frames", "2", "--out", str(recording)]) == 2
    assert "already holds results" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in recording.iterdir()} == before


def test_without_out_the_directories_are_numbered(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert main([*SMALL, "--frames", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "dam-break-jacobi",
        "dam-break-jacobi-2",
        "dam-break-jacobi-3",
    ]
    assert "runs/dam-break-jacobi-3" in capsys.readouterr().out


def recording_process(directory, rows):
    """A `record` that runs for ever, once it has written ``rows`` rows."""
    command = [sys.executable, "-m", "app", *SMALL, "--frames", "1000000", "--out", str(directory)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240  # on a busy machine the start alone can take a minute
    table = directory / "timings.csv"
    while not table.exists() or table.read_bytes().count(b"\n") <= rows:
        assert process.poll() is None, process.stderr.read()
        if time.monotonic() > deadline:
            process.kill()  # or it would go on for ever
            process.communicate()
            pytest.fail("the recording does not start")
        time.sleep(0.05)
    return process


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_an_interrupted_recording_is_complete_up_to_there(tmp_path):
    directory = tmp_path / "run"
    process = recording_process(directory, rows=5)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == ""
    header, rows = rows_of(directory)
    assert len(rows) >= 5
    assert all(len(row) == len(header) for row in rows)
    summary = yaml.safe_load((directory / "run.yaml").read_text(encoding="utf-8"))["summary"]
    assert (summary["rows"], summary["ended"]) == (len(rows), "interrupted by SIGINT")
    assert f"{len(rows)} frames" in out
    assert picture_of(directory).shape == (640, 1280, 3)


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_killed_recording_keeps_its_rows_and_settings(tmp_path):
    directory = tmp_path / "run"
    process = recording_process(directory, rows=5)
    process.kill()
    process.communicate(timeout=60)
    header, rows = rows_of(directory)
    assert len(rows) >= 5
    assert all(len(row) == len(header) for row in rows[:-1])
    run = yaml.safe_load((directory / "run.yaml").read_text(encoding="utf-8"))
    assert run["summary"] is None
    assert run["settings"]["preconditioner"] == "jacobi"


def test_video_plays_in_simulated_time(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    directory = tmp_path / "run"
    arguments = ["--frames", "12", "--video", "--video-fps", "60", "--out", str(directory)]
    assert main([*SMALL, *arguments]) == 0
    duration = float(column(directory, "time_s")[-1])
    command = [ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", directory / "run.mp4", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, 640, 1280, 3)
    assert len(pictures) == 1 + int(duration * 60 + 1e-9) > 4
    last = pictures[-1].astype(int)
    still = picture_of(directory)
    assert np.abs(last - still).mean() < 12.0
    assert still.std() > 20.0


def test_video_without_ffmpeg_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert main([*SMALL, "--video", "--out", str(tmp_path / "run")]) == 2
    assert "htp-fluid[video]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture
def engine():
    return Engine(app_settings({"grid": (32, 16), "preconditioner": "jacobi"}))


def test_recording_from_a_running_engine(engine, tmp_path):
    engine.step()
    recorder = Recorder.start(engine, tmp_path / "run")
    first = recorder.directory
    started = (first / "run.yaml").read_bytes()
    engine.step()
    engine.set("contrast", 300.0)
    engine.set("grid", (16, 16))
    engine.step()
    assert (first / "run.yaml").read_bytes() == started  # what happens in a frame does not rewrite it
    assert recorder.stop() == first == tmp_path / "run"
    assert recorder.stop() == first
    assert not recorder.running
    engine.step()
    assert column(first, "frame") == ["2", "1"]
    run = yaml.safe_load((first / "run.yaml").read_text(encoding="utf-8"))
    assert (run["settings"]["contrast"], run["frame"], run["summary"]["rows"]) == (100, 1, 2)
    assert [(event["frame"], event["kind"], event["data"]) for event in events_of(first)] == [
        (2, "set", {"name": "contrast", "value": 300.0}),
        (2, "set", {"name": "grid", "value": [16, 16]}),
    ]
    second = Recorder.start(engine, tmp_path / "run").stop()
    assert second == tmp_path / "run-2"
    assert rows_of(second)[1] == []
    assert yaml.safe_load((second / "run.yaml").read_text(encoding="utf-8"))["summary"]["rows"] == 0
    with pytest.raises(OutputError, match="already holds results"):
        Recorder(engine, second)


def test_the_end_of_the_engine_ends_the_recording(engine, tmp_path):
    recorder = Recorder.start(engine, tmp_path / "run")
    engine.step()
    engine.close("the window broke")
    assert not recorder.running
    run = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text(encoding="utf-8"))
    assert (run["summary"]["ended"], run["summary"]["rows"]) == ("the window broke", 1)


def repeat(engine, events):
    """Do to ``engine`` what ``events`` say."""
    for event in events:
        while engine.frame < event["frame"]:
            engine.step()
        kind, data = event["kind"], event["data"]
        if kind == "set":
            engine.set(data["name"], data["value"])
        else:
            getattr(engine, kind)(**data)


def test_a_recording_that_was_stirred_and_painted_can_be_repeated(engine, tmp_path):
    recorder = Recorder.start(engine, tmp_path / "run")
    engine.step()
    engine.stir(0.7, 0.4, 0.31, -0.2, 0.1)
    engine.step()
    engine.reset()
    for _ in range(2):
        engine.stir(0.3, 0.4, 0.5, 1.0 / 3.0, 0.12)
        engine.step()
    engine.paint(1.2, 0.3, 0.2, "solid")
    engine.set("contrast", 40.0)
    engine.step()
    engine.paint(1.2, 0.3, 0.1, "erase")
    engine.step()
    recorder.stop()
    events = events_of(tmp_path / "run")
    assert [event["kind"] for event in events] == ["stir", "reset", "stir", "stir", "paint", "set", "paint"]
    assert [event["frame"] for event in events] == [1, 2, 0, 1, 2, 2, 3]
    again = Engine(app_settings({"settings": tmp_path / "run" / "run.yaml"}))
    repeat(again, events)
    again.step()
    assert (again.simulation.phase == engine.simulation.phase).all()
    assert (again.simulation.velocity == engine.simulation.velocity).all()
    assert again.simulation.max_speed() > 0.0


def test_failed_attempts_have_columns_of_their_own(engine, tmp_path, monkeypatch):
    recorder = Recorder.start(engine, tmp_path / "run")
    engine.set("preconditioner", "multigrid")
    engine.step()
    broken = engine.preconditioner
    monkeypatch.setattr(broken, "_apply", lambda residual, out: out.copy_(residual).neg_())
    engine.step()

    def give_up():
        raise np.linalg.LinAlgError("not positive\ndefinite")

    monkeypatch.setattr(broken, "setup", give_up)
    engine.step()
    recorder.stop()
    directory = tmp_path / "run"
    assert column(directory, "preconditioner") == ["multigrid", "jacobi", "jacobi"]
    assert column(directory, "fallback") == ["False", "True", "True"]
    assert column(directory, "outcome") == ["converged"] * 3
    assert column(directory, "failed_method") == ["", "multigrid", "multigrid"]
    assert column(directory, "failed_outcome") == ["", "indefinite preconditioner", "not finite"]
    assert column(directory, "failed_iterations") == ["0", "0", "0"]
    assert "its set-up failed: not positive definite" in column(directory, "failed_reason")[2]
    assert [float(value) > 0.0 for value in column(directory, "failed_ms")] == [False, True, True]


def test_a_disk_that_is_full_at_the_start_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.recording.recorder._Lines.add", full)
    assert main(["record", "--grid", "16x16", "--frames", "2", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path / 'run'}: cannot be written: No space left" in error


@pytest.mark.parametrize("writing", ["a row", "an event"])
def test_a_full_disk_ends_the_recording_with_whole_rows_and_not_the_engine(engine, tmp_path, writing):
    """The system's own limit of a file's size: it cuts the line that reaches it."""
    resource = pytest.importorskip("resource")
    recorder = Recorder.start(engine, tmp_path / "run")
    directory = recorder.directory
    for _ in range(20):
        engine.step()
        engine.set("contrast", engine.settings.simulation.contrast + 1.0)
    file = directory / ("timings.csv" if writing == "a row" else "events.jsonl")
    before = file.read_bytes()
    if writing == "an event":
        engine.stir(0.5, 0.5, 0.1, 0.1, 1.0 / 3.0)
        before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        if writing == "a row":
            engine.step()
        else:
            engine.reset()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not recorder.running
    assert "recording stopped" in recorder.message
    assert "File too large" in recorder.message
    assert "\n" not in recorder.message
    assert file.read_bytes() == before
    header, rows = rows_of(directory)
    assert all(len(row) == len(header) for row in rows)
    run = yaml.safe_load((directory / "run.yaml").read_text(encoding="utf-8"))
    assert (run["summary"]["rows"], run["summary"]["ended"]) == (20, recorder.message)
    assert engine.step().outcome == "converged"
    assert not engine.message


@pytest.mark.skipif(os.name == "nt", reason="no file can be removed while it is open")
@pytest.mark.parametrize(
    "act",
    [
        lambda engine, _: engine.set("contrast", 50.0),
        lambda engine, _: engine.reset(),
        lambda engine, _: engine.step(),
        lambda _, recorder: recorder.stop(),
    ],
)
def test_a_folder_that_was_removed_ends_the_recording_in_one_line(engine, tmp_path, act):
    recorder = Recorder.start(engine, tmp_path / "run")
    engine.step()
    shutil.rmtree(recorder.directory)
    act(engine, recorder)
    assert not recorder.running
    assert str(recorder.directory) in recorder.message
    assert "\n" not in recorder.message
    assert not recorder.directory.exists()
    assert engine.step().outcome == "converged"


def test_record_says_why_it_stopped(tmp_path, monkeypatch, capsys):
    real = Engine.step

    def step(self):
        if self.frame == 3:
            shutil.rmtree(tmp_path / "run")
        return real(self)

    monkeypatch.setattr(Engine, "step", step)
    assert main([*SMALL, "--frames", "10", "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("htp-fluid record: recording stopped:")
    assert error.count("\n") == 1


def test_a_bad_frame_ends_the_recording_with_exit_code_1(tmp_path, monkeypatch, capsys):
    from sim.simulation import Simulation

    good_step = Simulation.step

    def step(self):
        if self.step_count == 3:
            raise FloatingPointError("velocity overflow")
        return good_step(self)

    monkeypatch.setattr(Simulation, "step", step)
    directory = tmp_path / "run"
    assert main([*SMALL, "--frames", "10", "--out", str(directory)]) == 1
    assert "velocity overflow" in capsys.readouterr().err
    assert column(directory, "outcome") == ["converged"] * 3 + ["failed"]
    assert column(directory, "failed_reason") == ["", "", "", "velocity overflow"]
    summary = yaml.safe_load((directory / "run.yaml").read_text(encoding="utf-8"))["summary"]
    assert (summary["rows"], summary["unconverged"]) == (4, 1)
    assert "velocity overflow" in summary["ended"]
