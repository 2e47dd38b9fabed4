"""What the benchmark is asked for, and the cases that follow from it.

Nothing heavy is imported here, so that `--help` and a mistyped option answer at once; the names that
precond.problems.gallery, precond.problems.published and app.bench.external also know are held to theirs by
tests.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from precond.config import Number, Settings, Switch, Text, Whole
from sim.settings import MAX_CONTRAST, MIN_CELLS

MAX_BENCH_CELLS = 1 << 22
WELL_POSED, PUBLISHED = CONDITIONS = ("well-posed", "published")
STIRRED = "stirred"  # frames of the simulator: app.bench.stirred
PHYSICS = "physics"  # frames of known flows: app.bench.known_flows
FAMILIES = ("barriers", "bubbles", "stripes", "mazes", "voronoi", "solids", STIRRED, PHYSICS)
OWN_CONTRAST = ("barriers", PHYSICS)  # families whose frames have their own
DEFAULT_CONTRAST = 100.0  # of the others
EVALUATION_SPLITS = ("eval-same", "eval-closed", "eval-contrast", "eval-both")
SPLITS = ("test", "train", "train-all", "train-open", "train-low", "train-open-low", *EVALUATION_SPLITS)
PUBLISHED_SIZES = (1024, 2048, 4096, 8192)
EVALUATION_SIZE = 4096  # cells of the published generalisation study
PUBLISHED_PRECONDITIONERS = ("none", "jacobi")
EXTERNAL = "external:"  # begins the name of another library's solver
EXTERNAL_SOLVERS = tuple(
    EXTERNAL + name
    for name in ("pyamg-rs", "pyamg-sa", "ilupp-ic0", "superlu", "cholmod", "amgx-amg", "amgx-dilu")
)


@dataclass(frozen=True)
class Case:
    """Problems alike in everything but the frame. ``contrast`` None: each frame draws its own."""

    family: str
    split: str
    conditions: str
    contrast: float | None
    rtol: float
    cells: int


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else [value]


def _once(values: tuple) -> tuple:
    return tuple(dict.fromkeys(values))


def _full_names(value: Any) -> Any:
    """External solvers by their full names; "all" is every one."""
    names = _listed(value)
    if "all" in names:
        return EXTERNAL_SOLVERS
    short = [name.removeprefix(EXTERNAL) for name in EXTERNAL_SOLVERS]
    for name in names:
        if name not in (*short, *EXTERNAL_SOLVERS):
            raise ValueError(f"{name!r} is not one of all, {', '.join(short)}")
    return [EXTERNAL + name if name in short else name for name in names]


Item = TypeVar("Item")
Several = Annotated[tuple[Item, ...], BeforeValidator(_listed), AfterValidator(_once)]  # one value or a list
Cells = Annotated[Whole, Field(ge=MIN_CELLS * MIN_CELLS, le=MAX_BENCH_CELLS)]
Contrast = Annotated[Number, Field(ge=1.0, le=MAX_CONTRAST)]
Tolerance = Annotated[Number, Field(ge=1e-14, le=0.5)]


class BenchSettings(Settings):
    """What `bench` needs. Values that exclude one another are refused."""

    conditions: Literal[CONDITIONS] = Field(
        WELL_POSED,
        description="well-posed, or published: matrix rounded, b not projected, residual tested as published",
    )
    sizes: Several[Cells] = Field(
        (1024, 2048, 4096, 8192, 16384), min_length=1, description="numbers of cells, like 1024 4096"
    )
    family: Literal[FAMILIES] = Field("barriers", description=f"problems to solve: {', '.join(FAMILIES)}")
    split: Several[Literal[SPLITS]] = Field((), description=f"sets of barriers: {', '.join(SPLITS)}")
    preconds: Several[Text] = Field((), description="preconditioners to compare (default: all available)")
    external: Annotated[Several[Literal[EXTERNAL_SOLVERS]], BeforeValidator(_full_names)] = Field(
        (),
        description="solvers of other libraries to compare: all, or some of "
        + ", ".join(name.removeprefix(EXTERNAL) for name in EXTERNAL_SOLVERS),
    )
    frames: Whole = Field(20, ge=1, le=10**9, description="benchmark problems at each size")
    rtol: Several[Tolerance] = Field(
        (1e-8,), min_length=1, description="relative residuals at which a solve stops, like 1e-8"
    )
    contrast: Several[Contrast] = Field(
        (),
        description=f"density contrasts, 1 to {MAX_CONTRAST:g} (default: barriers draw 5 to 100, others have "
        f"{DEFAULT_CONTRAST:g}; {PHYSICS} has its own alone)",
    )
    max_iterations: Whole = Field(
        10_000, ge=1, le=1_000_000, description="iterations after which a solve counts as failed"
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="where to compute")
    single_launch: Switch = Field(
        False, description="on cuda: one graph launch for all of a solve (wants the extra `cuda`)"
    )
    seed: Whole = Field(
        0, ge=0, le=2**31 - 1, description="start of the random order in which the methods take turns"
    )
    out: Text | None = Field(
        None,
        description="directory of bench.csv and bench.yaml (default: a numbered one under runs/); goes on "
        "where it stopped",
    )

    @model_validator(mode="before")
    @classmethod
    def _published_sizes(cls, values: Any) -> Any:
        published = isinstance(values, dict) and values.get("conditions") == PUBLISHED
        return {"sizes": PUBLISHED_SIZES, **values} if published else values

    @model_validator(mode="after")
    def _fit_together(self) -> BenchSettings:
        others = [split for split in self.split if split not in ("test", "train")]
        if others and self.family != "barriers":
            raise ValueError(f"split: {others[0]} is one of barriers, not of {self.family}")
        if self.conditions == PUBLISHED:
            self._check_published()
        if self.family in (STIRRED, PHYSICS) and self.split not in ((), ("test",)):
            raise ValueError(
                f"split: {self.split[0]}: {self.family} frames are the simulator's, all of them test"
            )
        if self.family == PHYSICS and self.contrast:
            raise ValueError(f"contrast: the flows of {PHYSICS} have their own; leave out --contrast")
        if self.external and self.device != "cpu":
            raise ValueError("external: they are compared on the CPU; leave out --device")
        if self.single_launch and self.device == "cpu":
            raise ValueError("single_launch: there are no launches on a CPU; add --device cuda")
        return self

    def _check_published(self) -> None:
        alone = f"published conditions have {' and '.join(PUBLISHED_PRECONDITIONERS)} alone"
        for name in self.preconds:
            if name not in PUBLISHED_PRECONDITIONERS:
                raise ValueError(f"preconds: {name}: {alone}")
        for name, allowed in (("family", "barriers"), ("external", ()), ("device", "cpu")):
            if getattr(self, name) != allowed:
                raise ValueError(
                    f"{name}: published conditions have {allowed or 'none'} alone; leave out --{name}"
                )

    def cases(self) -> list[Case]:
        """In the order in which they are run."""
        splits = [(split, self.sizes) for split in self.split or ("test",)]
        if self.conditions == PUBLISHED and not self.split and EVALUATION_SIZE in self.sizes:
            splits += [(split, (EVALUATION_SIZE,)) for split in EVALUATION_SPLITS]
        own = None if self.family in OWN_CONTRAST else DEFAULT_CONTRAST
        return [
            Case(self.family, split, self.conditions, contrast, rtol, cells)
            for split, sizes in splits
            for contrast, rtol, cells in itertools.product(self.contrast or (own,), self.rtol, sizes)
        ]
