"""Our counts beside published ones: under the published conditions, and on the same frames well-posed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.bench.row import CONVERGED
from app.bench.settings import PUBLISHED, WELL_POSED
from app.report.panels import table
from app.report.results import Bench, ResultsError, Solves
from precond.config import read_yaml

_VALUE = {"preconditioner": str, "cells": int, "rule": str, "split": str, "frames": int, "iterations": int}


@dataclass(frozen=True)
class Reference:
    """Published counts: ``source``, ``family`` of the frames, tolerance, ``remark`` on the conditions,
    ``values``, each with the keys of assets/reference/published.yaml.
    """

    source: str
    family: str
    rtol: float
    remark: str
    values: tuple[dict[str, Any], ...]


def read_reference(path: Path) -> Reference:
    """Raises ResultsError for a file that is damaged."""
    try:
        content = read_yaml(path)
        for number, value in enumerate(content["values"]):
            wrong = [name for name, kind in _VALUE.items() if not isinstance(value[name], kind)]
            if wrong or value["frames"] < 1 or value["iterations"] < 1:
                raise ValueError(
                    f"value {number}: {', '.join(wrong) or 'frames or iterations'} cannot be that"
                )
        rtol = float(content["rtol"])
        texts = [content[name] for name in ("source", "family", "what_was_wrong")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("source, family or what_was_wrong is no text")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ResultsError(f"{path}: holds no published counts, or is damaged: {reason}") from error
    source, family, remark = (" ".join(text.split()) for text in texts)
    return Reference(source, family, rtol, remark, tuple(content["values"]))


def reproduction_table(reference: Reference, published: Bench, benches: list[Bench]) -> str:
    """A row per published count that ``published`` has the frames of.

    Well-posed counts of the same frames come from the same file, or else from any of ``benches``.
    """
    rows = []
    for value in reference.values:
        ours = _counts(value, reference, [published], PUBLISHED)
        if ours is None:
            continue
        mean = float(np.mean(ours[0]))
        difference = mean / value["iterations"] - 1.0
        exact = _counts(value, reference, [published, *benches], WELL_POSED)
        rows.append(
            [
                f"`{value['preconditioner']}`",
                f"{value['cells']:,}",
                value["rule"].upper(),
                "test frame 0" if value["frames"] == 1 else f"{value['frames']} {value['split']} frames",
                _spread(value["iterations"], value.get("std")) + (" (noise)" if value.get("noise") else ""),
                _spread(mean, float(np.std(ours[0], ddof=1)) if len(ours[0]) > 1 else None),
                f"{round(100.0 * difference, 1) or 0.0:+.1f} %",
                f"{ours[1]}/{len(ours[0])}",
                "not measured" if exact is None else f"{np.mean(exact[0]):.1f}",
            ]
        )
    if not rows:
        return "None of the published counts was repeated."
    header = ["method", "N", "rule", "frames", "published", "ours", "difference", "unconverged", "well-posed"]
    return table(header, rows)


def _counts(
    value: dict[str, Any], reference: Reference, benches: list[Bench], conditions: str
) -> tuple[list[int], int] | None:
    """Iterations of ``value``'s frames, converged or not as the published ones, and how many did not; None
    unless all its frames are there.
    """

    def fits(solves: Solves) -> bool:
        setting = solves.setting
        return (
            solves.name == value["preconditioner"]
            and setting["family"] == reference.family
            and setting["contrast"] is None
            and all(setting[name] == value[name] for name in ("cells", "split"))
            and setting["conditions"] == conditions
            and setting["rtol"] == reference.rtol
            and (conditions == WELL_POSED or setting["rule"] == value["rule"])
        )

    for bench in benches:
        for solves in filter(fits, bench.solves):
            rows = [row for row in solves.rows if row["frame"] < value["frames"]]
            rows = [row for row in rows if row["iterations"] is not None]
            if len({row["frame"] for row in rows}) == len(rows) == value["frames"]:
                return [row["iterations"] for row in rows], sum(row["outcome"] != CONVERGED for row in rows)
    return None


def _spread(mean: float, deviation: float | None) -> str:
    text = f"{mean:.1f}" if isinstance(mean, float) and mean != int(mean) else f"{mean:.0f}"
    return text if deviation is None else f"{text} ± {deviation:.0f}"
