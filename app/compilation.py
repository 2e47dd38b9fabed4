"""The loops of the CPU compiled ahead: about half a minute on a new machine, then they lie on the disk. The
compiler takes one function at a time, so a second process does a part: `python -m app.compilation NAME`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import torch

from app.environment import cores, is_program
from app.picture import Tracers, View, draw
from precond import PCG, PoissonOperator, PreconditionerError, make_preconditioner
from precond.auto import CANDIDATES, Auto
from precond.host.compiled import being_compiled, compiled_anew
from sim.host.interface import strip_fraction
from sim.host.loops import HostLoops
from sim.walls import Walls, read_walls

SHAPE = (16, 8)
STARTED_AGAIN = "HTP_FLUID_STARTED_AGAIN"  # in the environment of a program that has begun anew
NOTE = "compiling for this machine, once"


class Compilation:
    """Compiles, in a thread, what a picture and then a step with ``preconditioner`` may need on a CPU, then
    what those of ``later`` need. `stop` it before the program ends: a thread that is cut off while it
    compiles brings all down.
    """

    def __init__(self, preconditioner: str, later: tuple[str, ...] = ()):
        self._first = preconditioner
        if preconditioner.partition(":")[0] == Auto.name:  # which makes do with one method at first
            self._first, *others = CANDIDATES
            later = (*others, *later)
        self._later = later
        being_compiled.update(later)
        self._ready, self._drawn, self._stopped = (threading.Event() for _ in range(3))
        self._other: subprocess.Popen | None = None
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether a step can be taken without a wait."""
        return self._ready.is_set()

    @property
    def done(self) -> bool:
        """Whether nothing is left to compile."""
        return not self._thread.is_alive()

    @property
    def can_draw(self) -> bool:
        """Whether a picture can be drawn without a wait."""
        return self._drawn.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Until all is compiled, or so long; returns whether a step can be taken."""
        self._thread.join(seconds)
        return self.ready

    def stop(self) -> None:
        """Leave out what is not compiled yet; returns when the part under way is done: seconds."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            for _ in self._parts():
                if self._stopped.is_set():
                    return
        finally:
            if self._other is not None:
                self._other.kill()
                self._other.wait()
            being_compiled.difference_update(self._later)
            self._drawn.set()
            self._ready.set()

    def _parts(self) -> Iterator[None]:
        strip_fraction(1.0, 1.0, 1.0)  # small: is the disk empty?
        if compiled_anew() and cores() > 1:
            nothing = subprocess.DEVNULL
            command = [sys.executable, "-m", __name__, self._first]
            self._other = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
        yield from drawing()
        self._drawn.set()
        yield from stepping()
        yield from solving(self._first)
        self._ready.set()
        for name in self._later:
            yield from solving(name)
            being_compiled.discard(name)


def start_again_if_compiled() -> None:
    """Begin the program anew, once, where it has compiled something: code fresh from the compiler may round
    otherwise than the same code from the disk, and a run repeated is to be the same to the bit.
    """
    again = is_program() and os.name == "posix" and STARTED_AGAIN not in os.environ
    if again and compiled_anew():
        os.environ[STARTED_AGAIN] = "1"
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def drawing() -> Iterator[None]:
    """Draw one picture with all that can be in it, and one with less."""
    phase, solid = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool)
    phase[:4], solid[8:10, 3:5] = 1.0, True
    still = SimpleNamespace(
        field=lambda _: phase.copy(),
        phase_fraction=phase.copy,
        solid_mask=lambda: solid,
        velocity=torch.zeros(2, SHAPE[0] + 1, SHAPE[1] + 1, dtype=torch.float64),
        shape=SHAPE,
        spacing=1.0,
        time=0.0,
        settings=SimpleNamespace(contrast=10.0),
    )
    tracers = Tracers()
    tracers.follow(still, solid)
    still.time = 1.0
    draw(still, View(), (64, 32), tracers)
    yield


def stepping(backwards: bool = False) -> Iterator[None]:
    """Call every loop of the simulation once."""
    nx, ny = SHAPE
    loops = HostLoops(torch.zeros(SHAPE, dtype=torch.uint8), Walls(read_walls({"top": "open"}), SHAPE))
    phase, density = torch.zeros(2, nx, ny, dtype=torch.float64)
    velocity, moved = torch.zeros(2, 2, nx + 1, ny + 1, dtype=torch.float64)
    density += 1.0
    operator = PoissonOperator.from_density(density)
    flow = velocity, velocity, velocity, density, phase
    calls: list[Callable[[], object]] = [
        lambda: loops.renew_density(phase, 2.0, density),
        lambda: loops.add_stir(velocity, 1.0, 1.0, 0.0, 0.0, 1.0),
        lambda: loops.net_outflow(velocity, torch.zeros_like(phase)),
        lambda: loops.largest_outflow(velocity),
        lambda: loops.largest_difference(velocity, None),
        lambda: loops.energy(velocity, density),
        lambda: loops.subtract_gradient(velocity, phase, operator, 1.0),
        lambda: loops.viscous_stage(velocity, moved, density, phase, 1.0, 1.0, 1.0, 0.0, 0.1),
        lambda: loops.add_surface_tension(velocity, phase, density, 1.0),
        lambda: loops.transport_phase(phase, velocity, 0.1, 0, True),
        lambda: loops.transport_momentum(*flow, moved, 1.0, 0.5, 0.1, 0),
    ]
    for call in reversed(calls) if backwards else calls:
        call()
        yield


def solving(name: str) -> Iterator[None]:
    """Set the preconditioner up, update it and solve with it."""
    operator = PoissonOperator.from_density(torch.ones(SHAPE, dtype=torch.float64))
    with contextlib.suppress(PreconditionerError):  # who chooses it is told
        preconditioner = make_preconditioner(name, operator)
        preconditioner.setup()
        yield
        operator.update(1.0 + torch.arange(operator.density.numel()).view(SHAPE) % 3)
        preconditioner.update()
        yield
        b = torch.zeros(SHAPE, dtype=torch.float64)
        b[0], b[-1] = 1.0, -1.0
        PCG(operator, preconditioner).solve(b)
        yield


if __name__ == "__main__":
    for parts in (solving(sys.argv[1]), stepping(backwards=True)):
        for _ in parts:
            pass
