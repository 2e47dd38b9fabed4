"""The benchmark: the same problems through every preconditioner, every solve kept, failures counted.

At each case every method has warm-ups that are not counted, then the methods take turns at each frame in an
order drawn from the seed, so that a slow minute of the machine hits all of them. Set-up is timed anew for
every frame. Rows are on disk after every frame, and the same command with the same directory goes on where a
run stopped.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from app.bench.contest import entrants, make_contest
from app.bench.external import missing
from app.bench.file import COMPLETED, UNFINISHED, check_same, read_results, write_results
from app.bench.row import row_head
from app.bench.settings import PEERS, PUBLISHED, PUBLISHED_PRECONDITIONERS, BenchSettings
from app.bench.table import format_table, tabulate
from app.environment import describe, use_one_thread
from app.output import command_line, free_directory, now, stop_signals, usable_directory
from precond import PoissonOperator, PreconditionerError, available_preconditioners, make_preconditioner
from precond.device import while_node

RESULTS = "bench.json"
FRAME = ("family", "split", "conditions", "contrast", "rtol", "cells", "frame")


def usable_methods(settings: BenchSettings) -> tuple[list[str], dict[str, str]]:
    """The methods to compare, and why others are left out. PreconditionerError for one that was named."""
    if settings.conditions == PUBLISHED:
        return list(settings.preconds or PUBLISHED_PRECONDITIONERS), {}
    probe = PoissonOperator.from_density(torch.ones(8, 8, dtype=torch.float64), device=settings.device)
    methods, skipped = [], {}
    if settings.single_launch and (reason := while_node.missing(probe.device)):
        skipped["single launch"] = f"{reason}; blocks of iterations are launched"
    for name in settings.preconds or available_preconditioners():
        try:
            make_preconditioner(name, probe)
        except PreconditionerError as error:
            if settings.preconds:
                raise
            skipped[name] = str(error)
        else:
            methods.append(name)
    for name in settings.peers:
        reason = missing(name)
        if reason and settings.peers != PEERS:
            raise PreconditionerError(f"peers: {name} {reason}")
        if reason:
            skipped[name] = reason
        else:
            methods.append(name)
    return methods, skipped


def bench(settings: BenchSettings) -> int:
    """Run the benchmark into its directory's bench.json, or go on with it; returns what `run` does."""
    directory = Path(settings.out) if settings.out else free_directory(Path("runs") / "bench")
    return run(settings, directory / RESULTS)


def run(settings: BenchSettings, path: Path) -> int:
    """Run what ``path`` lacks of the benchmark, print its table; returns the exit code (0, or 128 + signal).

    Raises PreconditionerError for a named method that cannot run, OutputError when ``path`` cannot be written
    or holds other results.
    """
    use_one_thread()
    methods, skipped = usable_methods(settings)
    header, rows, ended = _begin(settings, path, skipped)
    if ended == COMPLETED:
        return _print(settings, path, header, tabulate(rows, methods), ended)
    session = len(header["sessions"])
    header["sessions"].append(_session(header))
    done = {_key(row) for row in rows}
    turns, shuffle = entrants(settings, methods), random.Random(settings.seed)
    cases = settings.cases()
    total = len(cases) * settings.frames * len(turns)
    with stop_signals() as received, tqdm(total=total, unit="solve", disable=None, file=sys.stderr) as bar:
        for case in cases:
            bar.set_description(f"{case.cells} cells")
            contest = None
            for frame in range(settings.frames):
                order = shuffle.sample(turns, len(turns))  # drawn for finished frames too: the same for all
                bar.update(len(turns))
                if received or _key(row_head(case, frame, "", 0)) in done:
                    continue
                contest = contest or make_contest(case, settings, turns)
                rows += [{**row, "session": session} for row in contest.frame(frame, order)]
                write_results(
                    path, {**header, "ended": UNFINISHED, "table": tabulate(rows, methods), "rows": rows}
                )
    ended = f"interrupted by {received[0].name}" if received else COMPLETED
    table = tabulate(rows, methods)
    write_results(path, {**header, "ended": ended, "table": table, "rows": rows})
    _print(settings, path, header, table, ended)
    return 128 + received[0] if received else 0


def _print(
    settings: BenchSettings, path: Path, header: dict[str, Any], table: list[dict[str, Any]], ended: str
) -> int:
    if table:
        print(format_table(table))
    for name, reason in header["skipped"].items():
        print(f"left out: {name}: {reason}")
    hardware = header["hardware"]
    device = hardware["gpu"] if settings.device == "cuda" else hardware["cpu"]
    print(f"{device}, {hardware['cores']} cores, 1 torch thread")
    print(f"median (p95) of {settings.frames} frames; {ended}; every solve: {path}")
    return 0


def _begin(
    settings: BenchSettings, path: Path, skipped: dict[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """The header, the rows that are there and how the run that left them ended."""
    header = {
        "command": command_line(),
        "date": now(),
        "settings": settings.as_dict(),
        **describe(),
        "skipped": skipped,
        "sessions": [],
    }
    if not os.path.isfile(path):  # unlike Path.is_file False, too, for a name that is too long
        usable_directory(path.parent)
        return header, [], UNFINISHED
    found = read_results(path)
    check_same(path, found, header)
    head = found if found["ended"] == COMPLETED else header
    return {**head, "sessions": found["sessions"]}, found["rows"], found["ended"]


def _session(header: dict[str, Any]) -> dict[str, Any]:
    """Who adds rows: machine, commit and date."""
    return {name: header[name] for name in ("date", "commit", "hardware", "command")}


def _key(row: dict[str, Any]) -> tuple:
    """The case and frame of a row."""
    return tuple(row[name] for name in FRAME)
