"""Exact inverses of the operator's diagonal blocks along the Morton curve, uncoupled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precond.factorisation import inverse_of_factors
from precond.host import leaves as host
from precond.host import threads
from precond.host.compiled import available
from precond.partition.copies import copies
from precond.partition.leaf_faces import LeafFaces, face_weights
from precond.partition.leaf_vectors import LeafVectors
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, Stage

DRIFT = 0.3  # change of a face's weight, as a share of it, up to which `update` keeps a leaf's inverse


class BlockJacobi(Preconditioner):
    """M = blockdiag(D_k^-1), D_k the block of A of the ``leaf_size`` cells of leaf k; factorised in float64,
    inverted and kept in float32. ``aligned`` is explained at precond.partition.morton.leaves.

    On the CPU aligned leaves that are multiples of one another, as all inside one phase are, share one
    factorisation (unless not ``shared``), and `update` keeps the inverse of a leaf none of whose faces
    drifted: D_k is a sum over its faces, each times its weight, so with no weight further than ``drift`` from
    what it was, D_k lies between 1 - drift and 1 + drift times the block whose inverse is kept.

    Cells without couplings and the padding of the last leaf are decoupled rows of the identity, scaled. A
    sealed component that lies within one leaf makes its block singular: the diagonal of its anchor is
    doubled.

    Attributes, on the operator's device: blocks (K, L, L) float64, the D_k behind inverses (K, L, L) float32,
    which are the present ones but for leaves kept by `update`. coupled (K, L) bool, False on padding, on
    solids and in components within one leaf, which a set-up M solves exactly. weights (faces + 1,) float64,
    the present leaf_faces.face_weights. faces: LeafFaces. changed (k,) int64, the leaves that the last
    `update` inverted.
    """

    name = "block-jacobi"
    capturable = True

    def __init__(
        self,
        operator: PoissonOperator,
        leaf_size: int = 128,
        aligned: bool = False,
        shared: bool = True,
        drift: float = DRIFT,
    ):
        super().__init__(operator)
        if not isinstance(leaf_size, int) or not 2 <= leaf_size <= 1024:
            raise ValueError(f"leaf_size must be a whole number from 2 to 1024, not {leaf_size}")
        device, self._drift = operator.device, drift
        self.vectors = LeafVectors(operator.shape, leaf_size, device, aligned)
        self.position = self.vectors.position
        position, count = self.position.cpu().numpy(), len(self.vectors.cells)
        self._leaf = position // leaf_size  # of each cell
        self.faces = LeafFaces.of(operator, position, leaf_size)
        self._shared = shared and aligned and device.type == "cpu" and available()
        zeros = operator.diagonal().new_zeros
        self.blocks = zeros(count, leaf_size, leaf_size)
        self.inverses = torch.zeros((count, leaf_size, leaf_size), dtype=torch.float32, device=device)
        self._diagonals = self.blocks.diagonal(dim1=1, dim2=2)
        self._pinning = zeros(count, leaf_size)
        self._solved = torch.zeros((count, 1, leaf_size), dtype=torch.float32, device=device)
        self.weights = zeros(self.faces.leaves.shape[1] + 1)
        self._inverted = zeros(self.faces.face.shape)
        self._diagonal = zeros(position.size + 1)  # with an end for the padding
        self.changed = torch.arange(count)
        self._compiled = device.type == "cpu" and available()
        if self._compiled:
            self._arrays = self.vectors.cells.numpy(), self.inverses.numpy()
            self._order = np.argsort(self.vectors.cells.numpy(), axis=1)  # in which blocks are narrow bands
            rank = np.argsort(self._order, axis=1)
            ends = np.divmod(self.faces.entries[0].numpy() % leaf_size**2, leaf_size)  # (K, F) each
            first, second = (np.take_along_axis(rank, end, axis=1) for end in ends)
            self._width = int(np.abs(first - second).max())
        if self._shared:
            entries = self.faces.entries[0].view(-1) % leaf_size**2
            own = torch.arange(leaf_size) * (leaf_size + 1)
            self._pattern = torch.unique(torch.cat([own, entries]))  # where a leaf's block may hold something

    def _update_geometry(self) -> None:
        """Mark the anchors of components that lie within one leaf."""
        operator, cells = self.operator, self.vectors.cells.cpu().numpy()
        labels, anchors = operator.labels.ravel(), operator.anchors.cpu().numpy()
        fluid = labels >= 0
        closed = np.ones(operator.components, dtype=bool)
        closed[labels[fluid & (self._leaf != self._leaf[anchors][labels])]] = False
        factor = np.ones(self._leaf.size + 1)
        factor[anchors[closed & operator.sealed]] = 2.0
        self._pinning.copy_(torch.from_numpy(factor[cells]))
        coupled = np.append(fluid & ~closed[labels], False)[cells]
        self.coupled = torch.from_numpy(coupled).to(operator.device)  # (K, L)

    def update_changed(self) -> tuple[np.ndarray, Tensor]:
        """All of `update` as part of another preconditioner's, on the CPU: the faces whose weight changed
        since the last call, (m,) int64 into face_weights, and the leaves that they touch, (k,).
        """
        before = self.weights.numpy().copy()
        face_weights(self.operator, out=self.weights)
        faces = np.flatnonzero(self.weights.numpy() != before)
        touched = np.zeros(len(self.blocks), dtype=bool)
        touched[self.faces.leaves[:, faces]] = True
        leaves = torch.from_numpy(np.flatnonzero(touched))
        now, then = self.weights[self.faces.face[leaves]], self._inverted[leaves]
        kept = (now >= (1.0 - self._drift) * then) & (
            now <= (1.0 + self._drift) * then
        )  # never what is not finite
        self.changed = leaves[~kept.all(dim=1)]
        if len(self.changed):
            self._assemble(self.changed)
            self._invert(self.changed)
        return faces, leaves

    def _setup(self) -> None:
        face_weights(self.operator, out=self.weights)
        self._assemble(slice(None))
        if not self._shared:
            self._invert(slice(None))
            return
        values = self.blocks.view(len(self.blocks), -1)[:, self._pattern]
        scale = values.amax(dim=1)  # (K,)
        unique, kind = copies(values / scale[:, None])
        self._invert(unique)
        inverses = self.inverses[unique][kind]
        torch.mul(inverses, (scale[unique][kind] / scale).float()[:, None, None], out=self.inverses)

    def _invert(self, leaves: Tensor | slice) -> None:
        """The inverses of ``leaves``, (k,) int64 or a slice, float32."""
        blocks = self.blocks[leaves]
        if self._compiled:
            which = np.arange(len(self.blocks))[leaves if isinstance(leaves, slice) else leaves.numpy()]
            self._share(
                lambda a, b: host.invert(
                    blocks.numpy()[a:b], which[a:b], self._order, self._width, self._arrays[1]
                ),
                len(which),
            )
            return
        factors = torch.linalg.cholesky_ex(blocks).L.float()
        if blocks.device.type == "cpu":
            self.inverses[leaves] = torch.cholesky_inverse(factors)
        else:
            self.inverses[leaves] = inverse_of_factors(factors)  # the other one asks whether it went well

    def _share(self, call: Callable[[int, int], None], count: int) -> None:
        """``call(begin, end)`` on ``count`` leaves, in several threads on a large grid."""
        threads.run_rows(call, count, threads.chunks(count, self.operator.fluid.numel()))

    def _update_stages(self) -> list[Stage]:
        if self.operator.device.type != "cpu":  # which leaves changed is not for the host to know
            return self._stages()
        return [("setup", self.update_changed)]

    def _assemble(self, which: Tensor | slice) -> None:
        """The blocks of the leaves ``which``, of the operator's present coefficients."""
        weights = self.weights[self.faces.face[which]]  # (k, F)
        self._inverted[which] = weights
        couplings = weights.neg_().expand(2, *weights.shape)
        self.blocks.view(-1).index_put_((self.faces.entries[:, which],), couplings)
        self._diagonal[:-1].copy_(self.operator.diagonal().view(-1))
        diagonal = self._diagonal[self.vectors.cells[which]].mul_(self._pinning[which])  # (k, L)
        largest = diagonal.amax(dim=1, keepdim=True)  # decoupled rows get it, in whatever unit the density is
        largest.masked_fill_(largest == 0.0, 1.0)
        # last: faces to other leaves and the table's padding have written to the diagonal
        self._diagonals[which] = torch.where(diagonal == 0.0, largest, diagonal)

    def solve(self, rows: Tensor) -> Tensor:
        """D^-1 ``rows``, (K, 1, L) float32; overwritten by the next call. As rows: columns are far slower."""
        return torch.bmm(rows, self.inverses.mT, out=self._solved)

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        if self._compiled:
            residual, out, (cells, inverses) = (
                residual.reshape(-1).numpy(),
                out.view(-1).numpy(),
                self._arrays,
            )
            self._share(lambda a, b: host.solve(residual, cells[a:b], inverses[a:b], out), len(cells))
            return
        self.vectors.scatter(self.solve(self.vectors.gather(residual)), out)
