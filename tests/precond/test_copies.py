"""Copies of rows, found and never invented."""

import torch

from precond.partition.copies import copies


def test_repeated_rows_are_found() -> None:
    kinds = torch.randn(5, 12, dtype=torch.float64)
    drawn = torch.tensor([3, 0, 3, 3, 1, 4, 0, 1, 2, 2, 3])
    values = kinds[drawn]
    unique, kind = copies(values)
    assert len(unique) == 5
    assert torch.equal(values[unique][kind], values)


def test_rows_that_differ_a_little_or_collide_are_kept_apart() -> None:
    values = torch.zeros(4, 3, dtype=torch.float64)
    values[1, 0] = 1.0
    values[2] = torch.tensor([1.0, 1e-6, 0.0], dtype=torch.float64)
    values[3, 0] = torch.nan
    unique, kind = copies(values)
    assert unique.tolist() == [0, 1, 2, 3]
    assert kind.tolist() == [0, 1, 2, 3]
    close = torch.ones(2, 3)
    close[1] += 1e-7
    assert len(copies(close, 1e-5)[0]) == 1


def test_nothing_stands_for_what_it_does_not_equal() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(0, 2, (300, 4), generator=generator).double()
    unique, kind = copies(values)
    assert len(unique) == len({tuple(row) for row in values.tolist()})
    assert torch.equal(values[unique][kind], values)
