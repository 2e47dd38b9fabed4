"""The solve as blocks of fused operations, on the CPU: the same x and counts as the plain loop's."""

import math

import numpy as np
import pytest
import torch

from precond import PCG, Outcome, available_preconditioners, make_preconditioner
from precond.device import state as slots
from precond.krylov.cuda_cg import CudaCG

pytestmark = pytest.mark.usefixtures("torch_forms")


def both(operator, preconditioner, b, x0=None, rtol=1e-8, limit=2000, per_block=5):
    """The reports of the plain loop and (x, outcome, history, residual) of the blocks."""
    report = PCG(operator, preconditioner, rtol=rtol, max_iterations=limit).solve(b, x0)
    loop = CudaCG(operator, preconditioner, limit, per_block)
    b, x0 = torch.as_tensor(b), None if x0 is None else torch.as_tensor(x0)
    outcome, history, residual, scale = loop.run(b, x0, rtol, limit)
    return report, (loop.x * scale, outcome, history, residual)


def assert_alike(report, blocks, slack=0, rtol=1e-8):
    x, outcome, history, residual = blocks
    assert outcome is report.outcome
    assert abs(len(history) - 1 - report.iterations) <= slack
    if outcome is Outcome.CONVERGED:
        assert max(residual, report.relative_residual) <= 1.000001 * rtol
    else:
        assert residual == pytest.approx(report.relative_residual, rel=1e-3)
    assert (x - report.x).norm() <= 1e-6 * report.x.norm()


