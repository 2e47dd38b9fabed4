"""The panel beside the plots: the preconditioner as a matrix of tiles, and the coarse basis of one leaf."""

from __future__ import annotations

import numpy as np
from imgui_bundle import imgui

from app.viewer import theme
from app.viewer.canvas import Texture, draw_colour_bar
from app.viewer.inspector import Inspector
from app.viewer.partition_picture import (
    QUANTITIES,
    SIGNED_COLOURS,
    basis_pixels,
    basis_scale,
    describe,
    partition_pixels,
    tile_scale,
)
from app.viewer.session import Session
from precond.analysis.inspection import RANK_TOLERANCE, Inspection, LeafBasis

BAR_SPACE = 74.0  # a colour bar and its numbers
TEXT_SPACE = 216.0
GAP = 12.0
SENTENCE = (
    "Each square tells how strongly (norm) or in how many ways (rank) this method lets the pressure in one "
    "group of cells answer to what happens in another."
)
LABELS = {"norm": "Frobenius norm", "rank": "numerical rank"}
LEGENDS = {
    "norm": "of the tiles, and of the diagonal blocks",
    "rank": f"singular values above {RANK_TOLERANCE:g} of the tile's largest; grey leaves are dense",
}


class PartitionPanel:
    """Draws a session's inspection.

    ``square`` (left, top, side) is where the matrix was drawn last, in pixels of the screen. ``pictures`` are
    the leaf's columns as drawn last, (c, height, width, 4) uint8; None without a leaf.
    """

    def __init__(self) -> None:
        self.square = (0.0, 0.0, 1.0)
        self.pictures: np.ndarray | None = None
        self._matrix, self._columns = Texture(), Texture()
        self._pixels = np.empty(0)
        self._pixels_of: tuple = (None, "", 0.0)  # inspection, quantity and side

    def draw(self, session: Session) -> None:
        """Draw into the current window."""
        inspector = session.inspector
        inspection = inspector.inspection  # which the worker may change
        space, corner = imgui.get_content_region_avail(), imgui.get_cursor_screen_pos()
        left, top, text_at = float(round(corner.x)), float(round(corner.y)), float(round(corner.x))
        if inspection is not None:
            side = max(16.0, min(space.y, 0.5 * (space.x - theme.scaled(BAR_SPACE + TEXT_SPACE))))
            self.square = (left, top, float(int(side)))
            self._draw_matrix(inspection, inspector.quantity, inspector.leaf)
            text_at += side + theme.scaled(BAR_SPACE + 2.0 * GAP)
        imgui.set_cursor_screen_pos((text_at, top))
        shows_leaf = inspector.follow and (inspector.leaves > 0 or inspector.leaf is not None)
        narrow = inspection is not None or shows_leaf
        width = theme.scaled(TEXT_SPACE) if narrow else space.x
        imgui.begin_child("text", (width, max(space.y, 1.0)))
        _draw_text(inspector)
        imgui.end_child()
        self.pictures = None
        leaf_at = text_at + width + theme.scaled(GAP)
        if shows_leaf:
            self._draw_leaf(session, leaf_at, top, left + space.x - leaf_at, space.y)

    def _draw_matrix(self, inspection: Inspection, quantity: str, leaf: LeafBasis | None) -> None:
        """The tiles in ``square`` with ``leaf`` marked, their colours, and words on what the mouse is on."""
        (left, top, side), canvas = self.square, imgui.get_window_draw_list()
        if self._pixels_of[0] is not inspection or self._pixels_of[1:] != (quantity, side):
            self._pixels_of = (inspection, quantity, side)
            self._pixels = partition_pixels(inspection, quantity, int(side))
        canvas.add_image(self._matrix.show(self._pixels), (left, top), (left + side, top + side))
        imgui.set_cursor_screen_pos((left, top))
        imgui.invisible_button("matrix", (side, side))
        bar_at = left + side + theme.scaled(GAP)
        scale, colours = tile_scale(inspection, quantity), QUANTITIES[quantity]
        draw_colour_bar(canvas, colours, scale, quantity, bar_at, top + 3.0, side - 4.0)
        count = len(inspection.leaf_norms)
        pixels = side / count

        def frame(row: int, column: int, height: int, width: int, colour: theme.Colour) -> None:
            x, y = left + column * pixels, top + row * pixels
            corners = (x - 1.0, y - 1.0), (x + width * pixels + 1.0, y + height * pixels + 1.0)
            canvas.add_rect(*corners, theme.packed(colour), thickness=1.5)

        if leaf is not None:
            frame(leaf.leaf, leaf.leaf, 1, 1, theme.LEAF)
        if imgui.is_item_hovered():
            mouse = imgui.get_io().mouse_pos
            offsets = np.array([mouse.y - top, mouse.x - left])
            row, column = np.clip(offsets // pixels, 0, count - 1).astype(int).tolist()
            tile = inspection.tile_at(row, column)
            if tile >= 0:
                first, second, size = inspection.tiles[tile]
                cut = min(size, count - second)
                frame(first, second, size, cut, theme.TEXT)
                frame(second, first, cut, size, theme.MUTED)
            imgui.set_tooltip(describe(inspection, row, column))

    def _draw_leaf(self, session: Session, left: float, top: float, width: float, height: float) -> None:
        """The columns of the leaf's basis side by side, as large as fits, and their colours."""
        canvas, line = imgui.get_window_draw_list(), imgui.get_text_line_height()
        leaf, gap = session.inspector.leaf_on(session.shown.shape), theme.scaled(GAP)
        if leaf is None:
            theme.write(canvas, left, top, "point at the fluid: its leaf is shown here", theme.MUTED)
            return
        pictures = self.pictures = basis_pixels(leaf, session.shown.solid_mask())
        columns, rows_of_cells, cells_across, _ = pictures.shape
        which = f"{columns} columns" if columns == leaf.total else f"columns 1 to {columns} of {leaf.total}"
        theme.write(canvas, left, top, f"leaf {leaf.leaf}, {len(leaf.cells)} cells: {which} of U")
        top, height, width = top + 1.3 * line, height - 1.3 * line, width - theme.scaled(BAR_SPACE)
        sizes = {}  # pixels to a cell, by the number of columns in a row
        for across in range(1, columns + 1):
            down = -(-columns // across)
            room = (width - across * gap) / (across * cells_across), (height / down - line) / rows_of_cells
            sizes[across] = min(room)
        across = max(sizes, key=lambda number: sizes[number])
        scale = max(1, int(sizes[across]))  # of the texture; a leaf in scattered pieces is drawn smaller
        zoom = scale if sizes[across] >= 1.0 else max(sizes[across], 0.1)
        box = zoom * cells_across, zoom * rows_of_cells
        strip = pictures.reshape(-1, cells_across, 4)
        texture = self._columns.show(strip.repeat(scale, axis=0).repeat(scale, axis=1))
        for k in range(columns):
            x = round(left + (k % across) * (box[0] + gap))  # whole pixels: no blending with what is beside
            y = round(top + (k // across) * (box[1] + line) + line)
            theme.write(canvas, x, y - line, str(k + 1), theme.MUTED)
            part = (0.0, k / columns), (1.0, (k + 1) / columns)
            canvas.add_image(texture, (x, y), (x + box[0], y + box[1]), *part)
        bar_at = left + across * (box[0] + gap)
        draw_colour_bar(canvas, SIGNED_COLOURS, basis_scale(leaf), "", bar_at, top - line, height)


def _draw_text(inspector: Inspector) -> None:
    """What the matrix is, and the choices."""
    inspection = inspector.inspection
    if inspection is None:
        imgui.text_wrapped(inspector.reason)
    else:
        count = len(inspection.leaf_norms)
        imgui.text(f"{inspector.preconditioner.name}: {count} leaves of {inspection.leaf_size} cells")
        theme.say(f"{count - 1} tiles, {inspection.columns} coarse columns a leaf")
        theme.say(inspection.formula)
        for quantity, label in LABELS.items():
            if imgui.radio_button(label, inspector.quantity == quantity):
                inspector.quantity = quantity
        theme.say(LEGENDS[inspector.quantity])
        theme.say(SENTENCE, theme.TEXT)
        theme.say(
            f"frame {inspector.frame:,}, computed in {1e3 * inspector.seconds:,.0f} ms beside the window"
        )
    _, inspector.follow = imgui.checkbox("leaf under the mouse", inspector.follow)
    imgui.set_item_tooltip("its border on the picture, and the columns of its coarse basis here (L)")
    _, inspector.all_leaves = imgui.checkbox("all leaves over the picture", inspector.all_leaves)
    imgui.set_item_tooltip("the patches of cells within which this method solves exactly")
