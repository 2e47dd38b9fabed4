"""Products with the leaves' inverses and with the columns of a coarse space, and those inverses. Grid vectors
are flat (nx ny,) float64; ``cells`` (K, L) are the leaves' cells, nx ny on padding.
"""

from __future__ import annotations

import math

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray


@compiled
def solve(residual: Array, cells: Array, inverses: Array, out: Array) -> None:
    """``out`` <- blockdiag(``inverses``) ``residual``, inverses (K, L, L) float32."""
    values = np.empty(cells.shape[1], dtype=np.float32)
    for k in range(cells.shape[0]):
        for a in range(cells.shape[1]):
            cell = cells[k, a]
            values[a] = residual[cell] if cell < residual.size else 0.0
        for a in range(cells.shape[1]):
            row, total = inverses[k, a], np.float32(0.0)
            for b in range(cells.shape[1]):
                total += row[b] * values[b]
            if cells[k, a] < out.size:
                out[cells[k, a]] = total


@compiled
def restrict(residual: Array, cells: Array, basis: Array, first: Array, out: Array) -> None:
    """``out`` (K r,) float64 <- U^T ``residual``, ``basis`` (K, L, r); leaf k's part begins at
    ``first[k]``."""
    for k in range(cells.shape[0]):
        part = out[first[k] : first[k] + basis.shape[2]]
        part[:] = 0.0
        for a in range(cells.shape[1]):
            cell, row = cells[k, a], basis[k, a]
            if cell < residual.size:
                value = residual[cell]
                for q in range(basis.shape[2]):
                    part[q] += row[q] * value


@compiled
def prolong(coefficients: Array, cells: Array, basis: Array, first: Array, out: Array) -> None:
    """``out`` += U ``coefficients``, as for `restrict`."""
    for k in range(cells.shape[0]):
        part = coefficients[first[k] : first[k] + basis.shape[2]]
        for a in range(cells.shape[1]):
            cell, row, total = cells[k, a], basis[k, a], 0.0
            for q in range(basis.shape[2]):
                total += row[q] * part[q]
            if cell < out.size:
                out[cell] += total


@compiled
def invert(blocks: Array, which: Array, order: Array, width: int, out: Array) -> None:
    """``out[which]`` <- the float32 inverses of ``blocks`` (k, L, L) float64, positive definite; NaN where
    one is not. In the ``order`` (K, L) of its leaf a block is a band with ``width`` entries beside its
    diagonal.
    """
    size = blocks.shape[1]
    band, inverse = np.zeros((size, width + 1)), np.zeros((size, size))  # row i: columns i - width to i
    for k in range(len(which)):
        block, places, result = blocks[k], order[which[k]], out[which[k]]
        for i in range(size):
            low = max(i - width, 0)
            for j in range(low, i + 1):
                total = block[places[i], places[j]]
                for m in range(max(low, j - width), j):
                    total -= band[i, width + m - i] * band[j, width + m - j]
                band[i, width + j - i] = 1.0 / math.sqrt(total) if j == i else total * band[j, width]
        for i in range(size):  # the factor's inverse, row by row
            row = inverse[i]
            row[:] = 0.0
            row[i] = 1.0
            for m in range(max(i - width, 0), i):
                factor, other = band[i, width + m - i], inverse[m]
                for j in range(i):
                    row[j] -= factor * other[j]
            for j in range(i + 1):
                row[j] *= band[i, width]
        for i in range(size - 1, -1, -1):
            row = inverse[i]
            for m in range(i + 1, min(i + width, size - 1) + 1):
                factor, other = band[m, width + i - m], inverse[m]
                for j in range(size):
                    row[j] -= factor * other[j]
            for j in range(size):
                row[j] *= band[i, width]
            for j in range(i + 1):
                result[places[i], places[j]] = result[places[j], places[i]] = row[j]
