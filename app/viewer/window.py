"""The window itself: its layout, its loop, and what happens where none can open."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable

from imgui_bundle import hello_imgui, imgui, immapp

from app.engine import Engine
from app.viewer import keys, theme
from app.viewer.controls import draw_controls
from app.viewer.field import FieldPanel
from app.viewer.hud import Hud
from app.viewer.partition import PartitionPanel
from app.viewer.plots import draw_plots
from app.viewer.session import Session

SIZE = (1280, 800)
TITLE = "htp-fluid"
NO_TABS = int(imgui.internal.DockNodeFlagsPrivate_.no_tab_bar)


class WindowError(RuntimeError):
    """No window can open here; the message says why."""


class Window:
    """The layout and the loop around one session; ``params`` and ``add_ons`` are what immapp.run takes.

    ``take_step`` is called once a frame, before anything is drawn.
    """

    def __init__(
        self, engine: Engine, frames: int | None = None, take_step: Callable[[], None] | None = None
    ) -> None:
        self.session = Session(engine)
        self.opened = False
        self._frames_left = frames
        self._take_step = take_step or self.session.advance
        self.field = FieldPanel()
        self.partition = PartitionPanel()
        self._hud = Hud()
        self._drawing_since = 0.0
        self._show_partition = False
        self.params = self._make_params()
        self.add_ons = immapp.AddOnsParams(with_implot=True)

    def _make_params(self) -> hello_imgui.RunnerParams:
        params = hello_imgui.RunnerParams()
        params.app_window_params.window_title = TITLE
        params.app_window_params.window_geometry.size = SIZE
        params.app_window_params.restore_previous_geometry = True
        params.imgui_window_params.background_color = imgui.ImVec4(*theme.PANEL)
        params.imgui_window_params.remember_theme = False
        params.imgui_window_params.default_imgui_window_type = (
            hello_imgui.DefaultImGuiWindowType.provide_full_screen_dock_space
        )
        params.ini_folder_type = hello_imgui.IniFolderType.app_user_config_folder
        params.ini_filename = f"{TITLE}/window.ini"
        params.ini_disable = self._frames_left is not None  # a run of given length is a test or a measurement
        params.fps_idling.enable_idling = False
        params.fps_idling.vsync_to_monitor = False  # the frame rate is what people compare here
        params.renderer_backend_options.open_gl_options = hello_imgui.OpenGlOptions(anti_aliasing_samples=0)
        params.docking_params = _layout(
            {"Controls": self._draw_controls, "Fluid": self._draw_fluid, "Plots": self._draw_plots}
        )
        callbacks = params.callbacks
        callbacks.load_additional_fonts = theme.load_fonts
        callbacks.setup_imgui_config = _configure
        callbacks.setup_imgui_style = theme.apply
        callbacks.post_init = self._note_opened
        callbacks.pre_new_frame = self._begin_frame
        callbacks.show_gui = self._draw_overlays
        callbacks.after_swap = self._end_frame
        return params

    def _note_opened(self) -> None:
        self.opened = True

    def _begin_frame(self) -> None:
        self._show_partition = self.session.inspector.begin_frame()
        self._take_step()
        self._drawing_since = time.perf_counter()

    def _draw_overlays(self) -> None:
        keys.handle_keys(self.session)
        keys.draw_help(self.session)

    def _end_frame(self) -> None:
        engine = self.session.engine
        engine.note_draw(1e3 * (time.perf_counter() - self._drawing_since))
        idle = engine.paused and not self.params.use_imgui_test_engine
        self.params.fps_idling.enable_idling = idle
        if self._frames_left is not None and not engine.paused:
            self._frames_left -= 1
            if self._frames_left <= 0:
                self.params.app_shall_exit = True

    def _draw_controls(self) -> None:
        draw_controls(self.session)

    def _draw_fluid(self) -> None:
        self._hud.draw(self.session)
        self.field.draw(self.session)

    def _draw_plots(self) -> None:
        """Two tabs; what is behind the one in front is neither drawn nor computed."""
        if not imgui.begin_tab_bar("tabs"):
            return
        if imgui.begin_tab_item("Plots")[0]:
            draw_plots(self.session)
            imgui.end_tab_item()
        flags = imgui.TabItemFlags_.set_selected if self._show_partition else 0
        if imgui.begin_tab_item("Partition", None, flags)[0]:
            self.partition.draw(self.session)
            imgui.end_tab_item()
        imgui.end_tab_bar()


def _layout(panels: dict[str, Callable[[], None]]) -> hello_imgui.DockingParams:
    """Controls on the left, the fluid large beside them, tabs with plots and partition below it."""
    left = hello_imgui.DockingSplit("MainDockSpace", "Left", imgui.Dir.left, 0.235, NO_TABS)
    below = hello_imgui.DockingSplit("MainDockSpace", "Below", imgui.Dir.down, 0.33, NO_TABS)
    places = {"Controls": "Left", "Fluid": "MainDockSpace", "Plots": "Below"}
    windows = []
    for name, draw in panels.items():
        window = hello_imgui.DockableWindow(name, places[name], draw, can_be_closed_=False)
        if name == "Fluid":  # the wheel there is the brush's
            window.imgui_window_flags = (
                imgui.WindowFlags_.no_scroll_with_mouse | imgui.WindowFlags_.no_scrollbar
            )
        windows.append(window)
    layout = hello_imgui.DockingParams([left, below], windows)
    layout.main_dock_space_node_flags = NO_TABS
    return layout


def _configure() -> None:
    hello_imgui.imgui_default_settings.setup_default_imgui_config()
    io = imgui.get_io()
    io.config_flags &= ~imgui.ConfigFlags_.nav_enable_keyboard  # Space is pause, not "press this button"
    io.config_windows_move_from_title_bar_only = True


def show(engine: Engine, frames: int | None = None) -> None:
    """Run the window until it is closed or ``frames`` steps were taken; WindowError when none can open."""
    window = Window(engine, frames)
    quiet = _QuietStart()
    window.params.callbacks.post_init = lambda: (quiet.end(), window._note_opened())
    try:
        immapp.run(window.params, window.add_ons)
    except RuntimeError as error:
        if window.opened:
            raise
        raise WindowError(_reason(quiet.end(replay=False))) from error
    finally:
        quiet.end()


def _reason(noise: str) -> str:
    """The toolkit's own messages in one plain line."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and sys.platform == "linux":
        return "there is no display (DISPLAY is not set)"
    lines = [line.split(": ", 1)[-1].strip() for line in noise.splitlines() if "rror" in line]
    return f"no display or no OpenGL 3 ({lines[0]})" if lines else "no display or no OpenGL 3"


class _QuietStart:
    """Holds back what native libraries print to stderr while the window opens."""

    def __init__(self) -> None:
        sys.stderr.flush()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open until end()
        self._stderr: int | None = os.dup(2)
        os.dup2(self._file.fileno(), 2)

    def end(self, replay: bool = True) -> str:
        """Give stderr back, with what was held back if ``replay``; safe to call again."""
        if self._stderr is None:
            return ""
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        self._stderr = None
        self._file.seek(0)
        text = self._file.read().decode(errors="replace")
        self._file.close()
        if replay and text:
            os.write(2, text.encode())
        return text
