"""The solve as one launch that ends by itself, on the CPU: the same x, counts and outcomes as by blocks."""

import math

import pytest
import torch

from precond import PCG, Outcome, available_preconditioners, make_preconditioner
from precond.classical.diagonal import Jacobi
from precond.device import state as slots
from precond.device.while_node import WhileNodeError
from precond.krylov import cuda_cg
from precond.krylov.cuda_cg import CudaCG
from precond.two_level.preconditioner import TwoLevel

pytestmark = pytest.mark.usefixtures("torch_forms")


def capturable(operator):
    made = [make_preconditioner(name, operator) for name in available_preconditioners(choosing=False)]
    return [one for one in made if one.capturable]


def both_forms(operator, preconditioner, limit=2000, per_block=5):
    """The same loop launched once and by blocks."""
    single = CudaCG(operator, preconditioner, limit, per_block, single_launch=True)
    assert not single.note
    return single, CudaCG(operator, preconditioner, limit, per_block)


def assert_same(single, blocks, b, x0=None, rtol=1e-8, limit=2000):
    """Bit for bit; returns what `run` does."""
    one, other = single.run(b, x0, rtol, limit), blocks.run(b, x0, rtol, limit)
    torch.testing.assert_close(single.x, blocks.x, rtol=0.0, atol=0.0, equal_nan=True)
    assert one[0] is other[0]
    assert one[1] == pytest.approx(other[1], rel=0.0, abs=0.0, nan_ok=True)
    assert one[2:] == pytest.approx(other[2:], rel=0.0, abs=0.0, nan_ok=True)
    return one


