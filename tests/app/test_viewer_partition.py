"""The partition panel in the real window: shown where there is one, asleep where nobody looks."""

import numpy as np
import pytest
from PIL import Image

from app.picture import LEVELS, colour_table
from app.race import study
from app.viewer.partition_picture import QUANTITIES, basis_pixels, outline, tile_scale
from precond.analysis.inspection import inspect, leaf_basis

LEAF = (255, 219, 89)  # the outline's colour
pytestmark = pytest.mark.usefixtures("here")


def press(ctx, name):
    from imgui_bundle import imgui

    ctx.key_press(getattr(imgui.Key, name))
    ctx.yield_(3)


def capture(ctx, path):
    """The window's pixels as (height, width, 3) int."""
    from imgui_bundle.immapp import testing

    testing.capture(ctx, str(path))
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture
def inspections(monkeypatch):
    """A list that every inspection is added to."""
    done = []

    def noted(preconditioner):
        done.append(preconditioner.name)
        return inspect(preconditioner)

    monkeypatch.setattr(study, "inspect", noted)
    return done


@pytest.mark.parametrize(("name", "leaves"), [("coarse-monomial", 32), ("hmatrix", 32)])
def test_every_tile_has_its_colour_on_the_screen(drive, tmp_path, name, leaves):
    def test(ctx, window):
        inspector = window.session.inspector
        ctx.yield_(3)
        press(ctx, "space")
        ctx.item_click("Plots/tabs/Partition")
        ctx.yield_(3)
        inspection = inspector.inspection
        assert len(inspection.leaf_norms) == leaves
        left, top, side = window.partition.square
        assert side >= 150
        for quantity, label in (("rank", "numerical rank"), ("norm", "Frobenius norm")):
            ctx.item_click(f"Plots/tabs/Partition/**/{label}")
            ctx.mouse_move_to_pos((5.0, 5.0))
            ctx.yield_(3)
            assert inspector.quantity == quantity
            pixels = capture(ctx, tmp_path / f"{quantity}.png")
            scale = tile_scale(inspection, quantity)
            table = colour_table(QUANTITIES[quantity]).view(np.uint8).reshape(LEVELS, 4)[:, :3].astype(int)
            values = inspection.ranks if quantity == "rank" else inspection.norms
            for (row, column, size), value in zip(inspection.tiles, values, strict=True):
                if size * side / leaves < 12.0:
                    continue
                y, x = row + 0.5 * size, column + 0.5 * (min(column + size, leaves) - column)
                expected = table[round((LEVELS - 1) * scale.share(value))]
                for a, b in ((x, y), (y, x)):  # the tile and its transpose
                    seen = pixels[int(top + b * side / leaves), int(left + a * side / leaves)]
                    assert np.abs(seen - expected).max() <= 6

    drive(test, preconditioner=name)


@pytest.mark.parametrize("grid", [(64, 32), (37, 22)])
@pytest.mark.parametrize("name", ["coarse-learned", "hmatrix"])
def test_the_leaf_under_the_mouse_is_outlined_and_shown(drive, tmp_path, name, grid):
    def test(ctx, window):
        session = window.session
        inspector, simulation = session.inspector, session.engine.simulation
        ctx.yield_(3)
        press(ctx, "space")
        assert not inspector.shown
        press(ctx, "l")
        assert inspector.follow
        assert inspector.shown
        left, top, width, height = window.field.rectangle
        nx, ny = grid
        for i, j in ((2, 3), (nx - 1, ny - 1), (nx // 2 + 1, ny // 2)):
            ctx.mouse_move_to_pos((left + width * (i + 0.5) / nx, top + height * (1.0 - (j + 0.5) / ny)))
            ctx.yield_(3)
            leaf = inspector.leaf
            expected = leaf_basis(session.engine.preconditioner, i * ny + j)
            assert i * ny + j in leaf.cells
            np.testing.assert_array_equal(leaf.cells, expected.cells)
            np.testing.assert_array_equal(
                window.partition.pictures, basis_pixels(expected, simulation.solid_mask())
            )
        ctx.mouse_move_to_pos((5.0, 5.0))  # away from the picture, the leaf stays
        ctx.yield_(3)
        pixels = capture(ctx, tmp_path / "leaf.png")
        yellow = np.abs(pixels - LEAF).max(axis=2) < 40
        lines = outline(leaf.cells, grid)
        for x0, y0, x1, y1 in lines.tolist():
            x, y = left + width * 0.5 * (x0 + x1) / nx, top + height * (1.0 - 0.5 * (y0 + y1) / ny)
            assert yellow[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].any()
        picture = yellow[int(top) - 2 : int(top + height) + 3, int(left) - 2 : int(left + width) + 3]
        assert (
            picture.sum() <= 4 * (width / nx + 2) * np.abs(lines[:, 2:] - lines[:, :2]).sum()
        )  # and nothing else
        press(ctx, "l")
        assert not inspector.follow
        pixels = capture(ctx, tmp_path / "none.png")
        inside = pixels[int(top) : int(top + height), int(left) : int(left + width)]
        assert not (np.abs(inside - LEAF).max(axis=2) < 40).any()
        assert window.partition.pictures is None

    drive(test, preconditioner=name, grid=grid)


def test_nothing_is_computed_behind_the_plots(drive, inspections):
    def test(ctx, window):
        ctx.yield_(10)
        assert window.session.engine.last.preconditioner == "coarse-monomial"
        assert inspections == []
        ctx.item_click("Plots/tabs/Partition")
        ctx.yield_(3)
        assert inspections == ["coarse-monomial"]
        ctx.item_click("Plots/tabs/Plots")
        ctx.yield_(3)
        done = len(inspections)
        window.session.inspector._due = 0.0
        ctx.yield_(10)
        assert len(inspections) == done

    drive(test, preconditioner="coarse-monomial")


def test_one_line_where_there_is_no_partition(drive, inspections):
    def test(ctx, window):
        ctx.yield_(3)
        press(ctx, "l")
        ctx.yield_(3)
        inspector = window.session.inspector
        assert inspector.shown
        assert inspector.inspection is None
        assert inspector.reason.startswith("jacobi has no leaves: coarse-monomial, coarse-iterated, ")
        assert window.session.message.text == inspector.reason
        left, top, width, height = window.field.rectangle
        ctx.mouse_move_to_pos((left + 0.5 * width, top + 0.5 * height))
        ctx.yield_(3)
        assert window.partition.pictures is None
        assert inspections == []
        ctx.set_ref("Controls")
        ctx.combo_click("##preconditioner/coarse-geneo")
        ctx.yield_(3)
        assert inspections == ["coarse-geneo"]

    drive(test, preconditioner="jacobi")
