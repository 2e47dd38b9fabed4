"""Training of `hmatrix` on the benchmark's training frames at one N: one model per N, as arXiv 2605.13343.

Every step draws from (seed, step) alone, so a run that was interrupted goes on from its checkpoint as if it
had not been.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from precond.checkpoints import load_checkpoint, optimiser_part, restore_optimiser, save_checkpoint
from precond.features import LeafFeatures
from precond.gallery import Problem, benchmark_density
from precond.hmatrix import HMatrixForm, build_network
from precond.hmatrix_factors import HMatrixConfig, HMatrixNetwork
from precond.model_files import load_model, save_model
from precond.objectives import cosine_hutchinson, kaporin, root_of, sai, smoothed
from precond.pcg import PCG

VALIDATION = range(100, 108)  # training seeds that training does not use
LIMIT = 1000  # iterations of an evaluation


@dataclass(frozen=True)
class HMatrixTraining:
    """How to train; what to train is HMatrixConfig's."""

    n: int = 1024
    frames: int = 100
    objective: str = "cosine"  # cosine, sai or kaporin
    steps: int = 8000
    frames_per_step: int = 4
    probes: int = 32
    learning_rate: float = 1e-3  # falls as a cosine to a hundredth of it
    weight_decay: float = 1e-4
    clip: float = 1.0
    warm_up: int = 100  # steps
    seed: int = 0
    start: str = ""  # weights to start from, of another N for instance
    evaluate_every: int = 500

    def __post_init__(self) -> None:
        if self.objective not in ("cosine", "sai", "kaporin"):
            raise ValueError(f"objective must be cosine, sai or kaporin, not '{self.objective}'")


