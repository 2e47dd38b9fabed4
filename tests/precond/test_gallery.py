"""The benchmark is the published one: shapes, draws, and the iteration counts that reproduce."""

import numpy as np
import pytest
import torch

from precond import PCG, make_preconditioner
from precond.partition.morton import leaves, morton_order
from precond.problems import gallery
from precond.problems.gallery import benchmark_density, bubbles, layers


def mean_iterations(name: str, n: int) -> float:
    counts = []
    for frame in range(20):
        problem = benchmark_density(n, frame)
        operator = problem.operator()
        preconditioner = make_preconditioner(name, operator)
        preconditioner.setup()
        report = PCG(operator, preconditioner, rtol=1e-8).solve(problem.b)
        assert report.converged
        counts.append(report.iterations)
    return sum(counts) / len(counts)


@pytest.mark.parametrize(("n", "published"), [(1024, 184), (2048, 260), (4096, 375), (8192, 530)])
def test_jacobi_iterations_reproduce(n, published):
    assert mean_iterations("jacobi", n) == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize(("n", "published"), [(1024, 248), (2048, 360), (4096, 519), (8192, 745)])
def test_unpreconditioned_iterations_reproduce(n, published):
    assert mean_iterations("none", n) == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize(("n", "shape"), [(1024, (32, 32)), (2048, (46, 45)), (8192, (91, 91))])
def test_grids_are_truncated_along_the_curve(n, shape):
    problem = benchmark_density(n, 3)
    assert problem.shape == shape
    assert problem.n == n == int((~problem.solid).sum())
    order = morton_order(shape)
    assert not problem.solid.view(-1)[order[:n]].any()
    assert problem.solid.view(-1)[order[n:]].all()
    assert not problem.b[problem.solid].any()
    raw = np.random.RandomState(123).standard_normal(n)
    np.testing.assert_allclose(
        problem.b.view(-1)[order[:n]], (raw - raw.mean()) / np.linalg.norm(raw), atol=1e-12
    )


def test_frames_differ_by_seed_and_repeat():
    frames = [benchmark_density(1024, *key).density for key in ((0,), (0,), (1,), (0, "train"))]
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])
    assert not torch.equal(frames[0], frames[3])


def test_contrast_changes_the_barriers_alone():
    drawn, scaled = benchmark_density(4096, 2), benchmark_density(4096, 2, contrast=10_000.0)
    ratio = scaled.density / drawn.density
    heavy = ratio > 1.5
    assert 0.01 < heavy.double().mean() < 0.9
    torch.testing.assert_close(ratio[~heavy], torch.ones_like(ratio[~heavy]))
    torch.testing.assert_close(ratio[heavy], ratio[heavy][:1].expand_as(ratio[heavy]))
    assert scaled.density[heavy].mean() == pytest.approx(10_000, rel=0.02)


@pytest.mark.parametrize(("n", "count"), [(1024, 8), (2048, 4)])
def test_orientations_are_the_symmetries_of_the_grid(n, count):
    assert gallery.orientations(n) == count
    frames = [benchmark_density(n, 3, orientation=k) for k in range(count)]
    x, y = frames[0].shape
    values = frames[0].density.flatten().sort().values
    assert all(torch.equal(frame.density.flatten().sort().values, values) for frame in frames)
    assert len({frame.density.numpy().tobytes() for frame in frames}) == count
    assert torch.equal(frames[1].density[0], frames[0].density[x - 1])
    assert torch.equal(frames[2].density[:, 0], frames[0].density[:, y - 1])
    assert all(torch.equal(frame.solid, frames[0].solid) for frame in frames)
    with pytest.raises(ValueError, match=f"from 0 to {count - 1}"):
        benchmark_density(n, 3, orientation=count)


def test_the_curve_visits_quadrants_in_turn():
    order = morton_order((4, 4))
    assert [tuple(divmod(int(k), 4)) for k in order[:8]] == [
        (0, 0),
        (1, 0),
        (0, 1),
        (1, 1),
        (2, 0),
        (3, 0),
        (2, 1),
        (3, 1),
    ]
    for shape in ((7, 5), (16, 3)):
        assert sorted(morton_order(shape)) == list(range(shape[0] * shape[1]))


def test_leaves_are_runs_of_the_curve_with_padding_at_the_end():
    cells = leaves((9, 7), 10)
    assert cells.shape == (7, 10)
    np.testing.assert_array_equal(cells.ravel()[:63], morton_order((9, 7)))
    assert (cells.ravel()[63:] == 63).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_bubbles_of_either_phase(seed):
    density = bubbles((64, 48), contrast=300.0, seed=seed).density
    assert set(density.unique().tolist()) == {1.0, 300.0}
    in_bubbles = 1.0 if seed % 2 == 0 else 300.0
    assert 0.02 < (density == in_bubbles).double().mean() < 0.6
    assert torch.equal(density, bubbles((64, 48), 300.0, seed, light_bubbles=seed % 2 == 0).density)
    assert not torch.equal(density, bubbles((64, 48), 300.0, seed, light_bubbles=seed % 2 == 1).density)


