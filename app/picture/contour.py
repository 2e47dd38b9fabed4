"""Smooth outlines of what fills cells in part: coefficients of a spline that is zero on the outline.

The quadratic B-spline through the fractions, less a half, has a smooth outline but loses what is thinner than
two cells. So the half gives way, near small shapes, to the height at which a shape of that peak encloses its
own area, and a few Newton steps then make the area within every cell the cell's fraction.

Arrays are (ny + 2, nx + 2) float32, row by row upwards, with a margin that repeats the edge.
"""

from __future__ import annotations

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray
LAYERS = 3  # of solid cells beside the fluid that get its values, as far as a smooth outline may cut in
STEP = 0.02  # a difference of fractions that can make an outline: fainter wisps are not drawn
FLAT = 0.5  # coefficient far from every outline
RINGS = 5  # of cells over which coefficients rise to that, doubling in each
FAINT = 0.012  # least height of an outline
SAMPLES = 4  # along each side of a cell, to measure an area
REACH = 0.56  # of a cell's own coefficient into its mean
SOFT = 0.4  # least slope of an area that is trusted
RELAX = 0.8
HELD = 0.72  # by how much the height of a small shape falls behind its peak, per peak
SMALL = 0.45  # peak up to which a shape is a small one


@compiled
def spread(values: Array, solid: Array) -> None:
    """Give LAYERS of ``solid`` (nx, ny) cells the mean of their neighbours: no halo around solids."""
    nx, ny = values.shape
    layer = np.zeros((nx, ny), np.uint8)
    for i in range(nx):
        for j in range(ny):
            if solid[i, j]:
                layer[i, j] = 255
    for k in range(1, LAYERS + 1):
        for i in range(nx):
            for j in range(ny):
                if layer[i, j] != 255:
                    continue
                total, count = 0.0, 0
                for a in range(max(i - 1, 0), min(i + 2, nx)):
                    for b in range(max(j - 1, 0), min(j + 2, ny)):
                        if layer[a, b] < k:
                            total += values[a, b]
                            count += 1
                if count > 0:
                    values[i, j] = total / count
                    layer[i, j] = k


@compiled
def padded(values: Array, low: float, high: float) -> Array:
    """(nx, ny) values within limits as (ny + 2, nx + 2) float32; ``low`` for what is not a number."""
    nx, ny = values.shape
    out = np.empty((ny + 2, nx + 2), np.float32)
    for j in range(ny):
        for i in range(nx):
            value = values[i, j]
            out[j + 1, i + 1] = (value if value < high else high) if value > low else low
        out[j + 1, 0], out[j + 1, nx + 1] = out[j + 1, 1], out[j + 1, nx]
    for i in range(nx + 2):
        out[0, i], out[ny + 1, i] = out[1, i], out[ny, i]
    return out


@compiled
def repeat_edge(field: Array) -> None:
    """Make the margin the edge's again."""
    rows, columns = field.shape
    for j in range(1, rows - 1):
        field[j, 0], field[j, columns - 1] = field[j, 1], field[j, columns - 2]
    for i in range(columns):
        field[0, i], field[rows - 1, i] = field[1, i], field[rows - 2, i]


@compiled
def smoothed(mask: Array) -> Array:
    """(1, 4, 1) / 6 along both axes: an outline of whole cells without the worst of their stairs."""
    rows, columns = mask.shape
    across, out = mask.copy(), mask.copy()
    for j in range(rows):
        for i in range(1, columns - 1):
            across[j, i] = (mask[j, i - 1] + 4.0 * mask[j, i] + mask[j, i + 1]) / 6.0
    for j in range(1, rows - 1):
        for i in range(1, columns - 1):
            out[j, i] = (across[j - 1, i] + 4.0 * across[j, i] + across[j + 1, i]) / 6.0
    repeat_edge(out)
    return out


