"""The solver's guards, tolerances and bookkeeping, each provoked on purpose."""

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from precond import PCG, Outcome, PoissonOperator, Preconditioner, PreconditionerError, make_preconditioner
from precond.krylov.cuda_cg import CudaCG
from precond.problems import gallery


class Broken(Preconditioner):
    """Jacobi, then whatever the test wants."""

    name = "broken"

    def __init__(self, operator, change):
        super().__init__(operator)
        self.change = change
        self.calls = 0

    def _setup(self):
        pass

    def _apply(self, residual, out):
        self.calls += 1
        out.copy_(self.change(residual / self.operator.diagonal(), self.calls))


class NotSymmetric(Broken):
    symmetric_positive_definite = False


@pytest.fixture
def case(make_case):
    return make_case((24, 17), 50.0, False)


def solver(case, change, kind=Broken, **options):
    preconditioner = kind(case.operator, change)
    preconditioner.setup()
    return PCG(case.operator, preconditioner, **options)


def test_indefinite_preconditioner_is_named(case):
    b = case.vectors(1)[0]
    report = solver(case, lambda z, _: -z).solve(b)
    assert (report.outcome, report.iterations) == (Outcome.INDEFINITE_PRECONDITIONER, 0)
    later = solver(case, lambda z, call: z if call < 6 else -z).solve(b)
    assert (later.outcome, later.iterations) == (Outcome.INDEFINITE_PRECONDITIONER, 5)
    assert torch.isfinite(later.x).all()
    assert later.relative_residual == pytest.approx(case.residual(later.x, b))
    assert solver(case, lambda z, _: 0 * z).solve(b).outcome is Outcome.INDEFINITE_PRECONDITIONER


def test_indefinite_operator_is_named(case):
    case.operator.update(torch.from_numpy(-case.density))
    report = PCG(case.operator, made_none(case.operator)).solve(case.vectors(1)[0])
    assert (report.outcome, report.iterations) == (Outcome.INDEFINITE_OPERATOR, 0)
    assert torch.isfinite(report.x).all()


def made_none(operator):
    preconditioner = make_preconditioner("none", operator)
    preconditioner.setup()
    return preconditioner


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite_preconditioner_is_named(case, value):
    b = case.vectors(1)[0]
    report = solver(case, lambda z, call: z if call < 4 else z * value).solve(b)
    assert (report.outcome, report.iterations) == (Outcome.NOT_FINITE, 3)
    assert torch.isfinite(report.x).all()
    assert report.relative_residual == pytest.approx(case.residual(report.x, b))
    assert report.relative_residual == pytest.approx(report.history[-1])  # of what was reached


def test_not_finite_start_is_named(case):
    report = solver(case, lambda z, _: z).solve(case.vectors(1)[0], x0=torch.full(case.shape, math.inf))
    assert report.outcome is Outcome.NOT_FINITE
    assert torch.isfinite(report.x).all()


def test_a_start_that_is_not_finite_is_named_and_leaves_x_finite(case):
    pcg = solver(case, lambda z, _: z * math.nan)
    pcg.preconditioner.start = lambda _, out: out.fill_(math.nan) is not None
    report = pcg.solve(case.vectors(1)[0])
    assert (report.outcome, report.iterations) == (Outcome.NOT_FINITE, 0)
    assert torch.isfinite(report.x).all()


def test_without_the_promise_the_update_is_flexible_and_says_so(case):
    b = case.vectors(1)[0]
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((20, *case.shape), generator=generator, dtype=torch.float64) + 0.5

    def unsteady(z, call):
        return z * noise[call % 20]

    flexible = solver(case, unsteady, NotSymmetric).solve(b)
    plain = solver(case, unsteady).solve(b)
    assert flexible.flexible
    assert not plain.flexible
    assert flexible.converged
    assert case.residual(flexible.x, b) < 1.01e-8
    assert flexible.iterations < plain.iterations


def test_flexible_update_with_a_fixed_preconditioner_is_the_plain_one(case):
    b = case.vectors(1)[0]
    counts = [solver(case, lambda z, _: z, kind).solve(b).iterations for kind in (Broken, NotSymmetric)]
    assert abs(counts[0] - counts[1]) <= 2


