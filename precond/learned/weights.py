"""Weights on disk: a safetensors file and, beside it, a YAML model card with the same name.

The card says what builds the module and how the weights came about; it carries the file's checksum, so damage
shows. Nothing is ever unpickled. A preconditioner trained once per N has NAME-N.safetensors for each, and may
have NAME-all.safetensors, trained at several N together.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from precond.errors import in_one_line
from precond.learned import MODELS
from precond.poisson import PoissonOperator
from precond.preconditioner import PreconditionerError


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
    write_whole(path, data)
    write_whole(path.with_suffix(".yaml"), text.encode())


def write_whole(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``; never half a file under the real name. Raises OSError."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


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
    path = Path(path)
    card_path = path.with_suffix(".yaml")
    try:
        with card_path.open(encoding="utf-8") as file:
            card = yaml.safe_load(file)
    except FileNotFoundError:
        raise ModelError(f"{path}: its model card {card_path.name} is missing") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(
            f"{path}: its model card {card_path.name} cannot be read: {in_one_line(error)}"
        ) from error
    if not isinstance(card, dict):
        raise ModelError(f"{path}: its model card {card_path.name} holds no names and values")
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
        raise ModelError(
            f"{path}: its configuration builds no model: {type(error).__name__}: {in_one_line(error)}"
        ) from error
    _check_against(path, weights, module.state_dict())
    _check_finite(path, weights)
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False), card


def model_sizes(name: str) -> dict[int, Path]:
    """The N of every shipped model ``name``-N.safetensors, with its file."""
    found = {
        path.stem.removeprefix(f"{name}-"): path for path in sorted(MODELS.glob(f"{name}-*.safetensors"))
    }
    return {int(size): path for size, path in found.items() if size.isdigit()}


def model_for(name: str, cells: int) -> Path:
    """The weights of ``name`` for a grid of ``cells``, whatever is solid in it: those trained at that N, else
    those trained at several N together, else those of the nearest N, by its logarithm.

    A grid is at N too when it is the square one of which the benchmark keeps N cells. Raises ModelError when
    there are no weights.
    """
    sizes, together = model_sizes(name), MODELS / f"{name}-all.safetensors"
    nearest = min(sizes, key=lambda size: abs(math.log(size / cells)), default=None)
    width = math.isqrt(nearest - 1) + 1 if nearest else 1
    own = nearest is not None and cells in (nearest, width * math.ceil(nearest / width))
    if not own and together.is_file():
        return together
    if nearest is None:
        raise ModelError(f"there is no model file {name}-*.safetensors in {MODELS}")
    return sizes[nearest]


def load_for(
    name: str,
    operator: PoissonOperator,
    build: Callable[[dict], nn.Module],
    weights: Path | str | None = None,
) -> tuple[nn.Module, int | list[int], str]:
    """`load_model` of ``weights``, by default of those that `model_for` finds for the operator's grid; the N
    that they were trained at, from their card; and the note *transferred* when that is one N, and not the
    number of cells that are fluid now. Raises ModelError.
    """
    path = model_for(name, operator.solid.numel()) if weights is None else Path(weights)
    module, card = load_model(path, build)
    trained_at, n = _trained_at(path, card), int((~operator.solid).sum())
    own = isinstance(trained_at, list) or trained_at == n
    return module, trained_at, "" if own else f"transferred: trained at N = {trained_at}, runs at N = {n}"


def _trained_at(path: Path, card: dict) -> int | list[int]:
    training = card.get("training")
    n = training.get("n") if isinstance(training, dict) else None
    sizes = n if isinstance(n, list) else [n]
    if not sizes or not all(isinstance(size, int) for size in sizes):
        raise ModelError(f"{path}: its model card gives no whole number as `n` of `training`")
    return n


def _check_against(path: Path, weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Names, shapes and types as the module has them."""
    for words, names in (
        ("lacks", expected.keys() - weights.keys()),
        ("has the unknown", weights.keys() - expected.keys()),
    ):
        if names:
            raise ModelError(f"{path} {words} {', '.join(sorted(names)[:3])} ({len(names)} in all)")
    for name, tensor in expected.items():
        found = weights[name]
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise ModelError(
                f"{path}: {name} is {tuple(found.shape)} {found.dtype}, "
                f"its configuration wants {tuple(tensor.shape)} {tensor.dtype}"
            )


def _check_finite(path: Path, weights: dict[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds NaN or infinity")
