"""Iterations of conjugate gradients in three passes over the grid, two where M is diagonal.

Vectors are (nx, ny) float64; ``p`` has a border of zeros, (nx + 2, ny + 2). The update of x is put off to the
next pass that reads p: ``state[PENDING]`` is the step that x still lacks.

`iterate` is all of it in one thread, `iterate_in_chunks` the same on a large grid, in chunks of rows that
several threads share (precond.host.threads).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from precond.host import threads
from precond.host.compiled import compiled

Array = np.ndarray
RZ_BEFORE, PENDING, RZ, P_AP = range(4)  # of ``state``
GOES_ON, BROKE_DOWN, OVERFLOWED = range(3)  # how `iterate` ends
ROWS = 16  # that stay in the cache between two passes


@compiled
def dots(r: Array, z: Array, before: Array, fluid: Array, flexible: bool) -> tuple[float, ...]:
    """r.z, before.z, and the sums of z over ``fluid``, of r and of before; 0 for before unless
    ``flexible``."""
    rz, bz, sum_z, sum_r, sum_before = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(r.shape[0]):
        row_r, row_z, row_fluid = r[i], z[i], fluid[i]
        for j in range(r.shape[1]):
            rz += row_r[j] * row_z[j]
            sum_z += row_fluid[j] * row_z[j]
            sum_r += row_r[j]
    if flexible:
        for i in range(r.shape[0]):
            row_z, row_before = z[i], before[i]
            for j in range(r.shape[1]):
                bz += row_before[j] * row_z[j]
                sum_before += row_before[j]
    return rz, bz, sum_z, sum_r, sum_before


@compiled
def turn(first: int, last: int, z: Array, x: Array, fluid: Array, p: Array, scalars: Array) -> None:
    """x += pending p, then p <- z - mean + beta p, in rows ``first`` to ``last`` (excluded); ``scalars``:
    pending, mean, beta.
    """
    ny = z.shape[1]
    pending, mean, beta = scalars[0], scalars[1], scalars[2]
    for i in range(first, last):
        row_z, row_x, row_fluid, row_p = z[i], x[i], fluid[i], p[i + 1]
        for j in range(ny):
            old = row_p[j + 1]
            row_x[j] += pending * old
            row_p[j + 1] = (row_z[j] - mean) * row_fluid[j] + beta * old


@compiled
def multiply(first: int, last: int, p: Array, weights_x: Array, weights_y: Array, ap: Array) -> float:
    """ap <- A p in rows ``first`` to ``last`` (excluded); returns their share of p.Ap."""
    ny = ap.shape[1]
    p_ap = 0.0
    for i in range(first, last):
        below, here, above = p[i], p[i + 1], p[i + 2]
        below_weight, above_weight, weight, out = weights_x[i], weights_x[i + 1], weights_y[i], ap[i]
        for j in range(ny):
            own = here[j + 1]
            flow = below_weight[j] * (own - below[j + 1]) + above_weight[j] * (own - above[j + 1])
            flow += weight[j] * (own - here[j]) + weight[j + 1] * (own - here[j + 2])
            out[j] = flow
            p_ap += own * flow
    return p_ap


@compiled
def step(r: Array, ap: Array, alpha: float) -> float:
    """r -= alpha ap; returns r.r."""
    rr = 0.0
    for i in range(r.shape[0]):
        row_r, row_ap = r[i], ap[i]
        for j in range(r.shape[1]):
            new = row_r[j] - alpha * row_ap[j]
            row_r[j] = new
            rr += new * new
    return rr


@compiled
def copy(source: Array, target: Array) -> None:
    """target <- source."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@compiled
def step_and_scale(
    r: Array, ap: Array, alpha: float, diagonal: Array, z: Array
) -> tuple[float, float, float, float]:
    """r -= alpha ap and z <- diagonal r; returns r.r, r.z and the sums of z and r."""
    rr, rz, sum_z, sum_r = 0.0, 0.0, 0.0, 0.0
    for i in range(r.shape[0]):
        row_r, row_ap, row_diagonal, row_z = r[i], ap[i], diagonal[i], z[i]
        for j in range(r.shape[1]):
            new = row_r[j] - alpha * row_ap[j]
            scaled = row_diagonal[j] * new
            row_r[j], row_z[j] = new, scaled
            rr += new * new
            rz += new * scaled
            sum_z += scaled
            sum_r += new
    return rr, rz, sum_z, sum_r


