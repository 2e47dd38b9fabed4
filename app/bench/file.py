"""The benchmark's JSON file: written after every frame, and read again to go on where a run stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.bench.row import check_row
from app.output import OutputError, write_whole

COMPLETED = "completed"
UNFINISHED = "not yet"
LISTS = ("sessions", "table", "rows")
SAME = (
    "settings",
    "versions",
    "hardware",
    "skipped",
)  # what a run that goes on must share with its beginning


def read_results(path: Path) -> dict[str, Any]:
    """The results of a benchmark in ``path``. Raises OutputError, and leaves the file alone, when it holds
    something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["ended"], str) or not isinstance(content["settings"], dict):
            raise TypeError
        if not all(isinstance(content[name], list) for name in LISTS):
            raise TypeError
        if not all(isinstance(part, dict) for name in LISTS for part in content[name]):
            raise TypeError
        if not all(isinstance(content[name], dict) for name in SAME) or "cores" not in content["hardware"]:
            raise TypeError
        for number, row in enumerate(content["rows"]):
            check_row(row, number)
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}") from None
    except (KeyError, RecursionError, TypeError, ValueError):
        raise OutputError(
            f"{path.parent}: already holds results, and {path.name} is not a benchmark's that could go on; "
            "name another directory"
        ) from None
    return content


def check_same(path: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise OutputError that names the first of SAME in which the results ``found`` in ``path`` differ from
    the header ``asked``.
    """
    for part in SAME:
        before, after = ({**header.get(part, {})} for header in (found, asked))
        ignored = {"settings": ["out"], "hardware": sorted({*before, *after} - {"cpu", "gpu"})}
        for name in ignored.get(part, []):
            before.pop(name, None)
            after.pop(name, None)
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                raise OutputError(
                    f"{path}: cannot go on: {part}: {name} was {_text(before.get(name))}, now it is "
                    f"{_text(after.get(name))}; repeat it as it was, or name another directory"
                )


def _text(value: Any) -> str:
    return "not there" if value is None else json.dumps(value)


def write_results(path: Path, content: dict[str, Any]) -> None:
    """Replace ``path``, one line for each row and each entry of the table. Raises OutputError."""
    head = json.dumps({**content, "table": 0, "rows": 0}, indent=1, allow_nan=False)
    for name in ("table", "rows"):
        lines = ",\n".join("  " + json.dumps(entry, allow_nan=False) for entry in content[name])
        head = head.replace(
            f'\n "{name}": 0', f'\n "{name}": [\n{lines}\n ]' if lines else f'\n "{name}": []', 1
        )
    write_whole(path, head + "\n")
