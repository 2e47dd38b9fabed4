"""An ablation study of `hmatrix`: variants that differ from a base by settings, trained from several seeds.

A study is plain values: sections model (HMatrixConfig) and training (HMatrixTraining) of the base, seeds, and
variants, each with a label and the settings that differ. All train for the same number of steps on the same
frames. Runs are ordered by seed, so that an interrupted study is a balanced one.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from precond.hmatrix_factors import HMatrixConfig
from precond.hmatrix_training import HMatrixTraining, train_hmatrix
from precond.network import TrunkConfig

SECTIONS = ("title", "seeds", "model", "training", "variants")
PARTS = ("label", "model", "training")  # of a variant
SHARED = ("n", "frames", "steps", "seed")  # training settings that no variant may change
KINDS = {  # of a setting, by the type of its default
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number (write 1.0e-3, not 1e-3)", (int, float)),
    str: ("a text", (str,)),
}
MAY_BE_ZERO = ("seed", "weight_decay", "layers", "graph_convolutions")


@dataclass(frozen=True)
class Variant:
    """One row of the table: ``config`` has the whole sections model and training, but for the seed."""

    name: str
    label: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A checked study; `of` makes it."""

    title: str
    seeds: tuple[int, ...]
    variants: tuple[Variant, ...]

    @classmethod
    def of(cls, content: Any) -> Study:
        """From the plain values of a YAML file. Raises ValueError naming the section and what is wrong."""
        content = _mapping(content, "the study", SECTIONS)
        base = {name: content.get(name, {}) for name in ("model", "training")}
        if "seed" in _mapping(base["training"], "training"):
            raise ValueError("training: seed: give the list seeds instead")
        _complete(base, "")
        seeds = content.get("seeds")
        whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
        if not whole or not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds: {seeds!r} is not a list of different whole numbers from 0 on")
        variants = []
        for name, own in _mapping(content.get("variants"), "variants").items():
            where = f"variants: {name}: "
            if not re.fullmatch(r"[\w-]+", str(name)):
                raise ValueError(f"{where}a name is of letters, digits, - and _: files are called so")
            own = _mapping(own, where[:-2], PARTS)
            for setting in SHARED:
                if setting in _mapping(own.get("training", {}), f"{where}training"):
                    raise ValueError(f"{where}training: {setting}: is the same for all variants")
            merged = {part: _merged(base[part], own.get(part, {}), f"{where}{part}") for part in base}
            variants.append(Variant(str(name), str(own.get("label", name)), _complete(merged, where)))
        if not variants:
            raise ValueError("variants: wants at least one")
        return cls(str(content.get("title", "Ablation of hmatrix")), tuple(seeds), tuple(variants))

    def runs(self) -> list[tuple[Variant, int]]:
        """All (variant, seed), the first seed of every variant first."""
        return [(variant, seed) for seed in self.seeds for variant in self.variants]

    @property
    def budget(self) -> str:
        """What every variant has for its training."""
        training = self.variants[0].config["training"]
        return (
            f"{training['steps']} steps on {training['frames']} training frames of {training['n']} cells; "
            f"the weights best on held-out frames are tested, of every {training['evaluate_every']} steps"
        )


def run(variant: Variant, seed: int, folder: Path) -> dict[str, Any]:
    """Train and test one run in ``folder``, from its checkpoint when it has one; returns its row.

    iterations: of the test frames, None for those that failed. seconds: of the steps and the validations.
    cpu_seconds: of the whole call, None when it went on from a checkpoint.
    """
    out = folder / f"{variant.name}-{seed}.safetensors"
    resumed = checkpoint(variant, seed, folder).exists()
    started = time.process_time()
    config = {**variant.config, "training": {**variant.config["training"], "seed": seed}}
    card = train_hmatrix(config, out)
    used = time.process_time() - started
    test = card["test"]
    failed = {int(reason.partition(":")[0]) for reason in test["failures"]}
    converged = iter(test["iterations"])
    count = len(test["iterations"]) + len(failed)
    return {
        "variant": variant.name,
        "seed": seed,
        "parameters": card["parameters"],
        "steps": card["steps_done"],
        "seconds": card["validation"][-1]["seconds"],
        "cpu_seconds": None if resumed else round(used),
        "validation": [
            [entry["step"], entry["failed"], None if math.isnan(entry["mean"]) else round(entry["mean"], 2)]
            for entry in card["validation"]
        ],
        "iterations": [None if index in failed else next(converged) for index in range(count)],
        "failures": test["failures"],
    }


def checkpoint(variant: Variant, seed: int, folder: Path) -> Path:
    """The file from which `run` goes on."""
    return folder / f"{variant.name}-{seed}.checkpoint"


