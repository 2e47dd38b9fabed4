"""The leaf hierarchy's set-up, from the leaves up: inverses of blocks, bases, coarse operators. The arrays
are those of precond.multilevel.levels. What is alike is made once, for the kinds of leaves, blocks and pairs
that precond.multilevel.kinds finds; new ones in a list, ``begin`` to ``end`` (excluded), do not depend on one
another.

With D a block of A and W the part of D's diagonal that is due to faces that leave the block, W v = theta D v
has its eigenvalues in [0, 1]; where theta is near one, D^-1 misses what the neighbours do, and v belongs into
the coarse space (GenEO: Spillane et al., Numer. Math. 126, 2014; on every level of a hierarchy: spectral
AMGe, Chartier et al., SIAM J. Sci. Comput. 25, 2003). v <- D^-1 W v, a leaf iteration, lets those grow over
the others. It leaves a constant as it is, so the constant is the first column; but for leaves that an open
side of the box cuts, whose open faces are not in W.
"""

from __future__ import annotations

import math

import numpy as np

from precond.host.compiled import compiled
from precond.multilevel.levels import Kinds, Leaves, Level

SIDE = 4  # precond.multilevel.levels.SIDE
CELLS = SIDE * SIDE
FACES = (SIDE + 1) * SIDE  # precond.multilevel.kinds.FACES
CLOSED = 1e-12  # pivot, as a share of the diagonal, of a leaf's component that nothing leaves
SINGULAR = 1e-10  # v^T D v over v^T diag(D) v of a component v that the block closes in
DEPENDENT = 1e-8  # length of a unit column, less what others span, that is rounding

Array = np.ndarray


@compiled
def inverse_factor(block: Array) -> Array:
    """R^-1 (L, L), lower triangular, for the Cholesky factor R of ``block``. A component of the fluid that
    does not leave the block makes it singular. Such a component's vector v is a row of R^-1 before it is
    scaled; where v^T D v is rounding, v^T diag(D) v takes its place.
    """
    size = block.shape[0]
    factor, inverse = np.empty((size, size)), np.zeros((size, size))
    for i in range(size):
        row, vector = factor[i], inverse[i]
        for j in range(i):
            other, total = factor[j], block[i, j]
            for m in range(j):
                total -= row[m] * other[m]
            row[j] = total * inverse[j, j]
        pivot = block[i, i]
        for m in range(i):
            pivot -= row[m] * row[m]
            share, other = row[m], inverse[m]
            for j in range(m + 1):
                vector[j] -= share * other[j]
        vector[i], most = 1.0, 0.0
        for j in range(i + 1):
            most += vector[j] * vector[j] * block[j, j]
        scale = 1.0 / math.sqrt(pivot if pivot > SINGULAR * most else most)
        for j in range(i + 1):
            vector[j] *= scale
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
    for _ in range(doublings - 1):
        power = np.dot(power, power)
    smallest, room = threshold ** (2**doublings), min(columns.shape[0], size)
    pivots, factor = np.empty(size), np.empty((room, size))
    for i in range(size):  # of the last doubling only the diagonal, and the rows that are taken
        pivots[i] = 0.0
        for j in range(size):
            pivots[i] += power[i, j] * power[i, j]
    count = 0
    while rank < room and count < room:
        q = np.argmax(pivots)
        if not pivots[q] > smallest:
            break
        row = factor[count]
        row[:] = 0.0
        for m in range(size):
            share = power[q, m]
            for i in range(size):
                row[i] += share * power[m, i]
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
    ``stale`` (gx, gy) bool are the leaves that such a face touches.
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


