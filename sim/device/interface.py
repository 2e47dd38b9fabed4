"""Transport of the phase fraction: piecewise linear interfaces, unsplit, conservative and bounded.

The interface in a mixed cell is the line m.x = alpha with Youngs' normal m and alpha matched to the cell's
phase fraction (Scardovelli, Zaleski, J. Comput. Phys. 164, 2000). A face carries the heavy phase found in the
strip that its donor cell loses through it. No donor may lose more of either phase than it holds; as the
outgoing Courant numbers of a cell sum to at most one, limiting one phase never over-commits the other, so the
fraction stays in [0, 1] wherever the velocity is divergence-free. What the solver's tolerance leaves of the
divergence is returned to the interface, or to all cells when a solve was stopped so early that the interface
cannot take it.
"""

import taichi as ti

from sim.device.faces import Cells, Planes, Solids, Static
from sim.host.interface import PURE


@ti.func
def strip_fraction(a: ti.f64, b: ti.f64, alpha: ti.f64) -> ti.f64:
    """Area of {a x + b y <= alpha} in the unit square, for normals of any sign."""
    offset = alpha - ti.min(a, 0.0) - ti.min(b, 0.0)
    total = ti.abs(a) + ti.abs(b)
    small = ti.min(ti.abs(a), ti.abs(b)) / total
    s = ti.min(ti.max(offset / total, 0.0), 1.0)
    t = ti.min(s, 1.0 - s)
    area = 0.0
    area = t * t / (2.0 * small * (1.0 - small)) if t < small else (t - 0.5 * small) / (1.0 - small)
    return area if s <= 0.5 else 1.0 - area


@ti.func
def line_offset(a: ti.f64, b: ti.f64, fraction: ti.f64) -> ti.f64:
    """alpha for which {a x + b y <= alpha} covers ``fraction`` of the unit square: the inverse of
    strip_fraction.
    """
    total = ti.abs(a) + ti.abs(b)
    small = ti.min(ti.abs(a), ti.abs(b)) / total
    v = ti.min(fraction, 1.0 - fraction)
    t = 0.0
    if 2.0 * v * (1.0 - small) < small:
        t = ti.sqrt(2.0 * small * (1.0 - small) * v)
    else:
        t = (1.0 - small) * v + 0.5 * small
    s = t if fraction <= 0.5 else 1.0 - t
    return s * total + ti.min(a, 0.0) + ti.min(b, 0.0)


@ti.func
def neighbour_phase(phase: Static, solid: Static, i, j, blocked: ti.f64) -> ti.f64:
    """Phase fraction of cell (i, j), or ``blocked`` behind a wall or in a solid."""
    value = blocked
    if 0 <= i < phase.shape[0] and 0 <= j < phase.shape[1] and solid[i, j] == 0:
        value = phase[i, j]
    return value


@ti.func
def youngs_normal(phase: Static, solid: Static, i, j) -> ti.math.vec2:
    """Normal pointing out of the heavy phase: minus the 3 x 3 gradient with weights 1, 2, 1.

    Interfaces meet floors and side walls at right angles; a ceiling counts as light, or drops would hang from
    it.
    """
    own = phase[i, j]
    west, east, south, north = 0.0, 0.0, 0.0, 0.0
    for k in ti.static((-1, 0, 1)):
        weight = ti.static(2.0 - abs(k))
        west += weight * neighbour_phase(phase, solid, i - 1, j + k, own)
        east += weight * neighbour_phase(phase, solid, i + 1, j + k, own)
        south += weight * neighbour_phase(phase, solid, i + k, j - 1, own)
        north += weight * neighbour_phase(phase, solid, i + k, j + 1, 0.0)
    return ti.math.vec2(west - east, south - north)


