"""The Poisson operator's own loops: face weights of a density, products, projection. Grids are (nx, ny)
float64, weights as in precond.poisson; those of walls are zero, and behind open faces stands a zero.
"""

from __future__ import annotations

import math

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray


@compiled
def set_weights(
    density: Array,
    fluid: Array,
    harmonic: bool,
    weights_x: Array,
    weights_y: Array,
    weights_next: Array,
    diagonal: Array,
) -> None:
    """Face weights between fluid cells from ``density``, ``weights_next`` (weights_y without its first
    column, zero in the last) and the diagonal, the sum of a cell's four, those of the box's border included.
    """
    nx, ny = density.shape
    for i in range(nx):
        row, cells, along, on = density[i], fluid[i], weights_y[i], weights_next[i]
        if i > 0:
            below, others, across = density[i - 1], fluid[i - 1], weights_x[i]
            for j in range(ny):
                total = 0.5 / row[j] + 0.5 / below[j] if harmonic else 1.0 / (0.5 * row[j] + 0.5 * below[j])
                across[j] = total * (cells[j] * others[j])
        for j in range(1, ny):
            total = 0.5 / row[j] + 0.5 / row[j - 1] if harmonic else 1.0 / (0.5 * row[j] + 0.5 * row[j - 1])
            along[j] = total * (cells[j] * cells[j - 1])
        for j in range(ny - 1):
            on[j] = along[j + 1]
    for i in range(nx):
        below, above, along, target = weights_x[i], weights_x[i + 1], weights_y[i], diagonal[i]
        for j in range(ny):
            target[j] = below[j] + above[j] + along[j] + along[j + 1]


@compiled
def multiply(p: Array, weights_x: Array, weights_y: Array, out: Array) -> None:
    """``out`` <- A p."""
    nx, ny = p.shape
    for i in range(nx):
        here, below, above = p[i], p[max(i - 1, 0)], p[min(i + 1, nx - 1)]
        below_weight, above_weight, weight, target = weights_x[i], weights_x[i + 1], weights_y[i], out[i]
        for j in range(ny):
            own = here[j]
            target[j] = below_weight[j] * (own - below[j]) + above_weight[j] * (own - above[j])
        for j in range(1, ny):
            target[j] += weight[j] * (here[j] - here[j - 1])
        for j in range(ny - 1):
            target[j] += weight[j + 1] * (here[j] - here[j + 1])
        target[0] += weight[0] * here[0]
        target[ny - 1] += weight[ny] * here[ny - 1]
    for j in range(ny):
        out[0, j] += weights_x[0, j] * p[0, j]
        out[nx - 1, j] += weights_x[nx, j] * p[nx - 1, j]


@compiled
def project(v: Array, fluid: Array, cells: float) -> None:
    """Zero ``v`` outside the fluid of ``cells`` cells and take its mean off inside, in place."""
    total = 0.0
    for i in range(v.shape[0]):
        row, inside = v[i], fluid[i]
        for j in range(v.shape[1]):
            total += row[j] * inside[j]
    mean = total / cells
    for i in range(v.shape[0]):
        row, inside = v[i], fluid[i]
        for j in range(v.shape[1]):
            row[j] = (row[j] - mean) * inside[j]


@compiled
def norm(v: Array) -> float:
    """Of a grid of numbers, Euclidean."""
    total = 0.0
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            total += v[i, j] * v[i, j]
    return math.sqrt(total)