def tabulate(labels: dict[str, str], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per variant, by name, over ALL its rows.

    iterations_mean, iterations_std: over the seeds, of each seed's mean over the frames that converged; None
    without one, or without two. silent: seeds with no frame that converged. minutes, cpu_minutes: means of
    the seconds that `run` tells.
    """
    table = []
    for name, label in labels.items():
        mine = [row for row in rows if row["variant"] == name]
        counts = [[count for count in row["iterations"] if count is not None] for row in mine]
        means = [float(np.mean(of_seed)) for of_seed in counts if of_seed]
        table.append(
            {
                "variant": name,
                "label": label,
                "seeds": len(mine),
                "parameters": mine[0]["parameters"] if mine else None,
                "iterations_mean": float(np.mean(means)) if means else None,
                "iterations_std": float(np.std(means, ddof=1)) if len(means) > 1 else None,
                "failed": sum(count is None for row in mine for count in row["iterations"]),
                "frames": sum(len(row["iterations"]) for row in mine),
                "silent": sum(not of_seed for of_seed in counts),
                "minutes": _minutes([row["seconds"] for row in mine]),
                "cpu_minutes": _minutes([row["cpu_seconds"] for row in mine]),
            }
        )
    return table


def format_table(table: list[dict[str, Any]]) -> str:
    """The table as text."""
    width = max(len(entry["label"]) for entry in table)
    lines = [
        f"{'variant':<{width}}{'parameters':>12}{'seeds':>7}{'iterations':>17}{'failed':>9}"
        f"{'minutes':>9}{'CPU minutes':>13}"
    ]
    for entry in table:
        mean, spread = entry["iterations_mean"], entry["iterations_std"]
        iterations = (
            "-" if mean is None else f"{mean:.1f}" + (f" +- {spread:.1f}" if spread is not None else "")
        )
        failed = f"{entry['failed']}/{entry['frames']}"
        parameters = "-" if entry["parameters"] is None else f"{entry['parameters']:,}"
        minutes, cpu_minutes = (
            "-" if entry[name] is None else f"{entry[name]:.1f}" for name in ("minutes", "cpu_minutes")
        )
        lines.append(
            f"{entry['label']:<{width}}{parameters:>12}{entry['seeds']:>7}{iterations:>17}{failed:>9}"
            f"{minutes:>9}{cpu_minutes:>13}"
        )
    notes = [
        f"{entry['label']}: {entry['silent']} of {entry['seeds']} seeds converged on no frame"
        for entry in table
        if entry["silent"]
    ]
    return "\n".join(lines + notes)


def _minutes(seconds: list[float | None]) -> float | None:
    """The mean of those that are known, in minutes."""
    known = [value for value in seconds if value is not None]
    return float(np.mean(known)) / 60.0 if known else None


def _complete(sections: dict[str, Any], where: str) -> dict[str, Any]:
    """Both sections with every setting that they leave out, checked; without the seed."""
    model = _mapping(sections["model"], f"{where}model", _names(HMatrixConfig))
    trunk = _typed(TrunkConfig, model.get("trunk", {}), f"{where}model: trunk")
    own = {name: value for name, value in model.items() if name != "trunk"}
    own = _typed(HMatrixConfig, own, f"{where}model")
    training = _typed(HMatrixTraining, sections["training"], f"{where}training")
    try:
        plain = {"model": HMatrixConfig.of({**own, "trunk": trunk}).plain()}
        plain["training"] = asdict(HMatrixTraining(**training))
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error
    del plain["training"]["seed"]
    return plain


def _typed(config: type, values: Any, where: str) -> dict[str, Any]:
    """``values`` when they are settings of the dataclass ``config``, each of its default's type."""
    values = _mapping(values, where, _names(config))
    defaults = {field.name: field.default for field in fields(config)}
    for name, value in values.items():
        words, kinds = KINDS[type(defaults[name])]
        if type(value) not in kinds:
            raise ValueError(f"{where}: {name}: {value!r} is not {words}")
        if type(value) in (int, float) and not (0 < value < math.inf or (value == 0 and name in MAY_BE_ZERO)):
            raise ValueError(f"{where}: {name}: {value!r} is too small or not finite")
    return values


def _names(config: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(config))


def _mapping(value: Any, where: str, allowed: tuple[str, ...] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {value!r} is not a mapping of settings")
    unknown = [str(name) for name in value if allowed is not None and name not in allowed]
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)}: unknown; allowed: {', '.join(allowed)}")
    return value


def _merged(base: dict[str, Any], own: Any, where: str) -> dict[str, Any]:
    """``base`` with ``own`` on top, mappings inside merged likewise."""
    merged = dict(base)
    for name, value in _mapping(own, where).items():
        inner = isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value, f"{where}: {name}") if inner else value
    return merged
