"""Triton twins of precond.device.ops, which says what each operation does: one kernel launch apiece, and no
allocation, atomic operation or host sync.

Vector kernels run a program for every BLOCK cells and write the partial sum of those; where a sum is needed
every program adds up all partial sums, in one order, so that all decide alike. Program 0 alone writes the
history and the state, and no program reads a slot that another one writes. Leaf kernels run a program a leaf;
leaves are powers of two, L in all. Tensors are contiguous and shapes are not checked. The leaves hold every
cell once. Memory traffic: docs/gpu.md.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language import constexpr

from precond.device import ops
from precond.device import state as at

# Kernels may only use constants that are marked as such.
BLOCK = constexpr(ops.BLOCK)
RZ_BEFORE, RZ, ACTIVE, ACTING = map(constexpr, (at.RZ_BEFORE, at.RZ, at.ACTIVE, at.ACTING))
ITERATIONS, OUTCOME, DUE = map(constexpr, (at.ITERATIONS, at.OUTCOME, at.DUE))
GOING, TOLERANCE, LIMIT = map(constexpr, (at.GOING, at.TOLERANCE, at.LIMIT))
NONE, CONVERGED, NOT_FINITE = map(constexpr, (at.NONE, at.CONVERGED, at.NOT_FINITE))
ITERATION_LIMIT, INDEFINITE_OPERATOR = map(constexpr, (at.ITERATION_LIMIT, at.INDEFINITE_OPERATOR))
INDEFINITE_PRECONDITIONER = constexpr(at.INDEFINITE_PRECONDITIONER)

ENTRIES = 8192  # of a leaf's inverse in registers at a time: 32 KiB of a multiprocessor's 256


@triton.jit
def _finite(value):
    return tl.abs(value) < float("inf")  # False for NaN


@triton.jit
def _at(vector, cell, valid):
    return tl.load(vector + cell, mask=valid, other=0.0)


@triton.jit
def _total(sums, partials, PADDED: constexpr):
    entry = tl.arange(0, PADDED)
    return tl.sum(_at(sums, entry, entry < partials))


@triton.jit
def _judge(rr, state):
    """ops._judge without its entry in the history."""
    tolerance = tl.load(state + TOLERANCE)
    over = tl.load(state + ITERATIONS) >= tl.load(state + LIMIT)
    outcome = tl.where(rr <= tolerance * tolerance, CONVERGED, tl.where(over, ITERATION_LIMIT, NONE))
    return tl.where(_finite(rr), outcome, NOT_FINITE)


@triton.jit
def _enter(rr, active, state, history, slots):
    """The residual in its slot of ``history`` (slots,), or in the last, which is nobody's."""
    last = slots - 1
    count = tl.minimum(tl.load(state + ITERATIONS).to(tl.int32), last)
    tl.store(history + tl.where(active, count, last), tl.sqrt(rr))


@triton.jit
def _guard(product, sign_outcome: constexpr):
    """What an inner product that must be positive means."""
    outcome = tl.where(product <= 0.0, sign_outcome, NONE)
    return tl.where(_finite(product), outcome, NOT_FINITE)


@triton.jit
def _times_a(v, diagonal, weights_x, weights_y, cell, valid, n, ny):
    """(A v) at the ``valid`` ones of the indices ``cell``, 0 elsewhere."""
    left, right = valid & (cell >= ny), valid & (cell < n - ny)
    below, above = valid & (cell >= 1), valid & (cell < n - 1)
    result = _at(diagonal, cell, valid) * _at(v, cell, valid)
    result -= _at(weights_x, cell - ny, left) * _at(v, cell - ny, left)
    result -= _at(weights_x, cell, right) * _at(v, cell + ny, right)
    result -= _at(weights_y, cell - 1, below) * _at(v, cell - 1, below)
    return result - _at(weights_y, cell, above) * _at(v, cell + 1, above)


@triton.jit
def _check(sums_r, state, history, partials, slots, PADDED: constexpr):
    rr = _total(sums_r, partials, PADDED)
    outcome = _judge(rr, state)
    active = tl.load(state + ACTIVE) > 0.0
    ended = active & (outcome > NONE)
    _enter(rr, active, state, history, slots)
    tl.store(state + OUTCOME, outcome.to(tl.float64), mask=ended)
    active &= outcome == NONE
    going = active & (tl.load(state + ITERATIONS) < tl.load(state + DUE))
    tl.store(state + ACTIVE, active.to(tl.float64))
    tl.store(state + GOING, going.to(tl.float64))


