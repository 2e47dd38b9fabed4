"""Triton's kernels against the plain form: run by test_triton_kernels, on the CPU with TRITON_INTERPRET=1 (to
be set before the kernels are imported), else on a GPU.
"""

import inspect
import math
import os

import pytest
import torch

from precond.device import ops, triton_kernels
from precond.device import state as slots
from precond.krylov.cuda_cg import CudaCG
from precond.krylov.report import Outcome
from precond.partition.morton import leaves
from precond.two_level.preconditioner import CoarseMonomial

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

# numpy warns of divisions by zero and of infinities, which are meant here
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

CELLS = 2100  # two runs of BLOCK cells and a piece of a third
SHAPE = (40, 27)  # of what needs a grid
PARTIALS = ops.partials(CELLS)
SLOTS = 103  # of the history
ON = {
    "RZ_BEFORE": 2.5,
    "RZ": 1.75,
    "ACTIVE": 1.0,
    "ACTING": 1.0,
    "ITERATIONS": 3.0,
    "TOLERANCE": 1e-8,
    "LIMIT": 100.0,
    "RESIDUAL": 0.3,
    "SCALE": 2.0,
    "DUE": 50.0,
    "GOING": 1.0,
}


@pytest.fixture
def random():
    """Random float64 tensors, the same in every run."""
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator)


def state_of(**values):
    """A running solve's state, but for ``values``."""
    state = torch.zeros(slots.SLOTS, dtype=torch.float64)
    for name, value in {**ON, **values}.items():
        state[getattr(slots, name)] = value
    return state


def parts_of(total):
    """Partial sums (PARTIALS,) of ``total``, exact in whatever order they are added up."""
    shares = 0.5 ** torch.arange(1.0, PARTIALS + 1)
    shares[-1] *= 2.0
    return total * shares.double()


def fenced(value, fences):
    """A tensor on DEVICE with entries around it, kept in ``fences``, which no kernel may use or change."""
    if not isinstance(value, torch.Tensor):
        return value
    outside = math.nan if value.is_floating_point() else -1
    fences.append(torch.full((value.numel() + 64,), outside, dtype=value.dtype, device=DEVICE))
    return fences[-1][32:-32].view(value.shape).copy_(value)


def both(name, *arguments):
    """Run an operation and its twin on copies of ``arguments``; asserts that they leave the same tensors, and
    returns the twin's by name.
    """
    expected = [a.clone() if isinstance(a, torch.Tensor) else a for a in arguments]
    getattr(ops, name)(*expected)
    launcher = triton_kernels.LAUNCHERS[name]
    fences = []
    found = [fenced(a, fences) for a in arguments]
    launcher(*found)
    for fence in fences:
        outside = torch.cat([fence[:32], fence[-32:]])
        assert outside.isnan().all() if fence.is_floating_point() else (outside == -1).all()
    left = {}
    for key, actual, wanted in zip(inspect.signature(launcher).parameters, found, expected, strict=True):
        if not isinstance(actual, torch.Tensor):
            continue
        left[key] = actual = actual.cpu()
        if key.startswith("sums"):  # the plain form puts all into the first
            actual, wanted = actual.sum(-1), wanted.sum(-1)
        single = key == "out" or actual.dtype == torch.float32  # leaves are computed in float32
        rtol = 1e-5 if single else 1e-12
        finite = wanted[torch.isfinite(wanted)].abs()
        torch.testing.assert_close(
            actual,
            wanted,
            rtol=rtol,
            atol=rtol * float(finite.max()) if finite.numel() else 0.0,
            equal_nan=True,
            msg=lambda message, key=key: f"{key}: {message}",
        )
    return left


RESIDUALS = {
    "goes on": ({}, 0.5, slots.NONE),
    "just above the tolerance": ({}, 1e-12, slots.NONE),
    "within the tolerance": ({}, 1e-17, slots.CONVERGED),
    "at the limit": ({"ITERATIONS": 100.0}, 0.5, slots.ITERATION_LIMIT),
    "converged at the limit": ({"ITERATIONS": 100.0}, 1e-17, slots.CONVERGED),
    "nan": ({}, math.nan, slots.NOT_FINITE),
    "infinite": ({}, math.inf, slots.NOT_FINITE),
}


