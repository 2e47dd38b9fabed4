"""The operator against the matrix assembled face by face."""

import numpy as np
import pytest
import torch

from precond import PoissonOperator


def test_matvec_diagonal_and_csr_are_the_assembled_matrix(case):
    p = torch.from_numpy(case.rng.standard_normal(case.shape))
    expected = case.matrix @ p.numpy().ravel()
    np.testing.assert_allclose(case.operator.matvec(p).numpy().ravel(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(case.operator.diagonal().numpy().ravel(), np.diag(case.matrix), rtol=1e-13)
    np.testing.assert_allclose(case.operator.to_csr().toarray(), case.matrix, rtol=1e-13)


def test_matvec_takes_any_layout_and_fills_out(case):
    p = torch.from_numpy(case.rng.standard_normal(case.shape[::-1])).T
    out = torch.full(case.shape, torch.nan, dtype=torch.float64)
    assert case.operator.matvec(p, out) is out
    np.testing.assert_allclose(out.numpy().ravel(), case.matrix @ p.numpy().ravel(), rtol=1e-12, atol=1e-12)


def test_projection_is_by_component_and_in_place(case):
    v = torch.from_numpy(case.rng.standard_normal(case.shape))
    expected = case.project(v)
    assert case.operator.project(v) is v
    np.testing.assert_allclose(v.numpy(), expected, atol=1e-14)


def test_one_anchor_in_every_fluid_component(case):
    labels = case.label[case.operator.anchors.numpy()]
    assert sorted(labels) == sorted(np.unique(case.label[~case.solid.ravel()]))
    assert case.operator.component_sizes.tolist() == [int((case.label == label).sum()) for label in labels]


def test_face_weights_vanish_at_walls_and_solids(make_case):
    case = make_case((28, 17), 100.0, True)
    wx, wy = case.operator.face_weights_x.numpy(), case.operator.face_weights_y.numpy()
    assert not wx[[0, -1]].any()
    assert not wy[:, [0, -1]].any()
    assert not wx[:-1][case.solid].any()
    assert not wx[1:][case.solid].any()
    assert not wy[:, :-1][case.solid].any()
    assert not wy[:, 1:][case.solid].any()
    assert wx[1, 0] == pytest.approx(case.density[:2, 0].sum() / (2 * case.density[:2, 0].prod()))


def test_update_and_solids_keep_every_pointer(make_case):
    case, other = make_case((28, 17), 100.0, False), make_case((28, 17), 3.0, True, seed=1)
    operator = case.operator
    tensors = [operator.face_weights_x, operator.face_weights_y, operator.diagonal()]
    product = operator.bind(p := torch.ones(case.shape, dtype=torch.float64), out := torch.zeros_like(p))
    operator.set_solid(other.solid)
    operator.update(torch.from_numpy(other.density))
    assert [t.data_ptr() for t in tensors] == [
        t.data_ptr() for t in (operator.face_weights_x, operator.face_weights_y, operator.diagonal())
    ]
    p.copy_(torch.from_numpy(case.rng.standard_normal(case.shape)))
    product()
    np.testing.assert_allclose(out.numpy().ravel(), other.matrix @ p.numpy().ravel(), rtol=1e-12, atol=1e-12)


def test_the_density_given_is_copied():
    density = torch.ones(8, 8, dtype=torch.float64)
    operator = PoissonOperator.from_density(density)
    density.fill_(5.0)
    operator.set_solid(torch.zeros(8, 8))
    assert operator.face_weights_x[1, 0] == 1.0


@pytest.mark.parametrize(
    ("density", "words"),
    [
        (np.ones(64), "2-D"),
        (np.ones((7, 20)), "at least 8"),
        (np.where(np.arange(100).reshape(10, 10) == 5, np.nan, 1.0), "finite"),
        (np.where(np.arange(100).reshape(10, 10) == 5, 0.0, 1.0), "positive"),
    ],
)
def test_bad_densities_are_refused_with_a_reason(density, words):
    with pytest.raises(ValueError, match=words):
        PoissonOperator.from_density(density)


def test_solids_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        PoissonOperator.from_density(np.ones((10, 12)), np.zeros((12, 10), dtype=bool))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_solids_that_are_not_finite_are_refused(value):
    operator = PoissonOperator.from_density(np.ones((10, 12)))
    solid = np.zeros((10, 12))
    solid[2, 3] = value
    with pytest.raises(ValueError, match="solid must hold truth values"):
        operator.set_solid(solid)
    assert not operator.solid.any()


@pytest.mark.parametrize("device", ["foo", "meta", "cuda:77", object(), ""])
def test_devices_that_cannot_be_used_are_refused(device):
    with pytest.raises(ValueError, match=r"^device must be one that torch can use here, not [^\n]*$"):
        PoissonOperator.from_density(np.ones((10, 12)), device=device)


def test_a_box_full_of_solids_projects_to_zero():
    operator = PoissonOperator.from_density(np.ones((9, 9)), np.ones((9, 9), dtype=bool))
    assert operator.components == 0
    assert not operator.project(torch.ones(9, 9, dtype=torch.float64)).any()


def test_the_same_solids_again_are_no_new_geometry(make_case):
    operator = make_case((28, 17), 100.0, True).operator
    version = operator.geometry_version
    operator.set_solid(operator.solid.clone())
    operator.set_solid(operator.solid.numpy().tolist())
    assert operator.geometry_version == version
    changed = operator.solid.clone()
    changed[0, 0] = True
    operator.set_solid(changed)
    assert operator.geometry_version != version
