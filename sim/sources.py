"""Sources and drains: cells in which fluid wells up at rest, or leaves with what flows through it.

What sources bring in, drains take out, in every connected part of the fluid: the smaller side gives the
volume, the larger one shares it. A part with only one of the two stays closed, or no pressure could exist.
Where a part reaches an opening of the box, every source and drain has its full rate. Everything here is torch
on whole fields, for a CPU and CUDA alike, and nothing of it runs without a source.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond import PoissonOperator

KINDS = ("heavy source", "light source", "drain")


class Sources:
    """Sources and drains of one grid.

    Attributes: kind (nx, ny) uint8, 0 or 1 + the index in KINDS, painted by others; solids stop it up while
    they cover it. source (nx, ny) float64 in 1/s: the volume that wells up per volume and time, negative
    where it leaves, of sum zero over every connected part of the fluid without an opening.
    """

    def __init__(self, like: Tensor) -> None:
        """None at first, on the grid and the device of ``like`` (nx, ny) float64."""
        self.kind = torch.zeros_like(like, dtype=torch.uint8)
        self.source = torch.zeros_like(like)
        self.active = False  # anything flows
        self._made_for: tuple[int, float] | None = None
        self._welled, self._left, self._before = (torch.zeros_like(like) for _ in range(3))

    def changed(self) -> None:
        """Notice that ``kind`` was painted."""
        self._made_for = None

    def follow(self, operator: PoissonOperator, rate: float) -> None:
        """Balance ``source`` anew where solids, ``kind`` or ``rate``, the most per cell in 1/s, changed."""
        if self._made_for == (operator.geometry_version, rate):
            return
        self._made_for = operator.geometry_version, rate
        self.source.zero_()
        self.active = False
        kind = self.kind.cpu().numpy()
        if not kind.any():
            return
        parts, fluid = operator.labels, operator.labels >= 0
        draining = fluid & (kind == len(KINDS))
        welling = fluid & (kind > 0) & ~draining
        cells = [np.bincount(parts[where], minlength=operator.components) for where in (welling, draining)]
        least = np.where(operator.sealed, np.minimum(*cells), np.inf)
        source = np.zeros(kind.shape)
        for where, sign, count in zip((welling, draining), (1.0, -1.0), cells, strict=True):
            volume = rate * np.minimum(count, least)  # of every part, in cells per second
            source[where] = sign * volume[parts[where]] / count[parts[where]]
        self.source.copy_(torch.from_numpy(source))
        self.active = bool(source.any())

    def begin_transport(self, phase: Tensor, time_step: float) -> None:
        """Keep ``phase`` (nx, ny) as it is before a transport step of ``time_step`` seconds."""
        self._before.copy_(phase)
        torch.clamp(self.source, min=0.0, out=self._welled).mul_(time_step)
        torch.clamp(self.source, max=0.0, out=self._left).mul_(-time_step)

    def settle(
        self, phase: Tensor, velocity: Tensor, loops: Any, ratio: float, entered: float | Tensor
    ) -> None:
        """Set ``phase`` to what the fluxes of ``loops`` make of it with the sources' share; ``entered``, in
        cells, is what came in through the sides of the box.

        A drain takes the mixture that flowed in. What a solver's tolerance leaves of the divergence goes back
        to the interface, as in transport_phase, which counts a source as an error of that kind.
        """
        heavy = self._before - loops.net_outflow(loops.heavy_flux, torch.empty_like(phase))
        gained = loops.net_outflow(velocity, torch.empty_like(phase)).mul_(-ratio)  # volume that flowed in
        brought = self._welled * (self.kind == 1)
        heavy.sub_((gained + self._welled - self._left) * (self._before > 0.5)).add_(brought)
        new = heavy / (1.0 + self._left)
        expected = float(self._before.sum() + brought.sum() - (heavy - new).sum() + entered)
        new.clamp_(0.0, 1.0)
        after, shares = float(new.sum()), (new * (1.0 - new), 1.0 - new, new)  # of all that cells can take
        missing = expected - after
        fits = float(shares[0].sum()) > abs(missing)
        share = shares[0 if fits else 1 if missing > 0.0 else 2] * (loops.solid == 0)
        new.add_(share, alpha=missing / max(float(share.sum()), 1e-300)).clamp_(0.0, 1.0)
        phase.copy_(new)

    def add_mass(self, density: Tensor, heavy: float) -> None:
        """Add to ``density`` (nx, ny), kg/m^3, what wells up in this transport step."""
        density.addcmul_(self._welled, 1.0 + (heavy - 1.0) * (self.kind == 1))

    def slow(self, velocity: Tensor, density: Tensor, heavy: float) -> None:
        """Take from ``velocity`` (2, nx+1, ny+1) the momentum of what welled up, which was at rest.

        ``density`` (nx, ny) is the one after the transport, ``heavy`` the heavy phase's.
        """
        mass = self._welled * (1.0 + (heavy - 1.0) * (self.kind == 1))
        across = 1.0 - (mass[1:] + mass[:-1]) / (density[1:] + density[:-1])
        along = 1.0 - (mass[:, 1:] + mass[:, :-1]) / (density[:, 1:] + density[:, :-1])
        velocity[0, 1:-1, :-1].mul_(across.clamp_(min=0.0))
        velocity[1, :-1, 1:-1].mul_(along.clamp_(min=0.0))
