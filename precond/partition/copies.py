"""Leaves that are copies of one another: a region of a single phase needs one inverse."""

from __future__ import annotations

import torch
from torch import Tensor

SAME = 1e-9  # largest difference, relative to the largest value, between copies


def copies(values: Tensor, tolerance: float = SAME) -> tuple[Tensor, Tensor]:
    """The rows of ``values`` (K, m) that others repeat: indices (U,) int64 of one row of every kind, and for
    each row the place (K,) int64 of its kind among them.

    Candidates are found by a random projection and then compared entry by entry, so a kind may appear twice
    but never stands for rows that differ by more than ``tolerance`` of the largest value. Where one holds NaN
    or infinity every row is its own kind. On the host.
    """
    weights = torch.rand(values.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    size = values.abs().amax().clamp(min=1e-300)
    keys = values.double() @ weights / size
    keys = (keys / (values.shape[1] * max(tolerance, SAME))).round()
    _, kind = torch.unique(keys, return_inverse=True)
    rows = torch.arange(len(values))
    first = torch.full((int(kind.max()) + 1,), len(values)).scatter_reduce_(0, kind, rows, "amin")[kind]
    alike = (values - values[first]).abs().amax(dim=1) <= tolerance * size
    leader = torch.where(alike, first, rows)
    return torch.unique(leader, return_inverse=True)
