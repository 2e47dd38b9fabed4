"""The network's trunk: any grid, blind to what is not fluid, every part switchable."""

import pytest
import torch

from precond import PoissonOperator
from precond.learned.features import LeafFeatures
from precond.learned.network import Trunk, TrunkConfig
from precond.problems.gallery import benchmark_density

FULL = {"width": 16, "heads": 2, "layers": 2, "tile_tokens": 8}
LEAN = {
    **FULL,
    "off_diagonal_stream": False,
    "axial_buffers": False,
    "global_token": False,
    "global_features": False,
    "leaf_mean": True,
    "graph_convolutions": 1,
}
LINEAR = {**LEAN, "softmax_attention": False}


def make_trunk(seed=0, **settings):
    torch.manual_seed(seed)
    trunk = Trunk(TrunkConfig(**settings))
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return trunk


@pytest.mark.parametrize("settings", [FULL, LEAN, LINEAR], ids=["full", "lean", "linear"])
@pytest.mark.parametrize(
    ("shape", "leaf_size", "solids"),
    [((16, 16), 32, False), ((46, 45), 128, False), ((28, 17), 64, True), ((9, 10), 128, False)],
)
def test_shapes_and_gradients(make_case, settings, shape, leaf_size, solids):
    case = make_case(shape, 100.0, solids)
    features = LeafFeatures(case.operator, leaf_size)
    trunk = make_trunk(**settings)
    leaves, tiles = trunk(features)
    assert leaves.shape == (features.count, leaf_size, 16)
    assert torch.isfinite(leaves).all()
    assert not leaves[features.mask == 0].any()
    loss = leaves.square().mean() * leaves.std()
    if settings is FULL:
        assert tiles.shape == (features.count - 1, 8, 16)
        loss = loss + tiles[..., 0].square().sum()
    else:
        assert tiles is None
    loss.backward()
    for name, parameter in trunk.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0 or (features.count == 1 and "tile" in name), name


@pytest.mark.parametrize("settings", [FULL, LEAN, LINEAR], ids=["full", "lean", "linear"])
def test_solids_and_padding_do_not_matter(make_case, settings):
    """Neither the density in solids nor whatever the buffers held for cells that are not there is seen."""
    case = make_case((25, 20), 100.0, True)  # padded: 500 cells in 8 leaves of 64
    features = LeafFeatures(case.operator, 64)
    trunk = make_trunk(**settings)
    with torch.no_grad():
        before = trunk(features)
        density = case.density.copy()
        density[case.solid] = 12345.0
        case.operator.update(torch.from_numpy(density))
        features.update()
        after = trunk(features)
        features.node[features.mask == 0] = 7.0
        noisy = trunk(features)
    for other in (after, noisy):
        torch.testing.assert_close(other[0], before[0], atol=1e-6, rtol=1e-5)
        if before[1] is not None:
            torch.testing.assert_close(other[1], before[1], atol=1e-6, rtol=1e-5)


def test_further_solid_leaves_do_not_matter():
    """The lean network sees 1,024 cells alone as it sees them beside a leaf that is solid."""
    problem = benchmark_density(1024, frame=3)
    alone = LeafFeatures(problem.operator(), 128)
    density = torch.cat([problem.density, torch.full((32, 32), 5.0, dtype=torch.float64)])
    solid = torch.zeros(64, 32, dtype=torch.bool)
    solid[32:] = True
    beside = LeafFeatures(PoissonOperator.from_density(density, solid), 128)
    assert beside.count == 16
    trunk = make_trunk(**LEAN)
    with torch.no_grad():
        torch.testing.assert_close(trunk(beside)[0][:8], trunk(alone)[0], atol=1e-6, rtol=1e-5)
        assert not trunk(beside)[0][8:].any()


def test_cells_of_a_leaf_may_be_listed_in_any_order(make_case):
    """Attention inside a leaf knows places, not numbers."""
    features = LeafFeatures(make_case((16, 16), 100.0, False).operator, 64)
    trunk = make_trunk(**{**LEAN, "graph_convolutions": 0})
    order = torch.randperm(64)
    with torch.no_grad():
        expected = trunk(features)[0][:, order]
        for name in ("mask", "positions", "node"):
            getattr(features, name).copy_(getattr(features, name)[:, order])
        features.bias.copy_(features.bias[:, order][:, :, order])
        torch.testing.assert_close(trunk(features)[0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("settings", [FULL, LEAN, LINEAR], ids=["full", "lean", "linear"])
def test_the_scale_of_the_density_is_not_seen(make_case, settings):
    case = make_case((46, 45), 100.0, False)
    features = LeafFeatures(case.operator, 128)
    trunk = make_trunk(**settings)
    with torch.no_grad():
        before = trunk(features)[0]
        case.operator.update(torch.from_numpy(1000.0 * case.density))
        features.update()
        torch.testing.assert_close(trunk(features)[0], before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "switch",
    ["operator_bias", "edge_term", "axial_buffers", "global_token", "global_features", "off_diagonal_stream"],
)
def test_switches_change_the_parameters(switch):
    off = {switch: False}
    if switch == "off_diagonal_stream":
        off["axial_buffers"] = False

    def names(**settings):
        return {name: p.shape for name, p in make_trunk(**settings).named_parameters()}

    assert names(**FULL) != names(**{**FULL, **off})
    assert names(**FULL) != names(**{**FULL, "leaf_mean": True})
    assert names(**FULL) != names(**{**FULL, "graph_convolutions": 1})


def test_only_the_highways_reach_other_leaves(make_case):
    case = make_case((16, 16), 10.0, False)
    features = LeafFeatures(case.operator, 64)
    changed = LeafFeatures(case.operator, 64)
    changed.node[3, :, 0] += 1.0
    local = make_trunk(**{**LEAN, "graph_convolutions": 0})
    joined = make_trunk(**{**FULL, "graph_convolutions": 0, "global_token": False, "layers": 1})
    with torch.no_grad():
        assert torch.equal(local(features)[0][:3], local(changed)[0][:3])
        difference = joined(features)[0] - joined(changed)[0]
    assert (difference.abs().amax(dim=(1, 2)) > 1e-6).all()


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple"):
        TrunkConfig(width=30, heads=4)
    with pytest.raises(ValueError, match="off_diagonal_stream"):
        TrunkConfig(off_diagonal_stream=False)
    with pytest.raises(ValueError, match="softmax_attention"):
        TrunkConfig(softmax_attention=False)
