"""What the network sees of an operator: dimensionless numbers per cell, leaf by leaf along the Morton curve.

Nothing changes when the density is scaled by a constant: densities enter as logarithms relative to their
leaf's mean, weights and diagonals as logarithms plus that mean, couplings scaled by the diagonal. Places are
continuous and relative to the leaf, so one network serves any grid and leaves of any shape. The features of
arXiv 2605.13343 (log density, scaled A_ii, 12 global numbers) are among them.
"""

from __future__ import annotations

import math
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from precond.partition.morton import leaves, positions
from precond.partition.tiles import Tiles
from precond.poisson import PoissonOperator

LOG_UNIT = 3.0  # logarithms are divided by this
MISSING = -9.0  # the logarithm that stands for a face to a wall or a solid
NODE_FEATURES = 11
GLOBAL_FEATURES = 12


class LeafFeatures:
    """Features of K leaves of L cells; index tensors are built once, `update` follows the coefficients.

    Cells that do not exist (padding), solids and cells without couplings are masked: zero in everything.

    Attributes (static buffers on the operator's device, float32 unless noted):
        cells: (K, L) int64, flat cell i ny + j, nx ny on padding. position: (nx ny,) int64, the inverse.
        mask: (K, L), 1 on coupled cells. positions: (K, L, 2), x and y from the centre of the leaf's coupled
        cells in units of sqrt(L) cells. node: (K, L, 11): log density less its leaf's mean m, the logs of the
        four face weights plus m (-x, +x, -y, +y), the log of A_ii / 4 plus m, x, y, the leaf's extent in x
        and y, the mask. level: (K, 1), m less the mean over all cells. globals: (12,). bias: (K, L, L), the
        leaf's block of A scaled to a unit diagonal. neighbours: (K L, 4) int64, flat places of the
        neighbouring cells (a cell itself where there is none). neighbour_weights: (K L, 4), -A_ij / A_ii,
        zero where there is none; neighbour_weights and bias with ``couplings`` alone. Not dimensionless, for
        what scales as A^-1: inverse_diagonal (K, L), 1 / A_ii; scale (1,), the geometric mean of the density.
    """

    def __init__(
        self, operator: PoissonOperator, leaf_size: int, aligned: bool = False, couplings: bool = True
    ):
        self.operator, self.leaf_size, self._couplings = operator, leaf_size, couplings
        nx, ny = operator.shape
        n, device = nx * ny, operator.device
        cells = leaves(operator.shape, leaf_size, aligned)  # (K, L)
        position = positions(cells, n)
        count = self.count = len(cells)
        flat = cells.ravel()
        i, j = np.divmod(flat, ny)
        exists = np.stack([i > 0, i < nx - 1, j > 0, j < ny - 1], axis=1) & (flat < n)[:, None]  # (K L, 4)
        there = np.where(exists, flat[:, None] + (-ny, ny, -1, 1), 0)
        slot = np.arange(count * leaf_size)[:, None]
        neighbours = np.where(exists, position[there], slot)
        y_face = (nx + 1) * ny + i * (ny + 1) + j
        faces = np.stack([flat, flat + ny, y_face, y_face + 1], axis=1)
        faces[flat == n] = (nx + 1) * ny + nx * (ny + 1)  # one zero after all faces
        same_leaf = exists & (neighbours // leaf_size == slot // leaf_size)
        entries = slot * leaf_size + neighbours % leaf_size

        def static(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        zeros = partial(torch.zeros, dtype=torch.float32, device=device)
        self.cells, self.position = static(cells), static(position)
        self.neighbours, self._exists, self._faces = static(neighbours), static(exists), static(faces)
        self._coupling_from = static(np.flatnonzero(same_leaf))
        self._coupling_to = static(entries[same_leaf])
        self._places = static(np.stack([i, j], axis=1).reshape(count, leaf_size, 2).astype(np.float64))
        self.mask, self.inverse_diagonal = zeros(count, leaf_size), zeros(count, leaf_size)
        self.positions = zeros(count, leaf_size, 2)
        self.node = zeros(count, leaf_size, NODE_FEATURES)
        self.level, self.globals, self.scale = zeros(count, 1), zeros(GLOBAL_FEATURES), zeros(1)
        if couplings:
            self.bias = zeros(count, leaf_size, leaf_size)
            self.neighbour_weights = zeros(count * leaf_size, 4)
        sizes = [math.log2(nx / ny), math.log2(leaf_size) / 2.0 - 3.0, math.log2(count) / 2.0 - 3.0]
        self._sizes = torch.tensor(sizes, dtype=torch.float64, device=device)
        self.update_geometry()
        self.update()

    @cached_property
    def tiles(self) -> Tiles:
        """The partition over the leaves, by their number unless it is given."""
        with torch.inference_mode(False):  # built at first use, wherever that is
            return Tiles.of(self.count, self.operator.device)

    def _padded(self, field: Tensor, padding: float) -> Tensor:
        """``field`` (nx, ny) leaf by leaf, (K, L)."""
        flat = field.reshape(-1)
        return torch.cat([flat, flat.new_full((1,), padding)])[self.cells]

    def update_geometry(self) -> None:
        """Follow the operator's solids: the mask and what depends on it alone, without a host sync."""
        fluid = self._padded(~self.operator.solid, False)  # (K, L)
        open_faces = fluid.view(-1)[self.neighbours] & self._exists  # (K L, 4)
        coupled = open_faces.any(dim=1).view_as(fluid)
        if self.operator.openings is not None:
            coupled = coupled | self._padded(self.operator.diagonal() > 0.0, False)
        inside = (fluid & coupled).double()[..., None]  # (K, L, 1)
        self.mask.copy_(inside[..., 0])
        self._counts = inside.sum(dim=1)  # (K, 1)
        self._cells_in_leaf = self._counts.clamp(min=1.0)
        self._total = self._counts.sum().clamp(min=1.0)
        centre = (self._places * inside).sum(dim=1) / self._cells_in_leaf  # (K, 2)
        unit = math.sqrt(self.leaf_size)
        relative = (self._places - centre[:, None]) / unit * inside  # (K, L, 2)
        self.positions.copy_(relative)
        extent = (relative.amax(dim=1) - relative.amin(dim=1) + 1.0 / unit)[:, None] * inside  # (K, L, 2)
        self._geometry = torch.cat([relative, extent, inside], dim=-1)  # (K, L, 5)
        self._centres = centre

    def tile_geometry(self) -> Tensor:
        """Each tile's log2 size and the way from its row strip's centre to its column strip's, in units of a
        strip's side: (T, 3).
        """
        tiles = self.tiles
        moments = torch.cat([self._centres * self._counts, self._counts], dim=1).float()  # (K, 3)
        rows, columns = tiles.rows @ moments, tiles.columns @ moments  # (T, 3)
        way = columns[:, :2] / columns[:, 2:].clamp(min=1.0) - rows[:, :2] / rows[:, 2:].clamp(min=1.0)
        side = torch.exp2(0.5 * tiles.log_size) * math.sqrt(self.leaf_size)
        present = (rows[:, 2:] > 0) & (columns[:, 2:] > 0)
        return torch.cat([tiles.log_size, torch.where(present, way / side, 0.0)], dim=1)

    def neighbour_sums(self, x: Tensor) -> Tensor:
        """-D^-1 (A - D) ``x`` (K L, d): gather, product and sum in one kernel."""
        sums = partial(torch.nn.functional.embedding_bag, mode="sum")
        return sums(self.neighbours, x, per_sample_weights=self.neighbour_weights)

    def update(self) -> None:
        """Follow the operator's present coefficients, in place, without a host sync; `update_geometry` comes
        first where solids changed.
        """
        operator = self.operator
        mask = self.mask.bool()  # (K, L)
        x, y = operator.face_weights_x.view(-1), operator.face_weights_y.view(-1)
        weights = torch.cat([x, y, x.new_zeros(1)])[self._faces].view(*mask.shape, 4)  # (K, L, 4)
        diagonal = torch.where(mask, weights.sum(dim=-1), 1.0)  # (K, L)
        log_density = torch.where(mask, self._padded(operator.density, 1.0).log(), 0.0)  # (K, L)
        leaf_sum = log_density.sum(dim=1, keepdim=True)  # (K, 1)
        leaf_mean = leaf_sum / self._cells_in_leaf
        mean = leaf_sum.sum() / self._total
        centred = torch.where(mask, log_density - leaf_mean, 0.0)
        log_weights = torch.where(weights > 0.0, weights.log() + leaf_mean[..., None], MISSING)
        log_diagonal = torch.where(mask, (0.25 * diagonal).log() + leaf_mean, 0.0)
        channels = [centred[..., None], log_weights * mask[..., None], log_diagonal[..., None]]
        logs = torch.cat(channels, dim=-1) / LOG_UNIT  # (K, L, 6)
        self.node.copy_(torch.cat([logs, self._geometry], dim=-1))
        self.level.copy_(torch.where(self._counts > 0.0, leaf_mean - mean, 0.0) / LOG_UNIT)
        self.globals.copy_(self._globals(log_density, log_diagonal - leaf_mean, leaf_mean, mean))
        self.inverse_diagonal.copy_(mask / diagonal)
        self.scale.copy_(mean.exp())
        if not self._couplings:
            return
        flat = diagonal.view(-1)
        pairs = flat[self.neighbours]  # (K L, 4)
        weights = weights.view(-1, 4) * self._exists  # nothing beyond an opening
        self.neighbour_weights.copy_(weights / flat[:, None])
        scaled = (weights * torch.rsqrt(pairs * flat[:, None])).view(-1)  # (4 K L,)
        self.bias.view(-1).index_copy_(0, self._coupling_to, -scaled[self._coupling_from].float())
        self.bias.diagonal(dim1=1, dim2=2).copy_(self.mask)

    def _globals(self, log_density: Tensor, log_diagonal: Tensor, leaf_mean: Tensor, mean: Tensor) -> Tensor:
        """Twelve numbers about the whole system, (12,), of order one."""
        mask = self.mask.bool()
        nx, ny = self.operator.shape

        def average(values: Tensor) -> Tensor:
            return torch.where(mask, values, 0.0).sum() / self._total

        density = torch.where(mask, log_density - mean, 0.0)
        diagonal_mean = average(log_diagonal + mean)
        diagonal_spread = average((log_diagonal + mean - diagonal_mean) ** 2).sqrt()
        between = (((leaf_mean - mean) ** 2 * self._counts).sum() / self._total).sqrt()
        within = average((log_density - leaf_mean) ** 2).sqrt()
        logs = [average(density**2).sqrt(), density.amax(), density.amin()]
        logs += [diagonal_mean, diagonal_spread, between, within]
        size = torch.stack([torch.log2(self._total) / 2.0 - 6.0, self._total / (nx * ny)])
        return torch.cat([torch.stack(logs) / LOG_UNIT, size, self._sizes])
