"""What the inspection says of a preconditioner against dense matrices put together index by index."""

import numpy as np
import pytest
import torch

from precond import make_preconditioner
from precond.analysis.inspection import RANK_TOLERANCE, inspect, leaf_basis, leaf_count
from precond.analysis.peeling import peel
from precond.learned.factors import FactorsConfig, FactorsNetwork
from precond.learned.hmatrix import HMatrix
from precond.learned.proposals import HMatrixConfig, ProposalNetwork
from precond.learned.published_hmatrix import PublishedHMatrix
from precond.partition.morton import leaves
from precond.partition.tiles import tile_of, tiles
from precond.poisson import PoissonOperator
from precond.problems import gallery

BALANCED = ("coarse-iterated:two_level=true", "coarse-monomial", "coarse-geneo")


def open_box(shape: tuple[int, int]) -> PoissonOperator:
    return PoissonOperator.from_density(gallery.bubbles(shape, 100.0, 3).density)


def published_form(operator: PoissonOperator, leaf_size: int = 32) -> PublishedHMatrix:
    """With factors of any size, since an untrained network's tiles are zero."""
    torch.manual_seed(0)
    trunk = {"width": 16, "heads": 2, "layers": 1, "tile_tokens": 8}
    network = FactorsNetwork(FactorsConfig.of({"leaf_size": leaf_size, "trunk": trunk}))
    form = PublishedHMatrix(operator, network)
    form.setup()
    core = form.factors.core
    core.copy_(torch.randn(core.shape) * torch.logspace(0, -6, core.shape[-1]))
    return form


def definite_form(operator: PoissonOperator, leaf_size: int, leaves: str) -> HMatrix:
    """Of a network whose heads say anything."""
    torch.manual_seed(1)
    config = {"leaf_size": leaf_size, "leaves": leaves, "leaf_iterations": 0 if leaves == "network" else 2}
    trunk = {"width": 16, "heads": 2, "layers": 1, "tile_tokens": 4, "graph_convolutions": 0}
    trunk |= {"operator_bias": False, "edge_term": False}
    network = ProposalNetwork(HMatrixConfig.of({**config, "trunk": trunk}))
    for name, parameter in network.named_parameters():
        if "head" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    form = HMatrix(operator, network.eval().requires_grad_(False))
    form.setup()
    return form


def unit_images(form: HMatrix, coupled: np.ndarray) -> np.ndarray:
    """M of ``form``, before the means are removed, between the ``coupled`` cells, in leaf order."""
    cells = form.vectors.cells.numpy().ravel()
    dense = np.zeros((len(cells), len(cells)))
    out = torch.empty(form.operator.shape, dtype=torch.float64)
    for place in np.flatnonzero(coupled):
        unit = torch.zeros_like(out)
        unit.view(-1)[cells[place]] = 1.0
        form._apply(unit, out)
        dense[coupled, place] = out.numpy().ravel()[cells[coupled]]
    return dense


def singular_values(dense: np.ndarray, size: int) -> tuple[list[np.ndarray], list[float]]:
    """Of every tile of a matrix in leaf order with ``size`` rows a leaf; and norms of the diagonal blocks."""
    count = len(dense) // size
    values = []
    for row, column, width in tiles(count):
        block = dense[row * size : (row + width) * size, column * size : (column + width) * size]
        values.append(np.linalg.svd(block, compute_uv=False))
    diagonal = [
        np.linalg.norm(dense[k * size : (k + 1) * size, k * size : (k + 1) * size]) for k in range(count)
    ]
    return values, diagonal


def assert_agrees(found, values: list[np.ndarray], rtol: float) -> None:
    norms = [np.linalg.norm(v) for v in values]
    np.testing.assert_allclose(found.norms, norms, rtol=rtol)
    clear = [np.abs(v / v[0] / RANK_TOLERANCE - 1.0).min() > 0.01 for v in values]  # not at the edge
    ranks = np.array([(v > RANK_TOLERANCE * v[0]).sum() for v in values])
    assert np.mean([True, *clear]) > 0.8
    np.testing.assert_array_equal(found.ranks[clear], ranks[clear])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 21])
def test_every_pair_of_leaves_is_in_its_tile(count):
    rows, columns = np.divmod(np.arange(count * count), count)
    found = tile_of(count, rows, columns)
    assert (found[rows == columns] == -1).all()
    for row, column, tile in zip(rows, columns, found, strict=True):
        if row != column:
            first, second, size = tiles(count)[tile]
            assert first <= min(row, column) < first + size
            assert second <= max(row, column) < second + size


