"""Tables in Markdown: methods against what was varied, who wins where, what else was measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from app.report.results import MEASURES, PHASES, STOPPED
from precond import is_learned
from precond.registry import descriptions

WITHIN = (1.0, 2.0, 4.0, 10.0)  # times the fastest method's time, in the table of performance profiles
VARIED = ["run", "family", "split", "contrast", "rtol", "cells"]  # what a column can stand for


def pivoted(cells: Iterable[tuple[str, str, str]], first: str) -> str:
    """A table from (row, column, text), both in the order in which they come; ``first`` heads the rows, which
    are in the registry's order if methods.
    """
    frame = pd.DataFrame(cells, columns=[first, "column", "text"]).drop_duplicates([first, "column"])
    rows = ordered(frame[first]) if first == "method" else frame[first].unique()
    wide = frame.pivot(index=first, columns="column", values="text")
    wide = wide.reindex(index=rows, columns=frame.column.unique()).fillna("")
    return markdown((wide.rename(index=marked) if first == "method" else wide).reset_index())


def markdown(frame: pd.DataFrame) -> str:
    """A table of texts, all columns but the first to the right."""
    lines = [frame.columns, [":---", *["---:"] * (frame.shape[1] - 1)], *frame.to_numpy()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def marked(method: str) -> str:
    """``method`` for a table, learned ones with a dagger."""
    return f"`{method}`" + " †" * is_learned(method)


def ordered(methods: Iterable[str]) -> list[str]:
    """``methods`` once each in the registry's order, others after them."""
    names = list(descriptions())
    return sorted(set(methods), key=lambda name: (names.index(name) if name in names else len(names), name))


def number(value: float) -> str:
    """``value`` to three digits: 0.01, 12.3, 1,234, 5.94e+06; "-" for zero and where there is none."""
    if not 0.0 < value < np.inf:
        return "-"
    if value >= 1e5:
        return f"{value:.2e}"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def mean(value: float) -> str:
    """Iterations: 12.1, 1,216."""
    return f"{value:,.0f}" if value >= 999.95 else f"{value:.1f}"


def say(name: str, value: Any) -> str:
    """A value of a column of VARIED in words."""
    if name == "contrast":
        return f"contrast {value:,g}" if value else "own contrast"
    if name == "rtol":
        return "rtol " + re.sub(r"\.?0*e-0?", "e-", f"{value:e}")
    return {"cells": "N = {:,}", "split": "{} frames"}.get(name, "{}").format(value)


def words(part: pd.DataFrame, *names: str) -> list[str]:
    """For every row its values in the columns ``names`` in words."""
    return [", ".join(map(say, names, values)) for values in part[list(names)].itertuples(index=False)]


def thinned(part: pd.DataFrame, most: int) -> pd.DataFrame:
    """``part`` with at most ``most`` values of N of each kind and family, evenly among those there."""

    def kept(cells: pd.Series) -> pd.Series:
        sizes = np.unique(cells)
        last = len(sizes) - 1
        chosen = np.linspace(0, last, most) if most > 1 else last / 2
        return cells.isin(np.atleast_1d(sizes[np.round(chosen).astype(int)]))

    return part[part.groupby(["kind", "family"], sort=False).cells.transform(kept).astype(bool)]


def cell(row: Any, spread: bool) -> str:
    """Iterations and milliseconds, the best of a column bold, and failures; ``spread``: ± and p95, too."""
    lost = f" ✗{row.failed}/{row.frames}" if row.failed else ""
    if row.failed == row.frames:
        return lost.strip()
    count, time = mean(row.iterations), number(row.total_ms)
    count, time = f"**{count}**" if row.fewest else count, f"**{time}**" if row.fastest else time
    if spread:
        count, time = f"{count} ± {mean(row.deviation)}", f"{time} ({number(row.p95_ms)})"
    return f"{count}{lost} / {time}"


def methods_table(part: pd.DataFrame, spread: bool) -> str:
    """A row per method, a column per place of ``part``, a part of a summary; see `cell`."""
    by = [name for name in VARIED[1:] if part[name].nunique() > 1] or ["cells"]
    by = ["run", *by] if part.duplicated(["method", *by]).any() else by
    part = part.sort_values(by, kind="stable")
    rows = zip(part.itertuples(), words(part, *by), strict=True)
    return pivoted([(row.method, column, cell(row, spread)) for row, column in rows], "method")


