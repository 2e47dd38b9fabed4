"""The simulation's settings: every default, range, unit and explanation stands here once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PlainSerializer

from precond.config import Number, Settings, Switch, Text, Whole, setting
from precond.errors import UsageError

MAX_CONTRAST = 10_000.0
MIN_ANGLE = 30.0
MIN_CELLS = 8
MAX_CELLS = 4096


class SettingsError(UsageError):
    """A setting that cannot be used; the message names it, its value and what is allowed."""


def _grid(value: Any) -> tuple[int, int]:
    parts = re.split(r"\s*[xX]\s*", value.strip()) if isinstance(value, str) else value
    if isinstance(value, str):
        parts = [int(part) if re.fullmatch(r"[0-9]{1,9}", part) else part for part in parts]
    if isinstance(parts, list | tuple) and len(parts) == 2:
        nx, ny = parts
        if all(type(n) is int and MIN_CELLS <= n <= MAX_CELLS for n in (nx, ny)):
            return nx, ny
    raise ValueError(f"is not two whole numbers from {MIN_CELLS} to {MAX_CELLS}, like 128x64")


Grid = Annotated[tuple[int, int], BeforeValidator(_grid), PlainSerializer("{0[0]}x{0[1]}".format)]
Wall = Literal["left", "right", "bottom", "top"]
WALLS = get_args(Wall)
Viscosity = Annotated[Number, Field(ge=0, le=1)]


class SimulationSettings(Settings):
    """What a simulation needs to know. The light phase has density 1 kg/m^3.

    A scene overrides these defaults, a settings file overrides the scene, a command-line flag overrides both.
    All may be changed between two steps: only a new ``scene`` or ``seed`` starts anew, a new ``grid`` or
    ``device`` takes over what flows. What does not fit raises UsageError, when it is given and when it is
    assigned.
    """

    scene: Text = setting(
        "dam-break",
        "what flows: a scene's name (see `list`; `demo` begins with waterfall) or your own scene file",
        metavar="NAME|FILE",
    )
    grid: Grid = setting((128, 64), "cells along x and y, like 128x64", metavar="NXxNY")
    contrast: Number = setting(
        100.0, "density of the heavy fluid over the light one", ge=1, le=MAX_CONTRAST, metavar="RATIO"
    )
    preconditioner: Text = setting(
        "coarse-learned", "what speeds up the pressure solve (see `list`; `demo` on a CPU begins with auto)"
    )
    rtol: Number = setting(1e-4, "relative residual at which the pressure solve stops", ge=1e-14, le=0.5)
    max_iterations: Whole = setting(
        2000, "iterations after which a pressure solve gives up", ge=1, le=1_000_000
    )
    warm_start: Switch = setting(True, "start each pressure solve from the last pressure")
    reuse_setup: Switch = setting(True, "keep what still serves of a preconditioner's set-up between frames")
    gravity: Number = setting(9.81, "acceleration downwards", unit="m/s^2", ge=0, le=1000)
    heavy_viscosity: Viscosity = setting(1e-5, "kinematic viscosity of the heavy fluid", unit="m^2/s")
    light_viscosity: Viscosity = setting(1e-5, "kinematic viscosity of the light fluid", unit="m^2/s")
    surface_tension: Number = setting(0.0, "surface tension between the fluids", unit="N/m", ge=0, le=1000)
    contact_angle: Number = setting(
        90.0,
        "angle at which the interface meets walls and solids, measured in the heavy fluid",
        unit="degrees",
        ge=MIN_ANGLE,
        le=180.0 - MIN_ANGLE,
    )
    slip_walls: tuple[Wall, ...] = setting((), "walls along which viscous fluid slips: left right bottom top")
    source_rate: Number = setting(
        20.0, "volume that a cell of a source or a drain moves, over its own", unit="1/s", ge=0, le=1000
    )
    courant: Number = setting(0.45, "share of a cell that may flow out of it in one step", ge=0.01, le=1)
    max_time_step: Number = setting(1 / 120, "longest time step", unit="s", ge=1e-6, le=1)
    device: Literal["cpu", "cuda"] = setting("cpu", "where to compute")
    single_launch: Switch = setting(
        False, "on cuda: one graph launch for all of a solve (wants the extra `cuda`)"
    )
    seed: Whole = setting(
        0, "start of every random choice; the same seed gives the same run", ge=0, le=2**31 - 1
    )
