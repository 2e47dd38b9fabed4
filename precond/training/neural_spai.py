"""Training of `neural-spai` on the benchmark's training frames: at one N, as published, or at several."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from precond.learned.neural_spai import Faces, NeuralSpaiForm, SpaiConfig, SpaiNetwork
from precond.problems.gallery import Problem, benchmark_density
from precond.training.objectives import sai
from precond.training.run import VALIDATION, Run, solve_all
from precond.training.setting_checks import typed

iterations = partial(solve_all, NeuralSpaiForm)  # of a network, a list of problems and rtol


@dataclass(frozen=True)
class SpaiTraining:
    """How to train; what to train is SpaiConfig's."""

    n: int | list[int] = 1024  # several: frames of all of them, drawn alike
    frames: int = 100  # of each n
    steps: int = 2500
    frames_per_step: int = 4
    probes: int = 4
    learning_rate: float = 1e-2  # falls as a cosine to a hundredth of it
    weight_decay: float = 1e-4
    clip: float = 1.0
    warm_up: int = 100  # steps
    seed: int = 0
    evaluate_every: int = 250
    validation_frames: int = 8

    def __post_init__(self) -> None:
        if not self.sizes or not all(type(n) is int for n in self.sizes):
            raise ValueError(f"n must be a number of cells or a list of them, not {self.n!r}")

    @property
    def sizes(self) -> list[int]:
        """Every n."""
        return self.n if isinstance(self.n, list) else [self.n]


class SpaiFrame:
    """One training system, scaled to a unit diagonal; vectors are (m, N). One fluid component."""

    def __init__(self, problem: Problem):
        self.faces = Faces(problem.operator())
        root = torch.where(self.faces.scale > 0.0, 1.0 / self.faces.scale, 0.0)
        self.kernel = (root / root.norm()).float()  # (N,), S times it is zero

    def apply_s(self, rows: torch.Tensor) -> torch.Tensor:
        """S = D^-1/2 A D^-1/2 times each of ``rows`` (m, N)."""
        return self.faces.times(self.faces.coupled, -self.faces.couplings, rows)

    def project(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows`` less their parts in S's null space, the kernel and the uncoupled cells."""
        rows = rows * self.faces.coupled
        return rows - (rows @ self.kernel)[:, None] * self.kernel

    def loss(self, network: SpaiNetwork, training: SpaiTraining) -> torch.Tensor:
        """The SAI loss of arXiv 2510.27517, mean over probes w of ||A M w / ||A|| - w||^2 / ||w||^2.

        S stands for A / ||A||: as blind to A's size, and in every cell instead of on average. For normal w,
        ||S M w - w|| and ||M S w - w||, the one here, have the same mean square: the Frobenius norm.
        """
        diagonal, entries = network(self.faces)
        apply_m = partial(self.faces.times_m, diagonal, entries, network.config.epsilon)
        probes = torch.randn(training.probes, self.kernel.numel())
        return sai(apply_m, self.apply_s, probes, self.project) / self.faces.coupled.sum()


def train_neural_spai(
    config: dict, out: Path, minutes: float | None = None, card: dict | None = None
) -> dict:
    """Train as ``config`` says, write ``out`` (.safetensors) with its card; returns the card.

    ``config`` has the sections "model" (SpaiConfig) and "training" (SpaiTraining). The card's "test" has an
    entry for every n.

    Stops early after ``minutes``: the same call goes on. ``card`` adds to the card (machine, command). Raises
    TypeError and ValueError for settings that do not exist or do not fit.
    """
    model = SpaiConfig(**typed(SpaiConfig, config.get("model", {}), "model"))
    values = config.get("training", {})
    typed(SpaiTraining, {name: value for name, value in values.items() if name != "n"}, "training")
    training = SpaiTraining(**values)
    torch.manual_seed(training.seed)
    network = SpaiNetwork(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    run = Run(NeuralSpaiForm, network, training, out.with_suffix(".checkpoint"))
    run.resume()
    frames = [
        SpaiFrame(benchmark_density(n, i, "train")) for n in training.sizes for i in range(training.frames)
    ]
    seeds = range(VALIDATION, VALIDATION + training.validation_frames)
    validation = [benchmark_density(n, i, "train") for n in training.sizes for i in seeds]
    run.train(frames, validation, minutes)
    test = {n: iterations(network, [benchmark_density(n, i) for i in range(20)]) for n in training.sizes}
    cells = ", ".join(map(str, training.sizes))
    data = f"barriers, {cells} cells, training frames 0 to {training.frames - 1}"
    return run.write(out, data, test, {"preconditioner": NeuralSpaiForm.name, **(card or {})})