def choice_table(ours: pd.DataFrame, shown: pd.DataFrame) -> str:
    """A row per method of ``ours``, winners first: what it does, its numbers in ``shown``, what it wins."""
    rows = []
    ranks = ours.groupby("method").agg(wins=("fastest", "sum"), slower=("slower", "median"))
    for method in ranks.sort_values(["wins", "slower"], ascending=[False, True]).index:
        mine, here = ours[ours.method == method], shown[shown.method == method]
        row = {"method": marked(method), "what it does": descriptions().get(method, "")}
        row |= {say("cells", place.cells): cell(place, spread=True) for place in here.itertuples()}
        row["wins: time, iterations"] = f"{mine.fastest.sum()}, {mine.fewest.sum()}"
        row["failed"] = f"{mine.failed.sum()} of {mine.frames.sum()}" if mine.failed.any() else "-"
        rows.append(row | {"use it for": _use(mine) if rows else "**a start**"})
    return markdown(pd.DataFrame(rows).fillna(""))


def _use(mine: pd.DataFrame) -> str:
    """Where a method is the fastest, or how near it comes."""
    ran, best = mine.groupby("family").size(), mine.loc[mine.slower.idxmin()]
    wins = mine[mine.fastest].family.value_counts(sort=False).items()
    return ", ".join(f"{family} ({count} of {ran[family]})" for family, count in wins) or (
        f"nothing; at best {best.slower:.1f} times as slow as the fastest ({best.family})"
    )


def winners_table(families: pd.DataFrame) -> str:
    """A row per family, and per contrast where others win, a column per N: the fastest method, its time, and
    how many times slower the fastest learned one is, each as a range where contrasts share a row; then who
    takes the fewest iterations.
    """
    cells = []
    families = families.sort_values(["family", "contrast", "cells"], kind="stable")
    shown = thinned(families, 4)
    alike: dict[tuple[Any, ...], list[float]] = {}
    for (family, contrast), mine in shown.groupby(["family", "contrast"], sort=False):
        won = mine[mine.fastest]
        alike.setdefault((family, *zip(won.cells, won.method, strict=True)), []).append(contrast)
    rows = {}
    for (family, *_), contrasts in alike.items():
        row = f"{family}, {' and '.join(say('contrast', contrast) for contrast in contrasts)}"
        rows |= {(family, contrast): row.replace("and contrast", "and") for contrast in contrasts}
    families["row"] = list(map(rows.__getitem__, zip(families.family, families.contrast, strict=True)))
    shown = families[families.index.isin(shown.index)]
    for (row, size), mine in shown.groupby(["row", "cells"], sort=False):
        fast, learned = mine[mine.fastest], mine[mine.learned].groupby("place").slower.min()
        said = f"{', '.join(map(marked, fast.method.unique()))} {ranged(fast.total_ms, number)}"
        if learned.notna().any():
            finite = np.isfinite(learned).all()
            said += f", † {ranged(learned, '{:.1f}'.format)}x" if finite else ", † fails"
        cells.append((row, say("cells", size), said if len(fast) else ""))
    for row, methods in families[families.fewest].groupby("row", sort=False).method:
        cells.append((row, "fewest iterations", counted(methods)))
    return pivoted(cells, "family")


def profile_table(rows: pd.DataFrame, ratios: pd.DataFrame, sizes: Iterable[int], safe: int) -> str:
    """A row per method of ``ratios``: the share of the systems it had that it solves within WITHIN times the
    fastest method's time; for N in ``sizes`` geometric mean and largest of its milliseconds over ``rows``.
    The lowest largest at N = ``safe`` comes first, methods without one last.
    """
    found = []
    for method in ordered(ratios.columns):
        had, mine = ratios[method].dropna(), rows[rows.method == method]
        largest = mine.total_ms.where(~mine.failed, np.inf).groupby(mine.cells).max()
        row = {"method": marked(method), "largest": largest.get(safe, np.inf)}
        row |= {f"within {limit:g}x": f"{(had <= limit).mean():.0%}" for limit in WITHIN}
        for cells in sorted(set(sizes) & set(rows.cells)):
            solved = mine.total_ms[(mine.cells == cells) & ~mine.failed]
            worst = largest.get(cells, np.nan)
            said = f"{number(np.exp(np.log(solved).mean()))}, {'fails' if np.isinf(worst) else number(worst)}"
            row[say("cells", cells)] = "" if np.isnan(worst) else said
        found.append(row)
    return markdown(pd.DataFrame(found).sort_values("largest", kind="stable").drop(columns="largest"))


def nearest(cells: pd.Series, size: int) -> int:
    """That of ``cells`` which is next to ``size``, in ratio."""
    return min(cells.unique(), key=lambda each: abs(np.log(each / size)))


def ranged(values: pd.Series, said: Callable[[float], str]) -> str:
    """The least and the largest of ``values``, once where they read the same."""
    return "-".join(dict.fromkeys((said(values.min()), said(values.max()))))


