"""The partition covers every pair of leaves exactly once."""

import numpy as np
import pytest
import torch

from precond.partition.tiles import Tiles, tiles


@pytest.mark.parametrize("count", [*range(1, 41), 64, 130])
def test_every_pair_is_covered_once(count):
    cover = np.zeros((count, count), dtype=int)
    table = tiles(count)
    assert table.shape == (count - 1, 3)
    for row, column, size in table:
        assert size & (size - 1) == 0
        assert row + size <= column < count
        cover[row : row + size, column : column + size] += 1
    np.testing.assert_array_equal(cover + cover.T, 1 - np.eye(count, dtype=int))


@pytest.mark.parametrize("count", [1, 2, 7, 16, 130])
def test_tensors_agree_with_the_table(count):
    table, tensors = tiles(count), Tiles.of(count)
    assert tensors.rows.shape == tensors.columns.shape == (count - 1, count)
    for (row, column, size), in_row, in_column in zip(table, tensors.rows, tensors.columns, strict=True):
        assert in_row.nonzero().flatten().tolist() == list(range(row, row + size))
        assert in_column.nonzero().flatten().tolist() == list(range(column, min(column + size, count)))


@pytest.mark.parametrize("count", [1, 2, 5, 8, 13])
def test_strip_sums_are_runs_along_the_curve(count):
    length, width = 4, 3
    tokens = torch.randn(count, length, width, dtype=torch.float64)
    row_strips, column_strips = Tiles.of(count).strip_sums(tokens)
    padded = torch.cat([tokens, torch.zeros(64, length, width, dtype=torch.float64)])
    for (row, column, size), rows, columns in zip(tiles(count), row_strips, column_strips, strict=True):
        for start, strip in ((row, rows), (column, columns)):
            expected = padded[start : start + size].reshape(length, size, width).sum(dim=1)
            torch.testing.assert_close(strip, expected)
