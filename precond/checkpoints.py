"""Checkpoints of a training run: one safetensors file of named parts, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Part = dict[str, torch.Tensor]


def save_checkpoint(path: Path, parts: dict[str, Part], notes: dict[str, str]) -> None:
    """Write the tensors of every part and the texts ``notes`` to ``path``."""
    tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
    partial = path.with_name(path.name + ".partial")
    save_file({name: value.detach().clone() for name, value in tensors.items()}, partial, notes)
    partial.replace(path)


def load_checkpoint(path: Path) -> tuple[dict[str, Part], dict[str, str]]:
    """The parts that hold tensors, and the notes, of the checkpoint ``path``."""
    parts: dict[str, Part] = {}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118, not a mapping
            part, _, name = key.partition(".")
            parts.setdefault(part, {})[name] = file.get_tensor(key)
        return parts, file.metadata()


def optimiser_part(optimiser: torch.optim.Optimizer) -> Part:
    """The optimiser's moments by parameter number and name."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, moments in state.items() for name, value in moments.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, part: Part) -> None:
    """Take the moments of optimiser_part; learning rates and the like stay as they are."""
    state: dict[int, Part] = {}
    for key, value in part.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
