"""`report`: RESULTS.md says what the files say; wrong files are refused in a line."""

import csv
import io
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from app.cli import main
from app.report.report import REFERENCE, Report
from app.report.results import read_bench, read_recordings, read_table
from precond.errors import UsageError

ROOT = REFERENCE.parents[1]
HARDWARE = {"cpu": "Some CPU", "cores": 4, "torch_threads": 1, "memory_gib": 16.0, "gpu": None}
SESSION = {
    "date": "2026-11-20T10:00:00+00:00",
    "command": "htp-fluid bench --out runs/x",
    "commit": "0123456789abcdef",
    "versions": {"torch": "2.9.0"},
    "hardware": HARDWARE,
}
LARGEST_FIGURE = 200_000  # bytes


def solve(
    cells: int, frame: int, method: str, iterations: int | None, ms: float, **more: Any
) -> dict[str, Any]:
    """A row of bench.csv: a tenth of the time is set-up; None iterations: it failed."""
    row = {"run": "x", "family": "bubbles", "split": "test", "conditions": "well-posed", "rule": ""}
    row |= {"contrast": 100, "rtol": 1e-8, "cells": cells, "frame": frame, "method": method, "turn": 0}
    row |= {"outcome": "iteration limit" if iterations is None else "converged", "relative_residual": 1e-9}
    row |= {
        "iterations": 1000 if iterations is None else iterations,
        "setup_ms": 0.1 * ms,
        "inference_ms": 0.0,
    }
    row |= {"solve_ms": 0.9 * ms, "matrix_products": 7, "memory_mib": 1.5, "engine": "torch", "threads": 1}
    return row | {"precision": "float64", "note": "", "session": 0} | more


