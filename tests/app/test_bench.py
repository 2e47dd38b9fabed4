"""The benchmark: complete, repeatable, and honest about failures."""

import json
import signal

import numpy as np
import pytest

from app.bench import contest as contest_module
from app.bench.row import TIMES
from app.bench.run import bench
from app.bench.settings import FAMILIES, BenchSettings
from app.bench.table import format_table, tabulate
from app.cli import main
from precond import PCG, available_preconditioners, make_preconditioner
from precond.device import while_node
from precond.problems import gallery
from precond.problems.gallery import benchmark_density


def run(directory, *arguments, sizes=("64", "144")):
    code = main(["bench", "--sizes", *sizes, "--out", str(directory), *arguments])
    return code, json.loads((directory / "bench.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bench") / "small"
    code, content = run(directory, "--preconds", "none", "jacobi", "direct", "--frames", "4", "--seed", "1")
    assert code == 0
    return content


def test_every_solve_is_in_the_file(result):
    keys = [(row["cells"], row["frame"], row["preconditioner"]) for row in result["rows"]]
    expected = {(n, f, name) for n in (64, 144) for f in range(4) for name in ("none", "jacobi", "direct")}
    assert len(keys) == len(expected)
    assert set(keys) == expected
    for row in result["rows"]:
        assert row["outcome"] == "converged"
        assert row["relative_residual"] <= 1e-8
        assert row["total_ms"] == pytest.approx(row["setup_ms"] + row["inference_ms"] + row["solve_ms"])
        assert row["solve_ms"] > 0.0
    assert result["ended"] == "completed"
    assert result["settings"]["seed"] == 1
    assert {"command", "date", "versions", "hardware", "commit", "skipped"} <= set(result)


def test_methods_take_turns_in_a_drawn_order(result):
    orders = {}
    for row in result["rows"]:
        orders.setdefault((row["cells"], row["frame"]), []).append((row["turn"], row["preconditioner"]))
    assert len({tuple(name for _, name in order) for order in orders.values()}) > 1
    for order in orders.values():
        assert [turn for turn, _ in order] == [0, 1, 2]


def test_the_table_is_that_of_the_rows(result):
    assert [(entry["cells"], entry["frames"], entry["failed"]) for entry in result["table"]] == [
        (64, 4, 0),
        (64, 4, 0),
        (64, 4, 0),
        (144, 4, 0),
        (144, 4, 0),
        (144, 4, 0),
    ]
    for entry in result["table"]:
        mine = [
            row
            for row in result["rows"]
            if (row["cells"], row["preconditioner"]) == (entry["cells"], entry["preconditioner"])
        ]
        iterations = np.array([row["iterations"] for row in mine])
        assert entry["iterations_mean"] == pytest.approx(iterations.mean())
        assert entry["iterations_std"] == pytest.approx(iterations.std(ddof=1))
        for time in TIMES:
            assert entry[time]["median"] == pytest.approx(np.median([row[time] for row in mine]))
            assert entry[time]["p95"] == pytest.approx(np.percentile([row[time] for row in mine], 95))


def test_what_is_printed_is_what_is_written_and_iterations_repeat(result, tmp_path, capsys):
    arguments = ("--preconds", "none", "jacobi", "direct", "--frames", "4", "--seed", "1")
    code, again = run(tmp_path / "again", *arguments)
    assert code == 0
    printed = capsys.readouterr().out
    assert format_table(again["table"]) in printed
    assert str(tmp_path / "again" / "bench.json") in printed
    for entry in again["table"]:
        line = next(
            line
            for line in printed.splitlines()
            if line.split()[:2] == [str(entry["cells"]), entry["preconditioner"]]
        )
        assert f"{entry['iterations_mean']:.1f} +- {entry['iterations_std']:.1f}" in line
        assert f"{entry['total_ms']['median']:.2f} ({entry['total_ms']['p95']:.2f})" in line
    same = ("cells", "frame", "preconditioner", "turn", "outcome", "iterations", "relative_residual")
    assert [[row[key] for key in same] for row in again["rows"]] == [
        [row[key] for key in same] for row in result["rows"]
    ]


def test_a_row_is_the_solve_of_its_frame(result):
    problem = benchmark_density(144, 2, split="test")
    operator = problem.operator()
    preconditioner = make_preconditioner("jacobi", operator)
    preconditioner.setup()
    report = PCG(operator, preconditioner, rtol=1e-8).solve(problem.b)
    row = next(
        row
        for row in result["rows"]
        if (row["cells"], row["frame"], row["preconditioner"]) == (144, 2, "jacobi")
    )
    assert row["iterations"] == report.iterations > 5


def test_unconverged_solves_count_as_failed_and_stay_in(tmp_path, capsys):
    code, content = run(
        tmp_path / "few", "--preconds", "none", "direct", "--frames", "3", "--max-iterations", "3"
    )
    assert code == 0
    failed = {(entry["cells"], entry["preconditioner"]): entry["failed"] for entry in content["table"]}
    assert failed == {(64, "none"): 3, (64, "direct"): 0, (144, "none"): 3, (144, "direct"): 0}
    assert len(content["rows"]) == 12
    assert {row["outcome"] for row in content["rows"] if row["preconditioner"] == "none"} == {
        "iteration limit"
    }
    assert capsys.readouterr().out.count("3/3") == 2


def test_a_breaking_method_counts_as_failed_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    make = contest_module.make_preconditioner

    def make_one_that_breaks(name, operator, **options):
        made = make(name, operator, **options)
        if name == "jacobi":

            def setup(_operator=None):
                raise RuntimeError("no\nluck")

            monkeypatch.setattr(made, "setup", setup)
        return made

    monkeypatch.setattr(contest_module, "make_preconditioner", make_one_that_breaks)
    code, content = run(tmp_path / "broken", "--preconds", "jacobi", "none", "--frames", "2")
    assert code == 0
    failed = {(entry["cells"], entry["preconditioner"]): entry["failed"] for entry in content["table"]}
    assert failed == {(64, "jacobi"): 2, (64, "none"): 0, (144, "jacobi"): 2, (144, "none"): 0}
    broken = [row for row in content["rows"] if row["preconditioner"] == "jacobi"]
    assert {row["outcome"] for row in broken} == {"failed: no luck"}
    assert {row["total_ms"] for row in broken} == {None}
    assert "2/2" in capsys.readouterr().out


def test_a_method_that_cannot_be_made_at_a_size_counts_as_failed_there(tmp_path, monkeypatch):
    make = contest_module.make_preconditioner

    def too_large(name, operator, **options):
        if name == "jacobi" and operator.shape == (12, 12):
            raise MemoryError
        return make(name, operator, **options)

    monkeypatch.setattr(contest_module, "make_preconditioner", too_large)
    code, content = run(tmp_path / "large", "--preconds", "jacobi", "none", "--frames", "2")
    assert code == 0
    failed = {(entry["cells"], entry["preconditioner"]): entry["failed"] for entry in content["table"]}
    assert failed == {(64, "jacobi"): 0, (64, "none"): 0, (144, "jacobi"): 2, (144, "none"): 0}
    assert "failed: MemoryError" in {row["outcome"] for row in content["rows"]}


def test_all_available_methods_by_default(tmp_path):
    code, content = run(tmp_path / "all", "--frames", "1", "--contrast", "1000", sizes=("64", "144"))
    assert code == 0
    assert {row["preconditioner"] for row in content["rows"]} | set(content["skipped"]) == set(
        available_preconditioners()
    )
    assert sum(entry["failed"] for entry in content["table"]) == 0


def test_interrupting_keeps_the_finished_frames(tmp_path, monkeypatch, capsys):
    frame = contest_module.Contest.frame

    def interrupted(self, number, order):
        if number == 1:
            signal.raise_signal(signal.SIGINT)
        return frame(self, number, order)

    monkeypatch.setattr(contest_module.Contest, "frame", interrupted)
    code, content = run(tmp_path / "cut", "--preconds", "jacobi", "--frames", "5")
    assert code == 130
    assert [(row["cells"], row["frame"]) for row in content["rows"]] == [(64, 0), (64, 1)]
    assert content["ended"] == "interrupted by SIGINT"
    assert "interrupted" in capsys.readouterr().out


def test_a_fixed_contrast_replaces_the_drawn_one(tmp_path):
    _, content = run(tmp_path / "fixed", "--preconds", "none", "--frames", "2", "--contrast", "5000")
    problem = benchmark_density(144, 1, contrast=5000.0)
    assert float(problem.density.max()) > 4000.0
    operator = problem.operator()
    identity = make_preconditioner("none", operator)
    identity.setup()
    row = next(row for row in content["rows"] if (row["cells"], row["frame"]) == (144, 1))
    assert row["iterations"] == PCG(operator, identity, rtol=1e-8).solve(problem.b).iterations


def test_a_single_launch_that_is_not_possible_is_said_once(tmp_path, monkeypatch, capsys):
    settings = BenchSettings(
        sizes=(64, 144), preconds=("none", "jacobi"), frames=2, single_launch=True, out=str(tmp_path / "on")
    )
    assert bench(settings) == 0  # on a CPU, which the command line refuses
    printed = capsys.readouterr().out
    said = "single launch: there are no CUDA graphs on a CPU; blocks of iterations are launched"
    assert printed.count("single launch") == 1
    assert f"left out: {said}\n" in printed
    content = json.loads((tmp_path / "on" / "bench.json").read_text(encoding="utf-8"))
    assert content["settings"]["single_launch"] is True
    assert {row["note"] for row in content["rows"]} == {""}
    monkeypatch.setattr(while_node, "missing", lambda _device: "")
    made = contest_module.make_contest(settings.cases()[0], settings, ["jacobi"])
    assert made._entrants["jacobi"]._solver.single_launch


def test_the_table_of_a_method_that_never_worked():
    row = {
        "cells": 64,
        "preconditioner": "x",
        "outcome": "failed: why",
        "iterations": None,
        **dict.fromkeys(TIMES),
    }
    (entry,) = tabulate([row, row], ["x"])
    assert (entry["frames"], entry["failed"], entry["iterations_mean"]) == (2, 2, None)
    assert "2/2" in format_table([entry])


def test_bubbles_are_another_family_of_problems(tmp_path):
    code, content = run(
        tmp_path / "bubbles", "--frames", "2", "--family", "bubbles", "--preconds", "jacobi", "direct"
    )
    assert code == 0
    assert content["settings"]["family"] == "bubbles"
    assert (*gallery.FAMILIES, "stirred") == FAMILIES
    system = gallery.bubbles((12, 12), 100.0, 10_001)
    operator = system.operator()
    preconditioner = make_preconditioner("jacobi", operator)
    preconditioner.setup()
    expected = PCG(operator, preconditioner, rtol=1e-8).solve(system.b).iterations
    rows = [row for row in content["rows"] if (row["cells"], row["frame"]) == (144, 1)]
    assert {row["iterations"] for row in rows if row["preconditioner"] == "jacobi"} == {expected}


@pytest.mark.skipif("hmatrix" not in available_preconditioners(), reason="no weights of hmatrix")
def test_transferred_weights_are_labelled(tmp_path, capsys):
    _, content = run(
        tmp_path / "note", "--frames", "1", "--preconds", "jacobi", "hmatrix", sizes=("1024", "256")
    )
    notes = {(entry["cells"], entry["preconditioner"]): entry["note"] for entry in content["table"]}
    assert notes.pop((256, "hmatrix")).startswith("transferred: trained at N = 1024")
    assert set(notes.values()) == {""}
    assert "hmatrix, 256 cells: transferred" in capsys.readouterr().out
