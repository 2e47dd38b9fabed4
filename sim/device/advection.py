"""Momentum transport with the mass fluxes of the interface transport.

Mass and momentum move with the same fluxes (Rudman, Int. J. Numer. Meth. Fluids 28, 1998; Nangia et al., J.
Comput. Phys. 390, 2019): the mass of a velocity's control volume is the mean of its two cells, its mass
fluxes the means of theirs, one direction after the other. Since no cell loses more of a phase than it holds,
the upwind part of the new velocity is a convex combination of old ones at any density contrast, and kinetic
energy cannot grow by transport. Second order where smooth, by van Leer's slope limiter.
"""

import taichi as ti

from sim.device.faces import Cells, Planes, Solids, Static, is_open


@ti.func
def van_leer_slope(backward: ti.f64, forward: ti.f64) -> ti.f64:
    """Limited slope from the differences to both neighbours (van Leer, J. Comput. Phys. 14, 1974)."""
    product = backward * forward
    return 2.0 * product / (backward + forward) if product > 0.0 else 0.0


@ti.func
def volume_mass(density: Static, d: Static, i, j) -> ti.f64:
    """Mass of the control volume of component d at (i, j): the mean of its cells."""
    nx, ny = density.shape[0], density.shape[1]
    bi, bj = ti.max(i - (1 - d), 0), ti.max(j - d, 0)
    return 0.5 * (density[bi, bj] + density[ti.min(i, nx - 1), ti.min(j, ny - 1)])


@ti.func
def carried_slope(carried: Static, density: Static, d: Static, e: Static, i, j) -> ti.math.vec2:
    """Limited difference of component d across its control volume at (i, j) in direction e, and the weight
    that is in it, the ratio of the masses around it: a light volume's slope must not move heavy momentum, so
    transport falls back to upwind across a strong density jump.
    """
    ai, aj = ti.static(1 - e, e)
    last_i = carried.shape[1] - (1 if ti.static(d == 0) else 2)
    last_j = carried.shape[2] - (1 if ti.static(d == 1) else 2)
    behind_i, behind_j = ti.max(i - ai, 0), ti.max(j - aj, 0)
    ahead_i, ahead_j = ti.min(i + ai, last_i), ti.min(j + aj, last_j)
    own = carried[d, i, j]
    slope = van_leer_slope(own - carried[d, behind_i, behind_j], carried[d, ahead_i, ahead_j] - own)
    mass_own = volume_mass(density, d, i, j)
    mass_behind = volume_mass(density, d, behind_i, behind_j)
    mass_ahead = volume_mass(density, d, ahead_i, ahead_j)
    even = ti.min(mass_own, mass_behind, mass_ahead) / ti.max(mass_own, mass_behind, mass_ahead)
    return ti.math.vec2(slope * even, even)


@ti.func
def carried_velocity(
    slopes: Static, velocity: Static, d: Static, e: Static, i, j, mass: ti.f64, ratio: ti.f64
) -> ti.f64:
    """Component d carried along direction e: out of the control volume before (i, j) if ``mass`` > 0, else of
    (i, j). What enters the box is at rest along its side.
    """
    ai, aj = ti.static(1 - e, e)
    bi, bj = ti.static(1 - d, d)
    courant = 0.5 * ti.abs(velocity[e, i, j] + velocity[e, i - bi, j - bj]) * ratio
    donor_i, donor_j = i, j
    side = -0.5
    if mass > 0.0:
        donor_i -= ai
        donor_j -= aj
        side = 0.5
    value = 0.0
    at = donor_j if ti.static(e) else donor_i
    if ti.static(d == e) or 0 <= at < velocity.shape[1 + e] - 1:
        value = slopes[2 + d, donor_i, donor_j] + side * (1.0 - courant) * slopes[d, donor_i, donor_j]
    return value


@ti.func
def volume_mass_flux(
    velocity: Static, heavy_flux: Static, d: Static, e: Static, i, j, excess: ti.f64, ratio: ti.f64
) -> ti.f64:
    """Mass entering the control volume of component d at (i, j) through its lower side in direction e, per
    cell area; ``excess`` is the density that the heavy phase has more.
    """
    bi, bj = i - (1 - d), j - d
    one = velocity[e, bi, bj] * ratio + excess * heavy_flux[e, bi, bj]
    other = velocity[e, i, j] * ratio + excess * heavy_flux[e, i, j]
    return 0.5 * (one + other)


@ti.func
def dilated_mass(velocity: Static, majority: Static, e: Static, i, j, excess: ti.f64) -> ti.f64:
    """Mass, over the ratio, that the dilatation along e gives cell (i, j), of the phase it holds most of."""
    return (1.0 + excess * majority[i, j]) * (velocity[e, i + 1 - e, j + e] - velocity[e, i, j])


