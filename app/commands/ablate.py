"""`ablate`: one command from a study's YAML file to its table; what is done already is not done again."""

from __future__ import annotations

from pathlib import Path

from app.environment import describe, use_one_thread
from app.output import OutputError, now
from precond.config import read_yaml
from precond.errors import in_one_line
from precond.study.study import Study, StudyResults, as_text, read_study, run_study


def ablate(file: str, out: str | None) -> int:
    """Do what is missing of the study ``file`` in the directory ``out``, print its table; returns 0.

    The results are in ``out``/study.yaml and study.csv after every run. Of such a study.yaml only the table
    is printed. An interrupted run goes on from its checkpoint. Raises UsageError.
    """
    path = Path(file)
    content = read_yaml(path)
    if isinstance(content, dict) and "sessions" in content:
        return _print(read_study(path), path)
    use_one_thread()
    study = Study.read(path)
    directory = Path(out) if out else Path("runs") / f"ablation-{path.stem}"
    try:
        results = run_study(
            study, directory, f"python -m app ablate {path}", {"started": now(), **describe()}
        )
    except OSError as error:
        reason = error.strerror or in_one_line(error)
        raise OutputError(f"{directory}: cannot be written: {reason}") from error
    return _print(results, directory / "study.yaml")


def _print(results: StudyResults, path: Path) -> int:
    print(f"{as_text(results)}; every run: {path.with_suffix('.csv')}")
    return 0
