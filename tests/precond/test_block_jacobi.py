"""Leaf blocks: the inverse of exactly the diagonal blocks along the Morton curve."""

import numpy as np
import pytest
import torch

from precond import PreconditionerError, make_preconditioner
from precond.host import leaves as host
from precond.poisson import PoissonOperator
from precond.problems.gallery import bubbles
from precond.two_level.block_jacobi import DRIFT, BlockJacobi


def morton_key(i: int, j: int) -> int:
    """Interleaved bits, by way of strings."""
    return int("".join(b + a for a, b in zip(f"{i:012b}", f"{j:012b}", strict=True)), 2)


@pytest.mark.parametrize(("leaf_size", "solids"), [(128, False), (16, False), (50, True), (128, True)])
def test_blocks_are_inverted_exactly(make_case, leaf_size, solids):
    case = make_case((21, 18), 100.0, solids)
    preconditioner = make_preconditioner("block-jacobi", case.operator, leaf_size=leaf_size)
    preconditioner.setup()
    order = sorted(range(21 * 18), key=lambda k: morton_key(*divmod(k, 18)))
    r = case.vectors(1)[0]
    out = torch.empty_like(r)
    preconditioner.apply(r, out)
    expected = np.zeros(21 * 18)
    flat = r.numpy().ravel()
    for start in range(0, len(order), leaf_size):
        leaf = np.array(order[start : start + leaf_size])
        block = case.matrix[np.ix_(leaf, leaf)]
        expected[leaf] = np.linalg.lstsq(block, flat[leaf], rcond=1e-12)[0]
    # Components that lie within one leaf are determined up to a constant, which the projection removes.
    expected = case.project(expected.reshape(21, 18))
    np.testing.assert_allclose(out.numpy(), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("leaf_size", [1, 0, 1.5, 4096])
def test_bad_leaf_sizes_are_refused(make_case, leaf_size):
    with pytest.raises(PreconditionerError, match="leaf_size"):
        make_preconditioner("block-jacobi", make_case((12, 12), 10.0, False).operator, leaf_size=leaf_size)


@pytest.mark.parametrize("aligned", [False, True])
def test_follow_renews_the_leaves_that_changed_and_no_others(make_case, aligned):
    case = make_case((40, 27), 100.0, True)
    operator = case.operator
    leaves = BlockJacobi(operator, 16, aligned=aligned)
    leaves.setup()
    density = torch.from_numpy(case.density.copy())
    density[20:24, 11:14] *= 7.0
    operator.update(density)
    leaves.update()
    touched = np.zeros((40, 27), dtype=bool)
    touched[19:25, 11:14] = touched[20:24, 10:15] = True  # a face belongs to both its cells
    touched &= ~case.solid
    expected = np.unique(leaves.position.numpy()[touched.ravel()] // 16)
    inner = np.zeros((40, 27), dtype=bool)
    inner[20:24, 11:14] = True
    surely = np.unique(leaves.position.numpy()[(inner & ~case.solid).ravel()] // 16)
    assert set(surely.tolist()) <= set(leaves.changed.tolist()) <= set(expected.tolist())
    fresh = BlockJacobi(operator, 16, aligned=aligned)
    fresh.setup()
    kept, now = leaves.inverses[leaves.changed], fresh.inverses[leaves.changed]
    torch.testing.assert_close(kept, now, rtol=1e-5, atol=0.0)
    leaves.update()
    assert not len(leaves.changed)


def test_leaves_that_drifted_a_little_keep_an_inverse_of_theirs_up_to_a_factor(make_case):
    """However many small steps a density takes, a kept inverse is bounded by the faces' whole change."""
    case = make_case((40, 27), 100.0, True)
    operator, rng = case.operator, np.random.default_rng(0)
    leaves = BlockJacobi(operator, 16, aligned=True)
    leaves.setup()
    density = case.density.copy()
    renewed = np.zeros(len(leaves.blocks), dtype=int)
    for _ in range(12):
        density[:20] *= rng.uniform(0.9, 1.15, size=(20, 27))  # the right half stays as it is
        operator.update(torch.from_numpy(density))
        leaves.update()
        renewed[leaves.changed.numpy()] += 1
        fresh = BlockJacobi(operator, 16, aligned=True)
        fresh.setup()
        values = torch.linalg.eigvals(leaves.inverses.double() @ fresh.blocks).real
        assert values.min() > 1.0 - DRIFT - 1e-4
        assert values.max() < 1.0 + DRIFT + 1e-4
    right = np.unique(leaves.position.numpy().reshape(40, 27)[24:] // 16)
    assert not renewed[right].any()
    moved = renewed[renewed > 0]
    assert len(moved) > 10
    assert moved.mean() < 8.0  # of twelve: the others kept theirs


def test_follow_takes_up_new_solids_and_recovers_from_nan(make_case):
    case, walls = make_case((24, 19), 10.0, False), make_case((24, 19), 10.0, True)
    operator = case.operator
    leaves = BlockJacobi(operator, 16, aligned=True)
    leaves.setup()
    operator.set_solid(walls.solid)
    leaves.update()
    for bad in (torch.nan, 0.0):  # a density of zero has infinite weights
        operator.update(torch.full(operator.shape, bad, dtype=torch.float64))
        leaves.update()
    operator.update(torch.from_numpy(case.density))
    leaves.update()
    fresh = BlockJacobi(operator, 16, aligned=True)
    fresh.setup()
    torch.testing.assert_close(leaves.inverses, fresh.inverses, rtol=1e-5, atol=0.0)


def test_leaves_of_one_phase_share_a_factorisation(monkeypatch):
    """96 x 64 cells of two phases in flat layers: the leaves differ by walls and interfaces alone."""
    density = np.ones((96, 64))
    density[:, :20] = 1000.0
    operator = PoissonOperator.from_density(density)
    counted, invert = [], host.invert
    monkeypatch.setattr(
        host, "invert", lambda blocks, *others: counted.append(len(blocks)) or invert(blocks, *others)
    )
    leaves = BlockJacobi(operator, 64, aligned=True)
    leaves.setup()
    # left wall, middle and right wall, by floor, interface, the rows beside it, bulk and ceiling
    assert sum(counted) <= 3 * 6
    assert len(leaves.blocks) == 96
    product = leaves.blocks.float() @ leaves.inverses
    identity = torch.eye(64).expand_as(product)
    torch.testing.assert_close(product, identity, rtol=0.0, atol=2e-3)
    counted.clear()
    leaves = BlockJacobi(bubbles((64, 64), 10.0, 1).operator(), 64, aligned=False)
    leaves.setup()
    assert counted == [64]


@pytest.mark.parametrize("unit", [1.0, 1e8])
def test_shared_inverses_do_not_depend_on_the_unit_of_the_density(make_case, unit):
    """Solids and the padding of 27 rows are decoupled: their rows must not set the scale of a leaf."""
    case = make_case((40, 27), 10_000.0, True)
    operator = PoissonOperator.from_density(case.density * unit, case.solid)
    leaves = BlockJacobi(operator, 64, aligned=True)
    leaves.setup()
    expected = torch.linalg.inv(leaves.blocks)
    error = (leaves.inverses - expected).abs().amax(dim=(1, 2)) / expected.abs().amax(dim=(1, 2))
    assert error.max() < 1e-3
