"""Which leaves, blocks and pairs of neighbours are alike, so that factors, bases and couplings are made once
for each kind of them. Leaves are alike whose face weights are the same but for a factor; blocks and pairs,
whose children are and whose children's largest weights have the same ratios. What is made for a kind is made
from its key alone, so it does not depend on which part came first.

A kind lives as long as a part is of it. Kinds are found by their keys in a hash table, bucket by bucket.
"""

from __future__ import annotations

import math

import numpy as np

from precond.host.compiled import compiled
from precond.multilevel.levels import Kinds, Leaves, Level

SIDE = 4  # precond.multilevel.levels.SIDE
FACES = (SIDE + 1) * SIDE  # of a leaf, across one axis
SAME = 1e-6  # share by which a leaf's weights may be less than its largest and count as that
OUTSIDE = -1.0  # in a key, a face that the grid does not have

Array = np.ndarray


def faces_of_cells(i: Array, j: Array) -> Array:
    """Where the key of a leaf's kind has the faces (-x, +x, -y, +y) of cells (i, j) of the leaf: (n, 4)."""
    x, y = SIDE * i + j, FACES + (SIDE + 1) * i + j
    return np.stack([x, x + SIDE, y, y + 1], axis=-1)


@compiled
def bucket_of(key: Array, buckets: int) -> int:
    """Number of a bucket: FNV-1a over the words of ``key`` (n,), with their upper bits mixed in."""
    found = np.uint64(14695981039346656037)
    for word in key.view(np.uint64):
        found = (found ^ word) * np.uint64(1099511628211)
        found ^= found >> np.uint64(29)
    return np.int64(found & np.uint64(buckets - 1))  # of a power of two


@compiled
def release(kinds: Kinds, part: int) -> None:
    """``part`` has no kind any more; a kind without a part is free."""
    kind = kinds.of[part]
    if kind < 0:
        return
    kinds.of[part] = -1
    kinds.users[kind] -= 1
    if kinds.users[kind] > 0:
        return
    bucket = bucket_of(kinds.key[kind], len(kinds.head))
    if kinds.head[bucket] == kind:
        kinds.head[bucket] = kinds.following[kind]
    else:
        before = kinds.head[bucket]
        while kinds.following[before] != kind:
            before = kinds.following[before]
        kinds.following[before] = kinds.following[kind]
    kinds.free[kinds.count[0]] = kind
    kinds.count[0] += 1


@compiled
def take(kinds: Kinds, part: int, key: Array) -> int:
    """The kind of ``key``, which ``part`` is of from now on; a new one is added to what is to be made."""
    bucket = bucket_of(key, len(kinds.head))
    kind = kinds.head[bucket]
    while kind >= 0:
        same = True
        for n in range(len(key)):
            same = same and kinds.key[kind, n] == key[n]
        if same:
            break
        kind = kinds.following[kind]
    if kind < 0:
        kinds.count[0] -= 1
        kind = kinds.free[kinds.count[0]]
        for n in range(len(key)):
            kinds.key[kind, n] = key[n]
        kinds.owner[kind] = part
        kinds.following[kind] = kinds.head[bucket]
        kinds.head[bucket] = kind
        kinds.made[kinds.count[1]] = kind
        kinds.count[1] += 1
    kinds.of[part] = kind
    kinds.users[kind] += 1
    return kind


@compiled
def read_leaf(leaves: Leaves, a: int, b: int, key: Array) -> float:
    """``key`` <- the face weights of a leaf, (5, 4) across x and (4, 5) across y, over the largest of them,
    which is returned.
    """
    x, y = leaves.weights_x, leaves.weights_y
    nx, ny, largest = y.shape[0], x.shape[1], 0.0
    for u in range(SIDE + 1):
        for v in range(SIDE):
            i, j = SIDE * a + u, SIDE * b + v
            key[SIDE * u + v] = x[i, j] if i <= nx and j < ny else OUTSIDE
            i, j = SIDE * a + v, SIDE * b + u
            key[FACES + (SIDE + 1) * v + u] = y[i, j] if i < nx and j <= ny else OUTSIDE
    for n in range(2 * FACES):
        largest = max(largest, key[n])
    for n in range(2 * FACES):
        if key[n] > 0.0:
            key[n] = 1.0 if key[n] >= (1.0 - SAME) * largest else key[n] / largest
    return largest


