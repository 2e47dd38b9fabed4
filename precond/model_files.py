"""Weights on disk: a safetensors file and, beside it, a YAML model card with the same name.

The card says what builds the module and how the weights came about; it carries the file's checksum, so damage
shows. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from precond.preconditioner import PreconditionerError

MODELS = Path(__file__).resolve().parent.parent / "assets" / "models"


class ModelError(PreconditionerError):
    """A model file that is missing, damaged or not what it should be; the message says which and why."""


def save_model(path: Path | str, module: nn.Module, card: dict) -> None:
    """Write ``module``'s weights to ``path`` (.safetensors) and ``card`` beside it (.yaml).

    ``card`` holds plain values only. Raises ModelError for weights that are not finite.
    """
    path = Path(path)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    _check_finite(path, weights)
    data = save(weights)
    text = yaml.safe_dump({**card, "sha256": hashlib.sha256(data).hexdigest()}, sort_keys=False, width=110)
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in ((path, data), (path.with_suffix(".yaml"), text.encode())):
        partial = target.with_name(target.name + ".partial")  # never half a file under the real name
        partial.write_bytes(content)
        partial.replace(target)


def read_card(path: Path | str) -> dict:
    """The card of the weights at ``path``. Raises ModelError when it is missing or is not a card."""
    path = Path(path)
    card_path = path.with_suffix(".yaml")
    try:
        card = yaml.safe_load(card_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.name}: its model card {card_path} is missing") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(
            f"{path.name}: its model card {card_path.name} cannot be read: {_line(error)}"
        ) from error
    if not isinstance(card, dict):
        raise ModelError(f"{path.name}: its model card {card_path.name} holds no names and values")
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
        raise ModelError(f"{path.name} is damaged or is no safetensors file: {_line(error)}") from error
    if hashlib.sha256(data).hexdigest() != card.get("sha256"):
        raise ModelError(
            f"{path.name} does not match its model card: it was damaged, or belongs to another one"
        )
    try:
        module = build(card)
    except ModelError:
        raise
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path.name}: its configuration builds no model: {type(error).__name__}: {_line(error)}"
        ) from error
    _check_against(path, weights, module.state_dict())
    _check_finite(path, weights)
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False), card


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _check_against(path: Path, weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Names, shapes and types as the module has them."""
    for words, names in (
        ("lacks", expected.keys() - weights.keys()),
        ("has the unknown", weights.keys() - expected.keys()),
    ):
        if names:
            raise ModelError(f"{path.name} {words} {', '.join(sorted(names)[:3])} ({len(names)} in all)")
    for name, tensor in expected.items():
        found = weights[name]
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise ModelError(
                f"{path.name}: {name} is {tuple(found.shape)} {found.dtype}, "
                f"its configuration wants {tuple(tensor.shape)} {tensor.dtype}"
            )


def _check_finite(path: Path, weights: dict[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path.name}: {name} holds NaN or infinity")