@ti.func
def mixed_density(excess: ti.f64, fraction: ti.f64) -> ti.f64:
    return 1.0 + excess * fraction


@ti.kernel
def renew_density(phase: Cells, heavy: ti.f64, density: Cells):
    """Density of cells (nx, ny), in units of the light phase's, to the bit as after a sweep."""
    for i, j in density:
        density[i, j] = mixed_density(heavy - 1.0, phase[i, j])


@ti.kernel
def transport_momentum(
    carried: Planes,
    velocity: Planes,
    began: Planes,
    heavy_flux: Planes,
    majority: Cells,
    density: Cells,
    phase: Cells,
    solid: Solids,
    slopes: Planes,
    transported: Planes,
    heavy: ti.f64,
    kick: ti.f64,
    ratio: ti.f64,
    e: Static,
):
    """Sweep the momentum of ``carried`` (2, nx+1, ny+1) along direction ``e`` with ``velocity`` and the
    fluxes of transport_phase into ``transported``.

    ``density`` (nx, ny) belongs to the phase before the sweep and is renewed from ``phase`` at the end;
    ``heavy`` is the heavy phase's density in units of the light one's, ``ratio`` the time step over the
    spacing. What goes from one control volume to another is taken ``kick`` of a time step on, with the
    acceleration from ``began`` to ``velocity``: without it projections would leave a first-order error (Bell,
    Colella, Glaz, J. Comput. Phys. 85, 1989). ``slopes`` is scratch, (4, nx+1, ny+1).
    """
    nx, ny = density.shape[0], density.shape[1]
    excess = heavy - 1.0
    for i, j in ti.ndrange(nx + 1, ny + 1):
        for d in ti.static(range(2)):
            slope, donor = 0.0, carried[d, i, j]
            if is_open(solid, d, i, j):
                slope, even = carried_slope(carried, density, d, e, i, j)
                donor += even * kick * (velocity[d, i, j] - began[d, i, j])
            slopes[d, i, j], slopes[2 + d, i, j] = slope, donor

    for i, j in ti.ndrange(nx + 1, ny + 1):
        for d in ti.static(range(2)):
            moved = 0.0
            if is_open(solid, d, i, j):
                bi, bj = i - (1 - d), j - d
                # what the dilatation brings has the mean of the old and the new velocity: half counts as held
                swell = dilated_mass(velocity, majority, e, bi, bj, excess)
                swell += dilated_mass(velocity, majority, e, i, j, excess)
                mass = 0.5 * (density[bi, bj] + density[i, j] + 0.5 * swell * ratio)
                momentum = mass * carried[d, i, j]
                for upper in ti.static(range(2)):
                    si, sj = i + upper * (1 - e), j + upper * e
                    flux = volume_mass_flux(velocity, heavy_flux, d, e, si, sj, excess, ratio)
                    if flux != 0.0:
                        value = carried_velocity(slopes, velocity, d, e, si, sj, flux, ratio)
                        mass += (1 - 2 * upper) * flux
                        momentum += (1 - 2 * upper) * flux * value
                moved = momentum / ti.max(mass, 0.5)
            transported[d, i, j] = moved

    for i, j in density:
        density[i, j] = mixed_density(excess, phase[i, j])


@ti.kernel
def carry_border(
    carried: Planes,
    velocity: Planes,
    open_faces: Planes,
    density: Cells,
    entering: Planes,
    transported: Planes,
    heavy: ti.f64,
    ratio: ti.f64,
    e: Static,
):
    """The velocities of faces on the sides of the box after a sweep along ``e``, into ``transported``: as
    before, but on open ones across ``e`` with what comes from inside, or from outside, where it was at rest.
    So what enters loses the pressure that its speed is worth over the half cell to the first centre.
    """
    nx, ny = density.shape[0], density.shape[1]
    for k, upper in ti.ndrange(ti.max(nx, ny), 2):
        for d in ti.static(range(2)):
            count, last = (ny, nx) if ti.static(d == 0) else (nx, ny)
            if k < count:
                i, j = (last * upper, k) if ti.static(d == 0) else (k, last * upper)
                new = carried[d, i, j]
                if ti.static(d == e) and open_faces[d, i, j] > 0.0:
                    moved = velocity[d, i, j] * ratio
                    inwards = 1 - 2 * upper
                    if moved * inwards < 0.0:
                        inside = carried[d, i + inwards * (1 - d), j + inwards * d]
                        new += ti.min(ti.abs(moved), 1.0) * (inside - new)
                    else:
                        rho = density[i - upper * (1 - d), j - upper * d]
                        share = ti.abs(moved) * (1.0 + (heavy - 1.0) * entering[d, i, j]) / rho
                        new *= 1.0 - share if share < 0.5 else 0.25 / share  # never turned round
                transported[d, i, j] = new
