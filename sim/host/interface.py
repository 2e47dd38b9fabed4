"""The phase's transport on the CPU: see sim.device.interface. Only mixed cells are looked at one by one. Then
curvature and surface tension: see sim.device.surface_tension.
"""

from __future__ import annotations

import math

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray
Heavier = tuple[float, float]
PURE = 1e-10  # a fraction this close to 0 or 1 has no interface to reconstruct
EMPTY = 1e-8  # a fraction this close to 0 or 1 ends a column of heights
WISP = 1e-6  # of less, or of as little light fluid, no curvature is taken
REACH = 4  # cells that a column of heights may extend to either side
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
def youngs_normal(block: Array) -> tuple[float, float]:
    """Out of the heavy phase, by differences over the block: eight times the fraction's fall over a cell."""
    across, along = 0.0, 0.0
    for k in range(3):
        weight = 2.0 - abs(k - 1)
        across += weight * (block[0, k] - block[2, k])
        along += weight * (block[k, 0] - block[k, 2])
    return across, along


@compiled
def interface_normal(block: Array) -> tuple[float, float]:
    """Out of the heavy phase: of the differences of column sums along the axis that Youngs' normal lies
    nearer to, the one whose line fits best (ELVIR: Pilliod, Puckett, J. Comput. Phys. 199, 2004); the central
    one where both others fit alike, which keeps what is symmetric so.
    """
    across, along = youngs_normal(block)
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
def upwind_fluxes(
    phase: Array, velocity: Array, heavy_flux: Array, entering: Array, ratio: float, e: int
) -> None:
    """The heavy flux of every face of direction ``e`` as if its donor were mixed evenly; ``entering`` is the
    heavy share of what comes in through the sides of the box.
    """
    nx, ny = phase.shape
    for i in range(nx):
        here, speeds, flux = phase[i], velocity[e, i], heavy_flux[e, i]
        if e == 1:
            for j in range(1, ny):
                c = speeds[j] * ratio
                flux[j] = c * (here[j - 1] if c > 0.0 else here[j])
            low, high = speeds[0] * ratio, speeds[ny] * ratio
            flux[0] = low * (here[0] if low < 0.0 else entering[1, i, 0])
            flux[ny] = high * (here[ny - 1] if high > 0.0 else entering[1, i, ny])
        elif i > 0:
            before = phase[i - 1]
            for j in range(ny):
                c = speeds[j] * ratio
                flux[j] = c * (before[j] if c > 0.0 else here[j])
    if e == 0:
        for j in range(ny):
            low, high = velocity[0, 0, j] * ratio, velocity[0, nx, j] * ratio
            heavy_flux[0, 0, j] = low * (phase[0, j] if low < 0.0 else entering[0, 0, j])
            heavy_flux[0, nx, j] = high * (phase[nx - 1, j] if high > 0.0 else entering[0, nx, j])


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
    entering: Array,
    volume: Array,
    ratio: float,
    e: int,
    first: bool,
) -> float:
    """As sim.device.interface.transport_phase, and with `upwind_fluxes`' ``entering``; returns what of the
    heavy phase came in through the sides of the box, less what left, in cells.
    """
    nx, ny = phase.shape
    if first:
        before = 0.0
        for i in range(nx):
            row, kinds = phase[i], majority[i]
            for j in range(ny):
                kinds[j] = 1.0 if row[j] > 0.5 else 0.0
                before += row[j]
        volume[0] = before
    upwind_fluxes(phase, velocity, heavy_flux, entering, ratio, e)
    mixed_fluxes(phase, solid, velocity, heavy_flux, ratio, e)
    entered = 0.0
    for i in range(nx if e == 1 else 0):
        entered += heavy_flux[1, i, 0] - heavy_flux[1, i, ny]
    for j in range(ny if e == 0 else 0):
        entered += heavy_flux[0, 0, j] - heavy_flux[0, nx, j]
    volume[0] += entered
    after, room, fluid = 0.0, 0.0, 0.0
    for i in range(nx):
        row, kinds, x = phase[i], majority[i], i + 1 - e
        lower, upper = velocity[e, i], velocity[e, x, e:]
        lower_flux, upper_flux = heavy_flux[e, i], heavy_flux[e, x, e:]
        for j in range(ny):
            new = row[j] + lower_flux[j] - upper_flux[j] + kinds[j] * (upper[j] - lower[j]) * ratio
            row[j] = min(max(new, 0.0), 1.0)
    if first:
        return entered
    for i in range(nx):
        row, solids = phase[i], solid[i]
        for j in range(ny):
            after += row[j]
            room += row[j] * (1.0 - row[j])
            fluid += 1.0 - solids[j]
    # rounding may leave less than none, or more than there is room for, where a phase has left the box
    missing = min(max(volume[0], 0.0), fluid) - after
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
    return entered


