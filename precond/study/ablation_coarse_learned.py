"""What an ablation study of `coarse-learned` trains and tests; the seam is described in
precond.study.ablation.

Trained on random systems, tested on groups of unseen problems of the gallery. Its references are untrained.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from precond.krylov.pcg import PCG
from precond.learned.coarse_learned import CoarseLearned
from precond.learned.coarse_space import CoarseSpaceConfig, CoarseSpaceNetwork
from precond.learned.weights import save_model
from precond.poisson import PoissonOperator
from precond.problems import gallery
from precond.registry import make_preconditioner
from precond.training.coarse_learned import System, Trainer, TrainingConfig
from precond.training.data import random_system
from precond.training.setting_checks import check, completed, mapping
from precond.two_level.preconditioner import TwoLevel

SECTIONS = ("data", "test", "references")
FIXED = ("steps", "seed")
LIMIT = 500
CONDITIONS = (
    f"unseen problems of the gallery, rtol 1e-8, x0 = 0, {LIMIT} iterations without convergence are a failure"
)
DATA = {"seed": 1, "systems": 128}
GROUP = {"family": str, "n": int, "frames": int, "contrast": float}  # of the section test
REFERENCES = ("coarse-monomial", "coarse-geneo")
INFERENCES = 9  # timed, of which the median is told
TIMED = ((128, 64), 10_000.0, gallery.TEST_SEED)  # bubbles on which they are timed

complete = partial(completed, CoarseSpaceConfig, TrainingConfig)


def shared(content: dict[str, Any]) -> dict[str, Any]:
    """The sections data and test, checked and completed. Raises ValueError."""
    data = mapping(content.get("data", {}), "data", tuple(DATA))
    for name, value in data.items():
        check(name, value, int, "data")
    groups = mapping(content.get("test"), "test")
    for name, group in groups.items():
        where = f"test: {name}"
        mapping(group, where, tuple(GROUP))
        missing = [key for key in ("family", "n", "frames") if key not in group]
        if missing:
            raise ValueError(f"{where}: lacks {', '.join(missing)}")
        for key, value in group.items():
            check(key, value, GROUP[key], where)
        if group["family"] not in gallery.FAMILIES:
            raise ValueError(f"{where}: family must be one of {', '.join(gallery.FAMILIES)}")
        if group["n"] < 64:
            raise ValueError(f"{where}: n: wants at least 64 cells, not {group['n']}")
    if not groups:
        raise ValueError("test: wants at least one group of problems")
    return {"data": {**DATA, **data}, "test": {str(name): dict(group) for name, group in groups.items()}}


def references(content: dict[str, Any], base: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The untrained rows of the section references, with the base's leaf size and rank."""
    listed = content.get("references", [])
    if not isinstance(listed, list) or any(name not in REFERENCES for name in listed):
        raise ValueError(f"references: {listed!r} is not a list of {', '.join(REFERENCES)}")
    options = {name: base["model"][name] for name in ("leaf_size", "rank")}
    return {name: {"preconditioner": name, **options} for name in listed}


def budget(config: dict[str, Any], common: dict[str, Any]) -> str:
    """What every variant has for its training."""
    return (
        f"{config['training']['steps']} steps of one system each, of {common['data']['systems']} random ones "
        "of 1,024 to 4,096 cells; the last weights are tested"
    )


def run(config: dict[str, Any], common: dict[str, Any], seed: int, out: Path) -> dict[str, Any]:
    """Train, unless it is a reference, and test one run.

    ``loss``: a list of [step, mean objective since the entry before]. ``inference_ms`` is left to `timed`.
    """
    if "preconditioner" in config:
        trained = {"parameters": 0, "steps": 0, "seconds": 0, "cpu_seconds": 0, "loss": []}
        return trained | _tested(_maker(config, out), common["test"])
    resumed = out.with_suffix(".checkpoint").exists()
    started = time.process_time()
    trainer = _trainer(config, common["data"], seed, out.with_suffix(".checkpoint"))
    log = trainer.run([])
    network = trainer.network
    card = {"model": config["model"], "training": asdict(trainer.config), "data": common["data"]}
    save_model(out, network, card)
    tested = _tested(_maker(config, out), common["test"])
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "steps": trainer.step,
        "seconds": round(trainer.seconds),
        "cpu_seconds": None if resumed else round(time.process_time() - started),
        "loss": [[entry["step"], round(entry["loss"], 4)] for entry in log],
        **tested,
    }


def timed(runs: list[tuple[dict[str, Any], Path]]) -> list[dict[str, Any]]:
    """``inference_ms`` of every (config, weights): median wall time of `_basis` on the bubbles TIMED.

    All in turn, so that whatever else the machine does meets them alike. Raises ModelError for weights that
    are gone.
    """
    forms = [_maker(config, out)(gallery.bubbles(*TIMED).operator()) for config, out in runs]
    for form in forms:
        form.setup()
    milliseconds = np.empty((INFERENCES, len(forms)))
    for turn in range(INFERENCES):
        for index, form in enumerate(forms):
            started = time.perf_counter()
            form._basis()
            milliseconds[turn, index] = 1e3 * (time.perf_counter() - started)
    return [{"inference_ms": round(float(median), 2)} for median in np.median(milliseconds, axis=0)]


def _maker(config: dict[str, Any], out: Path) -> Callable[[PoissonOperator], TwoLevel]:
    """The form of a run, by operator: a reference's, or that of the weights ``out``."""
    if "preconditioner" not in config:
        return partial(CoarseLearned, model=out)
    options = {name: value for name, value in config.items() if name != "preconditioner"}
    return partial(make_preconditioner, config["preconditioner"], **options)


def _trainer(config: dict[str, Any], data: dict[str, int], seed: int, checkpoint: Path) -> Trainer:
    """Ready to train, from its checkpoint when it has one. Raises ValueError for another run's."""
    training = TrainingConfig(**config["training"], seed=seed)
    torch.manual_seed(seed)
    network = CoarseSpaceNetwork(CoarseSpaceConfig.of(config["model"]))
    systems = _systems(data["seed"], data["systems"], config["model"]["leaf_size"])
    return Trainer(network, systems, training, checkpoint, data)


@lru_cache(maxsize=2)
def _systems(seed: int, count: int, leaf_size: int) -> list[System]:
    """The training systems, built once per leaf size."""
    return [System(random_system(seed, index), leaf_size) for index in range(count)]


def _tested(make: Callable[[PoissonOperator], TwoLevel], groups: dict[str, Any]) -> dict[str, Any]:
    """Iterations of all problems, group after group, None for those that failed; failures."""
    iterations: list[int | None] = []
    failures = []
    for name, group in groups.items():
        for frame in range(group["frames"]):
            problem = gallery.problem(group["family"], group["n"], frame, "test", group.get("contrast"))
            operator = problem.operator()
            form = make(operator)
            form.setup()
            report = PCG(operator, form, rtol=1e-8, max_iterations=LIMIT).solve(problem.b)
            iterations.append(report.iterations if report.converged else None)
            if not report.converged:
                failures.append(f"{name} {frame}: {report.outcome.value} after {report.iterations}")
    return {"iterations": iterations, "failures": failures, "inference_ms": None}
