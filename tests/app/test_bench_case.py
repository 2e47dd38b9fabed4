"""What the benchmark measures is right."""

import itertools

import numpy as np
import pytest
import torch

from app.bench.case import Judge, RunningCase, precision
from app.bench.settings import BenchSettings, Case
from precond import PCG, make_preconditioner
from precond.classical.multigrid.cycle import Multigrid
from precond.classical.multigrid.level import Level
from precond.host import compiled
from precond.problems.gallery import benchmark_density, mazes, problem

CASE = Case("barriers", "test", "well-posed", None, 1e-8, 256)


def by_method(found, name):
    return [row for row in found.rows if row["method"] == name]


def products_expected(iterations, per_application, starts):
    """Of a PCG from zero that neither restarts nor breaks down: the last residual, one product an iteration
    and what the preconditioner asks for, and a true residual every 50 entries of the history.
    """
    replaced = sum((number + 1) % 50 == 0 for number in range(1, iterations))
    return 1 + starts + iterations * (1 + per_application) + replaced


@pytest.mark.parametrize(
    ("name", "per_application", "starts"),
    [("none", 0, 0), ("jacobi", 0, 0), ("multigrid", 4, 0), ("coarse-monomial", 1, 1), ("direct", 0, 0)],
)
def test_products_with_the_matrix_are_those_of_the_method(name, per_application, starts, benched):
    found = benched(preconds=(name,))
    for row in found.rows:
        assert row["matrix_products"] == products_expected(row["iterations"], per_application, starts)


def test_multigrid_makes_the_products_that_it_states(monkeypatch):
    monkeypatch.setattr(compiled, "used", False)  # its torch form can be watched
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
    found = benched("--contrast", "7", preconds=("multigrid", "coarse-monomial"))
    for row in found.rows:
        assert (row["family"], row["split"], row["conditions"]) == ("barriers", "test", "well-posed")
        assert (row["contrast"], row["rtol"], row["cells"]) == (7.0, 1e-8, 256)
        assert (row["engine"], row["threads"], row["session"]) == ("numba", torch.get_num_threads(), 0)
        assert row["memory_mib"] > 0.0
    assert {row["precision"] for row in by_method(found, "multigrid")} == {"float32+float64"}
    assert {row["precision"] for row in by_method(found, "coarse-monomial")} == {"float32+float64"}


def test_jacobi_holds_its_inverse_and_a_mask(benched):
    (row, _) = by_method(benched(), "jacobi")
    assert row["memory_mib"] * 2**20 == pytest.approx(256 * (8 + 1), rel=1e-5)


def test_cases_multiply_out_and_stand_in_the_table(benched):
    found = benched(
        "--contrast", "10", "1000", "--rtol", "1e-3", "1e-9", "--family", "solids", "--sizes", "256", "64"
    )
    counts = {
        tuple(row[name] for name in ("contrast", "rtol", "cells", "method", "frame")): row["iterations"]
        for row in found.rows
    }
    expected = itertools.product((10, 1000), (1e-3, 1e-9), (256, 64), ("jacobi", "multigrid"), (0, 1))
    assert set(counts) == set(expected)
    assert len(counts) == len(found.rows)
    assert all(row["relative_residual"] <= row["rtol"] * 1.01 for row in found.rows)
    for frame in (0, 1):
        assert counts[10, 1e-9, 256, "jacobi", frame] > counts[10, 1e-3, 256, "jacobi", frame]
        assert counts[1000, 1e-9, 256, "jacobi", frame] > counts[10, 1e-9, 256, "jacobi", frame]


def test_a_split_is_that_of_the_gallery(benched):
    found = benched("--split", "eval-both", "test", preconds=("jacobi",))
    for row in found.rows:
        system = problem("barriers", 256, row["frame"], row["split"])
        operator = system.operator()
        jacobi = make_preconditioner("jacobi", operator)
        jacobi.setup()
        assert row["iterations"] == PCG(operator, jacobi, rtol=1e-8).solve(system.b).iterations
    assert [row["split"] for row in found.rows] == ["eval-both"] * 2 + ["test"] * 2


def test_a_residual_is_that_of_the_dense_matrix():
    system = mazes((12, 13), 50.0, 3)
    judge = Judge(system)
    x = torch.randn(12, 13, dtype=torch.float64)
    dense = system.operator().to_csr().toarray()
    b = system.b.numpy().ravel()
    expected = np.linalg.norm(b - dense @ x.numpy().ravel()) / np.linalg.norm(b)
    assert judge.residual(x) == pytest.approx(expected)
    assert judge.fault == ""


def test_the_published_conditions_run_as_one_command(benched, capsys):
    found = benched("--conditions", "published", "--sizes", "1024", "--frames", "1", preconds=())
    counts = {(row["method"], row["rule"]): row["iterations"] for row in found.rows}
    assert counts == {
        ("none", "gpu"): 384,
        ("jacobi", "gpu"): 264,
        ("none", "cpu"): 362,
        ("jacobi", "cpu"): 255,
    }
    outcomes = {(row["rule"], row["outcome"]) for row in found.rows}
    assert outcomes == {("gpu", "converged"), ("cpu", "left early")}
    printed = capsys.readouterr().out.splitlines()
    for row in found.rows:
        assert row["engine"] == "numpy"
        words = [row["rule"], "1024", row["method"], "0/1", f"{row['iterations']:.1f}"]
        assert any(line.split()[:5] == words for line in printed)
    assert {row["memory_mib"] for row in found.rows if row["method"] == "jacobi"} == {1024 * 8 / 2**20}


def test_published_cases_are_the_four_sizes_and_the_four_evaluation_sets():
    cases = BenchSettings(conditions="published").cases()
    assert [(case.split, case.cells) for case in cases] == [
        *(("test", n) for n in (1024, 2048, 4096, 8192)),
        *((f"eval-{name}", 4096) for name in ("same", "closed", "contrast", "both")),
    ]


def test_only_the_solve_that_is_reported_counts():
    settings = BenchSettings(sizes=256, preconds="jacobi")
    running = RunningCase(CASE, settings, [("jacobi", None)])
    first, second = (running.solve_frame(number, [("jacobi", None)])[0] for number in (0, 0))
    assert first["matrix_products"] == second["matrix_products"]


def test_the_precision_is_that_of_most_bytes():
    assert precision({}) == "float64"
    assert precision({"float32": 100, "int64": 900}) == "float32"
    assert precision({"float32": 96, "float64": 4}) == "float32"
    assert precision({"float32": 90, "float64": 10}) == "float32+float64"
