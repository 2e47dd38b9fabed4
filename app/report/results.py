"""Measured results read back and checked: the table of `bench`, spectra, recordings, published counts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from precond import is_learned
from precond.config import Settings, read_yaml, validated
from precond.errors import UsageError, in_one_line

STOPPED = ("converged", "left early")  # as the stopping rule has it: no failure
EXTERNAL = "external:"
DIRECT = ("direct", f"{EXTERNAL}superlu", f"{EXTERNAL}cholmod")  # do not compete for the fewest iterations
PLACE = ["run", "kind", "family", "split", "conditions", "rule", "contrast", "rtol", "cells"]
MEASURES = ("total_ms", "setup_ms", "inference_ms", "solve_ms", "matrix_products", "memory_mib")
PHASES = ["setup_ms", "inference_ms", "solve_ms", "frame_ms"]


def _columns(**kinds: str) -> dict[str, str]:
    return {name: kind for kind, names in kinds.items() for name in names.split()}


# what is read of each kind of results; columns of text_ and number_ may be empty
BENCH = _columns(
    text="run family split conditions method outcome",
    text_="rule precision",
    whole="cells frame session",
    number="rtol",
    number_="contrast iterations setup_ms inference_ms solve_ms matrix_products memory_mib",
)
SPECTRUM = _columns(
    text="family preconditioner outcome",
    whole="cells",
    number_="contrast iterations condition_number log_kaporin negative",
)
PUBLISHED = _columns(
    text="source family preconditioner rule split",
    whole="cells frames iterations",
    number="rtol",
    number_="std",
)
RECORDING = _columns(
    text="settings.scene settings.grid settings.preconditioner settings.reuse_setup settings.warm_start"
    " summary.ended",
    whole="settings.frames summary.rows summary.unconverged",
    number="settings.contrast settings.rtol summary.fps_mean summary.iterations_mean "
    + " ".join(f"summary.mean.{name}" for name in PHASES),
)


class Session(Settings):
    """One call of the program."""

    date: str
    command: str
    commit: str | None
    versions: dict[str, str]
    hardware: dict[str, Any]


class Run(Settings):
    """How a run was asked for and ended; skipped: why methods were left out."""

    settings: dict[str, Any]
    skipped: dict[str, str]
    ended: str


class Header(Settings):
    """What bench.yaml holds."""

    runs: dict[str, Run]
    sessions: list[Session]


@dataclass(frozen=True)
class Bench:
    """The results of `bench`.

    rows: one a solve: the columns BENCH, total_ms, failed and kind (see `_kind`); contrast is 0 where every
    frame draws its own. summary: one row per method and place, see `_summary`.
    """

    rows: pd.DataFrame
    summary: pd.DataFrame
    header: Header


def read_bench(folder: Path) -> Bench | None:
    """bench.csv and bench.yaml in ``folder``; None without both. Raises UsageError for damaged ones."""
    table, yaml = folder / "bench.csv", folder / "bench.yaml"
    if not table.exists() and not yaml.exists():
        return None
    header = validated(Header, read_yaml(yaml), str(yaml))
    with _reading(table, "table of results"):
        rows = checked(pd.read_csv(table, dtype=str, keep_default_na=False), BENCH, str(table))
    rows = rows.fillna({"contrast": 0.0})
    rows["total_ms"] = rows.setup_ms + rows.inference_ms + rows.solve_ms
    rows["failed"] = ~rows.outcome.isin(STOPPED)
    for wrong, complaint in (
        (~rows.run.isin(list(header.runs)), f"its run is not in {yaml.name}"),
        (rows.session >= len(header.sessions), f"its session is not in {yaml.name}"),
        ((rows.cells < 1) | (rows.rtol <= 0), "cells and rtol must be above 0"),
        (
            ~rows.failed & ~((rows.total_ms > 0) & (rows.iterations >= 0)),
            "stopped without iterations or time",
        ),
    ):
        if wrong.any():
            raise UsageError(f"{table}: row {wrong.idxmax() + 2}: {complaint}")
    rows["kind"] = rows.run.map({run: _kind(mine) for run, mine in rows.groupby("run")})
    return Bench(rows, _summary(rows), header)


@contextlib.contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Errors of reading ``path`` as UsageError."""
    try:
        yield
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: is no {what}, or damaged: {in_one_line(error)}") from None


