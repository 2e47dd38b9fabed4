"""The window under random input, with the simulation in its thread: no message, no growth, no lost stroke.

SOAK_SECONDS=600 makes it the ten minutes that a release gets.
"""

import math
import os
import random
import time
from pathlib import Path

from app.config.settings import app_settings
from app.engine import Engine
from app.picture import VIEWS
from app.viewer import theme
from app.viewer.materials import MATERIALS
from app.viewer.session import Session
from app.viewer.window import Window
from app.worker import Worker

SECONDS = float(os.environ.get("SOAK_SECONDS", "12"))
GROWTH_MB = 60.0
UNDO_BYTES = 4 * 2**20  # so little that what undo keeps is full before the middle, and growth is a leak's
TABS = ("Plots", "Race", "Partition", "Method")
METHODS = ("auto", "multigrid", "coarse-iterated", "coarse-learned", "jacobi", "hmatrix")


def resident_mb():
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Hand:
    """Moves the mouse, presses buttons and keys, and turns the controls, at random but repeatable."""

    def __init__(self, window):
        from imgui_bundle import imgui

        self.window, self.random, self.imgui = window, random.Random(5), imgui
        self.pressed = None
        self.strokes = 0

    def act(self):
        """What is done in one frame of the window."""
        left, top, width, height = self.window.field.rectangle
        io, pick = self.imgui.get_io(), self.random.random()
        if self.pressed is None and pick > 0.95:  # anywhere in the window, where tooltips are
            wide, high = io.display_size
            io.add_mouse_pos_event(wide * self.random.random(), high * self.random.random())
            return
        x, y = (1.0 + (side - 2.0) * self.random.random() for side in (width, height))  # not on its edge
        io.add_mouse_pos_event(left + x, top + y)
        if self.pressed is None and pick < 0.2:
            self.pressed = int(pick < 0.06)
            self.strokes += 1
            io.add_mouse_button_event(self.pressed, True)
        elif self.pressed is not None and pick > 0.8:
            io.add_mouse_button_event(self.pressed, False)
            self.pressed = None
        elif pick < 0.25:
            self.change()

    def change(self):
        """One change of a setting, a key's action or a view."""
        session, choose = self.window.session, self.random.choice
        session.ask(
            choose(
                [
                    lambda: session.change("contrast", 10.0 ** self.random.uniform(0.0, 4.0)),
                    lambda: session.change("preconditioner", choose(METHODS)),
                    lambda: session.change("grid", choose([(32, 16), (64, 32)])),
                    lambda: session.change_view(field=choose(VIEWS)),
                    lambda: setattr(session.brush, "paint", choose(list(MATERIALS))),
                    lambda: setattr(session, "front", choose(TABS)),
                    lambda: setattr(session, "theme", choose(list(theme.THEMES))),
                    session.start_race,
                    session.undo,
                    session.redo,
                    session.engine.reset,
                ]
            )
        )


def test_random_input_leaves_no_message_and_no_growth(display, tmp_path, monkeypatch):  # noqa: ARG001
    from imgui_bundle import immapp

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app.engine.UNDO_BYTES", UNDO_BYTES)
    engine = Engine(app_settings({"grid": (64, 32), "preconditioner": "multigrid"}))
    strokes, failures = [], []
    engine.subscribe(
        lambda report: failures.append(report.failure) if report.failure else None,
        lambda event: strokes.append(event) if event.kind == "begin_stroke" else None,
    )
    worker = Worker(engine, 4.0)
    window = Window(Session(engine, worker))
    window.params.ini_disable = True
    hand, memory = Hand(window), []
    end_frame, begun = window.params.callbacks.after_swap, time.monotonic()

    def acted():
        end_frame()
        hand.act()
        now = time.monotonic() - begun
        if now > SECONDS * (0.05, 0.5, 1.0, math.inf)[len(memory)]:
            memory.append(resident_mb())
        window.params.app_shall_exit |= now > SECONDS

    window.params.callbacks.after_swap = acted
    worker.start()
    try:
        immapp.run(window.params, window.add_ons)
        worker.drain()
    finally:
        worker.stop()
        window.session.beside.close()
    assert failures == []
    assert not engine.message
    assert abs(hand.strokes - len(strokes)) <= 1  # the last may not have arrived
    assert len(strokes) > 3
    assert engine.frame > 0
    print(f"{engine.frame} frames, {hand.strokes} strokes, MB at begin, middle and end: {memory}")
    assert memory[-1] - memory[1] < GROWTH_MB