@compiled
def active_cells(f: Array) -> Array:
    """(n, 2) the cells (j, i) with an outline in them or in a neighbour."""
    rows, columns = f.shape
    mark = np.zeros((rows, columns), np.uint8)
    count = 0
    for j in range(1, rows - 1):
        for i in range(1, columns - 1):
            own = f[j, i]
            if not (
                abs(own - f[j, i + 1]) > STEP or abs(own - f[j + 1, i]) > STEP or STEP < own < 1.0 - STEP
            ):
                continue
            for b in range(max(j - 1, 1), min(j + 3, rows - 1)):
                for a in range(max(i - 1, 1), min(i + 3, columns - 1)):
                    count += mark[b, a] == 0
                    mark[b, a] = 1
    cells = np.empty((count, 2), np.int32)
    k = 0
    for j in range(1, rows - 1):
        for i in range(1, columns - 1):
            if mark[j, i]:
                cells[k, 0], cells[k, 1] = j, i
                k += 1
    return cells


@compiled
def height(peak: float) -> float:
    """At which a shape whose spline rises to ``peak`` encloses its area."""
    if peak < SMALL:
        return peak * (1.0 - HELD * peak)
    missing = 1.0 - min(peak, 1.0)
    return 0.5 - missing * missing * (1.0 - 0.65 * missing)


@compiled
def extremes(f: Array, j: int, i: int) -> tuple[float, float]:
    """The largest and the least value of the spline on the middle, the edges and the corners of a cell."""
    high, low = -1.0, 2.0
    for b in range(-1, 2):
        below, same, above = (0.5, 0.5, 0.0) if b < 0 else (0.125, 0.75, 0.125) if b == 0 else (0.0, 0.5, 0.5)
        west = below * f[j - 1, i - 1] + same * f[j, i - 1] + above * f[j + 1, i - 1]
        here = below * f[j - 1, i] + same * f[j, i] + above * f[j + 1, i]
        east = below * f[j - 1, i + 1] + same * f[j, i + 1] + above * f[j + 1, i + 1]
        for value in (0.5 * (west + here), 0.125 * (west + east) + 0.75 * here, 0.5 * (here + east)):
            high, low = max(high, value), min(low, value)
    return high, low


@compiled
def first_guess(f: Array, cells: Array) -> Array:
    """The fractions less the height of the outline nearby."""
    rows, columns = f.shape
    high, low, out = f.copy(), f.copy(), np.empty_like(f)
    for k in range(len(cells)):
        j, i = cells[k]
        high[j, i], low[j, i] = extremes(f, j, i)
    for j in range(rows):
        for i in range(columns):
            out[j, i] = FLAT if f[j, i] > 0.5 else -FLAT
    for k in range(len(cells)):
        j, i = cells[k]
        most = max(high[j, i], high[j - 1, i], high[j + 1, i], high[j, i - 1], high[j, i + 1])
        least = min(low[j, i], low[j - 1, i], low[j + 1, i], low[j, i - 1], low[j, i + 1])
        if most > FAINT and least < 1.0 - FAINT:
            level = height(np.float64(most)) + 0.5 - height(1.0 - least)
            out[j, i] = f[j, i] - min(max(level, FAINT), 1.0 - FAINT)
    repeat_edge(out)
    return out


@compiled
def area(c: Array, j: int, i: int) -> tuple[float, float]:
    """The share of a cell within the outline, and how fast it grows with all coefficients."""
    total = slope = 0.0
    for s in range(SAMPLES):
        u = (s + 0.5) / SAMPLES - 0.5
        below, same, above = 0.5 * (0.5 - u) ** 2, 0.75 - u * u, 0.5 * (0.5 + u) ** 2
        west = below * c[j - 1, i - 1] + same * c[j, i - 1] + above * c[j + 1, i - 1]
        here = below * c[j - 1, i] + same * c[j, i] + above * c[j + 1, i]
        east = below * c[j - 1, i + 1] + same * c[j, i + 1] + above * c[j + 1, i + 1]
        below, same, above = u - 0.5, -2.0 * u, 0.5 + u
        west_up = below * c[j - 1, i - 1] + same * c[j, i - 1] + above * c[j + 1, i - 1]
        here_up = below * c[j - 1, i] + same * c[j, i] + above * c[j + 1, i]
        east_up = below * c[j - 1, i + 1] + same * c[j, i + 1] + above * c[j + 1, i + 1]
        for t in range(SAMPLES):
            u = (t + 0.5) / SAMPLES - 0.5
            left, middle, right = 0.5 * (0.5 - u) ** 2, 0.75 - u * u, 0.5 * (0.5 + u) ** 2
            value = left * west + middle * here + right * east
            up = left * west_up + middle * here_up + right * east_up
            across = (u - 0.5) * west - 2.0 * u * here + (0.5 + u) * east
            steep = SAMPLES / (np.sqrt(across * across + up * up) + 1e-9)
            distance = value * steep
            if abs(distance) < 0.5:
                slope += steep
            total += min(max(0.5 + distance, 0.0), 1.0)
    return total / SAMPLES**2, slope / SAMPLES**2


