"""A benchmark that was stopped goes on where it stopped, or says why it cannot."""

import signal

import pytest
import yaml

from app.bench.case import RunningCase
from app.cli import main

SAME = ("family", "split", "contrast", "rtol", "cells", "frame", "method", "turn", "iterations")
ARGUMENTS = [
    "--sizes",
    "64",
    "144",
    "--frames",
    "3",
    "--preconds",
    "none",
    "jacobi",
    "multigrid",
    "--seed",
    "4",
]


def run(directory, *arguments):
    return main(["bench", *(arguments or ARGUMENTS), "--out", str(directory)])


def kept(found):
    return [[row[name] for name in SAME] for row in found.rows]


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refused(directory, capsys, *arguments):
    """The one line of an error that leaves all files alone."""
    before = files(directory)
    capsys.readouterr()
    assert run(directory, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "name another directory" in error
    assert files(directory) == before
    return error


@pytest.fixture
def stopped(read_bench, tmp_path, monkeypatch):
    """A directory with a run that was interrupted during frame 1 of the first size."""
    right = RunningCase.solve_frame

    def interrupted(self, number, order):
        if number == 1:
            signal.raise_signal(signal.SIGTERM)
        return right(self, number, order)

    with monkeypatch.context() as patch:
        patch.setattr(RunningCase, "solve_frame", interrupted)
        assert run(tmp_path / "cut") == 128 + signal.SIGTERM
    found = read_bench(tmp_path / "cut")
    assert (len(found.rows), found.runs["bench"]["ended"]) == (6, "interrupted by SIGTERM")
    return tmp_path / "cut"


@pytest.fixture
def watched(monkeypatch):
    """The frames that are solved from now on."""
    frames, right = [], RunningCase.solve_frame

    def watch(self, number, order):
        frames.append(number)
        return right(self, number, order)

    monkeypatch.setattr(RunningCase, "solve_frame", watch)
    return frames


def test_it_goes_on_with_the_same_turns_and_keeps_what_was_there(stopped, watched, read_bench, tmp_path):
    before = read_bench(stopped)
    assert run(stopped) == 0
    assert watched == [2, 0, 1, 2]
    found = read_bench(stopped)
    assert found.rows[:6] == before.rows
    assert found.runs["bench"]["ended"] == "completed"
    assert [row["session"] for row in found.rows] == [0] * 6 + [1] * 12
    assert len(found.sessions) == 2
    assert run(tmp_path / "whole") == 0
    assert kept(found) == kept(read_bench(tmp_path / "whole"))


def test_rows_are_on_disk_after_each_frame(read_bench, tmp_path, monkeypatch):
    right, seen, out = RunningCase.solve_frame, [], tmp_path / "out"

    def looking(self, number, order):
        seen.append(len(read_bench(out).rows) if (out / "bench.csv").exists() else 0)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return right(self, number, order)

    monkeypatch.setattr(RunningCase, "solve_frame", looking)
    assert run(out) == 130
    assert seen == [0, 3, 6]
    found = read_bench(out)
    assert (found.runs["bench"]["ended"], len(found.rows)) == ("not yet", 6)
    monkeypatch.setattr(RunningCase, "solve_frame", right)
    assert run(out) == 0
    assert len(read_bench(out).rows) == 18


@pytest.mark.parametrize("cut", [-30, -150])  # bytes: within the last row, and within the one before
def test_a_frame_that_was_cut_off_is_done_anew(cut, stopped, watched, read_bench):
    path = stopped / "bench.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    assert run(stopped) == 0
    assert watched == [1, 2, 0, 1, 2]
    assert len(read_bench(stopped).rows) == 18
    assert path.read_bytes().startswith(b"".join(whole.splitlines(keepends=True)[:4]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--frames", "4"), "settings: frames was 3, now it is 4"),
        (("--rtol", "1e-6"), "settings: rtol was [1e-08], now it is [1e-06]"),
        (("--preconds", "none"), "settings: preconds was"),
    ],
)
def test_other_settings_are_refused_in_one_line(change, said, stopped, capsys):
    assert said in refused(stopped, capsys, *ARGUMENTS, *change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda header: header["sessions"][0]["versions"].update(numpy="1.0"),
            'versions: numpy was "1.0", now',
        ),
        (
            lambda header: header["sessions"][0]["hardware"].update(cpu="Z80"),
            'hardware: cpu was "Z80", now it is',
        ),
        (
            lambda header: header["runs"]["bench"]["skipped"].update(amg="needs pyamg"),
            'skipped: amg was "needs pyamg", now it is not there',
        ),
    ],
)
def test_another_machine_is_refused_in_one_line(change, said, stopped, capsys):
    header = yaml.safe_load((stopped / "bench.yaml").read_text(encoding="utf-8"))
    change(header)
    (stopped / "bench.yaml").write_text(yaml.safe_dump(header), encoding="utf-8")
    assert said in refused(stopped, capsys)


def test_a_name_that_is_too_long_is_one_line(tmp_path, capsys):
    assert run(tmp_path / ("x" * 300)) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bench.csv", "bench.yaml"])
@pytest.mark.parametrize("text", ["precious", "[]", "{}", "runs: {}\nsessions: 3", "\0"])
def test_a_file_of_another_kind_is_left_alone(name, text, tmp_path, capsys):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert "already holds results" in refused(tmp_path, capsys)
    assert list(files(tmp_path)) == [name]


def test_a_finished_run_is_not_written_again(tmp_path, capsys):
    arguments = ("--sizes", "64", "--frames", "1", "--preconds", "jacobi")
    assert run(tmp_path / "done", *arguments) == 0
    before = files(tmp_path / "done")
    printed = capsys.readouterr().out
    assert run(tmp_path / "done", *arguments) == 0
    assert capsys.readouterr().out == printed  # the table again
    assert files(tmp_path / "done") == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", "7.5"),
        ("iterations", ""),  # of a solve that converged
        ("iterations", "-1"),
        ("solve_ms", ""),
        ("solve_ms", "nan"),
        ("contrast", "1e999"),
        ("family", ""),
        ("family", "a,b"),
        ("run", "another"),
        ("session", "1"),
        ("turn", '"'),
    ],
)
def test_a_damaged_row_is_left_alone(name, value, stopped, capsys):
    lines = (stopped / "bench.csv").read_text(encoding="utf-8").splitlines()
    values = lines[2].split(",")
    values[lines[0].split(",").index(name)] = value
    (stopped / "bench.csv").write_text(
        "\n".join([*lines[:2], ",".join(values), *lines[3:], ""]), encoding="utf-8"
    )
    assert "bench.csv" in refused(stopped, capsys)


@pytest.mark.parametrize(
    "change", [{"sessions": {}}, {"sessions": [{}]}, {"runs": []}, {"runs": {"bench": {}}}, {"more": 1}]
)
def test_a_damaged_header_is_left_alone(change, stopped, capsys):
    header = yaml.safe_load((stopped / "bench.yaml").read_text(encoding="utf-8"))
    (stopped / "bench.yaml").write_text(yaml.safe_dump({**header, **change}), encoding="utf-8")
    assert "bench.yaml" in refused(stopped, capsys)
