"""The window: one engine, drawn and steered."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.engine import Engine

NO_WINDOW = 2  # exit code


def run_demo(engine: Engine, frames: int | None = None) -> int:
    """Show ``engine`` in a window until it is closed, or until ``frames`` time steps were taken.

    Returns the exit code: 0, or NO_WINDOW after one line on stderr where there is no display or no OpenGL.
    """
    try:
        from app.viewer.start import show
    except ImportError as error:  # the window toolkit links to X11 libraries that a bare machine lacks
        reason = f"its libraries are missing ({error}; on Debian: libx11-6 libxext6 libgl1)"
    else:
        reason = show(engine, frames)
    if reason:
        print(f"htp-fluid demo: no window: {reason}; `htp-fluid record` runs without one", file=sys.stderr)
    return NO_WINDOW if reason else 0
