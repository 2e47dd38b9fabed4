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
        self._buffers = {
            dtype: (
                self.cells.new_zeros(count + 1, dtype=dtype),
                self.cells.new_zeros(cells.size, dtype=dtype),
            )
            for dtype in (torch.float32, torch.float64)
        }
        self._result = torch.zeros(count, dtype=torch.float32, device=device)

    def gather(self, field: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """``field`` (nx, ny) as rows (K, 1, L) of ``dtype``, padding zero; overwritten by the next call."""
        padded, rows = self._buffers[dtype]
        padded[:-1].copy_(field.reshape(-1))
        torch.index_select(padded, 0, self._flat_cells, out=rows)
        return rows.view(len(self.cells), 1, -1)

    def scatter(self, rows: Tensor, out: Tensor) -> None:
        """``out`` (nx, ny) from ``rows`` (K, 1, L)."""
        torch.index_select(rows.view(-1), 0, self.position, out=self._result)
        out.view(-1).copy_(self._result)