@compiled
def one_sided(c: Array, j: int, i: int) -> bool:
    """Whether no outline passes through the cell: a spline stays between its coefficients."""
    above = c[j, i] > 0.0
    for b in range(j - 1, j + 2):
        for a in range(i - 1, i + 2):
            if (c[b, a] > 0.0) != above:
                return False
    return True


@compiled
def rise(c: Array, cells: Array) -> None:
    """Let the coefficients around faint outlines rise gently, for a jump would look like another outline."""
    rows, columns = c.shape
    ring_of = np.zeros((rows, columns), np.uint8)
    listed = np.empty((9 * RINGS * len(cells) + 1, 2), np.int32)
    end = 0
    for k in range(len(cells)):
        j, i = cells[k]
        if abs(c[j, i]) < 0.5 * FLAT:
            listed[end, 0], listed[end, 1] = j, i
            end += 1
        if abs(c[j, i]) != FLAT:
            ring_of[j, i] = 1
    begin = 0
    for ring in range(2, RINGS + 2):
        last = end
        for k in range(begin, last):
            j, i = listed[k]
            most = 2.0 * abs(c[j, i])
            if most >= FLAT:
                continue
            for b in range(max(j - 1, 1), min(j + 2, rows - 1)):
                for a in range(max(i - 1, 1), min(i + 2, columns - 1)):
                    if ring_of[b, a] == 0:
                        ring_of[b, a] = ring
                        listed[end, 0], listed[end, 1] = b, a
                        end += 1
                    if ring_of[b, a] == ring:
                        c[b, a] = min(c[b, a], most) if c[b, a] > 0.0 else max(c[b, a], -most)
        begin = last
    repeat_edge(c)


@compiled
def outline(f: Array, rounds: int) -> Array:
    """Coefficients of a spline, in cells, that is above zero where the fractions ``f`` (0 to 1) lie."""
    cells = active_cells(f)
    c = first_guess(f, cells)
    steps = np.empty(len(cells), np.float32)
    for _ in range(rounds):
        for k in range(len(cells)):
            j, i = cells[k]
            own = f[j, i]
            if one_sided(c, j, i):
                share, slope = (1.0, 0.0) if c[j, i] > 0.0 else (0.0, 0.0)
            else:
                share, slope = area(c, j, i)
            limit = 0.4 * abs(c[j, i]) + 0.002
            step = (own - share) / max(REACH * slope, SOFT)
            steps[k] = RELAX * min(max(step, -limit), limit)
        for k in range(len(cells)):
            j, i = cells[k]
            c[j, i] += steps[k]
        repeat_edge(c)
    rise(c, cells)
    return c


@compiled
def sides(c: Array) -> Array:
    """(ny, nx) uint8 of every cell: 0 outside, 1 inside, 2 or 3 with the outline in it or in a neighbour."""
    rows, columns = c.shape
    out = np.zeros((rows - 2, columns - 2), np.uint8)
    for j in range(1, rows - 1):
        for i in range(1, columns - 1):
            inside = c[j, i] > 0.0
            if inside:
                out[j - 1, i - 1] |= 1
            if (
                (c[j, i + 1] > 0.0) == inside
                and (c[j + 1, i] > 0.0) == inside
                and (c[j + 1, i + 1] > 0.0) == inside
            ):
                continue
            for b in range(max(j - 2, 0), min(j + 2, rows - 2)):
                for a in range(max(i - 2, 0), min(i + 2, columns - 2)):
                    out[b, a] |= 2
    return out
