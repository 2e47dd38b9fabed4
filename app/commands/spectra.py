"""`spectra`: the eigenvalues of M A and the convergence of every preconditioner on two frames, into one file.

Counts and spectra do not depend on the machine's load, so they need no repetition.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.environment import describe, use_one_thread
from app.output import command_line, now, usable_file, write_whole
from precond import PCG, PoissonOperator, PreconditionerError, available_preconditioners, make_preconditioner
from precond.analysis.spectra import root_on_range, spectrum
from precond.errors import in_one_line
from precond.problems.gallery import problem
from sim.settings import SettingsError

CASES = (("barriers", None), ("bubbles", 10_000.0))  # family and contrast of the frames, test frame 0 of each
RTOL = 1e-10
MAX_ITERATIONS = 10_000
SMALLEST, LARGEST = 64, 4096  # cells; the cost is cubic in them
DIGITS = 4  # significant ones of the eigenvalues and residuals that are kept
FAILURES = (ArithmeticError, MemoryError, RuntimeError, ValueError, np.linalg.LinAlgError)


def spectra(out: str, cells: int) -> int:
    """Measure on ``cells`` cells, write the JSON file ``out`` and print a table; returns 0.

    Raises SettingsError for a number of cells beyond SMALLEST to LARGEST, OutputError where ``out`` exists or
    cannot be written.
    """
    if not SMALLEST <= cells <= LARGEST:
        raise SettingsError(f"--cells: {cells} is not a whole number from {SMALLEST} to {LARGEST}")
    use_one_thread()
    path = usable_file(out)
    names = available_preconditioners()
    results: dict[str, Any] = {
        "command": command_line(),
        "date": now(),
        **describe(),
        "settings": {"cells": cells, "rtol": RTOL, "max_iterations": MAX_ITERATIONS},
        "cases": [],
    }
    with tqdm(total=len(CASES) * len(names), unit="method", disable=None, file=sys.stderr) as bar:
        for family, contrast in CASES:
            system = problem(family, cells, 0, "test", contrast)
            operator = system.operator()
            root = root_on_range(operator)
            case = {"family": family, "contrast": contrast, "cells": cells, "frame": 0, "rows": []}
            for name in names:
                bar.set_description(f"{family}, {name}")
                case["rows"].append({"preconditioner": name, **_row(name, operator, root, system.b)})
                bar.update()
            results["cases"].append(case)
    _write(path, results)
    print(format_table(results["cases"]))
    print(f"{cells} cells, test frame 0; iterations to {RTOL:g}; every eigenvalue and residual: {path}")
    return 0


def _row(name: str, operator: PoissonOperator, root: np.ndarray, b: Any) -> dict[str, Any]:
    """What is measured of one preconditioner; a failure in words under "outcome" or "refused"."""
    try:
        preconditioner = make_preconditioner(name, operator)
        preconditioner.setup()
        report = PCG(operator, preconditioner, RTOL, MAX_ITERATIONS).solve(b)
    except (*FAILURES, PreconditionerError) as error:
        return {"outcome": f"failed: {in_one_line(error)}", "refused": in_one_line(error)}
    row = {
        "note": preconditioner.note,
        "outcome": report.outcome.value,
        "iterations": report.iterations,
        "history": _rounded(report.history),
    }
    try:
        found = spectrum(preconditioner, root)
    except FAILURES as error:
        return {**row, "refused": in_one_line(error)}
    return {
        **row,
        "condition_number": found.condition_number,
        "log_kaporin": found.log_kaporin,
        "negative": found.negative,
        "asymmetry": found.asymmetry,
        "eigenvalues": _rounded(found.eigenvalues.tolist()),
    }


def format_table(cases: list[dict[str, Any]]) -> str:
    """The figures of every spectrum as text."""
    lines = []
    for case in cases:
        contrast = "" if case["contrast"] is None else f", contrast {case['contrast']:g}"
        lines.append(
            f"{case['family'] + contrast:<26}{'iterations':>11}{'smallest':>11}{'largest':>11}"
            f"{'condition':>12}{'log Kaporin / n':>17}{'negative':>10}"
        )
        for row in case["rows"]:
            if "eigenvalues" not in row:
                lines.append(f"{row['preconditioner']:<26}  {row['refused']}")
                continue
            count = row["iterations"] if row["outcome"] == "converged" else row["outcome"].split()[0]
            condition, kaporin = row["condition_number"], row["log_kaporin"]
            lines.append(
                f"{row['preconditioner']:<26}{count:>11}{row['eigenvalues'][0]:>11.3g}"
                f"{row['eigenvalues'][-1]:>11.3g}{'-' if condition is None else f'{condition:.4g}':>12}"
                f"{'-' if kaporin is None else f'{kaporin:.4f}':>17}{row['negative']:>10}"
            )
    return "\n".join(lines)


def _rounded(values: list[float]) -> list[float | None]:
    """To DIGITS significant digits, which keeps the file small; None for what is not finite."""
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values]


def _write(path: Path, results: dict[str, Any]) -> None:
    """One line for each preconditioner."""
    cases = []
    for case in results["cases"]:
        head = json.dumps({**case, "rows": []}, allow_nan=False).removesuffix("]}")
        rows = (json.dumps(row, allow_nan=False, separators=(",", ":")) for row in case["rows"])
        cases.append("  " + head + "\n   " + ",\n   ".join(rows) + "\n  ]}")
    head = json.dumps({**results, "cases": []}, indent=1, allow_nan=False).removesuffix("[]\n}")
    write_whole(path, head + "[\n" + ",\n".join(cases) + "\n ]\n}\n")
