"""Leaves hold every cell once; aligned ones are blocks of the grid."""

import numpy as np
import pytest

from precond.partition.morton import leaves, positions

SHAPES = [(16, 16), (9, 8), (37, 22), (91, 91), (8, 200)]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_cell_is_in_one_leaf(shape: tuple[int, int], aligned: bool) -> None:
    count = shape[0] * shape[1]
    cells = leaves(shape, 32, aligned)
    inside = cells.ravel()[cells.ravel() < count]
    assert (np.sort(inside) == np.arange(count)).all()
    assert (cells.ravel()[cells.ravel() >= count] == count).all()
    assert (cells.ravel()[positions(cells, count)] == np.arange(count)).all()


@pytest.mark.parametrize(("size", "width", "height"), [(16, 4, 4), (32, 8, 4), (64, 8, 8), (128, 16, 8)])
@pytest.mark.parametrize("shape", SHAPES)
def test_aligned_leaves_are_blocks(shape: tuple[int, int], size: int, width: int, height: int) -> None:
    cells = leaves(shape, size, aligned=True)
    assert len(cells) == -(-shape[0] // width) * -(-shape[1] // height)
    for leaf in cells:
        i, j = np.divmod(leaf[leaf < shape[0] * shape[1]], shape[1])
        assert len(i) > 0
        assert len(set(i // width)) == len(set(j // height)) == 1


def test_alignment_changes_nothing_on_powers_of_two() -> None:
    assert (leaves((64, 32), 64) == leaves((64, 32), 64, aligned=True)).all()


def test_aligned_leaves_want_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        leaves((16, 16), 48, aligned=True)
