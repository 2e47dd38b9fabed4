"""How many bytes an object holds: every storage that its attributes and containers reach, counted once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import scipy.sparse.linalg
import torch

FACTOR_ENTRY = {"float64": 8, "int32": 4}  # bytes of an entry of a factor that a library keeps outside Python


def held_bytes(root: Any, without: Any = None) -> Counter[str]:
    """Bytes by type ("float64", "int64", ...) of the tensors, arrays, sparse matrices and factors that
    ``root`` reaches, less those that ``without`` reaches.

    Factors of SuperLU and ilupp count by their entries, a float64 and a 32-bit row number each.
    """
    taken = _storages(without)
    total: Counter[str] = Counter()
    for place, sizes in _storages(root).items():
        if place not in taken:
            total.update(sizes)
    return total


def _storages(root: Any) -> dict[int, dict[str, int]]:
    """Bytes by type of every storage, by where it lies."""
    found: dict[int, dict[str, int]] = {}
    seen: dict[int, Any] = {}  # keeps what it has seen alive, so that no two things have one id
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | str):
            continue
        seen[id(thing)] = thing
        entries = getattr(thing, "total_nnz", None)  # ilupp's
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = {str(thing.dtype).removeprefix("torch."): storage.nbytes()}
        elif isinstance(thing, np.ndarray):
            while isinstance(thing.base, np.ndarray):
                thing = thing.base
            found[thing.__array_interface__["data"][0]] = {str(thing.dtype): thing.nbytes}
        elif isinstance(thing, scipy.sparse.linalg.SuperLU) or isinstance(entries, int):
            count = thing.nnz if entries is None else entries
            found[id(thing)] = {kind: count * size for kind, size in FACTOR_ENTRY.items()}
        elif isinstance(thing, dict):
            waiting.extend(thing.values())
        elif isinstance(thing, list | tuple | set):
            waiting.extend(thing)
        elif hasattr(thing, "__dict__") and not callable(getattr(thing, "__get__", None)):
            waiting.extend(vars(thing).values())
    return found
