"""Spectra of M A: against dense products, analytic eigenvalues and the closed Kaporin number."""

import numpy as np
import pytest
import torch

from precond import PoissonOperator, available_preconditioners, make_preconditioner
from precond.analysis.spectra import Spectrum, dense_preconditioner, root_on_range, spectrum
from precond.partition.leaf_faces import face_weights
from precond.preconditioner import Preconditioner
from precond.problems import gallery
from precond.training.kaporin import balanced_objective


def made(name: str, operator: PoissonOperator, **options: object) -> Preconditioner:
    preconditioner = make_preconditioner(name, operator, **options)
    preconditioner.setup()
    return preconditioner


@pytest.fixture(scope="module", params=[False, True], ids=["open", "solids"])
def case(request, make_case):
    """A small box of two fluids, without and with solids that cut it in pieces."""
    return make_case((21, 13) if request.param else (14, 10), 100.0, request.param)


@pytest.mark.parametrize("name", available_preconditioners(choosing=False))
def test_eigenvalues_are_those_of_the_dense_product(name, case):
    """M A of an A assembled face by face, by the unsymmetric eigenvalue solver: the same, and zeros."""
    preconditioner = made(name, case.operator)
    result = spectrum(preconditioner)
    values = np.linalg.eigvals(dense_preconditioner(preconditioner) @ case.matrix)
    assert np.abs(values.imag).max() < 1e-3
    kernel = int(case.label.max()) + 1
    expected = np.sort(values.real)
    assert len(result.eigenvalues) == len(expected) - kernel
    without = np.delete(expected, np.argsort(np.abs(expected))[:kernel])
    np.testing.assert_allclose(result.eigenvalues, np.sort(without), rtol=3e-3, atol=3e-4)
    assert result.negative == 0


def test_the_dense_form_is_what_apply_does_to_residuals_that_pcg_meets(case):
    preconditioner = made("coarse-geneo", case.operator)
    dense = dense_preconditioner(preconditioner)
    residual, start = case.vectors(1)[0], torch.zeros(case.shape, dtype=torch.float64)
    preconditioner.initial_correction(residual, start)
    residual -= case.operator.matvec(case.operator.project(start))
    expected = preconditioner.apply(residual, torch.empty_like(residual)).ravel()
    error = np.abs(dense @ residual.numpy().ravel() - expected.numpy()).max()
    assert error < 1e-4 * float(expected.abs().max())


def test_plain_conjugate_gradients_see_the_analytic_eigenvalues_of_the_box():
    nx, ny = 12, 9
    operator = PoissonOperator.from_density(np.ones((nx, ny)))
    along = 2.0 - 2.0 * np.cos(np.pi * np.arange(nx) / nx)
    across = 2.0 - 2.0 * np.cos(np.pi * np.arange(ny) / ny)
    expected = np.sort((along[:, None] + across).ravel())[1:]
    result = spectrum(made("none", operator))
    np.testing.assert_allclose(result.eigenvalues, expected, rtol=1e-11)
    assert result.condition_number == pytest.approx(expected[-1] / expected[0])
    n = len(expected)
    kaporin = n * np.log(expected.sum() / n) - np.linalg.slogdet(np.diag(expected))[1]
    assert result.log_kaporin == pytest.approx(kaporin / n, rel=1e-11)


def test_the_direct_solver_has_ones_and_a_kaporin_number_of_one(case):
    result = spectrum(made("direct", case.operator))
    np.testing.assert_allclose(result.eigenvalues, 1.0, atol=1e-8)
    assert result.condition_number == pytest.approx(1.0, abs=1e-7)
    assert result.log_kaporin == pytest.approx(0.0, abs=1e-10)


def test_kaporin_numbers_differ_as_the_closed_forms_do():
    """The closed forms know the number up to a constant of the problem, so two bases are compared."""
    operator = PoissonOperator.from_density(gallery.bubbles((24, 16), 100.0, 3).density)
    found, closed = [], []
    for name in ("coarse-monomial", "coarse-geneo"):
        form = made(name, operator, leaf_size=16, rank=3)
        result = spectrum(form)
        arguments = form.basis.double(), form.leaves.blocks.double(), form.pairs, face_weights(operator)
        n = len(result.eigenvalues)
        closed.append(float(balanced_objective(*arguments)) * form.basis.shape[0] / n)
        found.append(result.log_kaporin)
    assert found[0] - found[1] > 1e-3
    assert found[0] - found[1] == pytest.approx(closed[0] - closed[1], abs=1e-7)


class Scaled(Preconditioner):
    """M = diag(``factors``)."""

    name = "scaled"

    def __init__(self, operator: PoissonOperator, factors: torch.Tensor):
        super().__init__(operator)
        self.factors = factors

    def _setup(self) -> float:
        return 0.0

    def _apply(self, residual: torch.Tensor, out: torch.Tensor) -> None:
        torch.mul(residual, self.factors, out=out)


def test_an_indefinite_one_has_as_many_negative_eigenvalues_as_the_projected_diagonal(case):
    factors = torch.ones(case.shape, dtype=torch.float64)
    factors.view(-1)[::5] = -2.0
    preconditioner = Scaled(case.operator, factors)
    preconditioner.setup()
    result = spectrum(preconditioner)
    projector = np.stack([case.project(row).ravel() for row in np.eye(factors.numel())])
    inertia = np.linalg.eigvalsh(projector @ np.diag(factors.ravel()) @ projector)
    assert result.negative == int((inertia < -1e-9).sum()) > 0
    assert result.condition_number is None
    assert result.log_kaporin is None


def test_what_is_not_symmetric_or_not_finite_is_refused():
    operator = PoissonOperator.from_density(np.ones((8, 8)))
    shifted = Scaled(operator, torch.ones(operator.shape, dtype=torch.float64))
    shifted._apply = lambda residual, out: out.copy_(residual + 0.5 * residual.roll(1, 0))
    shifted.setup()
    with pytest.raises(ValueError, match="scaled is not symmetric"):
        spectrum(shifted)
    broken = Scaled(operator, torch.full(operator.shape, torch.nan, dtype=torch.float64))
    broken.setup()
    with pytest.raises(ArithmeticError, match="scaled holds NaN"):
        spectrum(broken)


def test_the_root_is_one_of_the_matrix(case):
    root = root_on_range(case.operator)
    np.testing.assert_allclose(root @ root.T, case.matrix, atol=1e-11)
    assert Spectrum(np.array([0.5, 2.0]), 0.0).condition_number == 4.0
