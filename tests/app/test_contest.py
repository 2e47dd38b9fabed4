"""What the benchmark measures is right."""

import itertools
import json

import numpy as np
import pytest
import torch

from app.bench.contest import Contest, Frame
from app.bench.settings import BenchSettings, Case
from app.environment import ROOT
from precond import PCG, make_preconditioner
from precond.classical.multigrid.cycle import Multigrid
from precond.classical.multigrid.level import Level
from precond.problems.gallery import benchmark_density, mazes, problem

CASE = Case("barriers", "test", "well-posed", None, 1e-8, 256)


def by_method(content, name):
    return [row for row in content["rows"] if row["preconditioner"] == name]


def products_expected(iterations, per_application, starts):
    """Of a PCG that neither restarts nor breaks down: the first residual and the last, one product an
    iteration and what the preconditioner asks for, and a true residual every 50 entries of the history.
    """
    replaced = sum((number + 1) % 50 == 0 for number in range(1, iterations))
    return 2 + starts + iterations * (1 + per_application) + replaced


@pytest.mark.parametrize(
    ("name", "per_application", "starts"),
    [("none", 0, 0), ("jacobi", 0, 0), ("multigrid", 4, 0), ("coarse-monomial", 1, 1), ("direct", 0, 0)],
)
def test_products_with_the_matrix_are_those_of_the_method(name, per_application, starts, benched):
    content = benched(preconds=(name,))
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


def test_rows_have_every_measure(benched):
    content = benched("--contrast", "7", preconds=("multigrid", "coarse-monomial"))
    for row in content["rows"]:
        assert (row["family"], row["split"], row["conditions"]) == ("barriers", "test", "well-posed")
        assert (row["contrast"], row["rtol"], row["cells"]) == (7.0, 1e-8, 256)
        assert (row["engine"], row["threads"], row["session"]) == ("eager", torch.get_num_threads(), 0)
        assert row["ms_per_iteration"] == pytest.approx(row["solve_ms"] / row["iterations"])
        assert row["memory_mib"] > 0.0
    assert {row["precision"] for row in by_method(content, "multigrid")} == {"float64"}
    assert {row["precision"] for row in by_method(content, "coarse-monomial")} == {"float32+float64"}
    assert json.loads(json.dumps(content)) == content


def test_jacobi_holds_its_inverse_and_a_mask(benched):
    (row, _) = by_method(benched(), "jacobi")
    assert row["memory_mib"] * 2**20 == 256 * (8 + 1)


def test_cases_multiply_out_and_stand_in_the_table(benched):
    content = benched(
        "--contrast", "10", "1000", "--rtol", "1e-3", "1e-9", "--family", "solids", "--sizes", "256", "64"
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


def test_a_split_is_that_of_the_gallery(benched):
    content = benched("--split", "eval-both", "test", preconds=("jacobi",))
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


def test_the_published_conditions_run_as_one_command(benched, capsys):
    content = benched("--conditions", "published", "--sizes", "1024", "--frames", "1", preconds=())
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
