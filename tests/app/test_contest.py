"""What the benchmark measures is right, and what is wrong does not get past it."""

import dataclasses
import itertools
import json
import time

import numpy as np
import pytest
import torch

from app import contest as contest_module
from app.bench_settings import BenchSettings, Case
from app.cli import main
from app.contest import Contest, Frame, clock_fault
from app.environment import ROOT
from precond import PCG, Outcome, make_preconditioner
from precond.gallery import benchmark_density, mazes, problem
from precond.multigrid import Multigrid
from precond.multigrid_level import Level

CASE = Case("barriers", "test", "well-posed", None, 1e-8, 256)


def rows(tmp_path, *arguments, preconds=("jacobi", "multigrid")):
    command = ["bench", "--sizes", "256", "--frames", "2", "--out", str(tmp_path / "out"), *arguments]
    assert main([*command, "--preconds", *preconds] if preconds else command) == 0
    return json.loads((tmp_path / "out" / "bench.json").read_text(encoding="utf-8"))


def by_method(content, name):
    return [row for row in content["rows"] if row["preconditioner"] == name]


@pytest.fixture
def spoil(monkeypatch):
    """``spoil(apply)`` replaces Jacobi's application; ``apply(right, residual, out)`` may call ``right``."""

    def replace(apply):
        make = contest_module.make_preconditioner

        def made(name, operator, **options):
            preconditioner = make(name, operator, **options)
            if name == "jacobi":
                right = preconditioner._apply
                monkeypatch.setattr(
                    preconditioner, "_apply", lambda residual, out: apply(right, residual, out)
                )
            return preconditioner

        monkeypatch.setattr(contest_module, "make_preconditioner", made)

    return replace