def test_layers_lie_flat():
    density = layers((20, 16), contrast=5.0, count=4).density
    assert density[0].tolist() == [5.0] * 4 + [1.0] * 4 + [5.0] * 4 + [1.0] * 4
    assert torch.equal(density, density[:1].expand(20, 16))


@pytest.mark.parametrize("seed", range(6))
def test_stripes_have_two_densities_and_no_cell_far_from_the_other(seed):
    density = gallery.stripes((24, 20), 50.0, seed).density.numpy()
    assert set(np.unique(density)) == {1.0, 50.0}
    # within three cells across a stripe, along x, y or both, the other phase begins
    for i, j in np.ndindex(20, 16):
        assert len(np.unique(density[i : i + 4, j : j + 4])) == 2


@pytest.mark.parametrize("seed", range(6))
def test_a_maze_is_a_tree_of_corridors(seed):
    """One component, and no loops: one wide, as many links as cells less one."""
    problem = gallery.mazes((33, 26), 10.0, seed)
    operator = problem.operator()
    assert operator.components == 1
    assert problem.n == int((~problem.solid).sum())
    assert abs(float(problem.b.sum())) < 1e-12
    assert float(problem.b[problem.solid].abs().max()) == 0.0
    walls = gallery.maze_walls((33, 26), 1, np.random.default_rng(seed))
    fluid = ~walls
    links = (fluid[1:] & fluid[:-1]).sum() + (fluid[:, 1:] & fluid[:, :-1]).sum()
    assert links == fluid.sum() - 1
    assert walls[0].all()
    assert walls[:, 0].all()


def test_voronoi_cells_have_many_densities_within_the_contrast():
    density = gallery.voronoi((40, 30), 1000.0, 3).density.numpy()
    assert 15 <= len(np.unique(density)) <= 60
    assert 1.0 <= density.min() < density.max() <= 1000.0


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="split"):
        benchmark_density(1024, 0, "validation")
    with pytest.raises(ValueError, match="64 cells"):
        benchmark_density(10, 0)
    with pytest.raises(ValueError, match="'test' or 'train' for bubbles"):
        gallery.problem("bubbles", 64, 0, "eval-same")
    with pytest.raises(ValueError, match="family must be one of"):
        gallery.problem("stirred", 64, 0)


def heavy_share(split, frames=80):
    """Smallest and largest heavy density of a split's first frames, noise averaged out, and of its frames
    with a single barrier the share in which that closes the box from wall to wall.
    """
    heavy, closing = [], []
    for frame in range(frames):
        density = gallery.barrier_density((48, 48), frame, split)
        barrier = density > 2.5
        heavy.append(np.median(density[barrier]))
        rng = np.random.default_rng(gallery.SPLITS[split].seed + frame)
        rng.uniform()
        if rng.integers(1, 4) == 1:
            closing.append(barrier.all(axis=1).any() or barrier.all(axis=0).any())
    return min(heavy), max(heavy), np.mean(closing)


@pytest.mark.parametrize(
    ("splits", "low", "high", "closed"),
    [
        (("test", "train", "train-all", "eval-same"), 5, 100, "some"),
        (("train-open",), 5, 100, "none"),
        (("train-low",), 5, 50, "some"),
        (("train-open-low",), 5, 50, "none"),
        (("eval-closed",), 5, 100, "all"),
        (("eval-contrast",), 50, 200, "some"),
        (("eval-both",), 50, 200, "all"),
    ],
)
def test_splits_differ_in_gaps_and_contrast(splits, low, high, closed):
    for split in splits:
        smallest, largest, share = heavy_share(split)
        assert low * 0.97 < smallest < low * 1.5
        assert high / 1.5 < largest < high * 1.03
        assert {"none": share == 0.0, "some": 0.0 < share < 0.6, "all": share == 1.0}[closed]


def test_splits_draw_from_their_published_seeds():
    for split, seed in (("eval-same", 12_005), ("train-all", 1005), ("test", 10_005)):
        heavy = np.exp(np.random.default_rng(seed).uniform(np.log(5), np.log(100)))
        density = gallery.barrier_density((32, 32), 5, split)
        assert np.median(density[density > 2.5]) == pytest.approx(heavy, rel=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_solids_stand_in_bubbles_and_leave_one_component(seed):
    problem = gallery.solids((40, 33), 50.0, seed)
    assert problem.operator().components == 1
    assert 0 < int(problem.solid.sum()) < 0.6 * problem.solid.numel()
    assert problem.n == int((~problem.solid).sum())
    assert set(problem.density.unique().tolist()) == {1.0, 50.0}
    assert float(problem.b[problem.solid].abs().max()) == 0.0
    assert abs(float(problem.b.sum())) < 1e-12
