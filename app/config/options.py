"""One option of a command, and how values from a flag or a YAML file are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sim.settings import SettingsError


def text(value: Any) -> str:
    """``value`` as a text that is not empty. Like all here, raises SettingsError otherwise."""
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{value!r} is not a text")
    return value


def switch(value: Any) -> bool:
    """``value`` as a truth value."""
    if not isinstance(value, bool):
        raise SettingsError(f"{value!r} is not true or false")
    return value


def number(value: Any) -> float:
    """``value`` as a number."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)  # YAML 1.1 reads 1e-8 as a text
    except (TypeError, ValueError, OverflowError):
        raise SettingsError(f"{value!r} is not a number") from None


def whole(value: Any, low: int = -(2**62), high: int = 2**62) -> int:
    """``value`` as a whole number from ``low`` to ``high``."""
    try:
        if isinstance(value, bool | float):
            raise TypeError
        count = int(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{value!r} is not a whole number") from None
    if not low <= count <= high:
        raise SettingsError(f"{count} is not a whole number from {low} to {high}")
    return count


def frames(value: Any) -> int:
    """``value`` as a count of frames."""
    return whole(value, 1, 10**9)


def one_of(names: tuple[str, ...]) -> Callable[[Any], str]:
    """A reader of one of ``names``."""

    def read(value: Any) -> str:
        if value not in names:
            raise SettingsError(f"{value!r} is not one of {', '.join(names)}")
        return value

    return read


@dataclass(frozen=True)
class Option:
    """One option: its name in a settings file, how its value is read, and what `--help` says of it."""

    name: str
    read: Callable[[Any], Any]
    metavar: str
    help: str
    several: bool = False  # a list of values

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + ("precond" if self.name == "preconditioner" else self.name.replace("_", "-"))

    def convert(self, value: Any) -> Any:
        """``value`` from YAML or the command line as the setting's type; SettingsError when it is not one."""
        if not self.several:
            return self.read(value)
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            raise SettingsError("the list is empty")
        return tuple(dict.fromkeys(self.read(item) for item in values))
