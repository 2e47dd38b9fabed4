"""Faces of the staggered grid as Taichi's kernels see them: see sim.faces."""

import taichi as ti

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
