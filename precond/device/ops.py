"""The device operations of the solve, few and fused: one kernel launch each with Triton, and here in plain
torch, which is the reference they are tested against and what runs elsewhere.

Every operation is registered with torch, so that a dispatch mode sees it as one and fake tensors pass through
it. Vectors are flat (N,) float64, cell (i, j) at i ny + j. Sums over cells go through *partial sums*, one for
each run of BLOCK cells: whoever needs the sum adds them up itself, which saves a launch and is the same in
every run. Scalars live in ``state``, see precond.device.state; no operation reads a slot that it writes, but
for the single-program `check`.
"""

from __future__ import annotations

import functools
import importlib.util
import shutil

import torch
from torch import Tensor

from precond.device import state as slots

BLOCK = 1024  # cells to a partial sum

SUMS = 5  # of `dots`
OLDEST_DEVICE = (8, 0)  # that the Triton kernels are compiled for in the tests


@functools.cache
def use_triton() -> None:
    """Let Triton run the operations on CUDA tensors, where there is a C compiler and a recent device."""
    if importlib.util.find_spec("triton") is None or not torch.cuda.is_available():
        return
    compiles = any(shutil.which(compiler) for compiler in ("cc", "gcc", "clang"))
    if compiles and torch.cuda.get_device_capability() >= OLDEST_DEVICE:
        importlib.import_module("precond.device.triton_kernels").register()


