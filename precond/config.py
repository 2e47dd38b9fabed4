"""Settings that people write: YAML files as plain values, and values checked by pydantic. Every complaint is
one line that names the file or section, the field and what is allowed.

Numbers are read alike wherever they stand: 1e-5 is a number in YAML too (YAML 1.1 takes it for a text), and a
text like "1e-5" from the command line is one. True and False are no numbers.

A field says everything about itself once: its default, its range, its description, and in json_schema_extra
its "unit".
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictBool, StringConstraints, ValidationError
from pydantic import create_model as _create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from precond.errors import UsageError, in_one_line

Model = TypeVar("Model")


class _Loader(yaml.SafeLoader):
    """Plain values alone; a name given twice, of which YAML would keep the second, is an error."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({text for tag, text in names if names.count((tag, text)) > 1 and text != "<<"})
        if twice:
            problem = f"{', '.join(twice)}: given twice"
            raise yaml.composer.ComposerError(problem=problem, problem_mark=node.start_mark)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: str | Path) -> Any:
    """Plain values from the YAML file ``path``. Raises UsageError that begins with ``path``."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        reason = f"is not YAML: line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
        reason = reason.replace("'<stream end>'", "the end of the file")
    except yaml.YAMLError as error:
        reason = f"is not YAML: {in_one_line(error)}".replace(' in "<unicode string>",', "")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        reason = "cannot be read: it is not a text file"
    except (ValueError, RecursionError) as error:  # impossible dates, endless digits, endless nesting
        reason = f"cannot be read: {in_one_line(error)}"
    raise UsageError(f"{path}: {reason}")


_NOT_A_NUMBER = PydanticCustomError("not_a_number", "is not a number")  # explained() adds the field's range
_NOT_FINITE = PydanticCustomError("not_finite", "is not a finite number")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _NOT_A_NUMBER
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise _NOT_A_NUMBER from None
    if not math.isfinite(number):
        raise _NOT_FINITE
    return number


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _NOT_A_NUMBER
    try:
        return int(value)
    except ValueError:
        raise _NOT_A_NUMBER from None


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Switch = StrictBool
Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1)]


class Settings(BaseModel):
    """Base of all settings: unknown names are refused, and so is what does not fit, with UsageError."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UsageError(explained(error, type(self))) from None

    __init__.__pydantic_base_init__ = True  # pydantic need not call it: it reads as BaseModel's own does

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise UsageError(explained(error, type(self))) from None

    def with_(self: Model, **changes: Any) -> Model:
        """A copy with ``changes``. Raises UsageError for those that do not fit."""
        return type(self)(**{**dict(self), **changes})

    @classmethod
    def names(cls) -> list[str]:
        """Names of all settings, in order."""
        return list(cls.model_fields)


def validated(
    kind: type[Model], values: Any, where: str = "", spelled: Mapping[str, str] | None = None
) -> Model:
    """An instance of ``kind``, a pydantic model or a plain dataclass, from ``values``, a mapping.

    Raises UsageError "``where``: field: what is wrong" for the first thing that is wrong; ``spelled`` says
    how a field is to be called where not by its name.
    """
    head = f"{where}: " if where else ""
    if not isinstance(values, dict):
        raise UsageError(f"{head}{values!r} is not a mapping of {', '.join(names_in_file(kind))}")
    model = kind if issubclass(kind, BaseModel) else _twin(kind)
    try:
        checked = model.model_validate(values)
        if model is kind:
            return checked
        return kind(**{name: getattr(checked, name) for name in checked.model_fields_set})
    except ValidationError as error:
        raise UsageError(f"{head}{explained(error, model, spelled)}") from None
    except (TypeError, ValueError) as error:  # a dataclass checks what depends on one another itself
        raise UsageError(f"{head}{in_one_line(error)}") from None


@cache
def _twin(kind: type) -> type[BaseModel]:
    """A strict pydantic model with the fields of the dataclass ``kind``."""
    hints = typing.get_type_hints(kind, include_extras=True)
    plain = {int: Whole, float: Number, bool: Switch}
    fields = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        default = field.default if field.default is not dataclasses.MISSING else ...
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if dataclasses.is_dataclass(hint):
            hint = Annotated[hint, BeforeValidator(_nested(hint))]
        fields[field.name] = (plain.get(hint, hint), default)
    return _create_model(kind.__name__, __config__=ConfigDict(extra="forbid", strict=True), **fields)