@compiled
def number_leaves(leaves: Leaves, above: Level, kinds: Kinds, stale: Array, apart: bool) -> None:
    """Kinds of all ``stale`` (gx, gy) leaves; ``apart``: each one is a kind of its own."""
    gx, gy = stale.shape
    key, last = np.zeros(2 * FACES + 1), SIDE - 1
    kinds.count[1] = 0
    for k in range(gx * gy):
        if stale[k // gy, k % gy]:
            release(kinds, k)
    for a in range(gx):
        for b in range(gy):
            if not stale[a, b]:
                continue
            k, weight = a * gy + b, read_leaf(leaves, a, b, key)
            leaves.scale[k], above.weight[a, b] = 1.0 / math.sqrt(weight) if weight > 0.0 else 1.0, weight
            key[2 * FACES] = k if apart else 0.0
            take(kinds, k, key)
            i, j = SIDE * a, SIDE * b
            width, height = leaves.weights_y.shape[0] - i, leaves.weights_x.shape[1] - j
            for s in range(SIDE):
                leaves.leaving[k, 0, s] = leaves.weights_x[i, j + s] if s < height else 0.0
                leaves.leaving[k, 2, s] = leaves.weights_y[i + s, j] if s < width else 0.0
                inside = width > last and s < height
                leaves.leaving[k, 1, s] = leaves.weights_x[i + SIDE, j + s] if inside else 0.0
                inside = height > last and s < width
                leaves.leaving[k, 3, s] = leaves.weights_y[i + s, j + SIDE] if inside else 0.0


@compiled
def ratio_of(weight: float, other: float) -> float:
    """Of two weights, one where rounding alone may part them; the other one may be that of a solid, zero."""
    ratio = weight / other if other > 0.0 else 1.0
    return 1.0 if abs(ratio - 1.0) <= 4.0 * SAME else ratio


@compiled
def number_blocks(
    level: Level,
    above: Level,
    is_top: bool,
    children: Kinds,
    rank: Array,
    pairs: Kinds,
    blocks: Kinds,
    stale: Array,
    stale_above: Array,
) -> None:
    """Kinds of the blocks with a ``stale`` (cx, cy) child, which are ``stale_above`` (bx, by), and of the
    pairs of children of which one is stale; what the level tells of both. ``rank``: columns of kinds of
    children.
    """
    cx, cy = stale.shape
    bx, by = stale_above.shape
    pairs.count[1] = blocks.count[1] = 0
    for m in range(children.count[1]):
        level.sides[children.made[m]] = 0
    for a in range(bx):
        for b in range(by):
            stale_above[a, b] = False
            for i in range(2 * a, min(2 * a + 2, cx)):
                for j in range(2 * b, min(2 * b + 2, cy)):
                    stale_above[a, b] = stale_above[a, b] or stale[i, j]
            if stale_above[a, b]:
                release(blocks, a * by + b)
    number_pairs(level, children, pairs, stale)
    key, wanted = np.zeros(8), 0
    for a in range(bx):
        for b in range(by):
            if not stale_above[a, b]:
                continue
            total, weight = 0, 0.0
            for i in range(2 * a, min(2 * a + 2, cx)):
                for j in range(2 * b, min(2 * b + 2, cy)):
                    weight = max(weight, level.weight[i, j])
            for part in range(4):
                i, j = 2 * a + part // 2, 2 * b + part % 2
                if i >= cx or j >= cy:
                    key[2 * part], key[2 * part + 1] = -1.0, 0.0
                    continue
                kind = children.of[i * cy + j]
                key[2 * part], key[2 * part + 1] = kind, ratio_of(level.weight[i, j], weight)
                level.place[i, j], level.size[i, j] = total, rank[kind]
                total += rank[kind]
                for side in (i % 2, 2 + j % 2):  # the other ones are inside the block
                    if not level.sides[kind] >> side & 1:
                        level.sides[kind] |= 1 << side
                        level.wanted[wanted] = 4 * kind + side
                        wanted += 1
            level.total[a, b] = total
            take(blocks, a * by + b, key)
            if not is_top:
                above.weight[a, b] = weight
    level.wanted[-1] = wanted


@compiled
def number_pairs(level: Level, children: Kinds, pairs: Kinds, stale: Array) -> None:
    """Kinds of the pairs of neighbouring children of which one is ``stale`` (cx, cy)."""
    cx, cy = stale.shape
    key = np.zeros(4)
    for again in range(2):
        for axis in range(2):
            for i in range(cx):
                for j in range(cy):
                    u, v = (i + 1, j) if axis == 0 else (i, j + 1)
                    if u == cx or v == cy or not (stale[i, j] or stale[u, v]):
                        continue
                    part = (axis * cx + i) * cy + j
                    if not again:
                        release(pairs, part)
                        continue
                    key[0], key[1], key[2] = axis, children.of[i * cy + j], children.of[u * cy + v]
                    key[3] = ratio_of(level.weight[i, j], level.weight[u, v])
                    take(pairs, part, key)
