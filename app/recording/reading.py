"""A recording read back from its directory, finished, interrupted or killed."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from precond.config import read_yaml
from precond.errors import UsageError, in_one_line

PARTS = ("sim_ms", "setup_ms", "inference_ms", "solve_ms", "failed_ms")  # of a frame's time
NUMBERS = ("frame", "time_s", "time_step_s", "iterations", *PARTS, "draw_ms", "frame_ms", "fps")
TEXTS = ("preconditioner", "choice", "outcome", "fallback", "failed_method", "failed_reason")
LATER = ("choice", "failed_ms", "failed_method", "failed_reason")  # older recordings go without
ENERGIES = ("kinetic_energy", "potential_energy", "surface_energy")
BUDGET = (*ENERGIES, "divergence")  # NaN where a step failed, and in older recordings


class DamagedError(UsageError):
    """A directory that is not a recording, or a file in it that cannot be read; the message says which."""


@dataclass(frozen=True)
class Recording:
    """``run``: run.yaml. ``numbers`` and ``texts``: the table by column, all of one length. ``events``: the
    lines of events.jsonl, None without that file. ``picture``: final.png, None without.
    """

    run: dict[str, Any]
    numbers: dict[str, np.ndarray]
    texts: dict[str, list[str]]
    events: list[dict[str, Any]] | None
    picture: bytes | None

    @classmethod
    def read(cls, directory: Path) -> Recording:
        """Everything in ``directory``, but for a last line that was cut off. Raises DamagedError."""
        for name in ("run.yaml", "timings.csv"):
            if not (directory / name).is_file():
                raise DamagedError(f"{directory}: is not a recording: it has no {name}")
        events, picture = directory / "events.jsonl", directory / "final.png"
        try:
            return cls(
                _run(directory / "run.yaml"),
                *_table(directory / "timings.csv"),
                _events(events) if events.exists() else None,
                _picture(picture) if picture.exists() else None,
            )
        except OSError as error:
            raise DamagedError(f"{error.filename}: cannot be read: {error.strerror}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """Those it began with, by name."""
        return self.run["settings"]

    @property
    def rows(self) -> int:
        """How many frames it has."""
        return len(self.numbers["frame"])

    @cached_property
    def converged(self) -> np.ndarray:
        """For every frame, whether its solve reached the tolerance."""
        return np.array([outcome == "converged" for outcome in self.texts["outcome"]], dtype=bool)

    @cached_property
    def fallback(self) -> np.ndarray:
        """For every frame, whether another method than the chosen one had to solve."""
        return np.array([text == "True" for text in self.texts["fallback"]], dtype=bool)


def _text(path: Path) -> str:
    """The whole lines of a file; one that was cut off, as by the program's end, is left out."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise DamagedError(f"{path}: is damaged: it is not a text file") from None
    return text[: text.rfind("\n") + 1]


def _run(path: Path) -> dict[str, Any]:
    run = read_yaml(path)
    if not isinstance(run, dict) or not isinstance(run.get("settings"), dict):
        raise DamagedError(f"{path}: is damaged: it has no settings")
    return run


def _table(path: Path) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    text = _text(path)
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""))
    except (ValueError, csv.Error):
        raise DamagedError(f"{path}: is damaged: it has no table") from None
    names = [title.split()[0] if title.split() else "" for title in header]
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise DamagedError(f"{path}: is damaged: line {number} has {len(row)} values for {len(names)}")
    columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    for name in (*NUMBERS, *TEXTS):
        if name not in columns and name not in LATER:
            raise DamagedError(f"{path}: is damaged: it has no column {name}")
    numbers = {name: _numbers(path, name, columns.get(name, ["0"] * len(rows))) for name in NUMBERS}
    numbers |= {name: _numbers(path, name, columns.get(name, ["nan"] * len(rows))) for name in BUDGET}
    return numbers, {name: list(columns.get(name, [""] * len(rows))) for name in TEXTS}


def _numbers(path: Path, name: str, texts: list[str]) -> np.ndarray:
    values = np.empty(len(texts))
    for row, text in enumerate(texts):
        try:
            values[row] = float(text)
        except ValueError:
            values[row] = math.nan
        missing = name in BUDGET and text == "nan"
        if not missing and not (math.isfinite(values[row]) and values[row] >= 0.0):
            raise DamagedError(f"{path}: is damaged: line {row + 2}: {name} is {text!r}")
    return values


def _events(path: Path) -> list[dict[str, Any]]:
    events = []
    for number, line in enumerate(_text(path).split("\n")[:-1], 1):
        try:
            event = json.loads(line)
            event = {name: kind(event[name]) for name, kind in _EVENT.items()}
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise DamagedError(f"{path}: is damaged: line {number} is no event") from None
        events.append(event)
    return events


_EVENT = {"frame": int, "time_s": float, "kind": str, "data": dict}


def _picture(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            picture.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else in_one_line(error)
        raise DamagedError(f"{path}: is damaged: {reason}") from None
    return data
