"""The coarse level of its own: its cycle against dense matrices, and what it is to the preconditioner."""

import numpy as np
import pytest
import torch

from precond import PCG, PoissonOperator, make_preconditioner
from precond.problems import gallery
from precond.two_level import coarse_level
from precond.two_level.coarse_operator import assembled

SHAPES = [(128, 32), (75, 58), (32, 31)]  # groups in a row, torn at the walls, one alone


def made(operator: PoissonOperator, name: str = "coarse-monomial", **options):
    """The form for a device with a coarse level, set up on the CPU."""
    form = make_preconditioner(name, operator, **{"on_device": True, "coarse_level": True, **options})
    form.setup()
    return form


def box(shape: tuple[int, int], openings: bool = False, seed: int = 5) -> PoissonOperator:
    """Bubbles of contrast 1,000 in a box with a wall across it, or below an open top."""
    density = gallery.bubbles(shape, 1000.0, seed).density
    solid = np.zeros(shape, dtype=bool)
    solid[5:29, 11] = True
    nx, ny = shape
    top = np.zeros((2, ny), dtype=bool), np.array([[False] * nx, [True] * nx])
    return PoissonOperator.from_density(density, solid, openings=top if openings else None)


def with_levels(monkeypatch) -> None:
    """Small groups, and a dense inverse of one of them alone."""
    for name, value in {"GROUP": 256, "GROUPS": 4, "COLUMNS": (16, 16), "DENSE": 16}.items():
        monkeypatch.setattr(coarse_level, name, value)


def coarse_matrix(form) -> np.ndarray:
    """A_c as it was placed, dense, of the blocks of leaves and pairs."""
    weights = form.leaves.weights
    own, off = (
        take(weights, slice(None)) for take in (form.coarse_operator.own, form.coarse_operator.between)
    )
    coarse_level.made_definite(own, form._pinned)
    return assembled(own, off, form.pairs).numpy()


def applied(form) -> np.ndarray:
    """Z as a dense matrix."""
    columns = torch.eye(form.basis.shape[0] * form.rank, dtype=torch.float64)
    return np.stack([form.coarse.solve(column, torch.empty_like(column)).numpy() for column in columns])


def within_groups(form) -> np.ndarray:
    """Which unknowns lie in one square of 32 x 32 cells, by their cells: (K r, K r) bool."""
    i, j = np.divmod(form.leaves.vectors.cells.numpy()[:, 0], form.operator.shape[1])
    square = np.repeat(i // 32 * 1000 + j // 32, form.rank)
    return square[:, None] == square


@pytest.mark.parametrize("openings", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_cycle_is_that_of_its_formula(shape: tuple[int, int], openings: bool) -> None:
    """I - Z A_c is one solve in groups, a Galerkin correction, one solve in groups."""
    form = made(box(shape, openings))
    matrix, z = coarse_matrix(form), applied(form)
    groups = np.where(within_groups(form), matrix, 0.0)
    identity = np.eye(len(matrix))
    smoothed = identity - np.linalg.solve(groups, matrix)
    group, slot = (index.numpy() for index in form.coarse._own)  # of each leaf
    found = form.coarse._columns.numpy().reshape(
        len(form.coarse._columns), -1, form.rank, coarse_level.COLUMNS[0]
    )
    v = np.zeros((len(slot), form.rank, len(found), coarse_level.COLUMNS[0]))
    v[np.arange(len(slot)), :, group] = found[group, slot]
    v = v.reshape(len(matrix), -1)
    v = v[:, np.abs(v).max(axis=0) > 0.0]
    corrected = identity - v @ np.linalg.solve(v.T @ matrix @ v, v.T @ matrix)
    expected = smoothed @ corrected @ smoothed
    np.testing.assert_allclose(identity - z @ matrix, expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "levels"), [*((shape, 1) for shape in SHAPES), ((75, 58), 3)])
def test_z_is_definite_and_never_above_the_inverse(shape: tuple[int, int], levels: int, monkeypatch) -> None:
    if levels > 1:
        with_levels(monkeypatch)
    form = made(box(shape))
    matrix, z = coarse_matrix(form), applied(form)
    assert np.abs(z - z.T).max() <= 1e-8 * np.abs(z).max()
    factor = np.linalg.cholesky(matrix)
    values = np.linalg.eigvalsh(factor.T @ (0.5 * (z + z.T)) @ factor)
    assert 0.05 < values[0] <= values[-1] < 1.0 + 1e-6


def test_one_group_is_solved_exactly() -> None:
    form = made(box((32, 31)))
    np.testing.assert_allclose(
        applied(form) @ coarse_matrix(form), np.eye(len(coarse_matrix(form))), atol=1e-6
    )


def channels(shape: tuple[int, int]) -> PoissonOperator:
    """Sealed channels one cell wide: more of them in a leaf than a basis could tell apart."""
    solid = np.zeros(shape, dtype=bool)
    solid[:, 1::2] = True
    return PoissonOperator.from_density(torch.ones(shape, dtype=torch.float64), solid)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("made_of", ["closed", "open", "channels"])
def test_the_preconditioner_is_definite(coarse: bool, made_of: str) -> None:
    """On all of a box's mean-zero vectors, without an initial correction."""
    operator = channels((40, 27)) if made_of == "channels" else box((40, 27), made_of == "open")
    form = made(operator, coarse_level=coarse)
    vector = torch.zeros(40, 27, dtype=torch.float64)
    assert not form.initial_correction(vector, vector)
    vectors = torch.eye(40 * 27, dtype=torch.float64).view(-1, 40, 27)[operator.fluid.view(-1) > 0]
    vectors = [operator.project(one.clone()) for one in vectors]
    images = torch.stack([form.apply(one, torch.empty_like(one)).view(-1) for one in vectors])
    matrix = (torch.stack([one.view(-1) for one in vectors]) @ images.T).numpy()
    assert np.abs(matrix - matrix.T).max() <= 1e-5 * np.abs(matrix).max()
    values = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))
    assert (values > 1e-9 * values[-1]).sum() == len(vectors) - operator.nullity
    assert values[0] > -1e-9 * values[-1]


