"""The coarse system Z r = (U^T A U)^-1 r: a band Cholesky factorisation on the CPU, a dense inverse on a GPU.

On the CPU the leaves are numbered by reverse Cuthill-McKee, which puts neighbours close: the band of a square
grid is as wide as one row of leaves, so factorising costs O(n r^2 m^2) for n leaves in rows of m. Past
WIDEST_BAND a sparse factorisation is the cheaper one.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.csgraph
import torch
from scipy.linalg.blas import dtbsv

from precond.coupling import LeafPairs, assembled
from precond.grounding import inverse_of_factors, symmetric_factors

REGULARISATION = 1e-12  # against kernel vectors that only small leaves can represent
WIDEST_BAND = 400

_factorise_band, _solve_band = scipy.linalg.get_lapack_funcs(("pbtrf", "pbtrs"), dtype=np.float64)


class CoarseSolve:
    """Z of ``count`` leaves with ``rank`` columns each; `factorise`, then `solve`.

    ``dense`` is the form for a GPU, for which every application is one product: `times`.
    """

    def __init__(self, pairs: LeafPairs, count: int, rank: int, dense: bool):
        self._pairs, self._rank, self._size = pairs, rank, count * rank
        self._dense = dense
        if dense:
            device, size = pairs.first.device, (self._size, self._size)
            self._inverse = torch.full(size, torch.nan, dtype=torch.float64, device=device)
            return
        first, second = pairs.first.numpy(), pairs.second.numpy()
        graph = scipy.sparse.coo_array((np.ones(len(first)), (first, second)), shape=(count, count)).tocsr()
        order = scipy.sparse.csgraph.reverse_cuthill_mckee(graph + graph.T, symmetric_mode=True)
        number = np.empty(count, dtype=np.int64)
        number[order] = np.arange(count)
        entry = np.arange(rank)
        rows, columns = np.concatenate([np.arange(count), first]), np.concatenate([np.arange(count), second])
        shape = (len(rows), rank, rank)
        rows = np.broadcast_to((number[rows][:, None] * rank + entry)[:, :, None], shape).ravel()
        columns = np.broadcast_to((number[columns][:, None] * rank + entry)[:, None, :], shape).ravel()
        below = np.maximum(rows, columns) - np.minimum(rows, columns)
        self._width = int(below.max(initial=0)) + 1
        self._place = torch.from_numpy(np.minimum(rows, columns) * self._width + below)
        self._order = (order.astype(np.int64)[:, None] * rank + entry).ravel()
        self._place_of = np.empty_like(self._order)
        self._place_of[self._order] = np.arange(self._size)
        self._banded = self._width <= WIDEST_BAND
        self._entries = (rows, columns)
        self._failed = True

    def factorise(self, diagonal: torch.Tensor, off: torch.Tensor, grounded: torch.Tensor) -> None:
        """Follow new blocks: ``diagonal`` (K, r, r), ``off`` (P, r, r) float64.

        ``grounded`` (K,) is 1 for leaves whose constant column is grounded, else 0.
        """
        diagonal = diagonal.clone()
        own = diagonal.diagonal(dim1=1, dim2=2)
        own *= 1.0 + REGULARISATION
        own[:, 0] += grounded * own[:, 0]
        own += (own == 0.0).to(own.dtype)  # columns without support: decoupled
        if self._dense:
            factor, info = torch.linalg.cholesky_ex(assembled(diagonal, off, self._pairs))
            self._inverse.copy_(inverse_of_factors(factor)).masked_fill_(info != 0, torch.nan)
            return
        values = torch.cat([diagonal.view(-1), off.reshape(-1)])
        self._failed = not bool(torch.isfinite(values).all())
        if self._failed:
            return
        if self._banded:
            band = values.new_zeros(self._size * self._width)
            band[self._place] = values  # the lower band by columns: LAPACK's, in Fortran's order
            band = band.view(self._size, self._width).numpy().T
            self._factor, info = _factorise_band(band, lower=1, overwrite_ab=1)
            self._failed = info != 0
        else:
            self._factor = symmetric_factors(self._sparse(values.numpy()))

    def _sparse(self, values: np.ndarray) -> scipy.sparse.sparray:
        """The matrix in the band's numbering; ``values`` as in `factorise`."""
        rows, columns = self._entries
        off = slice(len(rows) - self._pairs.first.numel() * self._rank**2, None)  # stand there once
        entries = np.append(rows, columns[off]), np.append(columns, rows[off])
        shape = (self._size, self._size)
        return scipy.sparse.coo_array((np.append(values, values[off]), entries), shape=shape).tocsc()

    def solve(self, right: torch.Tensor) -> torch.Tensor:
        """Z ``right`` for ``right`` (K r,) or (K r, m) float64; NaN where factorising failed."""
        if self._dense:
            return self._inverse @ right
        if self._failed:
            return torch.full_like(right, torch.nan)
        numbered = right.numpy().take(self._order, axis=0)
        if not self._banded:
            solved = self._factor.solve(numbered)
        elif right.ndim == 1:  # as pbtrs, without what it costs to ask for one
            solved = dtbsv(self._width - 1, self._factor, numbered, lower=1, overwrite_x=1)
            solved = dtbsv(self._width - 1, self._factor, solved, lower=1, trans=1, overwrite_x=1)
        else:
            solved, _ = _solve_band(self._factor, numbered, lower=1)
        return torch.from_numpy(solved.take(self._place_of, axis=0))

    def times(self, right: torch.Tensor, out: torch.Tensor) -> None:
        """``out`` = Z ``right``, both (K r,) float64; of the dense form alone."""
        torch.mv(self._inverse, right, out=out)
