"""`train`: one command from a YAML file to weights with a model card."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from app.environment import describe
from app.output import OutputError, usable_file
from precond.config import read_yaml
from precond.errors import UsageError, in_one_line
from precond.poisson import PoissonOperator
from precond.training import loop
from precond.training.coarse_learned import CoarseLearnedTask
from precond.training.hmatrix import HMatrixTask
from precond.training.neural_spai import NeuralSpaiTask
from precond.training.published_hmatrix import PublishedTask
from sim.scenes import load_scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation

TASKS = {task.name: task for task in (CoarseLearnedTask, HMatrixTask, PublishedTask, NeuralSpaiTask)}
FLOWS = ("dam-break", "rayleigh-taylor", "rising-bubbles", "falling-drop")


def train(config: str, out: str | None) -> int:
    """Train as the YAML file ``config`` says, write ``out``.safetensors and ``out``.yaml, by default in runs;
    returns the exit code.

    ``config`` names the ``preconditioner`` and holds the sections model, training and, but for the published
    hmatrix, data. Without a name it is hmatrix-published when training has a number of cells ``n``, else
    coarse-learned. A model card is such a file too. An interrupted run goes on from ``out``.checkpoint.
    Raises UsageError, and OutputError where the files cannot be written or are there already.
    """
    path = Path(config)
    content = read_yaml(path)
    if not isinstance(content, dict) or not {"model", "training"} & set(content):
        raise UsageError(f"{path}: wants the sections model, training, data")
    kind = _kind(content, path)
    target = Path(out) if out else Path("runs") / path.stem
    if target.name in ("", ".."):
        raise OutputError(f"--out: {out} names no file")
    weights = usable_file(target.with_name(f"{target.name}.safetensors"))
    lost = weights.with_suffix(".yaml").resolve() == path.resolve() and "sha256" in content
    if not lost:  # weights beside their own card are made again
        usable_file(weights.with_suffix(".yaml"))
    head = {
        "trained": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["python", "-m", "app", "train", config, *(["--out", out] if out else [])]),
        "machine": describe(),
    }
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
    try:
        task = kind(content, str(path))
        task.simulator = simulator_frames
        card = loop.train(task, weights, card=head)
    except OSError as error:
        reason = error.strerror or in_one_line(error)
        raise OutputError(f"{weights}: cannot be written: {reason}") from error
    if card:
        weights.with_suffix(".checkpoint").unlink(missing_ok=True)
        found = (f"{name} {loop.in_words(result)}" for name, result in card["test"].items())
        print(f"{weights}: test iterations {', '.join(found)}")
    if dist.is_initialized():
        dist.barrier()  # a process that ends while others use the group may abort
        dist.destroy_process_group()
    return 0


def _kind(content: dict[str, Any], path: Path) -> type[loop.Task]:
    """What the file trains. Raises UsageError."""
    training = content.get("training", {})
    of_one_n = isinstance(training, dict) and "n" in training
    name = str(content.get("preconditioner", "hmatrix-published" if of_one_n else "coarse-learned"))
    if name not in TASKS:
        raise UsageError(f"{path}: preconditioner: '{name}' is not one of {', '.join(TASKS)}")
    if not TASKS[name].several_processes and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"{path}: {name} trains in one process; several are for coarse-learned")
    return TASKS[name]


def simulator_frames(count: int, seed: int) -> list[PoissonOperator]:
    """``count`` pressure systems met while scenes flow at random contrasts, some with a painted solid."""
    rng = np.random.default_rng((seed, 7))
    operators: list[PoissonOperator] = []
    while len(operators) < count:
        scene = load_scene(FLOWS[rng.integers(len(FLOWS))])
        nx, ny = scene.settings["grid"]
        settings = {"grid": (nx // 2, ny // 2), "contrast": float(10.0 ** rng.uniform(0.3, 4.0))}
        settings["preconditioner"] = "multigrid"  # none that wants weights: they may be what is being made
        simulation = Simulation(SimulationSettings(**{**scene.settings, **settings}), scene)
        if rng.random() < 0.5:
            width, height = simulation.domain
            simulation.paint(rng.uniform(0, width), rng.uniform(0, height), 0.1 * height, "solid")
        for share in (0.3, 0.6, 1.0):
            while simulation.time < share * scene.duration_s:
                simulation.step()
            operator = PoissonOperator.from_density(
                simulation.density, simulation.solid.bool(), face_density="arithmetic"
            )
            if operator.components == 1 and len(operators) < count:
                operators.append(operator)
            if len(operators) == count:
                break
    return operators
