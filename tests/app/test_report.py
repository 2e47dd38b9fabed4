"""`report`: RESULTS.md says what the files say, in both of their forms; wrong files are refused in a line."""

import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.cli import main
from app.report.panels import panels
from app.report.report import REFERENCE, compose
from app.report.results import SETTING, exponent, read_bench
from app.report.winners import places, sentences

MACHINE = {
    "versions": {"torch": "2.9.0", "python": "3.11.0"},
    "hardware": {"cpu": "Some CPU", "cores": 4, "torch_threads": 1, "memory_gib": 16.0, "gpu": None},
    "commit": "0123456789abcdef0123456789abcdef01234567",
}


def solve(
    cells: int, frame: int, method: str, iterations: int | None, milliseconds: float, **more: Any
) -> dict:
    """A row of the second form: a tenth of the time is set-up."""
    return {
        "cells": cells,
        "frame": frame,
        "preconditioner": method,
        "turn": 0,
        "outcome": "converged" if iterations is not None else "iteration limit",
        "note": "",
        "iterations": 1000 if iterations is None else iterations,
        "relative_residual": 1e-9,
        "setup_ms": 0.1 * milliseconds,
        "inference_ms": 0.0,
        "solve_ms": 0.9 * milliseconds,
        "total_ms": milliseconds,
        "family": "bubbles",
        "split": "test",
        "conditions": "well-posed",
        "contrast": 100.0,
        "rtol": 1e-8,
        "ms_per_iteration": 0.5,
        "matrix_products": iterations,
        "memory_mib": 1.0 + cells / 1000,
        "engine": "torch",
        "threads": 1,
        "precision": "float64",
        **more,
    }


def bench(rows: list[dict], **more: Any) -> dict[str, Any]:
    """A file of `bench` of the second form."""
    return {
        "command": "htp-fluid bench --out runs/x",
        "date": "2026-11-20T10:00:00+00:00",
        **MACHINE,
        "settings": {},
        "sessions": [
            {
                "date": "2026-11-20T10:00:00+00:00",
                "command": "htp-fluid bench",
                **{name: MACHINE[name] for name in ("hardware", "commit")},
            }
        ],
        "skipped": {},
        "ended": "completed",
        "table": [],
        "rows": rows,
        **more,
    }


def study(iterations: dict[str, list[list[int | None]]], **more: Any) -> dict[str, Any]:
    """A file of `ablate`: by variant the iterations of each seed."""
    rows = [
        {
            "variant": name,
            "seed": seed,
            "parameters": 100,
            "seconds": 60,
            "cpu_seconds": 60,
            "iterations": counts,
            "failures": [],
        }
        for name, of_seeds in iterations.items()
        for seed, counts in enumerate(of_seeds)
    ]
    return {
        "title": "A study",
        "command": "htp-fluid ablate x.yaml",
        "conditions": "well-posed",
        "budget": "10 steps",
        "variants": {name: {"label": f"the {name}", "config": {}} for name in iterations},
        "sessions": [{"started": "2026-11-19T10:00:00+00:00", **MACHINE}],
        "rows": rows,
        **more,
    }


def write(folder: Path, name: str, content: Any) -> Path:
    """``content`` as the JSON file ``name`` of ``folder``."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


LARGEST_FIGURE = 200_000  # bytes
GOOD = solve(64, 0, "jacobi", 10, 1.0)


def report_of(folder: Path) -> str:
    return compose(folder)[0]


def cells_of(text: str, start: str) -> list[str]:
    """The cells of the first line of a table that starts with ``start``."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_committed_report_is_what_the_committed_results_give():
    root = REFERENCE.parents[1]
    text, _ = compose(REFERENCE)
    assert (root / "RESULTS.md").read_text(encoding="utf-8") == text, "stale: run `python -m app report`"
    named = set(re.findall(r"\((assets/figures/[^)]+\.svg)\)", text))
    committed = {path.relative_to(root).as_posix() for path in (root / "assets" / "figures").iterdir()}
    assert named == committed
    assert all((root / name).stat().st_size < LARGEST_FIGURE for name in named)