@compiled
def assemble_leaf(key: Array, block: Array, leaving: Array, ones: Array) -> None:
    """D, W (4, 4) by sides and the vector of ones of a leaf, from the ``key`` of its kind; cells without
    couplings get a one on the diagonal of D.
    """
    x, y = key[:FACES].reshape(SIDE + 1, SIDE), key[FACES : 2 * FACES].reshape(SIDE, SIDE + 1)
    block[:] = 0.0
    leaving[:] = 0.0
    for u in range(SIDE):
        for v in range(SIDE):
            k = SIDE * u + v
            ones[k], block[k, k] = 0.0, 1.0
            below, above, before, after = x[u, v], x[u + 1, v], y[u, v], y[u, v + 1]
            total = below + above + before + after
            if total == 0.0 or min(below, above, before, after) < 0.0:  # closed in, or outside the grid
                continue
            ones[k], block[k, k] = 1.0, total
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
                if total <= CLOSED * block[i, i]:
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
    leaves: Leaves, kinds: Kinds, starts: Array, iterations: int, threshold: float, begin: int, end: int
) -> None:
    """Factor and basis of the new kinds ``begin`` to ``end``, the latter from ``starts`` (G, 16, m) of kinds,
    or without one (m = 0) with 2^``iterations`` leaf iterations on everything.
    """
    block, inverse = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    ones, outward, leaving = np.zeros(CELLS), np.zeros(CELLS), np.zeros((4, SIDE))
    columns, weighted = np.zeros((leaves.basis.shape[1], CELLS)), np.zeros((CELLS, CELLS))
    for m in range(begin, end):
        kind = kinds.made[m]
        assemble_leaf(kinds.key[kind], block, leaving, ones)
        outward[:] = 0.0
        add_leaving(leaving, outward)
        factor_band(block, leaves.factor[kind])
        inverse_of_band(leaves.factor[kind], inverse)
        for i in range(CELLS):
            for j in range(CELLS):
                weighted[i, j] = inverse[i, j] * outward[j]
        constant, similar = np.dot(weighted, ones), np.dot(weighted, inverse.T)
        if starts.shape[2]:
            start = starts[kind]
            rank = iterate(similar, weighted, block, constant, start, iterations, threshold, columns)
        else:
            rank = choose(similar, constant, iterations, threshold, columns)
        to_basis(inverse, columns, rank, leaves.basis[kind])
        leaves.rank[kind], leaves.constant[kind] = rank, math.sqrt(np.dot(constant, constant))


@compiled
def leaving_a_side(key: Array, side: int, s: int) -> float:
    """Weight of the face ``s`` on a ``side`` of a kind of leaf."""
    place = SIDE * SIDE * side + s if side < 2 else FACES + (SIDE + 1) * s + SIDE * (side - 2)
    return max(key[place], 0.0)


@compiled
def couple_leaves(leaves: Leaves, kinds: Kinds, above: Level, pairs: Kinds, begin: int, end: int) -> None:
    """The entries of A_c between leaves of the new kinds of ``pairs``, and then what leaves the wanted sides:
    ``begin`` to ``end`` of both.
    """
    last = SIDE - 1
    for m in range(begin, end):
        if m < pairs.count[1]:
            pair = pairs.made[m]
            axis, first, second = int(pairs.key[pair, 0]), int(pairs.key[pair, 1]), int(pairs.key[pair, 2])
            here, there, key = leaves.basis[first], leaves.basis[second], kinds.key[first]
            target, root = above.across[pair], math.sqrt(pairs.key[pair, 3])
            columns = leaves.rank[second]
            for p in range(leaves.rank[first]):
                for q in range(columns):
                    total = 0.0
                    for s in range(SIDE):
                        weight = leaving_a_side(key, 2 * axis + 1, s)
                        if axis == 0:
                            total -= weight * here[p, SIDE * last + s] * there[q, s]
                        else:
                            total -= weight * here[p, SIDE * s + last] * there[q, SIDE * s]
                    target[p * columns + q] = root * total
            continue
        kind, side = above.wanted[m - pairs.count[1]] // 4, above.wanted[m - pairs.count[1]] % 4
        target, basis, rank, key = (
            above.leaving[side, kind],
            leaves.basis[kind],
            leaves.rank[kind],
            kinds.key[kind],
        )
        first = SIDE * last * (side == 1) + last * (side == 3)
        step = 1 if side < 2 else SIDE
        for p in range(rank):
            for q in range(rank):
                total = 0.0
                for s in range(SIDE):
                    weight = leaving_a_side(key, side, s)
                    total += weight * basis[p, first + step * s] * basis[q, first + step * s]
                target[p * rank + q] = total


@compiled
def assemble_block(
    level: Level,
    children: Kinds,
    constant: Array,
    key: Array,
    a: int,
    b: int,
    block: Array,
    leaving: Array,
    ones: Array,
) -> None:
    """As `assemble_leaf`, for the block (a, b) of children; ``constant`` is that of kinds of children. All
    three are zero before.
    """
    cx, cy = level.size.shape
    for i in range(2 * a, min(2 * a + 2, cx)):
        for j in range(2 * b, min(2 * b + 2, cy)):
            at, size, child = level.place[i, j], level.size[i, j], children.of[i * cy + j]
            if size > 0:
                ones[at] = constant[child] * math.sqrt(key[4 * (i % 2) + 2 * (j % 2) + 1])
            first, second = level.leaving[i % 2, child], level.leaving[2 + j % 2, child]
            for p in range(size):
                block[at + p, at + p] = 1.0
                for q in range(size):
                    leaving[at + p, at + q] = first[p * size + q] + second[p * size + q]
            for axis in range(2):
                n, m = (i + 1, j) if axis == 0 else (i, j + 1)
                if (i if axis == 0 else j) % 2 == 1 or n == cx or m == cy:
                    continue
                entries, other = level.across[level.link[axis, i, j]], level.place[n, m]
                columns = level.size[n, m]
                for p in range(size):
                    for q in range(columns):
                        entry = entries[p * columns + q]
                        block[at + p, other + q] = block[other + q, at + p] = entry


