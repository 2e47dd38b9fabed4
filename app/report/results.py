"""Measured results read back and checked: the table of `bench`, spectra, recordings, published counts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from app.bench.results import STOPPED, Header, Session
from precond import available_preconditioners, is_learned
from precond.config import read_yaml, validated
from precond.errors import UsageError, in_one_line

EXTERNAL = "external:"
DIRECT = ("direct", f"{EXTERNAL}superlu", f"{EXTERNAL}cholmod")  # do not compete for the fewest iterations
PLACE = ["run", "kind", "family", "split", "conditions", "rule", "contrast", "rtol", "cells"]
SYSTEM = [*PLACE[2:], "frame"]
MEASURES = ("total_ms", "setup_ms", "inference_ms", "solve_ms", "matrix_products", "memory_mib")
PHASES = ["setup_ms", "inference_ms", "solve_ms", "mean_frame_ms"]
TABLES = read_yaml(Path(__file__).parent / "columns.yaml")  # what is read of each kind of results


class Bench(NamedTuple):
    """The results of `bench`.

    rows: one a solve: the columns of TABLES, total_ms, failed and kind (see `_kind`); contrast is 0 where
    every frame draws its own. summary: one row per method and place, see `_summary`.
    """

    rows: pd.DataFrame
    summary: pd.DataFrame
    header: Header


def read_bench(folder: Path) -> Bench | None:
    """bench.csv and bench.yaml in ``folder``; None without both. Raises UsageError for damaged ones."""
    table, yaml = folder / "bench.csv", folder / "bench.yaml"
    if not table.exists() and not yaml.exists():
        return None
    header, rows = validated(Header, read_yaml(yaml), str(yaml)), read_table(table, "table of results")
    rows["total_ms"] = rows.setup_ms + rows.inference_ms + rows.solve_ms
    rows["failed"] = ~rows.outcome.isin(STOPPED)
    untold = ~rows.failed & ~((rows.total_ms > 0) & (rows.iterations >= 0))
    for wrong, complaint in (
        (~rows.run.isin(list(header.runs)), f"its run is not in {yaml.name}"),
        (rows.session >= len(header.sessions), f"its session is not in {yaml.name}"),
        ((rows.cells < 1) | (rows.rtol <= 0), "cells and rtol must be above 0"),
        (untold, "stopped without iterations or time"),
    ):
        if wrong.any():
            raise UsageError(f"{table}: row {wrong.idxmax() + 2}: {complaint}")
    rows["kind"] = rows.run.map({run: _kind(mine) for run, mine in rows.groupby("run")})
    return Bench(rows, _summary(rows), header)


def read_table(path: Path, what: str) -> pd.DataFrame:
    """The columns of ``what``, a name in TABLES, from the file ``path``, by the last part of their names, or
    the last two where they end alike:
    texts, numbers, finite and from 0 on, those left empty NaN, but a contrast 0, and arrays of float64. A
    file with a header gives every row its ``session``, too.

    Raises UsageError that names the file and row and column; the first row below a header is 2.
    """
    form, session = TABLES[what], {}
    try:
        if path.suffix == ".csv":
            rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        else:
            json_file = path.suffix == ".json"
            content = json.loads(path.read_text(encoding="utf-8")) if json_file else read_yaml(path)
            flat = content | content.get("settings", {})  # json_normalize does not share what lies deeper
            rows = pd.json_normalize(flat, form.get("rows"), form.get("shared"))
            if "header" in form:
                session = {"session": [session_of(content, path)] * len(rows)}
        found = _checked(rows, form["columns"], path).fillna({"contrast": 0.0}).assign(**session)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: is no {what}, or damaged: {in_one_line(error)}") from None
    return found


def _checked(rows: pd.DataFrame, columns: dict[str, str], path: Path) -> pd.DataFrame:
    kinds = {name: kind for kind, names in columns.items() for name in names.split()}
    missing = [name for name, kind in kinds.items() if name not in rows and not kind.endswith("_")]
    if missing or rows.empty:
        raise UsageError(f"{path}: {'lacks ' + ', '.join(missing) if missing else 'holds no rows'}")
    found = rows.reindex(columns=list(kinds)).astype(object).fillna("")
    for name, kind in kinds.items():
        if kind == "lists":
            found[name] = [np.asarray(each if isinstance(each, list) else [], float) for each in rows[name]]
            continue
        text = found[name] = found[name].astype(str)
        wrong = False
        if not kind.startswith("text"):
            found[name] = numbers = pd.to_numeric(text, errors="coerce")
            wrong = ~(np.isfinite(numbers) & (numbers >= 0)) | (kind == "whole") & (numbers % 1 != 0)
        wrong = wrong & text.ne("") if kind.endswith("_") else wrong | text.eq("")
        if wrong.any():
            row, kind = wrong.idxmax(), kind.rstrip("_").replace("whole", "whole number")
            raise UsageError(f"{path}: row {row + 2}: {name}: {text[row]!r} is not a {kind}")
    found = found.astype({name: int for name, kind in kinds.items() if kind == "whole"})
    return found.rename(columns=_shortened(kinds))


def _shortened(names: Iterable[str]) -> dict[str, str]:
    """The last part of every name, or the last two where several names end alike."""
    parts = {name: name.split(".") for name in names}
    ends = [part[-1] for part in parts.values()]
    return {name: "_".join(part[-1 if ends.count(part[-1]) == 1 else -2 :]) for name, part in parts.items()}


def _kind(run: pd.DataFrame) -> str:
    """What a run varies, and so the section that it belongs to."""
    if (run.conditions != "well-posed").any():
        return "published"
    if run.method.str.startswith(EXTERNAL).any():
        return "external"
    if run.method.str.contains("=").any():
        return "forms"
    if run.rtol.nunique() > 1:
        return "tolerances"
    if run.split.nunique() > 1:
        return "splits"
    return "contrast" if run.contrast.nunique() > 2 else "family"


def _summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per method and place, a setting PLACE, whose number is ``place``.

    frames, failed: how many. iterations, deviation: mean and standard deviation over the frames that did not
    fail. MEASURES: medians over all frames. p95_ms: 95th percentile of total_ms over all frames. slower:
    total time over the lowest of the place, infinite where a frame failed. fastest, fewest: whether it has
    the lowest total time or the fewest iterations among the methods of the place that never failed.
    """
    groups = rows.assign(counted=rows.iterations.where(~rows.failed)).groupby([*PLACE, "method"], sort=False)
    found = groups.agg(
        frames=("frame", "size"),
        failed=("failed", "sum"),
        iterations=("counted", "mean"),
        deviation=("counted", "std"),
        precision=("precision", "max"),
        **{name: (name, "median") for name in MEASURES},
    )
    found["p95_ms"] = groups.total_ms.quantile(0.95)
    found = found.reset_index().fillna({"deviation": 0.0})
    found["place"] = found.groupby(PLACE, sort=False).ngroup()
    found["learned"] = found.method.map(is_learned)
    time = found.total_ms.where(found.failed == 0)
    counts = found.iterations.where((found.failed == 0) & ~found.method.isin(DIRECT))
    contested = found.groupby("place").method.transform("size") > 1
    found["slower"] = (time / time.groupby(found.place).transform("min")).fillna(np.inf)
    found["fastest"] = contested & found.slower.eq(1.0)
    found["fewest"] = contested & counts.eq(counts.groupby(found.place).transform("min"))
    return found


