"""The objectives: zero at the inverse, blind to scaling where they say so, with true gradients; and those of
the definite `hmatrix`, in closed form and applied, against M as a dense matrix.
"""

from functools import partial

import numpy as np
import pytest
import torch

from precond.errors import UsageError
from precond.learned.far_field import product
from precond.learned.hmatrix import HMatrix, parts_of
from precond.learned.proposals import HMatrixConfig, ProposalNetwork
from precond.problems import gallery
from precond.training.hmatrix import HMatrixTask, System, far_field_number
from precond.training.objectives import cosine_hutchinson, kaporin, root_of, sai, smoothed, truncated


class Dense:
    """A small operator as a dense matrix, and the pieces that the objectives want."""

    def __init__(self, case):
        torch.manual_seed(0)
        self.matrix = torch.from_numpy(case.matrix)
        self.case = case
        ones = torch.nn.functional.one_hot(torch.from_numpy(case.label).long()).double()  # (N, components)
        self.kernel = ones / ones.norm(dim=0)
        self.probes = torch.randn(5, len(self.matrix), dtype=torch.float64)
        self.root = root_of(self.matrix)
        self.inverse = torch.linalg.pinv(self.matrix, hermitian=True)

    def project(self, rows):
        return rows - rows @ self.kernel @ self.kernel.T

    def losses(self):
        """Each objective as a function of M (N, N)."""

        def with_probes(objective, m):
            return objective(
                lambda rows: rows @ m.mT, lambda rows: rows @ self.matrix, self.probes, self.project
            )

        return {
            "cosine": partial(with_probes, cosine_hutchinson),
            "sai": partial(with_probes, sai),
            "kaporin": lambda m: kaporin(lambda rows: rows @ m.mT, self.root),
            "truncated": lambda m: truncated(lambda rows: rows @ m.mT, self.root),
            "all kept": lambda m: truncated(lambda rows: rows @ m.mT, self.root, 0.0),
        }


@pytest.fixture(params=[False, True], ids=["open", "solids"])
def dense(request, make_case):
    return Dense(make_case((10, 9) if not request.param else (16, 11), 20.0, request.param))


def perturbation(dense, size):
    noise = torch.randn(dense.matrix.shape, dtype=torch.float64)
    return size * dense.inverse.diagonal().mean() * (noise + noise.T)


@pytest.mark.parametrize("name", ["cosine", "sai", "kaporin", "truncated"])
def test_the_inverse_is_the_minimum(dense, name):
    loss = dense.losses()[name]
    best = float(loss(dense.inverse))
    assert best == pytest.approx(0.0, abs=1e-9)
    previous = 1e-9
    for size in (1e-4, 1e-3, 1e-2):
        value = float(loss(dense.inverse + perturbation(dense, size)))
        assert value > previous
        previous = value
    shift = dense.kernel @ dense.kernel.T
    assert float(loss(dense.inverse + shift)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", ["cosine", "kaporin", "truncated"])
def test_scaling_has_no_effect(dense, name):
    loss = dense.losses()[name]
    m = dense.inverse + perturbation(dense, 1e-3)
    assert float(loss(37.0 * m)) == pytest.approx(float(loss(m)), rel=1e-9)
    indefinite = m - 0.5 * dense.inverse.diagonal().mean() * torch.eye(len(m), dtype=torch.float64)
    assert float(loss(37.0 * indefinite)) == pytest.approx(float(loss(indefinite)), rel=1e-9)


@pytest.mark.parametrize("name", ["cosine", "sai", "kaporin", "kaporin indefinite", "truncated"])
def test_gradients_are_true(dense, name):
    loss = dense.losses()[name.split()[0]]
    m = dense.inverse + perturbation(dense, 1e-3)
    if "indefinite" in name:
        m = m - 0.5 * dense.inverse.diagonal().mean() * torch.eye(len(m), dtype=torch.float64)
    m = m.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(m), m)
    for seed in range(3):
        torch.manual_seed(seed)
        direction = perturbation(dense, 1.0)
        step = 1e-6
        with torch.no_grad():
            difference = (loss(m + step * direction) - loss(m - step * direction)) / (2 * step)
        expected = (gradient * direction).sum()
        assert float(difference) == pytest.approx(float(expected), rel=1e-4, abs=1e-8)


