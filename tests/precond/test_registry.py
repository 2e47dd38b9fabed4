"""The registry: names, reasons, and errors that a person can act on."""

import hashlib
import importlib.util

import pytest

from precond import (
    PreconditionerError,
    available_preconditioners,
    is_learned,
    make_preconditioner,
    registered_preconditioners,
    registry,
)
from precond.analysis.inspection import leaf_labels
from precond.learned import MODELS
from precond.learned.weights import read_card


@pytest.fixture
def operator(make_case):
    return make_case((12, 10), 10.0, False).operator


def test_the_classical_names_are_registered():
    names = ["none", "jacobi", "ic0", "multigrid", "block-jacobi", "amg", "direct"]
    assert [name for name in registered_preconditioners() if name in names] == names
    assert set(available_preconditioners()) <= set(registered_preconditioners())
    assert {"none", "jacobi", "multigrid", "block-jacobi", "direct"} <= set(available_preconditioners())
    assert all(
        description and "\n" not in description for description in registered_preconditioners().values()
    )


def test_those_that_choose_among_others_can_be_left_out():
    assert set(available_preconditioners()) - set(available_preconditioners(choosing=False)) == {"auto"}


def test_those_with_leaves_are_told(operator):
    names = available_preconditioners()
    found = [name for name in names if leaf_labels(make_preconditioner(name, operator)) is not None]
    assert registry.with_leaves() == found
    assert {"coarse-iterated", "coarse-learned", "hmatrix"} <= set(found)


def test_an_unknown_name_is_answered_with_the_known_ones(operator):
    with pytest.raises(PreconditionerError, match=r"'jacoby'.*jacobi, .*multigrid"):
        make_preconditioner("jacoby", operator)


@pytest.mark.parametrize("name", [3, None, ["jacobi"]])
def test_what_is_no_name_is_refused(operator, name):
    with pytest.raises(PreconditionerError, match="name must be a text"):
        make_preconditioner(name, operator)


@pytest.mark.parametrize(("name", "package"), [("ic0", "ilupp"), ("amg", "pyamg")])
def test_a_missing_package_is_named_with_its_remedy(operator, monkeypatch, name, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == package else find_spec(n))
    assert name not in available_preconditioners()
    assert f"needs {package}" in registered_preconditioners()[name]
    with pytest.raises(PreconditionerError, match=f"needs {package}: .*pip install"):
        make_preconditioner(name, operator)


def test_unknown_options_are_refused(operator):
    with pytest.raises(PreconditionerError, match=r"'jacobi'.*strength"):
        make_preconditioner("jacobi", operator, strength=3)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("multigrid", "it takes no options"),
        ("auto", "allowed: candidates, clock"),
        ("hmatrix", "allowed: definite, weights, network"),
        ("coarse-iterated", "allowed: two_level, leaf_iterations, .*rank, leaf_size"),
        ("coarse-learned", "allowed: model, two_level, leaf_iterations, .*threshold"),
    ],
)
def test_an_unknown_option_is_answered_with_the_known_ones(operator, name, allowed):
    with pytest.raises(PreconditionerError, match=f"^preconditioner '{name}': foo: unknown; {allowed}"):
        make_preconditioner(f"{name}:foo=1", operator)


def test_options_may_stand_in_the_name(operator):
    made = make_preconditioner("coarse-monomial:rank=4:leaf_size=16", operator)
    assert (made.rank, made.leaf_size) == (4, 16)
    assert make_preconditioner("coarse-monomial:rank=4", operator, rank=6).rank == 6
    for text, words in {"rank": "'rank' is no option", "rank=a": "rank must be", "depth=3": "depth"}.items():
        with pytest.raises(PreconditionerError, match=words):
            make_preconditioner(f"coarse-monomial:{text}", operator)


@pytest.mark.parametrize("option", ["network=no", "definite=1"])
def test_a_switch_of_hmatrix_is_true_or_false(operator, option):
    with pytest.raises(PreconditionerError, match=r"must be true or false, not (no|1)"):
        make_preconditioner(f"hmatrix:{option}", operator)


def test_what_asks_no_network_is_not_learned():
    learned = ["hmatrix", "hmatrix:definite=false", "coarse-learned:two_level=true", "neural-spai"]
    assert all(map(is_learned, learned))
    assert not any(
        map(
            is_learned, ["hmatrix:network=false", "coarse-iterated", "auto", "block-jacobi:leaf_size=64", "?"]
        )
    )


def test_errors_are_value_errors():
    assert issubclass(PreconditionerError, ValueError)


@pytest.mark.parametrize("name", ["coarse-learned", "hmatrix", "neural-spai"])
def test_the_weights_come_with_the_program(name):
    assert name in available_preconditioners()
    for path in MODELS.glob(registry._ENTRIES[name].model):
        card = read_card(path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"]


def test_missing_weights_are_named_with_their_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "MODELS", tmp_path)
    assert "coarse-learned" not in available_preconditioners()
    remedy = "htp-fluid train assets/models/coarse-learned.yaml --out assets/models/coarse-learned"
    assert remedy in registered_preconditioners()["coarse-learned"]
