"""Curvature of the interface and surface tension: see sim.host.interface.

Where there is no curvature it is NOWHERE: fast arithmetic may take for granted that nothing is NaN.
"""

import taichi as ti

from sim.device.faces import Cells, Planes, Solids, Static, is_open
from sim.device.interface import Block, interface_normal, line_offset, youngs_normal
from sim.host.interface import EMPTY, REACH, TIE, WISP

NOWHERE = 1e30  # above any curvature and any height


@ti.func
def between(phase: Static, solid: Static, place: ti.math.vec2) -> ti.math.vec2:
    """Sum of the fractions of the four cells around a place, weighted bilinearly, and of the weights, both
    over fluid cells.
    """
    nx, ny = phase.shape[0], phase.shape[1]
    a, b, total = int(ti.floor(place.x)), int(ti.floor(place.y)), ti.math.vec2(0.0)
    for p, q in ti.ndrange(2, 2):
        u, v = ti.min(ti.max(a + p, 0), nx - 1), ti.min(ti.max(b + q, 0), ny - 1)
        if solid[u, v] == 0:
            share = (1.0 - ti.abs(place.x - (a + p))) * (1.0 - ti.abs(place.y - (b + q)))
            total += share * ti.math.vec2(phase[u, v], 1.0)
    return total


@ti.func
def sign(value: ti.f64) -> ti.f64:
    """1, 0 or -1; 0 for what is no more than rounding."""
    return (1.0 if value > 0.0 else -1.0) if ti.abs(value) >= TIE else 0.0


@ti.func
def mirrored(
    phase: Static, solid: Static, contact: Static, heavier: ti.math.vec2, across, along, i, j
) -> ti.f64:
    """Fraction at (across, along) seen from (i, j): the box's sides mirror; a cell in a solid has the
    fraction of the first fluid along the wall's normal at (i, j). That is a contact angle of 90 degrees. For
    another one the fraction is read further along the wall on the side of the heavy fluid, by the cotangent
    of the angle times the way back into the fluid (after Afkhami, Bussmann, Int. J. Numer. Meth. Fluids 57,
    2008).

    ``contact``: planes of sim.contact.Contact; ``heavier``: where the fraction rises, zero for 90 degrees.
    """
    nx, ny = phase.shape[0], phase.shape[1]
    x = ti.min(ti.max(across, -1 - across), 2 * nx - 1 - across)
    y = ti.min(ti.max(along, -1 - along), 2 * ny - 1 - along)
    f, here, leans = phase[x, y], ti.math.vec2(x, y), heavier.x != 0.0 or heavier.y != 0.0
    if solid[x, y] == 0:
        if leans and (x != across or y != along):
            slope = contact[2, ti.min(ti.max(across, 0), nx - 1), ti.min(ti.max(along, 0), ny - 1)]
            way = ti.math.vec2(ti.abs(y - along) * sign(heavier.x), ti.abs(x - across) * sign(heavier.y))
            total = between(phase, solid, here + slope * way)
            if total.y > TIE:
                f = total.x / total.y
    else:
        normal = ti.math.vec2(contact[0, i, j], contact[1, i, j])
        f = phase[i, j]
        if normal.x != 0.0 or normal.y != 0.0:
            k, total = 0, ti.math.vec2(0.0)
            while total.y <= TIE and k < REACH:
                k += 1
                total = between(phase, solid, here + k * normal)
            if total.y > TIE:
                f = total.x / total.y
                if leans:
                    tangent = ti.math.vec2(-normal.y, normal.x)
                    slope = contact[2, i, j] * sign(heavier.dot(tangent))
                    total = between(phase, solid, here + k * (normal + slope * tangent))
                    if total.y > TIE:
                        f = total.x / total.y
        elif solid[i, y] == 0:
            f = phase[i, y]
        elif solid[x, j] == 0:
            f = phase[x, j]
    return f


@ti.func
def mirrored_block(phase: Static, solid: Static, contact: Static, i, j) -> tuple[Block, ti.math.vec2]:
    """The 3 x 3 fractions around (i, j) as `mirrored` reads them, and its ``heavier`` there."""
    block, heavier, turn, turns = Block(0.0), ti.math.vec2(0.0), 0, 1
    if contact[2, i, j] != 0.0:
        turns = 2
    while turn < turns:  # in loops that are not unrolled: it takes long to compile `mirrored` many times
        if turn == 1:
            heavier = -youngs_normal(block)
        for p, q in ti.ndrange(3, 3):
            block[p, q] = mirrored(phase, solid, contact, heavier, i + p - 1, j + q - 1, i, j)
        turn += 1
    return block, heavier


