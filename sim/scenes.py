"""Scenes: an initial state, the settings it needs and what must hold at its end, read from YAML.

A scene file under assets/scenes holds

    title, description      what the viewer and ``list`` show
    height                  metres; the cells are square, so the width follows from the grid
    duration                seconds after which ``expect`` must hold
    settings                overrides of SimulationSettings, e.g. {grid: [128, 64], contrast: 100}
    background              heavy or light: what fills the box at first
    shapes                  painted in order, see sim.shapes
    expect                  checks at the end, see EXPECTATIONS
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from precond.config import read_yaml
from precond.errors import UsageError
from sim.settings import SimulationSettings
from sim.shapes import SHAPES, ShapeError, paint_shape

if TYPE_CHECKING:
    from sim.simulation import Simulation

SCENE_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "scenes"
REQUIRED = ("title", "description", "height", "duration", "settings", "background", "shapes", "expect")
EXPECTATIONS = {
    "volume_drift_below": "relative change of the heavy phase's volume since the start",
    "speed_below": "largest face velocity, m/s",
    "speed_above": "largest face velocity, m/s",
    "heavy_height_below": "centre of the heavy phase above the floor, share of the height",
    "heavy_height_above": "centre of the heavy phase above the floor, share of the height",
    "asymmetry_below": "largest difference of the phase fraction from its mirror image in x",
    "energy_gain_below": "total energy gained, share of the potential range (without gravity, of the start)",
}
CHOSEN_ELSEWHERE = ("scene", "device", "seed")


@dataclass(frozen=True)
class Scene:
    """An initial state with its settings and its checks."""

    name: str
    title: str
    description: str
    height_m: float
    duration_s: float
    settings: dict[str, Any]
    background: str
    shapes: list[dict[str, Any]]
    expect: dict[str, float]

    def initial_state(self, grid: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Phase fraction, float64 (nx, ny), and solid mask, bool (nx, ny). Raises UsageError when no fluid is
        left.
        """
        phase = np.full(grid, float(self.background == "heavy"))
        solid = np.zeros(grid, dtype=bool)
        random = np.random.default_rng(seed)
        for shape in self.shapes:
            paint_shape(shape, phase, solid, random)
        if solid.all():
            raise UsageError(f"scene {self.name}: its solids fill the whole box; shrink one")
        phase[solid] = 0.0
        return phase, solid

    def failures(self, simulation: Simulation, start: SceneStart) -> list[str]:
        """What does not hold of ``expect``, in words; empty when all of it does."""
        height = simulation.domain[1]
        phase = simulation.phase.cpu().numpy()
        settings = simulation.settings
        potential = settings.gravity * height**2 * simulation.domain[0] * settings.contrast
        measured = {
            "volume_drift": abs(simulation.phase_volume() - start.volume)
            / max(start.volume, simulation.spacing**2),
            "speed": simulation.max_speed(),
            "heavy_height": simulation.heavy_height() / height,
            "asymmetry": float(np.abs(phase - phase[::-1]).max()),
            "energy_gain": (simulation.total_energy() - start.energy) / (potential or start.energy or 1.0),
        }
        failed = []
        for name, bound in self.expect.items():
            quantity, side = name.rsplit("_", 1)
            value = measured[quantity]
            if not (value < bound if side == "below" else value > bound):
                failed.append(f"{self.name}: {quantity} is {value:.6g}, expected {side} {bound:g}")
        return failed


@dataclass(frozen=True)
class SceneStart:
    """What the checks compare with: volume in m^2 and energy in J/m of the initial state."""

    volume: float
    energy: float

    @classmethod
    def of(cls, simulation: Simulation) -> SceneStart:
        """Of ``simulation`` as it is."""
        return cls(simulation.phase_volume(), simulation.total_energy())


def available_scenes() -> list[str]:
    """Names of the scenes that come with the program."""
    return sorted(path.stem for path in SCENE_FOLDER.glob("*.yaml"))


def load_scene(name_or_path: str | Path) -> Scene:
    """Read a scene by its name or from a YAML file. Raises UsageError."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in available_scenes():
            raise UsageError(
                f"scene: {name_or_path!r} is not one of {', '.join(available_scenes())}, nor a .yaml file"
            )
        path = SCENE_FOLDER / f"{name_or_path}.yaml"
    content = read_yaml(path)
    try:
        return _parse(path.stem, content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _parse(name: str, content: Any) -> Scene:
    if not isinstance(content, dict):
        raise UsageError(f"holds {type(content).__name__}, not a mapping with {', '.join(REQUIRED)}")
    for field in REQUIRED:
        if field not in content:
            raise UsageError(f"{field}: missing")
    for field in content:
        if field not in REQUIRED:
            raise UsageError(f"{field}: unknown; allowed are {', '.join(REQUIRED)}")
    for field in ("title", "description"):
        if not isinstance(content[field], str):
            raise UsageError(f"{field}: {content[field]!r} is not text")
    if content["background"] not in ("heavy", "light"):
        raise UsageError(f"background: {content['background']!r} is not one of heavy, light")
    return Scene(
        name=name,
        title=content["title"],
        description=content["description"],
        height_m=_positive(content, "height"),
        duration_s=_positive(content, "duration"),
        settings=_checked_settings(content["settings"]),
        background=content["background"],
        shapes=_checked_shapes(content["shapes"]),
        expect=_checked_expectations(content["expect"]),
    )


def _positive(content: dict[str, Any], field: str) -> float:
    value = content[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-6 <= value <= 1e6:
        raise UsageError(f"{field}: {value!r} is not a number from 1e-6 to 1e6")
    return float(value)


def _checked_settings(settings: Any) -> dict[str, Any]:
    allowed = [name for name in SimulationSettings.names() if name not in CHOSEN_ELSEWHERE]
    if not isinstance(settings, dict):
        raise UsageError(f"settings: {settings!r} is not a mapping of {', '.join(allowed)}")
    for name in settings:
        if name not in allowed:
            raise UsageError(f"settings: {name}: unknown; allowed are {', '.join(allowed)}")
    try:
        checked = SimulationSettings(**settings)
    except UsageError as error:
        raise UsageError(f"settings: {error}") from error
    except TypeError as error:
        raise UsageError(
            f"settings: grid: {settings.get('grid')!r} is not two whole numbers of cells"
        ) from error
    return {name: getattr(checked, name) for name in settings}


def _checked_shapes(shapes: Any) -> list[dict[str, Any]]:
    if not isinstance(shapes, list):
        raise UsageError(f"shapes: {shapes!r} is not a list of shapes; known are {', '.join(SHAPES)}")
    trial_phase, trial_solid = np.zeros((8, 8)), np.zeros((8, 8), dtype=bool)
    for number, shape in enumerate(shapes, start=1):
        try:
            paint_shape(shape, trial_phase, trial_solid, np.random.default_rng(0))
        except ShapeError as error:
            raise UsageError(f"shapes: number {number}: {error}") from error
    return shapes


def _checked_expectations(expect: Any) -> dict[str, float]:
    if not isinstance(expect, dict) or not expect:
        raise UsageError(
            f"expect: {expect!r} is not a mapping with at least one of {', '.join(EXPECTATIONS)}"
        )
    for name, bound in expect.items():
        if name not in EXPECTATIONS:
            raise UsageError(f"expect: {name}: unknown; allowed are {', '.join(EXPECTATIONS)}")
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not abs(bound) < math.inf:
            raise UsageError(f"expect: {name}: {bound!r} is not a finite number")
    return {name: float(bound) for name, bound in expect.items()}