def test_kaporin_is_the_condition_number_of_a_dense_matrix(dense):
    m = dense.inverse + 0.1 * torch.diag(dense.inverse.diagonal())
    eigenvalues = torch.linalg.eigvals(m @ dense.matrix).real
    eigenvalues = eigenvalues.sort().values[dense.kernel.shape[1] :]
    for name, left_out in (("kaporin", 0), ("truncated", int(0.05 * len(eigenvalues)))):
        kept = eigenvalues[left_out:]
        expected = kept.mean().log() - kept.log().mean()
        assert float(dense.losses()[name](m)) == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize("share", [-0.1, 0.5])
def test_with_nothing_left_out_truncated_is_kaporin(dense, share):
    """Definite or not."""
    identity = torch.eye(len(dense.matrix), dtype=torch.float64)
    m = dense.inverse - share * dense.inverse.diagonal().mean() * identity
    of = dense.losses()
    assert float(of["all kept"](m)) == pytest.approx(float(of["kaporin"](m)), rel=1e-9)
    assert float(of["truncated"](m)) < float(of["kaporin"](m))


def test_indefinite_is_worse_than_definite(dense):
    loss = dense.losses()["kaporin"]
    identity = dense.inverse.diagonal().mean() * torch.eye(len(dense.matrix), dtype=torch.float64)
    values = [float(loss(dense.inverse - share * identity)) for share in (0.0, 0.5, 0.8)]
    assert values == sorted(values)
    assert all(value < float("inf") for value in values)


def test_smoothing_removes_rough_parts_only(dense):
    diagonal = dense.matrix.diagonal()
    smooth = smoothed(dense.probes, lambda rows: rows @ dense.matrix, diagonal, dense.project)
    sweep = torch.eye(len(diagonal), dtype=torch.float64)
    step = torch.where(diagonal > 0, 0.6 / diagonal.clamp(min=1e-9), 0.0)
    sweep -= torch.diag(step) @ dense.matrix
    torch.testing.assert_close(smooth, dense.project(dense.probes @ sweep.T @ sweep.T))
    before, after = (
        (((v := dense.project(z)) @ dense.matrix) * v).sum() / v.square().sum()
        for z in (dense.probes, smooth)
    )
    assert after < 0.5 * before


@pytest.fixture(scope="module")
def bubbles():
    """A system for the definite hmatrix, 24 x 16 cells in six leaves."""
    return System(gallery.bubbles((24, 16), 100.0, 1).operator(), 64, 8)


def proposing(leaves, seed):
    """A network whose heads say something."""
    torch.manual_seed(seed)
    network = ProposalNetwork(HMatrixConfig(leaves=leaves, leaf_iterations=2 if leaves == "exact" else 0))
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if "_head" in name:
                weights.normal_(0.0, 0.05)
    return network


def applied(system, network):
    """M as the objectives apply it, for rows (m, N)."""
    proposed = network(system.geometry.features, system.geometry.tree)
    parts = parts_of(system.geometry, proposed, network.config.leaf_iterations)
    return partial(system.vectors.apply_m, proposed, parts)


@pytest.mark.parametrize("leaves", ["exact", "network"])
def test_objectives_of_hmatrix_apply_its_m_and_a(bubbles, leaves):
    network, vectors = proposing(leaves, 1), bubbles.vectors
    form = HMatrix(bubbles.operator, network)
    form.setup()
    rows = vectors.project(torch.randn(3, 24 * 16, dtype=torch.float64))
    with torch.no_grad():
        images = vectors.project(applied(bubbles, network)(rows))
    for row, image in zip(rows.view(3, 24, 16), images.view(3, 24, 16), strict=True):
        torch.testing.assert_close(image, form.apply(row, torch.empty_like(row)), rtol=1e-5, atol=3e-5)
    torch.testing.assert_close(
        vectors.apply_a(rows)[0].view(24, 16), bubbles.operator.matvec(rows[0].view(24, 16))
    )


