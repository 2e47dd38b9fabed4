"""The command line: what it accepts, whose value wins, and how it says no."""

import os
import subprocess
import sys

import pytest
import yaml

from app import cli
from app.bench.settings import BenchSettings
from app.cli import main
from app.config.flags import flag
from app.config.settings import RunOptions, app_settings, merged
from precond.errors import UsageError
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
        (
            "",
            [
                "required",
                "demo | record | page | bench | spectra | device-work | report | train | ablate | "
                "validate | list",
            ],
        ),
        ("fly", ["unknown command 'fly' (choose from ", "demo"]),
        ("bench --external nope", ["--external: 'nope' is not one of all, pyamg-rs, pyamg-sa, "]),
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
        ("record --frames 30 --seconds 0.2", ["--frames", "--seconds", "one of them"]),
        ("record --load .", ["state .: is a folder", "final.safetensors"]),
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
    for name in ("timings.csv", "loaded-2.safetensors", "bench.csv"):
        full = tmp_path / name.replace(".", "-")
        full.mkdir()
        (full / name).write_text("precious", encoding="utf-8")
        assert_refused(capsys, [command, *size, "--out", str(full)], str(full), "already holds results")
        assert [path.name for path in full.iterdir()] == [name]
        assert (full / name).read_text(encoding="utf-8") == "precious"


def test_flags_win_over_file_over_scene_over_defaults(file):
    scene = file(OWN_SCENE, "own.yaml")
    alone = app_settings({"scene": scene}).simulation
    assert (alone.grid, alone.contrast, alone.gravity) == ((24, 16), 7, 3.0)
    assert alone.rtol == SimulationSettings().rtol
    settings = file(f"scene: {scene}\ncontrast: 8\ngravity: 4\nrtol: 1e-6\nframes: 5\n")
    from_file = app_settings({"settings": settings})
    assert from_file.simulation.grid == (24, 16)
    assert (from_file.simulation.contrast, from_file.simulation.rtol, from_file.frames) == (8.0, 1e-6, 5)
    both = app_settings({"settings": settings, "contrast": 9.0, "frames": 6})
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
    settings = app_settings({"settings": file(text)})
    simulation = settings.simulation
    assert (simulation.preconditioner, simulation.max_iterations, simulation.seed) == ("jacobi", 17, 3)
    assert (simulation.light_viscosity, simulation.warm_start, simulation.grid) == (0.25, False, (40, 16))
    assert simulation.single_launch is True
    assert settings.video_fps == 12.0
    written = file("sizes: [64, 100]\npreconds: jacobi\ncontrast: 50")
    bench = merged(BenchSettings, {"settings": written, "frames": 2})
    assert (bench.sizes, bench.preconds, bench.contrast, bench.frames) == ((64, 100), ("jacobi",), (50.0,), 2)
    assert not bench.single_launch
    assert merged(BenchSettings, {"device": "cuda", "single_launch": True}).single_launch


def test_frames_or_seconds_of_a_file_give_way_to_a_flag(file):
    path = file("frames: 5")
    settings = app_settings({"settings": path, "seconds": "0.5"})
    assert (settings.frames, settings.seconds) == (None, 0.5)
    path = file("seconds: 2")
    settings = app_settings({"settings": path, "frames": "7"})
    assert (settings.frames, settings.seconds) == (7, None)
    with pytest.raises(UsageError, match="one of them"):
        app_settings({"settings": file("{seconds: 2, frames: 3}")})


def test_written_settings_can_be_read_again(file):
    flags = {"grid": (40, 24), "contrast": 12.5, "rtol": 1e-9, "seed": 5, "warm_start": False, "frames": 7}
    flags |= {"single_launch": True}
    settings = app_settings(flags)
    written = yaml.safe_dump({"command": "whatever", "settings": settings.as_dict()})
    again = app_settings({"settings": file(written)})
    assert again.simulation == settings.simulation
    assert again.as_dict() == settings.as_dict()


@pytest.mark.parametrize("grid", ["24x16", "24 X 16", "[24, 16]"])
def test_a_grid_is_written_alike_in_every_file_and_on_the_command_line(file, grid):
    scene = file(OWN_SCENE.replace("[24, 16]", f"'{grid}'" if "X" in grid else grid), "own.yaml")
    assert app_settings({"scene": scene}).simulation.grid == (24, 16)
    assert app_settings({"settings": file(f"grid: {grid}")}).simulation.grid == (24, 16)
    if "[" not in grid:
        assert app_settings({"grid": grid}).simulation.grid == (24, 16)


def run(monkeypatch, name, function):
    """Let command ``name`` call ``function`` with its flags."""
    monkeypatch.setitem(cli.COMMANDS, name, (function, *cli.COMMANDS[name][1:]))


def test_flags_reach_the_settings(monkeypatch):
    seen = []
    run(monkeypatch, "record", lambda flags: seen.append(app_settings(flags)) or 0)
    arguments = (
        "record --grid 64x32 --contrast 1e3 --precond ic0 --rtol 1e-8 --no-warm-start --seed 4 --video"
    )
    assert main(arguments.split()) == 0
    given = {
        "grid": (64, 32),
        "contrast": 1000.0,
        "preconditioner": "ic0",
        "rtol": 1e-8,
        "warm_start": False,
        "seed": 4,
    }
    assert seen[0].given == given
    assert given.items() <= dict(seen[0].simulation).items()
    assert seen[0].video