@pytest.mark.parametrize("name", available_preconditioners(choosing=False))
@pytest.mark.parametrize("with_solids", [False, True])
def test_blocks_agree_with_the_plain_loop_after_changes_in_place(make_case, name, with_solids):
    case = make_case((40, 27), 100.0, with_solids)
    operator = case.operator
    preconditioner = make_preconditioner(name, operator)
    preconditioner.setup()
    loop = CudaCG(operator, preconditioner, 2000)
    b, b2 = case.vectors(2)
    for factor, right in ((1.0, b), (3.0, b2)):
        density = torch.from_numpy(case.density).clone()
        density[: density.shape[0] // 2] *= factor
        operator.update(density)
        preconditioner.setup()
        report = PCG(operator, preconditioner, max_iterations=2000).solve(right)
        outcome, history, residual, scale = loop.run(right, None, 1e-8, 2000)
        slack = report.iterations // 50  # sums in another order: rounding shows in a long solve
        assert_alike(report, (loop.x * scale, outcome, history, residual), slack)


@pytest.mark.parametrize("per_block", [1, 5, 10, 25])
def test_the_count_does_not_depend_on_the_block(make_case, per_block):
    case = make_case((28, 17), 100.0, True)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    b, x0 = case.vectors(2)
    report, blocks = both(case.operator, preconditioner, b, x0, per_block=per_block)
    assert_alike(report, blocks)
    np.testing.assert_allclose(blocks[2], report.history, rtol=1e-5)


def test_a_frozen_solve_stays_as_it_is(make_case):
    case = make_case((28, 17), 100.0, False)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    loop = CudaCG(case.operator, preconditioner, 500)
    loop.run(case.vectors(1)[0], None, 1e-8, 500)
    loop.start()
    loop.state[slots.TOLERANCE] = 1.0  # what it has is good enough
    loop.iterate()
    kept = [t.clone() for t in (loop.x, loop._r, loop._p, loop.state)]
    for _ in range(3):
        loop.block()
        loop.replace()
    after = (loop.x, loop._r, loop._p, loop.state)
    assert kept[3][slots.OUTCOME] == slots.CONVERGED
    assert all(torch.equal(a, b) for a, b in zip(kept[:3], after[:3], strict=True))
    for slot in (slots.ACTING, slots.ITERATIONS, slots.OUTCOME):
        assert after[3][slot] == kept[3][slot]


@pytest.mark.parametrize(
    ("function", "outcome", "iterations"),
    [
        (lambda r, _: -r, Outcome.INDEFINITE_PRECONDITIONER, 0),
        (lambda r, call: r if call < 8 else torch.full_like(r, math.nan), Outcome.NOT_FINITE, 7),
        (lambda r, call: r if call % 20 < 8 else -r, Outcome.INDEFINITE_PRECONDITIONER, None),
    ],
)
def test_breakdowns_end_the_solve_with_x_as_it_was(make_case, scripted, function, outcome, iterations):
    case = make_case((28, 17), 100.0, False)
    b = case.vectors(1)[0]
    loop = CudaCG(case.operator, scripted(case.operator, function), 500)
    found, history, residual, _ = loop.run(b, None, 1e-8, 500)
    assert found is outcome
    assert torch.isfinite(loop.x).all()
    if iterations is not None:
        assert len(history) - 1 == iterations
        report = PCG(case.operator, scripted(case.operator, function)).solve(b)
        assert report.outcome is outcome
        assert report.iterations == iterations
        assert residual == pytest.approx(report.relative_residual)


def test_an_operator_that_is_not_positive_is_seen(make_case, scripted):
    case = make_case((28, 17), 100.0, False)
    b = case.vectors(1)[0]
    case.operator._diagonal.neg_()
    report, blocks = both(case.operator, scripted(case.operator, lambda r, _: r), b)
    assert report.outcome is blocks[1] is Outcome.INDEFINITE_OPERATOR
    assert len(blocks[2]) == report.iterations + 1


@pytest.mark.parametrize("limit", [0, 1, 7, 23])
def test_the_limit_is_kept(make_case, limit):
    case = make_case((28, 17), 100.0, False)
    preconditioner = make_preconditioner("coarse-monomial", case.operator)
    preconditioner.setup()
    report, blocks = both(case.operator, preconditioner, case.vectors(1)[0], rtol=1e-13, limit=limit)
    assert_alike(report, blocks)
    assert blocks[1] is Outcome.ITERATION_LIMIT


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_right_hand_sides_without_an_answer_to_find(make_case, value):
    case = make_case((28, 17), 100.0, True)
    b = torch.zeros(case.shape, dtype=torch.float64)
    b[case.operator.fluid > 0] = value
    b[0, 0] = 0.0
    if value == 0.0:
        b.zero_()
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    report, (_, outcome, history, _) = both(case.operator, preconditioner, b)
    assert outcome is report.outcome
    assert len(history) == len(report.history) == 1


def test_a_recurrence_that_drifts_is_restarted(make_case):
    """Near rounding both loops find the recursive residual too good, and go on from the true one."""
    case = make_case((37, 22), 10_000.0, False)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    b = case.vectors(1)[0]
    x0 = 1e6 * case.vectors(1)[0]
    report, blocks = both(case.operator, preconditioner, b, x0, rtol=1e-11)
    assert report.outcome is blocks[1] is Outcome.CONVERGED
    assert abs(report.iterations - (len(blocks[2]) - 1)) <= 0.1 * report.iterations


def test_blocks_must_divide_the_residual_replacement(make_case):
    case = make_case((16, 16), 10.0, False)
    with pytest.raises(ValueError, match="divide 50"):
        CudaCG(case.operator, make_preconditioner("none", case.operator), 10, per_block=7)


@pytest.mark.parametrize("name", ["jacobi", "coarse-monomial"])
def test_a_tolerance_below_rounding_ends_at_the_limit(make_case, name):
    """Restarts that make no progress are no reason to go on for ever."""
    case = make_case((16, 16), 100.0, False)
    preconditioner = make_preconditioner(name, case.operator)
    preconditioner.setup()
    for rtol in (1e-15, 6e-16, 1e-16):
        loop = CudaCG(case.operator, preconditioner, 300)
        _, history, residual, _ = loop.run(case.vectors(1)[0], None, rtol, 300)
        assert len(history) <= 301
        assert residual < 1e-13


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e300])
def test_any_scale_of_the_right_hand_side(make_case, scale):
    case = make_case((16, 16), 100.0, True)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    report, (_, outcome, history, _) = both(case.operator, preconditioner, scale * case.vectors(1)[0])
    assert outcome is report.outcome is Outcome.CONVERGED
    assert abs(len(history) - 1 - report.iterations) <= 1


def test_a_start_that_is_not_finite_does_not_spoil_a_right_hand_side_of_zero(make_case):
    case = make_case((16, 16), 100.0, False)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    zero = torch.zeros(case.shape, dtype=torch.float64)
    _, (x, outcome, _, _) = both(case.operator, preconditioner, zero, torch.full_like(zero, math.nan))
    assert outcome is Outcome.CONVERGED
    assert not x.any()
