"""The two-level preconditioner, exact leaves and a Galerkin coarse space: definite whatever the basis is.

Leaves are aligned blocks of the grid (precond.partition.morton.leaves): cut along the Morton curve of a 91 x
91 grid they are torn, and cost a third more iterations. With D the diagonal leaf blocks of A, U the basis of
the coarse space (r columns per leaf) and Z = (U^T A U)^-1,

    M = P^T D^-1 P + U Z U^T,    P = I - A U Z U^T.

`initial_correction` gives the coarse part of the solution; residuals then satisfy U^T r = 0, P leaves them
alone, and one application is y = D^-1 r, z = y + U Z U^T (r - A y) (A-DEF2 in Tang, Nabben, Vuik, Erlangga,
J. Sci. Comput. 39, 2009).

On the CPU `update` keeps the basis and the inverses of leaves whose faces drifted little, and the coarse
operator is the present A's. On a device all leaves are inverted, and an application solves in them twice,

    y = D^-1 r,    w = y + U Z U^T (r - A y),    M r = w + D^-1 (r - A w),

with D^-1 damped by 0.97. Leaves are coloured as a chessboard, so the eigenvalues of D^-1 A reach from 0 to 2
at most, and M is definite for any semidefinite Z: undamped, values whose sign alternates from leaf to leaf
were lost where no column sees them, as in channels between solids. Where the eigenvalues on the complement of
U reach from 1 - q to 1 + q, with P they spread by (1 + q) / (1 - q), and here by 1 / (1 - q^2): half of the
iterations for two more operations in each.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from precond.device import ops
from precond.host import leaves as host
from precond.host.compiled import available
from precond.partition.morton import leaf_numbers
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, Stage
from precond.two_level.bases import geneo_modes, iterated, leaf_positions, monomials, orthonormalised
from precond.two_level.block_jacobi import BlockJacobi
from precond.two_level.coarse_level import DENSE, coarse_level_of_leaves
from precond.two_level.coarse_operator import CoarseOperator, LeafPairs, pinned_leaves
from precond.two_level.coarse_solve import CoarseSolve, DenseCoarseSolve

DAMPING = 0.97  # of D^-1 on a device


class TwoLevel(Preconditioner):
    """On any basis; subclasses say which by `_basis`.

    ``on_device`` is the form for a GPU (default: where the operator is on one): besides Z five of the
    operations of precond.device.ops an application. There Z is a dense inverse, or with ``coarse_level``
    (default: past DENSE unknowns) a level of its own (precond.two_level.coarse_level).
    """

    learned: ClassVar[bool] = False  # `_basis` is a network's inference, and timed as such
    capturable = True

    def __init__(
        self,
        operator: PoissonOperator,
        leaf_size: int = 64,
        rank: int = 8,
        on_device: bool | None = None,
        coarse_level: bool | None = None,
    ):
        super().__init__(operator)
        if not isinstance(rank, int) or not 1 <= rank <= min(16, leaf_size):
            raise ValueError(f"rank must be a whole number from 1 to {min(16, leaf_size)}, not {rank}")
        self.rank, self.leaf_size = rank, leaf_size
        self._on_device = operator.device.type != "cpu" if on_device is None else on_device
        self.leaves = BlockJacobi(operator, leaf_size, aligned=True, shared=not self._on_device)
        vectors, device = self.leaves.vectors, operator.device
        self.pairs = LeafPairs.of(operator, self.leaves.position.cpu().numpy(), leaf_size)
        cells = vectors.cells.cpu().numpy()
        count = len(cells)
        if not self._on_device:
            self.coarse = CoarseSolve(self.pairs, leaf_numbers(cells, operator.shape), rank)
        elif count * rank > DENSE if coarse_level is None else coarse_level:
            static = self.pairs, self.leaves.faces, cells, operator.shape
            self.coarse = coarse_level_of_leaves(*static, rank)
        else:
            self.coarse = DenseCoarseSolve(self.pairs, count, rank)
        self.coarse_operator = CoarseOperator(self.leaves.faces, self.pairs, rank)
        self.basis = torch.zeros((count, leaf_size, rank), dtype=torch.float32, device=device)
        zeros = operator.diagonal().new_zeros
        self._pinned = zeros(count)
        self._solution, self._image = zeros(2, *operator.shape)
        self._multiply = operator.bind(self._solution, self._image)
        self._compiled = not self._on_device and available()
        if self._compiled:
            self._first = self.coarse.number[::rank].copy()
            self._columns_at = vectors.cells.numpy(), self.basis.numpy(), self._first
            self._numbered = np.zeros(count * rank)
        else:
            self._restriction = zeros(count, leaf_size, rank)  # the basis, and transposed: a faster product
            self._prolongation = zeros(count, rank, leaf_size)
        if self._on_device:
            self._rows = torch.zeros((count, leaf_size), dtype=torch.float32, device=device)
            self._strips, self._coefficients = zeros(2, count, rank)
        else:
            self._pair_of_face = self.pairs.of_faces(len(self.leaves.weights))

    def _basis(self) -> Tensor:
        """Orthonormal basis (K, L, r) float32 for the operator's present coefficients."""
        raise NotImplementedError

    def _iterated(self, columns: Tensor, iterations: int) -> Tensor:
        """The basis of ``columns`` (K, L, m) after leaf iterations on the present leaves."""
        leaving = self.leaves.blocks.sum(dim=-1).float() * self.mask
        return iterated(columns, self.leaves.inverses, leaving, self.mask, iterations)

    def _update_geometry(self) -> None:
        self.leaves._update_geometry()
        coupled, cells = self.leaves.coupled, self.leaves.vectors.cells
        self.mask = coupled.float()  # (K, L)
        self.positions = leaf_positions(self.operator.shape, cells, coupled)
        self._pinned.zero_()
        self._pinned[pinned_leaves(self.operator, cells, coupled)] = 1.0
        if self._on_device:
            self.coarse.update_geometry(self.mask.sum(dim=1).double().sqrt())

    def _stages(self) -> list[Stage]:
        """Leaves, basis, coarse operator."""
        basis = "inference" if self.learned else "setup"
        assemble = self._assemble_coarse_on_device if self._on_device else self._assemble_coarse
        leaves, coarse = ("setup", self.leaves._setup), ("setup", assemble)
        return [leaves, (basis, self._update_basis), coarse]

    def _update_basis(self) -> None:
        self.basis.copy_(self._basis())
        self.coarse_operator.update(self.basis)
        if not self._compiled:
            self._restriction.copy_(self.basis)
            self._prolongation.copy_(self.basis.mT)

    def _update_stages(self) -> list[Stage]:
        """The coarse operator of the present A on the basis that is there, and leaves near it."""
        leaves, _, coarse = self._stages()
        return [leaves, coarse] if self._on_device else [("setup", self._update_changed)]

    def _update_changed(self) -> None:
        """Follow where face weights changed, which on a device is not for the host to know."""
        faces, leaves = self.leaves.update_changed()
        if self.coarse.failed:  # whatever was placed
            self._assemble_coarse()
        elif len(faces):
            pairs = np.unique(self._pair_of_face[faces])
            self._assemble_coarse(leaves, torch.from_numpy(pairs[pairs >= 0]))

    def _assemble_coarse(
        self, leaves: Tensor | slice = slice(None), pairs: Tensor | slice = slice(None)
    ) -> None:
        """Z, from new Galerkin blocks of these leaves and pairs and the old ones of all others."""
        weights = self.leaves.weights
        own, between = self.coarse_operator.own(weights, leaves), self.coarse_operator.between(weights, pairs)
        self.coarse.place(leaves, own, pairs, between, self._pinned[leaves])
        self.coarse.factorise()

    def _assemble_coarse_on_device(self) -> None:
        operator, weights, every = self.coarse_operator, self.leaves.weights, slice(None)
        own, between = operator.own(weights, every), operator.between(weights, every)
        leaving = (operator.own(weights * crossing, every) for crossing in self.coarse.crossing)
        self.coarse.place(own, between, self._pinned, *leaving)
        self.coarse.factorise()
        self.leaves.inverses.mul_(DAMPING)  # last: the basis is made with D^-1 itself

    @property
    def _projects(self) -> bool:
        """Whether P is applied: Z is of the coefficients at the last set-up, and with later ones the product
        would not be symmetric. Without P, M stays definite whatever became of A.
        """
        return self.is_current and not self._on_device

    def _add_coarse_part(self, residual: Tensor, out: Tensor) -> None:
        """``out`` += U Z U^T ``residual``, both (nx, ny), all float64: what rounds, Z magnifies."""
        residual, out = residual.reshape(-1), out.view(-1)
        if self._compiled:
            host.restrict(residual.numpy(), *self._columns_at, self._numbered)
            host.prolong(self.coarse.solve_numbered(self._numbered), *self._columns_at, out.numpy())
            return
        rows = self.leaves.vectors.gather(residual, torch.float64)  # (K, 1, L)
        strips = torch.bmm(rows, self._restriction)  # (K, 1, r)
        if self._on_device:
            coefficients = self.coarse.solve(strips.view(-1), self._coefficients.view(-1))
        else:
            coefficients = self.coarse.solve(strips.view(-1))
        coefficients = coefficients.view_as(strips)
        out.add_(torch.bmm(coefficients, self._prolongation).view(-1)[self.leaves.position])

    def initial_correction(self, residual: Tensor, out: Tensor) -> bool:
        """``out`` = U Z U^T ``residual``, (nx, ny) float64; nothing to do without P."""
        if self._projects:
            self._add_coarse_part(residual, out.zero_())
        return self._projects

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        if self._on_device:
            self._apply_on_device(residual.view(-1), out.view(-1))
            return
        self.leaves.apply_unprojected(residual, self._solution)
        left = residual
        if self._projects:
            self._multiply()
            left = torch.sub(residual, self._image, out=self._image)
        self._add_coarse_part(left, self._solution)
        out.copy_(self._solution)

    def _apply_on_device(self, residual: Tensor, out: Tensor) -> None:
        """As `_apply`, flat (nx ny,)."""
        operator, cells = self.operator, self.leaves.vectors.cells
        y, w, rows, inverses = self._image.view(-1), self._solution.view(-1), self._rows, self.leaves.inverses
        coefficients = operator.diagonal().view(-1), *operator.flat_face_weights()
        ops.solve_leaves(residual, cells, inverses, rows, y)
        ops.restrict_residual(residual, y, *coefficients, cells, self.basis, self._strips)
        self.coarse.solve(self._strips.view(-1), self._coefficients.view(-1))
        ops.prolong(rows, self._coefficients, cells, self.basis, w)
        ops.smooth_leaves(residual, w, *coefficients, cells, inverses, out)


