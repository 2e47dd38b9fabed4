"""Repeats a recording: the same settings, strokes and keys at the same steps, with another solver if asked.

With the same settings on the same machine the flow is the same to the last bit. `auto` alone chooses by the
clock, so that its counts may differ, and with them the flow, within the tolerance.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch

from app.engine import Engine
from precond.config import read_yaml
from precond.errors import UsageError
from sim.state import load_state

START, FINAL = "start.safetensors", "final.safetensors"
REPEATED = ("set", "begin_stroke", "stir", "paint", "undo", "redo", "load", "reset")
COUNTED = ("preconditioner", "choice", "iterations", "outcome", "time_s")  # columns of timings.csv


class Replay:
    """The input of the recording in ``directory``, but for changes of the settings ``given``.

    Raises UsageError that names the file when something in it is missing or damaged.
    """

    def __init__(self, directory: str | Path, given: dict[str, Any]) -> None:
        self.directory = Path(directory)
        self._given = given
        self._events = [event for event in self._read_events() if event["kind"] in REPEATED]
        self._rows = self._read_rows(self.directory)
        self._steps = 0

    def _read_events(self) -> list[dict[str, Any]]:
        path, events = self.directory / "events.jsonl", []
        try:
            for line in path.read_text("utf-8").splitlines():
                event = json.loads(line)
                if not (isinstance(event["frame"], int) and isinstance(event["data"], dict)):
                    raise TypeError
                events.append({"kind": event["kind"], "frame": event["frame"], "data": event["data"]})
        except OSError as error:
            raise UsageError(f"--replay: {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"--replay: {path}: line {len(events) + 1} is not an event") from None
        return events

    @staticmethod
    def _read_rows(directory: Path) -> list[dict[str, str]]:
        path = directory / "timings.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
        except OSError as error:
            raise UsageError(f"--replay: {path}: {error.strerror}") from None
        names = [title.split()[0] for title in rows[0]] if rows else []
        if not set(COUNTED) <= set(names):
            raise UsageError(f"--replay: {path}: is not the table of a recording")
        return [dict(zip(names, row, strict=False)) for row in rows[1:]]

    def begin(self, engine: Engine) -> None:
        """Put ``engine`` where the recording began. Raises UsageError."""
        start = self.directory / START
        if start.exists():
            engine.load(start)
        about = read_yaml(self.directory / "run.yaml")
        engine.frame = about["frame"] if isinstance(about.get("frame"), int) else 0

    def advance(self, engine: Engine) -> bool:
        """Do what was done before the next step; False when that was the last one. Raises UsageError for an
        input that cannot be repeated.
        """
        ended = self._steps >= len(self._rows)
        while self._events and (ended or self._events[0]["frame"] <= engine.frame):
            self._repeat(engine, **self._events.pop(0))
        self._steps += not ended
        return not ended

    def _repeat(self, engine: Engine, kind: str, data: dict[str, Any], **_: Any) -> None:
        if kind == "set" and data.get("name") in self._given:
            return
        if "brought" in data:
            data["brought"] = {
                name: value for name, value in data["brought"].items() if name not in self._given
            }
        if kind == "load":
            data["path"] = self.directory / str(data.get("path"))
        try:
            getattr(engine, kind)(**data)
        except TypeError:
            raise UsageError(f"--replay: {self.directory}: {kind} {data} cannot be repeated") from None

    def compared(self, directory: Path) -> str:
        """What the recording in ``directory``, of this replay, and the repeated one have in common."""
        rows, which = self._read_rows(directory), f"replay of {self.directory}"
        pairs = zip(rows, self._rows, strict=False)
        same = sum(all(row[name] == its[name] for name in COUNTED) for row, its in pairs)
        text = f"{which}: {len(rows)} of {len(self._rows)} frames, method, count and time equal in {same}"
        if len(rows) < len(self._rows) or not (self.directory / FINAL).exists():
            return text
        (now, _), (then, _) = load_state(directory / FINAL), load_state(self.directory / FINAL)
        if now.shape != then.shape:
            return f"{text}; at the end another grid"
        if all(torch.equal(a, b) for a, b in zip(now, then, strict=True)):
            return f"{text}; the last state is the same to the bit"
        return f"{text}; phase at the end differs by at most {(now.phase - then.phase).abs().max():.1e}"
