"""`ablate`: balanced order, nothing done twice, resumed exactly, failures kept, wrong files refused, the
published tables.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from app.cli import main
from precond import PCG, make_preconditioner
from precond.learned.coarse_learned import coarse_learned
from precond.learned.factors import FactorsConfig, FactorsNetwork
from precond.learned.hmatrix import HMatrix
from precond.learned.published_hmatrix import PublishedHMatrix
from precond.problems import gallery
from precond.study.study import Row, Study, StudyResults, Variant, as_text, read_study, tabulate
from precond.training.coarse_learned import CoarseLearnedTask
from precond.training.data import stirred

ASSETS = Path(__file__).resolve().parents[2] / "assets"
TRUNK = {"width": 16, "heads": 2, "layers": 1, "tile_tokens": 4, "graph_convolutions": 1}
PUBLISHED = {
    "title": "Tiny",
    "form": "hmatrix-published",
    "seeds": [3, 1],
    "model": {"leaf_size": 16, "trunk": TRUNK},
    "training": {"n": 64, "frames": 2, "steps": 4, "frames_per_step": 1, "probes": 4, "evaluate_every": 2},
    "variants": {
        "base": {"label": "the base"},
        "bare": {"label": "no highways", "model": {"trunk": {"axial_buffers": False, "global_token": False}}},
    },
}
COARSE = {
    "title": "Tiny",
    "form": "coarse-learned",
    "seeds": [2],
    "model": {"columns": 2, "width": 8, "blocks": 0, "leaf_iterations": 2},
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
    "references": ["coarse-monomial", "coarse-iterated"],
    "variants": {
        "base": {"label": "the base"},
        "truncated": {"label": "truncated", "training": {"objective": "truncated"}},
    },
}
NO_CELLS = {"graph_convolutions": 0, "operator_bias": False, "edge_term": False}
DEFINITE = {
    "title": "Tiny",
    "form": "hmatrix",
    "seeds": [2],
    "model": {"trunk": {**TRUNK, **NO_CELLS}},
    "training": {"steps": 4, "warm_up": 1, "evaluate_every": 2, "save_every": 2},
    "data": {"seed": 27, "systems": 2},
    "test": {
        "bubbles": {"family": "bubbles", "n": 256, "frames": 2, "contrast": 1000.0},
        "stirred": {"family": "stirred", "n": 256, "frames": 1},
    },
    "variants": {
        "base": {"label": "the base"},
        "cosine": {"training": {"objective": "cosine", "probes": 4}},
        "network": {"model": {"leaves": "network", "leaf_iterations": 0}},
    },
}
STUDIES = {"hmatrix-published": PUBLISHED, "coarse-learned": COARSE, "hmatrix": DEFINITE}
FORMS = {"hmatrix-published": PublishedHMatrix, "coarse-learned": coarse_learned, "hmatrix": HMatrix}
ORDER = {
    "hmatrix": [("base", 2), ("cosine", 2), ("network", 2)],
    "hmatrix-published": [("base", 3), ("bare", 3), ("base", 1), ("bare", 1)],
    "coarse-learned": [("coarse-monomial", 2), ("coarse-iterated", 2), ("base", 2), ("truncated", 2)],
}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def ablate(content: object, folder: Path, code: int = 0) -> None:
    """Do the study ``content`` in ``folder``."""
    assert main(["ablate", str(write(folder / "tiny.yaml", content)), "--out", str(folder)]) == code


def rows(folder: Path) -> list[dict[str, str]]:
    """The results as they are on disk."""
    with (folder / "study.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def runs(folder: Path) -> list[tuple[str, int]]:
    return list(dict.fromkeys((row["variant"], int(row["seed"])) for row in rows(folder)))


def figures(folder: Path) -> list[list[str]]:
    """What the rows say apart from times."""
    names = ("variant", "seed", "parameters", "steps", "group", "problem", "iterations", "failure")
    return [[row[name] for name in names] for row in rows(folder)]


def line_of_error(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("htp-fluid ablate: ")
    for word in words:
        assert word in message


def copied(whole: Path, folder: Path) -> None:
    for name in ("study.yaml", "study.csv"):
        (folder / name).write_bytes((whole / name).read_bytes())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The directories of studies that ran without a break, by form."""
    folders = {form: tmp_path_factory.mktemp(form) for form in STUDIES}
    for form, folder in folders.items():
        ablate(STUDIES[form], folder)
    return folders