@pytest.mark.parametrize("name", ["jacobi", "multigrid", "direct"])
@pytest.mark.parametrize("size", [1e6, 1e12])
def test_a_drifted_recurrence_is_caught(case, name, size):
    """After a start this far off, the recursive residual loses touch with b - A x before it reaches the
    tolerance.
    """
    b, start = case.vectors(2)
    preconditioner = make_preconditioner(name, case.operator)
    preconditioner.setup()
    report = PCG(case.operator, preconditioner, rtol=1e-10).solve(b, x0=size * start)
    assert report.converged
    assert case.residual(report.x, b) < 1.01e-10
    assert report.relative_residual == pytest.approx(case.residual(report.x, b), rel=0.05)


def test_what_rounding_forbids_is_not_claimed(case):
    b = case.vectors(1)[0]
    report = solver(case, lambda z, _: z, rtol=1e-17, max_iterations=600).solve(b)
    assert report.outcome is not Outcome.CONVERGED
    assert 1e-17 < report.relative_residual < 1e-12


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-30, 1e200])
def test_any_scale_of_the_right_hand_side(case, scale):
    b = case.vectors(1)[0]
    pcg = solver(case, lambda z, _: z)
    reference, report = pcg.solve(b), pcg.solve(b * scale)
    assert report.converged
    assert report.iterations == (reference.iterations if scale else 0)
    torch.testing.assert_close(report.x, reference.x * scale, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("value", [math.inf, 1.7e308])
def test_an_overflowing_right_hand_side_is_named(case, value):
    b = torch.zeros(case.shape, dtype=torch.float64)
    b[::2], b[1::2] = value, -value
    report = solver(case, lambda z, _: z).solve(b)
    assert report.outcome is Outcome.NOT_FINITE
    assert not report.x.any()


def test_means_of_the_right_hand_side_are_ignored(case):
    b = case.vectors(1)[0]
    pcg = solver(case, lambda z, _: z)
    torch.testing.assert_close(pcg.solve(b + 3.0).x, pcg.solve(b).x, rtol=1e-6, atol=1e-6)


def test_history_and_tolerance(case):
    b = case.vectors(1)[0]
    pcg = solver(case, lambda z, _: z, rtol=1e-3)
    loose = pcg.solve(b.numpy())
    assert loose.history[0] == pytest.approx(1.0)
    assert all(value > 1e-3 for value in loose.history[:-1])
    assert loose.history[-1] == pytest.approx(loose.relative_residual)
    pcg.rtol = 1e-9
    tight = pcg.solve(b)
    assert tight.history[: len(loose.history)] == pytest.approx(loose.history)
    assert case.residual(tight.x, b) < 1.01e-9
    assert tight.iterations > loose.iterations


def test_other_shapes_are_refused(case):
    pcg = solver(case, lambda z, _: z)
    with pytest.raises(ValueError, match="b must have"):
        pcg.solve(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="x0 must have"):
        pcg.solve(case.vectors(1)[0], torch.zeros(3, 3))


class Syncs(TorchDispatchMode):
    """Counts the operations that would wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        text = str(func)
        for word in ("_local_scalar_dense", "nonzero", "masked_select", "item"):
            self.counts[word] = self.counts.get(word, 0) + (word in text)
        self.operations += 1
        return func(*args, **(kwargs or {}))

    def __enter__(self):
        self.counts = {}
        self.operations = 0
        return super().__enter__()


@pytest.mark.parametrize("name", ["none", "jacobi", "multigrid", "block-jacobi"])
@pytest.mark.usefixtures("torch_forms")
def test_capturable_ones_apply_and_set_up_without_a_sync(make_case, name):
    case = make_case((40, 27), 100.0, True)
    preconditioner = make_preconditioner(name, case.operator)
    assert preconditioner.capturable
    preconditioner.setup()
    r, z = case.vectors(2)
    with Syncs() as syncs:
        preconditioner.apply(r, z)
        preconditioner.setup()
        case.operator.update(torch.from_numpy(case.density))
        case.operator.matvec(r, z)
    assert syncs.operations > 5
    assert not any(syncs.counts.values())


@pytest.mark.parametrize("scale", [1e-42, 1e42])
@pytest.mark.parametrize("name", ["coarse-monomial", "multigrid", "jacobi"])
def test_x_is_finite_in_absurd_units(name, scale):
    """Float32 leaves overflow there: the report says so, and x can still be used."""
    operator = PoissonOperator.from_density(torch.full((24, 20), scale, dtype=torch.float64))
    preconditioner = make_preconditioner(name, operator)
    preconditioner.setup()
    b = torch.randn(24, 20, dtype=torch.float64)
    report = PCG(operator, preconditioner).solve(b)
    assert torch.isfinite(report.x).all()
    assert report.converged == (report.relative_residual <= 1e-8)


@pytest.mark.parametrize("name", ["none", "jacobi", "block-jacobi", "coarse-monomial", "multigrid"])
@pytest.mark.parametrize("loop", ["cpu", "blocks"])
def test_a_solve_that_rounding_stops_says_so_and_keeps_what_it_reached(name, loop, request):
    """Contrast 10,000, rtol 1e-12: the true residual cannot fall below about 1e-11, and must not rise."""
    if loop == "blocks":
        request.getfixturevalue("torch_forms")
    problem = gallery.problem("bubbles", 1024, 0, contrast=1e4)
    operator = problem.operator()
    preconditioner = make_preconditioner(name, operator)
    preconditioner.setup()
    if loop == "cpu":
        report = PCG(operator, preconditioner, rtol=1e-12, max_iterations=10_000).solve(problem.b)
        outcome, x, claimed = report.outcome, report.x, report.relative_residual
        assert f"{claimed:.1e}" in report.reason
    else:
        cuda_cg = CudaCG(operator, preconditioner, 10_000)
        outcome, _, claimed, scale = cuda_cg.run(problem.b, None, 1e-12, 10_000)
        x = cuda_cg.x * scale
    b = operator.project(problem.b.clone()).numpy().ravel()
    true = np.linalg.norm(b - operator.to_csr() @ x.numpy().ravel()) / np.linalg.norm(b)
    assert outcome is Outcome.STAGNATED
    assert true < 5e-10
    assert claimed == pytest.approx(true, rel=0.5)


@pytest.mark.parametrize("name", ["jacobi", "coarse-monomial", "multigrid"])
@pytest.mark.parametrize("size", [1e9, 1e20, 1e200])
def test_a_start_far_worse_than_zero_is_dropped(case, name, size):
    b, start = case.vectors(2)
    preconditioner = make_preconditioner(name, case.operator)
    preconditioner.setup()
    pcg = PCG(case.operator, preconditioner)
    from_zero, report = pcg.solve(b), pcg.solve(b, size * start)
    assert report.converged
    assert report.iterations == from_zero.iterations
    assert torch.equal(report.x, from_zero.x)
    assert pcg.solve(1e-300 * b, 1e10 * start).converged


def test_x_is_never_worse_than_the_start(case):
    b = case.vectors(1)[0]
    start = torch.from_numpy(case.solution(b)) + 1e-5 * case.vectors(1)[0]
    begun = case.residual(start, b)
    for limit in range(6):
        report = solver(case, lambda z, _: z, max_iterations=limit, rtol=1e-14).solve(b, start)
        assert case.residual(report.x, b) <= begun * (1 + 1e-9)


@pytest.mark.parametrize(("family", "frame", "limit"), [("stripes", 1, 142), ("mazes", 2, 118)])
@pytest.mark.parametrize("loop", ["cpu", "blocks"])
def test_x_is_the_best_whose_true_residual_was_computed(family, frame, limit, loop, request):
    """Residuals of CG rise between times: at these limits they are ten times those of iteration 100."""
    if loop == "blocks":
        request.getfixturevalue("torch_forms")
    problem = gallery.problem(family, 1024, frame, contrast=1e4)
    operator = problem.operator()
    preconditioner = make_preconditioner("jacobi", operator)
    preconditioner.setup()

    def solved(most, start=None):
        if loop == "cpu":
            report = PCG(operator, preconditioner, max_iterations=most).solve(problem.b, start)
            return report.outcome, report.history, report.relative_residual, report.x
        cuda_cg = CudaCG(operator, preconditioner, most)
        outcome, history, residual, scale = cuda_cg.run(problem.b, start, 1e-8, most)
        return outcome, history, residual, cuda_cg.x * scale

    _, _, _, earlier = solved(100)
    outcome, history, claimed, x = solved(limit)
    b = operator.project(problem.b.clone()).numpy().ravel()
    true = np.linalg.norm(b - operator.to_csr() @ x.numpy().ravel()) / np.linalg.norm(b)
    assert (outcome, len(history) - 1) == (Outcome.ITERATION_LIMIT, limit)
    assert claimed == pytest.approx(true, rel=1e-6)
    assert claimed == pytest.approx(history[100], rel=1e-6) == min(history[::50])
    assert history[-1] > 10.0 * claimed
    torch.testing.assert_close(x, earlier, rtol=1e-9, atol=1e-9 * float(earlier.abs().max()))
    _, _, again, _ = solved(limit - 100, x)  # now the start is the best
    assert again <= claimed * (1 + 1e-9)


def test_an_absolute_tolerance_ends_a_solve_of_noise(case):
    b = case.vectors(1)[0]
    pcg = solver(case, lambda z, _: z, atol=1e-3 * float(b.norm()))
    report = pcg.solve(b)
    assert report.converged
    assert 1e-8 < case.residual(report.x, b) <= 1e-3
    still = pcg.solve(1e-4 * b, x0=case.vectors(1)[0])
    assert (still.outcome, still.iterations) == (Outcome.CONVERGED, 0)
    assert not still.x.any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("rtol", value) for value in (0, -1, 1.0, math.nan, "small", None, True, 1j, np.float32(2))]
    + [("atol", value) for value in (-1.0, math.inf, math.nan, "none", False)]
    + [("max_iterations", value) for value in (-1, 2.5, None, "many", True, np.int64(-1), np.bool_(1))]
    + [("preconditioner", value) for value in (None, "jacobi")],
)
def test_settings_that_make_no_sense_are_refused(case, name, value):
    if name != "preconditioner":
        with pytest.raises(ValueError, match=name):
            solver(case, lambda z, _: z, **{name: value})
    pcg = solver(case, lambda z, _: z)
    setattr(pcg, name, value)
    with pytest.raises(ValueError, match=name):
        pcg.solve(case.vectors(1)[0])


def test_numbers_of_any_kind_are_settings(case):
    b = case.vectors(1)[0]
    kinds = {"rtol": np.float32(1e-4), "atol": Fraction(0), "max_iterations": np.int64(100)}
    report = solver(case, lambda z, _: z, **kinds).solve(b)
    plain = solver(case, lambda z, _: z, rtol=float(np.float32(1e-4)), max_iterations=100).solve(b)
    assert report.converged
    assert torch.equal(report.x, plain.x)


@pytest.mark.parametrize(("operator", "words"), [(None, "operator must be"), ("A", "operator must be")])
def test_what_is_no_operator_is_refused(case, operator, words):
    with pytest.raises(ValueError, match=words):
        PCG(operator, made_none(case.operator))
    with pytest.raises(PreconditionerError, match=words):
        make_preconditioner("jacobi", operator)


def test_whatever_numpy_can_make_an_array_of_is_solved_for(case):
    b = case.vectors(1)[0].numpy()
    pcg = solver(case, lambda z, _: z)
    expected = pcg.solve(b).x
    kinds = {
        "list": b.tolist(),
        "flipped": b[::-1].copy()[::-1],
        "big-endian": b.astype(">f8"),
        "fortran": np.asfortranarray(b),
        "with gradient": torch.from_numpy(b).requires_grad_(),
    }
    for kind, value in kinds.items():
        assert torch.equal(pcg.solve(value).x, expected), kind
        density = torch.from_numpy(case.density) if kind == "list" else case.density[::-1].copy()[::-1]
        assert torch.equal(PoissonOperator.from_density(density.tolist()).density, case.operator.density), (
            kind
        )
    whole = pcg.solve(np.arange(b.size).reshape(b.shape))
    assert whole.converged


@pytest.mark.parametrize(
    "value",
    [
        "text",
        None,
        [[1, 2], [3]],
        1j * np.ones((24, 17)),
        np.array(["a"]),
        3.0,
        torch.eye(24).to_sparse(),
        torch.eye(24, device="meta"),
        scipy.sparse.eye_array(24),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_grid_of_numbers_is_one_clear_error(case, value):
    for call in (solver(case, lambda z, _: z).solve, case.operator.update, PoissonOperator.from_density):
        with pytest.raises(ValueError, match=r"^(b|density) must [^\n]*$"):
            call(value)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copies_are_refused(case, copied):
    pcg = solver(case, lambda z, _: z)
    for thing in (case.operator, pcg.preconditioner, pcg):
        with pytest.raises(TypeError, match=f"a {type(thing).__name__} cannot be copied or pickled"):
            copied(thing)