@triton.jit
def _dots(r, z, r_before, fluid, sums_z, n, partials, FLEXIBLE: constexpr):
    program = tl.program_id(0)
    cell = program * BLOCK + tl.arange(0, BLOCK)
    inside = cell < n
    z_here, r_here = _at(z, cell, inside), _at(r, cell, inside)
    fluid_here = _at(fluid, cell, inside)
    tl.store(sums_z + program, tl.sum(r_here * z_here))
    tl.store(sums_z + 2 * partials + program, tl.sum(fluid_here * z_here))
    tl.store(sums_z + 3 * partials + program, tl.sum(fluid_here * r_here))
    if FLEXIBLE:
        before = _at(r_before, cell, inside)
        tl.store(sums_z + partials + program, tl.sum(before * z_here))
        tl.store(sums_z + 4 * partials + program, tl.sum(fluid_here * before))


@triton.jit(do_not_specialize=["count"])
def _direction(
    z, fluid, p, sums_z, sums_r, state, history, count, n, partials, slots, MEAN: constexpr, PADDED: constexpr
):
    """``count`` is that of the fluid cells."""
    program = tl.program_id(0)
    rr = _total(sums_r, partials, PADDED)
    rz = _total(sums_z, partials, PADDED)
    rz_before = _total(sums_z + partials, partials, PADDED)
    if MEAN:
        mean = _total(sums_z + 2 * partials, partials, PADDED) / count
        rz -= mean * _total(sums_z + 3 * partials, partials, PADDED)
        rz_before -= mean * _total(sums_z + 4 * partials, partials, PADDED)
    outcome = _judge(rr, state)
    outcome = tl.where(outcome > NONE, outcome, _guard(rz, INDEFINITE_PRECONDITIONER))
    active = tl.load(state + ACTIVE) > 0.0
    acting = active & (outcome == NONE)
    beta = (rz - rz_before) / tl.load(state + RZ_BEFORE)
    cell = program * BLOCK + tl.arange(0, BLOCK)
    inside = cell < n
    turned = _at(z, cell, inside) + beta * _at(p, cell, inside)
    if MEAN:
        turned -= mean * _at(fluid, cell, inside)
    tl.store(p + cell, turned, mask=cell < tl.where(acting, n, 0))
    if program == 0:
        _enter(rr, active, state, history, slots)
        tl.store(state + OUTCOME, outcome.to(tl.float64), mask=active & (outcome > NONE))
        tl.store(state + RZ, rz)
        tl.store(state + ACTING, acting.to(tl.float64))


@triton.jit
def _product(p, diagonal, weights_x, weights_y, ap, sums_p, n, ny):
    program = tl.program_id(0)
    cell = program * BLOCK + tl.arange(0, BLOCK)
    inside = cell < n
    image = _times_a(p, diagonal, weights_x, weights_y, cell, inside, n, ny)
    tl.store(ap + cell, image, mask=inside)
    tl.store(sums_p + program, tl.sum(_at(p, cell, inside) * image))


@triton.jit
def _update(
    x, r, r_before, p, ap, sums_p, sums_r, state, n, partials, FLEXIBLE: constexpr, PADDED: constexpr
):
    program = tl.program_id(0)
    p_ap = _total(sums_p, partials, PADDED)
    rz = tl.load(state + RZ)
    outcome = _guard(p_ap, INDEFINITE_OPERATOR)
    acting = tl.load(state + ACTING) > 0.0
    active = acting & (outcome == NONE)
    alpha = rz / p_ap
    cell = program * BLOCK + tl.arange(0, BLOCK)
    inside = cell < n
    moving = cell < tl.where(active, n, 0)
    tl.store(x + cell, _at(x, cell, moving) + alpha * _at(p, cell, moving), mask=moving)
    r_here = _at(r, cell, inside)
    if FLEXIBLE:
        tl.store(r_before + cell, r_here, mask=moving)
    r_next = tl.where(moving, r_here - alpha * _at(ap, cell, moving), r_here)
    tl.store(r + cell, r_next, mask=moving)
    tl.store(sums_r + program, tl.sum(r_next * r_next))
    if program == 0:
        iterations = tl.load(state + ITERATIONS)
        tl.store(state + OUTCOME, outcome.to(tl.float64), mask=acting & (outcome > NONE))
        tl.store(state + ACTIVE, active.to(tl.float64))
        tl.store(state + ITERATIONS, iterations + 1.0, mask=active)
        tl.store(state + RZ_BEFORE, rz, mask=active)


