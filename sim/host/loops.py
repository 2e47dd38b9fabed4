"""The simulation's loops on the CPU."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from precond import PoissonOperator
from precond.errors import UsageError
from precond.host import threads
from precond.host.compiled import available
from sim.contact import Contact
from sim.faces import open_faces
from sim.host import advection, energy, forces, interface
from sim.walls import Walls, closed_corners, sides


class HostLoops:
    """What a step does to fields on one grid: ``phase`` and ``density`` (nx, ny), face fields such as
    ``velocity`` (2, nx+1, ny+1), all float64, in place. ``ratio`` is a time step over the spacing.

    Attributes: open_faces (2, nx+1, ny+1), 1 on faces between two fluid cells and on open ones of the box's
    sides, else 0; heavy_flux (2, nx+1, ny+1), share of a cell, of the last sweep of `transport_phase` in
    either direction; solid, as it was given; contact: how the interface meets walls; hold: 1 for walls (left,
    right, bottom, top) that do not slip, 0 for those that do.
    """

    def __init__(self, solid: Tensor, walls: Walls | None = None):
        """``solid`` (nx, ny) uint8 is kept. None for ``walls``: a closed box. Raises UsageError without
        numba."""
        if not available():
            raise UsageError("a simulation on the CPU needs numba, which is missing: pip install numba")
        (nx, ny), self.solid = solid.shape, solid
        zeros = partial(torch.zeros, dtype=torch.float64)
        self.heavy_flux, self._scratch = zeros(2, nx + 1, ny + 1), zeros(8, nx + 1, ny + 1).numpy()
        self._heavy_flux = self.heavy_flux.numpy()
        self._majority, self._dilated, self._volume = (
            zeros(nx, ny).numpy(),
            zeros(nx, ny).numpy(),
            zeros(1).numpy(),
        )
        self._rows = nx, threads.chunks(nx, nx * ny)
        self._walls, border = walls, zeros(2, nx + 1, ny + 1) if walls is None else walls.open
        self._entering = border.numpy() if walls is None else walls.entering.numpy()
        self._border = None if walls is None else border
        self.open_faces = open_faces(solid, self._border)
        self.contact = Contact(solid, walls)
        self._no_welling = np.empty((0, 0))
        self.hold = (1.0,) * 4
        self._closed = tuple(closed_corners(side).numpy() for side in sides(border))

    def follow_solid(self) -> None:
        """Notice that the solids changed."""
        self.open_faces.copy_(open_faces(self.solid, self._border))
        self.contact.follow()

    def add_stir(self, velocity: Tensor, *stir: float) -> None:
        """Pull the velocity inside a disc towards another one, fully at its centre. ``stir``: centre along x
        and y and, after the velocity along x and y, radius; lengths in cells.
        """
        forces.add_stir(velocity.numpy(), self.open_faces.numpy(), *stir)

    def viscous_stage(
        self, current: Tensor, previous: Tensor, density: Tensor, phase: Tensor, *numbers: float
    ) -> None:
        """previous <- weight current + weight previous + ratio div(tau(current)) / density. ``numbers``: the
        phases' dynamic viscosities (heavy, light) in units of the light density, both weights, the stage's
        time step over the spacing squared.
        """
        fields = current, previous, density, phase, self.solid, self.open_faces
        heavy, light, *others = numbers
        pairs = zip(self.hold, self._closed, strict=True)
        hold = tuple(1.0 - (1.0 - held) * corners for held, corners in pairs)
        kept = [] if self._walls is None else self._border_before(current, previous, *others[:2])
        arrays, numbers = [field.numpy() for field in fields], (heavy, light, hold, self._closed, *others)
        threads.run_rows(partial(forces.viscous_stage, *arrays, *numbers), *self._rows)
        if kept:
            for (before, opened, mixed), side, inside in zip(
                kept, sides(previous), sides(previous, 1), strict=True
            ):
                torch.addcmul(before, opened, inside - mixed, out=side)

    def _border_before(
        self, current: Tensor, previous: Tensor, own: float, other: float
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For every side of the box what `viscous_stage` starts from, whether faces are open, and what it
        starts from one cell inside: an open face feels the viscosity that the face inside feels.
        """
        kept = []
        opened = sides(self.open_faces)
        lanes = (sides(field, inside) for inside in (0, 1) for field in (current, previous))
        for faces, now, before, now_inside, before_inside in zip(opened, *lanes, strict=True):
            mixed = torch.where(faces > 0.0, own * now + other * before, now)
            kept.append((mixed, faces, own * now_inside + other * before_inside))
        return kept

    def add_surface_tension(self, velocity: Tensor, phase: Tensor, density: Tensor, impulse: float) -> None:
        """Add surface tension's pull; ``impulse``: time step times it over the spacing squared."""
        fields = velocity, phase, density, self.solid, self.contact.planes, self.open_faces
        interface.add_surface_tension(*(field.numpy() for field in fields), self._dilated, impulse)

    def interface_length(self, phase: Tensor) -> float:
        """Length of the interface, in cells."""
        return interface.interface_length(phase.numpy(), self.solid.numpy(), self.contact.planes.numpy())

    def transport_phase(
        self, phase: Tensor, velocity: Tensor, ratio: float, direction: int, first: bool
    ) -> float:
        """Sweep ``phase`` along a ``direction``, the ``first`` one of a transport step or the other; the
        fluxes stay for `transport_momentum`. Returns what of the heavy phase came in through the box's sides,
        less what left, in cells.
        """
        fields = phase.numpy(), self.solid.numpy(), velocity.numpy(), self._heavy_flux, self._majority
        return interface.transport_phase(*fields, self._entering, self._volume, ratio, direction, first)

    def renew_density(self, phase: Tensor, heavy: float, density: Tensor) -> None:
        """``density`` <- what a ``phase`` weighs, to the bit as `transport_momentum` leaves it."""
        advection.renew_density(phase.numpy(), heavy, 0, len(phase), density.numpy())

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
        """Sweep the momentum of ``carried`` along a ``direction`` with ``velocity`` and the fluxes of
        `transport_phase` into ``transported``. ``density`` is the one before that sweep and is renewed from
        ``phase``; ``heavy`` is the heavy phase's. What enters is taken ``kick`` of a time step on, with the
        acceleration from ``began`` to ``velocity``.
        """
        carried, velocity, began = carried.numpy(), velocity.numpy(), began.numpy()
        fields = density.numpy(), phase.numpy(), self.open_faces.numpy()
        flux, majority, dilated, scratch = self._heavy_flux, self._majority, self._dilated, self._scratch
        moved = transported.numpy()
        if self._rows[1] == 1:
            flow = carried, velocity, began, flux, majority
            numbers = heavy, kick, ratio, direction
            advection.transport_momentum(*flow, *fields, dilated, scratch, moved, *numbers)
            self._carry_border(carried, velocity, *fields[::2], heavy, ratio, direction, moved)
            return
        numbers = heavy, ratio, direction
        passes = (
            partial(advection.weigh, velocity, majority, fields[0], dilated, scratch, *numbers),
            partial(
                advection.foresee, carried, velocity, began, fields[2], dilated, scratch, kick, direction
            ),
            partial(advection.carry, carried, velocity, flux, *fields, scratch, moved, *numbers),
        )
        for one in passes:  # each reads what the one before left in rows around its own
            threads.run_rows(one, *self._rows)
        self._carry_border(carried, velocity, *fields[::2], *numbers, moved)

    def _carry_border(
        self,
        carried: np.ndarray,
        velocity: np.ndarray,
        density: np.ndarray,
        opened: np.ndarray,
        heavy: float,
        ratio: float,
        direction: int,
        out: np.ndarray,
    ) -> None:
        if self._walls is not None:
            advection.carry_border(
                carried, velocity, opened, density, self._entering, heavy, ratio, direction, out
            )

    def net_outflow(self, velocity: Tensor, out: Tensor) -> Tensor:
        """``out`` (nx, ny) <- net outflow of every cell: divergence times spacing."""
        forces.net_outflow(velocity.numpy(), out.numpy())
        return out

    def largest_outflow(self, velocity: Tensor) -> float:
        """Largest sum of the velocities that leave a cell through its faces, not finite where one is not."""
        return forces.largest_outflow(velocity.numpy())

    def energy(self, velocity: Tensor, density: Tensor) -> tuple[float, float]:
        """Kinetic energy over the spacing squared, and potential energy over gravity and its third power."""
        return energy.energy(velocity.numpy(), density.numpy(), self.solid.numpy())

    def largest_difference(self, velocity: Tensor, welling: Tensor | None) -> float:
        """Largest difference between the net outflow of a cell and its ``welling`` (nx, ny), None being
        none.
        """
        wells = self._no_welling if welling is None else welling.numpy()
        return energy.largest_difference(velocity.numpy(), wells)

    def subtract_gradient(
        self, velocity: Tensor, pressure: Tensor, operator: PoissonOperator, ratio: float
    ) -> None:
        """velocity -= ratio * face weight * difference of ``pressure`` (nx, ny) across the face, zero
        outside."""
        weights = operator.face_weights_x.numpy(), operator.face_weights_y.numpy()
        forces.subtract_gradient(velocity.numpy(), pressure.numpy(), *weights, ratio)
