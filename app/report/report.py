"""`report`: RESULTS.md and its figures from the committed results, the same bytes every time.

template.md says what stands where. In braces is the name of a method of `Report`, after spaces its arguments,
after a dot a part of what it gives. A paragraph with nothing to say is left out, and so is an empty section.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import textwrap
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from app.bench.results import Session
from app.environment import ROOT
from app.recording.summary import START
from app.report import results, tables
from app.report.results import session_of
from app.report.tables import markdown, marked, say, words
from precond.config import read_yaml
from precond.errors import UsageError

REFERENCE = ROOT / "assets" / "reference"
FIGURES = Path("assets") / "figures"
KNOWN = (
    "bench.csv",
    "bench.yaml",
    "published.yaml",
    "validation*",
    "spectra*.json",
    "recording-*.yaml",
    "study-*.*",
)
COMPARED = ("stirred", (4096, 65536))  # what the first table shows: family and cells
LEFT_OUT = ("none", "ic0", "block-jacobi", "coarse-monomial", "coarse-geneo", "neural-spai")  # of a family
SAFE = 16384  # cells at which the worst case ranks the methods
PROFILED = (1024, 4096, 16384, 65536)  # cells whose times the table of performance profiles gives
TIMED = ("barriers", (16384,))  # where the parts of the time are told
WATCHED = "dam-break"  # the scene whose frames are told in parts
EVEN = 0.03  # two times that differ by this share at most are as fast
PLACE = ("family", "contrast", "cells")


class Nothing(LookupError):
    """There is nothing to be said here."""


def report(data: str | None, out: str) -> int:
    """Write ``out``/RESULTS.md and ``out``/assets/figures from the files in ``data``; returns 0.

    Raises UsageError without matplotlib, for unknown or damaged files, and where ``out`` cannot be written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("the figures need matplotlib: pip install 'htp-fluid[report]'")
    made, directory = Report(REFERENCE if data is None else Path(data)), Path(out)
    text = made.text()
    try:
        (directory / FIGURES).mkdir(parents=True, exist_ok=True)
        made.draw(directory / FIGURES)
        (directory / "RESULTS.md").write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written: {error.strerror}") from None
    print(f"{directory / 'RESULTS.md'}; figures in {directory / FIGURES}: {len(made.figures)}")
    return 0