def half_negative(right, residual, out):
    right(residual, out)
    out[: len(out) // 2].neg_()


def half_times_its_neighbour(right, residual, out):
    """Not symmetric: on half of the cells M reads the residual of other cells."""
    right(residual.roll(5, 0), out)
    out[len(out) // 2 :] *= 50.0


def constant_zero(_right, _residual, out):
    out.zero_()


def negative(right, residual, out):
    right(residual, out)
    out.neg_()


def not_a_number(_right, _residual, out):
    out.fill_(torch.nan)


@pytest.mark.parametrize(
    "wrong", [half_negative, half_times_its_neighbour, constant_zero, negative, not_a_number]
)
def test_a_wrong_preconditioner_fails_and_the_right_one_beside_it_does_not(wrong, spoil, tmp_path):
    spoil(wrong)
    content = rows(tmp_path, "--max-iterations", "400")
    failed = {entry["preconditioner"]: entry["failed"] for entry in content["table"]}
    assert failed == {"jacobi": 2, "multigrid": 0}
    for row in by_method(content, "jacobi"):
        assert row["outcome"] in {outcome.value for outcome in Outcome} - {"converged"}
        assert row["relative_residual"] is None or row["relative_residual"] > 1e-8


def test_a_solver_that_lies_about_its_residual_fails(monkeypatch, tmp_path):
    class Liar(PCG):
        def solve(self, b, x0=None):
            report = super().solve(b, x0)
            report.x[3, 3] += 1e-6 * float(report.x.abs().max())
            return report

    monkeypatch.setattr(contest_module, "PCG", Liar)
    content = rows(tmp_path, preconds=("jacobi",))
    assert all(row["outcome"].startswith("failed: the true residual is") for row in content["rows"])
    assert content["table"][0]["failed"] == 2
    assert content["table"][0]["iterations_mean"] is None


def test_solving_another_matrix_than_the_frames_fails(monkeypatch, tmp_path):
    """A set-up that changes the operator makes the solver's own residual small, and the frame's large."""
    monkeypatch.setattr(
        "precond.jacobi.Jacobi._setup", lambda self: self.operator.update(self.operator.density + 1.0) or 0.0
    )
    content = rows(tmp_path)
    assert {row["outcome"][:27] for row in by_method(content, "jacobi")} <= {
        "failed: the true residual i",
        "indefinite preconditioner",
    }
    assert {row["outcome"] for row in by_method(content, "multigrid")} == {"converged"}


@pytest.mark.parametrize("where", ["constant", "solid"])
def test_a_right_hand_side_that_is_not_projected_is_caught(where, monkeypatch, tmp_path):
    make = contest_module.problem

    def unprojected(*arguments):
        system = make(*arguments)
        b = system.b.clone()
        if where == "constant":
            b += 1e-6 * float(b.abs().max()) * ~system.solid
        else:
            b[system.solid] = 1.0
        return dataclasses.replace(system, b=b)

    monkeypatch.setattr(contest_module, "problem", unprojected)
    out = tmp_path / "out"
    code = main(["bench", "--sizes", "250", "--frames", "2", "--out", str(out), "--preconds", "jacobi"])
    content = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    assert code == 0
    assert {row["outcome"] for row in content["rows"]} == {
        "failed: b is not of mean zero over each component, as well-posed conditions have it"
    }
    assert content["table"][0]["failed"] == 2


def still():
    return lambda: 12.0


def backwards():
    numbers = itertools.count(1e6, -1.0)
    return lambda: next(numbers)


def racing():
    clock = time.perf_counter
    return lambda: 3.0 * clock()


@pytest.mark.parametrize(
    ("clock", "said"), [(still, "stood still"), (backwards, "ran backwards"), (racing, "do not add up")]
)
@pytest.mark.parametrize("conditions", ["well-posed", "published"])
def test_a_broken_clock_is_caught(clock, said, conditions, monkeypatch, tmp_path):
    broken = clock()
    monkeypatch.setattr(time, "perf_counter", broken)
    content = rows(tmp_path, "--conditions", conditions, preconds=("none", "jacobi"))
    monkeypatch.undo()
    assert len(content["rows"]) == (4 if conditions == "well-posed" else 8)
    assert all(row["outcome"].startswith("failed: the") and said in row["outcome"] for row in content["rows"])
    assert {row["total_ms"] for row in content["rows"]} == {None}


@pytest.mark.parametrize(
    ("setup", "inference", "solve", "elapsed", "said"),
    [
        (0.1, 0.2, 0.3, 0.601, ""),
        (0.0, 0.0, 0.3, 0.301, ""),
        (0.1, 0.2, 0.3, 0.5, "do not add up"),
        (0.1, 0.0, 0.1, 0.6, "do not add up"),
        (0.1, -0.2, 0.3, 0.2, "backwards"),
        (0.1, 0.0, 0.0, 0.1, "stood still"),
        (0.1, float("nan"), 0.1, 0.2, "nan"),
        (0.1, 0.0, float("inf"), 0.2, "inf"),
    ],
)
def test_seconds_must_fit_into_those_of_another_clock(setup, inference, solve, elapsed, said):
    fault = clock_fault({"setup": setup, "inference": inference, "solve": solve}, elapsed)
    assert said in fault if said else fault == ""


def products_expected(iterations, per_application, starts):
    """Of a PCG that neither restarts nor breaks down: the first residual and the last two, one product an
    iteration and what the preconditioner asks for, and a true residual every 50 entries of the history.
    """
    replaced = sum((number + 1) % 50 == 0 for number in range(1, iterations))
    return 3 + starts + iterations * (1 + per_application) + replaced


@pytest.mark.parametrize(
    ("name", "per_application", "starts"),
    [("none", 0, 0), ("jacobi", 0, 0), ("multigrid", 4, 0), ("polynomial", 1, 1), ("direct", 0, 0)],
)
def test_products_with_the_matrix_are_those_of_the_method(name, per_application, starts, tmp_path):
    content = rows(tmp_path, preconds=(name,))
    for row in content["rows"]:
        assert row["matrix_products"] == products_expected(row["iterations"], per_application, starts)
    middle = np.median([row["matrix_products"] for row in content["rows"]])
    assert content["table"][0]["matrix_products"]["median"] == middle


def test_multigrid_makes_the_products_that_it_states(monkeypatch):
    operator = benchmark_density(1024, 0).operator()
    multigrid = make_preconditioner("multigrid", operator)
    multigrid.setup()
    seen = []
    product = Level.product
    monkeypatch.setattr(Level, "product", lambda self, around: seen.append(self) or product(self, around))
    residual = operator.project(torch.randn(operator.shape, dtype=torch.float64))
    multigrid.apply(residual, torch.empty_like(residual))
    assert sum(level is multigrid._finest for level in seen) == Multigrid.own_products


def test_rows_have_every_measure(tmp_path):
    content = rows(tmp_path, "--contrast", "7", preconds=("multigrid", "polynomial"))
    for row in content["rows"]:
        assert (row["family"], row["split"], row["conditions"]) == ("barriers", "test", "well-posed")
        assert (row["contrast"], row["rtol"], row["cells"]) == (7.0, 1e-8, 256)
        assert (row["engine"], row["threads"], row["session"]) == ("eager", torch.get_num_threads(), 0)
        assert row["ms_per_iteration"] == pytest.approx(row["solve_ms"] / row["iterations"])
        assert row["memory_mib"] > 0.0
    assert {row["precision"] for row in by_method(content, "multigrid")} == {"float64"}
    assert {row["precision"] for row in by_method(content, "polynomial")} == {"float32+float64"}
    assert json.loads(json.dumps(content)) == content


def test_jacobi_holds_its_inverse_and_a_mask(tmp_path):
    (row, _) = by_method(rows(tmp_path), "jacobi")
    assert row["memory_mib"] * 2**20 == 256 * (8 + 1)


def test_cases_multiply_out_and_stand_in_the_table(tmp_path):
    content = rows(
        tmp_path,
        "--contrast",
        "10",
        "1000",
        "--rtol",
        "1e-3",
        "1e-9",
        "--family",
        "solids",
        "--sizes",
        "256",
        "64",
    )
    groups = [(e["contrast"], e["rtol"], e["cells"], e["preconditioner"]) for e in content["table"]]
    assert groups == list(itertools.product((10.0, 1000.0), (1e-3, 1e-9), (64, 256), ("jacobi", "multigrid")))
    assert all(row["relative_residual"] <= row["rtol"] * 1.01 for row in content["rows"])
    mean = {
        (e["contrast"], e["rtol"], e["cells"], e["preconditioner"]): e["iterations_mean"]
        for e in content["table"]
    }
    assert mean[10.0, 1e-9, 256, "jacobi"] > mean[10.0, 1e-3, 256, "jacobi"]
    assert mean[1000.0, 1e-9, 256, "jacobi"] > mean[10.0, 1e-9, 256, "jacobi"]


def test_a_split_is_that_of_the_gallery(tmp_path):
    content = rows(tmp_path, "--split", "eval-both", "test", preconds=("jacobi",))
    for row in content["rows"]:
        system = problem("barriers", 256, row["frame"], row["split"])
        operator = system.operator()
        jacobi = make_preconditioner("jacobi", operator)
        jacobi.setup()
        assert row["iterations"] == PCG(operator, jacobi, rtol=1e-8).solve(system.b).iterations
    assert [entry["split"] for entry in content["table"]] == ["eval-both", "test"]


def test_a_frames_residual_is_that_of_the_dense_matrix():
    system = mazes((12, 13), 50.0, 3)
    frame = Frame(system)
    x = torch.randn(12, 13, dtype=torch.float64)
    dense = system.operator().to_csr().toarray()
    b = system.b.numpy().ravel()
    expected = np.linalg.norm(b - dense @ x.numpy().ravel()) / np.linalg.norm(b)
    assert frame.residual(x) == pytest.approx(expected)
    assert frame.is_projected


def test_the_published_conditions_run_as_one_command(tmp_path, capsys):
    content = rows(tmp_path, "--conditions", "published", "--sizes", "1024", "--frames", "1", preconds=())
    counts = {(row["preconditioner"], row["rule"]): row["iterations"] for row in content["rows"]}
    assert counts == {
        ("none", "gpu"): 384,
        ("jacobi", "gpu"): 264,
        ("none", "cpu"): 362,
        ("jacobi", "cpu"): 255,
    }
    outcomes = {(row["rule"], row["outcome"]) for row in content["rows"]}
    assert outcomes == {("gpu", "converged"), ("cpu", "left early")}
    for entry in content["table"]:
        assert entry["left_early"] == (entry["rule"] == "cpu")
        assert entry["failed"] == 0
        assert entry["iterations_mean"] == counts[entry["preconditioner"], entry["rule"]]
    assert "rule cpu" in capsys.readouterr().out


def test_published_cases_are_the_four_sizes_and_the_four_evaluation_sets():
    cases = BenchSettings.of({"conditions": "published"}).cases()
    assert [(case.split, case.cells) for case in cases] == [
        *(("test", n) for n in (1024, 2048, 4096, 8192)),
        *((f"eval-{name}", 4096) for name in ("same", "closed", "contrast", "both")),
    ]


def test_the_committed_published_run_has_the_published_counts():
    content = json.loads((ROOT / "assets/reference/bench-published.json").read_text(encoding="utf-8"))
    assert content["ended"] == "completed"
    mean = {
        (e["split"], e["cells"], e["rule"], e["preconditioner"]): e["iterations_mean"]
        for e in content["table"]
    }
    listed = {
        ("test", 2048): (429, 310),
        ("test", 4096): (511, 371),
        ("test", 8192): (790, 561),
        ("eval-same", 4096): (502, 355),
        ("eval-closed", 4096): (608, 414),
        ("eval-contrast", 4096): (1144, 454),
        ("eval-both", 4096): (1251, 457),
    }
    for (split, cells), pair in listed.items():
        found = tuple(mean[split, cells, "cpu", name] for name in ("none", "jacobi"))
        assert found == pytest.approx(pair, rel=0.01)
    assert mean["test", 8192, "gpu", "jacobi"] == pytest.approx(968, rel=0.01)


def test_a_contest_counts_only_the_solve_it_reports():
    settings = BenchSettings.of({"sizes": (256,), "preconds": ("jacobi",)})
    contest = Contest(CASE, settings, ["jacobi"])
    first, second = (contest.frame(number, ["jacobi"])[0] for number in (0, 0))
    assert first["matrix_products"] == second["matrix_products"]