def table_of(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def bench(folder: Path, rows: list[dict[str, Any]], **header: Any) -> Path:
    """bench.csv and bench.yaml in ``folder``."""
    folder.mkdir(exist_ok=True)
    runs = {row["run"]: {"settings": {}, "skipped": {}, "ended": "completed"} for row in rows}
    (folder / "bench.csv").write_text(table_of(rows), encoding="utf-8")
    (folder / "bench.yaml").write_text(yaml.safe_dump({"runs": runs, "sessions": [SESSION], **header}))
    return folder


def recording(
    method: str,
    fps: float,
    reuse: bool = True,
    scene: str = "dam-break",
    unconverged: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    """The run.yaml of a recording whose worst frame takes twice the mean, its 99th percentile 1.5 times."""
    settings = {"scene": scene, "preconditioner": method, "reuse_setup": reuse, "grid": "128x64"}
    settings |= {"contrast": 100, "rtol": 1e-4, "warm_start": True, "frames": 300}
    phases = {"setup_ms": 2.0, "inference_ms": 0.5, "solve_ms": 1.0 / fps, "frame_ms": 1000.0 / fps}
    summary = {"ended": "completed", "rows": 300, "fps_mean": fps, "iterations_mean": 7.0}
    summary["unconverged"] = unconverged
    frames = {"median": 1.0, "p99": 1.5, "worst": 2.0}
    summary |= {name: {"frame_ms": factor * 1000.0 / fps} for name, factor in frames.items()}
    head = {name if name != "date" else "started": value for name, value in SESSION.items()}
    if "replay" in changes:
        del settings["frames"]
    return {**head, "settings": settings, "summary": {**summary, "mean": phases}, **changes}


def recordings(folder: Path, *runs: dict[str, Any]) -> list[Path]:
    paths = [folder / f"recording-{number}.yaml" for number in range(len(runs))]
    for path, run in zip(paths, runs, strict=True):
        path.write_text(yaml.safe_dump(run))
    return paths


def cells_of(text: str, section: str, start: str) -> list[str]:
    """The cells of the line of the table of a section that starts with ``start``."""
    part = text.split(f"## {section}\n")[1].split("\n## ")[0]
    line = next(line for line in part.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_committed_report_is_what_the_committed_results_give(tmp_path):
    """Figures to the byte where this matplotlib drew them: their layout differs between versions."""
    matplotlib = pytest.importorskip("matplotlib")
    made = Report(REFERENCE)
    text = made.text()
    assert (ROOT / "RESULTS.md").read_text(encoding="utf-8") == text, "stale: run `python -m app report`"
    assert len(text.splitlines()) <= 400
    assert text.split("## Who wins where\n")[1].split("\n## ")[0].count("\n| ") <= 2 + 10
    named = set(re.findall(r"\(assets/figures/([^)]+)\.svg\)", text))
    assert named == set(made.figures) == {path.stem for path in (ROOT / "assets" / "figures").iterdir()}
    committed = {name: (ROOT / "assets" / "figures" / f"{name}.svg").read_bytes() for name in named}
    assert max(map(len, committed.values())) < LARGEST_FIGURE
    if f"Matplotlib v{matplotlib.__version__}".encode() in committed["spectra"]:
        made.figures = {
            name: made.figures[name] for name in ("iterations-barriers", "time-stirred", "spectra")
        }
        made.draw(tmp_path)
        for name in made.figures:
            assert (tmp_path / f"{name}.svg").read_bytes() == committed[name], f"stale: {name}"


def test_the_committed_table_holds_what_was_measured():
    """Means and medians from the lines of the file, by nothing but csv and numpy."""
    with (REFERENCE / "bench.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    mine = [
        row for row in rows if (row["run"], row["method"], row["cells"]) == ("barriers", "jacobi", "4096")
    ]
    times = [sum(float(row[f"{part}_ms"]) for part in ("setup", "inference", "solve")) for row in mine]
    counts = [int(row["iterations"]) for row in mine]
    said = cells_of((ROOT / "RESULTS.md").read_text(encoding="utf-8"), "Barriers", "`jacobi`")[1]
    spread = f"{np.mean(counts):.1f} ± {np.std(counts, ddof=1):.1f}"
    median, late = (
        f"{value:.2f}" if value < 9.995 else f"{value:.1f}" for value in np.percentile(times, (50, 95))
    )
    assert said == f"{spread} / {median} ({late})"


def test_two_runs_write_the_same_bytes(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    names = ("jacobi", "coarse-learned", "direct")
    sizes = itertools.product((64, 256, 1024), names, range(2))
    data = bench(tmp_path / "data", [solve(n, frame, name, n, n / 10) for n, name, frame in sizes])
    (data / "spectra-64.json").write_bytes((REFERENCE / "spectra-1024.json").read_bytes())
    written = []
    for out in (tmp_path / "first", tmp_path / "second"):
        assert main(["report", "--data", str(data), "--out", str(out)]) == 0
        files = (path for path in sorted(out.rglob("*")) if path.is_file())
        written.append({path.relative_to(out): path.read_bytes() for path in files})
    assert written[0] == written[1]
    svgs = [content for path, content in written[0].items() if path.suffix == ".svg"]
    assert len(svgs) == 2 + 1 + 1  # iterations and time of bubbles, profiles, spectra
    assert not any(b"<dc:date>" in svg for svg in svgs)
    assert "figures: 4" in capsys.readouterr().out


def test_cells_hold_means_medians_spread_and_failures(tmp_path):
    rows = []
    for n, frame in itertools.product((100, 400, 1600), range(3)):
        rows.append(solve(n, frame, "jacobi", int(n**0.5) + frame - 1, 2.0 * n))
        rows.append(
            solve(n, frame, "hmatrix", None if n == 1600 or (n, frame) == (400, 1) else 7, 3.0 * n + frame)
        )
    text = Report(bench(tmp_path, rows)).text()
    assert cells_of(text, "Bubbles", "`jacobi`") == [
        "10.0 ± 1.0 / **200** (200)",
        "**20.0** ± 1.0 / **800** (800)",
        "**40.0** ± 1.0 / **3,200** (3,200)",
    ]
    p95 = np.percentile([1200.0, 1201.0, 1202.0], 95)
    assert cells_of(text, "Bubbles", "`hmatrix` †") == [
        "**7.0** ± 0.0 / 301 (302)",
        f"7.0 ± 0.0 ✗1/3 / 1,201 ({p95:,.0f})",
        "✗3/3",
    ]
    assert "iteration limit: `hmatrix` † 4" in " ".join(text.split())
    assert "## Stripes" not in text


def test_the_first_screen_says_who_wins_and_what_learning_buys(tmp_path):
    rows = []
    for n, frame in itertools.product((64, 256), range(2)):
        rows += [
            solve(n, frame, "direct", 1, 50.0),
            solve(n, frame, "jacobi", 9 if n == 64 else 90, 5.0),
            solve(n, frame, "coarse-iterated", 24, 20.0),
            solve(n, frame, "coarse-learned", 12, 4.0 if n == 256 else 6.0),
            solve(n, frame, "hmatrix", 3 if frame else None, 1.0),
        ]
    text = " ".join(Report(bench(tmp_path, rows)).text().split())
    assert "`coarse-learned` takes 0.50 times the iterations of `coarse-iterated`" in text
    assert "0.25 times the time; it is faster in 2 columns." in text
    assert "a learned method is the fastest in 1 of 2 columns and takes the fewest iterations in 1." in text
    assert "takes 1.0 to 1.2 times as long as the fastest of all, 1.1 times in the median" in text
    assert "Solves that failed: `coarse-learned` 0 of 4, `hmatrix` 2 of 4" in text
    whole = Report(tmp_path).text()
    use = cells_of(whole, "Which one should I use, and what does learning buy?", "`direct`")[-1]
    assert use == "nothing; at best 10.0 times as slow as the fastest (bubbles)"
    assert "is faster in: bubbles (-76%, -50%); as fast, within 3 %, in: none; slower in: none." in text
    won = cells_of(whole, "Who wins where", "bubbles, contrast 100")
    assert won == [
        "`jacobi` 5.00, † 1.2x",
        "`coarse-learned` † 4.00, † 1.0x",
        "`jacobi` 1, `coarse-learned` † 1",
    ]


def test_learning_is_told_by_family_and_contrasts_that_one_method_wins_share_a_row(tmp_path):
    rows = []
    for family, contrast, learned in (
        ("bubbles", 100, 9.0),
        ("bubbles", 1000, 16.0),
        ("mazes", 100, 10.2),
        ("stripes", 100, 8.0),
        ("stripes", 1000, 8.0),
    ):
        of = {"family": family, "contrast": contrast, "run": family}
        rows += [
            solve(64, 0, "coarse-learned", 8, learned, **of),
            solve(64, 0, "coarse-iterated", 10, 10.0, **of),
        ]
        rows += [solve(64, 0, "multigrid", 9, 1.0 if (family, contrast) != ("stripes", 1000) else 8.5, **of)]
    text = Report(bench(tmp_path, rows)).text()
    section = text.split("## Who wins where\n")[1].split("\n## ")[0]
    first = " ".join(section.split("\n\n")[0].split())
    assert "faster in: stripes (-20%, -20%); as fast, within 3 %, in: mazes (+2%, -20%);" in first
    assert "slower in: bubbles (+20%, -20%)." in first
    assert [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| ")][2:] == [
        "| bubbles, contrast 100 and 1,000",
        "| mazes, contrast 100",
        "| stripes, contrast 100",
        "| stripes, contrast 1,000",
    ]
    assert (
        cells_of(text, "Who wins where", "bubbles, contrast 100 and 1,000")[0]
        == "`multigrid` 1.00, † 9.0-16.0x"
    )


def test_profiles_rank_by_the_worst_case_and_hold_solvers_of_other_programs(tmp_path):
    rows = []
    for frame, jacobi in enumerate((1.0, 8.0)):
        rows += [solve(16384, frame, "jacobi", 5, jacobi), solve(16384, frame, "direct", 1, 6.0)]
        rows += [solve(16384, frame, "none", 5 if frame else None, 5.0)]
    peers = {"run": "others"}  # the first system once more, where a peer is the fastest
    rows += [solve(16384, 0, "jacobi", 5, 3.0, **peers), solve(16384, 0, "external:superlu", 1, 1.0, **peers)]
    text = Report(bench(tmp_path, rows)).text()
    section = text.split("## Which one is safe\n")[1].split("\n## ")[0]
    assert "over 2 systems" in section
    assert "all, but `external:superlu` 1." in " ".join(section.split())
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert [row[0] for row in table] == ["`direct`", "`jacobi`", "`none`", "`external:superlu`"]
    assert table[0][1:] == ["0%", "50%", "50%", "100%", "6.00, 6.00"]
    assert table[1][1:] == ["0%", "50%", "100%", "100%", "2.83, 8.00"]
    assert table[2][1:] == ["50%", "50%", "50%", "50%", "5.00, fails"]
    assert table[3][1:5] == ["100%"] * 4


def test_runs_are_told_apart_by_what_they_vary(tmp_path):
    varied = {"contrast": (1, 10, 100), "rtol": (1e-3, 1e-5), "split": ("eval-same", "eval-both")}
    rows = [
        solve(64, 0, method, 5, 1.0, run=name, **{name: value})
        for name, values in varied.items()
        for value, method in itertools.product(values, ("jacobi", "direct"))
    ]
    rows += [solve(64, 0, method, 5, 1.0, run="others") for method in ("jacobi", "external:superlu")]
    rows += [solve(64, 0, method, 5, 1.0, run="optional") for method in ("hmatrix", "hmatrix:network=false")]
    found = read_bench(bench(tmp_path, rows)).summary
    kinds = {"contrast": "contrast", "rtol": "tolerances", "split": "splits", "others": "external"}
    kinds["optional"] = "forms"
    assert dict(zip(found.run, found.kind, strict=True)) == kinds
    text = Report(tmp_path).text()
    assert "| method | contrast 1 | contrast 10 | contrast 100 |" in text
    assert "rtol 1e-3" in text


def test_published_counts_stand_beside_ours_and_the_well_posed_ones(tmp_path):
    def frames(run: str, conditions: str, counts: list[int], **more: Any) -> list[dict]:
        common = {"run": run, "family": "barriers", "contrast": "", "conditions": conditions, **more}
        return [solve(1024, frame, "none", count, 1.0, **common) for frame, count in enumerate(counts)]

    rows = frames("published", "published", [400, 500], rule="gpu")
    rows += frames("published", "published", [362, 10], rule="cpu", outcome="left early")
    bench(tmp_path, rows + frames("exact", "well-posed", [240, 250]))
    published = tmp_path / "published.yaml"
    row = "  - {preconditioner: %s, cells: 1024, rule: %s, split: test, frames: %d, iterations: %d%s}\n"
    values = [("none", "gpu", 1, 384, ""), ("none", "gpu", 2, 500, ", std: 9"), ("none", "cpu", 1, 362, "")]
    head = "source: a paper\nfamily: barriers\nrtol: 1.0e-8\nvalues:\n"
    published.write_text(head + "".join(row % value for value in [*values, ("jacobi", "gpu", 1, 264, "")]))
    text = Report(tmp_path).text()
    section = "Published counts, repeated"
    assert cells_of(text, section, "test frame 0, N = 1,024") == ["400 / 384", "240", "362 / 362"]
    assert cells_of(text, section, "2 test frames, N = 1,024") == ["450 / 500 ± 9", "245", ""]
    assert "1 of 3 agree within 0.5 %" in " ".join(text.split())
    published.write_text("values: [{}]", encoding="utf-8")
    with pytest.raises(UsageError, match=r"published\.yaml"):
        read_table(published, "file of published counts")


def test_a_row_of_recordings_is_the_median_of_its_runs(tmp_path):
    runs = [recording("coarse-learned", fps) for fps in (90.0, 100.0, 30.0)]
    recordings(tmp_path, *runs, recording("jacobi", 70.0), recording("coarse-learned", 20.0, reuse=False))
    text = Report(tmp_path).text()
    part = text.split("The parts of a frame")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part if line.startswith("| `")]
    assert [row[:2] for row in cells] == [
        ["`coarse-learned` †", "90.0"],
        ["`jacobi`", "70.0"],
        ["`coarse-learned` †, set up in every frame", "20.0"],
    ]
    assert cells[0][-3:] == ["11.1", "3", "3"]
    assert "## Barriers" not in text


def test_scenes_by_method_show_how_the_choice_compares_with_the_fastest_fixed_method(tmp_path):
    runs = [
        recording("jacobi", 100.0, unconverged=0),
        recording("auto", 98.0, unconverged=0),
        recording("coarse-iterated", 200.0, unconverged=1),  # out of the competition
        recording("auto", 50.0, replay="maze-painted", unconverged=0),
        recording("jacobi", 20.0, replay="maze-painted", unconverged=0),
        recording("coarse-iterated", 100.0, replay="maze-painted", unconverged=0),
        recording("jacobi", 50.0, reuse=False, unconverged=0),
        recording("jacobi", 1000.0, scene="filling", unconverged=0),
    ]
    recordings(tmp_path, *runs)
    text = Report(tmp_path).text()
    assert "| scene | `auto` | `jacobi` | `coarse-iterated` | worst of `auto` |" in text
    start = "dam-break{}, 128x64, contrast 100"
    assert cells_of(text, "In the simulator", start.format("")) == [
        "10.2 (15.3)",
        "**10.0** (15.0)",
        "5.00 (7.50) ✗1",
        "20.4, 2.0x",
    ]
    assert cells_of(text, "In the simulator", start.format(", maze painted")) == [
        "20.0 (30.0)",
        "50.0 (75.0)",
        "**10.0** (15.0)",
        "40.0, 4.0x",
    ]
    assert cells_of(text, "In the simulator", "filling, 128x64, contrast 100") == [
        "",
        "**1.00** (1.50)",
        "",
        "",
    ]
    said = " ".join(text.split())
    assert "`auto` is as fast as the fastest fixed method, within 3 %, in 1 of 2 scenes" in said
    assert "at most 2.00 times as long (dam-break, maze painted)" in said
    assert "within twice the fastest fixed method's median in 0, and at most 4.0 times it" in said
    assert "`auto` 51%, `coarse-iterated` 50%, `jacobi` 20% (maze painted)" in said


def paths_of(content: dict[str, Any], before: tuple[str, ...] = ()) -> Any:
    """The keys to every value of nested mappings."""
    for key, value in content.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from paths_of(value, (*before, key))


@pytest.mark.parametrize("wrong", [None, "x", [], [1], {}, True, 10**400, float("nan")])
def test_no_damage_of_a_recording_is_a_traceback(wrong, tmp_path):
    """Every value in turn is replaced by one of another kind: a row comes out or the file is named."""
    for keys in paths_of(recording("coarse-learned", 90.0)):
        content = yaml.safe_load(yaml.safe_dump(recording("coarse-learned", 90.0)))
        part = content
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = wrong
        paths, message = recordings(tmp_path, content), ""
        try:
            assert len(read_recordings(paths)) == 1
        except UsageError as error:
            message = str(error)
        assert not message or str(paths[0]) in message


GOOD = solve(64, 0, "jacobi", 10, 1.0)
EARLY = recording("jacobi", 1.0)
EARLY["summary"]["rows"] = 12


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("bench.csv", "", "no table of results"),
        ("bench.csv", table_of([GOOD]).split("\n")[0], "holds no rows"),
        ("bench.csv", "a,b\n1,2,3\n4,5,6,7\n", "no table"),
        ("bench.csv", "a,b\n1,2\n", "lacks run, family"),
        (
            "bench.csv",
            table_of([GOOD, {**GOOD, "iterations": "many"}]),
            "row 3: iterations: 'many' is not a number",
        ),
        ("bench.csv", table_of([{**GOOD, "cells": 0}]), "row 2: cells and rtol"),
        ("bench.csv", table_of([{**GOOD, "frame": 0.5}]), "row 2: frame: '0.5' is not a whole number"),
        ("bench.csv", table_of([{**GOOD, "rtol": "nan"}]), "rtol"),
        ("bench.csv", table_of([{**GOOD, "solve_ms": "inf"}]), "solve_ms"),
        ("bench.csv", table_of([{**GOOD, "iterations": ""}]), "stopped without iterations or time"),
        ("bench.csv", table_of([{**GOOD, "run": "y"}]), "its run is not in bench.yaml"),
        ("bench.csv", table_of([{**GOOD, "session": 1}]), "its session is not in bench.yaml"),
        ("bench.csv", table_of([{**GOOD, "method": ""}]), "method: '' is not a text"),
        ("bench.yaml", "{runs: {x: {}}, sessions: []}", "settings: missing"),
        ("bench.yaml", "[", "is not YAML"),
        ("spectra-x.json", "{", "no file of spectra"),
        ("spectra-x.json", "[" * 100_000, "no file of spectra"),
        ("spectra-x.json", json.dumps({"cases": [{"rows": [{}]}]}), "no file of spectra"),
        ("recording-x.yaml", yaml.safe_dump(EARLY), "ended early"),
        ("recording-x.yaml", "summary: {}", "missing"),
        ("study-x.yaml", "title: x", "study-x.yaml"),
        ("timings.json", "{}", "is none of bench.csv"),
    ],
)
def test_a_damaged_or_unknown_file_is_one_line_and_exit_code_2(name, content, fragment, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    data, out = bench(tmp_path / "data", [GOOD]), tmp_path / "out"
    (data / name).write_text(content, encoding="utf-8")
    assert main(["report", "--data", str(data), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert name in error
    assert fragment in error
    assert not out.exists()


def test_what_cannot_be_read_written_or_drawn_is_one_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    occupied = tmp_path / "file"
    occupied.write_text("mine", encoding="utf-8")
    data = bench(tmp_path / "data", [GOOD])
    for arguments in (
        ["--data", str(tmp_path / "nowhere")],
        ["--data", str(tmp_path)],
        ["--data", str(data), "--out", str(occupied)],
    ):
        assert main(["report", *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert occupied.read_text(encoding="utf-8") == "mine"
    (data / "bench.csv").unlink()
    assert main(["report", "--data", str(data)]) == 2
    assert "bench.csv: cannot be read" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["report", "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'htp-fluid[report]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_text_needs_no_matplotlib(tmp_path, monkeypatch):
    for name in list(sys.modules):
        if name.split(".")[0] == "matplotlib" or name == "app.report.figures":
            monkeypatch.delitem(sys.modules, name)
    Report(bench(tmp_path, [GOOD])).text()
    assert "matplotlib" not in sys.modules


def test_no_row_of_the_table_is_lost():
    rows = pd.read_csv(REFERENCE / "bench.csv", usecols=["run", "method"], keep_default_na=False)
    found = read_bench(REFERENCE)
    assert found.summary.frames.sum() == len(rows)
    assert set(found.header.runs) == set(rows.run)
