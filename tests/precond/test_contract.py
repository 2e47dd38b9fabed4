"""What every registered preconditioner must do."""

import numpy as np
import pytest
import torch

from precond import PCG, Outcome, available_preconditioners, make_preconditioner, registered_preconditioners
from precond.problems.gallery import benchmark_density

SINGLE_PRECISION = 2e-5  # leaf blocks are kept in float32
LEARNED = ("coarse-learned", "hmatrix", "neural-spai")


@pytest.fixture(params=registered_preconditioners())
def name(request):
    if request.param not in available_preconditioners():
        pytest.skip(registered_preconditioners()[request.param])
    return request.param


@pytest.fixture
def definite(name, make_case):
    """The name of one that promises to be definite, and so to converge."""
    operator = make_case((12, 9), 10.0, False).operator
    if not make_preconditioner(name, operator).symmetric_positive_definite:
        pytest.skip(f"{name} does not promise to be positive definite")
    return name


def made(name, operator):
    preconditioner = make_preconditioner(name, operator)
    preconditioner.setup()
    return preconditioner


def applied(preconditioner, vectors):
    return torch.stack([preconditioner.apply(v, torch.empty_like(v)) for v in vectors])


def met_by_pcg(preconditioner, operator, vectors):
    """``vectors`` as residuals that PCG would hand to it: with the start's part taken out."""
    out = torch.zeros_like(vectors[0])
    for v in vectors:
        if preconditioner.initial_correction(v, out):
            v -= operator.matvec(out)
            operator.project(v)
    return vectors


def test_linear_symmetric_positive_and_mean_zero(name, case):
    preconditioner = made(name, case.operator)
    vectors = met_by_pcg(preconditioner, case.operator, case.vectors(8))
    results = applied(preconditioner, vectors)
    assert torch.isfinite(results).all()
    combination = applied(preconditioner, (2.0 * vectors[0] - 3.0 * vectors[1])[None])[0]
    scale = results.abs().max()
    assert (combination - 2.0 * results[0] + 3.0 * results[1]).abs().max() < 10 * SINGLE_PRECISION * scale
    gram = torch.einsum("aij,bij->ab", vectors, results)
    lengths = vectors.flatten(1).norm(dim=1) * results.flatten(1).norm(dim=1)
    if preconditioner.symmetric_positive_definite:
        lengths = gram.diagonal()
        assert torch.linalg.eigvalsh((gram + gram.T) / 2).min() > 0
    assert ((gram - gram.T).abs() / torch.outer(lengths, lengths).sqrt()).max() < SINGLE_PRECISION
    for result in results:
        np.testing.assert_allclose(result.numpy(), case.project(result), atol=1e-12 * float(scale))


