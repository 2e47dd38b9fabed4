"""The table of an ablation study from its rows."""

from __future__ import annotations

from typing import Any

import numpy as np


def tabulate(
    labels: dict[str, str], rows: list[dict[str, Any]], groups: dict[str, int] | None = None
) -> list[dict[str, Any]]:
    """One entry per variant, by name, over ALL its rows.

    iterations_mean, iterations_std: over the seeds, of each seed's mean over the problems that converged;
    None without one, or without two. groups: the same mean of each group, by its name, of ``groups``, the
    number of problems in each; incomplete: the groups of which some failed. silent: seeds with no problem
    that converged. minutes, cpu_minutes, inference_ms: means over the seeds.
    """
    table = []
    for name, label in labels.items():
        mine = [row for row in rows if row["variant"] == name]
        means = _means([row["iterations"] for row in mine])
        ends = np.cumsum([0, *(groups or {}).values()])
        of_groups = {
            group: [row["iterations"][ends[k] : ends[k + 1]] for row in mine]
            for k, group in enumerate(groups or {})
        }
        table.append(
            {
                "variant": name,
                "label": label,
                "seeds": len(mine),
                "parameters": mine[0]["parameters"] if mine else None,
                "iterations_mean": _mean(means),
                "iterations_std": float(np.std(means, ddof=1)) if len(means) > 1 else None,
                "groups": {group: _mean(_means(counts)) for group, counts in of_groups.items()},
                "incomplete": [
                    group for group, counts in of_groups.items() if any(None in of for of in counts)
                ],
                "failed": sum(count is None for row in mine for count in row["iterations"]),
                "frames": sum(len(row["iterations"]) for row in mine),
                "silent": len(mine) - len(means),
                "minutes": _mean([row["seconds"] for row in mine], 60.0),
                "cpu_minutes": _mean([row["cpu_seconds"] for row in mine], 60.0),
                "inference_ms": _mean([row.get("inference_ms") for row in mine]),
            }
        )
    return table


def table_cells(table: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Names of the columns and one row of texts per variant: with groups a column for each, without them mean
    +- deviation of all iterations.
    """
    groups = list(table[0]["groups"])
    if groups:
        columns = ["variant", "parameters", "seeds", *groups, "failed", "inference ms", "minutes"]
    else:
        columns = ["variant", "parameters", "seeds", "iterations", "failed", "minutes", "CPU minutes"]
    rows = []
    for entry in table:
        cells = {
            "variant": entry["label"],
            "parameters": "-" if entry["parameters"] is None else f"{entry['parameters']:,}",
            "seeds": str(entry["seeds"]),
            "iterations": _number(entry["iterations_mean"]),
            "failed": f"{entry['failed']}/{entry['frames']}",
            "minutes": _number(entry["minutes"]),
            "CPU minutes": _number(entry["cpu_minutes"]),
            "inference ms": _number(entry["inference_ms"]),
        }
        if entry["iterations_std"] is not None:
            cells["iterations"] += f" +- {entry['iterations_std']:.1f}"
        for group, mean in entry["groups"].items():
            cells[group] = _number(mean) + "*" * (group in entry["incomplete"])
        rows.append([cells[column] for column in columns])
    return columns, rows


def notes(table: list[dict[str, Any]]) -> list[str]:
    """What a reader of the table must know of single variants."""
    return [
        f"{entry['label']}: {entry['silent']} of {entry['seeds']} seeds converged on no frame"
        for entry in table
        if entry["silent"]
    ]


def format_table(table: list[dict[str, Any]]) -> str:
    """The table as text, with its notes."""
    columns, rows = table_cells(table)
    widths = [max(9, len(name) + 2) for name in columns]
    widths[0] = max(len(row[0]) for row in rows)
    for name, width in (("seeds", 7), ("inference ms", 14), ("iterations", 17), ("CPU minutes", 13)):
        if name in columns:
            widths[columns.index(name)] = width
    lines = [
        f"{first:<{widths[0]}}"
        + "".join(f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        for first, *rest in [columns, *rows]
    ]
    return "\n".join([*lines, *notes(table)])


def legend(groups: dict[str, int] | None) -> str:
    """What the columns of `format_table` mean."""
    if groups:
        return (
            "by problem: mean iterations, * without those that failed; failed: of all problems, all seeds;\n"
            "inference ms: of one basis on 128 x 64 bubbles of contrast 10,000, median wall time, all "
            "variants in turn, on a shared machine;\nminutes: of the steps; means over the seeds"
        )
    return (
        "iterations: mean +- standard deviation over the seeds; failed: of all test frames of all seeds;\n"
        "minutes: of the steps and validations; CPU minutes: with set-up and test; means over the seeds"
    )


def _means(lists: list[list[int | None]]) -> list[float]:
    """The mean of each list over what is not None, without the lists that have nothing."""
    known = [[count for count in counts if count is not None] for counts in lists]
    return [float(np.mean(counts)) for counts in known if counts]


def _mean(values: list[float | None], unit: float = 1.0) -> float | None:
    """The mean of those that are known, in units."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) / unit if known else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
