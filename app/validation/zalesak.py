"""Zalesak's disk: transport of the phase alone."""

from __future__ import annotations

import math

import numpy as np

from app.validation.case import Case, carried, disc, stream_velocity


class Zalesak(Case):
    """A disc of radius 0.15 at (0.5, 0.75) of the unit box with a slot 0.05 wide and 0.25 high turns once
    around the box's centre; what differs, over its area (Rudman's norm).
    """

    axes = ("cells along a side", "sum |df| / sum f")

    def run(self) -> None:
        n = self.setup["cells"]
        edges = np.arange(n + 1) / n
        slot = np.outer(np.diff(np.clip(edges, 0.475, 0.525)), np.diff(np.clip(edges, 0.6, 0.85))) * n**2
        phase = disc((n, n), 0.5, 0.75, 0.15) * (1.0 - slot)
        away = (edges - 0.5) ** 2
        velocity = stream_velocity(0.5 * (away[:, None] + away), 1.0 / n)
        steps = math.ceil(np.pi * n / self.known["courant"])
        turned = carried(phase, velocity, 2.0 * np.pi / steps * n, np.ones(steps))
        error = float(abs(turned - phase).sum() / phase.sum())
        self.at_most(f"error at {n} x {n}", error, self.known["youngs"], f"Youngs {self.known['youngs']:g}")
        self.draw("error", [(n, error)], {200: self.known["youngs"]})
