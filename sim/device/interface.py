"""Transport of the phase fraction: piecewise linear interfaces, swept in x and y, conservative and bounded.

The interface in a mixed cell is the line m.x = alpha with the normal m of ELVIR and alpha matched to the
cell's phase fraction (Scardovelli, Zaleski, J. Comput. Phys. 164, 2000). A face carries the heavy phase found
in the strip that its donor cell loses through it, one direction after the other; the dilatation of a sweep
counts as the phase that the cell held most of before both, so that they conserve, and the fraction stays in
[0, 1], where the velocity is divergence-free and no more than half a cell flows out (Weymouth, Yue, J.
Comput. Phys. 229, 2010). What the solver's tolerance leaves of the divergence is returned to the interface,
or to all cells when a solve was stopped so early that the interface cannot take it.
"""

import taichi as ti

from sim.device.faces import Cells, Planes, Solids, Static
from sim.host.interface import PURE, TIE

Block = ti.types.matrix(3, 3, ti.f64)


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
def read_block(phase: Static, solid: Static, i, j) -> Block:
    """The 3 x 3 fractions around (i, j): above a ceiling light, or drops would hang from it; past other walls
    their mirror images, so that interfaces meet them at right angles; in solids the cell's own.
    """
    last_i, last_j, block = phase.shape[0] - 1, phase.shape[1] - 1, Block(0.0)
    for p, q in ti.static(ti.ndrange(3, 3)):
        x, y = ti.min(ti.max(i + p - 1, 0), last_i), ti.min(ti.max(j + q - 1, 0), last_j)
        block[p, q] = phase[x, y] if solid[x, y] == 0 else phase[i, j]
        if ti.static(q == 2) and (j == last_j or solid[x, y] != 0):
            block[p, q] = 0.0
    return block


@ti.func
def misfit(block: Block, slope: ti.f64, side: ti.f64, upright: bool) -> ti.f64:
    """Sum of squares of what the line of a normal through the middle cell is off in all nine cells."""
    a, b = slope, side
    if not upright:
        a, b = side, slope
    alpha, total = line_offset(a, b, block[1, 1]), 0.0
    for p, q in ti.static(ti.ndrange(3, 3)):
        off = strip_fraction(a, b, alpha - a * (p - 1.0) - b * (q - 1.0)) - block[p, q]
        total += off * off
    return total


@ti.func
def youngs_normal(block: Block) -> ti.math.vec2:
    """Out of the heavy phase, by differences over the block: eight times the fraction's fall over a cell."""
    across, along = 0.0, 0.0
    for k in ti.static(range(3)):
        weight = ti.static(2.0 - abs(k - 1))
        across += weight * (block[0, k] - block[2, k])
        along += weight * (block[k, 0] - block[k, 2])
    return ti.math.vec2(across, along)


@ti.func
def interface_normal(block: Block) -> ti.math.vec2:
    """Out of the heavy phase: of the differences of column sums along the axis that Youngs' normal lies
    nearer to, the one whose line fits best (ELVIR: Pilliod, Puckett, J. Comput. Phys. 199, 2004); the central
    one where both others fit alike, which keeps what is symmetric so.
    """
    across, along = youngs_normal(block)
    normal = ti.math.vec2(0.0)
    if ti.abs(across) + ti.abs(along) >= TIE:
        upright = ti.abs(along) >= (1.0 - TIE) * ti.abs(across)
        sums = ti.math.vec3(0.0)
        for p, q in ti.static(ti.ndrange(3, 3)):
            sums[p] += block[p, q] if upright else block[q, p]
        side = 1.0 if (along if upright else across) > 0.0 else -1.0
        central, backward, forward = 0.5 * (sums[0] - sums[2]), sums[0] - sums[1], sums[1] - sums[2]
        off = misfit(block, central, side, upright)
        off_backward = misfit(block, backward, side, upright)
        off_forward = misfit(block, forward, side, upright)
        slope, least = central, ti.min(off_backward, off_forward)
        if least < (1.0 - TIE) * off and ti.abs(off_backward - off_forward) > TIE * off:
            slope = backward if off_backward == least else forward
        normal = ti.math.vec2(slope, side) if upright else ti.math.vec2(side, slope)
    return normal


