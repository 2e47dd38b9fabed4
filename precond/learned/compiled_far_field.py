"""The set-up of the definite hierarchical matrix in compiled loops for the CPU: what
precond.learned.hmatrix.parts_of and precond.learned.far_field.factorised compute, for RANK columns a leaf and
a strip, at inference.

All is float64. K leaves of L cells in P slots, R = RANK; a level's columns and functions are (P R, R), a
strip's rows standing together; its cores stand behind those of the levels below.
"""

from __future__ import annotations

import math

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray
RANK = 8  # known to the compiler, which unrolls what it knows
SHIFT = 1e-4  # added to a tile's Galerkin block: A's null vector makes the topmost one singular
DEPENDENT = 1e-10  # share of a column's square that it must add to those before it
TINIEST = float(np.finfo(np.float64).tiny) ** 0.5  # for columns that are zero


@compiled
def cholesky(matrix: Array) -> None:
    """The lower triangle of ``matrix``, positive definite, becomes its Cholesky factor."""
    for i in range(len(matrix)):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = math.sqrt(total) if i == j else total / matrix[j, j]


@compiled
def inverse_factor(matrix: Array) -> None:
    """As `cholesky`, the inverse of the factor, with zeros above."""
    cholesky(matrix)
    size = len(matrix)
    for j in range(size):
        matrix[j, j] = 1.0 / matrix[j, j]
        for i in range(j + 1, size):
            total = 0.0
            for k in range(j, i):
                total -= matrix[i, k] * matrix[k, j]
            matrix[i, j] = total / matrix[i, i]
            matrix[j, i] = 0.0


@compiled
def leaf_functions(
    columns: Array,
    bend: Array,
    mask: Array,
    blocks: Array,
    inverses: Array,
    neighbours: Array,
    iterations: int,
    basis: Array,
    lengths: Array,
) -> None:
    """``basis`` (K, L, R), orthonormal in the energy of ``blocks``, and ``lengths`` (K, R, R) with basis
    lengths^T = the functions that ``bend`` (K, L, R - 1) makes of ``columns`` (K, L, R), after ``iterations``
    in the leaves. ``neighbours`` (K, L, 4): places in the leaf of a cell's neighbours; its own where there is
    none.
    """
    count, size = mask.shape
    functions, images = np.empty((RANK, size)), np.empty((RANK, size))
    scaled, leaving = np.empty((RANK, size), dtype=np.float32), np.empty(size)
    for k in range(count):
        block, inverse, inside, near = blocks[k], inverses[k], mask[k], neighbours[k]
        for a in range(size):
            leaving[a] = block[a, a]
            for b in near[a]:
                leaving[a] += block[a, b] if b != a else 0.0
            leaving[a] *= inside[a]
            functions[0, a] = columns[k, a, 0]
            for q in range(1, RANK):
                functions[q, a] = columns[k, a, q] + bend[k, a, q - 1]
        for _ in range(iterations):
            for q in range(1, RANK):
                for a in range(size):
                    scaled[q, a] = functions[q, a] * leaving[a]
            for a in range(size):
                row = inverse[a]
                functions[0, a] = inside[a]  # D^-1 W leaves the constant
                for q in range(1, RANK):
                    total, other = np.float32(0.0), scaled[q]
                    for b in range(size):
                        total += row[b] * other[b]
                    functions[q, a] = total * inside[a]
        for q in range(RANK):
            for a in range(size):
                total = block[a, a] * functions[q, a]
                for b in near[a]:
                    total += block[a, b] * functions[q, b] if b != a else 0.0
                images[q, a] = total
        length = lengths[k]
        for q in range(RANK):  # the factor of the Gram matrix, and the functions divided by it
            for p in range(q + 1):
                total = 0.0
                for a in range(size):
                    total += functions[q, a] * images[p, a]
                length[p, q], length[q, p] = 0.0, total
            length[q, q] += DEPENDENT * length[q, q] + TINIEST
        cholesky(length)
        for q in range(RANK):
            for p in range(q):
                for a in range(size):
                    functions[q, a] -= length[q, p] * functions[p, a]
            for a in range(size):
                functions[q, a] /= length[q, q]
        for a in range(size):
            for q in range(RANK):
                basis[k, a, q] = functions[q, a]


