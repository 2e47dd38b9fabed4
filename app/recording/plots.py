"""The plots of a recording's page: one figure as SVG that takes the colours of the page around it."""

from __future__ import annotations

import io
import itertools
import re

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from app.recording.reading import PARTS, Recording
from app.recording.story import CHOICE, MARKED, Happening

POINTS = 800  # at most, along the frames: more is more than a screen shows
LABELS = dict(zip(PARTS, ("simulation", "set-up", "inference", "solve", "failed"), strict=True))
COLOURS = ("#4a8fdb", "#d98a25", "#35a36f", "#9a70d6", "#d9534f")  # of PARTS, on white and on black
MARK_COLOURS = dict(
    zip((*MARKED.values(), CHOICE), ("#d6499a", "#c08a00", "#2a9fb0", "#808080"), strict=True)
)
INK, FAINT = "#010203", "#040506"  # stand for what the page's theme chooses
STYLE = {
    "svg.fonttype": "none",  # words stay words, in the page's colour
    "svg.hashsalt": "htp-fluid",
    "font.size": 9.0,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    **{f"{name}.color": INK for name in ("text", "xtick", "ytick")},
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
}
COUNT = FuncFormatter(lambda value, _: f"{value:,.10g}")  # 10,000


def svg(recording: Recording, happenings: list[Happening]) -> str:
    """`figure` as an SVG element in the colours of the page."""
    file = io.StringIO()
    with rc_context(STYLE):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure(recording, happenings).savefig(file, format="svg", transparent=True, metadata=metadata)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)


def figure(recording: Recording, happenings: list[Happening]) -> Figure:
    """Iterations, milliseconds by part and frames per second over the recorded frames, which it must have."""
    made = Figure(figsize=(9.6, 7.2), layout="constrained")
    iterations, time, speed = made.subplots(3, 1, sharex=True, height_ratios=(1.2, 1.2, 0.8))
    edges = np.unique(np.linspace(0, recording.rows, min(recording.rows, POINTS) + 1).astype(int))
    _plot_iterations(iterations, recording, edges)
    _plot_time(time, recording, edges)
    shown = _extremes(recording.numbers["fps"], edges)
    speed.plot(shown + 1, recording.numbers["fps"][shown], lw=1.0, color=COLOURS[0], gid="fps")
    speed.set(ylabel="frames per second", xlabel="recorded frame")
    speed.set_ylim(bottom=0.0)
    speed.set_xlim(0.5, recording.rows + 0.5)
    _mark(iterations, (time, speed), happenings, recording.rows)
    for axes in (time, speed):
        axes.yaxis.set_major_formatter(COUNT)
    speed.xaxis.set_major_formatter(COUNT)
    speed.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, marks in ((iterations, True), (time, False)):
        shown = [one for one in axes.get_legend_handles_labels()[0] if marks or one.get_gid() in PARTS]
        axes.legend(handles=shown, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return made


def _extremes(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Where, between any two of ``edges``, the lowest and the highest of ``values`` is."""
    found = set()
    for low, high in itertools.pairwise(edges.tolist()):
        found |= {low + int(np.argmin(values[low:high])), low + int(np.argmax(values[low:high]))}
    return np.array(sorted(found))


def _plot_iterations(axes: Axes, recording: Recording, edges: np.ndarray) -> None:
    counts = recording.numbers["iterations"]
    shown = _extremes(counts, edges)
    axes.plot(shown + 1, counts[shown], lw=1.0, color=COLOURS[3], label="iterations", gid="iterations")
    lost = np.flatnonzero(~recording.converged)
    if len(lost):
        lost = lost[_extremes(counts[lost], np.unique(np.searchsorted(lost, edges)))]
        axes.plot(lost + 1, counts[lost], "x", ms=5.0, color=COLOURS[4], label="not converged", gid="lost")
    if counts.min() > 0:
        axes.set_yscale("log")
    else:  # a frame at rest takes none, which a logarithm has no place for
        axes.set_yscale("symlog", linthresh=1.0)
    axes.yaxis.set_major_formatter(COUNT)
    few = counts.max() < 10 * max(counts.min(), 1)
    axes.yaxis.set_minor_formatter(COUNT if few else NullFormatter())
    axes.set_ylabel("iterations of the solve (log)")


def _plot_time(axes: Axes, recording: Recording, edges: np.ndarray) -> None:
    """Stacked; the mean of the frames between two of ``edges``."""
    floor = np.zeros(len(edges) - 1)
    for part, colour in zip(PARTS, COLOURS, strict=True):
        top = floor + np.add.reduceat(recording.numbers[part], edges[:-1]) / np.diff(edges)
        axes.stairs(top, edges + 0.5, baseline=floor, fill=True, color=colour, label=LABELS[part], gid=part)
        floor = top
    axes.set_ylabel("milliseconds per frame")
    most = float(floor.max())
    usual = 1.5 * float(
        np.percentile(floor, 99)
    )  # a few frames that took far longer must not flatten the rest
    axes.set_ylim(0.0, min(1.05 * most, usual) or 1.0)
    if most > usual:
        place = float(edges[np.argmax(floor)] + 1)
        side = "left" if place < recording.rows / 2 else "right"
        axes.annotate(f" \N{UPWARDS ARROW} {most:,.0f} ms ", (place, usual), ha=side, va="top")


def _mark(first: Axes, others: tuple[Axes, ...], happenings: list[Happening], rows: int) -> None:
    """Lines through all axes wherever one of MARK_COLOURS changed, numbered where there is room."""
    for changed, colour in MARK_COLOURS.items():
        places = [one.first - 0.5 for one in happenings if one.changed == changed]
        for axes in (first, *others) if places else ():
            across, style = axes.get_xaxis_transform(), {"lw": 1.0, "ls": "--", "gid": changed}
            axes.vlines(places, 0.0, 1.0, color=colour, transform=across, label=f"{changed} changed", **style)
    written = -rows
    for happening in happenings:
        if happening.changed and happening.first - written >= 0.02 * rows:
            written = happening.first
            place, across = (written - 0.5, 1.0), first.get_xaxis_transform()
            first.annotate(happening.mark, place, xycoords=across, ha="center", va="bottom")