def test_help_names_every_flag_without_loading_torch():
    models = {"demo": RunOptions, "record": RunOptions, "bench": BenchSettings, "list": None}
    code = "import sys, app.cli as c\nfor name in sys.argv[1:]:\n    print(c.main([name, '--help']))\n"
    code += "    print('torch' in sys.modules, end='\\f')"
    command = [sys.executable, "-c", code, *models]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    for model, printed in zip(models.values(), ran.stdout.split("\f")[:-1], strict=True):
        assert printed.splitlines()[-2:] == ["0", "False"]
        for name, field in model.model_fields.items() if model else ():
            assert f"{flag(name)} " in printed or f"{flag(name)}," in printed
            assert field.description.split()[0] in printed


def test_help_shows_units_ranges_and_defaults(capsys):
    assert main(["record", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "--gravity NUMBER acceleration downwards (m/s^2, from 0 to 1000, default: 9.81)" in words
    assert "(default: 128x64)" in words
    assert "--device cpu|cuda where to compute (default: cpu)" in words


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

    run(monkeypatch, "list", interrupted)
    assert main(["list"]) == 130
    assert "interrupted" in capsys.readouterr().err
    run(monkeypatch, "list", broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["list"])


def test_wrong_flags_and_names_given_in_two_spellings_are_usage_errors(file):
    with pytest.raises(UsageError, match=r"--contrast: 0\.0 is not a number from 1"):
        app_settings({"contrast": 0})
    path = file("precond: jacobi\npreconditioner: ic0")
    with pytest.raises(UsageError, match=r"settings\.yaml: preconditioner: given twice"):
        app_settings({"settings": path})


def test_values_that_are_named_twice_count_once():
    given = {"preconds": ["jacobi", "none", "jacobi"], "contrast": [100.0, 100.0]}
    settings = merged(BenchSettings, given)
    assert settings.preconds == ("jacobi", "none")
    assert settings.contrast == (100.0,)


SMALL = ["record", "--grid", "16x8", "--precond", "jacobi", "--frames", "2", "--out"]


@pytest.fixture
def app(tmp_path):
    """Run `python -m app` in an empty folder through a shell, which can redirect and close its streams."""

    def run_in_shell(arguments, redirection="", **environment):
        return subprocess.run(
            f"{sys.executable} -m app {arguments} {redirection}",
            shell=True,
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.getcwd(), **environment},
        )

    return run_in_shell


def test_without_the_packages_that_it_needs_it_names_the_remedy(tmp_path):
    command = [sys.executable, "-S", "-m", "app", "list"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert "make venv" in ran.stderr
    assert "pip install ." in ran.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_an_output_that_is_full_is_one_line(app):
    ran = app("list", ">/dev/full")
    assert (ran.returncode, ran.stderr.count(b"\n")) == (1, 1)
    assert b"No space left" in ran.stderr
    assert app("list", ">/dev/full 2>&1").returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_without_streams_and_for_a_reader_that_has_seen_enough_commands_work(app, tmp_path):
    ran = app("list", "| head -n 1")
    assert (ran.stdout, ran.stderr) == (b"scenes\n", b"")
    assert app(" ".join([*SMALL, "closed"]), "<&- >&- 2>&-").returncode == 0
    assert yaml.safe_load((tmp_path / "closed" / "run.yaml").read_text())["summary"]["ended"] == "completed"


def test_a_terminal_without_letters_gets_escapes(app, tmp_path):
    ran = app(f"{' '.join(SMALL)} päth", PYTHONIOENCODING="ascii")
    assert (ran.returncode, (tmp_path / "päth").is_dir()) == (0, True)
    assert rb"p\xe4th" in ran.stdout


def test_streams_that_are_none_do_no_harm(tmp_path):
    commands = [[*SMALL, "gone"], ["list"], ["record", "--grid", "1"]]
    code = (
        "import sys\nsys.stdout = sys.stderr = None\nfrom app.cli import main\ncodes = []\n"
        f"for command in {commands}:\n"
        "    sys.stdout = sys.stderr = None\n"
        "    codes.append(main(command))\n"
        "sys.exit(int(codes != [0, 0, 2]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment).returncode == 0
    assert (tmp_path / "gone" / "run.yaml").exists()


def test_demo_opens_a_scene_that_moves_by_itself_unless_another_is_named(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(
        "app.viewer.run_demo", lambda engine, _: opened.append(engine.settings.simulation.scene) or 0
    )
    file = tmp_path / "settings.yaml"
    file.write_text("scene: pegs\n")
    for scene in ((), ("--scene", "dam-break"), ("--settings", str(file))):
        assert main(["demo", "--precond", "jacobi", *scene]) == 0
    assert opened == ["waterfall", "dam-break", "pegs"]