def relative_times(rows: pd.DataFrame) -> pd.DataFrame:
    """Of every solve in ``rows``, one a SYSTEM and method, total_ms over the fastest method's of the same
    system, (systems, methods); infinite where it failed, NaN where it did not take part: what performance
    profiles show (Dolan and More, Math. Program. 91, 2002).
    """
    times = rows.assign(total_ms=rows.total_ms.where(~rows.failed, np.inf))
    wide = times.pivot(index=SYSTEM, columns="method", values="total_ms")
    return wide.div(wide.min(axis=1), axis=0)


def read_recordings(paths: Iterable[Path]) -> pd.DataFrame:
    """A row for each of ``paths``, one at least: settings and summary by name, and the session.

    Raises UsageError for a file that is not the run.yaml of a recording which ended as it should.
    """
    rows = []
    for path in paths:
        rows.append(read_table(path, "recording"))
        run = rows[-1].iloc[0]
        if run.ended != "completed" or run["rows"] < run.frames:  # a replay has no number
            raise UsageError(f"{path}: the recording ended early; record it again")
    return pd.concat(rows, ignore_index=True)


def learned_over_iterated(summary: pd.DataFrame) -> pd.DataFrame:
    """By family and place of ``summary``, where both solved all frames: the ``iterations`` of
    `coarse-learned` over those of `coarse-iterated`, and the same of the ``time``.
    """
    solved = summary[summary.failed == 0].set_index(["family", "place"])
    learned, iterated = (
        solved.loc[solved.method == name, ["iterations", "total_ms"]]
        for name in ("coarse-learned", "coarse-iterated")
    )
    return (learned / iterated).dropna().rename(columns={"total_ms": "time"})


def frame_times(runs: pd.DataFrame) -> pd.DataFrame:
    """What a frame takes by scene and method, medians over the recordings ``runs`` that reuse set-ups.

    place: scene, what was done in it, grid and contrast, in words; alone: the same without what was done;
    method; median_ms, p99_ms, worst_ms; unconverged: frames; chooses: it chooses among others; best_ms: the
    lowest median_ms of the place among the fixed methods whose frames all converged, NaN without one;
    fastest: it has that.
    """
    runs = runs[runs.reuse_setup == "True"]
    done = runs.replay.map(lambda name: f", {name.replace('-', ' ')}" if name else "")
    where = ", " + runs.grid + ", contrast " + runs.contrast.map("{:,g}".format)
    runs = runs.assign(place=runs.scene + done + where, alone=runs.scene + where, method=runs.preconditioner)
    found = runs.groupby(["place", "alone", "method"])
    found = found.agg(
        **{f"{name}_ms": (f"{name}_frame_ms", "median") for name in ("median", "p99", "worst")},
        unconverged=("unconverged", "sum"),
    ).reset_index()
    choosing = set(available_preconditioners()) - set(available_preconditioners(choosing=False))
    found["chooses"] = found.method.isin(choosing)
    contest = found.median_ms.where(~found.chooses & (found.unconverged == 0))
    found["best_ms"] = contest.groupby(found.place).transform("min")
    return found.assign(fastest=contest.eq(found.best_ms))


def session_of(content: Any, path: Path) -> Session:
    """The session in the header of a file. Raises UsageError where it is none."""
    header = {"date": content["started"], **content} if "started" in content else content
    return validated(
        Session, {name: header[name] for name in Session.model_fields if name in header}, str(path)
    )