def test_solves_to_the_direct_solution(definite, case):
    b = case.vectors(1)[0]
    before = b.clone()
    report = PCG(case.operator, made(definite, case.operator), rtol=1e-10, max_iterations=20_000).solve(b)
    assert report.outcome is Outcome.CONVERGED
    assert torch.equal(b, before)
    true = case.residual(report.x, b)
    assert true < 1.01e-10
    assert report.relative_residual == pytest.approx(true, rel=0.05, abs=2e-12)  # rounding at contrast 10,000
    expected = case.solution(b)
    np.testing.assert_allclose(report.x.numpy(), expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(case.project(report.x), report.x.numpy(), atol=1e-9 * np.abs(expected).max())
    assert len(report.history) == report.iterations + 1


def test_follows_density_and_solids_changed_in_place(name, make_case):
    case, later = make_case((24, 19), 10.0, False), make_case((24, 19), 500.0, True, seed=1)
    preconditioner = made(name, case.operator)
    v = later.vectors(1)
    before = applied(preconditioner, v)
    case.operator.update(torch.from_numpy(later.density))
    case.operator.set_solid(later.solid)
    preconditioner.setup()
    after = applied(preconditioner, v)
    expected = applied(made(name, later.operator), v)
    torch.testing.assert_close(after, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    if name != "none":
        assert (after - before).abs().max() > 0.01 * before.abs().max()


def test_pcg_refuses_one_made_for_another_operator(name, make_case):
    case, other = make_case((24, 19), 10.0, False), make_case((24, 19), 10.0, False)
    preconditioner = made(name, case.operator)
    with pytest.raises(ValueError, match="another operator"):
        PCG(other.operator, preconditioner)
    pcg = PCG(other.operator, made(name, other.operator))
    pcg.preconditioner = preconditioner
    with pytest.raises(ValueError, match="another operator"):
        pcg.solve(other.vectors(1)[0])


@pytest.mark.parametrize("contrast", [120.0, 10_000.0])
def test_one_of_earlier_coefficients_still_serves(definite, make_case, contrast):
    case, later = make_case((40, 27), 100.0, True), make_case((40, 27), contrast, True)
    preconditioner = made(definite, case.operator)
    case.operator.update(later.density)
    assert preconditioner.is_set_up
    assert not preconditioner.is_current
    b = later.vectors(1)[0]
    report = PCG(case.operator, preconditioner, max_iterations=3000).solve(b)
    assert report.converged
    assert later.residual(report.x, b) < 1.01e-8
    short = PCG(case.operator, preconditioner, max_iterations=1, rtol=1e-12).solve(b)
    assert "earlier coefficients" in short.reason or short.converged
    preconditioner.update()
    assert preconditioner.is_current
    short = PCG(case.operator, preconditioner, max_iterations=1, rtol=1e-12).solve(b)
    assert "earlier coefficients" not in short.reason


def test_every_one_tells_the_bytes_that_it_holds(name, make_case):
    small, large = (made(name, make_case(shape, 10.0, False).operator) for shape in ((24, 20), (48, 40)))
    sizes = [sum(one.memory_bytes().values()) for one in (small, large)]
    cells = 24 * 20
    least = 0 if name == "none" else 8 * cells
    assert least <= sizes[0] <= sizes[1] <= 40 * max(sizes[0], 1)


def test_following_a_moved_density_serves_as_a_new_setup_does(name, make_case):
    """Exactly so, the move being a large one, for all but those that keep a coarse space, a far field or
    leaves made for the old density; they stay definite.
    """
    case, later = make_case((40, 27), 100.0, True), make_case((40, 27), 100.0, True)
    later.density[21:30] = later.density[20:29].copy()
    later.operator.update(torch.from_numpy(later.density))
    preconditioner = made(name, case.operator)
    case.operator.update(torch.from_numpy(later.density))
    preconditioner.update()
    vectors = met_by_pcg(preconditioner, case.operator, later.vectors(6))
    results = applied(preconditioner, vectors)
    if name in ("coarse-iterated", "coarse-learned", "coarse-geneo", "hmatrix"):
        gram = torch.einsum("aij,bij->ab", vectors, results)
        assert torch.linalg.eigvalsh((gram + gram.T) / 2).min() > 0
        assert ((gram - gram.T).abs().max() / gram.abs().max()) < SINGLE_PRECISION
        assert (preconditioner.seconds["inference"] > 0.0) is (name == "coarse-learned")  # of new leaves
        report = PCG(case.operator, preconditioner).solve(later.vectors(1)[0])
        assert report.converged
        assert report.iterations < 40
    else:
        expected = applied(made(name, later.operator), vectors)
        torch.testing.assert_close(results, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_fewer_iterations_than_none(definite):
    problem = benchmark_density(1024, frame=0, contrast=10_000.0)
    operator = problem.operator()
    plain = PCG(operator, made("none", operator), max_iterations=600).solve(problem.b)
    report = PCG(operator, made(definite, operator)).solve(problem.b)
    assert report.converged or definite == "none"
    assert definite == "none" or report.iterations < 0.75 * plain.iterations


def test_exact_start_needs_no_iteration(definite, case):
    b = case.vectors(1)[0]
    pcg = PCG(case.operator, made(definite, case.operator), rtol=1e-6, max_iterations=20_000)
    x = torch.from_numpy(case.solution(b))
    report = pcg.solve(b, x0=x + 7.0)
    assert (report.iterations, report.outcome) == (0, Outcome.CONVERGED)
    near = pcg.solve(b, x0=x + 1e-3 * case.vectors(1)[0])
    assert near.converged
    assert case.residual(near.x, b) < 1.01e-6


def test_iteration_limit_is_reported(name, case):
    b = case.vectors(1)[0]
    pcg = PCG(case.operator, made(name, case.operator), rtol=1e-10, max_iterations=0)
    report = pcg.solve(b)
    assert (report.outcome, report.iterations) == (Outcome.ITERATION_LIMIT, 0)
    assert report.relative_residual == pytest.approx(1.0)
    pcg.max_iterations = 3
    if name != "direct" and pcg.preconditioner.symmetric_positive_definite:
        report = pcg.solve(b)
        assert (report.outcome, report.iterations) == (Outcome.ITERATION_LIMIT, 3)
        assert report.relative_residual == pytest.approx(case.residual(report.x, b), rel=1e-6)


def test_nan_is_reported_not_raised(definite, make_case):
    case = make_case((20, 13), 10.0, True)
    b = case.vectors(1)[0]
    preconditioner = made(definite, case.operator)
    pcg = PCG(case.operator, preconditioner)
    bad = b.clone()
    bad[5, 5] = torch.nan
    report = pcg.solve(bad)
    assert (report.outcome, report.iterations) == (Outcome.NOT_FINITE, 0)
    assert torch.isfinite(report.x).all()
    density = torch.from_numpy(case.density.copy())
    density[1, 1] = torch.nan
    case.operator.update(density)
    preconditioner.setup()
    report = pcg.solve(b)
    assert report.outcome is Outcome.NOT_FINITE
    assert torch.isfinite(report.x).all()
    case.operator.update(torch.from_numpy(case.density))
    preconditioner.setup()
    assert pcg.solve(b).converged


def test_times_itself_and_refuses_work_before_setup(name, make_case):
    case = make_case((12, 9), 10.0, False)
    preconditioner = make_preconditioner(name, case.operator)
    with pytest.raises(RuntimeError, match="setup"):
        preconditioner.apply(*case.vectors(2))
    preconditioner.setup()
    assert preconditioner.name == name
    assert preconditioner.seconds["setup"] > 0
    assert (preconditioner.seconds["inference"] > 0) is (name in LEARNED)
    report = PCG(case.operator, preconditioner).solve(case.vectors(1)[0])
    assert set(report.seconds) == {"setup", "inference", "solve"}
    assert report.seconds["solve"] > 0
    assert report.flexible is not preconditioner.symmetric_positive_definite
    assert report.method == name