@ti.func
def height(
    phase: Static, solid: Static, contact: Static, heavier: ti.math.vec2, i, j, k, axis, side
) -> ti.f64:
    """Interface above the centre of cell (i, j), in cells, in its ``k``-th neighbour column along ``axis``,
    heavy fluid below where ``side`` is 1; NOWHERE where the column does not end within REACH.
    """
    x, y = i + k * axis, j + k * (1 - axis)
    own = mirrored(phase, solid, contact, heavier, x, y, i, j)
    total = own - 0.5
    for turn in range(2):
        away, pure = 1 - 2 * turn, 1.0 * turn
        f, steps = own, 0
        while ti.abs(f - pure) > EMPTY and steps <= REACH:
            steps += 1
            at = away * side * steps
            f = mirrored(phase, solid, contact, heavier, x + at * (1 - axis), y + at * axis, i, j)
            total += f - pure
        if steps > REACH:
            total = NOWHERE
    return total


@ti.func
def height_curvature(
    phase: Static, solid: Static, contact: Static, heavier: ti.math.vec2, i, j, axis, side
) -> ti.f64:
    """Curvature times spacing from three heights along ``axis``; NOWHERE where one is missing."""
    heights = ti.math.vec3(0.0)
    for k in range(3):
        heights[k] = height(phase, solid, contact, heavier, i, j, k - 1, axis, side)
    low, middle, high = heights
    curvature = NOWHERE
    if ti.max(low, middle, high) < 0.5 * NOWHERE:
        slope = 0.5 * (high - low)
        curvature = (2.0 * middle - low - high) / (1.0 + slope * slope) ** 1.5
    return curvature


@ti.func
def line_ends(a: ti.f64, b: ti.f64, alpha: ti.f64) -> ti.math.vec4:
    """x and y of both ends of the line a x + b y = alpha in the unit square."""
    x, y = alpha * a / (a * a + b * b), alpha * b / (a * a + b * b)
    begin, end = -NOWHERE, NOWHERE
    if b != 0.0:
        begin = ti.max(begin, ti.min(x / b, (x - 1.0) / b))
        end = ti.min(end, ti.max(x / b, (x - 1.0) / b))
    if a != 0.0:
        begin = ti.max(begin, ti.min(-y / a, (1.0 - y) / a))
        end = ti.min(end, ti.max(-y / a, (1.0 - y) / a))
    return ti.math.vec4(x - begin * b, y + begin * a, x - end * b, y + end * a)


@ti.func
def is_wisp(f: ti.f64) -> bool:
    """Whether a cell holds too little of one of the fluids for a line."""
    return f <= WISP or f >= 1.0 - WISP


@ti.func
def at_interface(phase: Static, solid: Static, i, j) -> bool:
    """Whether fluid cell (i, j) is mixed, or full beside an empty one."""
    nx, ny = phase.shape[0], phase.shape[1]
    found = not is_wisp(phase[i, j])
    if not found and phase[i, j] > 0.5:
        for p, q in ti.static(((-1, 0), (1, 0), (0, -1), (0, 1))):
            x, y = ti.min(ti.max(i + p, 0), nx - 1), ti.min(ti.max(j + q, 0), ny - 1)
            found = found or (phase[x, y] < WISP and solid[x, y] == 0)
    return found and solid[i, j] == 0


@ti.func
def fitted_curvature(phase: Static, solid: Static, lines: Static, i, j) -> ti.f64:
    """Curvature times spacing of the parabola that has the same mean height as every line of the 3 x 3 cells
    over the line's own extent (Jibben, Carlson, Francois, Comput. Math. Appl. 78, 2019); 0 of fewer than 3.
    ``lines``: as in `find_curvature`.
    """
    nx, ny = phase.shape[0], phase.shape[1]
    normal = ti.math.vec2(lines[0, i, j], lines[1, i, j])
    long = ti.sqrt(normal.dot(normal))
    curvature = 0.0
    if long > 0.0:
        a, b = normal / long
        system, right, count = ti.Matrix.zero(ti.f64, 3, 3), ti.Vector.zero(ti.f64, 3), 0
        for x in range(ti.max(i - 1, 0), ti.min(i + 2, nx)):
            for y in range(ti.max(j - 1, 0), ti.min(j + 2, ny)):
                c, d = lines[0, x, y], lines[1, x, y]
                if not is_wisp(phase[x, y]) and solid[x, y] == 0 and c * a + d * b > 0.0:
                    x0, y0, x1, y1 = line_ends(c, d, lines[2, x, y])
                    x0, x1, y0, y1 = x0 + x - i - 0.5, x1 + x - i - 0.5, y0 + y - j - 0.5, y1 + y - j - 0.5
                    s, t, mean = a * y0 - b * x0, a * y1 - b * x1, 0.5 * (a * (x0 + x1) + b * (y0 + y1))
                    moments = ti.math.vec3(1.0, 0.5 * (s + t), (s * s + s * t + t * t) / 3.0)
                    weight = ti.abs(t - s)
                    count += 1 if weight > 0.0 else 0
                    for p in ti.static(range(3)):
                        right[p] += weight * moments[p] * mean
                        for q in ti.static(range(3)):
                            system[p, q] += weight * moments[p] * moments[q]
        solvable = count >= 3
        for p in ti.static(range(3)):  # elimination; the system is symmetric and small
            solvable = solvable and system[p, p] >= TIE
            if solvable:
                for row in ti.static(range(p + 1, 3)):
                    factor = system[row, p] / system[p, p]
                    right[row] -= factor * right[p]
                    for q in ti.static(range(p, 3)):
                        system[row, q] -= factor * system[p, q]
        if solvable:
            bend = right[2] / system[2, 2]
            tilt = (right[1] - system[1, 2] * bend) / system[1, 1]
            curvature = ti.min(ti.max(-2.0 * bend / (1.0 + tilt * tilt) ** 1.5, -1.0), 1.0)
    return curvature


