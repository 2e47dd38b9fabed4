"""Model files: what was saved comes back, and whatever is wrong with a file is said in words."""

import hashlib

import pytest
import torch
import yaml
from safetensors.torch import save
from torch import nn

from precond import PCG, PreconditionerError, make_preconditioner
from precond.learned.weights import ModelError, TrainedPerSize, load_model, save_model
from precond.problems.gallery import benchmark_density


def build(card):
    return nn.Linear(card["configuration"]["inputs"], 3)


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    save_model(tmp_path / "sub" / "model.safetensors", nn.Linear(4, 3), {"configuration": {"inputs": 4}})
    return tmp_path / "sub" / "model.safetensors"


def change_card(path, **changes):
    card = yaml.safe_load(path.with_suffix(".yaml").read_text())
    path.with_suffix(".yaml").write_text(yaml.safe_dump({**card, **changes}))


def replace_weights(path, weights):
    """Weights with a card that vouches for them."""
    path.write_bytes(save(weights))
    change_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_weights_come_back(path):
    torch.manual_seed(0)
    original = nn.Linear(4, 3)
    module, card = load_model(path, build)
    assert card["configuration"] == {"inputs": 4}
    assert torch.equal(module.weight, original.weight)
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.safetensors", "model.yaml"]


def test_missing_files(path):
    with pytest.raises(ModelError, match="no model file"):
        load_model(path.with_name("other.safetensors"), build)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(ModelError, match=r"card .*missing"):
        load_model(path, build)
    assert issubclass(ModelError, PreconditionerError)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "", "\x00"])
def test_bad_cards(path, text):
    path.with_suffix(".yaml").write_text(text)
    with pytest.raises(ModelError, match="card"):
        load_model(path, build)


def test_damaged_weights(path):
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-7])
    with pytest.raises(ModelError, match="damaged"):
        load_model(path, build)
    path.write_bytes(b"\x80\x04nonsense")
    with pytest.raises(ModelError, match="damaged"):
        load_model(path, build)
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="does not match its model card"):
        load_model(path, build)


def test_weights_of_another_model(path):
    weights = {"weight": torch.ones(3, 4), "bias": torch.ones(3)}
    replace_weights(path, {"weight": weights["weight"]})
    with pytest.raises(ModelError, match="lacks bias"):
        load_model(path, build)
    replace_weights(path, {**weights, "scale": torch.ones(1)})
    with pytest.raises(ModelError, match="unknown scale"):
        load_model(path, build)
    replace_weights(path, {**weights, "weight": torch.ones(3, 5)})
    with pytest.raises(ModelError, match=r"weight is \(3, 5\).*wants \(3, 4\)"):
        load_model(path, build)
    replace_weights(path, {**weights, "bias": torch.ones(3, dtype=torch.float64)})
    with pytest.raises(ModelError, match="float64"):
        load_model(path, build)
    replace_weights(path, {**weights, "bias": torch.tensor([1.0, torch.nan, 0.0])})
    with pytest.raises(ModelError, match="bias holds NaN"):
        load_model(path, build)
    replace_weights(path, weights)
    assert torch.equal(load_model(path, build)[0].bias, torch.ones(3))


def test_configurations_that_build_nothing(path):
    for configuration in ({}, {"inputs": "many"}, {"inputs": -1}):
        change_card(path, configuration=configuration)
        with pytest.raises(ModelError, match="builds no model"):
            load_model(path, build)


def test_weights_for_one_size_must_name_it(path):
    class Linear(TrainedPerSize):
        build = staticmethod(build)

    operator = benchmark_density(64, 0).operator()
    for training in (None, {}, {"n": "64"}, {"n": [64, 100]}):
        change_card(path, training=training)
        with pytest.raises(ModelError, match="no whole number as `n`"):
            Linear(operator, path)
    change_card(path, training={"n": 64})
    assert (Linear(operator, path).transferred, Linear(operator, path).note) == (False, "")


def test_nothing_unfinished_is_saved(tmp_path):
    module = nn.Linear(2, 2)
    nn.init.constant_(module.bias, torch.inf)
    with pytest.raises(ModelError, match="NaN or infinity"):
        save_model(tmp_path / "m.safetensors", module, {"configuration": {}})
    assert not list(tmp_path.iterdir())


def test_the_default_type_of_numbers_changes_nothing(path):
    torch.set_default_dtype(torch.float64)
    try:
        module, _ = load_model(path, build)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert module.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["coarse-learned", "hmatrix", "neural-spai"])
def test_shipped_networks_take_as_many_iterations_whatever_the_default_type(name):
    problem, counts = benchmark_density(1024, 0), []
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        try:
            operator = problem.operator()
            counts.append(PCG(operator, made(name, operator)).solve(problem.b).iterations)
        finally:
            torch.set_default_dtype(torch.float32)
    assert counts[0] == counts[1]


def made(name, operator):
    preconditioner = make_preconditioner(name, operator)
    preconditioner.setup()
    return preconditioner
