"""Figures as in a paper, readable without colour, the same bytes for the same results.

A method looks the same in every figure (methods.csv): learned ones have solid lines and filled markers, the
untrained forms of the same kind dashed lines, all others thin dotted lines and open markers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.report.tables import ordered, say

METHODS = pd.read_csv(Path(__file__).parent / "methods.csv", index_col="method", dtype=str)
WIDTH = 3.4  # inches: one column
SPARE = "<>pd8H"  # markers of methods without a look of their own
RING = {"linestyle": "", "marker": "o", "mfc": "none", "mec": "black", "mew": 0.6, "ms": 8.0}
LABELS = {
    "cells": "cells $N$",
    "contrast": "density contrast",
    "iterations": "mean iterations",
    "total_ms": "median total time (ms)",
}


def look(method: str, methods: list[str]) -> dict[str, Any]:
    """Line and marker of a method; one without its own look takes the next spare marker among ``methods``."""
    spare = [name for name in methods if name not in METHODS.index]
    if method in spare:
        line, width, colour, marker = "-.", 0.8, "0.3", SPARE[spare.index(method) % len(SPARE)]
    else:
        line, width, colour, marker = METHODS.loc[method, ["line", "width", "colour", "marker"]]
    filled = {"ms": 4.0, "mfc": colour if line == "-" else "white", "mew": 0.8}
    return {"ls": line, "lw": float(width), "color": colour, "marker": marker, **filled}


def sweep_figure(part: pd.DataFrame, across: str, by: str, measure: str, path: Path) -> None:
    """``measure`` of a summary against ``across``, log-log, with axes for every value of ``by``. Points of a
    method that failed on some frames carry a ring; where it failed on all it has none.
    """
    part = part[(part.failed < part.frames) & (part[measure] > 0) & (part[across] > 0)]
    methods = ordered(part.method)
    with _figure(part[by].nunique(), 2.3, path) as every:
        for axes, (value, panel) in zip(every, part.groupby(by, sort=False), strict=True):
            for method in methods:
                mine = panel[panel.method == method].sort_values(across)
                axes.plot(mine[across], mine[measure], label=method, **look(method, methods))
            lost = panel[panel.failed > 0]
            told = "some frames failed" if part.failed.any() else None
            axes.plot(lost[across], lost[measure], **RING, label=told)
            axes.set(xscale="log", yscale="log", xlabel=LABELS[across])
            axes.set_title(say(by, value) if len(every) > 1 else "")
            ticks = np.sort(panel[across].unique())[:: 2 if panel[across].nunique() > 5 else 1]
            axes.set_xticks(ticks, [f"{tick:,g}" if tick < 1e5 else f"{tick:g}" for tick in ticks])
        every[0].set_ylabel(LABELS[measure])


def profile_figure(ratios: pd.DataFrame, path: Path) -> None:
    """Performance profiles: of ``ratios`` (systems, methods), NaN where a method was not measured, the share
    that is at most so large.
    """
    methods, limit = ordered(ratios.columns), 1e3
    with _figure(1, 2.6, path) as (axes,):
        for method in methods:
            style = look(method, methods)  # those without a look of their own are told apart by markers alone
            style |= {"marker": ""} if method in METHODS.index else {"markevery": 0.1}
            steps = np.sort(ratios[method][ratios[method] <= limit])
            share = np.arange(1, len(steps) + 1) / ratios[method].count()
            x, y = np.append(steps, limit), np.append(share, share[-1] if len(share) else 0.0)
            axes.step(x, y, where="post", label=method, **style)
        axes.set(xscale="log", xlim=(1.0, limit), ylim=(0.0, 1.02))
        axes.set(xlabel="time over the fastest method's", ylabel="share of systems")


def spectra_figure(rows: pd.DataFrame, path: Path) -> None:
    """Histograms of the positive eigenvalues of M A, a strip per preconditioner, axes for every case."""
    methods = ordered(rows.preconditioner)[::-1]
    with _figure(rows.case.nunique(), 0.22 * len(methods) + 0.6, path) as every:
        for axes, (case, mine) in zip(every, rows.groupby("case", sort=False), strict=True):
            for row in mine.itertuples():
                height = methods.index(row.preconditioner)
                values = np.log10(row.eigenvalues[row.eigenvalues > 0])
                if not len(values):
                    continue
                least, most = values.min(), values.max()
                bins = np.arange(np.floor(10 * least) - 0.5, 10 * most + 1.5) / 10  # 1 amid a bin
                tops = np.log1p(np.histogram(values, bins)[0]) / np.log1p(len(row.eigenvalues))
                axes.stairs(height + 0.85 * tops, 10**bins, baseline=height, fill=True, color="0.35")
                axes.plot([10**least, 10**most], [height] * 2, "|", color="black", ms=8.0)
                if row.negative:
                    text = f"{row.negative:.0f} negative "
                    axes.text(10**least, height + 0.4, text, fontsize=6, ha="right")
            axes.set(xscale="log", xlabel="eigenvalues of $MA$ (heights logarithmic)", title=case)
            axes.set_yticks(range(len(methods)), methods)
            axes.set_ylim(-0.3, len(methods))


@contextlib.contextmanager
def _figure(count: int, height: float, path: Path) -> Iterator[list[Axes]]:
    """``count`` axes side by side to draw on; then a legend below them, as far as there are labels, and the
    figure in ``path`` as SVG, or by its ending, without a date.
    """
    with rc_context(fname=Path(__file__).parent / "paper.mplstyle"):
        figure = Figure(figsize=(WIDTH * min(count, 2), height), layout="constrained")
        every = list(figure.subplots(1, count, sharey=True, squeeze=False)[0])
        yield every
        handles, labels = every[0].get_legend_handles_labels()
        columns = 2 if count == 1 else 5
        if labels:
            figure.set_figheight(height + 0.13 * -(-len(labels) // columns))
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=3.6)
        for axes in every:
            axes.minorticks_off()
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=220)
