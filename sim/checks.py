"""What must hold of a simulation at its scene's end."""

from __future__ import annotations

from dataclasses import dataclass

from sim.simulation import Simulation


@dataclass(frozen=True)
class SceneStart:
    """What the checks compare with: volume in m^2, less what entered, and energy in J/m of the initial
    state."""

    volume: float
    energy: float

    @classmethod
    def of(cls, simulation: Simulation) -> SceneStart:
        """Of ``simulation`` as it is."""
        return cls(simulation.phase_volume() - simulation.entered, simulation.total_energy())


def failures(simulation: Simulation, start: SceneStart) -> list[str]:
    """What does not hold of the scene's ``expect``, in words; empty when all of it does."""
    width, height = simulation.domain
    phase = simulation.phase.cpu().numpy()
    settings = simulation.settings
    potential = settings.gravity * height**2 * width * settings.contrast
    measured = {
        "volume_drift": abs(simulation.phase_volume() - simulation.entered - start.volume)
        / max(start.volume, simulation.spacing**2),
        "speed": simulation.max_speed(),
        "heavy_height": simulation.heavy_height() / height,
        "asymmetry": float(abs(phase - phase[::-1]).max()),
        "energy_gain": (simulation.total_energy() - start.energy) / (potential or start.energy or 1.0),
    }
    failed = []
    for name, bound in simulation.scene.expect.model_dump(exclude_unset=True).items():
        quantity, side = name.rsplit("_", 1)
        value = measured[quantity]
        if not (value < bound if side == "below" else value > bound):
            failed.append(f"{simulation.scene.name}: {quantity} is {value:.6g}, expected {side} {bound:g}")
    return failed
