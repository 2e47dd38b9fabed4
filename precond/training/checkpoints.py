"""Checkpoints of a training run: one safetensors file of named parts, written whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

Part = dict[str, torch.Tensor]


def save_checkpoint(path: Path, parts: dict[str, Part], notes: dict[str, str]) -> None:
    """Write the tensors of every part and the texts ``notes`` to ``path``. Raises OSError."""
    tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save({name: value.detach().clone() for name, value in tensors.items()}, notes))
    partial.replace(path)


def load_checkpoint(path: Path) -> tuple[dict[str, Part], dict[str, str]]:
    """The parts that hold tensors, and the notes, of the checkpoint ``path``. Raises ValueError for a damaged
    one, or what cannot be read.
    """
    parts: dict[str, Part] = {}
    try:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118, not a mapping
                part, _, name = key.partition(".")
                parts.setdefault(part, {})[name] = file.get_tensor(key)
            return parts, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


@contextlib.contextmanager
def resuming(path: Path, run: str) -> Iterator[tuple[dict[str, Part], dict[str, str]]]:
    """`load_checkpoint` for the run that its note "run" describes, to take from it within the context.

    Raises ValueError for another run's, and for what it turns out to lack or to have of another kind.
    """
    parts, notes = load_checkpoint(path)
    if notes.get("run") != run:
        raise ValueError(f"{path}: is the checkpoint of another run: delete it to start anew")
    try:
        yield parts, notes
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: is damaged ({error}): delete it to start its run anew")


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
