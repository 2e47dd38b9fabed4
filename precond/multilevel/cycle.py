"""The leaf hierarchy's cycle, up from the leaves and back, on the arrays of precond.multilevel.levels."""

from __future__ import annotations

import numpy as np

from precond.host.compiled import compiled
from precond.multilevel.levels import Leaves, Stage, Stages

SIDE = 4  # precond.multilevel.levels.SIDE
CELLS = SIDE * SIDE

Array = np.ndarray


@compiled
def from_grid(residual: Array, leaves: Leaves) -> None:
    """The leaves' r <- ``residual`` (nx, ny)."""
    nx, ny = residual.shape
    gx, gy = leaves.x.shape[0] - 2, leaves.x.shape[1] - 2
    for a in range(gx):
        for b in range(gy):
            target = leaves.r[a * gy + b]
            for u in range(min(SIDE, nx - SIDE * a)):
                row = residual[SIDE * a + u]
                for v in range(min(SIDE, ny - SIDE * b)):
                    target[SIDE * u + v] = row[SIDE * b + v]


@compiled
def to_grid(leaves: Leaves, out: Array) -> None:
    """``out`` (nx, ny) <- the leaves' x."""
    nx, ny = out.shape
    gx, gy = leaves.x.shape[0] - 2, leaves.x.shape[1] - 2
    for a in range(gx):
        for b in range(gy):
            source = leaves.x[a + 1, b + 1]
            for u in range(min(SIDE, nx - SIDE * a)):
                row = out[SIDE * a + u]
                for v in range(min(SIDE, ny - SIDE * b)):
                    row[SIDE * b + v] = source[SIDE * u + v]


@compiled
def add_couplings(leaves: Leaves, a: int, b: int, out: Array) -> None:
    """``out`` (16,) += what A's couplings of a leaf to others make of x, with the opposite sign."""
    x, weights = leaves.x, leaves.leaving[a * (leaves.x.shape[1] - 2) + b]
    below, above, before, after = x[a, b + 1], x[a + 2, b + 1], x[a + 1, b], x[a + 1, b + 2]
    for s in range(SIDE):
        out[s] += weights[0, s] * below[CELLS - SIDE + s]
        out[CELLS - SIDE + s] += weights[1, s] * above[s]
    for s in range(SIDE):
        out[SIDE * s] += weights[2, s] * before[SIDE * s + SIDE - 1]
        out[SIDE * s + SIDE - 1] += weights[3, s] * after[SIDE * s]


@compiled
def relax_leaves(leaves: Leaves, colour: int, alone: bool) -> None:
    """Solve exactly in every leaf of a ``colour``, 0 or 1, as on a chessboard, for what x leaves of r;
    ``alone`` where x is zero in the others.
    """
    gx, gy = leaves.x.shape[0] - 2, leaves.x.shape[1] - 2
    right = np.empty(CELLS)
    for a in range(gx):
        for b in range((a + colour) % 2, gy, 2):
            k, x = a * gy + b, leaves.x[a + 1, b + 1]
            for c in range(CELLS):
                right[c] = leaves.r[k, c]
            if not alone:
                add_couplings(leaves, a, b, right)
            factor, scale = leaves.factor[leaves.kind[k]], leaves.scale[k] * leaves.scale[k]
            one, two, three, four = 0.0, 0.0, 0.0, 0.0  # the last four, so that they stay in registers
            for c in range(CELLS):
                row = factor[c]
                rest = right[c] - row[0] * four - row[1] * three - row[2] * two
                four, three, two, one = three, two, one, (rest - row[3] * one) * row[4]
                right[c] = one
            one, two, three, four = 0.0, 0.0, 0.0, 0.0
            for c in range(CELLS - 1, -1, -1):
                rest = right[c]
                if c + 4 < CELLS:
                    rest -= factor[c + 4, 0] * four
                if c + 3 < CELLS:
                    rest -= factor[c + 3, 1] * three
                if c + 2 < CELLS:
                    rest -= factor[c + 2, 2] * two
                if c + 1 < CELLS:
                    rest -= factor[c + 1, 3] * one
                four, three, two, one = three, two, one, rest * factor[c, 4]
                x[c] = scale * one


