"""Momentum transport on the CPU: see sim.device.advection. The flux through a side between two control
volumes is computed once, row by row, and what enters the one leaves the other. Passes take a range of rows of
cells, ``begin`` to ``end`` (excluded), with the faces below them, and above the last one.
"""

from __future__ import annotations

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray


@compiled
def volume_masses(density: Array, begin: int, end: int, masses: Array) -> None:
    """Mass of every face's control volume, the mean of its cells: (2, nx + 1, ny + 1)."""
    nx, ny = density.shape
    for i in range(begin, nx + 1 if end == nx else end):
        before, after, across = density[max(i - 1, 0)], density[min(i, nx - 1)], masses[0, i]
        for j in range(ny):
            across[j] = 0.5 * (before[j] + after[j])
    for i in range(begin, end):
        row, along = density[i], masses[1, i]
        along[0], along[ny] = row[0], row[ny - 1]
        for j in range(1, ny):
            along[j] = 0.5 * (row[j - 1] + row[j])


@compiled
def renew_density(phase: Array, heavy: float, begin: int, end: int, density: Array) -> None:
    """Density of cells (nx, ny), in units of the light phase's."""
    excess = heavy - 1.0
    for i in range(begin, end):
        row, fractions = density[i], phase[i]
        for j in range(len(row)):
            row[j] = 1.0 + excess * fractions[j]


@compiled
def limited_slope(own: float, behind: float, ahead: float) -> float:
    """van Leer's difference across a control volume."""
    product = (own - behind) * (ahead - own)
    return 2.0 * product / (ahead - behind) if product > 0.0 else 0.0


@compiled
def evenness(mass: float, behind: float, ahead: float) -> float:
    """Ratio of the masses around a control volume, which a light one's values are not to be moved by."""
    return min(mass, behind, ahead) / max(mass, behind, ahead)


@compiled
def predict(
    carried: Array,
    velocity: Array,
    began: Array,
    kick: float,
    masses: Array,
    open_faces: Array,
    e: int,
    begin: int,
    end: int,
    slopes: Array,
    donors: Array,
) -> None:
    """Slopes of both components in direction ``e``, zero on closed faces, and what they are half a time step
    on: ``carried`` + ``kick`` (``velocity`` - ``began``); each (2, nx + 1, ny + 1).
    """
    nx, ny = carried.shape[1] - 1, carried.shape[2] - 1
    for d in range(2):
        rows, columns = nx + 1 - d, ny + d
        for i in range(begin, rows if end == nx else end):
            u, m, faces, out, donor = (
                carried[d, i],
                masses[d, i],
                open_faces[d, i],
                slopes[d, i],
                donors[d, i],
            )
            now, then = velocity[d, i], began[d, i]
            push = 0.0 if e == d == 0 and (i == 0 or i == nx) else kick  # not on the box's own sides
            if e == 0:
                behind, ahead = carried[d, max(i - 1, 0)], carried[d, min(i + 1, rows - 1)]
                mass_behind, mass_ahead = masses[d, max(i - 1, 0)], masses[d, min(i + 1, rows - 1)]
                for j in range(columns):
                    even = faces[j] * evenness(m[j], mass_behind[j], mass_ahead[j])
                    out[j] = even * limited_slope(u[j], behind[j], ahead[j])
                    donor[j] = u[j] + even * push * (now[j] - then[j])
            else:
                for j in range(1, columns - 1):
                    even = faces[j] * evenness(m[j], m[j - 1], m[j + 1])
                    out[j] = even * limited_slope(u[j], u[j - 1], u[j + 1])
                    donor[j] = u[j] + even * kick * (now[j] - then[j])
                for j, inner in ((0, 1), (columns - 1, columns - 2)):  # a wall's side has no difference
                    even = faces[j] * evenness(m[j], m[j], m[inner])
                    out[j], donor[j] = 0.0, u[j] + even * (1 - d) * kick * (now[j] - then[j])


@compiled
def sides(
    one: Array,
    other: Array,
    one_flux: Array,
    other_flux: Array,
    before: Array,
    after: Array,
    slope_before: Array,
    slope_after: Array,
    excess: float,
    ratio: float,
    flux: Array,
    carried: Array,
) -> None:
    """Mass ``flux`` and momentum ``carried`` through a row of sides. A side's velocity and heavy flux are the
    mean of ``one``'s and ``other``'s, its donors ``before`` and ``after``.
    """
    for j in range(len(one)):
        speed = (one[j] + other[j]) * ratio
        mass = 0.5 * (speed + excess * (one_flux[j] + other_flux[j]))
        rest = 0.5 * (1.0 - 0.5 * abs(speed))
        from_before = before[j] + rest * slope_before[j]
        from_after = after[j] - rest * slope_after[j]
        flux[j] = mass
        carried[j] = mass * (from_before if mass > 0.0 else from_after)


