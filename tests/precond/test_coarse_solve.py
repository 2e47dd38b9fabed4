"""The coarse system's three ways to be solved: each against a dense solve."""

import numpy as np
import pytest
import torch

from precond import make_preconditioner
from precond.partition.leaf_faces import face_weights
from precond.partition.morton import leaf_numbers
from precond.poisson import PoissonOperator
from precond.problems import gallery
from precond.two_level import coarse_solve
from precond.two_level.coarse_operator import assembled, galerkin_blocks
from precond.two_level.coarse_solve import CoarseSolve, DenseCoarseSolve

EVERY = slice(None)


@pytest.fixture(scope="module")
def system():
    """Galerkin blocks of a 44 x 27 box, partly solid: the leaves are no full rectangle of squares."""
    density = gallery.bubbles((44, 27), 1000.0, 5).density
    solid = np.zeros((44, 27), dtype=bool)
    solid[:13, 15:] = True
    form = make_preconditioner("coarse-monomial", PoissonOperator.from_density(density, solid))
    form.setup()
    weights = face_weights(form.operator)
    diagonal, off = galerkin_blocks(form.basis.double(), form.leaves.blocks, form.pairs, weights)
    pinned = torch.zeros(len(diagonal), dtype=torch.float64)
    pinned[int(form.leaves.coupled.any(dim=1).nonzero()[0])] = 1.0
    number = leaf_numbers(form.leaves.vectors.cells.numpy(), (44, 27))
    return form, diagonal, off, pinned, number


def solved(system, way: str, right: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
    """Z ``right`` of the system with its ``diagonal`` blocks replaced."""
    form, _, off, pinned, number = system
    if way == "dense":
        coarse = DenseCoarseSolve(form.pairs, len(number), form.rank)
        coarse.place(diagonal.clone(), off, pinned)
        coarse.factorise()
        return coarse.solve(right, torch.empty_like(right))
    coarse = CoarseSolve(form.pairs, number, form.rank)
    coarse.place(EVERY, diagonal.clone(), EVERY, off, pinned)
    coarse.factorise()
    return coarse.solve(right)


@pytest.mark.parametrize(("way", "widest"), [("band", 400), ("sparse", 1), ("dense", 400)])
def test_solves_as_a_dense_matrix_does(system, way, widest, monkeypatch) -> None:
    form, diagonal, off, pinned, _ = system
    monkeypatch.setattr(coarse_solve, "WIDEST_BAND", widest)
    matrix = assembled(diagonal, off, form.pairs).numpy()
    matrix[np.diag_indices_from(matrix)] *= 1.0 + coarse_solve.REGULARISATION
    first = np.flatnonzero(pinned.numpy())[0] * form.rank
    matrix[first, first] *= 2.0
    matrix[np.diag_indices_from(matrix)] += matrix.diagonal() == 0.0
    right = torch.from_numpy(np.random.default_rng(0).standard_normal(len(matrix)))
    expected = np.linalg.solve(matrix, right.numpy())
    found = solved(system, way, right, diagonal).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("shape", "leaf_size", "row"),
    [((128, 32), 64, 4), ((32, 128), 64, 4), ((121, 27), 64, 4), ((40, 32), 32, 5), ((32, 40), 32, 4)],
)
def test_the_band_is_one_row_of_leaves_wide(shape: tuple[int, int], leaf_size: int, row: int) -> None:
    """A leaf is coupled to as many before it as a row has, and to none further; 32 cells are 8 x 4."""
    operator = PoissonOperator.from_density(torch.ones(*shape))
    form = make_preconditioner("coarse-monomial", operator, leaf_size=leaf_size)
    assert form.coarse._width == (row + 1) * form.rank


@pytest.mark.parametrize("way", ["band", "dense"])
def test_blocks_that_are_not_finite_or_not_definite_give_nan(system, way) -> None:
    form, diagonal, *_ = system
    right = torch.ones(len(diagonal) * form.rank, dtype=torch.float64)
    for bad in (torch.nan, -1.0):
        broken = diagonal.clone()
        broken[2] = bad * torch.eye(form.rank)
        assert torch.isnan(solved(system, way, right, broken)).all()


@pytest.mark.parametrize("widest", [400, 1])
def test_blocks_placed_again_count_and_the_others_stay(system, widest, monkeypatch) -> None:
    form, diagonal, off, pinned, number = system
    monkeypatch.setattr(coarse_solve, "WIDEST_BAND", widest)
    leaves, pairs = torch.tensor([1, 5]), torch.tensor([3])
    changed, between = diagonal.clone(), off.clone()
    changed[leaves] *= 3.0
    between[pairs] *= 0.5
    right = torch.from_numpy(np.random.default_rng(1).standard_normal(diagonal.shape[0] * form.rank))
    in_parts, at_once = (CoarseSolve(form.pairs, number, form.rank) for _ in range(2))
    in_parts.place(EVERY, diagonal.clone(), EVERY, off, pinned)
    in_parts.place(leaves, changed[leaves], pairs, between[pairs], pinned[leaves])
    at_once.place(EVERY, changed.clone(), EVERY, between, pinned)
    for coarse in (in_parts, at_once):
        coarse.factorise()
    torch.testing.assert_close(in_parts.solve(right), at_once.solve(right), rtol=0.0, atol=0.0)


def test_a_factorisation_that_raised_is_made_up_for(monkeypatch) -> None:
    """What the next call to `follow` does not see changed was placed by the one that failed."""
    monkeypatch.setattr(coarse_solve, "WIDEST_BAND", 1)
    density = gallery.bubbles((40, 27), 100.0, 5).density
    operator = PoissonOperator.from_density(density)
    form = make_preconditioner("coarse-monomial", operator)
    form.setup()
    density[10:20] *= 30.0
    operator.update(density)
    with monkeypatch.context() as failing:
        failing.setattr(coarse_solve, "symmetric_factors", lambda _matrix: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            form.update()
    form.update()
    fresh = make_preconditioner("coarse-monomial", operator)
    fresh.setup()
    right = torch.from_numpy(np.random.default_rng(2).standard_normal(form.basis.shape[0] * form.rank))
    torch.testing.assert_close(form.coarse.solve(right), fresh.coarse.solve(right), rtol=1e-8, atol=1e-8)
