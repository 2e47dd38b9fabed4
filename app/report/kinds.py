"""Whether what a file of results holds is of the kinds that its reader wants."""

from __future__ import annotations

from types import UnionType
from typing import Any

LARGEST = 1e300  # of a number: what is not below it is NaN, infinite or no float


def check_kinds(values: dict[str, Any], kinds: dict[str, type | UnionType], where: str = "") -> None:
    """Raise KeyError or ValueError unless ``values`` has every name of ``kinds``, of its kind, and finite.

    True and False are no numbers. ``where`` begins the message.
    """
    for name, kind in kinds.items():
        value = values[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{where}{name} is of a wrong type")
        if isinstance(value, int | float) and not abs(value) < LARGEST:
            raise ValueError(f"{where}{name} is not finite")
