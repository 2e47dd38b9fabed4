"""Settings that people write: read alike everywhere, and every complaint says where and what is allowed."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import Field

from precond.config import Number, Settings, Switch, Whole, read_yaml, validated
from precond.errors import UsageError

MERGED = """
base: &a {x: 1}
deep: {inner: &b {<<: *a, x: 2}}
c: {<<: *b, y: 1}
"""


def read(tmp_path, text):
    path = tmp_path / "some.yaml"
    path.write_text(text)
    return read_yaml(path)


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "a: 1\nb: [1, {c: 1, c: 2}]", "a: {b: {x: 1, y: 2, x: 1}}"])
def test_a_name_given_twice_is_an_error(tmp_path, text):
    with pytest.raises(UsageError, match="given twice"):
        read(tmp_path, text)


def test_a_merged_mapping_may_be_changed(tmp_path):
    assert read(tmp_path, MERGED) == yaml.safe_load(MERGED)
    assert read(tmp_path, "{1: a, '1': b}") == {1: "a", "1": "b"}


@dataclass
class Inner:
    width: int = 8

    def __post_init__(self):
        if self.width % 2:
            raise ValueError(f"width {self.width} must be even")


@dataclass
class Outer:
    size: int = 1
    rate: float = 0.5
    fast: bool = False
    inner: Inner = field(default_factory=Inner)


class Model(Settings):
    count: Whole = Field(3, ge=1, le=5)
    rate: Number = Field(1.0, gt=0, le=10)
    kind: Literal["x", "y"] = "x"
    on: Switch = False


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Model, {"count": 9}, "f: count: 9 is not a whole number from 1 to 5"),
        (Model, {"count": True}, "f: count: True is not a whole number from 1 to 5"),
        (Model, {"rate": "much"}, "f: rate: 'much' is not a number above 0 to 10"),
        (Model, {"rate": float("nan")}, "f: rate: nan is not a number above 0 to 10"),
        (Model, {"rate": 0}, "f: rate: 0.0 is not a number above 0 to 10"),
        (Model, {"kind": "z"}, "f: kind: 'z' is not one of x, y"),
        (Model, {"on": 1}, "f: on: 1 is not true or false"),
        (Model, {"none": 1}, "f: none: unknown; allowed: count, rate, kind, on"),
        (Outer, [1], "f: [1] is not a mapping of size, rate, fast, inner"),
        (Outer, {"size": 2.5}, "f: size: 2.5 is not a whole number"),
        (Outer, {"inner": {"width": "a"}}, "f: inner: width: 'a' is not a whole number"),
        (Outer, {"inner": {"width": 3}}, "f: inner: width 3 must be even"),
        (Outer, {"inner": {"breadth": 3}}, "f: inner: breadth: unknown; allowed: width"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_what_is_allowed(kind, values, message):
    with pytest.raises(UsageError) as caught:
        validated(kind, values, "f")
    assert str(caught.value) == message


class Outside(Settings):
    models: list[Model] = Field([])
    rates: tuple[Annotated[Number, Field(ge=1)], ...] = Field((1.0,), min_length=1)
    limit: Annotated[Whole, Field(ge=1)] | None = None
    low: Switch = Field(True, alias="from")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"models": [{}, {"count": 0}]}, "models: number 2: count: 0 is not a whole number from 1 to 5"),
        ({"models": [3]}, "models: 3 is not a mapping of count, rate, kind, on"),
        ({"models": 3}, "models: 3 is not a list"),
        ({"models": [{"a": 1}]}, "models: number 1: a: unknown; allowed: count, rate, kind, on"),
        ({"rates": [2, "0.5"]}, "rates: '0.5' is not a number from 1"),
        ({"rates": []}, "rates: [] is an empty list"),
        ({"limit": 0}, "limit: 0 is not a whole number from 1"),
        ({"from": 1}, "from: 1 is not true or false"),
        ({"low": True}, "low: unknown; allowed: models, rates, limit, from"),
    ],
)
def test_what_is_wrong_is_said_of_lists_of_what_may_be_missing_and_of_other_names(values, message):
    with pytest.raises(UsageError) as caught:
        validated(Outside, values)
    assert str(caught.value) == message
    with pytest.raises(UsageError) as caught:
        Outside(**values)
    assert str(caught.value) == message


def test_a_setting_that_is_assigned_or_replaced_is_checked():
    model = Model()
    model.count = "5"
    assert model == model.with_(rate=1.0) == Model(count=5)
    assert model.with_(count=2).count == 2
    for change in (lambda: setattr(model, "count", 6), lambda: model.with_(count=6)):
        with pytest.raises(UsageError, match="count: 6 is not a whole number from 1 to 5"):
            change()
    with pytest.raises(UsageError, match="counts: unknown; allowed: count"):
        model.counts = 3
    assert model.count == 5


def test_a_field_can_be_called_as_it_was_written():
    with pytest.raises(UsageError, match=r"^--count: 9 is not"):
        validated(Model, {"count": 9}, spelled={"count": "--count"})


def test_numbers_are_read_alike_in_files_and_from_flags(tmp_path):
    values = read(tmp_path, "{rate: 1e-5, count: 4}")
    assert validated(Model, values, "f") == validated(Model, {"rate": "1e-5", "count": "4"}, "f")
    assert validated(Outer, {"inner": {"width": 4}, "rate": 1}, "f") == Outer(rate=1.0, inner=Inner(4))


def test_where_a_file_is_wrong_is_said_without_yaml_s_own_names(tmp_path):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, "a: [1, 2")
    assert str(tmp_path / "some.yaml") in str(caught.value)
    assert "unicode string" not in str(caught.value)
