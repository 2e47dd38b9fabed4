"""The two-phase simulation: forces, projection, transport; one call of step() is one frame.

Each step makes the velocity divergence-free under the new forces and then carries phase and momentum with it.
In this order the potential energy that a step takes up is the work that gravity did on the projected
velocity, up to what the interface's own fluxes differ from mean face densities: energy rises between steps by
less than 3e-4 of the start's (measured up to contrast 10,000), not at all without gravity, and falls in
the long run.
"""

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from precond import SolveReport
from precond.errors import UsageError, in_one_line
from precond.poisson import NotCopied
from sim import obstacles
from sim.fields import Fields
from sim.host.loops import HostLoops
from sim.projection import PressureSystem, Projection
from sim.scenes import Scene
from sim.settings import WALLS, SettingsError, SimulationSettings
from sim.sources import KINDS, Sources
from sim.state import State
from sim.viscosity import largest_diffusion, viscous_weights
from sim.walls import Walls, sides

PAINTS = ("heavy", "light", "solid", "erase", *KINDS)
TRANSPORT_COURANT = 0.5  # largest share of a cell that may leave it in one transport step: bounds the phase
MAX_TRANSPORT_STEPS = 64
FASTEST_PUSH = 4.0  # longer sides of the box a second


class SimulationError(RuntimeError):
    """A step that cannot be taken; the message says which and what to change. ``attempts``: its solves."""

    def __init__(self, message: str, attempts: tuple[SolveReport, ...] = ()) -> None:
        super().__init__(message)
        self.attempts = attempts


