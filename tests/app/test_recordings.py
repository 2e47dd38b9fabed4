"""Recordings in the report: medians of runs, and files that are none."""

import pytest
import yaml

from app.report.recordings import recordings
from app.report.results import ResultsError

HARDWARE = {"gpu": None, "cpu": "some", "cores": 2, "torch_threads": 1, "memory_gib": 8.0}


def run(name, fps, reuse=True, **changes):
    """The run.yaml of a recording."""
    settings = {"scene": "dam-break", "preconditioner": name, "reuse_setup": reuse, "grid": "128x64"}
    settings |= {"contrast": 100, "rtol": 1e-4, "warm_start": True, "frames": 300}
    phases = {"setup_ms": 2.0, "inference_ms": 0.5, "solve_ms": 1.0 / fps, "frame_ms": 1000.0 / fps}
    summary = {"ended": "completed", "rows": 300, "fps_mean": fps, "iterations_mean": 7.0, "unconverged": 1}
    return {
        "command": "htp-fluid record",
        "started": "2026-11-25T00:00:00+00:00",
        "settings": settings,
        "versions": {"torch": "2.13"},
        "hardware": HARDWARE,
        "commit": "abc",
        "summary": {**summary, "mean": phases},
        **changes,
    }


@pytest.fixture
def written(tmp_path):
    """A function that writes runs and returns their paths."""

    def write(*runs):
        paths = []
        for number, content in enumerate(runs):
            path = tmp_path / f"recording-{number}.yaml"
            path.write_text(yaml.safe_dump(content))
            paths.append(path)
        return paths

    return write


def test_a_row_is_the_median_of_its_runs(written):
    paths = written(
        run("coarse-learned", 90.0),
        run("jacobi", 70.0),
        run("coarse-learned", 100.0),
        run("coarse-learned", 30.0),
        run("coarse-learned", 20.0, reuse=False),
    )
    heading, title, provenance, rows = recordings(paths)
    assert (heading, title) == ("## In the simulator", "### dam-break, contrast 100")
    assert "`recording-4.yaml`" in provenance
    assert "128x64 cells" in provenance
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in rows.splitlines()[2:]]
    assert [row[:3] for row in cells] == [
        ["`coarse-learned` †", "3", "90.0"],
        ["`jacobi`", "1", "70.0"],
        ["`coarse-learned` †, set up anew every frame", "1", "20.0"],
    ]
    assert cells[0][7:] == ["11.11", "3"]


def test_other_conditions_are_another_table(written):
    other = run("jacobi", 10.0)
    other["settings"]["contrast"] = 1000
    assert len(recordings(written(run("jacobi", 70.0), other))) == 7


def test_nothing_recorded_is_no_section():
    assert recordings([]) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"summary": None},
        {"settings": {}},
        {"hardware": {}},
        {"summary": {**run("jacobi", 1.0)["summary"], "rows": 12}},
        {"summary": {**run("jacobi", 1.0)["summary"], "ended": "interrupted by SIGINT"}},
    ],
)
def test_what_is_no_finished_recording_is_refused(written, broken):
    with pytest.raises(ResultsError, match=r"recording-0\.yaml.*record it again"):
        recordings(written(run("jacobi", 1.0, **broken)))


def paths_of(content, before=()):
    """The keys to every value of nested mappings."""
    for key, value in content.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from paths_of(value, (*before, key))


@pytest.mark.parametrize("wrong", [None, "x", [], [1], {}, True, 10**400, float("nan")])
def test_no_damage_is_a_traceback(wrong, written):
    """Every value in turn is replaced by one of another kind: a table comes out or the file is named."""
    for keys in paths_of(run("coarse-learned", 90.0)):
        content = yaml.safe_load(yaml.safe_dump(run("coarse-learned", 90.0)))
        part = content
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = wrong
        paths, message = written(content), ""
        try:
            assert len(recordings(paths)) == 4
        except ResultsError as error:
            message = str(error)
        assert not message or str(paths[0]) in message
