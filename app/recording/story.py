"""What happened in a recording, in plain words: events, with those of one stroke or one turn of a slider as
one, and frames in which a method failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from app.recording.reading import Recording
from precond.config import plain

PAUSE = 10  # frames without another one after which a stroke, or a turn of a slider, has ended
MARKED = {"preconditioner": "method", "contrast": "contrast", "scene": "scene"}  # settings marked in plots
ANEW = ("scene", "grid", "device", "seed")  # settings that begin a new simulation, as a reset does
TOLD = {
    "reset": "began anew from the scene's initial state",
    "pause": "paused",
    "resume": "went on",
    "step": "took a single step while paused",
}


@dataclass
class Happening:
    """Something that worked on the recorded frames ``first`` to ``last``, counted from 1; ``changed``: which
    of MARKED; ``mark``: its number in the plots. Both are empty for what they do not show.
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
    told = [*_done(recording), *_failures(recording)]
    told.sort(key=lambda one: one.first)
    for number, happening in enumerate((one for one in told if one.changed), 1):
        happening.mark = str(number)
    return told


def _placed(recording: Recording) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every event with the number of rows before it. Frames are counted anew after some events, so that their
    number alone does not tell the row: the row is looked for from the last event's on.
    """
    numbers = recording.numbers
    keys = list(zip(numbers["frame"].tolist(), numbers["time_s"].tolist(), strict=True))
    rows: dict[tuple[float, float], list[int]] = {}
    for row, key in enumerate(keys, 1):
        rows.setdefault(key, []).append(row)
    place = least = 0
    for event in recording.events or ():
        place = next((row for row in rows.get((event["frame"], event["time_s"]), ()) if row >= least), place)
        began = event["kind"] == "reset" or event["data"].get("name") in ANEW
        least = place + began
        yield place, event


def _done(recording: Recording) -> Iterator[Happening]:
    """What a person did."""
    values = dict(recording.settings)
    strokes: list[list[tuple[int, dict[str, Any]]]] = []
    for place, event in _placed(recording):
        if strokes and _continues(*strokes[-1][-1], place, event):
            strokes[-1].append((place, event))
        else:
            strokes.append([(place, event)])
    for stroke in strokes:
        (first, begin), (last, end) = stroke[0], stroke[-1]
        name = str(begin["data"].get("name")) if begin["kind"] == "set" else ""
        if _in_place(begin):
            words = _stroke([event["data"] for _, event in stroke], begin["kind"])
        elif name:
            words = _change(name, values.get(name), end["data"])
            values |= {**_brought(end["data"]), name: end["data"].get("value")}
        else:
            words = TOLD.get(begin["kind"]) or _as_it_stands(begin)
        yield Happening(first + 1, last + 1, begin["time_s"], words, MARKED.get(name, ""))


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
    what = parts[0].get("what")
    verb = {"stir": "stirred", "paint": "erased" if what == "erase" else f"painted {what}"}.get(kind, kind)
    places = [f"({say(_rounded(part.get('x')))}, {say(_rounded(part.get('y')))}) m" for part in parts]
    way = f"at {places[0]}" if len(set(places)) == 1 else f"from {places[0]} to {places[-1]}"
    radius = f", radius {say(_rounded(parts[0]['radius']))} m" if "radius" in parts[0] else ""
    return f"{verb} {way}{radius}" + (f" ({len(parts):,} events)" if len(parts) > 1 else "")


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _change(name: Any, old: Any, data: dict[str, Any]) -> str:
    words = f"{str(name).replace('_', ' ')} changed from {say(old)} to {say(data.get('value'))}"
    if brought := _brought(data):
        words += f", which brought {', '.join(f'{key} {say(value)}' for key, value in brought.items())}"
    return words + ("; the simulation began anew" if name in ANEW else "")


def _brought(data: dict[str, Any]) -> dict[str, Any]:
    """The settings that came with a scene."""
    brought = data.get("brought")
    return brought if isinstance(brought, dict) else {}


def _as_it_stands(event: dict[str, Any]) -> str:
    said = ", ".join(f"{name} {say(_rounded(value))}" for name, value in event["data"].items())
    return f"{event['kind']}: {said}" if said else event["kind"]


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
