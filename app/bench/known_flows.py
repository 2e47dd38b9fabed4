"""Frames of flows whose results are known, those of app.validation, as problems of the benchmark: what their
projection met. No network is trained on them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from app.bench.stirred import system_met
from app.validation.case import Case, load_known
from app.validation.dam_break import DamBreak
from app.validation.rayleigh_taylor import RayleighTaylor
from app.validation.rising_bubble import RisingBubble
from app.validation.static_drop import StaticDrop
from precond.errors import UsageError
from precond.problems.gallery import Problem
from sim.simulation import Simulation, SimulationError


class Flow(NamedTuple):
    """Case ``case`` of validation.yaml until ``end`` (s), with ``changes``; a grid of n cells in the case's
    unit of length has ``area`` n^2.
    """

    case: str
    kind: type[Case]
    area: int
    end: float
    changes: dict[str, float] = {}  # noqa: RUF012


FLOWS = (
    Flow("rising-bubble-2", RisingBubble, 2, 3.0),
    Flow("rayleigh-taylor-256", RayleighTaylor, 4, 0.8),
    Flow("dam-break", DamBreak, 18, 1.44),
    Flow("static-drop", StaticDrop, 1, 10.0, {"density_ratio": 1000.0}),  # half a period of its swings
)


class KnownFlows:
    """Problems from `FLOWS` in turn, contrast 1,000 but for Rayleigh-Taylor's 3, on the grid of an even
    number of cells a unit of length that comes nearest to ``cells`` cells. Frame i is flow i mod 4 after
    1 - 0.5^k of its time, k = 1 + i // 4.

    As with app.bench.stirred frames should be asked for in order. Deterministic.
    """

    def __init__(self, cells: int):
        self._cells, self._known = cells, load_known()
        self._running: dict[str, tuple[int, Simulation]] = {}

    def frame(self, number: int) -> Problem:
        """Frame ``number``. Raises UsageError when the flow cannot be computed so far."""
        flow = FLOWS[number % len(FLOWS)]
        asked, simulation = self._running.get(flow.case, (0, None))
        if simulation is None or asked > number:
            simulation = self._begin(flow)
        self._running[flow.case] = number, simulation
        moment = flow.end * (1.0 - 0.5 ** (1 + number // len(FLOWS)))
        try:
            while simulation.time < moment:
                simulation.step()
        except SimulationError as error:
            raise UsageError(f"family: physics: frame {number}, {flow.case}: {error}") from error
        return system_met(simulation)

    def _begin(self, flow: Flow) -> Simulation:
        known = {**self._known[flow.case], **flow.changes}
        known["full"] = {
            **known["full"],
            "cells": max(2, 2 * round(0.5 * math.sqrt(self._cells / flow.area))),
        }
        return flow.kind(known, quick=False).begin()
