"""Suites of benchmark runs, and what is refused of them and of the benchmark's options."""

import pytest

from app.bench.run import available_suites, load_suite, usable_methods
from app.bench.settings import EXTERNAL_SOLVERS, FAMILIES, PUBLISHED_PRECONDITIONERS, SPLITS, BenchSettings
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
    "barriers",
    "bubbles-contrast",
    "bubbles-10000",
    "tolerances",
    "stirred",
    "solids",
    "stripes",
    "mazes",
    "generalisation",
    "published",
    "external",
}


@pytest.fixture
def suite(tmp_path):
    def write(text):
        path = tmp_path / "own.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_names_are_those_of_the_modules_that_own_them():
    assert (*gallery.FAMILIES, "stirred", "physics") == FAMILIES
    assert set(gallery.SPLITS) == set(SPLITS)
    assert published.PRECONDITIONERS == PUBLISHED_PRECONDITIONERS


def test_a_suite_goes_into_one_directory_and_goes_on(suite, tmp_path, capsys, monkeypatch, read_bench):
    out = tmp_path / "out"
    command = ["bench", "--suite", suite(OWN)]
    assert main([*command, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["bench.csv", "bench.yaml"]
    found = read_bench(out)
    cases = [(row["run"], row["cells"], row["frame"], row["contrast"]) for row in found.rows]
    first = [("first", cells, frame, None) for cells in (64, 144) for frame in (0, 1)]
    assert cases == [*first, ("second", 64, 0, 10), ("second", 64, 0, 100)]
    assert list(found.runs) == ["first", "second"]
    assert {run["ended"] for run in found.runs.values()} == {"completed"}
    assert len(found.sessions) == 1
    whole = (out / "bench.csv").read_text(encoding="utf-8")
    without_last = whole[: whole.rstrip().rfind("\n") + 1]
    (out / "bench.csv").write_text(without_last, encoding="utf-8")
    printed = capsys.readouterr().out
    assert main([*command, "--out", str(out)]) == 0
    assert (out / "bench.csv").read_text(encoding="utf-8").startswith(without_last)
    assert [row["session"] for row in read_bench(out).rows] == [0, 0, 0, 0, 0, 1]
    assert capsys.readouterr().out.count("completed") == printed.count("completed") == 2
    monkeypatch.chdir(tmp_path)
    for expected in ("bench-own", "bench-own-2"):
        assert main(command) == 0
        assert (tmp_path / "runs" / expected / "bench.csv").exists()


def test_another_suite_does_not_go_into_its_rows(suite, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["bench", "--suite", suite(OWN), "--out", str(out)]) == 0
    assert main(["bench", "--suite", suite(OWN.replace("frames: 2", "frames: 3")), "--out", str(out)]) == 2
    assert "first: settings: frames was 2, now it is 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("title: x", ["runs: missing"]),
        ("- x", ["is not a mapping of title, runs"]),
        ("title: x\nruns: {}", ["runs: {} is an empty"]),
        ("title: [x]\nruns: {a: {}}", ["title: ['x'] is not a text"]),
        ("title: x\nruns: {a: 3}", ["a: 3 is not a mapping of conditions, sizes"]),
        ("title: x\nruns: {a: {out: b}}", ["a: out: the suite has one directory"]),
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
        ("--quick --sizes 64", ["--quick (or --suite quick) takes only --out", "--sizes"]),
        ("--quick --suite full", ["not allowed"]),
        ("--conditions odd", ["'odd' is not one of well-posed, published"]),
        ("--conditions published --preconds multigrid", ["multigrid", "none and jacobi alone"]),
        ("--conditions published --family bubbles", ["family: published", "barriers"]),
        ("--conditions published --external all", ["external: published"]),
        ("--split eval-odd", ["'eval-odd'", "eval-same"]),
        ("--family mazes --split eval-same", ["split: eval-same", "mazes"]),
        ("--family stirred --split train", ["split: train", "simulator"]),
        ("--family physics --split train", ["split: train", "simulator"]),
        ("--family physics --contrast 10", ["contrast: the flows of physics have their own"]),
        ("--external petsc", ["'petsc'", "pyamg-sa, ilupp-ic0, superlu"]),
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
    assert set(quick.runs) == {"barriers", "bubbles-10000"}
    for settings in (*full.runs.values(), *quick.runs.values()):
        assert usable_methods(settings)[0]


def test_the_quick_suite_needs_no_optional_package():
    from precond.registry import _ENTRIES

    for settings in load_suite("quick").runs.values():
        assert settings.external == ()
        assert all(not _ENTRIES[name].needs for name in settings.preconds)
        assert max(settings.sizes) <= 4096


def test_the_full_suite_covers_what_the_report_tells():
    runs = load_suite("full").runs
    cases = [case for settings in runs.values() for case in settings.cases()]
    assert {case.family for case in cases} == set(FAMILIES)
    assert {case.contrast for case in runs["bubbles-contrast"].cases()} == {1.0, 10.0, 100.0, 1e3, 1e4}
    assert {case.rtol for case in runs["tolerances"].cases()} == {1e-3, 1e-5, 1e-8}
    assert {1024, 65536} <= {case.cells for case in runs["barriers"].cases()}
    assert max(case.cells for case in runs["bubbles-10000"].cases()) == 65536
    assert {case.split for case in runs["generalisation"].cases()} == {
        split for split in SPLITS if "eval" in split
    }
    assert usable_methods(runs["barriers"])[0] == available_preconditioners(choosing=False)
    assert runs["external"].external == EXTERNAL_SOLVERS


def test_several_values_from_flags_and_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(
        "contrast: [5, 50]\nrtol: 1e-4\nsplit: [test, eval-both]\nexternal: [superlu, 'external:pyamg-sa']"
    )
    settings = merged(BenchSettings, {"settings": str(path), "rtol": (1e-3, 1e-6)})
    assert (settings.contrast, settings.rtol) == ((5.0, 50.0), (1e-3, 1e-6))
    assert settings.split == ("test", "eval-both")
    assert settings.external == ("external:superlu", "external:pyamg-sa")
    assert BenchSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_values_that_are_named_twice_count_once():
    settings = BenchSettings(preconds=["jacobi", "none", "jacobi"], external=["all", "superlu"], sizes=64)
    assert (settings.preconds, settings.sizes) == (("jacobi", "none"), (64,))
    assert settings.external == EXTERNAL_SOLVERS
