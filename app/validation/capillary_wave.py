"""A capillary wave against Prosperetti's solution."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import wofz

from app.validation.case import Case, simulation, under
from sim.settings import WALLS


class CapillaryWave(Case):
    """Half a wave of length 1 and amplitude 0.01 in the middle of a box 0.5 wide and 2 high whose walls slip,
    both fluids alike, surface tension and density 1; the amplitude until t = 2.2426, as root mean square of
    what it is off over the start's.
    """

    axes = ("t", "amplitude")

    def run(self) -> None:
        for cells, bound in self.setup["error"].items():
            curve = self._amplitudes(cells)
            times, found = (np.array(part) for part in zip(*curve, strict=True))
            exact = prosperetti(times, self.known["viscosity"], 0.01)
            error = float(np.sqrt(np.mean((found - exact) ** 2))) / 0.01
            self.at_most(f"relative RMS, {cells} cells a wave", error, bound)
            marked = slice(None, None, max(1, len(times) // 40))
            points = dict(zip(times[marked].tolist(), exact[marked].tolist(), strict=True))
            self.draw(f"{cells} cells a wave", curve, points)

    def _amplitudes(self, cells: int) -> list[tuple[float, float]]:
        grid = (cells // 2, 2 * cells)
        flow = simulation(
            grid,
            2.0,
            under(grid, lambda x: 0.5 + 0.005 * np.cos(4.0 * np.pi * x)),
            contrast=1.0,
            gravity=0.0,
            surface_tension=1.0,
            heavy_viscosity=self.known["viscosity"],
            light_viscosity=self.known["viscosity"],
            slip_walls=WALLS,
            rtol=1e-9,
        )
        x = (np.arange(grid[0]) + 0.5) / cells
        mode = 2.0 / grid[0] * np.cos(2.0 * np.pi * x) / np.sinc(1.0 / cells)  # of means over cells
        curve = []
        while not curve or flow.time < 2.2426:
            heights = flow.phase.numpy().sum(axis=1) * flow.spacing
            curve.append((flow.time, float(mode @ heights)))
            flow.step()
        return curve


def prosperetti(times: np.ndarray, viscosity: float, amplitude: float) -> np.ndarray:
    """Amplitude at ``times`` of a wave of length 1 between two deep fluids of equal density 1 and viscosity,
    surface tension 1 (Prosperetti, Phys. Fluids 24, 1981, with beta = 1 / 4).
    """
    k = 2.0 * math.pi
    damping, frequency = viscosity * k**2, math.sqrt(0.5 * k**3)  # rates
    roots = np.roots([1.0, -math.sqrt(damping), -damping, damping**1.5, frequency**2]).astype(complex)
    total = np.zeros(len(times), dtype=complex)
    for number, root in enumerate(roots):
        others = np.prod(np.delete(roots, number) - root)
        share = root / others * frequency**2 / (root**2 - damping)
        # exp(z^2 t) erfc(z sqrt(t)) without overflow
        total += share * np.exp(-damping * times) * wofz(1j * root * np.sqrt(times))
    return amplitude * total.real
