"""The leaf hierarchy's set-up, from the leaves up: inverses of blocks, bases, coarse operators. The arrays
are those of precond.multilevel.levels; ``stale``, of leaves or of children, says where something changed.
Rows of leaves or blocks, ``begin`` to ``end`` (excluded), are independent of one another, but for what those
inside one phase share: whoever comes first makes it.

With D a block of A and W the part of D's diagonal that is due to faces that leave the block, W v = theta D v
has its eigenvalues in [0, 1]; where theta is near one, D^-1 misses what the neighbours do, and v belongs into
the coarse space (GenEO: Spillane et al., Numer. Math. 126, 2014; on every level of a hierarchy: spectral
AMGe, Chartier et al., SIAM J. Sci. Comput. 25, 2003). v <- D^-1 W v, a leaf iteration, lets those grow over
the others. It leaves a constant as it is, so the constant always is the first column.
"""

from __future__ import annotations

import math

import numpy as np

from precond.host.compiled import compiled
from precond.multilevel.levels import Leaves, Level

SIDE = 4  # precond.multilevel.levels.SIDE
CELLS = SIDE * SIDE
SAME = 1e-6  # share by which weights may differ that count as one number
SINGULAR = 1e-12  # pivot, as a share of the diagonal, of a component that the block closes in
DEPENDENT = 1e-8  # length of a unit column, less what others span, that is rounding

Array = np.ndarray


@compiled
def inverse_factor(block: Array) -> Array:
    """R^-1 (L, L), lower triangular, for the Cholesky factor R of ``block``. A component of the fluid that
    does not leave the block makes it singular: its last cell's diagonal is doubled.
    """
    size = block.shape[0]
    factor, inverse = np.empty((size, size)), np.zeros((size, size))
    for i in range(size):
        row, inverse_row = factor[i], inverse[i]
        for j in range(i):
            other, total = factor[j], block[i, j]
            for m in range(j):
                total -= row[m] * other[m]
            row[j] = total * inverse[j, j]
        pivot = block[i, i]
        for m in range(i):
            pivot -= row[m] * row[m]
        if pivot <= SINGULAR * block[i, i]:
            pivot += block[i, i]
        scale = 1.0 / math.sqrt(pivot)
        for m in range(i):
            share, other = -scale * row[m], inverse[m]
            for j in range(m + 1):
                inverse_row[j] += share * other[j]
        inverse_row[i] = scale
    return inverse


@compiled
def append_column(column: Array, columns: Array, rank: int) -> int:
    """Write what ``columns[:rank]``, orthonormal rows, do not span of ``column`` to the next row, of unit
    length; returns the new rank, the old one where nothing is left.
    """
    size, row = column.size, columns[rank]
    before = 0.0
    for i in range(size):
        row[i] = column[i]
        before += column[i] * column[i]
    if not before > 0.0:
        return rank
    for _ in range(2):  # twice is enough (Kahan)
        for m in range(rank):
            other, share = columns[m], 0.0
            for i in range(size):
                share += row[i] * other[i]
            for i in range(size):
                row[i] -= share * other[i]
    after = 0.0
    for i in range(size):
        after += row[i] * row[i]
    if not after > DEPENDENT**2 * before:
        return rank
    scale = 1.0 / math.sqrt(after)
    for i in range(size):
        row[i] *= scale
    return rank + 1


@compiled
def choose(similar: Array, constant: Array, doublings: int, threshold: float, columns: Array) -> int:
    """Orthonormal rows, written to ``columns`` (R, L): ``constant`` first and then what 2^``doublings`` leaf
    iterations on all unit vectors leave, S to that power, for S = ``similar``, R^-1 W R^-T, without the
    constant, which is taken off in place. Columns of the power are taken by pivoted Cholesky while its
    largest pivot is above ``threshold`` to that power. Returns their number.
    """
    size = constant.size
    rank = append_column(constant, columns, 0)
    if rank == 0:
        return 0
    first, power = columns[0], similar
    for i in range(size):  # the constant's eigenvalue is one
        for j in range(size):
            power[i, j] -= first[i] * first[j]
    exponent = 1
    for _ in range(doublings):
        power = np.dot(power, power)
        exponent *= 2
    smallest, room = threshold**exponent, min(columns.shape[0], size)
    pivots, factor = np.empty(size), np.empty((room, size))
    for i in range(size):
        pivots[i] = power[i, i]
    count = 0
    while rank < room and count < room:
        q = np.argmax(pivots)
        if not pivots[q] > smallest:
            break
        row = factor[count]
        row[:] = power[q]
        for m in range(count):
            other, share = factor[m], factor[m, q]
            for i in range(size):
                row[i] -= share * other[i]
        scale = 1.0 / math.sqrt(pivots[q])
        for i in range(size):
            row[i] *= scale
            pivots[i] -= row[i] * row[i]
        pivots[q] = 0.0
        count += 1
        rank = append_column(row, columns, rank)
    return rank


