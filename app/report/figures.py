"""Figures as in a paper: one column wide, readable without colour, the same bytes for the same results.

A method looks the same in every figure: learned ones have solid lines and filled markers, the untrained forms
of the same kind dashed lines, all others thin lines and open markers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.bench.row import CONVERGED
from app.report.panels import Panel, column_of, describe, two_decimals

WIDTH = 3.4  # inches: one column
LABEL = 0.13  # of the axis that a label takes
BINS = 10  # of a histogram, a decade
STYLE = {
    "svg.hashsalt": "htp-fluid",
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "grid.linewidth": 0.3,
    "grid.color": "0.85",
    "path.simplify": True,
}
LEARNED, UNTRAINED, CLASSIC, OTHER = (
    {"linestyle": "-", "linewidth": 1.5, "filled": True},
    {"linestyle": (0, (4, 1.5)), "linewidth": 1.0, "filled": False},
    {"linestyle": (0, (1, 1.2)), "linewidth": 0.9, "filled": False},
    {"linestyle": (0, (4, 1, 1, 1)), "linewidth": 0.8, "filled": False},
)
LOOKS = {  # group, colour, marker
    "none": (CLASSIC, "0.45", "x"),
    "jacobi": (CLASSIC, "0.25", "+"),
    "ic0": (CLASSIC, "#8c510a", "1"),
    "multigrid": (CLASSIC, "#d55e00", "s"),
    "amg": (CLASSIC, "#cc79a7", "D"),
    "direct": (CLASSIC, "black", "*"),
    "block-jacobi": (UNTRAINED, "0.5", "h"),
    "coarse-monomial": (UNTRAINED, "#56b4e9", "v"),
    "coarse-geneo": (UNTRAINED, "#009e73", "^"),
    "coarse-learned": (LEARNED, "#0072b2", "o"),
    "hmatrix": (LEARNED, "black", "X"),
    "neural-spai": (LEARNED, "#e69f00", "P"),
}
SPARE_MARKERS = "<>pd8H"
AXES = {"cells": "cells $N$", "contrast": "density contrast", "rtol": "relative tolerance"}
MEASURES = {
    "iterations": "mean iterations",
    "total_ms": "median total time (ms)",
    "memory_mib": "median memory (MiB)",
}


def look(method: str, others: list[str]) -> dict[str, Any]:
    """Line and marker of a method; one without its own look takes the next spare marker among ``others``."""
    if method in LOOKS:
        group, colour, marker = LOOKS[method]
    else:
        unknown = [other for other in others if other not in LOOKS]
        number = unknown.index(method)
        group, colour = OTHER, str(0.15 + 0.12 * (number % 6))
        marker = SPARE_MARKERS[number % len(SPARE_MARKERS)]
    return {
        "linestyle": group["linestyle"],
        "linewidth": group["linewidth"],
        "color": colour,
        "marker": marker,
        "markersize": 4.0,
        "markerfacecolor": colour if group["filled"] else "white",
        "markeredgecolor": colour,
        "markeredgewidth": 0.8,
    }


def sweep_figure(panel: Panel, measure: str, path: Path) -> None:
    """``measure``, one of MEASURES, against the panel's sweep, log-log; the power law's exponent of N in the
    legend. Values of a method that failed on some frames carry a ring, those that failed on all are missing.
    """
    value = column_of(measure)
    with rc_context(STYLE):
        figure, axes = _column(2.5)
        failed = False
        for method in panel.methods:
            points = [(x, value(solves)[0], solves.failed) for x, solves in panel.of(method) if value(solves)]
            points = [point for point in points if point[1] > 0.0]
            if not points:
                continue
            label, fit = method, panel.exponent(method, value)
            if fit is not None:
                label += rf"  $N^{{{two_decimals(fit)}}}$"
            style = look(method, list(panel.methods))
            axes.loglog(*list(zip(*points, strict=True))[:2], label=label, **style)
            rings = [(x, y) for x, y, lost in points if lost]
            if rings:
                failed = True
                axes.loglog(*zip(*rings, strict=True), "o", mfc="none", mec="black", mew=0.6, ms=8.0)
        if failed:
            axes.plot([], [], "o", mfc="none", mec="black", mew=0.6, ms=8.0, label="some frames failed")
        axes.set_xlabel(AXES[panel.sweep])
        axes.set_ylabel(MEASURES[measure])
        ticks = _apart(panel.columns)
        axes.set_xticks(ticks, [_tick(panel.sweep, x) for x in ticks])
        axes.minorticks_off()
        if panel.sweep == "rtol":
            axes.invert_xaxis()
        axes.grid(True, which="major")
        _legend_below(figure, axes)
        _save(figure, path)


def convergence_figure(case: dict[str, Any], rtol: float, path: Path) -> None:
    """Relative residual against iteration of every preconditioner of a case of `spectra`."""
    with rc_context(STYLE):
        figure, axes = _column(2.6)
        names = [row["preconditioner"] for row in case["rows"]]
        for row in case["rows"]:
            history = [value for value in row["history"] or [] if value]
            if not history:
                continue
            converged = row["outcome"] == CONVERGED
            label = row["preconditioner"] + ("" if converged else " (fails)")
            marks = np.unique(np.geomspace(1, len(history), 6).astype(int) - 1) if len(history) > 1 else [0]
            axes.plot(history, label=label, markevery=list(marks), **look(row["preconditioner"], names))
        axes.axhline(rtol, color="0.6", linewidth=0.6)
        axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
        axes.set_yscale("log")
        axes.set_xlim(0.0, None)
        axes.set_ylim(rtol / 100.0, 10.0 ** np.ceil(np.log10(_largest(case))))
        axes.set_xlabel("iteration")
        axes.set_ylabel("relative residual")
        axes.minorticks_off()
        axes.grid(True, which="major")
        _legend_below(figure, axes)
        _save(figure, path)


def spectra_figure(case: dict[str, Any], path: Path) -> None:
    """Histogram of the positive eigenvalues of M A, one strip per preconditioner, on one logarithmic axis."""
    rows = [row for row in case["rows"] if max(row["eigenvalues"] or [0.0]) > 0.0]
    positive = [np.array([value for value in row["eigenvalues"] if value > 0.0]) for row in rows]
    low = np.floor(min(np.log10(values.min()) for values in positive))
    high = np.ceil(max(np.log10(values.max()) for values in positive) + 1e-9)
    bins = round(float(high - low)) * BINS
    edges = 10.0 ** (low + (np.arange(bins + 2) - 0.5) / BINS)  # 1, the exact inverse's, amid a bin
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.34 * len(rows) + 0.5), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.0, hspace=0.0, w_pad=0.07)
        strips = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
        for axes, row, values in zip(strips, rows, positive, strict=True):
            counts, _ = np.histogram(values, edges)
            axes.stairs(np.log10(1.0 + counts), edges, fill=True, color="0.35", linewidth=0.0)
            for value in (values.min(), values.max()):
                axes.plot(value, 0.0, "|", color="black", markersize=9.0, markeredgewidth=0.9, clip_on=False)
            axes.set_xscale("log")
            axes.set_xlim(edges[0], edges[-1])
            axes.set_ylim(0.0, np.log10(1.0 + len(row["eigenvalues"])) * 1.05)
            axes.set_yticks([])
            axes.minorticks_off()
            axes.grid(True, axis="x")
            axes.tick_params(axis="x", length=2.0)
            for side in ("left", "right", "top"):
                axes.spines[side].set_visible(False)
            negative = f"\n{row['negative']} negative" if row["negative"] else ""
            axes.set_ylabel(row["preconditioner"] + negative, rotation=0, ha="right", va="center")
        figure.align_ylabels(strips)
        strips[-1].set_xlabel("eigenvalues of $MA$ (heights logarithmic)")
        _save(figure, path)


def _largest(case: dict[str, Any]) -> float:
    return max(value for row in case["rows"] for value in row["history"] or [1.0] if value)


def _apart(values: tuple[float, ...]) -> list[float]:
    """Those of the values that leave room for a label each on a logarithmic axis."""
    places = np.log(values)
    room = LABEL * np.ptp(places)
    kept = [0]
    for index in range(1, len(values)):
        if abs(places[index] - places[kept[-1]]) >= room:
            kept.append(index)
    return [values[index] for index in kept]


def _tick(sweep: str, value: float) -> str:
    return describe(sweep, value).removeprefix("rtol ").removeprefix("N = ").removeprefix("contrast ")


def _column(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _legend_below(figure: Figure, axes: Axes) -> None:
    """Legend in two columns under the axes, the figure as much taller."""
    handles, labels = axes.get_legend_handles_labels()
    lines = -(-len(labels) // 2)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.13 * lines)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=2,
        handlelength=3.6,
        columnspacing=1.5,
        labelspacing=0.3,
    )


def _save(figure: Figure, path: Path) -> None:
    """As SVG, or by the ending of ``path``, without a date or a version."""
    metadata: dict[str, None] = dict.fromkeys(("Date", "Creator")) if path.suffix == ".svg" else {}
    figure.savefig(path, metadata=metadata, dpi=220)
