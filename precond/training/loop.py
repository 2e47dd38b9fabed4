"""The one training loop. A `Task` says what is trained on which systems; a `Trainer` trains it, resumably.

Every step draws from (seed, step) alone, so a run that was interrupted ends bit for bit as if it had not
been. Under `torchrun` every process takes its own systems and gradients are averaged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from pydantic import BaseModel, Field
from torch import nn
from tqdm import tqdm

from precond.config import Number, Settings, Whole, validated
from precond.krylov.pcg import PCG, SolveReport
from precond.learned.weights import float32_by_default, save_model
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.problems.gallery import Problem
from precond.training.checkpoints import optimiser_part, restore_optimiser, resuming, save_checkpoint

Count = Annotated[Whole, Field(ge=1)]
Seed = Annotated[Whole, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0.0)]
Share = Annotated[Number, Field(ge=0.0, le=1.0)]


class Training(Settings):
    """How to train: what every network's training has."""

    steps: Count
    learning_rate: Positive
    weight_decay: Annotated[Number, Field(ge=0.0)] = 1e-4
    clip: Positive = 1.0  # of the gradient's norm
    seed: Seed = 0
    evaluate_every: Count  # steps


class Task:
    """A network to train, its systems, and how it is judged. A subclass for each kind of network has

    | attribute or method | is |
    |---|---|
    | name | the preconditioner's name |
    | sections | the kinds of the sections of a settings file: "model", "training" and perhaps "data" |
    | network_kind | makes the network, which has ``config``, of the section model |
    | form(operator) | the preconditioner with the network as it is |
    | systems() | what it is trained on, a sequence |
    | draw(step, count) | the numbers of the systems, of ``count``, that this process takes in a step |
    | rate(step) | the learning rate |
    | loss(system, step) | the objective of the network's M for one system; may draw from torch |
    | validate() | plain values for the log, words for the bar, and a score: the weights with the least are |
    | | kept, the last ones where it is None |
    | test() | what the model card says of the trained network besides, plain values |
    | summary(card) | the result in a few words |
    """

    name: ClassVar[str]
    sections: ClassVar[dict[str, type]]
    network_kind: ClassVar[Callable[[Any], nn.Module]]
    several_processes: ClassVar[bool] = False  # torchrun can share the work
    process = 0

    @classmethod
    def checked(cls, content: dict[str, Any], where: str = "") -> dict[str, Any]:
        """The sections of ``content``, which may leave out what has a default. Raises UsageError."""
        head = f"{where}: " if where else ""
        kinds = cls.sections.items()
        return {name: validated(kind, content.get(name, {}), head + name) for name, kind in kinds}

    @float32_by_default()
    def __init__(self, content: dict[str, Any], where: str = ""):
        """From sections as `checked` takes them, ``where`` they stand."""
        self.settings = self.checked(content, where)
        self.training: Any = self.settings["training"]
        torch.manual_seed(self.training.seed)
        self.network = self.network_kind(self.settings["model"])


