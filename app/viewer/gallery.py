"""The gallery: every scene with its picture and description; a click, or the arrows and Enter, opens one."""

from __future__ import annotations

import numpy as np
from imgui_bundle import imgui
from PIL import Image

from app.viewer import theme
from app.viewer.canvas import Texture
from app.viewer.session import Session
from sim.scenes import THUMBNAIL_FOLDER, load_scene

POPUP = "Gallery of scenes"
CARD = (212.0, 214.0)  # pixels of a screen of ordinary density
PICTURE_HEIGHT = 106.0
ARROWS = {imgui.Key.left_arrow: (-1, 0), imgui.Key.right_arrow: (1, 0)}
ARROWS |= {imgui.Key.up_arrow: (0, -1), imgui.Key.down_arrow: (0, 1)}


class Gallery:
    """The popup with all scenes; pictures are read when it opens first."""

    def __init__(self) -> None:
        self.chosen = 0  # the card that Enter opens
        self._scenes: dict[str, tuple[str, str]] = {}  # name to title and description
        self._pictures: dict[str, tuple[Texture, np.ndarray]] = {}

    def draw(self, session: Session) -> None:
        """Open or close it where the session asks for it, and draw it."""
        names, asked = list(session.scenes), session.show_gallery
        session.show_gallery = False
        closes = asked and imgui.is_popup_open(POPUP)
        if asked and not closes:
            self._load(names)
            current = session.engine.settings.simulation.scene
            self.chosen = names.index(current) if current in names else 0
            imgui.open_popup(POPUP)
        viewport, style = imgui.get_main_viewport(), imgui.get_style()
        room = 0.94 * viewport.size.x - 2.0 * style.window_padding.x - style.scrollbar_size
        columns = max(1, min(4, int(room / (theme.scaled(CARD[0]) + style.item_spacing.x))))
        width = columns * (theme.scaled(CARD[0]) + style.item_spacing.x) + style.scrollbar_size
        imgui.set_next_window_pos(viewport.get_center(), imgui.Cond_.always, (0.5, 0.5))
        imgui.set_next_window_size((width + 2.0 * style.window_padding.x, 0.9 * viewport.size.y))
        if not imgui.begin_popup(POPUP):
            return
        moved = self._read_arrows(columns, len(names))
        imgui.text_colored(theme.MUTED, "click, or arrows and Enter")
        imgui.begin_child("cards")
        for number, name in enumerate(names):
            if number % columns:
                imgui.same_line()
            if self._draw_card(name, number == self.chosen) or (
                number == self.chosen and imgui.is_key_pressed(imgui.Key.enter, repeat=False)
            ):
                session.ask(session.change, "scene", name)
                closes = True
            if number == self.chosen and (moved or imgui.is_window_appearing()):
                imgui.set_scroll_here_y()
        imgui.end_child()
        if closes:
            imgui.close_current_popup()
        imgui.end_popup()

    def _load(self, names: list[str]) -> None:
        for name in names:
            if name in self._scenes:
                continue
            scene = load_scene(name)
            self._scenes[name] = scene.title, scene.description
            path = THUMBNAIL_FOLDER / f"{name}.png"
            if path.exists():
                with Image.open(path) as image:
                    self._pictures[name] = Texture(), np.asarray(image.convert("RGBA"))

    def _read_arrows(self, columns: int, count: int) -> bool:
        """Move the chosen card; whether it moved."""
        before = self.chosen
        for key, (right, down) in ARROWS.items():
            if imgui.is_key_pressed(key):
                goal = self.chosen + right + down * columns
                self.chosen = goal if 0 <= goal < count else self.chosen
        return self.chosen != before

    def _draw_card(self, name: str, chosen: bool) -> bool:
        """One scene; whether it was clicked."""
        title, description = self._scenes[name]
        width, height = map(theme.scaled, CARD)
        corner, canvas = imgui.get_cursor_screen_pos(), imgui.get_window_draw_list()
        clicked = imgui.selectable(f"##{name}", chosen, 0, (width, height))[0]
        pad, line = theme.scaled(6.0), imgui.get_text_line_height()
        left, top, inner, room = (
            corner.x + pad,
            corner.y + pad,
            width - 2.0 * pad,
            theme.scaled(PICTURE_HEIGHT),
        )
        canvas.add_rect_filled((left, top), (left + inner, top + room), theme.packed(theme.BACKGROUND), 3.0)
        if name in self._pictures:
            texture, rgba = self._pictures[name]
            scale = min(inner / rgba.shape[1], room / rgba.shape[0])
            half_x, half_y = 0.5 * scale * rgba.shape[1], 0.5 * scale * rgba.shape[0]
            x, y = left + 0.5 * inner, top + 0.5 * room
            canvas.add_image(texture.show(rgba), (x - half_x, y - half_y), (x + half_x, y + half_y))
        canvas.push_clip_rect((left, top), (left + inner, corner.y + height - pad), True)
        text_top = top + room + pad
        canvas.add_text(
            theme.fonts["bold"], imgui.get_font_size(), (left, text_top), theme.packed(theme.TEXT), title
        )
        font, size = theme.fonts["text"], 0.87 * imgui.get_font_size()
        place = (left, text_top + 1.2 * line)
        canvas.add_text(font, size, place, theme.packed(theme.MUTED), description, inner)
        canvas.pop_clip_rect()
        return clicked
