"""What happened in a recording, in plain words: events, with those of one stroke or one turn of a slider as
one, frames in which a method failed, and what a method that chooses among others changed to, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from app.engine import KEPT_BY, SAME_CHANGE, SOLVER
from app.recording.reading import Recording
from precond.config import plain

PAUSE = 10  # frames without another one after which a stroke, or a turn of a slider, has ended
MARKED = {"preconditioner": "method", "contrast": "contrast", "scene": "scene"}  # settings marked in plots
CHOICE = "choice"  # marked as well: another method, chosen by the one that is set
BRIEF = 5  # frames at most for which another choice, gone back on then, is told in one
ANEW = ("scene", "seed")  # settings that begin a new simulation, as a reset does
UNDONE = {"begin_stroke": "the stroke", "reset": "the reset", "load": "the loading of a state"}
TOUCH = ("stir", "paint", "drag", "undo", "redo", "load")  # after these a reset can be undone
TOLD = {
    "reset": "began anew from the scene's initial state",
    "pause": "paused",
    "resume": "went on",
    "step": "took a single step while paused",
}


@dataclass(kw_only=True)
class _Deed:
    """Events of one stroke, or a single one, with the settings ``before`` and ``after``; ``what`` was undone
    or redone, if it is that; ``anew``: the simulation began anew.
    """

    first: int  # rows of the table before the first event, and before the last
    last: int
    events: list[dict[str, Any]]
    before: dict[str, Any]
    after: dict[str, Any]
    what: str
    anew: bool


@dataclass
class Happening:
    """Something that worked on the recorded frames ``first`` to ``last``, counted from 1; ``changed``: which
    of MARKED, or CHOICE; ``mark``: its number in the plots. Both are empty for what they do not show.
    """

    first: int
    last: int
    time_s: float
    words: str
    changed: str = ""
    mark: str = ""


def say(value: Any) -> str:
    """A value as people write it: on, 128x64, 10,000, 1e-5."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "on", False: "off"}[value]
    if isinstance(value, list):
        return "x".join(say(one) for one in value)
    if isinstance(value, float):
        return f"{value:,.6g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else plain(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def story(recording: Recording) -> list[Happening]:
    """All of it in its order, changes that the plots mark numbered from 1."""
    told = [*_done(recording), *_choices(recording), *_failures(recording)]
    told.sort(key=lambda one: one.first)
    for number, happening in enumerate((one for one in told if one.changed), 1):
        happening.mark = str(number)
    return told


def _placed(recording: Recording) -> Iterator[tuple[int, dict[str, Any], bool]]:
    """Every event with the number of rows before it and whether it began the simulation anew. Frames are
    then counted anew, so that their number alone does not tell the row: it is looked for from the last
    event's on.
    """
    numbers = recording.numbers
    keys = list(zip(numbers["frame"].tolist(), numbers["time_s"].tolist(), strict=True))
    rows: dict[tuple[float, float], list[int]] = {}
    for row, key in enumerate(keys, 1):
        rows.setdefault(key, []).append(row)
    place = least = 0
    events = recording.events or []
    for event, following in zip_longest(events, events[1:]):
        moment = event["frame"], event["time_s"]
        place = next((row for row in rows.get(moment, ()) if row >= least), place)
        anew = event["kind"] == "reset" or event["data"].get("name") in ANEW
        if event["data"].get("name") in KEPT_BY:
            after = [(following["frame"], following["time_s"])] if following else []
            if after != [moment]:  # else it is followed by what was done before any other frame
                after = [(frame - 1, time) for frame, time in keys[place : place + 1]] or after
            anew = any(frame < event["frame"] for frame, _ in after)
        least = max(least, place + anew)
        yield place, event, anew


