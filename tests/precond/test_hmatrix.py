"""The definite form: applied as its formula says, positive definite whatever its network says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from precond import PCG, Outcome, PreconditionerError, make_preconditioner
from precond.learned.far_field import SHIFT
from precond.learned.hmatrix import DEFAULT_MODEL, HMatrix, counted_twice, parts_of
from precond.learned.proposals import HMatrixConfig, ProposalNetwork
from precond.learned.published_hmatrix import PublishedHMatrix
from precond.problems.gallery import benchmark_density
from precond.two_level.block_jacobi import BlockJacobi

TRUNK = {"width": 16, "heads": 2, "layers": 1, "tile_tokens": 8, "graph_convolutions": 0}
TRUNK |= {"operator_bias": False, "edge_term": False}
GRIDS = [((28, 17), "open"), ((28, 17), "rooms"), ((28, 17), "pockets"), ((8, 8), "open")]
GRIDS += [((91, 13), "rooms"), ((91, 13), "pockets"), ((8, 120), "open")]


def network_of(seed=0, spread=0.5, leaves="exact", leaf_size=64, rank=8, iterations=2):
    """Whose heads, and so what is proposed, are random; with no ``spread`` an untrained one."""
    torch.manual_seed(seed)
    config = {"leaf_size": leaf_size, "leaves": leaves, "trunk": {**TRUNK, "tile_tokens": rank}}
    config["leaf_iterations"] = iterations if leaves == "exact" else 0
    network = ProposalNetwork(HMatrixConfig.of(config))
    for name, parameter in network.named_parameters():
        if "head" in name and spread:
            torch.nn.init.normal_(parameter, std=spread)
    return network.eval().requires_grad_(False)


def pockets(shape):
    """A pocket of 4 x 4 cells over the corners of four leaves, one of 2 x 2 inside a leaf, a lone cell."""
    solid = np.zeros(shape, dtype=bool)
    for first, last in ((5, 11), (0, 4), (12, 15)):
        columns = slice(first, min(last, shape[1]))
        solid[first:last, columns] = True
        solid[first + 1 : last - 1, columns.start + 1 : columns.stop - 1] = False
    return solid


def box(make_case, shape, solids, contrast=1e4):
    case = make_case(shape, contrast, solids == "rooms")
    if solids == "pockets":
        case.operator.set_solid(pockets(shape))
    return case


def made(operator, network):
    form = HMatrix(operator, network)
    form.setup()
    return form


def applied(form):
    """M, before the means are removed, as a dense matrix: a unit vector at a time."""
    units = torch.eye(form.operator.solid.numel(), dtype=torch.float64).view(-1, *form.operator.shape)
    out = torch.empty(form.operator.shape, dtype=torch.float64)
    columns = []
    for unit in units:
        form._apply(unit, out)
        columns.append(out.numpy().ravel().copy())
    return np.stack(columns, axis=1)


def block_diagonal(blocks):
    """(k, a, b) as one matrix."""
    count, a, b = blocks.shape
    dense = np.zeros((count, a, count, b))
    dense[np.arange(count), :, np.arange(count)] = blocks
    return dense.reshape(count * a, count * b)


def factors(form):
    """Parts of the form, made anew in float64; and of every level Q (P r, 2 tiles q) and K, by tile."""
    parts = parts_of(form.geometry, form.proposals, form.network.config.leaf_iterations)
    levels = []
    for columns, cores in zip(parts.far.columns, parts.far.cores, strict=True):
        levels.append((block_diagonal(columns.numpy()), cores.numpy() + np.eye(cores.shape[1])))
    return parts, levels


def far_field(form, levels):
    """W of ``levels``, the first of them alone if they are fewer, (P r, P r)."""
    width = form.geometry.tree.count * form.basis.shape[2]
    w = np.eye(width)
    for q, k in levels:
        w = w @ (np.eye(width) + q @ (block_diagonal(k) - np.eye(q.shape[1])) @ q.T)
    return w


def formula(form):
    """blockdiag(B_k) + U (W W^T - t) U^T, put together densely, cell by cell."""
    n, (count, _, rank) = form.operator.solid.numel(), form.basis.shape
    parts, levels = factors(form)
    w = far_field(form, levels).reshape(form.geometry.tree.count, rank, -1)[form.geometry.tree.slots]
    w = w.reshape(count * rank, -1)
    u = block_diagonal(parts.basis.numpy())
    if form.proposals.leaf is None:
        near = np.linalg.inv(form.leaves.blocks.numpy())
    else:
        leaf, jacobi = form.proposals.leaf.double(), form.proposals.jacobi.double()
        near = (leaf @ leaf.mT + torch.diag_embed(jacobi)).numpy()
    far = w @ w.T - counted_twice(form.network.config) * np.eye(len(w))
    rows = block_diagonal(near) + u @ far @ u.T  # (K L, K L)
    cells = form.vectors.cells.numpy().ravel()
    exists = np.flatnonzero(cells < n)
    dense = np.zeros((n, n))
    dense[np.ix_(cells[exists], cells[exists])] = rows[np.ix_(exists, exists)]
    return dense


def coarse(case, form, parts):
    """U^T A U (P r, P r) of an A assembled face by face; the identity on slots and columns without a cell."""
    count, size, rank = form.basis.shape
    tree, n = form.geometry.tree, len(case.matrix)
    cells = form.vectors.cells.numpy().ravel()
    exists = np.flatnonzero(cells < n)
    u = np.zeros((n, tree.count * rank))
    spread = np.zeros((count * size, tree.count, rank))
    spread[np.arange(count * size), np.repeat(tree.slots.numpy(), size)] = parts.basis.numpy().reshape(
        -1, rank
    )
    u[cells[exists]] = spread.reshape(count * size, -1)[exists]
    product = u.T @ case.matrix @ u
    product[np.diag_indices_from(product)] += np.where(np.diag(product) > 0.5, 0.0, 1.0)
    return product


def symmetric(dense):
    return 0.5 * (dense + dense.T)


@pytest.mark.parametrize("leaves", ["exact", "network"])
@pytest.mark.parametrize(("shape", "solids"), GRIDS)
def test_applied_as_its_formula_says(make_case, shape, solids, leaves):
    case = box(make_case, shape, solids, contrast=100.0)
    form = made(case.operator, network_of(leaves=leaves))
    dense, found = formula(form), applied(form)
    scale = np.abs(dense).max()
    np.testing.assert_allclose(dense, dense.T, atol=1e-10 * scale)
    np.testing.assert_allclose(found, found.T, atol=1e-5 * scale)
    np.testing.assert_allclose(found, dense, atol=5e-5 * scale)  # inverses in float32, in the machine's order


@pytest.mark.parametrize("leaves", ["exact", "network"])
@pytest.mark.parametrize(("shape", "solids"), GRIDS)
def test_definite_whatever_the_network_says(make_case, shape, solids, leaves):
    """On all fluid cells that have a neighbour, and by a margin: M D is dimensionless."""
    case = box(make_case, shape, solids)
    form = made(case.operator, network_of(leaves=leaves))
    diagonal = case.operator.diagonal().view(-1).numpy()
    inside = diagonal > 0.0
    dense = applied(form)[np.ix_(inside, inside)]
    assert np.isfinite(dense).all()
    root = np.sqrt(diagonal[inside])
    assert np.linalg.eigvalsh(root[:, None] * symmetric(dense) * root).min() > 0.02
    b = case.operator.project(torch.from_numpy(case.rng.standard_normal(shape)))
    report = PCG(case.operator, form, max_iterations=20_000 if leaves == "exact" else 500).solve(b)
    assert report.outcome is Outcome.CONVERGED or (
        report.outcome is Outcome.ITERATION_LIMIT and leaves == "network"
    )


@pytest.mark.parametrize(("leaf_size", "rank"), [(4, 2), (4, 4), (8, 4), (16, 16), (128, 8)])
@pytest.mark.parametrize("iterations", [0, 3])
def test_definite_with_leaves_of_any_size(make_case, leaf_size, rank, iterations):
    case = box(make_case, (28, 17), "rooms")
    form = made(case.operator, network_of(1, leaf_size=leaf_size, rank=rank, iterations=iterations))
    inside = np.diag(case.matrix) > 0.0
    assert np.linalg.eigvalsh(symmetric(applied(form)[np.ix_(inside, inside)])).min() > 0.0
    assert PCG(case.operator, form).solve(case.vectors(1)[0]).converged


@pytest.mark.parametrize("leaves", ["exact", "network"])
@pytest.mark.parametrize(("shape", "solids"), GRIDS)
def test_solves_with_a_random_network(make_case, shape, solids, leaves):
    case = box(make_case, shape, solids, contrast=100.0)
    form = made(case.operator, network_of(2, 0.5 if leaves == "exact" else 0.1, leaves))
    for b in torch.from_numpy(case.rng.standard_normal((2, *shape))):
        b = case.operator.project(b)
        report = PCG(case.operator, form, max_iterations=20_000).solve(b)
        assert report.converged
        assert not report.flexible
        residual = b - case.operator.matvec(report.x)
        assert float(residual.norm() / b.norm()) < 1.01e-8


@pytest.mark.parametrize("spread", [0.0, 0.2])
@pytest.mark.parametrize("contrast", [1.0, 100.0])
def test_with_all_columns_it_is_the_pseudo_inverse(make_case, contrast, spread):
    """Leaves of 2 x 2 cells with four columns each, no tile with more than four faces: U U^T = D^-1, and
    U W W^T U^T is the inverse but for the shift.
    """
    case = make_case((8, 8), contrast, False)
    solid = np.zeros((8, 8), dtype=bool)
    solid[4:] = True
    case.operator.set_solid(solid)
    form = made(case.operator, network_of(spread=spread, leaf_size=4, rank=4, iterations=0))
    inside = ~solid.ravel()
    inverse = np.linalg.pinv(case.operator.to_csr().toarray()[np.ix_(inside, inside)], hermitian=True)
    near = np.zeros((64, 64))
    for own, block in zip(form.vectors.cells, np.linalg.inv(form.leaves.blocks.numpy()), strict=True):
        near[np.ix_(own, own)] = block
    kept = 1.0 - counted_twice(form.network.config)  # of D^-1
    projector = np.eye(len(inverse)) - 1.0 / len(inverse)
    found = projector @ (applied(form) - kept * near)[np.ix_(inside, inside)] @ projector
    np.testing.assert_allclose(found, inverse, atol=10.0 * SHIFT * np.abs(inverse).max())


@pytest.mark.parametrize(("shape", "with_solids"), [((28, 17), False), ((40, 24), True)])
def test_every_tile_is_exact_on_its_columns(make_case, shape, with_solids):
    """K^T (Q^T W_l^T A_c W_l Q + shift) K = 1, W_l the product of the finer levels, against a dense A_c."""
    case = make_case(shape, 100.0, with_solids)
    form = made(case.operator, network_of(3, spread=0.2))
    parts, levels = factors(form)
    a = coarse(case, form, parts)
    for level, (q, k) in enumerate(levels):
        w = far_field(form, levels[:level])
        width = k.shape[1]
        galerkin = (w @ q).T @ a @ (w @ q)
        galerkin += np.eye(len(galerkin)) - q.T @ q  # columns that depend on others
        for tile, core in enumerate(k):
            own = slice(tile * width, (tile + 1) * width)
            exact = core.T @ (galerkin[own, own] + SHIFT * np.eye(width)) @ core
            np.testing.assert_allclose(exact, np.eye(width), atol=1e-4)


@pytest.mark.skipif(not DEFAULT_MODEL.is_file(), reason="no weights of hmatrix")
@pytest.mark.parametrize(("n", "frame", "published"), [(1024, 0, 47), (4096, 1, 83)])
def test_fewer_iterations_than_its_leaves_alone_and_than_published(n, frame, published):
    problem = benchmark_density(n, frame)
    operator = problem.operator()
    form, leaves = make_preconditioner("hmatrix", operator), BlockJacobi(operator, 64, aligned=True)
    counts = []
    for preconditioner in (form, leaves):
        preconditioner.setup()
        report = PCG(operator, preconditioner).solve(problem.b)
        assert report.converged
        counts.append(report.iterations)
    assert counts[0] < 0.7 * counts[1]
    assert counts[0] <= published


def shifted(case):
    return torch.from_numpy(np.roll(case.density, 3, axis=0))


def inverted(case):
    return torch.from_numpy(case.density.min() * case.density.max() / case.density)


@pytest.mark.parametrize("leaves", ["exact", "network"])
@pytest.mark.parametrize(
    "change",
    [
        shifted,
        inverted,
        lambda case: torch.ones(case.shape),
        lambda case: torch.from_numpy(0.1 * case.density),
    ],
    ids=["shifted", "inverted", "light", "lighter"],
)
@pytest.mark.parametrize("solids", ["open", "rooms"])
def test_an_update_asks_no_network_and_stays_definite(make_case, change, leaves, solids):
    case = box(make_case, (28, 17), solids, contrast=1e4)
    form = made(case.operator, network_of(1, leaves=leaves))
    assert form.seconds["inference"] > 0.0
    case.operator.update(change(case))
    form.update()
    assert form.seconds["inference"] == 0.0
    assert form.seconds["setup"] > 0.0
    assert form.is_current
    inside = np.diag(case.matrix) > 0.0
    assert np.linalg.eigvalsh(symmetric(applied(form)[np.ix_(inside, inside)])).min() > 0.0
    limit = 2000 if leaves == "exact" else 200
    report = PCG(case.operator, form, max_iterations=limit).solve(case.vectors(1)[0])
    assert report.converged or (leaves == "network" and report.outcome is Outcome.ITERATION_LIMIT)


def test_updates_may_follow_one_another(make_case):
    """Leaves are kept while they drift little: many small steps are no less definite than a large one."""
    case = box(make_case, (28, 17), "open", contrast=100.0)
    form = made(case.operator, network_of(1))
    for step in range(1, 9):
        share = step / 8.0
        case.operator.update(torch.from_numpy(case.density ** (1.0 - share)))
        form.update()
        assert np.linalg.eigvalsh(symmetric(applied(form))).min() > 0.0


def test_new_solids_are_set_up_anew(make_case):
    case = box(make_case, (28, 17), "open", contrast=100.0)
    network = network_of(1)
    form = made(case.operator, network)
    case.operator.set_solid(pockets(case.shape))
    form.update()
    assert form.seconds["inference"] > 0.0
    fresh = made(case.operator, network)
    np.testing.assert_allclose(
        applied(form), applied(fresh), rtol=1e-6, atol=1e-6 * np.abs(applied(fresh)).max()
    )


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_same_weights_serve_all_grids(make_case, spread):
    network = network_of(4, spread)
    for shape in ((8, 8), (9, 8), (16, 16), (37, 22), (64, 32), (8, 120), (91, 13), (120, 40)):
        case = make_case(shape, 100.0, False)
        b = case.vectors(1)[0]
        counts = []
        for preconditioner in (HMatrix(case.operator, network), BlockJacobi(case.operator, 64, aligned=True)):
            preconditioner.setup()
            report = PCG(case.operator, preconditioner).solve(b)
            assert report.converged
            counts.append(report.iterations)
        assert spread or counts[0] <= min(40, counts[1])


@pytest.mark.parametrize("leaves", ["exact", "network"])
@pytest.mark.parametrize("factor", [1e-3, 50.0])
def test_scales_as_the_inverse(make_case, leaves, factor):
    case = box(make_case, (24, 19), "rooms", contrast=100.0)
    form = made(case.operator, network_of(leaves=leaves))
    inside = np.diag(case.matrix) > 0.0
    before = applied(form)[np.ix_(inside, inside)]
    case.operator.update(torch.from_numpy(factor * case.density))
    form.setup()
    after = applied(form)[np.ix_(inside, inside)]
    np.testing.assert_allclose(after, factor * before, atol=2e-3 * factor * np.abs(before).max())


@pytest.mark.parametrize("leaves", ["exact", "network"])
def test_nothing_is_nan_however_the_box_is_turned(make_case, leaves):
    network = network_of(leaves=leaves)
    case = box(make_case, (28, 17), "rooms")
    turned = [case.density, case.density[::-1], case.density[:, ::-1], case.density.T]
    walls = [case.solid, case.solid[::-1], case.solid[:, ::-1], case.solid.T]
    for density, solid in itertools.product(turned, walls):
        if density.shape != solid.shape:
            continue
        other = type(case)(density.shape, 1.0, False)
        other.operator.update(torch.from_numpy(density.copy()))
        other.operator.set_solid(solid.copy())
        form = made(other.operator, network)
        assert np.isfinite(applied(form)).all()
        result = form.apply(other.vectors(1)[0], torch.empty(density.shape, dtype=torch.float64))
        assert not result[torch.from_numpy(solid.copy())].any()


def test_without_its_network_it_is_the_untrained_one(make_case):
    case = make_case((28, 17), 100.0, True)
    control = HMatrix(case.operator, network_of(5), network=False)
    control.setup()
    untrained = made(case.operator, network_of(6, spread=0.0))
    np.testing.assert_allclose(
        applied(control), applied(untrained), atol=1e-6 * np.abs(applied(control)).max()
    )
    assert control.seconds["inference"] == 0.0
    heard = applied(made(case.operator, network_of(5)))
    assert np.abs(heard - applied(control)).max() > 1e-3 * np.abs(heard).max()


def test_a_name_for_both_forms(make_case, tmp_path):
    operator = make_case((32, 32), 10.0, False).operator
    with pytest.raises(PreconditionerError, match="no model file"):
        HMatrix(operator, tmp_path / "other.safetensors")
    if DEFAULT_MODEL.is_file():
        definite = make_preconditioner("hmatrix", operator)
        assert type(definite) is HMatrix
        assert definite.symmetric_positive_definite
        assert not definite.note  # one file of weights for all grids
        published = make_preconditioner("hmatrix", operator, definite=False)
        assert type(published) is PublishedHMatrix
        assert not published.symmetric_positive_definite


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"leaf_size": 2}, "leaf_size"),
        ({"leaf_size": 48}, "power of two"),
        ({"leaf_size": 0}, "leaf_size"),
        ({"leaves": "learned"}, "learned"),
        ({"leaf_iterations": -1}, "leaf_iterations"),
        ({"leaves": "network"}, "leaf_iterations"),
        ({"trunk": {"tile_tokens": 1}}, "tile_tokens"),
        ({"trunk": {"tile_tokens": 32}}, "tile_tokens"),
        ({"trunk": {"tile_tokens": 3}}, "tile_tokens"),
        ({"trunk": {"tile_tokens": 16}, "leaf_size": 8}, "leaf_size 8"),
        ({"trunk": {"off_diagonal_stream": False, "axial_buffers": False}}, "off_diagonal_stream"),
        ({"trunk": {"graph_convolutions": 1}}, "graph_convolutions"),
        ({"trunk": {"operator_bias": True}}, "operator_bias"),
        ({"trunk": {"edge_term": True}}, "edge_term"),
        ({"trunk": {"width": 30, "heads": 4}}, "30"),
    ],
)
def test_impossible_settings_are_refused(change, word):
    trunk = {**TRUNK, **change.get("trunk", {})}
    with pytest.raises(ValueError, match=word):
        HMatrixConfig.of({**change, "trunk": trunk})
