"""Leaf blocks: the inverse of exactly the diagonal blocks along the Morton curve."""

import numpy as np
import pytest
import torch

from precond import PreconditionerError, make_preconditioner


def morton_key(i: int, j: int) -> int:
    """Interleaved bits, by way of strings."""
    return int("".join(b + a for a, b in zip(f"{i:012b}", f"{j:012b}", strict=True)), 2)


@pytest.mark.parametrize(("leaf_size", "solids"), [(128, False), (16, False), (50, True), (128, True)])
def test_blocks_are_inverted_exactly(make_case, leaf_size, solids):
    case = make_case((21, 18), 100.0, solids)
    preconditioner = make_preconditioner("leaf-blocks", case.operator, leaf_size=leaf_size)
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
        make_preconditioner("leaf-blocks", make_case((12, 12), 10.0, False).operator, leaf_size=leaf_size)
