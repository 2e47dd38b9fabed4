"""Multigrid: iteration counts that do not grow, a symmetric cycle, and a spectrum close to one."""

import numpy as np
import pytest
import torch

from precond import PCG, PoissonOperator, make_preconditioner
from precond.problems.gallery import benchmark_density, bubbles, layers


def iterations(problem) -> int:
    operator = problem.operator()
    preconditioner = make_preconditioner("multigrid", operator)
    preconditioner.setup()
    report = PCG(operator, preconditioner, rtol=1e-8).solve(problem.b)
    residual = problem.b.numpy().ravel() - operator.to_csr() @ report.x.numpy().ravel()
    assert np.linalg.norm(residual) <= 1.01e-8 * problem.b.norm()
    return report.iterations


@pytest.mark.parametrize("contrast", [1.0, 100.0, 10_000.0])
@pytest.mark.parametrize("n", [1024, 2048, 4096, 8192, 16384, 65536])
def test_barriers(n, contrast):
    assert max(iterations(benchmark_density(n, frame, contrast=contrast)) for frame in range(4)) <= 10


@pytest.mark.parametrize(("contrast", "limit"), [(100.0, 12), (10_000.0, 20)])
@pytest.mark.parametrize("shape", [(64, 64), (128, 64), (91, 91), (200, 150)])
def test_bubbles(shape, contrast, limit):
    assert max(iterations(bubbles(shape, contrast, seed)) for seed in range(4)) <= limit


def test_layers():
    assert iterations(layers((128, 64), 10_000.0)) <= 15


@pytest.mark.parametrize("shape", [(8, 8), (9, 300), (333, 8), (15, 17), (100, 31)])
def test_shapes(shape):
    assert iterations(bubbles(shape, 100.0, 1)) <= 12


@pytest.mark.parametrize(("share", "limit"), [(0.05, 20), (0.2, 30), (0.35, 80)])
def test_scattered_solids_and_many_closed_pockets(share, limit):
    """Pockets leave coarse functions without energy, of which rounding once made an indefinite cycle."""
    density = bubbles((128, 64), 100.0, 0).density
    rng = np.random.default_rng(2)
    for _ in range(3):
        operator = PoissonOperator.from_density(density, rng.random((128, 64)) < share)
        preconditioner = make_preconditioner("multigrid", operator)
        preconditioner.setup()
        report = PCG(operator, preconditioner).solve(torch.from_numpy(rng.standard_normal((128, 64))))
        assert report.converged
        assert report.iterations <= limit


@pytest.mark.parametrize("side", [1, 2, 4, 6, 8, 12, 16])
def test_all_the_fluid_in_one_small_pool(side):
    """Most coarse rows are empty or nothing but rounding then."""
    rng = np.random.default_rng(side)
    for _ in range(6):
        i, j = rng.integers(128 - side), rng.integers(64 - side)
        solid = np.ones((128, 64), dtype=bool)
        solid[i : i + side, j : j + side] = False
        operator = PoissonOperator.from_density(np.where(rng.random((128, 64)) < 0.5, 1.0, 100.0), solid)
        preconditioner = make_preconditioner("multigrid", operator)
        preconditioner.setup()
        report = PCG(operator, preconditioner).solve(torch.from_numpy(rng.standard_normal((128, 64))))
        assert report.converged
        assert report.iterations <= 20


@pytest.mark.parametrize(
    ("shape", "contrast", "solids"), [((16, 14), 100.0, False), ((21, 18), 1e4, False), ((19, 23), 1e3, True)]
)
def test_whole_spectrum(make_case, shape, contrast, solids):
    """M A on mean-zero vectors, all of it: real, positive, and none above one but for rounding."""
    case = make_case(shape, contrast, solids)
    preconditioner = make_preconditioner("multigrid", case.operator)
    preconditioner.setup()
    size = shape[0] * shape[1]
    units = torch.eye(size, dtype=torch.float64).view(size, *shape)
    columns = [preconditioner.apply(case.operator.project(unit), torch.empty_like(unit)) for unit in units]
    inverse = torch.stack(columns).view(size, size).numpy()
    np.testing.assert_allclose(inverse, inverse.T, atol=1e-9 * np.abs(inverse).max())
    eigenvalues = np.sort(np.linalg.eigvals(inverse @ case.matrix).real)
    null = len(np.unique(case.label))
    assert np.abs(eigenvalues[:null]).max() < 1e-6
    assert eigenvalues[null] > 0.05
    assert eigenvalues[-1] < 1.01


@pytest.mark.parametrize("exponent", [-100, -40, 40, 100])
def test_the_unit_of_the_density_does_not_matter(exponent):
    """Powers of two round nothing, so that even the history is the same."""
    problem = bubbles((40, 36), 1000.0, 1)
    histories = []
    for unit in (1.0, 2.0**exponent):
        operator = PoissonOperator.from_density(problem.density * unit)
        preconditioner = make_preconditioner("multigrid", operator)
        preconditioner.setup()
        histories.append(PCG(operator, preconditioner).solve(problem.b).history)
    assert histories[0] == histories[1]
