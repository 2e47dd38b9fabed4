"""The tree over aligned leaves: boxes halved across x and y in turn, by place and not by number."""

import itertools

import numpy as np
import pytest
import torch

from precond.partition.morton import leaves, positions
from precond.partition.tiles import Tiles, tile_of, tiles
from precond.partition.tree import LeafTree
from precond.poisson import PoissonOperator
from precond.two_level.coarse_operator import LeafPairs

GRIDS = [
    ((32, 32), 64),
    ((32, 32), 32),
    ((40, 8), 64),
    ((8, 120), 64),
    ((91, 13), 64),
    ((17, 28), 16),
    ((46, 45), 32),
    ((120, 40), 64),
    ((9, 8), 64),
    ((8, 8), 64),
]


def tree_of(shape, leaf_size):
    """The tree, the leaves' cells (K, L), and the pairs that it was made of, (p, 2)."""
    cells = leaves(shape, leaf_size, aligned=True)
    operator = PoissonOperator.from_density(np.ones(shape))
    pairs = LeafPairs.of(operator, positions(cells, shape[0] * shape[1]), leaf_size)
    tree = LeafTree(shape, cells, pairs.first, pairs.second)
    return tree, cells, torch.stack([pairs.first, pairs.second], dim=1).numpy()


def boxes(shape, cells, nodes):
    """Of every node its lowest and highest existing cell along x and y: {node: ((2,), (2,))}."""
    found = {}
    for node in np.unique(nodes):
        inside = cells[nodes == node].ravel()
        places = np.stack(np.divmod(inside[inside < shape[0] * shape[1]], shape[1]))
        found[int(node)] = places.min(axis=1), places.max(axis=1)
    return found


@pytest.mark.parametrize(("shape", "leaf_size"), GRIDS)
def test_slots_rise_and_levels_are_no_more_than_needed(shape, leaf_size):
    tree, cells, _ = tree_of(shape, leaf_size)
    slots = tree.slots.numpy()
    assert (np.diff(slots) > 0).all()
    assert slots[0] >= 0
    assert slots[-1] < tree.count == 1 << tree.levels
    sides = 1 << np.array([leaf_size.bit_length() // 2, (leaf_size.bit_length() - 1) // 2])
    wide, high = -(-np.array(shape) // sides)
    assert len(cells) == wide * high
    assert tree.count == (1 << int(wide - 1).bit_length()) * (1 << int(high - 1).bit_length())
    assert len(tree.axis) == tree.levels


@pytest.mark.parametrize("leaf_size", [16, 32, 64])
@pytest.mark.parametrize("side", [16, 32, 64])
def test_on_squares_it_is_the_tree_of_the_morton_numbers(side, leaf_size):
    tree, cells, _ = tree_of((side, side), leaf_size)
    count = len(cells)
    np.testing.assert_array_equal(tree.slots.numpy(), np.arange(count))
    first, second = tree.first.numpy(), tree.second.numpy()
    expected = tile_of(count, first, second)
    for level, (start, end) in enumerate(itertools.pairwise(tree.ends)):
        assert (tiles(count)[expected[start:end]][:, 2] == 1 << level).all()
        np.testing.assert_array_equal(tree.tiles[level].numpy()[first[start:end]], expected[start:end])
    by_number, by_place = Tiles.of(count), Tiles.of_tree(tree)
    for one, other in zip(vars(by_number).values(), vars(by_place).values(), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


@pytest.mark.parametrize(("shape", "leaf_size"), GRIDS)
def test_every_pair_of_neighbours_lies_in_one_tile(shape, leaf_size):
    tree, cells, pairs = tree_of(shape, leaf_size)
    position = positions(cells, shape[0] * shape[1]).reshape(shape) // leaf_size  # the leaf of each cell
    expected = set()
    for one, other in ((position[1:], position[:-1]), (position[:, 1:], position[:, :-1])):
        touching = one != other
        expected |= set(zip(*np.sort([one[touching], other[touching]], axis=0), strict=True))
    assert len(tree.pairs) == len(pairs) == len(expected)
    assert set(map(tuple, pairs[tree.pairs.numpy()])) == expected
    slots, first, second = tree.slots.numpy(), tree.first.numpy(), tree.second.numpy()
    np.testing.assert_array_equal(np.stack([first, second], axis=1), slots[pairs[tree.pairs.numpy()]])
    assert (len(tree.ends), tree.ends[0], tree.ends[-1]) == (tree.levels + 1, 0, len(pairs))
    for level, (start, end) in enumerate(itertools.pairwise(tree.ends)):
        a, b = first[start:end], second[start:end]
        assert (a >> level + 1 == b >> level + 1).all()
        assert (a >> level != b >> level).all()
    assert len(torch.unique(tree.tiles)) == len({tuple(t) for t in boxes_of_tiles(tree)})


def boxes_of_tiles(tree):
    """(level, node) of every tile that holds a leaf."""
    return [(level, int(slot) >> level + 1) for level in range(tree.levels) for slot in tree.slots]


@pytest.mark.parametrize(("shape", "leaf_size"), GRIDS)
def test_siblings_lie_side_by_side_along_the_axis(shape, leaf_size):
    tree, cells, _ = tree_of(shape, leaf_size)
    slots, met = tree.slots.numpy(), 0
    for level, axis in enumerate(tree.axis):
        found = boxes(shape, cells, slots >> level)
        for node, (low, high) in found.items():
            if node % 2 or node + 1 not in found:
                continue
            met += 1
            next_low, next_high = found[node + 1]
            assert next_low[axis] == high[axis] + 1
            assert (low[1 - axis], high[1 - axis]) == (next_low[1 - axis], next_high[1 - axis])
    assert met == len(cells) - 1  # every halving in two


@pytest.mark.parametrize(("shape", "leaf_size"), GRIDS)
def test_side_goes_from_0_to_1_along_the_face(shape, leaf_size):
    tree, cells, _ = tree_of(shape, leaf_size)
    exists, slots = cells < shape[0] * shape[1], tree.slots.numpy()
    assert tree.side.shape == (tree.levels, *cells.shape)
    assert (tree.side >= 0.0).all()
    assert (tree.side <= 1.0).all()
    for level, axis in enumerate(tree.axis):
        side = tree.side[level].numpy()
        assert (side[~exists] == 0.0).all()
        found = boxes(shape, cells, slots >> level)
        for leaf, node in enumerate(slots >> level):
            low, high = (end[1 - axis] for end in found[int(node)])
            places = np.divmod(cells[leaf], shape[1])[1 - axis]
            expected = (places - low + 0.5) / (high - low + 1)
            np.testing.assert_allclose(side[leaf][exists[leaf]], expected[exists[leaf]])
            np.testing.assert_array_less(side[leaf][exists[leaf]], 1.0)