@compiled
def iterate(
    similar: Array,
    weighted: Array,
    block: Array,
    constant: Array,
    start: Array,
    iterations: int,
    threshold: float,
    columns: Array,
) -> int:
    """As `choose`, but for the columns of ``start`` (L, m): ``iterations`` leaf iterations, then those of
    which the ones before leave ``threshold`` to the power of ``iterations`` of the length that they began
    with. ``weighted`` is R^-1 W, ``block`` is D.
    """
    size, rank = constant.size, append_column(constant, columns, 0)
    if rank == 0:
        return 0
    moved = np.dot(weighted, start)
    for _ in range(iterations - 1):
        moved = np.dot(similar, moved)
    image, column = np.dot(block, start), np.empty(size)
    for q in range(start.shape[1]):
        if rank == min(columns.shape[0], size):
            break
        before, left = 0.0, 0.0
        for i in range(size):
            before += start[i, q] * image[i, q]
            column[i] = moved[i, q]
            left += column[i] * column[i]
        for m in range(rank):
            share = 0.0
            for i in range(size):
                share += columns[m, i] * column[i]
            left -= share * share
        if left > threshold ** (2 * iterations) * before:
            rank = append_column(column, columns, rank)
    return rank


@compiled
def to_basis(factor: Array, columns: Array, rank: int, out: Array) -> None:
    """The rows of ``out`` (R, >= L) <- R^-T times those of ``columns``: orthonormal with D between them."""
    size = factor.shape[0]
    for q in range(rank):
        target = out[q]
        target[:] = 0.0
        for m in range(size):
            row, share = factor[m], columns[q, m]
            for i in range(m + 1):
                target[i] += share * row[i]


