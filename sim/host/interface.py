"""The phase's transport on the CPU: see sim.device.interface. Only mixed cells are looked at one by one."""

from __future__ import annotations

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray
PURE = 1e-10  # a fraction this close to 0 or 1 has no interface to reconstruct


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
def neighbour_phase(phase: Array, solid: Array, i: int, j: int, blocked: float) -> float:
    """Phase fraction of cell (i, j), or ``blocked`` behind a wall or in a solid."""
    nx, ny = phase.shape
    if i < 0 or i >= nx or j < 0 or j >= ny or solid[i, j] != 0:
        return blocked
    return phase[i, j]


@compiled
def youngs_normal(phase: Array, solid: Array, i: int, j: int) -> tuple[float, float]:
    """Out of the heavy phase; a ceiling counts as light, other walls and solids as the cell itself."""
    own = phase[i, j]
    across, along = 0.0, 0.0
    for k in range(-1, 2):
        weight = 2.0 - abs(k)
        across += weight * neighbour_phase(phase, solid, i - 1, j + k, own)
        across -= weight * neighbour_phase(phase, solid, i + 1, j + k, own)
        along += weight * neighbour_phase(phase, solid, i + k, j - 1, own)
        along -= weight * neighbour_phase(phase, solid, i + k, j + 1, 0.0)
    return across, along


@compiled
def upwind_fluxes(phase: Array, velocity: Array, heavy_flux: Array, ratio: float) -> None:
    """Every face's heavy flux as if its donor were mixed evenly."""
    nx, ny = phase.shape
    heavy_flux[0, 0, :] = 0.0
    heavy_flux[0, nx, :] = 0.0
    for i in range(nx):
        here, along, along_flux = phase[i], velocity[1, i], heavy_flux[1, i]
        if i > 0:
            before, across, across_flux = phase[i - 1], velocity[0, i], heavy_flux[0, i]
            for j in range(ny):
                c = across[j] * ratio
                across_flux[j] = c * (before[j] if c > 0.0 else here[j])
        for j in range(1, ny):
            c = along[j] * ratio
            along_flux[j] = c * (here[j - 1] if c > 0.0 else here[j])
        along_flux[0] = along_flux[ny] = 0.0


@compiled
def mixed_fluxes(phase: Array, solid: Array, velocity: Array, heavy_flux: Array, ratio: float) -> None:
    """The fluxes out of mixed cells: the heavy phase in the strip that a face sweeps."""
    nx, ny = phase.shape
    for i in range(nx):
        for j in range(ny):
            f = phase[i, j]
            if f <= PURE or f >= 1.0 - PURE or solid[i, j] != 0:
                continue
            across, along = youngs_normal(phase, solid, i, j)
            if across == 0.0 and along == 0.0:
                continue
            alpha = line_offset(across, along, f)
            west, east = velocity[0, i, j] * ratio, velocity[0, i + 1, j] * ratio
            south, north = velocity[1, i, j] * ratio, velocity[1, i, j + 1] * ratio
            if west < 0.0:
                heavy_flux[0, i, j] = west * strip_fraction(-west * across, along, alpha)
            if east > 0.0:
                rest = alpha - across * (1.0 - east)
                heavy_flux[0, i + 1, j] = east * strip_fraction(east * across, along, rest)
            if south < 0.0:
                heavy_flux[1, i, j] = south * strip_fraction(across, -south * along, alpha)
            if north > 0.0:
                rest = alpha - along * (1.0 - north)
                heavy_flux[1, i, j + 1] = north * strip_fraction(across, north * along, rest)


@compiled
def overdrawn(phase: Array, velocity: Array, heavy_flux: Array, ratio: float, i: int) -> int:
    """How many cells of row i lose more of a phase than they hold."""
    count = 0
    fractions = phase[i]
    west, east, along = heavy_flux[0, i], heavy_flux[0, i + 1], heavy_flux[1, i]
    west_velocity, east_velocity, velocities = velocity[0, i], velocity[0, i + 1], velocity[1, i]
    for j in range(phase.shape[1]):
        heavy = max(east[j], 0.0) - min(west[j], 0.0) + max(along[j + 1], 0.0) - min(along[j], 0.0)
        all_of = max(east_velocity[j], 0.0) - min(west_velocity[j], 0.0)
        all_of += max(velocities[j + 1], 0.0) - min(velocities[j], 0.0)
        light = all_of * ratio - heavy
        count += (heavy > fractions[j]) | (light > 1.0 - fractions[j])
    return count


@compiled
def limit_fluxes(phase: Array, velocity: Array, heavy_flux: Array, ratio: float) -> None:
    """Scale what leaves a cell, so that it loses no more of either phase than it holds."""
    nx, ny = phase.shape
    for i in range(nx):
        if overdrawn(phase, velocity, heavy_flux, ratio, i) == 0:
            continue
        for j in range(ny):
            heavy, light = 0.0, 0.0
            for d in range(2):
                for upper in range(2):
                    x, y = i + upper * (1 - d), j + upper * d
                    c = velocity[d, x, y] * ratio
                    if (upper == 1 and c > 0.0) or (upper == 0 and c < 0.0):
                        heavy += abs(heavy_flux[d, x, y])
                        light += abs(c - heavy_flux[d, x, y])
            f = phase[i, j]
            if heavy <= f and light <= 1.0 - f:
                continue
            for d in range(2):
                for upper in range(2):
                    x, y = i + upper * (1 - d), j + upper * d
                    c = velocity[d, x, y] * ratio
                    if (upper == 1 and c > 0.0) or (upper == 0 and c < 0.0):
                        if heavy > f:
                            heavy_flux[d, x, y] *= f / heavy
                        else:
                            heavy_flux[d, x, y] = c - (c - heavy_flux[d, x, y]) * ((1.0 - f) / light)


@compiled
def transport_phase(phase: Array, solid: Array, velocity: Array, heavy_flux: Array, ratio: float) -> None:
    """As sim.device.interface.transport_phase."""
    nx, ny = phase.shape
    upwind_fluxes(phase, velocity, heavy_flux, ratio)
    mixed_fluxes(phase, solid, velocity, heavy_flux, ratio)
    limit_fluxes(phase, velocity, heavy_flux, ratio)
    before, after, room, fluid = 0.0, 0.0, 0.0, 0.0
    for i in range(nx):
        row, solids = phase[i], solid[i]
        west, east, along = heavy_flux[0, i], heavy_flux[0, i + 1], heavy_flux[1, i]
        west_velocity, east_velocity, velocities = velocity[0, i], velocity[0, i + 1], velocity[1, i]
        for j in range(ny):
            f = row[j]
            change = west[j] - east[j] + along[j] - along[j + 1]
            spurious = west_velocity[j] - east_velocity[j] + velocities[j] - velocities[j + 1]
            change -= spurious * ratio if f > 0.5 else 0.0
            new = min(max(f + change, 0.0), 1.0)
            before += f
            after += new
            room += new * (1.0 - new)
            fluid += 1.0 - solids[j]
            row[j] = new
    missing = before - after
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