class _Past:
    """The settings as they were at every event, through undo, redo and loading; see app.engine.Engine."""

    def __init__(self, recording: Recording) -> None:
        self.values = dict(recording.settings)
        self._touched = bool(recording.run.get("frame"))
        self._undo: list[tuple[str, int, dict[str, Any]]] = []  # what, after which frame, settings before it
        self._redo: list[tuple[str, int, dict[str, Any]]] = []

    def follow(self, event: dict[str, Any], anew: bool) -> str:
        """Go past ``event``; returns what it undid or did again."""
        kind, frame, data, what = event["kind"], event["frame"], event["data"], ""
        touched = self._touched or frame > 0
        self._touched = (self._touched or kind in TOUCH) and not anew
        if kind in ("undo", "redo"):
            moments, others = (self._undo, self._redo)[:: 1 if kind == "undo" else -1]
            what, _, values = moments.pop() if moments else ("what was done last", 0, {})
            others.append((what, frame, self.values))
            self.values = values
        elif kind == "set":
            self._keep(f"the change of {_spelled(data)}", frame, together=SAME_CHANGE)
            self.values = {**self.values, **_brought(data), str(data.get("name")): data.get("value")}
        elif kind in UNDONE and (touched or kind != "reset"):
            self._keep(UNDONE[kind], frame)
        if kind == "load":
            self.values = {name: value for name, value in self.values.items() if name in SOLVER}
        return what

    def _keep(self, what: str, frame: int, together: int = -1) -> None:
        """Remember the present, unless ``what`` goes together with what was done so many frames before."""
        last, before, _ = self._undo[-1] if self._undo else ("", 0, {})
        if last != what or not 0 <= frame - before <= together:
            self._undo.append((what, frame, self.values))
            self._redo.clear()


def _done(recording: Recording) -> Iterator[Happening]:
    """What a person did."""
    past = _Past(recording)
    deeds: list[_Deed] = []
    for place, event, anew in _placed(recording):
        before, what = past.values, past.follow(event, anew)
        if event["kind"] == "begin_stroke":
            continue
        if deeds and _continues(deeds[-1].last, deeds[-1].events[-1], place, event):
            deeds[-1].events.append(event)
            deeds[-1].last = place
        else:
            ends = {"first": place, "last": place, "before": before, "after": past.values}
            deeds.append(_Deed(events=[event], what=what, anew=anew, **ends))
    for deed in deeds:
        words, changed = _told(deed)
        yield Happening(deed.first + 1, deed.last + 1, deed.events[0]["time_s"], words, changed)


def _told(deed: _Deed) -> tuple[str, str]:
    """A deed in words, and which of MARKED it changed."""
    kind, data = deed.events[0]["kind"], deed.events[0]["data"]
    if _in_place(deed.events[0]):
        return _stroke([event["data"] for event in deed.events], kind), ""
    if kind == "set":
        return _change(deed), MARKED.get(str(data.get("name")), "")
    if kind in ("undo", "redo"):
        now = {name: say(value) for name, value in deed.after.items() if name in deed.before}
        now = {name: value for name, value in now.items() if value != say(deed.before[name])}
        again = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in now.items())
        words = f"{'undid' if kind == 'undo' else 'redid'} {deed.what}" + f": {again} again" * bool(again)
        return words, next((MARKED[name] for name in reversed(MARKED) if name in now), "")
    if kind == "load":
        return f"went on from the saved state {Path(str(data.get('path'))).name}", ""
    return TOLD.get(kind) or _as_it_stands(deed.events[0]), ""


def _continues(before: int, last: dict[str, Any], place: int, event: dict[str, Any]) -> bool:
    """Whether an event belongs to the stroke of the one before it."""
    if event["kind"] != last["kind"] or place - before > PAUSE:
        return False
    one, other = last["data"], event["data"]
    if _in_place(event):
        return one.get("what") == other.get("what")
    numbers = all(type(data.get("value")) in (int, float) for data in (one, other))
    return event["kind"] == "set" and numbers and one.get("name") == other.get("name")


def _in_place(event: dict[str, Any]) -> bool:
    """Whether it is part of a stroke, of whatever kind: it has a place."""
    return {"x", "y"} <= event["data"].keys()


