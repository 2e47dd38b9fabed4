"""The window itself: its layout and its loop."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import time
from collections.abc import Callable

from imgui_bundle import hello_imgui, imgui, immapp

from app.viewer import keys, theme
from app.viewer.controls import draw_controls
from app.viewer.field import FieldPanel
from app.viewer.gallery import Gallery
from app.viewer.hud import Hud
from app.viewer.method import MethodPanel
from app.viewer.overlay import draw_leaves
from app.viewer.partition import PartitionPanel
from app.viewer.plots import draw_plots
from app.viewer.race import RacePanel
from app.viewer.redraw import Panel, Redraw
from app.viewer.session import Session

SIZE = (1280, 800)
LEAST_SIZE = (800, 600)
CONTROLS_WIDTH = 300.0
TITLE = "htp-fluid"
PICTURES_A_SECOND = 64  # waits end late: with this 60 are drawn
SAME_SCALE = 0.01  # relative change of the screen's scale that a layout lives through
COMPILING_SECONDS = 0.1  # between two pictures, so that the compiler is not kept waiting
CONTROLS_SECONDS, PLOTS_SECONDS = 0.25, 0.1  # after which a panel that nobody touches is built again
NO_TABS = int(imgui.internal.DockNodeFlagsPrivate_.no_tab_bar)


class Window:
    """The layout and the loop around one session; ``params`` and ``add_ons`` are what immapp.run takes.

    In a frame of the window the panels first read keys and mouse; then the session advances, where no thread
    takes the steps; then the picture of the newest step, its numbers and the plots are drawn. ``frames``:
    steps until the window closes.
    """

    def __init__(self, session: Session, frames: int | None = None) -> None:
        self.session = session
        self.opened = False
        self.stopped: list[signal.Signals] = []  # what asks for the window to close
        self.drawn = False  # a first frame, whole
        self.screen_scale = 1.0  # pixels per point of the screen,
        self.layout_scale: float | None = None  # and of the one that the saved layout was made on
        self.on_opened: Callable[[], object] = bool
        self.gallery = Gallery()
        self.partition, self.race, self.method = PartitionPanel(), RacePanel(), MethodPanel()
        self.frames = frames
        if frames is not None:
            session.worker.steps_left = frames
        self._portrait = _is_portrait(session)
        self._hud = Hud()
        wheel = imgui.WindowFlags_.no_scroll_with_mouse | imgui.WindowFlags_.no_scrollbar  # is the brush's
        controls = Panel("Controls", lambda: draw_controls(session), CONTROLS_SECONDS)
        fluid = Panel("Fluid", self._draw_fluid, flags=wheel)
        self.redraw = Redraw((controls, fluid, Panel("Plots", self._draw_plots, PLOTS_SECONDS)))
        self.field = FieldPanel(self.redraw)
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
        params.ini_disable = self.frames is not None  # a run of given length is a test or a measurement
        params.fps_idling.enable_idling = False
        params.fps_idling.vsync_to_monitor = False
        if self.session.worker.speed < math.inf:  # what is left of the machine is the simulation's
            params.fps_idling.fps_max = PICTURES_A_SECOND
        params.renderer_backend_options.open_gl_options = hello_imgui.OpenGlOptions(anti_aliasing_samples=0)
        params.docking_params = self._layout(self._portrait)
        params.alternative_docking_layouts = [self._layout(not self._portrait)]
        callbacks = params.callbacks
        callbacks.load_additional_fonts = theme.load_fonts
        callbacks.setup_imgui_config = _configure
        callbacks.setup_imgui_style = self._apply_theme
        callbacks.post_init = self._note_opened
        callbacks.pre_new_frame = self._begin_frame
        callbacks.show_gui = self._read_keys
        callbacks.before_imgui_render = self._render
        callbacks.after_swap = self._end_frame
        return params

    def _layout(self, portrait: bool) -> hello_imgui.DockingParams:
        """Controls on the left, the fluid large beside them, tabs with plots and partition below it, or on
        its right where it is higher than wide.
        """
        split, panels = hello_imgui.DockingSplit, self.redraw.panels
        windows = [
            hello_imgui.DockableWindow(panel.name, space, panel.show, can_be_closed_=False)
            for panel, space in zip(panels, ("Left", "MainDockSpace", "Below"), strict=True)
        ]
        for window in windows:
            window.call_begin_end = False
        left = split("MainDockSpace", "Left", imgui.Dir.left, CONTROLS_WIDTH / SIZE[0], NO_TABS)
        towards, share = (imgui.Dir.right, 0.44) if portrait else (imgui.Dir.down, 0.33)
        below = split("MainDockSpace", "Below", towards, share, NO_TABS)
        layout = hello_imgui.DockingParams([left, below], windows)
        layout.main_dock_space_node_flags = NO_TABS
        layout.layout_name = "portrait" if portrait else "Default"
        return layout

    def _apply_theme(self) -> None:
        theme.apply(self.session.theme)
        self.params.imgui_window_params.background_color = imgui.ImVec4(*theme.PANEL)

    def _note_opened(self) -> None:
        self.opened = True
        if not self.params.use_imgui_test_engine:  # which takes its turn while the toolkit renders
            self.redraw.open()
        self.on_opened()
        self.screen_scale = hello_imgui.dpi_window_size_factor()
        if self.layout_scale and abs(self.layout_scale / self.screen_scale - 1.0) > SAME_SCALE:
            self.session.asks_for_layout = True
        address = hello_imgui.get_glfw_window_address()
        library = os.environ.get("PYGLFW_LIBRARY")  # set by imgui_bundle, whose own GLFW it is
        if address and library:
            unlimited = -1, -1
            ctypes.CDLL(library).glfwSetWindowSizeLimits(ctypes.c_void_p(address), *LEAST_SIZE, *unlimited)

    def _begin_frame(self) -> None:
        self._began, self._elsewhere, self._advanced = time.perf_counter(), 0.0, False

    def _read_keys(self) -> None:
        session, before = self.session, (theme.applied, self._portrait)
        if theme.applied != session.theme:
            self._apply_theme()
        if self._portrait != _is_portrait(session):
            self._portrait = not self._portrait
            hello_imgui.switch_layout("portrait" if self._portrait else "Default")
        busy = keys.handle_keys(session) or bool(session.front) or self.params.use_imgui_test_engine
        busy |= before != (theme.applied, self._portrait)
        busy |= imgui.is_any_item_active() and not self.field.active
        self.redraw.begin(busy)
        keys.draw_help(session)
        self.gallery.draw(session)

    def _render(self) -> None:
        self._advance()  # where the panel with the picture is hidden
        self.redraw.render()

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
        session, testing = self.session, self.params.use_imgui_test_engine
        drawing = time.perf_counter() - self._began - self._elsewhere
        session.note_picture(drawing)
        self.drawn = True
        self.params.fps_idling.enable_idling = session.engine.paused and not testing
        self.params.app_shall_exit |= session.worker.done or bool(self.stopped)
        if session.asks_for_layout:
            session.asks_for_layout, self.params.docking_params.layout_reset = False, True
            self.redraw.everything()

    def _draw_fluid(self) -> None:
        top = imgui.get_cursor_screen_pos()
        imgui.dummy((1.0, self._hud.height))
        self.field.take_input(self.session)
        self._advance()
        imgui.set_cursor_screen_pos(top)
        self._hud.draw(self.session)
        self.field.draw(self.session)
        draw_leaves(self.session, self.field.rectangle)

    def _draw_plots(self) -> None:
        """The tabs; what is behind the one in front is neither drawn nor computed."""
        session, shown = self.session, ""
        tabs = {"Plots": draw_plots, "Race": self.race.draw, "Partition": self.partition.draw}
        tabs["Method"] = self.method.draw
        if imgui.begin_tab_bar("tabs"):
            for name, draw in tabs.items():
                flags = imgui.TabItemFlags_.set_selected if session.front == name else 0
                if imgui.begin_tab_item(name, None, flags)[0]:
                    shown = name
                    draw(session)
                    imgui.end_tab_item()
            imgui.end_tab_bar()
        session.front = ""
        session.inspector.shown, session.beside.lessons.shown = shown == "Partition", shown == "Method"


def _is_portrait(session: Session) -> bool:
    width, height = session.shown.domain
    return height > 1.2 * width


def _configure() -> None:
    hello_imgui.imgui_default_settings.setup_default_imgui_config()
    io = imgui.get_io()
    io.config_flags &= ~imgui.ConfigFlags_.nav_enable_keyboard  # Space is pause, not "press this button"
    io.config_windows_move_from_title_bar_only = True
