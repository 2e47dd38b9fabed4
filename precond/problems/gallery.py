"""Test problems: the published two-phase benchmark, and families that it does not cover."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.spatial
import torch
from torch import Tensor

from precond.partition.morton import morton_order
from precond.poisson import Openings, PoissonOperator

TEST_SEED = 10_000  # test frame i draws from default_rng(10000 + i), training frame i from default_rng(i)
RIGHT_HAND_SIDE_SEED = 123
FAMILIES = ("barriers", "bubbles", "stripes", "mazes", "voronoi", "solids")
GAPS = ("top", "bottom", "middle_hole", "closed")


@dataclass(frozen=True)
class Split:
    """A set of the benchmark's frames: frame i draws from default_rng(seed + i), barriers' gaps from ``gaps``
    and the heavy density log-uniformly from ``contrast``.
    """

    seed: int
    gaps: tuple[str, ...] = GAPS
    contrast: tuple[float, float] = (5.0, 100.0)


SPLITS = {  # "train" and "test", and the generalisation study's four sets to train on and four to judge by
    "test": Split(TEST_SEED),
    "train": Split(0),
    "train-all": Split(1000),
    "train-open": Split(1100, GAPS[:3]),
    "train-low": Split(1200, contrast=(5.0, 50.0)),
    "train-open-low": Split(1300, GAPS[:3], (5.0, 50.0)),
    "eval-same": Split(12_000),
    "eval-closed": Split(12_100, GAPS[3:]),
    "eval-contrast": Split(12_200, contrast=(50.0, 200.0)),
    "eval-both": Split(12_300, GAPS[3:], (50.0, 200.0)),
}


@dataclass(frozen=True)
class Problem:
    """A x = b: density and b (nx, ny) float64, b of mean zero over sealed components, solid (nx, ny) bool, n
    fluid cells; the faces' mean density and openings are as in precond.poisson.
    """

    density: Tensor
    solid: Tensor
    b: Tensor
    n: int
    face_density: str = "harmonic"
    openings: Openings | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(nx, ny)."""
        return tuple(self.density.shape)

    def operator(self, device: torch.device | str = "cpu") -> PoissonOperator:
        """The operator of this problem."""
        return PoissonOperator.from_density(
            self.density, self.solid, device, self.face_density, self.openings
        )


def right_hand_side(n: int) -> np.ndarray:
    """The benchmark's, normal numbers of norm one, (n,)."""
    values = np.random.RandomState(RIGHT_HAND_SIDE_SEED).standard_normal(n)
    return values / np.linalg.norm(values)


def _problem(density: np.ndarray, solid: np.ndarray | None = None) -> Problem:
    """Add the benchmark's right-hand side, along the Morton curve over the fluid, projected; no solid unless
    given.
    """
    solid = np.zeros(density.shape, dtype=bool) if solid is None else solid
    order = morton_order(density.shape)
    kept = order[~solid.ravel()[order]]
    b = np.zeros(density.size)
    b[kept] = right_hand_side(len(kept))
    density, solid = torch.from_numpy(density.copy()), torch.from_numpy(solid)
    operator = PoissonOperator.from_density(density, solid)
    return Problem(density, solid, operator.project(torch.from_numpy(b).view(operator.shape)), len(kept))


def centres(shape: tuple[int, int]) -> np.ndarray:
    """x and y of the cells' centres on an (nx, ny) grid, (2, nx, ny), in cells."""
    return np.mgrid[: shape[0], : shape[1]] + 0.5


def _barrier(rng: np.random.Generator, shape: tuple[int, int], gaps: tuple[str, ...]) -> np.ndarray:
    """Cells of one random barrier, (nx, ny) bool."""
    axis = 0 if rng.choice(["vertical", "horizontal"]) == "vertical" else 1  # across the barrier
    centre = rng.uniform(0.2, 0.8)
    thickness = rng.uniform(0.05, 0.20)
    gap = rng.choice(gaps)
    places = np.mgrid[: shape[0], : shape[1]]
    across, along, size, length = places[axis], places[1 - axis], shape[axis], shape[1 - axis]
    inside = (across > size * (centre - thickness / 2)) & (across < size * (centre + thickness / 2))
    if gap == "top":
        inside &= along > 0.2 * length
    elif gap == "bottom":
        inside &= along < 0.8 * length
    elif gap == "middle_hole":
        inside &= (along < 0.4 * length) | (along > 0.6 * length)
    return inside


