"""The benchmark: the same problems through every preconditioner, every solve kept, failures counted.

The problems are the barrier frames of precond.gallery. At each size every method has one solve that is not
counted, then the methods take turns at each frame in an order drawn from the seed, so that a slow minute of
the machine hits all of them. Set-up is timed anew for every frame.
"""

from __future__ import annotations

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
from app.output import free_directory, now, stop_signals, usable_directory
from app.settings import BenchSettings
from precond import PCG, PoissonOperator, PreconditionerError, available_preconditioners, make_preconditioner
from precond.gallery import benchmark_density

TIMES = ("setup_ms", "inference_ms", "solve_ms", "total_ms")
CONVERGED = "converged"


class Contest:
    """The methods on one grid: one operator, updated from frame to frame, and one preconditioner each."""

    def __init__(self, settings: BenchSettings, size: int, methods: list[str]) -> None:
        self._settings = settings
        self._size = size
        self._device = torch.device(settings.device)
        warm_up = benchmark_density(size, 0, "train", settings.contrast)
        self._operator = PoissonOperator.from_density(warm_up.density, warm_up.solid, device=self._device)
        self._solvers = {
            name: PCG(
                self._operator,
                make_preconditioner(name, self._operator),
                rtol=settings.rtol,
                max_iterations=settings.max_iterations,
            )
            for name in methods
        }
        for name in methods:
            self._solve(name, warm_up.b)

    def frame(self, frame: int, order: list[str]) -> list[dict[str, Any]]:
        """One row for each method of ``order`` on test frame ``frame``."""
        problem = benchmark_density(self._size, frame, "test", self._settings.contrast)
        density = problem.density.to(self._device)  # (nx, ny)
        rows = []
        for turn, name in enumerate(order):
            self._operator.update(density)
            row = {"cells": self._size, "frame": frame, "preconditioner": name, "turn": turn}
            rows.append(row | self._solve(name, problem.b))
        return rows

    def _solve(self, name: str, b: torch.Tensor) -> dict[str, Any]:
        solver = self._solvers[name]
        try:
            solver.preconditioner.setup(self._operator)
            report = solver.solve(b.to(self._device))
        except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            unknown = dict.fromkeys(("iterations", "relative_residual", *TIMES))
            return {"outcome": f"failed: {reason}", **unknown}
        times = [1e3 * report.seconds[part] for part in ("setup", "inference", "solve")]
        residual = report.relative_residual
        return {
            "outcome": report.outcome.value,
            "iterations": report.iterations,
            "relative_residual": residual if math.isfinite(residual) else None,
            **dict(zip(TIMES, [*times, sum(times)], strict=True)),
        }


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


def tabulate(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per size and method over ALL its rows: an unconverged solve counts as failed and stays in."""
    table = []
    for cells, name in dict.fromkeys((row["cells"], row["preconditioner"]) for row in rows):
        mine = [row for row in rows if (row["cells"], row["preconditioner"]) == (cells, name)]
        iterations = [row["iterations"] for row in mine if row["iterations"] is not None]
        entry = {
            "cells": cells,
            "preconditioner": name,
            "frames": len(mine),
            "failed": sum(row["outcome"] != CONVERGED for row in mine),
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
    return sorted(table, key=lambda entry: entry["cells"])


def format_table(table: list[dict[str, Any]]) -> str:
    """The table as text; milliseconds are `median (p95)`."""
    lines = [
        f"{'cells':>8}  {'preconditioner':<15}{'failed':>8}{'iterations':>18}"
        + "".join(f"{name.removesuffix('_ms') + ' ms':>20}" for name in TIMES)
    ]
    for entry in table:
        mean = entry["iterations_mean"]
        iterations = "-" if mean is None else f"{mean:.1f} +- {entry['iterations_std']:.1f}"
        times = [
            "-"
            if entry[name]["median"] is None
            else f"{entry[name]['median']:.2f} ({entry[name]['p95']:.2f})"
            for name in TIMES
        ]
        failed = f"{entry['failed']}/{entry['frames']}"
        lines.append(
            f"{entry['cells']:>8}  {entry['preconditioner']:<15}{failed:>8}{iterations:>18}"
            + "".join(f"{time:>20}" for time in times)
        )
    return "\n".join(lines)


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
                _write(directory, {**header, "ended": "not yet", "table": tabulate(rows), "rows": rows})
    ended = f"interrupted by {received[0].name}" if received else "completed"
    table = tabulate(rows)
    _write(directory, {**header, "ended": ended, "table": table, "rows": rows})
    print(format_table(table))
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")
    print(f"median (p95) of {settings.frames} frames; {ended}; every solve: {directory / 'bench.json'}")
    return 128 + received[0] if received else 0


def _write(directory: Path, content: dict[str, Any]) -> None:
    part = directory / "bench.json.part"
    part.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    part.replace(directory / "bench.json")
