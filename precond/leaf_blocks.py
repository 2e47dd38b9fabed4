"""Exact inverses of the operator's diagonal blocks along the Morton curve, uncoupled."""

from __future__ import annotations

import numpy as np
import torch

from precond.leaf_vectors import LeafVectors
from precond.operator import PoissonOperator
from precond.preconditioner import Preconditioner


class LeafBlocks(Preconditioner):
    """M = blockdiag(D_k^-1), D_k the block of A of the ``leaf_size`` cells of leaf k; factorised in float64,
    kept in float32. ``aligned`` is explained at precond.ordering.leaves.

    ``coupled`` (K, L) is False on padding, on solids and in components within one leaf, which M solves
    exactly. Cells without couplings and the padding of the last leaf are decoupled rows of the identity. A
    fluid component that lies within one leaf makes its block singular: the diagonal of its anchor is doubled.
    """

    name = "leaf-blocks"
    capturable = True

    def __init__(self, operator: PoissonOperator, leaf_size: int = 128, aligned: bool = False):
        super().__init__(operator)
        if not isinstance(leaf_size, int) or not 2 <= leaf_size <= 1024:
            raise ValueError(f"leaf_size must be a whole number from 2 to 1024, not {leaf_size}")
        nx, ny = operator.shape
        n = nx * ny
        device = operator.device
        self.vectors = LeafVectors(operator.shape, leaf_size, device, aligned)
        count = len(self.vectors.cells)
        position = self.vectors.position.cpu().numpy()  # of each cell in the flat (K, L)
        self._leaf = position // leaf_size
        targets, sources = [], []
        for step, faces in (
            (ny, n - ny),
            (1, n - 1),
        ):  # x faces, y faces; the weight of a face where a row ends is zero
            first = np.arange(faces)
            here, there = position[first], position[first + step]
            same = here // leaf_size == there // leaf_size
            targets.append(
                np.stack([here * leaf_size + there % leaf_size, there * leaf_size + here % leaf_size])
            )
            targets[-1] = targets[-1][:, same]
            sources.append(first[same])
        self._targets = [
            torch.from_numpy(t).to(device) for t in targets
        ]  # (2, faces) entries of the flat blocks
        self._sources = [torch.from_numpy(s).to(device) for s in sources]
        self.position = self.vectors.position
        self.blocks = torch.zeros((count, leaf_size, leaf_size), dtype=torch.float64, device=device)
        self._inverses = torch.zeros((count, leaf_size, leaf_size), dtype=torch.float32, device=device)
        self._diagonals = self.blocks.diagonal(dim1=1, dim2=2)
        self._grounded = torch.zeros(operator.shape, dtype=torch.float64, device=device)
        self._topology = -1
        self._grounded_diagonal = torch.zeros(operator.shape, dtype=torch.float64, device=device)
        self._solved = torch.zeros((count, 1, leaf_size), dtype=torch.float32, device=device)

    def _ground_closed_components(self) -> None:
        """Mark the anchors of components that lie within one leaf. On the host, when the solids changed."""
        operator = self.operator
        labels = operator.labels.ravel()
        fluid = labels >= 0
        low = np.full(operator.components, self._leaf.size)
        high = np.full(operator.components, -1)
        np.minimum.at(low, labels[fluid], self._leaf[fluid])
        np.maximum.at(high, labels[fluid], self._leaf[fluid])
        closed = low == high
        grounded = np.zeros(self._leaf.size)
        grounded[operator.anchors.cpu().numpy()[closed]] = 1.0
        self._grounded.view(-1).copy_(torch.from_numpy(grounded))
        coupled = np.append(fluid & ~closed[labels], False)[self.vectors.cells.cpu().numpy()]
        self.coupled = torch.from_numpy(coupled).to(operator.device)  # (K, L)
        self._topology = operator.topology

    def _setup(self) -> float:
        operator = self.operator
        if self._topology != operator.topology:
            self._ground_closed_components()
        blocks = self.blocks.view(-1)
        for weights, targets, sources in zip(
            operator.flat_face_weights(), self._targets, self._sources, strict=True
        ):
            values = weights[sources].neg_()
            blocks.index_copy_(0, targets[0], values)
            blocks.index_copy_(0, targets[1], values)
        diagonal = operator.diagonal()
        torch.addcmul(diagonal, diagonal, self._grounded, out=self._grounded_diagonal)
        gathered = self.vectors.gather_double(self._grounded_diagonal)  # (K, L)
        self._diagonals.copy_(gathered.masked_fill_(gathered == 0.0, 1.0))
        factors, _ = torch.linalg.cholesky_ex(self.blocks)
        self._inverses.copy_(torch.cholesky_inverse(factors))
        return 0.0

    def extra_diagonal(self) -> torch.Tensor:
        """What the blocks' diagonals hold beyond those of A: grounded anchors and decoupled rows, (K, L)
        float64.
        """
        return self._diagonals - self.vectors.gather_double(self.operator.diagonal())

    def gather(self, field: torch.Tensor) -> torch.Tensor:
        """See LeafVectors."""
        return self.vectors.gather(field)

    def scatter(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        """See LeafVectors."""
        self.vectors.scatter(rows, out)

    def solve(self, rows: torch.Tensor) -> torch.Tensor:
        """D^-1 ``rows``, (K, 1, L) float32; overwritten by the next call. Row form: far faster than matrix
        times column.
        """
        return torch.bmm(rows, self._inverses.mT, out=self._solved)

    def _apply(self, residual: torch.Tensor, out: torch.Tensor) -> None:
        self.scatter(self.solve(self.gather(residual)), out)
