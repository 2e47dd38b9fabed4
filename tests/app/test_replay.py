"""Recordings repeated: the input of a hand, at the same steps, to the bit."""

import json

import pytest
import torch

from app.cli import main
from app.config.settings import app_settings
from app.engine import Engine
from app.environment import ROOT
from app.recording.recorder import Recorder
from precond.config import read_yaml
from sim.state import load_state


def make(**settings):
    return Engine(app_settings({"grid": (32, 16), "preconditioner": "multigrid", **settings}))


def steps(engine, count):
    for _ in range(count):
        engine.step()


def play(engine):
    """A session with everything that a hand can do."""
    steps(engine, 4)
    engine.begin_stroke()
    for x in (0.4, 0.6, 0.8):
        engine.stir(x, 0.4, 1.0, 0.5, 0.15)
        engine.step()
    engine.begin_stroke()
    engine.paint(1.2, 0.3, 0.2, "solid")
    steps(engine, 5)
    engine.set("contrast", 1000.0)
    engine.set("preconditioner", "coarse-iterated")
    steps(engine, 3)
    engine.undo()
    steps(engine, 2)
    engine.redo()
    engine.paint(0.5, 0.8, 0.15, "heavy")
    engine.set("grid", (48, 24))
    steps(engine, 4)


@pytest.fixture
def session(tmp_path):
    """The recording of `play`, begun in the middle of a run."""
    engine = make()
    steps(engine, 6)
    engine.paint(0.3, 0.8, 0.1, "heavy")
    recorder = Recorder.start(engine, tmp_path / "session")
    play(engine)
    recorder.stop()
    return tmp_path / "session"


def last(directory):
    return load_state(directory / "final.safetensors")[0]


def test_a_replay_is_the_recording_to_the_bit(session, tmp_path, capsys):
    assert main(["record", "--replay", str(session), "--out", str(tmp_path / "again")]) == 0
    text = capsys.readouterr().out
    assert "21 of 21 frames, method, count and time equal in 21 frames" in text
    assert "same to the bit" in text
    assert read_yaml(tmp_path / "again" / "run.yaml")["replay"] == "session"
    assert all(torch.equal(a, b) for a, b in zip(last(session), last(tmp_path / "again"), strict=True))


