"""On a CUDA device: replays of captured set-ups and solves. `make test-gpu`; skipped where there is none.

Here torch, triton, numpy, scipy, safetensors, pyyaml and pytest are all that is needed; what wants the
simulation is in tests/gpu/test_simulation.py.

Memory errors: `compute-sanitizer --tool memcheck .venv/bin/python -m pytest tests/gpu -x`, and the same with
`--tool racecheck` and `--tool initcheck`, must report none; set PYTORCH_NO_CUDA_MEMORY_CACHING=1 for the
last.
"""

import pytest
import torch

from precond import PCG, make_preconditioner
from precond.device import graph, while_node
from precond.device import state as slots
from precond.krylov.cuda_cg import CudaCG
from precond.problems import gallery

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


def changed_in_place(problem, operator):
    """Right-hand sides, each with other coefficients in ``operator``."""
    density, b = problem.density.cuda(), problem.b.cuda()
    for factor in (1.0, 7.0, 0.3):
        changed = density.clone()
        changed[: len(changed) // 2] *= factor
        operator.update(changed)
        b = operator.project(b.roll(3, 0).clone())
        yield b


@pytest.mark.parametrize("family", ["barriers", "mazes"])
def test_a_replay_equals_an_eager_solve_after_a_and_b_changed(monkeypatch, capturable_name, family):
    problem = gallery.problem(family, 4096, 0, contrast=100.0)
    operator = problem.operator("cuda")
    captured, eager = (make_preconditioner(capturable_name, operator) for _ in range(2))
    captured.setup()
    replayed = CudaCG(operator, captured, 3000)
    with monkeypatch.context() as patch:
        patch.setattr(graph, "captures", lambda _device: False)
        eager.setup()
        plain = CudaCG(operator, eager, 3000)
    for b in changed_in_place(problem, operator):
        captured.setup()
        with monkeypatch.context() as patch:
            patch.setattr(graph, "captures", lambda _device: False)
            eager.setup()
        first = replayed.run(b, None, 1e-8, 3000)
        second = plain.run(b, None, 1e-8, 3000)
        assert first[0] is second[0]
        assert len(first[1]) == len(second[1])
        assert (replayed.x - plain.x).norm() <= 1e-10 * plain.x.norm()


@pytest.mark.parametrize("family", ["barriers", "mazes"])
def test_a_single_launch_equals_blocks(monkeypatch, capturable_name, family):
    """One replay loads, and one does all the rest of each attempt."""
    reason = while_node.missing(torch.device("cuda"))
    if reason:
        pytest.skip(reason)
    replays, attempts = [], []
    program = graph.Capture.program

    def counted(self, function):
        replay = program(self, function)
        return lambda: replays.append(function.__name__) or replay()

    monkeypatch.setattr(graph.Capture, "program", counted)
    problem = gallery.problem(family, 4096, 0, contrast=100.0)
    operator = problem.operator("cuda")
    preconditioner = make_preconditioner(capturable_name, operator)
    preconditioner.setup()
    single = CudaCG(operator, preconditioner, 3000, single_launch=True)
    assert not single.note
    blocks = CudaCG(operator, preconditioner, 3000)
    monkeypatch.setattr(single, "_attempt", lambda run=single._attempt: attempts.append(1) or run())
    for b in changed_in_place(problem, operator):
        preconditioner.setup()
        second = blocks.run(b, None, 1e-8, 3000)
        replays.clear()
        attempts.clear()
        first = single.run(b, None, 1e-8, 3000)
        assert replays == ["load"] + ["attempt"] * len(attempts)
        assert first[0] is second[0]
        assert len(first[1]) == len(second[1])
        assert (single.x - blocks.x).norm() <= 1e-10 * blocks.x.norm()


def test_a_solve_asks_the_host_only_between_blocks(monkeypatch):
    problem = gallery.benchmark_density(1024, 0)
    operator = problem.operator("cuda")
    preconditioner = make_preconditioner("jacobi", operator)
    preconditioner.setup()
    pcg = PCG(operator, preconditioner)
    pcg.solve(problem.b.cuda())
    looks = []
    real = graph.Snapshots.last_but_one
    monkeypatch.setattr(graph.Snapshots, "last_but_one", lambda self: looks.append(1) or real(self))
    report = pcg.solve(problem.b.cuda())
    assert report.converged
    assert len(looks) <= -(-report.iterations // pcg._cuda_cg.per_block) + 2


@pytest.mark.parametrize("name", ["jacobi", "coarse-learned"])
def test_kernels_agree_with_their_plain_form(name):
    """The loop's state after ten iterations on the device and on the CPU, where the operations are plain."""
    states = []
    for device in ("cpu", "cuda"):
        problem = gallery.benchmark_density(2048, 1)
        operator = problem.operator(device)
        options = {"two_level": True, "on_device": True} if name == "coarse-learned" else {}
        preconditioner = make_preconditioner(name, operator, **options)
        preconditioner.setup()
        loop = CudaCG(operator, preconditioner, 100)
        outcome, history, _, _ = loop.run(problem.b.to(device), None, 1e-14, 10)
        states.append((outcome, torch.tensor(history), loop.x.cpu(), loop.state[slots.ITERATIONS].cpu()))
    assert states[0][0] is states[1][0]
    assert states[0][3] == states[1][3] == 10
    assert torch.allclose(states[0][1], states[1][1], rtol=1e-3)
    assert torch.allclose(states[0][2], states[1][2], rtol=1e-3, atol=1e-4)


def test_the_solve_agrees_with_the_cpu(capturable_name: str) -> None:
    problem = gallery.benchmark_density(4096, 0)
    reports = []
    for device in ("cpu", "cuda"):
        operator = problem.operator(device)
        options = {"on_device": True} if capturable_name.startswith("coarse") else {}
        if capturable_name.startswith(("coarse-iterated", "coarse-learned")):
            options["two_level"] = True
        preconditioner = make_preconditioner(capturable_name, operator, **options)
        preconditioner.setup()
        reports.append(PCG(operator, preconditioner, rtol=1e-8).solve(problem.b.to(device)))
    cpu, cuda = reports
    assert cuda.converged
    assert abs(cuda.iterations - cpu.iterations) <= 1 + 0.02 * cpu.iterations
    assert (cuda.x.cpu() - cpu.x).norm() < 1e-6 * cpu.x.norm()
