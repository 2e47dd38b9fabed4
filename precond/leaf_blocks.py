"""Exact inverses of the operator's diagonal blocks along the Morton curve, uncoupled."""

from __future__ import annotations

import numpy as np
import torch

from precond.grounding import inverse_of_factors
from precond.leaf_vectors import LeafVectors
from precond.operator import PoissonOperator
from precond.preconditioner import Preconditioner, Stage
from precond.shared_leaves import copies

UNCHANGED = 1e-6  # relative change of coefficients below which `follow` keeps a leaf's float32 inverse


class LeafBlocks(Preconditioner):
    """M = blockdiag(D_k^-1), D_k the block of A of the ``leaf_size`` cells of leaf k; factorised in float64,
    inverted and kept in float32. ``aligned`` is explained at precond.ordering.leaves.

    On the CPU aligned leaves that are multiples of one another, as all inside one phase are, share one
    factorisation (unless not ``shared``), and `follow` renews only the leaves whose coefficients changed.

    ``inverses`` (K, L, L) float32 are D_k^-1. ``coupled`` (K, L) is False on padding, on solids and in
    components within one leaf, which M solves exactly. Cells without couplings and the padding of the last
    leaf are decoupled rows of the identity. A fluid component that lies within one leaf makes its block
    singular: the diagonal of its anchor is doubled.
    """

    name = "leaf-blocks"
    capturable = True

    def __init__(
        self, operator: PoissonOperator, leaf_size: int = 128, aligned: bool = False, shared: bool = True
    ):
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
        self._leaf_of_cell = torch.from_numpy(self._leaf).to(device)
        self._shared = shared and aligned and device.type == "cpu"
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
        self.inverses = torch.zeros((count, leaf_size, leaf_size), dtype=torch.float32, device=device)
        self._diagonals = self.blocks.diagonal(dim1=1, dim2=2)
        self._grounded = torch.zeros(operator.shape, dtype=torch.float64, device=device)
        self._topology = -1
        self._grounded_diagonal = torch.zeros(operator.shape, dtype=torch.float64, device=device)
        self._solved = torch.zeros((count, 1, leaf_size), dtype=torch.float32, device=device)
        self._padded = torch.zeros((3, n + 1), dtype=torch.float64, device=device)
        self._coefficients = self._padded[:, :-1]  # diagonal, couplings to the next cell along x and along y
        self._inverted = torch.zeros_like(self._coefficients)  # those behind each leaf's inverse
        self.renewed = torch.ones(count, dtype=torch.bool, device=device)  # (K,): inverted by the last set-up

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

    def take(self, operator: PoissonOperator) -> None:
        """All of `setup` as part of another preconditioner's."""
        self.operator = operator
        self._setup()

    def renew(self, operator: PoissonOperator) -> None:
        """All of `follow` as part of another preconditioner's: `renewed` says which leaves changed."""
        self.operator = operator
        self._renew()

    def _setup(self) -> None:
        self._assemble()
        self.renewed.fill_(True)
        self._inverted.copy_(self._coefficients)
        self._invert(slice(None))

    def _follow(self) -> list[Stage]:
        return [("setup", self._renew)] if self.operator.device.type == "cpu" else self.stages()

    def _renew(self) -> None:
        """Invert the leaves whose coefficients changed."""
        self._assemble()
        kept = (self._coefficients - self._inverted).abs_() <= UNCHANGED * self._inverted.abs()
        changed = self._leaf_of_cell[~kept.all(dim=0)]
        self.renewed.fill_(False)[changed] = True
        torch.where(self.renewed[self._leaf_of_cell], self._coefficients, self._inverted, out=self._inverted)
        which = self.renewed.nonzero()[:, 0]
        if len(which):
            self._invert(which)

    def _assemble(self) -> None:
        """The blocks of the operator's present coefficients."""
        operator = self.operator
        if self._topology != operator.topology:
            self._ground_closed_components()
        blocks = self.blocks.view(-1)
        weights = operator.flat_face_weights()
        for values, targets, sources in zip(weights, self._targets, self._sources, strict=True):
            entries = values[sources].neg_()
            blocks.index_copy_(0, targets[0], entries)
            blocks.index_copy_(0, targets[1], entries)
        diagonal = operator.diagonal()
        torch.addcmul(diagonal, diagonal, self._grounded, out=self._grounded_diagonal)
        gathered = self.vectors.gather_double(self._grounded_diagonal)  # (K, L)
        largest = gathered.amax(dim=1, keepdim=True)  # decoupled rows get it, in whatever unit the density is
        torch.where(gathered == 0.0, torch.where(largest == 0.0, 1.0, largest), gathered, out=gathered)
        self._diagonals.copy_(gathered)
        self._coefficients[0].copy_(self._grounded_diagonal.view(-1))
        for row, values in zip(self._coefficients[1:], weights, strict=True):
            row[: len(values)].copy_(values)

    def _invert(self, which: torch.Tensor | slice) -> None:
        """The inverses of the leaves ``which``."""
        blocks = self.blocks[which]  # (k, L, L)
        if not self._shared:
            self.inverses[which] = _inverses(blocks)
            return
        diagonal = self._diagonals[which]  # (k, L)
        scale = diagonal.amax(dim=1)  # (k,)
        couplings = self._padded[1:, self.vectors.cells[which]]  # (2, k, L)
        unique, kind = copies(torch.cat([diagonal, *couplings], dim=1) / scale[:, None])
        inverses = _inverses(blocks[unique])
        self.inverses[which] = inverses[kind] * (scale[unique][kind] / scale).float()[:, None, None]

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
        return torch.bmm(rows, self.inverses.mT, out=self._solved)

    def _apply(self, residual: torch.Tensor, out: torch.Tensor) -> None:
        self.scatter(self.solve(self.gather(residual)), out)


def _inverses(blocks: torch.Tensor) -> torch.Tensor:
    """Float32 inverses of positive definite ``blocks`` (k, L, L) float64."""
    factors = torch.linalg.cholesky_ex(blocks).L.float()
    if blocks.device.type == "cpu":
        return torch.cholesky_inverse(factors)
    return inverse_of_factors(factors)  # the other one asks the device whether it went well