@pytest.mark.parametrize("leaves", ["exact", "network"])
def test_the_closed_kaporin_number_of_hmatrix_is_the_dense_one(bubbles, leaves):
    """Up to a constant of the system: from all eigenvalues of MA, and from the objective that applies M."""
    count, n = 6, 24 * 16 - 1
    matrix, apart = bubbles.operator.to_csr().toarray(), []
    for seed in (1, 2):
        network = proposing(leaves, seed)
        form = HMatrix(bubbles.operator, network)
        form.setup()
        units = torch.eye(n + 1, dtype=torch.float64).view(n + 1, 24, 16)
        m = np.stack([form.apply(unit, torch.empty_like(unit)).numpy().ravel().copy() for unit in units])
        eigenvalues = np.sort(np.linalg.eigvals(m @ matrix).real)[1:]
        brute = (n * np.log(eigenvalues.mean()) - np.log(eigenvalues).sum()) / count
        with torch.no_grad():
            closed = float(bubbles.loss(network))
            dense = float(kaporin(applied(bubbles, network), bubbles.vectors.root)) * n / count
        apart.append((closed - dense, closed - brute))
    (first, first_brute), (second, second_brute) = apart
    assert first == pytest.approx(second, abs=1e-6)
    assert [first_brute, second_brute] == pytest.approx([first, second], abs=1e-3)


def test_the_far_fields_number_is_that_of_the_dense_coarse_problem(bubbles):
    """Up to a constant of the system and its U, which networks share that do not bend it."""
    geometry, apart = bubbles.geometry, []
    for seed in (1, 2):
        network = proposing("exact", seed)
        with torch.no_grad():
            network.leaf_head.weight.zero_()
            network.leaf_head.bias.zero_()
            parts = parts_of(geometry, network(geometry.features, geometry.tree), 2)
            torch.manual_seed(0)
            number = float(far_field_number(geometry, parts, 20_000))
        count, rank = len(parts.basis), geometry.rank
        units = torch.zeros(geometry.tree.count, rank, count * rank, dtype=torch.float64)
        units[geometry.tree.slots] = torch.eye(count * rank, dtype=torch.float64).view(count, rank, -1)
        work = parts.far.times(units)
        image = work + product(geometry.tree, parts.couplings, slice(None), work)
        eigenvalues = torch.linalg.eigvalsh(work.flatten(0, 1).mT @ image.flatten(0, 1))[1:]
        m = len(eigenvalues)
        dense = float(m * eigenvalues.mean().log() - eigenvalues.log().sum()) / count
        apart.append(number - dense)
    assert apart[0] == pytest.approx(apart[1], abs=2e-3)


@pytest.mark.parametrize(
    ("objective", "leaves"),
    [
        ("far-field", "exact"),
        *((o, leaves) for o in ("kaporin", "truncated", "cosine", "sai") for leaves in ("exact", "network")),
    ],
)
def test_every_objective_of_hmatrix_teaches(objective, leaves):
    model = {"leaves": leaves, "leaf_iterations": 2 if leaves == "exact" else 0}
    content = {"model": model, "training": {"objective": objective}, "data": {"seed": 2, "systems": 2}}
    content["data"]["large_systems"] = 0
    task = HMatrixTask(content)
    systems = task.systems()
    assert [system.cells for system in systems] == ([929] if objective == "truncated" else [929, 4087])
    torch.manual_seed(0)
    loss = task.loss(systems[0], 0)
    loss.backward()
    assert torch.isfinite(loss)
    gradients = {name: p.grad for name, p in task.network.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    heads = ["leaf_head", "strip_head"] + ["factor_head"] * (leaves == "network")
    assert all(gradients[f"{head}.weight"].abs().max() > 0.0 for head in heads)


def test_the_truncated_objective_wants_small_systems():
    content = {"training": {"objective": "truncated"}, "data": {"systems": 1, "large_systems": 0}}
    with pytest.raises(UsageError, match="1,100 cells"):
        HMatrixTask(content).systems()
