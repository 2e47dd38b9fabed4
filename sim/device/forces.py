"""Stirring and viscosity: what changes the velocity between two projections."""

import taichi as ti

from sim.device.faces import Cells, Planes, Solids, Static, is_open


@ti.kernel
def add_stir(
    velocity: Planes,
    open_faces: Planes,
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
            if open_faces[d, i, j] > 0.0:
                x = i + 0.5 * d - centre_x
                y = j + 0.5 * (1 - d) - centre_y
                weight = ti.max(0.0, 1.0 - (x * x + y * y) / (radius * radius))
                target = velocity_x if ti.static(d == 0) else velocity_y
                velocity[d, i, j] += weight * weight * (target - velocity[d, i, j])


@ti.func
def corner_shear(
    velocity: Static,
    solid: Static,
    phase: Static,
    closed: Static,
    hold: ti.math.vec4,
    heavy: ti.f64,
    light: ti.f64,
    i,
    j,
) -> ti.f64:
    """Shear stress * spacing at the lower left corner of cell (i, j); solids do not slip, nor walls (left,
    right, bottom, top) whose ``hold`` is 1. ``closed``: 0 for the corners of each wall along open sides,
    where nothing changes outwards and nothing slips, else 1.
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
        du, dv, held = u_above - u_below, v_right - v_left, 1.0
        for wall in ti.static(range(4)):
            last, place, along = (nx, i, j) if ti.static(wall < 2) else (ny, j, i)
            if place == last * (wall % 2):
                # the wall stands half a spacing away where one of a pair of faces is missing
                corner = closed[wall, along]
                if ti.static(wall < 2):
                    dv *= 2.0 * corner
                else:
                    du *= 2.0 * corner
                held *= 1.0 - (1.0 - hold[wall]) * corner
        stress = wet / inverse_sum * (du + dv) * held
    return stress


@ti.kernel
def viscous_stage(
    current: Planes,
    previous: Planes,
    density: Cells,
    phase: Cells,
    solid: Solids,
    open_faces: Planes,
    closed: Cells,
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
    the stage's time step over the spacing squared. ``closed`` (4, max(nx, ny) + 1) is as in corner_shear.
    ``shear`` is scratch, (2, nx+1, ny+1).
    """
    nx, ny = solid.shape[0], solid.shape[1]
    for i, j in ti.ndrange(nx + 1, ny + 1):
        shear[0, i, j] = corner_shear(current, solid, phase, closed, hold, heavy, light, i, j)

    for i, j in ti.ndrange(nx + 1, ny + 1):
        for d in ti.static(range(2)):
            # an open face of the box feels what the face inside feels, an inflow stays as it is
            x = ti.min(ti.max(i, 1), nx - 1) if ti.static(d == 0) else i
            y = ti.min(ti.max(j, 1), ny - 1) if ti.static(d == 1) else j
            updated = current[d, i, j] if x != i or y != j else 0.0
            if open_faces[d, i, j] > 0.0:
                updated = weight_current * current[d, i, j] + weight_previous * previous[d, i, j]
                if is_open(solid, d, x, y):
                    bx, by = x - (1 - d), y - d
                    mass = 0.5 * (density[x, y] + density[bx, by])
                    stretch_upper = current[d, x + (1 - d), y + d] - current[d, x, y]
                    stretch_lower = current[d, x, y] - current[d, bx, by]
                    upper = light + (heavy - light) * phase[x, y]
                    lower = light + (heavy - light) * phase[bx, by]
                    force = 2.0 * (upper * stretch_upper - lower * stretch_lower)
                    force += shear[0, x + d, y + (1 - d)] - shear[0, x, y]
                    updated += ratio * force / mass
            previous[d, i, j] = updated
