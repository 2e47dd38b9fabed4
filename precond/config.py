"""Settings that people write: YAML files as plain values, and values checked by pydantic. Every complaint is
one line that names the file or section, the field and what is allowed.

Numbers are read alike wherever they stand: 1e-5 is a number in YAML too (YAML 1.1 takes it for a text), and a
text like "1e-5" from the command line is one. True and False are no numbers.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictBool, StringConstraints, ValidationError
from pydantic import create_model as _create_model

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
    except yaml.YAMLError as error:
        reason = f"is not YAML: {in_one_line(error)}".replace('in "<unicode string>", ', "")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        reason = "cannot be read: it is not a text file"
    except (ValueError, RecursionError) as error:  # impossible dates, endless digits, endless nesting
        reason = f"cannot be read: {in_one_line(error)}"
    raise UsageError(f"{path}: {reason}")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError("is not a number") from None
    if not math.isfinite(number):
        raise ValueError("is not a finite number")
    return number


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("is not a whole number")
    try:
        return int(value)
    except ValueError:
        raise ValueError("is not a whole number") from None


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Switch = StrictBool
Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1)]


class Settings(BaseModel):
    """Base of all settings: unknown names are refused, and so is assigning what does not fit."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


def validated(kind: type[Model], values: Any, where: str) -> Model:
    """An instance of ``kind``, a pydantic model or a plain dataclass, from ``values``, a mapping.

    Raises UsageError "``where``: field: what is wrong" for the first thing that is wrong.
    """
    head = f"{where}: " if where else ""
    if not isinstance(values, dict):
        raise UsageError(f"{head}{values!r} is not a mapping of {', '.join(_names(kind))}")
    model = kind if issubclass(kind, BaseModel) else _twin(kind)
    try:
        checked = model.model_validate(values)
        if model is kind:
            return checked
        return kind(**{name: getattr(checked, name) for name in checked.model_fields_set})
    except ValidationError as error:
        raise UsageError(f"{head}{explained(error, model)}") from None
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


def _nested(kind: type) -> typing.Callable[[Any], Any]:
    def read(value: Any) -> Any:
        return value if isinstance(value, kind) else validated(kind, value, "")

    return read


def _names(kind: type) -> list[str]:
    return (
        list(kind.model_fields) if issubclass(kind, BaseModel) else [f.name for f in dataclasses.fields(kind)]
    )


def explained(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of ``error`` as "field: what is wrong, what is allowed"."""
    first = error.errors(include_url=False)[0]
    place, kind, value, context = first["loc"], first["type"], first["input"], first.get("ctx", {})
    owner, field = _owner(model, place)
    path = ": ".join(str(part) for part in place)
    if kind == "extra_forbidden":
        return f"{path}: unknown; allowed: {', '.join(owner.model_fields) if owner else '-'}"
    if kind == "missing":
        return f"{path}: missing"
    choices = context.get("expected", "").replace(" or ", ", ").replace("'", "")
    reason = {
        "bool_type": "is not true or false",
        "string_type": "is not a text",
        "string_too_short": "is not a text",
        "literal_error": f"is not one of {choices}",
    }.get(kind)
    if kind == "value_error":
        reason = str(context["error"])
        if not reason.startswith("is "):
            return f"{path}: {reason}" if path else reason
    elif kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        reason = f"is not {_range(field)}"
    elif kind in ("model_type", "dict_type"):
        reason = (
            f"is not a mapping of {', '.join(field.annotation.model_fields)}" if field else "is not a mapping"
        )
    return f"{path}: {value!r} {reason or first['msg']}"


def _owner(model: type[BaseModel] | None, place: tuple) -> tuple[type[BaseModel] | None, Any]:
    """The model that the last name of ``place`` belongs to, and its field there; None where unknown."""
    field = None
    for depth, name in enumerate(place):
        field = model.model_fields.get(name) if model is not None else None
        if depth < len(place) - 1:
            inner = getattr(field, "annotation", None)
            model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    return model, field


def _range(field: Any) -> str:
    """The range of ``field`` in words."""
    bounds = {}
    for part in getattr(field, "metadata", ()):
        for name in ("ge", "gt", "le", "lt"):
            if getattr(part, name, None) is not None:
                bounds[name] = getattr(part, name)
    whole = "a whole number" if getattr(field, "annotation", None) is int else "a number"
    low = f"from {bounds['ge']:g}" if "ge" in bounds else f"above {bounds['gt']:g}" if "gt" in bounds else ""
    high = f"to {bounds['le']:g}" if "le" in bounds else f"below {bounds['lt']:g}" if "lt" in bounds else ""
    return " ".join(filter(None, (whole, low, high)))
