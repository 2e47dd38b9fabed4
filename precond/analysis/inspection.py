"""What a hierarchical preconditioner holds, in plain arrays: its tiles' norms and ranks, its leaves' bases.

The off-diagonal blocks are U W W^T U^T for `hmatrix`, U C V^T for its published form, and U Z U^T for the
two-level preconditioners, whose projection P is left out. With U's columns made orthonormal in each leaf, a
tile's singular values are those of its block of Z or W W^T. U^T A U is singular, and on mean-zero vectors its
pseudo-inverse acts: that is what Z means here, whatever the solve has pinned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precond.analysis.peeling import peel
from precond.learned.hmatrix import HMatrix, counted_twice
from precond.learned.published_hmatrix import PublishedHMatrix
from precond.multilevel.preconditioner import SIDE, LeafHierarchy
from precond.partition.leaf_vectors import LeafVectors
from precond.partition.tiles import tile_of, tiles
from precond.preconditioner import Preconditioner
from precond.two_level.preconditioner import TwoLevel

RANK_TOLERANCE = 1e-3  # a tile's numerical rank counts the singular values above this share of its largest
PARTITIONED = TwoLevel | HMatrix | PublishedHMatrix
LEAF_COLUMNS = 8  # of the published form's basis that `leaf_basis` gives
IN_RANGE = 1e-5  # a vector of which U misses no more than this share lies in U's range (float32 columns)


@dataclass(frozen=True)
class Inspection:
    """The partition of one preconditioner over K leaves, T = K - 1 tiles.

    tiles: (T, 3) int64, see precond.partition.tiles. norms: (T,) float64, Frobenius norms. ranks: (T,) int64,
    numerical ranks (RANK_TOLERANCE). leaf_norms: (K,) float64, Frobenius norms of M's diagonal blocks.
    leaf_size: cells a leaf. columns: of U in a leaf. formula: what is shown of M, in words.
    """

    tiles: np.ndarray
    norms: np.ndarray
    ranks: np.ndarray
    leaf_norms: np.ndarray
    leaf_size: int
    columns: int
    formula: str

    def tile_at(self, row: int, column: int) -> int:
        """The tile that holds the pair of leaves, in either order; -1 on the diagonal."""
        return int(tile_of(len(self.leaf_norms), np.array(row), np.array(column)))


@dataclass(frozen=True)
class LeafBasis:
    """Coarse basis of one leaf: ``cells`` (n,) int64, flat i ny + j, those that exist; ``columns`` (n, c)
    float32, the first of ``total``.
    """

    leaf: int
    cells: np.ndarray
    columns: np.ndarray
    total: int


def leaf_count(preconditioner: Preconditioner) -> int:
    """Leaves of its partition; 0 for a preconditioner that has none."""
    return len(_vectors(preconditioner).cells) if isinstance(preconditioner, PARTITIONED) else 0


def inspect(preconditioner: Preconditioner) -> Inspection:
    """Norms and ranks of the factors as they are, on the host.

    All but the published `hmatrix` take about 130 log2(K) coarse solves or products with the far field; a
    rank then ends at 64. Raises ValueError for a preconditioner without a partition, RuntimeError before its
    first set-up, ArithmeticError when its factors hold NaN or infinity.
    """
    vectors = _vectors(preconditioner)
    if not preconditioner.is_set_up:
        raise RuntimeError(f"{preconditioner.name}: call setup() before inspecting it")
    count, leaf_size = vectors.cells.shape
    if isinstance(preconditioner, TwoLevel):
        values, leaf_norms = _balanced_values(preconditioner)  # by tile size, (T, s) each; (K,)
        columns = preconditioner.rank
        formula = "D^-1 + U Z U^T, Z = (U^T A U)^-1, without the balance P"
    elif isinstance(preconditioner, HMatrix):
        values, leaf_norms = _hmatrix_values(preconditioner)
        columns = preconditioner.basis.shape[-1]
        taken_off = counted_twice(preconditioner.network.config)
        near = "D^-1" if preconditioner.proposals.leaf is None else "F F^T + diagonal"
        formula = f"{near} + U {f'(W W^T - {taken_off:g})' if taken_off else 'W W^T'} U^T"
    else:
        values, leaf_norms = _published_values(preconditioner)
        columns, formula = preconditioner.factors.core.shape[-1], "F F^T + U C V^T + (U C V^T)^T + diagonal"
    norms, ranks = [leaf_norms[:0]], [leaf_norms[:0].long()]  # none for a single leaf
    for level in values:
        norms.append(level.norm(dim=1))
        ranks.append((level > RANK_TOLERANCE * level.amax(dim=1, keepdim=True)).sum(dim=1))
    arrays = (tensor.cpu().numpy() for tensor in (torch.cat(norms), torch.cat(ranks), leaf_norms))
    return Inspection(tiles(count), *arrays, leaf_size, columns, formula)


def leaf_basis(preconditioner: Preconditioner, cell: int) -> LeafBasis:
    """The coarse basis of the leaf that holds flat ``cell``; of the published `hmatrix` LEAF_COLUMNS
    columns of U.

    Raises ValueError for a preconditioner without a partition.
    """
    if isinstance(preconditioner, LeafHierarchy):
        return LeafBasis(*preconditioner.leaf_columns(cell))
    vectors = _vectors(preconditioner)
    leaf = int(vectors.position[cell]) // vectors.cells.shape[1]
    if isinstance(preconditioner, TwoLevel | HMatrix):
        columns, total = preconditioner.basis[leaf], preconditioner.basis.shape[-1]  # (L, r)
    else:
        total = preconditioner.factors.core.shape[-1]
        columns = preconditioner.factors.node[leaf, :, : min(LEAF_COLUMNS, total)]
    cells = vectors.cells[leaf].cpu().numpy()
    exists = cells < len(vectors.position)
    return LeafBasis(leaf, cells[exists], columns.cpu().numpy()[exists], total)


def leaf_labels(preconditioner: Preconditioner) -> np.ndarray | None:
    """The number of the leaf that holds each cell, (nx, ny) int64; None where there is no partition."""
    nx, ny = preconditioner.operator.shape
    if isinstance(preconditioner, LeafHierarchy):
        i, j = np.arange(nx)[:, None] // SIDE, np.arange(ny) // SIDE
        return i * (j[-1] + 1) + j
    if not isinstance(preconditioner, PARTITIONED):
        return None
    vectors = _vectors(preconditioner)
    return (vectors.position.cpu().numpy() // vectors.cells.shape[1]).reshape(nx, ny)


def _vectors(preconditioner: Preconditioner) -> LeafVectors:
    if not isinstance(preconditioner, PARTITIONED):
        raise ValueError(f"{preconditioner.name} has no hierarchical partition")
    return preconditioner.leaves.vectors if isinstance(preconditioner, TwoLevel) else preconditioner.vectors


def _finite(form: Preconditioner, *parts: Tensor) -> None:
    if not all(bool(torch.isfinite(part).all()) for part in parts):
        raise ArithmeticError(f"{form.name}: its factors hold NaN or infinity")


def _balanced_values(form: TwoLevel) -> tuple[list[Tensor], Tensor]:
    """Singular values of Z's tiles and norms of D_k^-1 + U_k Z_kk U_k^T on coupled cells."""
    basis = form.basis.double()
    count, _, rank = basis.shape
    _finite(form, basis, form.coarse.solve(basis.new_ones(count * rank)))
    kernel = _kernel(form, basis)  # (K r, g)

    def multiply(x: Tensor) -> Tensor:
        image = form.coarse.solve(x - kernel @ (kernel.mT @ x))
        return image - kernel @ (kernel.mT @ image)

    values, blocks = peel(multiply, count, rank, device=basis.device)
    return values, _leaf_norms(form.leaves.solve, form.leaves.coupled, basis @ blocks @ basis.mT)


