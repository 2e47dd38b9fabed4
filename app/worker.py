"""The engine's worker: it does what was asked for and takes the steps, at the pace that a speed asks for, so
that neither the window nor the simulation waits for the other.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.engine import Engine, FrameReport
from sim.fields import Snapshot

REST = 0.1  # seconds without anything to do after which to look again
LATE = 0.1  # seconds behind which the pace gives up catching up
SLOW_MS = 15.0  # of a step, about a picture's time
QUICK_MS = 5.0  # of a step, that a picture waits for
PATIENCE = 0.008  # seconds that it waits at most
MEASURED = 1.0  # seconds over which the rate is measured


class Worker:
    """Runs ``engine``, in a thread of its own once `start` was called, else whenever `turn` is.

    ``steps_left``: how many to take at all; None: no end. ``ready``: no step is taken before it says True.
    ``after_turn`` is called, between steps and in a pause, by whoever takes them. ``snapshot`` is the newest
    state that can be drawn.
    """

    def __init__(self, engine: Engine, speed: float = math.inf, steps_left: int | None = None) -> None:
        self.engine, self.steps_left = engine, steps_left
        self._speed = speed
        self.ready: Callable[[], bool] = lambda: True
        self.after_turn: Callable[[], object] = lambda: None
        self.snapshot = Snapshot(engine.simulation)
        self._asked: deque[Callable[[], object]] = deque()
        self._wants_snapshot = False
        self._answered = threading.Event()  # whether the snapshot holds all that was asked for
        self._answered.set()
        self._due = 0.0  # when the next step is, on the clock of time.monotonic
        self._taken: deque[tuple[float, float]] = deque()  # when steps ended, and their simulated seconds
        self._turning, self._waiting = threading.Lock(), 0
        self._wake, self._stopped = threading.Event(), False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take steps in a thread from now on."""
        self._thread = threading.Thread(target=self._work, name="simulation", daemon=True)
        self._thread.start()

    @property
    def threaded(self) -> bool:
        """Whether a thread takes the steps."""
        return self._thread is not None

    def ask(self, action: Callable[[], object]) -> None:
        """Have ``action`` done before the next step, after what was asked for before."""
        self._answered.clear()
        self._asked.append(action)
        self._wake.set()

    @property
    def speed(self) -> float:
        """Simulated seconds a second, at the most; above zero."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._speed, self._due = speed, 0.0

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.steps_left is not None and self.steps_left <= 0

    @property
    def rate(self) -> float:
        """Simulated seconds a second, of late; 0 in a pause."""
        recent, span = self._lately()
        return sum(recent) / span if recent and span < 3.0 * MEASURED else 0.0

    @property
    def steps_a_second(self) -> float:
        """Steps taken a second, of late; 0 in a pause."""
        recent, span = self._lately()
        return len(recent) / span if recent else 0.0

    def _lately(self) -> tuple[list[float], float]:
        """Simulated seconds of the steps of late, none in a pause, and the seconds that they took."""
        taken = [] if self.engine.paused else list(self._taken)
        return [seconds for _, seconds in taken[1:]], time.monotonic() - taken[0][0] if taken else 0.0

    def look(self) -> Snapshot:
        """The newest snapshot; asks for one that is newer. Waits a moment for what was asked for where steps
        are quick, so that it is in this picture. Raises what ended the thread, if something did.
        """
        last = self.engine.last
        if self.threaded and last is not None and last.frame_ms <= QUICK_MS:
            self._answered.wait(PATIENCE)
        if self._error is not None:
            raise self._error
        self._wants_snapshot = True
        return self.snapshot

    @contextmanager
    def still(self) -> Iterator[None]:
        """A block during which nothing changes: for looking into the engine from another thread."""
        self._waiting += 1
        with self._turning:
            self._waiting -= 1
            yield

    def drain(self, seconds: float = 10.0) -> None:
        """Wait until what was asked for is done, with a step after it if any is due; then look anew."""
        if not self.threaded:
            return
        for _ in range(2):
            passed = threading.Event()
            self.ask(passed.set)
            passed.wait(seconds)
        with self.still():
            self._take_snapshot()

    def stop(self) -> None:
        """End the thread after the step under way."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def turn(self) -> bool:
        """Do what was asked for, and take a step if one is due; False when none was taken."""
        changed = bool(self._asked)
        while self._asked:
            self._asked.popleft()()
        last = self.engine.last
        if changed and last is not None and last.frame_ms > SLOW_MS:
            self._take_snapshot()  # what was painted or set shows before the step is done
        report = self._step() if self.ready() and not self.done else None
        self.after_turn()
        if changed or (self._wants_snapshot and report is not None):
            self._take_snapshot()
        return report is not None

    def _step(self) -> FrameReport | None:
        now = time.monotonic()
        if self.engine.paused or now < self._due:
            return None
        report = self.engine.advance()
        if report is None:
            return None
        self._due = max(self._due, now - LATE) + report.time_step_s / self.speed
        if self.steps_left is not None:
            self.steps_left -= 1
        self._taken.append((time.monotonic(), report.time_step_s))
        while self._taken[-1][0] - self._taken[0][0] > MEASURED:
            self._taken.popleft()
        return report

    def _take_snapshot(self) -> None:
        self._wants_snapshot = False
        self.snapshot = Snapshot(self.engine.simulation)
        if not self._asked:
            self._answered.set()

    def _work(self) -> None:
        try:
            while not self._stopped:
                self._wake.clear()
                with self._turning:
                    busy = self.turn()
                if self._waiting:
                    time.sleep(1e-3)  # a lock is not fair
                elif not busy and not self._asked:
                    wait = REST if self.engine.paused else self._due - time.monotonic()
                    self._wake.wait(min(max(wait, 1e-3), REST))
        except BaseException as error:  # the window raises it
            self._error = error