@ti.kernel
def transport_phase(
    phase: Cells,
    solid: Solids,
    velocity: Planes,
    heavy_flux: Planes,
    work: Planes,
    row_sums: Cells,
    ratio: ti.f64,
):
    """Advance ``phase`` (nx, ny) by one transport step and leave the heavy phase's face fluxes in
    ``heavy_flux``.

    ``velocity`` and ``heavy_flux`` are (2, nx+1, ny+1): component d on the lower face of cell (i, j);
    ``ratio`` is time step over spacing, so velocity * ratio is a Courant number and a flux is a share of a
    cell. ``work`` is (3, nx, ny), ``row_sums`` (nx, 4).
    """
    nx, ny = phase.shape[0], phase.shape[1]

    for i, j in phase:  # the line in every mixed cell
        f = phase[i, j]
        normal = ti.math.vec2(0.0, 0.0)
        if PURE < f < 1.0 - PURE and solid[i, j] == 0:
            normal = youngs_normal(phase, solid, i, j)
        work[0, i, j] = normal.x
        work[1, i, j] = normal.y
        work[2, i, j] = 0.0
        if normal.x != 0.0 or normal.y != 0.0:
            work[2, i, j] = line_offset(normal.x, normal.y, f)

    for i, j in ti.ndrange(nx + 1, ny + 1):  # the heavy phase in the strip swept by each face
        for d in ti.static(range(2)):
            c = 0.0
            if (i < nx or d == 0) and (j < ny or d == 1):
                c = velocity[d, i, j] * ratio
            flux = 0.0
            if c != 0.0:
                di = i - 1 if d == 0 and c > 0.0 else i
                dj = j - 1 if d == 1 and c > 0.0 else j
                flux = c * phase[di, dj]
                normal = ti.math.vec2(work[0, di, dj], work[1, di, dj])
                if normal.x != 0.0 or normal.y != 0.0:
                    share = ti.abs(c)
                    alpha = work[2, di, dj]
                    if c > 0.0:
                        alpha -= normal[d] * (1.0 - share)
                    normal[d] *= share
                    flux = c * strip_fraction(normal.x, normal.y, alpha)
            heavy_flux[d, i, j] = flux

    for i, j in phase:  # what each donor may lose of the heavy phase (work 0) and of the light one (work 1)
        heavy, light = 0.0, 0.0
        for d in ti.static(range(2)):
            upper = velocity[d, i + (1 - d), j + d] * ratio
            lower = velocity[d, i, j] * ratio
            if upper > 0.0:
                heavy += heavy_flux[d, i + (1 - d), j + d]
                light += upper - heavy_flux[d, i + (1 - d), j + d]
            if lower < 0.0:
                heavy -= heavy_flux[d, i, j]
                light += heavy_flux[d, i, j] - lower
        f = phase[i, j]
        work[0, i, j] = f / heavy if heavy > f else 1.0
        work[1, i, j] = (1.0 - f) / light if light > 1.0 - f else 1.0

    for i, j in ti.ndrange(nx + 1, ny + 1):
        for d in ti.static(range(2)):
            if (i < nx or d == 0) and (j < ny or d == 1):
                c = velocity[d, i, j] * ratio
                if c != 0.0:
                    di = i - 1 if d == 0 and c > 0.0 else i
                    dj = j - 1 if d == 1 and c > 0.0 else j
                    if work[0, di, dj] < 1.0:
                        heavy_flux[d, i, j] *= work[0, di, dj]
                    elif work[1, di, dj] < 1.0:
                        heavy_flux[d, i, j] = c - (c - heavy_flux[d, i, j]) * work[1, di, dj]

    for i in range(nx):  # one row per task keeps the sums the same from run to run
        sums = ti.math.vec4(
            0.0
        )  # of the heavy phase before and after, of room for more or less, of fluid cells
        for j in range(ny):
            f = phase[i, j]
            change = (
                heavy_flux[0, i, j] - heavy_flux[0, i + 1, j] + heavy_flux[1, i, j] - heavy_flux[1, i, j + 1]
            )
            spurious = (
                velocity[0, i, j] - velocity[0, i + 1, j] + velocity[1, i, j] - velocity[1, i, j + 1]
            ) * ratio
            if f > 0.5:
                change -= spurious
            new = ti.min(ti.max(f + change, 0.0), 1.0)
            sums += ti.math.vec4(f, new, new * (1.0 - new), 1.0 - solid[i, j])
            phase[i, j] = new
        for k in ti.static(range(4)):
            row_sums[i, k] = sums[k]

    ti.loop_config(serialize=True)
    for _ in range(1):
        sums = ti.math.vec4(0.0)
        for i in range(nx):
            for k in ti.static(range(4)):
                sums[k] += row_sums[i, k]
        before, after, room, fluid = sums
        missing = before - after
        # shares of f (1 - f), or after a solve stopped early of 1 - f or of f, that every cell takes
        row_sums[0, 0], row_sums[0, 1], row_sums[0, 2] = 0.0, 0.0, 0.0
        if room > ti.abs(missing):
            row_sums[0, 0] = missing / room
        elif missing > 0.0:
            row_sums[0, 1] = missing / (fluid - after)
        elif missing < 0.0:
            row_sums[0, 2] = missing / after

    for i, j in phase:  # each cell takes its share of what was lost or gained, within its bounds
        if solid[i, j] == 0:
            f = phase[i, j]
            phase[i, j] = f + row_sums[0, 0] * f * (1.0 - f) + row_sums[0, 1] * (1.0 - f) + row_sums[0, 2] * f
