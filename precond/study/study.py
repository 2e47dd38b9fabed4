"""A study: variants that differ from a base by settings, trained from several seeds, tested on the same
problems, in one table.

What to do is a YAML file (`Study.read`). What was found is two files side by side, NAME.yaml and NAME.csv,
one row for each run and test problem (`read_study`), summed up by `tabulate`. All variants train for the same
steps on the same data, of which the truncated objective of `hmatrix` takes the smallest systems alone. Runs
are ordered by seed, so that an interrupted study is a balanced one; it goes on from its files and
checkpoints.
"""

from __future__ import annotations

import csv
import io
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, PlainValidator
from tqdm import tqdm

from precond.config import Number, Settings, Text, Whole, read_yaml, validated
from precond.errors import UsageError
from precond.files import write_whole
from precond.learned.coarse_learned import coarse_learned
from precond.learned.weights import save_model
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.problems import gallery
from precond.registry import make_preconditioner
from precond.training.coarse_learned import CoarseLearnedTask, RandomSystems
from precond.training.data import stirred
from precond.training.hmatrix import HMatrixTask
from precond.training.loop import Count, Positive, Seed, Task, Trainer, plain, solves
from precond.training.published_hmatrix import TEST_FRAMES, PublishedTask

TASKS: dict[str, type[Task]] = {task.name: task for task in (HMatrixTask, PublishedTask, CoarseLearnedTask)}
FIXED = ("n", "frames", "steps", "seed")  # settings of a training that no variant may change
INFERENCES = 9  # timed, of which the median is told
TIMED = ((128, 64), 10_000.0, gallery.TEST_SEED)  # bubbles on which they are timed
LEGEND = (
    "mean iterations +- standard deviation over the seeds, * without those that failed; inference ms: of\n"
    "one basis on 128 x 64 bubbles of contrast 10,000, median wall time, all variants in turn; minutes: of\n"
    "steps and validations; CPU minutes: with set-up and test; times are means, on a shared machine"
)


def _different(value: Any) -> list[int]:
    whole = isinstance(value, list) and all(type(seed) is int and seed >= 0 for seed in value)
    if not whole or not value or len(set(value)) < len(value):
        raise ValueError("is not a list of different whole numbers from 0")
    return value


