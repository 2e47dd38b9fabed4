"""The leaf hierarchy: the cycle described, definite, and few iterations whatever the density."""

import numpy as np
import pytest
import scipy.linalg
import torch

from precond import PCG, PoissonOperator, make_preconditioner
from precond.multilevel.kinds import release, take
from precond.multilevel.levels import kinds_of
from precond.multilevel.preconditioner import LeafHierarchy
from precond.problems import gallery
from precond.training.data import stirred

SHAPES = [(16, 16), (13, 22), (37, 9), (24, 40)]


def operator_of(shape, solids=False, seed=0):
    """Contrast 10,000 in random cells; with solids a pocket within one leaf, one over several, and isolated
    cells.
    """
    rng = np.random.default_rng(seed)
    density = np.where(rng.random(shape) < 0.5, 1.0, 1e4)
    solid = np.zeros(shape, dtype=bool)
    if solids:
        solid = rng.random(shape) < 0.15
        solid[:7, 4] = solid[6, :5] = True
        solid[8:11, 0] = solid[8:11, 2] = solid[8, 1] = solid[10, 1] = True
        solid[9, 1] = False
    return PoissonOperator.from_density(density, solid)


def made(operator):
    form = LeafHierarchy(operator)
    form.setup()
    return form


def leaf_basis(form, k):
    """Columns of the leaf ``k`` as rows, (c, 16)."""
    leaves = form.leaves
    return leaves.scale[k] * leaves.basis[leaves.kind[k], : form.levels[0].size.flat[k]]


def levels_of(form):
    """Per level the blocks' unknowns, lists of int arrays in the numbering of the level, and U, dense."""
    nx, ny = form.operator.shape
    gx, gy = form.levels[0].size.shape
    cells = np.arange(nx * ny).reshape(nx, ny)
    groups = [cells[4 * a : 4 * a + 4, 4 * b : 4 * b + 4] for a in range(gx) for b in range(gy)]
    slots = [np.arange(16).reshape(4, 4)[: group.shape[0], : group.shape[1]].ravel() for group in groups]
    bases = [leaf_basis(form, k)[:, slots[k]] for k in range(len(groups))]
    found, groups, shape = [], [group.ravel() for group in groups], (gx, gy)
    for depth, level in enumerate(form.levels):
        starts = np.cumsum([0, *(len(basis) for basis in bases)])
        u = np.zeros((sum(map(len, groups)), starts[-1]))
        for k, (group, basis) in enumerate(zip(groups, bases, strict=True)):
            u[group, starts[k] : starts[k + 1]] = basis.T
        found.append((groups, shape, u))
        unknowns, (bx, by) = [], level.total.shape
        for a in range(bx):
            for b in range(by):
                children = [(i, j) for i in (2 * a, 2 * a + 1) for j in (2 * b, 2 * b + 1)]
                inside = [i * shape[1] + j for i, j in children if i < shape[0] and j < shape[1]]
                unknowns.append(np.concatenate([np.arange(starts[k], starts[k + 1]) for k in inside]))
        groups, shape = unknowns, (bx, by)
        if depth + 1 < len(form.levels):
            bases = []
            for k, group in enumerate(groups):
                rank = form.levels[depth + 1].size.flat[k]
                basis = level.basis[level.source.flat[k], : rank * len(group)]
                bases.append(basis.reshape(rank, len(group)))
    found.append((groups, shape, None))
    return found


