"""The one training loop. A `Task` says what is trained on which systems; a `Trainer` trains it, resumably.

Every step draws from (seed, step) alone, so a run that was interrupted ends bit for bit as if it had not
been. Under `torchrun` every process takes its own systems and gradients are averaged.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from pydantic import BaseModel, Field
from torch import nn
from tqdm import tqdm

from precond.config import Number, Settings, Whole, validated
from precond.errors import UsageError
from precond.files import write_whole
from precond.krylov.pcg import PCG, SolveReport
from precond.learned.weights import float32_by_default, save_model
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.problems.gallery import Problem

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
    | several_processes | whether torchrun can share the work |
    | limit | iterations of a test |
    | keeps_best | whether the weights best on ``validation`` are kept, or the last |
    | validation, tests | problems that training does not see: a list, and lists by name |
    | form(operator) | the preconditioner with the network as it is |
    | systems() | what it is trained on, a sequence |
    | draw(step, count) | the numbers of the systems, of ``count``, that this process takes in a step |
    | last_rate | the last learning rate over the largest |
    | rate(step) | the learning rate: over ``warm_up`` steps up, then down as a cosine, unless it is another |
    | loss(system, step) | the objective of the network's M for one system; may draw from torch |
    """

    name: ClassVar[str]
    sections: ClassVar[dict[str, type]]
    network_kind: ClassVar[Callable[[Any], nn.Module]]
    several_processes: ClassVar[bool] = False
    limit: ClassVar[int] = 1000
    keeps_best: ClassVar[bool] = True
    last_rate: ClassVar[float] = 0.01
    validation: list[Problem]
    tests: dict[str, list[Problem]]
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

    def rate(self, step: int) -> float:
        """As the table says."""
        training, least = self.training, self.last_rate
        fall = 0.5 * (1.0 + np.cos(np.pi * min(1.0, step / training.steps)))
        start = training.learning_rate * min(1.0, (step + 1) / training.warm_up)
        return start * (least + (1.0 - least) * fall)


class Trainer:
    """Network, optimiser, step and log, saved and resumed together.

    Goes on from ``checkpoint`` when there is one. Raises UsageError when it is damaged or another run's.
    """

    def __init__(self, task: Task, checkpoint: Path):
        self.task, self.checkpoint = task, checkpoint
        self.optimiser = torch.optim.AdamW(
            task.network.parameters(), lr=task.training.learning_rate, weight_decay=task.training.weight_decay
        )
        self.step, self.seconds, self.log = 0, 0.0, []
        self._losses: list[float] = []  # since the last entry of the log
        self._score: list[float] | None = None
        self._best: dict[str, torch.Tensor] = {}
        self._run = json.dumps([task.name, plain(task.settings)], sort_keys=True)
        if checkpoint.exists():
            self._resume()

    def _resume(self) -> None:
        try:
            saved = torch.load(self.checkpoint, weights_only=True)
            if saved["run"] == self._run:
                self.task.network.load_state_dict(saved["network"])
                self.optimiser.load_state_dict(saved["optimiser"])
                self.step, self.seconds, self.log, self._losses = saved["progress"]
                self._score, self._best = saved["best"]
                return
        except Exception as error:  # whatever a damaged file makes torch stumble over, in many lines
            words = "is damaged: delete it to start its run anew"
            raise UsageError(f"{self.checkpoint}: {words}") from error
        raise UsageError(f"{self.checkpoint}: is the checkpoint of another run: delete it to start anew")

    def save(self) -> None:
        """Write the checkpoint, whole or not at all. Raises OSError."""
        content = io.BytesIO()
        parts = {"network": self.task.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        progress = [self.step, self.seconds, self.log, self._losses]
        best = [self._score, self._best]
        torch.save({"run": self._run, **parts, "progress": progress, "best": best}, content)
        write_whole(self.checkpoint, content.getvalue())

    @float32_by_default()
    def run(self, minutes: float | None = None) -> None:
        """All steps that are left, or ``minutes`` of them; then the network holds the weights to keep."""
        task, training = self.task, self.task.training
        task.process, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        first, systems, words = task.process == 0, task.systems(), ""
        started, before = time.perf_counter(), self.seconds
        with tqdm(
            total=training.steps, initial=self.step, unit="step", desc=task.name, disable=not first
        ) as bar:
            late = False
            while self.step < training.steps and not late:
                loss = self._one_step(systems, world)
                self.seconds = before + time.perf_counter() - started
                late = minutes is not None and self.seconds - before > 60 * minutes
                last = late or self.step == training.steps
                if first and (last or self.step % training.evaluate_every == 0):
                    words = self._evaluate()
                if first and (last or self.step % training.save_every == 0):
                    self.save()
                bar.set_postfix_str(f"loss {loss:.3f}{words}", refresh=False)
                bar.update()
        if self._best:
            task.network.load_state_dict(self._best)
        task.network.eval()

    def _one_step(self, systems: Sequence[Any], world: int) -> float:
        task, step = self.task, self.step
        torch.manual_seed(task.training.seed * 1_000_003 + step)
        chosen = task.draw(step, len(systems))
        for group in self.optimiser.param_groups:
            group["lr"] = float(task.rate(step))  # a checkpoint takes no numpy
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
        norm = nn.utils.clip_grad_norm_(parameters, task.training.clip)
        if bool(torch.isfinite(norm)):  # a system on which an objective overflows teaches nothing
            self.optimiser.step()
        self.step += 1
        self._losses.append(total)
        return total

    def _evaluate(self) -> str:
        """Log the losses since the last time and how the network does, and keep it if it is the best; returns
        words for the progress bar.
        """
        task, entry = self.task, {"step": self.step, "seconds": round(self.seconds, 1)}
        entry["loss"] = float(np.mean(self._losses))
        self._losses.clear()
        self.log.append(entry)
        if not task.validation:
            return ""
        entry |= judged(task, task.validation)
        score = [entry["failed"], entry["mean"] or float("inf")]
        if task.keeps_best and (self._score is None or score < self._score):
            self._score = score
            self._best = {name: value.clone() for name, value in task.network.state_dict().items()}
        return f", held-out iterations {in_words(entry)}"

    def card(self) -> dict[str, Any]:
        """What was trained and how, as plain values."""
        return {
            "preconditioner": self.task.name,
            **plain(self.task.settings),
            "steps_done": self.step,
            "parameters": sum(parameter.numel() for parameter in self.task.network.parameters()),
            "training_minutes": round(self.seconds / 60, 1),
            "validation": self.log,
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
    if task.process > 0:
        return None
    tests = {name: judged(task, problems) for name, problems in task.tests.items()}
    full = {**trainer.card(), "test": tests, **(card or {})}
    save_model(out, task.network, full)
    return full


def plain(sections: dict[str, Any]) -> dict[str, Any]:
    """Checked sections as plain values again."""
    return {
        name: section.model_dump() if isinstance(section, BaseModel) else asdict(section)
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


def judged(task: Task, problems: Iterable[Problem]) -> dict[str, Any]:
    """Iterations of each problem, None where it failed, their mean, None where all did, and how many did."""
    reports = list(solves(task.form, problems, task.limit))
    counts = [report.iterations if report.converged else None for report in reports]
    known = [count for count in counts if count is not None]
    mean = float(np.mean(known)) if known else None
    return {"iterations": counts, "mean": mean, "failed": len(counts) - len(known)}


def in_words(found: dict[str, Any]) -> str:
    """The result of `judged`: mean and failures."""
    mean, failed = found["mean"], found["failed"]
    return ("-" if mean is None else f"{mean:.1f}") + (f" ({failed} failed)" if failed else "")
