"""Momentum transport on the CPU: see sim.device.advection. The flux through a side between two control
volumes is computed once, row by row, and what enters the one leaves the other.
"""

from __future__ import annotations

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray
FLUX, CARRIED = 0, 1  # of a row of sides: the mass that enters through them, and its momentum


@compiled
def volume_masses(density: Array, masses: Array) -> None:
    """Mass of every face's control volume, the mean of its cells: (2, nx + 1, ny + 1)."""
    nx, ny = density.shape
    for i in range(nx + 1):
        before, after, across = density[max(i - 1, 0)], density[min(i, nx - 1)], masses[0, i]
        for j in range(ny):
            across[j] = 0.5 * (before[j] + after[j])
    for i in range(nx):
        row, along = density[i], masses[1, i]
        along[0], along[ny] = row[0], row[ny - 1]
        for j in range(1, ny):
            along[j] = 0.5 * (row[j - 1] + row[j])


@compiled
def limited_slope(
    own: float, behind: float, ahead: float, mass: float, mass_behind: float, mass_ahead: float
) -> float:
    """van Leer's difference across a control volume times the ratio of the masses around it."""
    product = (own - behind) * (ahead - own)
    slope = 2.0 * product / (ahead - behind) if product > 0.0 else 0.0
    return slope * min(mass, mass_behind, mass_ahead) / max(mass, mass_behind, mass_ahead)


@compiled
def slopes_of(carried: Array, masses: Array, open_faces: Array, slopes: Array) -> None:
    """Slopes (4, nx + 1, ny + 1), 2 d + e of component d in direction e; zero on closed faces."""
    nx, ny = carried.shape[1] - 1, carried.shape[2] - 1
    for d in range(2):
        rows, columns = nx + 1 - d, ny + d
        for i in range(rows):
            u, m, faces = carried[d, i], masses[d, i], open_faces[d, i]
            behind, ahead = carried[d, max(i - 1, 0)], carried[d, min(i + 1, rows - 1)]
            mass_behind, mass_ahead = masses[d, max(i - 1, 0)], masses[d, min(i + 1, rows - 1)]
            across, along = slopes[2 * d, i], slopes[2 * d + 1, i]
            for j in range(columns):
                slope = limited_slope(u[j], behind[j], ahead[j], m[j], mass_behind[j], mass_ahead[j])
                across[j] = faces[j] * slope
            for j in range(1, columns - 1):
                slope = limited_slope(u[j], u[j - 1], u[j + 1], m[j], m[j - 1], m[j + 1])
                along[j] = faces[j] * slope
            along[0] = along[columns - 1] = 0.0  # a wall's side has no difference


@compiled
def sides(
    begin: int,
    end: int,
    shift: int,
    one: Array,
    other: Array,
    one_flux: Array,
    other_flux: Array,
    shift_flux: int,
    before: Array,
    after: Array,
    slope_before: Array,
    slope_after: Array,
    excess: float,
    ratio: float,
    out: Array,
) -> None:
    """Mass and momentum through the sides ``begin`` to ``end`` of a row, into ``out`` (2, columns).

    The side's velocity and heavy flux are the mean of ``one``'s at j - ``shift_flux`` and ``other``'s at j;
    its donors are ``before`` at j - ``shift`` and ``after`` at j.
    """
    flux, carried = out[FLUX], out[CARRIED]
    for j in range(begin, end):
        speed = (one[j - shift_flux] + other[j]) * ratio
        mass = 0.5 * (speed + excess * (one_flux[j - shift_flux] + other_flux[j]))
        rest = 0.5 * (1.0 - 0.5 * abs(speed))
        from_before = before[j - shift] + rest * slope_before[j - shift]
        from_after = after[j] - rest * slope_after[j]
        flux[j] = mass
        carried[j] = mass * (from_before if mass > 0.0 else from_after)