@compiled
def couplings_between(
    basis: Array, inside: Array, outside: Array, face: Array, weights: Array, order: Array, out: Array
) -> None:
    """``out`` (p, R, R) <- U_k^T A U_l of the pairs in this ``order``; ``basis`` (K L, R)."""
    for place in range(len(order)):
        pair, block = order[place], out[place]
        block[:] = 0.0
        for f in range(face.shape[1]):
            weight = -weights[face[pair, f]]
            row, column = basis[inside[pair, f]], basis[outside[pair, f]]
            for a in range(RANK):
                for b in range(RANK):
                    block[a, b] += weight * row[a] * column[b]


@compiled
def propose(lengths: Array, cosines: Array, weights: Array, slots: Array, out: Array) -> None:
    """``out`` (levels, P R, R) <- functions on the strips in the columns of the basis: (1 + ``weights``)
    times ``cosines``, both (levels, K, R, R).
    """
    product = np.empty((RANK, RANK))
    for level in range(len(out)):
        for k in range(len(slots)):
            length, cosine, weight = lengths[k], cosines[level, k], weights[level, k]
            target = out[level, RANK * slots[k] : RANK * slots[k] + RANK]
            for a in range(RANK):
                for b in range(RANK):
                    product[a, b] = 0.0
                for c in range(RANK):
                    for b in range(RANK):
                        product[a, b] += length[c, a] * cosine[c, b]
            for a in range(RANK):
                for b in range(RANK):
                    target[a, b] = product[a, b]
                for c in range(RANK):
                    for b in range(RANK):
                        target[a, b] += weight[a, c] * product[c, b]


@compiled
def add_combination(coefficients: Array, vectors: Array, target: Array) -> None:
    """``target`` (R,) += ``coefficients`` (n,) times ``vectors`` (n, R), in registers."""
    t0, t1, t2, t3 = target[0], target[1], target[2], target[3]
    t4, t5, t6, t7 = target[4], target[5], target[6], target[7]
    for i in range(coefficients.size):
        value, vector = coefficients[i], vectors[i]
        t0 += value * vector[0]
        t1 += value * vector[1]
        t2 += value * vector[2]
        t3 += value * vector[3]
        t4 += value * vector[4]
        t5 += value * vector[5]
        t6 += value * vector[6]
        t7 += value * vector[7]
    target[0], target[1], target[2], target[3] = t0, t1, t2, t3
    target[4], target[5], target[6], target[7] = t4, t5, t6, t7


@compiled
def factor(columns: Array, cores: Array, rows: int, transposed: bool, vectors: Array) -> None:
    """``vectors`` (P R, R) <- F of one level times them, or its transpose; strips of ``rows`` rows."""
    pooled, mixed = np.empty((2 * RANK, RANK)), np.empty((2 * RANK, RANK))
    for tile in range(len(cores)):
        pooled[:] = 0.0
        mixed[:] = 0.0
        for side in range(2):
            begin, at = (2 * tile + side) * rows, side * RANK
            for a in range(RANK):
                add_combination(
                    columns[begin : begin + rows, a], vectors[begin : begin + rows], pooled[at + a]
                )
        for a in range(2 * RANK):
            add_combination(cores[tile, :, a] if transposed else cores[tile, a], pooled, mixed[a])
        for side in range(2):
            begin, at = (2 * tile + side) * rows, side * RANK
            for i in range(begin, begin + rows):
                add_combination(columns[i], mixed[at : at + RANK], vectors[i])


@compiled
def add_products(
    begin: int, end: int, first: Array, second: Array, blocks: Array, vectors: Array, out: Array
) -> None:
    """``out`` += the blocks of the pairs ``begin`` to ``end`` (excluded), and their transposes, times
    ``vectors``."""
    for pair in range(begin, end):
        here, there = RANK * first[pair], RANK * second[pair]
        for a in range(RANK):
            add_combination(blocks[pair, a], vectors[there : there + RANK], out[here + a])
            add_combination(blocks[pair, :, a], vectors[here : here + RANK], out[there + a])


@compiled
def inner_products(left: Array, right: Array, begin: int, rows: int, out: Array) -> None:
    """``out`` (R, R) <- left^T right over ``rows`` rows from ``begin`` on."""
    for a in range(RANK):
        for b in range(RANK):
            out[a, b] = 0.0
        add_combination(left[begin : begin + rows, a], right[begin : begin + rows], out[a])


