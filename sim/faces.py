"""Faces of the staggered grid: component d of a face field (2, nx+1, ny+1) lies on the lower d-face of cell
(i, j).
"""

from __future__ import annotations

import torch


def open_faces(solid: torch.Tensor, border: torch.Tensor | None = None) -> torch.Tensor:
    """1.0 on every face between two fluid cells, else 0.0: (2, nx+1, ny+1) float64 from ``solid`` (nx, ny)
    uint8. ``border``: the same, 1.0 on faces of the box that are open where a cell is fluid.
    """
    nx, ny = solid.shape
    fluid = (solid == 0).to(torch.float64)
    faces = fluid.new_zeros(2, nx + 1, ny + 1)
    faces[0, 1:-1, :-1] = fluid[1:] * fluid[:-1]
    faces[1, :-1, 1:-1] = fluid[:, 1:] * fluid[:, :-1]
    if border is not None:
        faces[0, 0, :-1], faces[0, -1, :-1] = fluid[0], fluid[-1]
        faces[1, :-1, 0], faces[1, :-1, -1] = fluid[:, 0], fluid[:, -1]
        faces[0, [0, -1]] *= border[0, [0, -1]]
        faces[1, :, [0, -1]] *= border[1, :, [0, -1]]
    return faces


def wall_normals(solid: torch.Tensor) -> torch.Tensor:
    """Normal of the wall that a fluid cell has within two cells, out of the solid, its larger part 1 or -1;
    zero in solids and far from them: (2, nx, ny) float64 from ``solid`` (nx, ny) uint8.

    The gradient of the solids smoothed over 5 x 5 cells, which makes one wall of a staircase. The sides of
    the box mirror.
    """
    inside = solid.to(torch.float64)
    smooth = [_along(inside, axis, (1.0, 4.0, 6.0, 4.0, 1.0)) for axis in (1, 0)]
    normals = torch.stack([_along(smooth[d], d, (1.0, 2.0, 0.0, -2.0, -1.0)) for d in range(2)])
    normals *= solid == 0
    largest = normals.abs().amax(dim=0)
    return torch.where(largest > 0.0, normals / largest, 0.0)


def _along(cells: torch.Tensor, axis: int, weights: tuple[float, ...]) -> torch.Tensor:
    """Weighted sums of ``cells`` (nx, ny) and their neighbours along an ``axis``, mirrored by the box."""
    n, reach = cells.shape[axis], len(weights) // 2
    at = torch.arange(-reach, n + reach, device=cells.device)
    at = torch.where(at < 0, -1 - at, torch.where(at < n, at, 2 * n - 1 - at))
    wide = cells.index_select(axis, at)
    return sum(weight * wide.narrow(axis, k, n) for k, weight in enumerate(weights) if weight)
