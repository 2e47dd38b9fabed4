"""One row of the benchmark's results: which solve it is of, what was measured, and whether to believe the
seconds.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

import torch

from app.bench.held_memory import precision
from app.bench.settings import Case
from app.report.kinds import check_kinds
from precond.problems.published import LEFT_EARLY

TIMES = ("setup_ms", "inference_ms", "solve_ms", "total_ms")
MEASURES = (*TIMES, "ms_per_iteration", "matrix_products", "memory_mib")
COMPUTING = ("engine", "threads", "precision")  # how a method computes
SETTING = ("family", "split", "conditions", "rule", "contrast", "rtol", "cells")  # of the problems
CONVERGED = "converged"
STOPPED = (CONVERGED, LEFT_EARLY)  # as the rule has it: no failure
KINDS = {  # of what a row holds
    **dict.fromkeys(("family", "split", "conditions", "preconditioner", "outcome"), str),
    **dict.fromkeys(("cells", "frame"), int),
    **dict.fromkeys(("iterations", "threads"), int | None),
    **dict.fromkeys(("contrast", *MEASURES), int | float | None),
    **dict.fromkeys(("rule", "note", "engine", "precision"), str | None),
    "rtol": int | float,
}
OPTIONAL = (*MEASURES, *COMPUTING, "rule", "note")  # in a row of an earlier form, or where it has no meaning
LOST_SECONDS = 0.02  # that may pass between the two clocks' readings on a busy machine


def row_head(case: Case, frame: int, name: str, turn: int) -> dict[str, Any]:
    """Which solve a row is of."""
    return {
        "family": case.family,
        "split": case.split,
        "conditions": case.conditions,
        "contrast": case.contrast,
        "rtol": case.rtol,
        "cells": case.cells,
        "frame": frame,
        "preconditioner": name,
        "turn": turn,
    }


def measures(
    iterations: int,
    residual: float,
    seconds: dict[str, float],
    products: int | None,
    held: Counter[str] | None,
    engine: str,
) -> dict[str, Any]:
    """What a row says of a solve that ended. ms_per_iteration is of the solve alone. ``products`` and
    ``held`` are None where a library does not tell them.
    """
    times = [1e3 * seconds[part] for part in ("setup", "inference", "solve")]
    return {
        "iterations": iterations,
        "relative_residual": residual if math.isfinite(residual) else None,
        **dict(zip(TIMES, [*times, sum(times)], strict=True)),
        "ms_per_iteration": times[2] / iterations if iterations else None,
        "matrix_products": products,
        "memory_mib": None if held is None else sum(held.values()) / 2**20,
        "engine": engine,
        "threads": torch.get_num_threads(),
        "precision": precision(held or Counter()),
    }


def failed(reason: str) -> dict[str, Any]:
    """What a row says of a solve that gave no report."""
    absent = dict.fromkeys(("iterations", "relative_residual", *MEASURES, *COMPUTING))
    return {"outcome": f"failed: {reason}", "note": "", **absent}


def check_row(row: dict[str, Any], number: int) -> None:
    """Raise KeyError or ValueError unless ``row`` holds what KINDS says, and of a solve that did not fail its
    iterations and time.
    """
    row = dict.fromkeys(OPTIONAL) | row
    check_kinds(row, KINDS, f"row {number}: ")
    if row["outcome"] in STOPPED and (row["iterations"] is None or not row["total_ms"]):
        raise ValueError(f"row {number}: {row['outcome']} without iterations or time")


def clock_fault(seconds: dict[str, float], elapsed: float) -> str:
    """What is wrong with ``seconds`` ("setup", "inference", "solve") measured within ``elapsed`` seconds of
    another clock; empty when they can be believed.
    """
    parts = [seconds[part] for part in ("setup", "inference", "solve")]
    if not all(math.isfinite(part) for part in parts):
        return f"the clock gave {parts} s for set-up, inference and solve"
    if min(parts) < 0.0:
        return f"the clock ran backwards: {parts} s for set-up, inference and solve"
    if parts[2] == 0.0:
        return "the clock stood still during the solve"
    total = sum(parts)
    coarse = 2.0 * time.get_clock_info("monotonic").resolution + 1e-5
    if total > 1.001 * elapsed + coarse or total < 0.5 * elapsed - LOST_SECONDS:
        return f"the seconds do not add up: {total:.3g} s within {elapsed:.3g} s of another clock"
    return ""
