"""Who wins where: for every family, size and setting the fastest method and that of the fewest iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.bench.settings import WELL_POSED
from app.report.panels import (
    NOT_ITERATIVE,
    Panel,
    column_of,
    describe,
    lowest,
    marked,
    panels,
    table,
    three_digits,
)
from app.report.results import Bench, Solves
from precond import is_learned


@dataclass(frozen=True)
class Place:
    """One column of a panel of ``file`` and its winners.

    fastest: lowest median total time. fewest: lowest mean iterations. learned: the learned method with the
    lowest median total time that converged on every frame, None where none did.
    """

    file: str
    setting: dict[str, Any]
    fastest: list[str]
    fewest: list[str]
    learned: str | None
    solves: dict[str, Solves]

    def time(self, method: str) -> float:
        """Median total time, milliseconds."""
        return self.solves[method].measure("total_ms")[0]


def places(benches: list[Bench]) -> list[Place]:
    """Every column in which methods competed, by family, tolerance, contrast and N. Files that hold published
    conditions are left out.
    """
    found = []
    for bench in benches:
        if all(solves.setting["conditions"] == WELL_POSED for solves in bench.solves):
            for panel in panels(bench):
                places_of = (_place(bench.name, panel, column) for column in panel.columns)
                found += [place for place in places_of if place]

    def order(place: Place) -> tuple[Any, ...]:
        setting = place.setting
        return (
            setting["family"],
            setting["split"],
            -setting["rtol"],
            setting["contrast"] or 0.0,
            setting["cells"],
        )

    return sorted(found, key=order)


def _place(file: str, panel: Panel, column: Any) -> Place | None:
    solves = {method: panel.solves[method, column] for method in panel.methods if panel.has(method, column)}
    fastest = lowest(panel, column, column_of("total_ms"))
    fewest = lowest(panel, column, Solves.iterations, NOT_ITERATIVE)
    if not fastest or not fewest:
        return None
    learned = {
        method: found.measure("total_ms")[0]
        for method, found in solves.items()
        if is_learned(found.name) and not found.failed
    }
    best = min(learned, key=learned.get) if learned else None
    return Place(file, {**panel.fixed, panel.sweep: column}, fastest, fewest, best, solves)


def winners_table(found: list[Place]) -> str:
    """A row per place; learned methods carry the dagger of `marked`."""
    rows = []
    for place in found:
        setting = place.setting
        words = [describe(name, setting[name]) for name in ("contrast", "rtol") if setting[name] is not None]
        if setting["split"] != "test":
            words.insert(0, describe("split", setting["split"]))
        fewest = place.solves[place.fewest[0]].iterations()[0]
        learned = "none converged on every frame"
        if place.learned:
            ratio = place.time(place.learned) / place.time(place.fastest[0])
            learned = (
                f"{marked(place.learned)} {three_digits(place.time(place.learned))} ms, {ratio:.1f} times"
            )
        if not any(is_learned(method) for method in place.solves):
            learned = "none ran"
        rows.append(
            [
                setting["family"],
                f"{setting['cells']:,}",
                ", ".join(words),
                f"{', '.join(map(marked, place.fastest))} {three_digits(place.time(place.fastest[0]))} ms",
                f"{', '.join(map(marked, place.fewest))} {fewest:.1f}",
                learned,
                place.file,
            ]
        )
    header = [
        "family",
        "N",
        "setting",
        "lowest total time",
        "fewest iterations",
        "fastest learned method",
        "file",
    ]
    return table(header, rows)


def sentences(found: list[Place]) -> list[str]:
    """One per family: where no learned method wins."""
    return [_sentence(family, found) for family in dict.fromkeys(place.setting["family"] for place in found)]


def _sentence(family: str, found: list[Place]) -> str:
    mine = [place for place in found if place.setting["family"] == family]
    mine = [place for place in mine if any(is_learned(solves.name) for solves in place.solves.values())]
    if not mine:
        return f"**{family}**: no learned method ran."
    time = _lost(mine, [any(is_learned(method) for method in place.fastest) for place in mine])
    count = _lost(mine, [any(is_learned(method) for method in place.fewest) for place in mine])
    return f"**{family}**: by total time {time}; by iterations {count}."


def _lost(mine: list[Place], won: list[bool]) -> str:
    lost = [place for place, wins in zip(mine, won, strict=True) if not wins]
    total = len(mine)
    if not lost:
        return f"a learned method wins everywhere ({total} of {total} columns)"
    if len(lost) == total:
        return f"no learned method wins anywhere (0 of {total} columns)"
    where = "; ".join(map(_where, _grouped(lost)))
    return f"no learned method wins at {where} (one wins {total - len(lost)} of {total} columns)"


def _grouped(lost: list[Place]) -> list[tuple[dict[str, Any], list[int]]]:
    """The sizes lost, by the rest of the setting."""
    groups: dict[tuple[Any, ...], tuple[dict[str, Any], list[int]]] = {}
    for place in lost:
        key = tuple(place.setting[name] for name in ("split", "contrast", "rtol"))
        groups.setdefault(key, (place.setting, []))[1].append(place.setting["cells"])
    return list(groups.values())


def _where(group: tuple[dict[str, Any], list[int]]) -> str:
    setting, sizes = group
    words = [describe(name, setting[name]) for name in ("contrast", "rtol") if setting[name] is not None]
    if setting["split"] != "test":
        words.append(describe("split", setting["split"]))
    return f"N = {', '.join(f'{size:,}' for size in sorted(set(sizes)))} ({', '.join(words)})"