@compiled
def descend_leaves(leaves: Leaves, above: Stage) -> None:
    """The cycle's way up from the leaves: x from both colours, the right-hand side of ``above`` from what is
    left, which is nothing in the leaves that came last.
    """
    relax_leaves(leaves, 0, True)
    relax_leaves(leaves, 1, False)
    left = np.empty(CELLS)
    gx, gy = above.size.shape
    by = above.total.shape[1]
    for a in range(gx):
        for b in range(gy):
            at, size, target = above.place[a, b], above.size[a, b], above.r[a // 2 * by + b // 2]
            if (a + b) % 2 == 1:
                for q in range(size):
                    target[at + q] = 0.0
                continue
            left[:] = 0.0
            add_couplings(leaves, a, b, left)
            k = a * gy + b
            basis, scale = leaves.basis[leaves.kind[k]], leaves.scale[k]
            for q in range(size):
                row, total = basis[q], 0.0
                for c in range(CELLS):
                    total += row[c] * left[c]
                target[at + q] = scale * total


@compiled
def ascend_leaves(leaves: Leaves, above: Stage) -> None:
    """The cycle's way back: x corrected by ``above``, and both colours the other way round."""
    gx, gy = above.size.shape
    by = above.total.shape[1]
    for a in range(gx):
        for b in range(a % 2, gy, 2):
            at, source = above.place[a, b], above.x[a // 2 * by + b // 2]
            k, x = a * gy + b, leaves.x[a + 1, b + 1]
            basis, scale = leaves.basis[leaves.kind[k]], leaves.scale[k]
            for q in range(above.size[a, b]):
                row, value = basis[q], scale * source[at + q]
                for c in range(CELLS):
                    x[c] += row[c] * value
    relax_leaves(leaves, 1, False)
    relax_leaves(leaves, 0, False)


@compiled
def subtract_couplings(level: Stage, a: int, b: int, out: Array) -> None:
    """``out`` -= what A_c's couplings of a block to others make of the level's x."""
    cx, cy = level.size.shape
    bx, by = level.total.shape
    for side in range(4):
        axis, up = side // 2, side % 2
        n, m = (a + 2 * up - 1, b) if axis == 0 else (a, b + 2 * up - 1)
        if n < 0 or m < 0 or n == bx or m == by:
            continue
        other = level.x[n * by + m]
        for s in range(2):
            i, j = (2 * a + up, 2 * b + s) if axis == 0 else (2 * a + s, 2 * b + up)
            if i >= cx or j >= cy:
                continue
            u, v = (i + 2 * up - 1, j) if axis == 0 else (i, j + 2 * up - 1)
            at, there = level.place[i, j], level.place[u, v]
            size, count = level.size[i, j], level.size[u, v]
            if up:
                entries = level.across[level.link[axis, i, j]]
                for p in range(size):
                    total = 0.0
                    for q in range(count):
                        total += entries[p * count + q] * other[there + q]
                    out[at + p] -= total
            else:
                entries = level.across[level.link[axis, u, v]]
                for q in range(count):
                    value = other[there + q]
                    for p in range(size):
                        out[at + p] -= entries[q * size + p] * value


@compiled
def relax_blocks(level: Stage, colour: int, alone: bool) -> None:
    """As `relax_leaves`, for the level's x and r."""
    bx, by = level.total.shape
    right = np.empty(level.r.shape[1])
    for a in range(bx):
        for b in range((a + colour) % 2, by, 2):
            k, size = a * by + b, level.total[a, b]
            for p in range(size):
                right[p] = level.r[k, p]
            if not alone:
                subtract_couplings(level, a, b, right)
            inverse, target = level.inverse[level.source[a, b]], level.x[k]
            for p in range(size):
                total, first = 0.0, p * size
                for q in range(size):
                    total += inverse[first + q] * right[q]
                target[p] = total


@compiled
def descend(level: Stage, above: Stage) -> None:
    """As `descend_leaves`, from a level to the next."""
    relax_blocks(level, 0, True)
    relax_blocks(level, 1, False)
    bx, by = level.total.shape
    width, left = above.total.shape[1], np.empty(level.r.shape[1])
    for a in range(bx):
        for b in range(by):
            at, count, target = above.place[a, b], above.size[a, b], above.r[a // 2 * width + b // 2]
            if (a + b) % 2 == 1:
                for q in range(count):
                    target[at + q] = 0.0
                continue
            size = level.total[a, b]
            for p in range(size):
                left[p] = 0.0
            subtract_couplings(level, a, b, left)
            basis = level.basis[level.source[a, b]]
            for q in range(count):
                total, first = 0.0, q * size
                for p in range(size):
                    total += basis[first + p] * left[p]
                target[at + q] = total


@compiled
def ascend(level: Stage, above: Stage) -> None:
    """As `ascend_leaves`, to a level from the next."""
    bx, by = level.total.shape
    width = above.total.shape[1]
    for a in range(bx):
        for b in range(a % 2, by, 2):
            at, size, k = above.place[a, b], level.total[a, b], a * by + b
            source, target = above.x[a // 2 * width + b // 2], level.x[k]
            basis = level.basis[level.source[a, b]]
            for q in range(above.size[a, b]):
                value, first = source[at + q], q * size
                for p in range(size):
                    target[p] += basis[first + p] * value
    relax_blocks(level, 1, False)
    relax_blocks(level, 0, False)


@compiled
def stage_of(stages: Stages, k: int) -> Stage:
    """Level ``k``'s part of the flat arrays; see precond.multilevel.levels."""
    cx, cy, bx, by, columns, more = stages.shapes[k]
    first, blocks, unknowns = stages.starts[k], bx * by, 4 * columns
    return Stage(
        stages.size[first[0] : first[0] + cx * cy].reshape(cx, cy),
        stages.place[first[1] : first[1] + cx * cy].reshape(cx, cy),
        stages.total[first[2] : first[2] + blocks].reshape(bx, by),
        stages.source[first[3] : first[3] + blocks].reshape(bx, by),
        stages.link[first[4] : first[4] + 2 * cx * cy].reshape(2, cx, cy),
        stages.across[first[5] : first[5] + 2 * cx * cy * columns**2].reshape(2 * cx * cy, columns**2),
        stages.inverse[first[6] : first[6] + blocks * unknowns**2].reshape(blocks, unknowns**2),
        stages.basis[first[7] : first[7] + blocks * more * unknowns].reshape(blocks, more * unknowns),
        stages.r[first[8] : first[8] + blocks * unknowns].reshape(blocks, unknowns),
        stages.x[first[9] : first[9] + blocks * unknowns].reshape(blocks, unknowns),
    )


@compiled
def run(residual: Array, leaves: Leaves, stages: Stages, out: Array) -> None:
    """One cycle: ``out`` (nx, ny) <- M ``residual``."""
    top = len(stages.shapes) - 1
    from_grid(residual, leaves)
    descend_leaves(leaves, stage_of(stages, 0))
    for k in range(top):
        descend(stage_of(stages, k), stage_of(stages, k + 1))
    relax_blocks(stage_of(stages, top), 0, True)
    for k in range(top - 1, -1, -1):
        ascend(stage_of(stages, k), stage_of(stages, k + 1))
    ascend_leaves(leaves, stage_of(stages, 0))
    to_grid(leaves, out)