@ti.func
def curvature_at(phase: Static, solid: Static, contact: Static, lines: Static, i, j) -> ti.f64:
    """Curvature times spacing, positive where the heavy phase is convex: from heights along the axis that the
    normal lies nearer to, else along the other one, else from a parabola.
    """
    block, heavier = mirrored_block(phase, solid, contact, i, j)
    across, along = youngs_normal(block)
    upright = ti.abs(along) >= (1.0 - TIE) * ti.abs(across)
    curvature = NOWHERE
    for turn in range(2):
        axis = 1 if upright == (turn == 0) else 0
        component = along if axis == 1 else across
        if curvature == NOWHERE and ti.abs(component) > TIE:
            curvature = height_curvature(
                phase, solid, contact, heavier, i, j, axis, 1 if component > 0.0 else -1
            )
    if curvature == NOWHERE:
        curvature = fitted_curvature(phase, solid, lines, i, j)
    return curvature


@ti.func
def line_in(phase: Static, solid: Static, contact: Static, i, j) -> ti.math.vec3:
    """Normal and offset of the line in cell (i, j); all zero where it has none."""
    block, _ = mirrored_block(phase, solid, contact, i, j)
    normal, alpha = interface_normal(block), 0.0
    if normal.x != 0.0 or normal.y != 0.0:
        alpha = line_offset(normal.x, normal.y, phase[i, j])
    return ti.math.vec3(normal, alpha)


@ti.func
def face_force(curvature: ti.f64, before: ti.f64, step: ti.f64) -> ti.f64:
    """``step`` of the fraction across a face times the mean of what curvatures its cells have."""
    total, count = 0.0, 0
    for bend in ti.static((curvature, before)):
        if bend < NOWHERE:
            total += bend
            count += 1
    return total * step / ti.max(count, 1)


@ti.kernel
def find_curvature(phase: Cells, solid: Solids, contact: Planes, lines: Planes, curvature: Cells):
    """Curvature times spacing of every cell at the interface, (nx, ny); elsewhere NOWHERE.

    ``lines`` (3, nx, ny) is scratch: normal and offset of every cell's line.
    """
    for i, j in phase:
        line = ti.math.vec3(0.0)
        if at_interface(phase, solid, i, j):
            line = line_in(phase, solid, contact, i, j)
        for k in ti.static(range(3)):
            lines[k, i, j] = line[k]

    for i, j in phase:
        found = NOWHERE
        if at_interface(phase, solid, i, j):
            found = curvature_at(phase, solid, contact, lines, i, j)
        curvature[i, j] = found


@ti.kernel
def add_surface_tension(
    velocity: Planes, phase: Cells, density: Cells, solid: Solids, curvature: Cells, impulse: ti.f64
):
    """Pull the velocity (2, nx+1, ny+1) by the continuum surface force (Brackbill, Kothe, Zemach, J. Comput.
    Phys. 100, 1992) with the gradient and the face densities of the pressure (Francois et al., J. Comput.
    Phys. 213, 2006), ``curvature`` (nx, ny) from heights (Popinet, J. Comput. Phys. 228, 2009).

    ``impulse``: time step times surface tension over the spacing squared.
    """
    for i, j in phase:
        for d in ti.static(range(2)):
            if is_open(solid, d, i, j):
                bi, bj = i - (1 - d), j - d
                pull = face_force(curvature[i, j], curvature[bi, bj], phase[i, j] - phase[bi, bj])
                velocity[d, i, j] += impulse * pull / (0.5 * (density[i, j] + density[bi, bj]))


@ti.kernel
def find_lengths(phase: Cells, solid: Solids, contact: Planes, lengths: Cells):
    """Length of every cell's line, in cells: (nx, ny)."""
    for i, j in phase:
        length = 0.0
        if solid[i, j] == 0 and not is_wisp(phase[i, j]):
            a, b, alpha = line_in(phase, solid, contact, i, j)
            if a != 0.0 or b != 0.0:
                x0, y0, x1, y1 = line_ends(a, b, alpha)
                length = ti.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2)
        lengths[i, j] = length
