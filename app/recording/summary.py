"""What the frames of a recording come to; one rule for run.yaml, the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

START = 10  # frames in which a method that chooses tries the others; the worst frame is sought after them

# Means carry what medians hide, set-ups and inference that not every frame has; they leave out the first
# frame, which may compile.
STATISTICS: dict[str, Callable[[Any], float]] = {
    "mean": lambda values: float(np.mean(values[min(1, len(values) - 1) :])),
    "median": lambda values: float(np.median(values)),
    "p95": lambda values: float(np.percentile(values, 95)),
    "p99": lambda values: float(np.percentile(values, 99)),
    "worst": lambda values: float(np.max(values[min(START, len(values) - 1) :])),
}
