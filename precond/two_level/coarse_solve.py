"""The coarse system Z r = (U^T A U)^-1 r: a band Cholesky factorisation on the CPU, a dense inverse on a GPU,
where large systems get a level of their own (precond.two_level.coarse_level).

On the CPU the leaves are numbered row after row (precond.partition.morton.leaf_numbers), so the band is as
wide as one row of leaves and one more: factorising n leaves in rows of m, r columns each, costs O(n r^3 m^2).
Past WIDEST_BAND a sparse factorisation is the cheaper one.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse
import torch
from scipy.linalg.blas import dtbsv
from torch import Tensor

from precond.factorisation import inverse_of_factors, symmetric_factors
from precond.two_level.coarse_operator import Pairs, assembled

REGULARISATION = 1e-12  # against kernel vectors that only small leaves can represent
WIDEST_BAND = 400

_factorise_band, _solve_band = scipy.linalg.get_lapack_funcs(("pbtrf", "pbtrs"), dtype=np.float64)


def made_definite(diagonal: Tensor, pinned: Tensor) -> None:
    """Change A_c's diagonal blocks (k, r, r): pin the constant column where ``pinned`` (k,) is 1."""
    own = diagonal.diagonal(dim1=1, dim2=2)
    own *= 1.0 + REGULARISATION
    own[:, 0] += pinned * own[:, 0]
    own += (own == 0.0).to(own.dtype)  # columns without support: decoupled


def _room(count: int, pairs: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks in one row, and of it those of ``count`` leaves and of ``pairs``."""
    blocks = torch.zeros((count + pairs) * rank**2, dtype=torch.float64)
    own = count * rank**2
    return blocks, blocks[:own].view(-1, rank, rank), blocks[own:].view(-1, rank, rank)


class DenseCoarseSolve:
    """Z for a GPU, a dense inverse of ``count`` leaves with ``rank`` columns each: `place`, `factorise`, then
    `solve`, one product. The rest is what levels above it (precond.two_level.coarse_level) need.
    """

    crossing: tuple[Tensor, ...] = ()

    def __init__(self, pairs: Pairs, count: int, rank: int):
        self._pairs = pairs
        kind = {"dtype": torch.float64, "device": pairs.first.device}
        self._diagonal = torch.zeros((count, rank, rank), **kind)
        self._off = torch.zeros((len(pairs.first), rank, rank), **kind)
        self._inverse = torch.full((count * rank, count * rank), torch.nan, **kind)

    def update_geometry(self, length: Tensor) -> None:
        """Nothing of it depends on the solids."""

    def place(self, diagonal: Tensor, off: Tensor, pinned: Tensor) -> None:
        """As CoarseSolve.place, all blocks."""
        made_definite(diagonal, pinned)
        self._diagonal.copy_(diagonal)
        self._off.copy_(off)

    def factorise(self) -> None:
        """Follow the blocks that were placed."""
        factor, info = torch.linalg.cholesky_ex(assembled(self._diagonal, self._off, self._pairs))
        self._inverse.copy_(inverse_of_factors(factor)).masked_fill_(info != 0, torch.nan)

    def solve(self, right: Tensor, out: Tensor) -> Tensor:
        """``out`` = Z ``right``, (K r,) float64, leaf by leaf; NaN if factorising failed."""
        return torch.matmul(self._inverse, right, out=out)


class CoarseSolve:
    """Z on the CPU, of K leaves with ``rank`` columns each, as they are numbered, (K,) int64: `place` all
    blocks, `factorise`, then `solve`. Blocks that changed are placed again before the next `factorise`.

    number (K r,) int64 is that of each unknown, leaf by leaf, and failed says whether there is no
    factorisation.
    """

    def __init__(self, pairs: Pairs, number: np.ndarray, rank: int):
        count = len(number)
        self._size = count * rank
        numbers = number[:, None] * rank + np.arange(rank)  # (K, r)
        rows = np.concatenate([numbers, numbers[pairs.first.numpy()]])[:, :, None]
        columns = np.concatenate([numbers, numbers[pairs.second.numpy()]])[:, None, :]
        rows, columns = np.broadcast_arrays(rows, columns)  # (K + P, r, r)
        below = np.abs(rows - columns)
        self._width = int(below.max(initial=0)) + 1
        self._banded = self._width <= WIDEST_BAND
        if self._banded:
            places = np.minimum(rows, columns) * self._width + below  # in the lower band by columns
            self._diagonal_places, self._off_places = places[:count], places[count:]
            self._band = np.zeros(self._size * self._width)
        else:
            self._blocks, self._diagonal, self._off = _room(count, len(pairs.first), rank)
            self._entries = (rows.ravel(), columns.ravel())
        self.number = numbers.ravel()
        self._order = np.argsort(self.number)
        self.failed = True

    def place(
        self, leaves: Tensor | slice, diagonal: Tensor, pairs: Tensor | slice, off: Tensor, pinned: Tensor
    ) -> None:
        """Take the blocks ``diagonal`` (k, r, r), which it changes, of ``leaves`` and ``off`` (p, r, r) of
        ``pairs``, all float64; those are (k,) and (p,) int64, or slices. ``pinned`` (k,) is 1 for leaves
        whose constant column is pinned, else 0.
        """
        made_definite(diagonal, pinned)
        if self._banded:
            self._band[self._diagonal_places[leaves]] = diagonal.numpy()
            self._band[self._off_places[pairs]] = off.numpy()
        else:
            self._diagonal[leaves] = diagonal
            self._off[pairs] = off

    def factorise(self) -> None:
        """Follow the blocks that were placed. The sparse form does not notice an indefinite matrix."""
        self.failed = True
        if self._banded:
            band = self._band.reshape(self._size, self._width).T  # as LAPACK has it, in Fortran's order
            self._factor, info = _factorise_band(band.copy(order="F"), lower=1, overwrite_ab=1)
            self.failed = info != 0 or not np.isfinite(self._factor[0].sum())  # LAPACK may let NaN pass
        elif bool(torch.isfinite(self._blocks).all()):
            (rows, columns), values = self._entries, self._blocks.numpy()
            off = slice(self._diagonal.numel(), None)  # stand there once
            entries = np.append(rows, columns[off]), np.append(columns, rows[off])
            matrix = (np.append(values, values[off]), entries)
            self._factor = symmetric_factors(scipy.sparse.coo_array(matrix, shape=(self._size, self._size)))
            self.failed = False

    def solve(self, right: Tensor) -> Tensor:
        """Z ``right`` for ``right`` (K r,) or (K r, m) float64, leaf by leaf; NaN if factorising failed."""
        return torch.from_numpy(self.solve_numbered(right.numpy()[self._order])[self.number])

    def solve_numbered(self, right: np.ndarray) -> np.ndarray:
        """As `solve` on the CPU, with unknowns as they are numbered; may overwrite ``right``."""
        if self.failed:
            return np.full_like(right, np.nan)
        if not self._banded:
            return self._factor.solve(right)
        if right.ndim > 1:
            return _solve_band(self._factor, right, lower=1)[0]
        below = self._width - 1  # as pbtrs, without what it costs to ask for one
        half = dtbsv(below, self._factor, right, lower=1, overwrite_x=1)
        return dtbsv(below, self._factor, half, lower=1, trans=1, overwrite_x=1)
