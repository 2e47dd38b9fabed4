"""A recording's page: one HTML file with everything in it, to be attached to a mail.

It is made from the recording's own files, by `record --report` at the end of a run and by `page` for any
recording, an interrupted one too. page.html says what stands where.
"""

from __future__ import annotations

import base64
import importlib.util
import shlex
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from app.config.flags import flag
from app.config.settings import DEFAULT_FRAMES, RunOptions, app_settings
from app.output import usable_file, write_whole
from app.recording.reading import ENERGIES, PARTS, Recording
from app.recording.story import Happening, say, story
from app.recording.summary import START, STATISTICS
from precond.errors import UsageError

NAME = "report.html"
MOST_EVENTS = 500  # told on the page
ROWS = {  # of the summary's table
    "iterations": "iterations",
    **dict(zip(PARTS, ("simulation", "set-up", "inference", "solve", "failed attempts"), strict=True)),
    "draw_ms": "drawing",
    "frame_ms": "whole frame",
}


def page(directory: str, out: str | None) -> int:
    """Write the page of the recording in ``directory`` there, or to the file ``out``; returns 0.

    Raises UsageError for what is not a recording or is damaged, and where the page cannot be written.
    """
    check_plots()
    path = write_page(Path(directory), None if out is None else usable_file(out))
    print(f"{path}: {path.stat().st_size / 1e3:,.0f} kB")
    return 0