@ti.kernel
def transport_phase(
    phase: Cells,
    solid: Solids,
    velocity: Planes,
    heavy_flux: Planes,
    majority: Cells,
    entering: Planes,
    work: Planes,
    row_sums: Cells,
    ratio: ti.f64,
    e: Static,
    first: Static,
):
    """Sweep ``phase`` (nx, ny) along direction ``e`` and leave the heavy phase's fluxes through its faces in
    ``heavy_flux``. The ``first`` sweep of a transport step notes in ``majority`` (nx, ny) which phase a cell
    holds most of: the dilatation of a single sweep counts as that one's.

    ``velocity`` and ``heavy_flux`` are (2, nx+1, ny+1): component d on the lower face of cell (i, j);
    ``ratio`` is time step over spacing, so velocity * ratio is a Courant number and a flux is a share of a
    cell. ``entering``, as them, is the heavy share of what comes in through the sides of the box. ``work`` is
    (3, nx, ny), ``row_sums`` (nx, 5): the first column keeps the volume between sweeps, the last one what of
    the heavy phase came in through the sides of the box in this one, less what left, in cells.
    """
    nx, ny = phase.shape[0], phase.shape[1]

    for i, j in phase:  # the line in every mixed cell
        f = phase[i, j]
        if ti.static(first):
            majority[i, j] = 1.0 if f > 0.5 else 0.0
        normal = ti.math.vec2(0.0, 0.0)
        if PURE < f < 1.0 - PURE and solid[i, j] == 0:
            normal = interface_normal(read_block(phase, solid, i, j))
        work[0, i, j] = normal.x
        work[1, i, j] = normal.y
        work[2, i, j] = 0.0
        if normal.x != 0.0 or normal.y != 0.0:
            work[2, i, j] = line_offset(normal.x, normal.y, f)

    for i, j in ti.ndrange(nx + 1 - e, ny + e):  # the heavy phase in the strip swept by each face
        c = velocity[e, i, j] * ratio
        flux = 0.0
        if c != 0.0:
            di = i - 1 if ti.static(e == 0) and c > 0.0 else i
            dj = j - 1 if ti.static(e == 1) and c > 0.0 else j
            if 0 <= di < nx and 0 <= dj < ny:
                flux = c * phase[di, dj]
                normal = ti.math.vec2(work[0, di, dj], work[1, di, dj])
                if normal.x != 0.0 or normal.y != 0.0:
                    share = ti.abs(c)
                    alpha = work[2, di, dj]
                    if c > 0.0:
                        alpha -= normal[e] * (1.0 - share)
                    normal[e] *= share
                    flux = c * strip_fraction(normal.x, normal.y, alpha)
            else:
                flux = c * entering[e, i, j]
        heavy_flux[e, i, j] = flux

    for i in range(nx):  # one row per task keeps the sums the same from run to run
        sums = ti.math.vec4(
            0.0
        )  # of the heavy phase before and after, of room for more or less, of fluid cells
        entered = 0.0
        if ti.static(e == 1):
            entered = heavy_flux[1, i, 0] - heavy_flux[1, i, ny]
        for j in range(ny):
            if ti.static(e == 0):
                if i == 0:
                    entered += heavy_flux[0, 0, j]
                if i == nx - 1:
                    entered -= heavy_flux[0, nx, j]
            f, x, y = phase[i, j], i + 1 - e, j + e
            swell = majority[i, j] * (velocity[e, x, y] - velocity[e, i, j]) * ratio
            new = ti.min(ti.max(f + heavy_flux[e, i, j] - heavy_flux[e, x, y] + swell, 0.0), 1.0)
            sums += ti.math.vec4(f, new, new * (1.0 - new), 1.0 - solid[i, j])
            phase[i, j] = new
        for k in ti.static(range(4)):
            if ti.static(first or k > 0):
                row_sums[i, k] = sums[k]
        row_sums[i, 0] += entered
        row_sums[i, 4] = entered

    if ti.static(not first):
        ti.loop_config(serialize=True)
        for _ in range(1):
            sums = ti.math.vec4(0.0)
            for i in range(nx):
                for k in ti.static(range(4)):
                    sums[k] += row_sums[i, k]
            before, after, room, fluid = sums
            missing = ti.min(ti.max(before, 0.0), fluid) - after  # rounding may have left less than none
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
                more = row_sums[0, 0] * f * (1.0 - f) + row_sums[0, 1] * (1.0 - f) + row_sums[0, 2] * f
                phase[i, j] = f + more