@pytest.mark.parametrize("form", STUDIES)
def test_every_run_is_there_and_tells_what_its_weights_do(done: dict[str, Path], form: str) -> None:
    folder = done[form]
    assert runs(folder) == ORDER[form]
    assert not list(folder.glob("*.checkpoint"))
    problems = {("barriers", i): gallery.benchmark_density(64, i) for i in range(20)}
    if form != "hmatrix-published":
        problems = {("bubbles", i): gallery.problem("bubbles", 256, i, "test", 1000.0) for i in range(2)}
    if form == "coarse-learned":
        problems["many fluids", 0] = gallery.problem("voronoi", 256, 0)
    if form == "hmatrix":
        problems["stirred", 0] = stirred((16, 16), 100.0, gallery.TEST_SEED)
    for name, seed in ORDER[form]:
        mine = [row for row in rows(folder) if (row["variant"], row["seed"]) == (name, str(seed))]
        assert [(row["group"], int(row["problem"])) for row in mine] == list(problems)
        for row, problem in zip(mine, problems.values(), strict=True):
            operator, weights = problem.operator(), folder / f"{name}-{seed}.safetensors"
            if name in ("coarse-monomial", "coarse-iterated"):
                made = make_preconditioner(name, operator)
            else:
                made = FORMS[form](operator, weights)
                assert int(row["parameters"]) == sum(w.numel() for w in made.network.parameters())
            made.setup()
            assert (
                int(row["iterations"]) == PCG(operator, made, max_iterations=1000).solve(problem.b).iterations
            )
            assert row["failure"] == ""


def test_the_budget_tells_what_was_trained_on(tmp_path: Path) -> None:
    head = "4 steps on 2 random systems of 1,024 to 4,096 cells"
    study = Study.read(write(tmp_path / "tiny.yaml", DEFINITE))
    assert study.budget == f"{head}; the last weights are tested"
    content = {**DEFINITE, "data": {"seed": 27, "systems": 2, "large_systems": 1}}
    study = Study.read(write(tmp_path / "tiny.yaml", content))
    assert study.budget == f"{head} and 1 of 8,192 to 16,384; the last weights are tested"


def test_logs_sessions_and_times_are_kept(done: dict[str, Path]) -> None:
    content = yaml.safe_load((done["coarse-learned"] / "study.yaml").read_text())
    base, truncated = (content["log"][f"{name}-2"] for name in ("base", "truncated"))
    assert [entry["step"] for entry in base] == [3, 6]
    assert base[0] == truncated[0]  # both additive so far
    assert base[1] != truncated[1]
    (session,) = content["sessions"]
    assert {"started", "versions", "hardware", "commit"} == set(session)
    assert session["hardware"]["torch_threads"] == 1
    inference = {row["variant"]: float(row["inference_ms"]) for row in rows(done["coarse-learned"])}
    assert inference["base"] > 0.0
    assert inference["coarse-monomial"] == inference["coarse-iterated"] == 0.0  # they ask no network
    assert {row["inference_ms"] for row in rows(done["hmatrix-published"])} == {""}
    assert len(rows(done["hmatrix-published"])) == 4 * 20


