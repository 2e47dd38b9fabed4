"""Suites of benchmark runs, and what is refused of them and of the benchmark's options."""

import json

import pytest

from app.bench.run import usable_methods
from app.bench.settings import FAMILIES, PEERS, PUBLISHED_PRECONDITIONERS, SPLITS, BenchSettings
from app.bench.suite import available_suites, load_suite
from app.cli import main
from app.config.settings import merged
from precond import available_preconditioners
from precond.problems import gallery, published

OWN = """
title: Own
runs:
  first: {sizes: [64, 144], preconds: [jacobi], frames: 2}
  second: {family: bubbles, sizes: 64, contrast: [10, 100], preconds: jacobi, frames: 1}
"""
FOR_THE_REPORT = {
    "bench-barriers",
    "bench-bubbles-contrast",
    "bench-bubbles-10000",
    "bench-tolerances",
    "bench-stirred",
    "bench-solids",
    "bench-stripes",
    "bench-mazes",
    "bench-generalisation",
    "bench-published",
    "bench-peers",
}


@pytest.fixture
def suite(tmp_path):
    def write(text):
        path = tmp_path / "own.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_names_are_those_of_the_modules_that_own_them():
    assert (*gallery.FAMILIES, "stirred") == FAMILIES
    assert set(gallery.SPLITS) == set(SPLITS)
    assert published.PRECONDITIONERS == PUBLISHED_PRECONDITIONERS


def test_a_suite_writes_one_file_a_run_and_goes_on(suite, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert main(["bench", "--suite", suite(OWN), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["first.json", "second.json"]
    second = json.loads((out / "second.json").read_text(encoding="utf-8"))
    assert [entry["contrast"] for entry in second["table"]] == [10.0, 100.0]
    first = (out / "first.json").read_bytes()
    (out / "second.json").unlink()
    printed = capsys.readouterr().out
    assert main(["bench", "--suite", suite(OWN), "--out", str(out)]) == 0
    assert (out / "first.json").read_bytes() == first
    assert (out / "second.json").exists()
    assert capsys.readouterr().out.count("completed") == printed.count("completed") == 2
    monkeypatch.chdir(tmp_path)
    for expected in ("bench-own", "bench-own-2"):
        assert main(["bench", "--suite", suite(OWN)]) == 0
        assert (tmp_path / "runs" / expected / "first.json").exists()


def test_another_suite_does_not_go_into_its_files(suite, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["bench", "--suite", suite(OWN), "--out", str(out)]) == 0
    assert main(["bench", "--suite", suite(OWN.replace("frames: 2", "frames: 3")), "--out", str(out)]) == 2
    assert "settings: frames was 2, now it is 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("title: x", ["expected title and runs"]),
        ("title: x\nruns: {}", ["runs a list of names"]),
        ("title: [x]\nruns: {a: {}}", ["title must be a text"]),
        ("title: x\nruns: {../a: {frames: 1}}", ["../a", "letters, digits"]),
        ("title: x\nruns: {a: {out: b}}", ["a: expected options", "not out"]),
        ("title: x\nruns: {a: {sises: 64}}", ["a: sises: unknown", "sizes"]),
        ("title: x\nruns: {a: {contrast: [10, 0.5]}}", ["a: contrast: 0.5", "1 to 10000"]),
        ("title: x\nruns: {a: {family: soup}}", ["a: family: 'soup' is not one of barriers"]),
        ("title: x\nruns: {a: {family: bubbles, split: eval-same}}", ["a: split: eval-same"]),
        ("title: x\nruns: {a: {frames: 1}, b: {preconds: magic}}", ["magic", "jacobi"]),
        ("title: [x", ["not YAML"]),
    ],
)
def test_a_wrong_suite_is_refused_before_anything_runs(text, fragments, suite, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["bench", "--suite", suite(text), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(fragment in error for fragment in fragments), error
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ("--suite nowhere", ["'nowhere' is not one of full, quick"]),
        ("--suite no.yaml", ["no.yaml", "No such file"]),
        ("--quick --sizes 64", ["--suite takes only --out", "sizes"]),
        ("--quick --suite full", ["not allowed"]),
        ("--conditions odd", ["'odd' is not one of well-posed, published"]),
        ("--conditions published --preconds multigrid", ["multigrid", "none and jacobi alone"]),
        ("--conditions published --family bubbles", ["family: published", "barriers"]),
        ("--conditions published --peers all", ["peers: published"]),
        ("--split eval-odd", ["'eval-odd'", "eval-same"]),
        ("--family mazes --split eval-same", ["split: eval-same", "mazes"]),
        ("--family stirred --split train", ["split: train", "simulator"]),
        ("--peers petsc", ["'peer:petsc'", "peer:superlu"]),
        ("--contrast 10 20000", ["--contrast", "20000", "1 to 10000"]),
        ("--rtol 1e-8 2", ["--rtol", "2", "1e-14 to 0.5"]),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(arguments, fragments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(fragment in error for fragment in fragments), error
    assert list(tmp_path.iterdir()) == []


def test_the_suites_that_come_with_the_program():
    assert available_suites() == ["full", "quick"]
    full, quick = load_suite("full"), load_suite("quick")
    assert set(full.runs) >= FOR_THE_REPORT
    assert set(quick.runs) == {"bench-barriers", "bench-bubbles-10000"}
    for settings in (*full.runs.values(), *quick.runs.values()):
        assert usable_methods(settings)[0]


def test_the_quick_suite_needs_no_optional_package():
    from precond.registry import _ENTRIES

    for settings in load_suite("quick").runs.values():
        assert settings.peers == ()
        assert all(not _ENTRIES[name].needs for name in settings.preconds)
        assert max(settings.sizes) <= 4096


def test_the_full_suite_covers_what_the_report_tells():
    runs = load_suite("full").runs
    cases = [case for settings in runs.values() for case in settings.cases()]
    assert {case.family for case in cases} == set(FAMILIES)
    assert {case.contrast for case in runs["bench-bubbles-contrast"].cases()} == {1.0, 10.0, 100.0, 1e3, 1e4}
    assert {case.rtol for case in runs["bench-tolerances"].cases()} == {1e-3, 1e-5, 1e-8}
    assert {1024, 65536} <= {case.cells for case in runs["bench-barriers"].cases()}
    assert max(case.cells for case in runs["bench-bubbles-10000"].cases()) == 65536
    assert {case.split for case in runs["bench-generalisation"].cases()} == {
        split for split in SPLITS if "eval" in split
    }
    assert usable_methods(runs["bench-barriers"])[0] == available_preconditioners()
    assert runs["bench-peers"].peers == PEERS


def test_several_values_from_flags_and_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(
        "contrast: [5, 50]\nrtol: 1e-4\nsplit: [test, eval-both]\npeers: [superlu, 'peer:pyamg-sa']"
    )
    settings = merged(BenchSettings, {"settings": str(path), "rtol": (1e-3, 1e-6)})
    assert (settings.contrast, settings.rtol) == ((5.0, 50.0), (1e-3, 1e-6))
    assert (settings.split, settings.peers) == (("test", "eval-both"), ("peer:superlu", "peer:pyamg-sa"))
    again = BenchSettings.of(
        {name: tuple(v) if isinstance(v, list) else v for name, v in settings.as_dict().items()}
    )
    assert again == settings
