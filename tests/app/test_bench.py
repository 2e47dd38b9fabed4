"""The benchmark: complete, repeatable, and honest about failures."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from app.bench import adapters, case
from app.bench.adapters import make_adapter, make_operator
from app.bench.run import bench
from app.bench.settings import FAMILIES, BenchSettings
from app.bench.table import format_table, tabulate
from app.cli import main
from precond import PCG, available_preconditioners, make_preconditioner, registry
from precond.device import while_node
from precond.problems import gallery
from precond.problems.gallery import benchmark_density

COLUMNS = (
    "run,family,split,conditions,rule,contrast,rtol,cells,frame,method,turn,outcome,iterations,relative_residual,"
    "setup_ms,inference_ms,solve_ms,matrix_products,memory_mib,engine,threads,precision,note,session"
)


@pytest.fixture(scope="module")
def run(read_bench):
    def call(directory, *arguments, sizes=("64", "144")):
        assert main(["bench", "--sizes", *sizes, "--out", str(directory), *arguments]) == 0
        return read_bench(directory)

    return call


@pytest.fixture(scope="module")
def result(run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("bench") / "small"
    arguments = ("--preconds", "none", "jacobi", "direct", "--frames", "4", "--seed", "1")
    found = run(directory, *arguments)
    found.columns = (directory / "bench.csv").read_text(encoding="utf-8").splitlines()[0]
    return found


def failed(result):
    """Failed solves by size and method."""
    counts = {}
    for row in result.rows:
        key = row["cells"], row["method"]
        counts[key] = counts.get(key, 0) + (row["outcome"] != "converged")
    return counts


def iterations_of(name, problem, **options):
    operator = problem.operator()
    preconditioner = make_preconditioner(name, operator)
    preconditioner.setup()
    return PCG(operator, preconditioner, rtol=1e-8, **options).solve(problem.b).iterations


def test_every_solve_is_in_the_file(result):
    keys = [(row["cells"], row["frame"], row["method"]) for row in result.rows]
    expected = {(n, f, name) for n in (64, 144) for f in range(4) for name in ("none", "jacobi", "direct")}
    assert len(keys) == len(expected)
    assert set(keys) == expected
    for row in result.rows:
        assert (row["run"], row["outcome"], row["session"]) == ("bench", "converged", 0)
        assert row["relative_residual"] <= 1e-8
        assert row["setup_ms"] >= 0.0 < row["solve_ms"]
    assert result.columns == COLUMNS
    header = result.runs["bench"]
    assert set(result.runs) == {"bench"}
    assert (header["ended"], header["skipped"], header["settings"]["seed"]) == ("completed", {}, 1)
    (session,) = result.sessions
    assert set(session) == {"date", "command", "commit", "versions", "hardware"}


def test_methods_take_turns_in_a_drawn_order(result):
    orders = {}
    for row in result.rows:
        orders.setdefault((row["cells"], row["frame"]), []).append((row["turn"], row["method"]))
    assert len({tuple(name for _, name in order) for order in orders.values()}) > 1
    for order in orders.values():
        assert [turn for turn, _ in order] == [0, 1, 2]


def test_the_table_is_that_of_the_rows(result):
    table = tabulate(result.rows, ["none", "jacobi", "direct"])
    keys = [(64, "none"), (64, "jacobi"), (64, "direct"), (144, "none"), (144, "jacobi"), (144, "direct")]
    assert list(zip(table["cells"], table["method"], strict=True)) == keys
    for _, entry in table.iterrows():
        mine = [r for r in result.rows if (r["cells"], r["method"]) == (entry["cells"], entry["method"])]
        iterations = np.array([row["iterations"] for row in mine])
        assert (entry["frames"], entry["failed"]) == (4, 0)
        assert entry["iterations"] == pytest.approx(iterations.mean())
        assert entry["deviation"] == pytest.approx(iterations.std(ddof=1))
        total = [row["setup_ms"] + row["inference_ms"] + row["solve_ms"] for row in mine]
        assert entry["total_ms"] == pytest.approx(np.median(total))
        assert entry["total_ms_p95"] == pytest.approx(np.percentile(total, 95))
        assert entry["solve_ms"] == pytest.approx(np.median([row["solve_ms"] for row in mine]))


def test_what_is_printed_is_what_is_written_and_iterations_repeat(result, run, tmp_path, capsys):
    arguments = ("--preconds", "none", "jacobi", "direct", "--frames", "4", "--seed", "1")
    again = run(tmp_path / "again", *arguments)
    printed = capsys.readouterr().out
    table = tabulate(again.rows, ["none", "jacobi", "direct"])
    assert str(tmp_path / "again" / "bench.csv") in printed
    for _, entry in table.iterrows():
        words = [str(entry["cells"]), entry["method"]]
        line = next(line for line in printed.splitlines() if line.split()[:2] == words)
        assert f"{entry['iterations']:.1f} +- {entry['deviation']:.1f}" in line
        assert " 0/4 " in line
        assert line.count("(") == line.count(")") == 3
    same = ("cells", "frame", "method", "turn", "outcome", "iterations", "relative_residual")
    assert [[row[key] for key in same] for row in again.rows] == [
        [row[key] for key in same] for row in result.rows
    ]


def test_a_row_is_the_solve_of_its_frame(result):
    (row,) = (row for row in result.rows if (row["cells"], row["frame"], row["method"]) == (144, 2, "jacobi"))
    assert row["iterations"] == iterations_of("jacobi", benchmark_density(144, 2, split="test")) > 5


def test_unconverged_solves_count_as_failed_and_stay_in(run, tmp_path, capsys):
    found = run(tmp_path / "few", "--preconds", "none", "direct", "--frames", "3", "--max-iterations", "3")
    assert failed(found) == {(64, "none"): 3, (64, "direct"): 0, (144, "none"): 3, (144, "direct"): 0}
    assert len(found.rows) == 12
    assert {row["outcome"] for row in found.rows if row["method"] == "none"} == {"iteration limit"}
    assert capsys.readouterr().out.count("3/3") == 2


def test_a_breaking_method_counts_as_failed_and_the_others_go_on(run, tmp_path, monkeypatch, capsys):
    make = adapters.make_preconditioner

    def make_one_that_breaks(name, operator):
        made = make(name, operator)
        if name == "jacobi":

            def setup():
                raise RuntimeError("no\nluck")

            monkeypatch.setattr(made, "setup", setup)
        return made

    monkeypatch.setattr(adapters, "make_preconditioner", make_one_that_breaks)
    found = run(tmp_path / "broken", "--preconds", "jacobi", "none", "--frames", "2")
    assert failed(found) == {(64, "jacobi"): 2, (64, "none"): 0, (144, "jacobi"): 2, (144, "none"): 0}
    broken = [row for row in found.rows if row["method"] == "jacobi"]
    assert {row["outcome"] for row in broken} == {"failed: no luck"}
    assert {row["solve_ms"] for row in broken} == {None}
    assert "2/2" in capsys.readouterr().out


def test_a_method_that_cannot_be_made_at_a_size_counts_as_failed_there(run, tmp_path, monkeypatch):
    make = adapters.make_preconditioner

    def too_large(name, operator):
        if name == "jacobi" and operator.shape == (12, 12):
            raise MemoryError
        return make(name, operator)

    monkeypatch.setattr(adapters, "make_preconditioner", too_large)
    found = run(tmp_path / "large", "--preconds", "jacobi", "none", "--frames", "2")
    assert failed(found) == {(64, "jacobi"): 0, (64, "none"): 0, (144, "jacobi"): 2, (144, "none"): 0}
    assert "failed: MemoryError" in {row["outcome"] for row in found.rows}


def test_all_available_methods_by_default(run, tmp_path):
    found = run(tmp_path / "all", "--frames", "1", "--contrast", "1000")
    methods = {row["method"] for row in found.rows}
    assert methods | set(found.runs["bench"]["skipped"]) == set(available_preconditioners(choosing=False))
    assert sum(failed(found).values()) == 0


def test_interrupting_keeps_the_finished_frames(read_bench, tmp_path, monkeypatch, capsys):
    solve_frame = case.RunningCase.solve_frame

    def interrupted(self, number, order):
        if number == 1:
            signal.raise_signal(signal.SIGINT)
        return solve_frame(self, number, order)

    monkeypatch.setattr(case.RunningCase, "solve_frame", interrupted)
    arguments = ["--sizes", "64", "144", "--preconds", "jacobi", "--frames", "5"]
    assert main(["bench", *arguments, "--out", str(tmp_path / "cut")]) == 130
    found = read_bench(tmp_path / "cut")
    assert [(row["cells"], row["frame"]) for row in found.rows] == [(64, 0), (64, 1)]
    assert found.runs["bench"]["ended"] == "interrupted by SIGINT"
    assert "interrupted" in capsys.readouterr().out


def test_a_fixed_contrast_replaces_the_drawn_one(run, tmp_path):
    found = run(tmp_path / "fixed", "--preconds", "none", "--frames", "2", "--contrast", "5000")
    problem = benchmark_density(144, 1, contrast=5000.0)
    assert float(problem.density.max()) > 4000.0
    (row,) = (row for row in found.rows if (row["cells"], row["frame"]) == (144, 1))
    assert row["iterations"] == iterations_of("none", problem)


def test_bubbles_are_another_family_of_problems(run, tmp_path):
    found = run(tmp_path / "bubbles", "--frames", "2", "--family", "bubbles", "--preconds", "jacobi")
    assert (*gallery.FAMILIES, "stirred", "physics") == FAMILIES
    (row,) = (row for row in found.rows if (row["cells"], row["frame"]) == (144, 1))
    assert (row["family"], row["contrast"]) == ("bubbles", 100)
    assert row["iterations"] == iterations_of("jacobi", gallery.bubbles((12, 12), 100.0, 10_001))


def test_a_single_launch_that_is_not_possible_is_said_once(read_bench, tmp_path, capsys):
    settings = BenchSettings.model_construct(
        sizes=(64, 144), preconds=("none", "jacobi"), frames=2, single_launch=True, out=str(tmp_path / "on")
    )
    assert bench(settings) == 0  # on a CPU, which the command line refuses
    printed = capsys.readouterr().out
    said = "single launch: there are no CUDA graphs on a CPU; blocks of iterations are launched"
    assert printed.count("single launch") == 1
    assert f"left out: {said}\n" in printed
    found = read_bench(tmp_path / "on")
    assert found.runs["bench"]["settings"]["single_launch"] is True
    assert {row["note"] for row in found.rows} == {None}


def test_a_single_launch_is_asked_of_the_solver(monkeypatch):
    asked = []

    class Watched(PCG):
        def __init__(self, *arguments, **options):
            asked.append(options["single_launch"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(adapters, "PCG", Watched)
    monkeypatch.setattr(while_node, "missing", lambda _device: "")
    for single_launch in (False, True):
        settings = BenchSettings.model_construct(single_launch=single_launch)
        operator = make_operator(benchmark_density(144, 0), "cpu")
        make_adapter(("jacobi", None), operator, settings.cases()[0], settings)
    assert asked == [False, True]


def test_the_table_of_a_method_that_never_worked():
    row = {"family": "barriers", "cells": 64, "method": "x", "outcome": "failed: why"}
    table = tabulate([row, row], ["x"])
    assert table[["frames", "failed"]].to_numpy().tolist() == [[2, 2]]
    assert np.isnan(table["iterations"][0])
    assert format_table(table).splitlines()[1].split()[:5] == ["64", "x", "2/2", "-", "-"]


def test_transferred_weights_are_labelled(run, tmp_path, monkeypatch, capsys):
    name = "hmatrix-published"  # which has weights for every N; bench runs what is registered
    entry = registry.Entry(
        "learned.published_hmatrix:PublishedHMatrix", "published", model=f"{name}-*.safetensors"
    )
    monkeypatch.setitem(registry._ENTRIES, name, entry)
    found = run(tmp_path / "note", "--frames", "1", "--preconds", "jacobi", name, sizes=("1024", "256"))
    notes = {(row["cells"], row["method"]): row["note"] for row in found.rows}
    assert notes.pop((256, name)).startswith("transferred: trained at N = 1024")
    assert set(notes.values()) == {None}
    assert f"{name}, 256 cells: transferred" in capsys.readouterr().out


def test_the_benchmark_loads_no_simulator_and_no_window(tmp_path):
    code = (
        "import sys, app.bench.run, app.bench.table, app.cli as c\n"
        "arguments = ['--sizes', '64', '--frames', '1', '--preconds', 'jacobi', '--external', 'superlu']\n"
        f"assert c.main(['bench', *arguments, '--out', {str(tmp_path / 'out')!r}]) == 0\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('taichi', 'imgui_bundle')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
