"""A simulation's whole state: what undo keeps, what a file holds, and what another grid takes over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from precond.errors import UsageError, in_one_line
from precond.files import write_whole
from sim.settings import SimulationSettings
from sim.sources import KINDS

FORMAT = "htp-fluid state 1"


class State(NamedTuple):
    """Tensors as sim.simulation.Simulation has them, copies on the CPU: ``phase`` and ``pressure`` (nx, ny)
    float64, ``solid`` and ``sources`` (their kind) (nx, ny) uint8, ``velocity`` (projected) and ``moved``
    (where the next step begins) (2, nx+1, ny+1) float64, ``stirs`` (n, 5) float64, the strokes that wait;
    ``clock`` (3,) float64 holds time (s), the largest outflow (m/s), from which the next time step follows,
    and the steps taken.
    """

    phase: torch.Tensor
    pressure: torch.Tensor
    solid: torch.Tensor
    sources: torch.Tensor
    velocity: torch.Tensor
    moved: torch.Tensor
    stirs: torch.Tensor
    clock: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along x and y."""
        nx, ny = self.phase.shape
        return nx, ny

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return sum(tensor.nbytes for tensor in self)

    def on_grid(self, shape: tuple[int, int]) -> State:
        """The same state with other cells; the box may become a little longer or shorter in x.

        Phase and pressure are averaged over the part of a new cell that was fluid, a cell is solid that was
        so by half, face velocities are averaged along their face and linear across it. The next step's
        projection makes them divergence-free again.
        """
        across = [_overlap(old, new) for old, new in zip(self.shape, shape, strict=True)]
        along = [_interpolation(old, new) for old, new in zip(self.shape, shape, strict=True)]
        fluid = 1.0 - self.solid.double()

        def averaged(values: torch.Tensor) -> torch.Tensor:
            return across[0] @ values @ across[1].T

        share = averaged(fluid)
        solid = (share <= 0.5).to(torch.uint8)
        inside = share.clamp(min=1e-12)
        fields = (
            torch.where(solid == 0, averaged(values * fluid) / inside, 0.0)
            for values in (self.phase, self.pressure)
        )
        shares = torch.stack([averaged((self.sources == kind).double()) for kind in range(1 + len(KINDS))])
        sources = shares.argmax(0).to(torch.uint8)
        faces = (_velocities(old, along, across) for old in (self.velocity, self.moved))
        return State(*fields, solid, sources, *faces, self.stirs[:0], self.clock.clone())


def _overlap(old: int, new: int) -> torch.Tensor:
    """(new, old) shares of the old cells in each new one along an axis of unit length; rows sum to 1."""
    ends = torch.arange(1, new + 1, dtype=torch.float64)[:, None] / new
    edges = torch.arange(1, old + 1, dtype=torch.float64) / old
    upper, lower = torch.minimum(ends, edges), torch.maximum(ends - 1.0 / new, edges - 1.0 / old)
    return (upper - lower).clamp(min=0.0) * new


def _interpolation(old: int, new: int) -> torch.Tensor:
    """(new+1, old+1) weights that interpolate linearly between faces along an axis."""
    at = torch.arange(new + 1, dtype=torch.float64)[:, None] * (old / new)
    return (1.0 - (at - torch.arange(old + 1)).abs()).clamp(min=0.0)


def _velocities(faces: torch.Tensor, along: list[torch.Tensor], across: list[torch.Tensor]) -> torch.Tensor:
    new = torch.zeros(2, along[0].shape[0], along[1].shape[0], dtype=torch.float64)
    new[0, :, :-1] = along[0] @ faces[0, :, :-1] @ across[1].T
    new[1, :-1] = across[0] @ faces[1, :-1] @ along[1].T
    return new


def save_state(path: str | Path, state: State, settings: SimulationSettings) -> Path:
    """Write a state with the settings it is of to one file, and its folder. Raises OSError."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"format": FORMAT, "settings": json.dumps(settings.model_dump())}
    tensors = {name: tensor.contiguous() for name, tensor in state._asdict().items()}
    write_whole(path, save(tensors, about))
    return path


def load_state(path: str | Path) -> tuple[State, dict[str, Any]]:
    """A state and the settings it was saved with. Raises UsageError that names the file and says what is
    wrong with it.
    """
    if Path(path).is_dir():
        raise UsageError(
            f"state {path}: is a folder; name a file in it, as {Path(path) / 'final.safetensors'}"
        )
    try:
        with safe_open(path, "pt") as file:
            about, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UsageError(f"state {path}: there is no such file") from None
    except (OSError, SafetensorError) as error:
        raise UsageError(f"state {path}: cannot be read: {in_one_line(error)}") from None
    if about.get("format") != FORMAT or tensors.keys() != set(State._fields):
        raise UsageError(f"state {path}: is not a saved state of this program")
    state = State(**tensors)
    _check(path, state)
    try:
        settings = dict(json.loads(about["settings"]))
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"state {path}: its settings are damaged") from None
    return state, settings


def _check(path: str | Path, state: State) -> None:
    """Raise UsageError for shapes, types and values that no simulation has."""
    nx, ny = state.phase.shape if state.phase.dim() == 2 else (0, 0)
    cells, faces = (nx, ny), (2, nx + 1, ny + 1)
    shapes = (cells, cells, cells, cells, faces, faces, (len(state.stirs), 5), (3,))
    for name, tensor, shape in zip(State._fields, state, shapes, strict=True):
        kind = torch.uint8 if name in ("solid", "sources") else torch.float64
        if tuple(tensor.shape) != shape or tensor.dtype != kind:
            raise UsageError(
                f"state {path}: {name} is {tuple(tensor.shape)} {tensor.dtype}, not {shape} {kind}"
            )
        if not torch.isfinite(tensor).all():
            raise UsageError(f"state {path}: {name} is not finite everywhere")
    outside = state.phase.min() < 0.0 or state.phase.max() > 1.0 or state.solid.max() > 1
    outside |= state.sources.max() > len(KINDS)
    if outside or bool((state.solid == 1).all()):
        raise UsageError(f"state {path}: phase and solid are not shares of cells with fluid left")
