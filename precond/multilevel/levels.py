"""What the leaf hierarchy holds: the leaves' arrays and those of every level of blocks above them.

On every level a block is made of children: a leaf of SIDE x SIDE cells, a block of 2 x 2 blocks of the level
below. A child has as many unknowns as its basis has columns, at most the R that there is room for. Matrices
of varying size stand at the beginning of the room that they have, row after row, so that a cycle reads no
gaps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIDE = 4  # cells along a leaf's side
ROOM = (8, 16, 32, 64, 112, 160)  # columns there is room for, of a leaf, of a block of leaves, and so on

Array = np.ndarray


class Leaves(NamedTuple):
    """Leaves (a, b) of a grid (nx, ny), gx x gy of them, G together, and the A that they were made for.

    weights_x, weights_y: that A's face weights, as precond.poisson has them. weight: (G,), the weight of all
    faces of a leaf where that is one number, else zero. leaving: (G, 4, 4), the weights of the faces on each
    side (-x, +x, -y, +y). factor: (G + 1, 16, 5), the Cholesky factor of D_k, cells in rows, as a band, with
    the diagonal's inverse last in each row; at the end that of a leaf whose face weights are one. Cells that
    are not coupled have a one on the diagonal. basis: (G + 1, R, 16), D-orthonormal columns, likewise.
    columns: (1,) int64, how many that last one has, zero until it is made. r: (G, 16); x: (gx + 2, gy + 2,
    16), with a rim of zeros.
    """

    weights_x: Array
    weights_y: Array
    weight: Array
    leaving: Array
    factor: Array
    basis: Array
    columns: Array
    r: Array
    x: Array


class Level(NamedTuple):
    """Blocks (a, b), bx x by of them, K together, of 2 x 2 children (i, j), cx x cy of them.

    size: (cx, cy) int64, a child's unknowns; place: (cx, cy) int64, where they begin in its block. constant:
    (cx, cy), the coefficient of a child's first column in the vector of ones; alike: (cx, cy) bool, whether a
    child is as all inside one phase are. across: (2, cx cy, R R), the entries of A_c between child (i, j) and
    the next along x or y; a child's own are the identity. leaving: (4, cx cy, R R), U^T W U for the weights W
    of the faces that leave a child on each side, of the two that are a block's.

    total: (bx, by) int64, a block's unknowns. source: (bx, by) int64, which inverse is a block's. inverse:
    (K + 1, L L) and basis: (K + 1, R' L), columns as rows, with those of blocks of alike children at the end;
    columns: (1,) int64, as for Leaves. r, x: (K, L), right-hand side and solution.
    """

    size: Array
    place: Array
    constant: Array
    alike: Array
    across: Array
    leaving: Array
    total: Array
    source: Array
    inverse: Array
    basis: Array
    columns: Array
    r: Array
    x: Array


def leaves_of(shape: tuple[int, int]) -> Leaves:
    """Room for the leaves of an (nx, ny) grid."""
    nx, ny = shape
    gx, gy, cells = -(-nx // SIDE), -(-ny // SIDE), SIDE * SIDE
    count = gx * gy
    return Leaves(
        weights_x=np.zeros((nx + 1, ny)),
        weights_y=np.zeros((nx, ny + 1)),
        weight=np.zeros(count),
        leaving=np.zeros((count, 4, SIDE)),
        factor=np.zeros((count + 1, cells, SIDE + 1)),
        basis=np.zeros((count + 1, ROOM[0], cells)),
        columns=np.zeros(1, dtype=np.int64),
        r=np.zeros((count, cells)),
        x=np.zeros((gx + 2, gy + 2, cells)),
    )


class Stage(NamedTuple):
    """Of a Level what its part in a cycle reads and writes."""

    size: Array
    place: Array
    total: Array
    source: Array
    across: Array
    inverse: Array
    basis: Array
    r: Array
    x: Array


class Stages(NamedTuple):
    """The arrays of all levels' Stages, flat, one behind another, so that a whole cycle is one call.

    shapes: (levels, 6) int64, cx, cy, bx, by, R and R'. starts: (levels, 9) int64, where each level's part of
    each array begins.
    """

    size: Array
    place: Array
    total: Array
    source: Array
    across: Array
    inverse: Array
    basis: Array
    r: Array
    x: Array
    shapes: Array
    starts: Array


def levels_of(shape: tuple[int, int]) -> tuple[list[Level], Stages]:
    """Room for all levels above the leaves, the last of one block, in the room of their stages."""
    (cx, cy), shapes = (-(-side // SIDE) for side in shape), []
    while not shapes or cx * cy > 1:
        depth = len(shapes)
        columns, more = (ROOM[min(k, len(ROOM) - 1)] for k in (depth, depth + 1))
        bx, by = -(-cx // 2), -(-cy // 2)
        shapes.append((cx, cy, bx, by, columns, more))
        cx, cy = bx, by
    every = [_shapes_of(*of) for of in shapes]
    lengths = np.array([[int(np.prod(part)) for part in parts] for parts in every])
    starts = np.cumsum(lengths, axis=0) - lengths
    kinds = [np.int64] * 4 + [np.float64] * 5
    flat = [np.zeros(total, dtype=kind) for total, kind in zip(lengths.sum(axis=0), kinds, strict=True)]
    levels = []
    for (cx, cy, _, _, columns, _), parts, firsts in zip(shapes, every, starts, strict=True):
        views = [
            array[first : first + int(np.prod(part))].reshape(part)
            for array, first, part in zip(flat, firsts, parts, strict=True)
        ]
        level = Level(
            **Stage(*views)._asdict(),
            constant=np.zeros((cx, cy)),
            alike=np.zeros((cx, cy), dtype=np.bool_),
            leaving=np.zeros((4, cx * cy, columns**2)),
            columns=np.zeros(1, dtype=np.int64),
        )
        levels.append(level)
    return levels, Stages(*flat, np.array(shapes), starts)


def _shapes_of(cx: int, cy: int, bx: int, by: int, columns: int, more: int) -> list[tuple[int, ...]]:
    """The shapes of a Stage's arrays."""
    blocks, unknowns = bx * by, 4 * columns
    return [
        *[(cx, cy)] * 2,
        *[(bx, by)] * 2,
        (2, cx * cy, columns**2),
        (blocks + 1, unknowns**2),
        (blocks + 1, more * unknowns),
        *[(blocks, unknowns)] * 2,
    ]