@pytest.mark.parametrize("count", [1, 2, 5, 8, 13])
def test_peeled_tiles_are_those_of_the_matrix(count):
    """A smooth kernel on points in the plane: ranks fall off, as they do in an inverse of A."""
    rank = 12
    points = torch.rand(count * rank, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points[:, 0] += torch.arange(count * rank) // rank
    dense = 1.0 / (0.3 + torch.cdist(points, points))
    values, diagonal = peel(lambda x: dense @ x, count, rank, samples=20)
    expected, _ = singular_values(dense.numpy(), rank)
    flat = [row.numpy() for level in values for row in level]
    assert len(flat) == count - 1
    for found, of_tile in zip(flat, expected, strict=True):
        np.testing.assert_allclose(found[:12], of_tile[:12], atol=1e-7 * of_tile[0])
    blocks = dense.view(count, rank, count, rank)
    for k in range(count):
        torch.testing.assert_close(diagonal[k], blocks[k, :, k], atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("name", BALANCED)
@pytest.mark.parametrize("shape", [(48, 32), (37, 26)])
def test_balanced_tiles_are_those_of_u_z_ut(name, shape):
    operator = open_box(shape)
    form = make_preconditioner(name, operator)
    form.setup()
    count, leaf_size, rank = form.basis.shape
    cells = leaves(shape, leaf_size, aligned=True).ravel()
    basis = np.zeros((count * leaf_size, count * rank))
    for k in range(count):
        basis[k * leaf_size : (k + 1) * leaf_size, k * rank : (k + 1) * rank] = form.basis[k].double()
    matrix = np.zeros((count * leaf_size, count * leaf_size))
    exists = np.flatnonzero(cells < shape[0] * shape[1])
    matrix[np.ix_(exists, exists)] = operator.to_csr().toarray()[np.ix_(cells[exists], cells[exists])]
    far = basis @ np.linalg.pinv(basis.T @ matrix @ basis, rcond=1e-9, hermitian=True) @ basis.T
    found = inspect(form)
    values, _ = singular_values(far, leaf_size)
    assert_agrees(found, values, rtol=1e-4)
    assert found.ranks.max() > 4
    assert found.leaf_size == leaf_size
    for k, norm in enumerate(found.leaf_norms):
        own = exists[exists // leaf_size == k]
        inverse = np.linalg.inv(matrix[np.ix_(own, own)])
        assert norm == pytest.approx(np.linalg.norm(inverse + far[np.ix_(own, own)]), rel=1e-4)


def test_tiles_do_not_depend_on_what_is_grounded(make_case):
    """Rooms, a channel, pockets: several fluid components, and some that a single leaf holds."""
    case = make_case((28, 17), 100.0, True)
    form = make_preconditioner("coarse-monomial", case.operator, leaf_size=16, rank=4)
    form.setup()
    count, leaf_size, rank = form.basis.shape
    cells = leaves((28, 17), leaf_size, aligned=True)
    coupled = form.leaves.coupled.numpy()
    spread = np.zeros((case.matrix.shape[0], count * rank))
    for k in range(count):
        inside = coupled[k]
        spread[cells[k][inside], k * rank : (k + 1) * rank] = form.basis[k].double()[inside]
    inverse = np.linalg.pinv(spread.T @ case.matrix @ spread, rcond=1e-9, hermitian=True)
    found = inspect(form)
    for (row, column, size), norm in zip(found.tiles, found.norms, strict=True):
        block = inverse[row * rank : (row + size) * rank, column * rank : (column + size) * rank]
        assert norm == pytest.approx(np.linalg.norm(block), rel=1e-4, abs=1e-5 * np.linalg.norm(inverse))


@pytest.mark.parametrize(("shape", "leaf_size"), [((32, 24), 32), ((21, 13), 16), ((8, 8), 64)])
def test_published_tiles_are_those_of_m(shape, leaf_size):
    form = published_form(open_box(shape), leaf_size)
    count = len(form.vectors.cells)
    units = torch.eye(count * leaf_size).view(-1, count, leaf_size).transpose(0, 1).contiguous()
    dense = form.factors.times(units, form.features.tiles).transpose(0, 1).reshape(len(units) * leaf_size, -1)
    found = inspect(form)
    values, diagonal = singular_values(dense.double().numpy(), leaf_size)
    assert_agrees(found, values, rtol=1e-4)
    np.testing.assert_allclose(found.leaf_norms, diagonal, rtol=1e-5)
    assert found.tiles.shape == (count - 1, 3)


@pytest.mark.parametrize("leaves", ["exact", "network"])
@pytest.mark.parametrize(
    ("shape", "leaf_size", "count"),
    [((32, 32), 16, 64), ((21, 13), 32, 12), ((40, 8), 64, 5), ((16, 8), 64, 2)],
)
def test_hmatrix_tiles_are_those_of_m(shape, leaf_size, count, leaves):
    """By the numbers of the leaves, which on other grids than squares are not halved as the slots are."""
    form = definite_form(open_box(shape), leaf_size, leaves)
    dense = unit_images(form, form.leaves.coupled.numpy().ravel())
    np.testing.assert_allclose(dense, dense.T, atol=1e-5 * np.abs(dense).max())
    found = inspect(form)
    values, diagonal = singular_values(dense, leaf_size)
    assert_agrees(found, values, rtol=1e-4)
    np.testing.assert_allclose(found.leaf_norms, diagonal, rtol=1e-4)
    assert found.tiles.shape == (count - 1, 3)
    assert (found.leaf_size, found.columns) == (leaf_size, 4)
    assert found.ranks.max(initial=4) >= 4
    assert found.formula.startswith("D^-1 + U (W" if leaves == "exact" else "F F^T + diagonal + U W")


def test_hmatrix_of_a_single_leaf_has_no_tile():
    form = definite_form(open_box((8, 8)), 64, "exact")
    found = inspect(form)
    assert (found.tiles.shape, len(found.norms), len(found.ranks)) == ((0, 3), 0, 0)
    assert found.leaf_norms == [0.0]  # none of its cells is coupled to another leaf


def test_hmatrix_inspected_with_solids(make_case):
    case = make_case((28, 17), 100.0, True)
    form = definite_form(case.operator, 16, "exact")
    coupled = form.leaves.coupled.numpy().ravel()
    assert 0 < coupled.sum() < case.solid.size - case.solid.sum()  # pockets, too
    found = inspect(form)
    values, diagonal = singular_values(unit_images(form, coupled), 16)
    scale = max(found.norms.max(), found.leaf_norms.max())
    np.testing.assert_allclose(found.norms, [np.linalg.norm(v) for v in values], rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(found.leaf_norms, diagonal, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("shape", [(37, 26), (32, 16)])
def test_the_leaf_of_a_cell_in_a_hierarchy(shape):
    """Leaves of 4 x 4 cells, cut off at the walls; there are no tiles."""
    form = make_preconditioner("coarse-iterated", open_box(shape))
    form.setup()
    assert leaf_count(form) == 0
    with pytest.raises(ValueError, match="coarse-iterated has no hierarchical partition"):
        inspect(form)
    counts, leaf_of = set(), {}
    for cell in range(shape[0] * shape[1]):
        i, j = divmod(cell, shape[1])
        basis = leaf_basis(form, cell)
        expected = {
            a * shape[1] + b
            for a in range(i // 4 * 4, min(i // 4 * 4 + 4, shape[0]))
            for b in range(j // 4 * 4, min(j // 4 * 4 + 4, shape[1]))
        }
        assert set(basis.cells.tolist()) == expected
        assert basis.columns.shape == (len(basis.cells), basis.total)
        np.testing.assert_allclose(np.linalg.norm(basis.columns, axis=0), 1.0, rtol=1e-5)
        np.testing.assert_allclose(basis.columns[:, 0], basis.columns[0, 0], rtol=1e-5)  # the constant
        counts.add(basis.total)
        leaf_of[cell] = basis.leaf
    assert len(counts) > 1  # more where the fluids meet
    assert len(set(leaf_of.values())) == -(-shape[0] // 4) * -(-shape[1] // 4)
    assert f"{len(set(leaf_of.values()))} leaves" in form.describe()


def test_others_have_no_partition():
    preconditioner = make_preconditioner("jacobi", open_box((16, 8)))
    preconditioner.setup()
    assert leaf_count(preconditioner) == 0
    with pytest.raises(ValueError, match="jacobi has no hierarchical partition"):
        inspect(preconditioner)
    with pytest.raises(ValueError, match="jacobi has no hierarchical partition"):
        leaf_basis(preconditioner, 0)


FORMS = {"coarse-monomial": {}, "hmatrix": {}, "hmatrix-published": {"definite": False}}


def form_of(name, operator):
    return make_preconditioner(name.removesuffix("-published"), operator, **FORMS[name])


def basis_of(form):
    return form.factors.node if form.name == "hmatrix-published" else form.basis


@pytest.mark.parametrize("name", FORMS)
def test_inspection_before_the_set_up_and_of_bad_factors_is_refused(name):
    form = form_of(name, open_box((24, 16)))
    assert leaf_count(form) == len(basis_of(form))
    with pytest.raises(RuntimeError, match="setup"):
        inspect(form)
    form.setup()
    basis_of(form)[0, 0, 0] = torch.nan
    with pytest.raises(ArithmeticError, match="NaN"):
        inspect(form)


def test_bad_leaves_and_cores_of_hmatrix_are_refused():
    for buffer in ("_fine", "leaves"):
        form = definite_form(open_box((24, 16)), 16, "exact")
        (form._fine if buffer == "_fine" else form.leaves.inverses)[0, 0, 0] = torch.nan
        with pytest.raises(ArithmeticError, match="NaN"):
            inspect(form)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("shape", [(37, 26), (32, 16)])
def test_the_leaf_of_a_cell_and_its_columns(name, shape):
    form = form_of(name, open_box(shape))
    form.setup()
    table = form.leaves.vectors.cells if name == "coarse-monomial" else form.vectors.cells
    columns = basis_of(form)
    seen = np.zeros(shape[0] * shape[1], dtype=int)
    for cell in range(0, seen.size, 7):
        basis = leaf_basis(form, cell)
        assert cell in basis.cells
        seen[basis.cells] = 1 + basis.leaf
        slots = {int(c): k for k, c in enumerate(table[basis.leaf])}
        assert len(basis.cells) == sum(c < seen.size for c in slots)
        assert basis.columns.shape == (len(basis.cells), 8)
        for place, of_leaf in enumerate(basis.cells):
            np.testing.assert_array_equal(basis.columns[place], columns[basis.leaf, slots[int(of_leaf)], :8])
    assert len(np.unique(seen[seen > 0])) == len(table)  # every leaf was met
