"""Black box multigrid in compiled loops for the CPU: the cycle of precond.classical.multigrid.cycle, equal to
it but for rounding and for the coarsest level, which is factorised as a band here.

Every level has planes with a border of zeros; the levels stand above each other in two arrays (planes, rows,
columns), each from its row ``top`` on. Rows and columns count from the border on. By symmetry a cell keeps
the couplings to four of its neighbours, those of STEPS; the finest level has the first two only. Passes over
the grid take a range of rows, so that two follow each other while the rows are in the cache. A level with
many cells is cut into chunks of coarse rows, for several threads (precond.host.threads): what needs rows of
two chunks is left to `mend_descent` and `mend_ascent`.

``exact`` is float64. ``short``, what the cycle reads of the set-up but for the finest S, is float32: counts
on all families of problems stayed as they were (in float32 altogether, bubbles at contrast 10,000 took half
as many iterations again).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from torch import Tensor

from precond.host import threads
from precond.host.compiled import compiled
from precond.poisson import PoissonOperator

Array = np.ndarray
STEPS = (1, 0), (0, 1), (1, 1), (1, -1)  # to the neighbours whose couplings a cell keeps

# Planes of ``exact``: couplings of A (4) and its diagonal, D^-1/2 and D^1/2, interpolation from this level
# (9), vectors, of the finest level the couplings of S = D^-1/2 A D^-1/2 (2), and the couplings to openings of
# the box, which are A's row sums.
A, DIAGONAL, SCALE, ROOT, P, X, R, RESIDUAL, FINEST, GROUND = 0, 4, 5, 6, 7, 16, 17, 18, 19, 21
EXACT = 22
# Planes of ``short``: couplings of S (4), its diagonal, the interpolation in the scale of S (9), and whether
# a row is more than rounding, 1 or 0.
S, S_DIAGONAL, S_P, KEPT = 0, 4, 5, 14
SHORT = 15
# Entry 3 a + b of an interpolation leads to fine cell (2 i + a - 1, 2 j + b - 1).

TINY = 1e-30  # below any coupling: decides only where there is none
ROUNDING = 1e-13  # relative to its parts, an energy of a coarse function that only rounding leaves
VANISHING = 1e-13  # a coarse diagonal entry below this, where A's largest is about one, is rounding
NULL = 1e-14  # a pivot below this share of its diagonal entry: a null vector's, whose last cell stays at zero
ROWS = 8  # coarse rows that stay in the cache between two passes
REACH = 5  # rows and columns from a change of A to the footprint of a coarse cell that notices it
KEPT_REACH = 2  # the same, to one whose row that may empty, which one more in any direction notices


class CompiledCycle:
    """Planes, factors and scratch of one hierarchy; ``first`` and ``ratio`` are the smoother's
    coefficients."""

    def __init__(self, shape: tuple[int, int], coarsest: int, first: float, ratio: float):
        self._first, self._ratio, self._unit = first, ratio, 0.0
        sizes = [shape]
        while len(sizes) == 1 or sizes[-1][0] * (sizes[-1][1] + 1) > coarsest:
            sizes.append(tuple((size + 1) // 2 for size in sizes[-1]))
        tops = np.cumsum([0, *(nx + 2 for nx, _ in sizes)])
        self._levels = np.array([(*size, top) for size, top in zip(sizes, tops, strict=False)])
        self._exact = np.zeros((EXACT, tops[-1], shape[1] + 2))
        self._short = np.zeros((SHORT, tops[-1], shape[1] + 2), dtype=np.float32)
        self._changed = np.zeros((tops[-1], 2), dtype=np.int64)
        parts = [threads.chunks((nx + 1) // 2, nx * ny) for nx, ny in sizes[:-1]]
        self._chunks = [number for number in parts if number > 1]  # of the finest levels
        nx, ny = sizes[-1]
        self._band = np.zeros((nx * ny, min(nx, ny) + 2))

    def setup(self, operator: PoissonOperator, shift: float, everything: bool) -> None:
        """Follow the operator's coefficients, or unless ``everything`` what changed of them; ``shift`` is the
        coarsest operator's, relative.
        """
        weights, ground = (operator.face_weights_x.numpy(), operator.face_weights_y.numpy()), np.empty((0, 0))
        if operator.openings is not None:
            (x, y), ground = (each.copy() for each in weights), np.zeros(operator.shape)
            cells = ground[0], ground[-1], ground[:, 0], ground[:, -1]
            for border, cell in zip((x[0], x[-1], y[:, 0], y[:, -1]), cells, strict=True):
                cell += border
                border[:] = 0.0
            weights = x, y
        unit = 0.0 if everything else self._unit
        arrays = self._levels, self._exact, self._short, self._changed, self._band
        self._unit = set_up(*arrays, *weights, ground, operator.has_solid, shift, self._first, unit)

    def apply(self, residual: Tensor, out: Tensor) -> None:
        """``out`` = M ``residual``, both (nx, ny), but for the means."""
        arrays, chunked = (self._levels, self._exact, self._short), list(enumerate(self._chunks))
        smoother, given, taken = (self._first, self._ratio), residual.numpy(), out.numpy()
        factor = self._first * self._unit
        for level, chunks in chunked:
            threads.run(partial(descend, *arrays, level, *smoother, given, chunks), chunks)
            mend_descent(*arrays, level, *smoother, chunks)
        cycle(*arrays, self._band, len(chunked), *smoother, factor, given, taken)
        for level, chunks in reversed(chunked):
            threads.run(partial(ascend, *arrays, level, *smoother, factor, taken, chunks), chunks)
            mend_ascent(*arrays, level, *smoother, factor, taken, chunks)


# Set-up.


@compiled
def set_up(
    levels: Array,
    exact: Array,
    short: Array,
    changed: Array,
    band: Array,
    weights_x: Array,
    weights_y: Array,
    ground: Array,
    has_solid: bool,
    shift: float,
    first: float,
    unit_before: float,
) -> float:
    """All levels from the face weights; returns the unit in which the stencils are kept, a power of four in
    which A's largest entry is about one. Where it is still ``unit_before`` only what depends on other face
    weights than before is made anew; the solids are the same. ``changed`` (rows, 2): first and last column.
    ``ground`` (nx, ny): the weights of open faces, which are none of the others; of size 0 in a closed box.
    """
    nx, ny, _ = size_of(levels, 0)
    largest = 0.0
    for i in range(nx):
        below, above, along = weights_x[i], weights_x[i + 1], weights_y[i]
        for j in range(ny):
            largest = max(largest, below[j] + above[j] + along[j] + along[j + 1])
    exponent = math.frexp(largest)[1] if largest < math.inf else 0
    unit = math.ldexp(1.0, -(exponent // 2)) ** 2
    load(exact, changed, weights_x, weights_y, unit, unit != unit_before)
    for i in range(ground.shape[0]):
        for j in range(ground.shape[1]):
            exact[GROUND, i + 1, j + 1] = unit * ground[i, j]
    last = len(levels) - 1
    for level in range(last):
        coarse_changes(levels, changed, level, REACH + (2 * KEPT_REACH if has_solid else 0))
        scale_stencil(levels, exact, short, changed, level)
        interpolate(levels, exact, changed, level)
        coarsen(levels, exact, changed, level)
        if ground.size:
            coarsen_ground(levels, exact, changed, level)
        if has_solid:
            drop_empty_rows(levels, exact, short, changed, level)
    factorise(levels, exact, band, shift, first)
    for level in range(last):
        scale_interpolation(levels, exact, short, changed, level, level + 1 < last)
    exact[X, :, :] = 0.0  # with its border, where a NaN would stay
    return unit


@compiled
def size_of(levels: Array, level: int) -> tuple[int, int, int]:
    """nx, ny and top."""
    return levels[level, 0], levels[level, 1], levels[level, 2]


@compiled
def load(
    exact: Array, changed: Array, weights_x: Array, weights_y: Array, unit: float, everything: bool
) -> None:
    """The finest A, and where it changed."""
    nx, ny = weights_y.shape[0], weights_x.shape[1]
    for i in range(nx):
        across, along = exact[A, i + 1], exact[A + 1, i + 1]
        new_across, new_along = weights_x[i + 1], weights_y[i]
        low, high = 1, ny
        if not everything:
            while (
                low <= ny
                and across[low] == unit * new_across[low - 1]
                and along[low] == unit * new_along[low]
            ):
                low += 1
            while (
                high > low
                and across[high] == unit * new_across[high - 1]
                and along[high] == unit * new_along[high]
            ):
                high -= 1
        changed[i + 1, 0], changed[i + 1, 1] = low, high
        for j in range(low, high + 1):
            across[j] = unit * new_across[j - 1]
            along[j] = unit * new_along[j]


@compiled
def around(changed: Array, i: int, top: int, nx: int, ny: int, reach: int) -> tuple[int, int]:
    """First and last column of row i within ``reach`` of a change."""
    low, high = ny + 1, 0
    for k in range(max(i - reach, top + 1), min(i + reach, top + nx) + 1):
        if changed[k, 0] <= changed[k, 1]:
            low, high = min(low, changed[k, 0]), max(high, changed[k, 1])
    if low > high:
        return 1, 0
    return max(low - reach, 1), min(high + reach, ny)


@compiled
def coarse_columns(levels: Array, changed: Array, level: int, i: int, reach: int) -> tuple[int, int]:
    """First and last column of coarse row i, of level + 1, within ``reach`` of a change at ``level``."""
    nx, ny, top = size_of(levels, level)
    low, high = around(changed, top + 2 * i - 1, top, nx, ny, reach)
    return (low + 1) // 2, (high + 1) // 2


@compiled
def coarse_changes(levels: Array, changed: Array, level: int, reach: int) -> None:
    """Where level + 1 depends on what changed at ``level``."""
    cx, _, coarse_top = size_of(levels, level + 1)
    for i in range(1, cx + 1):
        low, high = coarse_columns(levels, changed, level, i, reach)
        changed[coarse_top + i, 0], changed[coarse_top + i, 1] = low, high


@compiled
def scale_stencil(levels: Array, exact: Array, short: Array, changed: Array, level: int) -> None:
    """D^-1/2, D^1/2 and S from A; empty rows (solid and isolated cells) get D^-1/2 = 0."""
    nx, ny, top = size_of(levels, level)
    east, north, north_east, south_east = exact[A], exact[A + 1], exact[A + 2], exact[A + 3]
    diagonal, scale, root, ground = exact[DIAGONAL], exact[SCALE], exact[ROOT], exact[GROUND]
    for i in range(top + 1, top + nx + 1):
        low, high = around(changed, i, top, nx, ny, 1)
        for j in range(low, high + 1):
            total = east[i, j] + east[i - 1, j] + north[i, j] + north[i, j - 1]
            size = abs(east[i, j]) + abs(east[i - 1, j]) + abs(north[i, j]) + abs(north[i, j - 1])
            if level > 0:
                total += north_east[i, j] + north_east[i - 1, j - 1]
                total += south_east[i, j] + south_east[i - 1, j + 1]
                size += abs(north_east[i, j]) + abs(north_east[i - 1, j - 1])
                size += abs(south_east[i, j]) + abs(south_east[i - 1, j + 1])
            total += ground[i, j]
            size += ground[i, j] + abs(total)
            diagonal[i, j], root[i, j] = total, math.sqrt(size)
            scale[i, j] = 0.0 if size <= TINY else 1.0 / root[i, j]
            short[S_DIAGONAL, i, j] = total * scale[i, j] ** 2
    for k in range(4 if level > 0 else 2):
        ahead, aside = STEPS[k]
        for i in range(top + 1, top + nx + 1):
            low, high = around(changed, i, top, nx, ny, 2)
            couplings, here, there = exact[A + k, i], scale[i], scale[i + ahead]
            if level > 0:
                scaled = short[S + k, i]
                for j in range(low, high + 1):
                    scaled[j] = couplings[j] * here[j] * there[j + aside]
            else:
                finest = exact[FINEST + k, i]
                for j in range(low, high + 1):
                    finest[j] = couplings[j] * here[j] * there[j + aside]


@compiled
def interpolate(levels: Array, exact: Array, changed: Array, level: int) -> None:
    """Weights from level + 1 to ``level``: Dendy, J. Comput. Phys. 48 (1982). Between two coarse cells by the
    couplings collapsed onto their line, halves where there are none; between four so that A is zero there.
    """
    nx, ny, top = size_of(levels, level)
    cx, cy, coarse_top = size_of(levels, level + 1)
    a, p, ground = exact[A:DIAGONAL], exact[P:X], exact[GROUND]
    for i in range(coarse_top + 1, coarse_top + cx + 1):
        x = top + 2 * (i - coarse_top) - 1  # the fine cell of coarse cell i
        for j in range(changed[i, 0], changed[i, 1] + 1):
            y = 2 * j - 1
            p[4, i, j] = 1.0
            if x < top + nx:
                back = TINY + max(a[0, x, y] + a[2, x, y - 1] + a[3, x, y + 1], 0.0)
                on = TINY + max(a[0, x + 1, y] + a[2, x + 1, y] + a[3, x + 1, y], 0.0)
                on = on if i < coarse_top + cx else 0.0
                total = back + on + ground[x + 1, y]
                p[7, i, j], p[1, i + 1, j] = back / total, on / total
            if y < ny:
                back = TINY + max(a[1, x, y] + a[2, x - 1, y] + a[3, x, y + 1], 0.0)
                on = TINY + max(a[1, x, y + 1] + a[2, x, y + 1] + a[3, x - 1, y + 2], 0.0)
                on = on if j < cy else 0.0
                total = back + on + ground[x, y + 1]
                p[5, i, j], p[3, i, j + 1] = back / total, on / total
    for i in range(coarse_top + 1, coarse_top + nx // 2 + 1):
        x = top + 2 * (i - coarse_top)
        for j in range(changed[i, 0], min(changed[i, 1], ny // 2) + 1):
            y = 2 * j
            west, east, south, north = a[0, x - 1, y], a[0, x, y], a[1, x, y - 1], a[1, x, y]
            south_west, north_east = a[2, x - 1, y - 1], a[2, x, y]
            north_west, south_east = a[3, x - 1, y + 1], a[3, x, y]
            total = west + east + south + north + south_west + north_east + north_west + south_east + TINY
            total += ground[x, y]
            p[8, i, j] = (south_west + west * p[5, i, j] + south * p[7, i, j]) / total
            p[2, i + 1, j] = (south_east + east * p[5, i + 1, j] + south * p[1, i + 1, j]) / total
            p[6, i, j + 1] = (north_west + west * p[3, i, j + 1] + north * p[7, i, j + 1]) / total
            p[0, i + 1, j + 1] = (north_east + east * p[3, i + 1, j + 1] + north * p[1, i + 1, j + 1]) / total


@compiled
def coarsen(levels: Array, exact: Array, changed: Array, level: int) -> None:
    """A of level + 1: the Galerkin product P^T A P."""
    nx, ny, top = size_of(levels, level)
    cx, _, coarse_top = size_of(levels, level + 1)
    a, p, diagonal = exact[A:DIAGONAL], exact[P:X], exact[DIAGONAL]
    own, image = np.zeros((7, 7)), np.zeros((5, 5))  # one coarse cell's column of P, and of -A P
    for i in range(coarse_top + 1, coarse_top + cx + 1):
        for j in range(changed[i, 0], changed[i, 1] + 1):
            for b in range(9):
                own[2 + b // 3, 2 + b % 3] = p[b, i, j]
            for u in range(1, 5):  # fine cells that a neighbour to come interpolates to
                for v in range(0 if u > 2 else 3, 5):
                    x, y = top + 2 * (i - coarse_top) - 3 + u, 2 * j - 3 + v
                    if x <= top or x > top + nx or y < 1 or y > ny:
                        continue  # nobody's cell: no weight leads there
                    total = -diagonal[x, y] * own[u + 1, v + 1]
                    total += a[0, x, y] * own[u + 2, v + 1] + a[0, x - 1, y] * own[u, v + 1]
                    total += a[1, x, y] * own[u + 1, v + 2] + a[1, x, y - 1] * own[u + 1, v]
                    if level > 0:
                        total += a[2, x, y] * own[u + 2, v + 2] + a[2, x - 1, y - 1] * own[u, v]
                        total += a[3, x, y] * own[u + 2, v] + a[3, x - 1, y + 1] * own[u, v + 2]
                    image[u, v] = total
            for k in range(4):
                ahead, aside = STEPS[k]
                total = 0.0
                for u in range(2 * ahead + 1, min(2 * ahead + 4, 5)):
                    for v in range(max(2 * aside + 1, 0), min(2 * aside + 4, 5)):
                        entry = 3 * (u - 1 - 2 * ahead) + v - 1 - 2 * aside
                        total += p[entry, i + ahead, j + aside] * image[u, v]
                a[k, i, j] = total


@compiled
def coarsen_ground(levels: Array, exact: Array, changed: Array, level: int) -> None:
    """The row sums of P^T A P, P^T A times the interpolated constant, which is one but near openings."""
    nx, ny, top = size_of(levels, level)
    cx, cy, coarse_top = size_of(levels, level + 1)
    a, p, ground, one, image = exact[A:DIAGONAL], exact[P:X], exact[GROUND], exact[R], exact[RESIDUAL]
    one[top + 1 : top + nx + 1] = 0.0
    for i in range(coarse_top + 1, coarse_top + cx + 1):
        for b in range(9):
            row, weights = one[top + 2 * (i - coarse_top) - 2 + b // 3], p[b, i]
            for j in range(1, cy + 1):
                row[2 * j - 2 + b % 3] += weights[j]
    for i in range(top + 1, top + nx + 1):
        for j in range(1, ny + 1):
            own = one[i, j]
            total = ground[i, j] * own
            for k in range(4):
                ahead, aside = STEPS[k]
                total += a[k, i, j] * (own - one[i + ahead, j + aside])
                total += a[k, i - ahead, j - aside] * (own - one[i - ahead, j - aside])
            image[i, j] = total
    for i in range(coarse_top + 1, coarse_top + cx + 1):
        x = top + 2 * (i - coarse_top) - 1
        for j in range(changed[i, 0], changed[i, 1] + 1):
            total = 0.0
            for b in range(9):
                total += p[b, i, j] * image[x - 1 + b // 3, 2 * j - 2 + b % 3]
            ground[i, j] = total


@compiled
def drop_empty_rows(levels: Array, exact: Array, short: Array, changed: Array, level: int) -> None:
    """Zero the rows of level + 1 that are pure rounding: a function that is constant on a closed pocket has
    no energy. What changed is as `coarsen` left it; its rim is there for the sums inside.
    """
    _, _, top = size_of(levels, level)
    cx, _, coarse_top = size_of(levels, level + 1)
    a, p, root, kept, ground = exact[A:DIAGONAL], exact[P:X], exact[ROOT], short[KEPT], exact[GROUND]
    for i in range(coarse_top + 1, coarse_top + cx + 1):
        x = top + 2 * (i - coarse_top) - 1
        low, high = coarse_columns(levels, changed, level, i - coarse_top, REACH + KEPT_REACH)
        for j in range(low, high + 1):
            parts = 0.0
            for b in range(9):
                parts += (p[b, i, j] * root[x - 1 + b // 3, 2 * j - 2 + b % 3]) ** 2
            energy = ground[i, j] + a[0, i, j] + a[0, i - 1, j] + a[1, i, j] + a[1, i, j - 1]
            energy += a[2, i, j] + a[2, i - 1, j - 1] + a[3, i, j] + a[3, i - 1, j + 1]
            kept[i, j] = 1.0 if energy > ROUNDING * parts + VANISHING else 0.0
    for i in range(coarse_top + 1, coarse_top + cx + 1):
        for j in range(changed[i, 0], changed[i, 1] + 1):
            ground[i, j] *= kept[i, j]
            for k in range(4):
                ahead, aside = STEPS[k]
                a[k, i, j] *= kept[i, j] * kept[i + ahead, j + aside]


@compiled
def scale_interpolation(
    levels: Array, exact: Array, short: Array, changed: Array, level: int, coarse_too: bool
) -> None:
    """The cycle's weights, D^1/2 P D_c^-1/2; the coarsest level has no D_c."""
    _, _, top = size_of(levels, level)
    cx, cy, coarse_top = size_of(levels, level + 1)
    for i in range(coarse_top + 1, coarse_top + cx + 1):
        low, high = around(changed, i, coarse_top, cx, cy, 2)
        for b in range(9):
            weights, scaled, scales = exact[P + b, i], short[S_P + b, i], exact[SCALE, i]
            roots = exact[ROOT, top + 2 * (i - coarse_top) - 2 + b // 3]
            for j in range(low, high + 1):
                factor = scales[j] if coarse_too else 1.0
                scaled[j] = weights[j] * roots[2 * j - 2 + b % 3] * factor


@compiled
def factorise(levels: Array, exact: Array, band: Array, shift: float, first: float) -> None:
    """Cholesky factor of ``first`` times the coarsest A, its diagonal 1 + ``shift`` times as large, as a
    band: row k holds columns k - width to k, the last as its inverse, 0 for a null vector.
    """
    nx, ny, top = size_of(levels, len(levels) - 1)
    a, ground = exact[A:DIAGONAL, top:], exact[GROUND, top:]
    width = band.shape[1] - 1
    along, across = (width - 1, 1) if ny <= nx else (1, width - 1)  # from a cell to the next in x and in y
    band[:] = 0.0
    for i in range(1, nx + 1):
        for j in range(1, ny + 1):
            total = ground[i, j] + a[0, i, j] + a[0, i - 1, j] + a[1, i, j] + a[1, i, j - 1]
            total += a[2, i, j] + a[2, i - 1, j - 1] + a[3, i, j] + a[3, i - 1, j + 1]
            row = along * (i - 1) + across * (j - 1)
            band[row, width] = first * (1.0 + shift) * total
            for k in range(4):
                ahead, aside = STEPS[k]
                there = row + along * ahead + across * aside
                if i + ahead <= nx and 1 <= j + aside <= ny:
                    band[max(row, there), width - abs(there - row)] = -first * a[k, i, j]
    for row in range(len(band)):
        entry = band[row, width]
        for column in range(max(row - width, 0), row):
            total = band[row, width + column - row]
            for k in range(max(row - width, 0), column):
                total -= band[row, width + k - row] * band[column, width + k - column]
            total *= band[column, width]
            band[row, width + column - row] = total
            band[row, width] -= total * total
        pivot = band[row, width]
        band[row, width] = 0.0 if pivot <= NULL * entry else 1.0 / math.sqrt(pivot)


# The cycle. Every level keeps its x divided by ``first``, as the reference does.


@compiled
def cycle(
    levels: Array,
    exact: Array,
    short: Array,
    band: Array,
    finest: int,
    first: float,
    ratio: float,
    factor: float,
    residual: Array,
    out: Array,
) -> None:
    """``out`` <- one V-cycle for ``residual``, both (nx, ny), on the levels from ``finest`` on."""
    last = len(levels) - 1
    for level in range(finest, last):
        descend(levels, exact, short, level, first, ratio, residual, 1, 0, 1)
    solve(levels, exact, band)
    for level in range(last - 1, finest - 1, -1):
        ascend(levels, exact, short, level, first, ratio, factor, out, 1, 0, 1)


@compiled
def descend(
    levels: Array,
    exact: Array,
    short: Array,
    level: int,
    first: float,
    ratio: float,
    given: Array,
    chunks: int,
    begin_chunk: int,
    end_chunk: int,
) -> None:
    """x <- smoothed from zero; r of level + 1 <- the residual through the transposed interpolation. The
    finest r is ``given``, scaled. In some of the ``chunks``, as far as their own rows allow it.
    """
    nx, ny, top = size_of(levels, level)
    cx, cy, coarse_top = size_of(levels, level + 1)
    x, r, residual = exact[X], exact[R], exact[RESIDUAL]
    for chunk in range(begin_chunk, end_chunk):
        low, high = cx * chunk // chunks, cx * (chunk + 1) // chunks
        known, before, after = min(2 * high, nx), int(low > 0), int(high < cx)
        for begin in range(
            low, high, ROWS
        ):  # a coarse row needs one residual more, that one of x, that one of r
            end, inside = min(begin + ROWS, high), begin > low
            if level == 0:
                take(2 * begin + (3 if inside else 1), min(2 * end + 2, known), exact, given)
            new, last = 2 * begin + (2 if inside else 1 + before), min(2 * end + 1, known - after)
            combine(top + new, top + last, level, ny, exact, short, r, r, ratio, False, x)
            new, last = 2 * begin + (1 if inside else 1 + 2 * before), min(2 * end, known - 2 * after)
            combine(top + new, top + last, level, ny, exact, short, x, r, -first, False, residual)
            new, last = begin + (1 if inside else 1 + 2 * before), min(end, high - after)
            restrict(new, last, top, coarse_top, cy, exact, short)


@compiled
def mend_descent(
    levels: Array, exact: Array, short: Array, level: int, first: float, ratio: float, chunks: int
) -> None:
    """What `descend` leaves between the ``chunks``."""
    _, ny, top = size_of(levels, level)
    cx, cy, coarse_top = size_of(levels, level + 1)
    x, r, residual = exact[X], exact[R], exact[RESIDUAL]
    for chunk in range(1, chunks):
        edge = cx * chunk // chunks
        row = top + 2 * edge
        combine(row, row + 1, level, ny, exact, short, r, r, ratio, False, x)
        combine(row - 1, row + 2, level, ny, exact, short, x, r, -first, False, residual)
        restrict(edge, edge + 2, top, coarse_top, cy, exact, short)


@compiled
def ascend(
    levels: Array,
    exact: Array,
    short: Array,
    level: int,
    first: float,
    ratio: float,
    factor: float,
    out: Array,
    chunks: int,
    begin_chunk: int,
    end_chunk: int,
) -> None:
    """x += the interpolation of the next level's x, and smoothed again; the finest one goes to ``out``. In
    some of the ``chunks``, as far as their own rows allow it.
    """
    nx, ny, top = size_of(levels, level)
    cx, cy, coarse_top = size_of(levels, level + 1)
    x, r, residual = exact[X], exact[R], exact[RESIDUAL]
    for chunk in range(begin_chunk, end_chunk):
        low, high = cx * chunk // chunks, cx * (chunk + 1) // chunks
        before = int(low > 0)
        for begin in range(low, high, ROWS):  # x has 2 end rows, each of the other passes needs one row more
            end, inside = min(begin + ROWS, high), begin > low
            prolong(begin + 1, end, top, coarse_top, cy, exact, short)
            known, done = (nx, nx) if end == cx else (2 * end - 1, 2 * end - 2)
            new = 2 * begin + (0 if inside else 1 + before)
            combine(top + new, top + known, level, ny, exact, short, x, r, -first, False, residual)
            new = 2 * begin + (-1 if inside else 1 + 2 * before)
            combine(top + new, top + done, level, ny, exact, short, residual, residual, ratio, True, x)
            if level == 0:
                give(new, done, exact, factor, out)


@compiled
def mend_ascent(
    levels: Array,
    exact: Array,
    short: Array,
    level: int,
    first: float,
    ratio: float,
    factor: float,
    out: Array,
    chunks: int,
) -> None:
    """What `ascend` leaves between the ``chunks``."""
    _, ny, top = size_of(levels, level)
    cx, _, _ = size_of(levels, level + 1)
    x, r, residual = exact[X], exact[R], exact[RESIDUAL]
    for chunk in range(1, chunks):
        edge = 2 * (cx * chunk // chunks)
        row = top + edge
        combine(row, row + 1, level, ny, exact, short, x, r, -first, False, residual)
        combine(row - 1, row + 2, level, ny, exact, short, residual, residual, ratio, True, x)
        if level == 0:
            give(edge - 1, edge + 2, exact, factor, out)


@compiled
def take(begin: int, end: int, exact: Array, given: Array) -> None:
    """r <- D^-1/2 ``given``, in the finest rows ``begin`` to ``end``."""
    for i in range(begin, end + 1):
        row, scales, values = exact[R, i], exact[SCALE, i], given[i - 1]
        for j in range(given.shape[1]):
            row[j + 1] = scales[j + 1] * values[j]


@compiled
def give(begin: int, end: int, exact: Array, factor: float, out: Array) -> None:
    """``out`` <- factor D^-1/2 x, in the finest rows ``begin`` to ``end``."""
    for i in range(begin, end + 1):
        row, scales, values = exact[X, i], exact[SCALE, i], out[i - 1]
        for j in range(out.shape[1]):
            values[j] = factor * scales[j + 1] * row[j + 1]


@compiled
def combine(
    begin: int,
    end: int,
    level: int,
    ny: int,
    exact: Array,
    short: Array,
    v: Array,
    base: Array,
    factor: float,
    add: bool,
    out: Array,
) -> None:
    """``out`` <- base + factor S v, or that added to it if ``add``, in rows ``begin`` to ``end``."""
    if level == 0:
        combine_finest(begin, end, exact, v, base, factor, add, out)
        return
    for i in range(begin, end + 1):
        below, here, above, row, target = v[i - 1], v[i], v[i + 1], base[i], out[i]
        west, east, north, entry = short[S, i - 1], short[S, i], short[S + 1, i], short[S_DIAGONAL, i]
        south_west, north_east = short[S + 2, i - 1], short[S + 2, i]
        north_west, south_east = short[S + 3, i - 1], short[S + 3, i]
        for j in range(1, ny + 1):
            near = west[j] * below[j] + east[j] * above[j]
            near += north[j - 1] * here[j - 1] + north[j] * here[j + 1]
            near += south_west[j - 1] * below[j - 1] + north_east[j] * above[j + 1]
            near += north_west[j + 1] * below[j + 1] + south_east[j] * above[j - 1]
            before = target[j] if add else 0.0
            target[j] = before + row[j] + factor * (entry[j] * here[j] - near)


@compiled
def combine_finest(
    begin: int, end: int, exact: Array, v: Array, base: Array, factor: float, add: bool, out: Array
) -> None:
    """As `combine`, at the finest level, whose rows fill the arrays: in one loop, over their ends too."""
    width = v.shape[1]
    first, count = begin * width + 1, (end + 1 - begin) * width - 2
    values, across, along = v.reshape(-1), exact[FINEST].reshape(-1), exact[FINEST + 1].reshape(-1)
    below, here, above = values[first - width :], values[first:], values[first + width :]
    before, after, row, target = (
        values[first - 1 :],
        values[first + 1 :],
        base.reshape(-1)[first:],
        out.reshape(-1)[first:],
    )
    west, east, south, north = across[first - width :], across[first:], along[first - 1 :], along[first:]
    for k in range(count):
        near = west[k] * below[k] + east[k] * above[k] + south[k] * before[k] + north[k] * after[k]
        held = target[k] if add else 0.0  # of S the diagonal is half of what its row adds up to
        target[k] = held + row[k] + factor * (0.5 * here[k] - near)
    for i in range(begin, end + 1):
        out[i, 0] = out[i, width - 1] = 0.0


@compiled
def restrict(begin: int, end: int, top: int, coarse_top: int, cy: int, exact: Array, short: Array) -> None:
    """Rows ``begin`` to ``end`` of the coarse r: P^T residual."""
    for i in range(coarse_top + begin, coarse_top + end + 1):
        target = exact[R, i]
        for a in range(3):
            row = exact[RESIDUAL, top + 2 * (i - coarse_top) - 2 + a]
            before, at, after = short[S_P + 3 * a, i], short[S_P + 3 * a + 1, i], short[S_P + 3 * a + 2, i]
            for j in range(1, cy + 1):
                total = target[j] if a > 0 else 0.0
                target[j] = (
                    total + before[j] * row[2 * j - 2] + at[j] * row[2 * j - 1] + after[j] * row[2 * j]
                )


@compiled
def prolong(begin: int, end: int, top: int, coarse_top: int, cy: int, exact: Array, short: Array) -> None:
    """x += P coarse x, in the fine rows of the coarse rows ``begin`` to ``end``."""
    for i in range(coarse_top + begin, coarse_top + end + 1):
        here, above = exact[X, i], exact[X, i + 1]
        x = top + 2 * (i - coarse_top) - 1
        on, after = exact[X, x], exact[X, x + 1]
        p3, p4, p5 = short[S_P + 3, i], short[S_P + 4, i], short[S_P + 5, i]
        for j in range(1, cy + 1):
            on[2 * j - 1] += p4[j] * here[j]
            on[2 * j] += p5[j] * here[j] + p3[j + 1] * here[j + 1]
        p6, p7, p8 = short[S_P + 6, i], short[S_P + 7, i], short[S_P + 8, i]
        p0, p1, p2 = short[S_P, i + 1], short[S_P + 1, i + 1], short[S_P + 2, i + 1]
        for j in range(1, cy + 1):
            from_after = p6[j + 1] * here[j + 1] + p0[j + 1] * above[j + 1]
            after[2 * j - 1] += p7[j] * here[j] + p1[j] * above[j]
            after[2 * j] += p8[j] * here[j] + p2[j] * above[j] + from_after


@compiled
def solve(levels: Array, exact: Array, band: Array) -> None:
    """The coarsest x from its r."""
    nx, ny, top = size_of(levels, len(levels) - 1)
    width, by_rows = band.shape[1] - 1, ny <= nx
    values = np.empty(len(band))
    for row in range(len(band)):
        i, j = (row // ny, row % ny) if by_rows else (row % nx, row // nx)
        total = exact[R, top + i + 1, j + 1]
        for k in range(max(row - width, 0), row):
            total -= band[row, width + k - row] * values[k]
        values[row] = total * band[row, width]
    for row in range(len(band) - 1, -1, -1):
        values[row] *= band[row, width]
        for k in range(max(row - width, 0), row):
            values[k] -= band[row, width + k - row] * values[row]
        i, j = (row // ny, row % ny) if by_rows else (row % nx, row // nx)
        exact[X, top + i + 1, j + 1] = values[row]
