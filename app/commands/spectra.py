"""`spectra`: the eigenvalues of M A and the convergence of every preconditioner on two frames, into one file.

Counts and spectra do not depend on the machine's load, so they need no repetition.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
from tqdm import tqdm

from app.bench.adapters import FAILURES
from app.environment import describe, use_one_thread
from app.output import command_line, now, usable_file, write_whole
from precond import PCG, PoissonOperator, available_preconditioners, make_preconditioner
from precond.analysis.spectra import root_on_range, spectrum
from precond.errors import UsageError, in_one_line
from precond.problems.gallery import problem

CASES = (("barriers", None), ("bubbles", 10_000.0))  # family and contrast of the frames, test frame 0 of each
RTOL = 1e-10
MAX_ITERATIONS = 10_000
SMALLEST, LARGEST = 64, 4096  # cells; the cost is cubic in them
FIGURES = {  # of a spectrum in the printed table
    "smallest": (11, lambda row: f"{row['eigenvalues'][0]:.3g}"),
    "largest": (11, lambda row: f"{row['eigenvalues'][-1]:.3g}"),
    "condition": (12, lambda row: "-" if row["negative"] else f"{row['condition_number']:.4g}"),
    "log Kaporin / n": (17, lambda row: "-" if row["negative"] else f"{row['log_kaporin']:.4f}"),
    "negative": (10, lambda row: f"{row['negative']}"),
}


def spectra(out: str, cells: int) -> int:
    """Measure on ``cells`` cells, write the JSON file ``out`` and print a table; returns 0.

    Raises UsageError for a number of cells beyond SMALLEST to LARGEST, OutputError where ``out`` exists or
    cannot be written.
    """
    if not SMALLEST <= cells <= LARGEST:
        raise UsageError(f"--cells: {cells} is not a whole number from {SMALLEST} to {LARGEST}")
    use_one_thread()
    path, names = usable_file(out), available_preconditioners(choosing=False)
    settings = {"cells": cells, "rtol": RTOL, "max_iterations": MAX_ITERATIONS}
    results = {"command": command_line(), "date": now(), **describe(), "settings": settings, "cases": []}
    with tqdm(total=len(CASES) * len(names), unit="method", disable=None, file=sys.stderr) as bar:
        for family, contrast in CASES:
            system = problem(family, cells, 0, "test", contrast)
            operator = system.operator()
            root, rows = root_on_range(operator), []
            for name in names:
                bar.set_description(f"{family}, {name}")
                rows.append({"preconditioner": name, **_row(name, operator, root, system.b)})
                bar.update()
            case = {"family": family, "contrast": contrast, "cells": cells, "frame": 0, "rows": rows}
            results["cases"].append(case)
    text = json.dumps(results, allow_nan=False).replace('{"preconditioner"', '\n {"preconditioner"')
    write_whole(path, text + "\n")
    print("\n".join(line for case in results["cases"] for line in _table(case)))
    print(f"{cells} cells, test frame 0; iterations to {RTOL:g}; every eigenvalue and residual: {path}")
    return 0


def _row(name: str, operator: PoissonOperator, root: np.ndarray, b: Any) -> dict[str, Any]:
    """What is measured of one preconditioner; a failure in words under "outcome" or "refused"."""
    row: dict[str, Any] = {}
    try:
        preconditioner = make_preconditioner(name, operator)
        preconditioner.setup()
        report = PCG(operator, preconditioner, rtol=RTOL, max_iterations=MAX_ITERATIONS).solve(b)
        row = {"note": preconditioner.note, "outcome": report.outcome.value, "iterations": report.iterations}
        row["history"] = _rounded(report.history)
        found = spectrum(preconditioner, root)
    except (*FAILURES, np.linalg.LinAlgError) as error:
        return {"outcome": f"failed: {in_one_line(error)}", **row, "refused": in_one_line(error)}
    figures = ("condition_number", "log_kaporin", "negative", "asymmetry")
    row |= {figure: getattr(found, figure) for figure in figures}
    return {**row, "eigenvalues": _rounded(found.eigenvalues.tolist())}


def _rounded(values: list[float]) -> list[float | None]:
    """To four significant digits, which keeps the file small; None for what is not finite."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values]


def _table(case: dict[str, Any]) -> list[str]:
    """The figures of the spectra of a case as text."""
    contrast = "" if case["contrast"] is None else f", contrast {case['contrast']:g}"
    heads = "".join(f"{name:>{width}}" for name, (width, _) in FIGURES.items())
    lines = [f"{case['family'] + contrast:<26}{'iterations':>11}{heads}"]
    for row in case["rows"]:
        if "eigenvalues" not in row:
            lines.append(f"{row['preconditioner']:<26}  {row['refused']}")
            continue
        count = row["iterations"] if row["outcome"] == "converged" else row["outcome"].split()[0]
        figures = "".join(f"{text(row):>{width}}" for width, text in FIGURES.values())
        lines.append(f"{row['preconditioner']:<26}{count:>11}{figures}")
    return lines
