"""The weights that ship: few iterations on systems they were not trained on, one file for every grid."""

import numpy as np
import pytest
import torch

from precond import PCG, PoissonOperator, available_preconditioners, make_preconditioner
from precond.learned.coarse_learned import DEFAULT_MODEL
from precond.learned.features import LeafFeatures
from precond.learned.weights import read_card
from precond.problems import gallery

pytestmark = pytest.mark.skipif(
    "coarse-learned" not in available_preconditioners(), reason="no weights of nested"
)


def mean_iterations(family: str, n: int, frames: int, contrast: float | None = None) -> float:
    counts = []
    for frame in range(frames):
        problem = gallery.problem(family, n, frame, "test", contrast)
        operator = problem.operator()
        preconditioner = make_preconditioner("coarse-learned", operator)
        preconditioner.setup()
        report = PCG(operator, preconditioner, rtol=1e-8).solve(problem.b)
        assert report.converged
        assert not report.flexible
        counts.append(report.iterations)
    return float(np.mean(counts))


@pytest.mark.parametrize("n", [1024, 2048, 8192, 16384])
def test_barriers_take_at_most_fifteen_iterations_at_every_size(n: int) -> None:
    assert mean_iterations("barriers", n, frames=2) <= 15


@pytest.mark.parametrize("n", [4096, 8192])
def test_bubbles_at_contrast_10000(n: int) -> None:
    assert mean_iterations("bubbles", n, frames=4, contrast=10_000.0) <= 21


def test_the_network_beats_the_monomials_it_starts_from() -> None:
    counts: dict[str, list[int]] = {"coarse-monomial": [], "coarse-learned": []}
    for frame in range(4):
        problem = gallery.problem("bubbles", 4096, frame, "test", 10_000.0)
        operator = problem.operator()
        for name, of_name in counts.items():
            preconditioner = make_preconditioner(name, operator)
            preconditioner.setup()
            of_name.append(PCG(operator, preconditioner).solve(problem.b).iterations)
    assert sum(counts["coarse-learned"]) < 0.6 * sum(counts["coarse-monomial"])


def test_scaling_the_density_changes_nothing() -> None:
    density = gallery.bubbles((48, 40), 1000.0, 2).density
    bases = []
    for scale in (1.0, 1e3):
        operator = PoissonOperator.from_density(density * scale)
        preconditioner = make_preconditioner("coarse-learned", operator)
        preconditioner.setup()
        bases.append(preconditioner.basis.clone())
    torch.testing.assert_close(*bases, atol=1e-3, rtol=0.0)


def test_the_card_says_how_the_weights_came_about() -> None:
    card = read_card(DEFAULT_MODEL)
    for name in (
        "model",
        "training",
        "data",
        "parameters",
        "seconds",
        "trained",
        "command",
        "log",
        "machine",
    ):
        assert card[name], name
    features = LeafFeatures(gallery.bubbles((16, 16), 10.0, 1).operator(), card["model"]["leaf_size"])
    assert features.mask.shape[1] == card["model"]["leaf_size"]


def test_leaves_that_look_alike_are_inferred_once(monkeypatch):
    """64 x 96 cells in two flat layers: away from walls and the interface every leaf sees the same."""
    density = torch.ones(64, 96, dtype=torch.float64)
    density[:, :50] = 100.0
    form = make_preconditioner("coarse-learned", PoissonOperator.from_density(density))
    counted = []
    of_leaves = form.network.trunk.of_leaves
    monkeypatch.setattr(
        form.network.trunk,
        "of_leaves",
        lambda x, features, which: counted.append(len(which)) or of_leaves(x, features, which),
    )
    form.setup()
    assert form.basis.shape[0] == 96
    assert counted[0] <= 5 * 8
    for parameter in form.network.parameters():
        parameter.requires_grad_()
    whole = form.network(form.features, form.mask)  # with gradients nothing is shared
    torch.testing.assert_close(form.basis, whole.detach(), rtol=0.0, atol=1e-5)
