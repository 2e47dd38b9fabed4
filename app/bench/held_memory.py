"""How many bytes a preconditioner holds: every storage that can be reached from it, counted once."""

from __future__ import annotations

import functools
import types
from collections import Counter
from typing import Any

import numpy as np
import scipy.sparse.linalg
import torch

INDEX_BYTES = 4  # of the row number that a factor keeps beside each float64 entry
ENTRY_BYTES = 8
TRACE = 0.05
_LEAVES = (
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    type(None),
    type,
    types.ModuleType,
    torch.dtype,
    torch.device,
)


def held_bytes(thing: Any, without: Any = None) -> Counter[str]:
    """Bytes by type ("float64", "int64", ...) of all tensors, arrays and sparse matrices that ``thing``
    reaches through attributes, containers and closures, less those that ``without`` reaches.

    Tensors and arrays that share a storage count it once and whole. Objects that keep their numbers outside
    Python are counted by their entries, one float64 and one 32-bit row number each: SuperLU's L and U with
    the zeros that its supernodes store, ilupp's L and CHOLMOD's L. Permutations are left out. Indices come
    under their own type. pyamg's hierarchies are sparse matrices, arrays and the pseudo-inverse of the
    coarsest level.
    """
    skipped = _storages(without)
    total: Counter[str] = Counter()
    for key, (kind, size) in _storages(thing).items():
        if key not in skipped:
            total[kind] += size
    return total


def precision(held: Counter[str]) -> str:
    """The floating-point types in ``held``, like "float32" or "float32+float64", those with less than a share
    of TRACE of the bytes left out; "float64", the vectors', when there is none.
    """
    kinds = {kind: size for kind, size in held.items() if kind.startswith(("float", "bfloat"))}
    least = TRACE * sum(kinds.values())
    return "+".join(sorted(kind for kind, size in kinds.items() if size >= least)) or "float64"


def _storages(root: Any) -> dict[Any, tuple[str, int]]:
    """Type and size of every storage that ``root`` reaches, by where it lies."""
    found: dict[Any, tuple[str, int]] = {}
    seen: dict[int, Any] = {}  # keeps what it has seen alive, so that no two things have one id
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, _LEAVES) or id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage()
            if storage.nbytes():
                found[storage.data_ptr()] = (str(thing.dtype).removeprefix("torch."), storage.nbytes())
        elif isinstance(thing, np.ndarray):
            while isinstance(thing.base, np.ndarray):
                thing = thing.base
            if thing.nbytes:
                found[thing.__array_interface__["data"][0]] = (str(thing.dtype), thing.nbytes)
        elif (entries := _entries_outside(thing)) is not None:
            found[id(thing), "values"] = ("float64", entries * ENTRY_BYTES)
            found[id(thing), "indices"] = ("int32", entries * INDEX_BYTES)
        else:
            waiting.extend(_parts(thing))
    return found


def _entries_outside(thing: Any) -> int | None:
    """Entries of a factor that lives outside Python; None for anything else."""
    if isinstance(thing, scipy.sparse.linalg.SuperLU):
        return int(thing.nnz)
    module = type(thing).__module__
    if module.startswith("ilupp") and hasattr(thing, "total_nnz"):
        return int(thing.total_nnz)
    if module.startswith("sksparse"):
        return int(thing.nnz if hasattr(thing, "nnz") else thing.L().nnz)
    return None


def _parts(thing: Any) -> list[Any]:
    """What ``thing`` holds directly."""
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, types.MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, types.FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
        return [*cells, *(thing.__defaults__ or ())]
    parts = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return parts + [getattr(thing, name) for name in names if isinstance(name, str) and hasattr(thing, name)]


def _filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
