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