def _took(part: str) -> property:
    return property(lambda report: 1e3 * report.solve.seconds[part] if report.solve else 0.0)


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step did and took; times are wall-clock milliseconds.

    ``attempts`` are its pressure solves in their order: the chosen preconditioner's and, where that broke
    down, the fallback's. ``step_ms`` is all of the step, ``sim_ms`` all but the attempts, ``failed_ms`` what
    the failed ones took. ``outcome``, ``iterations``, ``relative_residual``, ``setup_ms``, ``inference_ms``
    (in a network) and ``solve_ms`` are those of ``solve``: "failed", 0, NaN, and 0 without one.

    Energies in J per metre of depth are of the state that the next step starts from, ``surface_energy`` 0
    without surface tension. ``divergence`` is the largest that the projection left in a cell, in 1/s, beside
    what sources give; times ``time_step_s`` it is ``volume_error``, the share of its volume that the cell
    gains or loses. All are NaN for a step that could not be taken.
    """

    time_s: float
    time_step_s: float
    transport_steps: int
    step_ms: float
    attempts: tuple[SolveReport, ...]
    kinetic_energy: float = math.nan
    potential_energy: float = math.nan
    surface_energy: float = math.nan
    divergence: float = math.nan

    volume_error = property(lambda self: self.divergence * self.time_step_s)

    @property
    def solve(self) -> SolveReport | None:
        """The attempt whose pressure was used; None when all broke down."""
        return next((attempt for attempt in self.attempts if not attempt.broke_down), None)

    @property
    def failed(self) -> list[SolveReport]:
        """The attempts that broke down."""
        return [attempt for attempt in self.attempts if attempt.broke_down]

    preconditioner = property(lambda self: self.attempts[-1].method if self.attempts else "")
    choice = property(lambda self: self.attempts[-1].choice if self.attempts else "")
    fallback = property(lambda self: len(self.attempts) > 1)
    outcome = property(lambda self: self.solve.outcome.value if self.solve else "failed")
    iterations = property(lambda self: self.solve.iterations if self.solve else 0)
    relative_residual = property(lambda self: self.solve.relative_residual if self.solve else math.nan)
    setup_ms, inference_ms, solve_ms = _took("setup"), _took("inference"), _took("solve")
    failed_ms = property(lambda self: 1e3 * sum(sum(a.seconds.values()) for a in self.failed))
    sim_ms = property(lambda self: self.step_ms - 1e3 * sum(sum(a.seconds.values()) for a in self.attempts))


class Simulation(NotCopied, Fields):
    """Two incompressible fluids in a box with solids, under gravity and surface tension.

    Tensors, all on ``device``: ``phase`` (nx, ny) float64, 1 where the heavy fluid is; ``density`` (nx, ny)
    float64 in kg/m^3, the light fluid's being 1; ``solid`` (nx, ny) uint8; ``velocity`` (2, nx+1, ny+1)
    float64 in m/s, component d on the lower face of cell (i, j), projected; index i runs along x, j upwards.
    ``sources`` holds where fluid wells up and leaves, ``walls`` which sides of the box are not closed (None:
    all are). ``entered``: m^2 of the heavy fluid that came in through those since the start, less what left.
    """

    def __init__(self, settings: SimulationSettings, scene: Scene):
        self.settings = settings
        self.scene = scene
        self.device = _usable(settings.device)
        self.shape = settings.grid
        nx, ny = self.shape
        self.spacing = scene.height_m / ny
        self.domain = (nx * self.spacing, scene.height_m)

        zeros = partial(torch.zeros, dtype=torch.float64, device=self.device)
        faces = partial(zeros, (2, nx + 1, ny + 1))
        self.phase, self.density = zeros(nx, ny), zeros(nx, ny)
        self.solid = torch.zeros(self.shape, dtype=torch.uint8, device=self.device)
        self.velocity = faces()  # projected
        self._moved, self._spare = faces(), faces()  # after transport, where the next step begins; scratch
        self.walls = Walls(scene.walls, self.shape, self.device) if any(scene.walls.values()) else None
        self._loops = _loops(self.solid, self.walls)
        self.sources = Sources(self.phase)
        self._fill_initial_state()
        openings = None if self.walls is None else self.walls.openings
        self.projection = Projection(self.density, self.solid, settings, self._loops, openings)
        self._begin_with_walls()
        self._before = [torch.empty_like(field) for field in self._changing()]  # the step

    def _changing(self) -> tuple[torch.Tensor, ...]:
        """All that a step starts from and changes."""
        return self.phase, self.density, self.velocity, self._moved, self.projection.pressure

    def _fill_initial_state(self) -> None:
        phase, solid = self.scene.initial_state(self.shape, self.settings.seed)
        self.phase.copy_(torch.from_numpy(phase))
        self.solid.copy_(torch.from_numpy(solid.astype(np.uint8)))
        self.sources.kind.copy_(torch.from_numpy(self.scene.sources(self.shape, self.settings.seed)))
        self.sources.changed()
        self.velocity.zero_()
        self._moved.zero_()
        self._loops.follow_solid()
        self._stirs: list[tuple[float, ...]] = []
        self.time = 0.0
        self.step_count = 0
        self._outflow = self.entered = 0.0
        self._renew_density()

    def _renew_density(self) -> None:
        self._contrast = self.settings.contrast
        self._loops.renew_density(self.phase, self._contrast, self.density)

    def pressure_system(self) -> PressureSystem:
        """What the last step's projection solved. Raises UsageError before the first step, and between a
        change of grid or solids and the next one.
        """
        return self.projection.system(start=self._before[-1])

    def reset(self) -> None:
        """Return to the scene's initial state; settings and preconditioner stay."""
        self._fill_initial_state()
        self.projection.reset(self.solid)
        self._begin_with_walls()

    def _begin_with_walls(self) -> None:
        self._impose_walls()
        self._outflow = self._loops.largest_outflow(self.velocity)

    def _impose_walls(self) -> None:
        """Give the sides of the box the velocities of inflows, and none where they are closed."""
        if self.walls is None:
            return
        operator = self.projection.operator
        speed = self.walls.follow(operator.labels, operator.sealed)
        for field in (self.velocity, self._moved):
            for faces in zip(*map(sides, (field, self._loops.open_faces, speed)), strict=True):
                faces[0].mul_(faces[1]).add_(faces[2])

    def begin_with(self, phase: torch.Tensor, velocity: torch.Tensor | None = None) -> None:
        """Start from ``phase`` (nx, ny) and ``velocity`` (2, nx+1, ny+1) in m/s, by default at rest, with the
        scene's solids.
        """
        self.reset()
        self.phase.copy_(phase).mul_(self.solid == 0)
        if velocity is not None:
            torch.mul(velocity.to(self.device), self._loops.open_faces, out=self.velocity)
            self._moved.copy_(self.velocity)
        self._impose_walls()
        self._outflow = self._loops.largest_outflow(self.velocity)
        self._renew_density()

    def select_preconditioner(self, name: str) -> None:
        """Switch the pressure solve. Raises precond.PreconditionerError and keeps the old preconditioner."""
        self.projection.select_preconditioner(name)
        self.settings.preconditioner = name

    def step(self) -> StepReport:
        """Advance one time step. Raises SimulationError when that cannot be done; the state, strokes that
        wait included, is then the one before.
        """
        begin = time.perf_counter()
        if self._contrast != self.settings.contrast:
            self._renew_density()
        time_step = self._time_step()
        for kept, field in zip(self._before, self._changing(), strict=True):
            kept.copy_(field)
        attempts: tuple[SolveReport, ...] = ()
        try:
            ratio = time_step / self.spacing
            self.velocity, self._moved = self._moved, self.velocity
            self._apply_forces(time_step)
            self.sources.follow(self.projection.operator, self.settings.source_rate)
            welling = self.sources.source * self.spacing if self.sources.active else None
            attempts = self.projection.project(self.velocity, self.density, ratio, welling)
            if attempts[-1].broke_down:
                last, too = attempts[-1], " too" if len(attempts) > 1 else ""
                raise SimulationError(
                    f"step {self.step_count}: the pressure solve ended as '{last.outcome.value}' with "
                    f"{last.method}{too}; reset the scene, or lower the contrast"
                )
            outflow = self._largest_outflow(ratio)
            transport_steps, entered = self._transport(ratio, outflow)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
        except (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError) as error:
            for kept, field in zip(self._before, self._changing(), strict=True):
                field.copy_(kept)
            raise SimulationError(in_one_line(error), attempts) from error
        self._outflow = outflow
        self.entered += entered * self.spacing**2
        self._stirs.clear()
        self.time += time_step
        self.step_count += 1
        kinetic, potential, surface = self.energies()
        return StepReport(
            time_s=self.time,
            time_step_s=time_step,
            transport_steps=transport_steps,
            attempts=attempts,
            kinetic_energy=kinetic,
            potential_energy=potential,
            surface_energy=surface,
            divergence=self._loops.largest_difference(self.velocity, welling) / self.spacing,
            step_ms=1e3 * (time.perf_counter() - begin),
        )

    def _time_step(self) -> float:
        settings = self.settings
        limits = [settings.max_time_step]
        reach = settings.courant * self.spacing
        stirred = max((2.0 * math.hypot(stir[2], stir[3]) for stir in self._stirs), default=0.0)
        if self._outflow + stirred > 0.0:
            limits.append(reach / (self._outflow + stirred))
        if settings.gravity > 0.0:
            limits.append(math.sqrt(reach / settings.gravity))
        if settings.surface_tension > 0.0:  # the shortest capillary wave (Brackbill et al., 1992)
            inertia = 0.5 * (settings.contrast + 1.0) * self.spacing**3
            limits.append(math.sqrt(inertia / (2.0 * math.pi * settings.surface_tension)))
        viscosity = max(settings.heavy_viscosity, settings.light_viscosity)
        if viscosity > 0.0:
            limits.append(largest_diffusion() * self.spacing**2 / viscosity)
        return min(limits)

    def _apply_forces(self, time_step: float) -> None:
        settings = self.settings
        for stir in self._stirs:
            self._loops.add_stir(self.velocity, *stir)
        viscosity = max(settings.heavy_viscosity, settings.light_viscosity)
        ratio = time_step / self.spacing**2
        if viscosity > 0.0:
            self._loops.hold = tuple(float(wall not in settings.slip_walls) for wall in WALLS)
            dynamic = settings.heavy_viscosity * settings.contrast, settings.light_viscosity
            for *weights, share in viscous_weights(ratio * viscosity):
                fields = self.velocity, self._moved, self.density, self.phase
                self._loops.viscous_stage(*fields, *dynamic, *weights, share * ratio)
                self.velocity, self._moved = self._moved, self.velocity
        # after viscosity, which would take from these forces what the pressure is to balance
        self.velocity[1].sub_(self._loops.open_faces[1], alpha=time_step * settings.gravity)
        if settings.surface_tension > 0.0:
            impulse = ratio * settings.surface_tension
            self._loops.contact.meet(settings.contact_angle)
            self._loops.add_surface_tension(self.velocity, self.phase, self.density, impulse)

    def _largest_outflow(self, ratio: float) -> float:
        """Of the projected velocity. Raises SimulationError when the flow is too fast, or not finite."""
        outflow = self._loops.largest_outflow(self.velocity)
        if not math.isfinite(outflow):
            raise SimulationError(f"step {self.step_count}: the velocity is not finite; reset the scene")
        if outflow * ratio > MAX_TRANSPORT_STEPS * TRANSPORT_COURANT:
            raise SimulationError(
                f"step {self.step_count}: the flow crosses {outflow * ratio:.0f} cells in one step; "
                "reset the scene, or stir more slowly"
            )
        return outflow

    def _transport(self, ratio: float, outflow: float) -> tuple[int, float]:
        """Carry phase and momentum with the projected velocity, in as many equal steps as its Courant number
        asks for; returns their number, and the heavy fluid that came in through the box's sides, in cells.
        """
        steps = max(1, math.ceil(outflow * ratio / TRANSPORT_COURANT - 1e-9))
        began = self._before[3]  # the momentum before this step's forces and projection
        fields, kick = (self.velocity, began, self.density, self.phase), 0.0 if self._stirs else 0.5
        carried, target, spare = self.velocity, self._moved, self._spare
        sources, heavy, entered = self.sources, self._contrast, []
        for sweep in range(2 * steps):
            along = (self.step_count + sweep + sweep // 2) % 2  # in turns, which makes a pair second order
            first = sweep % 2 == 0
            if sources.active and first:
                sources.begin_transport(self.phase, ratio * self.spacing / steps)
            through = self._loops.transport_phase(self.phase, self.velocity, ratio / steps, along, first)
            entered.append(through)
            if sources.active and not first:
                sources.settle(self.phase, self.velocity, self._loops, ratio / steps, sum(entered[-2:]))
                sources.add_mass(self.density, heavy)
            self._loops.transport_momentum(carried, *fields, target, heavy, kick, ratio / steps, along)
            if sources.active and not first:
                sources.slow(target, self.density, heavy)
            carried, target, spare = target, spare, target
        self._moved, self._spare = carried, target
        return steps, float(sum(entered))

    def stir(self, x: float, y: float, velocity_x: float, velocity_y: float, radius: float) -> None:
        """Pull the fluid in a disc towards a velocity in the next step; metres and m/s. Raises UsageError for
        what is not finite.
        """
        _check_finite("stir", x, y, velocity_x, velocity_y, radius)
        h = self.spacing
        self._stirs.append((x / h, y / h, velocity_x, velocity_y, max(radius / h, 1.0)))

    def paint(
        self,
        x: float,
        y: float,
        radius: float,
        what: str,
        to_x: float | None = None,
        to_y: float | None = None,
    ) -> None:
        """Turn a disc (metres) into one of PAINTS, or all that it sweeps on its way to (to_x, to_y); "erase"
        turns solids back into light fluid at rest and removes sources and drains.

        Raises UsageError for another name, and for what is not finite.
        """
        to_x, to_y = x if to_x is None else to_x, y if to_y is None else to_y
        _check_finite("paint", x, y, radius, to_x, to_y)
        if what not in PAINTS:
            raise UsageError(f"paint: {what!r} is not one of {', '.join(PAINTS)}")
        across, along = self._centres(0)[:, None] - x, self._centres(1) - y
        way_x, way_y = to_x - x, to_y - y
        way = way_x**2 + way_y**2
        if way > 0.0:  # from the nearest place on the way
            share = ((across * way_x + along * way_y) / way).clamp_(0.0, 1.0)
            across, along = across - share * way_x, along - share * way_y
        disc = across**2 + along**2 < max(radius, 0.5 * self.spacing) ** 2  # (nx, ny)
        if what == "erase":
            self.sources.kind[disc] = 0
            self.sources.changed()
        if what in ("solid", "erase"):
            before = self.solid.clone()
            self.solid[disc] = int(what == "solid")
            changed = self.solid != before
            if not changed.any():
                return
            if not (self.solid == 0).any():
                self.solid.copy_(before)
                return
            self.phase[changed] = 0.0
            self._follow_solid(changed)
        else:
            disc &= self.solid == 0
            if what in KINDS:
                self.sources.kind[disc] = 1 + KINDS.index(what)
                self.sources.changed()
            if what != "drain":
                self.phase[disc] = float(what.startswith("heavy"))
        self._renew_density()

    def drag(
        self, x: float, y: float, to_x: float, to_y: float, seconds: float
    ) -> tuple[float, float] | None:
        """Move the obstacle at (x, y), in metres, by whole cells until that point is as near to (to_x, to_y)
        as walls and other solids let it; where the point is then, or None where nothing is solid.

        The fluid around it takes its speed, over ``seconds``, up to FASTEST_PUSH. Raises UsageError for what
        is not finite.
        """
        _check_finite("drag", x, y, to_x, to_y, seconds)
        places = (x, y), (to_x, to_y)
        cell, goal = (
            tuple(
                min(max(math.floor(at / self.spacing), 0), n - 1)
                for at, n in zip(place, self.shape, strict=True)
            )
            for place in places
        )
        solid, phase = self.solid.bool().cpu().numpy(), self.phase.cpu().numpy().copy()
        if not solid[cell]:
            return None
        body = obstacles.body_at(solid, cell)
        *moved, body = obstacles.move(solid, phase, body, (goal[0] - cell[0], goal[1] - cell[1]))
        if any(moved):
            new = torch.from_numpy(solid).to(self.device)
            changed = new != self.solid.bool()
            self.solid.copy_(new)
            self.phase.copy_(torch.from_numpy(phase))
            self._follow_solid(changed)
            self._push(obstacles.around(body, obstacles.PUSHED), moved, seconds)
            self._renew_density()
        return tuple((i + n + 0.5) * self.spacing for i, n in zip(cell, moved, strict=True))

    def _push(self, near: np.ndarray, moved: list[int], seconds: float) -> None:
        """Give the open faces of the cells ``near``, bool (nx, ny), the speed of what ``moved`` so far."""
        distance = math.hypot(*moved) * self.spacing
        speed = min(distance / max(seconds, 1e-3), FASTEST_PUSH * max(self.domain))
        touched = torch.zeros_like(self._moved[0], dtype=torch.bool)
        touched[:-1, :-1] = torch.from_numpy(near).to(self.device)
        for d, cells in enumerate(moved):
            here = (touched | touched.roll(1, d)) & (self._loops.open_faces[d] > 0.0)
            self._moved[d][here] = cells * self.spacing / distance * speed
        self._outflow = max(self._outflow, 2.0 * speed)  # the next time step must resolve it

    def _follow_solid(self, changed: torch.Tensor) -> None:
        """Notice that the solids are others in the cells ``changed``, bool (nx, ny)."""
        self._loops.follow_solid()
        self._moved.mul_(self._loops.open_faces)
        self.projection.operator.set_solid(self.solid.bool())
        self.projection.pressure[changed] = 0.0
        self._impose_walls()

    def _centres(self, axis: int) -> torch.Tensor:
        """The cells' centres along an axis, in m."""
        return (torch.arange(self.shape[axis], device=self.device) + 0.5) * self.spacing

    def _pressure(self) -> torch.Tensor:
        return self.projection.pressure

    def _source_kinds(self) -> torch.Tensor:
        return self.sources.kind

    def state(self) -> State:
        """A copy of all that the next step depends on, but for what the pressure solve remembers."""
        stirs = torch.tensor(self._stirs, dtype=torch.float64).reshape(-1, 5)
        clock = torch.tensor([self.time, self._outflow, self.step_count], dtype=torch.float64)
        kept = (
            *(self.phase, self.projection.pressure, self.solid, self.sources.kind),
            *(self.velocity, self._moved),
        )
        return State(*(tensor.to("cpu", copy=True) for tensor in kept), stirs, clock)

    def restore(self, state: State) -> None:
        """Go back to a `state` on this grid; the preconditioner is set up anew. Raises UsageError for a state
        on another grid.
        """
        if state.shape != self.shape:
            raise UsageError(f"state: is of {state.shape} cells, and the grid has {self.shape}")
        self.phase.copy_(state.phase)
        self.solid.copy_(state.solid)
        self.sources.kind.copy_(state.sources)
        self.sources.changed()
        self.velocity.copy_(state.velocity)
        self._moved.copy_(state.moved)
        self._stirs = [tuple(stir) for stir in state.stirs.tolist()]
        self.time, self._outflow, steps = state.clock.tolist()
        self.step_count = int(steps)
        self._loops.follow_solid()
        self.projection.reset(self.solid)
        self.projection.pressure.copy_(state.pressure)
        self._impose_walls()
        self._renew_density()

    def phase_volume(self) -> float:
        """Area of the heavy fluid in m^2."""
        return float(self.phase.sum()) * self.spacing**2

    def heavy_height(self) -> float:
        """Height of the heavy fluid's centre above the floor, in m; not a number when there is none."""
        return float((self.phase * self._centres(1)).sum() / self.phase.sum())

    def energies(self) -> tuple[float, float, float]:
        """Kinetic energy, potential energy above the floor and the interface's energy, in J per metre of
        depth, of the state that the next step starts from. Contact angles other than 90 degrees add to the
        last one what it costs to have the heavy fluid at walls instead of the light one, by Young's equation.

        Kinetic energy lives on faces with the mean density of their cells, as momentum does; solids count
        nothing.
        """
        kinetic, potential = self._loops.energy(self._moved, self.density)
        area, tension = self.spacing**2, self.settings.surface_tension
        surface = tension * self.interface_length() if tension > 0.0 else 0.0
        angle = self.settings.contact_angle
        if tension > 0.0 and angle != 90.0:
            wetted = self._loops.contact.wetted(self.phase) * self.spacing
            surface -= tension * math.cos(math.radians(angle)) * wetted
        return kinetic * area, self.settings.gravity * potential * self.spacing * area, surface

    def total_energy(self) -> float:
        """Kinetic and potential energy of `energies`."""
        return sum(self.energies()[:2])

    def interface_length(self) -> float:
        """Length of the interface, in m."""
        self._loops.contact.meet(self.settings.contact_angle)
        return self._loops.interface_length(self.phase) * self.spacing

    def max_speed(self) -> float:
        """Largest face velocity of the projected velocity, in m/s."""
        return float(self.velocity.abs().max())


def _usable(device: str) -> torch.device:
    """``device`` ("cpu" or "cuda"). Raises SettingsError when CUDA is asked for and not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: cuda was asked for, but torch finds no CUDA device; use --device cpu")
    return torch.device(device)


def _loops(solid: torch.Tensor, walls: Walls | None) -> Any:
    """The loops of the device on which ``solid`` lies; Taichi is loaded for CUDA alone."""
    if solid.device.type == "cpu":
        return HostLoops(solid, walls)
    from sim.device.loops import DeviceLoops

    return DeviceLoops(solid, walls)


def _check_finite(what: str, *numbers: float) -> None:
    if not all(map(math.isfinite, numbers)):
        raise UsageError(
            f"{what}: {', '.join(f'{number:g}' for number in numbers)} are not all finite numbers"
        )
