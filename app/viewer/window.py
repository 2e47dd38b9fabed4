"""The window itself: its layout and its loop."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable

from imgui_bundle import hello_imgui, imgui, immapp

from app.viewer import keys, theme
from app.viewer.controls import draw_controls
from app.viewer.field import FieldPanel
from app.viewer.gallery import Gallery
from app.viewer.hud import Hud
from app.viewer.partition import PartitionPanel
from app.viewer.plots import draw_plots
from app.viewer.session import Session

SIZE = (1280, 800)
LEAST_SIZE = (800, 600)
CONTROLS_WIDTH = 300.0
TITLE = "htp-fluid"
COMPILING_SECONDS = 0.1  # between two pictures, so that the compiler is not kept waiting
NO_TABS = int(imgui.internal.DockNodeFlagsPrivate_.no_tab_bar)


class Window:
    """The layout and the loop around one session; ``params`` and ``add_ons`` are what immapp.run takes.

    In a frame of the window the panels first read keys and mouse; then the session advances, once; then the
    picture, its numbers and the plots of that very step are drawn. ``frames``: steps until the window closes.
    """

    def __init__(self, session: Session, frames: int | None = None) -> None:
        self.session = session
        self.opened = False
        self.drawn = False  # a first frame, whole
        self.on_opened: Callable[[], object] = bool
        self.field = FieldPanel()
        self.gallery = Gallery()
        self.partition = PartitionPanel()
        self.frames = self._frames_left = frames
        self._hud = Hud()
        self._advanced = self._waited = False
        self._began = self._elsewhere = 0.0  # when the frame began, and its seconds without drawing
        self.params = self._make_params()
        self.add_ons = immapp.AddOnsParams(with_implot=True)

    def _make_params(self) -> hello_imgui.RunnerParams:
        params = hello_imgui.RunnerParams()
        outer, inner = params.app_window_params, params.imgui_window_params
        outer.window_title, outer.window_geometry.size, outer.restore_previous_geometry = TITLE, SIZE, True
        inner.background_color, inner.remember_theme = imgui.ImVec4(*theme.PANEL), False
        kinds = hello_imgui.DefaultImGuiWindowType
        inner.default_imgui_window_type = kinds.provide_full_screen_dock_space
        params.ini_folder_type = hello_imgui.IniFolderType.app_user_config_folder
        params.ini_filename = f"{TITLE}/window.ini"
        params.ini_disable = self._frames_left is not None  # a run of given length is a test or a measurement
        params.fps_idling.enable_idling = False
        params.fps_idling.vsync_to_monitor = False  # the frame rate is what people compare here
        params.renderer_backend_options.open_gl_options = hello_imgui.OpenGlOptions(anti_aliasing_samples=0)
        params.docking_params = self._layout()
        callbacks = params.callbacks
        callbacks.load_additional_fonts = theme.load_fonts
        callbacks.setup_imgui_config = _configure
        callbacks.setup_imgui_style = theme.apply
        callbacks.post_init = self._note_opened
        callbacks.pre_new_frame = self._begin_frame
        callbacks.show_gui = self._read_keys
        callbacks.before_imgui_render = self._advance  # where the panel with the picture is hidden
        callbacks.after_swap = self._end_frame
        return params

    def _layout(self) -> hello_imgui.DockingParams:
        """Controls on the left, the fluid large beside them, tabs with plots and partition below it."""
        split, panel = hello_imgui.DockingSplit, hello_imgui.DockableWindow
        windows = [
            panel("Controls", "Left", lambda: draw_controls(self.session), can_be_closed_=False),
            panel("Fluid", "MainDockSpace", self._draw_fluid, can_be_closed_=False),
            panel("Plots", "Below", self._draw_plots, can_be_closed_=False),
        ]
        windows[1].imgui_window_flags = (  # the wheel there is the brush's
            imgui.WindowFlags_.no_scroll_with_mouse | imgui.WindowFlags_.no_scrollbar
        )
        left = split("MainDockSpace", "Left", imgui.Dir.left, CONTROLS_WIDTH / SIZE[0], NO_TABS)
        below = split("MainDockSpace", "Below", imgui.Dir.down, 0.33, NO_TABS)
        layout = hello_imgui.DockingParams([left, below], windows)
        layout.main_dock_space_node_flags = NO_TABS
        return layout

    def _note_opened(self) -> None:
        self.opened = True
        self.on_opened()
        address = hello_imgui.get_glfw_window_address()
        library = os.environ.get("PYGLFW_LIBRARY")  # set by imgui_bundle, whose own GLFW it is
        if address and library:
            unlimited = -1, -1
            ctypes.CDLL(library).glfwSetWindowSizeLimits(ctypes.c_void_p(address), *LEAST_SIZE, *unlimited)

    def _begin_frame(self) -> None:
        self._began, self._elsewhere, self._advanced = time.perf_counter(), 0.0, False

    def _read_keys(self) -> None:
        keys.handle_keys(self.session)
        keys.draw_help(self.session)
        self.gallery.draw(self.session)

    def _advance(self) -> None:
        """Changes, strokes and the step of this frame, timed apart from drawing."""
        if self._advanced:
            return
        started = time.perf_counter()
        self._waited = not self.session.advance()
        if self._waited:
            time.sleep(COMPILING_SECONDS)
        self._elsewhere, self._advanced = time.perf_counter() - started, True

    def _end_frame(self) -> None:
        engine = self.session.engine
        engine.note_draw(1e3 * (time.perf_counter() - self._began - self._elsewhere))
        self.drawn = True
        self.params.fps_idling.enable_idling = engine.paused and not self.params.use_imgui_test_engine
        if self._frames_left is not None and not engine.paused and not self._waited:
            self._frames_left -= 1
            self.params.app_shall_exit = self._frames_left <= 0

    def _draw_fluid(self) -> None:
        top = imgui.get_cursor_screen_pos()
        imgui.dummy((1.0, self._hud.height))
        self.field.take_input(self.session)
        self._advance()
        imgui.set_cursor_screen_pos(top)
        self._hud.draw(self.session)
        self.field.draw(self.session)

    def _draw_plots(self) -> None:
        """Two tabs; what is behind the one in front is neither drawn nor computed."""
        session = self.session
        session.inspector.shown = False
        if not imgui.begin_tab_bar("tabs"):
            return
        if imgui.begin_tab_item("Plots")[0]:
            draw_plots(session)
            imgui.end_tab_item()
        flags = imgui.TabItemFlags_.set_selected if session.show_partition else 0
        session.show_partition = False
        if imgui.begin_tab_item("Partition", None, flags)[0]:
            session.inspector.shown = True
            self.partition.draw(session)
            imgui.end_tab_item()
        imgui.end_tab_bar()


def _configure() -> None:
    hello_imgui.imgui_default_settings.setup_default_imgui_config()
    io = imgui.get_io()
    io.config_flags &= ~imgui.ConfigFlags_.nav_enable_keyboard  # Space is pause, not "press this button"
    io.config_windows_move_from_title_bar_only = True
