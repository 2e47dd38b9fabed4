"""Measured results read back: the JSON files of `bench` and `spectra` as one kind of object each.

A benchmark file of the first form says family, contrast and tolerance once in its settings; of the second
form every row says them, with what more was varied or measured. Both become `Solve` groups here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.bench.row import COMPUTING, SETTING, STOPPED, check_row
from app.bench.settings import WELL_POSED
from app.report.kinds import check_kinds
from precond.errors import UsageError

_SPECTRUM = {
    "preconditioner": str,
    "outcome": str,
    "condition_number": int | float | None,
    "log_kaporin": int | float | None,
    "iterations": int | None,
    "negative": int | None,
    "eigenvalues": list | None,
    "history": list | None,
}
_DAMAGE = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


class ResultsError(UsageError):
    """A results file that cannot be used; the message names it, says why and what to do."""


@dataclass(frozen=True)
class Session:
    """Where and when a part of a file was measured, in words."""

    date: str
    machine: str
    commit: str

    @classmethod
    def of(cls, header: dict[str, Any], versions: dict[str, str] | None = None) -> Session:
        """From a header or a session of one; ``versions`` where the session has none of its own. Raises
        KeyError or TypeError for one that lacks something.
        """
        hardware, versions = header["hardware"], header.get("versions") or versions
        threads = hardware.get("torch_threads")
        parts = [
            hardware["gpu"] or "no GPU",
            f"{hardware['cpu']}, {hardware['cores']} cores",
            *([f"{threads} torch thread{'s' * (threads != 1)}"] if threads else []),
            *([f"{hardware['memory_gib']:g} GiB"] if hardware.get("memory_gib") else []),
            f"torch {versions['torch']}",
        ]
        commit, _, changes = (header.get("commit") or "unknown").partition("+")
        date = header.get("started") or header["date"]
        if not isinstance(date, str):
            raise TypeError("its date is no text")
        return cls(date[:10], "; ".join(parts), commit[:10] + ("+" + changes if changes else ""))


@dataclass(frozen=True)
class Solves:
    """All frames of one method, a preconditioner or a peer, under one setting.

    setting: by the names of SETTING. rows: as in the file, completed.
    """

    name: str
    setting: dict[str, Any]
    rows: tuple[dict[str, Any], ...]

    @property
    def frames(self) -> int:
        """How many solves."""
        return len(self.rows)

    @property
    def failed(self) -> int:
        """How many of them neither converged nor were left early."""
        return sum(row["outcome"] not in STOPPED for row in self.rows)

    def failures(self) -> dict[str, int]:
        """How many solves failed, by the reason."""
        outcomes = [row["outcome"].removeprefix("failed: ") for row in self.rows]
        return {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes) - {*STOPPED})}

    @property
    def note(self) -> str:
        """What a reader of the numbers must know, or empty."""
        return next((row["note"] for row in self.rows if row.get("note")), "")

    def iterations(self) -> tuple[float, float] | None:
        """Mean and standard deviation over the frames that did not fail; None without one."""
        counts = [row["iterations"] for row in self.rows if row["outcome"] in STOPPED]
        if not counts:
            return None
        return float(np.mean(counts)), float(np.std(counts, ddof=1)) if len(counts) > 1 else 0.0

    def computing(self, name: str) -> list[Any]:
        """Every value that its rows have of ``name``, one of COMPUTING."""
        return sorted({row[name] for row in self.rows if row[name] is not None})

    def measure(self, name: str) -> tuple[float, float] | None:
        """Median and 95th percentile of one of MEASURES over all frames that have it; None without one."""
        values = [row[name] for row in self.rows if row.get(name) is not None]
        return (float(np.median(values)), float(np.percentile(values, 95))) if values else None


@dataclass(frozen=True)
class Bench:
    """One file of `bench`: ``name`` is that of the file without bench- and its ending."""

    name: str
    file: str
    command: str
    ended: str
    skipped: dict[str, str]
    sessions: tuple[Session, ...]
    solves: tuple[Solves, ...]


@dataclass(frozen=True)
class Spectra:
    """One file of `spectra`: its cases as in the file."""

    name: str
    file: str
    command: str
    rtol: float
    sessions: tuple[Session, ...]
    cases: tuple[dict[str, Any], ...]


def exponent(sizes: list[float], values: list[float]) -> float | None:
    """p of the power law ``values`` ~ ``sizes``^p, by least squares of the logarithms; None below three."""
    if len(sizes) < 3 or min(values) <= 0.0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def read_bench(path: Path) -> Bench:
    """Raises ResultsError for a file that is not one of `bench`, of either form, or is damaged."""
    return _read(path, "bench", _bench)


def read_spectra(path: Path) -> Spectra:
    """Raises ResultsError for a file that is not one of `spectra` or is damaged."""
    return _read(path, "spectra", _spectra)


def _read(path: Path, command: str, make: Callable[[Path, Any], Any]) -> Any:
    try:
        return make(path, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from error
    except _DAMAGE as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ResultsError(
            f"{path}: holds no results of {command}, or is damaged: {reason}; measure anew or move it away"
        ) from error


def _head(path: Path, content: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError("it is no mapping")
    if not isinstance(content["command"], str):
        raise ValueError("command is no text")
    sessions, versions = content.get("sessions") or [content], content["versions"]
    return {
        "name": path.stem.removeprefix(prefix),
        "file": path.name,
        "command": content["command"],
        "sessions": tuple(dict.fromkeys(Session.of(session, versions) for session in sessions)),
    }


def _bench(path: Path, content: Any) -> Bench:
    head = _head(path, content, "bench-")
    settings = content["settings"]
    common = {
        "family": settings.get("family"),
        "split": "test",
        "conditions": WELL_POSED,
        "contrast": settings.get("contrast"),
        "rtol": settings.get("rtol"),
        **dict.fromkeys(("rule", *COMPUTING)),
    }
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for number, row in enumerate(content["rows"]):
        row = {**common, **row}
        check_row(row, number)
        if row["cells"] < 1:
            raise ValueError(f"row {number}: has {row['cells']} cells")
        groups.setdefault(tuple(row[name] for name in ("preconditioner", *SETTING)), []).append(row)
    if not groups:
        raise ValueError("it has no rows")
    solves = (
        Solves(key[0], dict(zip(SETTING, key[1:], strict=True)), tuple(rows)) for key, rows in groups.items()
    )
    return Bench(**head, ended=str(content["ended"]), skipped=dict(content["skipped"]), solves=tuple(solves))


def _spectra(path: Path, content: Any) -> Spectra:
    cases = []
    for case in content["cases"]:
        rows = [dict.fromkeys(_SPECTRUM) | row for row in case["rows"]]
        for number, row in enumerate(rows):
            check_kinds(row, _SPECTRUM, f"row {number}: ")
            if not all(map(_finite, row["eigenvalues"] or ())):
                raise ValueError(f"row {number}: eigenvalues are not all numbers")
            if not all(value is None or _finite(value) for value in row["history"] or ()):
                raise ValueError(f"row {number}: the history holds more than numbers")
        if not rows or not isinstance(case["family"], str) or not isinstance(case["frame"], int):
            raise ValueError("a case lacks its rows, family or frame")
        check_kinds(case, {"contrast": int | float | None, "cells": int}, f"case {len(cases)}: ")
        cases.append({**case, "rows": rows})
    head = _head(path, content, "spectra-")
    rtol = content["settings"]["rtol"]
    if not _finite(rtol) or not 0.0 < rtol < 1.0:
        raise ValueError(f"rtol is {rtol!r}")
    return Spectra(**head, rtol=rtol, cases=tuple(cases))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
