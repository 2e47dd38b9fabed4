"""`train`: one command from a YAML file to weights with a model card."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from app.environment import describe
from app.output import OutputError, usable_file
from precond.config import read_yaml
from precond.errors import in_one_line
from precond.learned.coarse_space import CoarseSpaceConfig, CoarseSpaceNetwork
from precond.learned.factors import HMatrixConfig
from precond.learned.weights import save_model
from precond.poisson import PoissonOperator
from precond.training.coarse_learned import System, Trainer, TrainingConfig, held_out_iterations
from precond.training.data import held_out, random_system, unseen_families
from precond.training.hmatrix import HMatrixTraining, train_hmatrix
from precond.training.neural_spai import train_neural_spai
from precond.training.setting_checks import built, check, mapping
from sim.scenes import load_scene
from sim.settings import SettingsError, SimulationSettings
from sim.simulation import Simulation

SECTIONS = ("model", "training", "data")
DATA = {"seed": 1, "systems": 160, "simulator_frames": 32}
FLOWS = ("dam-break", "rayleigh-taylor", "rising-bubbles", "falling-drop")


def train(config: str, out: str | None) -> int:
    """Train as the YAML file ``config`` says, write ``out``.safetensors and ``out``.yaml, by default in runs;
    returns the exit code.

    ``config`` holds the sections model (CoarseSpaceConfig), training (TrainingConfig) and data (DATA); with
    ``preconditioner: neural-spai`` SpaiConfig and SpaiTraining; with ``hmatrix``, or without one but with a
    number of cells ``n`` in training, HMatrixConfig and HMatrixTraining. A model card is such a file too. An
    interrupted run goes on from ``out``.checkpoint. Raises SettingsError, and OutputError where the files
    cannot be written or are there already.
    """
    path = Path(config)
    content = _read(path)
    kind = str(content.get("preconditioner", "hmatrix" if "n" in content["training"] else "coarse-learned"))
    if kind not in KINDS:
        raise SettingsError(f"{path}: preconditioner: '{kind}' is not one of {', '.join(KINDS)}")
    if kind != "coarse-learned" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError(f"{path}: {kind} trains in one process; several are for coarse-learned")
    target = Path(out) if out else Path("runs") / path.stem
    if target.name in ("", ".."):
        raise OutputError(f"--out: {out} names no file")
    weights = usable_file(target.with_name(f"{target.name}.safetensors"))
    lost = weights.with_suffix(".yaml").resolve() == path.resolve() and "sha256" in content
    if not lost:  # weights beside their own card are made again
        usable_file(weights.with_suffix(".yaml"))
    card = {
        "trained": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["python", "-m", "app", "train", config, *(["--out", out] if out else [])]),
        "machine": describe(),
    }
    try:
        words = KINDS[kind](content, weights, card)
    except OSError as error:
        reason = error.strerror or in_one_line(error)
        raise OutputError(f"{weights}: cannot be written: {reason}") from error
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from error
    if words:
        weights.with_suffix(".checkpoint").unlink(missing_ok=True)
        print(f"{weights}: {words}")
    return 0


def _train_nested(content: dict[str, Any], weights: Path, card: dict[str, Any]) -> str:
    """Train one for all grids and write it; returns what to print, nothing in all processes but one."""
    data = mapping(content.get("data", {}), "data", tuple(DATA))
    for name, value in data.items():
        check(name, value, int, "data")
    data = {**DATA, **data}
    model, training = built(content, CoarseSpaceConfig, TrainingConfig)
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
    first = not dist.is_initialized() or dist.get_rank() == 0
    torch.manual_seed(training.seed)
    torch.set_num_threads(training.threads)
    network = CoarseSpaceNetwork(model)
    operators = [random_system(data["seed"], index) for index in range(data["systems"])]
    operators += simulator_frames(data["simulator_frames"], data["seed"])
    systems = [System(operator, model.leaf_size) for operator in operators]
    trainer = Trainer(network, systems, training, weights.with_suffix(".checkpoint"), data)
    log = trainer.run(held_out())
    if first:
        unseen = unseen_families()
        full = {
            "model": model.plain(),
            "training": asdict(training),
            "data": data,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "seconds": round(trainer.seconds),
            **card,
            "held_out": "barriers N = 1024, 4096; bubbles 64 x 64 at contrast 100, 100, 10000, 10000; "
            "stripes and a maze of 4096 cells at contrast 100",
            "unseen_families": dict(
                zip(unseen, held_out_iterations(network, list(unseen.values())), strict=True)
            ),
            "log": log,
        }
        save_model(weights, network, full)
    if dist.is_initialized():
        dist.barrier()  # a process that ends while others use the group may abort
        dist.destroy_process_group()
    return f"held-out iterations {log[-1]['held_out']}" if first else ""


def _train_hmatrix(content: dict[str, Any], weights: Path, card: dict[str, Any]) -> str:
    """Train one for one N and write it; returns what to print."""
    built(content, HMatrixConfig, HMatrixTraining)
    result = train_hmatrix(content, weights, card=card)
    return _test_iterations({result["training"]["n"]: result["test"]})


def _train_neural_spai(content: dict[str, Any], weights: Path, card: dict[str, Any]) -> str:
    """Train one for one N or several and write it; returns what to print."""
    return _test_iterations(train_neural_spai(content, weights, card=card)["test"])


def _test_iterations(tests: dict[int, dict[str, Any]]) -> str:
    means = ", ".join(f"{found['mean']:.1f} at N = {n}" for n, found in tests.items())
    return f"test iterations {means}"


KINDS = {"coarse-learned": _train_nested, "hmatrix": _train_hmatrix, "neural-spai": _train_neural_spai}


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


def _read(path: Path) -> dict[str, Any]:
    """The file's content with its sections model and training, mappings both."""
    content = read_yaml(path)
    if not isinstance(content, dict) or not {"model", "training"} & set(content):
        raise SettingsError(f"{path}: wants the sections {', '.join(SECTIONS)}")
    sections = {"model": content.get("model", {}), "training": content.get("training", {})}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise SettingsError(f"{path}: {name}: {section!r} is not a mapping")
    return content | sections
