"""The far-field basis as a sparse matrix, for the CPU: many small products cost more to call than to do."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch

from precond.leaf_vectors import LeafVectors


class SparseBasis:
    """U between grid vectors (nx ny,) and coefficients (K r,), float64, on the CPU.

    ``order`` (K r,) says where each coefficient stands leaf by leaf, as CoarseSolve.order.
    """

    def __init__(self, vectors: LeafVectors, rank: int, order: np.ndarray):
        cells = vectors.cells.numpy()  # (K, L)
        count, leaf_size = cells.shape
        self._cells = len(vectors.position)
        entries = np.arange(count * leaf_size * rank).reshape(count, leaf_size, rank)  # of the flat basis
        number = np.empty_like(order)
        number[order] = np.arange(len(order))
        exists = (cells < self._cells)[..., None]
        rows = np.broadcast_to(cells[..., None], entries.shape)
        columns = np.broadcast_to(number.reshape(count, 1, rank), entries.shape)
        exists = np.broadcast_to(exists, entries.shape)
        rows, columns, entries = rows[exists], columns[exists], entries[exists]
        shape = (self._cells, count * rank)
        self._prolongation, self._to_prolongation = _matrix(rows, columns, entries, shape)
        self._restriction, self._to_restriction = _matrix(columns, rows, entries, shape[::-1])

    def take(self, basis: torch.Tensor) -> None:
        """Follow a new ``basis`` (K, L, r)."""
        values = basis.double().numpy().ravel()
        np.take(values, self._to_prolongation, out=self._prolongation.data)
        np.take(values, self._to_restriction, out=self._restriction.data)

    def restrict(self, vector: np.ndarray) -> np.ndarray:
        """U^T ``vector``."""
        return self._restriction @ vector

    def prolong(self, coefficients: np.ndarray) -> np.ndarray:
        """U ``coefficients``."""
        return self._prolongation @ coefficients


def _matrix(
    rows: np.ndarray, columns: np.ndarray, entries: np.ndarray, shape: tuple[int, int]
) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """A matrix of this pattern without values, and which of ``entries`` each of its values is."""
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    arrays = (np.zeros(len(order)), columns[order].astype(np.int32), starts.astype(np.int32))
    return scipy.sparse.csr_array(arrays, shape=shape), entries[order]
