"""The bar that says what colours stand for."""

from __future__ import annotations

from imgui_bundle import imgui

from app.picture import LEVELS, colour_table
from app.viewer import theme
from app.viewer.scale import Scale, ticks

BAR_WIDTH = 14.0


def draw_colour_bar(
    canvas: imgui.ImDrawList, colours: str, scale: Scale, unit: str, x: float, top: float, height: float
) -> None:
    """The colours from low (bottom) to high, values beside them, the unit on top."""
    table = colour_table(colours)
    line = imgui.get_text_line_height()
    canvas.add_text((x, top - 0.2 * line), theme.packed(theme.MUTED), unit)
    top, height = top + 1.2 * line, max(height - 1.2 * line, 1.0)
    segments, bar = 32, theme.scaled(BAR_WIDTH)
    edges = [top + height * k / segments for k in range(segments + 1)]
    levels = [int(table[round((LEVELS - 1) * (1.0 - k / segments))]) for k in range(segments + 1)]
    for k in range(segments):
        upper, lower = levels[k], levels[k + 1]
        corners = (x, edges[k]), (x + bar, edges[k + 1])
        canvas.add_rect_filled_multi_color(*corners, upper, upper, lower, lower)
    canvas.add_rect((x, top), (x + bar, top + height), theme.packed(theme.MUTED, 0.6))
    for value, label in ticks(scale):
        y = top + height * (1.0 - scale.share(value))
        canvas.add_line((x + bar - 4.0, y), (x + bar, y), theme.packed(theme.TEXT))
        canvas.add_text((x + bar + 6.0, y - 0.5 * line), theme.packed(theme.TEXT), label)