def _nested(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        return value if isinstance(value, kind) else validated(kind, value)

    return read


def names_in_file(kind: type) -> list[str]:
    """How the fields of ``kind`` are called in a file."""
    if issubclass(kind, BaseModel):
        return [field.alias or name for name, field in kind.model_fields.items()]
    return [field.name for field in dataclasses.fields(kind)]


def explained(
    error: ValidationError, model: type[BaseModel], spelled: Mapping[str, str] | None = None
) -> str:
    """The first complaint of ``error`` as "field: what is wrong, what is allowed"; ``spelled`` as above."""
    first = error.errors(include_url=False)[0]
    kind, value = first["type"], first["input"]
    words, owner, hint = _followed(model, first["loc"])
    if words and spelled:
        words[0] = spelled.get(words[0], words[0])
    head = ": ".join(words)
    if kind in ("extra_forbidden", "invalid_key", "no_such_attribute"):
        return f"{head}: unknown; allowed: {', '.join(names_in_file(owner)) if owner else '-'}"
    if kind == "missing":
        return f"{head}: missing"
    reason = f"is not {allowed(hint)}"
    if kind == "value_error":
        reason = str(first["ctx"]["error"])
        if not reason.startswith("is "):
            return f"{head}: {reason}" if head else reason
    elif kind == "not_finite" and not bounds(hint):
        reason = "is not a finite number"
    return f"{head}: {value!r} {reason}"


def _followed(model: type[BaseModel], place: tuple) -> tuple[list[str], type[BaseModel] | None, Any]:
    """``place`` of an error in ``model`` in words, the model that its last name belongs to, and the type
    there; None where unknown.
    """
    words: list[str] = []
    hint, owner = model, None
    for part in place:
        words.append(f"number {part + 1}" if isinstance(part, int) and hint is not model else str(part))
        hint, _ = split_hint(hint)
        owner = hint if _is_model(hint) else None
        if owner:
            hint = dict(zip(names_in_file(owner), owner.model_fields.values(), strict=True)).get(part)
        else:  # a list or a tuple, or a mapping's value
            hint = next((kind for kind in reversed(typing.get_args(hint)) if kind is not ...), None)
    return words, owner, hint


def split_hint(hint: Any) -> tuple[Any, list[Any]]:
    """A type, or a model's field, without Annotated and "or None"; and what was annotated."""
    metadata: list[Any] = []
    while True:
        others = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        if isinstance(hint, FieldInfo):
            metadata += hint.metadata
            hint = hint.annotation
        elif typing.get_origin(hint) is Annotated:
            metadata += [part for more in hint.__metadata__ for part in getattr(more, "metadata", [more])]
            hint = others[0]
        elif typing.get_origin(hint) in (typing.Union, types.UnionType) and len(others) == 1:
            hint = others[0]
        else:
            return hint, metadata


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def allowed(hint: Any) -> str:
    """What a type, or a model's field, takes, in words: "a whole number from 1 to 5", "one of a, b"."""
    bare, _ = split_hint(hint)
    origin = typing.get_origin(bare) or bare
    if origin in (int, float):
        return " ".join(filter(None, ("a whole number" if bare is int else "a number", bounds(hint))))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(bare)))}"
    if _is_model(bare):
        return f"a mapping of {', '.join(names_in_file(bare))}"
    words = {bool: "true or false", str: "a text", list: "a list", tuple: "a list", dict: "a mapping"}
    return words.get(origin, "of the kind that is wanted here")


def bounds(hint: Any) -> str:
    """The range of numbers of a type, or of a model's field, in words; empty for all numbers."""
    limits: dict[str, float] = {}
    for part in split_hint(hint)[1]:
        limits |= {name: getattr(part, name) for name in ("ge", "gt", "le", "lt") if hasattr(part, name)}
    sides = (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
    return " ".join(f"{word} {plain(limits[name])}" for name, word in sides if name in limits)


def plain(number: float) -> str:
    """``number`` as people write it: 0.5, 1e-5, 1000000."""
    return str(number) if isinstance(number, int) else re.sub(r"e\+?(-?)0*", r"e\1", f"{number:g}")
