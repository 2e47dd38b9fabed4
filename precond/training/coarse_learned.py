"""Training of `coarse-learned`: minimise the closed Kaporin number over a set of systems, one system a step.

Resumable: every step draws from (seed, step) alone, and the checkpoint is a safetensors file of weights and
optimiser state. Under `torchrun` every process takes its own systems and gradients are averaged.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from precond.krylov.pcg import PCG
from precond.learned.coarse_learned import CoarseLearned
from precond.learned.coarse_space import CoarseSpaceNetwork
from precond.learned.features import LeafFeatures
from precond.poisson import PoissonOperator
from precond.training.checkpoints import optimiser_part, restore_optimiser, resuming, save_checkpoint
from precond.training.kaporin import additive_objective, balanced_objective, truncated_objective
from precond.two_level.block_jacobi import BlockJacobi
from precond.two_level.coarse_operator import LeafPairs

OBJECTIVES = {"balanced": balanced_objective, "truncated": truncated_objective}  # of the last steps


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; what to train is CoarseSpaceConfig's."""

    steps: int = 6000
    learning_rate: float = 3e-3  # falls linearly to a hundredth of it
    weight_decay: float = 1e-4
    clip: float = 1.0
    balanced_from: float = 0.5  # share of the steps after which `objective` replaces the additive one
    objective: str = "balanced"  # balanced or truncated
    seed: int = 0
    threads: int = 1
    evaluate_every: int = 500
    save_every: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "threads", "evaluate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not 1 or more")
        if not 0.0 <= self.balanced_from <= 1.0:
            raise ValueError(f"balanced_from: {self.balanced_from} is not a share from 0 to 1")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not '{self.objective}'")


class System:
    """One operator with all that a training step needs of it; static."""

    def __init__(self, operator: PoissonOperator, leaf_size: int):
        self.features = LeafFeatures(operator, leaf_size, aligned=True)
        leaves = BlockJacobi(operator, leaf_size, aligned=True)
        leaves.setup()
        self.blocks = leaves.blocks
        self.pairs = LeafPairs.of(operator, leaves.position.cpu().numpy(), leaf_size)
        self.weights = leaves.weights


def held_out_iterations(
    network: CoarseSpaceNetwork, problems: list[tuple[PoissonOperator, torch.Tensor]]
) -> list[int]:
    """Iterations of each (operator, b) at rtol 1e-8 with the network as it is; the limit of 500 when it
    fails.
    """
    counts = []
    for operator, b in problems:
        form = CoarseLearned.of(operator, network)
        form.setup()
        counts.append(PCG(operator, form, rtol=1e-8, max_iterations=500).solve(b).iterations)
    return counts


class Trainer:
    """The loop: `run` trains up to ``config.steps``, going on from ``checkpoint`` when that file is there.

    ``data`` says in plain values what ``systems`` are. Raises ValueError for a checkpoint that is damaged or
    of other settings or data.
    """

    def __init__(
        self,
        network: CoarseSpaceNetwork,
        systems: list[System],
        config: TrainingConfig,
        checkpoint: Path,
        data: dict[str, int],
    ):
        self.network, self.systems, self.config, self.checkpoint = network, systems, config, checkpoint
        self._identity = json.dumps([network.config.plain(), asdict(config), data], sort_keys=True)
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step, self.seconds = 0, 0.0
        self.log: list[dict] = []
        if checkpoint.exists():
            self._resume()

    def run(self, held_out: list[tuple[PoissonOperator, torch.Tensor]]) -> list[dict]:
        """Train; returns the log of losses and held-out iterations."""
        torch.set_num_threads(self.config.threads)
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        bar = tqdm(total=self.config.steps, initial=self.step, desc="train", disable=rank != 0)
        running: list[float] = []
        while self.step < self.config.steps:
            started = time.perf_counter()
            running.append(self._one_step(rank, world))
            self.step += 1
            self.seconds += time.perf_counter() - started
            bar.update()
            last = self.step == self.config.steps
            if rank == 0 and (self.step % self.config.evaluate_every == 0 or last):
                self.log.append(
                    {
                        "step": self.step,
                        "seconds": round(self.seconds, 1),
                        "loss": float(np.mean(running)),
                        "held_out": held_out_iterations(self.network, held_out),
                    }
                )
                bar.set_postfix(loss=f"{self.log[-1]['loss']:.3f}", held_out=self.log[-1]["held_out"])
                running.clear()
            if rank == 0 and (self.step % self.config.save_every == 0 or last):
                self._save()
        bar.close()
        return self.log

    def _one_step(self, rank: int, world: int) -> float:
        config = self.config
        fraction = self.step / config.steps
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * (1.0 - 0.99 * fraction)
        # one draw for all processes, each takes its own entry
        chosen = np.random.default_rng((config.seed, self.step)).integers(len(self.systems), size=world)
        system = self.systems[chosen[rank]]
        last = fraction >= config.balanced_from
        objective = OBJECTIVES[config.objective] if last else additive_objective
        basis = self.network(system.features, system.features.mask).double()
        loss = objective(basis, system.blocks, system.pairs, system.weights)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        if world > 1:
            for parameter in parameters:
                dist.all_reduce(parameter.grad)
                parameter.grad.div_(world)
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        self.optimiser.step()
        return float(loss.detach())

    def _save(self) -> None:
        progress = {"step": self.step, "seconds": self.seconds, "log": self.log}
        parts = {"network": self.network.state_dict(), "optimiser": optimiser_part(self.optimiser)}
        save_checkpoint(self.checkpoint, parts, {"progress": json.dumps(progress), "run": self._identity})

    def _resume(self) -> None:
        with resuming(self.checkpoint, self._identity) as (parts, notes):
            progress = json.loads(notes["progress"])
            self.step, self.seconds, self.log = progress["step"], progress["seconds"], progress["log"]
            self.network.load_state_dict(parts["network"])
            restore_optimiser(self.optimiser, parts.get("optimiser", {}))
