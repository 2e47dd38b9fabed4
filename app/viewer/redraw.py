"""Where the processor draws the window (Mesa's llvmpipe), no more is drawn than has changed: panels that
nobody touches are built again a few times a second, and between that their pixels stay, for the next picture
begins there as the last one ended.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
from imgui_bundle import imgui

from app.viewer import theme

SETTLE = 3  # pictures that the toolkit may take until what has changed stands still
HOST = "MainDockSpace"  # the window around all panels
KEEP = int(imgui.internal.WindowRefreshFlags_.try_to_avoid_refresh)
X11 = 0x00060004  # of GLFW; what follows of OpenGL
RENDERER, SCISSOR_TEST, COLOUR_BUFFER, NEAREST, LINEAR = 0x1F01, 0x0C11, 0x4000, 0x2600, 0x2601
TEXTURE, FROM_BUFFER, BUFFER_IMAGE, RGBA, BGRA, BYTES = 0x0DE1, 0x8CA8, 0x8CE0, 0x1908, 0x80E1, 0x1401
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the screen


class Panel:
    """One dockable window, which ``draw`` fills every ``seconds``, and at every picture while it is touched.
    ``fresh``: it was filled for this picture; ``box``: where it is; ``docked``: over no other one.
    """

    def __init__(self, name: str, draw: Callable[[], object], seconds: float = 0.0, flags: int = 0) -> None:
        self.name, self.draw, self.seconds, self.flags = name, draw, seconds, flags
        self.box: Box = (0.0, 0.0, 0.0, 0.0)
        self.fresh, self.docked, self._due, self._left = True, True, 0.0, SETTLE

    def touch(self) -> None:
        """Somebody changes something in it."""
        self._left = SETTLE

    def show(self) -> None:
        """Begin and end the window, filled anew or as it was."""
        now = time.monotonic()
        self.fresh = self._left > 0 or now >= self._due
        window = imgui.internal.find_window_by_name(self.name)
        if not self.fresh:
            imgui.internal.set_next_window_refresh_policy(KEEP)
        elif window is not None:
            window.skip_items = False  # as it was when it was kept: it would have no scroll bar
        shown = imgui.begin(self.name, None, self.flags)
        window = imgui.internal.get_current_window()
        if window.skip_refresh:
            window.parent_window.dc.child_windows.push_back(window)
        elif shown:
            self.fresh, self._left, self._due = True, max(self._left - 1, 0), now + self.seconds
            (left, top), (width, height) = imgui.get_window_pos(), imgui.get_window_size()
            self.box, self.docked = (left, top, left + width, top + height), imgui.is_window_docked()
            self.draw()
        imgui.end()

    def owns(self, name: str) -> bool:
        """Whether a window is this one, or a part of it."""
        return name == self.name or name.startswith(f"{self.name}/")


class Redraw:
    """Decides for every picture which of ``panels`` are built anew, and which pixels are drawn."""

    def __init__(self, panels: Iterable[Panel]) -> None:
        self.panels = tuple(panels)
        self.kept = 0  # pictures of which a part stayed
        self._screen: _Screen | None = None
        self._whole = SETTLE  # pictures that are drawn whole, at least
        self._size = (0.0, 0.0)
        self._image: tuple[np.ndarray, float, float, float, float] | None = None

    def open(self) -> None:
        """Look at what draws, when there is a window."""
        self._screen = _Screen.found()

    def everything(self) -> None:
        """All is another now."""
        self._whole = SETTLE
        for panel in self.panels:
            panel.touch()

    def begin(self, busy: bool) -> None:
        """Before the panels are shown. ``busy``: somebody types, or holds something that is no picture."""
        size, mouse = tuple(imgui.get_io().display_size), imgui.get_io().mouse_pos
        busy |= self._screen is None or size != self._size or not all(panel.docked for panel in self.panels)
        if busy or imgui.is_popup_open("", imgui.PopupFlags_.any_popup):
            self.everything()
        self._size = size
        under = [panel for panel in self.panels if _inside(mouse, panel.box)]
        for panel in under:
            panel.touch()
        if not under and _inside(mouse, (0.0, 0.0, *size)):  # at the line between two panels
            self.everything()

    def render(self) -> None:
        """Before the toolkit renders: leave out of the picture what stays as it is."""
        if self._screen is None:
            return
        imgui.render()
        data = imgui.get_draw_data()
        lists = list(data.cmd_lists)
        owners = [next((p for p in self.panels if p.owns(one._owner_name)), None) for one in lists]
        boxes = [(0.0, 0.0, *data.display_size)]
        if self._whole == 0:
            boxes = [panel.box for panel in self.panels if panel.fresh]
            data.cmd_lists.clear()
            for one, owner in zip(lists, owners, strict=True):
                if owner is None or owner.fresh:  # their scroll bars are the host's
                    data.cmd_lists.push_back(one)
            self.kept += len(boxes) < len(self.panels)
        self._whole = max(self._whole - 1, 0)
        for one, owner in zip(lists, owners, strict=True):
            if owner is None and not one._owner_name.startswith(HOST):  # a tooltip, a list
                self.everything()
        self._screen.clear(boxes)
        if self._image is not None:
            self._screen.show(*self._image)
            self._image = None

    @property
    def paints(self) -> bool:
        """Whether `paint` can be used."""
        return self._screen is not None

    def paint(self, bgra: np.ndarray, left: float, top: float, width: float, height: float) -> None:
        """Put an image (rows, columns, 4) uint8 below all panels in the next picture, in place of a texture:
        a copy where its size is the screen's.
        """
        self._image = bgra, left, top, width, height


def _inside(place: imgui.ImVec2, box: Box) -> bool:
    return box[0] <= place.x < box[2] and box[1] <= place.y < box[3]


class _Screen:
    """Clears parts of a window that the processor draws, keeps the toolkit from clearing all of it, and
    copies an image into it.
    """

    def __init__(self, function: Callable[..., Callable]) -> None:
        whole, natural, share, memory = ctypes.c_int, ctypes.c_uint, ctypes.c_float, ctypes.c_void_p
        self._scissor = function("glScissor", *(whole,) * 4)
        self._colour = function("glClearColor", *(share,) * 4)
        self._clear = function("glClear", natural)
        self._enable, self._disable = function("glEnable", natural), function("glDisable", natural)
        self._use_texture = function("glBindTexture", natural, natural)
        self._use_buffer = function("glBindFramebuffer", natural, natural)
        self._create = function("glTexImage2D", natural, *(whole,) * 5, natural, natural, memory)
        self._renew = function("glTexSubImage2D", natural, *(whole,) * 5, natural, natural, memory)
        self._attach = function("glFramebufferTexture2D", *(natural,) * 4, whole)
        self._copy = function("glBlitFramebuffer", *(whole,) * 8, natural, natural)
        self._texture, self._buffer = natural(), natural()
        function("glGenTextures", whole, memory)(1, ctypes.byref(self._texture))
        function("glGenFramebuffers", whole, memory)(1, ctypes.byref(self._buffer))
        self._size = (0, 0)  # of the texture

    @classmethod
    def found(cls) -> _Screen | None:
        """One, where the window is an X window and Mesa's processor renderer draws it."""
        library = os.environ.get("PYGLFW_LIBRARY")  # set by imgui_bundle, whose own GLFW it is
        if library is None or sys.platform != "linux":
            return None
        glfw = ctypes.CDLL(library)
        glfw.glfwGetProcAddress.restype = ctypes.c_void_p

        def function(name: str, *types: type, gives: type | None = None) -> Callable:
            return ctypes.CFUNCTYPE(gives, *types)(glfw.glfwGetProcAddress(name.encode()))

        if glfw.glfwGetPlatform() != X11:
            return None
        renderer = function("glGetString", ctypes.c_uint, gives=ctypes.c_char_p)(RENDERER)
        return cls(function) if renderer and renderer.startswith(b"llvmpipe") else None

    def clear(self, boxes: list[Box]) -> None:
        """Fill them with the panels' colour; what the toolkit clears at its next picture is nothing."""
        self._enable(SCISSOR_TEST)
        self._colour(*theme.PANEL)
        for box in boxes:
            left, bottom, right, top = _pixels(box)
            self._scissor(left, bottom, max(right - left, 0), max(top - bottom, 0))
            self._clear(COLOUR_BUFFER)
        self._scissor(0, 0, 0, 0)

    def show(self, bgra: np.ndarray, left: float, top: float, width: float, height: float) -> None:
        """Copy an image into the window; stretched where it is smaller or larger."""
        rows, columns = bgra.shape[:2]
        self._use_texture(TEXTURE, self._texture)
        if self._size != (columns, rows):
            self._size = columns, rows
            self._create(TEXTURE, 0, RGBA, columns, rows, 0, BGRA, BYTES, bgra.ctypes.data)
            self._use_buffer(FROM_BUFFER, self._buffer)
            self._attach(FROM_BUFFER, BUFFER_IMAGE, TEXTURE, self._texture, 0)
        else:
            self._renew(TEXTURE, 0, 0, 0, columns, rows, BGRA, BYTES, bgra.ctypes.data)
            self._use_buffer(FROM_BUFFER, self._buffer)
        self._use_texture(TEXTURE, 0)
        x, low, right, y = _pixels((left, top, left + width, top + height))
        same = abs(right - x - columns) <= 1 and abs(y - low - rows) <= 1
        right, low = (x + columns, y - rows) if same else (right, low)
        self._disable(SCISSOR_TEST)
        self._copy(0, 0, columns, rows, x, y, right, low, COLOUR_BUFFER, NEAREST if same else LINEAR)
        self._enable(SCISSOR_TEST)
        self._use_buffer(FROM_BUFFER, 0)


def _pixels(box: Box) -> tuple[int, int, int, int]:
    """Left, bottom, right and top of a box, counted from the lower left corner."""
    io = imgui.get_io()
    (wide, high), height = io.display_framebuffer_scale, io.display_size.y
    left, top, right, bottom = box
    return (
        round(left * wide),
        round((height - bottom) * high),
        round(right * wide),
        round((height - top) * high),
    )
