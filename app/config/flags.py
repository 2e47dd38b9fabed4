"""Flags of the command line, made from the fields of a settings model: their names, values and help."""

from __future__ import annotations

import argparse
import typing
from typing import Any

from precond.config import Settings, bare, bounds, plain


def flag(name: str) -> str:
    """The flag of setting ``name``."""
    return "--" + ("precond" if name == "preconditioner" else name.replace("_", "-"))


def name_of(key: str) -> str:
    """The setting that ``key`` means, a name in a file spelled like the setting or like its flag."""
    name = key.replace("-", "_")
    return "preconditioner" if name == "precond" else name


def add_flags(parser: argparse.ArgumentParser, model: type[Settings]) -> None:
    """--settings, and a flag for every field of ``model``, for a parser that keeps only what is given:
    switches as bool, several values as a list, all else as the text that ``model`` is to read.
    """
    parser.add_argument("--settings", metavar="FILE", help="YAML file with any of these options")
    defaults = model().model_dump()
    for name, whole_field in model.model_fields.items():
        field, extra = bare(whole_field), whole_field.json_schema_extra or {}
        several = typing.get_args(field.annotation)[1:] == (...,)
        if several:
            field = bare(typing.get_args(field.annotation)[0])
        how: dict[str, Any] = {"metavar": extra.get("metavar") or _metavar(field.annotation)}
        if several:
            how["nargs"] = "+"
        if field.annotation is bool:
            how = {"action": argparse.BooleanOptionalAction}
        facts = ", ".join(filter(None, (extra.get("unit"), bounds(field), _default(defaults[name]))))
        text = f"{whole_field.description} ({facts})" if facts else whole_field.description
        parser.add_argument(flag(name), dest=name, help=text.replace("%", "%%"), **how)


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal and len(typing.get_args(kind)) == 2:
        return "|".join(typing.get_args(kind))
    return {int: "N", float: "NUMBER"}.get(kind, "NAME")


def _default(value: Any) -> str:
    if value in (None, (), ""):
        return ""
    if isinstance(value, bool):
        value = "on" if value else "off"
    values = value if isinstance(value, list | tuple) else [value]
    return "default: " + " ".join(plain(one) if isinstance(one, int | float) else str(one) for one in values)
