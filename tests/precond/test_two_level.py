"""The two-level preconditioner: exact, definite for any basis, its Kaporin number in closed form."""

import numpy as np
import pytest
import scipy.linalg
import torch

from precond import PCG, make_preconditioner
from precond.partition.leaf_faces import face_weights
from precond.partition.morton import leaves
from precond.poisson import PoissonOperator
from precond.problems import gallery
from precond.training.kaporin import (
    additive_objective,
    balanced_objective,
    constant_coefficients,
    truncated_objective,
)
from precond.two_level.bases import geneo_modes, monomials, orthonormalised
from precond.two_level.preconditioner import TwoLevel


class GivenBasis(TwoLevel):
    """The form on whatever orthonormal columns a test sets."""

    columns: torch.Tensor

    def _basis(self) -> torch.Tensor:
        return self.columns.float()


def random_form(operator: PoissonOperator, leaf_size: int, rank: int, seed: int) -> GivenBasis:
    form = GivenBasis(operator, leaf_size, rank)
    shape = form.basis.shape
    form.columns = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(shape)))
    form.leaves.setup()
    form.columns *= form.leaves.coupled[..., None]
    form.columns[..., 0] = form.leaves.coupled
    form.columns = orthonormalised(form.columns)
    form.setup()
    return form


def dense_parts(form: TwoLevel) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A, the leaves' diagonal blocks D of A, and U as dense float64 matrices, from indices alone."""
    matrix = torch.from_numpy(form.operator.to_csr().toarray())
    cells = leaves(form.operator.shape, form.leaf_size, aligned=True)
    count, size = cells.shape
    leaf = np.empty(len(matrix), dtype=int)
    basis = torch.zeros(len(matrix), count * form.rank, dtype=torch.float64)
    for k in range(count):
        for slot in range(size):
            cell = cells[k, slot]
            if cell < len(matrix):
                leaf[cell] = k
                basis[cell, k * form.rank : (k + 1) * form.rank] = form.columns[k, slot]
    same = torch.from_numpy(leaf[:, None] == leaf[None, :])
    return matrix, torch.where(same, matrix, 0.0), basis


def dense_inverse(form: TwoLevel, additive: bool = False) -> torch.Tensor:
    """M of the module's formula, or with nothing but a sum of both levels, D^-1 + U Z U^T."""
    matrix, blocks, basis = dense_parts(form)
    inverse = torch.linalg.inv(blocks)
    coarse_operator = (
        basis @ torch.linalg.pinv(basis.T @ matrix @ basis, hermitian=True, rtol=1e-10) @ basis.T
    )
    if additive:
        return inverse + coarse_operator
    away = torch.eye(len(matrix), dtype=torch.float64) - matrix @ coarse_operator
    return away.T @ inverse @ away + coarse_operator


def spectrum(form: TwoLevel, additive: bool = False) -> torch.Tensor:
    """Eigenvalues of M A on the complement of the constants; M as of `dense_inverse`."""
    matrix = dense_parts(form)[0]
    values, vectors = torch.linalg.eigh(matrix)
    root = vectors @ torch.diag(values.clamp(min=0.0).sqrt()) @ vectors.T
    return torch.linalg.eigvalsh(root @ dense_inverse(form, additive) @ root)[1:]


@pytest.fixture(scope="module")
def operator() -> PoissonOperator:
    return PoissonOperator.from_density(gallery.bubbles((20, 12), 100.0, 3).density)


def test_apply_is_the_formula(operator: PoissonOperator) -> None:
    form = random_form(operator, 16, 3, seed=0)
    inverse = dense_inverse(form)
    residual = operator.project(torch.randn(operator.shape, dtype=torch.float64))
    added = torch.zeros_like(residual)
    assert form.initial_correction(residual, added)
    residual -= operator.matvec(operator.project(added))
    result = form.apply(residual, torch.empty_like(residual))
    expected = operator.project((inverse @ residual.view(-1)).view(operator.shape).clone())
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("seed", range(3))
def test_any_basis_gives_a_definite_preconditioner(operator: PoissonOperator, seed: int) -> None:
    eigenvalues = spectrum(random_form(operator, 16, 4, seed))
    assert eigenvalues.min() > 1e-3
    problem = gallery.bubbles((20, 12), 100.0, 3)
    report = PCG(operator, random_form(operator, 16, 4, seed)).solve(problem.b)
    assert report.converged
    assert not report.flexible


