"""How the interface meets walls: where they face, and at what angle."""

from __future__ import annotations

import math

import torch

from sim.walls import Walls, border_cells, sides

SMOOTH, SLOPE = (1.0, 4.0, 6.0, 4.0, 1.0), (1.0, 2.0, 0.0, -2.0, -1.0)  # weights of five cells in a row


class Contact:
    """Field ``planes`` (3, nx, ny) float64: normal of the wall that a fluid cell has within two cells, out of
    the solid, its larger part 1 or -1, zero in solids and far from them; cotangent of the contact angle, zero
    at openings of the box. It is kept in step with the solids by `follow` and with the angle by `meet`.

    The normal is the gradient of the solids smoothed over 5 x 5 cells, which makes one wall of a staircase.
    The sides of the box mirror.
    """

    def __init__(self, solid: torch.Tensor, walls: Walls | None) -> None:
        """``solid`` (nx, ny) uint8 is kept. None for ``walls``: a closed box."""
        self._solid, self._walls, self._angle = solid, walls, 90.0
        self._planes = torch.zeros(3, *solid.shape, dtype=torch.float64, device=solid.device)
        self._stale = True

    def follow(self) -> None:
        """Notice that the solids changed."""
        self._stale = True

    @property
    def planes(self) -> torch.Tensor:
        """The field, of the present solids: flows without surface tension never ask for it."""
        if self._stale:
            self._find_normals()
            self._stale = False
        return self._planes

    def _find_normals(self) -> None:
        inside = self._solid.to(torch.float64)
        for axis in range(2):
            self._planes[axis] = _along(_along(inside, 1 - axis, SMOOTH), axis, SLOPE)
        normals = self._planes[:2].mul_(self._solid == 0)
        largest = normals.abs().amax(dim=0)
        normals.div_(torch.where(largest > 0.0, largest, 1.0))

    def wetted(self, phase: torch.Tensor) -> float:
        """Length of the walls and solids that the heavy fluid of ``phase`` (nx, ny) covers, in cells. A face
        of a solid counts as much as the wall's normal, of length one, points along it, so that a staircase is
        as long as the wall that it stands for.
        """
        lengths, fluid = torch.zeros_like(phase), (self._solid == 0).to(phase.dtype)
        normals = self.planes[:2]
        shares = normals.abs() / torch.linalg.vector_norm(normals, dim=0).clamp(min=1.0)
        for d in range(2):
            cells, n = lengths.movedim(d, 0), self._solid.shape[d]
            inside, share = fluid.movedim(d, 0), shares[d].movedim(d, 0)
            for here, there in ((slice(1, n), slice(0, n - 1)), (slice(0, n - 1), slice(1, n))):
                cells[here] += share[here] * inside[here] * (1.0 - inside[there])
        closed = [torch.ones_like(cells) for cells in border_cells(phase)]
        if self._walls is not None:
            openings = sides(self._walls.open), sides(self._walls.given)
            closed = [
                ((opened == 0.0) & ~given).to(phase.dtype) for opened, given in zip(*openings, strict=True)
            ]
        for cells, share in zip(border_cells(lengths), closed, strict=True):
            cells += share
        return float((lengths * phase * fluid).sum())

    def meet(self, angle: float) -> None:
        """Have the interface meet walls at an ``angle`` in degrees, measured in the heavy fluid."""
        if angle == self._angle:
            return
        self._angle = angle
        self._planes[2] = math.tan(math.radians(90.0 - angle))
        if self._walls is not None:
            borders = border_cells(self._planes[2]), sides(self._walls.open), sides(self._walls.given)
            for cells, opened, given in zip(*borders, strict=True):
                cells[(opened > 0.0) | given] = 0.0


def _along(cells: torch.Tensor, axis: int, weights: tuple[float, ...]) -> torch.Tensor:
    """Weighted sums of ``cells`` (nx, ny) and their neighbours along an ``axis``, mirrored by the box."""
    n, reach = cells.shape[axis], len(weights) // 2
    at = torch.arange(-reach, n + reach, device=cells.device)
    at = torch.where(at < 0, -1 - at, torch.where(at < n, at, 2 * n - 1 - at))
    wide = cells.index_select(axis, at)
    return sum(weight * wide.narrow(axis, k, n) for k, weight in enumerate(weights) if weight)
