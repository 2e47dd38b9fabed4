"""The simulation's settings: every physical and solver default stands here once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from precond.errors import UsageError

MAX_CONTRAST = 10_000.0
MIN_CELLS = 8
MAX_CELLS = 4096


class SettingsError(UsageError):
    """A setting that cannot be used; the message names it, its value and what is allowed."""


@dataclass
class SimulationSettings:
    """What a simulation needs to know. SI units; the light phase has density 1 kg/m^3.

    A scene overrides these defaults, a settings file overrides the scene, a command-line flag overrides both.
    All but ``scene``, ``grid``, ``device`` and ``seed`` may be changed between two steps.
    """

    scene: str = "dam-break"
    grid: tuple[int, int] = (128, 64)  # cells along x and y
    contrast: float = 100.0  # density of the heavy phase over the light one
    gravity: float = 9.81  # m/s^2, downwards
    heavy_viscosity: float = 1e-5  # m^2/s, kinematic
    light_viscosity: float = 1e-5  # m^2/s, kinematic
    courant: float = 0.5  # largest share of a cell's content that may leave it per step
    max_time_step: float = 1.0 / 120.0  # s
    preconditioner: str = "coarse-learned"
    rtol: float = 1e-4  # relative residual of the pressure solve
    max_iterations: int = 2000
    warm_start: bool = True
    reuse_setup: bool = True  # keep what still serves of a preconditioner's set-up (sim.reuse_policy)
    device: str = "cpu"
    single_launch: bool = False  # on cuda: the device ends a solve's loop itself (precond.device.while_node)
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.grid, list):
            self.grid = tuple(self.grid)
        self.check()

    def check(self) -> None:
        """Raise SettingsError for the first setting out of range."""
        pair = self.grid if isinstance(self.grid, tuple) else ()
        if len(pair) != 2 or not all(isinstance(n, int) and MIN_CELLS <= n <= MAX_CELLS for n in pair):
            raise SettingsError(
                f"grid: {self.grid} is not two whole numbers from {MIN_CELLS} to {MAX_CELLS}, like 128x64"
            )
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise SettingsError(f"{name}: {value!r} is not a number from {low:g} to {high:g}")
        for name in ("scene", "preconditioner"):
            if not isinstance(getattr(self, name), str):
                raise SettingsError(f"{name}: {getattr(self, name)!r} is not a name")
        for name in ("max_iterations", "seed"):
            if not isinstance(getattr(self, name), int):
                raise SettingsError(f"{name}: {getattr(self, name)!r} is not a whole number")
        if self.device not in ("cpu", "cuda"):
            raise SettingsError(f"device: {self.device!r} is not one of cpu, cuda")
        for name in ("warm_start", "reuse_setup", "single_launch"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name}: {getattr(self, name)!r} is not true or false")

    @classmethod
    def names(cls) -> list[str]:
        """Names of all settings, in order."""
        return [field.name for field in fields(cls)]


_RANGES: list[tuple[str, Any, Any]] = [
    ("contrast", 1.0, MAX_CONTRAST),
    ("gravity", 0.0, 1000.0),
    ("heavy_viscosity", 0.0, 1.0),
    ("light_viscosity", 0.0, 1.0),
    ("courant", 0.01, 1.0),
    ("max_time_step", 1e-6, 1.0),
    ("rtol", 1e-14, 0.5),
    ("max_iterations", 1, 1_000_000),
    ("seed", 0, 2**31 - 1),
]