def _some(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise ValueError("is not a mapping of at least one name")
    return value


Form = Literal["hmatrix", "hmatrix-published", "coarse-learned"]
Seeds = Annotated[list[int], PlainValidator(_different)]
Some = Annotated[dict, PlainValidator(_some)]
Plain = Annotated[Any, Field(default_factory=dict)]


class Group(Settings):
    """Test problems of one family of the gallery, or stirred ones."""

    family: Literal[(*gallery.FAMILIES, "stirred")]
    n: Annotated[Whole, Field(ge=64)]
    frames: Count
    contrast: Positive | None = None

    def problems(self) -> Iterator[gallery.Problem]:
        """All frames."""
        for frame in range(self.frames):
            if self.family == "stirred":
                contrast = 100.0 if self.contrast is None else self.contrast
                yield stirred(gallery.square_shape(self.n), contrast, gallery.TEST_SEED + frame)
            else:
                yield gallery.problem(self.family, self.n, frame, "test", self.contrast)


class MixedSystems(RandomSystems):
    """Random systems and, where asked for, large ones; a study has no simulator."""

    large_systems: Annotated[Whole, Field(ge=0)] = 0


DATA: dict[str, type[RandomSystems]] = {"coarse-learned": RandomSystems, "hmatrix": MixedSystems}


class _Written(Settings):
    """A study as people write it."""

    title: Text = "Study"
    form: Form = "hmatrix"
    seeds: Seeds
    model: Plain
    training: Plain
    data: Any = None  # to train on, for the forms in DATA alone
    test: Some | None = None  # groups of problems; what is left out is the benchmark's test frames
    references: list[Literal["coarse-monomial", "coarse-iterated", "coarse-geneo"]] = Field(
        default_factory=list
    )  # not trained
    variants: Some


class _WrittenVariant(Settings):
    label: Text = ""
    model: Plain
    training: Plain


class Variant(Settings):
    """One row of the table; ``config`` has the whole sections model and training, but for the seed, or a
    reference's ``preconditioner`` with its options.
    """

    label: Text
    config: dict[str, Any]

    @property
    def trained(self) -> bool:
        """Whether it is no reference."""
        return "preconditioner" not in self.config


class Study(Settings):
    """A checked study; ``shared`` has the sections test and data. References have the first seed alone."""

    title: Text
    form: Form
    conditions: Text
    budget: Text
    seeds: Seeds
    shared: dict[str, Any]
    variants: dict[str, Variant]

    @classmethod
    def read(cls, path: str | Path) -> Study:
        """From a YAML file. Raises UsageError with the file, the section and what is wrong there."""
        written = validated(_Written, read_yaml(path), str(path))
        task, base = TASKS[written.form], {"model": written.model, "training": written.training}
        training, shared = _whole(task, base, str(path))["training"], {}
        if written.form in DATA:
            given = {} if written.data is None else written.data
            data = shared["data"] = validated(DATA[written.form], given, f"{path}: data").model_dump()
            sizes = "768 to 1,024" if task is CoarseLearnedTask else "1,024 to 4,096"
            systems = f"{data['systems']} random systems of {sizes} cells"
            if large := data.get("large_systems"):
                systems += f" and {large} of 8,192 to 16,384"
        elif written.data is not None:
            raise UsageError(f"{path}: data: unknown; {task.name} trains on frames of the benchmark")
        else:
            systems = f"{training['frames']} training frames of {training['n']:,} cells"
        frames = {"family": "barriers", "n": training.get("n", 4096), "frames": TEST_FRAMES}
        groups = written.test or {"barriers": frames}
        groups = {name: validated(Group, of, f"{path}: test: {name}") for name, of in groups.items()}
        shared["test"] = {str(name): group.model_dump(exclude_none=True) for name, group in groups.items()}
        variants = {}
        for name in written.references:
            variants[name] = Variant(label=f"{name}, untrained", config={"preconditioner": name})
        for name, own in written.variants.items():
            where = f"{path}: variants: {name}"
            if not re.fullmatch(r"[\w-]+", str(name)):
                raise UsageError(f"{where}: a name is of letters, digits, - and _: files are called so")
            if name in variants:
                raise UsageError(f"{where}: a reference has this name")
            part = validated(_WrittenVariant, own, where)
            both = {key: _merged(of, getattr(part, key), f"{where}: {key}") for key, of in base.items()}
            if fixed := [name for name in FIXED if name in part.training]:
                raise UsageError(f"{where}: training: {fixed[0]}: is the same for all variants")
            variants[str(name)] = Variant(label=part.label or str(name), config=_whole(task, both, where))
        kept = "weights best on held-out frames" if task.keeps_best else "last weights"
        return cls(
            **written.model_dump(include={"title", "form", "seeds"}),
            conditions=f"unseen problems, rtol 1e-8, x0 = 0, at most {task.limit:,} iterations",
            budget=f"{training['steps']:,} steps on {systems}; the {kept} are tested",
            shared=shared,
            variants=variants,
        )

    def runs(self) -> list[tuple[str, int]]:
        """All (variant, seed), the first seed of every variant first."""
        references = [(name, self.seeds[0]) for name, of in self.variants.items() if not of.trained]
        trained = [name for name, of in self.variants.items() if of.trained]
        return references + [(name, seed) for seed in self.seeds for name in trained]


class Row(Settings):
    """One run on one test problem.

    seconds: of the training's steps and validations; cpu_seconds: with set-up and test, None when it went on
    from a checkpoint. iterations: None where it failed. session: its number among the results' sessions.
    """

    variant: Text
    label: Text
    seed: Seed
    parameters: Whole = 0
    steps: Whole = 0
    seconds: Number = 0.0
    cpu_seconds: Number | None = None
    inference_ms: Number | None = None
    group: Text
    problem: Whole
    iterations: Whole | None = None
    failure: str = ""
    session: Whole


class StudyResults(Study):
    """What a study found. ``sessions``: machines and versions; ``log``: of each training, by variant-seed."""

    command: Text
    sessions: list[dict[str, Any]] = Field(default_factory=list)
    log: dict[str, list] = Field(default_factory=dict)
    rows: list[Row] = Field(default_factory=list)

    def write(self, path: Path) -> None:
        """The pair of files ``path`` (.yaml) and .csv. Raises OSError."""
        head, table = self.model_dump(exclude={"rows"}), io.StringIO()
        text = yaml.safe_dump(head, sort_keys=False, default_flow_style=None, width=110)
        writer = csv.DictWriter(table, list(Row.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(dict, self.rows))
        write_whole(path, text)
        write_whole(path.with_suffix(".csv"), table.getvalue())


def read_study(path: str | Path) -> StudyResults:
    """The results in ``path`` (.yaml) and the .csv beside it. Raises UsageError."""
    path = Path(path)
    table = path.with_suffix(".csv")
    try:
        results = validated(StudyResults, read_yaml(path), str(path))
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            lines = [{key: v for key, v in line.items() if v != ""} for line in reader]
        if reader.fieldnames != list(Row.model_fields):
            raise UsageError(f"{table}: its columns are not {', '.join(Row.model_fields)}")
        for number, line in enumerate(lines, 1):
            row = validated(Row, line, f"{table}: row {number}")
            results.rows.append(row)
            if row.variant not in results.variants or row.session >= len(results.sessions):
                raise UsageError(f"{table}: row {number}: its variant or session is not in {path.name}")
        if len({tuple((row.group, row.problem) for row in run) for run in _by_run(results.rows)}) > 1:
            raise UsageError(f"{table}: its runs differ in their test problems")
    except OSError as error:
        raise UsageError(f"{table}: cannot be read: {error.strerror}") from None
    except (UsageError, UnicodeDecodeError, csv.Error) as error:
        words = f"{path} holds no results of a study, or is damaged: move it and its .csv away to start anew"
        raise UsageError(f"{error}; {words}") from None
    return results


def run_study(study: Study, directory: Path, command: str, here: dict[str, Any]) -> StudyResults:
    """Do what is missing in ``directory``, where study.yaml and study.csv are after every run; returns all.

    ``here`` describes the machine, ``command`` how this was started. Raises UsageError for results or
    checkpoints of another study, and OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "study.yaml"
    results = StudyResults(**study.model_dump(), command=command)
    if path.exists():
        old = read_study(path)
        used = {row.variant: old.variants[row.variant].config for row in old.rows}
        now = {name: variant.config for name, variant in study.variants.items() if name in used}
        if (old.form, old.shared, used) != (study.form, study.shared, now):
            raise UsageError(f"{path}: is of another test, data or variants: name another directory")
        results.sessions, results.log, results.rows = old.sessions, old.log, old.rows
        for row in results.rows:
            row.label = study.variants[row.variant].label
    runs, done = study.runs(), {(row.variant, row.seed) for row in results.rows}
    with tqdm(total=len(runs), initial=len(done), unit="run", disable=None, file=sys.stderr) as bar:
        for name, seed in runs:
            if (name, seed) not in done:
                bar.set_description(f"{name}, seed {seed}")
                _run(results, name, seed, directory, _session(results.sessions, here))
                results.write(path)
                (directory / f"{name}-{seed}.checkpoint").unlink(missing_ok=True)
                bar.update()
    if study.form == "coarse-learned" and any(row.inference_ms is None for row in results.rows):
        _time(results, directory)
    results.write(path)
    return results


def _run(results: StudyResults, name: str, seed: int, directory: Path, session: int) -> None:
    """Add one run: trained, unless it is a reference, and tested."""
    variant, started, resumed = results.variants[name], time.process_time(), False
    row = {"variant": name, "label": variant.label, "seed": seed, "session": session}
    if variant.trained:
        data = {**results.shared.get("data", {}), "simulator_frames": 0}
        training = {**variant.config["training"], "seed": seed}
        task = TASKS[results.form]({**variant.config, "training": training, "data": data})
        if not task.keeps_best:
            task.validation = []
        checkpoint = directory / f"{name}-{seed}.checkpoint"
        resumed = checkpoint.exists()
        trainer = Trainer(task, checkpoint)
        trainer.run()
        card = trainer.card()
        save_model(checkpoint.with_suffix(".safetensors"), task.network, card)
        row |= {"parameters": card["parameters"], "steps": trainer.step, "seconds": round(trainer.seconds, 1)}
        told = ("step", "loss", "failed", "mean")
        results.log[f"{name}-{seed}"] = [{key: e[key] for key in told if key in e} for e in trainer.log]
    form, rows = task.form if variant.trained else _form(variant, directory), []
    for group, settings in results.shared["test"].items():
        problems = Group(**settings).problems()
        for number, report in enumerate(solves(form, problems, TASKS[results.form].limit)):
            ended = {"iterations": report.iterations}
            if not report.converged:
                ended = {"failure": f"{report.outcome.value} after {report.iterations}"}
            rows.append({**row, **ended, "group": group, "problem": number})
    used = None if resumed else round(time.process_time() - started, 1) if variant.trained else 0.0
    results.rows += [Row(**each, cpu_seconds=used) for each in rows]


def _form(variant: Variant, weights: Path) -> Callable[[PoissonOperator], Preconditioner]:
    """Makes a reference, or coarse-learned with ``weights``."""
    if variant.trained:
        return partial(coarse_learned, model=weights)
    options = dict(variant.config)
    return partial(make_preconditioner, options.pop("preconditioner"), **options)


def _inference(form: Preconditioner) -> float:
    """Seconds of it in one set-up."""
    form.setup()
    return form.seconds["inference"]


def _time(results: StudyResults, directory: Path) -> None:
    """Add to all rows the median wall time of the inference in a set-up for the bubbles TIMED, all runs in
    turn, so that whatever else the machine does meets them alike. Raises ModelError for weights that are
    gone.
    """
    runs, forms = _by_run(results.rows), []
    for row, *_ in runs:
        make = _form(results.variants[row.variant], directory / f"{row.variant}-{row.seed}.safetensors")
        forms.append(make(gallery.bubbles(*TIMED).operator()))
        forms[-1].setup()
    seconds = [[_inference(form) for form in forms] for _ in range(INFERENCES)]
    for run, median in zip(runs, np.median(seconds, axis=0), strict=True):
        for row in run:
            row.inference_ms = round(1e3 * float(median), 2)


def tabulate(results: StudyResults) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, explained by LEGEND, and one row of texts for each variant, over all its runs."""
    groups = list(dict.fromkeys(row.group for row in results.rows))
    columns = ["variant", "parameters", "seeds", *groups, "failed", "inference ms", "minutes", "CPU minutes"]
    table = []
    for name, variant in results.variants.items():
        runs = [run for run in _by_run(results.rows) if run[0].variant == name]
        first = [run[0] for run in runs]
        counts = [row.iterations for run in runs for row in run]
        of = [[[row.iterations for row in run if row.group == group] for run in runs] for group in groups]
        means = [_mean([row.inference_ms for row in first])]
        means += [_mean([getattr(row, time) for row in first], 60.0) for time in ("seconds", "cpu_seconds")]
        parameters = f"{first[0].parameters:,}" if first else "-"
        failed = f"{counts.count(None)}/{len(counts)}"
        table.append([variant.label, parameters, str(len(runs)), *map(_spread, of), failed, *means])
    return columns, table


def as_text(results: StudyResults) -> str:
    """The table with all that explains it."""
    columns, rows = tabulate(results)
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [
        "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])])
        for first, *rest in [columns, *rows]
    ]
    return "\n".join([f"{results.title}: {results.budget}", *lines, LEGEND, results.conditions])


def _by_run(rows: Iterable[Row]) -> list[list[Row]]:
    runs: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        runs.setdefault((row.variant, row.seed), []).append(row)
    return list(runs.values())


def _spread(seeds: list[list[int | None]]) -> str:
    """Mean +- deviation over the seeds of the mean over the problems that converged, where any did."""
    known = [[count for count in counts if count is not None] for counts in seeds]
    means = [float(np.mean(counts)) for counts in known if counts]
    text = f"{np.mean(means):.1f}" if means else "-"
    text += f" +- {np.std(means, ddof=1):.1f}" if len(means) > 1 else ""
    silent = f" ({len(means)} seeds)" if 0 < len(means) < len(seeds) else ""
    return text + "*" * any(None in counts for counts in seeds) + silent


def _mean(values: list[float | None], unit: float = 1.0) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known) / unit:.1f}" if known else "-"


def _whole(task: type[Task], sections: dict[str, Any], where: str) -> dict[str, Any]:
    """Model and training with every setting that they leave out, without the seed."""
    checked = task.checked(sections, where)
    if "seed" in sections["training"]:
        raise UsageError(f"{where}: training: seed: give the list seeds instead")
    whole = plain({name: checked[name] for name in sections})
    del whole["training"]["seed"]
    return whole


def _merged(base: dict[str, Any], own: Any, where: str) -> dict[str, Any]:
    """``base`` with ``own`` on top, mappings inside merged likewise."""
    if not isinstance(own, dict):
        raise UsageError(f"{where}: {own!r} is not a mapping of settings")
    both = dict(base)
    for name, value in own.items():
        inner = isinstance(both.get(name), dict)
        both[name] = _merged(both[name], value, f"{where}: {name}") if inner else value
    return both


def _session(sessions: list[dict[str, Any]], here: dict[str, Any]) -> int:
    """The number among ``sessions`` of the machine and commit ``here``, added when new."""
    known = [{**session, "started": here["started"]} for session in sessions]
    if here not in known:
        sessions.append(here)
        return len(known)
    return known.index(here)
