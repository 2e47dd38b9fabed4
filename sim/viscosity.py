"""How an explicit scheme takes viscosity at any contrast: the stages of a super time step."""

from __future__ import annotations

import math

STABLE_DIFFUSION = 0.05  # time step * viscosity / spacing^2 that one explicit stage bears at any contrast
MAX_STAGES = 24


def viscous_weights(diffusion: float) -> list[tuple[float, float, float]]:
    """Weights (current, previous, share of the time step) of each stage of a super time step.

    ``diffusion`` is time step * largest kinematic viscosity / spacing^2. First-order Runge-Kutta-Legendre
    (Meyer, Balsara, Aslam, Mon. Not. R. Astron. Soc. 422, 2012): s stages bear (s^2 + s) / 2 explicit steps,
    and its stability polynomial stays within [-1, 1], so viscosity never adds energy.
    """
    stages = max(1, math.ceil(0.5 * (math.sqrt(1.0 + 8.0 * diffusion / STABLE_DIFFUSION) - 1.0)))
    first = 2.0 / (stages**2 + stages)
    weights = [(1.0, 0.0, first)]
    weights += [((2 * k - 1) / k, (1 - k) / k, (2 * k - 1) / k * first) for k in range(2, stages + 1)]
    return weights


def largest_diffusion() -> float:
    """The diffusion number that MAX_STAGES bear; the time step is limited to it."""
    return STABLE_DIFFUSION * (MAX_STAGES**2 + MAX_STAGES) / 2
