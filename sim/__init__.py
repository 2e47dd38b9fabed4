"""Two-phase incompressible flow on a staggered grid; the pressure solve is precond's."""

import os

_HOME = os.path.expanduser("~")
os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "0")  # Taichi reads it while it is imported
os.environ.setdefault("HOME", _HOME if os.path.isabs(_HOME) else "/nonexistent")  # and ends where this lacks
