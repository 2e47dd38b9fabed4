"""Under the published conditions the published iteration counts come out, frame by frame and in the mean."""

import numpy as np
import pytest

from precond.partition.morton import morton_order
from precond.problems.gallery import benchmark_density
from precond.problems.published import (
    CPU_CURVATURE,
    RULES,
    inverse_diagonal,
    published_system,
    solve_published,
)

EVALUATION = ("eval-same", "eval-closed", "eval-contrast", "eval-both")


def solves(n, split, preconditioner, rule, frames=20):
    systems = [published_system(n, frame, split) for frame in range(frames)]
    return [solve_published(system, inverse_diagonal(system, preconditioner), rule) for system in systems]


@pytest.mark.parametrize(
    ("n", "rule", "cg", "jacobi"),
    [(1024, "gpu", 384, 264), (8192, "gpu", 1068, 744), (1024, "cpu", 362, 255), (8192, "cpu", 1010, 723)],
)
def test_the_first_frame_takes_exactly_the_published_iterations(n, rule, cg, jacobi):
    counts = [solves(n, "test", name, rule, frames=1)[0].iterations for name in ("none", "jacobi")]
    assert counts == [cg, jacobi]


@pytest.mark.parametrize(
    ("n", "split", "cg", "jacobi"),
    [
        (2048, "test", 429, 310),
        (4096, "test", 511, 371),
        (8192, "test", 790, 561),
        *zip([4096] * 4, EVALUATION, (502, 608, 1144, 1251), (355, 414, 454, 457), strict=True),
    ],
)
def test_means_under_the_cpu_rule_are_the_published_ones(n, split, cg, jacobi):
    for name, published in (("none", cg), ("jacobi", jacobi)):
        mean = np.mean([solve.iterations for solve in solves(n, split, name, "cpu")])
        assert mean == pytest.approx(published, rel=0.01)


def test_mean_and_spread_of_jacobi_under_the_gpu_rule_are_the_published_ones():
    counts = [solve.iterations for solve in solves(8192, "test", "jacobi", "gpu")]
    assert np.mean(counts) == pytest.approx(968, rel=0.01)
    assert np.std(counts, ddof=1) == pytest.approx(261, rel=0.02)
    assert {count % 3 for count in counts} == {0}


def test_the_matrix_is_rounded_and_scaled_entry_by_entry():
    problem = benchmark_density(300, 2)
    system = published_system(300, 2)
    dense = problem.operator().to_csr().toarray()
    kept = morton_order(problem.shape)[:300]
    rounded = dense[np.ix_(kept, kept)].astype(np.float32)
    expected = rounded / np.abs(rounded.astype(np.float64)).sum(axis=1).max().astype(np.float32)
    np.testing.assert_array_equal(system.matrix.toarray(), expected.astype(np.float64))
    assert np.linalg.norm(system.b) == pytest.approx(1.0)
    assert abs(system.b.sum()) > 0.1  # not orthogonal to the constants: the system has no exact solution
    smallest = np.linalg.eigvalsh(expected.astype(np.float64))[0]
    assert 0.0 < abs(smallest) < 1e-7


def test_the_cpu_rule_leaves_when_and_only_when_the_curvature_is_tiny():
    system = published_system(1024, 0)
    solve = solve_published(system, None, "cpu")
    assert solve.outcome == "left early"
    assert solve.relative_residual > 1e-8
    assert solve.products == solve.iterations + 2
    again = solve_published(system, None, "cpu", max_iterations=solve.iterations)
    assert again.outcome == "iteration limit"
    np.testing.assert_array_equal(again.x, solve.x)
    residual = system.b - system.matrix @ solve.x
    assert np.linalg.norm(residual) == pytest.approx(solve.relative_residual)
    assert CPU_CURVATURE == 1e-14


def test_other_rules_and_preconditioners_are_refused():
    system = published_system(64, 0)
    with pytest.raises(ValueError, match=f"one of {', '.join(RULES)}"):
        solve_published(system, None, "tpu")
    with pytest.raises(ValueError, match="none and jacobi"):
        inverse_diagonal(system, "multigrid")
