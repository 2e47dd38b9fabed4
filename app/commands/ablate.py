"""`ablate`: one command from a study's YAML file to its table; what is done already is not done again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from app.environment import describe, use_one_thread
from app.output import OutputError, now, write_whole
from precond.config import read_yaml
from precond.study.ablation import FORMS, Study, Variant, checkpoint
from precond.study.ablation_table import format_table, legend, tabulate
from sim.settings import SettingsError

RESULTS = "ablation.json"
HEAD = {"title": str, "conditions": str, "budget": str, "variants": dict, "sessions": list, "rows": list}
ROW = {
    "variant": str,
    "seed": int,
    "parameters": int,
    "seconds": int,
    "cpu_seconds": int | None,
    "iterations": list,
    "failures": list,
}


def ablate(file: str, out: str | None) -> int:
    """Do what is missing of the study ``file`` in the directory ``out``, print its table; returns 0.

    The results are in ``out``/ablation.json after every run. Of such a JSON file only the table is printed.
    An interrupted run goes on from its checkpoint. Raises SettingsError and OutputError.
    """
    path = Path(file)
    if path.suffix == ".json":
        _print(read_results(path), path)
        return 0
    use_one_thread()
    content = read_yaml(path)
    try:
        study = Study.of(content)
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from error
    directory = Path(out) if out else Path("runs") / f"ablation-{path.stem}"
    results = _open(study, directory, path)
    done = {(row["variant"], row["seed"]) for row in results["rows"]}
    missing = [(variant, seed) for variant, seed in study.runs() if (variant.name, seed) not in done]
    here = {"started": now(), **describe()}
    _write(directory, results)
    with tqdm(total=len(study.runs()), initial=len(done), unit="run", disable=None, file=sys.stderr) as bar:
        for variant, seed in missing:
            bar.set_description(f"{variant.name}, seed {seed}")
            row = _run(study, variant, seed, directory, path)
            results["rows"].append({**row, "session": _session(results["sessions"], here)})
            _write(directory, results)
            checkpoint(variant, seed, directory).unlink(missing_ok=True)
            bar.update()
    if missing or any(row.get("inference_ms", 0.0) is None for row in results["rows"]):
        study.time(results["rows"], directory)
        _write(directory, results)
    _print(results, directory / RESULTS)
    return 0


def _run(study: Study, variant: Variant, seed: int, directory: Path, path: Path) -> dict[str, Any]:
    """The row of one run, its errors as one line."""
    try:
        return study.run(variant, seed, directory)
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {error.strerror}") from error
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{path}: {variant.name}, seed {seed}: {error}") from error


def _open(study: Study, directory: Path, path: Path) -> dict[str, Any]:
    """The results in ``directory``, or empty ones. Raises SettingsError when they are another study's."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {error.strerror}") from None
    results: dict[str, Any] = {"sessions": [], "rows": []}
    if (directory / RESULTS).exists():
        results = read_results(directory / RESULTS)
        if (results.get("form", "hmatrix"), results.get("shared", {})) != (study.form, study.shared):
            raise SettingsError(
                f"{directory / RESULTS}: its form, data or test is not that of {path}: name another directory"
            )
    configs = {variant.name: variant.config for variant in study.rows()}
    for name in dict.fromkeys(row["variant"] for row in results["rows"]):
        if results["variants"][name]["config"] != configs.get(name):
            raise SettingsError(
                f"{directory / RESULTS}: its variant {name} is not the one of {path}: name another directory"
            )
    head = {
        "title": study.title,
        "form": study.form,
        "command": f"python -m app ablate {path}",
        "conditions": study.conditions,
        "budget": study.budget,
        "seeds": list(study.seeds),
        "shared": study.shared,
        "variants": {
            variant.name: {"label": variant.label, "config": variant.config} for variant in study.rows()
        },
    }
    return {**head, "sessions": results["sessions"], "rows": results["rows"]}


def _session(sessions: list[dict[str, Any]], here: dict[str, Any]) -> int:
    """The number among ``sessions`` of the machine and commit ``here``, added when new."""
    for number, session in enumerate(sessions):
        if {**session, "started": here["started"]} == here:
            return number
    sessions.append(here)
    return len(sessions) - 1


def read_results(path: Path) -> dict[str, Any]:
    """The results of a study in the JSON file ``path``. Raises SettingsError, and leaves the file alone."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        _check(results)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise SettingsError(
            f"{path}: holds no results of an ablation, or is damaged: {reason}; move it away to start anew"
        ) from error
    return results


def _check(results: Any) -> None:
    """Raise KeyError, TypeError or ValueError unless ``results`` has what this module reads."""
    for name, kind in HEAD.items():
        if not isinstance(results[name], kind):
            raise ValueError(f"{name} is not of type {kind.__name__}")
    if not results["variants"] or not all(isinstance(session, dict) for session in results["sessions"]):
        raise ValueError("it has no variants, or sessions that are no mappings")
    if results.get("form", "hmatrix") not in FORMS:
        raise ValueError(f"form {results['form']!r} is unknown")
    problems = sum(groups_of(results).values())
    for name, variant in results["variants"].items():
        if not isinstance(variant["label"], str) or not isinstance(variant["config"], dict):
            raise ValueError(f"variant {name} has a label or a configuration of a wrong type")
    for number, row in enumerate(results["rows"]):
        wrong = [name for name, kind in ROW.items() if not isinstance(row[name], kind)]
        if wrong or not all(count is None or type(count) is int for count in row["iterations"]):
            raise ValueError(f"row {number}: {', '.join(wrong) or 'iterations'} is of a wrong type")
        if problems and len(row["iterations"]) != problems:
            raise ValueError(f"row {number}: has not the {problems} test problems")
        if not isinstance(row.get("inference_ms"), float | int | None):
            raise ValueError(f"row {number}: inference_ms is of a wrong type")
        if row["variant"] not in results["variants"]:
            raise ValueError(f"row {number}: there is no variant {row['variant']}")


def _write(directory: Path, results: dict[str, Any]) -> None:
    write_whole(directory / RESULTS, _dump(results))


def _dump(results: dict[str, Any]) -> str:
    """JSON with one line for each row."""
    head = json.dumps({**results, "rows": []}, indent=1, allow_nan=False)
    rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in results["rows"])
    return head.removesuffix("[]\n}") + f"[\n{rows}\n ]\n}}\n"


def groups_of(results: dict[str, Any]) -> dict[str, int]:
    """The number of test problems in each group, by name; empty when the test has no groups."""
    return {name: group["frames"] for name, group in results.get("shared", {}).get("test", {}).items()}


def _print(results: dict[str, Any], path: Path) -> None:
    labels = {name: variant["label"] for name, variant in results["variants"].items()}
    groups = groups_of(results)
    print(f"{results['title']}: {results['budget']}")
    print(format_table(tabulate(labels, results["rows"], groups)))
    print(legend(groups))
    print(f"{results['conditions']}; every run: {path}")
