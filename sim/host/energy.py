"""What is measured of every step on the CPU."""

from __future__ import annotations

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray


@compiled
def energy(velocity: Array, density: Array, solid: Array) -> tuple[float, float]:
    """Kinetic energy over the spacing squared, of faces with the mean density of their cells, on the box's
    sides with the half of a volume that is inside; and potential energy over gravity and the spacing cubed,
    without solids, whose faces' velocity is zero.
    """
    nx, ny = density.shape
    kinetic, potential = 0.0, 0.0
    for j in range(ny):
        kinetic += density[0, j] * velocity[0, 0, j] ** 2 + density[nx - 1, j] * velocity[0, nx, j] ** 2
    for i in range(nx):
        row, before = density[i], density[max(i - 1, 0)]
        across, along, solids = velocity[0, i], velocity[1, i], solid[i]
        kinetic += row[0] * along[0] ** 2 + row[ny - 1] * along[ny] ** 2
        for j in range(ny if i > 0 else 0):
            kinetic += (row[j] + before[j]) * across[j] * across[j]
        for j in range(1, ny):
            kinetic += (row[j] + row[j - 1]) * along[j] * along[j]
        for j in range(ny):
            potential += row[j] * (j + 0.5) if solids[j] == 0 else 0.0
    return 0.25 * kinetic, potential


@compiled
def largest_difference(velocity: Array, welling: Array) -> float:
    """Largest difference between the net outflow of a cell and its ``welling`` (nx, ny), an empty one being
    none; in the unit of the velocity.
    """
    largest, some = 0.0, welling.size > 0
    for i in range(velocity.shape[1] - 1):
        west, east, along = velocity[0, i], velocity[0, i + 1], velocity[1, i]
        for j in range(velocity.shape[2] - 1):
            outflow = east[j] - west[j] + along[j + 1] - along[j]
            largest = max(largest, abs(outflow - welling[i, j] if some else outflow))
    return largest