def cycle(matrix, levels, residual):
    """The cycle in dense matrices, every residual computed in full."""
    groups, shape, u = levels[0]
    if u is None:
        return scipy.linalg.pinvh(matrix, rtol=1e-12) @ residual
    colours = [(k // shape[1] + k % shape[1]) % 2 for k in range(len(groups))]

    def relax(x, colour):
        left, x = residual - matrix @ x, x.copy()
        for group, of_group in zip(groups, colours, strict=True):
            if of_group == colour:
                x[group] += scipy.linalg.pinvh(matrix[np.ix_(group, group)], rtol=1e-11) @ left[group]
        return x

    x = relax(relax(np.zeros_like(residual), 0), 1)
    x += u @ cycle(u.T @ matrix @ u, levels[1:], u.T @ (residual - matrix @ x))
    return relax(relax(x, 1), 0)


@pytest.mark.parametrize("solids", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_application_is_the_cycle_in_dense_matrices(shape, solids):
    operator = operator_of(shape, solids)
    form = LeafHierarchy(operator)
    form.setup()
    matrix, levels = operator.to_csr().toarray(), levels_of(form)
    residual = operator.project(torch.randn(shape, dtype=torch.float64))
    expected = torch.from_numpy(cycle(matrix, levels, residual.numpy().ravel())).view(shape)
    found = form.apply(residual, torch.empty_like(residual))
    error = found - operator.project(expected.clone())
    energy = [float((v * operator.matvec(v)).sum()) for v in (error, found)]
    assert energy[0] < 1e-10 * energy[1]


@pytest.mark.parametrize("solids", [False, True])
def test_it_is_symmetric_and_definite(solids):
    operator = operator_of((24, 17), solids)
    form = LeafHierarchy(operator)
    form.setup()
    vectors = torch.randn(30, *operator.shape, dtype=torch.float64)
    vectors = torch.stack([operator.project(v.clone()) for v in vectors])
    images = torch.stack([form.apply(v, torch.empty_like(v)) for v in vectors])
    products = torch.einsum("pij,qij->pq", vectors, images)
    torch.testing.assert_close(products, products.T, rtol=1e-8, atol=1e-8 * float(products.max()))
    assert torch.linalg.eigvalsh(products).min() > 0.0


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_a_leaf_keeps_the_modes_that_its_neighbours_decide(threshold):
    """W v = theta D v by a library: those well above the threshold are spanned, no more than those well below
    are not, and the constant is the first.
    """
    operator = operator_of((20, 20))
    form = LeafHierarchy(operator, threshold=threshold)
    form.setup()
    matrix = operator.to_csr().toarray()
    cells = np.arange(400).reshape(20, 20)
    for k in range(25):
        group = cells[4 * (k // 5) :, 4 * (k % 5) :][:4, :4].ravel()
        block = matrix[np.ix_(group, group)]
        theta, modes = scipy.linalg.eigh(np.diag(block.sum(axis=1)), block)
        basis = leaf_basis(form, k).T
        np.testing.assert_allclose(basis.T @ block @ basis, np.eye(basis.shape[1]), atol=1e-9)
        constant = form.leaves.constant[form.leaves.kind[k]] / form.leaves.scale[k]
        np.testing.assert_allclose(basis[:, 0] * constant, 1.0, rtol=1e-9)
        outside = modes - basis @ (basis.T @ block @ modes)
        lengths = np.sqrt(np.maximum(np.einsum("ij,ik,kj->j", outside, block, outside), 0.0))
        assert lengths[theta > threshold + 0.15].max(initial=0.0) < 0.2
        assert basis.shape[1] <= max(1, np.sum(theta > threshold - 0.15)) or basis.shape[1] == 8


COUNTS = [
    ("barriers", None, 1024, 11),
    ("barriers", None, 16384, 11),
    ("bubbles", 1e4, 4096, 12),
    ("stripes", 1e4, 4096, 13),
    ("voronoi", 1e4, 4096, 12),
    ("solids", 1e4, 4096, 12),
    ("mazes", None, 4096, 18),
    ("mazes", None, 16384, 19),
]


@pytest.mark.parametrize(("family", "contrast", "n", "most"), COUNTS)
def test_iterations(family, contrast, n, most):
    problem = gallery.problem(family, n, 0, "test", contrast)
    operator = problem.operator()
    form = make_preconditioner("coarse-iterated", operator)
    form.setup()
    report = PCG(operator, form, rtol=1e-8).solve(problem.b)
    assert report.converged
    assert report.iterations <= most


@pytest.mark.parametrize("name", ["coarse-iterated", "coarse-learned"])
@pytest.mark.parametrize("repeats", [False, True])
def test_updated_without_drift_is_as_set_up_anew(name, repeats):
    """To the bit: what a kind holds does not depend on where it was met first."""
    operator = stirred((48, 40), 1000.0, gallery.TEST_SEED).operator()
    if repeats:
        operator = gallery.bubbles((48, 40), 1000.0, 1).operator()
    density = operator.density.clone()
    kept, anew = (make_preconditioner(name, operator, drift=0.0) for _ in range(2))
    kept.setup()
    residual = operator.project(torch.randn(operator.shape, dtype=torch.float64))
    for shift in (1, 2, 7):
        operator.update(torch.roll(density, shift, 0))
        kept.update()
        anew.setup()
        assert torch.equal(*(m.apply(residual, torch.empty_like(residual)) for m in (kept, anew)))


@pytest.mark.parametrize("name", ["coarse-iterated", "coarse-learned"])
@pytest.mark.parametrize("part", ["_share", "_build"])
def test_an_update_that_is_cut_off_is_made_up_for(name, part, monkeypatch):
    operator = stirred((48, 40), 1000.0, gallery.TEST_SEED).operator()
    kept, anew = (make_preconditioner(name, operator) for _ in range(2))
    kept.setup()
    operator.update(torch.roll(operator.density, 7, 0))
    with monkeypatch.context() as patch:
        patch.setattr(LeafHierarchy, part, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            kept.update()
    assert not kept.is_set_up
    kept.update()
    anew.setup()
    residual = operator.project(torch.randn(operator.shape, dtype=torch.float64))
    assert torch.equal(*(m.apply(residual, torch.empty_like(residual)) for m in (kept, anew)))


def test_fluid_of_mixed_density_in_pockets_is_no_matter():
    """Components whose last cells hardly count, so that rounding lifts what their blocks should not have."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        density = 10.0 ** rng.uniform(0.0, 4.0, (24, 24))
        operator = PoissonOperator.from_density(density, rng.random((24, 24)) < rng.uniform(0.25, 0.5))
        form = made(operator)
        b = operator.project(torch.from_numpy(rng.standard_normal((24, 24))))
        report = PCG(operator, form, rtol=1e-8).solve(b)
        assert report.converged
        assert report.iterations <= 40


def test_an_update_makes_only_what_changed():
    operator = PoissonOperator.from_density(torch.ones(64, 64, dtype=torch.float64))
    form = LeafHierarchy(operator)
    form.setup()
    density = operator.density.clone()
    density[30:33, 30:33] = 500.0
    operator.update(density)
    form.update()
    assert form._stale[0].sum() == 4  # leaves that a changed face touches
    assert [int(stale.sum()) for stale in form._stale[1:]] == [4, 4, 4, 1]
    density[30:33, 30:33] = 540.0  # within the drift
    operator.update(density)
    form.update()
    assert not any(stale.any() for stale in form._stale)


def test_inside_one_phase_one_leaf_stands_for_all():
    density = torch.ones(64, 64, dtype=torch.float64)
    density[:, 32:] = 1000.0
    form = LeafHierarchy(PoissonOperator.from_density(density))
    form.setup()
    kind = form.leaves.kind.reshape(16, 16)
    assert len(np.unique(kind[1:-1, 1:7])) == 1  # light
    assert (kind[1:-1, 9:15] == kind[1, 1]).all()  # and heavy, in another unit
    assert len(np.unique(kind)) == 9 + 2 * 3  # with those at walls, in corners and at the interface
    form._forget()
    form._take_weights()
    assert len(form.new_kinds()) == 15  # a set-up depends on nothing before it


@pytest.mark.parametrize("shape", [(64, 64), (61, 50)])
def test_of_a_pattern_that_repeats_little_is_made(shape):
    """Stripes along a diagonal with the period of leaves: what differs is at the border."""
    i, j = np.mgrid[: shape[0], : shape[1]]
    form = LeafHierarchy(PoissonOperator.from_density(np.where((i + j) // 2 % 2 == 0, 1.0, 1e4)))
    form.setup()
    for kinds in (form._kinds, *form._blocks):
        assert np.count_nonzero(kinds.users) <= 9
        assert kinds.users.sum() == len(kinds.of)
    assert max(np.count_nonzero(pairs.users) for pairs in form._pairs) <= 2 * 9


def test_kinds_are_those_of_a_dictionary():
    """Parts that take, change and give up kinds at random: equal keys have one kind, others another one."""
    rng = np.random.default_rng(0)
    of = np.zeros(50, dtype=np.int64)
    found, told = kinds_of(of, 3), {}
    for _ in range(3000):
        part = int(rng.integers(50))
        release(found, part)
        told.pop(part, None)
        if rng.random() < 0.7:
            key = rng.integers(0, 3, 3).astype(float)
            take(found, part, key)
            told[part] = tuple(key)
        kinds = {}
        for part, key in told.items():
            assert of[part] >= 0
            assert tuple(found.key[of[part]]) == key
            assert kinds.setdefault(key, of[part]) == of[part]
        assert np.count_nonzero(found.users) == len(kinds) == 50 - found.count[0]
        found.count[1] = 0
    assert (of >= 0).sum() == len(told)


def test_another_unit_of_density_changes_nothing():
    density = gallery.bubbles((48, 40), 1000.0, 2).density
    residual = torch.randn(48, 40, dtype=torch.float64)
    results = []
    for scale in (1.0, 1e3):
        operator = PoissonOperator.from_density(density * scale)
        form = LeafHierarchy(operator)
        form.setup()
        right = operator.project(residual.clone())
        results.append(form.apply(right, torch.empty_like(right)) / scale)
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-8 * float(results[0].abs().max()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"leaf_iterations": 3}, "power of two"),
        ({"leaf_iterations": True}, "power of two"),
        ({"block_iterations": 1}, "block_iterations must be a power of two from 2 to 32"),
        ({"threshold": 1.0}, "threshold must be from 0 to below 1"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        make_preconditioner("coarse-iterated", operator_of((16, 16)), **options)