@triton.jit
def _solved(inverses, gathered, row, column, LEAF: constexpr):
    """D^-1 ``gathered`` (L,) float32 at a leaf's rows ``row`` (ROWS,)."""
    inverse = tl.load(inverses + row[:, None] * LEAF + column[None, :])  # (ROWS, L)
    return tl.sum(inverse * gathered[None, :], axis=1)


@triton.jit
def _solve_leaves(r, cells, inverses, rows, out, n, LEAF: constexpr, ROWS: constexpr):
    first = tl.program_id(0).to(tl.int64) * LEAF
    column = tl.arange(0, LEAF)
    cell = tl.load(cells + first + column)
    gathered = _at(r, cell, cell < n).to(tl.float32)
    for start in range(0, LEAF, ROWS):
        row = first + start + tl.arange(0, ROWS)
        solved = _solved(inverses, gathered, row, column, LEAF)
        tl.store(rows + row, solved)
        target = tl.load(cells + row)
        tl.store(out + target, solved.to(tl.float64), mask=target < n)


@triton.jit
def _smooth_leaves(r, w, diagonal, wx, wy, cells, inverses, out, n, ny, LEAF: constexpr, ROWS: constexpr):
    first = tl.program_id(0).to(tl.int64) * LEAF
    column = tl.arange(0, LEAF)
    cell = tl.load(cells + first + column)
    valid = cell < n
    image = _at(r, cell, valid) - _times_a(w, diagonal, wx, wy, cell, valid, n, ny)
    gathered = image.to(tl.float32)
    for start in range(0, LEAF, ROWS):
        row = first + start + tl.arange(0, ROWS)
        solved = _solved(inverses, gathered, row, column, LEAF)
        target = tl.load(cells + row)
        inside = target < n
        tl.store(out + target, _at(w, target, inside) + solved.to(tl.float64), mask=inside)


@triton.jit
def _entries(basis, row, column, RANK: constexpr):
    """Of the ``basis``, (L, PADDED)."""
    return tl.load(basis + row[:, None] * RANK + column[None, :], mask=(column < RANK)[None, :], other=0.0)


@triton.jit
def _restrict_residual(
    r, y, diagonal, wx, wy, cells, basis, strips, n, ny, LEAF: constexpr, RANK: constexpr, PADDED: constexpr
):
    leaf, column = tl.program_id(0).to(tl.int64), tl.arange(0, PADDED)
    row = leaf * LEAF + tl.arange(0, LEAF)
    cell = tl.load(cells + row)
    valid = cell < n
    image = _at(r, cell, valid) - _times_a(y, diagonal, wx, wy, cell, valid, n, ny)
    entries = _entries(basis, row, column, RANK)
    strip = tl.sum(image[:, None] * entries.to(tl.float64), axis=0)
    tl.store(strips + leaf * RANK + column, strip, mask=column < RANK)


@triton.jit
def _prolong(rows, coefficients, cells, basis, out, n, LEAF: constexpr, RANK: constexpr, PADDED: constexpr):
    leaf, column = tl.program_id(0).to(tl.int64), tl.arange(0, PADDED)
    row = leaf * LEAF + tl.arange(0, LEAF)
    entries = _entries(basis, row, column, RANK)
    strip = _at(coefficients, leaf * RANK + column, column < RANK)
    lifted = tl.load(rows + row).to(tl.float64) + tl.sum(entries.to(tl.float64) * strip[None, :], axis=1)
    cell = tl.load(cells + row)
    tl.store(out + cell, lifted, mask=cell < n)


