"""Where results are kept: bench.csv holds one row a solve and is whole after every frame; bench.yaml says of
every run with which settings it was asked for and how it ended, and of every session, one call of the
program, when, by which command and on what it ran. What was stopped goes on from there.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, create_model

from app.environment import describe
from app.output import OutputError, command_line, now, usable_directory, write_whole
from precond.config import Settings, Text, read_yaml, validated
from precond.errors import UsageError

FILES = TABLE, HEADER = ("bench.csv", "bench.yaml")
CONVERGED, LEFT_EARLY = STOPPED = ("converged", "left early")  # as the stopping rule has it: no failure
SETTING = (
    "family",
    "split",
    "conditions",
    "contrast",
    "rtol",
    "rule",
    "cells",
)  # what rows are compared under
PLACE = ("run", "family", "split", "conditions", "contrast", "rtol", "cells", "frame")
COLUMNS = (
    *("run", "family", "split", "conditions", "rule", "contrast", "rtol", "cells", "frame", "method", "turn"),
    *("outcome", "iterations", "relative_residual", "setup_ms", "inference_ms", "solve_ms"),
    *("matrix_products", "memory_mib", "engine", "threads", "precision", "note", "session"),
)
_REAL = ("contrast", "rtol", "relative_residual", "setup_ms", "inference_ms", "solve_ms", "memory_mib")
_COUNT = ("cells", "frame", "turn", "iterations", "matrix_products", "threads", "session")
_ALWAYS = {*PLACE, "method", "turn", "outcome", "session"} - {"contrast"}


def _kind(name: str) -> tuple[Any, Any]:
    """Type and default of a column; what is not always there may be None."""
    real, count = Annotated[float, Field(allow_inf_nan=False)], Annotated[int, Field(ge=0)]
    kind = real if name in _REAL else count if name in _COUNT else Text
    return (kind, ...) if name in _ALWAYS else (kind | None, None)


Row = create_model("Row", __base__=Settings, **{name: _kind(name) for name in COLUMNS})


class Run(Settings):
    """How a run was asked for; skipped: why methods were left out."""

    settings: dict[str, Any]
    skipped: dict[str, str]
    ended: str = "not yet"


class Session(Settings):
    """One call of the program."""

    date: str
    command: str
    commit: str | None
    versions: dict[str, str]
    hardware: dict[str, Any]


class Header(Settings):
    """What bench.yaml holds."""

    runs: dict[str, Run]
    sessions: list[Session]


class Results:
    """The results in ``directory``, rows by column: those that are there, and those that this session adds.

    Raises OutputError, and leaves all files alone, when the directory cannot be written or holds other files
    of these names, or a recording.
    """

    def __init__(self, directory: Path):
        self.path, self._header_path = directory / TABLE, directory / HEADER
        self._header, self._session = Header(runs={}, sessions=[]), -1
        self._rows: list[dict[str, Any]] = []
        self._is_torn = False  # the last row was cut off while it was written
        if not any(map(os.path.isfile, (self.path, self._header_path))):  # False, too, for too long a name
            usable_directory(directory)
            return
        try:
            self._read()
        except UsageError as error:
            raise OutputError(
                f"{directory}: already holds results that cannot go on: {error}; name another directory"
            ) from None

    def _read(self) -> None:
        self._header = validated(Header, read_yaml(self._header_path), str(self._header_path))
        if not self.path.exists():
            return
        try:
            text = self.path.read_bytes().decode("utf-8")
            whole = text[: text.rfind("\n") + 1]
            lines = list(csv.reader(whole.splitlines(), strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{self.path}: cannot be read: {error}") from None
        self._is_torn = whole != text
        if lines[:1] != [list(COLUMNS)]:
            raise UsageError(f"{self.path}: its first line does not name the columns of {TABLE}")
        for number, line in enumerate(lines[1:], start=2):
            where = f"{self.path}: line {number}"
            values = {name: value or None for name, value in zip(COLUMNS, line, strict=False)}
            row = validated(Row, values, where).model_dump()
            if len(line) != len(COLUMNS):
                raise UsageError(f"{where}: {len(line)} values, not {len(COLUMNS)}")
            if row["run"] not in self._header.runs or row["session"] >= len(self._header.sessions):
                raise UsageError(f"{where}: its run or session is not in {HEADER}")
            if row["outcome"] in STOPPED and None in (row["iterations"], row["solve_ms"]):
                raise UsageError(f"{where}: {row['outcome']} without iterations or time")
            self._rows.append(row)

    def rows(self, run: str) -> list[dict[str, Any]]:
        """The rows of ``run``."""
        return [row for row in self._rows if row["run"] == run]

    def begin(self, name: str, settings: dict[str, Any], skipped: dict[str, str], solves: int) -> set[tuple]:
        """Begin run ``name``, or go on with it; returns the PLACEs of the frames that are there with all
        their ``solves``. What is there of other frames of it is removed.

        Raises OutputError where settings, versions or machine are not those of what is there.
        """
        asked = Run(settings=settings, skipped=skipped)
        self._check_same(name, asked)
        self._header.runs.setdefault(name, asked)
        counts = Counter(_place(row) for row in self.rows(name))
        done = {place for place, count in counts.items() if count == solves}
        kept = [row for row in self._rows if row["run"] != name or _place(row) in done]
        if self._is_torn or len(kept) < len(self._rows):
            self._rows, self._is_torn = kept, False
            write_whole(self.path, _lines([dict(zip(COLUMNS, COLUMNS, strict=True)), *kept]))
        return done

    def _check_same(self, name: str, asked: Run) -> None:
        before, today = self._header.runs.get(name, asked), describe()
        pairs = [("settings", before.settings, asked.settings), ("skipped", before.skipped, asked.skipped)]
        for number in sorted({row["session"] for row in self.rows(name)}):
            session = self._header.sessions[number]
            machines = (
                {part: of[part] for part in ("cpu", "gpu")} for of in (session.hardware, today["hardware"])
            )
            pairs += [("versions", session.versions, today["versions"]), ("hardware", *machines)]
        for part, old, new in pairs:
            for key in sorted({*old, *new} - {"out"}):
                was, is_now = (
                    "not there" if of.get(key) is None else json.dumps(of[key]) for of in (old, new)
                )
                if was != is_now:
                    raise OutputError(
                        f"{self.path}: cannot go on with {name}: {part}: {key} was {was}, now it is "
                        f"{is_now}; repeat it as it was, or name another directory"
                    )

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append the rows of one frame, without their session. Raises OutputError."""
        if self._session < 0:
            self._session = len(self._header.sessions)
            self._header.sessions.append(Session(date=now(), command=command_line(), **describe()))
            self._write_header()
        rows = [{**row, "session": self._session} for row in rows]
        head = [] if self.path.exists() else [dict(zip(COLUMNS, COLUMNS, strict=True))]
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(_lines(head + rows))
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from None
        self._rows += rows

    def end(self, name: str, ended: str) -> None:
        """Note how run ``name`` ended. Raises OutputError."""
        if self._header.runs[name].ended != ended:
            self._header.runs[name].ended = ended
            self._write_header()

    def _write_header(self) -> None:
        write_whole(self._header_path, yaml.safe_dump(self._header.model_dump(), sort_keys=False))


def _place(row: dict[str, Any]) -> tuple:
    return tuple(row[name] for name in PLACE)


def _lines(rows: list[dict[str, Any]]) -> str:
    """Rows as text: settings in full, what was measured to six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        values = ((name, row.get(name)) for name in COLUMNS)
        writer.writerow(
            f"{value:.6g}" if isinstance(value, float) and name not in SETTING else value
            for name, value in values
        )
    return text.getvalue()