def check_plots() -> None:
    """Raise UsageError where no plots can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("a recording's page needs matplotlib: pip install 'htp-fluid[report]'")


def write_page(directory: Path, path: Path | None = None) -> Path:
    """Write the page to ``path``, by default into the recording; returns where. Raises UsageError."""
    text = _page(Recording.read(directory))
    path = path or directory / NAME
    write_whole(path, text)
    return path


def _page(recording: Recording) -> str:
    happenings = story(recording)
    settings = recording.settings
    scene = Path(say(settings.get("scene"))).stem
    title = f"{scene} with {say(settings.get('preconditioner'))}"
    parts = {"title": escape(title), "lead": escape(_lead(recording))}
    parts["picture"] = _picture(recording)
    parts["summary"] = _summary(recording)
    parts["plots"] = _plots(recording, happenings)
    parts["events"] = _events(recording, happenings)
    parts["repeat"] = _repeat(recording)
    parts["settings"] = _settings(settings)
    parts["machine"] = _machine(recording.run)
    return Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8")).substitute(parts)


def _lead(recording: Recording) -> str:
    settings = recording.settings
    date = say(recording.run.get("started"))[:16].replace("T", " ")
    grid, contrast = say(settings.get("grid")), say(settings.get("contrast"))
    return f"{date}, {grid} cells, density contrast {contrast}, {_frames(recording.rows)}"


def _frames(count: int) -> str:
    return f"{count:,} frame" + "s" * (count != 1)


def _picture(recording: Recording) -> str:
    if recording.picture is None:
        return _said("There is no final picture: the recording did not come to its end.")
    view = escape(say(recording.settings.get("view", "density")))
    data = base64.b64encode(recording.picture).decode("ascii")
    told = f"The last frame; field: {view}"
    return (
        f'<figure><img alt="{told}" src="data:image/png;base64,{data}">'
        f"<figcaption>{told}.</figcaption></figure>"
    )


def _summary(recording: Recording) -> str:
    numbers, ended = recording.numbers, recording.run.get("summary")
    ended = ended.get("ended") if isinstance(ended, dict) else "cut off, without a summary"
    if not recording.rows:
        return _said(f"No frame was recorded; the run: {say(ended)}.")
    simulated, real = numbers["time_step_s"].sum(), numbers["frame_ms"].sum() / 1e3
    later = STATISTICS["mean"](numbers["frame_ms"])
    facts = {
        "how it ended": say(ended) + _lost(recording),
        "frames": f"{recording.rows:,}",
        "frames per second": f"{1e3 / later:,.1f} (mean)" if later else "no time was measured",
        "simulated": f"{simulated:,.3f} s",
        "computed in": f"{real:,.2f} s" + (f", {simulated / real:.2g} x real time" if real else ""),
        "not converged": _frames(int((~recording.converged).sum())),
        "another method took over in": _frames(int(recording.fallback.sum())),
        **_budget(numbers),
    }
    rows = [
        [title if name == "iterations" else f"{title} [ms]", *_statistics(numbers[name], name)]
        for name, title in ROWS.items()
    ]
    told = (
        f"Of the parts of a frame; means leave out the first frame, which may compile, and the worst is that "
        f"after the first {START}."
    )
    return _table([], facts.items()) + _table(["", *STATISTICS], rows, told, "numbers")


def _lost(recording: Recording) -> str:
    """What to say where the table has lost rows that the summary counted."""
    summary = recording.run.get("summary")
    counted = summary.get("rows") if isinstance(summary, dict) else None
    if not isinstance(counted, int) or counted <= recording.rows:
        return ""
    return f"; timings.csv is cut short: {recording.rows:,} of {_frames(counted)}"


def _budget(numbers: dict[str, np.ndarray]) -> dict[str, str]:
    """How the energies went, and the largest divergence; nothing of a recording without them."""
    taken = np.isfinite(numbers["divergence"])
    if not taken.any():
        return {}
    facts = {}
    for name in ENERGIES:
        values = numbers[name][taken]
        if values.any():
            went = f"{values[0]:.4g} to {values[-1]:.4g} J/m, at most {values.max():.4g} J/m"
            facts[name.replace("_", " ")] = went
    share = (numbers["divergence"] * numbers["time_step_s"])[taken].max()
    largest = numbers["divergence"][taken].max()
    facts["largest divergence"] = f"{largest:.2g} 1/s; at most {share:.2g} of a cell's volume in a step"
    return facts


def _statistics(values: np.ndarray, name: str) -> list[str]:
    digits = 1 if name == "iterations" else 3
    return [f"{of(values):,.{digits}f}" for of in STATISTICS.values()]


def _plots(recording: Recording, happenings: list[Happening]) -> str:
    if not recording.rows:
        return _said("There is nothing to draw.")
    from app.recording.plots import POINTS, svg

    told = [
        "Iterations of every frame's solve, the milliseconds of its parts on top of each other, and frames "
        "per second over the last 30 frames."
    ]
    if any(one.changed for one in happenings):
        told.append(
            "Dashed: where method, contrast, scene or a choice among methods changed, with the number that "
            "the list below has."
        )
    if recording.rows > POINTS:
        told.append(f"Thinned to {POINTS:,} places: lowest and highest of the lines, mean of the areas.")
    return f"<figure>{svg(recording, happenings)}<figcaption>{' '.join(told)}</figcaption></figure>"


def _events(recording: Recording, happenings: list[Happening]) -> str:
    if recording.events is None:
        return _said("The recording has no events.jsonl, so that changes and strokes are not known.")
    if not happenings:
        return _said("Nothing: no change, no stroke, and every solve converged.")
    rows = [
        [
            one.mark,
            f"{one.first:,}" + f" to {one.last:,}" * (one.last > one.first),
            f"{one.time_s:,.3f}",
            one.words,
        ]
        for one in happenings[:MOST_EVENTS]
    ]
    more = len(happenings) - len(rows)
    rest = _said(f"And {more:,} more, in events.jsonl and timings.csv.") if more else ""
    told = "Frames are counted over the recording; the time is that of the simulation."
    return _table(["mark", "frame", "time [s]", "what"], rows, told) + rest


def _repeat(recording: Recording) -> str:
    settings = {name: value for name, value in recording.settings.items() if name in RunOptions.model_fields}
    scene = say(settings.pop("scene", "dam-break"))
    settings["frames"] = max(1, recording.rows)
    settings.pop("seconds", None)  # in place of which the frames stand
    try:
        known = app_settings({"scene": scene}).as_dict()
    except UsageError:  # a scene of one's own that is not here: everything is said
        known = {}
    words = ["python", "-m", "app", "record", "--scene", scene]
    for name, value in settings.items():
        if name in known and known[name] == value:
            continue
        if isinstance(value, bool):
            words.append(flag(name) if value else flag(f"no_{name}"))
        elif value is not None:
            words += [flag(name), str(value)]
    text = f"<pre><code>{escape(shlex.join(words))}</code></pre>"
    if recording.events or recording.run.get("frame"):
        return text + _said(
            "This begins the same scene; what a hand did in it is repeated by `record --replay` "
            "with this recording's folder."
        )
    return text


def _settings(settings: dict[str, Any]) -> str:
    defaults = {**RunOptions().model_dump(mode="json"), "frames": DEFAULT_FRAMES}
    fields = RunOptions.model_fields
    rows: dict[bool, list[list[str]]] = {True: [], False: []}
    for name, value in settings.items():
        own = name not in defaults or defaults[name] != value
        about = (fields[name].description or "") if name in fields else ""
        unit = (fields[name].json_schema_extra or {}).get("unit", "") if name in fields else ""
        values = [value, *([defaults.get(name, "unknown here")] if own else [])]
        told = (f"{say(one)} {unit}".strip() if isinstance(one, int | float) else say(one) for one in values)
        rows[own].append([name, *told, about])
    told = _table(["setting", "value", "default", "meaning"], rows[True], "What differs from the defaults")
    rest = _table(["setting", "value", "meaning"], rows[False], "As by default")
    return (told if rows[True] else _said("All are the defaults.")) + (rest if rows[False] else "")


def _machine(run: dict[str, Any]) -> str:
    parts = [run.get(name) for name in ("hardware", "versions")]
    rows = [
        [name.replace("_gib", ", GiB").replace("_", " "), say(value)]
        for part in parts
        if isinstance(part, dict)
        for name, value in ((str(name), value) for name, value in part.items())
        if value is not None
    ]
    rows += [[name, say(run[name])] for name in ("commit", "command") if run.get(name)]
    return _table([], rows) if rows else _said("Not recorded.")


def _said(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _table(head: list[str], rows: Iterable[Iterable[str]], caption: str = "", kind: str = "") -> str:
    """A table of texts, all of them escaped; the first column names the row."""
    parts = [f'<div class="wide"><table class="{kind}">' if kind else '<div class="wide"><table>']
    if caption:
        parts.append(f"<caption>{escape(caption)}</caption>")
    if head:
        parts.append(f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>")
    parts += [f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows]
    return "\n".join([*parts, "</table></div>"])
