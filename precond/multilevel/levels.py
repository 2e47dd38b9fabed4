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


class Kinds(NamedTuple):
    """Which of K parts of a level (leaves, blocks, pairs of neighbours) are alike, so that what is made for
    one serves them all: a density of repeated structure, or of large pure regions, has few kinds.

    of: (K,) int64, a part's kind, below zero where it has none yet. key: (K, n), what decides a kind: equal
    numbers. users: (K,) int64, parts of a kind. owner: (K,) int64, the part that it was made for. head,
    following: int64, the first kind of every bucket of a hash table and the next one in the same, below zero
    where there is none. free: (K,) int64, kinds that nobody uses, and made: (K,) int64, those that are new
    since the last numbering; count: (2,) int64, how many there are of both.
    """

    of: Array
    key: Array
    users: Array
    owner: Array
    head: Array
    following: Array
    free: Array
    made: Array
    count: Array


class Leaves(NamedTuple):
    """Leaves (a, b) of a grid (nx, ny), gx x gy of them, G together, and the A that they were made for.

    weights_x, weights_y: that A's face weights, as precond.poisson has them. leaving: (G, 4, 4), the weights
    of the faces on each side (-x, +x, -y, +y). kind: (G,) int64. Leaves of one kind have the same face
    weights but for a factor, and what follows is that of a leaf whose largest one is one; scale: (G,), one
    over the root of a leaf's own largest weight, which its columns are multiplied by.

    factor: (G, 16, 5), the Cholesky factor of a kind's D, cells in rows, as a band, with the diagonal's
    inverse last in each row; cells that are not coupled have a one on the diagonal. basis: (G, R, 16), a
    kind's D-orthonormal columns; rank: (G,) int64, their number. constant: (G,), the coefficient of the first
    of them in the vector of ones. r: (G, 16); x: (gx + 2, gy + 2, 16), with a rim of zeros.
    """

    weights_x: Array
    weights_y: Array
    leaving: Array
    kind: Array
    scale: Array
    factor: Array
    basis: Array
    rank: Array
    constant: Array
    r: Array
    x: Array


class Level(NamedTuple):
    """Blocks (a, b), bx x by of them, K together, of 2 x 2 children (i, j), cx x cy of them.

    size: (cx, cy) int64, a child's unknowns; place: (cx, cy) int64, where they begin in its block. weight:
    (cx, cy), the largest face weight of a child. link: (2, cx, cy) int64, the kind of the pair of child (i,
    j) and the next along x or y; across: (2 cx cy, R R), the entries of A_c between a kind of pair; a child's
    own are the identity. leaving: (4, cx cy, R R), of a kind of child, U^T W U for the weights W of the faces
    that leave it on each side; sides: (cx cy,) int64, a bit for every side that is made. wanted: (4 cx cy,)
    int64, 4 kind + side of what is to be made, with its length in the last entry.

    total: (bx, by) int64, a block's unknowns. source: (bx, by) int64, its kind. inverse: (K, L L) and basis:
    (K, R' L), columns as rows, of a kind of block; rank: (K,) int64 and constant: (K,), as for Leaves, for a
    block whose largest weight is one. r, x: (K, L), right-hand side and solution.
    """

    size: Array
    place: Array
    total: Array
    source: Array
    link: Array
    across: Array
    inverse: Array
    basis: Array
    r: Array
    x: Array
    weight: Array
    leaving: Array
    sides: Array
    wanted: Array
    rank: Array
    constant: Array


def kinds_of(of: Array, length: int) -> Kinds:
    """Room for the kinds of as many parts as ``of`` has, decided by so many numbers; none has one yet."""
    parts = of.size
    kinds = Kinds(
        of=of.reshape(-1),
        key=np.zeros((parts, length)),
        users=np.zeros(parts, dtype=np.int64),
        owner=np.zeros(parts, dtype=np.int64),
        head=np.zeros(1 << (parts - 1).bit_length(), dtype=np.int64),
        following=np.zeros(parts, dtype=np.int64),
        free=np.zeros(parts, dtype=np.int64),
        made=np.zeros(parts, dtype=np.int64),
        count=np.zeros(2, dtype=np.int64),
    )
    forget(kinds)
    return kinds


def forget(kinds: Kinds) -> None:
    """No part has a kind."""
    kinds.of.fill(-1)
    kinds.users.fill(0)
    kinds.head.fill(-1)
    kinds.free[:] = np.arange(len(kinds.of))[::-1]
    kinds.count[:] = len(kinds.of), 0


def leaves_of(shape: tuple[int, int]) -> Leaves:
    """Room for the leaves of an (nx, ny) grid."""
    nx, ny = shape
    gx, gy, cells = -(-nx // SIDE), -(-ny // SIDE), SIDE * SIDE
    count = gx * gy
    return Leaves(
        weights_x=np.zeros((nx + 1, ny)),
        weights_y=np.zeros((nx, ny + 1)),
        leaving=np.zeros((count, 4, SIDE)),
        kind=np.zeros(count, dtype=np.int64),
        scale=np.zeros(count),
        factor=np.zeros((count, cells, SIDE + 1)),
        basis=np.zeros((count, ROOM[0], cells)),
        rank=np.zeros(count, dtype=np.int64),
        constant=np.zeros(count),
        r=np.zeros((count, cells)),
        x=np.zeros((gx + 2, gy + 2, cells)),
    )


class Stage(NamedTuple):
    """Of a Level what its part in a cycle reads and writes."""

    size: Array
    place: Array
    total: Array
    source: Array
    link: Array
    across: Array
    inverse: Array
    basis: Array
    r: Array
    x: Array


class Stages(NamedTuple):
    """The arrays of all levels' Stages, flat, one behind another, so that a whole cycle is one call.

    shapes: (levels, 6) int64, cx, cy, bx, by, R and R'. starts: (levels, 10) int64, where each level's part
    of each array begins.
    """

    size: Array
    place: Array
    total: Array
    source: Array
    link: Array
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
    kinds = [np.int64] * 5 + [np.float64] * 5
    flat = [np.zeros(total, dtype=kind) for total, kind in zip(lengths.sum(axis=0), kinds, strict=True)]
    levels = []
    for (cx, cy, bx, by, columns, _), parts, firsts in zip(shapes, every, starts, strict=True):
        views = [
            array[first : first + int(np.prod(part))].reshape(part)
            for array, first, part in zip(flat, firsts, parts, strict=True)
        ]
        level = Level(
            **Stage(*views)._asdict(),
            weight=np.zeros((cx, cy)),
            leaving=np.zeros((4, cx * cy, columns**2)),
            sides=np.zeros(cx * cy, dtype=np.int64),
            wanted=np.zeros(4 * cx * cy + 1, dtype=np.int64),
            rank=np.zeros(bx * by, dtype=np.int64),
            constant=np.zeros(bx * by),
        )
        levels.append(level)
    return levels, Stages(*flat, np.array(shapes), starts)


def _shapes_of(cx: int, cy: int, bx: int, by: int, columns: int, more: int) -> list[tuple[int, ...]]:
    """The shapes of a Stage's arrays."""
    blocks, unknowns = bx * by, 4 * columns
    return [
        *[(cx, cy)] * 2,
        *[(bx, by)] * 2,
        (2, cx, cy),
        (2 * cx * cy, columns**2),
        (blocks, unknowns**2),
        (blocks, more * unknowns),
        *[(blocks, unknowns)] * 2,
    ]