@compiled
def side_masses(
    speed: Array,
    heavy_flux: Array,
    donor: Array,
    excess: float,
    ratio: float,
    outward: float,
    flux: Array,
    carried: Array,
) -> None:
    """As `sides`, through a side of the box across x, which ``outward`` (1 or -1) points out of: what enters
    is at rest along it.
    """
    for j in range(1, len(donor) - 1):
        through = (speed[j - 1] + speed[j]) * ratio + excess * (heavy_flux[j - 1] + heavy_flux[j])
        flux[j] = 0.5 * through
        carried[j] = flux[j] * donor[j] if outward * through > 0.0 else 0.0


@compiled
def settle(masses: Array, swell: Array, carried: Array, faces: Array, through: Array, out: Array) -> None:
    """New velocities of a row of control volumes: what they held, and what came ``through`` two sides, mass
    and momentum of the lower ones, of the upper ones. What the sweep's dilatation brings has the mean of the
    old and the new velocity, which is second order: half of it, ``swell``, counts as held. No volume is left
    with less than half the light phase's mass.
    """
    lower_flux, lower_carried, upper_flux, upper_carried = through
    for j in range(len(masses)):
        held = masses[j] + swell[j]
        momentum = held * carried[j] + lower_carried[j] - upper_carried[j]
        out[j] = faces[j] * (momentum / max(held + lower_flux[j] - upper_flux[j], 0.5))


@compiled
def dilated_masses(
    velocity: Array, majority: Array, excess: float, ratio: float, e: int, begin: int, end: int, out: Array
) -> None:
    """Half the mass that the dilatation along ``e`` gives every cell, of the phase that it holds most of."""
    ny = majority.shape[1]
    for i in range(begin, end):
        kinds, row = majority[i], out[i]
        lower, upper = velocity[e, i], velocity[e, i + 1]
        if e == 0:
            for j in range(ny):
                row[j] = (1.0 + excess * kinds[j]) * (upper[j] - lower[j]) * 0.5 * ratio
        else:
            for j in range(ny):
                row[j] = (1.0 + excess * kinds[j]) * (lower[j + 1] - lower[j]) * 0.5 * ratio


@compiled
def weigh(
    velocity: Array,
    majority: Array,
    density: Array,
    dilated: Array,
    scratch: Array,
    heavy: float,
    ratio: float,
    e: int,
    begin: int,
    end: int,
) -> None:
    """First pass of `transport_momentum`: masses of control volumes, and what cells dilate by."""
    volume_masses(density, begin, end, scratch[2:4])
    dilated_masses(velocity, majority, heavy - 1.0, ratio, e, begin, end, dilated)


@compiled
def foresee(
    carried: Array,
    velocity: Array,
    began: Array,
    open_faces: Array,
    dilated: Array,
    scratch: Array,
    kick: float,
    e: int,
    begin: int,
    end: int,
) -> None:
    """Second pass: what control volumes dilate by, slopes and donors; reads the first one's rows around."""
    volume_masses(dilated, begin, end, scratch[4:6])
    predict(carried, velocity, began, kick, scratch[2:4], open_faces, e, begin, end, scratch[:2], scratch[6:])


