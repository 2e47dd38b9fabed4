"""The learned hierarchical matrix, positive definite by construction: one file of weights for every grid.

    M = blockdiag(B_k) + U (W W^T - t) U^T

B_k are the exact inverses D_k^-1 of the leaves' blocks, or the network's F_k F_k^T + gate / A_ii as in arXiv
2605.13343; U has r columns a leaf, orthonormal in the energy of D_k; W W^T is the far field on the tiles
(precond.learned.far_field). What D_k^-1 does on the range of U the far field does better: D_k^-1 - U_k U_k^T
is semidefinite, and most of U U^T is taken off (t = COUNTED_TWICE; 0 for the network's leaves). The network
proposes functions for U and for every strip. Whatever it says, M is symmetric positive definite.

The published form, which emits the tiles' numbers themselves and is not definite, is `definite=False`
(precond.learned.published_hmatrix).

K leaves of L cells, P slots of them in the tree, r columns a leaf and a strip.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from precond.host import leaves as host
from precond.host.compiled import available
from precond.learned import MODELS
from precond.learned import compiled_far_field as compiled
from precond.learned.compiled_far_field import RANK
from precond.learned.far_field import FarField, factorised, triangle
from precond.learned.features import LeafFeatures
from precond.learned.proposals import HMatrixConfig, ProposalNetwork, Proposals
from precond.learned.published_hmatrix import PublishedHMatrix
from precond.learned.weights import load_model
from precond.partition.tiles import Tiles
from precond.partition.tree import LeafTree
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, Stage
from precond.two_level.bases import monomials
from precond.two_level.block_jacobi import BlockJacobi
from precond.two_level.coarse_operator import LeafPairs, galerkin_blocks

DEFAULT_MODEL = MODELS / "hmatrix.safetensors"
COUNTED_TWICE = 0.9  # share of U U^T taken off exact leaves: all of it would leave no margin for rounding
MERGED = 3  # finest levels of the far field that are multiplied out: more work, fewer operations


def hmatrix(
    operator: PoissonOperator, *args: Any, definite: bool = True, **options: Any
) -> HMatrix | PublishedHMatrix:
    """`HMatrix`, or `PublishedHMatrix` unless ``definite``; the other arguments are theirs."""
    _check_switch("definite", definite)
    return (HMatrix if definite else PublishedHMatrix)(operator, *args, **options)


def _check_switch(name: str, value: object) -> None:
    """Raise ValueError for what is no truth value: "false" in a name's options is one, "no" is not."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value}")


def counted_twice(config: HMatrixConfig) -> float:
    """t: how much of U U^T leaves of this kind have already."""
    return COUNTED_TWICE if config.leaves == "exact" else 0.0


class Geometry:
    """What depends on grid and solids alone: leaves, their tree, and the functions that are bent.

    leaves: BlockJacobi. pairs: LeafPairs. tree: LeafTree. features: LeafFeatures. mask: (K, L) float64.
    columns: (K, L, r) float64 monomials. cosines: (levels, K, r, r) float64, those along the face between a
    level's siblings, in these columns.
    """

    def __init__(self, operator: PoissonOperator, leaf_size: int, rank: int):
        self.rank = rank
        self.leaves = BlockJacobi(operator, leaf_size, aligned=True, drift=0.0)  # as present as the couplings
        position = self.leaves.position.cpu().numpy()
        self.pairs = LeafPairs.of(operator, position, leaf_size)
        cells = self.leaves.vectors.cells.cpu().numpy()
        self.tree = LeafTree(operator.shape, cells, self.pairs.first, self.pairs.second)
        self.features = LeafFeatures(operator, leaf_size, aligned=True, couplings=False)
        self.features.tiles = Tiles.of_tree(self.tree)

    def update(self) -> None:
        """Follow the operator's solids."""
        self.leaves._update_geometry()
        self.features.update_geometry()
        self.mask = self.leaves.coupled.double()
        self.columns = monomials(2.0 * self.features.positions.double(), self.mask, self.rank)
        orders = torch.arange(self.rank, dtype=torch.float64, device=self.mask.device)
        cosines = torch.cos(torch.pi * orders * self.tree.side[..., None]) * self.mask[..., None]
        gram = self.columns.mT @ self.columns  # (K, r, r)
        self.cosines = torch.cholesky_solve(self.columns.mT @ cosines, triangle(gram))  # (levels, K, r, r)


