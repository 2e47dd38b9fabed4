"""The objectives: zero at the inverse, blind to scaling where they say so, with true gradients."""

from functools import partial

import pytest
import torch

from precond.training.objectives import cosine_hutchinson, kaporin, root_of, sai, smoothed


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
        }


@pytest.fixture(params=[False, True], ids=["open", "solids"])
def dense(request, make_case):
    return Dense(make_case((10, 9) if not request.param else (16, 11), 20.0, request.param))


def perturbation(dense, size):
    noise = torch.randn(dense.matrix.shape, dtype=torch.float64)
    return size * dense.inverse.diagonal().mean() * (noise + noise.T)


@pytest.mark.parametrize("name", ["cosine", "sai", "kaporin"])
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


@pytest.mark.parametrize("name", ["cosine", "kaporin"])
def test_scaling_has_no_effect(dense, name):
    loss = dense.losses()[name]
    m = dense.inverse + perturbation(dense, 1e-3)
    assert float(loss(37.0 * m)) == pytest.approx(float(loss(m)), rel=1e-9)
    indefinite = m - 0.5 * dense.inverse.diagonal().mean() * torch.eye(len(m), dtype=torch.float64)
    assert float(loss(37.0 * indefinite)) == pytest.approx(float(loss(indefinite)), rel=1e-9)


@pytest.mark.parametrize("name", ["cosine", "sai", "kaporin", "kaporin indefinite"])
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
    expected = eigenvalues.mean().log() - eigenvalues.log().mean()
    assert float(dense.losses()["kaporin"](m)) == pytest.approx(float(expected), rel=1e-8)


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