def test_one_command_writes_the_committed_report_anew(tmp_path):
    """Figures by name and size: their bytes are matplotlib's, which differ between its versions."""
    pytest.importorskip("matplotlib")
    root = REFERENCE.parents[1]
    assert main(["report", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "RESULTS.md").read_bytes() == (root / "RESULTS.md").read_bytes()
    written = {path.name: path.stat().st_size for path in (tmp_path / "assets" / "figures").iterdir()}
    assert written.keys() == {path.name for path in (root / "assets" / "figures").iterdir()}
    assert max(written.values()) < LARGEST_FIGURE


def test_two_runs_write_the_same_bytes(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    data = tmp_path / "data"
    data.mkdir()
    sizes = itertools.product((64, 256, 1024), ("jacobi", "coarse-learned", "peer:other"), range(2))
    write(data, "bench-small.json", bench([solve(n, frame, name, n, n / 10) for n, name, frame in sizes]))
    write(data, "spectra-64.json", (REFERENCE / "spectra-1024.json").read_text(encoding="utf-8"))
    written = []
    for out in (tmp_path / "first", tmp_path / "second"):
        assert main(["report", "--data", str(data), "--out", str(out)]) == 0
        files = {
            path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
        }
        written.append(files)
    assert written[0] == written[1]
    svgs = [content for path, content in written[0].items() if path.suffix == ".svg"]
    assert len(svgs) == 3 + 4  # iterations, time, memory; convergence and spectra of two cases
    assert not any(b"<dc:date>" in svg or b"<dc:creator>" in svg for svg in svgs)
    assert "figures: 7" in capsys.readouterr().out


def test_a_table_holds_medians_failures_and_exponents_of_the_rows(tmp_path):
    """Numbers chosen so that every cell is known: iterations N^0.5, time 2 N, one failure of three."""
    rows = []
    for n, frame in itertools.product((100, 400, 1600), range(3)):
        rows.append(solve(n, frame, "jacobi", int(n**0.5) + frame - 1, 2.0 * n))
        rows.append(solve(n, frame, "hmatrix", None if (n, frame) == (400, 1) else 7, 3.0 * n + frame))
    write(tmp_path, "bench-known.json", bench(rows))
    text = report_of(tmp_path)
    counts, times = text.split("Set-up + inference + solve")[:2]
    assert cells_of(counts, "`jacobi`")[1:] == ["10.0 ± 1.0", "**20.0 ± 1.0**", "40.0 ± 1.0", "0.50"]
    assert cells_of(counts, "`hmatrix` †")[1:] == [
        "**7.0 ± 0.0**",
        "7.0 ± 0.0 (1 of 3 failed)",
        "**7.0 ± 0.0**",
        "-",
    ]
    assert cells_of(times, "`jacobi`")[1:] == ["**200 (200)**", "**800 (800)**", "**3,200 (3,200)**", "1.00"]
    p95 = np.percentile([4800.0, 4801.0, 4802.0], 95)
    assert cells_of(times, "`hmatrix` †")[3] == f"4,801 ({p95:,.0f})"


def test_the_first_form_takes_from_its_settings_what_its_rows_do_not_say(tmp_path):
    new = ("family", "split", "conditions", "contrast", "rtol", "engine", "threads", "precision")
    more = ("ms_per_iteration", "matrix_products", "memory_mib")
    rows = [solve(64, frame, "jacobi", 10, 1.0) for frame in range(2)]
    rows = [{name: value for name, value in row.items() if name not in (*new, *more)} for row in rows]
    old = bench(rows, settings={"family": "mazes", "contrast": 30.0, "rtol": 1e-6})
    del old["sessions"]
    found = read_bench(write(tmp_path, "bench-old.json", old))
    (solves,) = found.solves
    assert [solves.setting[name] for name in new[:5]] == ["mazes", "test", "well-posed", 30.0, 1e-6]
    assert solves.measure("memory_mib") is None
    assert found.sessions[0].date == "2026-11-20"
    assert "- mazes, test frames, well-posed, contrast 30, rtol 1e-6; frames" in report_of(tmp_path)


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("bench-*.json")), ids=lambda path: path.stem)
def test_committed_files_give_the_table_that_bench_wrote(path):
    """Every entry of the file's own table against the same from its rows."""
    content = json.loads(path.read_text(encoding="utf-8"))
    found = read_bench(path).solves
    assert len(content["table"]) == len(found)
    for entry in content["table"]:
        told = {name: entry[name] for name in SETTING if name in entry}
        (solves,) = (
            solves
            for solves in found
            if solves.name == entry["preconditioner"] and told.items() <= solves.setting.items()
        )
        assert (solves.frames, solves.failed) == (entry["frames"], entry["failed"])
        counts = solves.iterations()
        assert (counts and counts[0]) == pytest.approx(entry["iterations_mean"])
        median, p95 = solves.measure("total_ms")
        assert (median, p95) == pytest.approx((entry["total_ms"]["median"], entry["total_ms"]["p95"]))


