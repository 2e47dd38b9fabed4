"""Training of the coarse space: it learns, it resumes exactly, its data are what they claim."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from precond import PCG
from precond.learned.coarse_learned import CoarseLearned
from precond.learned.coarse_space import CoarseSpaceConfig, CoarseSpaceNetwork
from precond.learned.network import TrunkConfig
from precond.learned.weights import ModelError, save_model
from precond.problems import gallery
from precond.training.coarse_learned import CoarseLearnedTask, System
from precond.training.data import held_out, random_system
from precond.training.loop import Trainer, judged
from precond.two_level.preconditioner import CoarseMonomial

TINY = CoarseSpaceConfig(
    leaf_size=16,
    rank=4,
    trunk=TrunkConfig(
        width=8,
        heads=2,
        layers=0,
        graph_convolutions=2,
        off_diagonal_stream=False,
        axial_buffers=False,
        global_token=False,
        global_features=False,
    ),
)


def task_on(system: System, **training: object) -> CoarseLearnedTask:
    """A training on one system alone, judged by its solve."""

    class OneSystem(CoarseLearnedTask):
        def systems(self) -> list[System]:
            return [system]

    task = OneSystem({"model": asdict(TINY), "training": training})
    task.validation = [gallery.bubbles((16, 16), 1000.0, 1)]
    return task


def tiny_network() -> CoarseSpaceNetwork:
    torch.manual_seed(0)
    return CoarseSpaceNetwork(TINY)


@pytest.fixture(scope="module")
def system() -> System:
    return System(gallery.bubbles((16, 16), 1000.0, 1).operator(), TINY.leaf_size)


def test_an_untrained_network_gives_the_monomials(system: System) -> None:
    operator = system.features.operator
    network = tiny_network()
    problem = gallery.bubbles((16, 16), 1000.0, 1)
    from_network = CoarseLearned(operator, network)
    from_network.setup()
    report = PCG(operator, from_network).solve(problem.b)
    polynomial = CoarseMonomial(operator, TINY.leaf_size, TINY.rank)
    polynomial.setup()
    assert report.iterations == PCG(operator, polynomial).solve(problem.b).iterations


@pytest.mark.parametrize("balanced_from", [0.0, 1.0])
def test_the_loss_falls_and_the_solve_gets_faster(
    system: System, tmp_path: Path, balanced_from: float
) -> None:
    task = task_on(
        system, steps=120, learning_rate=1e-2, balanced_from=balanced_from, evaluate_every=30, save_every=60
    )
    before = judged(task, task.validation)
    trainer = Trainer(task, tmp_path / "run.checkpoint")
    trainer.run()
    losses = [entry["loss"] for entry in trainer.log]
    assert losses == sorted(losses, reverse=True)
    assert trainer.log[-1]["mean"] < before["mean"]


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_an_interrupted_run_ends_like_an_unbroken_one(
    system: System, tmp_path: Path, default: torch.dtype
) -> None:
    """Whatever the default type of numbers is: networks are float32."""
    settings = {"steps": 8, "evaluate_every": 100, "save_every": 3}
    whole = task_on(system, **settings)
    Trainer(whole, tmp_path / "whole.checkpoint").run()
    torch.set_default_dtype(default)
    try:
        Trainer(task_on(system, **settings), tmp_path / "broken.checkpoint").run(minutes=0.0)
        resumed = task_on(system, **settings)
        trainer = Trainer(resumed, tmp_path / "broken.checkpoint")
        assert trainer.step == 1
        trainer.run()
    finally:
        torch.set_default_dtype(torch.float32)
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_random_systems_are_what_they_claim() -> None:
    contrasts, solids = [], 0
    for index in range(40):
        operator = random_system(3, index)
        fluid = ~operator.solid
        density = operator.density[fluid]
        assert operator.components == 1
        assert 900 <= operator.density.numel() <= 4100
        contrasts.append(float(density.max() / density.min()))
        solids += operator.has_solid
    assert min(contrasts) < 10.0
    assert max(contrasts) > 1000.0
    assert 2 <= solids <= 20
    again = random_system(3, 7)
    assert torch.equal(again.density, random_system(3, 7).density)


def test_held_out_systems_are_not_among_the_training_ones() -> None:
    held = {problem.density.numpy().tobytes() for problem in held_out()}
    assert len(held) == 8
    assert not held & {random_system(1, index).density.numpy().tobytes() for index in range(50)}


def test_nested_loads_what_was_saved_and_refuses_what_is_damaged(system: System, tmp_path: Path) -> None:
    network = tiny_network()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    path = tmp_path / "model.safetensors"
    save_model(path, network, {"model": asdict(TINY)})
    operator = system.features.operator
    form, reference = CoarseLearned(operator, path), CoarseLearned(operator, network)
    residual = operator.project(torch.from_numpy(np.random.default_rng(0).standard_normal(operator.shape)))
    results = []
    for preconditioner in (form, reference):
        preconditioner.setup()
        results.append(preconditioner.apply(residual, torch.empty_like(residual)))
    assert torch.equal(*results)
    assert form.seconds["inference"] > 0.0
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelError, match="damaged"):
        CoarseLearned(operator, path)