def test_the_start_solves_the_coarse_problem(operator: PoissonOperator) -> None:
    form = random_form(operator, 16, 4, seed=5)
    residual = operator.project(torch.randn(operator.shape, dtype=torch.float64))
    added = torch.zeros_like(residual)
    form.initial_correction(residual, added)
    left = (residual - operator.matvec(added)).view(-1)
    basis = dense_parts(form)[2]
    assert (basis.T @ left).norm() < 1e-5 * (basis.T @ residual.view(-1)).norm()


def test_closed_kaporin_numbers_match_dense_determinants(operator: PoissonOperator) -> None:
    """Each objective is the dense -(1/K) log det or (n/K) log K(MA) up to one constant, the same for every
    basis.
    """
    differences: dict[str, list[float]] = {"additive": [], "balanced": []}
    for seed in range(3):
        for name, objective in (("additive", additive_objective), ("balanced", balanced_objective)):
            form = random_form(operator, 16, 4, seed)
            values = spectrum(form, additive=name == "additive")
            count = form.basis.shape[0]
            expected = -values.log().sum() / count
            if name == "balanced":
                expected = expected + len(values) * values.sum().log() / count
            arguments = (form.columns, form.leaves.blocks, form.pairs, face_weights(operator))
            differences[name].append(float(objective(*arguments) - expected))
    for values in differences.values():
        assert np.ptp(values) < 1e-9


def test_the_additive_trace_does_not_depend_on_the_basis(operator: PoissonOperator) -> None:
    for seed in range(2):
        form = random_form(operator, 16, 4, seed)
        count, _, rank = form.basis.shape
        assert float(spectrum(form, additive=True).sum()) == pytest.approx(
            20 * 12 + count * rank - 1, rel=1e-9
        )


@pytest.mark.parametrize("left_out", [0.0, 0.05, 0.5])
def test_the_truncated_objective_leaves_out_the_smallest_ritz_values(
    operator: PoissonOperator, left_out: float
) -> None:
    form = random_form(operator, 16, 4, seed=1)
    matrix, blocks, basis = dense_parts(form)
    coarse, diagonal = (basis.T @ dense @ basis for dense in (matrix, blocks))
    ritz = scipy.linalg.eigh(coarse.numpy(), diagonal.numpy(), eigvals_only=True)[1:]
    dropped = int(left_out * len(ritz))
    arguments = (form.columns, form.leaves.blocks, form.pairs, face_weights(operator))
    without = float(truncated_objective(*arguments, left_out=left_out) - additive_objective(*arguments))
    assert without == pytest.approx(np.log1p(1.0 / ritz[:dropped]).sum() / len(form.basis), abs=1e-9)
    assert bool(dropped) == (left_out > 0.0)


