"""Negative controls: what is wrong does not get past the benchmark."""

import dataclasses
import itertools
import time

import pytest
import torch

from app.bench import adapters, case
from app.bench.case import clock_fault
from precond import PCG, Outcome


def by_method(found, name):
    return [row for row in found.rows if row["method"] == name]


@pytest.fixture
def spoil(monkeypatch):
    """``spoil(apply)`` replaces Jacobi's application; ``apply(right, residual, out)`` may call ``right``."""

    def replace(apply):
        make = adapters.make_preconditioner

        def made(name, operator):
            preconditioner = make(name, operator)
            if name == "jacobi":
                right = preconditioner._apply
                monkeypatch.setattr(
                    preconditioner, "_apply", lambda residual, out: apply(right, residual, out)
                )
            return preconditioner

        monkeypatch.setattr(adapters, "make_preconditioner", made)

    return replace


def half_negative(right, residual, out):
    right(residual, out)
    out[: len(out) // 2].neg_()


def half_times_its_neighbour(right, residual, out):
    """Not symmetric: on half of the cells M reads the residual of other cells."""
    right(residual.roll(5, 0), out)
    out[len(out) // 2 :] *= 50.0


def constant_zero(_right, _residual, out):
    out.zero_()


def negative(right, residual, out):
    right(residual, out)
    out.neg_()


def not_a_number(_right, _residual, out):
    out.fill_(torch.nan)


@pytest.mark.parametrize(
    "wrong", [half_negative, half_times_its_neighbour, constant_zero, negative, not_a_number]
)
def test_a_wrong_preconditioner_fails_and_the_right_one_beside_it_does_not(wrong, spoil, benched):
    spoil(wrong)
    found = benched("--max-iterations", "400")
    assert {row["outcome"] for row in by_method(found, "multigrid")} == {"converged"}
    for row in by_method(found, "jacobi"):
        assert row["outcome"] in {outcome.value for outcome in Outcome} - {"converged"}
        assert row["relative_residual"] is None or row["relative_residual"] > 1e-8


def test_a_solver_that_lies_about_its_residual_fails(monkeypatch, benched):
    class Liar(PCG):
        def solve(self, b, x0=None):
            report = super().solve(b, x0)
            report.x[3, 3] += 1e-6 * float(report.x.abs().max())
            return report

    monkeypatch.setattr(adapters, "PCG", Liar)
    found = benched(preconds=("jacobi",))
    assert all(row["outcome"].startswith("failed: the true residual is") for row in found.rows)


def test_solving_another_matrix_than_the_frames_fails(monkeypatch, benched):
    """A set-up that changes the operator makes the solver's own residual small, and the frame's large."""
    monkeypatch.setattr(
        "precond.classical.diagonal.Jacobi._setup",
        lambda self: self.operator.update(self.operator.density + 1.0) or 0.0,
    )
    found = benched()
    assert {row["outcome"][:27] for row in by_method(found, "jacobi")} <= {
        "failed: the true residual i",
        "indefinite preconditioner",
    }
    assert {row["outcome"] for row in by_method(found, "multigrid")} == {"converged"}


@pytest.mark.parametrize("where", ["constant", "solid"])
def test_a_right_hand_side_that_is_not_projected_is_caught(where, monkeypatch, benched):
    make = case.problem

    def unprojected(*arguments):
        system = make(*arguments)
        b = system.b.clone()
        if where == "constant":
            b += 1e-6 * float(b.abs().max()) * ~system.solid
        else:
            b[system.solid] = 1.0
        return dataclasses.replace(system, b=b)

    monkeypatch.setattr(case, "problem", unprojected)
    found = benched("--sizes", "250", preconds=("jacobi",))
    assert {row["outcome"] for row in found.rows} == {
        "failed: b is not of mean zero over each sealed component, as well-posed conditions have it"
    }


def still():
    return lambda: 12.0


def backwards():
    numbers = itertools.count(1e6, -1.0)
    return lambda: next(numbers)


def racing():
    clock = time.perf_counter
    return lambda: 3.0 * clock()


@pytest.mark.parametrize(
    ("clock", "said"), [(still, "stood still"), (backwards, "ran backwards"), (racing, "do not add up")]
)
@pytest.mark.parametrize("conditions", ["well-posed", "published"])
def test_a_broken_clock_is_caught(clock, said, conditions, monkeypatch, benched):
    broken = clock()
    monkeypatch.setattr(time, "perf_counter", broken)
    found = benched("--conditions", conditions, preconds=("none", "jacobi"))
    monkeypatch.undo()
    assert len(found.rows) == (4 if conditions == "well-posed" else 8)
    assert all(row["outcome"].startswith("failed: the") and said in row["outcome"] for row in found.rows)
    assert {row["solve_ms"] for row in found.rows} == {None}


@pytest.mark.parametrize(
    ("setup", "inference", "solve", "elapsed", "said"),
    [
        (0.1, 0.2, 0.3, 0.601, ""),
        (0.0, 0.0, 0.3, 0.301, ""),
        (0.1, 0.2, 0.3, 0.5, "do not add up"),
        (0.1, 0.0, 0.1, 0.6, "do not add up"),
        (0.1, -0.2, 0.3, 0.2, "backwards"),
        (0.1, 0.0, 0.0, 0.1, "stood still"),
        (0.1, float("nan"), 0.1, 0.2, "nan"),
        (0.1, 0.0, float("inf"), 0.2, "inf"),
    ],
)
def test_seconds_must_fit_into_those_of_another_clock(setup, inference, solve, elapsed, said):
    fault = clock_fault({"setup": setup, "inference": inference, "solve": solve}, elapsed)
    assert said in fault if said else fault == ""
