"""The benchmark's rows in a table: one entry for each case and method, failures counted."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.bench.row import MEASURES, SETTING, STOPPED, TIMES
from precond.problems.published import LEFT_EARLY, RULES


def tabulate(rows: list[dict[str, Any]], methods: list[str]) -> list[dict[str, Any]]:
    """One entry per group of SETTING and preconditioner: groups as rows have them, rules and sizes in order.

    Times, products and memory are medians and 95th percentiles over all rows that have them. An unconverged
    solve counts as failed, and its iterations, few where a solve broke down, stay out of the mean. Under the
    published conditions solves that their rule left early are counted apart, and their iterations are in
    the mean, as published.
    """
    groups: dict[tuple, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        key = tuple(row.get(name) for name in SETTING)
        groups.setdefault(key, {}).setdefault(row["preconditioner"], []).append(row)
    heads = [tuple(row.get(name) for name in SETTING if name not in ("rule", "cells")) for row in rows]
    places = {head: number for number, head in enumerate(dict.fromkeys(heads))}

    def place(key: tuple) -> tuple:
        named = dict(zip(SETTING, key, strict=True))
        rule, cells = named.pop("rule"), named.pop("cells")
        return places[tuple(named.values())], RULES.index(rule) if rule else 0, cells

    table = []
    for key in sorted(groups, key=place):
        head = dict(zip(SETTING, key, strict=True))
        if head["rule"] is None:
            del head["rule"]
        for name in methods:
            if name in groups[key]:
                table.append({**head, "preconditioner": name, **_summary(groups[key][name])})
    return table


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What an entry says of its rows."""
    iterations = [row["iterations"] for row in rows if row["outcome"] in STOPPED]
    left = {"left_early": sum(row["outcome"] == LEFT_EARLY for row in rows)} if "rule" in rows[0] else {}
    return {
        "frames": len(rows),
        "failed": sum(row["outcome"] not in STOPPED for row in rows),
        **left,
        "note": next((row["note"] for row in rows if row.get("note")), ""),
        "iterations_mean": float(np.mean(iterations)) if iterations else None,
        "iterations_std": float(np.std(iterations, ddof=1)) if len(iterations) > 1 else 0.0,
        **{name: _spread([row.get(name) for row in rows]) for name in MEASURES},
    }


def _spread(values: list[float | None]) -> dict[str, float | None]:
    present = [value for value in values if value is not None]
    if not present:
        return {"median": None, "p95": None}
    return {"median": float(np.median(present)), "p95": float(np.percentile(present, 95))}


def format_table(table: list[dict[str, Any]]) -> str:
    """The table as text, under a heading for each group where sizes are not all that differs; milliseconds
    are `median (p95)`, inference only where a method has some.
    """
    infers = any(entry["inference_ms"]["median"] for entry in table)
    columns = [name for name in TIMES if infers or name != "inference_ms"]
    width = max([15, *(len(entry["preconditioner"]) + 1 for entry in table)])
    head = f"{'cells':>8}  {'preconditioner':<{width}}{'failed':>8}{'iterations':>18}{'MiB':>9}" + "".join(
        f"{name.removesuffix('_ms') + ' ms':>20}" for name in columns
    )
    headings = [_heading(entry) for entry in table]
    lines, last = [head], headings[0] if len(set(headings)) == 1 else None
    for entry, heading in zip(table, headings, strict=True):
        if heading != last:
            lines.append(heading)
            last = heading
        lines.append(_line(entry, columns, width))
    notes = [
        f"{entry['preconditioner']}, {entry['cells']} cells: {entry['note']}"
        for entry in table
        if entry["note"]
    ]
    return "\n".join(lines + list(dict.fromkeys(notes)))


def _heading(entry: dict[str, Any]) -> str:
    """Everything that an entry's group says but the size."""
    words = [f"{name} {entry[name]}" for name in ("family", "split", "conditions", "rule") if entry.get(name)]
    contrast, rtol = entry.get("contrast"), entry.get("rtol")
    words += [f"contrast {'as drawn' if contrast is None else f'{contrast:g}'}"]
    return ", ".join(words + ([] if rtol is None else [f"rtol {rtol:g}"]))


def _line(entry: dict[str, Any], columns: list[str], width: int) -> str:
    mean = entry["iterations_mean"]
    iterations = "-" if mean is None else f"{mean:.1f} +- {entry['iterations_std']:.1f}"
    memory = entry["memory_mib"]["median"]
    times = [
        "-" if entry[name]["median"] is None else f"{entry[name]['median']:.2f} ({entry[name]['p95']:.2f})"
        for name in columns
    ]
    failed = f"{entry['failed']}/{entry['frames']}"
    return (
        f"{entry['cells']:>8}  {entry['preconditioner']:<{width}}{failed:>8}{iterations:>18}"
        + f"{'-' if memory is None else f'{memory:.1f}':>9}"
        + "".join(f"{time:>20}" for time in times)
    )