def _launch(kernel: triton.JITFunction, programs: int, *arguments: object, warps: int = 4) -> None:
    """``programs`` programs of ``kernel``. Fused multiply-adds are asked for: Triton's default changes."""
    kernel[(programs,)](*arguments, num_warps=warps, enable_fp_fusion=True)


def _launch_on_leaves(kernel: triton.JITFunction, leaf_size: int, count: int, *arguments: object) -> None:
    _launch(kernel, count, *arguments, warps=4 if leaf_size <= 64 else 8)


# How the operations of precond.device.ops launch them: one function each, with the operation's own arguments.


def _launch_check(sums_r, state, history):
    partials = sums_r.numel()
    sizes = (partials, history.numel(), triton.next_power_of_2(partials))
    _launch(_check, 1, sums_r, state, history, *sizes, warps=1)


def _launch_dots(r, z, r_before, fluid, sums_z, flexible):
    partials = ops.partials(r.numel())
    _launch(_dots, partials, r, z, r_before, fluid, sums_z, r.numel(), partials, flexible)


def _launch_direction(z, fluid, p, sums_z, sums_r, state, history, cells):
    partials = ops.partials(z.numel())
    tensors = (z, fluid, p, sums_z, sums_r, state, history)
    sizes = (int(cells), z.numel(), partials, history.numel())  # a float would reach the kernel in float32
    _launch(_direction, partials, *tensors, *sizes, cells != 0.0, triton.next_power_of_2(partials))


def _launch_product(p, diagonal, weights_x, weights_y, ap, sums_p):
    n, ny = p.numel(), p.numel() - weights_x.numel()
    _launch(_product, ops.partials(n), p, diagonal, weights_x, weights_y, ap, sums_p, n, ny)


def _launch_update(x, r, r_before, p, ap, sums_p, sums_r, state, flexible):
    partials = ops.partials(x.numel())
    tensors = (x, r, r_before, p, ap, sums_p, sums_r, state)
    _launch(_update, partials, *tensors, x.numel(), partials, flexible, triton.next_power_of_2(partials))


def _launch_solve_leaves(r, cells, inverses, rows, out):
    count, leaf_size = cells.shape
    sizes = (r.numel(), leaf_size, min(leaf_size, ENTRIES // leaf_size))
    _launch_on_leaves(_solve_leaves, leaf_size, count, r, cells, inverses, rows, out, *sizes)


def _launch_smooth_leaves(r, w, diagonal, weights_x, weights_y, cells, inverses, out):
    count, leaf_size = cells.shape
    tensors = (r, w, diagonal, weights_x, weights_y, cells, inverses, out)
    sizes = (r.numel(), r.numel() - weights_x.numel(), leaf_size, min(leaf_size, ENTRIES // leaf_size))
    _launch_on_leaves(_smooth_leaves, leaf_size, count, *tensors, *sizes)


def _launch_restrict_residual(r, y, diagonal, weights_x, weights_y, cells, basis, strips):
    count, leaf_size, rank = basis.shape
    tensors = (r, y, diagonal, weights_x, weights_y, cells, basis, strips)
    sizes = (y.numel(), y.numel() - weights_x.numel(), leaf_size, rank, triton.next_power_of_2(rank))
    _launch_on_leaves(_restrict_residual, leaf_size, count, *tensors, *sizes)


def _launch_prolong(rows, coefficients, cells, basis, out):
    count, leaf_size, rank = basis.shape
    sizes = (out.numel(), leaf_size, rank, triton.next_power_of_2(rank))
    _launch_on_leaves(_prolong, leaf_size, count, rows, coefficients, cells, basis, out, *sizes)


_OF_VECTORS = (_launch_check, _launch_dots, _launch_direction, _launch_product, _launch_update)
_OF_LEAVES = (_launch_solve_leaves, _launch_smooth_leaves, _launch_restrict_residual, _launch_prolong)
LAUNCHERS = {launch.__name__.removeprefix("_launch_"): launch for launch in (*_OF_VECTORS, *_OF_LEAVES)}


def register() -> None:
    """Let every operation of precond.device.ops run its twin on CUDA tensors."""
    for operation, launcher in zip(ops.OPERATIONS, LAUNCHERS.values(), strict=True):
        operation.register_kernel("cuda")(launcher)
