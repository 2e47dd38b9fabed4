"""What the partition panel shows and when it computes it, tried without a window."""

from types import SimpleNamespace

import numpy as np
import pytest

from app.config.settings import app_settings
from app.engine import Engine
from app.picture import LEVELS, SOLID_COLOUR, Scale, colour_table
from app.viewer.canvas import ticks
from app.viewer.inspector import SECONDS, WAIT, Inspector
from app.viewer.partition_picture import (
    DENSE_COLOUR,
    QUANTITIES,
    basis_pixels,
    basis_scale,
    describe,
    outline,
    partition_pixels,
    placed,
    tile_scale,
)
from precond import registry
from precond.analysis.inspection import Inspection, LeafBasis, inspect, leaf_basis
from precond.partition.tiles import tiles


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def make(monkeypatch, here):
    """Build an inspector on a small scene; its ``count`` is the number of inspections so far."""

    def build(preconditioner="coarse-monomial", grid=(32, 16), cost=0.0):
        clock = Clock()
        engine = Engine(app_settings({"grid": grid, "preconditioner": preconditioner}))
        inspector = Inspector(engine, here, clock)
        inspector.count, inspector.clock, inspector.shown = 0, clock, True

        def refresh():
            """Twice: to ask, and to take."""
            Inspector.refresh(inspector)
            Inspector.refresh(inspector)

        inspector.refresh = refresh

        def counted(preconditioner):
            inspector.count += 1
            clock.now += cost
            return inspect(preconditioner)

        monkeypatch.setattr("app.race.study.inspect", counted)
        monkeypatch.setattr("app.race.study.time", SimpleNamespace(perf_counter=clock))
        return inspector, inspector._engine

    return build


def some_inspection(count=11):
    """Made-up numbers of every size, all different."""
    rng = np.random.default_rng(0)
    norms = 10.0 ** rng.uniform(-3.0, 4.0, 2 * count - 1)
    ranks = rng.integers(0, 20, count - 1)
    return Inspection(tiles(count), norms[: count - 1], ranks, norms[count - 1 :], 64, 8, "U Z U^T")


def test_frames_are_inspected_now_and_then(make):
    inspector, engine = make(cost=0.2)
    inspector.refresh()
    assert inspector.inspection is None
    assert "with the first step" in inspector.reason
    assert inspector.count == 0
    engine.step()
    for _ in range(5):
        inspector.refresh()
        engine.step()
    assert inspector.count == 1
    assert (inspector.frame, inspector.reason) == (1, "")
    assert inspector.seconds == pytest.approx(0.2)
    inspector.clock.now += 0.9 * WAIT * 0.2
    inspector.refresh()
    assert inspector.count == 1
    inspector.clock.now += 0.2 * WAIT * 0.2
    inspector.refresh()
    assert (inspector.count, inspector.frame) == (2, 6)
    inspector.clock.now += 100.0
    inspector.refresh()  # no new frame
    assert inspector.count == 2


def test_quick_inspections_are_not_for_every_frame_either(make):
    inspector, engine = make()
    engine.step()
    inspector.refresh()
    inspector.clock.now += 0.9 * SECONDS
    engine.step()
    inspector.refresh()
    assert inspector.count == 1
    inspector.clock.now += 0.2 * SECONDS
    inspector.refresh()
    assert inspector.count == 2


def test_another_preconditioner_is_inspected_at_once(make):
    inspector, engine = make()
    engine.step()
    inspector.refresh()
    engine.set("preconditioner", "jacobi")
    engine.step()
    inspector.refresh()
    assert inspector.inspection is None
    assert inspector.reason.startswith("jacobi has no leaves: coarse-monomial, coarse-iterated, ")
    assert "\n" not in inspector.reason
    assert inspector.leaves == 0
    engine.set("preconditioner", "hmatrix")
    engine.step()
    inspector.refresh()
    assert inspector.count == 2
    assert len(inspector.inspection.leaf_norms) == 32 * 16 // 64
    engine.set("grid", (40, 24))
    inspector.refresh()
    assert inspector.inspection is None
    engine.step()
    inspector.refresh()
    assert len(inspector.inspection.leaf_norms) == 15


@pytest.mark.parametrize("name", ["coarse-learned", "coarse-iterated"])
def test_a_leaf_hierarchy_has_levels_in_place_of_tiles(make, name):
    inspector, engine = make(name, (37, 22))
    inspector.follow, inspector.cell = True, (36, 21)
    inspector.refresh()
    assert inspector.reason == f"{name} is set up with the first step; then it is shown here"
    engine.step()
    inspector.refresh()
    assert inspector.inspection is None
    assert inspector.count == 0
    assert inspector.reason == f"{name}: {engine.preconditioner.describe()}"
    assert inspector.reason.startswith(
        f"{name}: 60 leaves of 22 kinds; columns of a leaf, of a block of leaves and so on"
    )
    assert "\n" not in inspector.reason
    assert {divmod(int(cell), 22) for cell in inspector.leaf.cells} == {(36, 20), (36, 21)}
    basis = leaf_basis(engine.preconditioner, 36 * 22 + 21)
    images = basis_pixels(basis, np.zeros((37, 22), dtype=bool))
    assert images.shape == (basis.total, 2, 1, 4)
    engine.set("preconditioner", "coarse-monomial")
    engine.step()
    inspector.refresh()
    assert (inspector.count, inspector.reason) == (1, "")
    assert len(inspector.leaf.cells) == 5 * 6  # of 8 x 8 cells, cut off at the walls


