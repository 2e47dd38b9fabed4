"""A training run on frames of the benchmark, for the learned preconditioners that are published once per N.

Every step draws from (seed, step) alone, so a run that was interrupted goes on from its checkpoint as if it
had not been. The weights kept are those with the fewest iterations on the validation frames.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from precond.krylov.pcg import PCG
from precond.learned.weights import save_model
from precond.preconditioner import Preconditioner
from precond.problems.gallery import Problem
from precond.training.checkpoints import optimiser_part, restore_optimiser, resuming, save_checkpoint

VALIDATION = 100  # the first of the training seeds that training does not use
LIMIT = 1000  # iterations of an evaluation

Form = type[Preconditioner]  # made by form(operator, network)


class Settings(Protocol):
    """What every such run has; the rest is its preconditioner's."""

    steps: int
    frames: int
    frames_per_step: int
    learning_rate: float  # falls as a cosine to a hundredth of it
    weight_decay: float
    clip: float
    warm_up: int  # steps
    seed: int
    evaluate_every: int
    validation_frames: int


class Frame(Protocol):
    """One training system."""

    def loss(self, network: nn.Module, training: Settings) -> torch.Tensor:
        """The objective of the network's M for this system, fresh probes."""


def solve_all(form: Form, network: nn.Module, problems: Sequence[Problem], rtol: float = 1e-8) -> dict:
    """Iterations of each problem with ``form`` of ``network``, their mean over the converged, and how many
    failed, with the outcomes.
    """
    counts, failures = [], []
    for index, problem in enumerate(problems):
        operator = problem.operator()
        preconditioner = form(operator, network)
        preconditioner.setup()
        report = PCG(operator, preconditioner, rtol=rtol, max_iterations=LIMIT).solve(problem.b)
        if report.converged:
            counts.append(report.iterations)
        else:
            failures.append(f"{index}: {report.outcome.value} after {report.iterations}")
    mean = float(np.mean(counts)) if counts else float("nan")
    return {"iterations": counts, "mean": mean, "failed": len(failures), "failures": failures}


class Run:
    """Network, optimiser and step, saved and resumed together.

    ``network`` has a ``config`` with ``plain()``; ``training`` is a dataclass with what Settings names.
    """

    def __init__(self, form: Form, network: nn.Module, training: Any, path: Path):
        for name in ("steps", "frames", "frames_per_step", "warm_up", "evaluate_every", "validation_frames"):
            if getattr(training, name) < 1:
                raise ValueError(f"{name}: {getattr(training, name)} is not 1 or more")
        if training.frames_per_step > training.frames:
            raise ValueError(f"frames_per_step: {training.frames_per_step} is more than there are")
        self.form, self.network, self.training, self.path = form, network, training, path
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self.state = {"step": 0, "seconds": 0.0, "best": None, "log": []}
        self.best = {name: value.clone() for name, value in network.state_dict().items()}

    def _identity(self) -> str:
        return json.dumps([self.network.config.plain(), asdict(self.training)], sort_keys=True)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        parts = {
            "weights": self.network.state_dict(),
            "best": self.best,
            "optimiser": optimiser_part(self.optimiser),
        }
        save_checkpoint(self.path, parts, {"state": json.dumps(self.state), "run": self._identity()})

    def resume(self) -> None:
        """Go on from the checkpoint when there is one. Raises ValueError when damaged or another run's."""
        if not self.path.exists():
            return
        with resuming(self.path, self._identity()) as (parts, notes):
            self.state = json.loads(notes["state"])
            self.network.load_state_dict(parts["weights"])
            self.best = parts["best"]
            restore_optimiser(self.optimiser, parts.get("optimiser", {}))

    def rate(self, step: int) -> float:
        """The learning rate of ``step``."""
        training = self.training
        fall = 0.5 * (1.0 + np.cos(np.pi * min(1.0, step / training.steps)))
        return training.learning_rate * min(1.0, (step + 1) / training.warm_up) * (0.01 + 0.99 * fall)

    def step(self, frames: Sequence[Frame]) -> float:
        """One step on a few frames; returns the loss."""
        training, step = self.training, self.state["step"]
        seed = training.seed * 1_000_003 + step
        torch.manual_seed(seed)
        chosen = np.random.default_rng(seed).choice(len(frames), training.frames_per_step, replace=False)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(step)
        self.optimiser.zero_grad()
        total = 0.0
        for index in chosen:
            loss = frames[index].loss(self.network, training) / len(chosen)
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), training.clip)
        self.optimiser.step()
        self.state["step"] += 1
        return total

    def evaluate(self, problems: Sequence[Problem]) -> str:
        """Judge the weights on ``problems`` and keep them when they are the best so far."""
        result = solve_all(self.form, self.network, problems)
        score = [result["failed"], result["mean"]]
        if self.state["best"] is None or score < self.state["best"]:
            self.state["best"] = score
            self.best = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.state["log"].append([self.state["step"], round(self.state["seconds"]), *score])
        return f"{result['mean']:.1f}" + (f" ({result['failed']} failed)" if result["failed"] else "")

    def train(self, frames: Sequence[Frame], validation: Sequence[Problem], minutes: float | None) -> None:
        """All steps that are left, or ``minutes`` of them; then the network holds its best weights."""
        training, state = self.training, self.state
        started, before = time.perf_counter(), state["seconds"]
        held_out = "-"
        with tqdm(total=training.steps, initial=state["step"], unit="step", desc=self.form.name) as bar:
            while state["step"] < training.steps:
                loss = self.step(frames)
                state["seconds"] = before + time.perf_counter() - started
                if state["step"] % training.evaluate_every == 0 or state["step"] == training.steps:
                    held_out = self.evaluate(validation)
                    self.save()
                bar.set_postfix_str(f"loss {loss:.3f}, held-out iterations {held_out}", refresh=False)
                bar.update()
                if minutes is not None and time.perf_counter() - started > 60 * minutes:
                    held_out = self.evaluate(validation)
                    self.save()
                    break
        self.network.load_state_dict(self.best)
        self.network.eval()

    def write(self, out: Path, data: str, test: dict, card: dict | None) -> dict:
        """Write ``out`` (.safetensors) with its card, to which ``card`` adds; returns it."""
        full = {
            "model": self.network.config.plain(),
            "training": asdict(self.training),
            "steps_done": self.state["step"],
            "data": data,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "training_minutes": round(self.state["seconds"] / 60, 1),
            "validation": [
                dict(zip(("step", "seconds", "failed", "mean"), entry, strict=True))
                for entry in self.state["log"]
            ],
            "test": test,
            **(card or {}),
        }
        save_model(out, self.network, full)
        return full
