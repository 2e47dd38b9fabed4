"""`train` from a YAML file: weights and card come out, wrong files are refused, several processes agree."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from app.cli import INTERRUPTED, main
from app.commands.train import TASKS, simulator_frames
from precond.config import read_yaml
from precond.learned import MODELS

TINY = {
    "model": {"columns": 3, "width": 8, "blocks": 1, "leaf_iterations": 2},
    "training": {"steps": 4, "evaluate_every": 4, "save_every": 2},
    "data": {"systems": 3, "simulator_frames": 0},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def test_train_writes_weights_and_a_card_that_trains_again(config: Path, tmp_path: Path) -> None:
    assert main(["train", str(config), "--out", str(tmp_path / "first")]) == 0
    card = yaml.safe_load((tmp_path / "first.yaml").read_text())
    assert card["training"]["steps"] == 4
    assert len(card["validation"][-1]["iterations"]) == 8
    assert main(["train", str(tmp_path / "first.yaml"), "--out", str(tmp_path / "second")]) == 0
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_there_is_never_written_over(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(arguments: list[str], *words: str) -> None:
        capsys.readouterr()
        assert main(["train", *arguments]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert all(word in message for word in words), message

    out = str(tmp_path / "w-0.1")  # the last dot begins no ending
    assert main(["train", str(config), "--out", out]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tiny.yaml",
        "w-0.1.safetensors",
        "w-0.1.yaml",
    ]
    before = (tmp_path / "w-0.1.safetensors").read_bytes()
    refused([str(config), "--out", out], "w-0.1.safetensors: is there already")
    refused([str(config), "--out", str(tmp_path / "tiny")], "tiny.yaml: is there already")
    refused([str(config), "--out", str(config / "x")], "file of that name")
    refused([str(config), "--out", "/proc/x/y"], "cannot be written")
    refused([str(config), "--out", "."], "names no file")
    refused([str(config), "--out", str(tmp_path / ("x" * 300))], "File name too long")
    (tmp_path / "other.checkpoint").write_bytes(b"no checkpoint")
    refused([str(config), "--out", str(tmp_path / "other")], "other.checkpoint", "damaged")
    (tmp_path / "w-0.1.checkpoint").write_bytes(b"an earlier one")
    refused([str(config), "--out", out], "w-0.1.safetensors: is there already")
    assert (tmp_path / "w-0.1.safetensors").read_bytes() == before
    assert yaml.safe_load(config.read_text()) == TINY


@pytest.mark.parametrize(
    ("section", "values"), [("training", {"seed": 5}), ("data", {"seed": 5}), ("model", {"columns": 4})]
)
def test_a_checkpoint_of_other_settings_is_refused(
    config: Path, tmp_path: Path, monkeypatch, capsys, section: str, values: dict
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("precond.training.loop.save_model", interrupted)  # all steps done, nothing written
    assert main(["train", str(config), "--out", str(tmp_path / "out")]) == INTERRUPTED
    monkeypatch.undo()
    saved = torch.load(tmp_path / "out.checkpoint")
    for name, harmed in (("no-network", {"network": {}}), ("no-progress", {"progress": []})):
        torch.save({**saved, **harmed}, tmp_path / f"{name}.checkpoint")
        assert main(["train", str(config), "--out", str(tmp_path / name)]) == 2
        assert f"{name}.checkpoint: is damaged: delete it" in capsys.readouterr().err
    other = {**TINY, section: {**TINY[section], **values}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    assert main(["train", str(tmp_path / "other.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "out.checkpoint: is the checkpoint of another run" in capsys.readouterr().err
    assert main(["train", str(config), "--out", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out.checkpoint").exists()


def test_two_processes_train_one_network(config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command += ["-m", "app", "train", str(config), "--out", str(tmp_path / "pair")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    pair = load_file(tmp_path / "pair.safetensors")
    assert main(["train", str(config), "--out", str(tmp_path / "alone")]) == 0
    alone = load_file(tmp_path / "alone.safetensors")
    assert all(torch.isfinite(value).all() for value in pair.values())
    assert any(not torch.equal(pair[name], alone[name]) for name in pair)  # it saw twice the systems


def test_a_file_with_a_number_of_cells_trains_the_published_hmatrix(tmp_path: Path) -> None:
    trunk = {"width": 16, "heads": 2, "layers": 1, "tile_tokens": 4, "graph_convolutions": 1}
    training = {"n": 64, "frames": 2, "steps": 2, "frames_per_step": 1, "probes": 4, "evaluate_every": 2}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"model": {"leaf_size": 16, "trunk": trunk}, "training": training}))
    assert main(["train", str(path), "--out", str(tmp_path / "out")]) == 0
    card = yaml.safe_load((tmp_path / "out.yaml").read_text())
    assert card["steps_done"] == 2
    assert len(card["test"]["barriers 64"]["iterations"]) == 20
    assert main(["train", str(tmp_path / "out.yaml"), "--out", str(tmp_path / "again")]) == 0
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("out", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


SMALL_DATA = {"systems": 2, "large_systems": 0, "simulator_frames": 0}
SMALL_TRUNK = {"width": 8, "heads": 2, "layers": 1, "expansion": 1, "tile_tokens": 4}
NO_CELLS = {"graph_convolutions": 0, "operator_bias": False, "edge_term": False}
SMALL = {
    "neural-spai": ({"width": 4, "layers": 1}, {"systems_per_step": 1}),
    "hmatrix": ({"leaf_size": 16, "trunk": {**SMALL_TRUNK, **NO_CELLS}}, {}),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_card_of_one_for_all_grids_trains_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    model, training = SMALL[name]
    training = {**training, "steps": 3, "probes": 2, "evaluate_every": 2}
    content = {"preconditioner": name, "model": model, "training": training, "data": SMALL_DATA}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    assert main(["train", str(path), "--out", str(tmp_path / "first")]) == 0
    line = capsys.readouterr().out
    assert [line.count(f"voronoi {contrast} ") for contrast in (100, 10000)] == [1, 1]
    card = yaml.safe_load((tmp_path / "first.yaml").read_text())
    assert card["command"] == f"python -m app train {path} --out {tmp_path / 'first'}"
    assert {"machine", "trained", "validation", "training_minutes", "sha256"} <= card.keys()
    assert card["steps_done"] == 3
    assert main(["train", str(tmp_path / "first.yaml"), "--out", str(tmp_path / "second")]) == 0
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_several_processes_are_for_coarse_learned_alone(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    path = tmp_path / "small.yaml"
    path.write_text("{preconditioner: neural-spai, training: {steps: 1}}")
    assert main(["train", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "neural-spai trains in one process" in capsys.readouterr().err


def test_frames_of_the_simulator_are_its_own_systems(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("precond.registry.MODELS", tmp_path)  # and want no weights: a first training has none
    (operator,) = simulator_frames(1, seed=3)
    assert operator.face_density == "arithmetic"
    assert operator.components == 1
    assert operator.density.max() > operator.density.min()


@pytest.mark.parametrize("name", sorted(path.stem for path in MODELS.glob("**/*.yaml")))
def test_a_shipped_card_describes_a_training(name: str) -> None:
    path = min(MODELS.glob(f"**/{name}.yaml"), key=lambda found: len(found.parts))
    card = read_yaml(path)
    published = "hmatrix-published" if "n" in card["training"] else "coarse-learned"
    kind = TASKS[card.get("preconditioner", published)]
    settings = kind.checked(card, str(path))
    assert {**settings["training"].model_dump(), **card["training"]} == settings["training"].model_dump()


def test_numbers_are_read_as_in_all_files(config: Path, tmp_path: Path) -> None:
    text = config.read_text().replace("steps: 4", "steps: 4\n  learning_rate: 1e-3")
    (tmp_path / "short.yaml").write_text(text)
    assert main(["train", str(tmp_path / "short.yaml"), "--out", str(tmp_path / "out")]) == 0
    assert yaml.safe_load((tmp_path / "out.yaml").read_text())["training"]["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("just text", ["model, training, data"]),
        ("model: [", ["YAML"]),
        ("{title: a scene, settings: {grid: [64, 64]}}", ["model, training, data"]),
        ("{training: {steps: 1}, training: {steps: 2}}", ["training", "twice"]),
        ("model: {depth: 3}", ["depth"]),
        ("training: {speed: 3}", ["speed"]),
        ("{training: {}, data: {frames: 3}}", ["frames", "systems"]),
        ("training: {n: 1024, speed: 3}", ["speed"]),
        ("training: 3", ["training", "mapping"]),
        (
            "{preconditioner: jacobi, model: {}}",
            ["jacobi", "coarse-learned, hmatrix, hmatrix-published, neural-spai"],
        ),
        ("{preconditioner: [a], model: {}}", ["coarse-learned, hmatrix, hmatrix-published, neural-spai"]),
        ("{preconditioner: neural-spai, training: {n: 64}}", ["n", "unknown"]),
        ("{preconditioner: hmatrix, model: {leaves: none}}", ["leaves", "exact", "network"]),
        ("{preconditioner: hmatrix, model: {leaf_size: 48}}", ["leaf_size", "power of two", "48"]),
        ("{preconditioner: hmatrix, training: {objective: best}}", ["objective", "far-field", "best"]),
        ("{preconditioner: neural-spai, training: {steps: 2.5}}", ["steps", "2.5", "whole number"]),
        ("{preconditioner: neural-spai, training: {learning_rate: 0}}", ["learning_rate", "above 0"]),
        ("{training: {weight_decay: -1}}", ["training: weight_decay", "number from 0"]),
        ("model: {blocks: -1}", ["model: blocks", "from 0 to 8, not -1"]),
        ("model: {trunk: {layers: 1}}", ["model", "trunk", "unknown"]),
        ("{preconditioner: neural-spai, training: {probes: 0}}", ["probes", "0"]),
        ("{preconditioner: neural-spai, model: {width: 0}}", ["width"]),
        ("{preconditioner: neural-spai, model: {depth: 3}}", ["depth"]),
        ("model: {width: 30, attention_heads: 8}", ["attention_heads must divide", "30"]),
        ("model: {columns: 9}", ["columns", "from 1 to 7, not 9"]),
        ("model: {width: 8.5}", ["width", "8.5", "whole number"]),
        ("model: {threshold: 1.5}", ["threshold", "1.5"]),
        ("training: {ordered: perhaps}", ["training: ordered", "perhaps"]),
        ("{preconditioner: hmatrix, model: {trunk: {layers: -1}}}", ["model: trunk: layers: -1", "from 0"]),
        ("{preconditioner: hmatrix, model: {trunk: {width: 30, heads: 8}}}", ["30", "8"]),
        ("training: {evaluate_every: 0}", ["evaluate_every", "0"]),
        ("{preconditioner: hmatrix, model: {trunk: {heads: 0}}}", ["heads", "0"]),
        ("{preconditioner: hmatrix, model: {trunk: [1]}}", ["trunk", "mapping"]),
        ("training: {steps: many}", ["steps", "many", "whole number"]),
        ("training: {steps: true}", ["steps", "True"]),
        ("training: {learning_rate: .nan}", ["learning_rate", "nan"]),
        ("training: {balanced_from: 2.0}", ["balanced_from", "2.0"]),
        ("{training: {}, data: {systems: 0}}", ["systems", "0"]),
        ("{training: {}, data: {seed: null}}", ["seed", "None"]),
        ("{model: {trunk: {heads: 0}}, training: {n: 256}}", ["heads", "0"]),
        ("training: {n: 256, warm_up: 0}", ["warm_up", "0"]),
        ("training: {n: 256, frames: 2, frames_per_step: 3}", ["frames_per_step", "3"]),
    ],
)
def test_a_wrong_file_is_refused(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], content: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    assert main(["train", str(path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for word in [str(path), *words]:
        assert word in message
    assert main(["train", str(tmp_path / "missing.yaml")]) == 2
