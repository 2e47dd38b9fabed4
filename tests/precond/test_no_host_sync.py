"""What runs every frame asks the device nothing: no scalar is read back, no shape depends on data."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from precond.learned.coarse_learned import TwoLevelLearned
from precond.learned.factors import FactorsConfig, FactorsNetwork
from precond.learned.features import LeafFeatures
from precond.learned.hmatrix import HMatrix
from precond.learned.leaf_network import LeafNetwork, LeafNetworkConfig
from precond.learned.network import Trunk, TrunkConfig
from precond.learned.neural_spai import NeuralSpai, SpaiConfig, SpaiNetwork
from precond.learned.proposals import HMatrixConfig, ProposalNetwork
from precond.learned.published_hmatrix import PublishedHMatrix

pytestmark = pytest.mark.usefixtures("torch_forms")

READS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "is_nonzero", "equal")


class Recorder(TorchDispatchMode):
    """The names of all operations that run under it."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        del types
        name = function.overloadpacket.__name__
        if name.startswith("index") and any(
            index is not None and index.dtype == torch.bool
            for argument in args
            if isinstance(argument, list)
            for index in argument
        ):
            name = "nonzero, by a boolean index"
        self.names.append(name)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def recorded():
    """Run a function and return the names of its operations."""

    def run(function):
        with torch.no_grad(), Recorder() as recorder:
            function()
        assert recorder.names
        return recorder.names

    return run


def reads(names):
    return [name for name in names if any(name.startswith(read) for read in READS)]


def test_the_recorder_sees_a_read(recorded):
    assert reads(recorded(lambda: float(torch.ones(3).sum())))
    assert reads(recorded(lambda: torch.ones(3)[torch.ones(3) > 0]))


def test_features_and_trunk(make_case, recorded):
    operator = make_case((46, 45), 100.0, True).operator
    features = LeafFeatures(operator, 64)
    assert not reads(recorded(features.update))
    operator.set_solid(torch.zeros(46, 45))
    assert not reads(recorded(features.update))
    lean = {"off_diagonal_stream": False, "axial_buffers": False, "global_token": False, "leaf_mean": True}
    for switches in ({}, lean):
        trunk = Trunk(TrunkConfig(width=16, heads=2, layers=1, tile_tokens=8, **switches))
        trunk(features)
        assert not reads(recorded(lambda trunk=trunk: trunk(features)))


@pytest.mark.parametrize("level", [False, True])
@pytest.mark.parametrize("heads", [0, 2])
def test_coarse_learned(make_case, recorded, heads, level):
    case = make_case((50, 47) if level else (28, 17), 100.0, True)
    network = LeafNetwork(LeafNetworkConfig(width=8, leaf_iterations=2, attention_heads=heads))
    form = TwoLevelLearned(case.operator, network, on_device=True, coarse_level=level)
    form.setup()
    v, out = case.vectors(2)
    for work in (form.setup, form.update):
        assert not reads(recorded(work))
    assert not reads(recorded(lambda: form.apply(v, out)))


@pytest.mark.parametrize("form", ["exact", "network", "published"])
def test_hmatrix(make_case, recorded, form):
    case = make_case((28, 17), 100.0, True)
    trunk = {"width": 16, "heads": 2, "layers": 1, "tile_tokens": 8}
    if form == "published":
        network = FactorsNetwork(FactorsConfig.of({"leaf_size": 32, "trunk": trunk}))
        form = PublishedHMatrix(case.operator, network)
    else:
        trunk |= {"graph_convolutions": 0, "operator_bias": False, "edge_term": False}
        config = {"leaf_size": 32, "leaves": form, "leaf_iterations": 2 * (form == "exact"), "trunk": trunk}
        form = HMatrix(case.operator, ProposalNetwork(HMatrixConfig.of(config)))
    form.setup()
    v, out = case.vectors(2)
    names = recorded(lambda: form.apply(v, out))
    assert not reads(names)
    views = ("view", "slice", "transpose", "unsqueeze", "_unsafe_view", "detach", "alias")
    assert len([name for name in names if name not in views]) < 40  # kernels a capture would replay
    assert not reads(recorded(form.setup))


def test_neural_spai(make_case, recorded):
    case = make_case((28, 17), 100.0, True)
    form = NeuralSpai(case.operator, SpaiNetwork(SpaiConfig(width=8, layers=2)))
    form.setup()
    v, out = case.vectors(2)
    assert not reads(recorded(form.setup))
    names = recorded(lambda: form._apply(v, out))
    assert not reads(names)
    assert set(names) == {"view", "copy_", "mul", "addcmul_"}  # nothing that makes a tensor of its own
    assert len([name for name in names if name != "view"]) == 13  # two five-point products, eps, two casts
