"""`ablate` on `coarse-learned`: references, groups of unseen problems, resumed exactly, wrong studies
refused.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from app.cli import main
from precond import PCG, make_preconditioner
from precond.config import read_yaml
from precond.learned.coarse_learned import CoarseLearned
from precond.preconditioner import Preconditioner
from precond.problems import gallery
from precond.study.ablation import Study

ASSETS = Path(__file__).resolve().parents[2] / "assets"
TRUNK = {
    "width": 8,
    "heads": 2,
    "layers": 0,
    "graph_convolutions": 1,
    "off_diagonal_stream": False,
    "axial_buffers": False,
    "global_token": False,
    "global_features": False,
}
TINY = {
    "title": "Tiny",
    "form": "coarse-learned",
    "seeds": [2],
    "model": {"leaf_size": 16, "rank": 3, "trunk": TRUNK},
    "training": {
        "steps": 6,
        "learning_rate": 0.01,
        "balanced_from": 0.5,
        "evaluate_every": 3,
        "save_every": 2,
    },
    "data": {"seed": 27, "systems": 2},
    "test": {
        "bubbles": {"family": "bubbles", "n": 256, "frames": 2, "contrast": 1000.0},
        "many fluids": {"family": "voronoi", "n": 256, "frames": 1},
    },
    "references": ["coarse-monomial"],
    "variants": {
        "base": {"label": "the base"},
        "truncated": {"label": "truncated", "training": {"objective": "truncated"}},
    },
}
ORDER = ["coarse-monomial", "base", "truncated"]


def write(folder: Path, content: dict) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def results(folder: Path) -> dict:
    return json.loads((folder / "ablation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a study that ran without a break."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(["ablate", str(write(folder, TINY)), "--out", str(folder)]) == 0
    return folder


def test_a_row_is_what_its_form_does_on_the_unseen_problems(whole: Path) -> None:
    rows = results(whole)["rows"]
    assert [row["variant"] for row in rows] == ORDER
    problems = [gallery.problem("bubbles", 256, frame, "test", 1000.0) for frame in range(2)]
    problems.append(gallery.problem("voronoi", 256, 0, "test", 100.0))
    for row in rows:
        counts = []
        for problem in problems:
            operator = problem.operator()
            form: Preconditioner
            if row["variant"] == "coarse-monomial":
                form = make_preconditioner("coarse-monomial", operator, leaf_size=16, rank=3)
            else:
                form = CoarseLearned(operator, whole / f"{row['variant']}-2.safetensors")
                assert row["parameters"] == sum(weight.numel() for weight in form.network.parameters())
            form.setup()
            counts.append(PCG(operator, form, rtol=1e-8, max_iterations=500).solve(problem.b).iterations)
        assert row["iterations"] == counts
        assert row["failures"] == []
    base, truncated = rows[1:]
    assert [step for step, _ in base["loss"]] == [3, 6]
    assert base["loss"][0] == truncated["loss"][0]  # both additive so far
    assert base["loss"][1] != truncated["loss"][1]
    assert base["inference_ms"] > rows[0]["inference_ms"] >= 0.0  # the monomials are there already


def test_the_table_has_a_column_for_each_group(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (whole / "ablation.json").read_bytes()
    assert main(["ablate", str(whole / "tiny.yaml"), "--out", str(whole)]) == 0
    first = capsys.readouterr().out
    assert main(["ablate", str(whole / "ablation.json")]) == 0
    assert capsys.readouterr().out == first
    assert (whole / "ablation.json").read_bytes() == before
    assert "many fluids" in first
    row = results(whole)["rows"][1]
    (line,) = (line for line in first.splitlines() if line.startswith("the base"))
    bubbles, fluids = np.mean(row["iterations"][:2]), row["iterations"][2]
    assert line.split()[2:6] == [str(row["parameters"]), "1", f"{bubbles:.1f}", f"{fluids:.1f}"]
    assert "0/3" in line


def test_an_interrupted_study_goes_on_where_it_was(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, TINY)
    steps = []
    real = torch.optim.AdamW.step

    def step(optimiser: torch.optim.AdamW) -> None:
        steps.append(optimiser)
        if len(steps) == 12:  # the last step of the second training
            raise KeyboardInterrupt
        real(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    assert main(["ablate", str(path), "--out", str(tmp_path)]) == 130
    assert [row["variant"] for row in results(tmp_path)["rows"]] == ORDER[:2]

    changed = {**TINY, "variants": {**TINY["variants"], "truncated": {"model": {"rank": 4}}}}
    capsys.readouterr()
    other = tmp_path / "other"
    other.mkdir()
    assert main(["ablate", str(write(other, changed)), "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "truncated-2.checkpoint" in message
    assert "delete it" in message

    assert main(["ablate", str(path), "--out", str(tmp_path)]) == 0
    assert len(steps) == 12 + 2  # from the checkpoint of step 4
    figures = [
        [[row[name] for name in ("variant", "parameters", "iterations")] for row in results(folder)["rows"]]
        for folder in (tmp_path, whole)
    ]
    assert figures[0] == figures[1]
    assert not list(tmp_path.glob("*.checkpoint"))


def test_failures_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("precond.study.ablation_coarse_learned.LIMIT", 5)
    study = {**TINY, "variants": {"base": {}}, "training": {**TINY["training"], "steps": 1}}
    assert main(["ablate", str(write(tmp_path, study)), "--out", str(tmp_path)]) == 0
    row = results(tmp_path)["rows"][0]
    assert row["iterations"] == [None, None, None]
    assert len(row["failures"]) == 3
    text = capsys.readouterr().out
    assert "3/3" in text
    assert "-*" in text
    assert "1 of 1 seeds converged on no frame" in text


@pytest.mark.parametrize(
    ("place", "damage"),
    [
        (("form",), "jacobi"),
        (("shared", "test"), [1]),
        (("shared", "test", "bubbles", "frames"), 1),
        (("rows", 1, "inference_ms"), "fast"),
    ],
)
def test_damaged_results_are_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: tuple, damage: object
) -> None:
    content = part = results(whole)
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = damage
    file = tmp_path / "ablation.json"
    file.write_text(json.dumps(content))
    assert main(["ablate", str(file)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "move it away" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": {"systems": 0}}, ["data", "systems"]),
        ({"data": {"frames": 3}}, ["data", "frames", "unknown"]),
        ({"test": None}, ["test", "mapping"]),
        ({"test": {}}, ["test", "one group"]),
        ({"test": {"a": {"family": "barriers", "n": 64}}}, ["test: a", "frames"]),
        ({"test": {"a": {"family": "soup", "n": 64, "frames": 1}}}, ["test: a", "barriers"]),
        ({"test": {"a": {"family": "mazes", "n": 8, "frames": 1}}}, ["test: a", "64", "8"]),
        ({"test": {"a": {"family": "mazes", "n": 64, "frames": 1, "contrast": -1}}}, ["contrast", "-1"]),
        ({"references": "coarse-monomial"}, ["references", "coarse-geneo"]),
        ({"references": ["ic0"]}, ["references", "ic0"]),
        ({"variants": {"coarse-monomial": {}}}, ["coarse-monomial", "reference"]),
        ({"variants": {"wide": {"model": {"rank": 17}}}}, ["wide", "rank", "17"]),
        ({"variants": {"odd": {"model": {"leaf_size": 24}}}}, ["odd", "leaf_size", "24"]),
        ({"variants": {"loss": {"training": {"objective": "luck"}}}}, ["loss", "luck", "truncated"]),
        ({"variants": {"long": {"training": {"steps": 9}}}}, ["long", "steps", "same"]),
        ({"variants": {"more": {"data": {"systems": 9}}}}, ["more", "data", "unknown"]),
    ],
)
def test_a_wrong_study_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict, words: list[str]
) -> None:
    path = write(tmp_path, {**TINY, **change})
    assert main(["ablate", str(path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    for word in [str(path), *words]:
        assert word in message
    assert not (tmp_path / "out").exists()


def test_another_test_wants_another_directory(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ablation.json").write_bytes((whole / "ablation.json").read_bytes())
    changed = {**TINY, "data": {"seed": 27, "systems": 3}}
    assert main(["ablate", str(write(tmp_path, changed)), "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "another directory" in message


def test_the_committed_table_has_all_of_the_committed_study(capsys: pytest.CaptureFixture[str]) -> None:
    study = Study.of(read_yaml(ASSETS / "ablations" / "coarse-learned.yaml"))
    file = ASSETS / "reference" / "ablation-coarse-learned.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    configs = {variant.name: variant.config for variant in study.rows()}
    assert {name: variant["config"] for name, variant in content["variants"].items()} == configs
    assert content["shared"] == study.shared
    runs = {(row["variant"], row["seed"]) for row in content["rows"]}
    assert runs == {(variant.name, seed) for variant, seed in study.runs()}
    assert main(["ablate", str(file)]) == 0
    printed = capsys.readouterr().out
    for variant in study.rows():
        assert variant.label in printed
    assert "/home" not in file.read_text()
    assert "/tmp" not in file.read_text()
