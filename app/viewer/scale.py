"""What colours stand for, and where to write numbers beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """Colours from ``low`` to ``high``, even in the value or in its logarithm; ``whole``: of a count."""

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False

    def share(self, value: float) -> float:
        """Where ``value`` lies between ``low`` (0) and ``high`` (1)."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low)


def ticks(scale: Scale) -> list[tuple[float, str]]:
    """Round values on ``scale`` with their labels: powers of ten, or even steps."""
    low, high = scale.low, scale.high
    if scale.logarithmic:
        first, last = math.ceil(math.log10(low) - 1e-6), math.floor(math.log10(high) + 1e-6)
        values = [10.0**k for k in range(first, last + 1)]
        if len(values) > 1:
            if high / values[-1] > 1.5:
                values.append(high)
            if values[0] / low > 1.5:
                values.insert(0, low)
            return [(min(max(value, low), high), f"{value:.4g}") for value in values]
        return [(low, f"{low:.3g}"), (high, f"{high:.3g}")]
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / 4.0))
    steps = [m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if span / (m * power) <= 9.0]
    step = next(step for step in steps if not scale.whole or step.is_integer())
    values = np.arange(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1) * step
    return [(float(value), f"{value + 0.0:.4g}") for value in values]