@compiled
def factorise(
    ends: Array, first: Array, second: Array, couplings: Array, proposals: Array, columns: Array, cores: Array
) -> None:
    """``columns`` (levels, P R, R) and ``cores`` (P - 1, 2 R, 2 R) of W, as far_field.factorised."""
    levels, size, _ = proposals.shape
    traces, functions = np.empty((size, RANK)), np.empty((size, RANK))
    inside, outside = np.empty((size, RANK)), np.empty((size, RANK))
    lacking, block = np.empty((2, RANK, RANK)), np.empty((RANK, RANK))
    for level in range(levels):
        begin, end, rows = ends[level], ends[level + 1], RANK << level
        tiles = size // rows // 2
        done = size // RANK - 2 * tiles  # cores of the levels below
        traces[:] = 0.0
        add_products(begin, end, first, second, couplings, proposals[level], traces)
        for lower in range(level):
            at, number = size // RANK - (size // RANK >> lower), size // RANK >> lower + 1
            factor(columns[lower], cores[at : at + number], RANK << lower, True, traces)
        for strip in range(2 * tiles):
            inner_products(traces, traces, strip * rows, rows, block)
            for a in range(RANK):
                block[a, a] += DEPENDENT * block[a, a] + TINIEST
            inverse_factor(block)
            for i in range(strip * rows, (strip + 1) * rows):
                row, target = traces[i], columns[level, i]
                for a in range(RANK):
                    total = 0.0
                    for b in range(RANK):  # zeros above the diagonal: all of it is one vector
                        total += block[a, b] * row[b]
                    target[a] = total
        functions[:] = columns[level]
        for lower in range(level - 1, -1, -1):
            at, number = size // RANK - (size // RANK >> lower), size // RANK >> lower + 1
            factor(columns[lower], cores[at : at + number], RANK << lower, False, functions)
        inside[:] = functions
        add_products(0, begin, first, second, couplings, functions, inside)
        outside[:] = 0.0
        add_products(begin, end, first, second, couplings, functions, outside)
        for tile in range(tiles):
            core, start = cores[done + tile], 2 * tile * rows
            for side in range(2):
                inner_products(columns[level], columns[level], start + side * rows, rows, lacking[side])
                inner_products(functions, inside, start + side * rows, rows, block)
                at = side * RANK
                for a in range(RANK):
                    for b in range(RANK):
                        core[at + a, at + b] = block[a, b] - lacking[side, a, b]
                    core[at + a, at + a] += 1.0 + SHIFT
            inner_products(functions, outside, start, rows, block)
            for a in range(RANK):
                for b in range(RANK):
                    core[RANK + b, a] = block[a, b]
            inverse_factor(core)
            for a in range(2 * RANK):  # K - 1, K the transposed inverse of the factor
                for b in range(a + 1):
                    core[b, a] = core[a, b] - (1.0 if a == b else 0.0)
                    if a != b:
                        core[a, b] = 0.0


@compiled
def multiply(columns: Array, cores: Array, vector: Array) -> None:
    """``vector`` (P R,) <- W W^T times it, all float32."""
    levels, size, _ = columns.shape
    pooled, mixed = np.empty(2 * RANK, dtype=np.float32), np.empty(2 * RANK, dtype=np.float32)
    for turn in range(2 * levels):
        transposed = turn < levels
        level = turn if transposed else 2 * levels - 1 - turn
        rows = RANK << level
        tiles = size // rows // 2
        first = size // RANK - 2 * tiles
        for tile in range(tiles):
            core, begin, end = cores[first + tile], 2 * tile * rows, 2 * (tile + 1) * rows
            middle = begin + rows
            pooled[:] = 0.0
            mixed[:] = 0.0
            add_combination(vector[begin:middle], columns[level, begin:middle], pooled[:RANK])
            add_combination(vector[middle:end], columns[level, middle:end], pooled[RANK:])
            if transposed:
                add_combination(pooled, core[:, :RANK], mixed[:RANK])
                add_combination(pooled, core[:, RANK:], mixed[RANK:])
            else:
                for a in range(2 * RANK):
                    for c in range(2 * RANK):
                        mixed[a] += core[a, c] * pooled[c]
            for i in range(begin, end):
                row, at = columns[level, i], RANK if i >= middle else 0
                total = np.float32(0.0)
                for a in range(RANK):
                    total += row[a] * mixed[at + a]
                vector[i] += total
