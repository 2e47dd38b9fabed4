"""`validate`: known results of fluid dynamics, computed and compared with their references."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from app.environment import describe, use_one_thread
from app.output import command_line, now, usable_file, write_whole
from app.validation.capillary_wave import CapillaryWave
from app.validation.case import Case, Curve, Measured, load_known
from app.validation.dam_break import DamBreak
from app.validation.hydrostatic import Hydrostatic
from app.validation.rayleigh_taylor import RayleighTaylor
from app.validation.reversed_vortex import ReversedVortex
from app.validation.rising_bubble import RisingBubble
from app.validation.static_drop import StaticDrop
from app.validation.taylor_green import TaylorGreen
from app.validation.zalesak import Zalesak
from precond.errors import UsageError, in_one_line

CASES: dict[str, type[Case]] = {
    "reversed-vortex": ReversedVortex,
    "zalesak": Zalesak,
    "taylor-green": TaylorGreen,
    "hydrostatic": Hydrostatic,
    "dam-break": DamBreak,
    "rayleigh-taylor-256": RayleighTaylor,
    "rayleigh-taylor-3000": RayleighTaylor,
    "static-drop": StaticDrop,
    "capillary-wave": CapillaryWave,
    "rising-bubble-1": RisingBubble,
    "rising-bubble-2": RisingBubble,
}


def validate(out: str | None, cases: list[str] | None, quick: bool) -> int:
    """Run ``cases``, all by default, ``quick`` on coarse grids; print a table, and write validation.json and
    one figure a case into the directory ``out``. Returns 0, or 1 when a figure misses its tolerance.

    Raises UsageError for an unknown case, OutputError where ``out`` holds results or cannot be written.
    """
    names = cases or list(CASES)
    for name in names:
        if name not in CASES:
            raise UsageError(f"--cases: {name!r} is not one of {', '.join(CASES)}")
    file = usable_file(Path(out) / "validation.json") if out else None
    use_one_thread()
    known, results = load_known(), []
    for name in tqdm(names, unit="case", disable=None, file=sys.stderr):
        case, begin = CASES[name](known[name], quick), time.perf_counter()
        try:
            case.run()
        except (ArithmeticError, RuntimeError) as error:
            case.measured.append(Measured(in_one_line(error), math.nan, "a run that ends"))
        results.append(_result(name, case, time.perf_counter() - begin))
        tqdm.write("\n".join(_table(results[-1])))
        if file and importlib.util.find_spec("matplotlib") is not None:
            _draw(case, known[name]["title"], file.with_name(f"{name}.svg"))
    passed = all(row["passed"] for result in results for row in result["figures"])
    if file:
        head = {"command": command_line(), "date": now(), **describe(), "quick": quick}
        write_whole(file, json.dumps({**head, "cases": results}).replace('{"case"', '\n{"case"') + "\n")
    print("all figures within their tolerances" if passed else "a figure misses its tolerance")
    return 0 if passed else 1


def _result(name: str, case: Case, seconds: float) -> dict[str, Any]:
    known = case.known
    figures = [
        {
            "quantity": one.quantity,
            "value": one.value if math.isfinite(one.value) else None,
            "reference": one.reference,
            "passed": one.passed,
        }
        for one in case.measured
    ]
    head = {"case": name, "title": known["title"], "source": known["source"], "setup": case.setup}
    curves = {name: _thinned(curve) for name, curve in case.curves.items()}
    return {**head, "seconds": round(seconds, 1), "figures": figures, "curves": curves, "points": case.points}


def _thinned(curve: Curve) -> list[list[float]]:
    """At most 100 points of a curve, to five digits."""
    every = slice(None, None, -(-len(curve[0]) // 100))
    return [[float(f"{value:.5g}") for value in values[every]] for values in curve]


def _table(result: dict[str, Any]) -> list[str]:
    """The figures of a case as text."""
    lines = [f"{result['title']} ({result['seconds']} s)"]
    for row in result["figures"]:
        value = "-" if row["value"] is None else f"{row['value']:.5g}"
        verdict = "passed" if row["passed"] else "MISSED"
        lines.append(f"  {row['quantity']:<36}{value:>12}  {verdict}  {row['reference']}")
    return lines


def _draw(case: Case, title: str, path: Path) -> None:
    """Measured curves as lines, the reference's points as rings, into ``path``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in case.curves.items():
        (line,) = axes.plot(*curve, "." if len(curve[0]) < 9 else "-", label=name)
        axes.plot(*case.points[name], "o", mfc="none", color=line.get_color())
    axes.set(title=title, xlabel=case.axes[0], ylabel=case.axes[1])
    if "error" in case.axes[1] or "df" in case.axes[1]:
        axes.set(xscale="log", yscale="log")
    axes.legend()
    figure.savefig(path)
