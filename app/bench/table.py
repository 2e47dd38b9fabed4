"""What is printed of results: one line for each case and method, failures counted."""

from __future__ import annotations

from typing import Any

import pandas as pd

from app.bench.results import COLUMNS, SETTING, STOPPED
from precond.problems.published import RULES

TIMES = ("setup_ms", "inference_ms", "solve_ms", "total_ms")
MEASURES = (*TIMES, "memory_mib")


def tabulate(rows: list[dict[str, Any]], methods: list[str]) -> pd.DataFrame:
    """One line for each of SETTING and method, in the order of the rows, of ``methods`` and of RULES.

    Times and memory are medians, and under NAME_p95 95th percentiles, over all rows that have them. An
    unconverged solve counts as failed, and its iterations, few where a solve broke down, stay out of their
    mean and deviation; those of a solve that a published rule left early are in them, as published.
    """
    frame = pd.DataFrame(rows, columns=COLUMNS)
    stopped = frame["outcome"].isin(STOPPED)
    measured = frame[[*TIMES[:3], "memory_mib", "iterations"]].astype(float)
    measured["total_ms"] = measured[[*TIMES[:3]]].sum(axis=1, skipna=False)
    measured["iterations"] = measured["iterations"].where(stopped)
    alike = [name for name in SETTING if name != "rule"]
    frame = frame.assign(
        **measured,
        failed=~stopped,
        place=frame.groupby(alike, dropna=False, sort=False).ngroup(),
        rule=pd.Categorical(frame["rule"], RULES),
        method=pd.Categorical(frame["method"], methods),
    )
    return (
        frame.groupby(["place", "rule", "method"], dropna=False, observed=True)
        .agg(
            **{name: (name, "first") for name in (*alike, "note")},
            frames=("outcome", "size"),
            failed=("failed", "sum"),
            iterations=("iterations", "mean"),
            deviation=("iterations", "std"),
            **{name: (name, "median") for name in MEASURES},
            **{f"{name}_p95": (name, lambda values: values.quantile(0.95)) for name in MEASURES},
        )
        .reset_index()
    )


def format_table(table: pd.DataFrame) -> str:
    """The table as text: of the settings those that differ, and the number of cells; milliseconds are
    `median (p95)`, inference only where a method has some.
    """

    def pairs(name: str, other: str, form: str) -> list[str]:
        values = zip(table[name], table[other].fillna(0.0), strict=True)
        return ["-" if pd.isna(one) else form.format(one, two) for one, two in values]

    differ = [name for name in SETTING if name == "cells" or table[name].nunique(dropna=False) > 1]
    times = [name for name in TIMES if name != "inference_ms" or table[name].max() > 0.0]
    shown = (
        table[[*differ, "method"]]
        .astype(object)
        .assign(
            failed=[
                f"{failed}/{frames}" for failed, frames in zip(table["failed"], table["frames"], strict=True)
            ],
            iterations=pairs("iterations", "deviation", "{:.1f} +- {:.1f}"),
            MiB=pairs("memory_mib", "memory_mib", "{:.1f}"),
            **{name.replace("_", " "): pairs(name, f"{name}_p95", "{:.2f} ({:.2f})") for name in times},
        )
    )
    noted = table[table["note"].notna()]
    notes = noted["method"].astype(str) + ", " + noted["cells"].astype(str) + " cells: " + noted["note"]
    return "\n".join([shown.to_string(index=False), *notes.unique()])
