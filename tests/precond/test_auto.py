"""`auto`: the policy with made-up costs, and a solve in whose middle another method takes over."""

import numpy as np
import pytest
import torch

from precond import PCG, PreconditionerError, make_preconditioner
from precond.auto import PATIENCE, Auto, Choice
from precond.host import compiled

Costs = dict[str, tuple[float, float]]  # of a method: seconds of a whole solve, and of its set-up


def decided(choice: Choice, solves: int, costs: Costs) -> list[str]:
    """What it says in so many solves, each of which costs what ``costs`` says."""
    names = []
    for _ in range(solves):
        names.append(choice.decide())
        choice.learn(*costs[names[-1]])
    return names


def taught(costs: Costs) -> Choice:
    """A choice that has tried each of its methods once, at these costs."""
    choice = Choice(list(costs))
    assert decided(choice, len(costs), costs) == list(costs)
    return choice


def test_unknown_methods_are_tried_once_each_and_then_the_cheapest_is_used() -> None:
    choice = Choice(["a", "b", "c"])
    names, reasons = [], []
    for seconds in (3.0, 1.0, 2.5):
        names.append(choice.decide())
        reasons.append(choice.why)
        choice.learn(seconds, 0.1)
    assert names == ["a", "b", "c"]
    assert reasons == ["the first", "not tried yet", "not tried yet"]
    assert choice.decide() == choice.used == "b"
    assert choice.why == "the cheapest lately"


def test_a_method_that_was_never_done_stays_unknown() -> None:
    """Nothing was learned of it, so it is asked again."""
    choice = Choice(["a", "b"])
    assert [choice.decide() for _ in range(3)] == ["a"] * 3


@pytest.mark.parametrize("dear", [1.9, 50.0])
def test_another_method_is_tried_again_ever_more_seldom(dear: float) -> None:
    """Where its set-up takes less than the whole of the cheapest, however much the rest of it takes."""
    costs = {"a": (dear, 0.9), "b": (1.0, 0.5)}
    names = decided(taught(costs), 1000, costs)
    gaps = np.diff(np.flatnonzero(np.array(names) == "a"))
    first, last = PATIENCE
    assert names.index("a") < first
    assert gaps.tolist() == [first * 2**k for k in range(1, 6)] + [last] * (len(gaps) - 5)
    assert len(gaps) >= 6


def test_the_reason_tells_how_long_it_was_not_tried() -> None:
    choice = taught({"a": (1.9, 0.1), "b": (1.0, 0.1)})
    while choice.decide() == "b":
        choice.learn(1.0, 0.1)
    assert choice.why == f"not tried for {PATIENCE[0]} solves"


def test_one_whose_set_up_alone_takes_longer_is_hardly_tried_again() -> None:
    """Its set-up may have compiled something, so it is not left out for good."""
    costs = {"a": (1.5, 1.1), "b": (1.0, 0.1)}
    assert decided(taught(costs), 1000, costs).count("a") == 1000 // PATIENCE[1]


def test_a_method_that_has_become_cheaper_is_found_and_kept() -> None:
    """One trial is enough: what it cost long ago does not count."""
    choice = taught({"a": (1.5, 0.1), "b": (1.0, 0.1)})
    names = decided(choice, 100, {"a": (0.8, 0.1), "b": (1.0, 0.1)})
    assert names[0] == "b"
    assert names[names.index("a") :].count("b") <= 6  # tried again now and then
    assert names[-1] == choice.decide() == "a"


def test_one_slow_solve_is_forgiven_and_several_are_not() -> None:
    choice = taught({"a": (1.0, 1.0), "b": (3.0, 3.0)})
    assert decided(choice, 1, {"a": (4.0, 1.0)}) == ["a"]
    assert decided(choice, 8, {"a": (1.0, 1.0)}) == ["a"] * 8
    assert decided(choice, 6, {"a": (8.0, 8.0), "b": (3.0, 3.0)})[-1] == "b"


def test_a_solve_that_costs_more_than_another_method_has_a_rival() -> None:
    choice = taught({"a": (1.0, 0.1), "b": (2.0, 0.1), "c": (1.5, 0.1)})
    assert choice.decide() == "a"
    assert choice.rival(1.2) == ""
    assert choice.rival(1.6) == "c"
    assert choice.rival(2.5) == "c"  # the cheapest of those
    choice.switch("c", 1.6, 0.1)
    assert (choice.used, choice.why) == ("c", "a took too long")
    assert choice.decide() == "c"  # what was left counts as dearer than it was so far
    choice.learn(1.5, 0.1)
    names = decided(choice, PATIENCE[0], {"a": (1.0, 0.1), "b": (2.0, 0.1), "c": (1.5, 0.1)})
    assert names[-1] == "a"  # it was a hiccup: after a while it is used again


def test_what_was_measured_among_other_solids_counts_twice() -> None:
    """Neither a cheaper method, nor one to try, nor a rival, until that much is to be gained."""
    choice = taught({"a": (1.0, 0.1), "b": (1.5, 0.1)})
    choice.geometry = 1
    assert decided(choice, 9, {"a": (2.0, 0.1)}) == ["a"] * 9
    assert choice.decide() == "a"
    assert choice.rival(2.5) == ""
    assert choice.rival(3.1) == "b"
    assert decided(choice, 12, {"a": (9.0, 0.1), "b": (4.0, 0.1)})[-1] == "b"
    assert choice.rival(3.0) == ""  # it is known now what both cost here


def test_a_method_that_nothing_is_known_of_is_no_rival() -> None:
    choice = Choice(["a", "b"])
    choice.decide()
    assert choice.rival(1e9) == ""


