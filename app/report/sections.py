"""The parts of RESULTS.md, each from one file of results: what was run where, tables, names of figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.bench.row import CONVERGED, SETTING
from app.bench.settings import WELL_POSED
from app.commands.ablate import groups_of
from app.report.panels import (
    Panel,
    column_of,
    computing_table,
    describe,
    iterations_table,
    marked,
    measure_table,
    panels,
    parts_table,
    power,
    table,
    three_digits,
)
from app.report.reproduction import Reference, reproduction_table
from app.report.results import Bench, ResultsError, Session, Spectra
from precond.study.ablation_table import legend, notes, table_cells, tabulate

EXTRAS = {  # measures that not every file has
    "ms_per_iteration": "Milliseconds per iteration",
    "matrix_products": "Products with the matrix",
    "memory_mib": "Memory, MiB",
}
SWEPT = {
    "cells": "iterations",
    "contrast": "contrast",
    "rtol": "tolerance",
}  # figures of iterations, by sweep


class Figures:
    """The figures that the text names, and how each is drawn; draws nothing before `draw`."""

    def __init__(self) -> None:
        self._drawings: dict[str, partial[None]] = {}

    def add(self, name: str, caption: str, drawing: str, *arguments: Any) -> str:
        """The Markdown of figure ``name``, which ``drawing`` of app.report.figures draws from ``arguments``.

        Raises ResultsError when another has that name.
        """
        if name in self._drawings:
            raise ResultsError(f"two figures would be called {name}; rename one of the files they are from")
        self._drawings[name] = partial(_draw, drawing, *arguments)
        return f"![{caption}](assets/figures/{name}.svg)"

    def draw(self, folder: Path) -> list[Path]:
        """Write them all. Raises ImportError without matplotlib, OSError."""
        paths = [folder / f"{name}.svg" for name in self._drawings]
        for path, drawing in zip(paths, self._drawings.values(), strict=True):
            drawing(path)
        return paths


def _draw(drawing: str, *arguments: Any) -> None:
    from app.report import figures

    getattr(figures, drawing)(*arguments)


def session_lines(sessions: Iterable[Session]) -> list[str]:
    """One line each: when, where and at which commit."""
    return [f"{session.date}, {session.machine}, commit `{session.commit}`" for session in sessions]


def provenance(file: str, command: str, sessions: tuple[Session, ...], *more: str) -> str:
    """Where the numbers below are from."""
    lines = [f"file `{file}`, from `{command}`"]
    lines += session_lines(sessions)
    return "\n".join(f"- {line}" for line in [*lines, *more])


def bench_section(bench: Bench, figures: Figures) -> list[str]:
    """A file of `bench`: its provenance, then every panel's tables and figures."""
    found = panels(bench)
    parts = [f"## {title(bench.name)}", _bench_provenance(bench, found)]
    for panel in found:
        if panel.title:
            parts.append(f"### {panel.title[0].upper()}{panel.title[1:]}")
        parts += _panel(bench, panel, len(found) > 1, figures)
    computing = computing_table(bench)
    return parts if computing is None else [*parts, _folded("What each method computes with", computing)]


def _folded(heading: str, text: str) -> str:
    return f"<details><summary>{heading}</summary>\n\n{text}\n\n</details>"


def _bench_provenance(bench: Bench, found: list[Panel]) -> str:
    shared = {name: found[0].fixed.get(name) for name in SETTING if name != found[0].sweep}
    same = [name for name in shared if all(panel.fixed.get(name) == shared[name] for panel in found)]
    words = [describe(name, shared[name]) for name in same if shared[name] is not None or name == "contrast"]
    frames = sorted({solves.frames for solves in bench.solves})
    count = f"{frames[0]}" if len(frames) == 1 else f"{frames[0]} to {frames[-1]}"
    more = [f"{', '.join(words)}; frames per method and column: {count}"]
    if bench.ended != "completed":
        more.append(f"ended: {bench.ended}")
    more += [f"left out: `{name}`: {reason}" for name, reason in sorted(bench.skipped.items())]
    return provenance(bench.file, bench.command, bench.sessions, *more)


