"""The simulation as the app uses it: live changes, painting, stirring, solids, fallback, repeatability."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

from precond import Outcome, PreconditionerError, available_preconditioners
from precond.errors import UsageError
from sim import projection
from sim.device.loops import DeviceLoops
from sim.fields import FIELDS
from sim.settings import SimulationSettings
from sim.simulation import PAINTS, Simulation, SimulationError

Maker = Callable[..., Simulation]
SMALL = {"grid": (32, 16)}


def test_the_same_settings_give_the_same_flow_bit_for_bit(make_simulation: Maker) -> None:
    first, second = (make_simulation(**SMALL, preconditioner="coarse-learned") for _ in "ab")
    for _ in range(50):
        a, b = first.step(), second.step()
        assert (a.solve.iterations, a.time_step_s) == (b.solve.iterations, b.time_step_s)
    assert (first.phase == second.phase).all()
    assert (first.velocity == second.velocity).all()


def test_the_same_flow_in_taichi(make_simulation: Maker) -> None:
    """On the CPU, where the loops that run on CUDA are the reference of the compiled ones."""
    compiled, reference = make_simulation(**SMALL, rtol=1e-12), make_simulation(**SMALL, rtol=1e-12)
    reference._loops = reference.projection._loops = DeviceLoops(reference.solid)
    for _ in range(20):
        compiled.step()
        reference.step()
    torch.testing.assert_close(compiled.phase, reference.phase, rtol=0.0, atol=1e-7)
    torch.testing.assert_close(compiled.velocity, reference.velocity, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("tension", [0.0, 20.0])
@pytest.mark.parametrize("name", available_preconditioners())
def test_every_preconditioner_gives_the_same_flow(make_simulation: Maker, name: str, tension: float) -> None:
    """Without and with surface tension, then around a solid that the interface meets at 60 degrees."""
    settings = {**SMALL, "rtol": 1e-10, "surface_tension": tension, "contact_angle": 60.0}
    reference = make_simulation(**settings, preconditioner="direct")
    simulation = make_simulation(**settings, preconditioner=name)
    for flow in (reference, simulation):
        if tension:
            flow.paint(0.4, 0.5, 0.15, "solid")
    for _ in range(8):
        reference.step()
        report = simulation.step()
        assert report.solve.converged
        assert report.preconditioner == name
        assert not report.fallback
    assert (simulation.velocity - reference.velocity).abs().max() < 1e-6 * reference.max_speed()
    assert (simulation.phase - reference.phase).abs().max() < 1e-8


def test_preconditioner_and_contrast_change_live(make_simulation: Maker) -> None:
    simulation = make_simulation(**SMALL, preconditioner="multigrid")
    simulation.step()
    simulation.select_preconditioner("jacobi")
    simulation.settings.contrast = 10_000.0
    report = simulation.step()
    assert report.preconditioner == "jacobi"
    assert report.solve.converged
    assert simulation.field("density").max() == pytest.approx(10_000.0)
    with pytest.raises(PreconditionerError):
        simulation.select_preconditioner("magic")
    assert simulation.step().preconditioner == "jacobi"


def test_reset_returns_to_the_start(make_simulation: Maker) -> None:
    simulation = make_simulation(**SMALL)
    phase = simulation.phase.clone()
    simulation.paint(0.5, 0.5, 0.2, "solid")
    for _ in range(5):
        simulation.step()
    simulation.reset()
    assert (simulation.phase == phase).all()
    assert not simulation.solid_mask().any()
    assert simulation.time == 0.0
    assert simulation.step().solve.converged


@pytest.mark.parametrize("name", ["coarse-learned", "multigrid"])
def test_after_a_reset_the_flow_is_that_of_a_new_simulation(make_simulation: Maker, name: str) -> None:
    first, second = (make_simulation(**SMALL, preconditioner=name) for _ in "ab")
    for _ in range(15):
        first.step()
    geometry = first.projection.operator.geometry_version
    first.reset()
    assert first.projection.operator.geometry_version == geometry  # the solids are the same
    for _ in range(5):
        assert first.step().solve.history == second.step().solve.history
    assert (first.phase == second.phase).all()
    assert (first.velocity == second.velocity).all()


def raising(work: Callable, calls: int) -> Callable:
    """``work``, which raises at the end of call ``calls``, and of no other."""
    count = iter(range(1, 1_000_000))

    def call(*arguments: object) -> object:
        result = work(*arguments)
        if next(count) == calls:
            raise FloatingPointError("this once")
        return result

    return call


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        ("loops", "add_stir", 1),
        ("loops", "viscous_stage", 2),
        ("simulation", "_apply_forces", 1),
        ("projection", "project", 1),
        ("loops", "transport_phase", 1),
        ("loops", "transport_momentum", 3),
    ],
)
def test_a_step_that_raises_is_as_if_it_had_not_been_tried(
    make_simulation: Maker, monkeypatch: pytest.MonkeyPatch, owner: str, name: str, calls: int
) -> None:
    monkeypatch.setattr("sim.simulation.TRANSPORT_COURANT", 0.02)  # several transport steps
    settings = {**SMALL, "preconditioner": "jacobi", "heavy_viscosity": 1.0}
    undisturbed, simulation = make_simulation(**settings), make_simulation(**settings)
    for each in (undisturbed, simulation):
        for _ in range(5):
            each.step()
        each.stir(0.3, 0.3, 6.0, 1.0, 0.2)
    before = [field.clone() for field in simulation._changing()]
    where = {"simulation": simulation, "projection": simulation.projection, "loops": simulation._loops}[owner]
    monkeypatch.setattr(where, name, raising(getattr(where, name), calls))
    with pytest.raises(SimulationError, match="this once"):
        simulation.step()
    assert simulation.step_count == 5
    assert all((a == b).all() for a, b in zip(before, simulation._changing(), strict=True))
    for _ in range(10):
        assert simulation.step().solve.history == undisturbed.step().solve.history
    assert simulation.time == undisturbed.time
    for a, b in zip(simulation._changing(), undisturbed._changing(), strict=True):
        assert (a == b).all()


def test_fluid_at_rest_without_gravity_is_not_solved_for(make_simulation: Maker) -> None:
    simulation = make_simulation(**SMALL, gravity=0.0, preconditioner="jacobi")
    simulation.stir(0.5, 0.5, 1e-15, 0.0, 0.2)  # what rounding leaves of a flow that came to rest
    for _ in range(5):
        report = simulation.step()
        assert (report.outcome, report.iterations) == ("converged", 0)
    simulation.stir(0.5, 0.5, 1e-9, 0.0, 0.2)  # a slow flow is a flow
    assert simulation.step().iterations > 10
    ratio = report.time_step_s / simulation.spacing
    assert np.abs(simulation.field("divergence")).max() * simulation.spacing * ratio < 1e-9


def test_painting_changes_the_disc_and_nothing_else(make_simulation: Maker) -> None:
    simulation = make_simulation(grid=(32, 32))
    centres = (np.arange(32) + 0.5) / 32
    disc = (centres[:, None] - 0.6) ** 2 + (centres[None, :] - 0.5) ** 2 < 0.2**2
    before = simulation.phase_fraction()
    simulation.paint(0.6, 0.5, 0.2, "heavy")
    assert (simulation.phase_fraction()[disc] == 1.0).all()
    assert (simulation.phase_fraction() == before)[~disc].all()
    assert simulation.field("density")[disc].min() == pytest.approx(simulation.settings.contrast)
    simulation.paint(0.6, 0.5, 0.2, "solid")
    assert (simulation.solid_mask() == disc).all()
    for _ in range(10):
        simulation.step()
        for d, step in ((0, (1, 0)), (1, (0, 1))):  # no face of a solid cell lets anything through
            cells = np.argwhere(disc)
            for i, j in np.concatenate([cells, cells + step]):
                assert simulation.velocity[d, i, j] == 0.0
    assert (simulation.phase_fraction()[disc] == 0.0).all()
    simulation.paint(0.6, 0.5, 0.2, "erase")
    assert not simulation.solid_mask().any()
    with pytest.raises(UsageError, match="heavy, light, solid, erase"):
        simulation.paint(0.5, 0.5, 0.1, "water")


def test_a_stroke_is_what_a_disc_sweeps(make_simulation: Maker) -> None:
    swept, dabbed = make_simulation(grid=(64, 32)), make_simulation(grid=(64, 32))
    swept.paint(0.3, 0.2, 0.1, "solid", 1.6, 0.8)
    for share in np.linspace(0.0, 1.0, 400):
        dabbed.paint(0.3 + share * 1.3, 0.2 + share * 0.6, 0.1, "solid")
    assert (swept.solid == dabbed.solid).all()
    dabbed.reset()
    dabbed.paint(1.0, 0.5, 0.1, "heavy", 1.0, 0.5)  # of no length
    assert dabbed.phase_volume() == pytest.approx(0.42 + np.pi * 0.01, abs=0.02)


def test_nothing_crosses_a_painted_wall(make_simulation: Maker) -> None:
    simulation = make_simulation("dam-break", grid=(40, 20), preconditioner="multigrid")
    for k in range(21):
        simulation.paint(1.0, k * 0.05, 0.06, "solid")
    wall = simulation.solid_mask()
    assert wall.any(axis=0).all()
    volume = simulation.phase_volume()
    for _ in range(150):
        assert simulation.step().solve.converged
    right_of_wall = simulation.phase_fraction()[np.flatnonzero(wall.any(axis=1)).max() + 1 :]
    assert right_of_wall.sum() == 0.0
    assert simulation.phase_volume() == pytest.approx(volume, rel=1e-6)
    assert simulation.max_speed() > 0.5


def test_an_isolated_pocket_does_not_break_the_solve(make_simulation: Maker) -> None:
    simulation = make_simulation(grid=(32, 32))
    for angle in np.linspace(0.0, 2.0 * np.pi, 100):
        simulation.paint(0.5 + 0.2 * np.cos(angle), 0.5 + 0.2 * np.sin(angle), 0.04, "solid")
    assert simulation.projection.operator.components == 2
    for _ in range(20):
        assert simulation.step().solve.converged


def test_filling_everything_with_solid_is_refused(make_simulation: Maker) -> None:
    simulation = make_simulation(**SMALL)
    simulation.paint(0.5, 0.5, 10.0, "solid")
    assert not simulation.solid_mask().any()


def test_stirring_moves_the_fluid_where_it_was_stirred(make_simulation: Maker) -> None:
    simulation = make_simulation(grid=(32, 32), gravity=0.0)
    simulation.step()
    assert simulation.max_speed() == 0.0
    simulation.stir(0.7, 0.5, 0.5, 0.0, 0.2)
    simulation.step()
    speed = simulation.field("speed")
    assert speed[18:27, 12:20].mean() > 5.0 * speed[:5].mean()
    assert simulation.velocity[0, 22, 16] > 0.05


def test_a_large_courant_number_takes_several_transport_steps_and_stays_bounded(
    make_simulation: Maker,
) -> None:
    simulation = make_simulation(**SMALL, courant=1.0)
    reports = []
    for k in range(80):
        if k % 20 == 10:
            simulation.stir(0.3, 0.3, 30.0, 10.0, 0.2)
        reports.append(simulation.step())
    assert max(report.transport_steps for report in reports) > 1
    assert 0.0 <= simulation.phase.min() <= simulation.phase.max() <= 1.0


def test_a_broken_preconditioner_falls_back_to_jacobi(
    make_simulation: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = make_simulation(**SMALL, preconditioner="multigrid")
    broken = simulation.projection.preconditioner
    monkeypatch.setattr(broken, "_apply", lambda residual, out: out.copy_(residual).neg_())
    report = simulation.step()
    assert report.fallback
    assert report.preconditioner == projection.FALLBACK
    assert report.solve.converged
    assert [attempt.method for attempt in report.failed] == ["multigrid"]


def test_a_set_up_that_raises_falls_back_to_jacobi(
    make_simulation: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = make_simulation(**SMALL, preconditioner="multigrid")

    def give_up(*_: object) -> None:
        raise torch.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr(simulation.projection.preconditioner, "setup", give_up)
    report = simulation.step()
    assert report.fallback
    assert report.solve.converged
    assert "not positive definite" in report.failed[0].reason
    assert report.failed[0].seconds["setup"] > 0.0


@pytest.mark.parametrize("contrast", [100.0, 10_000.0])
def test_solves_stopped_far_too_early_keep_volume_and_bounds(make_simulation: Maker, contrast: float) -> None:
    simulation = make_simulation(**SMALL, contrast=contrast, preconditioner="none", max_iterations=2)
    volume = simulation.phase_volume()
    outcomes = {simulation.step().solve.outcome for _ in range(200)}
    assert Outcome.ITERATION_LIMIT in outcomes
    assert simulation.phase_volume() == pytest.approx(volume, rel=1e-9)
    assert 0.0 <= simulation.phase.min() <= simulation.phase.max() <= 1.0


def test_a_lost_state_is_an_error_with_advice(make_simulation: Maker) -> None:
    simulation = make_simulation(**SMALL)
    simulation._moved[0, 5, 5] = float("nan")
    with pytest.raises(SimulationError, match="reset the scene"):
        simulation.step()
    simulation.reset()
    assert simulation.step().solve.outcome is Outcome.CONVERGED


def test_fields_have_the_documented_form(make_simulation: Maker) -> None:
    simulation = make_simulation(**SMALL)
    for _ in range(5):
        simulation.step()
    for name in FIELDS:
        values = simulation.field(name)
        assert values.shape == (32, 16)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        values[:] = 0.0
    assert simulation.field("density").min() > 0.0  # a fresh array: overwriting it changes nothing
    with pytest.raises(ValueError, match="vorticity"):
        simulation.field("colour")
    assert set(PAINTS) == {"heavy", "light", "solid", "erase", "heavy source", "light source", "drain"}


def test_vorticity_of_a_solid_rotation(make_simulation: Maker) -> None:
    simulation = make_simulation(grid=(32, 32))
    from_middle = (torch.arange(33) + 0.5) / 32 - 0.5
    simulation.velocity[0] = -from_middle[None, :]
    simulation.velocity[1] = from_middle[:, None]
    np.testing.assert_allclose(simulation.field("vorticity")[2:-2, 2:-2], 2.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"grid": (4, 64)}, "grid"),
        ({"grid": (64.0, 64)}, "grid"),
        ({"contrast": 0.5}, "contrast"),
        ({"contrast": float("nan")}, "contrast"),
        ({"rtol": 0.0}, "rtol"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"seed": 1.5}, "seed"),
        ({"device": "tpu"}, "cpu, cuda"),
        ({"warm_start": "yes"}, "warm_start"),
        ({"reuse_setup": 1}, "reuse_setup"),
        ({"single_launch": "no"}, "single_launch"),
        ({"preconditioner": ["jacobi"]}, "preconditioner"),
        ({"scene": 3}, "scene"),
        ({"grid": {16: 1, 8: 2}}, "grid"),
        ({"heavy_viscosity": -1.0}, "heavy_viscosity"),
    ],
)
def test_settings_out_of_range_name_themselves(change: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        SimulationSettings(**change)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copies_are_refused(make_simulation: Maker, copied: Callable[[Simulation], object]) -> None:
    simulation = make_simulation(**SMALL)
    for thing in (simulation, simulation.projection):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copied(thing)


def test_the_pressure_system_is_what_the_last_step_solved(make_simulation: Maker) -> None:
    simulation = make_simulation(**SMALL, rtol=1e-10)
    with pytest.raises(UsageError, match="take a step first"):
        simulation.pressure_system()
    for _ in range(3):
        before = simulation.projection.pressure.clone()
        simulation.step()
    system = simulation.pressure_system()
    left = system.right_hand_side - system.operator.matvec(simulation.projection.pressure)
    bound = max(1e-10 * float(system.right_hand_side.norm()), system.atol)
    assert float(system.operator.project(left).norm()) <= 1.01 * bound
    assert torch.equal(system.start, before)
    simulation.settings.warm_start = False
    assert simulation.pressure_system().start is None
    simulation.paint(1.0, 0.5, 0.2, "solid")
    with pytest.raises(UsageError, match="take a step first"):
        simulation.pressure_system()
