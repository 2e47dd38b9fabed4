"""The benchmark: the same problems through every preconditioner, every solve kept, failures counted.

The problems are frames of a family of precond.gallery. At each size every method has one solve that is not
counted, then the methods take turns at each frame in an order drawn from the seed, so that a slow minute of
the machine hits all of them. Set-up is timed anew for every frame.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from app.environment import describe, use_one_thread
from app.output import OutputError, free_directory, now, stop_signals, usable_directory
from app.settings import BenchSettings
from precond import PCG, PoissonOperator, PreconditionerError, available_preconditioners, make_preconditioner
from precond.gallery import problem

TIMES = ("setup_ms", "inference_ms", "solve_ms", "total_ms")
CONVERGED = "converged"
FAILURES = (ArithmeticError, MemoryError, RuntimeError, ValueError)


class Contest:
    """The methods on one grid: one operator, updated from frame to frame, and one preconditioner each."""

    def __init__(self, settings: BenchSettings, size: int, methods: list[str]) -> None:
        self._settings = settings
        self._size = size
        self._device = torch.device(settings.device)
        warm_up = problem(settings.family, size, 0, "train", settings.contrast)
        self._operator = PoissonOperator.from_density(warm_up.density, warm_up.solid, device=self._device)
        self._solvers: dict[str, PCG] = {}
        self._broken: dict[str, str] = {}  # methods that cannot be made at this size, and why
        for name in methods:
            try:
                preconditioner = make_preconditioner(name, self._operator)
            except FAILURES as error:
                self._broken[name] = _reason(error)
                continue
            self._solvers[name] = PCG(
                self._operator, preconditioner, rtol=settings.rtol, max_iterations=settings.max_iterations
            )
            self._solve(name, warm_up.b)

    def frame(self, frame: int, order: list[str]) -> list[dict[str, Any]]:
        """One row for each method of ``order`` on test frame ``frame``."""
        settings = self._settings
        system = problem(settings.family, self._size, frame, "test", settings.contrast)
        density = system.density.to(self._device)  # (nx, ny)
        rows = []
        if not torch.equal(system.solid, self._operator.solid.cpu()):
            self._operator.set_solid(system.solid)
        for turn, name in enumerate(order):
            self._operator.update(density)
            row = {"cells": self._size, "frame": frame, "preconditioner": name, "turn": turn}
            rows.append(row | self._solve(name, system.b))
        return rows

    def _solve(self, name: str, b: torch.Tensor) -> dict[str, Any]:
        if name in self._broken:
            return _failed(self._broken[name])
        solver = self._solvers[name]
        try:
            solver.preconditioner.setup(self._operator)
            report = solver.solve(b.to(self._device))
        except FAILURES as error:
            return _failed(_reason(error))
        times = [1e3 * report.seconds[part] for part in ("setup", "inference", "solve")]
        residual = report.relative_residual
        return {
            "outcome": report.outcome.value,
            "note": solver.preconditioner.note,
            "iterations": report.iterations,
            "relative_residual": residual if math.isfinite(residual) else None,
            **dict(zip(TIMES, [*times, sum(times)], strict=True)),
        }


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _failed(reason: str) -> dict[str, Any]:
    """What a row says of a solve that gave no report."""
    return {"outcome": f"failed: {reason}", **dict.fromkeys(("iterations", "relative_residual", *TIMES))}


def usable_methods(settings: BenchSettings) -> tuple[list[str], dict[str, str]]:
    """The methods to compare, and why others are left out. PreconditionerError for one that was named."""
    probe = PoissonOperator.from_density(torch.ones(8, 8, dtype=torch.float64), device=settings.device)
    methods, skipped = [], {}
    for name in settings.preconds or available_preconditioners():
        try:
            make_preconditioner(name, probe)
        except PreconditionerError as error:
            if settings.preconds:
                raise
            skipped[name] = str(error)
        else:
            methods.append(name)
    return methods, skipped


def tabulate(rows: list[dict[str, Any]], methods: list[str]) -> list[dict[str, Any]]:
    """One entry per size and method. Times are over all its rows; an unconverged solve counts as failed, and
    its iterations, few where a solve broke down, stay out of the mean.
    """
    table = []
    for cells, name in itertools.product(sorted({row["cells"] for row in rows}), methods):
        mine = [row for row in rows if (row["cells"], row["preconditioner"]) == (cells, name)]
        iterations = [row["iterations"] for row in mine if row["outcome"] == CONVERGED]
        entry = {
            "cells": cells,
            "preconditioner": name,
            "frames": len(mine),
            "failed": sum(row["outcome"] != CONVERGED for row in mine),
            "note": next((row["note"] for row in mine if row.get("note")), ""),
            "iterations_mean": float(np.mean(iterations)) if iterations else None,
            "iterations_std": float(np.std(iterations, ddof=1)) if len(iterations) > 1 else 0.0,
        }
        for time in TIMES:
            values = [row[time] for row in mine if row[time] is not None]
            entry[time] = {
                "median": float(np.median(values)) if values else None,
                "p95": float(np.percentile(values, 95)) if values else None,
            }
        table.append(entry)
    return table


def format_table(table: list[dict[str, Any]]) -> str:
    """The table as text; milliseconds are `median (p95)`, inference only where a method has some."""
    infers = any(entry["inference_ms"]["median"] for entry in table)
    columns = [name for name in TIMES if infers or name != "inference_ms"]
    lines = [
        f"{'cells':>8}  {'preconditioner':<15}{'failed':>8}{'iterations':>18}"
        + "".join(f"{name.removesuffix('_ms') + ' ms':>20}" for name in columns)
    ]
    for entry in table:
        mean = entry["iterations_mean"]
        iterations = "-" if mean is None else f"{mean:.1f} +- {entry['iterations_std']:.1f}"
        times = [
            "-"
            if entry[name]["median"] is None
            else f"{entry[name]['median']:.2f} ({entry[name]['p95']:.2f})"
            for name in columns
        ]
        failed = f"{entry['failed']}/{entry['frames']}"
        lines.append(
            f"{entry['cells']:>8}  {entry['preconditioner']:<15}{failed:>8}{iterations:>18}"
            + "".join(f"{time:>20}" for time in times)
        )
    notes = [
        f"{entry['preconditioner']}, {entry['cells']} cells: {entry['note']}"
        for entry in table
        if entry["note"]
    ]
    return "\n".join(lines + notes)


def bench(settings: BenchSettings) -> int:
    """Run the benchmark, print its table, write bench.json; returns the exit code (0, or 128 + signal)."""
    use_one_thread()
    methods, skipped = usable_methods(settings)
    directory = usable_directory(settings.out or free_directory(Path("runs") / "bench"))
    rows: list[dict[str, Any]] = []
    header = {
        "command": shlex.join(["htp-fluid", *sys.argv[1:]]),
        "date": now(),
        "settings": settings.as_dict(),
        **describe(),
        "skipped": skipped,
    }
    shuffle = random.Random(settings.seed)
    total = len(settings.sizes) * settings.frames * len(methods)
    with stop_signals() as received, tqdm(total=total, unit="solve", disable=None, file=sys.stderr) as bar:
        for size in settings.sizes:
            if received:
                break
            bar.set_description(f"{size} cells")
            contest = Contest(settings, size, methods)
            for frame in range(settings.frames):
                if received:
                    break
                rows += contest.frame(frame, shuffle.sample(methods, len(methods)))
                bar.update(len(methods))
                _write(
                    directory, {**header, "ended": "not yet", "table": tabulate(rows, methods), "rows": rows}
                )
    ended = f"interrupted by {received[0].name}" if received else "completed"
    table = tabulate(rows, methods)
    _write(directory, {**header, "ended": ended, "table": table, "rows": rows})
    print(format_table(table))
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")
    hardware = header["hardware"]
    print(f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} cores, 1 torch thread")
    print(f"median (p95) of {settings.frames} frames; {ended}; every solve: {directory / 'bench.json'}")
    return 128 + received[0] if received else 0


def _write(directory: Path, content: dict[str, Any]) -> None:
    part = directory / "bench.json.part"
    try:
        part.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
        part.replace(directory / "bench.json")
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {error.strerror}") from None
