"""The phase's transport on the CPU: see sim.device.interface. Only mixed cells are looked at one by one."""

from __future__ import annotations

import math

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray
PURE = 1e-10  # a fraction this close to 0 or 1 has no interface to reconstruct
TIE = 1e-9  # share by which two figures differ that rounding may have exchanged


@compiled
def strip_fraction(a: float, b: float, alpha: float) -> float:
    """Area of {a x + b y <= alpha} in the unit square, for normals of any sign."""
    total = abs(a) + abs(b)
    small = min(abs(a), abs(b)) / total
    s = min(max((alpha - min(a, 0.0) - min(b, 0.0)) / total, 0.0), 1.0)
    t = min(s, 1.0 - s)
    area = t * t / (2.0 * small * (1.0 - small)) if t < small else (t - 0.5 * small) / (1.0 - small)
    return area if s <= 0.5 else 1.0 - area


@compiled
def line_offset(a: float, b: float, fraction: float) -> float:
    """alpha for which {a x + b y <= alpha} covers ``fraction`` of the unit square."""
    total = abs(a) + abs(b)
    small = min(abs(a), abs(b)) / total
    v = min(fraction, 1.0 - fraction)
    if 2.0 * v * (1.0 - small) < small:
        t = (2.0 * small * (1.0 - small) * v) ** 0.5
    else:
        t = (1.0 - small) * v + 0.5 * small
    s = t if fraction <= 0.5 else 1.0 - t
    return s * total + min(a, 0.0) + min(b, 0.0)


@compiled
def read_block(phase: Array, solid: Array, i: int, j: int, block: Array) -> None:
    """The 3 x 3 fractions around (i, j): above a ceiling light, past other walls their mirror images, in
    solids the cell's own.
    """
    nx, ny = phase.shape
    for p in range(3):
        for q in range(3):
            x, y = min(max(i + p - 1, 0), nx - 1), min(max(j + q - 1, 0), ny - 1)
            block[p, q] = phase[x, y] if solid[x, y] == 0 else phase[i, j]
            if q == 2 and (j == ny - 1 or solid[x, y] != 0):
                block[p, q] = 0.0


@compiled
def misfit(block: Array, slope: float, side: float, upright: bool) -> float:
    """Sum of squares of what the line of a normal through the middle cell is off in all nine cells."""
    a, b = (slope, side) if upright else (side, slope)
    alpha, total = line_offset(a, b, block[1, 1]), 0.0
    for p in range(3):
        for q in range(3):
            off = strip_fraction(a, b, alpha - a * (p - 1.0) - b * (q - 1.0)) - block[p, q]
            total += off * off
    return total


@compiled
def interface_normal(block: Array) -> tuple[float, float]:
    """Out of the heavy phase: of the differences of column sums along the axis that Youngs' normal lies
    nearer to, the one whose line fits best (ELVIR: Pilliod, Puckett, J. Comput. Phys. 199, 2004); the central
    one where both others fit alike, which keeps what is symmetric so.
    """
    across, along = 0.0, 0.0
    for k in range(3):
        weight = 2.0 - abs(k - 1)
        across += weight * (block[0, k] - block[2, k])
        along += weight * (block[k, 0] - block[k, 2])
    if abs(across) + abs(along) < TIE:
        return 0.0, 0.0
    upright = abs(along) >= (1.0 - TIE) * abs(across)
    first, middle, last = 0.0, 0.0, 0.0
    for k in range(3):
        first += block[0, k] if upright else block[k, 0]
        middle += block[1, k] if upright else block[k, 1]
        last += block[2, k] if upright else block[k, 2]
    side = math.copysign(1.0, along if upright else across)
    central, backward, forward = 0.5 * (first - last), first - middle, middle - last
    off, off_backward, off_forward = (
        misfit(block, central, side, upright),
        misfit(block, backward, side, upright),
        misfit(block, forward, side, upright),
    )
    slope, least = central, min(off_backward, off_forward)
    if least < (1.0 - TIE) * off and abs(off_backward - off_forward) > TIE * off:
        slope = backward if off_backward == least else forward
    return (slope, side) if upright else (side, slope)


