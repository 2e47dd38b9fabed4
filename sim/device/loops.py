"""The simulation's loops on a CUDA device."""

from __future__ import annotations

from functools import partial

import taichi as ti
import torch
from torch import Tensor

from precond import PoissonOperator
from sim.contact import Contact
from sim.device import advection, forces, interface, surface_tension
from sim.device.runtime import kernel_argument, start
from sim.faces import open_faces
from sim.walls import Walls, border_cells, closed_corners, sides


class DeviceLoops:
    """As sim.host.loops.HostLoops, in Taichi, and in torch where that is one operation."""

    def __init__(self, solid: Tensor, walls: Walls | None = None):
        """``solid`` (nx, ny) uint8 is kept. None for ``walls``: a closed box."""
        start(solid.device.type)
        (nx, ny), self.solid = solid.shape, solid
        zeros = partial(torch.zeros, dtype=torch.float64, device=solid.device)
        self.heavy_flux, self._slopes = zeros(2, nx + 1, ny + 1), zeros(4, nx + 1, ny + 1)
        self._work, self._row_sums, self._majority = zeros(3, nx, ny), zeros(nx, 5), zeros(nx, ny)
        self._difference_x, self._difference_y = zeros(nx - 1, ny), zeros(nx, ny - 1)
        self._curvature = zeros(nx, ny)
        self._walls, border = walls, zeros(2, nx + 1, ny + 1) if walls is None else walls.open
        self._entering = border if walls is None else walls.entering
        self._border = None if walls is None else border
        self.open_faces = open_faces(solid, self._border)
        self.contact = Contact(solid, walls)
        self.hold = (1.0,) * 4
        self._closed = zeros(4, max(nx, ny) + 1)
        for corners, opened in zip(self._closed, sides(border), strict=True):
            corners[: len(opened) + 1] = closed_corners(opened)

    def follow_solid(self) -> None:
        """As HostLoops.follow_solid."""
        self.open_faces.copy_(open_faces(self.solid, self._border))
        self.contact.follow()

    def add_stir(self, velocity: Tensor, *stir: float) -> None:
        """As HostLoops.add_stir."""
        forces.add_stir(kernel_argument(velocity), kernel_argument(self.open_faces), *stir)

    def viscous_stage(
        self, current: Tensor, previous: Tensor, density: Tensor, phase: Tensor, *numbers: float
    ) -> None:
        """As HostLoops.viscous_stage."""
        flow = current, previous, density, phase, self.solid
        fields = *flow, self.open_faces, self._closed, self.heavy_flux
        forces.viscous_stage(*map(kernel_argument, fields), ti.math.vec4(*self.hold), *numbers)

    def add_surface_tension(self, velocity: Tensor, phase: Tensor, density: Tensor, impulse: float) -> None:
        """As HostLoops.add_surface_tension."""
        fields = phase, self.solid, self.contact.planes, self._work, self._curvature
        surface_tension.find_curvature(*map(kernel_argument, fields))
        fields = velocity, phase, density, self.solid, self._curvature
        surface_tension.add_surface_tension(*map(kernel_argument, fields), impulse)

    def interface_length(self, phase: Tensor) -> float:
        """As HostLoops.interface_length."""
        fields = phase, self.solid, self.contact.planes, self._curvature
        surface_tension.find_lengths(*map(kernel_argument, fields))
        return float(self._curvature.sum())

    def transport_phase(
        self, phase: Tensor, velocity: Tensor, ratio: float, direction: int, first: bool
    ) -> float | Tensor:
        """As HostLoops.transport_phase; with walls a () float64 on the device, for which nothing waits."""
        flow = phase, self.solid, velocity, self.heavy_flux, self._majority
        fields = *flow, self._entering, self._work, self._row_sums
        interface.transport_phase(*map(kernel_argument, fields), ratio, direction, first)
        return 0.0 if self._walls is None else self._row_sums[:, 4].sum()

    def renew_density(self, phase: Tensor, heavy: float, density: Tensor) -> None:
        """As HostLoops.renew_density."""
        advection.renew_density(kernel_argument(phase), heavy, kernel_argument(density))

    def transport_momentum(
        self,
        carried: Tensor,
        velocity: Tensor,
        began: Tensor,
        density: Tensor,
        phase: Tensor,
        transported: Tensor,
        heavy: float,
        kick: float,
        ratio: float,
        direction: int,
    ) -> None:
        """As HostLoops.transport_momentum."""
        flow = carried, velocity, began, self.heavy_flux, self._majority
        fields = *flow, density, phase, self.solid, self._slopes, transported
        advection.transport_momentum(*map(kernel_argument, fields), heavy, kick, ratio, direction)
        if self._walls is not None:
            fields = carried, velocity, self.open_faces, density, self._entering, transported
            advection.carry_border(*map(kernel_argument, fields), heavy, ratio, direction)

    def net_outflow(self, velocity: Tensor, out: Tensor) -> Tensor:
        """As HostLoops.net_outflow."""
        u, v = velocity[0], velocity[1]
        torch.sub(u[1:, :-1], u[:-1, :-1], out=out)
        return out.add_(v[:-1, 1:]).sub_(v[:-1, :-1])

    def largest_outflow(self, velocity: Tensor) -> float:
        """As HostLoops.largest_outflow."""
        out, back = velocity.clamp(min=0.0), velocity.clamp(max=0.0)
        leaving = out[0, 1:, :-1] - back[0, :-1, :-1]
        leaving.add_(out[1, :-1, 1:]).sub_(back[1, :-1, :-1])
        return float(leaving.max())

    def energy(self, velocity: Tensor, density: Tensor) -> tuple[float, float]:
        """As HostLoops.energy."""
        mass = torch.where(self.solid == 0, density, 0.0)
        u, v = velocity[0, 1:-1, :-1], velocity[1, :-1, 1:-1]
        kinetic = ((mass[1:] + mass[:-1]) * u**2).sum() + ((mass[:, 1:] + mass[:, :-1]) * v**2).sum()
        if self._walls is not None:  # of the border's faces half a volume is in the box
            pairs = zip(border_cells(mass), sides(velocity), strict=True)
            kinetic = kinetic + sum((inside * faces**2).sum() for inside, faces in pairs)
        heights = torch.arange(mass.shape[1], device=mass.device) + 0.5
        return tuple(torch.stack([0.25 * kinetic, (mass * heights).sum()]).tolist())

    def largest_difference(self, velocity: Tensor, welling: Tensor | None) -> float:
        """As HostLoops.largest_difference."""
        outflow = self.net_outflow(velocity, torch.empty_like(self._majority))
        return float((outflow if welling is None else outflow - welling).abs().max())

    def subtract_gradient(
        self, velocity: Tensor, pressure: Tensor, operator: PoissonOperator, ratio: float
    ) -> None:
        """As HostLoops.subtract_gradient."""
        torch.sub(pressure[1:], pressure[:-1], out=self._difference_x)
        torch.sub(pressure[:, 1:], pressure[:, :-1], out=self._difference_y)
        self._difference_x.mul_(operator.face_weights_x[1:-1])
        self._difference_y.mul_(operator.face_weights_y[:, 1:-1])
        velocity[0, 1:-1, :-1].sub_(self._difference_x, alpha=ratio)
        velocity[1, :-1, 1:-1].sub_(self._difference_y, alpha=ratio)
        if operator.openings is not None:
            border = sides(velocity), operator.border_weights(), border_cells(pressure), (-1, 1, -1, 1)
            for faces, weights, inside, outwards in zip(*border, strict=True):
                faces.addcmul_(weights, inside, value=outwards * ratio)
