"""Colours, fonts, sizes and numbers of the window."""

from __future__ import annotations

from imgui_bundle import hello_imgui, imgui, implot

Colour = tuple[float, float, float, float]

FONT_SIZE = 15.0
BACKGROUND = (0.055, 0.067, 0.094, 1.0)
PANEL = (0.078, 0.094, 0.129, 1.0)
FRAME = (0.125, 0.149, 0.200, 1.0)
ACCENT = (0.247, 0.643, 0.910, 1.0)
MUTED = (0.545, 0.592, 0.667, 1.0)
TEXT = (0.875, 0.902, 0.945, 1.0)
RED = (1.0, 0.42, 0.38, 1.0)
GREEN = (0.44, 0.83, 0.55, 1.0)
AMBER = (0.957, 0.733, 0.318, 1.0)
BESIDE = (0.776, 0.471, 0.957, 1.0)  # the method that goes along in continuous mode
LEAF = (1.0, 0.86, 0.35, 1.0)  # the outline of a leaf
CLEAR = (0.0, 0.0, 0.0, 0.0)
PHASES = {  # colours of the parts of a frame, in the order in which they happen
    "sim": ACCENT,
    "set-up + inference": AMBER,
    "solve": (0.929, 0.420, 0.404, 1.0),
    "failed solve": (0.62, 0.16, 0.30, 1.0),
    "draw": MUTED,
}
_WINDOW = {  # the background shows through: filling it twice costs a software renderer 2 ms
    "window_bg docking_empty_bg": CLEAR,
    "popup_bg": PANEL,
    "text": TEXT,
    "text_disabled": MUTED,
    "frame_bg": FRAME,
    "frame_bg_hovered": (0.16, 0.20, 0.27, 1.0),
    "frame_bg_active": (0.18, 0.24, 0.33, 1.0),
    "slider_grab": (0.17, 0.40, 0.60, 1.0),
    "slider_grab_active check_mark tab_selected_overline": ACCENT,
    "button": (0.145, 0.180, 0.247, 1.0),
    "button_hovered": (0.19, 0.27, 0.38, 1.0),
    "button_active header_active": (0.20, 0.42, 0.62, 1.0),
    "header tab_selected": (0.15, 0.26, 0.38, 1.0),
    "header_hovered tab_hovered": (0.18, 0.33, 0.48, 1.0),
    "tab": (0.10, 0.12, 0.165, 1.0),
    "separator": (0.16, 0.19, 0.25, 1.0),
}
_PLOTS = {
    "frame_bg legend_border": CLEAR,
    "plot_bg": BACKGROUND,
    "legend_bg": (*BACKGROUND[:3], 0.7),
    "axis_text": MUTED,
}

fonts: dict[str, imgui.ImFont] = {}


def load_fonts() -> None:
    """Load the text font, with the buttons' icons, and the bold one."""
    folder = "fonts/Roboto/Roboto-"
    fonts["text"] = hello_imgui.load_font_ttf_with_font_awesome_icons(f"{folder}Regular.ttf", FONT_SIZE)
    fonts["bold"] = hello_imgui.load_font_ttf(f"{folder}Bold.ttf", FONT_SIZE)


def apply() -> None:
    """Set the style of the window and of its plots."""
    imgui.style_colors_dark()
    style, plots = imgui.get_style(), implot.get_style()
    style.window_rounding = style.child_rounding = 0.0
    style.frame_rounding = style.popup_rounding = style.grab_rounding = 3.0
    style.frame_padding = (7.0, 3.0)
    style.item_spacing = (7.0, 4.0)
    style.window_padding = (10.0, 8.0)
    style.window_border_size = plots.plot_border_size = 0.0
    style.separator_text_border_size = 1.0
    style.separator_text_padding = (0.0, 5.0)
    style.docking_separator_size = 3.0
    plots.plot_padding = (10.0, 4.0)
    plots.label_padding = (4.0, 3.0)
    plots.legend_padding = (4.0, 2.0)
    plots.legend_inner_padding = (2.0, 2.0)
    plots.minor_alpha = 0.15
    for toolkit, its_style, colours in ((imgui, style, _WINDOW), (implot, plots, _PLOTS)):
        for names, colour in colours.items():
            for name in names.split():
                its_style.set_color_(getattr(toolkit.Col_, name), imgui.ImVec4(*colour))


def scaled(pixels: float) -> float:
    """A length for a screen of ordinary density, as many pixels as this screen's density asks for."""
    return pixels * imgui.get_font_size() / FONT_SIZE


def packed(colour: Colour, alpha: float = 1.0) -> int:
    """A colour as the draw lists want it."""
    return imgui.color_convert_float4_to_u32(imgui.ImVec4(*colour[:3], colour[3] * alpha))


def say(text: str, colour: Colour = MUTED) -> None:
    """Text in the current window, wrapped at its edge; nothing for no text."""
    if text:
        imgui.push_style_color(imgui.Col_.text, colour)
        imgui.text_wrapped(text)
        imgui.pop_style_color()


def write(canvas: imgui.ImDrawList, x: float, y: float, text: str, colour: Colour = TEXT) -> None:
    """Text with its upper left corner at a place on the screen."""
    canvas.add_text((x, y), packed(colour), text)


def number(value: float) -> str:
    """A number as people write it: four digits, thousands apart ("10,000"), powers of ten where they help."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"