def _panel(bench: Bench, panel: Panel, several: bool, figures: Figures) -> list[str]:
    parts = ["Iterations, mean ± standard deviation:", iterations_table(panel)]
    if panel.measured("total_ms"):
        parts += ["Set-up + inference + solve in ms, median (p95):", measure_table(panel, "total_ms")]
    folded = [("Set-up / inference / solve in ms, median (p95)", parts_table(panel))]
    folded += [
        (f"{heading}, median (p95)", measure_table(panel, name))
        for name, heading in EXTRAS.items()
        if panel.measured(name)
    ]
    if panel.drawable and panel.fixed["conditions"] == WELL_POSED:
        parts.append(_panel_figures(bench, panel, several, figures))
    parts += [_folded(heading, text) for heading, text in folded]
    return [*parts, *_remarks(panel)]


def _remarks(panel: Panel) -> list[str]:
    """Why solves failed, and what is to be known of methods, in one list; nothing when there is nothing."""
    said: dict[tuple[str, str], list[str]] = {}
    for method in panel.methods:
        for column, solves in panel.of(method):
            where = describe(panel.sweep, column)
            for reason, count in solves.failures().items():
                said.setdefault((method, reason), []).append(f"{count} at {where}")
            if solves.note:
                said.setdefault((method, solves.note), []).append(where)
    lines = [f"- `{method}`: {text} ({', '.join(where)})" for (method, text), where in said.items()]
    return ["\n".join(lines)] if lines else []


def _panel_figures(bench: Bench, panel: Panel, several: bool, figures: Figures) -> str:
    name = bench.name + (f"-{_slug(panel.title)}" if several else "")
    of = f"{title(bench.name)}{', ' * bool(panel.title)}{panel.title}"
    drawn = {"iterations": (SWEPT[panel.sweep], "iterations")}
    if panel.sweep == "cells":
        drawn |= {"total_ms": ("time", "total time"), "memory_mib": ("memory", "memory")}
    against = "N" if panel.sweep == "cells" else panel.sweep
    images = []
    for measure, (prefix, what) in drawn.items():
        if any(value and value[0] > 0.0 for value in map(column_of(measure), panel.solves.values())):
            caption = f"{of}: {what} against {against}"
            images.append(figures.add(f"{prefix}-{name}", caption, "sweep_figure", panel, measure))
    return "\n".join(images)


def published_section(bench: Bench, reference: Reference, benches: list[Bench]) -> list[str]:
    """The published conditions: our counts beside the published ones, then the file's own panels."""
    found = panels(bench)
    folded = []
    for panel in found:
        parts = [f"**{panel.title}**" if panel.title else "", iterations_table(panel)]
        folded += [part for part in parts if part]
    return [
        "## Published counts, repeated",
        _bench_provenance(bench, found),
        f"Published: {reference.source}. Unconverged: solves of ours that the rule left before the "
        "tolerance; their iterations count, as the published ones do. Well-posed: our mean of the same "
        "frames with exact row sums and a projected right-hand side. Noise: the published spread is as large "
        "as its mean, so that no repetition can be held to it.",
        reproduction_table(reference, bench, benches),
        reference.remark,
        _folded(
            "All iterations, mean ± standard deviation, solves left early with them", "\n\n".join(folded)
        ),
    ]


def spectra_section(spectra: Spectra, figures: Figures) -> list[str]:
    """A file of `spectra`: the numbers and both figures of every case."""
    parts = [
        f"## {title('spectra-' + spectra.name)}",
        provenance(spectra.file, spectra.command, spectra.sessions),
        "Eigenvalues of MA on mean-zero vectors, and iterations to a relative residual of "
        f"{power(spectra.rtol)}. log K / n is the logarithm of the Kaporin number (tr / n)^n / det per "
        "eigenvalue: 0 when all are equal. An M with negative eigenvalues is indefinite and has neither.",
    ]
    for case in spectra.cases:
        of = f"{case['family']}, {describe('contrast', case['contrast'])}, {describe('cells', case['cells'])}"
        slug = _slug(
            f"{spectra.name}-{case['family']}-" + (f"{case['contrast']:g}" if case["contrast"] else "")
        )
        rows = [_spectrum_row(row) for row in case["rows"]]
        header = ["method", "iterations", "smallest", "largest", "condition number", "log K / n", "negative"]
        parts += [f"### {of[0].upper()}{of[1:]}, frame {case['frame']}", table(header, rows)]
        images = [
            figures.add(f"convergence-{slug}", f"{of}: convergence", "convergence_figure", case, spectra.rtol)
        ]
        if any(value > 0.0 for row in case["rows"] for value in row["eigenvalues"] or ()):
            images.append(figures.add(f"spectra-{slug}", f"{of}: spectra", "spectra_figure", case))
        parts.append("\n".join(images))
    return parts


