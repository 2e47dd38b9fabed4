"""`report`: RESULTS.md and its figures from the committed results, the same bytes every time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from app.bench.settings import PUBLISHED
from app.commands.ablate import read_results
from app.environment import ROOT
from app.output import OutputError
from app.report.recordings import recordings
from app.report.reproduction import Reference, read_reference
from app.report.results import Bench, ResultsError, read_bench, read_spectra
from app.report.sections import (
    Figures,
    ablation_section,
    bench_section,
    published_section,
    seeds_section,
    spectra_section,
)
from app.report.winners import places, sentences, winners_table

REFERENCE = ROOT / "assets" / "reference"
FIGURES = Path("assets") / "figures"
KINDS = ("bench", "spectra", "ablation", "seeds")  # a file is called so, or so and -NAME
READING = """\
Written by `htp-fluid report` from the JSON files in `{data}`; change those, not this. Each section names
its file, the command that measured it, machine, date and commit. Every solve starts from zero with a set-up
and an inference of its own.

- Iterations are means ± standard deviations over the frames that converged; how many failed is beside them.
- Milliseconds are medians (95th percentiles) over all frames. They compare within one file, not across files.
- † marks learned methods. Bold is the lowest of a column among those that converged on every frame; direct
  solvers, which take one iteration or none, are left aside where iterations compete.
- N^p is a least squares fit over the sizes at which every frame converged, where these are three or more."""


def report(data: str | None, out: str) -> int:
    """Write ``out``/RESULTS.md and ``out``/assets/figures from the JSON files in ``data``; returns 0.

    Raises ResultsError without matplotlib, for an unknown or damaged file and where there is none,
    SettingsError for a damaged ablation, OutputError where ``out`` cannot be written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ResultsError("the figures need matplotlib: pip install 'htp-fluid[report]'")
    text, figures = compose(REFERENCE if data is None else Path(data))
    directory = Path(out)
    try:
        (directory / FIGURES).mkdir(parents=True, exist_ok=True)
        paths = figures.draw(directory / FIGURES)
        (directory / "RESULTS.md").write_text(text, encoding="utf-8", newline="\n")
    except (FileExistsError, NotADirectoryError):
        raise OutputError(
            f"{directory / FIGURES}: cannot be a directory, there is a file in the way"
        ) from None
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {error.strerror}") from None
    print(f"{directory / 'RESULTS.md'}; figures in {directory / FIGURES}: {len(paths)}")
    return 0


def compose(data: Path) -> tuple[str, Figures]:
    """The text of RESULTS.md and the figures that it names; same errors as `report`, needs no matplotlib."""
    files = _files(data)
    benches = [read_bench(path) for path in files["bench"]]
    spectra = [read_spectra(path) for path in files["spectra"]]
    ablations = [(path.name, read_results(path)) for path in files["ablation"]]
    seeds = [(path.name, read_results(path)) for path in files["seeds"]]
    figures = Figures()
    parts = ["# Results", READING.format(data=_shown(data))]
    parts += _winners(benches)
    parts += recordings(sorted(data.glob("recording-*.yaml")))
    parts += _benches(benches, data, figures)
    for found in spectra:
        parts += spectra_section(found, figures)
    if ablations:
        parts.append("## Ablations")
        for name, study in ablations:
            parts += ablation_section(name, study, "###")
    if seeds:
        parts.append("## Training seeds")
        for name, study in seeds:
            parts += seeds_section(name, study, "###")
    return "\n\n".join(parts) + "\n", figures


def _files(data: Path) -> dict[str, list[Path]]:
    """The JSON files of ``data`` by kind, sorted by name."""
    try:
        paths = sorted(path for path in data.iterdir() if path.suffix == ".json")
    except OSError as error:
        raise ResultsError(f"{data}: cannot be read: {error.strerror}") from error
    files: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for path in paths:
        kind = path.stem.partition("-")[0]
        if kind not in KINDS:
            raise ResultsError(
                f"{path}: is of no known kind: names begin with {', '.join(KINDS)}; move it away"
            )
        files[kind].append(path)
    if not paths:
        raise ResultsError(f"{data}: holds no JSON files; name the directory of the results with --data")
    return files


def _shown(data: Path) -> str:
    """``data`` as a reader finds it: within the project from its root, else as it was given."""
    resolved = data.resolve()
    return resolved.relative_to(ROOT).as_posix() if resolved.is_relative_to(ROOT) else data.as_posix()


def _winners(benches: list[Bench]) -> list[str]:
    found = places(benches)
    if not found:
        return []
    return [
        "## Who wins where",
        "Well-posed conditions, methods of one file against each other, those with a failed frame out of the "
        "competition. Where learned methods do not win:",
        "\n".join(f"- {sentence}" for sentence in sentences(found)),
        winners_table(found),
    ]


def _benches(benches: list[Bench], data: Path, figures: Figures) -> list[str]:
    parts = []
    for bench in benches:
        if any(solves.setting["conditions"] == PUBLISHED for solves in bench.solves):
            parts += published_section(bench, _reference(data), benches)
        else:
            parts += bench_section(bench, figures)
    return parts


def _reference(data: Path) -> Reference:
    """The published counts in ``data``, or the project's where it has none."""
    path = data / "published.yaml"
    return read_reference(path if path.exists() else REFERENCE / "published.yaml")