def checked(frame: pd.DataFrame, columns: dict[str, str], where: str) -> pd.DataFrame:
    """``columns`` of ``frame`` as what they are said to be: numbers finite and from 0 on, empty ones NaN.

    Raises UsageError that begins with ``where`` and names row and column; the first row below a header is 2.
    """
    missing = [name for name, kind in columns.items() if name not in frame and not kind.endswith("_")]
    if missing or frame.empty:
        raise UsageError(f"{where}: {'lacks ' + ', '.join(missing) if missing else 'holds no rows'}")
    found = frame.reindex(columns=list(columns)).astype(object).fillna("").astype(str)
    for name, kind in columns.items():
        text, wrong = found[name], False
        if not kind.startswith("text"):
            found[name] = numbers = pd.to_numeric(text, errors="coerce")
            wrong = ~(np.isfinite(numbers) & (numbers >= 0)) | (kind == "whole") & (numbers % 1 != 0)
        wrong = wrong & text.ne("") if kind.endswith("_") else wrong | text.eq("")
        if wrong.any():
            row, kind = wrong.idxmax(), kind.rstrip("_").replace("whole", "whole number")
            raise UsageError(f"{where}: row {row + 2}: {name}: {text[row]!r} is not a {kind}")
    return found.astype({name: int for name, kind in columns.items() if kind == "whole"})


def _kind(run: pd.DataFrame) -> str:
    """What a run varies, and so the section that it belongs to."""
    if (run.conditions != "well-posed").any():
        return "published"
    if run.method.str.startswith(EXTERNAL).any():
        return "external"
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


def read_spectra(path: Path) -> tuple[pd.DataFrame, float, Session]:
    """A row per case and method, with eigenvalues and history as arrays; the tolerance; the session.

    Raises UsageError for a file that is not one of `spectra` or is damaged.
    """
    with _reading(path, "file of spectra"):
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = pd.json_normalize(content["cases"], "rows", ["family", "contrast", "cells"])
        found = checked(rows, SPECTRUM, str(path)).fillna({"contrast": 0.0})
        for name in ("eigenvalues", "history"):
            found[name] = [
                np.asarray(value if isinstance(value, list) else [], float) for value in rows[name]
            ]
        return found, float(content["settings"]["rtol"]), session_of(content, path)


def read_published(path: Path) -> pd.DataFrame:
    """A row for every published count. Raises UsageError for a file that is damaged."""
    with _reading(path, "file of published counts"):
        return checked(
            pd.json_normalize(read_yaml(path), "values", ["source", "family", "rtol"]), PUBLISHED, str(path)
        )


def read_recordings(paths: Iterable[Path]) -> tuple[pd.DataFrame, list[Session]]:
    """A row per recording, its settings and summary by name, and the sessions.

    Raises UsageError for a file that is not the run.yaml of a recording which ended as it should.
    """
    rows, sessions = [pd.DataFrame()], []
    for path in paths:
        run = read_yaml(path)
        sessions.append(session_of(run, path))
        row = checked(pd.json_normalize(run), RECORDING, str(path))
        row.columns = [name.rpartition(".")[2] for name in row]
        if row.ended[0] != "completed" or row["rows"][0] != row.frames[0]:
            raise UsageError(f"{path}: the recording ended early; record it again")
        rows.append(row)
    return pd.concat(rows, ignore_index=True), sessions


def session_of(content: Any, path: Path) -> Session:
    """The session in the header of a file. Raises UsageError where it is none."""
    names = {name: name for name in Session.model_fields} | {"started": "date"}
    found = (
        {names[name]: content[name] for name in names if name in content} if isinstance(content, dict) else {}
    )
    return validated(Session, found, str(path))
