"""`ablate`: balanced order, nothing done twice, failures kept, wrong files refused, the published table."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from app.cli import main
from precond import PCG
from precond.config import read_yaml
from precond.learned.factors import HMatrixConfig, HMatrixNetwork
from precond.learned.hmatrix import HMatrix
from precond.problems.gallery import benchmark_density
from precond.study import ablation_hmatrix
from precond.study.ablation import Study
from precond.study.ablation_table import format_table, tabulate

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "assets" / "reference" / "ablation-hmatrix-1024.json"
TRUNK = {"width": 16, "heads": 2, "layers": 1, "tile_tokens": 4, "graph_convolutions": 1}
TINY = {
    "title": "Tiny",
    "seeds": [3, 1],
    "model": {"leaf_size": 16, "trunk": TRUNK},
    "training": {"n": 64, "frames": 2, "steps": 4, "frames_per_step": 1, "probes": 4, "evaluate_every": 2},
    "variants": {
        "base": {"label": "the base"},
        "bare": {"label": "no highways", "model": {"trunk": {"axial_buffers": False, "global_token": False}}},
    },
}
ORDER = [("base", 3), ("bare", 3), ("base", 1), ("bare", 1)]


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def results(folder: Path, name: str = "ablation.json") -> dict:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def figures(rows: list[dict]) -> list[list]:
    """What a row says apart from its time."""
    return [
        [row[name] for name in ("variant", "seed", "parameters", "validation", "iterations")] for row in rows
    ]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Every training that starts, as (with a global token, seed)."""
    started = []
    real = ablation_hmatrix.train_hmatrix

    def counted(config: dict, out: Path) -> dict:
        started.append((config["model"]["trunk"]["global_token"], config["training"]["seed"]))
        return real(config, out)

    monkeypatch.setattr(ablation_hmatrix, "train_hmatrix", counted)
    return started


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a study that ran without a break."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(["ablate", str(write(folder / "tiny.yaml", TINY)), "--out", str(folder)]) == 0
    return folder


def test_every_variant_is_trained_from_every_seed_the_first_seed_first(whole: Path) -> None:
    content = results(whole)
    assert [(row["variant"], row["seed"]) for row in content["rows"]] == ORDER
    base, bare = content["rows"][:2]
    assert base["parameters"] > bare["parameters"]
    assert base["iterations"] != content["rows"][2]["iterations"]  # another seed, other weights
    assert {row["steps"] for row in content["rows"]} == {4}
    assert [step for step, _, _ in base["validation"]] == [2, 4]
    assert not list(whole.glob("*.checkpoint"))
    (session,) = content["sessions"]
    assert {"started", "versions", "hardware", "commit"} == set(session)
    assert session["hardware"]["torch_threads"] == 1
    assert "4 steps" in content["budget"]


def test_a_row_is_what_its_weights_do(whole: Path) -> None:
    row = results(whole)["rows"][1]
    counts = []
    for frame in range(20):
        problem = benchmark_density(64, frame)
        operator = problem.operator()
        form = HMatrix(operator, whole / "bare-3.safetensors")
        form.setup()
        counts.append(PCG(operator, form, rtol=1e-8, max_iterations=1000).solve(problem.b).iterations)
    assert row["iterations"] == counts
    assert row["parameters"] == sum(weight.numel() for weight in form.network.parameters())


def test_a_study_that_is_done_is_only_printed(
    whole: Path, trainings: list, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "ablation.json").read_bytes()
    assert main(["ablate", str(whole / "tiny.yaml"), "--out", str(whole)]) == 0
    first = capsys.readouterr().out
    assert main(["ablate", str(whole / "ablation.json")]) == 0
    assert capsys.readouterr().out == first
    assert trainings == []
    assert (whole / "ablation.json").read_bytes() == before
    content = results(whole)
    labels = {"base": "the base", "bare": "no highways"}
    assert format_table(tabulate(labels, content["rows"])) in first
    means = [np.mean(row["iterations"]) for row in content["rows"] if row["variant"] == "bare"]
    (line,) = (line for line in first.splitlines() if line.startswith("no highways"))
    assert f"{np.mean(means):.1f} +- {np.std(means, ddof=1):.1f}" in line
    assert "0/40" in line


