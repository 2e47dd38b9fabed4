"""Recordings of the simulator read back: files `recording-*.yaml`, each the run.yaml of one `record`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from app.report.kinds import check_kinds
from app.report.panels import marked, table
from app.report.results import ResultsError, Session
from app.report.sections import session_lines
from precond.config import read_yaml

PHASES = ("setup_ms", "inference_ms", "solve_ms", "frame_ms")
CONDITIONS = ("grid", "contrast", "rtol", "warm_start", "frames")  # one table for each of these and the scene
KINDS = {
    "settings": {
        "scene": str,
        "grid": str,
        "preconditioner": str,
        "contrast": int | float,
        "rtol": int | float,
        "frames": int,
        "warm_start": bool,
        "reuse_setup": bool,
    },
    "summary": {
        "ended": str,
        "rows": int,
        "fps_mean": int | float,
        "iterations_mean": int | float,
        "unconverged": int,
    },
}
HEADER = [
    "preconditioner",
    "runs",
    "frames/s",
    "iterations",
    "set-up",
    "inference",
    "solve",
    "whole frame",
    "unconverged",
]


def recordings(paths: Iterable[Path]) -> list[str]:
    """The Markdown parts of all recordings in ``paths``: a table for every scene in its conditions, medians
    of the runs of a preconditioner. Raises ResultsError for a file that is no finished recording.
    """
    groups: dict[tuple[Any, ...], list[tuple[Path, dict[str, Any]]]] = {}
    for path in paths:
        run = _read(path)
        key = (run["settings"]["scene"], *(run["settings"][name] for name in CONDITIONS))
        groups.setdefault(key, []).append((path, run))
    parts = ["## In the simulator"] if groups else []
    for key, runs in groups.items():
        parts += _group(key, runs)
    return parts


def _read(path: Path) -> dict[str, Any]:
    try:
        run = read_yaml(path)
        for section, kinds in KINDS.items():
            check_kinds(run[section], kinds)
        check_kinds(run["summary"]["mean"], dict.fromkeys(PHASES, int | float))
        Session.of(run)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ResultsError(f"{path}: is not the run.yaml of a recording ({error}); record it again") from None
    if run["summary"]["ended"] != "completed" or run["summary"]["rows"] != run["settings"]["frames"]:
        raise ResultsError(f"{path}: the recording ended early; record it again")
    return run


def _group(key: tuple[Any, ...], runs: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    scene, grid, contrast, rtol, warm_start, frames = key
    sessions = {Session.of(run) for _, run in runs}
    names = ", ".join(f"`{path.name}`" for path, _ in runs)
    lines = [
        f"files {names}, from `htp-fluid record --scene {scene} --frames {frames} --precond NAME`",
        *session_lines(sorted(sessions, key=str)),
        f"{grid} cells, contrast {contrast:g}, rtol {rtol:g}, {'warm' if warm_start else 'cold'} start; "
        "of each run the median, milliseconds and frames/s without the first frame, which compiles",
    ]
    methods: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for _, run in runs:
        settings = run["settings"]
        methods.setdefault((settings["preconditioner"], settings["reuse_setup"]), []).append(run["summary"])
    rows = [_row(name, reuse, found) for (name, reuse), found in methods.items()]
    rows.sort(key=lambda row: -float(row[2]))
    title = f"### {scene}, contrast {contrast:g}"
    return [title, "\n".join(f"- {line}" for line in lines), table(HEADER, rows)]


def _row(name: str, reuse: bool, found: list[dict[str, Any]]) -> list[str]:
    def middle(*keys: str) -> float:
        values = found
        for key in keys:
            values = [value[key] for value in values]
        return median(values)

    return [
        marked(name) + ("" if reuse else ", set up anew every frame"),
        str(len(found)),
        f"{middle('fps_mean'):.1f}",
        f"{middle('iterations_mean'):.1f}",
        *(f"{middle('mean', phase):.2f}" for phase in PHASES),
        str(sum(summary["unconverged"] for summary in found)),
    ]