@compiled
def carry(
    carried: Array,
    velocity: Array,
    heavy_flux: Array,
    density: Array,
    phase: Array,
    open_faces: Array,
    scratch: Array,
    transported: Array,
    heavy: float,
    ratio: float,
    e: int,
    begin: int,
    end: int,
) -> None:
    """Third pass: momentum through all sides, and the new density; reads the second one's rows around."""
    nx, ny = density.shape
    excess, slopes, masses = heavy - 1.0, scratch[:2], scratch[2:4]
    swell, donors = scratch[4:6], scratch[6:]
    v, flux = velocity[e], heavy_flux[e]
    masses_through, momenta = np.zeros((2, ny + 1)), np.zeros((2, ny + 1))  # of the sides before and after

    u, donor, slope = carried[0], donors[0], slopes[0]  # control volumes of the x faces
    for i in range(max(begin - 1, 0), end):  # the first one for its upper side alone
        last, new = (i + 1) % 2, i % 2
        if e == 0:
            through = masses_through[last], momenta[last], masses_through[new], momenta[new]
            rows = v[i], v[i + 1], flux[i], flux[i + 1], donor[i], donor[i + 1], slope[i], slope[i + 1]
            sides(*rows, excess, ratio, through[2], through[3])
        else:
            across, carry = masses_through[0], momenta[0]
            if i > 0:
                for j, inner in ((0, 0), (ny, ny - 1)):  # through the box's sides, as `side_masses`
                    mass = (v[i - 1, j] + v[i, j]) * ratio + excess * (flux[i - 1, j] + flux[i, j])
                    leaves = mass < 0.0 if j == 0 else mass > 0.0
                    across[j], carry[j] = 0.5 * mass, 0.5 * mass * donor[i, inner] if leaves else 0.0
                rows = v[i - 1, 1:ny], v[i, 1:ny], flux[i - 1, 1:ny], flux[i, 1:ny]
                sources = donor[i, : ny - 1], donor[i, 1:ny], slope[i, : ny - 1], slope[i, 1:ny]
                sides(*rows, *sources, excess, ratio, across[1:], carry[1:])
            through = across, carry, across[1:], carry[1:]
        if i >= max(begin, 1):
            settle(masses[0, i, :ny], swell[0, i], u[i], open_faces[0, i], through, transported[0, i])

    u, donor, slope = carried[1], donors[1], slopes[1]  # and of the y faces
    masses_through[:], momenta[:] = 0.0, 0.0
    if e == 0 and begin == 0:
        side_masses(v[0], flux[0], donor[0], excess, ratio, -1.0, masses_through[0], momenta[0])
    for i in range(max(begin - 1, 0), end):
        last, new, after = i % 2, (i + 1) % 2, min(i + 1, nx - 1)
        if e == 0:
            through = masses_through[last], momenta[last], masses_through[new], momenta[new]
            rows = v[i + 1, : ny - 1], v[i + 1, 1:ny], flux[i + 1, : ny - 1], flux[i + 1, 1:ny]
            sources = donor[i, 1:ny], donor[after, 1:ny], slope[i, 1:ny], slope[after, 1:ny]
            sides(*rows, *sources, excess, ratio, through[2][1:], through[3][1:])
            if i == nx - 1:
                side_masses(v[nx], flux[nx], donor[i], excess, ratio, 1.0, *through[2:])
        else:
            across, carry = masses_through[0], momenta[0]
            rows = v[i, :ny], v[i, 1:], flux[i, :ny], flux[i, 1:]
            sources = donor[i, :ny], donor[i, 1:], slope[i, :ny], slope[i, 1:]
            sides(*rows, *sources, excess, ratio, across[1:], carry[1:])
            through = across, carry, across[1:], carry[1:]
        if i >= begin:
            settle(masses[1, i, :ny], swell[1, i], u[i], open_faces[1, i], through, transported[1, i])

    renew_density(phase, heavy, begin, end, density)


@compiled
def transport_momentum(
    carried: Array,
    velocity: Array,
    began: Array,
    heavy_flux: Array,
    majority: Array,
    density: Array,
    phase: Array,
    open_faces: Array,
    dilated: Array,
    scratch: Array,
    transported: Array,
    heavy: float,
    kick: float,
    ratio: float,
    e: int,
) -> None:
    """As sim.device.advection.transport_momentum; ``dilated`` (nx, ny) and ``scratch`` (8, nx + 1, ny + 1)
    are scratch.
    """
    nx = density.shape[0]
    weigh(velocity, majority, density, dilated, scratch, heavy, ratio, e, 0, nx)
    foresee(carried, velocity, began, open_faces, dilated, scratch, kick, e, 0, nx)
    fields = density, phase, open_faces
    carry(carried, velocity, heavy_flux, *fields, scratch, transported, heavy, ratio, e, 0, nx)


@compiled
def carry_border(
    carried: Array,
    velocity: Array,
    open_faces: Array,
    density: Array,
    entering: Array,
    heavy: float,
    ratio: float,
    e: int,
    out: Array,
) -> None:
    """The velocities of faces on the sides of the box after a sweep along ``e``: as before, but on open ones
    across ``e`` with what comes from inside, or from outside, where it was at rest. So what enters loses the
    pressure that its speed is worth over the half cell to the first centre.
    """
    nx, ny = density.shape
    for d in range(2):
        count, last = (ny, nx) if d == 0 else (nx, ny)
        for k in range(count):
            for place, inner, cell in ((0, 1, 0), (last, last - 1, last - 1)):
                i, j = (place, k) if d == 0 else (k, place)
                p, q = (inner, k) if d == 0 else (k, inner)
                x, y = (cell, k) if d == 0 else (k, cell)
                new = carried[d, i, j]
                if d == e and open_faces[d, i, j] > 0.0:
                    moved = velocity[d, i, j] * ratio
                    if moved > 0.0 if place else moved < 0.0:
                        new += min(abs(moved), 1.0) * (carried[d, p, q] - new)
                    else:
                        share = abs(moved) * (1.0 + (heavy - 1.0) * entering[d, i, j]) / density[x, y]
                        new *= 1.0 - share if share < 0.5 else 0.25 / share  # never turned round
                out[d, i, j] = new
