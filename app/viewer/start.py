"""How the window starts: quietly, with its saved layout where that is sound, or with a reason why not."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

from imgui_bundle import hello_imgui, immapp

from app.compilation import Compilation
from app.engine import Engine
from app.output import OutputError, stop_signals
from app.viewer.preferences import Preferences
from app.viewer.session import Session
from app.viewer.window import Window
from app.worker import Worker

SWITCH_SECONDS = 5e-4  # after which the window and the simulation take turns at the interpreter
RENDERER_THREADS = max((os.cpu_count() or 1) - 2, 0)  # of Mesa's: the window's own and the steps' go first
LATER = ("multigrid", "coarse-learned", "hmatrix")  # compiled while the fluids move


def show(engine: Engine, frames: int | None = None) -> str:
    """Run the window until it is closed or ``frames`` steps were taken; returns why none can open, or ""."""
    os.environ.setdefault("LP_NUM_THREADS", str(RENDERER_THREADS))
    worker = Worker(engine, engine.settings.speed)
    session = Session(engine, worker)
    window = Window(session, frames)
    with stop_signals((signal.SIGTERM,)) as window.stopped:
        return _shown(window)


def _shown(window: Window) -> str:
    """As `show`."""
    session = window.session
    worker, chosen = session.worker, session.engine.settings.simulation
    if chosen.device != "cpu":  # Taichi's kernels belong to the thread that made them
        try:
            return _opened(window)
        finally:
            session.beside.close()
    session.beside.start_early()
    session.compilation = Compilation(chosen.preconditioner, LATER)
    sys.setswitchinterval(SWITCH_SECONDS)
    worker.start()
    try:
        return _opened(window)
    finally:
        worker.stop()
        session.beside.close()
        session.compilation.stop()


def _opened(window: Window) -> str:
    """As `show`."""
    layout, session = _saved_layout(window), window.session
    session.explained = window.frames is not None
    if layout is not None and not _is_sound(layout):
        _set_aside(layout, session)
    if layout is not None:
        remembered = Preferences.read(layout.parent)
        remembered.apply(session)
        window.layout_scale = remembered.scale
    try:
        return _run(window)
    except RuntimeError as error:
        if window.drawn or "IM_ASSERT" not in str(error) or layout is None or not layout.exists():
            raise
        _set_aside(layout, session)
        return _run(Window(session, window.frames), replay=False)
    finally:
        if layout is not None and window.opened:
            with contextlib.suppress(OutputError):  # nobody is there any more to be told
                Preferences.of(session, window.screen_scale).write(layout.parent)


def _saved_layout(window: Window) -> Path | None:
    """The file of the layout; None, and none will be kept, where its folder cannot be used."""
    if not (window.params.ini_disable or window.session.engine.settings.safe):
        with contextlib.suppress(OSError, RuntimeError):
            path = Path(hello_imgui.ini_settings_location(window.params))
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.access(path.parent, os.W_OK):
                return path
    window.params.ini_disable = True
    return None


def _is_sound(layout: Path) -> bool:
    """Whether every docking node hangs from one above it; the toolkit fails, or never ends, where not."""
    known = {"0x00000000"}
    text = layout.read_text(encoding="utf-8", errors="replace") if layout.is_file() else ""
    for node in re.finditer(r"^ *Dock(?:Node|Space) +ID=(\w+)(?:.*? Parent=(\w+))?", text, re.M):
        if (node[2] or "0x00000000") not in known:
            return False
        known.add(node[1])
    return True


def _set_aside(layout: Path, session: Session) -> None:
    damaged = layout.with_name(f"{layout.name}.damaged")
    layout.replace(damaged)
    said = f"the window's saved layout could not be used; it was moved to {damaged}"
    print(f"htp-fluid demo: {said}", file=sys.stderr)
    session.say(said, error=True)


def _run(window: Window, replay: bool = True) -> str:
    """Run ``window``; what libraries said while it opened is shown then, if ``replay``. See `show`."""
    quiet = _QuietStart()
    window.on_opened = lambda: quiet.end(replay)
    try:
        immapp.run(window.params, window.add_ons)
        return ""
    except RuntimeError:
        if window.opened:
            raise
        return _reason(quiet.end(replay=False))
    finally:
        quiet.end()


def _reason(noise: str) -> str:
    """The toolkit's own messages in one plain line."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and sys.platform == "linux":
        return "there is no display (DISPLAY is not set)"
    lines = [line.split(": ", 1)[-1].strip() for line in noise.splitlines() if "rror" in line]
    return f"no display or no OpenGL 3 ({lines[0]})" if lines else "no display or no OpenGL 3"


class _QuietStart:
    """Holds back what native libraries print to descriptor 2 while the window opens."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open until end()
        self._stderr: int | None = None
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            self._stderr = os.dup(2)
        except OSError:  # closed: nobody listens, and no socket may take its place
            self._stderr = os.open(os.devnull, os.O_WRONLY)
        os.dup2(self._file.fileno(), 2)

    def end(self, replay: bool = True) -> str:
        """Give stderr back, with what was held back if ``replay``; safe to call again."""
        if self._stderr is None:
            return ""
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        self._stderr = None
        self._file.seek(0)
        text = self._file.read().decode(errors="replace")
        self._file.close()
        if replay and text:
            os.write(2, text.encode())
        return text