class Clock:
    """Stands still for so many calls once it is armed, then jumps."""

    def __init__(self) -> None:
        self.left, self.jump = -1, 0.0

    def arm(self, calls: int, jump: float) -> None:
        self.left, self.jump = calls, jump

    def __call__(self) -> float:
        self.left -= 1
        return self.jump if self.left == -1 else 0.0


def slow_jacobi(operator, clock: Clock) -> Auto:
    """Takes jacobi to cost one second and multigrid fifty; set up for the next solve with jacobi."""
    auto = Auto(operator, "jacobi,multigrid", clock)
    auto.setup()
    auto.solved(1.0)
    auto.update()
    auto.solved(50.0)
    auto.update()
    assert auto.choice == "jacobi: the cheapest lately"
    return auto


@pytest.mark.parametrize("form", ["compiled", "torch"])
@pytest.mark.parametrize("solids", [False, True])
def test_another_method_takes_over_in_the_middle_of_a_solve(make_case, monkeypatch, form, solids) -> None:
    monkeypatch.setattr(compiled, "used", form == "compiled" and compiled.used)
    case, clock = make_case((40, 27), 100.0, solids), Clock()
    auto = slow_jacobi(case.operator, clock)
    b = case.vectors(1)[0]
    clock.arm(12, 60.0)
    applied = []
    for name, method in auto._methods.items():
        monkeypatch.setattr(
            method, "_apply", lambda *v, name=name, run=method._apply: applied.append(name) or run(*v)
        )
    report = PCG(case.operator, auto, rtol=1e-10).solve(b)
    assert report.converged
    assert report.flexible
    assert (report.method, report.choice) == ("auto", "multigrid: jacobi took too long")
    assert applied[:13] == ["jacobi"] * 12 + ["multigrid"]
    assert set(applied[12:]) == {"multigrid"}
    assert case.residual(report.x, b) < 1.01e-10
    expected = case.solution(b)
    np.testing.assert_allclose(report.x.numpy(), expected, atol=1e-6 * np.abs(expected).max())
    plain = make_preconditioner("jacobi", case.operator)
    plain.setup()
    assert report.iterations < PCG(case.operator, plain, rtol=1e-10).solve(b).iterations
    auto.update()
    assert auto.choice == "multigrid: the cheapest lately"  # of what two shared nothing was learned


def test_a_solve_changes_its_method_once(make_case) -> None:
    case, clock = make_case((24, 19), 100.0, False), Clock()
    auto = slow_jacobi(case.operator, clock)
    auto._clock = iter(range(0, 100_000, 60)).__next__  # a minute for every look
    auto.update()
    report = PCG(case.operator, auto).solve(case.vectors(1)[0])
    assert report.converged
    assert report.choice == "multigrid: jacobi took too long"


def test_it_follows_the_coefficients_with_the_method_in_use(make_case) -> None:
    """Whichever that is: also one that was not used for a while."""
    case = make_case((40, 27), 100.0, False)
    auto = slow_jacobi(case.operator, Clock())
    case.operator.update(torch.from_numpy(case.density).flip(0) * 3.0)
    auto.solved(1e4)
    auto.update()
    assert auto.method.name == "multigrid"
    assert auto.is_current
    assert auto.method.is_current
    alone = make_preconditioner("multigrid", case.operator)
    alone.setup()
    residual = case.vectors(1)[0]
    results = [m.apply(residual, torch.empty_like(residual)) for m in (auto, alone)]
    torch.testing.assert_close(*results)


def test_the_report_of_every_solve_says_what_was_used(make_case) -> None:
    case = make_case((24, 19), 100.0, False)
    auto, b = Auto(case.operator, "jacobi,multigrid", lambda: 0.0), case.vectors(1)[0]
    choices = []
    for _ in range(3):
        auto.update()
        report = PCG(case.operator, auto).solve(b)
        choices.append(report.choice)
        assert not report.flexible  # one method from the first iteration to the last
    assert choices[:2] == ["jacobi: the first", "multigrid: not tried yet"]
    assert choices[2].endswith(": the cheapest lately")
    plain = make_preconditioner("jacobi", case.operator)
    plain.setup()
    assert PCG(case.operator, plain).solve(b).choice == ""


def test_candidates_may_stand_in_the_name(make_case) -> None:
    auto = make_preconditioner("auto:candidates=jacobi,multigrid", make_case((12, 9), 10.0, False).operator)
    auto.setup()
    assert auto.choice == "jacobi: the first"


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ("multigrid", "two or more other methods, not multigrid"),
        (["jacobi", "jacobi"], "two or more other methods"),
        ("jacobi,auto", "two or more other methods, not jacobi, auto"),
        ("jacobi,magic", "unknown preconditioner 'magic'"),
    ],
)
def test_candidates_that_cannot_be_are_named(make_case, candidates, words) -> None:
    operator = make_case((12, 9), 10.0, False).operator
    with pytest.raises(PreconditionerError, match=words):
        make_preconditioner("auto", operator, candidates=candidates)


def test_a_method_that_is_being_compiled_is_not_tried_yet(monkeypatch) -> None:
    monkeypatch.setattr("precond.auto.being_compiled", {"b"})
    choice, costs = Choice(["a", "b"]), {"a": (3.0, 0.1), "b": (1.0, 0.1)}
    assert decided(choice, 20, costs) == ["a"] * 20
    monkeypatch.setattr("precond.auto.being_compiled", set())
    assert decided(choice, 3, costs) == ["b"] * 3