def test_panels_are_cut_along_what_varies_most(tmp_path):
    methods = ("jacobi", "coarse-learned")
    swept = [
        solve(n, 0, name, 5, 1.0, contrast=contrast)
        for n, contrast, name in itertools.product((64, 256), (1.0, 10.0, 100.0), methods)
    ]
    found = panels(read_bench(write(tmp_path, "bench-contrast.json", bench(swept))))
    assert [(panel.title, panel.sweep, panel.columns) for panel in found] == [
        ("N = 64", "contrast", (1.0, 10.0, 100.0)),
        ("N = 256", "contrast", (1.0, 10.0, 100.0)),
    ]
    splits = ("eval-same", "eval-closed", "eval-both")
    rows = [
        solve(64, 0, name, 5, 1.0, split=split)
        for split, name in itertools.product(splits, ("peer:x", "jacobi"))
    ]
    (panel,) = panels(read_bench(write(tmp_path, "bench-splits.json", bench(rows))))
    assert (panel.sweep, panel.columns) == ("split", splits)
    assert panel.methods == ("jacobi", "peer:x")
    assert not panel.drawable


def test_a_solve_that_gave_no_report_belongs_to_its_method_and_says_how_none_computed(tmp_path):
    nothing = dict.fromkeys(
        name for name in GOOD if name.endswith(("_ms", "_mib", "iteration", "products"))
    ) | dict.fromkeys(("iterations", "relative_residual", "engine", "threads", "precision"))
    failed = {**solve(64, 1, "jacobi", 1, 1.0), **nothing, "outcome": "failed: it broke"}
    bench_of = read_bench(write(tmp_path, "bench-x.json", bench([GOOD, failed])))
    (solves,) = bench_of.solves
    assert (solves.frames, solves.failed, solves.iterations()) == (2, 1, (10.0, 0.0))
    text = report_of(tmp_path)
    assert cells_of(text, "`jacobi`")[1] == "10.0 ± 0.0 (1 of 2 failed)"
    assert "| `jacobi` | torch | 1 | float64 |" in text
    assert "- `jacobi`: it broke (1 at N = 64)" in text


def test_winners_converged_everywhere_and_losses_are_stated(tmp_path):
    rows = []
    for n, frame in itertools.product((64, 256), range(2)):
        rows += [
            solve(n, frame, "direct", 1, 50.0),
            solve(n, frame, "jacobi", 9 if n == 64 else 90, 5.0),
            solve(n, frame, "coarse-learned", 12, 4.0 if n == 256 else 6.0),
            solve(n, frame, "hmatrix", 3 if frame else None, 1.0),
        ]
    found = places([read_bench(write(tmp_path, "bench-w.json", bench(rows)))])
    assert [(place.setting["cells"], place.fastest, place.fewest) for place in found] == [
        (64, ["jacobi"], ["jacobi"]),
        (256, ["coarse-learned"], ["coarse-learned"]),
    ]
    assert {place.learned for place in found} == {"coarse-learned"}
    (sentence,) = sentences(found)
    assert sentence.count("no learned method wins at N = 64 (contrast 100, rtol 1e-8)") == 2
    assert "one wins 1 of 2" in sentence
    assert sentences(places([read_bench(write(tmp_path, "bench-o.json", bench(rows[4:8])))]))


def test_published_counts_stand_beside_ours_and_the_well_posed_ones(tmp_path):
    def frames(conditions: str, counts: list[int], **more: Any) -> list[dict]:
        common = {"family": "barriers", "contrast": None, "conditions": conditions, **more}
        return [solve(1024, frame, "none", count, 1.0, **common) for frame, count in enumerate(counts)]

    rows = frames("published", [400, 500], rule="gpu")
    left_early = [{**row, "outcome": "left early"} for row in frames("published", [362, 10], rule="cpu")]
    write(tmp_path, "bench-published.json", bench([*rows, *left_early]))
    write(tmp_path, "bench-exact.json", bench(frames("well-posed", [240, 250])))
    published = tmp_path / "published.yaml"
    published.write_text(
        "source: a paper\nfamily: barriers\nrtol: 1.0e-8\nwhat_was_wrong: rounding\nvalues:\n"
        "  - {preconditioner: none, cells: 1024, rule: gpu, split: test, frames: 1, iterations: 384}\n"
        "  - {preconditioner: none, cells: 1024, rule: gpu, split: test, frames: 2, iterations: 500,"
        " std: 9}\n"
        "  - {preconditioner: none, cells: 1024, rule: cpu, split: test, frames: 1, iterations: 362}\n"
        "  - {preconditioner: jacobi, cells: 1024, rule: gpu, split: test, frames: 1, iterations: 264}\n",
        encoding="utf-8",
    )
    text = report_of(tmp_path)
    table = text.split("## Published counts")[1].split("rounding")[0].splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")][2:] for line in table if "`none`" in line]
    assert found == [
        ["GPU", "test frame 0", "384", "400", "+4.2 %", "0/1", "240.0"],
        ["GPU", "2 test frames", "500 ± 9", "450 ± 71", "-10.0 %", "0/2", "245.0"],
        ["CPU", "test frame 0", "362", "362", "+0.0 %", "1/1", "240.0"],
    ]
    assert "## Who wins where" not in text  # one method ran
    published.write_text("values: [{}]", encoding="utf-8")
    assert main(["report", "--data", str(tmp_path)]) == 2


