"""What an ablation study of `hmatrix` trains and tests; the seam is described in precond.study.ablation."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

from precond.learned.factors import HMatrixConfig
from precond.training.hmatrix import HMatrixTraining, train_hmatrix
from precond.training.run import LIMIT
from precond.training.setting_checks import completed

SECTIONS: tuple[str, ...] = ()
FIXED = ("n", "frames", "steps", "seed")
CONDITIONS = f"well-posed benchmark (barriers), rtol 1e-8, x0 = 0, at most {LIMIT:,} iterations"

complete = partial(completed, HMatrixConfig, HMatrixTraining)


def shared(_: dict[str, Any]) -> dict[str, Any]:
    """Nothing: the benchmark's frames are named by the training section."""
    return {}


def references(_: dict[str, Any], __: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """None."""
    return {}


def budget(config: dict[str, Any], _: dict[str, Any]) -> str:
    """What every variant has for its training."""
    training = config["training"]
    return (
        f"{training['steps']} steps on {training['frames']} training frames of {training['n']} cells; "
        f"the weights best on held-out frames are tested, of every {training['evaluate_every']} steps"
    )


def timed(runs: list[tuple[dict[str, Any], Path]]) -> list[dict[str, Any]]:
    """Nothing more for the row of each of ``runs``."""
    return [{} for _ in runs]


def run(config: dict[str, Any], _: dict[str, Any], seed: int, out: Path) -> dict[str, Any]:
    """Train and test one run; its ``validation`` is a list of [step, failed, mean iterations or None]."""
    resumed = out.with_suffix(".checkpoint").exists()
    started = time.process_time()
    card = train_hmatrix({**config, "training": {**config["training"], "seed": seed}}, out)
    used = time.process_time() - started
    test = card["test"]
    failed = {int(reason.partition(":")[0]) for reason in test["failures"]}
    converged = iter(test["iterations"])
    count = len(test["iterations"]) + len(failed)
    return {
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
