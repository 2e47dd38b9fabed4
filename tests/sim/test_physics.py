"""What the flow must do: rest, grow at the known rate, keep volume and symmetry, never gain energy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sim.host.loops import HostLoops
from sim.scenes import Scene
from sim.simulation import Simulation
from sim.viscosity import viscous_weights

Maker = Callable[..., Simulation]


def box(height: float, *shapes: dict[str, object]) -> Scene:
    """A scene of light fluid with the given shapes."""
    return Scene("box", "box", "", height, 1.0, {}, "light", list(shapes), {"speed_below": 1e9})


def test_a_heavy_layer_under_a_light_one_stays_at_rest(make_simulation: Maker) -> None:
    pool = box(1.0, {"shape": "rectangle", "from": [0, 0], "to": [1, 0.52]})
    simulation = make_simulation(pool, grid=(24, 24), contrast=1000, rtol=1e-10)
    fastest = 0.0
    for _ in range(500):
        simulation.step()
        fastest = max(fastest, simulation.max_speed())
    assert fastest < 1e-6 * np.sqrt(9.81 * 1.0)


@pytest.mark.parametrize("contrast", [3.0, 10.0])
def test_rayleigh_taylor_growth_rate(make_simulation: Maker, contrast: float) -> None:
    """Linear theory, two inviscid layers of depth H/2: s^2 = A g k tanh(k H/2); the wave starts at rest as
    cosh(s t).
    """
    wave = box(2.0, {"shape": "layer", "bottom": 0.5, "amplitude": 0.0025, "waves": 1})
    simulation = make_simulation(
        wave,
        grid=(32, 64),
        contrast=contrast,
        rtol=1e-8,
        heavy_viscosity=0.0,
        light_viscosity=0.0,
        max_time_step=2e-3,
    )
    mode = np.cos(2.0 * np.pi * (np.arange(32) + 0.5) / 32)

    def amplitude() -> float:
        heights = (1.0 - simulation.phase.numpy()).sum(axis=1) * simulation.spacing
        return float(2.0 / 32 * (mode * heights).sum())

    atwood, k = (contrast - 1.0) / (contrast + 1.0), 2.0 * np.pi
    theory = np.sqrt(atwood * 9.81 * k * np.tanh(k))
    initial = amplitude()
    while simulation.time < 1.8 / theory:
        simulation.step()
    assert np.arccosh(amplitude() / initial) / simulation.time == pytest.approx(theory, rel=0.10)


@pytest.mark.parametrize("contrast", [1.0, 2.0, 100.0, 10_000.0])
def test_transport_and_projection_never_add_kinetic_energy(make_simulation: Maker, contrast: float) -> None:
    settings = {"grid": (32, 32), "contrast": contrast, "rtol": 1e-11, "gravity": 0.0}
    simulation = make_simulation("falling-drop", **settings, heavy_viscosity=0.0, light_viscosity=0.0)
    simulation.stir(0.4, 0.7, 1.0, -2.0, 0.3)
    simulation.stir(0.6, 0.3, -1.0, 1.0, 0.2)
    simulation.step()
    energies = [simulation.total_energy()]
    for _ in range(150):
        simulation.step()
        energies.append(simulation.total_energy())
    assert np.diff(energies).max() < 0.0
    assert energies[-1] > 0.2 * energies[0]


@pytest.mark.parametrize("contrast", [2.0, 100.0, 10_000.0])
def test_energy_never_grows_without_forcing(make_simulation: Maker, contrast: float) -> None:
    """Gravity's work is done on mean face densities, the potential energy moves with the interface's own
    fluxes: while an interface crosses a row of faces the two differ, by less than 3e-4 of the total and never
    in the long run.
    """
    simulation = make_simulation("dam-break", grid=(48, 24), contrast=contrast, rtol=1e-9)
    energies = [simulation.total_energy()]
    while simulation.time < 1.0:
        simulation.step()
        energies.append(simulation.total_energy())
    assert max(energies) == energies[0]
    lowest_before = np.minimum.accumulate(energies)
    assert (np.array(energies) - lowest_before).max() < 3e-4 * energies[0]
    assert energies[-1] < 0.995 * energies[0]


def test_energy_at_the_default_tolerance(make_simulation: Maker) -> None:
    simulation = make_simulation("dam-break", grid=(64, 32), preconditioner="multigrid")
    energies = [simulation.total_energy()]
    while simulation.time < 4.0:
        simulation.step()
        energies.append(simulation.total_energy())
    assert (np.array(energies) - np.minimum.accumulate(energies)).max() < 3e-4 * energies[0]
    assert energies[-1] < 0.8 * energies[0]


def test_phase_volume_over_two_thousand_steps(make_simulation: Maker) -> None:
    simulation = make_simulation(
        "dam-break", grid=(32, 16), contrast=100, rtol=1e-3, preconditioner="multigrid"
    )
    volume = simulation.phase_volume()
    for _ in range(2000):
        simulation.step()
    assert simulation.phase_volume() == pytest.approx(volume, rel=1e-6)
    assert 0.0 <= simulation.phase.min() <= simulation.phase.max() <= 1.0
    mixed = ((simulation.phase > 0.05) & (simulation.phase < 0.95)).double().mean()
    assert mixed < 0.25  # the two phases are still apart


def test_a_symmetric_scene_stays_symmetric(make_simulation: Maker) -> None:
    drop = box(
        1.0,
        {"shape": "rectangle", "from": [0, 0], "to": [1, 0.3]},
        {"shape": "disc", "centre": [0.5, 0.6], "radius": 0.15},
    )
    simulation = make_simulation(drop, grid=(32, 32), contrast=100, rtol=1e-12)
    while simulation.time < 0.35:
        simulation.step()
    assert simulation.max_speed() > 1.0
    u, v = simulation.velocity[0, :, :-1], simulation.velocity[1, :-1, :]
    assert (simulation.phase - simulation.phase.flip(0)).abs().max() < 1e-5
    assert (u + u.flip(0)).abs().max() < 1e-4
    assert (v - v.flip(0)).abs().max() < 1e-4


@pytest.mark.parametrize("rtol", [1e-4, 1e-9])
def test_the_divergence_is_at_the_solvers_tolerance(make_simulation: Maker, rtol: float) -> None:
    simulation = make_simulation("falling-drop", grid=(32, 32), rtol=rtol)
    for _ in range(20):
        report = simulation.step()
        ratio = report.time_step_s / simulation.spacing
        # A p - b is the remaining outflow over the ratio, and its norm is bounded by rtol times that of b
        remaining = np.linalg.norm(simulation.field("divergence").astype(float)) * simulation.spacing / ratio
        bound = rtol * float(simulation.pressure_system().right_hand_side.norm())
        assert remaining <= 1.01 * bound + 1e-6 * rtol
        assert report.solve.converged


def test_viscosity_damps_a_shear_wave_at_the_known_rate() -> None:
    """u = sin(pi y / H) between walls that do not slip decays as exp(-nu pi^2 t / H^2); checked far from the
    side walls.
    """
    n, length, viscosity, time = 32, 192, 1.0, 40.0  # in cells and steps
    y = torch.arange(n, dtype=torch.float64) + 0.5
    current = torch.zeros(2, length + 1, n + 1, dtype=torch.float64)
    current[0, :, :-1] = torch.sin(torch.pi * y / n)
    solid = torch.zeros(length, n, dtype=torch.uint8)
    loops = HostLoops(solid)
    current *= loops.open_faces
    before = current[0, length // 2, n // 2].clone()
    previous = torch.zeros_like(current)
    density, phase = (
        torch.full((length, n), 5.0, dtype=torch.float64),
        torch.ones(length, n, dtype=torch.float64),
    )
    steps = 4
    for _ in range(steps):
        weights = viscous_weights(time / steps * viscosity)
        assert len(weights) > 10  # a super time step: an explicit one of this size would blow up
        for weight_current, weight_previous, share in weights:
            numbers = (5.0 * viscosity, 0.1, weight_current, weight_previous, share * time / steps)
            loops.viscous_stage(current, previous, density, phase, *numbers)
            current, previous = previous, current
    expected = np.exp(-viscosity * (np.pi / n) ** 2 * time)
    assert expected < 0.7
    assert float(current[0, length // 2, n // 2] / before) == pytest.approx(expected, rel=0.01)


def test_viscosity_takes_energy_at_high_contrast(make_simulation: Maker) -> None:
    settings = {
        "grid": (32, 32),
        "contrast": 10_000,
        "gravity": 0.0,
        "heavy_viscosity": 0.01,
        "light_viscosity": 0.01,
    }
    simulation = make_simulation("falling-drop", **settings)
    simulation.stir(0.5, 0.75, 1.0, 0.5, 0.3)
    simulation.step()
    energies = [simulation.total_energy()]
    for _ in range(60):
        simulation.step()
        energies.append(simulation.total_energy())
    assert energies[0] > 0.0
    assert np.diff(energies).max() <= 0.0
    assert energies[-1] < 0.9 * energies[0]