@compiled
def between(phase: Array, solid: Array, x: float, y: float) -> tuple[float, float]:
    """Sum of the fractions of the four cells around a place, weighted bilinearly, and of the weights, both
    over fluid cells.
    """
    nx, ny = phase.shape
    a, b = math.floor(x), math.floor(y)
    total, weight = 0.0, 0.0
    for p in range(2):
        for q in range(2):
            share = (1.0 - abs(x - (a + p))) * (1.0 - abs(y - (b + q)))
            u, v = min(max(a + p, 0), nx - 1), min(max(b + q, 0), ny - 1)
            if solid[u, v] == 0:
                total += share * phase[u, v]
                weight += share
    return total, weight


@compiled
def sign(value: float) -> float:
    """1, 0 or -1; 0 for what is no more than rounding."""
    return 0.0 if abs(value) < TIE else math.copysign(1.0, value)


@compiled
def mirrored(
    phase: Array, solid: Array, contact: Array, heavier: Heavier, x: int, y: int, i: int, j: int
) -> float:
    """Fraction at (x, y) seen from (i, j): the box's sides mirror; a cell in a solid has the fraction of the
    first fluid along the wall's normal at (i, j). That is a contact angle of 90 degrees. For another one the
    fraction is read further along the wall on the side of the heavy fluid, by the cotangent of the angle
    times the way back into the fluid (after Afkhami, Bussmann, Int. J. Numer. Meth. Fluids 57, 2008).

    ``contact``: planes of sim.contact.Contact; ``heavier``: where the fraction rises, zero for 90 degrees.
    """
    nx, ny = phase.shape
    u, v = (x if x >= 0 else -1 - x), (y if y >= 0 else -1 - y)
    u, v = (u if u < nx else 2 * nx - 1 - u), (v if v < ny else 2 * ny - 1 - v)
    leans = heavier[0] != 0.0 or heavier[1] != 0.0
    if solid[u, v] == 0:
        if leans and (u != x or v != y):
            slope = contact[2, min(max(x, 0), nx - 1), min(max(y, 0), ny - 1)]
            along_x, along_y = abs(v - y) * sign(heavier[0]), abs(u - x) * sign(heavier[1])
            total, weight = between(phase, solid, u + slope * along_x, v + slope * along_y)
            if weight > TIE:
                return total / weight
        return phase[u, v]
    across, along = contact[0, i, j], contact[1, i, j]
    if across == 0.0 and along == 0.0:
        if solid[i, v] == 0:
            return phase[i, v]
        return phase[u, j] if solid[u, j] == 0 else phase[i, j]
    for k in range(1, REACH + 1):
        total, weight = between(phase, solid, u + k * across, v + k * along)
        if weight > TIE:
            f = total / weight
            if leans:
                slope = contact[2, i, j] * sign(heavier[1] * across - heavier[0] * along)
                across, along = across - slope * along, along + slope * across
                total, weight = between(phase, solid, u + k * across, v + k * along)
                if weight > TIE:
                    f = total / weight
            return f
    return phase[i, j]


@compiled
def fill_block(
    phase: Array, solid: Array, contact: Array, heavier: Heavier, i: int, j: int, block: Array
) -> None:
    """The 3 x 3 fractions around (i, j) as `mirrored` reads them."""
    for p in range(3):
        for q in range(3):
            block[p, q] = mirrored(phase, solid, contact, heavier, i + p - 1, j + q - 1, i, j)


@compiled
def mirrored_block(phase: Array, solid: Array, contact: Array, i: int, j: int, block: Array) -> Heavier:
    """As `fill_block`, at once where there is no wall; returns `mirrored`'s ``heavier`` at (i, j)."""
    nx, ny = phase.shape
    walls, heavier = i == 0 or j == 0 or i == nx - 1 or j == ny - 1, (0.0, 0.0)
    if not walls:
        for p in range(3):
            for q in range(3):
                block[p, q] = phase[i + p - 1, j + q - 1]
                walls |= solid[i + p - 1, j + q - 1] != 0
    if walls:
        fill_block(phase, solid, contact, heavier, i, j, block)
    if contact[2, i, j] != 0.0:
        across, along = youngs_normal(block)
        heavier = -across, -along
        if walls:
            fill_block(phase, solid, contact, heavier, i, j, block)
    return heavier


