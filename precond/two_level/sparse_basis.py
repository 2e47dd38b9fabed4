"""The far-field basis as a sparse matrix, for the CPU: many small products cost more to call than to do."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch

from precond.partition.leaf_vectors import LeafVectors


class SparseBasis:
    """U between grid vectors (nx ny,) and coefficients (K r,), float64, on the CPU.

    ``number`` (K r,) is that of each coefficient, leaf by leaf, as CoarseSolve.number.
    """

    def __init__(self, vectors: LeafVectors, rank: int, number: np.ndarray):
        cells = vectors.cells.numpy()[..., None]  # (K, L, 1)
        count, leaf_size, _ = cells.shape
        entries = np.arange(count * leaf_size * rank).reshape(count, leaf_size, rank)  # of the flat basis
        arrays = np.broadcast_arrays(cells, number.reshape(count, 1, rank), entries)
        rows, columns, entries = (array[arrays[0] < len(vectors.position)] for array in arrays)
        shape = (len(vectors.position), count * rank)
        pattern = scipy.sparse.coo_array((entries, (rows, columns)), shape=shape).tocsr()
        self._prolongation, self._to_prolongation = _emptied(pattern)
        self._restriction, self._to_restriction = _emptied(pattern.T.tocsr())

    def update(self, basis: torch.Tensor) -> None:
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


def _emptied(pattern: scipy.sparse.csr_array) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """A matrix of this pattern without values, and what stood in ``pattern`` for each of them."""
    arrays = (np.zeros(pattern.nnz), pattern.indices.astype(np.int32), pattern.indptr.astype(np.int32))
    return scipy.sparse.csr_array(arrays, shape=pattern.shape), pattern.data