def counted(methods: pd.Series) -> str:
    """How often each method is among ``methods``."""
    return ", ".join(f"{marked(method)} {(methods == method).sum()}" for method in ordered(methods))


def parts_table(part: pd.DataFrame) -> str:
    """A row per method of one place: the parts of its time, products with the matrix, memory, precision."""
    part = part.set_index("method").loc[ordered(part.method)].rename(index=marked)
    cells = part[[*MEASURES[1:4], "total_ms", "p95_ms", *MEASURES[4:]]].map(number)
    cells.columns = [
        name.replace("setup", "set-up").replace("memory_mib", "memory, MiB").replace("_", " ")
        for name in cells
    ]
    return markdown(cells.assign(precision=part.precision).reset_index())


def published_table(rows: pd.DataFrame, values: pd.DataFrame) -> dict[str, Any]:
    """Means of ``rows`` beside the published ``values`` whose frames are all there, and those of the same
    frames in well-posed conditions; how many of the values agree within 0.5 %, and how many there are.
    """
    cells, agree, place = [], [], ["method", "cells", "split"]
    rows = rows.dropna(subset="iterations").drop_duplicates([*place, "rule", "frame", "conditions"])
    rows, values = rows.set_index(place).sort_index(), values.rename(columns={"preconditioner": "method"})
    for value in values.itertuples():
        same = rows[rows.index.isin([(value.method, value.cells, value.split)]) & (rows.frame < value.frames)]
        ours = same[same.rule == value.rule].iterations
        exact = same[same.conditions == "well-posed"].iterations
        if len(ours) < value.frames:
            continue
        frames = f"{value.frames} {value.split} frames" if value.frames > 1 else f"{value.split} frame 0"
        place, method = f"{frames}, {say('cells', value.cells)}", f"`{value.method}`"
        said = f"{ours.mean():.0f} / {value.iterations}" + (f" ± {value.std:.0f}" if value.std > 0 else "")
        cells.append((place, f"{method}, {value.rule.upper()} rule", said))
        cells.append((place, f"{method}, well-posed", f"{exact.mean():.0f}" if len(exact) else "-"))
        agree.append(abs(ours.mean() / value.iterations - 1) < 0.005)
    return {"table": pivoted(cells, "frames"), "agree": sum(agree), "total": len(agree)}


def scenes_table(times: pd.DataFrame) -> str:
    """A row per scene of ``times`` (see results.frame_times), a column per method, those that choose first:
    median ms of a frame (99th percentile), the fastest fixed method's bold, and frames that did not
    converge; last, for each method that chooses, its worst frame and that over the fastest fixed method's
    median.
    """
    cells, last = [], []
    rank = {method: number for number, method in enumerate(ordered(times.method))}
    times = times.assign(rank=times.method.map(rank)).sort_values(
        ["chooses", "rank"], ascending=[False, True]
    )
    for row in times.itertuples():
        text = f"**{number(row.median_ms)}**" if row.fastest else number(row.median_ms)
        text += f" ({number(row.p99_ms)})" + f" ✗{row.unconverged}" * bool(row.unconverged)
        cells.append((row.place, marked(row.method), text))
        if row.chooses and np.isfinite(row.best_ms):
            said = f"{number(row.worst_ms)}, {row.worst_ms / row.best_ms:.1f}x"
            last.append((row.place, f"worst of {marked(row.method)}", said))
    return pivoted([*cells, *last], "scene")


def recordings_table(runs: pd.DataFrame) -> str:
    """A row for every method, medians of the recordings of one scene, the fastest first."""
    anew = np.where(runs.reuse_setup == "True", "", ", set up in every frame")
    found = runs.assign(method=runs.preconditioner.map(marked) + anew).groupby("method")
    median = found[["fps_mean", "iterations_mean", *PHASES]].median()
    median = median.sort_values("fps_mean", ascending=False)
    median.columns = ["frames/s", "iterations", "set-up ms", "inference ms", "solve ms", "frame ms"]
    totals = {"runs": found.size(), "unconverged": found.unconverged.sum()}
    return markdown(median.map(number).assign(**totals).reset_index())


def spectra_table(rows: pd.DataFrame) -> str:
    """A row per method: for every case iterations, condition number, log K / n and negative eigenvalues."""
    cells = []
    for row in rows.itertuples():
        count = f"{row.iterations:.0f}" if row.outcome == STOPPED[0] else row.outcome
        kaporin = f"{row.log_kaporin:.4f}".replace("nan", "-")
        said = (count, number(row.condition_number), kaporin, f"{row.negative:.0f}")
        cells.append((row.preconditioner, row.case, " / ".join(said)))
    return pivoted(cells, "method")
