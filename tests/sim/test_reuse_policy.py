"""The set-up policy: what is done in a frame updates from the iteration counts of the frames before."""

from types import SimpleNamespace

import pytest

from precond.learned import coarse_learned
from sim.reuse_policy import ReusePolicy
from sim.scenes import load_scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation


class Recorded:
    """Notes what a policy asks for."""

    def __init__(self):
        self.calls = []
        self.operator = SimpleNamespace(geometry_version=1)

    def setup(self):
        self.calls.append("setup")

    def update(self):
        self.calls.append("update")


def run(counts, reuse=True, converged=True):
    policy, preconditioner = ReusePolicy(), Recorded()
    for count in counts:
        policy.before_solve(preconditioner, reuse)
        policy.after_solve(SimpleNamespace(iterations=count, converged=converged))
    return preconditioner.calls


@pytest.mark.parametrize(
    ("counts", "setups"),
    [
        ([12, 13, 16, 16, 17, 12, 12], [0, 5]),  # 16 is a third more than 12, 17 is past it
        ([3, 4, 5, 6, 3], [0, 4]),  # small counts may grow by two
        ([12, 9, 8, 12], [0]),
        ([0, 0, 3, 3, 3], [0, 3]),
    ],
)
def test_a_count_grown_by_a_third_asks_for_a_new_setup(counts, setups):
    calls = run(counts)
    assert [frame for frame, call in enumerate(calls) if call == "setup"] == setups


def test_failed_solves_and_no_reuse_set_up_every_frame():
    assert run([9, 9, 9], converged=False) == ["setup"] * 3
    assert run([9, 9, 9], reuse=False) == ["setup"] * 3


def solve(policy, preconditioner, count):
    policy.before_solve(preconditioner, True)
    policy.after_solve(SimpleNamespace(iterations=count, converged=True))


def test_new_solids_and_another_preconditioner_are_judged_by_their_own_count():
    policy, first, second = ReusePolicy(), Recorded(), Recorded()
    for count in (6, 6):
        solve(policy, first, count)
    first.operator.geometry_version = 2
    for count in (30, 39, 40):  # past the old limit; 40 is what the new one allows
        solve(policy, first, count)
    assert first.calls == ["setup", "update", "setup", "update", "update"]
    for count in (3, 5, 6, 3):  # past the second's own limit, within the first's
        solve(policy, second, count)
    assert second.calls == ["setup", "update", "update", "setup"]


@pytest.mark.parametrize("failing", ["setup", "update"])
def test_after_a_call_that_raised_a_setup_is_due(failing):
    policy, preconditioner = ReusePolicy(), Recorded()
    if failing == "update":
        policy.before_solve(preconditioner, True)
        policy.after_solve(SimpleNamespace(iterations=5, converged=True))
    setattr(preconditioner, failing, lambda: (_ for _ in ()).throw(RuntimeError("no")))
    with pytest.raises(RuntimeError):
        policy.before_solve(preconditioner, True)
    calls = Recorded()
    policy.before_solve(calls, True)
    assert calls.calls == ["setup"]


def test_the_network_runs_when_the_policy_says_so_and_is_reported(monkeypatch):
    """Updates ask it about the leaves alone that the interface has reached."""
    asked, columns_of = [], coarse_learned.columns_of
    monkeypatch.setattr(coarse_learned, "columns_of", lambda *of: asked.append(len(of[0])) or columns_of(*of))
    scene, totals = load_scene("dam-break"), []
    for reuse in (True, False):
        asked.clear()
        settings = {**scene.settings, "grid": (64, 32), "preconditioner": "coarse-learned"}
        simulation = Simulation(SimulationSettings(**settings, reuse_setup=reuse), scene)
        reports = [simulation.step() for _ in range(40)]
        assert reports[0].inference_ms > 0.0
        assert len(asked) <= 40 if reuse else len(asked) == 40
        assert all(report.solve.converged and not report.fallback for report in reports)
        assert max(report.solve.iterations for report in reports) <= 14
        totals.append(sum(asked))
    assert totals[0] < 0.7 * totals[1]