class Parts(NamedTuple):
    """The pieces of M's far field, float64.

    basis: (K, L, r), U. constant: (K, r), with which U makes the constant. couplings: (p, r, r), A's between
    neighbouring leaves, as the tree's pairs. far: FarField.
    """

    basis: Tensor
    constant: Tensor
    couplings: Tensor
    far: FarField


def parts_of(geometry: Geometry, proposed: Proposals, iterations: int) -> Parts:
    """The pieces that ``proposed`` makes, differentiable in it, after ``iterations`` in the leaves."""
    leaves, tree, mask = geometry.leaves, geometry.tree, geometry.mask
    columns = geometry.columns
    columns = torch.cat([columns[..., :1], columns[..., 1:] + proposed.bend.double()], dim=-1)
    leaving = leaves.blocks.sum(dim=-1) * mask  # (K, L): weights of the faces that leave the leaf
    for _ in range(iterations):
        columns = columns[..., 1:] * leaving[..., None]
        columns = torch.bmm(leaves.inverses, columns.float()).double() * mask[..., None]
        columns = torch.cat([mask[..., None], columns], dim=-1)  # D^-1 W leaves the constant
    length = triangle(columns.mT @ (leaves.blocks @ columns))  # (K, r, r)
    basis = torch.linalg.solve_triangular(length, columns.mT, upper=False).mT
    _, couplings = galerkin_blocks(basis, leaves.blocks, geometry.pairs, leaves.weights)
    couplings = couplings[tree.pairs]
    strips = length.mT @ geometry.cosines  # (levels, K, r, r), in the columns of the basis
    strips = strips + proposed.weights.double() @ strips
    far = factorised(tree, couplings, tree.in_slots(strips, dim=1))
    return Parts(basis, length[:, 0], couplings, far)


