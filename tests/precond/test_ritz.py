"""Ritz values from the coefficients of CG, and one application of M, against dense algebra."""

import numpy as np
import pytest
import torch

from precond import PCG, make_preconditioner
from precond.analysis.correction import correct, random_error
from precond.analysis.inspection import leaf_basis, leaf_labels
from precond.analysis.ritz import ritz_values
from precond.analysis.spectra import dense_preconditioner


@pytest.fixture(params=["compiled", "torch"])
def loop(request):
    """Both loops of the CPU."""
    if request.param == "torch":
        request.getfixturevalue("torch_forms")


def solved(case, name, rtol):
    preconditioner = make_preconditioner(name, case.operator)
    preconditioner.setup()
    return PCG(case.operator, preconditioner, rtol).solve(case.vectors(1)[0]), preconditioner


@pytest.mark.usefixtures("loop")
@pytest.mark.parametrize("name", ["none", "jacobi", "multigrid", "coarse-monomial"])
def test_ritz_values_find_the_ends_of_the_spectrum(make_case, name):
    """Of M A, by the unsymmetric eigenvalue solver and a matrix assembled face by face."""
    case = make_case((12, 9), 5.0, False)
    report, preconditioner = solved(case, name, 1e-12)
    values = ritz_values(report.coefficients)
    dense = np.linalg.eigvals(dense_preconditioner(preconditioner) @ case.matrix)
    spectrum = np.sort(dense.real)[1:]  # without the kernel of A
    assert len(values) == report.iterations
    np.testing.assert_allclose(values[[0, -1]], spectrum[[0, -1]], rtol=2e-3)


def test_early_ritz_values_lie_within_the_spectrum_and_widen(make_case):
    case = make_case((12, 9), 5.0, False)
    report, preconditioner = solved(case, "jacobi", 1e-12)
    dense = np.linalg.eigvals(dense_preconditioner(preconditioner) @ case.matrix).real
    low, high = np.sort(dense)[[1, -1]]
    before = (np.inf, -np.inf)
    for k in range(1, 20):
        values = ritz_values(report.coefficients[:k])
        assert low * (1 - 1e-9) <= values[0] <= before[0] * (1 + 1e-9)
        assert high * (1 + 1e-9) >= values[-1] >= before[1] * (1 - 1e-9)
        before = values[0], values[-1]


def test_where_there_are_no_ritz_values_it_says_why():
    with pytest.raises(ValueError, match="no iterations"):
        ritz_values(np.empty((0, 2)))
    with pytest.raises(ValueError, match="symmetric"):
        ritz_values(np.array([[1.0, 0.0], [1.0, -0.1]]))


@pytest.mark.parametrize("name", ["jacobi", "multigrid", "coarse-monomial", "direct"])
def test_one_application_leaves_what_dense_algebra_leaves(make_case, name):
    case = make_case((21, 13), 100.0, True)
    preconditioner = make_preconditioner(name, case.operator)
    preconditioner.setup()
    error = random_error(case.operator, seed=3)
    assert float(error.abs().max()) == pytest.approx(1.0)
    result = correct(preconditioner, error)
    e, a = error.numpy().ravel(), case.matrix
    np.testing.assert_array_equal(result.before, error.numpy())
    left = result.after.ravel() @ a @ result.after.ravel() / (e @ a @ e)
    assert result.left == pytest.approx(left**0.5, abs=1e-7)
    assert result.left < (1e-5 if name == "direct" else 1.0)
    if name == "jacobi":
        z = case.project(np.where(np.diag(a) > 0.0, a @ e / np.where(np.diag(a) > 0, np.diag(a), 1.0), 0.0))
        z = z.ravel()
        expected = e - (z @ a @ e) / (z @ a @ z) * z
        np.testing.assert_allclose(result.after.ravel(), expected, atol=1e-10)


def test_a_nan_in_m_is_an_error_and_not_a_picture(make_case):
    case = make_case((12, 9), 5.0, False)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    preconditioner._apply = lambda _, out: out.fill_(torch.nan)
    with pytest.raises(ArithmeticError, match="jacobi"):
        correct(preconditioner, random_error(case.operator))


@pytest.mark.parametrize("name", ["coarse-monomial", "coarse-iterated", "hmatrix"])
def test_leaf_labels_are_the_leaves_of_the_cells(make_case, name):
    case = make_case((21, 13), 100.0, False)
    preconditioner = make_preconditioner(name, case.operator)
    preconditioner.setup()
    labels = leaf_labels(preconditioner)
    assert labels.shape == (21, 13)
    for cell in (0, 100, 21 * 13 - 1):
        basis = leaf_basis(preconditioner, cell)
        assert labels.ravel()[cell] == basis.leaf
        assert set(np.flatnonzero(labels.ravel() == basis.leaf)) == set(basis.cells)
    assert leaf_labels(make_preconditioner("jacobi", case.operator)) is None


def test_whoever_watches_a_solve_can_end_it(make_case):
    case = make_case((24, 17), 50.0, False)
    seen = []

    class Enough(Exception):
        pass

    def watch(residuals):
        seen[:] = residuals
        if len(residuals) > 5:
            raise Enough

    preconditioner = make_preconditioner("multigrid", case.operator)
    preconditioner.setup()
    pcg, b = PCG(case.operator, preconditioner, 1e-12), case.vectors(1)[0]
    whole = pcg.solve(b)
    pcg.watch = watch
    with pytest.raises(Enough):
        pcg.solve(b)
    assert seen == whole.history[:6]
    pcg.watch = None
    assert pcg.solve(b).history == whole.history
