"""Grid vectors leaf by leaf and back."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.partition.morton import leaves, positions


class LeafVectors:
    """Moves (nx, ny) float64 fields to (K, 1, L) float32 rows along the Morton curve and back, in static
    buffers. cells: (K, L) int64 flat cells, nx ny on padding. position: (nx ny,) int64, the inverse.
    """

    def __init__(self, shape: tuple[int, int], leaf_size: int, device: torch.device, aligned: bool = False):
        count = shape[0] * shape[1]
        cells = leaves(shape, leaf_size, aligned)  # (K, L)
        self.cells = torch.from_numpy(cells).to(device)
        self.position = torch.from_numpy(positions(cells, count)).to(device)
        self._flat_cells = self.cells.view(-1)
        self._padded = torch.zeros(count + 1, dtype=torch.float64, device=device)
        self._padded_single = torch.zeros(count + 1, dtype=torch.float32, device=device)
        self._gathered = torch.zeros(cells.size, dtype=torch.float64, device=device)
        self._rows = torch.zeros((len(cells), 1, leaf_size), dtype=torch.float32, device=device)
        self._result = torch.zeros(count, dtype=torch.float32, device=device)

    def gather_double(self, field: Tensor) -> Tensor:
        """``field`` (nx, ny) as (K, L) float64, padding zero; overwritten by the next call."""
        self._padded[:-1].copy_(field.reshape(-1))
        torch.index_select(self._padded, 0, self._flat_cells, out=self._gathered)
        return self._gathered.view_as(self.cells)

    def gather(self, field: Tensor) -> Tensor:
        """``field`` (nx, ny) as rows (K, 1, L), padding zero; overwritten by the next call."""
        self._padded_single[:-1].copy_(field.reshape(-1))
        torch.index_select(self._padded_single, 0, self._flat_cells, out=self._rows.view(-1))
        return self._rows

    def scatter(self, rows: Tensor, out: Tensor) -> None:
        """``out`` (nx, ny) from ``rows`` (K, 1, L)."""
        torch.index_select(rows.view(-1), 0, self.position, out=self._result)
        out.view(-1).copy_(self._result)
