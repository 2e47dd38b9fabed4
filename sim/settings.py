"""The simulation's settings: every default, range, unit and explanation stands here once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from precond.config import Number, Settings, Switch, Text, Whole
from precond.errors import UsageError

MAX_CONTRAST = 10_000.0
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


class SimulationSettings(Settings):
    """What a simulation needs to know. The light phase has density 1 kg/m^3.

    A scene overrides these defaults, a settings file overrides the scene, a command-line flag overrides both.
    All but ``scene``, ``grid``, ``device`` and ``seed`` may be changed between two steps. What does not fit
    raises UsageError, when it is given and when it is assigned.
    """

    scene: Text = Field(
        "dam-break",
        description="what flows: a scene's name (see `list`) or your own scene file",
        json_schema_extra={"metavar": "NAME|FILE"},
    )
    grid: Grid = Field(
        (128, 64), description="cells along x and y, like 128x64", json_schema_extra={"metavar": "NXxNY"}
    )
    contrast: Number = Field(
        100.0, ge=1, le=MAX_CONTRAST, description="density of the heavy fluid over the light one"
    )
    preconditioner: Text = Field(
        "coarse-learned",
        description="what speeds up the pressure solve (see `list`)",
        json_schema_extra={"metavar": "NAME"},
    )
    rtol: Number = Field(
        1e-4, ge=1e-14, le=0.5, description="relative residual at which the pressure solve stops"
    )
    max_iterations: Whole = Field(
        2000, ge=1, le=1_000_000, description="iterations after which a pressure solve gives up"
    )
    warm_start: Switch = Field(True, description="start each pressure solve from the last pressure")
    reuse_setup: Switch = Field(
        True, description="keep what still serves of a preconditioner's set-up between frames"
    )
    gravity: Number = Field(
        9.81, ge=0, le=1000, description="acceleration downwards", json_schema_extra={"unit": "m/s^2"}
    )
    heavy_viscosity: Number = Field(
        1e-5,
        ge=0,
        le=1,
        description="kinematic viscosity of the heavy fluid",
        json_schema_extra={"unit": "m^2/s"},
    )
    light_viscosity: Number = Field(
        1e-5,
        ge=0,
        le=1,
        description="kinematic viscosity of the light fluid",
        json_schema_extra={"unit": "m^2/s"},
    )
    courant: Number = Field(
        0.5, ge=0.01, le=1, description="share of a cell that may flow out of it in one time step"
    )
    max_time_step: Number = Field(
        1 / 120, ge=1e-6, le=1, description="longest time step", json_schema_extra={"unit": "s"}
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="where to compute")
    single_launch: Switch = Field(
        False, description="on cuda: one graph launch for all of a solve (wants the extra `cuda`)"
    )
    seed: Whole = Field(
        0, ge=0, le=2**31 - 1, description="start of every random choice; the same seed gives the same run"
    )