@compiled
def iterate(
    count: int,
    flexible: bool,
    diagonal: Array,
    cells: float,
    tolerance: float,
    vectors: Array,
    p: Array,
    weights_x: Array,
    weights_y: Array,
    fluid: Array,
    state: Array,
    norms: Array,
    coefficients: Array,
) -> tuple[int, int]:
    """Up to ``count`` iterations, until the residual's norm is within ``tolerance`` or something breaks down.

    ``vectors`` (5, nx, ny): x, r, z, A p and the r before. z holds M r at the start; further iterations than
    the first need M's ``diagonal``, else of size 0. ``cells`` fluid cells share z's mean; 0: z has none.
    Leaves the norms of r in ``norms`` and alpha and beta of every iteration in ``coefficients`` (count, 2),
    and returns how many iterations were made and GOES_ON, BROKE_DOWN (r.z
    and p.Ap in ``state`` say why) or OVERFLOWED.
    """
    x, r, z, ap, before = vectors[0], vectors[1], vectors[2], vectors[3], vectors[4]
    nx = x.shape[0]
    scalars = np.empty(3)
    rz, bz, sum_z, sum_r, sum_before = dots(r, z, before, fluid, flexible)
    for done in range(count):
        mean = sum_z / cells if cells > 0.0 else 0.0
        state[RZ] = rz - mean * sum_r
        scalars[0], scalars[1] = state[PENDING], mean
        scalars[2] = (state[RZ] - (bz - mean * sum_before)) / state[RZ_BEFORE]
        state[PENDING], p_ap = 0.0, 0.0
        for first in range(0, nx, ROWS):  # the product lags by a row: it needs the next one's p
            last = min(first + ROWS, nx)
            turn(first, last, z, x, fluid, p, scalars)
            p_ap += multiply(max(first - 1, 0), last - 1 if last < nx else nx, p, weights_x, weights_y, ap)
        state[P_AP] = p_ap
        if not (0.0 < state[RZ] < math.inf and 0.0 < p_ap < math.inf):
            return done, BROKE_DOWN
        alpha = state[RZ] / p_ap
        if flexible:
            copy(r, before)
        if diagonal.size:
            rr, rz, sum_z, sum_r = step_and_scale(r, ap, alpha, diagonal, z)
        else:
            rr = step(r, ap, alpha)
        if not math.isfinite(rr):
            return done, OVERFLOWED
        state[PENDING], state[RZ_BEFORE] = alpha, state[RZ]
        norms[done] = math.sqrt(rr)
        coefficients[done, 0], coefficients[done, 1] = alpha, scalars[2]
        if norms[done] <= tolerance:
            return done + 1, GOES_ON
    return count, GOES_ON


@compiled
def dots_in_chunks(
    r: Array,
    z: Array,
    before: Array,
    fluid: Array,
    flexible: bool,
    chunks: int,
    begin: int,
    end: int,
    sums: Array,
) -> None:
    """``sums`` (chunks, 5) <- `dots` of some of the ``chunks``, ``begin`` to ``end`` (excluded)."""
    nx = len(r)
    for chunk in range(begin, end):
        low, high = nx * chunk // chunks, nx * (chunk + 1) // chunks
        rows = r[low:high], z[low:high], before[low:high], fluid[low:high]
        found, target = dots(rows[0], rows[1], rows[2], rows[3], flexible), sums[chunk]
        target[0], target[1], target[2], target[3], target[4] = found


@compiled
def turn_in_chunks(
    z: Array,
    x: Array,
    fluid: Array,
    p: Array,
    scalars: Array,
    weights_x: Array,
    weights_y: Array,
    ap: Array,
    chunks: int,
    begin: int,
    end: int,
    sums: Array,
) -> None:
    """`turn` and `multiply` in some chunks, but for the products of rows beside another chunk; ``sums[:, 0]``
    are the shares of p.Ap.
    """
    nx = len(x)
    for chunk in range(begin, end):
        low, high, total = nx * chunk // chunks, nx * (chunk + 1) // chunks, 0.0
        done = low + (1 if low > 0 else 0)
        for first in range(low, high, ROWS):
            last = min(first + ROWS, high)
            turn(first, last, z, x, fluid, p, scalars)
            known = last - 1 if last < nx else nx
            total += multiply(done, known, p, weights_x, weights_y, ap)
            done = known
        sums[chunk, 0] = total