class Report:
    """What the files in ``data`` say. ``figures``: by name, which function draws it, and from what.

    Raises UsageError for a file that is unknown or damaged, here or where it is read later.
    """

    def __init__(self, data: Path):
        try:
            paths = sorted(path for path in data.iterdir() if path.suffix in (".json", ".csv", ".yaml"))
        except OSError as error:
            raise UsageError(f"{data}: cannot be read: {error.strerror}") from None
        if not paths:
            raise UsageError(f"{data}: holds no results; name their directory with --data")
        for path in paths:
            if not any(map(path.match, KNOWN)):
                raise UsageError(f"{path}: is none of {', '.join(KNOWN)}; move it away")
        self.figures: dict[str, tuple[Any, ...]] = {}
        self._data, self._said, self._bench = data, {}, results.read_bench(data)
        self._all = pd.DataFrame({"kind": [], "family": []}) if self._bench is None else self._bench.summary

    def text(self) -> str:
        """RESULTS.md; needs no matplotlib."""
        template = (Path(__file__).parent / "template.md").read_text(encoding="utf-8").rstrip("\n")
        sections = []
        for section in template.split("\n\n## "):
            title, *paragraphs = section.split("\n\n")
            filled = "\n\n".join(filter(None, map(self._filled, paragraphs)))
            sections += [f"{title}\n{filled}".strip()] if filled or not sections else []
        return "\n\n## ".join(sections) + "\n"

    def draw(self, folder: Path) -> None:
        """Write the figures that the text names. Raises ImportError without matplotlib, OSError."""
        from app.report import figures

        for name, (drawing, *arguments) in self.figures.items():
            getattr(figures, drawing)(*arguments, folder / f"{name}.svg")

    def _filled(self, paragraph: str) -> str:
        lines = []
        for line in paragraph.split("\n"):
            with contextlib.suppress(Nothing):
                lines.append(line.format_map(self))
        text = "\n".join(lines)
        return text if "\n" in text or text.startswith(("!", "- ")) else _wrapped(text)

    def __getitem__(self, call: str) -> Any:
        if call not in self._said:
            name, *arguments = call.split()
            self._said[call] = getattr(self, name)(*arguments)
        return self._said[call]

    def _kinds(self, *kinds: str, family: str = "") -> pd.DataFrame:
        """The part of the summary that is of ``kinds`` and, where one is given, ``family``."""
        part = self._all[self._all.kind.isin(kinds) & (self._all.family.eq(family) | (family == ""))]
        return _some(part)

    def _files(self, pattern: str) -> list[Path]:
        return _some(sorted(self._data.glob(pattern)))

    def _ours(self) -> pd.DataFrame:
        """Our methods on well-posed problems."""
        return self._kinds("family", "contrast", "tolerances", "splits")

    def _figure(self, name: str, drawing: str, *arguments: Any) -> str:
        self.figures[name] = (drawing, *arguments)
        return f"![{name.replace('-', ', ')}]({FIGURES.as_posix()}/{name}.svg)"

    def choice(self) -> SimpleNamespace:
        """Every method, with when to use it; where they are compared, and how many columns there are."""
        ours = self._ours()
        part = _at(ours, *COMPARED)
        place = words(part, "family", "contrast")[0]
        table = tables.choice_table(ours, part)
        return SimpleNamespace(table=table, where=place, columns=ours.place.nunique())

    def learning(self) -> SimpleNamespace:
        """What learning buys, and what it does not."""
        ours = self._ours()
        ran = _some(ours[ours.groupby("place").learned.transform("any")])
        learned = ran[ran.learned]
        lost = learned.groupby("method")[["failed", "frames"]].sum().itertuples()
        return SimpleNamespace(
            places=ran.place.nunique(),
            **learned.groupby("place")[["fastest", "fewest"]].any().sum(),
            slower=learned.groupby("place").slower.min().replace(np.inf, np.nan).describe(),
            failed=", ".join(f"`{method}` {failed} of {frames}" for method, failed, frames in lost),
        )

    def control(self) -> SimpleNamespace:
        """`coarse-learned` over `coarse-iterated`, where both solved all."""
        ratios = results.learned_over_iterated(self._ours())
        iterations, time = (_some(ratios)[name] for name in ("iterations", "time"))
        return SimpleNamespace(ratio=iterations.describe(), time=time.describe(), faster=(time < 1.0).sum())

    def bought(self) -> SimpleNamespace:
        """The families by whether `coarse-learned` is faster than `coarse-iterated` there, with how much the
        network changes of time and iterations: geometric means over sizes and contrasts.
        """
        ratios = _some(results.learned_over_iterated(self._kinds("family")))
        means = np.exp(np.log(ratios).groupby("family").mean())
        faster, slower = means.time < 1.0 - EVEN, means.time > 1.0 + EVEN
        told = {
            name: ", ".join(
                f"{family} ({of.time - 1:+.0%}, {of.iterations - 1:+.0%})" for family, of in part.iterrows()
            )
            for name, part in (
                ("faster", means[faster]),
                ("even", means[~faster & ~slower]),
                ("slower", means[slower]),
            )
        }
        return SimpleNamespace(**{name: families or "none" for name, families in told.items()})

    def monomials(self) -> SimpleNamespace:
        """Iterations with the network over those with monomials in its place, from the study of the form."""
        from precond.study.study import read_study

        (path,) = self._files("study-coarse-learned.yaml")
        rows = pd.DataFrame(map(dict, read_study(path).rows)).dropna(subset="iterations")
        means = rows.groupby(["variant", "group"]).iterations.mean().astype(float).unstack("group")
        if not {"base", "unlearned"} <= set(means.index):
            raise Nothing
        ratio = np.exp(np.log(means.loc["base"] / means.loc["unlearned"]).mean())
        return SimpleNamespace(ratio=ratio)

    def winners(self) -> str:
        """Who is the fastest in every family."""
        return tables.winners_table(self._kinds("family"))

    def profiles(self) -> SimpleNamespace:
        """Performance profiles over all families, sizes and contrasts: a table and a figure. Of a system that
        solvers of other programs had, too, the profiles compare the times of that run.
        """
        part, peers = self._kinds("family", "contrast"), self._all[self._all.kind == "external"]
        rows = self._bench.rows
        ours, beside = (rows[rows.run.isin(of.run)] for of in (part, peers))
        once = [*results.SYSTEM, "method"]
        ours = ours.drop_duplicates(once)
        ratios = results.relative_times(pd.concat([beside, ours]).drop_duplicates(once))
        safe = tables.nearest(ours.cells, SAFE)
        some = ratios.count()[ratios.count() < len(ratios)]
        fewer = ", ".join(f"{marked(method)} {count}" for method, count in some.items())
        return SimpleNamespace(
            table=tables.profile_table(ours, ratios, PROFILED, safe),
            figure=self._figure("profiles", "profile_figure", ratios),
            systems=len(ratios),
            fewer=f" Shares are of the systems that a method had: all, but {fewer}." * bool(fewer),
            safe=say("cells", safe),
        )

    def parts(self) -> SimpleNamespace:
        """The parts of the time, products and memory of the methods in one place."""
        part = _at(self._kinds("family"), *TIMED)
        part = _some(part[~part.method.isin(LEFT_OUT)])
        return SimpleNamespace(table=tables.parts_table(part), where=words(part, *PLACE)[0])

    def of(self, kinds: str, family: str = "") -> SimpleNamespace:
        """All methods in runs of ``kinds`` (parted by +): one table, figures where there are curves, and what
        all columns share, what failed or was left out, and where it was measured.
        """
        part, name = self._kinds(*kinds.split("+"), family=family), family or kinds
        if kinds not in ("forms", "external"):
            part = _some(part[~part.method.isin(LEFT_OUT)])
        most = {"family": max(1, 4 // part.contrast.nunique()), "external": 3, "contrast": 9}.get(kinds, 1)
        across, by = "cells", "contrast" if family else "family"
        if kinds == "contrast":
            across, by = "contrast", "family"
        images = []
        if part[across].nunique() > 2 and kinds != "external" and "+" not in kinds:
            for what, measure in (("iterations", "iterations"), ("time", "total_ms")):
                images.append(self._figure(f"{what}-{name}", "sweep_figure", part, across, by, measure))
        table = tables.methods_table(tables.thinned(part, most), spread=bool(family))
        return SimpleNamespace(table=table, figures=" ".join(images), measured=self._measured(part))

    def _measured(self, part: pd.DataFrame) -> str:
        rows, header = self._bench.rows, self._bench.header
        rows = rows[rows.run.isin(part.run) & rows.family.isin(part.family)]
        said = [f"{tables.ranged(part.frames, str)} frames a column"]
        said += [say(name, part[name].iloc[0]) for name in tables.VARIED[3:] if part[name].nunique() == 1]
        for outcome, methods in rows[rows.failed].groupby("outcome").method:
            said.append(f"{outcome.removeprefix('failed: ')}: {tables.counted(methods)}")
        for run in part.run.unique():
            skipped, ended = header.runs[run].skipped, header.runs[run].ended
            said += [f"left out: {', '.join(skipped)}"] * bool(skipped)
            said += [f"{run} ended early: {ended}"] * (ended != "completed")
        sessions = [header.sessions[number] for number in rows.session.unique()]
        commands, places = _told(sessions)
        places = [] if places == self._place() else places
        return f"{'; '.join(dict.fromkeys(said))}. {'; '.join([', '.join(commands), *places])}."

    def _place(self) -> list[str]:
        """Where the bench's first session was."""
        return _told(self._bench.header.sessions[:1])[1]

    def measured(self) -> SimpleNamespace:
        """Where solves were measured, but for those of sections that say it themselves."""
        if self._bench is None:
            raise Nothing
        return SimpleNamespace(bench="; ".join(self._place()))

    def external(self) -> SimpleNamespace:
        """How often solvers of other programs win."""
        part = self._kinds("external")
        won = part[part.fastest & part.method.str.startswith(results.EXTERNAL)].method
        names = tables.counted(won) or "none"
        return SimpleNamespace(fastest=len(won), places=part.place.nunique(), names=names)

    def published(self) -> SimpleNamespace:
        """Our counts beside the published ones, and those of the same frames in well-posed conditions."""
        part, path = self._kinds("published"), self._data / "published.yaml"
        values = results.read_table(
            path if path.exists() else REFERENCE / path.name, "file of published counts"
        )
        rows, of = self._bench.rows, values.iloc[0]
        early = (rows.run.isin(part.run) & rows.outcome.eq("left early")).sum()
        rows = rows[rows.family.eq(of.family) & rows.rtol.eq(of.rtol) & rows.contrast.eq(0)]
        told = tables.published_table(rows, values)
        return SimpleNamespace(**told, early=early, source=of.source, measured=self._measured(part))

    def recordings(self) -> SimpleNamespace:
        """A row for every recorded scene, a column for every method."""
        runs = self._recorded()
        rtol = ", ".join(sorted(set(words(runs, "rtol"))))
        return SimpleNamespace(
            scenes=tables.scenes_table(results.frame_times(runs)),
            conditions=f"{tables.ranged(runs['rows'], str)} frames each, {rtol}",
            measured=_words(runs.session),
            start=START,
        )

    def chosen(self) -> SimpleNamespace:
        """How the method that chooses compares with the fixed ones over all scenes."""
        times = results.frame_times(self._recorded())
        mine = _some(times[times.chooses & times.best_ms.notna()])
        ratio, worst = mine.median_ms / mine.best_ms, mine.worst_ms / mine.best_ms
        return SimpleNamespace(
            method=f"`{mine.method.iloc[0]}`",
            even=(ratio <= 1.0 + EVEN).sum(),
            places=len(mine),
            most=ratio.max(),
            where=re.sub(r", \d+x\d+, .*", "", mine.place[ratio.idxmax()]),
            within=(worst <= 2.0).sum(),
            worst=worst.max(),
        )

    def painted(self) -> SimpleNamespace:
        """What share of the frames a second remains where the input of a hand is replayed."""
        times = results.frame_times(self._recorded()).set_index(["place", "method"])
        kept = []
        for (place, method), row in times[times.alone != times.index.get_level_values("place")].iterrows():
            if (row.alone, method) in times.index:
                share = times.median_ms[row.alone, method] / row.median_ms
                kept.append((place.split(", ")[1], f"`{method}` {share:.0%}"))
        found = pd.DataFrame(_some(kept), columns=["input", "said"]).groupby("input").said.agg(", ".join)
        return SimpleNamespace(kept="; ".join(f"{said} ({name})" for name, said in found.items()))

    def watched(self) -> SimpleNamespace:
        """Frames a second and the parts of a frame of the methods in the scene WATCHED."""
        runs = self._recorded()
        runs = _some(runs[(runs.scene == WATCHED) & (runs.replay == "")])
        reused = runs[runs.reuse_setup == "True"].groupby("preconditioner").fps_mean.median()
        speeds = [f"`{name}` {fps:.0f}" for name, fps in reused.sort_values(ascending=False).items()]
        return SimpleNamespace(table=tables.recordings_table(runs), speeds=", ".join(speeds), scene=WATCHED)

    def _recorded(self) -> pd.DataFrame:
        """A row for every recording."""
        return results.read_recordings(self._files("recording-*.yaml"))

    def spectra(self) -> SimpleNamespace:
        """One table and two figures of the files of `spectra`."""
        paths = self._files("spectra*.json")
        rows = pd.concat([results.read_table(path, "file of spectra") for path in paths])
        rows["case"] = words(rows, *PLACE)
        measured = f"{say('rtol', rows.rtol.max())}. {_words(rows.session)}"
        figure = self._figure("spectra", "spectra_figure", rows)
        shown = rows[~rows.preconditioner.isin(LEFT_OUT)]
        return SimpleNamespace(table=tables.spectra_table(shown), figure=figure, measured=measured)

    def validation(self) -> SimpleNamespace:
        """A row for every case of the files of `validate`: figures with references, those missed bold."""
        rows, sessions, missed, total = [], [], 0, 0
        for path in self._files("validation*.json"):
            content = read_yaml(path)
            try:
                sessions.append(session_of(content, path))
                for case in content["cases"]:
                    said = []
                    for figure in case["figures"]:
                        value = "-" if figure["value"] is None else f"{figure['value']:.4g}"
                        mark = "" if figure["passed"] else "**"
                        told = f"{mark}{value}{mark} ({figure['reference']})"
                        said.append(f"{figure['quantity']}: {told}")
                    missed, total = missed + sum("**" in one for one in said), total + len(said)
                    rows.append((case["title"], "; ".join(said)))
            except (KeyError, TypeError, ValueError):
                raise UsageError(f"{path}: is no file of `validate`") from None
        table = markdown(pd.DataFrame(rows, columns=("case", "measured (reference)")))
        return SimpleNamespace(table=table, kept=total - missed, total=total, measured=_words(sessions))

    def studies(self) -> str:
        """A table of all studies that test alike, after what they are and where they were made; the published
        forms' stay in their files.
        """
        paths = [path for path in self._files("study-*.yaml") if "published" not in path.name]
        from precond.study.study import LEGEND, read_study, tabulate

        alike: dict[tuple[str, ...], list[Any]] = {}
        for path in paths:
            study = read_study(path)
            columns, rows = tabulate(study)
            sessions = [session_of({**of, "command": study.command}, path) for of in study.sessions]
            alike.setdefault(tuple(columns), []).append((study, rows, sessions))
        parts = []
        for columns, found in alike.items():
            studies, rows, sessions = zip(*found, strict=True)
            said = [f"**{', '.join(study.title for study in studies)}**"]
            said += dict.fromkeys(f"{study.budget}; {study.conditions}" for study in studies)
            parts.append(_wrapped(f"{'. '.join(said)}. {_words(chain(*sessions))}"))
            parts.append(markdown(pd.DataFrame(chain(*rows), columns=columns).drop_duplicates()))
        legend = f"{LEGEND[0].upper()}{LEGEND[1:]}. The published form's: study-hmatrix-published-1024.yaml."
        return "\n\n".join([*parts, _wrapped(legend)]).replace("+-", "±")


def _some(found: Any) -> Any:
    """``found``, a table or a list, if anything was."""
    if not len(found):
        raise Nothing
    return found


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _words(sessions: Iterable[Session]) -> str:
    """Commands without what differs between repetitions; days, commits and machines."""
    commands, places = _told(sessions)
    return f"{', '.join(commands)}; {'; '.join(places)}."


def _told(sessions: Iterable[Session]) -> tuple[list[str], list[str]]:
    """The different commands and places of `_words`."""
    commands, places = [], []
    for session in sessions:
        on, (commit, *changes) = session.hardware, (session.commit or "unknown").split("+")
        command = re.sub("--(scene|precond) [^ ]+", r"--\1 NAME", session.command)
        command = re.sub(" --out [^ ]+", "", command)
        commands.append(f"`{command}`")
        machine = f"{on.get('cpu')}, {on.get('cores')} cores, {on.get('gpu') or 'no GPU'}"
        machine += f", torch {session.versions.get('torch')}"
        places.append(f"{session.date[:10]}, commit {'+'.join([commit[:10], *changes])}, {machine}")
    return list(dict.fromkeys(commands)), list(dict.fromkeys(places))


def _at(part: pd.DataFrame, family: str, sizes: tuple[int, ...]) -> pd.DataFrame:
    """``part`` at the lowest contrast of one family, if it can be ``family``, and sizes next to ``sizes``."""
    part = part[part.family == (family if family in set(part.family) else part.family.iloc[0])]
    part = part[part.run == part.run.iloc[0]]
    for name in ("contrast", "rtol", "split"):
        part = part[part[name] == part[name].min()]
    return part[part.cells.isin([tables.nearest(part.cells, size) for size in sizes])]
