"""Settings that people write: YAML files as plain values, and values checked by pydantic. Every complaint is
one line that names the file or section, the field and what is allowed.

Numbers are read alike wherever they stand: 1e-5 is a number in YAML too (YAML 1.1 takes it for a text), and a
text like "1e-5" from the command line is one. True and False are no numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    create_model,
)
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


def _number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise PydanticCustomError("not_a_number", "is not a number")  # _explained says which are wanted
    return number


def _whole(value: Any) -> int:
    if isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return int(value)
    raise PydanticCustomError("not_a_number", "is not a whole number")


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Switch = StrictBool
Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1)]


def setting(default: Any, description: str, *, unit: str = "", metavar: str = "", **limits: float) -> Any:
    """A field that says everything about itself: ``limits`` are pydantic's ge, gt, le and lt; ``metavar`` is
    what --help calls its value.
    """
    shown = {"unit": unit, "metavar": metavar}
    return Field(default, description=description, json_schema_extra=shown, **limits)


class Settings(BaseModel):
    """Base of all settings: unknown names are refused, and so is what does not fit, with UsageError."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UsageError(_explained(error, type(self))) from None

    __init__.__pydantic_base_init__ = True  # reads like BaseModel's own: pydantic need not call it

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise UsageError(_explained(error, type(self))) from None

    def with_(self: Model, **changes: Any) -> Model:
        """A copy with ``changes``. Raises UsageError for those that do not fit."""
        return type(self)(**{**dict(self), **changes})

    @classmethod
    def names(cls) -> list[str]:
        """Names of all settings as a file spells them, in order."""
        return [field.alias or name for name, field in cls.model_fields.items()]


def validated(
    kind: type[Model], values: Any, where: str = "", spelled: Mapping[str, str] | None = None
) -> Model:
    """An instance of ``kind``, Settings or a plain dataclass, from ``values``, a mapping.

    Raises UsageError "``where``: field: what is wrong" for the first thing that is wrong; ``spelled`` says
    how a field is to be called where not by its name.
    """
    head = f"{where}: " if where else ""
    model = kind if issubclass(kind, Settings) else _twin(kind)
    if not isinstance(values, dict):
        raise UsageError(f"{head}{values!r} is not a mapping of {', '.join(model.names())}")
    try:
        checked = model.model_validate(values)
        if model is kind:
            return checked
        return kind(**{name: getattr(checked, name) for name in checked.model_fields_set})
    except ValidationError as error:
        raise UsageError(f"{head}{_explained(error, model, spelled)}") from None
    except (TypeError, ValueError) as error:  # a dataclass checks what depends on one another itself
        raise UsageError(f"{head}{in_one_line(error)}") from None


@cache
def _twin(kind: type) -> type[Settings]:
    """Settings with the fields of the dataclass ``kind``, without their defaults."""
    hints = typing.get_type_hints(kind, include_extras=True)
    read_as = {int: Whole, float: Number, bool: Switch}
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        hint = read_as.get(hints[field.name], hints[field.name])
        if dataclasses.is_dataclass(hint):
            hint = Annotated[hint, BeforeValidator(partial(_nested, hint))]
        required = field.default is field.default_factory  # both are MISSING
        fields[field.name] = (hint, ... if required else None)
    return create_model(kind.__name__, __base__=Settings, **fields)


def _nested(kind: type, value: Any) -> Any:
    return value if isinstance(value, kind) else validated(kind, value)


def _explained(
    error: ValidationError, model: type[Settings], spelled: Mapping[str, str] | None = None
) -> str:
    """The first complaint of ``error`` as "field: what is wrong, what is allowed"; of a field that is missing
    also the unknown one beside it, which may be meant.
    """
    first, *others = error.errors(include_url=False)
    text = _complaint(first, model, spelled)
    beside = [
        one for one in others if one["type"] == "extra_forbidden" and one["loc"][:-1] == first["loc"][:-1]
    ]
    if first["type"] == "missing" and beside:
        text = f"{text}, and {_complaint(beside[0], model, spelled)}"
    return text


def _complaint(first: Mapping[str, Any], model: type[Settings], spelled: Mapping[str, str] | None) -> str:
    kind, place = first["type"], first["loc"]
    owner, field = _followed(model, place)
    if place and isinstance(place[-1], int):  # the value itself tells which one of a list it is
        place = place[:-1]
    words = [f"number {part + 1}" if isinstance(part, int) else str(part) for part in place]
    if spelled and words:
        words[0] = spelled.get(words[0], words[0])
    if kind in ("extra_forbidden", "invalid_key", "no_such_attribute"):
        reason = f"unknown; allowed: {', '.join(owner.names())}" if owner else "unknown"
    elif kind == "missing":
        reason = "missing"
    else:
        wanted = "is an empty list" if kind == "too_short" else f"is not {_wanted(field)}"
        reason = str(first["ctx"]["error"]) if kind == "value_error" else wanted
        if reason.startswith("is "):
            reason = f"{first['input']!r} {reason}"
    return ": ".join([*words, reason])


def _followed(model: type[Settings], place: tuple) -> tuple[type[Settings] | None, FieldInfo | None]:
    """The settings that the last name of ``place`` belongs to, and its field; None where unknown."""
    owner, field = None, bare(model)
    for part in place:
        kind = field.annotation if field else None
        if _is_settings(kind):
            owner, fields = kind, dict(zip(kind.names(), kind.model_fields.values(), strict=True))
            field = bare(fields[part]) if part in fields else None
        else:  # an item of a list, or a value of a mapping
            items = [item for item in typing.get_args(kind) if item is not ...]
            owner, field = None, bare(items[-1]) if items else None
    return owner, field


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def bare(hint: Any) -> FieldInfo:
    """A type, or a model's field, without its "or None"."""
    field = hint if isinstance(hint, FieldInfo) else FieldInfo.from_annotation(hint)
    kinds = [kind for kind in typing.get_args(field.annotation) if kind is not types.NoneType]
    union = typing.get_origin(field.annotation) in (typing.Union, types.UnionType)
    return bare(kinds[0]) if union and len(kinds) == 1 else field


def _wanted(field: FieldInfo | None) -> str:
    """What a field takes: "a whole number from 1 to 5", "one of a, b"."""
    kind = field.annotation if field else None
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    if _is_settings(kind):
        return f"a mapping of {', '.join(kind.names())}"
    words = {bool: "true or false", str: "a text", list: "a list", tuple: "a list", dict: "a mapping"}
    words |= {int: "a whole number", float: "a number" if bounds(field) else "a finite number"}
    return " ".join(filter(None, (words.get(origin, "what is wanted here"), bounds(field))))


def bounds(field: FieldInfo | None) -> str:
    """The limits of a field in words: "from 1 to 5"."""
    limits = {}
    for part in field.metadata if field else ():
        limits |= {word: getattr(part, name) for name, word in _LIMITS.items() if hasattr(part, name)}
    return " ".join(f"{word} {plain(limits[word])}" for word in _LIMITS.values() if word in limits)


_LIMITS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}


def plain(number: float) -> str:
    """``number`` as people write it: 0.5, 1e-5, 1000000."""
    return str(number) if isinstance(number, int) else re.sub(r"e\+?(-?)0*", r"e\1", f"{number:g}")
