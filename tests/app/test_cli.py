"""The command line: what it accepts, whose value wins, and how it says no."""

import subprocess
import sys

import pytest
import yaml

from app import cli
from app.cli import main
from app.config.settings import OPTIONS, SettingsError, app_settings, bench_settings
from sim.scenes import available_scenes
from sim.settings import SimulationSettings

OWN_SCENE = """
title: Own
description: A scene with its own settings.
height: 1.0
duration: 1.0
settings: {grid: [24, 16], contrast: 7, gravity: 3.0}
background: light
shapes:
  - {shape: rectangle, from: [0.0, 0.0], to: [0.3, 0.7]}
expect: {volume_drift_below: 1.0e-6}
"""


@pytest.fixture
def file(tmp_path):
    """Write a text to a file and return its path."""

    def write(text, name="settings.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def assert_refused(capsys, argv, *fragments):
    code = main(argv)
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1, captured.err
    for fragment in fragments:
        assert fragment in captured.err


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ("", ["required", "demo | record | bench | spectra | report | train | ablate | list"]),
        ("fly", ["fly", "demo"]),
        ("record --colour red", ["--colour"]),
        ("record --grid 12", ["--grid", "'12'", "like 128x64"]),
        ("record --grid 4x64", ["--grid", "'4x64'", "8 to 4096"]),
        ("record --contrast heavy", ["--contrast", "'heavy'", "number"]),
        ("record --contrast 0.5", ["--contrast", "0.5", "1 to 10000"]),
        ("record --contrast nan", ["--contrast", "nan", "1 to 10000"]),
        ("record --rtol 2", ["--rtol", "2", "1e-14 to 0.5"]),
        ("record --gravity -1", ["--gravity", "-1", "0 to 1000"]),
        ("record --max-iterations 1.5", ["--max-iterations", "'1.5'", "whole number"]),
        ("record --frames 0", ["--frames", "0", "1 to"]),
        ("record --video-fps 0", ["--video-fps", "1 to 240"]),
        ("record --device tpu", ["--device", "'tpu'", "cpu, cuda"]),
        ("record --scene nowhere", ["'nowhere'", "dam-break"]),
        ("record --scene no/such.yaml", ["no/such.yaml"]),
        ("record --precond magic", ["magic", "jacobi"]),
        ("record --view smell", ["view", "'smell'", "vorticity"]),
        ("record --colormap mud", ["colormap", "'mud'", "viridis"]),
        ("record --settings no-such.yaml", ["no-such.yaml", "No such file"]),
        ("demo --precond magic", ["magic", "jacobi"]),
        ("bench --sizes 12", ["--sizes", "12", "64 to"]),
        ("bench --preconds jacobi magic", ["magic", "jacobi"]),
        ("bench --rtol 0", ["--rtol", "1e-14 to 0.5"]),
        ("bench --scene dam-break", ["--scene"]),
        ("bench --single-launch", ["single_launch", "CPU", "--device cuda"]),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments, fragments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, arguments.split(), *fragments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("contrats: 7", ["contrats", "unknown", "contrast"]),
        ("contrast: much", ["contrast", "'much'", "number"]),
        ("contrast: 20000", ["contrast", "20000", "1 to 10000"]),
        ("contrast: yes", ["contrast", "True", "number"]),
        ("contrast:", ["contrast", "None", "number"]),
        ("grid: 64", ["grid", "64", "like 128x64"]),
        ("grid: [64, 32, 8]", ["grid", "like 128x64"]),
        ("grid: [64, yes]", ["grid", "like 128x64"]),
        ("warm-start: 1", ["warm-start", "1", "true or false"]),
        ("max_iterations: 10.5", ["max_iterations", "10.5", "whole number"]),
        ("scene: 3", ["scene", "3", "text"]),
        ("frames: 0", ["frames", "0", "1 to"]),
        ("device: tpu", ["device", "'tpu'", "cpu, cuda"]),
        ("- contrast", ["expected lines like"]),
        ("", ["expected lines like"]),
        ("grid: [64", ["not YAML"]),
        ("sizes: [64]", ["sizes", "unknown"]),
    ],
)
def test_a_wrong_settings_file_is_named_with_its_field(text, fragments, capsys, file):
    path = file(text)
    assert_refused(capsys, ["record", "--settings", path], path, *fragments)


def test_a_settings_file_that_is_not_text_is_refused(capsys, tmp_path):
    path = tmp_path / "picture.yaml"
    path.write_bytes(b"\xff\xfe\x00\x9f")
    assert_refused(capsys, ["record", "--settings", str(path)], str(path), "not a text file")
    assert_refused(capsys, ["record", "--settings", str(tmp_path)], str(tmp_path), "cannot be read")


def test_cuda_without_cuda_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for command in ("record", "demo", "bench"):
        assert_refused(capsys, [command, "--device", "cuda"], "no CUDA device", "cpu")


@pytest.mark.parametrize("command", ["record", "bench"])
def test_unusable_out_directories_are_refused(command, capsys, tmp_path):
    size = ["--sizes", "64"] if command == "bench" else ["--grid", "16x8"]
    occupied = tmp_path / "file"
    occupied.write_text("mine", encoding="utf-8")
    for out in (occupied, occupied / "below"):
        assert_refused(capsys, [command, *size, "--out", str(out)], str(out), "file of that name")
    assert occupied.read_text(encoding="utf-8") == "mine"
    assert_refused(capsys, [command, *size, "--out", "/proc/self/new"], "/proc/self/new", "cannot be written")
    for name in ("timings.csv", "bench.json"):
        full = tmp_path / name.replace(".", "-")
        full.mkdir()
        (full / name).write_text("precious", encoding="utf-8")
        assert_refused(capsys, [command, *size, "--out", str(full)], str(full), "already holds results")
        assert [path.name for path in full.iterdir()] == [name]
        assert (full / name).read_text(encoding="utf-8") == "precious"


