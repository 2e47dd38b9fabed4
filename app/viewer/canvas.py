"""What is drawn beside widgets: pictures on the graphics card, and bars that say what colours stand for."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from imgui_bundle import imgui

from app.picture import LEVELS, Scale, colour_table
from app.viewer import axes, theme

BAR_WIDTH = 14.0
SEGMENTS = 32


class Texture:
    """An RGBA texture that takes a new image every frame; a new one is made only when the size changes."""

    def __init__(self) -> None:
        self._data: imgui.ImTextureData | None = None
        self._retired: list[imgui.ImTextureData] = []

    def show(self, rgba: np.ndarray) -> imgui.ImTextureRef:
        """Put a (height, width, 4) uint8 image, row 0 on top, into the texture; returns what to draw."""
        for old in [old for old in self._retired if old.status == imgui.ImTextureStatus.destroyed]:
            imgui.internal.unregister_user_texture(old)
            self._retired.remove(old)
        height, width = rgba.shape[:2]
        data = self._data
        if data is None or (data.width, data.height) != (width, height):
            if data is not None:
                self._retired.append(data)
                data.want_destroy_next_frame = True  # else the renderer makes it again
                data.set_status(imgui.ImTextureStatus.want_destroy)
                data.unused_frames = 1  # the renderer frees a texture only when it is out of use
            data = self._data = imgui.ImTextureData()
            data.create(imgui.ImTextureFormat.rgba32, width, height)
            data.use_colors = True
            imgui.internal.register_user_texture(data)
        data.get_pixels_array().reshape(-1)[:] = rgba.reshape(-1)
        if data.status == imgui.ImTextureStatus.ok:
            rectangle = imgui.ImTextureRect()
            rectangle.x, rectangle.y, rectangle.w, rectangle.h = 0, 0, width, height
            data.update_rect = data.used_rect = rectangle
            data.updates.clear()
            data.updates.push_back(rectangle)
            data.set_status(imgui.ImTextureStatus.want_updates)
        return data.get_tex_ref()


def draw_colour_bar(
    canvas: imgui.ImDrawList, colours: str, scale: Scale, unit: str, x: float, top: float, height: float
) -> None:
    """The colours from low (bottom) to high, values beside them, the unit on top."""
    line, bar = imgui.get_text_line_height(), theme.scaled(BAR_WIDTH)
    theme.write(canvas, x, top - 0.2 * line, unit, theme.MUTED)
    top, height = top + 1.2 * line, max(height - 1.2 * line, 1.0)
    levels = np.rint(np.linspace(LEVELS - 1, 0, SEGMENTS + 1)).astype(int)
    for k, (upper, lower) in enumerate(pairwise(colour_table(colours)[levels].tolist())):
        corners = (x, top + height * k / SEGMENTS), (x + bar, top + height * (k + 1) / SEGMENTS)
        canvas.add_rect_filled_multi_color(*corners, upper, upper, lower, lower)
    canvas.add_rect((x, top), (x + bar, top + height), theme.packed(theme.MUTED, 0.6))
    for value, label in ticks(scale):
        y = top + height * (1.0 - float(scale.share(value)))
        canvas.add_line((x + bar - 4.0, y), (x + bar, y), theme.packed(theme.TEXT))
        theme.write(canvas, x + bar + 6.0, y - 0.5 * line, label)


@lru_cache(maxsize=8)
def ticks(scale: Scale) -> list[tuple[float, str]]:
    """Round values on ``scale`` with their labels: powers of ten and the ends, or even steps."""
    low, high = scale.low, scale.high
    values = axes.ticks(axes.Axis("", low, high, scale.logarithmic), 9)
    if scale.logarithmic:
        values = [low] * (values[0] > 1.5 * low) + values + [high] * (high > 1.5 * values[-1])
    return [(value, theme.number(value)) for value in values if not scale.whole or value.is_integer()]