def _stroke(parts: list[dict[str, Any]], kind: str) -> str:
    what, end = parts[0].get("what"), parts[-1]
    reached = {"x": end.get("to_x", end.get("x")), "y": end.get("to_y", end.get("y"))}
    verbs = {"stir": "stirred", "drag": "moved an obstacle"}
    verbs["paint"] = "erased" if what == "erase" else f"painted {what}"
    ends = ((part.get("x"), part.get("y")) for part in (*parts, reached))
    places = [f"({say(_rounded(x))}, {say(_rounded(y))}) m" for x, y in ends]
    way = f"at {places[0]}" if len(set(places)) == 1 else f"from {places[0]} to {places[-1]}"
    radius = f", radius {say(_rounded(parts[0]['radius']))} m" if "radius" in parts[0] else ""
    events = f" ({len(parts):,} events)" if len(parts) > 1 else ""
    return f"{verbs.get(kind, kind)} {way}{radius}{events}"


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _change(deed: _Deed) -> str:
    data, name = deed.events[-1]["data"], str(deed.events[-1]["data"].get("name"))
    old = f" from {say(deed.before[name])}" if name in deed.before else ""
    words = f"{_spelled(data)} changed{old} to {say(data.get('value'))}"
    if brought := _brought(data):
        words += f", which brought {', '.join(f'{key} {say(value)}' for key, value in brought.items())}"
    return words + ("; the simulation began anew" if deed.anew else "")


def _spelled(data: dict[str, Any]) -> str:
    return str(data.get("name")).replace("_", " ")


def _brought(data: dict[str, Any]) -> dict[str, Any]:
    """The settings that came with a scene."""
    brought = data.get("brought")
    return brought if isinstance(brought, dict) else {}


def _as_it_stands(event: dict[str, Any]) -> str:
    said = ", ".join(f"{name} {say(_rounded(value))}" for name, value in event["data"].items())
    return f"{event['kind']}: {said}" if said else event["kind"]


def _choices(recording: Recording) -> Iterator[Happening]:
    """Where a method that chooses among others changed to another one."""
    texts = recording.texts
    used = [text.partition(": ")[0] for text in texts["choice"]]
    alike = [list(group) for _, group in groupby(range(len(used)), used.__getitem__)]
    back = False
    for before, rows, after in zip(alike, alike[1:], [*alike[2:], []], strict=False):
        went_back, back = back, False
        row, old, new = rows[0], used[before[0]], used[rows[0]]
        if went_back or not (old and new):
            continue
        chooser, why = texts["preconditioner"][row], texts["choice"][row].partition(": ")[2]
        back = len(rows) <= BRIEF and bool(after) and used[after[0]] == old
        if back:
            words = f"{chooser} took {new} for {len(rows)} frame{'s' * (len(rows) > 1)}: {why}"
        else:
            words = f"{chooser} changed from {old} to {new}: {why}"
        last = rows[-1] if back else row
        yield Happening(row + 1, last + 1, recording.numbers["time_s"][row], words, CHOICE)


def _failures(recording: Recording) -> Iterator[Happening]:
    """Frames in which a method failed or did not converge, those in a row with the same outcome as one."""
    texts = recording.texts
    kept = np.flatnonzero(~recording.converged | recording.fallback).tolist()

    def alike(entry: tuple[int, int]) -> tuple[Any, ...]:
        count, row = entry
        names = ("preconditioner", "outcome", "fallback", "failed_method")
        return row - count, *(texts[name][row] for name in names)

    for _, group in groupby(enumerate(kept), alike):
        rows = [row for _, row in group]
        row, said = rows[0], []
        if texts["failed_method"][row] or texts["failed_reason"][row]:
            reason = texts["failed_reason"][row] or "without a reason"
            said.append(f"{texts['failed_method'][row] or 'the step'} failed: {reason}")
        if recording.fallback[row]:
            said.append(f"{texts['preconditioner'][row]} took over")
        if not recording.converged[row] and texts["outcome"][row] != "failed":
            said.append(f"{texts['preconditioner'][row]} ended as {texts['outcome'][row]}")
        words = "; ".join(said) or texts["outcome"][row]
        yield Happening(row + 1, rows[-1] + 1, recording.numbers["time_s"][row], words)
