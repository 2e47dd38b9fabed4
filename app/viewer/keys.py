"""Every key of the window: what it is called, what it does, and the overlay that lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from imgui_bundle import imgui

from app.picture import VIEWS
from app.viewer import theme
from app.viewer.materials import MATERIALS
from app.viewer.session import Session


class Key(NamedTuple):
    """One key: the toolkit's codes for it, its name and meaning, its action; whether with Ctrl."""

    codes: tuple[imgui.Key, ...]
    name: str
    meaning: str
    action: Callable[[Session], None]
    ctrl: bool = False
    at_once: bool = False  # nothing that the simulation has to be asked for


def _view_key(number: int, field: str) -> Key:
    codes = (getattr(imgui.Key, f"_{number}"), getattr(imgui.Key, f"keypad{number}"))
    return Key(
        codes, str(number), f"show {field}", lambda session: session.change_view(field=field), at_once=True
    )


def _material_key(material: str, letter: str) -> Key:
    codes = (getattr(imgui.Key, letter.lower()),)
    return Key(codes, letter, f"brush: {material}", lambda session: session.take(material), at_once=True)


def _toggle_help(session: Session) -> None:
    session.show_help = not session.show_help
    session.explained = True


KEYS = (
    Key((imgui.Key.space,), "Space", "pause, or go on", Session.toggle_pause),
    Key((imgui.Key.period, imgui.Key.keypad_decimal), ".", "one single step", Session.step),
    Key((imgui.Key.r,), "R", "reset the scene", lambda session: session.engine.reset()),
    Key((imgui.Key.z,), "Ctrl + Z", "undo the last stroke or change, flow included", Session.undo, ctrl=True),
    Key((imgui.Key.y,), "Ctrl + Y", "redo it", Session.redo, ctrl=True),
    Key((imgui.Key.s,), "Ctrl + S", "save the whole state", Session.save_state, ctrl=True),
    *(_view_key(number, field) for number, field in enumerate(VIEWS, start=1)),
    Key((imgui.Key.g,), "G", "open or close the gallery of scenes", Session.toggle_gallery, at_once=True),
    *(_material_key(name, material.key) for name, material in MATERIALS.items()),
    Key((imgui.Key.l,), "L", "outline the leaf under the mouse (tab Partition)", Session.toggle_leaf),
    Key((imgui.Key.f1,), "F1", "show or hide this list", _toggle_help, at_once=True),
    Key(
        (imgui.Key.f5,),
        "F5",
        "race on this frame: all ticked methods solve it (tab Race)",
        Session.start_race,
    ),
    Key((imgui.Key.f9,), "F9", "record every frame, or stop recording", Session.toggle_recording),
    Key((imgui.Key.f12,), "F12", "save the picture as PNG", Session.save_screenshot),
)
OTHERS = (
    ("Escape", "close a list, or this one"),
    ("drag", "stir the fluids"),
    ("right-drag", "paint with the chosen material, or move an obstacle"),
    ("wheel", "resize the brush"),
    ("point at the partition", "name a tile, its rank and its norm"),
    ("Ctrl + click", "type a slider's value"),
)


def handle_keys(session: Session) -> bool:
    """Ask for what the keys pressed in this frame mean, unless somebody is typing a value; whether there is
    any.
    """
    io, pressed = imgui.get_io(), False
    if io.want_text_input:
        return True
    for key in KEYS:
        if key.ctrl == io.key_ctrl and any(
            imgui.is_key_pressed(code, repeat=key.name == ".") for code in key.codes
        ):
            pressed = True
            if key.at_once:
                key.action(session)
            else:
                session.ask(key.action, session)
    if imgui.is_key_pressed(imgui.Key.escape, repeat=False):
        if imgui.is_popup_open("", imgui.PopupFlags_.any_popup):
            imgui.internal.close_popup_to_level(0, True)
        elif session.show_help:
            session.show_help = False
        pressed = True
    return pressed


def draw_help(session: Session) -> None:
    """The overlay with all keys, in the middle of the window."""
    if not session.show_help:
        return
    viewport = imgui.get_main_viewport()
    imgui.set_next_window_pos(viewport.get_center(), imgui.Cond_.always, (0.5, 0.5))
    flag = imgui.WindowFlags_
    flags = flag.no_decoration | flag.always_auto_resize | flag.no_saved_settings | flag.no_docking
    imgui.push_style_var(imgui.StyleVar_.window_padding, (24.0, 18.0))
    imgui.push_style_color(imgui.Col_.window_bg, theme.BACKGROUND)
    imgui.begin("Help", None, flags)
    imgui.pop_style_color()
    imgui.pop_style_var()
    imgui.push_font(theme.fonts["bold"], 1.25 * theme.FONT_SIZE)
    imgui.text("Keys and mouse")
    imgui.pop_font()
    imgui.spacing()
    if imgui.begin_table("keys", 2, imgui.TableFlags_.sizing_fixed_fit):
        for name, meaning in (*((key.name, key.meaning) for key in KEYS), *OTHERS):
            imgui.table_next_column()
            imgui.text_colored(theme.ACCENT, name + "    ")
            imgui.table_next_column()
            imgui.text(meaning)
        imgui.end_table()
    imgui.end()