class CoarseMonomial(TwoLevel):
    """Coarse space of monomials in the cell's position: what the network starts from."""

    name = "coarse-monomial"

    def _update_geometry(self) -> None:
        super()._update_geometry()
        self._columns = orthonormalised(monomials(self.positions, self.mask, self.rank))

    def _basis(self) -> Tensor:
        return self._columns


class TwoLevelIterated(CoarseMonomial):
    """Monomials after ``leaf_iterations``: nothing learned, the control for what is. With 12 columns for 64
    cells mazes take 14 iterations, with 8 hundreds.
    """

    name = "coarse-iterated"

    def __init__(self, operator: PoissonOperator, leaf_iterations: int = 4, rank: int = 12, **options: Any):
        super().__init__(operator, rank=rank, **options)
        if not isinstance(leaf_iterations, int) or leaf_iterations < 0:
            raise ValueError(f"leaf_iterations must be a whole number from 0, not {leaf_iterations}")
        self.leaf_iterations = leaf_iterations

    def _basis(self) -> Tensor:
        return self._iterated(self._columns[..., 1:], self.leaf_iterations)


class CoarseGenEO(TwoLevel):
    """Coarse space of every leaf's lowest generalised eigenvectors: a reference, slow to set up."""

    name = "coarse-geneo"
    capturable_setup = False  # eigenvectors ask the host

    def _basis(self) -> Tensor:
        mask = self.mask.to(self.leaves.blocks.dtype)
        modes = geneo_modes(self.leaves.blocks, mask, self.rank)
        columns = orthonormalised(torch.cat([mask[..., None], modes], dim=-1))
        empty = columns.norm(dim=1) < 0.5  # (K, r + 1): the mode that the constant spans goes last
        order = empty.to(torch.int64).argsort(dim=1, stable=True)
        return columns.gather(2, order[:, None, :].expand_as(columns))[..., : self.rank].float()
