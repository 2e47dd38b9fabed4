"""The benchmark: the same problems through every method, every solve kept, failures counted.

At each case every method has warm-ups that are not counted, then the methods take turns at each frame in an
order drawn from the seed, so that a slow minute of the machine hits all of them. Set-up is timed anew for
every frame. Rows are on disk after every frame, and the same command with the same directory goes on where a
run stopped.

A suite is a YAML file, one of assets/benchmarks or your own, of runs that are done one after the other:

    title                   what is printed
    runs                    NAME: options of `bench` as in a settings file
"""

from __future__ import annotations

import random
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field, model_validator
from tqdm import tqdm

from app.bench.adapters import Method
from app.bench.case import RunningCase
from app.bench.external import SOLVERS
from app.bench.results import Results
from app.bench.settings import EXTERNAL_SOLVERS, PUBLISHED, PUBLISHED_PRECONDITIONERS, BenchSettings
from app.bench.table import format_table, tabulate
from app.environment import ROOT, check_device, describe, use_one_thread
from app.output import free_directory, stop_signals
from precond import PoissonOperator, PreconditionerError, available_preconditioners, make_preconditioner
from precond.config import Settings, Text, read_yaml, validated
from precond.device import while_node
from precond.errors import UsageError
from precond.problems.published import RULES

PLAIN = "bench"  # the name of the run without a suite
SUITE_FOLDER = ROOT / "assets" / "benchmarks"


def usable_methods(settings: BenchSettings) -> tuple[list[str], dict[str, str]]:
    """The methods to compare, and why others are left out. PreconditionerError for one that was named."""
    if settings.conditions == PUBLISHED:
        return list(settings.preconds or PUBLISHED_PRECONDITIONERS), {}
    probe = PoissonOperator.from_density(torch.ones(8, 8, dtype=torch.float64), device=settings.device)
    methods, skipped = [], {}
    if settings.single_launch and (reason := while_node.missing(probe.device)):
        skipped["single launch"] = f"{reason}; blocks of iterations are launched"
    for name in settings.preconds or available_preconditioners(choosing=False):
        try:
            make_preconditioner(name, probe)
            methods.append(name)
        except PreconditionerError as error:
            if settings.preconds:
                raise
            skipped[name] = str(error)
    for name in settings.external:
        reason = SOLVERS[name].missing
        if reason and settings.external != EXTERNAL_SOLVERS:
            raise PreconditionerError(f"external: {name} {reason}")
        skipped |= {name: reason} if reason else {}
        methods += [] if reason else [name]
    return methods, skipped


def bench(settings: BenchSettings) -> int:
    """Run the benchmark in its directory, or go on with it; returns what `run` does, and raises that."""
    usable_methods(settings)  # before a directory is made
    return run(PLAIN, settings, Results(Path(settings.out or free_directory(Path("runs") / "bench"))))


def run(name: str, settings: BenchSettings, results: Results) -> int:
    """Run what ``results`` lack of run ``name``, print its table; returns the exit code (0, or 128 + signal).

    Raises PreconditionerError for a named method that cannot run, OutputError when the results cannot be
    written or are of other settings.
    """
    use_one_thread()
    methods, skipped = usable_methods(settings)
    rules = RULES if settings.conditions == PUBLISHED else (None,)
    turns: list[Method] = [(method, rule) for method in methods for rule in rules]
    done = results.begin(name, settings.model_dump(mode="json", exclude={"out"}), skipped, len(turns))
    cases, shuffle = settings.cases(), random.Random(settings.seed)
    total = len(cases) * settings.frames * len(turns)
    with stop_signals() as received, tqdm(total=total, unit="solve", disable=None, file=sys.stderr) as bar:
        for case in cases:
            bar.set_description(f"{case.cells} cells")
            running = None
            for frame in range(settings.frames):
                order = shuffle.sample(turns, len(turns))  # drawn for finished frames too: the same for all
                bar.update(len(turns))
                if received or (name, *astuple(case), frame) in done:
                    continue
                running = running or RunningCase(case, settings, turns)
                results.add([{"run": name, **row} for row in running.solve_frame(frame, order)])
    ended = f"interrupted by {received[0].name}" if received else "completed"
    results.end(name, ended)
    if rows := results.rows(name):
        print(format_table(tabulate(rows, methods)))
    for method, reason in skipped.items():
        print(f"left out: {method}: {reason}")
    hardware = describe()["hardware"]
    device = hardware["gpu"] if settings.device == "cuda" else hardware["cpu"]
    print(f"{device}, {hardware['cores']} cores, 1 torch thread")
    print(f"median (p95) of {settings.frames} frames; {ended}; every solve: {results.path}")
    return 128 + received[0] if received else 0


class Suite(Settings):
    """Settings of every run by its name."""

    title: Text
    runs: dict[Annotated[Text, BeforeValidator(str)], BenchSettings] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_directory(self) -> Suite:
        for name, settings in self.runs.items():
            if settings.out is not None:
                raise ValueError(f"runs: {name}: out: the suite has one directory for all of its runs")
        return self


def available_suites() -> list[str]:
    """Names of the suites that come with the program."""
    return sorted(path.stem for path in SUITE_FOLDER.glob("*.yaml"))


def load_suite(name_or_path: str) -> Suite:
    """A suite by its name or from a YAML file. Raises UsageError naming the file, run and option."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if name_or_path not in available_suites():
            allowed = ", ".join(available_suites())
            raise UsageError(f"suite: {name_or_path!r} is not one of {allowed}, nor a .yaml file")
        path = SUITE_FOLDER / f"{name_or_path}.yaml"
    return validated(Suite, read_yaml(path), f"suite {path}")


def run_suite(name_or_path: str, out: str | None) -> int:
    """Run what is missing of a suite in the directory ``out``; returns 0, or 128 + the signal that stopped
    it. Raises as `run` does, and for the suite itself, before anything runs.
    """
    suite = load_suite(name_or_path)
    for settings in suite.runs.values():
        check_device(settings.device)
        usable_methods(settings)
    results = Results(Path(out) if out else free_directory(Path("runs") / f"bench-{Path(name_or_path).stem}"))
    for number, (name, settings) in enumerate(suite.runs.items(), start=1):
        print(f"{suite.title}: {name} ({number} of {len(suite.runs)})", flush=True)
        if code := run(name, settings, results):
            return code
        print(flush=True)
    return 0
