"""The middle of the window: the picture, its colour bar, and the mouse on it."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from imgui_bundle import imgui

from app.viewer import theme
from app.viewer.canvas import Texture, draw_colour_bar
from app.viewer.materials import MATERIALS, MOVE
from app.viewer.partition_picture import outline
from app.viewer.redraw import Redraw
from app.viewer.session import Point, Session
from sim.sources import KINDS

BAR_SPACE = 84.0  # colour bar and its numbers
FOOT = 24.0
WHEEL_FACTOR = 1.15
TRAIL_SECONDS = 0.25  # that the way of the hand is seen


class FieldPanel:
    """Turns the mouse on a session's picture into stirring and painting, and draws it as large as fits.

    ``rectangle`` (left, top, width, height) is where the picture is, in pixels of the screen; ``active``: a
    button is held on it.
    """

    def __init__(self, redraw: Redraw) -> None:
        self._redraw = redraw
        self.rectangle = (0.0, 0.0, 1.0, 1.0)
        self._texture = Texture()
        self._trail: deque[tuple[float, Point, Point, bool]] = deque()  # when, from, to, whether it paints
        self._sources: np.ndarray | None = None  # kinds whose borders are known
        self._source_borders: dict[str, np.ndarray] = {}
        self._stroke: Point | None = None  # where a stroke has got to, in metres
        self._hovered = self.active = False

    def take_input(self, session: Session) -> None:
        """Ask for what the mouse does on the picture, which takes the rest of the current window."""
        space, corner = imgui.get_content_region_avail(), imgui.get_cursor_screen_pos()
        width_m, height_m = session.shown.domain
        room_x = max(1.0, space.x - theme.scaled(BAR_SPACE))
        room_y = max(1.0, space.y - theme.scaled(FOOT))
        scale = min(room_x / width_m, room_y / height_m)  # pixels per metre
        width, height = scale * width_m, scale * height_m
        left, top = corner.x + 0.5 * (room_x - width), corner.y + 0.5 * (room_y - height)
        self.rectangle = (left, top, width, height)
        imgui.set_cursor_screen_pos((left, top))
        buttons = imgui.ButtonFlags_.mouse_button_left | imgui.ButtonFlags_.mouse_button_right
        imgui.invisible_button("picture", (max(width, 1.0), max(height, 1.0)), buttons)
        self._hovered = imgui.is_item_hovered()
        self.active = imgui.is_item_active() and imgui.is_mouse_pos_valid()
        io, here = imgui.get_io(), self._mouse_at(session)
        if self._hovered and io.mouse_wheel:
            session.brush.radius *= WHEEL_FACTOR**io.mouse_wheel
        if self._hovered and session.inspector.follow:
            session.inspector.cell = _cell(session, here)
        if self.active and self._stroke is None:
            session.ask(session.engine.begin_stroke)
        grabs = self._stroke is None
        begin, self._stroke = self._stroke or here, here if self.active else None
        paints = imgui.is_mouse_down(imgui.MouseButton_.right) and session.brush.paint != MOVE
        if self.active and (paints or begin != here):
            self._trail.append((time.monotonic(), begin, here, paints))
        if self.active and session.brush.paint == MOVE:
            session.ask(session.move, begin, here, io.delta_time, grabs)
        elif self.active and paints:
            session.ask(session.paint, begin, here)
        elif self.active and begin != here:
            session.ask(session.stir, begin, here, io.delta_time)

    def _mouse_at(self, session: Session) -> Point:
        """The mouse on the picture, in metres."""
        (left, top, width, height), mouse = self.rectangle, imgui.get_io().mouse_pos
        width_m, height_m = session.shown.domain
        return (mouse.x - left) / width * width_m, (1.0 - (mouse.y - top) / height) * height_m

    def draw(self, session: Session) -> None:
        """Draw the present state where `take_input` found its place."""
        (left, top, width, height), canvas = self.rectangle, imgui.get_window_draw_list()
        session.side = max(width, height) * imgui.get_io().display_framebuffer_scale.x
        session.blue_first = self._redraw.paints
        picture, view = session.draw(), session.view
        if self._redraw.paints:
            self._redraw.paint(picture.rgba, left, top, width, height)
        else:
            canvas.add_image(self._texture.show(picture.rgba), (left, top), (left + width, top + height))
        bar_at = left + width + theme.scaled(12.0)
        draw_colour_bar(canvas, view.colours, picture.scale, view.unit, bar_at, top, height)
        self._draw_sources(canvas, session)
        if session.inspector.shown:
            self._draw_leaf(canvas, session)
        if self._hovered or self.active:
            mouse, radius = imgui.get_io().mouse_pos, session.brush.radius * min(width, height)
            radius = theme.scaled(7.0) if session.brush.paint == MOVE else radius  # a hand has no size
            colour = MATERIALS[session.brush.paint].colour
            canvas.push_clip_rect((left, top), (left + width, top + height), True)
            self._draw_trail(canvas, session, radius)
            canvas.add_circle_filled((mouse.x, mouse.y), radius, theme.packed(colour, 0.35), 40)
            for line, thickness in ((0xA0000000, 3.5), (0xE0FFFFFF, 1.5)):  # seen on any field
                canvas.add_circle((mouse.x, mouse.y), radius, line, 40, thickness)
            canvas.pop_clip_rect()
        self._draw_foot(canvas, session)
        if session.warning:
            self._draw_banner(canvas, session.warning, theme.RED)
        if message := session.message:
            self._draw_banner(canvas, message.text, theme.RED if message.error else theme.ACCENT, below=True)

    def _draw_trail(self, canvas: imgui.ImDrawList, session: Session, radius: float) -> None:
        """Where the hand just went, at once, for a step of a large grid takes longer than a picture."""
        (left, top, width, height), (width_m, height_m) = self.rectangle, session.shown.domain
        now, colour = time.monotonic(), MATERIALS[session.brush.paint].colour
        while self._trail and now - self._trail[0][0] > TRAIL_SECONDS:
            self._trail.popleft()
        for when, begin, end, paints in self._trail:
            ink = theme.packed(colour if paints else theme.WHITE, 0.6 * (1.0 - (now - when) / TRAIL_SECONDS))
            (x0, y0), (x1, y1) = (
                (left + x / width_m * width, top + (1.0 - y / height_m) * height) for x, y in (begin, end)
            )
            canvas.add_line((x0, y0), (x1, y1), ink, 2.0 * radius if paints else 2.0)
            if paints:
                canvas.add_circle_filled((x1, y1), radius, ink, 32)

    def _draw_leaf(self, canvas: imgui.ImDrawList, session: Session) -> None:
        """The border of the leaf that was pointed at, bright on dark so that it shows on any field."""
        leaf = session.inspector.leaf_on(session.shown.shape)
        if leaf is not None:
            borders = outline(leaf.cells, session.shown.shape)
            for colour, thickness in ((theme.BACKGROUND, 4.0), (theme.LEAF, 2.0)):
                self._draw_border(canvas, session, borders, colour, thickness)

    def _draw_sources(self, canvas: imgui.ImDrawList, session: Session) -> None:
        """The borders of sources and drains, in their colours."""
        kinds = session.shown.source_kinds()  # (nx, ny), 0 or 1 + index in KINDS
        if self._sources is None or not np.array_equal(kinds, self._sources):
            self._sources = kinds.copy()
            found = {kind: np.flatnonzero(kinds == number) for number, kind in enumerate(KINDS, start=1)}
            self._source_borders = {
                kind: outline(cells, kinds.shape) for kind, cells in found.items() if cells.size
            }
        for kind, borders in self._source_borders.items():
            self._draw_border(canvas, session, borders, MATERIALS[kind].colour, 1.5)

    def _draw_border(
        self,
        canvas: imgui.ImDrawList,
        session: Session,
        borders: np.ndarray,
        colour: theme.Colour,
        thickness: float,
    ) -> None:
        """What `outline` has of a set of cells."""
        (left, top, width, height), (nx, ny) = self.rectangle, session.shown.shape
        scale_x, scale_y = width / nx, height / ny
        for x0, y0, x1, y1 in borders.tolist():
            begin = (left + scale_x * x0, top + height - scale_y * y0)
            end = (left + scale_x * x1, top + height - scale_y * y1)
            canvas.add_line(begin, end, theme.packed(colour), thickness)

    def _draw_foot(self, canvas: imgui.ImDrawList, session: Session) -> None:
        """One line under the picture: what is shown on the left, the value under the mouse on the right."""
        (left, top, width, height), shown = self.rectangle, session.shown
        nx, ny = shown.shape
        text = f"{session.view.field}   {nx} x {ny} cells   t = {shown.time:.3f} s"
        theme.write(canvas, left, top + height + 5.0, text)
        if not self._hovered:
            return
        text_there = reading(session, self._mouse_at(session))
        start = left + width - imgui.calc_text_size(text_there).x
        if start > left + imgui.calc_text_size(text).x + 20.0:
            theme.write(canvas, start, top + height + 5.0, text_there, theme.MUTED)

    def _draw_banner(
        self, canvas: imgui.ImDrawList, text: str, colour: theme.Colour, below: bool = False
    ) -> None:
        """A line of text on a dark plate over the picture; wrapped where it is too long."""
        left, top, width, height = self.rectangle
        room = max(width - 40.0, 80.0)
        size = imgui.calc_text_size(text, wrap_width=room)
        x, y = left + 0.5 * (width - size.x), top + 8.0
        if below:
            y = top + height - 40.0 - size.y + imgui.get_text_line_height()
        plate = ((x - 12.0, y - 1.0), (x + size.x + 12.0, y + size.y + 9.0))
        canvas.add_rect_filled(*plate, theme.packed(theme.BACKGROUND, 0.92), 4.0)
        canvas.add_rect(*plate, theme.packed(colour), 4.0)
        font, font_size = theme.fonts["text"], imgui.get_font_size()
        canvas.add_text(font, font_size, (x, y + 4.0), theme.packed(colour), text, room)


def reading(session: Session, place: Point) -> str:
    """What is at ``place``, in metres: its coordinates and the field's value there, or "solid"."""
    cell = _cell(session, place)
    value = f"{session.picture.values[cell]:.4g} {session.view.unit}"
    return f"({place[0]:.2f}, {place[1]:.2f}) m   {'solid' if session.shown.solid[cell] else value}"


def _cell(session: Session, place: Point) -> tuple[int, int]:
    """The cell (i, j) at ``place``, in metres; the nearest one beyond the walls."""
    (nx, ny), (width, height) = session.shown.shape, session.shown.domain
    i, j = int(place[0] / width * nx), int(place[1] / height * ny)
    return min(max(i, 0), nx - 1), min(max(j, 0), ny - 1)
