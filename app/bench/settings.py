"""What the benchmark is asked for, and the cases that follow from it.

Nothing heavy is imported here, so that `--help` and a mistyped option answer at once; the names that
precond.problems.gallery, precond.problems.published and app.bench.external also know are held to theirs by
tests.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

from app.config.options import Option, frames, number, one_of, switch, text, whole
from sim.settings import MAX_CONTRAST, MIN_CELLS, SettingsError

MAX_BENCH_CELLS = 1 << 22
WELL_POSED, PUBLISHED = CONDITIONS = ("well-posed", "published")
STIRRED = "stirred"  # frames of the simulator: app.bench.stirred
FAMILIES = ("barriers", "bubbles", "stripes", "mazes", "voronoi", "solids", STIRRED)
DEFAULT_CONTRAST = 100.0  # of all families but barriers, whose frames draw their own
EVALUATION_SPLITS = ("eval-same", "eval-closed", "eval-contrast", "eval-both")
SPLITS = ("test", "train", "train-all", "train-open", "train-low", "train-open-low", *EVALUATION_SPLITS)
PUBLISHED_SIZES = (1024, 2048, 4096, 8192)
EVALUATION_SIZE = 4096  # cells of the published generalisation study
PUBLISHED_PRECONDITIONERS = ("none", "jacobi")
PEERS = (
    "peer:pyamg-rs",
    "peer:pyamg-sa",
    "peer:ilupp-ic0",
    "peer:superlu",
    "peer:cholmod",
    "peer:amgx-amg",
    "peer:amgx-dilu",
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


@dataclass
class BenchSettings:
    """What `bench` needs. Made by `of`, which checks what depends on one another."""

    conditions: str = WELL_POSED
    sizes: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384)  # cells; published: PUBLISHED_SIZES
    family: str = "barriers"
    split: tuple[str, ...] = ()  # empty: "test", and where the conditions are published the evaluation too
    preconds: tuple[str, ...] = ()  # empty: all available
    peers: tuple[str, ...] = ()
    frames: int = 20
    rtol: tuple[float, ...] = (1e-8,)
    contrast: tuple[float, ...] = ()  # empty: DEFAULT_CONTRAST, barriers draw 5 to 100
    max_iterations: int = 10_000
    device: str = "cpu"
    single_launch: bool = False
    seed: int = 0
    out: str | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> BenchSettings:
        """From the options ``given``. Raises SettingsError for options that exclude one another."""
        settings = cls(**given)
        if "all" in settings.peers:
            settings.peers = PEERS
        others = [split for split in settings.split if split not in ("test", "train")]
        if others and settings.family != "barriers":
            raise SettingsError(f"split: {others[0]} is one of barriers, not of {settings.family}")
        if settings.conditions == PUBLISHED:
            if "sizes" not in given:
                settings.sizes = PUBLISHED_SIZES
            settings._check_published()
        if settings.family == STIRRED and settings.split not in ((), ("test",)):
            raise SettingsError(
                f"split: {settings.split[0]}: stirred frames are the simulator's, all of them test"
            )
        if settings.peers and settings.device != "cpu":
            raise SettingsError("peers: they are compared on the CPU; leave out --device")
        if settings.single_launch and settings.device == "cpu":
            raise SettingsError("single_launch: there are no launches on a CPU; add --device cuda")
        return settings

    def _check_published(self) -> None:
        wrong = [name for name in self.preconds if name not in PUBLISHED_PRECONDITIONERS]
        if wrong:
            raise SettingsError(
                f"preconds: {wrong[0]}: published conditions have "
                f"{' and '.join(PUBLISHED_PRECONDITIONERS)} alone"
            )
        for name, allowed in (("family", "barriers"), ("peers", ()), ("device", "cpu")):
            if getattr(self, name) != allowed:
                raise SettingsError(
                    f"{name}: published conditions have {allowed or 'none'} alone; leave out --{name}"
                )

    def cases(self) -> list[Case]:
        """In the order in which they are run."""
        splits = [(split, self.sizes) for split in self.split or ("test",)]
        if self.conditions == PUBLISHED and not self.split and EVALUATION_SIZE in self.sizes:
            splits += [(split, (EVALUATION_SIZE,)) for split in EVALUATION_SPLITS]
        own = None if self.family == "barriers" else DEFAULT_CONTRAST
        return [
            Case(self.family, split, self.conditions, contrast, rtol, cells)
            for split, sizes in splits
            for contrast, rtol, cells in itertools.product(self.contrast or (own,), self.rtol, sizes)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the option names."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


def _size(value: Any) -> int:
    return whole(value, MIN_CELLS * MIN_CELLS, MAX_BENCH_CELLS)


def _peer(value: Any) -> str:
    name = value if value == "all" or str(value).startswith("peer:") else f"peer:{value}"
    return one_of(("all", *PEERS))(name)


SINGLE_LAUNCH = Option(
    "single_launch", switch, "", "on cuda: one graph launch for all of a solve (wants the extra `cuda`)"
)
BENCH_OPTIONS = [
    Option(
        "conditions",
        one_of(CONDITIONS),
        "NAME",
        "well-posed, or published: matrix rounded, b not projected, residual tested as published",
    ),
    Option("sizes", _size, "CELLS", "numbers of cells, like 1024 4096", several=True),
    Option("family", one_of(FAMILIES), "NAME", f"problems to solve: {', '.join(FAMILIES)}"),
    Option("split", one_of(SPLITS), "NAME", f"sets of barriers: {', '.join(SPLITS)}", several=True),
    Option("preconds", text, "NAME", "preconditioners to compare (default: all available)", several=True),
    Option(
        "peers",
        _peer,
        "NAME",
        "solvers of other libraries to compare: all, or some of "
        + ", ".join(name.removeprefix("peer:") for name in PEERS),
        several=True,
    ),
    Option("frames", frames, "COUNT", "benchmark problems at each size"),
    Option("rtol", number, "NUMBER", "relative residuals at which a solve stops, like 1e-8", several=True),
    Option(
        "contrast",
        number,
        "RATIO",
        f"density contrasts, 1 to {MAX_CONTRAST:g} (default: barriers draw 5 to 100, others have 100)",
        several=True,
    ),
    Option("max_iterations", whole, "COUNT", "iterations after which a solve counts as failed"),
    Option("device", text, "cpu|cuda", "where to compute"),
    SINGLE_LAUNCH,
    Option("seed", whole, "NUMBER", "start of the random order in which the preconditioners take turns"),
    Option(
        "out",
        text,
        "DIR",
        "directory of bench.json (default: a numbered one under runs/); goes on where it stopped",
    ),
]
