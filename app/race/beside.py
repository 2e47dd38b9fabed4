"""All that computes beside the window, on two processes: races on one, looks into a method on the other."""

from __future__ import annotations

from app.engine import Engine
from app.race import solving
from app.race.companion import Companion
from app.race.helper import Helper
from app.race.lessons import Lessons
from app.race.race import Race


class Beside:
    """The engine is read while `refresh` and `Race.start` run, and only then."""

    def __init__(self, engine: Engine) -> None:
        self._racing, self.studying = Helper(), Helper()
        self.race = Race(engine, self._racing)
        self.companion = Companion(engine, self._racing)
        self.lessons = Lessons(engine, self.studying)
        self._ready = False

    def start_early(self) -> None:
        """Start the process for races at once, where it can be done in no time."""
        self._racing.start_early()

    def prepare(self) -> None:
        """Have the process for races started and all methods warmed up, once."""
        if not self._ready:
            self._ready = True
            if not self._racing.busy:
                self._racing.submit(solving.warm_up, tuple(self.race.names))

    def refresh(self) -> None:
        """Take what has arrived, after a step of the engine."""
        self._racing.poll()
        self.studying.poll()
        self.race.refresh()
        self.companion.refresh()
        self.lessons.refresh()

    def close(self) -> None:
        """End the processes."""
        self._racing.stop()
        self.studying.stop()