def _leaf_norms(near: Callable[[Tensor], Tensor], coupled: Tensor, far: Tensor) -> Tensor:
    """Norms (K,) of the leaves' blocks that ``near`` multiplies rows (K, 1, L) by, plus ``far`` (K, L, L)."""
    count, leaf_size = coupled.shape
    blocks = far.new_empty(count, leaf_size, leaf_size)
    for place, unit in enumerate(torch.eye(leaf_size, dtype=torch.float32, device=far.device)):
        blocks[:, place] = near(unit.expand(count, 1, -1).contiguous())[:, 0]
    inside = coupled.double()
    return (blocks * inside[:, None] * inside[..., None] + far).flatten(1).norm(dim=1)


def _kernel(form: TwoLevel, basis: Tensor) -> Tensor:
    """Orthonormal kernel of U^T A U, (K r, g): what U represents of the sealed components' constants."""
    labels = torch.from_numpy(np.append(form.operator.labels.ravel(), -1)).to(basis.device)
    labels = torch.where(form.leaves.coupled, labels[form.leaves.vectors.cells], -1)  # (K, L)
    constants = []
    for component in labels[labels >= 0].unique():
        if not form.operator.sealed[component]:
            continue
        inside = (labels == component).to(basis.dtype)[..., None]  # (K, L, 1)
        constants.append((basis.mT @ inside).view(-1) / inside.sum().sqrt())
    if not constants:
        return basis.new_zeros(basis.shape[0] * basis.shape[2], 0)
    vectors, shares, _ = torch.linalg.svd(torch.stack(constants, dim=1), full_matrices=False)
    return vectors[:, shares**2 > 1.0 - IN_RANGE]


