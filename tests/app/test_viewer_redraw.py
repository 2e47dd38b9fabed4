"""What is not drawn again must look as if it were: on the real window, without the test engine."""

import ctypes
import os
from types import SimpleNamespace

import numpy as np
import pytest

from app.config.settings import app_settings
from app.engine import Engine
from app.viewer.session import Session
from app.viewer.window import Window

PICTURES = 60


def pixels():
    """The window's, as the last picture left them, (height, width, 4), row 0 on top."""
    from imgui_bundle import imgui

    glfw = ctypes.CDLL(os.environ["PYGLFW_LIBRARY"])
    glfw.glfwGetProcAddress.restype = ctypes.c_void_p
    whole, natural = ctypes.c_int, ctypes.c_uint
    read = ctypes.CFUNCTYPE(None, *(whole,) * 4, natural, natural, ctypes.c_void_p)
    width, height = map(int, imgui.get_io().display_size)
    seen = np.empty((height, width, 4), np.uint8)
    read(glfw.glfwGetProcAddress(b"glReadPixels"))(0, 0, width, height, 0x1908, 0x1401, seen.ctypes.data)
    return seen[::-1].astype(int)


@pytest.fixture
def pictures(display, tmp_path, monkeypatch):  # noqa: ARG001
    """Runs the window on a still simulation with a wall; ``each(window, number)`` comes after every picture,
    until it says so.
    """
    from imgui_bundle import immapp

    monkeypatch.chdir(tmp_path)

    def run(each):
        engine = Engine(app_settings({"grid": (64, 32), "preconditioner": "multigrid"}))
        window = Window(Session(engine))
        window.params.ini_disable = True
        engine.paint(0.7, 0.5, 0.1, "solid")
        for _ in range(20):
            window.session.draw()
            window.session.worker.turn()
        engine.paused = True
        end, count = window.params.callbacks.after_swap, SimpleNamespace(number=0)

        def after():
            end()
            window.params.fps_idling.enable_idling = False
            count.number += 1
            window.params.app_shall_exit |= each(window, count.number)

        window.params.callbacks.after_swap = after
        immapp.run(window.params, window.add_ons)
        window.session.beside.close()
        return window

    return run


def skip_unless_kept(window):
    if not window.redraw.paints:
        pytest.skip("the processor does not draw here: nothing is kept from the last picture")


def test_a_picture_of_which_parts_were_kept_is_the_whole_one(pictures):
    seen = {}

    def each(window, number):
        if number == PICTURES:
            seen["kept"], seen["count"] = pixels(), window.redraw.kept
            window.redraw.everything()
        elif number == PICTURES + 2:
            seen["whole"] = pixels()
        return number > PICTURES + 2

    window = pictures(each)
    skip_unless_kept(window)
    assert seen["count"] > PICTURES / 2
    differs = np.abs(seen["kept"] - seen["whole"]).max(axis=2) > 8
    assert differs.mean() < 0.01  # numbers of the strip above the picture may have changed
    for panel in window.redraw.panels:
        left, top, right, bottom = (int(edge) for edge in panel.box)
        assert seen["whole"][top:bottom, left:right].std() > 10.0
        if panel.name != "Fluid":
            assert differs[top:bottom, left:right].mean() < 0.01


def test_a_copied_picture_is_the_one_of_the_texture(pictures, monkeypatch):
    seen = []

    def each(window, number):
        if number == 10:
            left, top, width, height = (int(edge) for edge in window.field.rectangle)
            seen.append(pixels()[top + 3 : top + height - 3, left + 3 : left + width - 3])
        return number == 10

    skip_unless_kept(pictures(each))
    monkeypatch.setattr("app.viewer.redraw._Screen.found", lambda: None)
    pictures(each)
    copied, drawn = seen
    assert copied.shape == drawn.shape
    assert copied.std() > 20.0
    apart = np.abs(copied - drawn).max(axis=2)
    assert np.median(apart) <= 3
    assert (apart > 60).mean() < 0.02
