"""Stirring and viscosity: what changes the velocity between two projections."""

import taichi as ti

from sim.device.faces import Cells, Planes, Solids, Static, is_open


@ti.kernel
def add_stir(
    velocity: Planes,
    solid: Solids,
    centre_x: ti.f64,
    centre_y: ti.f64,
    velocity_x: ti.f64,
    velocity_y: ti.f64,
    radius: ti.f64,
):
    """Pull the velocity inside a disc towards (velocity_x, velocity_y), fully at its centre; lengths in
    cells.
    """
    for i, j in ti.ndrange(velocity.shape[1], velocity.shape[2]):
        for d in ti.static(range(2)):
            if is_open(solid, d, i, j):
                x = i + 0.5 * d - centre_x
                y = j + 0.5 * (1 - d) - centre_y
                weight = ti.max(0.0, 1.0 - (x * x + y * y) / (radius * radius))
                target = velocity_x if ti.static(d == 0) else velocity_y
                velocity[d, i, j] += weight * weight * (target - velocity[d, i, j])


@ti.func
def corner_shear(
    velocity: Static, solid: Static, phase: Static, hold: ti.math.vec4, heavy: ti.f64, light: ti.f64, i, j
) -> ti.f64:
    """Shear stress * spacing at the lower left corner of cell (i, j); solids do not slip, nor walls (left,
    right, bottom, top) whose ``hold`` is 1.
    """
    nx, ny = solid.shape[0], solid.shape[1]
    inverse_sum, wet = 0.0, 0
    for a, b in ti.static(ti.ndrange(2, 2)):
        if 0 <= i - a < nx and 0 <= j - b < ny and solid[i - a, j - b] == 0:
            inverse_sum += 1.0 / (light + (heavy - light) * phase[i - a, j - b])
            wet += 1
    stress = 0.0
    if wet > 0:
        u_above = velocity[0, i, j] if j < ny else 0.0
        u_below = velocity[0, i, j - 1] if j > 0 else 0.0
        v_right = velocity[1, i, j] if i < nx else 0.0
        v_left = velocity[1, i - 1, j] if i > 0 else 0.0
        # the wall stands half a spacing away where one of a pair of faces is missing
        du = (u_above - u_below) * (1.0 if j > 0 and j < ny else 2.0)
        dv = (v_right - v_left) * (1.0 if i > 0 and i < nx else 2.0)
        stress = wet / inverse_sum * (du + dv)
        stress *= (hold[0] if i == 0 else 1.0) * (hold[1] if i == nx else 1.0)
        stress *= (hold[2] if j == 0 else 1.0) * (hold[3] if j == ny else 1.0)
    return stress


@ti.kernel
def viscous_stage(
    current: Planes,
    previous: Planes,
    density: Cells,
    phase: Cells,
    solid: Solids,
    shear: Planes,
    hold: ti.math.vec4,
    heavy: ti.f64,
    light: ti.f64,
    weight_current: ti.f64,
    weight_previous: ti.f64,
    ratio: ti.f64,
):
    """previous <- weight_current current + weight_previous previous + ratio div(tau(current)) / density.

    ``heavy`` and ``light`` are the phases' dynamic viscosities in units of the light density, ``ratio`` is
    the stage's time step over the spacing squared. ``shear`` is scratch, (2, nx+1, ny+1).
    """
    for i, j in ti.ndrange(current.shape[1], current.shape[2]):
        shear[0, i, j] = corner_shear(current, solid, phase, hold, heavy, light, i, j)

    for i, j in ti.ndrange(current.shape[1], current.shape[2]):
        for d in ti.static(range(2)):
            updated = 0.0
            if is_open(solid, d, i, j):
                bi, bj = i - (1 - d), j - d
                mass = 0.5 * (density[i, j] + density[bi, bj])
                stretch_upper = current[d, i + (1 - d), j + d] - current[d, i, j]
                stretch_lower = current[d, i, j] - current[d, bi, bj]
                upper = light + (heavy - light) * phase[i, j]
                lower = light + (heavy - light) * phase[bi, bj]
                force = 2.0 * (upper * stretch_upper - lower * stretch_lower)
                force += shear[0, i + d, j + (1 - d)] - shear[0, i, j]
                updated = (
                    weight_current * current[d, i, j]
                    + weight_previous * previous[d, i, j]
                    + ratio * force / mass
                )
            previous[d, i, j] = updated