def test_of_auto_the_method_in_use_is_shown(make, monkeypatch):
    monkeypatch.setattr("precond.auto.Choice.rival", lambda *_: "")  # however long a solve takes here
    inspector, engine = make("auto:candidates=jacobi,coarse-monomial")
    seen = {}
    for _ in range(2):
        engine.step()
        inspector.refresh()
        seen[inspector.preconditioner.name] = inspector.inspection is not None
    assert seen == {"jacobi": False, "coarse-monomial": True}


def test_nothing_is_computed_while_nobody_looks(make):
    inspector, engine = make()
    inspector.shown = False
    engine.step()
    inspector.refresh()
    assert inspector.count == 0
    inspector.shown = inspector.all_leaves = True
    inspector.refresh()
    assert inspector.count == 1
    assert inspector.labels.shape == (32, 16)
    assert len(np.unique(inspector.labels)) == 8
    engine.set("preconditioner", "jacobi")
    engine.step()
    inspector.refresh()
    assert inspector.labels is None


def test_an_inspection_that_fails_is_said(make, monkeypatch):
    inspector, engine = make()

    def fail(_):
        raise ArithmeticError("coarse-monomial: its factors hold NaN or infinity")

    monkeypatch.setattr("app.race.study.inspect", fail)
    engine.step()
    inspector.refresh()
    assert inspector.inspection is None
    assert "NaN" in inspector.reason


def test_a_helper_that_is_busy_is_waited_for_with_a_reason(make, here, monkeypatch):
    inspector, engine = make()
    engine.step()
    monkeypatch.setattr(here, "busy", True)
    inspector.refresh()
    assert "as soon as" in inspector.reason
    monkeypatch.setattr(here, "busy", False)
    inspector.refresh()
    assert (inspector.count, inspector.reason) == (1, "")


def test_what_is_inspected_is_the_method_on_the_last_frame(make):
    inspector, engine = make("coarse-monomial")
    engine.step()
    expected = inspect(engine.preconditioner)  # set up for this very frame
    inspector.refresh()
    np.testing.assert_allclose(inspector.inspection.norms, expected.norms, rtol=1e-9)
    np.testing.assert_array_equal(inspector.inspection.ranks, expected.ranks)


