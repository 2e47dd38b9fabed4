"""Stirring, viscosity and the pressure's gradient on the CPU: see sim.device.forces and sim.projection."""

from __future__ import annotations

import math

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray
Corners = tuple[Array, Array, Array, Array]  # (ny + 1,), (ny + 1,), (nx + 1,), (nx + 1,)


@compiled
def add_stir(
    velocity: Array,
    open_faces: Array,
    centre_x: float,
    centre_y: float,
    velocity_x: float,
    velocity_y: float,
    radius: float,
) -> None:
    """As sim.device.forces.add_stir."""
    for d in range(2):
        target = velocity_y if d else velocity_x
        for i in range(velocity.shape[1]):
            for j in range(velocity.shape[2]):
                x, y = i + 0.5 * d - centre_x, j + 0.5 * (1 - d) - centre_y
                weight = open_faces[d, i, j] * max(0.0, 1.0 - (x * x + y * y) / (radius * radius))
                velocity[d, i, j] += weight * weight * (target - velocity[d, i, j])


@compiled
def shear_row(
    i: int,
    velocity: Array,
    solid: Array,
    phase: Array,
    heavy: float,
    light: float,
    hold: Corners,
    closed: Corners,
    sums: Array,
    out: Array,
) -> None:
    """Shear stress * spacing at the corners (i, j), as sim.device.forces.corner_shear; ``sums`` (2, ny + 2)
    is scratch: how many fluid cells lie left and right of each place, and the sum of their inverse
    viscosities. ``hold``: 0 for the corners along walls (left, right, bottom, top) that slip, else 1;
    ``closed``: 0 for those along open sides, where nothing changes outwards, else 1.
    """
    nx, ny = solid.shape
    wet, inverse = sums[0], sums[1]
    for j in range(ny + 2):
        wet[j] = inverse[j] = 0.0
    for x in range(max(i - 1, 0), min(i + 1, nx)):
        solids, fractions = solid[x], phase[x]
        for j in range(ny):
            viscosity = light + (heavy - light) * fractions[j]
            wet[j + 1] += 1.0 if solids[j] == 0 else 0.0
            inverse[j + 1] += 1.0 / viscosity if solids[j] == 0 else 0.0
    u, right, left = velocity[0, i], velocity[1, min(i, nx - 1)], velocity[1, max(i - 1, 0)]
    # the wall stands half a spacing away where one of a pair of faces is missing
    out[0], out[ny] = 2.0 * closed[2][i] * u[0], -2.0 * closed[3][i] * u[ny - 1]
    for j in range(1, ny):
        out[j] = u[j] - u[j - 1]
    if 0 < i < nx:
        for j in range(ny + 1):
            out[j] = out[j] + right[j] - left[j]
    else:
        inside, walls, sign = (right, closed[0], 2.0) if i == 0 else (left, closed[1], -2.0)
        for j in range(ny + 1):
            out[j] += sign * walls[j] * inside[j]
    for j in range(ny + 1):
        both = wet[j] + wet[j + 1]
        stress = both / (inverse[j] + inverse[j + 1]) * out[j]
        out[j] = stress if both > 0.0 else 0.0
    if i == 0 or i == nx:
        held = hold[0] if i == 0 else hold[1]
        for j in range(ny + 1):
            out[j] *= held[j]
    out[0] *= hold[2][i]
    out[ny] *= hold[3][i]


@compiled
def viscous_stage(
    current: Array,
    previous: Array,
    density: Array,
    phase: Array,
    solid: Array,
    open_faces: Array,
    heavy: float,
    light: float,
    hold: Corners,
    closed: Corners,
    weight_current: float,
    weight_previous: float,
    ratio: float,
    begin: int,
    end: int,
) -> None:
    """As sim.device.forces.viscous_stage, in the rows ``begin`` to ``end`` (excluded) of cells."""
    ny = solid.shape[1]
    shears, sums = np.zeros((2, ny + 1)), np.zeros((2, ny + 2))
    shear_row(begin, current, solid, phase, heavy, light, hold, closed, sums, shears[begin % 2])
    for i in range(begin, end):
        shear, above = shears[i % 2], shears[(i + 1) % 2]
        shear_row(i + 1, current, solid, phase, heavy, light, hold, closed, sums, above)
        rho, fractions = density[i], phase[i]
        if i > 0:
            u, below, on, out = current[0, i], current[0, i - 1], current[0, i + 1], previous[0, i]
            faces, rho_below, fractions_below = open_faces[0, i], density[i - 1], phase[i - 1]
            for j in range(ny):
                upper = light + (heavy - light) * fractions[j]
                lower = light + (heavy - light) * fractions_below[j]
                force = 2.0 * (upper * (on[j] - u[j]) - lower * (u[j] - below[j]))
                force += shear[j + 1] - shear[j]
                new = weight_current * u[j] + weight_previous * out[j]
                out[j] = faces[j] * (new + ratio * force / (0.5 * (rho[j] + rho_below[j])))
        v, out, faces = current[1, i], previous[1, i], open_faces[1, i]
        for j in range(1, ny):
            upper = light + (heavy - light) * fractions[j]
            lower = light + (heavy - light) * fractions[j - 1]
            force = 2.0 * (upper * (v[j + 1] - v[j]) - lower * (v[j] - v[j - 1]))
            force += above[j] - shear[j]
            new = weight_current * v[j] + weight_previous * out[j]
            out[j] = faces[j] * (new + ratio * force / (0.5 * (rho[j] + rho[j - 1])))


@compiled
def net_outflow(velocity: Array, out: Array) -> None:
    """As sim.device.loops.DeviceLoops.net_outflow."""
    for i in range(out.shape[0]):
        west, east, along, row = velocity[0, i], velocity[0, i + 1], velocity[1, i], out[i]
        for j in range(out.shape[1]):
            row[j] = east[j] - west[j] + along[j + 1] - along[j]


@compiled
def largest_outflow(velocity: Array) -> float:
    """As sim.device.loops.DeviceLoops.largest_outflow; not finite where a velocity is not."""
    largest, total = 0.0, 0.0
    for i in range(velocity.shape[1] - 1):
        west, east, along = velocity[0, i], velocity[0, i + 1], velocity[1, i]
        for j in range(velocity.shape[2] - 1):
            leaving = max(east[j], 0.0) - min(west[j], 0.0) + max(along[j + 1], 0.0) - min(along[j], 0.0)
            total += east[j] - west[j] + along[j + 1] - along[j]
            largest = max(largest, leaving)
    return largest if math.isfinite(total) else total


@compiled
def subtract_gradient(
    velocity: Array, pressure: Array, weights_x: Array, weights_y: Array, ratio: float
) -> None:
    """velocity -= ratio * face weight * difference of the pressure across the face; it is zero outside the
    box."""
    nx, ny = pressure.shape
    for i in range(nx):
        row, along, weights = pressure[i], velocity[1, i], weights_y[i]
        along[0] -= ratio * weights[0] * row[0]
        along[ny] += ratio * weights[ny] * row[ny - 1]
        for j in range(1, ny):
            along[j] -= ratio * weights[j] * (row[j] - row[j - 1])
        if i > 0:
            before, across, weights = pressure[i - 1], velocity[0, i], weights_x[i]
            for j in range(ny):
                across[j] -= ratio * weights[j] * (row[j] - before[j])
    for j in range(ny):
        velocity[0, 0, j] -= ratio * weights_x[0, j] * pressure[0, j]
        velocity[0, nx, j] += ratio * weights_x[nx, j] * pressure[nx - 1, j]
