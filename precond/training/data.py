"""Systems to train on and systems to judge by: the benchmark's families at random sizes, contrasts and
solids.
"""

from __future__ import annotations

import numpy as np

from precond.poisson import FACE_DENSITIES, PoissonOperator
from precond.problems import gallery

SHAPES = ((32, 32), (46, 45), (64, 32), (64, 64), (48, 64), (96, 32), (61, 67), (64, 40))
SMALL_SHAPES = ((32, 32), (24, 40), (40, 24), (29, 35), (48, 16))
LARGE_SHAPES = ((91, 91), (128, 64), (64, 128), (128, 128))
FAMILIES = ("barriers", "bubbles", "layers", "stirred", "stripes", "mazes")
WORST = ("bubbles", "stripes", "mazes")  # the families that take most iterations, at contrasts from 1,000


def random_system(seed: int, index: int) -> PoissonOperator:
    """System ``index`` of a set: N from 1,024 to 4,096, contrast 1 to 10,000 in both senses, one in four with
    solids.

    Both face densities occur: the benchmark's and the simulator's. The operator has one fluid component.
    """
    return _system(np.random.default_rng((seed, index)), SHAPES)


def small_system(seed: int, index: int, worst: float = 0.0) -> PoissonOperator:
    """As `random_system`, of 768 to 1,024 cells: for what is learned leaf by leaf. A share ``worst`` of them
    is of WORST at contrasts from 1,000 to 10,000.
    """
    hard = np.random.default_rng((seed, index, 3)).random() < worst
    drawn = (WORST, 3.0) if hard else (FAMILIES, 0.0)
    return _system(np.random.default_rng((seed, index, 2)), SMALL_SHAPES, *drawn)


def _system(
    rng: np.random.Generator,
    shapes: tuple[tuple[int, int], ...],
    families: tuple[str, ...] = FAMILIES,
    decades: float = 0.0,
) -> PoissonOperator:
    """At contrasts from 10^``decades`` to 10,000."""
    shape = shapes[rng.integers(len(shapes))]
    contrast = float(10.0 ** rng.uniform(decades, 4.0))
    family = families[rng.integers(len(families))]
    density = _density(family, shape, contrast, rng)
    if rng.random() < 0.25:
        density = contrast / density  # light in heavy for heavy in light
    if family == "mazes":
        solid = gallery.maze_walls(shape, int(rng.integers(1, 5)), rng)
    else:
        solid = gallery.random_solids(shape, rng) if rng.random() < 0.25 else np.zeros(shape, dtype=bool)
    face_density = FACE_DENSITIES[rng.integers(len(FACE_DENSITIES))]
    return PoissonOperator.from_density(density, solid, face_density=face_density)


def large_system(seed: int, index: int) -> PoissonOperator:
    """As `random_system`, of 8,192 to 16,384 cells, without mazes and solids."""
    rng = np.random.default_rng((seed, index, 1))
    shape = LARGE_SHAPES[index % len(LARGE_SHAPES)]
    contrast = float(10.0 ** rng.uniform(0.0, 4.0))
    density = _density(FAMILIES[rng.integers(len(FAMILIES) - 1)], shape, contrast, rng)
    if rng.random() < 0.25:
        density = contrast / density
    return PoissonOperator.from_density(density, face_density=FACE_DENSITIES[rng.integers(2)])


def mixed_systems(seed: int, count: int, large: int) -> list[PoissonOperator]:
    """The first ``count`` of `random_system` and ``large`` of `large_system`."""
    small = [random_system(seed, index) for index in range(count)]
    return small + [large_system(seed, index) for index in range(large)]


def _density(family: str, shape: tuple[int, int], contrast: float, rng: np.random.Generator) -> np.ndarray:
    frame = int(rng.integers(100))
    if family == "barriers":
        return np.clip(gallery.barrier_density(shape, frame, "train", contrast), 0.5, None)
    if family in ("bubbles", "stripes"):
        make = gallery.bubbles if family == "bubbles" else gallery.stripes
        return make(shape, contrast, seed=int(rng.integers(1 << 30))).density.numpy()
    phase = _stirred(shape, rng) if family == "stirred" else _wavy_layers(shape, rng)
    return 1.0 + (contrast - 1.0) * phase


def _wavy_layers(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Phase fraction of one to four layers with sloping, waving interfaces."""
    x, y = gallery.centres(shape) / np.reshape(shape, (2, 1, 1))
    wave = rng.uniform(0.0, 0.1) * np.cos(2.0 * np.pi * (rng.integers(1, 5) * x + rng.random()))
    height = y + rng.uniform(-0.5, 0.5) * x + wave
    count = rng.integers(1, 5)
    return np.clip((np.cos(np.pi * count * height) * shape[1] / (np.pi * count)) + 0.5, 0.0, 1.0)


def _stirred(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Phase fraction of an interface wound up by a few vortices."""
    x, y = gallery.centres(shape)
    for _ in range(rng.integers(2, 7)):
        cx, cy = rng.uniform(0, shape)
        radius = rng.uniform(0.1, 0.35) * min(shape)
        turn = rng.normal(0.0, 3.0) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / radius**2)
        dx, dy = x - cx, y - cy
        x, y = cx + dx * np.cos(turn) - dy * np.sin(turn), cy + dx * np.sin(turn) + dy * np.cos(turn)
    across, length = (y, shape[1]) if rng.random() < 0.5 else (x, shape[0])
    return np.clip(across - rng.uniform(0.2, 0.8) * length + 0.5, 0.0, 1.0)


def stirred(shape: tuple[int, int], contrast: float, seed: int) -> gallery.Problem:
    """In place of frames of the simulator: an interface wound up by vortices on an (nx, ny) grid, densities 1
    and ``contrast``. Training draws from pairs of numbers, tests from gallery.TEST_SEED on.
    """
    return gallery._problem(1.0 + (contrast - 1.0) * _stirred(shape, np.random.default_rng(seed)))


def held_out() -> list[gallery.Problem]:
    """Eight problems from other seeds than training's: barriers at two sizes, bubbles at contrast 100 and
    10,000, stripes and a maze. Stripes are few: there only the contrast is new.
    """
    light, heavy = ([gallery.bubbles((64, 64), c, seed) for seed in (10_001, 10_002)] for c in (100.0, 1e4))
    barriers = [gallery.benchmark_density(1024, 0), gallery.benchmark_density(4096, 1)]
    return barriers + light + heavy + [gallery.problem(name, 4096, 1) for name in ("stripes", "mazes")]


def unseen_families() -> dict[str, list[gallery.Problem]]:
    """One problem each of families that no training has: many fluids at once, at two contrasts."""
    contrasts = (100.0, 10_000.0)
    return {f"voronoi {c:.0f}": [gallery.problem("voronoi", 4096, 0, contrast=c)] for c in contrasts}
