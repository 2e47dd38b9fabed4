"""A benchmark that was stopped goes on where it stopped, or says why it cannot."""

import json
import signal

import pytest

from app.bench.contest import Contest
from app.cli import main

SAME = ("family", "split", "contrast", "rtol", "cells", "frame", "preconditioner", "turn", "iterations")
ARGUMENTS = (
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
)


def run(directory, *arguments):
    return main(["bench", *(arguments or ARGUMENTS), "--out", str(directory)])


def read(directory):
    return json.loads((directory / "bench.json").read_text(encoding="utf-8"))


def kept(content):
    return [[row[name] for name in SAME] for row in content["rows"]]


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A directory with a run that was interrupted during frame 1 of the first size."""
    right = Contest.frame

    def interrupted(self, number, order):
        if number == 1:
            signal.raise_signal(signal.SIGTERM)
        return right(self, number, order)

    with monkeypatch.context() as patch:
        patch.setattr(Contest, "frame", interrupted)
        assert run(tmp_path / "cut") == 128 + signal.SIGTERM
    assert len(read(tmp_path / "cut")["rows"]) == 6
    return tmp_path / "cut"


def test_it_goes_on_with_the_same_turns_and_keeps_what_was_there(stopped, tmp_path, monkeypatch):
    before = read(stopped)
    frames = []
    right = Contest.frame
    monkeypatch.setattr(
        Contest, "frame", lambda self, number, order: frames.append(number) or right(self, number, order)
    )
    assert run(stopped) == 0
    assert frames == [2, 0, 1, 2]
    content = read(stopped)
    assert content["rows"][:6] == before["rows"]
    assert content["ended"] == "completed"
    assert [row["session"] for row in content["rows"]] == [0] * 6 + [1] * 12
    assert len(content["sessions"]) == 2
    for session in content["sessions"]:
        assert {"date", "commit", "hardware", "command"} <= set(session)
    assert run(tmp_path / "whole") == 0
    assert kept(content) == kept(read(tmp_path / "whole"))


def test_rows_are_on_disk_after_each_frame(tmp_path, monkeypatch):
    right, seen = Contest.frame, []

    def looking(self, number, order):
        path = tmp_path / "out" / "bench.json"
        seen.append(len(read(tmp_path / "out")["rows"]) if path.exists() else 0)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return right(self, number, order)

    monkeypatch.setattr(Contest, "frame", looking)
    assert run(tmp_path / "out") == 130
    assert seen == [0, 3, 6]
    content = read(tmp_path / "out")
    assert (content["ended"], len(content["rows"])) == ("not yet", 6)
    monkeypatch.setattr(Contest, "frame", right)
    assert run(tmp_path / "out") == 0
    assert len(read(tmp_path / "out")["rows"]) == 18


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--frames", "4"), "settings: frames was 3, now it is 4"),
        (("--rtol", "1e-6"), "settings: rtol was [1e-08], now it is [1e-06]"),
        (("--preconds", "none"), "settings: preconds was"),
    ],
)
def test_other_settings_are_refused_in_one_line(change, said, stopped, capsys):
    before = (stopped / "bench.json").read_bytes()
    capsys.readouterr()
    assert run(stopped, *ARGUMENTS, *change) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert "name another directory" in error
    assert (stopped / "bench.json").read_bytes() == before


def test_other_versions_are_refused(stopped, capsys):
    content = read(stopped)
    content["versions"]["numpy"] = "1.0"
    (stopped / "bench.json").write_text(json.dumps(content), encoding="utf-8")
    capsys.readouterr()
    assert run(stopped) == 2
    assert 'versions: numpy was "1.0", now it is' in capsys.readouterr().err


def test_other_absent_methods_are_refused(stopped, capsys):
    content = read(stopped)
    content["skipped"]["amg"] = "needs pyamg"
    (stopped / "bench.json").write_text(json.dumps(content), encoding="utf-8")
    assert run(stopped) == 2
    assert 'skipped: amg was "needs pyamg", now it is not there' in capsys.readouterr().err


def test_a_name_that_is_too_long_is_one_line(tmp_path, capsys):
    assert run(tmp_path / ("x" * 300)) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["precious", "[]", "{}", '{"ended": "not yet", "settings": {}, "rows": 3}'])
def test_a_file_of_another_kind_is_left_alone(text, tmp_path, capsys):
    (tmp_path / "bench.json").write_text(text, encoding="utf-8")
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "already holds results" in error
    assert (tmp_path / "bench.json").read_text(encoding="utf-8") == text


def test_a_finished_run_is_not_written_again(tmp_path, capsys):
    arguments = ("--sizes", "64", "--frames", "1", "--preconds", "jacobi")
    assert run(tmp_path / "done", *arguments) == 0
    before = (tmp_path / "done" / "bench.json").read_bytes()
    printed = capsys.readouterr().out
    assert run(tmp_path / "done", *arguments) == 0
    assert capsys.readouterr().out == printed  # the table again
    assert (tmp_path / "done" / "bench.json").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", "7"),
        ("iterations", None),  # of a solve that converged
        ("iterations", 10**400),
        ("total_ms", None),
        ("preconditioner", ["a"]),
        ("solve_ms", True),
        ("contrast", 10**400),
        ("family", None),
    ],
)
def test_a_damaged_row_is_left_alone(name, value, stopped, capsys):
    content = read(stopped)
    content["rows"][1][name] = value
    text = json.dumps(content)
    (stopped / "bench.json").write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert run(stopped) == 2
    assert "already holds results" in capsys.readouterr().err
    assert (stopped / "bench.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "change",
    [{"hardware": [1]}, {"hardware": {}}, {"versions": "x"}, {"rows": [{}]}, {"rows": {}}, {"sessions": {}}],
)
def test_a_damaged_part_is_left_alone(change, stopped, capsys):
    text = json.dumps({**read(stopped), **change})
    (stopped / "bench.json").write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert run(stopped) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (stopped / "bench.json").read_text(encoding="utf-8") == text