@pytest.mark.parametrize(("given", "rr", "outcome"), RESIDUALS.values(), ids=RESIDUALS)
def test_check(random, given, rr, outcome):
    history = random(SLOTS)
    left = both("check", parts_of(rr), state_of(**given), history)
    assert left["state"][slots.OUTCOME] == outcome
    assert left["state"][slots.ACTIVE] == left["state"][slots.GOING] == (outcome == slots.NONE)
    entered = left["history"] != history
    assert entered.nonzero().tolist() == [[int(given.get("ITERATIONS", 3))]]


@pytest.mark.parametrize(("iterations", "going"), [(49.0, 1.0), (50.0, 0.0)])
def test_check_stops_for_what_is_due(random, iterations, going):
    left = both("check", parts_of(0.5), state_of(ITERATIONS=iterations), random(SLOTS))
    assert left["state"][slots.ACTIVE] == 1.0
    assert left["state"][slots.GOING] == going


@pytest.mark.parametrize("rr", [0.5, 1e-20, math.nan])
def test_check_of_a_solve_that_ended(random, rr):
    state = state_of(ACTIVE=0.0, GOING=0.0, OUTCOME=slots.INDEFINITE_OPERATOR)
    history = random(SLOTS)
    left = both("check", parts_of(rr), state, history)
    assert torch.equal(left["state"], state)
    assert torch.equal(left["history"][:-1], history[:-1])


@pytest.mark.parametrize("flexible", [False, True])
def test_dots(random, flexible):
    r, z, r_before = random(3, CELLS)
    fluid = (random(CELLS) > 0.0).double()
    left = both("dots", r, z, r_before, fluid, torch.full((ops.SUMS, PARTIALS), 7.0).double(), flexible)
    products = torch.stack([r * z, r_before * z, fluid * z, fluid * r, fluid * r_before])
    products = torch.nn.functional.pad(products, (0, -CELLS % ops.BLOCK))
    runs = products.view(ops.SUMS, PARTIALS, ops.BLOCK).sum(dim=2)
    if not flexible:
        runs[[1, 4]] = 7.0
    torch.testing.assert_close(left["sums_z"], runs, rtol=1e-12, atol=1e-12)


def test_dots_of_nan(random):
    r, z, r_before, fluid = random(4, CELLS)
    z[CELLS - 2] = math.nan
    left = both("dots", r, z, r_before, fluid, torch.zeros(ops.SUMS, PARTIALS).double(), True)
    assert left["sums_z"].isnan().nonzero().tolist() == [[0, 2], [1, 2], [2, 2]]


ACTIVE = {"goes on": ({}, 0.5, 1.25, 0.0), "flexible": ({}, 0.5, 1.25, 0.75)}
ACTIVE["fresh start"] = ({"RZ_BEFORE": math.inf}, 0.5, 1.25, 0.75)
ENDS = {
    "r.z negative": ({}, 0.5, -1.0, slots.INDEFINITE_PRECONDITIONER),
    "r.z zero": ({}, 0.5, 0.0, slots.INDEFINITE_PRECONDITIONER),
    "r.z nan": ({}, 0.5, math.nan, slots.NOT_FINITE),
    "r.z infinite": ({}, 0.5, math.inf, slots.NOT_FINITE),
    "converged": ({}, 1e-20, 1.25, slots.CONVERGED),
    "converged to zero": ({}, 0.0, 0.0, slots.CONVERGED),
    "at the limit": ({"ITERATIONS": 100.0}, 0.5, -1.0, slots.ITERATION_LIMIT),
    "residual nan": ({}, math.nan, 1.25, slots.NOT_FINITE),
    "ended before": ({"ACTIVE": 0.0, "OUTCOME": slots.CONVERGED}, 0.5, math.nan, slots.CONVERGED),
}