@pytest.fixture
def published(monkeypatch):
    """The name of the published `hmatrix`, registered for this test."""
    name = "hmatrix-published"
    entry = registry.Entry("learned.published_hmatrix:PublishedHMatrix", "", model=f"{name}-*.safetensors")
    monkeypatch.setitem(registry._ENTRIES, name, entry)
    return name


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("preconditioner", ["coarse-monomial", "hmatrix", "hmatrix-published"])
def test_the_leaf_under_the_mouse_on_any_grid(make, preconditioner):
    """8 x 8 blocks cut off at the walls; runs of 128 cells along the Morton curve."""
    inspector, engine = make(preconditioner, (37, 22))
    inspector.follow = True
    inspector.refresh()
    assert inspector.leaf is None
    inspector.cell = (0, 0)
    inspector.refresh()
    assert inspector.leaf is None  # not set up
    engine.step()

    def morton(i, j):
        return sum(((i >> bit) & 1) << 2 * bit | ((j >> bit) & 1) << (2 * bit + 1) for bit in range(6))

    cells = [(i, j) for i in range(37) for j in range(22)]
    order = {cell: k for k, cell in enumerate(sorted(cells, key=lambda cell: morton(*cell)))}
    for i, j in [(0, 0), (36, 21), (7, 8), (8, 7), (31, 20), (32, 15), (20, 11)]:
        inspector.cell = (i, j)
        inspector.refresh()
        leaf = inspector.leaf
        if preconditioner != "hmatrix-published":
            expected = {(a, b) for a, b in cells if (a // 8, b // 8) == (i // 8, j // 8)}
        else:
            expected = {cell for cell in cells if order[cell] // 128 == order[i, j] // 128}
        assert {divmod(int(cell), 22) for cell in leaf.cells} == expected
    inspector.follow = False
    inspector.refresh()
    assert inspector.leaf is None
    inspector.follow = True
    engine.set("grid", (16, 8))
    engine.step()
    inspector.refresh()
    assert inspector.leaf is None  # the cell is no longer there


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("preconditioner", ["coarse-monomial", "hmatrix", "hmatrix-published"])
def test_pictures_of_a_leaf_are_its_basis(make, preconditioner):
    _, engine = make(preconditioner, (37, 22))
    engine.simulation.paint(0.5, 0.3, 0.15, "solid")
    engine.step()
    solid = engine.simulation.solid_mask()
    assert solid.any()
    form = engine.preconditioner
    red_and_blue = set()
    for cell in (0, 36 * 22 + 21, int(np.flatnonzero(solid)[0]), 300):
        basis = leaf_basis(form, cell)
        i, j = np.divmod(basis.cells, 22)
        images, pixels = placed(basis.cells, basis.columns, (37, 22)), basis_pixels(basis, solid)
        assert images.shape == (8, j.max() - j.min() + 1, i.max() - i.min() + 1)
        assert np.isfinite(images).sum() == basis.columns.size
        reach = basis_scale(basis).high
        for place, (a, b) in enumerate(zip(i, j, strict=True)):
            row, column = j.max() - b, a - i.min()
            np.testing.assert_array_equal(images[:, row, column], basis.columns[place])
            for k in range(8):
                value = basis.columns[place, k]
                red, _, blue, alpha = (int(part) for part in pixels[k, row, column])
                assert alpha == 255
                if solid[a, b]:
                    assert tuple(pixels[k, row, column, :3]) == SOLID_COLOUR
                elif abs(value) > 0.2 * reach:
                    assert (red > blue) == (value > 0)
                    red_and_blue.add(value > 0)
        assert (pixels[..., 3] == 255).sum() == basis.columns.size
    assert red_and_blue == {True, False}


def test_scattered_leaves_are_transparent_between_their_cells():
    basis = LeafBasis(0, np.array([0, 11]), np.array([[1.0], [-1.0]], dtype=np.float32), 1)  # (0, 0), (2, 3)
    pixels = basis_pixels(basis, np.zeros((3, 4), dtype=bool))
    assert pixels.shape == (1, 4, 3, 4)
    assert [tuple(place) for place in np.argwhere(pixels[0, ..., 3])] == [(0, 2), (3, 0)]


def test_outline_is_the_border():
    cells = np.array([0, 1, 5])  # (0, 0), (0, 1), (1, 1) of a 3 x 4 grid
    border = {tuple(line) for line in outline(cells, (3, 4)).tolist()}
    expected = {(0, 0, 0, 2), (1, 0, 1, 1), (2, 1, 2, 2)}
    expected |= {(0, 0, 1, 0), (1, 1, 2, 1), (0, 2, 2, 2)}
    assert border == expected


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize(("count", "side"), [(11, 220), (11, 211), (1, 50), (40, 70)])
def test_every_pair_of_leaves_has_the_colour_of_its_tile(quantity, count, side):
    inspection = some_inspection(count)
    pixels = partition_pixels(inspection, quantity, side)
    assert pixels.shape == (side, side, 4)
    scale = tile_scale(inspection, quantity)
    values = inspection.norms if quantity == "norm" else inspection.ranks
    assert scale.low <= min(values.min(initial=1e9), 1e9)
    assert scale.high >= values.max(initial=0.0)
    table = colour_table(QUANTITIES[quantity]).view(np.uint8).reshape(LEVELS, 4)
    for row in range(count):
        for column in range(count):
            first, last = sorted((row, column))
            held = [
                number
                for number, (a, b, size) in enumerate(inspection.tiles)
                if a <= first < a + size and b <= last < b + size
            ]
            value = values[held[0]] if held else inspection.leaf_norms[row]
            level = (
                table[round((LEVELS - 1) * scale.share(value))]
                if held or quantity == "norm"
                else DENSE_COLOUR
            )
            middle = int((row + 0.5) * side / count), int((column + 0.5) * side / count)
            if side >= 8 * count:  # else the pixel may be on an edge, which is darker
                np.testing.assert_allclose(pixels[middle][:3].astype(int), np.array(level)[:3], atol=6)
            if held:
                assert f"tile {held[0] + 1} of {count - 1}" in describe(inspection, row, column)
                assert f"rank {inspection.ranks[held[0]]} (" in describe(inspection, row, column)
            else:
                assert f"leaf {row}, dense" in describe(inspection, row, column)


def test_a_tile_is_named_with_its_rows_and_columns():
    inspection = some_inspection(11)  # 11 leaves: the last strips are cut off
    above, below = describe(inspection, 2, 9), describe(inspection, 9, 2)
    assert "rows: leaves 0 to 7\ncolumns: leaves 8 to 10\n8 x 3 leaves, 512 x 192 cells" in above
    assert "rows: leaves 8 to 10\ncolumns: leaves 0 to 7\n3 x 8 leaves, 192 x 512 cells" in below
    assert "transposed" in below
    assert "transposed" not in above
    assert f"Frobenius norm {inspection.norms[-1]:.4g}" in above


def test_counts_have_whole_ticks():
    for high in range(1, 70):
        labels = [label for _, label in ticks(Scale(0.0, float(high), whole=True))]
        assert len(labels) >= 2
        assert all(label.isdigit() for label in labels)


def test_a_tile_without_any_norm_has_the_lowest_colour():
    inspection = some_inspection(4)
    inspection.norms[:] = 0.0
    inspection.leaf_norms[:] = 0.0
    pixels = partition_pixels(inspection, "norm", 40)
    assert (pixels[5, 35] == colour_table(QUANTITIES["norm"])[:1].view(np.uint8)).all()