def _hmatrix_values(form: HMatrix) -> tuple[list[Tensor], Tensor]:
    """Singular values of U W W^T U^T's tiles, and norms of M's blocks on the coupled cells of the leaves."""
    count, leaf_size, rank = form.basis.shape
    _finite(form, form.basis, form.near(form.basis.new_ones(count, 1, leaf_size)))
    basis, triangle = torch.linalg.qr(form.basis.double())  # (K, L, r), (K, r, r): U = basis triangle

    def one(x: Tensor) -> Tensor:
        strips = torch.bmm(x.view(count, 1, rank), triangle)  # (K, 1, r)
        return torch.bmm(form.far(strips.float()).double(), triangle.mT).view(-1)

    def multiply(x: Tensor) -> Tensor:
        return torch.stack([one(column) for column in x.mT.contiguous()], dim=1)

    _finite(form, one(basis.new_ones(count * rank)))
    values, blocks = peel(multiply, count, rank, device=basis.device)
    blocks -= counted_twice(form.network.config) * (triangle @ triangle.mT)
    return values, _leaf_norms(form.near, form.leaves.coupled, basis @ blocks @ basis.mT)


def _published_values(form: PublishedHMatrix) -> tuple[list[Tensor], Tensor]:
    """Singular values of the tiles U C V^T from the Gram matrices of their strips, and norms of F_k F_k^T +
    diag.
    """
    factors, partition = form.factors, form.features.tiles
    _finite(form, *vars(factors).values())
    leaf = factors.leaf @ factors.leaf.mT + torch.diag_embed(factors.jacobi[:, 0])
    leaf_norms = leaf.double().flatten(1).norm(dim=1)
    if not len(factors.core):
        return [], leaf_norms
    rows, columns = factors.node.double().chunk(2, dim=-1)  # (K, L, L_s) each: U, V
    left, right = _gram_root(rows, partition.rows), _gram_root(columns, partition.columns)
    return [torch.linalg.svdvals(left @ factors.core.double() @ right)], leaf_norms


def _gram_root(columns: Tensor, strips: Tensor) -> Tensor:
    """Roots of the Gram matrices of ``columns`` (K, L, s) stacked over ``strips`` (T, K): (T, s, s)."""
    gram = columns.mT @ columns  # (K, s, s)
    stacked = (strips.double() @ gram.flatten(1)).view(-1, *gram.shape[1:])
    squares, vectors = torch.linalg.eigh(stacked)
    return vectors * squares.clamp(min=0.0).sqrt()[:, None] @ vectors.mT
