"""A process beside the window that computes, so that neither the interpreter's lock nor a crash of a method
reaches the simulation.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from precond.errors import in_one_line
from precond.host import threads

JOIN_SECONDS = 2.0
LOOK_SECONDS = 2.0  # whether the window is still there


@dataclass(eq=False)
class Job:
    """What was asked of a helper: ``results`` so far, in their order; when ``done``, ``failure`` says why it
    ended early, if it did.
    """

    results: list[Any] = field(default_factory=list)
    done: bool = False
    failure: str = ""

    def end(self, failure: str = "") -> None:
        """No results come any more."""
        if not self.done:
            self.done, self.failure = True, failure


class Helper:
    """One long-lived process that does one job at a time; `poll` never waits for it.

    It is started by the first job, or by `start_early`, quiet, and ends with the program. Where it ends by
    itself its job fails with a line, and the next one starts another.
    """

    def __init__(self) -> None:
        self._process: Any = None
        self._requests: Any = None
        self._results: Connection | None = None
        self._number = 0
        self._job: Job | None = None

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._job is not None

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._process.pid if self._process else None

    def submit(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Job:
        """Have the process iterate over ``function(*arguments)``, a generator at the top of a module; the job
        before it, if any, is given up at its next result. What is sent must not change any more.
        """
        if self._job is not None:
            self._job.end("another job took its place")
        self._number += 1
        self._job = job = Job()
        try:
            if self._process is None:
                self._start()
            self._requests.put((self._number, function, arguments))
        except OSError as error:
            job.end(f"no process can be started: {in_one_line(error)}")
            self._job = self._process = None
        return job

    def start_early(self) -> None:
        """Start the process as a copy of this one, with all that is loaded, which saves seconds. That is
        sound before there is a second thread, on Linux; elsewhere the first job starts it.
        """
        if sys.platform == "linux" and threading.active_count() == 1:
            with contextlib.suppress(OSError):
                self._start("fork")

    def _start(self, how: str = "spawn") -> None:
        context = multiprocessing.get_context(how)
        self._results, theirs = context.Pipe(duplex=False)
        self._requests = context.Queue()  # sends in a thread: a busy process does not hold the window up
        arguments = self._requests, theirs
        self._process = context.Process(target=_work, args=arguments, name="htp-fluid helper", daemon=True)
        self._process.start()
        theirs.close()  # so that its end is seen

    def poll(self) -> None:
        """Take what has arrived."""
        while self._job is not None:
            try:
                if not self._results.poll():
                    return
                number, kind, value = self._results.recv()
            except (EOFError, OSError):
                self._process.join(JOIN_SECONDS)
                self._end(f"the process that computes ended unexpectedly (code {self._process.exitcode})")
                return
            if number == self._number and kind == "result":
                self._job.results.append(value)
            elif number == self._number:
                self._job.end(value)
                self._job = None

    def stop(self, why: str = "") -> None:
        """End the process, whatever it does; the job fails with ``why``."""
        if self._process is not None:
            self._process.kill()
            self._process.join(JOIN_SECONDS)
            self._end(why)

    def _end(self, why: str) -> None:
        self._requests.cancel_join_thread()
        self._requests.close()
        self._results.close()
        self._process = None
        if self._job is not None:
            self._job.end(why)
            self._job = None


def _work(requests: Any, results: Connection) -> None:
    """The process: one request after the other, until nobody listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the window
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a copy of the window has the window's handler
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    import torch

    torch.set_num_threads(1)
    threads.use(1)  # the others are for the fluids, which go on
    with contextlib.suppress(BrokenPipeError, EOFError, OSError):
        while multiprocessing.parent_process().is_alive():
            try:
                number, function, arguments = requests.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            failure = ""
            try:
                for result in function(*arguments):
                    results.send((number, "result", result))
                    if not requests.empty():
                        break
            except (BrokenPipeError, EOFError):
                raise
            except Exception as error:  # whatever a method can do wrong is told, and the process goes on
                failure = in_one_line(error)
            results.send((number, "end", failure))