def test_an_interrupted_study_goes_on_where_it_was(
    whole: Path, tmp_path: Path, trainings: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "tiny.yaml", TINY)
    steps = []
    real = torch.optim.AdamW.step

    def step(optimiser: torch.optim.AdamW) -> None:
        steps.append(optimiser)
        if len(steps) == 12:  # the last step of the third run
            raise KeyboardInterrupt
        real(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    assert main(["ablate", str(path), "--out", str(tmp_path)]) == 130
    assert [(row["variant"], row["seed"]) for row in results(tmp_path)["rows"]] == ORDER[:2]
    assert (tmp_path / "base-1.checkpoint").exists()

    trainings.clear()
    assert main(["ablate", str(path), "--out", str(tmp_path)]) == 0
    assert trainings == [(True, 1), (False, 1)]
    assert len(steps) == 12 + 2 + 4  # the third run goes on from its second step
    rows = results(tmp_path)["rows"]
    assert [row["cpu_seconds"] is None for row in rows] == [False, False, True, False]
    assert figures(rows) == figures(results(whole)["rows"])
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_study_can_grow_but_not_change(
    whole: Path, tmp_path: Path, trainings: list, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ablation.json").write_bytes((whole / "ablation.json").read_bytes())
    grown = {
        **TINY,
        "seeds": [3, 1, 0],
        "variants": {"base": {"label": "base again"}, "bare": TINY["variants"]["bare"]},
    }
    path = write(tmp_path / "grown.yaml", grown)
    assert main(["ablate", str(path), "--out", str(tmp_path)]) == 0
    assert trainings == [(True, 0), (False, 0)]
    assert len(results(tmp_path)["rows"]) == 6
    assert "base again" in capsys.readouterr().out
    before = (tmp_path / "ablation.json").read_bytes()
    changed = {**TINY, "training": {**TINY["training"], "probes": 5}}
    assert main(["ablate", str(write(tmp_path / "changed.yaml", changed)), "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "base" in message
    assert "another directory" in message
    assert (tmp_path / "ablation.json").read_bytes() == before


def test_results_from_before_there_were_forms_still_print_and_go_on(
    whole: Path, tmp_path: Path, trainings: list, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {name: value for name, value in results(whole).items() if name not in ("form", "shared")}
    del old["rows"][-1]
    file = write(tmp_path / "ablation.json", json.dumps(old))
    assert main(["ablate", str(file)]) == 0
    assert "no highways" in capsys.readouterr().out
    assert main(["ablate", str(whole / "tiny.yaml"), "--out", str(tmp_path)]) == 0
    assert trainings == [(False, 1)]
    assert figures(results(tmp_path)["rows"]) == figures(results(whole)["rows"])


def test_groups_have_means_of_their_own() -> None:
    row = {"variant": "a", "parameters": 12, "seconds": 60, "cpu_seconds": 60, "inference_ms": 2.0}
    rows = [
        {**row, "iterations": [10, 20, None, 14]},
        {**row, "iterations": [12, 18, 20, 16], "inference_ms": 4.0},
    ]
    (entry,) = tabulate({"a": "variant a"}, rows, {"easy": 2, "hard": 2})
    assert entry["groups"] == {"easy": 15.0, "hard": 16.0}  # the latter of 14 and 18
    assert entry["incomplete"] == ["hard"]
    heading, line = format_table([entry]).splitlines()
    assert heading.split()[3:5] == ["easy", "hard"]
    assert line.split()[2:] == ["12", "2", "15.0", "16.0*", "1/8", "3.0", "1.0"]


def test_failures_are_counted_and_seeds_weigh_the_same() -> None:
    row = {"variant": "a", "parameters": 1234, "seconds": 60, "cpu_seconds": None}
    rows = [
        {**row, "iterations": [10, None, 14]},
        {**row, "iterations": [20, 20, 20], "seconds": 120, "cpu_seconds": 90},
        {**row, "iterations": [None, None, None]},
    ]
    entry, other = tabulate({"a": "variant a", "b": "variant b"}, rows)
    assert entry["iterations_mean"] == 16.0  # of 12 and 20
    assert entry["iterations_std"] == pytest.approx(np.sqrt(32.0))
    assert (entry["failed"], entry["frames"], entry["seeds"], entry["silent"]) == (4, 9, 3, 1)
    assert (entry["minutes"], entry["cpu_minutes"]) == (pytest.approx(4 / 3), 1.5)
    assert (other["seeds"], other["iterations_mean"]) == (0, None)
    (alone,) = tabulate({"a": "variant a"}, rows[:1])
    assert (alone["iterations_mean"], alone["iterations_std"]) == (12.0, None)
    assert "+-" not in format_table([alone])
    text = format_table([entry, other])
    for words in ("1,234", "16.0 +- 5.7", "4/9", "1 of 3 seeds converged on no frame", "0/0"):
        assert words in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("just text", ["mapping"]),
        ("variants: [", ["YAML"]),
        ({"colour": "red"}, ["colour", "unknown"]),
        ({"form": "jacobi"}, ["form", "jacobi", "coarse-learned"]),
        ({"form": ["coarse-learned"]}, ["form", "['coarse-learned']"]),
        ({"data": {"seed": 1}}, ["data", "unknown"]),
        ({"seeds": []}, ["seeds"]),
        ({"seeds": [1, 1]}, ["seeds", "different"]),
        ({"seeds": 5}, ["seeds", "5"]),
        ({"seeds": [True]}, ["seeds"]),
        ({"model": None}, ["model", "None"]),
        ({"model": {"leaf_size": 16, "trunk": {**TRUNK, "width": "wide"}}}, ["width", "'wide'", "whole"]),
        ({"model": {"leaf_size": 18, "trunk": TRUNK}}, ["18", "4"]),
        ({"training": {"n": 64, "seed": 1}}, ["seed", "seeds"]),
        ({"training": {"n": 64, "steps": 0}}, ["steps", "0"]),
        ({"training": {"n": 64, "learning_rate": "1e-3"}}, ["learning_rate", "1.0e-3"]),
        ({"training": {"n": 64, "learning_rate": float("inf")}}, ["learning_rate", "finite"]),
        ({"training": {"n": 8}}, ["64", "8"]),
        ({"variants": None}, ["variants"]),
        ({"variants": {}}, ["variants", "one"]),
        ({"variants": {"a/b": {}}}, ["a/b"]),
        ({"variants": {"deep": {"depth": 3}}}, ["deep", "depth", "unknown"]),
        ({"variants": {"deep": {"model": {"trunk": {"depth": 3}}}}}, ["deep", "depth", "unknown"]),
        ({"variants": {"deep": {"model": {"trunk": {"layers": 1.5}}}}}, ["deep", "layers", "1.5"]),
        ({"variants": {"deep": {"model": {"trunk": {"global_token": 1}}}}}, ["global_token", "true"]),
        ({"variants": {"deep": {"model": {"trunk": 3}}}}, ["deep", "trunk", "3"]),
        ({"variants": {"flat": {"model": {"trunk": {"off_diagonal_stream": False}}}}}, ["flat", "stream"]),
        ({"variants": {"loss": {"training": {"objective": "luck"}}}}, ["loss", "luck", "kaporin"]),
        ({"variants": {"long": {"training": {"steps": 9}}}}, ["long", "steps", "same"]),
    ],
)
def test_a_wrong_study_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, words: list[str]
) -> None:
    content = change if isinstance(change, str) else {**TINY, **change}
    path = write(tmp_path / "wrong.yaml", content)
    assert main(["ablate", str(path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    for word in [str(path), *words]:
        assert word in message
    assert not list(tmp_path.glob("out/*.safetensors"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"rows"', '"lines"'),
        lambda text: text.replace('"iterations": [', '"iterations": ["many", ', 1),
        lambda text: text.replace('"variant": "bare"', '"variant": "bear"'),
        lambda text: text.replace('"label": "no highways"', '"label": 3'),
        lambda text: json.dumps({**json.loads(text), "variants": {}, "rows": []}),
        lambda text: json.dumps({**json.loads(text), "sessions": [3]}),
        lambda _: "[1, 2]",
        lambda _: "3",
        lambda _: "\x00",
    ],
)
def test_damaged_results_are_refused_and_left_alone(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], trainings: list, damage
) -> None:
    file = write(tmp_path / "ablation.json", damage((whole / "ablation.json").read_text()))
    before = file.read_bytes()
    for argv in ([str(whole / "tiny.yaml"), "--out", str(tmp_path)], [str(file)]):
        assert main(["ablate", *argv]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1, message
        assert str(file) in message
        assert "move it away" in message
    assert file.read_bytes() == before
    assert trainings == []


def test_a_damaged_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base-3.checkpoint").write_bytes(b"no checkpoint")
    assert main(["ablate", str(write(tmp_path / "tiny.yaml", TINY)), "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "base-3.checkpoint" in message
    assert "delete it" in message


def test_places_that_cannot_be_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tiny.yaml", TINY)
    for argv in (
        [str(path), "--out", str(path / "out")],
        [str(tmp_path / "no.yaml")],
        [str(tmp_path / "no.json")],
    ):
        assert main(["ablate", *argv]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_published_table_follows_from_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    content = results(PUBLISHED.parent, PUBLISHED.name)
    study = Study.of(read_yaml(ROOT / "assets" / "ablations" / "hmatrix-1024.yaml"))
    runs = [(variant.name, seed) for variant, seed in study.runs()]
    assert sorted((row["variant"], row["seed"]) for row in content["rows"]) == sorted(runs)
    assert len(study.seeds) == 5
    assert {name: variant["config"] for name, variant in content["variants"].items()} == {
        variant.name: variant.config for variant in study.variants
    }
    assert all(
        {"versions", "hardware", "commit"} <= set(session) and "+" not in session["commit"]
        for session in content["sessions"]
    )
    assert main(["ablate", str(PUBLISHED)]) == 0
    printed = capsys.readouterr().out
    assert study.budget in printed
    for variant in study.variants:
        mine = [row for row in content["rows"] if row["variant"] == variant.name]
        assert all(row["steps"] == variant.config["training"]["steps"] for row in mine)
        counts = np.array([row["iterations"] for row in mine], dtype=float)  # (seeds, frames), NaN: failed
        assert counts.shape == (5, 20)
        assert np.isnan(counts).sum() == sum(len(row["failures"]) for row in mine)
        means = np.nanmean(counts, axis=1)
        (line,) = (line for line in printed.splitlines() if line.startswith(f"{variant.label}  "))
        expected = f"5 {means.mean():.1f} +- {means.std(ddof=1):.1f} {np.isnan(counts).sum()}/100"
        assert " ".join(line.split()[-7:-2]) == expected
        network = HMatrixNetwork(HMatrixConfig.of(variant.config["model"]))
        assert f" {sum(weight.numel() for weight in network.parameters()):,} " in line