class Trainer:
    """Network, optimiser, step and log, saved and resumed together.

    Goes on from ``checkpoint`` when there is one. Raises UsageError when it is damaged or another run's.
    """

    def __init__(self, task: Task, checkpoint: Path):
        self.task, self.checkpoint = task, checkpoint
        self.optimiser = torch.optim.AdamW(
            task.network.parameters(), lr=task.training.learning_rate, weight_decay=task.training.weight_decay
        )
        self.state: dict[str, Any] = {"step": 0, "seconds": 0.0, "losses": [], "log": [], "best": None}
        self.best: dict[str, torch.Tensor] = {}
        if checkpoint.exists():
            with resuming(checkpoint, self._identity) as (parts, notes):
                found = json.loads(notes["state"])
                self.state = {name: found[name] for name in self.state}
                task.network.load_state_dict(parts["network"])
                self.best = parts.get("best", {})
                restore_optimiser(self.optimiser, parts.get("optimiser", {}))

    @property
    def _identity(self) -> str:
        return json.dumps([self.task.name, plain(self.task.settings)], sort_keys=True)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all. Raises OSError."""
        parts = {
            "network": self.task.network.state_dict(),
            "best": self.best,
            "optimiser": optimiser_part(self.optimiser),
        }
        save_checkpoint(self.checkpoint, parts, {"state": json.dumps(self.state), "run": self._identity})

    @float32_by_default()
    def run(self, minutes: float | None = None) -> None:
        """All steps that are left, or ``minutes`` of them; then the network holds its best weights where it
        is scored, else its last.
        """
        task, state, training = self.task, self.state, self.task.training
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        task.process = rank
        systems, words = task.systems(), ""
        started, before = time.perf_counter(), state["seconds"]
        bar = tqdm(
            total=training.steps, initial=state["step"], unit="step", desc=task.name, disable=rank != 0
        )
        while state["step"] < training.steps:
            state["losses"].append(self._step(systems, world))
            state["step"] += 1
            state["seconds"] = before + time.perf_counter() - started
            late = minutes is not None and state["seconds"] - before > 60 * minutes
            last = late or state["step"] == training.steps
            loss = state["losses"][-1]
            if rank == 0 and (last or state["step"] % training.evaluate_every == 0):
                words = ", " + self._evaluate()
            if rank == 0 and (last or state["step"] % training.save_every == 0):
                self.save()
            bar.set_postfix_str(f"loss {loss:.3f}{words}", refresh=False)
            bar.update()
            if late:
                break
        bar.close()
        if self.best:
            task.network.load_state_dict(self.best)
        task.network.eval()

    def _step(self, systems: Sequence[Any], world: int) -> float:
        task, step = self.task, self.state["step"]
        torch.manual_seed(task.training.seed * 1_000_003 + step)
        chosen = task.draw(step, len(systems))
        for group in self.optimiser.param_groups:
            group["lr"] = task.rate(step)
        self.optimiser.zero_grad()
        total = 0.0
        for index in chosen:
            loss = task.loss(systems[index], step) / len(chosen)
            loss.backward()
            total += float(loss.detach())
        parameters = [parameter for parameter in task.network.parameters() if parameter.grad is not None]
        if world > 1:
            for parameter in parameters:
                dist.all_reduce(parameter.grad)
                parameter.grad.div_(world)
        nn.utils.clip_grad_norm_(parameters, task.training.clip)
        self.optimiser.step()
        return total

    def _evaluate(self) -> str:
        """Log the losses since the last time and how the network does, and keep it if it is the best."""
        state = self.state
        found, words, score = self.task.validate()
        if score is not None and (state["best"] is None or score < state["best"]):
            state["best"] = score
            self.best = {name: value.clone() for name, value in self.task.network.state_dict().items()}
        head = {"step": state["step"], "seconds": round(state["seconds"], 1)}
        state["log"].append({**head, "loss": float(np.mean(state["losses"])), **found})
        state["losses"].clear()
        return words

    def card(self) -> dict[str, Any]:
        """What was trained and how, as plain values."""
        return {
            "preconditioner": self.task.name,
            **plain(self.task.settings),
            "steps_done": self.state["step"],
            "parameters": sum(parameter.numel() for parameter in self.task.network.parameters()),
            "training_minutes": round(self.state["seconds"] / 60, 1),
            "validation": self.state["log"],
        }


def train(
    task: Task, out: Path, minutes: float | None = None, card: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """Train ``task``, write ``out`` (.safetensors) with its card, to which ``card`` adds; returns the card,
    None in all processes but the first.

    Stops early after ``minutes``: the same call goes on. Raises UsageError for a checkpoint that is damaged
    or another run's, and OSError.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(task, out.with_suffix(".checkpoint"))
    trainer.run(minutes)
    if dist.is_initialized() and dist.get_rank() > 0:
        return None
    full = {**trainer.card(), **task.test(), **(card or {})}
    save_model(out, task.network, full)
    return full


def plain(sections: dict[str, Any]) -> dict[str, Any]:
    """Checked sections as plain values again."""
    return {
        name: section.model_dump() if isinstance(section, BaseModel) else section.plain()
        for name, section in sections.items()
    }


def solves(
    form: Callable[[PoissonOperator], Preconditioner], problems: Iterable[Problem], limit: int
) -> Iterator[SolveReport]:
    """Each of ``problems`` solved with its own ``form`` to rtol 1e-8, within ``limit`` iterations."""
    for problem in problems:
        operator = problem.operator()
        preconditioner = form(operator)
        preconditioner.setup()
        yield PCG(operator, preconditioner, rtol=1e-8, max_iterations=limit).solve(problem.b)
