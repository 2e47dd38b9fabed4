"""Scenes: an initial state, the settings it needs and what must hold at its end (sim.checks), read from YAML
files like those under assets/scenes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, StrictStr, model_validator

from precond.config import Number, Settings, Text, read_yaml, setting, validated
from precond.errors import UsageError
from sim.settings import SimulationSettings
from sim.shapes import Shape, read_shapes
from sim.walls import SceneWalls

SCENE_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "scenes"
THUMBNAIL_FOLDER = SCENE_FOLDER / "thumbnails"
CHOSEN_ELSEWHERE = ("scene", "device", "seed")


class Expectations(Settings):
    """Bounds of what is measured at a scene's end, at least one."""

    volume_drift_below: Number = setting(None, "relative change of the heavy phase's volume since the start")
    speed_below: Number = setting(None, "largest face velocity", unit="m/s")
    speed_above: Number = setting(None, "largest face velocity", unit="m/s")
    heavy_height_below: Number = setting(None, "centre of the heavy phase above the floor, of the height")
    heavy_height_above: Number = setting(None, "centre of the heavy phase above the floor, of the height")
    asymmetry_below: Number = setting(None, "largest difference of the phase from its mirror image in x")
    energy_gain_below: Number = setting(
        None, "total energy gained, share of the potential range (without gravity, of the start)"
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Expectations:
        if not self.model_fields_set:
            raise ValueError(f"is empty; name at least one of {', '.join(self.names())}")
        return self


def _own_settings(values: Any) -> dict[str, Any]:
    allowed = [name for name in SimulationSettings.names() if name not in CHOSEN_ELSEWHERE]
    if not isinstance(values, dict):
        raise ValueError(f"is not a mapping of {', '.join(allowed)}")
    for name in values:
        if name not in allowed:
            raise ValueError(f"{name}: unknown; allowed: {', '.join(allowed)}")
    checked = SimulationSettings(**values)
    return {name: getattr(checked, name) for name in values}


Size = Annotated[Number, Field(ge=1e-6, le=1e6)]


class SceneFile(Settings):
    """What a scene file holds. The cells are square, so the width of the box follows from the grid."""

    title: Text
    description: StrictStr
    height_m: Size = Field(alias="height")
    duration_s: Size = Field(alias="duration", description="time after which `expect` must hold")
    settings: Annotated[dict[str, Any], BeforeValidator(_own_settings)]  # on top of the defaults
    background: Literal["heavy", "light"]  # what fills the box at first
    shapes: Annotated[list[Shape], BeforeValidator(read_shapes)]  # painted in order
    expect: Expectations
    walls: SceneWalls = Field(default_factory=dict, description="sides that are not closed: see sim.walls")


class Scene(SceneFile):
    """A scene: its name, and what its file holds, in that order; closed unless there are walls. Raises
    UsageError for what does not fit.
    """

    name: str

    def __init__(self, name: str, *content: Any) -> None:
        super().__init__(name=name, **dict(zip(SceneFile.names(), content, strict=False)))

    def initial_state(self, grid: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Phase fraction, float64 (nx, ny), and solid mask, bool (nx, ny). Raises UsageError when no fluid is
        left.
        """
        phase, solid, _ = self._painted(grid, seed)
        if solid.all():
            raise UsageError(f"scene {self.name}: its solids fill the whole box; shrink one")
        phase[solid] = 0.0
        return phase, solid

    def sources(self, grid: tuple[int, int], seed: int) -> np.ndarray:
        """Where sources and drains are, uint8 (nx, ny), as sim.sources.Sources.kind."""
        return self._painted(grid, seed)[2]

    def _painted(self, grid: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        phase = np.full(grid, float(self.background == "heavy"))
        solid, sources = np.zeros(grid, dtype=bool), np.zeros(grid, dtype=np.uint8)
        random = np.random.default_rng(seed)
        for shape in self.shapes:
            shape.paint(phase, solid, sources, random)
        return phase, solid, sources


def available_scenes() -> list[str]:
    """Names of the scenes that come with the program."""
    return sorted(path.stem for path in SCENE_FOLDER.glob("*.yaml"))


def load_scene(name_or_path: str | Path) -> Scene:
    """Read a scene by its name or from a YAML file. Raises UsageError that names the file, the field and what
    is allowed.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in available_scenes():
            raise UsageError(
                f"scene: {str(name_or_path)!r} is not one of {', '.join(available_scenes())} or a .yaml file"
            )
        path = SCENE_FOLDER / f"{name_or_path}.yaml"
    content = validated(SceneFile, read_yaml(path), str(path))
    return Scene(path.stem, *dict(content).values())
