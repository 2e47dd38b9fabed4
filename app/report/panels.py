"""A file of `bench` as panels: one table each, a row per method and a column per value of what was varied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.bench.row import COMPUTING, SETTING
from app.bench.settings import WELL_POSED
from app.report.results import Bench, Solves, exponent
from precond import is_learned, registered_preconditioners

CURVES = ("cells", "contrast", "rtol")  # sweeps that make a curve from three values on
SWEEPS = (*CURVES, "split", "family")  # what columns can be: that of the most values, curves first
NOT_ITERATIVE = ("direct", "peer:superlu", "peer:cholmod")  # out of the competition for the fewest iterations
Column = Callable[[Solves], tuple[float, float] | None]


@dataclass(frozen=True)
class Panel:
    """Solves that differ in method and ``sweep``, one of SWEEPS, alone.

    title: what distinguishes it from the file's other panels, may be empty. fixed: the setting that all
    share. columns: values of the sweep. methods: names, in the registry's order. solves: by method and
    column.
    """

    title: str
    fixed: dict[str, Any]
    sweep: str
    columns: tuple[Any, ...]
    methods: tuple[str, ...]
    solves: dict[tuple[str, Any], Solves]

    def of(self, method: str) -> list[tuple[Any, Solves]]:
        """The columns that ``method`` has, with what was measured there."""
        return [(column, self.solves[method, column]) for column in self.columns if self.has(method, column)]

    def has(self, method: str, column: Any) -> bool:
        """Whether ``method`` ran there."""
        return (method, column) in self.solves

    @property
    def drawable(self) -> bool:
        """Whether its sweep makes a curve: three positive numbers or more."""
        numbers = [column for column in self.columns if isinstance(column, int | float) and column > 0]
        return self.sweep in CURVES and len(numbers) == len(self.columns) > 2

    def measured(self, name: str) -> bool:
        """Whether any of its solves has the measure ``name``."""
        return any(solves.measure(name) is not None for solves in self.solves.values())

    def exponent(self, method: str, measure: Column) -> float | None:
        """p of ``measure`` ~ cells^p over the sizes at which all frames converged, three at the least."""
        if self.sweep != "cells":
            return None
        points = [(cells, measure(solves)) for cells, solves in self.of(method) if not solves.failed]
        points = [(cells, value[0]) for cells, value in points if value is not None]
        return exponent([cells for cells, _ in points], [value for _, value in points])


def panels(bench: Bench) -> list[Panel]:
    """The panels of a file, in its order."""
    values = {name: {solves.setting[name] for solves in bench.solves} for name in SWEEPS}
    sweep = max(SWEEPS, key=lambda name: (name in CURVES and len(values[name]) > 2, len(values[name])))
    others = [name for name in SETTING if name != sweep]
    distinguishing = [name for name in others if len({solves.setting[name] for solves in bench.solves}) > 1]
    groups: dict[tuple[Any, ...], list[Solves]] = {}
    for solves in bench.solves:
        groups.setdefault(tuple(solves.setting[name] for name in others), []).append(solves)
    result = []
    for key, members in groups.items():
        fixed = dict(zip(others, key, strict=True))
        members_of = {(solves.name, solves.setting[sweep]): solves for solves in members}
        columns = dict.fromkeys(column for _, column in members_of)
        if all(isinstance(column, int | float) for column in columns):
            columns = sorted(columns, reverse=sweep == "rtol")
        title = ", ".join(describe(name, fixed[name]) for name in distinguishing if fixed[name] is not None)
        methods = tuple(sorted({method for method, _ in members_of}, key=_rank))
        result.append(Panel(title, fixed, sweep, tuple(columns), methods, members_of))
    return result


def _rank(method: str) -> tuple[int, str]:
    """In the order of the registry, peers after it."""
    names = list(registered_preconditioners())
    return (names.index(method) if method in names else len(names), method)


def describe(name: str, value: Any) -> str:
    """One part of a setting in words."""
    if name == "cells":
        return f"N = {value:,}"
    if name == "rtol":
        return f"rtol {power(value)}"
    if name == "contrast":
        return "the family's own contrast" if value is None else f"contrast {value:,g}"
    if name == "rule":
        return f"{value.upper()} rule"
    if name == "split":
        return f"{value} frames"
    if name == "conditions" and value != WELL_POSED:
        return f"{value} conditions"
    return str(value)


def power(value: float) -> str:
    """0.01 as 1e-2."""
    mantissa, digits = f"{value:e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(digits)}"


def marked(method: str) -> str:
    """``method`` for a table, learned ones with a dagger."""
    return f"`{method}`" + (" †" if is_learned(method) else "")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    lines = [header, [":---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def three_digits(value: float) -> str:
    """``value`` > 0 to a precision that fits a table: 0.01, 12.3, 1,234."""
    if value >= 100.0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10.0 else f"{value:.2f}"


def two_decimals(value: float) -> str:
    """An exponent, without a sign where it is zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def median_and_p95(value: tuple[float, float] | None) -> str:
    """median (95th percentile)."""
    return "-" if value is None else f"{three_digits(value[0])} ({three_digits(value[1])})"


