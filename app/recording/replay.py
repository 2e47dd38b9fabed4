"""Repeats a recording: the same settings, strokes and keys at the same steps, with another solver if asked.

With the same settings on the same machine the flow is the same to the last bit. `auto` alone chooses by the
clock, so that its counts may differ, and with them the flow, within the tolerance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from app.engine import Engine
from app.output import FINAL, START
from app.recording.reading import Recording
from precond.errors import UsageError
from sim.state import load_state

REPEATED = ("set", "begin_stroke", "stir", "paint", "drag", "undo", "redo", "load", "reset")


class Replay:
    """The input of the recording in ``directory``, but for changes of the settings ``given``.

    Raises UsageError that names the file when something in it is missing or damaged.
    """

    def __init__(self, directory: str | Path, given: dict[str, Any]) -> None:
        self.directory = Path(directory)
        self._given = given
        self._recording = self._read(self.directory)
        if self._recording.events is None:
            raise UsageError(f"--replay: {self.directory}: there is no events.jsonl in it")
        self._events = [event for event in self._recording.events if event["kind"] in REPEATED]
        self._steps = 0

    @staticmethod
    def _read(directory: Path) -> Recording:
        try:
            return Recording.read(directory)
        except UsageError as error:
            raise UsageError(f"--replay: {error}") from None

    @property
    def methods(self) -> tuple[str, ...]:
        """The preconditioners that it changes to."""
        changes = (event["data"] for event in self._events if event["kind"] == "set")
        return tuple(str(data.get("value")) for data in changes if data.get("name") == "preconditioner")

    def begin(self, engine: Engine) -> None:
        """Put ``engine`` where the recording began. Raises UsageError."""
        start = self.directory / START
        if start.exists():
            engine.load(start, self._given)
        frame = self._recording.run.get("frame")
        engine.frame = frame if isinstance(frame, int) else 0

    def advance(self, engine: Engine) -> bool:
        """Do what was done before the next step; False when that was the last one. Raises UsageError for an
        input that cannot be repeated.
        """
        ended = self._steps >= self._recording.rows
        while self._events and (ended or self._events[0]["frame"] <= engine.frame):
            self._repeat(engine, **self._events.pop(0))
        self._steps += not ended
        return not ended

    def _repeat(self, engine: Engine, kind: str, data: dict[str, Any], **_: Any) -> None:
        try:
            if kind == "set" and data.get("name") in self._given:
                data["value"] = self._given[data["name"]]  # it is a change that an undo takes back
            if "brought" in data:
                brought = data["brought"].items()
                data["brought"] = {name: value for name, value in brought if name not in self._given}
            if kind == "load":
                data = {"path": self.directory / str(data.get("path")), "given": self._given}
            getattr(engine, kind)(**data)
        except (AttributeError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"--replay: {self.directory}: {kind} {data} cannot be repeated") from None

    def compared(self, directory: Path) -> str:
        """What the recording in ``directory``, of this replay, and the repeated one have in common."""
        now, then = self._read(directory), self._recording
        same = sum(one == other for one, other in zip(_counts(now), _counts(then), strict=False))
        text = (
            f"replay of {self.directory}: {now.rows} of {then.rows} frames, method, count and time equal in "
            f"{same} frames"
        )
        if now.rows < then.rows or not (self.directory / FINAL).exists():
            return text
        (end, _), (its, _) = load_state(directory / FINAL), load_state(self.directory / FINAL)
        if end.shape != its.shape:
            return f"{text}; at the end another grid"
        if all(torch.equal(a, b) for a, b in zip(end, its, strict=True)):
            return f"{text}; the last state is the same to the bit"
        return f"{text}; phase at the end differs by at most {(end.phase - its.phase).abs().max():.1e}"


def _counts(recording: Recording) -> list[tuple[Any, ...]]:
    """What a replay repeats of every frame."""
    texts = (recording.texts[name] for name in ("preconditioner", "outcome"))
    return list(zip(*texts, *(recording.numbers[name] for name in ("iterations", "time_s")), strict=True))
