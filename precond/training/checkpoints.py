"""Checkpoints of a training run: one safetensors file of named parts, written whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from precond.errors import UsageError, in_one_line
from precond.learned.weights import write_whole

Part = dict[str, torch.Tensor]


def save_checkpoint(path: Path, parts: dict[str, Part], notes: dict[str, str]) -> None:
    """Write the tensors of every part and the texts ``notes`` to ``path``. Raises OSError."""
    tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
    write_whole(path, save({name: value.detach().clone() for name, value in tensors.items()}, notes))


@contextlib.contextmanager
def resuming(path: Path, run: str) -> Iterator[tuple[dict[str, Part], dict[str, str]]]:
    """The parts that hold tensors, and the notes, of the checkpoint ``path`` of the run that its note "run"
    describes, to take from them within the context.

    Raises UsageError for another run's, for a damaged one, and for what it turns out to lack or to have of
    another kind.
    """
    parts: dict[str, Part] = {}
    try:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118, not a mapping
                part, _, name = key.partition(".")
                parts.setdefault(part, {})[name] = file.get_tensor(key)
            notes = file.metadata() or {}
        if notes.get("run") != run:
            raise UsageError(f"{path}: is the checkpoint of another run: delete it to start anew")
        yield parts, notes
    except UsageError:
        raise
    except (
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        SafetensorError,
        TypeError,
        ValueError,
    ) as error:
        reason = f"is damaged ({in_one_line(error)}): delete it to start its run anew"
        raise UsageError(f"{path}: {reason}") from error


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
