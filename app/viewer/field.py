"""The middle of the window: the picture, its colour bar, and the mouse on it."""

from __future__ import annotations

from imgui_bundle import imgui

from app.picture import Picture
from app.viewer import theme
from app.viewer.colour_bar import draw_colour_bar
from app.viewer.partition_picture import outline
from app.viewer.scale import Scale
from app.viewer.session import Session
from app.viewer.texture import Texture

BAR_SPACE = 84.0  # colour bar and its numbers
FOOT = 24.0
WHEEL_FACTOR = 1.15


class FieldPanel:
    """Draws a session's picture as large as fits and turns the mouse on it into stirring and painting.

    ``rectangle`` (left, top, width, height) is where the picture was drawn last, in pixels of the screen.
    """

    def __init__(self) -> None:
        self.rectangle = (0.0, 0.0, 1.0, 1.0)
        self._texture = Texture()
        self._mouse: tuple[float, float] | None = None  # where a stroke has got to, in metres

    def draw(self, session: Session) -> None:
        """Draw into the current window, below what is there already."""
        picture = session.draw()
        texture = self._texture.show(picture.rgba)
        space = imgui.get_content_region_avail()
        width_m, height_m = session.engine.simulation.domain
        room_x, room_y = space.x - theme.scaled(BAR_SPACE), space.y - theme.scaled(FOOT)
        scale = max(1e-3, min(room_x / width_m, room_y / height_m))  # pixels per metre
        width, height = scale * width_m, scale * height_m
        corner = imgui.get_cursor_screen_pos()
        left = corner.x + max(0.0, 0.5 * (room_x - width))
        top = corner.y + max(0.0, 0.5 * (room_y - height))
        self.rectangle = (left, top, width, height)
        canvas = imgui.get_window_draw_list()
        canvas.add_image(texture, (left, top), (left + width, top + height))
        imgui.set_cursor_screen_pos((left, top))
        buttons = imgui.ButtonFlags_.mouse_button_left | imgui.ButtonFlags_.mouse_button_right
        imgui.invisible_button("picture", (max(width, 1.0), max(height, 1.0)), buttons)
        mouse = imgui.get_io().mouse_pos
        place = ((mouse.x - left) / scale, height_m - (mouse.y - top) / scale)
        self._use_mouse(session, place)
        view = session.view
        scale_of_colours = Scale(picture.low, picture.high, view.logarithmic)
        draw_colour_bar(canvas, view.colours, scale_of_colours, view.unit, left + width + 12.0, top, height)
        hovered = imgui.is_item_hovered()
        inspector = session.inspector
        if inspector.follow and inspector.shown:
            if hovered:
                inspector.point_at(*_cell(session, place))
            self._draw_leaf(canvas, session)
        if hovered or imgui.is_item_active():
            canvas.push_clip_rect((left, top), (left + width, top + height), True)
            colour = theme.packed(theme.TEXT, 0.8)
            canvas.add_circle((mouse.x, mouse.y), session.brush_radius * scale, colour, 40, 1.5)
            canvas.pop_clip_rect()
        foot_y = top + height + 5.0
        _draw_foot(canvas, session, picture, left, left + width, foot_y, place if hovered else None)
        self._draw_messages(canvas, session, left, top, width, height)

    def _use_mouse(self, session: Session, place: tuple[float, float]) -> None:
        """Wheel, stirring and painting; the last item is the picture. ``place`` is the mouse's, in metres."""
        wheel = imgui.get_io().mouse_wheel
        if imgui.is_item_hovered() and wheel:
            session.brush.resize(WHEEL_FACTOR**wheel)
        if not imgui.is_item_active():
            self._mouse = None
            return
        begin = self._mouse or place
        if imgui.is_mouse_down(imgui.MouseButton_.right):
            session.paint(begin, place)
        elif begin != place:
            session.stir(begin, place, imgui.get_io().delta_time)
        self._mouse = place

    def _draw_leaf(self, canvas: imgui.ImDrawList, session: Session) -> None:
        """The border of the leaf that was pointed at, bright on dark so that it shows on any field."""
        leaf = session.inspector.leaf()
        if leaf is None:
            return
        (left, top, width, height), (nx, ny) = self.rectangle, session.engine.simulation.shape
        scale_x, scale_y = width / nx, height / ny
        for colour, thickness in ((theme.BACKGROUND, 4.0), (theme.LEAF, 2.0)):
            for x0, y0, x1, y1 in outline(leaf.cells, (nx, ny)).tolist():
                begin = (left + scale_x * x0, top + height - scale_y * y0)
                end = (left + scale_x * x1, top + height - scale_y * y1)
                canvas.add_line(begin, end, theme.packed(colour), thickness)

    @staticmethod
    def _draw_messages(
        canvas: imgui.ImDrawList, session: Session, left: float, top: float, width: float, height: float
    ) -> None:
        if session.warning:
            _draw_banner(canvas, session.warning, theme.RED, left, top + 8.0, width)
        message = session.message
        if message:
            colour = theme.RED if message.error else theme.ACCENT
            _draw_banner(canvas, message.text, colour, left, top + height - 40.0, width, upwards=True)


def _draw_banner(
    canvas: imgui.ImDrawList,
    text: str,
    colour: tuple,
    left: float,
    y: float,
    width: float,
    upwards: bool = False,
) -> None:
    """A line of text on a dark plate over the picture; wrapped where it is too long."""
    room = max(width - 40.0, 80.0)
    size = imgui.calc_text_size(text, wrap_width=room)
    if upwards:
        y -= size.y - imgui.get_text_line_height()
    x = left + 0.5 * (width - size.x)
    plate = ((x - 12.0, y - 1.0), (x + size.x + 12.0, y + size.y + 9.0))
    canvas.add_rect_filled(*plate, theme.packed(theme.BACKGROUND, 0.92), 4.0)
    canvas.add_rect(*plate, theme.packed(colour), 4.0)
    canvas.add_text(
        theme.fonts["text"], imgui.get_font_size(), (x, y + 4.0), theme.packed(colour), text, room
    )


def _cell(session: Session, place: tuple[float, float]) -> tuple[int, int]:
    """The cell (i, j) at ``place``, in metres; the nearest one beyond the walls."""
    (nx, ny), (width, height) = session.engine.simulation.shape, session.engine.simulation.domain
    i, j = int(place[0] / width * nx), int(place[1] / height * ny)
    return min(max(i, 0), nx - 1), min(max(j, 0), ny - 1)


def _draw_foot(
    canvas: imgui.ImDrawList,
    session: Session,
    picture: Picture,
    left: float,
    right: float,
    y: float,
    place: tuple[float, float] | None,
) -> None:
    """One line under the picture: what is shown on the left, the value under the mouse on the right."""
    engine, muted = session.engine, theme.packed(theme.MUTED)
    nx, ny = engine.simulation.shape
    text = f"{session.view.field}   {nx} x {ny} cells   frame {engine.frame}"
    text += f"   t = {engine.simulation.time:.3f} s"
    canvas.add_text((left, y), theme.packed(theme.TEXT), text)
    if place is None:
        return
    i, j = _cell(session, place)
    value = f"({place[0]:.2f}, {place[1]:.2f}) m   {picture.values[i, j]:.4g} {session.view.unit}"
    start = right - imgui.calc_text_size(value).x
    if start > left + imgui.calc_text_size(text).x + 20.0:
        canvas.add_text((start, y), muted, value)
