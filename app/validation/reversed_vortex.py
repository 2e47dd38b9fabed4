"""Reversed vortex: transport of the phase alone."""

from __future__ import annotations

import math

import numpy as np

from app.validation.case import Case, carried, disc, stream_velocity


class ReversedVortex(Case):
    """A disc of radius 0.15 at (0.5, 0.75) of the unit box is drawn out in a vortex that turns back after
    T / 2 = 4; the area where it is not what it was.
    """

    axes = ("cells along a side", "sum |df| area")

    def run(self) -> None:
        errors = {n: self._error(n) for n in self.setup["cells"]}
        for n, error in errors.items():
            self.at_most(
                f"error at {n} x {n}", error, self.known["youngs"][n], f"Youngs {self.known['youngs'][n]:g}"
            )
        self.draw("error", errors.items(), self.known["youngs"])

    def _error(self, n: int) -> float:
        wave = np.sin(np.pi * np.arange(n + 1) / n) ** 2
        velocity = stream_velocity(np.outer(wave, wave) / np.pi, 1.0 / n)
        steps = math.ceil(8.0 * n / self.known["courant"])
        phase = disc((n, n), 0.5, 0.75, 0.15)
        factors = np.cos(np.pi * (np.arange(steps) + 0.5) / steps)
        return float(abs(carried(phase, velocity, 8.0 / steps * n, factors) - phase).sum()) / n**2
