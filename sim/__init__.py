"""Two-phase incompressible flow on a staggered grid; the pressure solve is precond's."""

import os

os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "0")  # Taichi reads it while it is imported
