"""The one list of preconditioner names; the command line, viewer, benchmark and tests enumerate it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import typing
from collections.abc import Callable
from dataclasses import dataclass

from precond.learned import MODELS
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, PreconditionerError


@dataclass(frozen=True)
class Entry:
    """Where a preconditioner lives (``module:Class`` in precond), one line on it, the package that it needs
    and how to get it, the file names of its weights, whether it chooses among others, and whether it
    divides the cells into leaves.
    """

    location: str
    description: str
    needs: str = ""
    remedy: str = ""
    model: str = ""
    chooses: bool = False
    leaves: bool = False


_ENTRIES = {
    "none": Entry("classical.diagonal:Identity", "plain conjugate gradients"),
    "jacobi": Entry("classical.diagonal:Jacobi", "divides by the diagonal"),
    "ic0": Entry(
        "classical.libraries:IncompleteCholesky",
        "incomplete Cholesky factors without fill-in, CPU only",
        "ilupp",
        "pip install 'htp-fluid[ic0]' (built from source: wants a C++ compiler)",
    ),
    "multigrid": Entry(
        "classical.multigrid.cycle:Multigrid", "black box multigrid: corrects on ever coarser grids"
    ),
    "auto": Entry(
        "auto:Auto",
        "whichever of multigrid and coarse-iterated is the cheapest lately, CPU only",
        chooses=True,
    ),
    "block-jacobi": Entry("two_level.block_jacobi:BlockJacobi", "inverts small blocks of cells"),
    "coarse-monomial": Entry(
        "two_level.preconditioner:CoarseMonomial",
        "blocks, and a small system of polynomials in them",
        leaves=True,
    ),
    "coarse-iterated": Entry(
        "multilevel.preconditioner:coarse_iterated",
        "blocks in blocks, each with as many eigenvectors as it needs",
        leaves=True,
    ),
    "coarse-geneo": Entry(
        "two_level.preconditioner:CoarseGenEO",
        "blocks, and a small system of their eigenvectors (GenEO)",
        leaves=True,
    ),
    "coarse-learned": Entry(
        "learned.coarse_learned:coarse_learned",
        "as coarse-iterated, a network predicts the smallest blocks' vectors",
        model="coarse-learned.safetensors",
        leaves=True,
    ),
    "hmatrix": Entry(
        "learned.hmatrix:hmatrix",
        "hierarchical inverse of arXiv 2605.13343, made definite, a network predicts its spans",
        model="hmatrix.safetensors",
        leaves=True,
    ),
    "neural-spai": Entry(
        "learned.neural_spai:NeuralSpai",
        "sparse inverse of arXiv 2510.27517, predicted by a network",
        model="neural-spai.safetensors",
    ),
    "amg": Entry(
        "classical.amg:AlgebraicMultigrid",
        "multigrid from the matrix alone (pyamg), CPU only",
        "pyamg",
        "pip install 'htp-fluid[bench]'",
    ),
    "direct": Entry("classical.libraries:Direct", "factorises the matrix, does not iterate, CPU only"),
}


def _missing(entry: Entry) -> str:
    """Why the entry cannot run here, empty when it can."""
    if entry.needs and importlib.util.find_spec(entry.needs) is None:
        return f"needs {entry.needs}: {entry.remedy}"
    if entry.model and not any(MODELS.glob(entry.model)):
        path = f"assets/models/{entry.model.removesuffix('.safetensors')}"
        return f"needs the weights {path}.safetensors: `htp-fluid train {path}.yaml --out {path}` makes them"
    return ""


def descriptions() -> dict[str, str]:
    """Every name with its one-line description, the same on every machine."""
    return {name: entry.description for name, entry in _ENTRIES.items()}


def registered_preconditioners() -> dict[str, str]:
    """Every name with its one-line description, which says why when it cannot run here."""
    reasons = {name: _missing(entry) for name, entry in _ENTRIES.items()}
    return {
        name: description + (f" (unavailable: {reasons[name]})" if reasons[name] else "")
        for name, description in descriptions().items()
    }


def available_preconditioners(choosing: bool = True) -> list[str]:
    """The names that can run here, simplest first; not ``choosing``: without those that choose among others,
    which one solve alone tells nothing of.
    """
    return [
        name for name, entry in _ENTRIES.items() if not _missing(entry) and (choosing or not entry.chooses)
    ]


def with_leaves() -> list[str]:
    """The names that can run here and divide the cells into leaves, simplest first."""
    return [name for name in available_preconditioners() if _ENTRIES[name].leaves]


def is_learned(name: str) -> bool:
    """Whether ``name``, with or without options, is a preconditioner that asks a trained network."""
    name, *options = name.split(":")
    return name in _ENTRIES and bool(_ENTRIES[name].model) and "network=false" not in options


def _option(text: str) -> tuple[str, object]:
    """Name and value of an option "name=value", a number, true or false if it can be. Raises ValueError."""
    name, is_given, value = text.partition("=")
    if not is_given:
        raise ValueError(f"'{text}' is no option name=value")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _options_of(made: Callable[..., Preconditioner]) -> list[str]:
    """The options of a class, or of a function and the classes that it says it returns."""
    forms, names = [made], {}
    if not isinstance(made, type):
        returned = typing.get_type_hints(made)["return"]
        forms += typing.get_args(returned) or [returned]
    for form in forms:
        kinds = form.__mro__ if isinstance(form, type) else []
        for maker in [vars(kind)["__init__"] for kind in kinds if "__init__" in vars(kind)] or [form]:
            parameters = inspect.signature(maker).parameters.values()
            names |= {one.name: None for one in parameters if one.default is not one.empty}
            if all(one.kind is not one.VAR_KEYWORD for one in parameters):
                break
    return list(names)


def make_preconditioner(name: str, operator: PoissonOperator, **options: object) -> Preconditioner:
    """The preconditioner called ``name`` for ``operator``, not yet set up; ``options`` go to its constructor.

    They may stand in the name too, where there is room for a name alone: "block-jacobi:leaf_size=64".

    Raises PreconditionerError for an unknown name, one whose package is missing, or options it does not have,
    and for what is no name or no operator.
    """
    if not isinstance(name, str):
        raise PreconditionerError(f"a preconditioner's name must be a text, not {name!r}")
    if not isinstance(operator, PoissonOperator):
        raise PreconditionerError(
            f"preconditioner '{name}': operator must be a PoissonOperator, not {operator!r}"
        )
    name, *written = name.split(":")
    entry = _ENTRIES.get(name)
    if entry is None:
        raise PreconditionerError(
            f"unknown preconditioner '{name}'; choose one of {', '.join(available_preconditioners())}"
        )
    reason = _missing(entry)
    if reason:
        raise PreconditionerError(f"preconditioner '{name}' {reason}")
    module, attribute = entry.location.split(":")
    try:
        options = {**dict(map(_option, written)), **options}
        made = getattr(importlib.import_module(f"precond.{module}"), attribute)
        known = _options_of(made) if options else []
        for option in options:
            if option not in known:
                allowed = f"allowed: {', '.join(known)}" if known else "it takes no options"
                raise PreconditionerError(f"preconditioner '{name}': {option}: unknown; {allowed}")
        return made(operator, **options)
    except PreconditionerError:
        raise
    except (TypeError, ValueError) as error:
        raise PreconditionerError(f"preconditioner '{name}': {error}") from error
