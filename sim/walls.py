"""The sides of the box that are not closed: open to a space of no pressure, or with a given flow through
them.

A side may be so in parts. Through an open face the fluid leaves, and enters where the flow wants it to: as
light fluid at rest unless said otherwise, so that it loses the pressure that its speed is worth (Bernoulli).
An inflow enters at a given speed, a negative one is drawn out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field, model_validator

from precond.config import Number, Settings, validated
from precond.poisson import Openings
from sim.settings import WALLS, Wall

FORM = "closed, open or {inflow: m/s, fluid: heavy or light, from: share, to: share}, or a list of such"

Share = Annotated[Number, Field(ge=0, le=1)]


class Opening(Settings):
    """A part of a side: open, or with an ``inflow`` in m/s; ``fluid`` is what enters."""

    inflow: Annotated[Number, Field(ge=-100, le=100)] | None = None
    fluid: Literal["heavy", "light"] = "light"
    low: Share = Field(0.0, alias="from")
    high: Share = Field(1.0, alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> Opening:
        if self.low >= self.high:
            raise ValueError(f"to: {self.high:g} is not above from: {self.low:g}")
        return self

    def faces(self, count: int) -> np.ndarray:
        """Which of ``count`` faces along the side it takes, (count,) bool: those with their centre in it, one
        at least.
        """
        centres = (np.arange(count) + 0.5) / count
        inside = (centres >= self.low) & (centres <= self.high)
        inside[min(int(0.5 * (self.low + self.high) * count), count - 1)] = True
        return inside


def _openings(value: Any) -> list[Opening]:
    """The parts of one side."""
    if value == "closed":
        return []
    if value == "open":
        return [Opening()]
    parts = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(part, dict | Opening) for part in parts):
        raise ValueError(f"is not {FORM}")
    return [part if isinstance(part, Opening) else validated(Opening, part) for part in parts]


def read_walls(value: Any) -> dict[Wall, list[Opening]]:
    """The parts of every side from a scene file. Raises ValueError for what does not fit."""
    if not isinstance(value, dict) or not set(value) <= set(WALLS):
        raise ValueError(f"is not a mapping of {', '.join(WALLS)}, each {FORM}")
    walls = {}
    for name, parts in value.items():
        try:
            walls[name] = _openings(parts)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    every = [part for parts in walls.values() for part in parts]
    if every and all(part.inflow is not None for part in every):
        raise ValueError("an inflow needs an open side too, through which as much can leave")
    return walls


SceneWalls = Annotated[dict[Wall, list[Opening]], BeforeValidator(read_walls)]


class Walls:
    """The sides of one grid with its ``openings``, as precond.poisson has them.

    Face fields (2, nx+1, ny+1) float64, zero but on sides of the box: open, 1 where one is open; speed, m/s
    along the axis, of inflows; entering, 1 where the heavy fluid enters. given, bool: where speed is. All on
    ``device``.
    """

    def __init__(
        self, walls: dict[Wall, list[Opening]], shape: tuple[int, int], device: torch.device | str = "cpu"
    ) -> None:
        nx, ny = shape
        numbers = torch.zeros(3, 2, nx + 1, ny + 1, dtype=torch.float64)
        fields = *numbers, torch.zeros(2, nx + 1, ny + 1, dtype=torch.bool)
        for name, opened, speed, entering, given in zip(WALLS, *map(sides, fields), strict=True):
            for part in walls.get(name, ()):
                faces = torch.from_numpy(part.faces(len(opened)))
                opened[faces] = float(part.inflow is None)
                speed[faces] = (part.inflow or 0.0) * (1.0 if name in ("left", "bottom") else -1.0)
                entering[faces] = float(part.fluid == "heavy")
                given[faces] = part.inflow is not None
        self.open, self.speed, self.entering, self.given = (field.to(device) for field in fields)

    @property
    def openings(self) -> Openings:
        """For the pressure's operator."""
        opened = self.open.bool().cpu().numpy()
        return opened[0, [0, -1], :-1], opened[1, :-1, [0, -1]]

    def follow(self, labels: np.ndarray, sealed: np.ndarray) -> torch.Tensor:
        """The speeds of inflows into fluid that an opening can be reached from; ``labels`` (nx, ny) and
        ``sealed`` are the operator's.
        """
        reached = torch.from_numpy(np.append(~sealed, False)[labels]).to(self.speed)  # solids have label -1
        speed = self.speed.clone()
        for side, inside in zip(sides(speed), border_cells(reached), strict=True):
            side.mul_(inside)
        return speed


def sides(field: torch.Tensor, inside: int = 0) -> list[torch.Tensor]:
    """The faces of a face field (2, nx+1, ny+1) on the left, right, bottom and top of the box, or as many
    cells ``inside``: views.
    """
    places = inside, -1 - inside
    return [field[d].select(d, place)[: field.shape[2 - d] - 1] for d in (0, 1) for place in places]


def border_cells(field: torch.Tensor) -> list[torch.Tensor]:
    """The cells of a field (nx, ny) along the left, right, bottom and top of the box: views."""
    return [field[0], field[-1], field[:, 0], field[:, -1]]


def closed_corners(opened: torch.Tensor) -> torch.Tensor:
    """1 at the corners along a side of the box that no ``opened`` (n,) face ends at, else 0: (n + 1,)."""
    faces = torch.nn.functional.pad(opened, (1, 1))
    return 1.0 - torch.maximum(faces[1:], faces[:-1])