def partials(cells: int) -> int:
    """How many partial sums a vector of ``cells`` has."""
    return -(-cells // BLOCK)


def _put_sum(target: Tensor, total: Tensor) -> None:
    """``total`` as the partial sums ``target``: all of it in the first."""
    target.zero_()
    target[:1].copy_(total.view(1))


def _select(state: Tensor, slot: int) -> Tensor:
    return state[slot : slot + 1]


def _first(*cases: tuple[Tensor, int]) -> Tensor:
    """The number of the first case that holds, NONE where none does."""
    result = torch.full_like(cases[0][0], slots.NONE, dtype=torch.float64)
    for holds, outcome in reversed(cases):
        result = torch.where(holds, float(outcome), result)
    return result


def _judge(sums_r: Tensor, state: Tensor, history: Tensor) -> Tensor:
    """Enter the residual in ``history``; returns what it means for an iteration to come, an outcome (1,)."""
    rr = sums_r.sum().view(1)
    active = _select(state, slots.ACTIVE) > 0.0
    count = _select(state, slots.ITERATIONS)
    slot = torch.where(active, count, float(history.numel() - 1))  # the last takes what is nobody's
    history.scatter_(0, slot.long(), rr.sqrt())
    return _first(
        (~torch.isfinite(rr), slots.NOT_FINITE),
        (rr <= _select(state, slots.TOLERANCE) ** 2, slots.CONVERGED),
        (count >= _select(state, slots.LIMIT), slots.ITERATION_LIMIT),
    )


def _end(state: Tensor, active: Tensor, outcome: Tensor) -> Tensor:
    """Keep ``outcome`` if something ended an ``active`` solve; returns whether it goes on."""
    ended = active & (outcome > slots.NONE)
    old = _select(state, slots.OUTCOME)
    old.copy_(torch.where(ended, outcome, old))
    return active & ~ended


@torch.library.custom_op("htp_fluid::check", mutates_args=("state", "history"))
def check(sums_r: Tensor, state: Tensor, history: Tensor) -> None:
    """Freeze the solve if the residual whose square ``sums_r`` adds up to ends it. GOING says whether it goes
    on and has fewer than DUE iterations.
    """
    active = _select(state, slots.ACTIVE)
    going = _end(state, active > 0.0, _judge(sums_r, state, history))
    active.copy_(going)
    early = _select(state, slots.ITERATIONS) < _select(state, slots.DUE)
    _select(state, slots.GOING).copy_(going & early)


@torch.library.custom_op("htp_fluid::dots", mutates_args=("sums_z",))
def dots(r: Tensor, z: Tensor, r_before: Tensor, fluid: Tensor, sums_z: Tensor, flexible: bool) -> None:
    """``sums_z`` (SUMS, partials): r.z, r_before.z, and the sums of z, r and r_before over the fluid; those
    of r_before are not touched unless ``flexible``. ``fluid`` (N,) is 1 on fluid cells, else 0.
    """
    _put_sum(sums_z[0], torch.dot(r, z))
    if flexible:
        _put_sum(sums_z[1], torch.dot(r_before, z))
        _put_sum(sums_z[4], torch.dot(fluid, r_before))
    _put_sum(sums_z[2], torch.dot(fluid, z))
    _put_sum(sums_z[3], torch.dot(fluid, r))


@torch.library.custom_op("htp_fluid::direction", mutates_args=("p", "state", "history"))
def direction(
    z: Tensor,
    fluid: Tensor,
    p: Tensor,
    sums_z: Tensor,
    sums_r: Tensor,
    state: Tensor,
    history: Tensor,
    cells: float,
) -> None:
    """p <- z less its mean over ``cells`` fluid cells (0: leave it) + beta p; p stays once the solve ended.

    beta = (r.z - r_before.z) / (r.z of the iteration before), which is infinite at a start. Guards r.z and,
    as `check`, the residual; sets RZ and ACTING. z stands for z less its mean throughout: where r is as small
    as the rounding in it, r.mean is not.
    """
    rz, rz_before, mean, r, r_before = sums_z.sum(dim=1).split(1)  # (1,) each
    mean = mean / cells if cells else torch.zeros_like(mean)
    rz, rz_before = rz - mean * r, rz_before - mean * r_before
    outcome = _judge(sums_r, state, history)
    guard = _first((~torch.isfinite(rz), slots.NOT_FINITE), (rz <= 0.0, slots.INDEFINITE_PRECONDITIONER))
    outcome = torch.where(outcome > slots.NONE, outcome, guard)
    acting = _end(state, _select(state, slots.ACTIVE) > 0.0, outcome)
    beta = (rz - rz_before) / _select(state, slots.RZ_BEFORE)
    turned = torch.addcmul(z, p, beta)
    if cells:
        turned.addcmul_(fluid, mean, value=-1.0)
    torch.where(acting, turned, p, out=p)
    _select(state, slots.RZ).copy_(rz)
    _select(state, slots.ACTING).copy_(acting)


@torch.library.custom_op("htp_fluid::product", mutates_args=("ap", "sums_p"))
def product(
    p: Tensor, diagonal: Tensor, weights_x: Tensor, weights_y: Tensor, ap: Tensor, sums_p: Tensor
) -> None:
    """ap <- A p, and the partial sums of p.Ap; ``weights_x`` (N - ny,) and ``weights_y`` (N - 1,) couple
    cells k and k + ny, k and k + 1.
    """
    torch.mul(diagonal, p, out=ap)
    _add_neighbours(ap, p, weights_x, weights_y, -1)
    _put_sum(sums_p, torch.dot(p, ap))


def _add_neighbours(out: Tensor, p: Tensor, weights_x: Tensor, weights_y: Tensor, sign: int) -> None:
    ny = p.numel() - weights_x.numel()
    out[ny:].addcmul_(weights_x, p[:-ny], value=sign)
    out[:-ny].addcmul_(weights_x, p[ny:], value=sign)
    out[1:].addcmul_(weights_y, p[:-1], value=sign)
    out[:-1].addcmul_(weights_y, p[1:], value=sign)


@torch.library.custom_op("htp_fluid::update", mutates_args=("x", "r", "r_before", "sums_r", "state"))
def update(
    x: Tensor,
    r: Tensor,
    r_before: Tensor,
    p: Tensor,
    ap: Tensor,
    sums_p: Tensor,
    sums_r: Tensor,
    state: Tensor,
    flexible: bool,
) -> None:
    """x <- x + alpha p, r <- r - alpha Ap with alpha = r.z / p.Ap, and the partial sums of r.r; nothing moves
    once the solve ended. Guards p.Ap, counts the iteration, keeps r.z and, if ``flexible``, the old r.
    """
    p_ap, rz = sums_p.sum().view(1), _select(state, slots.RZ)
    outcome = _first((~torch.isfinite(p_ap), slots.NOT_FINITE), (p_ap <= 0.0, slots.INDEFINITE_OPERATOR))
    active = _end(state, _select(state, slots.ACTING) > 0.0, outcome)
    alpha = rz / p_ap
    torch.where(active, torch.addcmul(x, p, alpha), x, out=x)
    if flexible:
        r_before.copy_(torch.where(active, r, r_before))
    torch.where(active, torch.addcmul(r, ap, alpha, value=-1), r, out=r)
    _put_sum(sums_r, torch.dot(r, r))
    _select(state, slots.ACTIVE).copy_(active)
    _select(state, slots.ITERATIONS).add_(active)
    before = _select(state, slots.RZ_BEFORE)
    before.copy_(torch.where(active, rz, before))


@torch.library.custom_op("htp_fluid::solve_leaves", mutates_args=("rows", "out"))
def solve_leaves(r: Tensor, cells: Tensor, inverses: Tensor, rows: Tensor, out: Tensor) -> None:
    """D^-1 r, as ``rows`` (K, L) float32 and on the grid as ``out`` (N,) float64, by ``inverses`` (K, L, L)
    float32. ``cells`` (K, L) int64 are the leaves' cells, N on padding.
    """
    gathered = torch.cat([r, r.new_zeros(1)])[cells].float()  # (K, L)
    rows.copy_(torch.bmm(gathered[:, None], inverses.mT)[:, 0])
    _scatter(rows, cells, out)


def _scatter(rows: Tensor, cells: Tensor, out: Tensor) -> None:
    padded = out.new_zeros(out.numel() + 1)
    padded.scatter_(0, cells.view(-1), rows.reshape(-1).to(padded.dtype))
    out.copy_(padded[:-1])


def _residual_in_leaves(
    r: Tensor, y: Tensor, diagonal: Tensor, weights_x: Tensor, weights_y: Tensor, cells: Tensor
) -> Tensor:
    """r - A y, (K, L), 0 on padding."""
    image = r - diagonal * y
    _add_neighbours(image, y, weights_x, weights_y, 1)
    return torch.cat([image, image.new_zeros(1)])[cells]


@torch.library.custom_op("htp_fluid::smooth_leaves", mutates_args=("out",))
def smooth_leaves(
    r: Tensor,
    w: Tensor,
    diagonal: Tensor,
    weights_x: Tensor,
    weights_y: Tensor,
    cells: Tensor,
    inverses: Tensor,
    out: Tensor,
) -> None:
    """``out`` (N,) float64 <- w + D^-1 (r - A w), by ``inverses`` (K, L, L) float32."""
    gathered = _residual_in_leaves(r, w, diagonal, weights_x, weights_y, cells).float()
    _scatter(torch.bmm(gathered[:, None], inverses.mT)[:, 0], cells, out)
    out.add_(w)


@torch.library.custom_op("htp_fluid::restrict_residual", mutates_args=("strips",))
def restrict_residual(
    r: Tensor,
    y: Tensor,
    diagonal: Tensor,
    weights_x: Tensor,
    weights_y: Tensor,
    cells: Tensor,
    basis: Tensor,
    strips: Tensor,
) -> None:
    """``strips`` (K, r) float64 <- U^T (r - A y), with the basis U (K, L, r) float32: what rounds here, the
    coarse solve magnifies.
    """
    gathered = _residual_in_leaves(r, y, diagonal, weights_x, weights_y, cells)
    strips.copy_(torch.bmm(gathered[:, None], basis.double())[:, 0])


@torch.library.custom_op("htp_fluid::prolong", mutates_args=("out",))
def prolong(rows: Tensor, coefficients: Tensor, cells: Tensor, basis: Tensor, out: Tensor) -> None:
    """``out`` (N,) float64 <- ``rows`` (K, L) float32 + U ``coefficients`` (K, r) float64, on the grid."""
    lifted = torch.bmm(coefficients[:, None], basis.double().mT)[:, 0]  # (K, L)
    _scatter(rows + lifted, cells, out)


_OF_VECTORS = (check, dots, direction, product, update)
_OF_LEAVES = (solve_leaves, smooth_leaves, restrict_residual, prolong)
OPERATIONS = (*_OF_VECTORS, *_OF_LEAVES)
for _operation in OPERATIONS:
    _operation.register_fake(lambda *_arguments, **_named: None)