@compiled
def upwind_fluxes(phase: Array, velocity: Array, heavy_flux: Array, ratio: float, e: int) -> None:
    """The heavy flux of every face of direction ``e`` as if its donor were mixed evenly."""
    nx, ny = phase.shape
    for i in range(nx):
        here, speeds, flux = phase[i], velocity[e, i], heavy_flux[e, i]
        if e == 1:
            for j in range(1, ny):
                c = speeds[j] * ratio
                flux[j] = c * (here[j - 1] if c > 0.0 else here[j])
            flux[0] = flux[ny] = 0.0
        elif i > 0:
            before = phase[i - 1]
            for j in range(ny):
                c = speeds[j] * ratio
                flux[j] = c * (before[j] if c > 0.0 else here[j])
    if e == 0:
        heavy_flux[0, 0, :] = heavy_flux[0, nx, :] = 0.0


@compiled
def mixed_fluxes(
    phase: Array, solid: Array, velocity: Array, heavy_flux: Array, ratio: float, e: int
) -> None:
    """The fluxes out of mixed cells: the heavy phase in the strip that a face sweeps."""
    nx, ny = phase.shape
    block = np.zeros((3, 3))
    for i in range(nx):
        for j in range(ny):
            f = phase[i, j]
            if f <= PURE or f >= 1.0 - PURE or solid[i, j] != 0:
                continue
            x, y = i + 1 - e, j + e
            lower, upper = velocity[e, i, j] * ratio, velocity[e, x, y] * ratio
            if lower >= 0.0 and upper <= 0.0:
                continue
            read_block(phase, solid, i, j, block)
            a, b = interface_normal(block)
            if a == 0.0 and b == 0.0:
                continue
            alpha = line_offset(a, b, f)
            if e == 1:
                a, b = b, a  # from here ``a`` is the normal's part along e
            if lower < 0.0:
                heavy_flux[e, i, j] = lower * strip_fraction(-lower * a, b, alpha)
            if upper > 0.0:
                rest = alpha - a * (1.0 - upper)
                heavy_flux[e, x, y] = upper * strip_fraction(upper * a, b, rest)


@compiled
def transport_phase(
    phase: Array,
    solid: Array,
    velocity: Array,
    heavy_flux: Array,
    majority: Array,
    volume: Array,
    ratio: float,
    e: int,
    first: bool,
) -> None:
    """As sim.device.interface.transport_phase."""
    nx, ny = phase.shape
    if first:
        before = 0.0
        for i in range(nx):
            row, kinds = phase[i], majority[i]
            for j in range(ny):
                kinds[j] = 1.0 if row[j] > 0.5 else 0.0
                before += row[j]
        volume[0] = before
    upwind_fluxes(phase, velocity, heavy_flux, ratio, e)
    mixed_fluxes(phase, solid, velocity, heavy_flux, ratio, e)
    after, room, fluid = 0.0, 0.0, 0.0
    for i in range(nx):
        row, kinds, x = phase[i], majority[i], i + 1 - e
        lower, upper = velocity[e, i], velocity[e, x, e:]
        lower_flux, upper_flux = heavy_flux[e, i], heavy_flux[e, x, e:]
        for j in range(ny):
            new = row[j] + lower_flux[j] - upper_flux[j] + kinds[j] * (upper[j] - lower[j]) * ratio
            row[j] = min(max(new, 0.0), 1.0)
    if first:
        return
    for i in range(nx):
        row, solids = phase[i], solid[i]
        for j in range(ny):
            after += row[j]
            room += row[j] * (1.0 - row[j])
            fluid += 1.0 - solids[j]
    missing = volume[0] - after
    mixed_share, light_share, heavy_share = (
        0.0,
        0.0,
        0.0,
    )  # of f (1 - f), of 1 - f and of f that all cells take
    if room > abs(missing):
        mixed_share = missing / room
    elif missing > 0.0:
        light_share = missing / (fluid - after)
    elif missing < 0.0:
        heavy_share = missing / after
    for i in range(nx):
        row, solids = phase[i], solid[i]
        for j in range(ny):
            f = row[j]
            more = mixed_share * f * (1.0 - f) + light_share * (1.0 - f) + heavy_share * f
            row[j] = f + more if solids[j] == 0 else f