@compiled
def take_weights(leaves: Leaves, weights_x: Array, weights_y: Array, drift: float, stale: Array) -> None:
    """Take the weights of faces that are further than ``drift``, as a share, from what was taken before;
    ``stale`` (gx, gy) bool are the leaves that such a face touches; their `only_weight` is noted.
    """
    nx, ny = weights_y.shape[0], weights_x.shape[1]
    stale[:] = False
    for i in range(nx + 1):
        for j in range(ny):
            then = leaves.weights_x[i, j]
            if not abs(weights_x[i, j] - then) <= drift * then:
                leaves.weights_x[i, j] = weights_x[i, j]
                stale[max(i - 1, 0) // SIDE, j // SIDE] = True
                stale[min(i, nx - 1) // SIDE, j // SIDE] = True
    for i in range(nx):
        for j in range(ny + 1):
            then = leaves.weights_y[i, j]
            if not abs(weights_y[i, j] - then) <= drift * then:
                leaves.weights_y[i, j] = weights_y[i, j]
                stale[i // SIDE, max(j - 1, 0) // SIDE] = True
                stale[i // SIDE, min(j, ny - 1) // SIDE] = True
    for a in range(stale.shape[0]):
        for b in range(stale.shape[1]):
            if stale[a, b]:
                leaves.weight[a * stale.shape[1] + b] = only_weight(leaves, a, b)


@compiled
def only_weight(leaves: Leaves, a: int, b: int) -> float:
    """The weight of all faces of a leaf where that is one number and no cell is missing, else zero."""
    x, y = leaves.weights_x, leaves.weights_y
    i, j = SIDE * a, SIDE * b
    if i + SIDE > y.shape[0] or j + SIDE > x.shape[1]:
        return 0.0
    weight = x[i, j]
    low, high = (1.0 - SAME) * weight, (1.0 + SAME) * weight
    for u in range(SIDE + 1):
        for v in range(SIDE):
            if not (low <= x[i + u, j + v] <= high and low <= y[i + v, j + u] <= high):
                return 0.0
    return weight


@compiled
def assemble_leaf(leaves: Leaves, a: int, b: int, block: Array, leaving: Array, ones: Array) -> None:
    """D, W (4, 4) by sides and the vector of ones of a leaf; cells without couplings get a one on the
    diagonal of D.
    """
    x, y = leaves.weights_x, leaves.weights_y
    nx, ny = y.shape[0], x.shape[1]
    block[:] = 0.0
    leaving[:] = 0.0
    for u in range(SIDE):
        for v in range(SIDE):
            i, j, k = SIDE * a + u, SIDE * b + v, SIDE * u + v
            ones[k], block[k, k] = 0.0, 1.0
            if i >= nx or j >= ny:
                continue
            below, above, before, after = x[i, j], x[i + 1, j], y[i, j], y[i, j + 1]
            if below + above + before + after == 0.0:
                continue
            ones[k], block[k, k] = 1.0, below + above + before + after
            if u > 0:
                block[k, k - SIDE] = block[k - SIDE, k] = -below
            else:
                leaving[0, v] = below
            if u == SIDE - 1:
                leaving[1, v] = above
            if v > 0:
                block[k, k - 1] = block[k - 1, k] = -before
            else:
                leaving[2, u] = before
            if v == SIDE - 1:
                leaving[3, u] = after


@compiled
def factor_band(block: Array, factor: Array) -> None:
    """The Cholesky factor of a leaf, a band of SIDE entries beside the diagonal, whose inverse comes last."""
    for i in range(CELLS):
        row, low = factor[i], max(i - SIDE, 0)
        row[:] = 0.0
        for j in range(low, i + 1):
            total = block[i, j]
            for m in range(max(low, j - SIDE), j):
                total -= row[SIDE + m - i] * factor[j, SIDE + m - j]
            if j < i:
                row[SIDE + j - i] = total * factor[j, SIDE]
            else:
                if total <= SINGULAR * block[i, i]:
                    total += block[i, i]
                row[SIDE] = 1.0 / math.sqrt(total)


@compiled
def inverse_of_band(factor: Array, out: Array) -> None:
    """``out`` <- R^-1 (16, 16), lower triangular, from `factor_band`."""
    for i in range(CELLS):
        row, target = factor[i], out[i]
        target[:] = 0.0
        for m in range(max(i - SIDE, 0), i):
            share, other = -row[SIDE + m - i] * row[SIDE], out[m]
            for j in range(CELLS):
                target[j] += share * other[j]
        target[i] = row[SIDE]


@compiled
def add_leaving(leaving: Array, x: Array) -> None:
    """``x`` (16,) += the weights ``leaving`` a leaf, each at its cell."""
    for s in range(SIDE):
        x[s] += leaving[0, s]
        x[CELLS - SIDE + s] += leaving[1, s]
        x[SIDE * s] += leaving[2, s]
        x[SIDE * s + SIDE - 1] += leaving[3, s]


@compiled
def set_up_leaves(
    leaves: Leaves,
    above: Level,
    stale: Array,
    starts: Array,
    iterations: int,
    threshold: float,
    begin: int,
    end: int,
) -> None:
    """Factor and basis of every stale leaf, the latter from ``starts`` (G, 16, m), or without one (m = 0)
    with 2^``iterations`` leaf iterations on everything.
    """
    block, inverse = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    ones, outward, leaving = np.zeros(CELLS), np.zeros(CELLS), np.zeros((4, SIDE))
    columns, weighted = np.zeros((leaves.basis.shape[1], CELLS)), np.zeros((CELLS, CELLS))
    gx, gy = stale.shape
    for a in range(begin, end):
        for b in range(gy):
            if not stale[a, b]:
                continue
            k, alike = a * gy + b, gx * gy
            weight = leaves.weight[k]
            assemble_leaf(leaves, a, b, block, leaving, ones)
            leaves.leaving[k] = leaving
            above.alike[a, b] = weight > 0.0
            own = alike if weight > 0.0 else k
            if weight == 0.0 or leaves.columns[0] == 0:
                scale = 1.0 / weight if weight > 0.0 else 1.0
                outward[:] = 0.0
                add_leaving(leaving, outward)
                for i in range(CELLS):
                    outward[i] *= scale
                    for j in range(CELLS):
                        block[i, j] *= scale
                factor_band(block, leaves.factor[own])
                inverse_of_band(leaves.factor[own], inverse)
                for i in range(CELLS):
                    for j in range(CELLS):
                        weighted[i, j] = inverse[i, j] * outward[j]
                constant = np.dot(weighted, ones)
                similar, room = np.dot(weighted, inverse.T), columns
                if starts.shape[2]:
                    numbers = iterations, threshold
                    rank = iterate(similar, weighted, block, constant, starts[k], *numbers, room)
                else:
                    rank = choose(similar, constant, iterations, threshold, room)
                to_basis(inverse, columns, rank, leaves.basis[own])
                above.size[a, b], above.constant[a, b] = rank, math.sqrt(np.dot(constant, constant))
                if weight > 0.0:
                    leaves.columns[0] = rank
            if weight > 0.0:
                scale = 1.0 / math.sqrt(weight)
                for q in range(leaves.columns[0]):
                    for j in range(CELLS):
                        leaves.basis[k, q, j] = scale * leaves.basis[alike, q, j]
                above.size[a, b] = leaves.columns[0]
                above.constant[a, b] = 4.0 / scale  # the root of 4 SIDE faces' weights


@compiled
def couple_leaves(leaves: Leaves, above: Level, stale: Array, begin: int, end: int) -> None:
    """The entries of A_c between leaves, and what leaves them, where one of them is stale."""
    gx, gy = stale.shape
    for a in range(begin, end):
        for b in range(gy):
            k, rank, last = a * gy + b, above.size[a, b], SIDE - 1
            here = leaves.basis[k]
            for axis in range(2):
                n, m = (a + 1, b) if axis == 0 else (a, b + 1)
                if n == gx or m == gy or not (stale[a, b] or stale[n, m]):
                    continue
                there, columns = leaves.basis[n * gy + m], above.size[n, m]
                weights, target = leaves.leaving[k, 2 * axis + 1], above.across[axis, k]
                for p in range(rank):
                    for q in range(columns):
                        total = 0.0
                        for s in range(SIDE):
                            if axis == 0:
                                total -= weights[s] * here[p, SIDE * last + s] * there[q, s]
                            else:
                                total -= weights[s] * here[p, SIDE * s + last] * there[q, SIDE * s]
                        target[p * columns + q] = total
            if not stale[a, b]:
                continue
            for axis in range(2):
                side = 2 * axis + (a if axis == 0 else b) % 2  # the other one is inside the block
                target, weights = above.leaving[side, k], leaves.leaving[k, side]
                first = SIDE * last * (side == 1) + last * (side == 3)
                step = 1 if axis == 0 else SIDE
                for p in range(rank):
                    for q in range(rank):
                        total = 0.0
                        for s in range(SIDE):
                            total += weights[s] * here[p, first + step * s] * here[q, first + step * s]
                        target[p * rank + q] = total


@compiled
def assemble_block(level: Level, a: int, b: int, block: Array, leaving: Array, ones: Array) -> None:
    """As `assemble_leaf`, for a block of children; all three are zero before."""
    cx, cy = level.size.shape
    for i in range(2 * a, min(2 * a + 2, cx)):
        for j in range(2 * b, min(2 * b + 2, cy)):
            k, at, size = i * cy + j, level.place[i, j], level.size[i, j]
            if size > 0:
                ones[at] = level.constant[i, j]
            first, second = level.leaving[i % 2, k], level.leaving[2 + j % 2, k]
            for p in range(size):
                block[at + p, at + p] = 1.0
                for q in range(size):
                    leaving[at + p, at + q] = first[p * size + q] + second[p * size + q]
            for axis in range(2):
                n, m = (i + 1, j) if axis == 0 else (i, j + 1)
                if (i if axis == 0 else j) % 2 == 1 or n == cx or m == cy:
                    continue
                entries, other, columns = level.across[axis, k], level.place[n, m], level.size[n, m]
                for p in range(size):
                    for q in range(columns):
                        entry = entries[p * columns + q]
                        block[at + p, other + q] = block[other + q, at + p] = entry


@compiled
def decompose(
    level: Level, k: int, is_top: bool, a: int, b: int, doublings: int, threshold: float
) -> tuple[int, float]:
    """Inverse and basis of the block (a, b), written to the room ``k``. Returns the number of columns and the
    coefficient of the first one in the vector of ones; at the top, which has no basis, both are zero.
    """
    size = level.total[a, b]
    block, leaving, ones = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    assemble_block(level, a, b, block, leaving, ones)
    factor = inverse_factor(block)
    inverse = level.inverse[k, : size * size].reshape(size, size)
    inverse[:] = np.dot(factor.T, factor)
    if is_top or size == 0:
        return 0, 0.0
    constant = np.dot(factor, np.dot(leaving, ones))
    short = factor.astype(np.float32)
    similar = np.dot(short, np.dot(leaving.astype(np.float32), short.T))
    room = level.basis.shape[1] // level.r.shape[1]
    columns = np.empty((room, size))
    rank = choose(similar, constant, doublings, threshold, columns)
    to_basis(factor, columns, rank, level.basis[k, : rank * size].reshape(rank, size))
    return rank, math.sqrt(np.dot(constant, constant))


@compiled
def set_up_blocks(
    level: Level,
    above: Level,
    is_top: bool,
    stale: Array,
    stale_above: Array,
    doublings: int,
    threshold: float,
    begin: int,
    end: int,
) -> None:
    """Inverse and basis of the blocks with a ``stale`` (cx, cy) child, which are ``stale_above`` (bx, by);
    the top has no ``above`` and no basis.
    """
    cx, cy = level.size.shape
    bx, by = level.total.shape
    for a in range(begin, end):
        for b in range(by):
            changed, same, total, count = False, True, 0, 0
            for i in range(2 * a, min(2 * a + 2, cx)):
                for j in range(2 * b, min(2 * b + 2, cy)):
                    changed = changed or stale[i, j]
                    same = same and level.alike[i, j]
                    level.place[i, j] = total
                    total += level.size[i, j]
                    count += 1
            stale_above[a, b] = changed
            if not changed:
                continue
            k, alike, same = a * by + b, bx * by, same and count == 4 and not is_top
            level.total[a, b], level.source[a, b] = total, alike if same else k
            if not same or level.columns[0] == 0:
                own = level.source[a, b]
                rank, constant = decompose(level, own, is_top, a, b, doublings, threshold)
                if same:
                    level.columns[0] = rank
            if is_top:
                return
            if same:
                rank, constant = level.columns[0], math.sqrt(2.0) * level.constant[2 * a, 2 * b]
                level.basis[k, : rank * total] = level.basis[alike, : rank * total]
            above.size[a, b], above.constant[a, b], above.alike[a, b] = rank, constant, same


@compiled
def add_congruent(
    left: Array,
    at: int,
    rows: int,
    entries: Array,
    sizes: tuple[int, int],
    right: Array,
    place: int,
    columns: int,
    target: Array,
) -> None:
    """``target`` (rows columns,) += X E Y^T for ``entries`` E (s t,), ``sizes`` s and t; X (rows, s) is
    ``left`` (rows, L) from ``at`` on, Y (columns, t) is ``right`` (columns, L') from ``place`` on.
    """
    s, t = sizes
    row = np.empty(t)
    for p in range(rows):
        row[:] = 0.0
        for i in range(s):
            value, first = left[p, at + i], i * t
            for j in range(t):
                row[j] += value * entries[first + j]
        for q in range(columns):
            total = 0.0
            for j in range(t):
                total += row[j] * right[q, place + j]
            target[p * columns + q] += total


@compiled
def couple_blocks(level: Level, above: Level, stale: Array, begin: int, end: int) -> None:
    """As `couple_leaves`, between blocks of which one is ``stale`` (bx, by)."""
    cx, cy = level.size.shape
    bx, by = stale.shape
    for a in range(begin, end):
        for b in range(by):
            k, rank, total = a * by + b, above.size[a, b], level.total[a, b]
            here = level.basis[k, : rank * total].reshape(rank, total)
            for axis in range(2):
                n, m = (a + 1, b) if axis == 0 else (a, b + 1)
                if n == bx or m == by or not (stale[a, b] or stale[n, m]):
                    continue
                columns, length = above.size[n, m], level.total[n, m]
                there = level.basis[n * by + m, : columns * length].reshape(columns, length)
                target = above.across[axis, k, : rank * columns]
                target[:] = 0.0
                for s in range(2):
                    i, j = (2 * a + 1, 2 * b + s) if axis == 0 else (2 * a + s, 2 * b + 1)
                    if i >= cx or j >= cy:
                        continue
                    u, v = (i + 1, j) if axis == 0 else (i, j + 1)
                    sizes = level.size[i, j], level.size[u, v]
                    entries, at, other = level.across[axis, i * cy + j], level.place[i, j], level.place[u, v]
                    add_congruent(here, at, rank, entries, sizes, there, other, columns, target)
            if not stale[a, b]:
                continue
            for axis in range(2):
                odd = (a if axis == 0 else b) % 2
                target = above.leaving[2 * axis + odd, k, : rank * rank]
                target[:] = 0.0
                for s in range(2):
                    i, j = (2 * a + odd, 2 * b + s) if axis == 0 else (2 * a + s, 2 * b + odd)
                    if i >= cx or j >= cy:
                        continue
                    sizes, at = (level.size[i, j], level.size[i, j]), level.place[i, j]
                    entries = level.leaving[2 * axis + odd, i * cy + j]
                    add_congruent(here, at, rank, entries, sizes, here, at, rank, target)
