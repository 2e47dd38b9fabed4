"""Training of the leaf network: it learns, it resumes exactly, its data are what they claim."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from precond import PCG, PoissonOperator
from precond.learned.coarse_learned import TwoLevelLearned, coarse_learned
from precond.learned.leaf_network import LeafNetwork, LeafNetworkConfig
from precond.learned.weights import ModelError, save_model
from precond.problems import gallery
from precond.training.coarse_learned import CoarseLearnedTask, System
from precond.training.data import held_out, random_system, small_system
from precond.training.loop import Trainer, judged
from precond.two_level.preconditioner import TwoLevelIterated

TINY = LeafNetworkConfig(columns=3, width=8, leaf_iterations=2)


def task_on(system: System, **training: object) -> CoarseLearnedTask:
    """A training on one system alone, judged by its solve in the two-level form."""

    class OneSystem(CoarseLearnedTask):
        def systems(self) -> list[System]:
            return [system]

        def form(self, operator: PoissonOperator) -> TwoLevelLearned:
            return TwoLevelLearned(operator, self.network)

    task = OneSystem({"model": asdict(TINY), "training": training})
    task.validation = [gallery.bubbles((16, 16), 1000.0, 1)]
    return task


def tiny_network(spread: float = 0.0) -> LeafNetwork:
    torch.manual_seed(0)
    network = LeafNetwork(TINY)
    torch.nn.init.normal_(network.head.weight, std=spread)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def system() -> System:
    return System(gallery.bubbles((16, 16), 1000.0, 1).operator())


def test_an_untrained_network_gives_the_monomials(system: System) -> None:
    operator, problem = system.operator, gallery.bubbles((16, 16), 1000.0, 1)
    learned = TwoLevelLearned(operator, tiny_network())
    plain = TwoLevelIterated(operator, TINY.leaf_iterations, leaf_size=16, rank=TINY.columns + 1)
    reports = []
    for form in (learned, plain):
        form.setup()
        reports.append(PCG(operator, form).solve(problem.b))
    assert reports[0].iterations == reports[1].iterations
    assert 5 < reports[0].iterations < 40


def test_what_is_trained_is_the_basis_that_is_used(make_case) -> None:
    """Up to float32: the columns of a leaf span the same."""
    operator = make_case((28, 17), 100.0, True).operator
    system, network = System(operator), tiny_network(0.5)
    form = TwoLevelLearned(operator, network)
    form.setup()
    trained = system.basis(network(system.features), TINY.leaf_iterations)
    spans = [basis.double() @ basis.double().mT for basis in (trained, form.basis)]
    torch.testing.assert_close(*spans, rtol=0.0, atol=1e-3)
    full = system.mask.sum(dim=1) == 16.0
    assert full.any()
    unit = torch.eye(TINY.columns + 1, dtype=torch.float64).expand(int(full.sum()), -1, -1)
    torch.testing.assert_close(trained[full].mT @ trained[full], unit, rtol=0.0, atol=1e-6)


def test_with_ordered_columns_the_last_are_left_out_now_and_then(system: System) -> None:
    """Each column is learned as one of the first; the first in every step."""
    trained = {}
    for ordered in (True, False):
        task, trained[ordered] = task_on(system, ordered=ordered), []
        for step in range(20):
            task.network.zero_grad()
            torch.manual_seed(step)
            task.loss(system, step).backward()
            slopes = task.network.head.bias.grad.view(16, TINY.columns).abs().amax(dim=0)
            trained[ordered].append(int((slopes > 0.0).sum()))
            assert slopes[0] > 0.0
    assert set(trained[True]) == {1, 2, 3}
    assert set(trained[False]) == {3}


def test_a_step_whose_loss_overflows_teaches_nothing(system: System, tmp_path: Path) -> None:
    task = task_on(system, steps=2)
    before = [parameter.detach().clone() for parameter in task.network.parameters()]
    real = task.loss
    task.loss = lambda of, step: real(of, step) * (torch.inf if step == 0 else 1.0)
    trainer = Trainer(task, tmp_path / "run.checkpoint")
    trainer.run(minutes=0.0)
    assert trainer.step == 1
    assert all(map(torch.equal, before, task.network.parameters()))
    trainer.run()
    assert all(torch.isfinite(parameter).all() for parameter in task.network.parameters())
    assert not all(map(torch.equal, before, task.network.parameters()))


@pytest.mark.parametrize("balanced_from", [0.0, 1.0])
def test_the_loss_falls_and_the_balanced_solve_gets_faster(
    system: System, tmp_path: Path, balanced_from: float
) -> None:
    """The additive objective is of another form than the one that solves: its loss alone falls."""
    rates = {"steps": 120, "learning_rate": 1e-2, "balanced_from": balanced_from, "ordered": False}
    task = task_on(system, **rates, evaluate_every=30, save_every=60)
    before = judged(task, task.validation)
    trainer = Trainer(task, tmp_path / "run.checkpoint")
    trainer.run()
    losses = [entry["loss"] for entry in trainer.log]
    assert losses == sorted(losses, reverse=True)
    assert balanced_from == 1.0 or trainer.log[-1]["mean"] < before["mean"]


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


@pytest.mark.parametrize(("make", "least", "most"), [(random_system, 900, 4100), (small_system, 768, 1024)])
def test_random_systems_are_what_they_claim(make, least: int, most: int) -> None:
    contrasts, solids = [], 0
    for index in range(40):
        operator = make(3, index)
        fluid = ~operator.solid
        density = operator.density[fluid]
        assert operator.components == 1
        assert least <= operator.density.numel() <= most
        contrasts.append(float(density.max() / density.min()))
        solids += operator.has_solid
    assert min(contrasts) < 10.0
    assert max(contrasts) > 1000.0
    assert 2 <= solids <= 20
    assert torch.equal(make(3, 7).density, make(3, 7).density)
    assert not torch.equal(small_system(3, 7).density, small_system(4, 7).density)


def test_a_share_of_the_systems_is_of_the_worst_kinds() -> None:
    ordinary, mixed, worst = ([small_system(3, index, share) for index in range(24)] for share in (0, 0.5, 1))
    same = [torch.equal(a.density, b.density) for a, b in zip(ordinary, mixed, strict=True)]
    assert 6 <= sum(same) <= 18
    assert not any(torch.equal(a.density, b.density) for a, b in zip(ordinary, worst, strict=True))
    spans = [float(of.density[~of.solid].max() / of.density[~of.solid].min()) for of in worst]
    assert sum(span > 900.0 for span in spans) >= 20  # a small grid may hold one fluid alone


def test_held_out_systems_are_not_among_the_training_ones() -> None:
    held = {problem.density.numpy().tobytes() for problem in held_out()}
    assert len(held) == 8
    for make in (random_system, small_system):
        assert not held & {make(1, index).density.numpy().tobytes() for index in range(50)}


@pytest.mark.parametrize("two_level", [False, True])
def test_it_loads_what_was_saved_and_refuses_what_is_damaged(
    system: System, tmp_path: Path, two_level: bool
) -> None:
    network = tiny_network(0.1)
    path = tmp_path / "model.safetensors"
    save_model(path, network, {"model": asdict(TINY)})
    operator = system.operator
    form, reference = (coarse_learned(operator, model, two_level) for model in (path, network))
    residual = operator.project(torch.from_numpy(np.random.default_rng(0).standard_normal(operator.shape)))
    results = []
    for preconditioner in (form, reference):
        preconditioner.setup()
        results.append(preconditioner.apply(residual, torch.empty_like(residual)))
    assert torch.equal(*results)
    assert form.seconds["inference"] > 0.0
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelError, match="damaged"):
        coarse_learned(operator, path)