class Frame:
    """One training system, leaf by leaf: vectors are (m, K L), zero on masked cells; one fluid component."""

    def __init__(self, problem: Problem, leaf_size: int, with_root: bool):
        self.features = LeafFeatures(problem.operator(), leaf_size)
        self.mask = self.features.mask.view(-1)  # (K L,)
        self.diagonal = self.mask / self.features.inverse_diagonal.view(-1).clamp(min=1e-30)
        self.root = None
        if with_root:
            matrix = self.apply_a(torch.diag(self.mask)).double()
            matrix = self.project(self.project(matrix).mT)  # else rounding lifts the null value
            self.root = root_of(0.5 * (matrix + matrix.mT)).float()

    def apply_a(self, rows: torch.Tensor) -> torch.Tensor:
        """A times each of ``rows`` (m, K L)."""
        columns = rows.mT.contiguous()  # (K L, m)
        features = self.features
        near = torch.nn.functional.embedding_bag(
            features.neighbours, columns, mode="sum", per_sample_weights=features.neighbour_weights
        )
        return (columns - near).mT * self.diagonal

    def project(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows`` less their means over the fluid."""
        rows = rows * self.mask
        return rows - self.mask * (rows.sum(dim=1, keepdim=True) / self.mask.sum())

    def loss(self, network: HMatrixNetwork, training: HMatrixTraining) -> torch.Tensor:
        """The objective of the network's M for this system, fresh probes."""
        factors = network(self.features)
        leaves = (self.features.count, self.features.leaf_size)

        def apply_m(rows: torch.Tensor) -> torch.Tensor:
            by_leaf = rows.view(-1, *leaves).transpose(0, 1).contiguous()  # (K, m, L)
            return factors.times(by_leaf, self.features.tiles).transpose(0, 1).reshape(len(rows), -1)

        if training.objective == "kaporin":
            return kaporin(apply_m, self.root)
        probes = torch.randn(training.probes, self.mask.numel()) * self.mask
        if training.objective == "sai":
            return sai(apply_m, self.apply_a, probes, self.project)
        probes = smoothed(probes, self.apply_a, self.diagonal, self.project)
        return cosine_hutchinson(apply_m, self.apply_a, probes, self.project)


def iterations(network: HMatrixNetwork, problems: list[Problem], rtol: float = 1e-8) -> dict:
    """Iterations of each problem, their mean over the converged, and how many failed, with the outcomes."""
    counts, failures = [], []
    for index, problem in enumerate(problems):
        operator = problem.operator()
        form = HMatrixForm(operator, network)
        form.setup()
        report = PCG(operator, form, rtol=rtol, max_iterations=LIMIT).solve(problem.b)
        if report.converged:
            counts.append(report.iterations)
        else:
            failures.append(f"{index}: {report.outcome.value} after {report.iterations}")
    mean = float(np.mean(counts)) if counts else float("nan")
    return {"iterations": counts, "mean": mean, "failed": len(failures), "failures": failures}


class _Run:
    """Network, optimiser and step, saved and resumed together."""

    def __init__(self, network: HMatrixNetwork, training: HMatrixTraining, path: Path):
        self.network, self.training, self.path = network, training, path
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
        """Go on from the checkpoint when there is one. Raises ValueError when it is another run's."""
        if not self.path.exists():
            return
        parts, notes = load_checkpoint(self.path)
        if notes["run"] != self._identity():
            raise ValueError(f"{self.path} is the checkpoint of another run: move it away to start anew")
        self.state = json.loads(notes["state"])
        self.network.load_state_dict(parts["weights"])
        self.best = parts["best"]
        restore_optimiser(self.optimiser, parts.get("optimiser", {}))

    def rate(self, step: int) -> float:
        """The learning rate of ``step``."""
        training = self.training
        fall = 0.5 * (1.0 + np.cos(np.pi * min(1.0, step / training.steps)))
        return training.learning_rate * min(1.0, (step + 1) / training.warm_up) * (0.01 + 0.99 * fall)

    def step(self, frames: list[Frame]) -> float:
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

    def evaluate(self, problems: list[Problem]) -> str:
        """Judge the weights on ``problems`` and keep them when they are the best so far."""
        result = iterations(self.network, problems)
        score = [result["failed"], result["mean"]]
        if self.state["best"] is None or score < self.state["best"]:
            self.state["best"] = score
            self.best = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.state["log"].append([self.state["step"], round(self.state["seconds"]), *score])
        return f"{result['mean']:.1f}" + (f" ({result['failed']} failed)" if result["failed"] else "")


def train_hmatrix(config: dict, out: Path, minutes: float | None = None, card: dict | None = None) -> dict:
    """Train as ``config`` says, write ``out`` (.safetensors) with its card; returns the card.

    ``config`` has the sections "model" (HMatrixConfig) and "training" (HMatrixTraining).

    Stops early after ``minutes``: the same call goes on. ``card`` adds to the card (machine, command). Raises
    TypeError and ValueError for settings that do not exist or do not fit.
    """
    model = HMatrixConfig.of(config.get("model", {}))
    training = HMatrixTraining(**config.get("training", {}))
    torch.manual_seed(training.seed)
    network = HMatrixNetwork(model)
    if training.start:
        started_from, _ = load_model(training.start, build_network)
        network.load_state_dict(started_from.state_dict())
    out.parent.mkdir(parents=True, exist_ok=True)
    run = _Run(network, training, out.with_suffix(".checkpoint"))
    run.resume()
    problems = [benchmark_density(training.n, i, "train") for i in range(training.frames)]
    frames = [Frame(problem, model.leaf_size, training.objective == "kaporin") for problem in problems]
    validation = [benchmark_density(training.n, i, "train") for i in VALIDATION]
    started, before = time.perf_counter(), run.state["seconds"]
    held_out = "-"
    with tqdm(total=training.steps, initial=run.state["step"], unit="step", desc="hmatrix") as bar:
        while run.state["step"] < training.steps:
            loss = run.step(frames)
            run.state["seconds"] = before + time.perf_counter() - started
            if run.state["step"] % training.evaluate_every == 0 or run.state["step"] == training.steps:
                held_out = run.evaluate(validation)
                run.save()
            bar.set_postfix_str(f"loss {loss:.3f}, held-out iterations {held_out}", refresh=False)
            bar.update()
            if minutes is not None and time.perf_counter() - started > 60 * minutes:
                held_out = run.evaluate(validation)
                run.save()
                break
    network.load_state_dict(run.best)
    network.eval()
    test = [benchmark_density(training.n, i) for i in range(20)]
    full = {
        "model": model.plain(),
        "training": asdict(training),
        "steps_done": run.state["step"],
        "data": f"barriers, {training.n} cells, training frames 0 to {training.frames - 1}",
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "training_minutes": round(run.state["seconds"] / 60, 1),
        "validation": [
            dict(zip(("step", "seconds", "failed", "mean"), entry, strict=True)) for entry in run.state["log"]
        ],
        "test": iterations(network, test),
        **(card or {}),
    }
    save_model(out, network, full)
    return full