def direction(random, given, rr, rz, rz_before, cells, poison=0.0, drift=0.0):
    z, p = random(2, CELLS)
    z[1030] += poison
    fluid = (random(CELLS) > 0.0).double()
    drifts = drift * random(2, PARTIALS)  # of r and r_before from a mean of zero
    sums_z = torch.stack([parts_of(rz), parts_of(rz_before), random(PARTIALS), *drifts])
    arguments = (z, fluid, p, sums_z, parts_of(rr), state_of(**given), random(SLOTS))
    return (z, fluid, p, sums_z), both("direction", *arguments, cells)


@pytest.mark.parametrize("cells", [0.0, 501.0])
@pytest.mark.parametrize(("given", "rr", "rz", "rz_before"), ACTIVE.values(), ids=ACTIVE)
def test_direction(random, given, rr, rz, rz_before, cells):
    (z, fluid, p, sums_z), left = direction(random, given, rr, rz, rz_before, cells, drift=0.1)
    mean = sums_z[2].sum() / cells if cells else 0.0
    rz, rz_before = rz - mean * sums_z[3].sum(), rz_before - mean * sums_z[4].sum()
    beta = (rz - rz_before) / given.get("RZ_BEFORE", ON["RZ_BEFORE"])
    assert left["state"][slots.RZ] == pytest.approx(float(rz), rel=1e-12)
    torch.testing.assert_close(left["p"], z + beta * p - mean * fluid, rtol=1e-12, atol=1e-12)
    assert left["state"][slots.ACTING] == 1.0
    assert left["history"][3] == pytest.approx(math.sqrt(rr))


@pytest.mark.parametrize(("given", "rr", "rz", "outcome"), ENDS.values(), ids=ENDS)
def test_direction_that_ends(random, given, rr, rz, outcome):
    (_, _, p, _), left = direction(random, given, rr, rz, 0.0, 501.0, poison=math.nan)
    assert torch.equal(left["p"], p)
    assert left["state"][slots.OUTCOME] == outcome
    assert left["state"][slots.ACTING] == 0.0