def test_a_replay_can_itself_be_repeated(session, tmp_path, capsys):
    assert main(["record", "--replay", str(session), "--out", str(tmp_path / "a")]) == 0
    assert main(["record", "--replay", str(tmp_path / "a"), "--out", str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.count("same to the bit") == 2


@pytest.mark.parametrize(
    "directory", sorted((ROOT / "assets" / "sessions").iterdir()), ids=lambda path: path.name
)
def test_committed_sessions_can_be_repeated(directory, tmp_path):
    assert main(["record", "--replay", str(directory), "--frames", "24", "--out", str(tmp_path / "a")]) == 0
    assert read_yaml(tmp_path / "a" / "run.yaml")["summary"]["rows"] == 24


def test_another_method_sees_the_same_flow(session, tmp_path):
    tight = ["--rtol", "1e-10", "--frames", "15"]
    for name, method in (("a", "multigrid"), ("b", "jacobi")):
        out = str(tmp_path / name)
        assert main(["record", "--replay", str(session), "--precond", method, *tight, "--out", out]) == 0
    a, b = last(tmp_path / "a"), last(tmp_path / "b")
    assert (a.phase - b.phase).abs().max() < 1e-6
    rows = (tmp_path / "b" / "timings.csv").read_text().splitlines()[1:]
    assert len(rows) == 15
    assert all(",jacobi," in row for row in rows)


def test_loaded_states_and_resets_are_repeated(tmp_path, capsys):
    engine = make()
    recorder = Recorder.start(engine, tmp_path / "r")
    steps(engine, 3)
    saved = engine.save(tmp_path / "elsewhere.safetensors")
    steps(engine, 3)
    engine.load(saved)
    steps(engine, 2)
    engine.reset()
    steps(engine, 2)
    engine.set("scene", "falling-drop")
    steps(engine, 2)
    engine.paint(0.5, 0.5, 0.1, "solid")  # after the last step
    recorder.stop()
    saved.unlink()
    assert main(["record", "--replay", str(tmp_path / "r"), "--out", str(tmp_path / "again")]) == 0
    assert "same to the bit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--replay", "nowhere"], "is not a recording"),
        (["--replay", "SESSION", "--grid", "16x16"], "--grid: not with --replay"),
        (["--replay", "SESSION", "--settings", "x.yaml"], "--settings: not with --replay"),
        (["--replay", "SESSION", "--load", "x"], "--load: not with --replay"),
        (["--load", "x", "--grid", "16x16"], "--grid: not with --load"),
        (["--load", "nothing.safetensors"], "there is no such file"),
    ],
)
def test_wrong_use_is_one_line(session, capsys, arguments, says, tmp_path):
    arguments = [str(session) if argument == "SESSION" else argument for argument in arguments]
    assert main(["record", *arguments, "--out", str(tmp_path / "o")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "events.jsonl").write_text('{"kind": "stir"}\n'),
        lambda folder: (folder / "events.jsonl").write_text("stir\n"),
        lambda folder: (folder / "events.jsonl").unlink(),
        lambda folder: (folder / "timings.csv").write_text(""),
        lambda folder: (folder / "start.safetensors").write_bytes(b"x"),
        lambda folder: (folder / "run.yaml").write_text("settings: {grid: none}"),
        lambda folder: add_event(folder, "stir", {"x": 1.0}),
        lambda folder: add_event(folder, "paint", {"x": "a", "y": 0.1, "radius": 0.1, "what": "solid"}),
        lambda folder: add_event(folder, "set", {"name": "scene", "value": "dam-break", "brought": 3}),
        lambda folder: add_event(folder, "set", {"name": "contrast", "value": -4}),
        lambda folder: add_event(folder, "load", {"path": "loaded-9.safetensors"}),
    ],
)
def test_a_damaged_recording_is_one_line(session, capsys, damage, tmp_path):
    damage(session)
    assert main(["record", "--replay", str(session), "--out", str(tmp_path / "o")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Traceback" not in line


def add_event(folder, kind, data):
    event = {"frame": 0, "time_s": 0.0, "kind": kind, "data": data}
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def test_what_was_recorded_before_the_damage_is_kept(session, tmp_path):
    add_event(session, "paint", {"x": 0.0})
    assert main(["record", "--replay", str(session), "--out", str(tmp_path / "o")]) == 2
    assert len((tmp_path / "o" / "timings.csv").read_text().splitlines()) == 1 + 17


@pytest.mark.parametrize("method", ["multigrid", "coarse-learned", "hmatrix", "block-jacobi", "direct"])
def test_a_replay_begins_where_a_run_went_on_with_another_density(tmp_path, capsys, method):
    engine = make(preconditioner=method, contrast=7.0)
    steps(engine, 3)
    engine.set("contrast", 300.0)
    steps(engine, 2)
    recorder = Recorder.start(engine, tmp_path / "r")
    steps(engine, 4)
    recorder.stop()
    assert main(["record", "--replay", str(tmp_path / "r"), "--out", str(tmp_path / "again")]) == 0
    assert "same to the bit" in capsys.readouterr().out


def test_an_undo_takes_back_the_same_with_another_method(tmp_path):
    engine = make()
    recorder = Recorder.start(engine, tmp_path / "r")
    steps(engine, 2)
    engine.begin_stroke()
    engine.paint(1.2, 0.3, 0.2, "solid")
    engine.set("preconditioner", "jacobi")
    engine.undo()
    steps(engine, 2)
    recorder.stop()
    command = ["record", "--replay", str(tmp_path / "r"), "--precond", "coarse-iterated"]
    assert main([*command, "--contrast", "9", "--out", str(tmp_path / "o")]) == 0
    assert last(tmp_path / "r").solid.sum() == last(tmp_path / "o").solid.sum() > 0
    assert load_state(tmp_path / "o" / "final.safetensors")[1]["contrast"] == 9.0
