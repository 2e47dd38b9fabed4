"""Several threads for the CPU's loops. Compiled functions run without the interpreter's lock, so a few of
Python's threads call one on parts of the rows. Of numba's own parallel loops the one layer that is on every
platform ends the process when two threads call one at a time.

A pass is cut into chunks that depend on the grid alone, and sums over chunks are added up in their order:
what comes out does not depend on how many threads there are, to the bit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

from precond.errors import UsageError

VARIABLE = "HTP_FLUID_THREADS"
MOST = 4  # by default: these loops wait for the memory, which more cores do not make faster
LEAST_CELLS = 65_536  # of a grid whose passes outlast a handover to another thread, 20 to 50 us, by far
CHUNKS = 12  # of a pass: as many for 1, 2, 3, 4 or 6 threads
LEAST_ROWS = 8  # of a chunk

_count = 0  # not asked yet
_busy = threading.Lock()  # whoever finds the threads at work for another caller goes without
_workers: list[_Worker] = []


def count() -> int:
    """Threads of the loops: what `use` was told, else the environment variable HTP_FLUID_THREADS, else half
    of the processors, for often two of them are one core, and a window wants to be drawn beside.

    Raises UsageError where the variable is no whole number from 1 to 64.
    """
    if not _count:
        said = os.environ.get(VARIABLE)
        if said is not None and not (said.isdecimal() and 1 <= int(said) <= 64):
            raise UsageError(f"{VARIABLE} must be a whole number from 1 to 64, not {said!r}")
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        use(int(said) if said else max(1, min(usable // 2, MOST)))
    return _count


def use(number: int) -> None:
    """Let the loops have ``number`` threads from now on, the caller's included."""
    global _count
    _count = number


def used(cells: int) -> int:
    """Threads on a grid of so many ``cells``."""
    return count() if cells >= LEAST_CELLS else 1


def chunks(rows: int, cells: int, least: int = LEAST_ROWS) -> int:
    """Parts into which a pass over ``rows`` of together ``cells`` is cut, of ``least`` rows or more; part c
    of n begins at row rows c // n.
    """
    return max(1, min(CHUNKS, rows // least)) if cells >= LEAST_CELLS else 1


def run(call: Callable[[int, int], object], number: int, even: bool = True) -> None:
    """``call(first, last)``, a compiled function's, on all of ``number`` chunks, ``last`` excluded; in
    several threads, each with one range of them, or one after another where they are not ``even``.
    """
    pieces = min(count(), number)
    if pieces == 1 or not _busy.acquire(blocking=False):
        call(0, number)
        return
    try:
        while len(_workers) < pieces - 1:
            _workers.append(_Worker())
        cuts = pieces if even else number
        ranges = iter([(number * k // cuts, number * (k + 1) // cuts) for k in range(cuts)])
        workers = _workers[: pieces - 1]
        for worker in workers:
            worker.begin(call, ranges)
        try:
            _work(call, ranges)
        finally:
            failures = [worker.end() for worker in workers]
        for failure in filter(None, failures):
            raise failure
    finally:
        _busy.release()


def run_rows(call: Callable[[int, int], object], rows: int, number: int, even: bool = True) -> None:
    """As `run`, for a ``call(begin, end)`` on some of ``rows`` rows, ``end`` excluded."""
    run(lambda first, last: call(rows * first // number, rows * last // number), number, even)


def _work(call: Callable[[int, int], object], ranges: Iterator[tuple[int, int]]) -> None:
    for first, last in ranges:
        call(first, last)


class _Worker:
    """A thread that waits for work between two locks: the cheapest handover that Python has."""

    def __init__(self) -> None:
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        while True:
            self._go.acquire()
            try:
                _work(*self._task)
            except BaseException as error:
                self._failure = error
            self._done.release()

    def begin(self, *task: object) -> None:
        """Begin ``task``, the arguments of `_work`."""
        self._task, self._failure = task, None
        self._go.release()

    def end(self) -> BaseException | None:
        """Wait for its end; returns what it raised."""
        self._done.acquire()
        failure, self._task, self._failure = self._failure, None, None
        return failure


def _forget() -> None:
    """In a forked process, where no thread but one lives on."""
    global _busy
    _busy = threading.Lock()
    _workers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