def test_seeds_have_a_row_each_and_their_spread(tmp_path):
    groups = {"barriers": {"frames": 2}, "mazes": {"frames": 2}}
    seeds = {"base": [[12, 13, 40, 41], [13, 13, 44, None], [12, 12, 39, 40]]}
    write(tmp_path, "seeds-x.json", study(seeds, form="coarse-learned", shared={"test": groups}))
    write(tmp_path, "ablation-x.json", study({"base": [[10, 20], [20, None]], "bare": [[5, 5]]}))
    text = report_of(tmp_path)
    spread = np.std([40.5, 44.0, 39.5], ddof=1)
    lines = [line for line in text.splitlines() if line.startswith(("| the base", "| **the base"))]
    assert lines[1:] == [
        "| the base | 0 | 12.5 | 40.5 | 0/4 |",
        "| the base | 1 | 13.0 | 44.0* | 1/4 |",
        "| the base | 2 | 12.0 | 39.5 | 0/4 |",
        f"| **the base** | **3 seeds** | **12.5 ± 0.5** | **{124 / 3:.1f} ± {spread:.1f}** | 1/12 |",
    ]
    assert lines[0] == f"| the base | 100 | 2 | 17.5 ± {np.std([15, 20], ddof=1):.1f} | 1/4 | 1.0 | 1.0 |"


def test_the_exponent_is_that_of_a_power_law():
    sizes = [10.0, 20.0, 70.0]
    assert exponent(sizes, [3.0 * size**1.25 for size in sizes]) == pytest.approx(1.25)
    assert exponent(sizes[:2], [1.0, 2.0]) is None


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("bench-x.json", "{", "holds no results of bench"),
        ("bench-x.json", [], "no mapping"),
        ("bench-x.json", bench([]), "no rows"),
        ("bench-x.json", bench([{**GOOD, "iterations": "many"}]), "row 0: iterations"),
        ("bench-x.json", bench([GOOD, {**GOOD, "total_ms": True}]), "row 1: total_ms"),
        (
            "bench-x.json",
            bench([{**GOOD, "iterations": None}]),
            "row 0: converged without iterations or time",
        ),
        ("bench-x.json", bench([{**GOOD, "rtol": None}]), "row 0: rtol"),
        ("bench-x.json", bench([{**GOOD, "cells": 0}]), "0 cells"),
        ("bench-x.json", bench([GOOD], hardware={}, sessions=[]), "lacks"),
        ("bench-x.json", {"command": "x", "rows": []}, "lacks"),
        ("bench-x.json", '{"rows": [' + "[" * 100_000, "holds no results of bench"),
        ("spectra-x.json", bench([GOOD]), "holds no results of spectra"),
        ("ablation-x.json", bench([GOOD]), "holds no results of an ablation"),
        ("seeds-x.json", "nothing", "holds no results of an ablation"),
        ("ablation-x.json", study({"base": [[1]]}, sessions=[{}]), "a session lacks"),
        ("spectra-x.json", {**bench([]), "settings": {"rtol": "small"}, "cases": []}, "rtol is 'small'"),
        ("timings.json", bench([GOOD]), "no known kind"),
    ],
)
def test_a_damaged_or_unknown_file_is_one_line_and_exit_code_2(name, content, fragment, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    path = write(data, name, content)
    assert main(["report", "--data", str(data), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert path.name in error
    assert fragment in error
    assert not out.exists()


def test_what_cannot_be_read_written_or_drawn_is_one_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    occupied = tmp_path / "file"
    occupied.write_text("mine", encoding="utf-8")
    double = tmp_path / "double"
    double.mkdir()
    curve = [solve(n, 0, "jacobi", 5, 1.0) for n in (64, 128, 256)]
    write(double, "bench-x-stripes.json", bench(curve))
    stripes = [{**row, "family": "stripes"} for row in curve]
    write(double, "bench-x.json", bench([*curve, *stripes]))  # a figure for stripes here, too
    for arguments in (
        ["--data", str(tmp_path / "nowhere")],
        ["--data", str(tmp_path)],
        ["--data", str(double)],
        ["--out", str(occupied)],
    ):
        assert main(["report", *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert occupied.read_text(encoding="utf-8") == "mine"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["report", "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'htp-fluid[report]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_text_needs_no_matplotlib(monkeypatch):
    for name in [
        name for name in sys.modules if name.split(".")[0] == "matplotlib" or name == "app.report.figures"
    ]:
        monkeypatch.delitem(sys.modules, name)
    compose(REFERENCE)
    assert "matplotlib" not in sys.modules
