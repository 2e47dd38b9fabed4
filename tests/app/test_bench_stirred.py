"""Problems of the simulator and of known flows are the very systems that the projection met."""

import pytest
import torch

from app.bench.known_flows import FLOWS, KnownFlows
from app.bench.stirred import SCENES, STEPS, StirredFrames
from app.config.settings import scene_settings
from app.validation.case import load_known
from precond import PCG, make_preconditioner
from precond.errors import UsageError
from sim.scenes import load_scene
from sim.simulation import Simulation, SimulationError


def test_a_frame_is_what_the_projection_solved():
    """Another run of the scene to the same step meets the same density and divergence, and its pressure
    solves the frame's system.
    """
    frames = StirredFrames(400, 50.0)
    frames.frame(0)
    problem = frames.frame(1)
    settings = scene_settings(
        SCENES[1],
        {"grid": (20, 20), "contrast": 50.0, "preconditioner": "multigrid", "rtol": 1e-6, "seed": 0},
    )
    simulation = Simulation(settings, load_scene(SCENES[1]))
    for _ in range(STEPS):
        simulation.step()
    operator, right_hand_side, *_ = simulation.pressure_system()
    assert torch.equal(problem.density, operator.density)
    assert problem.face_density == operator.face_density == "arithmetic"
    assert float(torch.linalg.vector_norm(problem.b)) == pytest.approx(1.0)
    scale = right_hand_side.norm()
    residual = problem.b - problem.operator().matvec(simulation.projection.pressure) / scale
    assert float(residual.norm()) < 1e-5
    assert 1.0 <= float(problem.density.min()) < float(problem.density.max()) <= 50.0


def test_frames_move_on_alternate_and_repeat():
    frames = StirredFrames(256, 100.0)
    taken = [frames.frame(number) for number in range(4)]
    assert not torch.equal(taken[0].density, taken[2].density)
    assert not torch.equal(taken[0].density, taken[1].density)
    again = StirredFrames(256, 100.0)
    assert torch.equal(again.frame(3).b, taken[3].b)
    assert torch.equal(again.frame(1).b, taken[1].b)  # back in time: the scene starts anew
    for problem in taken:
        assert problem.n == 256
        assert abs(float(problem.b.sum())) < 1e-10


def test_a_scene_that_breaks_down_is_an_error_in_words(monkeypatch):
    def broken(_self):
        raise SimulationError("step 3: the velocity is not finite")

    monkeypatch.setattr(Simulation, "step", broken)
    with pytest.raises(UsageError, match="frame 0, dam-break: step 3: the velocity"):
        StirredFrames(256, 100.0).frame(0)


def test_the_benchmark_takes_them(benched):
    found = benched("--family", "stirred", preconds=("jacobi",))
    frames = StirredFrames(256, 100.0)
    for row in found.rows:
        problem = frames.frame(row["frame"])
        operator = problem.operator()
        jacobi = make_preconditioner("jacobi", operator)
        jacobi.setup()
        assert row["iterations"] == PCG(operator, jacobi, rtol=1e-8).solve(problem.b).iterations
        assert (row["family"], row["contrast"], row["outcome"]) == ("stirred", 100.0, "converged")


def test_known_flows_move_on_in_turn_and_repeat():
    flows = KnownFlows(256)
    taken = [flows.frame(number) for number in range(8)]
    contrasts = [float(problem.density.max() / problem.density.min()) for problem in taken]
    assert contrasts == pytest.approx(2 * [1000.0, 3.0, 1000.0, 1000.0], rel=1e-9)
    assert [problem.shape for problem in taken[:4]] == [(12, 24), (8, 32), (24, 12), (16, 16)]
    for first, later in zip(taken[:3], taken[4:], strict=False):
        assert not torch.allclose(first.density, later.density, rtol=0.0, atol=0.1)  # these flows move
    assert torch.equal(KnownFlows(256).frame(5).b, taken[5].b)
    assert torch.equal(flows.frame(1).b, taken[1].b)  # back in time: the flow starts anew


def test_a_known_flow_is_the_case_of_validate_at_its_moment():
    flow, problem = FLOWS[0], KnownFlows(256).frame(0)
    case = flow.kind(load_known()[flow.case], quick=True)
    case.known["quick"]["cells"] = 12
    simulation = case.begin()
    while simulation.time < 0.5 * flow.end:
        simulation.step()
    assert torch.equal(problem.density, simulation.projection.operator.density)
    residual = problem.b - problem.operator().matvec(simulation.projection.pressure) / float(
        simulation.pressure_system().right_hand_side.norm()
    )
    assert float(residual.norm()) < 1e-5


def test_the_benchmark_takes_known_flows(benched):
    found = benched("--family", "physics", preconds=("multigrid", "jacobi"))
    assert {(row["family"], row["contrast"], row["outcome"]) for row in found.rows} == {
        ("physics", None, "converged")
    }