@pytest.mark.parametrize("objective", [additive_objective, balanced_objective, truncated_objective])
def test_objectives_depend_on_the_span_alone_and_have_true_gradients(
    operator: PoissonOperator, objective
) -> None:
    form = random_form(operator, 16, 3, seed=1)
    fixed = (form.leaves.blocks, form.pairs, face_weights(operator))
    turn = torch.linalg.qr(torch.randn(form.basis.shape[0], 2, 2, dtype=torch.float64))[0]
    turned = torch.cat([form.columns[..., :1], form.columns[..., 1:] @ turn], dim=-1)
    assert float(objective(turned, *fixed)) == pytest.approx(
        float(objective(form.columns, *fixed)), rel=1e-12
    )

    def of_raw(raw: torch.Tensor) -> torch.Tensor:
        return objective(orthonormalised(raw), *fixed)

    raw = (form.columns + 0.1 * torch.randn_like(form.columns)).requires_grad_()
    with torch.no_grad():
        raw[..., 0] = 1.0
    (gradient,) = torch.autograd.grad(of_raw(raw), raw)
    direction = torch.randn_like(raw)
    direction[..., 0] = 0.0
    step = 1e-5
    with torch.no_grad():
        slope = (of_raw(raw + step * direction) - of_raw(raw - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_constants_are_the_kernel_of_the_coupling(operator: PoissonOperator) -> None:
    form = random_form(operator, 16, 4, seed=2)
    matrix, _, basis = dense_parts(form)
    kernel = constant_coefficients(form.columns)
    constant = basis @ kernel
    assert (constant - constant.mean()).abs().max() < 1e-12
    assert (basis.T @ matrix @ basis @ kernel).abs().max() < 1e-12


def test_spectral_modes_are_the_lowest_of_each_leaf(operator: PoissonOperator) -> None:
    form = random_form(operator, 16, 4, seed=0)
    blocks = form.leaves.blocks
    modes = geneo_modes(blocks, torch.ones(blocks.shape[:2], dtype=torch.float64), 4)
    inner = blocks - torch.diag_embed(blocks.sum(dim=-1))
    for k in range(len(blocks)):
        values = torch.linalg.eigvals(torch.linalg.solve(blocks[k], inner[k])).real.sort().values
        image = torch.linalg.solve(blocks[k], inner[k] @ modes[k])
        for column in range(4):
            torch.testing.assert_close(
                image[:, column], values[column] * modes[k, :, column], atol=1e-8, rtol=0.0
            )


def test_orthonormalised_columns_are_so_when_nearly_dependent() -> None:
    """Every column keeps one per cent of the one before; the span is that of a QR factorisation."""
    torch.manual_seed(0)
    columns = torch.randn(50, 64, 8, dtype=torch.float64)
    for k in range(1, 8):
        columns[..., k] = columns[..., k - 1] + 0.01 * columns[..., k]
    basis = orthonormalised(columns)
    assert (basis.mT @ basis - torch.eye(8)).abs().max() < 1e-5
    q, _ = torch.linalg.qr(columns)
    assert (q - basis @ (basis.mT @ q)).norm(dim=1).max() < 1e-5


def test_orthonormalised_columns_drop_what_is_spanned() -> None:
    columns = torch.randn(3, 10, 4, dtype=torch.float64)
    columns[..., 2] = columns[..., 0] - 2.0 * columns[..., 1]
    basis = orthonormalised(columns)
    gram = basis.mT @ basis
    expected = torch.diag(torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)).expand(3, 4, 4)
    torch.testing.assert_close(gram, expected, atol=1e-10, rtol=0.0)


def test_monomials_refuse_a_rank_they_do_not_have() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        monomials(torch.zeros(1, 20, 2), torch.ones(1, 20), 17)


@pytest.mark.parametrize(("name", "bound"), [("coarse-monomial", 22), ("coarse-geneo", 18)])
def test_counts_do_not_grow_with_the_grid(name: str, bound: int) -> None:
    counts = []
    for n in (1024, 4096):
        problem = gallery.benchmark_density(n, 0)
        operator = problem.operator()
        preconditioner = make_preconditioner(name, operator)
        preconditioner.setup()
        report = PCG(operator, preconditioner).solve(problem.b)
        assert report.converged
        counts.append(report.iterations)
    assert max(counts) <= bound


@pytest.mark.parametrize("corner", [False, True])
def test_following_a_small_drift_keeps_leaves_and_renews_the_coupling(corner: bool) -> None:
    """61 x 37 cells, every weight within DRIFT of what it was: M is another one, as good and as symmetric."""
    density = gallery.bubbles((61, 37), 100.0, 3).density
    operator = PoissonOperator.from_density(density)
    form, fresh = (make_preconditioner("coarse-monomial", operator) for _ in range(2))
    form.setup()
    where = (slice(0, 12), slice(0, 12)) if corner else (slice(None), slice(None))
    rng = np.random.default_rng(0)
    density[where] *= torch.from_numpy(rng.uniform(0.9, 1.2, size=tuple(density[where].shape)))
    operator.update(density)
    form.update()
    assert len(form.leaves.changed) == 0
    fresh.setup()
    right = torch.from_numpy(rng.standard_normal(form.basis.shape[0] * form.rank))
    torch.testing.assert_close(form.coarse.solve(right), fresh.coarse.solve(right), rtol=1e-7, atol=1e-7)
    b = operator.project(torch.from_numpy(rng.standard_normal((61, 37))))
    kept, new = (PCG(operator, preconditioner).solve(b) for preconditioner in (form, fresh))
    assert kept.converged
    assert not kept.flexible
    assert kept.iterations <= new.iterations + 3