class CompiledFarField:
    """U, W and products with them, compiled for the CPU, at inference, in buffers of its own: `set_up` does
    as `parts_of`, in float64, and keeps U and W in float32.
    """

    def __init__(self, geometry: Geometry, proposed: Proposals, iterations: int, basis: Tensor):
        """Leaves U in ``basis`` (K, L, R) float32."""
        self._geometry, self._proposed, self._iterations = geometry, proposed, iterations
        tree, leaves = geometry.tree, geometry.leaves
        count, size = leaves.vectors.cells.shape
        self._basis, self._lengths = np.zeros((count, size, RANK)), np.zeros((count, RANK, RANK))
        self._couplings = np.zeros((len(tree.pairs), RANK, RANK))
        self._strips = np.zeros((tree.levels, tree.count * RANK, RANK))
        sizes = (tree.levels, tree.count * RANK, RANK), (tree.count - 1, 2 * RANK, 2 * RANK)
        self._exact = tuple(np.zeros(size) for size in sizes)  # the columns and cores of W
        self._far = tuple(torch.zeros(size) for size in sizes)
        self._kept = basis
        self._slots = np.zeros(tree.count * RANK, dtype=np.float32)
        first = RANK * tree.slots.numpy()
        self._columns_at = leaves.vectors.cells.numpy(), basis.numpy(), first
        self._neighbours = np.empty((count, size, 4), dtype=np.int64)
        self._neighbours[:] = np.arange(size)[:, None]
        entries = leaves.faces.entries.numpy()  # (2, K, F)
        for k in range(count):
            pairs = np.unique(entries[:, k] % size**2)
            first, second = np.divmod(pairs[pairs // size != pairs % size], size)
            turn = np.arange(len(first)) - np.searchsorted(first, first)
            self._neighbours[k, first, turn] = second

    def set_up(self) -> None:
        """Follow the present blocks and inverses of the leaves."""
        geometry, proposed = self._geometry, self._proposed
        leaves, tree, pairs = geometry.leaves, geometry.tree, geometry.pairs
        fields = geometry.columns, proposed.bend, geometry.mask, leaves.blocks, leaves.inverses
        outputs = self._neighbours, self._iterations, self._basis, self._lengths
        compiled.leaf_functions(*(field.numpy() for field in fields), *outputs)
        tables = pairs.inside, pairs.outside, pairs.face, leaves.weights, tree.pairs
        places = (table.numpy() for table in tables)
        compiled.couplings_between(self._basis.reshape(-1, RANK), *places, self._couplings)
        cosines, weights, slots = geometry.cosines.numpy(), proposed.weights.numpy(), tree.slots.numpy()
        compiled.propose(self._lengths, cosines, weights, slots, self._strips)
        ends, first, second = np.array(tree.ends), tree.first.numpy(), tree.second.numpy()
        compiled.factorise(ends, first, second, self._couplings, self._strips, *self._exact)
        for short, exact in zip((self._kept, *self._far), (self._basis, *self._exact), strict=True):
            short.copy_(torch.from_numpy(exact))

    def far(self, strips: Tensor) -> Tensor:
        """W W^T ``strips`` (K, 1, R)."""
        slots = self._geometry.tree.slots
        self._slots[:] = 0.0
        vectors = torch.from_numpy(self._slots).view(-1, RANK).index_copy_(0, slots, strips[:, 0])
        compiled.multiply(*(part.numpy() for part in self._far), self._slots)
        return vectors[slots][:, None]

    def apply(self, residual: Tensor, out: Tensor, twice: float) -> None:
        """``out`` += U (W W^T - ``twice``) U^T ``residual``, both (nx, ny)."""
        self._slots[:] = 0.0  # a NaN would stay in the empty ones
        host.restrict(residual.reshape(-1).numpy(), *self._columns_at, self._slots)
        strips = self._slots.copy()
        compiled.multiply(*(part.numpy() for part in self._far), self._slots)
        self._slots -= np.float32(twice) * strips
        host.prolong(self._slots, *self._columns_at, out.view(-1).numpy())


class HMatrix(Preconditioner):
    """``weights``: a file, DEFAULT_MODEL unless given, or a network in memory; without a ``network`` the
    functions are the monomials and cosines that it would bend: the control of what it learned.

    basis: (K, L, r) float32, U. Raises ModelError for weights that are unusable.
    """

    name = "hmatrix"
    capturable = True

    def __init__(
        self,
        operator: PoissonOperator,
        weights: str | Path | ProposalNetwork | None = None,
        network: bool = True,
    ):
        super().__init__(operator)
        _check_switch("network", network)
        if not isinstance(weights, ProposalNetwork):
            weights, _ = load_model(weights or DEFAULT_MODEL, self.build)
        self.network, self._asks = weights.to(operator.device), network
        config = self.network.config
        size, rank = config.leaf_size, config.trunk.tile_tokens
        self.geometry = geometry = Geometry(operator, size, rank)
        self.leaves, self.features, self.vectors = geometry.leaves, geometry.features, geometry.leaves.vectors
        tree, count = geometry.tree, len(geometry.leaves.blocks)
        zeros = partial(torch.zeros, dtype=torch.float32, device=operator.device)
        self.proposals = Proposals(
            bend=zeros(count, size, rank - 1),
            weights=zeros(tree.levels, count, rank, rank),
            leaf=zeros(count, size, size) if config.leaves == "network" else None,
            jacobi=zeros(count, size) if config.leaves == "network" else None,
        )
        self.basis = zeros(count, size, rank)
        self._compiled = None
        if operator.device.type == "cpu" and available() and rank == RANK:
            self._compiled = CompiledFarField(geometry, self.proposals, config.leaf_iterations, self.basis)
            return
        merged = min(MERGED, tree.levels)
        self._fine = zeros(tree.count >> merged, rank << merged, rank << merged)
        strips = [tree.count >> level for level in range(merged, tree.levels)]
        self._columns = [zeros(n, tree.count * rank // n, rank) for n in strips]
        self._cores = [zeros(n // 2, 2 * rank, 2 * rank) for n in strips]
        self._slots = zeros(tree.count, rank)

    @staticmethod
    def build(card: dict[str, Any]) -> ProposalNetwork:
        """The untrained network of a model card."""
        return ProposalNetwork(HMatrixConfig.of(card["model"]))

    def _update_geometry(self) -> None:
        self.geometry.update()

    def _stages(self) -> list[Stage]:
        leaves = [("setup", self.leaves._setup)]
        asked = [("setup", self.features.update), ("inference", self._ask)] if self._asks else []
        return [*leaves, *asked, ("setup", self._factorise)]

    def _update_stages(self) -> list[Stage]:
        """What the network said is kept; what it is worth in the present A is computed."""
        return [*self.leaves._update_stages(), ("setup", self._factorise)]

    def _ask(self) -> None:
        with torch.inference_mode():
            proposed = self.network(self.features, self.geometry.tree)
        for buffer, value in zip(self.proposals, proposed, strict=True):
            if buffer is not None:
                buffer.copy_(value)

    def _factorise(self) -> None:
        if self._compiled:
            self._compiled.set_up()
            return
        with torch.inference_mode():
            parts = parts_of(self.geometry, self.proposals, self.network.config.leaf_iterations)
        far, merged = parts.far, len(parts.far.cores) - len(self._cores)
        self.basis.copy_(parts.basis)
        size = self._fine.shape[-1]
        identity = torch.eye(size, dtype=torch.float64, device=self.basis.device)
        fine = FarField(far.columns[:merged], far.cores[:merged])
        blocks = identity.repeat(len(self._fine), 1).view(-1, self.geometry.rank, size)
        self._fine.copy_(fine.times(blocks).view_as(self._fine))
        for buffers, values in ((self._columns, far.columns), (self._cores, far.cores)):
            for buffer, value in zip(buffers, values[merged:], strict=True):
                buffer.copy_(value)

    def far(self, strips: Tensor) -> Tensor:
        """W W^T ``strips`` (K, 1, r), rows as they are, (K, 1, r)."""
        if self._compiled:
            return self._compiled.far(strips)
        slots, rank = self.geometry.tree.slots, self.geometry.rank
        vectors = self._slots.index_copy_(0, slots, strips[:, 0])  # (P, r)
        vectors = torch.bmm(vectors.view(len(self._fine), 1, -1), self._fine)  # W^T of the finest levels
        levels = list(zip(self._columns, self._cores, strict=True))
        for columns, core in levels:
            vectors = _factor_of_row(vectors, columns, core)
        for columns, core in reversed(levels):
            vectors = _factor_of_row(vectors, columns, core.mT)
        vectors = torch.bmm(vectors.view(len(self._fine), 1, -1), self._fine.mT)
        return vectors.view(-1, rank)[slots][:, None]

    def near(self, rows: Tensor) -> Tensor:
        """blockdiag(B_k) ``rows`` (K, 1, L)."""
        leaf, jacobi = self.proposals.leaf, self.proposals.jacobi
        if leaf is None:
            return self.leaves.solve(rows)
        return torch.addcmul(torch.bmm(torch.bmm(rows, leaf), leaf.mT), rows, jacobi[:, None])

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        if self._compiled and self.proposals.leaf is None:
            self.leaves.apply_unprojected(residual, out)
            self._compiled.apply(residual, out, counted_twice(self.network.config))
            return
        rows = self.vectors.gather(residual)  # (K, 1, L)
        strips = torch.bmm(rows, self.basis)  # (K, 1, r)
        far = torch.sub(self.far(strips), strips, alpha=counted_twice(self.network.config))
        self.vectors.scatter(torch.baddbmm(self.near(rows), far, self.basis.mT), out)


def _factor_of_row(vectors: Tensor, columns: Tensor, core: Tensor) -> Tensor:
    """One level's F^T for one vector of P r numbers in any shape, or F for the transposed ``core``. As rows:
    columns are far slower.
    """
    strips, rows, rank = columns.shape
    vectors = vectors.view(strips, 1, rows)
    mixed = torch.bmm(torch.bmm(vectors, columns).view(len(core), 1, 2 * rank), core)  # (tiles, 1, 2 q)
    return torch.baddbmm(vectors, mixed.view(strips, 1, rank), columns.mT)
