"""Bytes are counted once, whatever reaches them and however often."""

import functools

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

from app.bench.held_memory import held_bytes, precision
from precond import make_preconditioner
from precond.problems.gallery import bubbles


class Holder:
    def __init__(self, **parts):
        vars(self).update(parts)


def test_views_of_one_storage_count_once_and_whole():
    tensor = torch.zeros(100, dtype=torch.float64)
    array = np.zeros(50, dtype=np.float32)
    shared = tensor.numpy()
    holder = Holder(
        a=tensor[3:7], b=tensor.view(10, 10), c=[array[::2], {"d": array}], e=shared, f="text", g=3
    )
    assert held_bytes(holder) == {"float64": 800, "float32": 200}


def test_closures_methods_and_partials_are_looked_into():
    hidden, default, bound = (np.zeros(n) for n in (1, 2, 4))

    def function(x=default):
        return hidden, x

    holder = Holder(f=function, g=functools.partial(print, bound))
    holder.itself = holder  # a circle
    assert held_bytes(holder) == {"float64": 8 * 7}
    assert held_bytes(Holder(data=hidden).__init__) == {"float64": 8}


def test_what_belongs_to_another_is_left_out():
    mine, other = np.zeros(10), np.zeros(20)
    assert held_bytes([mine, other[5:]], without={"x": other}) == {"float64": 80}


def test_sparse_matrices_and_factors():
    matrix = scipy.sparse.csc_array(
        scipy.sparse.diags_array([np.full(30, 4.0), -np.ones(29)], offsets=[0, 1])
    )
    assert held_bytes(Holder(m=matrix)) == {"float64": 8 * 59, "int32": 4 * 59 + 4 * 31}
    factor = scipy.sparse.linalg.splu(matrix)
    assert held_bytes(factor) == {"float64": 8 * factor.nnz, "int32": 4 * factor.nnz}
    assert factor.nnz >= factor.L.nnz + factor.U.nnz  # zeros within its supernodes are stored too


def test_the_precision_is_that_of_most_bytes():
    assert precision(held_bytes(None)) == "float64"
    assert precision({"float32": 100, "int64": 900}) == "float32"
    assert precision({"float32": 96, "float64": 4}) == "float32"
    assert precision({"float32": 90, "float64": 10}) == "float32+float64"


@pytest.mark.parametrize("name", ["jacobi", "multigrid", "block-jacobi", "direct"])
def test_preconditioners_hold_more_on_larger_grids_and_not_the_operator(name):
    sizes = []
    for side in (16, 32):
        operator = bubbles((side, side)).operator()
        preconditioner = make_preconditioner(name, operator)
        preconditioner.setup()
        sizes.append(sum(held_bytes(preconditioner, without=operator).values()))
        assert sizes[-1] < sum(held_bytes(preconditioner).values())
    assert sizes[1] > 2 * sizes[0]
    assert sizes[0] >= 256 * 8