def computing_table(bench: Bench) -> str | None:
    """What each method computes with; None for a file that does not tell."""
    rows = []
    for method in sorted({solves.name for solves in bench.solves}, key=_rank):
        mine = [solves for solves in bench.solves if solves.name == method]
        found = [sorted({value for solves in mine for value in solves.computing(name)}) for name in COMPUTING]
        if any(found):
            rows.append([marked(method), *(", ".join(map(str, values)) or "-" for values in found)])
    return table(["method", *COMPUTING], rows) if rows else None


def column_of(measure: str) -> Column:
    """What a solve has of "iterations", mean and deviation, or of a measure, median and 95th percentile."""
    return Solves.iterations if measure == "iterations" else lambda solves: solves.measure(measure)


def iterations_table(panel: Panel) -> str:
    """Mean and deviation over the frames that converged, with how many did not; the fewest in bold, direct
    solvers aside.
    """

    def cell(solves: Solves) -> str:
        counts = solves.iterations()
        text = "-" if counts is None else f"{counts[0]:.1f} ± {counts[1]:.1f}"
        return text + (f" ({solves.failed} of {solves.frames} failed)" if solves.failed else "")

    return _pivot(panel, cell, Solves.iterations, NOT_ITERATIVE)


def measure_table(panel: Panel, name: str) -> str:
    """Median and 95th percentile of one measure; the lowest median in bold."""
    measure = column_of(name)
    return _pivot(panel, lambda solves: median_and_p95(measure(solves)), measure)


def parts_table(panel: Panel) -> str:
    """Set-up, inference and solve."""

    def cell(solves: Solves) -> str:
        parts = [solves.measure(name) for name in ("setup_ms", "inference_ms", "solve_ms")]
        if parts[1] is not None and parts[1][1] == 0.0:
            parts[1] = None
        return " / ".join(map(median_and_p95, parts))

    return _pivot(panel, cell, None)


def _pivot(
    panel: Panel, cell: Callable[[Solves], str], value: Column | None, aside: tuple[str, ...] = ()
) -> str:
    """One row per method; with ``value`` the lowest of each column in bold, but for methods ``aside``, and
    the exponent where there is one.
    """
    best = {column: lowest(panel, column, value, aside) for column in panel.columns} if value else {}
    fits = {method: panel.exponent(method, value) if value else None for method in panel.methods}
    fitted = any(fit is not None for fit in fits.values())
    rows = []
    for method in panel.methods:
        row = [marked(method)]
        for column in panel.columns:
            text = cell(panel.solves[method, column]) if panel.has(method, column) else ""
            row.append(f"**{text}**" if method in best.get(column, ()) else text)
        if fitted:
            row.append("-" if fits[method] is None else two_decimals(fits[method]))
        rows.append(row)
    header = ["method", *(describe(panel.sweep, column) for column in panel.columns)]
    return table([*header, "N^p, p ="] if fitted else header, rows)


def lowest(panel: Panel, column: Any, value: Column, aside: tuple[str, ...] = ()) -> list[str]:
    """The methods with the lowest ``value`` among those that converged on every frame of ``column`` and are
    not ``aside``; several where it is the same, none where one method alone ran.
    """
    ran = [m for m in panel.methods if panel.has(m, column) and m not in aside]
    found = {}
    for method in ran:
        solves = panel.solves[method, column]
        known = value(solves)
        if known is not None and not solves.failed:
            found[method] = known[0]
    least = min(found.values(), default=0.0)
    return [method for method, known in found.items() if known == least] if len(ran) > 1 else []
