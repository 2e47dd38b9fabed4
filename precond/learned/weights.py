"""Weights on disk: a safetensors file and, beside it, a YAML model card with the same name.

The card says what builds the module and how the weights came about; it carries the file's checksum, so damage
shows. Nothing is ever unpickled. A preconditioner trained once per N has NAME-N.safetensors for each.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from precond.errors import in_one_line
from precond.files import write_whole
from precond.learned import MODELS
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, PreconditionerError, Stage


class ModelError(PreconditionerError):
    """A model file that is missing, damaged or not what it should be; the message says which and why."""


def save_model(path: Path | str, module: nn.Module, card: dict) -> None:
    """Write ``module``'s weights to ``path`` (.safetensors) and ``card`` beside it (.yaml).

    ``card`` holds plain values only. Raises ModelError for weights that are not finite.
    """
    path = Path(path)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    _check(path, weights, weights)
    data = save(weights)
    text = yaml.safe_dump({**card, "sha256": hashlib.sha256(data).hexdigest()}, sort_keys=False, width=110)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    write_whole(path.with_suffix(".yaml"), text)


@contextlib.contextmanager
def float32_by_default() -> Iterator[None]:
    """Networks are made and trained in float32 whatever the program's default type of numbers is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def read_card(path: Path | str) -> dict:
    """The card of the weights at ``path``. Raises ModelError when it is missing or is not a card."""
    card_path = Path(path).with_suffix(".yaml")
    fault = f"{path}: its model card {card_path.name}"
    try:
        card = yaml.safe_load(card_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{fault} is missing") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{fault} cannot be read: {in_one_line(error)}") from error
    if not isinstance(card, dict):
        raise ModelError(f"{fault} holds no names and values")
    return card


def load_model(path: Path | str, build: Callable[[dict], nn.Module]) -> tuple[nn.Module, dict]:
    """The module of the weights at ``path``, in evaluation mode without gradients, and its card.

    ``build`` makes the module from the card. Raises ModelError unless the file is whole, finite and has
    exactly the names, shapes and types of the module.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no model file {path}")
    card = read_card(path)
    try:
        data = path.read_bytes()
        weights = load(data)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged or is no safetensors file: {in_one_line(error)}") from error
    if hashlib.sha256(data).hexdigest() != card.get("sha256"):
        raise ModelError(f"{path} does not match its model card: it was damaged, or belongs to another one")
    try:
        with float32_by_default():
            module = build(card)
    except ModelError:
        raise
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {in_one_line(error)}"
        raise ModelError(f"{path}: its configuration builds no model: {reason}") from error
    _check(path, weights, module.state_dict())
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False), card


def model_sizes(name: str) -> dict[int, Path]:
    """The N of every shipped model ``name``-N.safetensors, with its file."""
    paths = {path.stem.removeprefix(f"{name}-"): path for path in MODELS.glob(f"{name}-*.safetensors")}
    return {int(size): paths[size] for size in sorted(paths) if size.isdigit()}


def model_for(name: str, cells: int) -> Path:
    """The weights of ``name`` for a grid of ``cells``, whatever is solid in it: those of the nearest N, in
    its logarithm. Raises ModelError when there are no weights.
    """
    sizes = model_sizes(name)
    if not sizes:
        raise ModelError(f"there is no model file {name}-*.safetensors in {MODELS}")
    return sizes[min(sizes, key=lambda size: abs(math.log(size / cells)))]


class TrainedPerSize(Preconditioner):
    """A preconditioner with a ``network`` that was trained at one N: that of the file ``weights``, by default
    `model_for` the operator's grid, or one in memory. Subclasses have ``features`` and `_predict`.

    trained_at: the N of the file's weights. transferred: it is not the number of cells that are fluid. note:
    that in words, or empty. Raises ModelError where there are no weights or they are unusable.
    """

    capturable = True

    def __init__(self, operator: PoissonOperator, weights: str | Path | nn.Module | None = None):
        super().__init__(operator)
        if isinstance(weights, nn.Module):
            self.network = weights.to(operator.device)
            return
        path = model_for(self.name, operator.solid.numel()) if weights is None else Path(weights)
        network, card = load_model(path, self.build)
        training, n = card.get("training"), int((~operator.solid).sum())
        self.trained_at = training.get("n") if isinstance(training, dict) else None
        if not isinstance(self.trained_at, int):
            raise ModelError(f"{path}: its model card gives no whole number as `n` of `training`")
        self.transferred = self.trained_at != n
        if self.transferred:
            self.note = f"transferred: trained at N = {self.trained_at}, runs at N = {n}"
        self.network = network.to(operator.device)

    @staticmethod
    def build(card: dict[str, Any]) -> nn.Module:
        """The untrained network of a model card."""
        raise NotImplementedError

    def _stages(self) -> list[Stage]:
        return [("setup", self.features.update), ("inference", self._predict)]


def _check(path: Path, weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Raise ModelError unless names, shapes and types are the expected ones, and all numbers finite."""
    lacking, unknown = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    for words, names in (("lacks", lacking), ("has the unknown", unknown)):
        if names:
            raise ModelError(f"{path} {words} {', '.join(sorted(names)[:3])} ({len(names)} in all)")
    for name, found in weights.items():
        kind, wanted = (f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in (found, expected[name]))
        if kind != wanted:
            raise ModelError(f"{path}: {name} is {kind}, its configuration wants {wanted}")
    for name, found in weights.items():
        if not bool(torch.isfinite(found).all()):
            raise ModelError(f"{path}: {name} holds NaN or infinity")
