"""Where results go: directories that are never written twice, and loops that end without losing anything."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from precond import files
from precond.errors import UsageError

START, FINAL, LOADED = (f"{name}.safetensors" for name in ("start", "final", "loaded-*"))  # a run's states
RECORDED = ("timings.csv", "events.jsonl", "run.yaml", START, FINAL, LOADED)
FILES = (*RECORDED, "final.png", "run.mp4", "report.html", "bench.csv", "bench.yaml")


class OutputError(UsageError):
    """A directory that results cannot go to; the message says why and what to do."""


def holds_results(directory: Path) -> bool:
    """Whether ``directory`` holds any of FILES, those of a recording or a benchmark."""
    return any(any(directory.glob(name)) for name in FILES)


def free_directory(directory: str | Path) -> Path:
    """``directory``, or the first of ``directory``-2, -3, ... that holds no results."""
    directory = Path(directory)
    others = (directory.with_name(f"{directory.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([directory], others) if not holds_results(path))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """OSErrors as OutputError that names ``path``."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        file = error.filename or path
        raise OutputError(f"{file}: cannot be a directory, there is a file of that name") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None


def _make(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        pass


def usable_directory(directory: str | Path) -> Path:
    """Make ``directory``; OutputError when it cannot be written or holds results already."""
    directory = Path(directory)
    with writing(directory):
        _make(directory)
    if holds_results(directory):
        raise OutputError(f"{directory}: already holds results; name another directory")
    return directory


def usable_file(path: str | Path) -> Path:
    """Make the directory of ``path``; OutputError when it cannot be written, or ``path`` is there already."""
    path = Path(path)
    with writing(path):
        if path.exists():
            remedy = "is a directory; name a file" if path.is_dir() else "is there already; name another file"
            raise OutputError(f"{path}: {remedy}")
        _make(path.parent)
    return path


def write_whole(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``, whole or not at all. Raises OutputError."""
    with writing(path):
        files.write_whole(path, text)


def command_line() -> str:
    """What was typed, for a shell."""
    return shlex.join(["htp-fluid", *sys.argv[1:]])


@contextlib.contextmanager
def stop_signals(
    numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM),
) -> Iterator[list[signal.Signals]]:
    """Collect the first of ``numbers`` in a list for the loop to look at, not to die within a frame.

    A second one raises KeyboardInterrupt at once.
    """
    received: list[signal.Signals] = []

    def receive(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def now() -> str:
    """Local date and time with its offset, ISO 8601, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