@compiled
def height(
    phase: Array, solid: Array, contact: Array, heavier: Heavier, i: int, j: int, k: int, axis: int, side: int
) -> float:
    """Interface above the centre of cell (i, j), in cells, in its ``k``-th neighbour column along ``axis``,
    heavy fluid below where ``side`` is 1; not a number where the column does not end within REACH.
    """
    x, y = (i, j + k) if axis == 0 else (i + k, j)
    total = mirrored(phase, solid, contact, heavier, x, y, i, j) - 0.5
    for away in (1, -1):
        pure = 0.0 if away == 1 else 1.0
        f = total + 0.5 if away == 1 else mirrored(phase, solid, contact, heavier, x, y, i, j)
        steps = 0
        while abs(f - pure) > EMPTY:
            steps += 1
            if steps > REACH:
                return np.nan
            at = away * side * steps
            f = (
                mirrored(phase, solid, contact, heavier, x + at, y, i, j)
                if axis == 0
                else mirrored(phase, solid, contact, heavier, x, y + at, i, j)
            )
            total += f - pure
    return total


@compiled
def height_curvature(
    phase: Array, solid: Array, contact: Array, heavier: Heavier, i: int, j: int, axis: int, side: int
) -> float:
    """Curvature times spacing from three heights along ``axis``; not a number where one is missing."""
    low = height(phase, solid, contact, heavier, i, j, -1, axis, side)
    middle = height(phase, solid, contact, heavier, i, j, 0, axis, side)
    high = height(phase, solid, contact, heavier, i, j, 1, axis, side)
    slope = 0.5 * (high - low)
    return (2.0 * middle - low - high) / (1.0 + slope * slope) ** 1.5


@compiled
def line_ends(a: float, b: float, alpha: float) -> tuple[float, float, float, float]:
    """x and y of both ends of the line a x + b y = alpha in the unit square."""
    x, y = alpha * a / (a * a + b * b), alpha * b / (a * a + b * b)
    begin, end = -np.inf, np.inf
    if b != 0.0:
        begin, end = max(begin, min(x / b, (x - 1.0) / b)), min(end, max(x / b, (x - 1.0) / b))
    if a != 0.0:
        begin, end = max(begin, min(-y / a, (1.0 - y) / a)), min(end, max(-y / a, (1.0 - y) / a))
    return x - begin * b, y + begin * a, x - end * b, y + end * a


@compiled
def interface_length(phase: Array, solid: Array, contact: Array) -> float:
    """Length of all lines, in cells; walls and solids mirror, or a film would lie along them."""
    block, total = np.zeros((3, 3)), 0.0
    for i in range(phase.shape[0]):
        for j in range(phase.shape[1]):
            if WISP < phase[i, j] < 1.0 - WISP and solid[i, j] == 0:
                mirrored_block(phase, solid, contact, i, j, block)
                a, b = interface_normal(block)
                if a != 0.0 or b != 0.0:
                    x0, y0, x1, y1 = line_ends(a, b, line_offset(a, b, phase[i, j]))
                    total += math.hypot(x1 - x0, y1 - y0)
    return total


@compiled
def fitted_curvature(phase: Array, solid: Array, contact: Array, i: int, j: int, block: Array) -> float:
    """Curvature times spacing of the parabola that has the same mean height as every line of the 3 x 3 cells
    over the line's own extent (Jibben, Carlson, Francois, Comput. Math. Appl. 78, 2019); 0 of fewer than 3.
    """
    nx, ny = phase.shape
    mirrored_block(phase, solid, contact, i, j, block)
    a, b = interface_normal(block)
    long = math.hypot(a, b)
    if long == 0.0:
        return 0.0
    a, b = a / long, b / long
    system, right, lines = np.zeros((3, 3)), np.zeros(3), 0
    for x in range(max(i - 1, 0), min(i + 2, nx)):
        for y in range(max(j - 1, 0), min(j + 2, ny)):
            f = phase[x, y]
            if f <= WISP or f >= 1.0 - WISP or solid[x, y] != 0:
                continue
            mirrored_block(phase, solid, contact, x, y, block)
            c, d = interface_normal(block)
            if c * a + d * b <= 0.0:
                continue
            x0, y0, x1, y1 = line_ends(c, d, line_offset(c, d, f))
            x0, x1, y0, y1 = x0 + x - i - 0.5, x1 + x - i - 0.5, y0 + y - j - 0.5, y1 + y - j - 0.5
            s, t, mean = a * y0 - b * x0, a * y1 - b * x1, 0.5 * (a * (x0 + x1) + b * (y0 + y1))
            moments = (1.0, 0.5 * (s + t), (s * s + s * t + t * t) / 3.0)
            weight = abs(t - s)
            lines += weight > 0.0
            for p in range(3):
                right[p] += weight * moments[p] * mean
                for q in range(3):
                    system[p, q] += weight * moments[p] * moments[q]
    if lines < 3:
        return 0.0
    for p in range(3):  # elimination; the system is symmetric and small
        if system[p, p] < TIE:
            return 0.0
        for row in range(p + 1, 3):
            factor = system[row, p] / system[p, p]
            right[row] -= factor * right[p]
            for q in range(p, 3):
                system[row, q] -= factor * system[p, q]
    bend = right[2] / system[2, 2]
    tilt = (right[1] - system[1, 2] * bend) / system[1, 1]
    return min(max(-2.0 * bend / (1.0 + tilt * tilt) ** 1.5, -1.0), 1.0)