def test_flags_win_over_file_over_scene_over_defaults(file):
    scene = file(OWN_SCENE, "own.yaml")
    alone = app_settings("record", {"scene": scene}).simulation
    assert (alone.grid, alone.contrast, alone.gravity) == ((24, 16), 7, 3.0)
    assert alone.rtol == SimulationSettings().rtol
    settings = file(f"scene: {scene}\ncontrast: 8\ngravity: 4\nrtol: 1e-6\nframes: 5\n")
    from_file = app_settings("record", {"settings": settings})
    assert from_file.simulation.grid == (24, 16)
    assert (from_file.simulation.contrast, from_file.simulation.rtol, from_file.frames) == (8.0, 1e-6, 5)
    both = app_settings("record", {"settings": settings, "contrast": 9.0, "frames": 6})
    assert (both.simulation.contrast, both.simulation.gravity, both.frames) == (9.0, 4.0, 6)


def test_every_flag_can_come_from_a_file_in_both_spellings(file):
    text = """
        precond: jacobi
        max-iterations: 17
        light_viscosity: 0.25
        warm-start: false
        grid: 40x16
        seed: 3
        single-launch: true
        video-fps: 12
    """
    settings = app_settings("demo", {"settings": file(text)})
    simulation = settings.simulation
    assert (simulation.preconditioner, simulation.max_iterations, simulation.seed) == ("jacobi", 17, 3)
    assert (simulation.light_viscosity, simulation.warm_start, simulation.grid) == (0.25, False, (40, 16))
    assert simulation.single_launch is True
    assert settings.video_fps == 12.0
    bench = bench_settings(
        {"settings": file("sizes: [64, 100]\npreconds: jacobi\ncontrast: 50"), "frames": 2}
    )
    assert (bench.sizes, bench.preconds, bench.contrast, bench.frames) == ((64, 100), ("jacobi",), (50.0,), 2)
    assert not bench.single_launch
    assert bench_settings({"device": "cuda", "single_launch": True}).single_launch


def test_written_settings_can_be_read_again(file):
    flags = {"grid": (40, 24), "contrast": 12.5, "rtol": 1e-9, "seed": 5, "warm_start": False, "frames": 7}
    flags |= {"single_launch": True}
    settings = app_settings("record", flags)
    written = yaml.safe_dump({"command": "whatever", "settings": settings.as_dict()})
    again = app_settings("record", {"settings": file(written)})
    assert again.simulation == settings.simulation
    assert again.as_dict() == settings.as_dict()


def test_flags_reach_the_settings(monkeypatch):
    seen = {}
    monkeypatch.setitem(cli._RUN, "record", lambda flags: seen.update(flags) or 0)
    arguments = (
        "record --grid 64x32 --contrast 1e3 --precond ic0 --rtol 1e-8 --no-warm-start --seed 4 --video"
    )
    assert main(arguments.split()) == 0
    assert seen == {
        "grid": (64, 32),
        "contrast": 1000.0,
        "preconditioner": "ic0",
        "rtol": 1e-8,
        "warm_start": False,
        "seed": 4,
        "video": True,
    }


@pytest.mark.parametrize("command", [*OPTIONS, "list"])
def test_help_names_every_flag_without_loading_torch(command):
    code = f"import sys, app.cli as c; print(c.main([{command!r}, '--help'])); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-2:] == ["0", "False"]
    for option in OPTIONS.get(command, []):
        assert f"{option.flag} " in ran.stdout or f"{option.flag}," in ran.stdout


def test_list_names_what_can_be_named(capsys):
    from precond import registered_preconditioners

    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    scenes, preconditioners = available_scenes(), list(registered_preconditioners())
    first_words = [line.split()[0] for line in printed.splitlines()]
    expected = ["scenes", *scenes, "preconditioners", *preconditioners, "devices", "cpu", "cuda"]
    assert first_words == expected
    assert all(len(line.split()) > 1 for line in printed.splitlines() if line.startswith("  "))


def test_interrupt_gives_130_and_a_programming_error_is_not_hidden(capsys, monkeypatch):
    def interrupted(_flags):
        raise KeyboardInterrupt

    def broken(_flags):
        raise ValueError("a bug")

    monkeypatch.setitem(cli._RUN, "list", interrupted)
    assert main(["list"]) == 130
    assert "interrupted" in capsys.readouterr().err
    monkeypatch.setitem(cli._RUN, "list", broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["list"])


def test_settings_errors_are_value_errors():
    with pytest.raises(SettingsError, match=r"--contrast: 0\.0 is not a number from 1"):
        app_settings("record", {"contrast": 0})


def test_values_that_are_named_twice_count_once():
    from app.config.settings import bench_settings

    settings = bench_settings({"preconds": ["jacobi", "none", "jacobi"], "contrast": [100.0, 100.0]})
    assert settings.preconds == ("jacobi", "none")
    assert settings.contrast == (100.0,)