@compiled
def set_up_blocks(
    level: Level,
    children: Kinds,
    constants: Array,
    blocks: Kinds,
    is_top: bool,
    doublings: int,
    threshold: float,
    begin: int,
    end: int,
) -> None:
    """Inverse and basis of the new kinds ``begin`` to ``end`` of ``blocks``; the top has no basis."""
    for m in range(begin, end):
        kind = blocks.made[m]
        a, b = blocks.owner[kind] // level.total.shape[1], blocks.owner[kind] % level.total.shape[1]
        size = level.total[a, b]
        block, leaving, ones = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
        assemble_block(level, children, constants, blocks.key[kind], a, b, block, leaving, ones)
        factor = inverse_factor(block)
        inverse = level.inverse[kind, : size * size].reshape(size, size)
        inverse[:] = np.dot(factor.T, factor)
        level.rank[kind], level.constant[kind] = 0, 0.0
        if is_top or size == 0:
            continue
        constant = np.dot(factor, np.dot(leaving, ones))
        short = factor.astype(np.float32)
        similar = np.dot(short, np.dot(leaving.astype(np.float32), short.T))
        room = level.basis.shape[1] // level.r.shape[1]
        columns = np.empty((room, size))
        rank = choose(similar, constant, doublings, threshold, columns)
        to_basis(factor, columns, rank, level.basis[kind, : rank * size].reshape(rank, size))
        level.rank[kind], level.constant[kind] = rank, math.sqrt(np.dot(constant, constant))


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
def couple_blocks(
    level: Level, blocks: Kinds, ranks: Array, above: Level, pairs: Kinds, begin: int, end: int
) -> None:
    """As `couple_leaves`, between ``blocks`` of a level; ``ranks`` of kinds of its children."""
    cx, cy = level.size.shape
    bx, by = level.total.shape
    for m in range(begin, end):
        if m < pairs.count[1]:
            pair = pairs.made[m]
            axis, k = pairs.owner[pair] // (bx * by), pairs.owner[pair] % (bx * by)
            a, b = k // by, k % by
            n, o = (a + 1, b) if axis == 0 else (a, b + 1)
            first, second = level.source[a, b], level.source[n, o]
            rank, columns, total, length = (
                level.rank[first],
                level.rank[second],
                level.total[a, b],
                level.total[n, o],
            )
            here = level.basis[first, : rank * total].reshape(rank, total)
            there = level.basis[second, : columns * length].reshape(columns, length)
            target = above.across[pair, : rank * columns]
            target[:] = 0.0
            for s in range(2):
                i, j = (2 * a + 1, 2 * b + s) if axis == 0 else (2 * a + s, 2 * b + 1)
                if i >= cx or j >= cy:
                    continue
                u, v = (i + 1, j) if axis == 0 else (i, j + 1)
                sizes, entries = (level.size[i, j], level.size[u, v]), level.across[level.link[axis, i, j]]
                at, other = level.place[i, j], level.place[u, v]
                add_congruent(here, at, rank, entries, sizes, there, other, columns, target)
            continue
        kind, side = above.wanted[m - pairs.count[1]] // 4, above.wanted[m - pairs.count[1]] % 4
        key, rank, total = blocks.key[kind], level.rank[kind], 0
        for part in range(4):
            total += ranks[int(key[2 * part])] if key[2 * part] >= 0.0 else 0
        basis = level.basis[kind, : rank * total].reshape(rank, total)
        target = above.leaving[side, kind, : rank * rank]
        target[:] = 0.0
        at = 0
        for part in range(4):
            if key[2 * part] < 0.0:
                continue
            child = int(key[2 * part])
            size = ranks[child]
            if (part // 2 if side < 2 else part % 2) == side % 2:
                entries = level.leaving[side, child]
                add_congruent(basis, at, rank, entries, (size, size), basis, at, rank, target)
            at += size
