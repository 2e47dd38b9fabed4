"""Checks of plain values from a settings file: every complaint names the section and what is wrong."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import Any

from precond.learned.network import TrunkConfig

KINDS = {  # of a setting, by the type of its default
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number (write 1.0e-3, not 1e-3)", (int, float)),
    str: ("a text", (str,)),
}
MAY_BE_ZERO = (
    "seed",
    "weight_decay",
    "layers",
    "graph_convolutions",
    "balanced_from",
    "raw_weight",
    "simulator_frames",
)


def typed(config: type, values: Any, where: str) -> dict[str, Any]:
    """``values`` when they are settings of the dataclass ``config``, each of its default's type."""
    values = mapping(values, where, names(config))
    defaults = {field.name: field.default for field in fields(config)}
    for name, value in values.items():
        check(name, value, type(defaults[name]), where)
    return values


def built(sections: dict[str, Any], model: type, training: type, where: str = "") -> tuple[Any, Any]:
    """The dataclasses ``model``, which has a trunk, and ``training`` of the sections called so, checked."""
    own = mapping(sections["model"], f"{where}model", names(model))
    trunk = typed(TrunkConfig, own.get("trunk", {}), f"{where}model: trunk")
    rest = typed(model, {name: value for name, value in own.items() if name != "trunk"}, f"{where}model")
    how = typed(training, sections["training"], f"{where}training")
    try:
        return model.of({**rest, "trunk": trunk}), training(**how)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error


def completed(model: type, training: type, sections: dict[str, Any], where: str) -> dict[str, Any]:
    """Both sections with every setting that they leave out, as plain values, checked; without the seed."""
    built_model, built_training = built(sections, model, training, where)
    plain = {"model": built_model.plain(), "training": asdict(built_training)}
    del plain["training"]["seed"]
    return plain


def check(name: str, value: Any, kind: type, where: str) -> None:
    """Raise ValueError unless the setting ``value`` is of ``kind``, and positive when it is a number."""
    words, kinds = KINDS[kind]
    if type(value) not in kinds:
        raise ValueError(f"{where}: {name}: {value!r} is not {words}")
    if type(value) in (int, float) and not (0 < value < math.inf or (value == 0 and name in MAY_BE_ZERO)):
        raise ValueError(f"{where}: {name}: {value!r} is too small or not finite")


def names(config: type) -> tuple[str, ...]:
    """The settings of the dataclass ``config``."""
    return tuple(field.name for field in fields(config))


def mapping(value: Any, where: str, allowed: tuple[str, ...] | None = None) -> dict[str, Any]:
    """``value`` when it is a mapping with ``allowed`` names only. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {value!r} is not a mapping of settings")
    unknown = [str(name) for name in value if allowed is not None and name not in allowed]
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)}: unknown; allowed: {', '.join(allowed)}")
    return value


def merged(base: dict[str, Any], own: Any, where: str) -> dict[str, Any]:
    """``base`` with ``own`` on top, mappings inside merged likewise."""
    both = dict(base)
    for name, value in mapping(own, where).items():
        inner = isinstance(both.get(name), dict)
        both[name] = merged(both[name], value, f"{where}: {name}") if inner else value
    return both