@compiled
def settle(
    begin: int,
    end: int,
    masses: Array,
    carried: Array,
    faces: Array,
    lower: Array,
    upper: Array,
    along: Array,
    out: Array,
) -> None:
    """New velocities of a row of control volumes: what they held and what came through their four sides."""
    lower_flux, lower_carried, upper_flux, upper_carried = (
        lower[FLUX],
        lower[CARRIED],
        upper[FLUX],
        upper[CARRIED],
    )
    flux, moved = along[FLUX], along[CARRIED]
    for j in range(begin, end):
        mass = masses[j] + lower_flux[j] - upper_flux[j] + flux[j] - flux[j + 1]
        momentum = masses[j] * carried[j] + lower_carried[j] - upper_carried[j]
        momentum += moved[j] - moved[j + 1]
        out[j] = momentum / mass if faces[j] > 0.0 else 0.0


@compiled
def transport_momentum(
    carried: Array,
    velocity: Array,
    heavy_flux: Array,
    density: Array,
    phase: Array,
    open_faces: Array,
    slopes: Array,
    transported: Array,
    heavy: float,
    ratio: float,
) -> None:
    """As sim.device.advection.transport_momentum; ``slopes`` is scratch, (6, nx + 1, ny + 1)."""
    nx, ny = density.shape
    excess, masses = heavy - 1.0, slopes[4:]
    volume_masses(density, masses)
    slopes_of(carried, masses, open_faces, slopes)
    buffers = np.zeros((3, 2, ny + 2))
    along = buffers[2]

    u, m, flux = carried[0], masses[0], heavy_flux[0]  # control volumes of the x faces
    v, v_flux = velocity[1], heavy_flux[1]
    sides(
        0,
        ny,
        0,
        velocity[0, 0],
        velocity[0, 1],
        flux[0],
        flux[1],
        0,
        u[0],
        u[1],
        slopes[0, 0],
        slopes[0, 1],
        excess,
        ratio,
        buffers[0],
    )
    for i in range(1, nx):
        lower, upper = buffers[(i - 1) % 2], buffers[i % 2]
        sides(
            0,
            ny,
            0,
            velocity[0, i],
            velocity[0, i + 1],
            flux[i],
            flux[i + 1],
            0,
            u[i],
            u[i + 1],
            slopes[0, i],
            slopes[0, i + 1],
            excess,
            ratio,
            upper,
        )
        sides(
            1,
            ny,
            1,
            v[i - 1],
            v[i],
            v_flux[i - 1],
            v_flux[i],
            0,
            u[i],
            u[i],
            slopes[1, i],
            slopes[1, i],
            excess,
            ratio,
            along,
        )
        along[:, 0], along[:, ny] = 0.0, 0.0
        settle(0, ny, m[i], u[i], open_faces[0, i], lower, upper, along, transported[0, i])

    u, m, flux = carried[1], masses[1], heavy_flux[1]  # and of the y faces
    v, v_flux = velocity[0], heavy_flux[0]
    buffers[0] = 0.0
    for i in range(nx):
        lower, upper = buffers[i % 2], buffers[(i + 1) % 2]
        if i + 1 < nx:
            sides(
                1,
                ny,
                0,
                v[i + 1],
                v[i + 1],
                v_flux[i + 1],
                v_flux[i + 1],
                1,
                u[i],
                u[i + 1],
                slopes[2, i],
                slopes[2, i + 1],
                excess,
                ratio,
                upper,
            )
        else:
            upper[:] = 0.0
        sides(
            1,
            ny + 1,
            1,
            velocity[1, i],
            velocity[1, i],
            flux[i],
            flux[i],
            1,
            u[i],
            u[i],
            slopes[3, i],
            slopes[3, i],
            excess,
            ratio,
            along,
        )
        settle(1, ny, m[i], u[i], open_faces[1, i], lower, upper, along, transported[1, i])

    for i in range(nx):
        row, fractions = density[i], phase[i]
        for j in range(ny):
            row[j] = 1.0 + excess * fractions[j]