def test_product(make_case, random):
    case = make_case(SHAPE, 100.0, True)
    count = SHAPE[0] * SHAPE[1]
    operator, p = case.operator, random(count)
    coefficients = (operator.diagonal().view(-1), *operator.flat_face_weights())
    left = both("product", p, *coefficients, random(count), random(ops.partials(count)))
    product = torch.from_numpy(case.matrix) @ p
    torch.testing.assert_close(left["ap"], product, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(left["sums_p"][1], torch.dot(p[ops.BLOCK :], product[ops.BLOCK :]))
    p[count - 1] = math.inf
    both("product", p, *coefficients, random(count), random(ops.partials(count)))


@pytest.mark.parametrize("flexible", [False, True])
def test_update(random, flexible):
    x, r, r_before, p, ap = random(5, CELLS)
    vectors = (x, r, r_before, p, ap)
    left = both("update", *vectors, parts_of(0.7), random(PARTIALS), state_of(), flexible)
    alpha = 1.75 / 0.7
    torch.testing.assert_close(left["x"], x + alpha * p, rtol=1e-12, atol=1e-12)
    assert torch.equal(left["r_before"], r if flexible else r_before)
    state = left["state"]
    assert (state[slots.ITERATIONS], state[slots.RZ_BEFORE], state[slots.ACTIVE]) == (4.0, 1.75, 1.0)


STOPS = {
    "p.Ap negative": ({}, -0.7, slots.INDEFINITE_OPERATOR),
    "p.Ap zero": ({}, 0.0, slots.INDEFINITE_OPERATOR),
    "p.Ap nan": ({}, math.nan, slots.NOT_FINITE),
    "p.Ap infinite": ({}, math.inf, slots.NOT_FINITE),
    "ended before": ({"ACTING": 0.0, "OUTCOME": slots.CONVERGED}, 0.7, slots.CONVERGED),
    "ended before, on zero": ({"ACTING": 0.0, "OUTCOME": slots.CONVERGED}, 0.0, slots.CONVERGED),
}


@pytest.mark.parametrize("flexible", [False, True])
@pytest.mark.parametrize(("given", "p_ap", "outcome"), STOPS.values(), ids=STOPS)
def test_update_that_moves_nothing(random, given, p_ap, outcome, flexible):
    x, r, r_before, p, ap = random(5, CELLS)
    p[5], ap[1030] = math.inf, math.nan
    vectors = (x, r, r_before, p, ap)
    left = both("update", *vectors, parts_of(p_ap), random(PARTIALS), state_of(**given), flexible)
    assert all(
        torch.equal(left[name], old) for name, old in zip(("x", "r", "r_before"), vectors, strict=False)
    )
    torch.testing.assert_close(left["sums_r"].sum(), torch.dot(r, r))
    state = left["state"]
    assert (state[slots.OUTCOME], state[slots.ACTIVE], state[slots.ITERATIONS]) == (outcome, 0.0, 3.0)


@pytest.mark.parametrize(("leaf_size", "rank"), [(32, 4), (64, 8), (128, 3), (1024, 16)])
def test_leaves(make_case, random, leaf_size, rank):
    operator = make_case(SHAPE, 100.0, True).operator
    cells = torch.from_numpy(leaves(SHAPE, leaf_size, aligned=True))
    n, count = SHAPE[0] * SHAPE[1], len(cells)
    assert (cells == n).any()
    coefficients = (operator.diagonal().view(-1), *operator.flat_face_weights())
    inverses = random(count, leaf_size, leaf_size).float()
    basis = random(count, leaf_size, rank).float()
    r, y = random(2, n)

    def single(*shape):
        return random(*shape).float()

    left = both("solve_leaves", r, cells, inverses, single(count, leaf_size), random(n))
    both("smooth_leaves", r, y, *coefficients, cells, inverses, random(n))
    both("restrict_residual", r, y, *coefficients, cells, basis, random(count, rank))
    both("prolong", left["rows"], random(count, rank), cells, basis, random(n))


def test_a_nan_stays_in_its_leaf(random):
    cells = torch.from_numpy(leaves(SHAPE, 128, aligned=True))
    n, leaf = SHAPE[0] * SHAPE[1], cells[-1]
    r = random(n)
    r[leaf[0]] = math.nan
    inverses = random(len(cells), 128, 128).float()
    left = both("solve_leaves", r, cells, inverses, torch.zeros(cells.shape), random(n))
    assert left["out"].isnan().nonzero()[:, 0].tolist() == sorted(leaf[leaf < n].tolist())


@pytest.mark.parametrize(("with_solids", "flexible", "rtol"), [(False, False, 1e-3), (True, True, 0.02)])
def test_pcg_takes_as_many_iterations(make_case, monkeypatch, with_solids, flexible, rtol):
    case = make_case(SHAPE, 100.0, with_solids)
    preconditioner = CoarseMonomial(case.operator, leaf_size=256, rank=4, on_device=True)
    preconditioner.symmetric_positive_definite = not flexible
    preconditioner.setup()
    b = case.vectors(1)[0]

    def solved():
        loop = CudaCG(case.operator, preconditioner, 200)
        return loop.run(b, None, rtol, 200), loop.x.clone()

    (outcome, history, residual, _), x = solved()
    called = set()

    def counted(name, launcher):
        def run(*arguments):
            called.add(name)
            launcher(*arguments)

        return run

    for name, launcher in triton_kernels.LAUNCHERS.items():
        monkeypatch.setattr(ops, name, counted(name, launcher))
    (outcome_2, history_2, residual_2, _), x_2 = solved()
    assert called == set(triton_kernels.LAUNCHERS)
    assert outcome is outcome_2 is Outcome.CONVERGED
    assert len(history) == len(history_2) > 5
    torch.testing.assert_close(torch.tensor(history), torch.tensor(history_2), rtol=1e-3, atol=0.0)
    assert max(residual, residual_2) <= rtol
    assert (x - x_2).norm() <= 1e-6 * x.norm()