@pytest.mark.parametrize("with_solids", [False, True])
@pytest.mark.usefixtures("loops")
def test_every_preconditioner_after_changes_in_place(make_case, with_solids):
    case = make_case((40, 27), 100.0, with_solids)
    operator = case.operator
    for preconditioner in capturable(operator):
        preconditioner.setup()
        single, blocks = both_forms(operator, preconditioner)
        for factor, b in zip((1.0, 3.0), case.vectors(2), strict=True):
            density = torch.from_numpy(case.density).clone()
            density[: density.shape[0] // 2] *= factor
            operator.update(density)
            preconditioner.setup()
            outcome, history, _, scale = assert_same(single, blocks, b)
            report = PCG(operator, preconditioner, max_iterations=2000).solve(b)
            assert outcome is report.outcome
            assert abs(len(history) - 1 - report.iterations) <= report.iterations // 50
            assert (single.x * scale - report.x).norm() <= 1e-6 * report.x.norm()


@pytest.mark.parametrize("name", ["jacobi", "multigrid", "coarse-monomial", "coarse-learned", "hmatrix"])
@pytest.mark.usefixtures("loops")
def test_replays_of_a_recorded_loop(make_case, taped, name):
    case = make_case((40, 27), 100.0, True)
    operator = case.operator
    options = {"on_device": True} if name in ("coarse-monomial", "coarse-learned") else {}
    preconditioner = make_preconditioner(name, operator, **options)
    preconditioner.setup()
    single, blocks = both_forms(operator, preconditioner)
    for factor, b in zip((1.0, 30.0, 0.1), case.vectors(3), strict=True):
        operator.update(torch.from_numpy(case.density) * torch.linspace(1.0, factor, case.shape[1]))
        preconditioner.setup()
        before = single._nodes.turns
        _, history, _, _ = assert_same(single, blocks, b)
        assert single._nodes.turns - before >= len(history) // single.per_block  # it did loop
    loop = next(tape for capture in taped for tape in capture.tapes if "while" in tape.names)
    assert loop.names.count("while") == 1


@pytest.mark.parametrize("per_block", [1, 5, 25])
@pytest.mark.usefixtures("loops")
def test_residuals_are_replaced_within_the_launch(make_case, monkeypatch, per_block):
    case = make_case((37, 22), 10_000.0, False)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    b, x0 = case.vectors(2)
    single, blocks = both_forms(case.operator, preconditioner, per_block=per_block)
    replaced = []
    monkeypatch.setattr(single, "replace", lambda: replaced.append(1) or CudaCG.replace(single))
    single._attempt = single.attempt
    _, history, _, _ = assert_same(single, blocks, b, x0)
    assert len(history) > 120
    assert len(replaced) == -(-(len(history) - 1) // 50)
    kept = single.x.clone()
    monkeypatch.setattr(single, "replace", lambda: None)  # the fault: no replacement
    single.run(b, x0, 1e-8, 2000)
    assert not torch.equal(single.x, kept)


@pytest.mark.parametrize("limit", [0, 1, 7, 50, 51, 100])
@pytest.mark.usefixtures("loops")
def test_the_limit_is_kept(make_case, limit):
    case = make_case((28, 17), 100.0, False)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    single, blocks = both_forms(case.operator, preconditioner, limit)
    outcome, history, _, _ = assert_same(single, blocks, case.vectors(1)[0], None, 1e-14, limit)
    assert outcome is Outcome.ITERATION_LIMIT
    assert len(history) - 1 == limit


@pytest.mark.parametrize("definite", [True, False])
@pytest.mark.parametrize(
    ("function", "outcome"),
    [
        (lambda r, _: -r, Outcome.INDEFINITE_PRECONDITIONER),
        (lambda r, _: torch.where(r.norm() > 0.1, r, -r), Outcome.INDEFINITE_PRECONDITIONER),
        (lambda r, _: torch.where(r.norm() > 0.1, r, math.nan), Outcome.NOT_FINITE),
        (lambda r, _: torch.where(r.norm() > 0.1, r, math.inf), Outcome.NOT_FINITE),
    ],
)
@pytest.mark.usefixtures("loops")
def test_breakdowns(make_case, scripted, function, outcome, definite):
    case = make_case((28, 17), 100.0, False)
    single, blocks = both_forms(case.operator, scripted(case.operator, function, definite))
    found = assert_same(single, blocks, case.vectors(1)[0])
    assert found[0] is outcome
    assert torch.isfinite(single.x).all()


@pytest.mark.usefixtures("loops")
def test_an_operator_that_is_not_positive_is_seen(make_case, scripted):
    case = make_case((28, 17), 100.0, False)
    b = case.vectors(1)[0]
    case.operator._diagonal.neg_()
    single, blocks = both_forms(case.operator, scripted(case.operator, lambda r, _: r))
    assert assert_same(single, blocks, b)[0] is Outcome.INDEFINITE_OPERATOR


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
@pytest.mark.usefixtures("loops")
def test_right_hand_sides_without_an_answer_to_find(make_case, value):
    case = make_case((28, 17), 100.0, True)
    b = torch.zeros(case.shape, dtype=torch.float64)
    b[1] = value
    b[1, :4] = 0.0
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    single, blocks = both_forms(case.operator, preconditioner)
    outcome, history, _, _ = assert_same(single, blocks, b)
    assert outcome is (Outcome.CONVERGED if value == 0.0 else Outcome.NOT_FINITE)
    assert len(history) == 1


@pytest.mark.parametrize("name", ["drifting", "indefinite"])
@pytest.mark.usefixtures("loops")
def test_a_solve_that_needs_another_attempt_is_launched_again(make_case, scripted, monkeypatch, name):
    """Near rounding the recursive residual is found too good; a guard that trips has a second chance."""
    case = make_case((37, 22), 10_000.0, False)
    rtol, preconditioner = 3e-14, Jacobi(case.operator)
    if name == "indefinite":
        rtol, preconditioner = 1e-8, scripted(case.operator, lambda r, _: torch.where(r.norm() > 0.1, r, -r))
    preconditioner.setup()
    b, x0 = case.vectors(2)
    single, blocks = both_forms(case.operator, preconditioner)
    launches = []
    program = single._attempt
    monkeypatch.setattr(single, "_attempt", lambda: launches.append(1) or program())
    assert_same(single, blocks, b, 1e6 * x0 if name == "drifting" else None, rtol)
    assert len(launches) == 2


@pytest.mark.usefixtures("loops")
def test_one_launch_for_an_attempt_and_one_look_after_it(make_case, taped, monkeypatch):
    def refused(_state):
        raise AssertionError("the host looks inside a solve")

    monkeypatch.setattr(cuda_cg, "Snapshots", refused)
    case = make_case((40, 27), 100.0, False)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    loop = CudaCG(case.operator, preconditioner, 2000, single_launch=True)
    assert [len(capture.tapes) for capture in taped[1:]] == [1, 1]  # to load, and all the rest
    launches = []
    for name in ("_load", "_attempt"):
        program = getattr(loop, name)
        monkeypatch.setattr(loop, name, lambda name=name, run=program: launches.append(name) or run())
    outcome, history, _, _ = loop.run(case.vectors(1)[0], None, 1e-8, 2000)
    assert outcome is Outcome.CONVERGED
    assert len(history) > 50
    assert launches == ["_load", "_attempt"]


@pytest.mark.parametrize("with_solids", [False, True])
def test_blocks_allocate_nothing(make_case, tape, with_solids):
    """With the fused operations; `hmatrix`, and replacements, allocate from the pool of the body."""
    operator = make_case((40, 27), 100.0, with_solids).operator
    allocating = set()
    for preconditioner in capturable(operator):
        if isinstance(preconditioner, TwoLevel):
            preconditioner = make_preconditioner(preconditioner.name, operator, on_device=True)
        preconditioner.setup()
        loop = CudaCG(operator, preconditioner, 100)
        with tape() as recorded:
            loop.block()
        if any(outputs for *_, outputs in recorded.calls):
            allocating.add(preconditioner.name)
    assert allocating <= {"hmatrix"}


def solves_by_blocks(loop, case, reason):
    """Whether ``loop`` gave up on one launch for ``reason`` and solves all the same."""
    assert loop.note == f"no single launch: {reason}; blocks of {loop.per_block} iterations are launched"
    outcome, history, _, scale = loop.run(case.vectors(1)[0], None, 1e-8, 500)
    return outcome is Outcome.CONVERGED and math.isfinite(scale) and len(history) > 10


@pytest.fixture
def jacobi_case(make_case):
    case = make_case((28, 17), 100.0, False)
    preconditioner = make_preconditioner("jacobi", case.operator)
    preconditioner.setup()
    return case, preconditioner


def test_without_a_graph_blocks_are_launched(jacobi_case):
    case, preconditioner = jacobi_case
    loop = CudaCG(case.operator, preconditioner, 500, single_launch=True)
    assert solves_by_blocks(loop, case, "there are no CUDA graphs on a CPU")


def test_what_fails_while_it_is_captured_is_said(jacobi_case, loops, monkeypatch):
    def fails(_self, _flag, _body):
        raise WhileNodeError("cuGraphAddNode answered\nCUDA_ERROR_NOT_SUPPORTED")

    def fails_twice(self, flag, body):
        try:
            fails(self, flag, body)
        finally:
            raise RuntimeError("capture_end: operation not permitted")

    case, preconditioner = jacobi_case
    for fault in (fails, fails_twice):
        monkeypatch.setattr(loops, "repeat", fault)
        loop = CudaCG(case.operator, preconditioner, 500, single_launch=True)
        assert solves_by_blocks(loop, case, "cuGraphAddNode answered CUDA_ERROR_NOT_SUPPORTED")


def test_a_loop_that_does_not_loop_is_not_used(jacobi_case, loops, monkeypatch):
    case, preconditioner = jacobi_case
    monkeypatch.setattr(loops, "repeat", lambda _self, _flag, body: body())
    loop = CudaCG(case.operator, preconditioner, 500, single_launch=True)
    assert solves_by_blocks(loop, case, "the loop that was captured does not come to its end")


def test_a_change_of_the_setting_captures_anew(jacobi_case, loops, monkeypatch):
    case, preconditioner = jacobi_case
    monkeypatch.setattr(PCG, "_on_host", False)  # as on a device
    pcg = PCG(case.operator, preconditioner)
    b = case.vectors(1)[0]
    reports, made = [], []
    for pcg.single_launch in (False, True, True, False):
        reports.append(pcg.solve(b))
        made.append(pcg._cuda_cg)
        assert (pcg._cuda_cg._attempt is not None) is pcg.single_launch
        assert not pcg.note
    assert made[1] is made[2]
    assert len(set(made)) == 3
    assert all(torch.equal(report.x, reports[0].x) for report in reports)
    assert {report.iterations for report in reports} == {reports[0].iterations}
    monkeypatch.setattr(loops, "repeat", lambda _self, _flag, body: body())
    pcg.single_launch = True
    assert pcg.solve(b).converged
    assert pcg.note.startswith("no single launch: the loop that was captured")


def test_on_a_cpu_it_has_no_effect_and_says_so(jacobi_case):
    case, preconditioner = jacobi_case
    b = case.vectors(1)[0]
    plain, single = (PCG(case.operator, preconditioner, single_launch=on) for on in (False, True))
    assert torch.equal(plain.solve(b).x, single.solve(b).x)
    assert not plain.note
    assert single.note == "no single launch: there are no CUDA graphs on a CPU"


def test_going_is_false_when_a_replacement_is_due(jacobi_case):
    case, preconditioner = jacobi_case
    loop = CudaCG(case.operator, preconditioner, 500)
    loop.run(case.vectors(1)[0], None, 0.0, 0)  # loads
    loop.state[slots.LIMIT] = 500.0
    loop.start()
    going = []
    for _ in range(11):
        loop.block()
        going.append(loop.state[slots.GOING].item())
    assert loop.state[slots.ACTIVE] == 1.0
    assert going == [1.0] * 9 + [0.0] * 2


@pytest.mark.usefixtures("loops")
def test_an_attempt_that_begins_late_replaces_its_residual_fifty_iterations_later(make_case):
    case = make_case((40, 27), 100.0, False)
    preconditioner = Jacobi(case.operator)
    preconditioner.setup()
    loop = CudaCG(case.operator, preconditioner, 2000, single_launch=True)
    loop.b.copy_(case.vectors(1)[0])
    loop.state[slots.TOLERANCE].zero_()
    loop.state[slots.LIMIT].fill_(2000.0)
    loop.load()
    loop.state[slots.ITERATIONS].fill_(137.0)
    loop.start()
    going = []
    for _ in range(11):
        loop.block()
        going.append(loop.state[slots.GOING].item())
    assert going == [1.0] * 9 + [0.0] * 2  # with five iterations in a block
