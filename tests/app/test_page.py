"""A recording's page: one file, numbers and figures as in timings.csv; what is no recording is refused."""

import argparse
import csv
import json
import re
import shlex
import shutil
import statistics
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from app.cli import build_parser, main
from app.config.settings import app_settings
from app.engine import Engine
from app.recording.page import MOST_EVENTS, NAME
from app.recording.plots import POINTS, figure
from app.recording.reading import PARTS, Recording
from app.recording.recorder import Recorder
from app.recording.story import story

EMPTY = ("meta", "img", "br", "hr", "link", "input")


class Page(HTMLParser):
    """What a page holds. ``tables``: by the headline above them, rows of cells; ``attributes``: (tag, name,
    value) of all elements; ``texts``: what stands in elements of a kind.
    """

    def __init__(self, path):
        super().__init__()
        self.tables, self.attributes, self.texts = {}, [], {}
        self._open, self._headline = [], ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in [*attrs, ("", "")]]
        if tag not in EMPTY:
            self._open.append(tag)
        self.texts.setdefault(tag, []).append("")
        if tag == "tr":
            self.tables.setdefault(self._headline, []).append([])
        elif tag in ("td", "th"):
            self.tables[self._headline][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        for tag in set(self._open):
            self.texts[tag][-1] += data
        if "h2" in self._open:
            self._headline = data
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[self._headline][-1][-1] += data

    def rows(self, headline):
        """By their first cell the other cells of the tables under a headline."""
        return {row[0]: row[1:] for row in self.tables[headline]}


def rewritten(page_of):
    """Make the page of a directory anew and parse it."""
    assert main(["page", str(page_of)]) == 0
    return Page(page_of / NAME)


def table_of(directory):
    """Rows of timings.csv as dictionaries."""
    with (directory / "timings.csv").open(newline="", encoding="utf-8") as file:
        return [{name.split()[0]: text for name, text in row.items()} for row in csv.DictReader(file)]


def write_table(directory, rows):
    """Replace those of timings.csv."""
    path = directory / "timings.csv"
    with path.open(newline="", encoding="utf-8") as file:
        header = next(csv.reader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([header, *([row[title.split()[0]] for title in header] for row in rows)])


def write_events(directory, *events):
    """Each: frame, time, kind and data."""
    names = ("frame", "time_s", "kind", "data")
    lines = [json.dumps(dict(zip(names, event, strict=True))) + "\n" for event in events]
    (directory / "events.jsonl").write_text("".join(lines), encoding="utf-8")


def change_run(directory, **settings):
    """Change some settings in run.yaml."""
    path = directory / "run.yaml"
    run = yaml.safe_load(path.read_text(encoding="utf-8"))
    run["settings"].update(settings)
    path.write_text(yaml.safe_dump(run), encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A recording of 12 frames with its page. Shared: not to be changed."""
    directory = tmp_path_factory.mktemp("page") / "run"
    command = ["record", "--grid", "32x16", "--precond", "jacobi", "--frames", "12", "--no-warm-start"]
    assert main([*command, "--contrast", "10000", "--report", "--out", str(directory)]) == 0
    return directory


@pytest.fixture
def recording(finished, tmp_path):
    """A copy of it, without its page."""
    copy = shutil.copytree(finished, tmp_path / "run")
    (copy / NAME).unlink()
    return copy


def test_the_page_is_one_file_that_loads_nothing_and_runs_nothing(finished):
    page = Page(finished / NAME)
    tags = {tag for tag, *_ in page.attributes}
    assert {"img", "svg", "table", "style"} <= tags
    assert not {"script", "link", "iframe", "object", "embed", "base"} & tags
    links = [value for _, name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in links)
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert "url(" not in page.texts["style"][0]
    assert all(query in page.texts["style"][0] for query in ("prefers-color-scheme: dark", "@media print"))
    assert page.texts["title"] == page.texts["h1"] == ["dam-break with jacobi"]
    assert "32x16 cells, density contrast 10,000, 12 frames" in page.texts["p"][0]


def test_the_summary_is_that_of_the_table(finished):
    rows, table = Page(finished / NAME).rows("Summary"), table_of(finished)
    titles = ("simulation", "set-up", "inference", "solve", "failed attempts")
    named = {**dict(zip(titles, PARTS, strict=True)), "drawing": "draw_ms", "whole frame": "frame_ms"}
    for title, name in named.items():
        values = [float(row[name]) for row in table]
        spread = statistics.quantiles(values, n=20, method="inclusive")[-1]
        expected = [statistics.fmean(values[1:]), statistics.median(values), spread]
        expected += [np.percentile(values, 99), max(values[10:])]
        assert [float(cell) for cell in rows[f"{title} [ms]"]] == pytest.approx(expected, abs=6e-4)
    counts = [int(row["iterations"]) for row in table]
    assert rows["iterations"][0] == f"{statistics.fmean(counts[1:]):,.1f}"
    assert rows["iterations"][1] == f"{statistics.median(counts):,.1f}"
    assert (rows["frames"], rows["how it ended"]) == (["12"], ["completed"])
    simulated, real = float(table[-1]["time_s"]), sum(float(row["frame_ms"]) for row in table) / 1e3
    assert rows["simulated"] == [f"{simulated:,.3f} s"]
    assert rows["computed in"] == [f"{real:,.2f} s, {simulated / real:.2g} x real time"]
    assert rows["not converged"] == rows["another method took over in"] == ["0 frames"]
    kinetic = [float(row["kinetic_energy"]) for row in table]
    told = f"{kinetic[0]:.4g} to {kinetic[-1]:.4g} J/m, at most {max(kinetic):.4g} J/m"
    assert rows["kinetic energy"] == [told]
    assert "surface energy" not in rows
    shares = [float(row["divergence"]) * float(row["time_step_s"]) for row in table]
    assert f"at most {max(shares):.2g} of a cell's volume" in rows["largest divergence"][0]


def test_a_recording_from_before_the_energies_has_a_page_without_them(recording):
    path = recording / "timings.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = rows[0].index("kinetic_energy [J/m]")
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(row[:kept] for row in rows)
    assert main(["page", str(recording)]) == 0
    summary = Page(recording / NAME).rows("Summary")
    assert summary["frames"] == ["12"]
    assert not {"kinetic energy", "largest divergence"} & set(summary)


def path_of(directory, name):
    """Points (x, y downwards) of a line of the page's figure."""
    text = (directory / NAME).read_text(encoding="utf-8")
    data = re.search(rf'<g id="{name}">\s*<path d="([^"]*)"', text)[1]
    return np.array([[float(x), float(y)] for x, y in re.findall(r"[ML] (\S+) (\S+)", data)])


def test_the_figures_are_those_of_the_table(finished):
    table, read = table_of(finished), Recording.read(finished)
    iterations, time, speed = figure(read, story(read)).axes
    floor = np.zeros(12)
    for part, area in zip(PARTS, time.patches, strict=True):
        drawn = area.get_data()
        assert drawn.edges.tolist() == (np.arange(13) + 0.5).tolist()
        np.testing.assert_allclose(drawn.baseline, floor, atol=1e-12)
        floor = floor + [float(row[part]) for row in table]
        np.testing.assert_allclose(drawn.values, floor)
    assert speed.lines[0].get_ydata().tolist() == [float(row["fps"]) for row in table]
    assert iterations.get_yscale() == "log"
    for name, values in (
        ("iterations", np.log([int(row["iterations"]) for row in table])),
        ("fps", np.array([float(row["fps"]) for row in table])),
    ):
        points = path_of(finished, name)
        assert len(points) == 12
        np.testing.assert_allclose(np.diff(points[:, 0]), points[1, 0] - points[0, 0], atol=0.02)
        a, b = np.polyfit(values, points[:, 1], 1)
        assert a < 0
        np.testing.assert_allclose(a * values + b, points[:, 1], atol=0.02)


def test_axes_have_names_numbers_are_written_out_and_legends_stand_outside(recording):
    rows = table_of(recording)
    for row in rows[6:]:
        row.update(iterations="10000", outcome="iteration limit", sim_ms="2000")
    write_table(recording, rows)
    page = rewritten(recording)
    texts = [text.strip() for text in page.texts["text"]]
    for words in ("iterations of the solve (log)", "milliseconds per frame", "frames per second"):
        assert words in texts
    assert {"recorded frame", "10,000", "not converged", "set-up", "inference"} <= set(texts)
    assert page.rows("Summary")["not converged"] == ["6 frames"]
    read = Recording.read(recording)
    drawn = figure(read, story(read))
    drawn.canvas.draw()
    for axes in drawn.axes[:2]:
        assert axes.get_legend().get_window_extent().x0 > axes.get_window_extent().x1


def test_a_frame_at_rest_takes_no_iterations_and_one_long_frame_does_not_flatten_the_others(recording):
    rows = table_of(recording)
    rows[2]["iterations"] = "0"
    for row in rows:
        row.update(dict.fromkeys(PARTS, "1"))
    write_table(recording, [*rows * 20, {**rows[0], "sim_ms": "90000"}])
    read = Recording.read(recording)
    iterations, time, _ = figure(read, story(read)).axes
    assert iterations.lines[0].get_ydata().min() == 0
    assert 5.0 < time.get_ylim()[1] < 10.0
    assert [text.get_text().strip() for text in time.texts] == ["\N{UPWARDS ARROW} 90,004 ms"]


def test_events_are_told_in_plain_words_and_marked_where_they_happened(recording):
    rows = table_of(recording)
    for number, row in enumerate(rows):  # 8 frames, and 4 after a reset that are timed like the first ones
        frame = number % 8 + 1
        row.update(frame=str(frame), time_s=str(0.25 * frame))
    rows[5].update(failed_method="hmatrix", failed_reason="not definite", fallback="True")
    rows[6].update(failed_method="hmatrix", failed_reason="not definite", fallback="True")
    rows[10].update(outcome="stagnated")
    write_table(recording, rows)
    stir = {"velocity_x": 1.0, "velocity_y": 0.0, "radius": 0.1}
    paint = {"x": 0.5, "y": 0.5, "radius": 0.2}
    write_events(
        recording,
        *((frame, 0.25 * frame, "stir", {"x": 0.1 * frame, "y": 0.5, **stir}) for frame in range(4)),
        (3, 0.75, "paint", {**paint, "what": "solid"}),
        (4, 1.0, "paint", {**paint, "what": "erase"}),
        (4, 1.0, "set", {"name": "preconditioner", "value": "hmatrix"}),
        (8, 2.0, "reset", {}),
        (1, 0.25, "set", {"name": "contrast", "value": 5000.0}),
        (2, 0.5, "set", {"name": "contrast", "value": 300.0}),
        (3, 0.75, "set", {"name": "scene", "value": "lava-lamp", "brought": {"grid": [32, 16]}}),
        (0, 0.0, "pause", {}),
        (0, 0.0, "drag", {"x": 0.12345, "y": 1, "to_x": 2}),
        (0, 0.0, "wave", {"at": 0.12345}),
    )
    told = [row for row in rewritten(recording).tables["What happened"] if row[0] != "mark"]
    assert [(mark, frame, words) for mark, frame, _, words in told] == [
        ("", "1 to 4", "stirred from (0, 0.5) m to (0.3, 0.5) m, radius 0.1 m (4 events)"),
        ("", "4", "painted solid at (0.5, 0.5) m, radius 0.2 m"),
        ("", "5", "erased at (0.5, 0.5) m, radius 0.2 m"),
        ("1", "5", "preconditioner changed from jacobi to hmatrix"),
        ("", "6 to 7", "hmatrix failed: not definite; jacobi took over"),
        ("", "9", "began anew from the scene's initial state"),
        ("2", "10 to 11", "contrast changed from 10,000 to 300"),
        ("", "11", "jacobi ended as stagnated"),
        (
            "3",
            "12",
            "scene changed from dam-break to lava-lamp, which brought grid 32x16; the simulation began anew",
        ),
        ("", "12", "paused"),
        ("", "12", "moved an obstacle from (0.123, 1) m to (2, 1) m"),
        ("", "12", "wave: at 0.123"),
    ]
    read = Recording.read(recording)
    for axes in figure(read, story(read)).axes:
        dashed = [line[0, 0] for marks in axes.collections for line in marks.get_segments()]
        assert sorted(dashed) == [4.5, 9.5, 11.5]


def test_what_auto_chose_and_why_is_told_and_marked(recording):
    chosen = [
        "multigrid: the first",
        "coarse-iterated: not tried yet",
        *["multigrid: the cheapest lately"] * 3,
    ]
    chosen += ["coarse-iterated: multigrid took too long", *["coarse-iterated: the cheapest lately"] * 5, ""]
    rows = table_of(recording)
    for row, choice in zip(rows, chosen, strict=True):
        row.update(preconditioner="auto" if choice else "jacobi", choice=choice)
    write_table(recording, rows)
    told = [row for row in rewritten(recording).tables["What happened"] if row[0] != "mark"]
    assert [(mark, frame, words) for mark, frame, _, words in told] == [
        ("1", "2", "auto took coarse-iterated for 1 frame: not tried yet"),
        ("2", "6", "auto changed from multigrid to coarse-iterated: multigrid took too long"),
    ]
    read = Recording.read(recording)
    for axes in figure(read, story(read)).axes:
        assert [line[0, 0] for marks in axes.collections for line in marks.get_segments()] == [1.5, 5.5]


@pytest.fixture
def live(tmp_path):
    """An engine, and a function that ends its recording and says what happened, but for frames: pairs of the
    number in the plots and the words.
    """
    engine = Engine(app_settings({"grid": (32, 16), "preconditioner": "jacobi", "rtol": 0.1}))
    recorder = Recorder.start(engine, tmp_path / "live")

    def told():
        return [(one.mark, one.words) for one in story(Recording.read(recorder.stop()))]

    return engine, told


def steps(engine, count):
    for _ in range(count):
        engine.step()


def test_the_story_follows_settings_through_undo_and_redo(live):
    engine, told = live
    steps(engine, 3)
    engine.set("contrast", 200.0)
    steps(engine, 2)
    engine.set("contrast", 1000.0)  # undone together with the one before
    steps(engine, 31)
    engine.set("contrast", 50.0)
    engine.set("preconditioner", "multigrid")
    engine.step()
    for _ in range(3):
        engine.undo()
    engine.step()
    engine.redo()
    engine.set("contrast", 300.0)  # undone together with what was done again
    engine.reset()
    engine.reset()  # nothing that could be undone
    engine.set("scene", "rising-bubbles", {"gravity": 5.0})
    engine.undo()
    engine.undo()
    engine.undo()
    assert engine.settings.simulation.contrast == 100.0
    engine.set("contrast", 70.0)
    anew = "began anew from the scene's initial state"
    assert told() == [
        ("1", "contrast changed from 100 to 1,000"),
        ("2", "contrast changed from 1,000 to 50"),
        ("3", "preconditioner changed from jacobi to multigrid"),
        ("4", "undid the change of preconditioner: preconditioner jacobi again"),
        ("5", "undid the change of contrast: contrast 1,000 again"),
        ("6", "undid the change of contrast: contrast 100 again"),
        ("7", "redid the change of contrast: contrast 1,000 again"),
        ("8", "contrast changed from 1,000 to 300"),
        ("", anew),
        ("", anew),
        (
            "9",
            "scene changed from dam-break to rising-bubbles, which brought gravity 5; "
            "the simulation began anew",
        ),
        ("10", "undid the change of scene: scene dam-break, gravity 9.81 again"),
        ("", "undid the reset"),
        ("11", "undid the change of contrast: contrast 100 again"),
        ("12", "contrast changed from 100 to 70"),
    ]


def test_a_new_grid_begins_anew_only_where_frames_do(live):
    engine, told = live
    steps(engine, 2)
    engine.set("grid", (48, 24))
    engine.stir(0.5, 0.5, 1.0, 0.0, 0.2)
    steps(engine, 2)
    engine.set("grid", (32, 16))
    engine.set("courant", 0.4)
    engine.reset()  # not the grid's doing
    steps(engine, 4)
    engine.set("grid", (32, 32))  # another box
    steps(engine, 5)
    engine.set("seed", 3)
    engine.step()
    engine.set("grid", (16, 32))
    assert engine.frame == 0
    assert told() == [
        ("", "grid changed from 32x16 to 48x24"),
        ("", "stirred at (0.5, 0.5) m, radius 0.2 m"),
        ("", "grid changed from 48x24 to 32x16"),
        ("", "courant changed from 0.45 to 0.4"),
        ("", "began anew from the scene's initial state"),
        ("", "grid changed from 32x16 to 32x32; the simulation began anew"),
        ("", "seed changed from 0 to 3; the simulation began anew"),
        ("", "grid changed from 32x32 to 16x32"),  # and nothing follows that would tell
    ]


def test_strokes_of_the_hand_and_loaded_states_are_told(live, tmp_path):
    engine, told = live
    engine.paint(1.0, 0.5, 0.2, "solid")
    for x in (0.9, 1.0):
        engine.begin_stroke()
        engine.drag(x, 0.5, x + 0.1, 0.6, 0.1)
        engine.step()
    engine.begin_stroke()
    engine.paint(0.2, 0.5, 0.1, "heavy", 0.3, 0.6)
    engine.begin_stroke()
    engine.paint(0.3, 0.6, 0.1, "heavy", 0.4, 0.7)
    engine.undo()
    engine.redo()
    engine.save(tmp_path / "kept.safetensors")
    engine.set("contrast", 400.0)
    engine.load(tmp_path / "kept.safetensors")
    engine.set("contrast", 500.0)
    engine.set("preconditioner", "multigrid")
    for _ in range(3):
        engine.undo()
    engine.set("contrast", 600.0)
    assert told() == [
        ("", "painted solid at (1, 0.5) m, radius 0.2 m"),
        ("", "moved an obstacle from (0.9, 0.5) m to (1.1, 0.6) m (2 events)"),
        ("", "painted heavy from (0.2, 0.5) m to (0.4, 0.7) m, radius 0.1 m (2 events)"),
        ("", "undid the stroke"),
        ("", "redid the stroke"),
        ("1", "contrast changed from 100 to 400"),
        ("", "went on from the saved state loaded-1.safetensors"),
        ("2", "contrast changed to 500"),
        ("3", "preconditioner changed from jacobi to multigrid"),
        ("4", "undid the change of preconditioner: preconditioner jacobi again"),
        ("", "undid the change of contrast"),
        ("", "undid the loading of a state"),
        ("5", "contrast changed from 400 to 600"),
    ]


def test_a_killed_recording_has_a_page_of_what_was_written(recording):
    (recording / "final.png").unlink()
    run = yaml.safe_load((recording / "run.yaml").read_text(encoding="utf-8"))
    (recording / "run.yaml").write_text(yaml.safe_dump({**run, "summary": None}), encoding="utf-8")
    for name, cut in (("timings.csv", b"13,0.1"), ("events.jsonl", b'{"frame": 3')):
        with (recording / name).open("ab") as file:
            file.write(cut)
    page = rewritten(recording)
    assert page.rows("Summary")["frames"] == ["12"]
    assert page.rows("Summary")["how it ended"] == ["cut off, without a summary"]
    assert any("no final picture" in text for text in page.texts["p"])
    assert "img" not in page.texts
    write_table(recording, [])
    (recording / "events.jsonl").unlink()
    page = rewritten(recording)
    assert "svg" not in page.texts
    assert any("no events.jsonl" in text for text in page.texts["p"])


def test_a_table_that_was_cut_short_is_told(recording):
    write_table(recording, table_of(recording)[:5])
    told = rewritten(recording).rows("Summary")["how it ended"]
    assert told == ["completed; timings.csv is cut short: 5 of 12 frames"]


def test_what_comes_from_files_is_escaped(recording):
    bad = '<script>alert("1")</script>&amp;'
    change_run(recording, scene=bad, view=f'"{bad}', preconditioner=bad, **{bad: bad})
    write_events(recording, (1, 0.1, bad, {bad: bad}), (2, 0.1, "set", {"name": "scene", "value": bad}))
    write_table(recording, [{**row, "failed_reason": bad, "fallback": "True"} for row in table_of(recording)])
    page = rewritten(recording)
    assert "script" not in page.texts
    assert page.texts["title"] == page.texts["h1"] == [f"script>&amp; with {bad}"]  # a path's last part
    assert page.rows("Settings")[bad] == [bad, "unknown here", ""]
    assert bad in " ".join(page.texts["pre"])
    assert any(f"{bad}: {bad} {bad}" in row for row in page.tables["What happened"])


def test_thousands_of_frames_and_events_stay_small_and_keep_their_extremes(recording):
    rng = np.random.default_rng(0)
    rows = []
    for number, row in enumerate(table_of(recording) * 250, 1):
        counts = {"iterations": str(rng.integers(5, 500)), "outcome": rng.choice(["converged", "stagnated"])}
        rows.append({**row, **counts, "frame": str(number), "time_s": str(number), "fps": str(rng.random())})
        rows[-1].update({part: str(rng.random()) for part in PARTS})
    rows[2321]["iterations"], rows[1234]["iterations"] = "10000", "1"
    write_table(recording, rows)
    names = ("preconditioner", "courant")
    events = [(n, float(n), "set", {"name": names[n % 2], "value": str(n)}) for n in range(1, 3000, 5)]
    write_events(recording, *events)
    page = rewritten(recording)
    assert (recording / NAME).stat().st_size < 2e6
    assert len(page.tables["What happened"]) == MOST_EVENTS + 1
    iterations, time, _ = figure(Recording.read(recording), []).axes
    line = iterations.lines[0]
    assert POINTS < len(line.get_xdata()) <= 2 * POINTS
    drawn = dict(zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True))
    assert (drawn[2322], drawn[1235]) == (10000, 1)
    stacked = time.patches[-1].get_data()
    total = sum(float(row[part]) for row in rows for part in PARTS)
    assert np.sum(stacked.values * np.diff(stacked.edges)) == pytest.approx(total)


def test_what_differs_from_the_defaults_comes_first_and_the_command_repeats_the_run(finished):
    page = Page(finished / NAME)
    names = [row[0] for row in page.tables["Settings"]]
    assert set(names[1:7]) == {"grid", "contrast", "preconditioner", "warm_start", "frames", "report"}
    assert page.rows("Settings")["contrast"][:2] == ["10,000", "100"]
    assert page.rows("Settings")["gravity"][0] == "9.81 m/s^2"
    assert "memory, GiB" in page.rows("Machine and versions")
    words = shlex.split(page.texts["pre"][0])
    assert words[:4] == ["python", "-m", "app", "record"]
    flags = vars(build_parser().parse_args(words[3:]))
    flags.pop("command")
    run = yaml.safe_load((finished / "run.yaml").read_text(encoding="utf-8"))
    assert app_settings(flags).as_dict() == run["settings"]


def test_a_scene_that_is_not_here_is_repeated_with_everything_said(recording):
    change_run(recording, scene="elsewhere/own scene.yaml")
    page = rewritten(recording)
    assert page.texts["h1"] == ["own scene with jacobi"]
    flags = build_parser().parse_args(shlex.split(page.texts["pre"][0])[3:])
    run = yaml.safe_load((recording / "run.yaml").read_text(encoding="utf-8"))
    assert isinstance(flags, argparse.Namespace)
    assert set(vars(flags)) - {"command"} == set(run["settings"])


def refuse(capsys, arguments, *fragments):
    assert main(["page", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(fragment in error for fragment in fragments), error


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("run.yaml", None, "is not a recording: it has no run.yaml"),
        ("timings.csv", None, "is not a recording: it has no timings.csv"),
        ("run.yaml", "settings: [", "is not YAML"),
        ("run.yaml", "command: x", "it has no settings"),
        ("timings.csv", "", "it has no table"),
        ("timings.csv", "frame [-],time_s [s]\r\n", "it has no column time_step_s"),
        ("timings.csv", "a,b\r\n1\r\n", "line 2 has 1 values for 2"),
        ("timings.csv", b"\xff\xfe\n", "not a text file"),
        ("timings.csv", ("solve_ms", "fast"), "line 3: solve_ms is 'fast'"),
        ("timings.csv", ("frame_ms", "inf"), "line 3: frame_ms is 'inf'"),
        ("events.jsonl", '{"frame": 1}\n', "line 1 is no event"),
        ("events.jsonl", "nonsense\n", "line 1 is no event"),
        ("final.png", "no picture", "it is no picture"),
        ("final.png", 200, "is damaged"),
    ],
)
def test_what_is_damaged_is_refused_in_one_line(recording, capsys, name, content, fragment):
    path = recording / name
    if content is None:
        path.unlink()
    elif isinstance(content, tuple):
        rows = table_of(recording)
        rows[1][content[0]] = content[1]
        write_table(recording, rows)
    elif isinstance(content, int):
        path.write_bytes(path.read_bytes()[:content])
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refuse(capsys, [recording], str(recording), name, fragment)
    assert not (recording / NAME).exists()


def test_a_page_goes_where_it_is_asked_to_and_needs_a_recording(recording, tmp_path, capsys, monkeypatch):
    other = tmp_path / "pages" / "mine.html"
    assert main(["page", str(recording), "--out", str(other)]) == 0
    assert str(other) in capsys.readouterr().out
    assert not (recording / NAME).exists()
    assert Page(other).texts["h1"] == ["dam-break with jacobi"]
    refuse(capsys, [recording, "--out", other], "is there already")
    refuse(capsys, [tmp_path / "nowhere"], "nowhere: is not a recording")
    refuse(capsys, [recording / "run.yaml"], "is not a recording")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refuse(capsys, [recording], "htp-fluid[report]")
    assert main(["record", "--report", "--out", str(tmp_path / "new")]) == 2
    assert "htp-fluid[report]" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_recording_says_when_its_page_cannot_be_written(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.recording.recorder.write_page", full)
    command = ["record", "--grid", "32x16", "--precond", "jacobi", "--frames", "2", "--report"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 1
    assert "No space left on device" in capsys.readouterr().err