def barrier_density(
    shape: tuple[int, int], frame: int, split: str = "test", contrast: float | None = None
) -> np.ndarray:
    """Densities of the benchmark's frame ``frame`` on a full (nx, ny) grid, float64: one to three heavy
    barriers in a light fluid of density 1, five per cent of noise per cell.

    ``split`` is one of SPLITS. ``contrast`` replaces the drawn density of the barriers (5 to 100 in most
    splits) and leaves all else. Raises ValueError for another split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not '{split}'")
    drawn = SPLITS[split]
    rng = np.random.default_rng(frame + drawn.seed)
    heavy = math.exp(rng.uniform(*map(math.log, drawn.contrast)))
    density = np.ones(shape)
    for _ in range(rng.integers(1, 4)):
        density[_barrier(rng, shape, drawn.gaps)] = heavy if contrast is None else contrast
    return density * (1.0 + 0.05 * rng.standard_normal(shape[::-1]).T)


def orientations(n: int) -> int:
    """How many orientations `benchmark_density` has for ``n`` cells: 8 on a square grid, else 4."""
    width, height = square_shape(n)
    return 8 if width == height else 4


def benchmark_density(
    n: int, frame: int, split: str = "test", contrast: float | None = None, orientation: int = 0
) -> Problem:
    """Frame ``frame`` of the 2D multiphase benchmark of arXiv 2605.13343 with ``n`` cells, ``split`` one of
    SPLITS: `barrier_density` on a ceil(sqrt n) wide grid of which the first n cells along the Morton curve
    are kept; the dropped ones are solid.

    ``orientation`` below `orientations` mirrors the density along x (bit 1) and y (bit 2) and swaps x and y
    (bit 4): frames as likely as the frame itself. Raises ValueError for n < 64, another split or another
    orientation.
    """
    if n < 64:
        raise ValueError(f"the benchmark needs at least 64 cells, not {n}")
    if not 0 <= orientation < orientations(n):
        raise ValueError(f"orientation must be from 0 to {orientations(n) - 1}, not {orientation}")
    shape = square_shape(n)
    solid = np.zeros(shape, dtype=bool)
    solid.reshape(-1)[morton_order(shape)[n:]] = True
    density = barrier_density(shape, frame, split, contrast)
    density = np.flip(density, [axis for axis in (0, 1) if orientation >> axis & 1])
    return _problem(density.T if orientation & 4 else density, solid)


def bubbles(
    shape: tuple[int, int], contrast: float = 100.0, seed: int = 0, light_bubbles: bool | None = None
) -> Problem:
    """Six to twenty random discs of one phase in the other on an (nx, ny) grid, sharp interfaces, densities 1
    and ``contrast``; radii are 4 to 15 per cent of the shorter side. ``light_bubbles``: light discs in heavy
    fluid, or the reverse; by default even seeds have light ones.
    """
    rng = np.random.default_rng(seed)
    x, y = centres(shape)
    inside = np.zeros(shape, dtype=bool)
    for _ in range(rng.integers(6, 21)):
        centre_x, centre_y = rng.uniform(0, shape)
        radius = rng.uniform(0.04, 0.15) * min(shape)
        inside |= (x - centre_x) ** 2 + (y - centre_y) ** 2 < radius**2
    light = seed % 2 == 0 if light_bubbles is None else light_bubbles
    return _problem(np.where(inside == light, 1.0, contrast))


def layers(shape: tuple[int, int], contrast: float = 100.0, count: int = 4) -> Problem:
    """``count`` flat layers on an (nx, ny) grid, densities ``contrast`` (lowest layer) and 1 in turn."""
    nx, ny = shape
    heavy = (np.arange(ny) * count // ny) % 2 == 0
    return _problem(np.tile(np.where(heavy, contrast, 1.0), (nx, 1)))


def stripes(shape: tuple[int, int], contrast: float = 100.0, seed: int = 0) -> Problem:
    """Stripes of densities 1 and ``contrast``, one to three cells wide, along an axis or a diagonal of an
    (nx, ny) grid: structure that no coarser grid can show.
    """
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[: shape[0], : shape[1]]
    across = (i, j, i + j, i - j)[rng.integers(4)]
    width = rng.integers(1, 4)
    return _problem(np.where((across + rng.integers(width * 2)) // width % 2 == 0, 1.0, contrast))


def mazes(shape: tuple[int, int], contrast: float = 100.0, seed: int = 0) -> Problem:
    """A maze of corridors one to four cells wide between walls one cell thick, (nx, ny), in which heavy fluid
    of density ``contrast`` lies under light fluid of density 1; one way from any cell to any other.
    """
    rng = np.random.default_rng(seed)
    solid = maze_walls(shape, int(rng.integers(1, 5)), rng)
    density = np.ones(shape)
    density[:, : int(rng.uniform(0.2, 0.8) * shape[1])] = contrast
    return _problem(density, solid)


def maze_walls(shape: tuple[int, int], width: int, rng: np.random.Generator) -> np.ndarray:
    """Walls (nx, ny) bool of a maze with corridors ``width`` cells wide, by a randomised depth-first walk."""
    pitch = width + 1
    rooms = tuple(max(1, (cells - 1) // pitch) for cells in shape)
    solid = np.ones(shape, dtype=bool)
    entered = np.zeros(rooms, dtype=bool)
    path = [(0, 0)]
    entered[0, 0] = True
    solid[1:pitch, 1:pitch] = False
    while path:
        a, b = path[-1]
        ways = [(a + 1, b), (a - 1, b), (a, b + 1), (a, b - 1)]
        ways = [(c, d) for c, d in ways if 0 <= c < rooms[0] and 0 <= d < rooms[1] and not entered[c, d]]
        if not ways:
            path.pop()
            continue
        c, d = ways[rng.integers(len(ways))]
        entered[c, d] = True
        x, y = (slice(min(ends) * pitch + 1, max(ends) * pitch + pitch) for ends in ((a, c), (b, d)))
        solid[x, y] = False
        path.append((c, d))
    return solid


def voronoi(shape: tuple[int, int], contrast: float = 100.0, seed: int = 0) -> Problem:
    """Twenty to sixty Voronoi cells on an (nx, ny) grid, each of a density log-uniform in 1 to ``contrast``:
    many fluids instead of two. No network is trained on it.
    """
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.0, 1.0, (rng.integers(20, 61), 2)) * shape
    values = float(contrast) ** rng.uniform(0.0, 1.0, len(points))
    _, nearest = scipy.spatial.cKDTree(points).query(np.moveaxis(centres(shape), 0, -1))
    return _problem(values[nearest])


def solids(shape: tuple[int, int], contrast: float = 100.0, seed: int = 0) -> Problem:
    """`bubbles` of the same seed on an (nx, ny) grid, among one to three solid discs and bars."""
    solid = random_solids(shape, np.random.default_rng((seed, 1)))
    return _problem(bubbles(shape, contrast, seed).density.numpy(), solid)


def random_solids(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One to three discs and bars of solid, (nx, ny) bool, that leave one fluid component."""
    x, y = centres(shape)
    while True:
        solid = np.zeros(shape, dtype=bool)
        for _ in range(rng.integers(1, 4)):
            cx, cy = rng.uniform(0, shape)
            a, b = rng.uniform(0.03, 0.25, 2) * min(shape)
            bar = (np.abs(x - cx) < a) & (np.abs(y - cy) < b)
            solid |= bar if rng.random() < 0.5 else (x - cx) ** 2 + (y - cy) ** 2 < a**2
        if PoissonOperator.from_density(np.ones(shape), solid).components == 1:
            return solid


def problem(family: str, n: int, frame: int, split: str = "test", contrast: float | None = None) -> Problem:
    """Frame ``frame`` of one of FAMILIES with ``n`` cells: the benchmark's barriers, or another family on a
    square grid, which has contrast 100 unless told and the splits "test" and "train" alone. Raises ValueError
    for another family or split.
    """
    if family == "barriers":
        return benchmark_density(n, frame, split, contrast)
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not '{family}'")
    if split not in ("test", "train"):
        raise ValueError(f"split must be 'test' or 'train' for {family}, not '{split}'")
    make = {"bubbles": bubbles, "stripes": stripes, "mazes": mazes, "voronoi": voronoi, "solids": solids}
    contrast = 100.0 if contrast is None else contrast
    return make[family](square_shape(n), contrast, frame + SPLITS[split].seed)


def square_shape(n: int) -> tuple[int, int]:
    """The (nx, ny) of a grid as good as square with ``n`` cells, or up to one row more."""
    width = math.ceil(math.sqrt(n))
    return width, math.ceil(n / width)