@pytest.mark.parametrize("form", STUDIES)
def test_a_study_that_is_done_is_only_printed(
    done: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    monkeypatch.setattr("precond.study.study.Trainer", None)
    folder = done[form]
    before = (folder / "study.csv").read_bytes()
    ablate(STUDIES[form], folder)
    first = capsys.readouterr().out
    assert main(["ablate", str(folder / "study.yaml")]) == 0
    assert capsys.readouterr().out == first
    assert (folder / "study.csv").read_bytes() == before
    (line,) = (line for line in first.splitlines() if line.startswith("the base"))
    counts: dict[tuple, list[int]] = {}
    for row in rows(folder):
        if row["variant"] == "base":
            counts.setdefault((row["group"], row["seed"]), []).append(int(row["iterations"]))
    means = [np.mean(of) for of in counts.values()]
    if form == "hmatrix-published":
        assert f"{np.mean(means):.1f} +- {np.std(means, ddof=1):.1f}" in line
        assert "0/40" in line
    else:
        assert line.split()[3:6] == ["1", *(f"{mean:.1f}" for mean in means)]


@pytest.mark.parametrize(
    ("form", "taken", "left"),
    [("hmatrix-published", 12, 2 + 4), ("coarse-learned", 12, 2), ("hmatrix", 12, 2)],
)
def test_an_interrupted_study_goes_on_where_it_was(
    done: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    taken: int,
    left: int,
) -> None:
    """Stopped in the last step of a run, it goes on from that run's checkpoint."""
    steps = []
    real = torch.optim.AdamW.step

    def step(optimiser: torch.optim.AdamW) -> None:
        steps.append(optimiser)
        if len(steps) == taken:
            raise KeyboardInterrupt
        real(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    ablate(STUDIES[form], tmp_path, code=130)
    finished = {"coarse-learned": 3}.get(form, 2)
    assert runs(tmp_path) == ORDER[form][:finished]
    name, seed = ORDER[form][finished]
    changed = {**STUDIES[form], "variants": {"base": {"model": {"leaf_size": 32}}, name: {"label": "new"}}}
    if form == "coarse-learned":
        changed["variants"] = {**COARSE["variants"], name: {"model": {"columns": 4}}}
        ablate(changed, tmp_path, code=2)
        line_of_error(capsys, f"{name}-{seed}.checkpoint", "another run", "delete it")
    ablate(STUDIES[form], tmp_path)
    assert len(steps) == taken + left
    assert figures(tmp_path) == figures(done[form])
    resumed = [row for row in rows(tmp_path) if row["cpu_seconds"] == ""]
    assert {(row["variant"], int(row["seed"])) for row in resumed} == {(name, seed)}
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_study_can_grow_but_not_change(
    done: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(done["hmatrix-published"], tmp_path)
    variants = {"base": {"label": "base again"}, "bare": PUBLISHED["variants"]["bare"]}
    ablate({**PUBLISHED, "seeds": [3, 1, 0], "variants": variants}, tmp_path)
    assert runs(tmp_path) == [*ORDER["hmatrix-published"], ("base", 0), ("bare", 0)]
    assert "base again" in capsys.readouterr().out
    before = (tmp_path / "study.csv").read_bytes()
    for change in ({"training": {**PUBLISHED["training"], "probes": 5}}, {"variants": {"other": {}}}):
        ablate({**PUBLISHED, **change}, tmp_path, code=2)
        line_of_error(capsys, "another directory")
    ablate({**PUBLISHED, "test": {"easy": {"family": "bubbles", "n": 64, "frames": 1}}}, tmp_path, code=2)
    line_of_error(capsys, "another directory")
    assert (tmp_path / "study.csv").read_bytes() == before


def results(*seeds: list[int | None], **more: object) -> StudyResults:
    """Of a variant a, one list of iterations for each seed, on problems of two groups."""
    found = [
        Row(variant="a", label="A", seed=seed, parameters=1234, seconds=60, group=group, session=0,
            problem=number, iterations=count, **more)
        for seed, counts in enumerate(seeds)
        for number, count in enumerate(counts)
        for group in ["easy" if number < 2 else "hard"]
    ]  # fmt: skip
    head = {
        "title": "T",
        "form": "hmatrix-published",
        "conditions": "C",
        "budget": "B",
        "seeds": [0],
        "command": "c",
    }
    variants = {"a": Variant(label="variant a", config={}), "b": Variant(label="variant b", config={})}
    return StudyResults(**head, shared={}, variants=variants, rows=found)


def test_groups_have_means_of_their_own_and_seeds_weigh_the_same() -> None:
    columns, (a, b) = tabulate(results([10, 20, None, 14], [12, 18, 20, 16], cpu_seconds=90))
    assert columns[:5] == ["variant", "parameters", "seeds", "easy", "hard"]
    spread = f"{np.std([14.0, 18.0], ddof=1):.1f}"
    assert a == ["variant a", "1,234", "2", "15.0 +- 0.0", f"16.0 +- {spread}*", "1/8", "-", "1.0", "1.5"]
    assert b == ["variant b", "-", "0", "-", "-", "0/0", "-", "-", "-"]
    silent = results([10, None], [20, 20], [None, None])
    assert tabulate(silent)[1][0][3:5] == ["15.0 +- 7.1* (2 seeds)", "3/6"]
    assert tabulate(results([None, None]))[1][0][3] == "-*"
    assert "15.0 +- 7.1* (2 seeds)" in as_text(silent)


def test_failures_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(CoarseLearnedTask, "limit", 5)
    ablate({**COARSE, "variants": {"base": {}}, "training": {"steps": 1}}, tmp_path)
    assert {row["iterations"] for row in rows(tmp_path)} == {""}
    assert {row["failure"] for row in rows(tmp_path)} == {"iteration limit after 5"}
    text = capsys.readouterr().out
    assert "3/3" in text
    assert "-*" in text


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        ("hmatrix-published", "just text", ["mapping"]),
        ("hmatrix-published", "variants: [", ["YAML"]),
        ("hmatrix-published", {"colour": "red"}, ["colour", "unknown"]),
        ("hmatrix-published", {"form": "jacobi"}, ["form", "jacobi", "coarse-learned"]),
        ("hmatrix-published", {"form": ["coarse-learned"]}, ["form", "['coarse-learned']"]),
        ("hmatrix-published", {"data": {"seed": 1}}, ["data", "unknown"]),
        ("hmatrix-published", {"seeds": []}, ["seeds"]),
        ("hmatrix-published", {"seeds": [1, 1]}, ["seeds", "different"]),
        ("hmatrix-published", {"seeds": 5}, ["seeds", "5"]),
        ("hmatrix-published", {"seeds": [True]}, ["seeds"]),
        ("hmatrix-published", {"model": None}, ["model", "None"]),
        (
            "hmatrix-published",
            {"model": {"trunk": {"width": "wide"}}},
            ["model: trunk: width", "'wide'", "whole"],
        ),
        (
            "hmatrix-published",
            {"model": {"leaf_size": 18, "trunk": TRUNK}},
            ["leaf_size 18", "tile_tokens 4"],
        ),
        ("hmatrix-published", {"training": {"n": 64, "seed": 1}}, ["seed", "seeds"]),
        ("hmatrix-published", {"training": {"n": 64, "steps": 0}}, ["training: steps: 0", "from 1"]),
        (
            "hmatrix-published",
            {"training": {"n": 64, "learning_rate": float("inf")}},
            ["learning_rate: inf", "above 0"],
        ),
        ("hmatrix-published", {"training": {"n": 8}}, ["training: n: 8", "from 64"]),
        ("hmatrix-published", {"variants": None}, ["variants"]),
        ("hmatrix-published", {"variants": {}}, ["variants", "one"]),
        ("hmatrix-published", {"variants": {"a/b": {}}}, ["a/b"]),
        ("hmatrix-published", {"variants": {"deep": {"depth": 3}}}, ["deep", "depth", "unknown"]),
        (
            "hmatrix-published",
            {"variants": {"deep": {"model": {"trunk": {"depth": 3}}}}},
            ["deep", "depth", "unknown"],
        ),
        (
            "hmatrix-published",
            {"variants": {"deep": {"model": {"trunk": {"layers": 1.5}}}}},
            ["deep", "layers", "1.5"],
        ),
        (
            "hmatrix-published",
            {"variants": {"deep": {"model": {"trunk": {"edge_term": 1}}}}},
            ["edge_term", "true"],
        ),
        ("hmatrix-published", {"variants": {"deep": {"model": {"trunk": 3}}}}, ["deep", "trunk", "3"]),
        ("hmatrix-published", {"variants": {"deep": {"model": 3}}}, ["deep", "model", "3"]),
        (
            "hmatrix-published",
            {"variants": {"loss": {"training": {"objective": "luck"}}}},
            ["luck", "kaporin"],
        ),
        ("hmatrix-published", {"variants": {"long": {"training": {"steps": 9}}}}, ["long", "steps", "same"]),
        ("hmatrix", {"data": {"systems": 0}}, ["data", "systems"]),
        ("hmatrix", {"data": {"simulator_frames": 3}}, ["data", "simulator_frames", "unknown"]),
        ("hmatrix", {"variants": {"iterated": {"model": {"leaves": "network"}}}}, ["iterated", "leaf_iter"]),
        ("hmatrix", {"variants": {"none": {"training": {"left_out": 1.0}}}}, ["none", "left_out", "1.0"]),
        ("coarse-learned", {"data": {"systems": 0}}, ["data", "systems"]),
        ("coarse-learned", {"data": {"large_systems": 1}}, ["data", "large_systems", "unknown"]),
        ("coarse-learned", {"data": {"frames": 3}}, ["data", "frames", "unknown"]),
        ("coarse-learned", {"test": {}}, ["test", "one"]),
        ("coarse-learned", {"test": {"a": {"family": "barriers", "n": 64}}}, ["test: a", "frames"]),
        ("coarse-learned", {"test": {"a": {"family": "soup", "n": 64, "frames": 1}}}, ["a", "barriers"]),
        ("coarse-learned", {"test": {"a": {"family": "mazes", "n": 8, "frames": 1}}}, ["a: n: 8", "64"]),
        ("coarse-learned", {"references": "coarse-monomial"}, ["references"]),
        ("coarse-learned", {"references": ["ic0"]}, ["references", "ic0", "coarse-geneo"]),
        ("coarse-learned", {"variants": {"coarse-monomial": {}}}, ["coarse-monomial", "reference"]),
        ("coarse-learned", {"variants": {"wide": {"model": {"columns": 9}}}}, ["wide", "columns", "9"]),
        ("coarse-learned", {"variants": {"old": {"model": {"rank": 4}}}}, ["old", "rank", "unknown"]),
        ("coarse-learned", {"variants": {"more": {"data": {"systems": 9}}}}, ["more", "data", "unknown"]),
    ],
)
def test_a_wrong_study_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, change: object, words: list[str]
) -> None:
    content = change if isinstance(change, str) else {**STUDIES[form], **change}
    path = write(tmp_path / "wrong.yaml", content)
    assert main(["ablate", str(path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    for word in [str(path), *words]:
        assert word in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("study.csv", lambda text: text[: text.rindex(",")]),
        ("study.csv", lambda text: text[: text.rindex("\n", 0, -1) + 1]),  # a run lacks a problem
        ("study.csv", lambda text: text.replace("variant,", "name,")),
        ("study.csv", lambda text: text.replace("bare,", "bear,")),
        ("study.csv", lambda text: text.replace(",0,", ",many,", 1)),
        ("study.csv", lambda _: "\x00"),
        ("study.yaml", lambda text: text.replace("variants:", "lines:")),
        ("study.yaml", lambda text: text.replace("label: no highways", "label: 3")),
        ("study.yaml", lambda text: text.replace("form: hmatrix-published", "form: jacobi")),
        ("study.yaml", lambda text: text[: text.index("- started")] + "- 3\n"),
    ],
)
def test_damaged_results_are_refused_and_left_alone(
    done: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage
) -> None:
    copied(done["hmatrix-published"], tmp_path)
    file = write(tmp_path / name, damage((tmp_path / name).read_text()))
    before = file.read_bytes()
    for argv in (
        [str(done["hmatrix-published"] / "tiny.yaml"), "--out", str(tmp_path)],
        [str(tmp_path / "study.yaml")],
    ):
        assert main(["ablate", *argv]) == 2
        line_of_error(capsys, str(tmp_path / name), "move it")
    assert file.read_bytes() == before
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_damaged_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base-3.checkpoint").write_bytes(b"no checkpoint")
    ablate(PUBLISHED, tmp_path, code=2)
    line_of_error(capsys, "base-3.checkpoint", "delete it")


def test_places_that_cannot_be_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tiny.yaml", PUBLISHED)
    for argv in ([str(path), "--out", str(path / "out")], [str(tmp_path / "no.yaml")]):
        assert main(["ablate", *argv]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["coarse-learned", "hmatrix", "hmatrix-published-1024"])
def test_the_published_table_follows_from_its_rows(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = ASSETS / "reference" / f"study-{name}.yaml"
    study, content = Study.read(ASSETS / "ablations" / f"{name}.yaml"), read_study(path)
    assert {of: variant.config for of, variant in content.variants.items()} == {
        of: variant.config for of, variant in study.variants.items()
    }
    assert (content.shared, content.budget, content.seeds) == (study.shared, study.budget, study.seeds)
    assert {(row.variant, row.seed) for row in content.rows} == set(study.runs())
    assert all("+" not in session["commit"] for session in content.sessions)
    assert not any(place in path.read_text() for place in ("/home", "/tmp"))
    assert main(["ablate", str(path)]) == 0
    printed = capsys.readouterr().out
    for variant, of in study.variants.items():
        (line,) = (line for line in printed.splitlines() if line.startswith(f"{of.label}  "))
        mine = [row for row in content.rows if row.variant == variant]
        if name == "hmatrix-published-1024":
            means = np.array([row.iterations for row in mine]).reshape(5, 20).mean(axis=1)
            assert f"  5  {means.mean():.1f} +- {means.std(ddof=1):.1f}" in line.replace("   ", "  ")
            network = FactorsNetwork(FactorsConfig.of(of.config["model"]))
            assert f" {sum(weight.numel() for weight in network.parameters()):,} " in line
