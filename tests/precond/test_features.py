"""Features: dimensionless, zero where there is no fluid, true to the matrix."""

import numpy as np
import pytest
import torch

from precond import PoissonOperator
from precond.learned.features import GLOBAL_FEATURES, NODE_FEATURES, LeafFeatures
from precond.problems.gallery import benchmark_density

SHAPES = [((16, 16), 32, False), ((46, 45), 128, False), ((28, 17), 64, True), ((21, 18), 50, True)]
BUFFERS = ("mask", "positions", "node", "level", "globals", "bias", "neighbour_weights")


@pytest.fixture(params=SHAPES, ids=str)
def made(request, make_case):
    shape, leaf_size, solids = request.param
    case = make_case(shape, 100.0, solids)
    return case, LeafFeatures(case.operator, leaf_size)


def test_shapes_and_finiteness(made):
    case, features = made
    count, length = features.count, features.leaf_size
    assert count == -(-case.density.size // length)
    assert features.node.shape == (count, length, NODE_FEATURES)
    assert features.globals.shape == (GLOBAL_FEATURES,)
    assert features.bias.shape == (count, length, length)
    assert features.neighbours.shape == features.neighbour_weights.shape == (count * length, 4)
    for name in BUFFERS:
        assert torch.isfinite(getattr(features, name)).all(), name
        assert getattr(features, name).dtype == torch.float32
    assert features.node.abs().max() < 10


def test_couplings_are_those_of_the_matrix(made):
    case, features = made
    n = case.density.size
    cells = features.cells.flatten().numpy()
    padded = np.zeros((n + 1, n + 1))
    padded[:n, :n] = case.matrix
    diagonal = np.where(padded.diagonal() > 0, padded.diagonal(), 1.0)
    scaled = padded / np.sqrt(np.outer(diagonal, diagonal))
    for k, leaf in enumerate(features.cells.numpy()):
        np.testing.assert_allclose(features.bias[k].numpy(), scaled[np.ix_(leaf, leaf)], atol=1e-6)
    x = np.random.default_rng(0).standard_normal(n + 1)
    x[n] = 0.0
    expected = (-(padded - np.diag(padded.diagonal())) @ x / diagonal)[cells]
    gathered = torch.from_numpy(x[cells].astype(np.float32))[features.neighbours]  # (K L, 4)
    found = (gathered * features.neighbour_weights).sum(dim=1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    coupled = padded.diagonal()[cells] > 0
    np.testing.assert_array_equal(features.mask.flatten().numpy(), coupled)
    assert torch.equal(features.cells.flatten()[features.position], torch.arange(n))


def test_everything_is_zero_where_there_is_no_fluid(made):
    _, features = made
    empty = features.mask == 0
    assert not features.node[empty].any()
    assert not features.positions[empty].any()
    assert not features.bias[empty].any()
    assert not features.bias.mT[empty].any()
    assert not features.neighbour_weights[empty.flatten()].any()


@pytest.mark.parametrize("scale", [1e-3, 250.0])
def test_the_scale_of_the_density_is_not_seen(made, scale):
    case, features = made
    before = {name: getattr(features, name).clone() for name in BUFFERS}
    other = PoissonOperator.from_density(case.density * scale, case.solid)
    scaled = LeafFeatures(other, features.leaf_size)
    for name in BUFFERS:
        torch.testing.assert_close(getattr(scaled, name), before[name], atol=2e-6, rtol=0)


def test_follows_density_and_solids_in_place(make_case):
    case, later = make_case((24, 19), 10.0, False), make_case((24, 19), 500.0, True, seed=1)
    features = LeafFeatures(case.operator, 64)
    buffers = {name: getattr(features, name) for name in BUFFERS}
    case.operator.update(torch.from_numpy(later.density))
    case.operator.set_solid(later.solid)
    features.update_geometry()
    features.update()
    expected = LeafFeatures(later.operator, 64)
    for name, buffer in buffers.items():
        assert getattr(features, name) is buffer
        assert torch.equal(buffer, getattr(expected, name)), name


def test_places_are_relative_to_the_leaf():
    problem = benchmark_density(1024, frame=0)
    features = LeafFeatures(problem.operator(), 128)  # 16 x 8 cells
    x, y = features.positions.unbind(dim=-1)
    for places, cells in ((x, 16), (y, 8)):
        torch.testing.assert_close(places.mean(dim=1), torch.zeros(8), atol=1e-6, rtol=0)
        torch.testing.assert_close(places.amax(dim=1), torch.full((8,), (cells - 1) / 2 / 128**0.5))
    geometry = features.tile_geometry()
    torch.testing.assert_close(
        geometry[:4], torch.tensor([[0.0, 0.0, 8 / 128**0.5]]).expand(4, 3), atol=1e-5, rtol=0
    )