@compiled
def curvature_at(phase: Array, solid: Array, contact: Array, i: int, j: int, block: Array) -> float:
    """Curvature times spacing, positive where the heavy phase is convex: from heights along the axis that the
    normal lies nearer to, else along the other one, else from a parabola.
    """
    heavier = mirrored_block(phase, solid, contact, i, j, block)
    across, along = youngs_normal(block)
    upright = abs(along) >= (1.0 - TIE) * abs(across)
    for turn in range(2):
        axis = 1 if upright == (turn == 0) else 0
        component = along if axis == 1 else across
        if abs(component) > TIE:
            found = height_curvature(phase, solid, contact, heavier, i, j, axis, 1 if component > 0.0 else -1)
            if not math.isnan(found):
                return found
    return fitted_curvature(phase, solid, contact, i, j, block)


@compiled
def find_curvature(phase: Array, solid: Array, contact: Array, curvature: Array) -> None:
    """Curvature times spacing of every cell at the interface, (nx, ny); elsewhere not a number."""
    nx, ny = phase.shape
    block = np.zeros((3, 3))
    for i in range(nx):
        for j in range(ny):
            f = phase[i, j]
            wanted = WISP < f < 1.0 - WISP
            if not wanted and f > 0.5:  # full beside empty
                for x, y in (
                    (max(i - 1, 0), j),
                    (min(i + 1, nx - 1), j),
                    (i, max(j - 1, 0)),
                    (i, min(j + 1, ny - 1)),
                ):
                    wanted |= phase[x, y] < WISP and solid[x, y] == 0
            curvature[i, j] = np.nan
            if wanted and solid[i, j] == 0:
                curvature[i, j] = curvature_at(phase, solid, contact, i, j, block)


@compiled
def face_force(curvature: float, before: float, step: float) -> float:
    """``step`` of the fraction across a face times the mean of what curvatures its cells have."""
    if step == 0.0:
        return 0.0
    if math.isnan(curvature):
        return 0.0 if math.isnan(before) else before * step
    return curvature * step if math.isnan(before) else 0.5 * (curvature + before) * step


@compiled
def add_surface_tension(
    velocity: Array,
    phase: Array,
    density: Array,
    solid: Array,
    contact: Array,
    open_faces: Array,
    curvature: Array,
    impulse: float,
) -> None:
    """Pull the velocity by the continuum surface force (Brackbill, Kothe, Zemach, J. Comput. Phys. 100, 1992)
    with the gradient and the face densities of the pressure (Francois et al., J. Comput. Phys. 213, 2006),
    curvature from heights (Popinet, J. Comput. Phys. 228, 2009).

    ``impulse``: time step times surface tension over the spacing squared; ``curvature`` (nx, ny) is scratch.
    """
    nx, ny = phase.shape
    find_curvature(phase, solid, contact, curvature)
    for i in range(nx):
        for j in range(ny):
            f, bend, rho = phase[i, j], curvature[i, j], density[i, j]
            if i > 0 and open_faces[0, i, j] > 0.0:
                pull = face_force(bend, curvature[i - 1, j], f - phase[i - 1, j])
                velocity[0, i, j] += impulse * pull / (0.5 * (rho + density[i - 1, j]))
            if j > 0 and open_faces[1, i, j] > 0.0:
                pull = face_force(bend, curvature[i, j - 1], f - phase[i, j - 1])
                velocity[1, i, j] += impulse * pull / (0.5 * (rho + density[i, j - 1]))
