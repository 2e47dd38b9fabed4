"""Colours, fonts, sizes and numbers of the window."""

from __future__ import annotations

from imgui_bundle import hello_imgui, imgui, implot

from app.config import settings

Colour = tuple[float, float, float, float]

FONT_SIZE = 15.0
CLEAR, WHITE = (0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 1.0)
_DARK = {
    "BACKGROUND": (0.055, 0.067, 0.094, 1.0),
    "PANEL": (0.078, 0.094, 0.129, 1.0),
    "FRAME": (0.125, 0.149, 0.200, 1.0),
    "ACCENT": (0.247, 0.643, 0.910, 1.0),
    "MUTED": (0.545, 0.592, 0.667, 1.0),
    "TEXT": (0.875, 0.902, 0.945, 1.0),
    "RED": (1.0, 0.42, 0.38, 1.0),
    "GREEN": (0.44, 0.83, 0.55, 1.0),
    "AMBER": (0.957, 0.733, 0.318, 1.0),
    "BESIDE": (0.776, 0.471, 0.957, 1.0),  # the method that goes along in continuous mode
    "LEAF": (1.0, 0.86, 0.35, 1.0),  # the outline of a leaf
    "SOLVE": (0.929, 0.420, 0.404, 1.0),
    "FAILED": (0.62, 0.16, 0.30, 1.0),
}
_LIGHT = {
    "BACKGROUND": (0.992, 0.988, 0.976, 1.0),
    "PANEL": (0.949, 0.945, 0.933, 1.0),
    "FRAME": (0.875, 0.878, 0.878, 1.0),
    "ACCENT": (0.055, 0.400, 0.690, 1.0),
    "MUTED": (0.345, 0.376, 0.435, 1.0),
    "TEXT": (0.090, 0.106, 0.145, 1.0),
    "RED": (0.745, 0.110, 0.090, 1.0),
    "GREEN": (0.055, 0.420, 0.190, 1.0),
    "AMBER": (0.580, 0.345, 0.000, 1.0),
    "BESIDE": (0.420, 0.130, 0.650, 1.0),
    "LEAF": (0.850, 0.450, 0.000, 1.0),
    "SOLVE": (0.780, 0.250, 0.240, 1.0),
    "FAILED": (0.50, 0.05, 0.24, 1.0),
}
THEMES = dict(zip(settings.THEMES, (_DARK, _LIGHT), strict=True))
BACKGROUND = PANEL = FRAME = ACCENT = MUTED = TEXT = RED = GREEN = AMBER = BESIDE = LEAF = SOLVE = FAILED = (
    CLEAR
)
PHASES: dict[str, Colour] = {}  # of the parts of a frame, in the order in which they happen
applied = ""  # the name of the theme


def _choose(name: str) -> None:
    """Make the names above those of a theme."""
    globals().update(THEMES[name])
    names = ("sim", "set-up + inference", "solve", "failed solve", "draw")
    PHASES.update(zip(names, (ACCENT, AMBER, SOLVE, FAILED, MUTED), strict=True))


_choose(settings.THEMES[0])  # for whoever asks before there is a window


def _towards(colour: Colour, other: Colour, share: float) -> Colour:
    return tuple(a + share * (b - a) for a, b in zip(colour, other, strict=True))


def _window_colours() -> dict[str, Colour]:
    """Of the toolkit's own names; the background shows through: filling it twice costs a software renderer
    2 ms.
    """
    return {
        "window_bg docking_empty_bg": CLEAR,
        "popup_bg": PANEL,
        "text": TEXT,
        "text_disabled": MUTED,
        "frame_bg": FRAME,
        "frame_bg_hovered": _towards(FRAME, ACCENT, 0.12),
        "frame_bg_active": _towards(FRAME, ACCENT, 0.22),
        "slider_grab": _towards(FRAME, ACCENT, 0.5),
        "slider_grab_active check_mark tab_selected_overline": ACCENT,
        "button": _towards(FRAME, ACCENT, 0.06),
        "button_hovered": _towards(FRAME, ACCENT, 0.25),
        "button_active header_active": _towards(FRAME, ACCENT, 0.5),
        "header tab_selected": _towards(FRAME, ACCENT, 0.25),
        "header_hovered tab_hovered": _towards(FRAME, ACCENT, 0.4),
        "tab": _towards(PANEL, FRAME, 0.5),
        "separator border": _towards(FRAME, MUTED, 0.15),
    }


def _plot_colours() -> dict[str, Colour]:
    return {
        "frame_bg legend_border": CLEAR,
        "plot_bg": BACKGROUND,
        "legend_bg": (*BACKGROUND[:3], 0.7),
        "axis_text": MUTED,
        "title_text inlay_text legend_text": TEXT,
    }


fonts: dict[str, imgui.ImFont] = {}


def load_fonts() -> None:
    """Load the text font, with the buttons' icons, and the bold one."""
    folder = "fonts/Roboto/Roboto-"
    fonts["text"] = hello_imgui.load_font_ttf_with_font_awesome_icons(f"{folder}Regular.ttf", FONT_SIZE)
    fonts["bold"] = hello_imgui.load_font_ttf(f"{folder}Bold.ttf", FONT_SIZE)


def apply(name: str = settings.THEMES[0]) -> None:
    """Set the style of the window and of its plots, in one of THEMES. Raises KeyError for another name."""
    global applied
    _choose(name)
    applied = name
    (imgui.style_colors_light if name == "light" else imgui.style_colors_dark)()
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
    plots.plot_padding = (22.0, 4.0)  # half of a number at the end of an axis
    plots.label_padding = (4.0, 3.0)
    plots.legend_padding = (4.0, 2.0)
    plots.legend_inner_padding = (2.0, 2.0)
    plots.minor_alpha = 0.15
    for toolkit, its_style, colours in ((imgui, style, _window_colours()), (implot, plots, _plot_colours())):
        for names, colour in colours.items():
            for name in names.split():
                its_style.set_color_(getattr(toolkit.Col_, name), imgui.ImVec4(*colour))


def scaled(pixels: float) -> float:
    """A length for a screen of ordinary density, as many pixels as this screen's density asks for."""
    return pixels * imgui.get_font_size() / FONT_SIZE


def packed(colour: Colour, alpha: float = 1.0) -> int:
    """A colour as the draw lists want it."""
    return imgui.color_convert_float4_to_u32(imgui.ImVec4(*colour[:3], colour[3] * alpha))


def say(text: str, colour: Colour | None = None) -> None:
    """Text in the current window, muted unless it has a colour, wrapped at its edge; nothing for no text."""
    if text:
        imgui.push_style_color(imgui.Col_.text, colour or MUTED)
        imgui.text_wrapped(text)
        imgui.pop_style_color()


def write(canvas: imgui.ImDrawList, x: float, y: float, text: str, colour: Colour | None = None) -> None:
    """Text with its upper left corner at a place on the screen."""
    canvas.add_text((x, y), packed(colour or TEXT), text)


def number(value: float) -> str:
    """A number as people write it: four digits, thousands apart ("10,000"), powers of ten where they help."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"