@pytest.mark.parametrize("name", ["coarse-iterated", "coarse-learned"])
@pytest.mark.parametrize(
    ("family", "frame"), [("barriers", 0), ("bubbles", 1), ("stripes", 1), ("solids", 0)]
)
def test_it_costs_hardly_an_iteration(name: str, family: str, frame: int) -> None:
    """Against the dense inverse; stripes of contrast 10,000 want most columns in a group."""
    problem = gallery.problem(family, 4096, frame, contrast=1e4)
    operator = problem.operator()
    counts = []
    for level in (False, True):
        form = made(operator, name, two_level=True, coarse_level=level)
        report = PCG(operator, form, rtol=1e-8).solve(problem.b)
        assert report.converged
        counts.append(report.iterations)
    assert counts[0] <= 10
    assert counts[1] <= counts[0] + 4


def test_more_levels_cost_hardly_an_iteration(monkeypatch) -> None:
    problem = gallery.problem("bubbles", 8192, 0, contrast=100.0)
    operator = problem.operator()
    counts = [PCG(operator, made(operator)).solve(problem.b).iterations]
    with_levels(monkeypatch)
    form = made(operator)
    assert [len(level) for level in depth_of(form.coarse)] == [36, 9, 4, 1]
    counts.append(PCG(operator, form).solve(problem.b).iterations)
    assert counts[1] <= counts[0] + 3


def depth_of(level) -> list:
    """The columns of a coarse level and of those above it."""
    above = level._above
    return [level._columns, *(depth_of(above) if isinstance(above, coarse_level.CoarseLevel) else [])]


@pytest.mark.parametrize("options", [{}, {"name": "coarse-iterated", "two_level": True, "rank": 4}])
@pytest.mark.parametrize("coarse", [False, True])
def test_sealed_channels_converge(options: dict, coarse: bool) -> None:
    operator = channels((64, 64))
    b = torch.from_numpy(np.random.default_rng(1).standard_normal((64, 64)))
    assert PCG(operator, made(operator, coarse_level=coarse, **options), rtol=1e-8).solve(b).iterations <= 25


def test_it_follows_the_coefficients() -> None:
    density = gallery.bubbles((75, 58), 100.0, 5).density
    operator = PoissonOperator.from_density(density)
    form = made(operator)
    density[10:40] *= 30.0
    operator.update(density)
    form.setup()
    right = torch.from_numpy(np.random.default_rng(0).standard_normal(form.basis.shape[0] * form.rank))
    found, fresh = (one.coarse.solve(right, torch.empty_like(right)) for one in (form, made(operator)))
    torch.testing.assert_close(found, fresh, rtol=1e-8, atol=1e-8)


def test_a_system_that_is_not_definite_gives_nan() -> None:
    form = made(box((75, 58)))
    weights = form.leaves.weights
    own, off = (
        take(weights, slice(None)) for take in (form.coarse_operator.own, form.coarse_operator.between)
    )
    own[2] *= -1.0
    form.coarse.place(own, off, form._pinned, torch.zeros_like(own))
    form.coarse.factorise()
    right = torch.ones(len(own) * form.rank, dtype=torch.float64)
    assert torch.isnan(form.coarse.solve(right, torch.empty_like(right))).all()


def test_large_systems_have_one_and_small_ones_do_not() -> None:
    small, large = (PoissonOperator.from_density(torch.ones(n, n)) for n in (64, 136))
    forms = [make_preconditioner("coarse-monomial", operator, on_device=True) for operator in (small, large)]
    assert [len(form.basis) * form.rank > coarse_level.DENSE for form in forms] == [False, True]
    assert [isinstance(form.coarse, coarse_level.CoarseLevel) for form in forms] == [False, True]
