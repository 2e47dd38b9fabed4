"""Suites: YAML files that name benchmark runs, done one after the other into one directory.

A file under assets/benchmarks holds

    title                   what is printed
    runs                    NAME: options of `bench` as in a settings file; the results go to NAME.json

The same command with the same directory goes on where a suite stopped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from app.bench.run import run, usable_methods
from app.bench.settings import BenchSettings
from app.environment import ROOT, check_device
from app.output import FILES, free_directory
from precond.config import read_yaml, validated
from sim.settings import SettingsError

SUITE_FOLDER = ROOT / "assets" / "benchmarks"
SECTIONS = ("title", "runs")


@dataclass(frozen=True)
class Suite:
    """Settings of every run by its name."""

    name: str
    title: str
    runs: dict[str, BenchSettings]


def available_suites() -> list[str]:
    """Names of the suites that come with the program."""
    return sorted(path.stem for path in SUITE_FOLDER.glob("*.yaml"))


def load_suite(name_or_path: str) -> Suite:
    """A suite by its name or from a YAML file. Raises SettingsError naming the file, run and option."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if name_or_path not in available_suites():
            raise SettingsError(
                f"suite: {name_or_path!r} is not one of {', '.join(available_suites())}, nor a .yaml file"
            )
        path = SUITE_FOLDER / f"{name_or_path}.yaml"
    content = read_yaml(path)
    if not isinstance(content, dict) or set(content) != set(SECTIONS):
        raise SettingsError(f"suite {path}: expected {' and '.join(SECTIONS)}, and nothing else")
    title, runs = content["title"], content["runs"]
    if not isinstance(title, str) or not isinstance(runs, dict) or not runs:
        raise SettingsError(f"suite {path}: title must be a text, runs a list of names with options each")
    settings = {}
    for name, options in runs.items():
        source = f"suite {path}: {name}"
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise SettingsError(f"{source}: is no name of letters, digits, - and _")
        if not isinstance(options, dict) or "out" in options:
            raise SettingsError(
                f"{source}: expected options of bench, and not out: the suite has one directory"
            )
        settings[name] = validated(BenchSettings, options, source)
    return Suite(path.stem, title, settings)


def run_suite(name_or_path: str, out: str | None) -> int:
    """Run what is missing of a suite in the directory ``out``; returns 0, or 128 + the signal that stopped
    it.

    Raises SettingsError, OutputError and PreconditionerError, the latter before anything runs.
    """
    suite = load_suite(name_or_path)
    for settings in suite.runs.values():
        check_device(settings.device)
        usable_methods(settings)
    files = [f"{name}.json" for name in suite.runs]
    directory = Path(out) if out else free_directory(Path("runs") / f"bench-{suite.name}", (*FILES, *files))
    for number, (name, settings) in enumerate(suite.runs.items(), start=1):
        print(f"{suite.title}: {name} ({number} of {len(files)})", flush=True)
        code = run(settings, directory / f"{name}.json")
        if code:
            return code
        print(flush=True)
    return 0