@compiled
def multiply_edges(p: Array, weights_x: Array, weights_y: Array, ap: Array, chunks: int) -> float:
    """What `turn_in_chunks` leaves of the product; returns its share of p.Ap."""
    nx, total = len(ap), 0.0
    for chunk in range(1, chunks):
        edge = nx * chunk // chunks
        total += multiply(edge - 1, edge + 1, p, weights_x, weights_y, ap)
    return total


@compiled
def step_in_chunks(
    r: Array,
    ap: Array,
    alpha: float,
    before: Array,
    flexible: bool,
    diagonal: Array,
    z: Array,
    chunks: int,
    begin: int,
    end: int,
    sums: Array,
) -> None:
    """`copy` of r where ``flexible``, then `step` or `step_and_scale`, in some chunks; ``sums`` (chunks, 5)
    are the latter's four.
    """
    nx = len(r)
    for chunk in range(begin, end):
        low, high = nx * chunk // chunks, nx * (chunk + 1) // chunks
        residual, product, target = r[low:high], ap[low:high], sums[chunk]
        if flexible:
            copy(residual, before[low:high])
        if diagonal.size:
            found = step_and_scale(residual, product, alpha, diagonal[low:high], z[low:high])
            target[0], target[1], target[2], target[3] = found
        else:
            target[0] = step(residual, product, alpha)


def iterate_in_chunks(
    count: int,
    flexible: bool,
    diagonal: Array,
    cells: float,
    tolerance: float,
    vectors: Array,
    p: Array,
    weights_x: Array,
    weights_y: Array,
    fluid: Array,
    state: Array,
    norms: Array,
    coefficients: Array,
) -> tuple[int, int]:
    """As `iterate`. All sums are added up chunk after chunk."""
    x, r, z, ap, before = vectors
    chunks = threads.chunks(len(x), x.size)
    sums, scalars, weights = np.zeros((chunks, 5)), np.empty(3), (weights_x, weights_y)
    run = partial(_share, sums, chunks)
    rz, bz, sum_z, sum_r, sum_before = run(dots_in_chunks, r, z, before, fluid, flexible)
    rz_before, pending = float(state[RZ_BEFORE]), float(state[PENDING])
    for done in range(count):
        mean = sum_z / cells if cells > 0.0 else 0.0
        own = rz - mean * sum_r
        beta = (own - (bz - mean * sum_before)) / rz_before
        scalars[:] = pending, mean, beta
        p_ap = run(turn_in_chunks, z, x, fluid, p, scalars, *weights, ap)[0]
        p_ap += multiply_edges(p, *weights, ap, chunks)
        state[:] = rz_before, 0.0, own, p_ap
        if not (0.0 < own < math.inf and 0.0 < p_ap < math.inf):
            return done, BROKE_DOWN
        alpha = own / p_ap
        rr, rz, sum_z, sum_r, _ = run(step_in_chunks, r, ap, alpha, before, flexible, diagonal, z)
        if not math.isfinite(rr):
            return done, OVERFLOWED
        state[PENDING], state[RZ_BEFORE] = pending, rz_before = alpha, own
        norms[done] = math.sqrt(rr)
        coefficients[done] = alpha, beta
        if norms[done] <= tolerance:
            return done + 1, GOES_ON
    return count, GOES_ON


def _share(sums: Array, chunks: int, function: object, *arguments: object) -> list[float]:
    """The sums that ``function`` leaves in ``sums`` (chunks, 5), over all chunks."""
    threads.run(lambda begin, end: function(*arguments, chunks, begin, end, sums), chunks)
    total = [0.0] * 5
    for row in sums.tolist():
        total = [a + b for a, b in zip(total, row, strict=True)]
    return total
