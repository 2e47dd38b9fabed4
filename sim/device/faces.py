"""Faces of the staggered grid: component d of a face field (2, nx+1, ny+1) lies on the lower d-face of cell
(i, j).
"""

import taichi as ti
import torch

# Arguments of kernels and their functions.
Cells = ti.types.ndarray(dtype=ti.f64, ndim=2)  # (nx, ny)
Planes = ti.types.ndarray(dtype=ti.f64, ndim=3)  # a face field, or several planes of cells or faces
Solids = ti.types.ndarray(dtype=ti.u8, ndim=2)  # (nx, ny), 1 in solids
Static = ti.template()  # an array that is passed on, or a number known when the kernel is compiled


@ti.func
def is_open(solid: Static, d: Static, i, j) -> bool:
    """Whether face (i, j) of component d lies between two fluid cells."""
    nx, ny = solid.shape[0], solid.shape[1]
    inside = False
    if ti.static(d == 0):
        if i > 0 and i < nx and j < ny:
            inside = solid[i - 1, j] == 0 and solid[i, j] == 0
    else:
        if j > 0 and j < ny and i < nx:
            inside = solid[i, j - 1] == 0 and solid[i, j] == 0
    return inside


def open_faces(solid: torch.Tensor) -> torch.Tensor:
    """1.0 on every face between two fluid cells, else 0.0: (2, nx+1, ny+1) float64 from ``solid`` (nx, ny)
    uint8.
    """
    nx, ny = solid.shape
    fluid = (solid == 0).to(torch.float64)
    faces = fluid.new_zeros(2, nx + 1, ny + 1)
    faces[0, 1:-1, :-1] = fluid[1:] * fluid[:-1]
    faces[1, :-1, 1:-1] = fluid[:, 1:] * fluid[:, :-1]
    return faces


def net_outflow(velocity: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Net outflow of every cell, (nx, ny), from face velocities (2, nx+1, ny+1): divergence times spacing."""
    u, v = velocity[0], velocity[1]
    torch.sub(u[1:, :-1], u[:-1, :-1], out=out)
    return out.add_(v[:-1, 1:]).sub_(v[:-1, :-1])


def largest_outflow(velocity: torch.Tensor) -> float:
    """Largest sum of the velocities that leave a cell through its faces, in the unit of ``velocity``."""
    out, back = velocity.clamp(min=0.0), velocity.clamp(max=0.0)
    leaving = out[0, 1:, :-1] - back[0, :-1, :-1]
    leaving.add_(out[1, :-1, 1:]).sub_(back[1, :-1, :-1])
    return float(leaving.max())
