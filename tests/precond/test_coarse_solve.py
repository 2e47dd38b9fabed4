"""The coarse system's three ways to be solved: each against a dense solve."""

import numpy as np
import pytest
import torch

from precond import coarse_solve, gallery, make_preconditioner
from precond.coarse_solve import CoarseSolve
from precond.coupling import assembled, face_weights, galerkin_blocks
from precond.operator import PoissonOperator


@pytest.fixture(scope="module")
def system():
    """Galerkin blocks of a 44 x 27 box, partly solid: the leaves are no full rectangle of squares."""
    density = gallery.bubbles((44, 27), 1000.0, 5).density
    solid = np.zeros((44, 27), dtype=bool)
    solid[:13, 15:] = True
    form = make_preconditioner("polynomial", PoissonOperator.from_density(density, solid))
    form.setup()
    weights = face_weights(form.operator)
    diagonal, off = galerkin_blocks(form.basis.double(), form.leaves.blocks, form.pairs, weights)
    grounded = torch.zeros(len(diagonal), dtype=torch.float64)
    grounded[int(form.leaves.coupled.any(dim=1).nonzero()[0])] = 1.0
    return form, diagonal, off, grounded


@pytest.mark.parametrize(("way", "widest"), [("band", 400), ("sparse", 1), ("dense", 400)])
def test_solves_as_a_dense_matrix_does(system, way, widest, monkeypatch) -> None:
    form, diagonal, off, grounded = system
    monkeypatch.setattr(coarse_solve, "WIDEST_BAND", widest)
    coarse = CoarseSolve(form.pairs, len(diagonal), form.rank, dense=way == "dense")
    coarse.factorise(diagonal, off, grounded)
    matrix = assembled(diagonal, off, form.pairs).numpy()
    matrix[np.diag_indices_from(matrix)] *= 1.0 + coarse_solve.REGULARISATION
    first = np.flatnonzero(grounded.numpy())[0] * form.rank
    matrix[first, first] *= 2.0
    matrix[np.diag_indices_from(matrix)] += matrix.diagonal() == 0.0
    right = torch.from_numpy(np.random.default_rng(0).standard_normal(len(matrix)))
    expected = np.linalg.solve(matrix, right.numpy())
    np.testing.assert_allclose(coarse.solve(right).numpy(), expected, atol=1e-6 * np.abs(expected).max())


def test_the_band_is_one_row_of_leaves_wide() -> None:
    """128 x 32 cells are 16 x 4 leaves: a leaf is coupled to the four before it and to none further."""
    form = make_preconditioner("polynomial", PoissonOperator.from_density(torch.ones(128, 32)))
    assert form.coarse._width <= (4 + 2) * form.rank


@pytest.mark.parametrize("dense", [False, True])
def test_blocks_that_are_not_finite_or_not_definite_give_nan(system, dense) -> None:
    form, diagonal, off, grounded = system
    coarse = CoarseSolve(form.pairs, len(diagonal), form.rank, dense)
    right = torch.ones(len(diagonal) * form.rank, dtype=torch.float64)
    for bad in (torch.nan, -1.0):
        broken = diagonal.clone()
        broken[2] = bad * torch.eye(form.rank)
        coarse.factorise(broken, off, grounded)
        assert torch.isnan(coarse.solve(right)).all()