def _spectrum_row(row: dict[str, Any]) -> list[str]:
    values = row["eigenvalues"]
    count = str(row["iterations"]) if row["outcome"] == CONVERGED else row["outcome"]
    if not values:
        return [marked(row["preconditioner"]), count, *[row.get("refused") or "-"], *["-"] * 4]
    condition, kaporin = row["condition_number"], row["log_kaporin"]
    return [
        marked(row["preconditioner"]),
        count,
        f"{values[0]:.3g}",
        f"{values[-1]:.3g}",
        "-" if condition is None else three_digits(condition) if condition < 1e5 else f"{condition:.2e}",
        "-" if kaporin is None else f"{kaporin:.4f}",
        str(row["negative"]),
    ]


def ablation_section(name: str, study: dict[str, Any], heading: str = "##") -> list[str]:
    """A file of `ablate`: one row per variant over all its seeds."""
    groups = groups_of(study)
    labels = {key: variant["label"] for key, variant in study["variants"].items()}
    entries = tabulate(labels, study["rows"], groups)
    columns, rows = table_cells(entries)
    rows = [[cell.replace("+-", "±") for cell in row] for row in rows]
    return [
        f"{heading} {study['title']}",
        _study_provenance(name, study),
        table(columns, rows),
        "\n".join([f"{' '.join(legend(groups).split()).replace('+-', '±')}.", *notes(entries)]),
    ]


def seeds_section(name: str, study: dict[str, Any], heading: str = "##") -> list[str]:
    """A study of one training from several seeds: a row per variant and seed, then mean ± deviation."""
    groups = groups_of(study) or {
        "iterations": max((len(row["iterations"]) for row in study["rows"]), default=0)
    }
    ends = np.cumsum([0, *groups.values()])
    rows = []
    for key, variant in study["variants"].items():
        mine = sorted((row for row in study["rows"] if row["variant"] == key), key=lambda row: row["seed"])
        means = []
        for row in mine:
            counts = [row["iterations"][start:end] for start, end in itertools.pairwise(ends)]
            means.append([_mean(of) for of in counts])
            cells = [_stated(mean, None in of) for mean, of in zip(means[-1], counts, strict=True)]
            failed = sum(count is None for count in row["iterations"])
            rows.append([variant["label"], str(row["seed"]), *cells, f"{failed}/{len(row['iterations'])}"])
        if len(mine) > 1:
            failed = sum(count is None for row in mine for count in row["iterations"])
            total = sum(len(row["iterations"]) for row in mine)
            over = [_deviation([of[k] for of in means if of[k] is not None]) for k in range(len(groups))]
            rows.append([f"**{variant['label']}**", f"**{len(mine)} seeds**", *over, f"{failed}/{total}"])
    return [
        f"{heading} {study['title']}",
        _study_provenance(name, study),
        table(["training", "seed", *groups, "failed"], rows),
        "Mean iterations of each test set, * without those that failed; in bold their mean ± standard "
        "deviation over the seeds.",
    ]


def _study_provenance(name: str, study: dict[str, Any]) -> str:
    try:
        sessions = tuple(dict.fromkeys(map(Session.of, study["sessions"])))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{name}: is damaged: a session lacks {error}; move it away") from error
    return provenance(name, str(study.get("command", "")), sessions, study["budget"], study["conditions"])


def _mean(counts: list[int | None]) -> float | None:
    known = [count for count in counts if count is not None]
    return float(np.mean(known)) if known else None


def _stated(mean: float | None, incomplete: bool) -> str:
    return "-" if mean is None else f"{mean:.1f}" + "*" * incomplete


def _deviation(means: list[float]) -> str:
    if len(means) < 2:
        return _stated(means[0] if means else None, False)
    return f"**{np.mean(means):.1f} ± {np.std(means, ddof=1):.1f}**"


def title(name: str) -> str:
    """bubbles-10000 as Bubbles 10000."""
    words = name.replace("-", " ")
    return words[:1].upper() + words[1:]


def _slug(text: str) -> str:
    kept = "".join(letter if letter.isalnum() else "-" for letter in text.lower().replace(",", ""))
    return "-".join(part for part in kept.split("-") if part)
