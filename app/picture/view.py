"""What to show of a simulation: the field, its colours, its range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.picture.palettes import COLORMAPS, LEVELS

_FIELDS = {  # unit and colormap
    "density": ("kg/m³", "fluid"),
    "pressure": ("Pa", "viridis"),
    "speed": ("m/s", "magma"),
    "vorticity": ("1/s", "berlin"),
    "divergence": ("1/s", "coolwarm"),
}
VIEWS = tuple(_FIELDS)
SIGNED = ("vorticity", "divergence")  # shown in a range symmetric about zero


@dataclass(frozen=True)
class View:
    """What to show and how. ``colormap`` None: the field's own; ``range``: "auto" or (low, high) in its unit.

    Raises ValueError for a name that is not in VIEWS or COLORMAPS and for a range that is empty (or, for
    density, not above zero: its scale is logarithmic).
    """

    field: str = "density"
    colormap: str | None = None
    range: tuple[float, float] | Literal["auto"] = "auto"
    interface: bool = True  # draw the line between the fluids
    light: bool = True  # shade the fluids of the density, and give solids a bevel
    tracers: bool | None = None  # specks that move with the fluids; None: in the density alone

    def __post_init__(self) -> None:
        if self.field not in VIEWS:
            raise ValueError(f"view: {self.field!r} is not one of {', '.join(VIEWS)}")
        if self.colormap is not None and self.colormap not in COLORMAPS:
            raise ValueError(f"colormap: {self.colormap!r} is not one of {', '.join(COLORMAPS)}")
        if self.range != "auto":
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"range: {low:g} to {high:g} is empty")
            if self.logarithmic and low <= 0.0:
                raise ValueError(f"range: {low:g} must be above 0 on the logarithmic scale of {self.field}")

    @property
    def colours(self) -> str:
        """Name of the colormap in use."""
        return self.colormap or _FIELDS[self.field][1]

    @property
    def traced(self) -> bool:
        """Whether tracers are shown."""
        return self.field == "density" if self.tracers is None else self.tracers

    @property
    def unit(self) -> str:
        """Unit of the field."""
        return _FIELDS[self.field][0]

    @property
    def logarithmic(self) -> bool:
        """Whether the colours follow the logarithm of the value."""
        return self.field == "density"


@dataclass(frozen=True)
class Scale:
    """Colours from ``low`` to ``high``, even in the value or in its logarithm; ``whole``: of a count."""

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False

    def share(self, values: np.ndarray | float) -> np.ndarray:
        """Where ``values`` lie between ``low`` (0) and ``high`` (1), cut off there; 0 for NaN."""
        low, high = self.low, self.high
        if self.logarithmic:
            values, low, high = np.log(np.maximum(values, 1e-30)), math.log(low), math.log(high)
        share = (values - low) * (1.0 / (high - low))
        return np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Rows of a colour table for ``values``, int64."""
        return np.rint(self.share(values) * (LEVELS - 1)).astype(np.int64)


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 5, 7 times a power of ten not below ``value``; 1 for zero or not finite.

    Ranges and plots that end on such numbers stand still while the data moves a little.
    """
    if not (math.isfinite(value) and value > 0.0):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (power * step for step in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0))
    return next(step for step in steps if step >= 0.999999 * value)


def automatic_range(view: View, contrast: float, fluid: np.ndarray) -> tuple[float, float]:
    """The range that shows the values ``fluid`` (n,); for the density that of any two fluids."""
    if view.field == "density":
        return 1.0, contrast if contrast > 1.0 else 10.0
    fluid = fluid[np.isfinite(fluid)]
    if fluid.size == 0:
        return 0.0, 1.0
    if view.field == "speed":
        return 0.0, nice_ceiling(float(fluid.max()))
    if view.field in SIGNED:  # single cells at a corner would dim all others
        rank = int(0.995 * (fluid.size - 1))
        reach = nice_ceiling(float(np.partition(np.abs(fluid), rank)[rank]))
        return -reach, reach
    low, high = float(fluid.min()), float(fluid.max())
    step = nice_ceiling((high - low) / 8.0)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return low, high if high > low else low + step
