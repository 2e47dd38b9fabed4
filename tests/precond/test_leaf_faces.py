"""Faces leaf by leaf: blocks and Galerkin blocks made of them are the dense matrix's."""

import numpy as np
import pytest
import torch

from precond.partition.leaf_faces import LeafFaces, face_weights
from precond.poisson import PoissonOperator
from precond.two_level.block_jacobi import BlockJacobi
from precond.two_level.coarse_operator import CoarseOperator, LeafPairs, galerkin_blocks


@pytest.mark.parametrize(("leaf_size", "aligned"), [(16, True), (32, True), (20, False)])
def test_faces_add_up_to_the_leaves_blocks(make_case, leaf_size, aligned):
    """The sum of w (e_i - e_j) (e_i - e_j)^T over a leaf's faces is its block of the assembled matrix."""
    case = make_case((22, 13), 100.0, True)
    leaves = BlockJacobi(case.operator, leaf_size, aligned=aligned)
    position = leaves.position.numpy()
    faces = LeafFaces.of(PoissonOperator((22, 13)), position, leaf_size)
    weights = face_weights(case.operator)[faces.face]
    count = len(faces.face)
    cells = np.full(count * leaf_size + 1, 22 * 13)
    cells[position] = np.arange(22 * 13)
    matrix = np.zeros((22 * 13 + 1, 22 * 13 + 1))
    matrix[:-1, :-1] = case.matrix
    unit = torch.eye(count * leaf_size + 1, dtype=torch.float64)
    unit[-1] = 0.0
    for k in range(count):
        differences = unit[faces.first[k]] - unit[faces.second[k]]
        block = (differences.mT * weights[k]) @ differences
        own = slice(k * leaf_size, (k + 1) * leaf_size)
        expected = matrix[np.ix_(cells[:-1][own], cells[:-1][own])]
        np.testing.assert_allclose(block[own, own].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("some", [False, True])
def test_the_coarse_operator_of_faces_is_galerkins(make_case, some):
    case = make_case((22, 13), 100.0, False)
    leaves = BlockJacobi(case.operator, 16, aligned=True)
    leaves.setup()
    pairs = LeafPairs.of(case.operator, leaves.position.numpy(), 16)
    coarse_operator = CoarseOperator(leaves.faces, pairs, 3)
    basis = torch.randn((len(leaves.blocks), 16, 3), dtype=torch.float64)
    basis[~leaves.coupled] = 0.0  # on the padding
    coarse_operator.update(basis)
    weights = face_weights(case.operator)
    own, between = galerkin_blocks(basis, leaves.blocks, pairs, weights)
    which = (torch.tensor([2, 0]), torch.tensor([4])) if some else (slice(None), slice(None))
    torch.testing.assert_close(coarse_operator.own(weights, which[0]), own[which[0]], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        coarse_operator.between(weights, which[1]), between[which[1]], rtol=1e-10, atol=1e-10
    )
