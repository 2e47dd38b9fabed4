"""How loops are compiled for the CPU, and whether they can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import numba
except ImportError:  # a bare CUDA machine: torch takes over
    numba = None

_kept: list[Any] = []  # the functions whose code is kept on disk
used = numba is not None  # tests of what runs in the compiled loops' place say no
being_compiled: set[str] = set()  # names of preconditioners whose first call would wait for the compiler
# What the compiler may do with sums and products; not to take for granted that everything is finite.
REARRANGE = {"reassoc", "contract", "arcp", "nsz"}


def available() -> bool:
    """Whether the CPU's loops are compiled."""
    return used


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` on numpy arrays as machine code, made at its first call, kept on disk where there is a
    folder for it, without the interpreter's lock. Without numba it stays as it is, for `available` says so.

    What is kept is looked up by the function's own file: a constant that it reads must stand there, or others
    go on with the old value after a change.
    """
    if numba is None:
        return function
    options = {"fastmath": REARRANGE, "nogil": True, "error_model": "numpy"}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that can be written to
        return numba.njit(**options)(function)
    _kept.append(made)
    return made


def compiled_anew() -> bool:
    """Whether this process has compiled something that now lies on the disk."""
    return any(made.stats.cache_misses for made in _kept)
