"""Several threads: the same to the bit as one, errors that arrive, and a number that can be set."""

import threading

import numpy as np
import pytest
import torch

from precond import PCG, UsageError, available_preconditioners, make_preconditioner
from precond.host import threads
from precond.problems import gallery


@pytest.fixture(autouse=True)
def everywhere(monkeypatch):
    """Threads on small grids too, and the number as it was in the end."""
    monkeypatch.setattr(threads, "LEAST_CELLS", 256)
    monkeypatch.setattr(threads, "_count", threads.count())


@pytest.mark.parametrize("solids", [False, True])
@pytest.mark.parametrize("name", available_preconditioners(choosing=False))
def test_solves_do_not_depend_on_the_number(name, solids):
    """Set-up, solve, update and solve."""
    results = []
    for number in (1, 2, 3):
        threads.use(number)
        operator = gallery.problem("solids" if solids else "bubbles", 4096, 0, contrast=1e3).operator()
        b = torch.from_numpy(np.random.default_rng(0).standard_normal(operator.shape))
        preconditioner = make_preconditioner(name, operator)
        preconditioner.setup()
        reports = [PCG(operator, preconditioner, max_iterations=40).solve(b)]
        density = operator.density.clone()
        density[20:30, 20:30] = 7.0
        operator.update(density)
        preconditioner.update()
        reports.append(PCG(operator, preconditioner, max_iterations=40).solve(b))
        results.append(reports)
    for reports in results[1:]:
        for one, other in zip(results[0], reports, strict=True):
            assert one.history == other.history
            assert torch.equal(one.x, other.x)


def test_chunks_give_what_the_whole_gives(monkeypatch):
    """Multigrid's cycle but for what a compiler may round otherwise; solves but for the order of sums."""
    found = []
    for least in (10**9, 256):
        monkeypatch.setattr(threads, "LEAST_CELLS", least)
        operator = gallery.problem("bubbles", 8192, 0).operator()
        preconditioner = make_preconditioner("multigrid", operator)
        preconditioner.setup()
        residual = operator.project(
            torch.from_numpy(np.random.default_rng(0).standard_normal(operator.shape))
        )
        found.append((preconditioner.apply(residual, torch.empty_like(residual)), operator, preconditioner))
        found[-1] += (PCG(operator, preconditioner).solve(residual),)
    (one, *_, whole), (other, *_, cut) = found
    torch.testing.assert_close(one, other, rtol=0.0, atol=1e-12 * float(one.abs().max()))
    np.testing.assert_allclose(whole.history, cut.history, rtol=1e-3)


@pytest.mark.parametrize("number", [1, 2, 3, 7])
@pytest.mark.parametrize("even", [True, False])
def test_all_chunks_are_done_once(number, even):
    threads.use(number)
    done = np.zeros(12, dtype=int)

    def call(first, last):
        done[first:last] += 1

    for _ in range(50):
        threads.run(call, 12, even)
    assert (done == 50).all()
    rows = np.zeros(101, dtype=int)
    threads.run_rows(lambda begin, end: np.add(rows[begin:end], 1, out=rows[begin:end]), 101, 12, even)
    assert (rows == 1).all()


def test_a_pass_within_a_pass_and_two_callers_at_once():
    threads.use(3)
    done, lock = [], threading.Lock()

    def inner(first, last):
        with lock:
            done.extend(range(first, last))

    def outer(first, last):
        for _ in range(first, last):
            threads.run(inner, 4)

    callers = [threading.Thread(target=threads.run, args=(outer, 6)) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=20)
    assert sorted(done) == sorted(list(range(4)) * 12)


@pytest.mark.parametrize("bad", [0, 11])
def test_errors_arrive_and_the_threads_go_on(bad):
    threads.use(3)

    def call(first, last):
        if first <= bad < last:
            raise ValueError(f"chunk {bad}")

    with pytest.raises(ValueError, match=f"chunk {bad}"):
        threads.run(call, 12)
    done = []
    threads.run(lambda first, last: done.append(last - first), 12)
    assert sum(done) == 12


@pytest.mark.parametrize("said", ["", "0", "-1", "many", "1.5", "65"])
def test_a_number_that_is_none_is_refused(monkeypatch, said):
    monkeypatch.setattr(threads, "_count", 0)
    monkeypatch.setenv(threads.VARIABLE, said)
    with pytest.raises(UsageError, match="whole number from 1 to 64"):
        threads.count()


def test_the_number_can_be_said(monkeypatch):
    monkeypatch.setattr(threads, "_count", 0)
    monkeypatch.setenv(threads.VARIABLE, "5")
    assert threads.count() == 5
    assert threads.used(255) == 1
    assert threads.used(256) == 5
