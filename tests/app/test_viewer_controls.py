"""Every control of the window does what it says: on a screen, and in the toolkit's null back end without one,
for which this file runs as a program of its own.

What there is to exercise is asked of the window: its tables of keys, materials, views and methods, and the
items that the panel of controls registers. One that nothing here knows fails.
"""

import contextlib
import os
import subprocess
import sys
import traceback
from pathlib import Path

from app.picture import COLORMAPS, VIEWS
from app.viewer import theme
from app.viewer.keys import KEYS
from app.viewer.materials import MATERIALS

SLIDERS = {  # what is typed, and what it is in the engine's units
    "speed": (2.0, 2.0),
    "contrast": (500.0, 500.0),
    "gravity": (3.5, 3.5),
    "heavy_viscosity": (250.0, 2.5e-4),
    "light_viscosity": (20.0, 2e-5),
    "surface_tension": (0.05, 0.05),
    "contact_angle": (75.0, 75.0),
    "source_rate": (5.0, 5.0),
    "max_iterations": (77, 77),
    "radius": (12.0, 0.12),
    "strength": (2.0, 2.0),
}
TICKS = ("warm_start", "reuse_setup", "interface", "light", "tracers")
GRIDS = {"96 x 48": (96, 48), "64 x 32": (64, 32)}
TABS = ("Plots", "Race", "Partition", "Method")
BUTTONS = ("pause", "step", "reset", "undo", "redo", "save", "record", "screenshot", "window", "scene")


class Exercise:
    """One window's, with the first ``most`` entries of every list. ``known``: the items that were used."""

    def __init__(self, ctx, window, most=None):
        self.most = most
        self.ctx, self.window, self.session = ctx, window, window.session
        self.engine = window.session.engine
        self.known = set()

    @property
    def settings(self):
        """The simulation's."""
        return self.engine.settings.simulation

    def value(self, name):
        """What a control shows, wherever it is kept."""
        view = self.session.view
        holders = {"colormap": view.colours, "tracers": view.traced, "theme": self.session.theme}
        if name in holders:
            return holders[name]
        places = (self.settings, view, self.session.brush, self.engine.settings)
        return getattr(next(place for place in places if hasattr(place, name)), name)

    def settle(self):
        """Let the window draw what has changed; no message but what was just said may be an error."""
        self.ctx.yield_(2)
        message = self.session.message
        assert not (message and message.error), message.text
        assert not self.engine.message

    def use(self, item):
        """Note an item as exercised; returns its path."""
        self.known.add(self.ctx.get_id(item))
        return item

    def click(self, item):
        self.ctx.item_click(self.use(item))
        self.settle()

    def all(self):
        """Everything, one after the other."""
        self.ctx.yield_(5)
        self.engine.paused = True  # what is asked for is done without a step as well
        self.sliders_and_ticks()
        self.lists()
        self.range()
        self.palette()
        self.buttons()
        self.all_were_used("Controls")
        self.tabs()
        self.keys()

    def sliders_and_ticks(self):
        self.ctx.set_ref("Controls")
        for name, (typed, value) in SLIDERS.items():
            self.ctx.item_input_value(self.use(f"##{name}"), typed)
            self.settle()
            assert abs(self.value(name) - value) <= 2e-3 * value, name
        for name in TICKS:
            before = self.value(name)
            for expected in (not before, before):
                self.click(f"##{name}")
                assert self.value(name) is expected, name

    def lists(self):
        self.choose("theme", {name: name for name in [*theme.THEMES, next(iter(theme.THEMES))]})
        self.choose("field", {name: name for name in VIEWS[::-1]})
        self.choose("colormap", {name: name for name in COLORMAPS})
        self.choose("rtol", {f"1e-{power}": float(f"1e-{power}") for power in range(1, 13)})
        methods = [name for name in self.session.preconditioners if name in self.session.available]
        self.choose("preconditioner", {name: name for name in [*methods, "multigrid"]})
        self.choose("grid", GRIDS)

    def choose(self, name, choices):
        self.ctx.set_ref("Controls")
        self.use(f"##{name}")
        for face, value in list(choices.items())[: self.most]:
            self.ctx.combo_click(f"##{name}/{face}")
            self.settle()
            assert self.value(name) == value, name

    def range(self):
        self.ctx.set_ref("Controls")
        self.click("automatic##range")
        assert self.session.view.range != "auto"
        for number, typed in enumerate((2.0, 200.0)):
            self.ctx.item_input_value(self.use(f"##limits/$${number}"), typed)
            self.settle()
            assert self.session.view.range[number] == typed
        self.click("automatic##range")
        assert self.session.view.range == "auto"

    def palette(self):
        self.ctx.set_ref("Controls")
        for name in MATERIALS:
            self.click(f"##paint {name}")
            assert self.session.brush.paint == name

    def buttons(self):
        self.ctx.set_ref("Controls")
        engine, session, done = self.engine, self.session, {}
        engine.paused = False
        self.click("###pause")
        done["pause"] = engine.paused
        frame = engine.frame
        self.click("###step")
        done["step"] = engine.frame == frame + 1
        session.change("contrast", 50.0)
        self.click("###undo")
        done["undo"] = self.settings.contrast != 50.0
        self.click("###redo")
        done["redo"] = self.settings.contrast == 50.0
        self.click("###save")
        (saved,) = session.saved_states()
        done["save"] = saved.exists()
        self.click("###reset")
        done["reset"] = engine.frame == 0
        self.use("##states")
        self.ctx.combo_click(f"##states/{saved.stem}")
        self.settle()
        assert session.message.text == f"loaded: {saved}"
        self.click("###pause")
        done["pause"] &= not engine.paused
        self.click("###record")
        done["record"] = session.recording
        self.click("###record")
        done["record"] &= not session.recording
        self.click("###screenshot")
        done["screenshot"] = "screenshot" in session.message.text
        session.brush.radius = 0.3
        self.click("###window")
        done["window"] = session.brush.radius != 0.3
        self.ctx.yield_(8)
        engine.paused, done["scene"] = True, True
        for scene in list(session.scenes)[: self.most]:
            self.ctx.set_ref("Controls")
            self.ctx.item_click(self.use("###scene"))
            self.ctx.yield_(3)
            self.ctx.item_click(f"//**/##{scene}")
            self.settle()
            done["scene"] &= self.settings.scene == scene
        assert done == dict.fromkeys(BUTTONS, True)

    def all_were_used(self, panel):
        """Fail where a panel has an item that nothing above has used."""
        from imgui_bundle import imgui

        found = imgui.test_engine.TestItemList()
        self.ctx.gather_items(found, f"//{panel}", -1)
        ids = {found.get_by_index(number).id_ for number in range(found.get_size())}
        assert len(ids) > 30
        assert ids <= self.known, f"{len(ids - self.known)} new items in {panel}: exercise them here"

    def tabs(self):
        session, race = self.session, self.session.beside.race
        session.change("scene", "dam-break")
        session.change("grid", (32, 16))
        self.engine.paused = False
        for name in TABS:
            session.front = name
            self.ctx.yield_(5)
            self.ctx.set_ref("")
            if name == "Race":
                self.ctx.item_click("//**/###methods")
                self.ctx.yield_(2)
                self.ctx.item_click("//**/none of them")
                assert race.chosen == set()
                self.ctx.item_click("//**/multigrid")
                self.ctx.item_click("//**/jacobi")
                assert race.chosen == {"multigrid", "jacobi"}
                self.press_escape()
                self.ctx.item_click("//**/###race")
                while race.running or not race.lanes:
                    self.ctx.yield_(1)
                assert {lane.method for lane in race.lanes} == {"multigrid", "jacobi"}
                for choice in ("jacobi", "off"):
                    self.ctx.item_click("//**/###companion")
                    self.ctx.yield_(2)
                    self.ctx.item_click(f"//**/{choice}")
                    self.settle()
                    assert session.beside.companion.method == choice.replace("off", "")
            elif name == "Partition":
                session.change("preconditioner", "coarse-monomial")
                self.ctx.yield_(5)
                for item, kept in (
                    ("leaf under the mouse", "follow"),
                    ("all leaves over the picture", "all_leaves"),
                ):
                    for expected in (True, False):
                        self.ctx.item_click(f"//**/{item}")
                        self.settle()
                        assert getattr(session.inspector, kept) is expected
            elif name == "Method":
                for item, error in (("of the start", "start"), ("random", "random")):
                    self.ctx.item_click(f"//**/{item}")
                    self.settle()
                    assert session.beside.lessons.error == error
        session.change("preconditioner", "multigrid")

    def press_escape(self):
        from imgui_bundle import imgui

        self.ctx.key_press(imgui.Key.escape)
        self.ctx.yield_(2)

    def keys(self):
        """Every key of the program's table, each with what must have happened after it."""
        from imgui_bundle import imgui

        session, engine = self.session, self.engine
        checks = {
            "Space": lambda: engine.paused,
            ".": lambda: engine.frame > 0,
            "R": lambda: engine.frame == 0,
            "Ctrl + Z": lambda: session.message.text.startswith("undone"),
            "Ctrl + Y": lambda: session.message.text.startswith("done again"),
            "Ctrl + S": lambda: session.message.text.startswith("saved"),
            **{str(k): lambda f=f: session.view.field == f for k, f in enumerate(VIEWS, start=1)},
            "G": lambda: imgui.is_popup_open("", imgui.PopupFlags_.any_popup),
            **{m.key: lambda name=name: session.brush.paint == name for name, m in MATERIALS.items()},
            "L": lambda: session.inspector.follow,
            "F1": lambda: session.show_help,
            "F5": lambda: session.beside.race.lanes or session.beside.race.message,
            "F9": lambda: session.recording,
            "F12": lambda: session.message.text.startswith("screenshot"),
        }
        assert set(checks) == {key.name for key in KEYS}
        for key in KEYS:
            chord = key.codes[0] | (imgui.Key.mod_ctrl if key.ctrl else 0)
            self.ctx.key_press(chord)
            self.settle()
            assert checks[key.name](), key.name
            if key.name in ("G", "F1"):
                self.press_escape()
                assert not session.show_help
            elif key.name == "F9":
                self.ctx.key_press(chord)
                self.settle()
                assert not session.recording


def test_without_a_screen(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    paths = str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, __file__]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "all exercised" in done.stdout


def test_on_a_screen(drive, here):  # noqa: ARG001
    def test(ctx, window):
        Exercise(ctx, window, most=2).all()

    drive(test, size=(800, 600), scale=1.0, preconditioner="multigrid")


def main() -> int:
    """Exercise all in the null back end; 0, or 1 with a traceback."""
    from conftest import Here
    from imgui_bundle import hello_imgui, imgui
    from imgui_bundle.immapp import testing

    import app.race.beside
    from app.config.settings import app_settings
    from app.engine import Engine
    from app.viewer.session import Session
    from app.viewer.window import Window

    app.race.beside.Helper = Here
    window = Window(Session(Engine(app_settings({"grid": (64, 32), "preconditioner": "multigrid"}))))
    params, failed = window.params, []
    params.ini_disable = True
    params.platform_backend_type = hello_imgui.PlatformBackendType.null
    params.renderer_backend_type = hello_imgui.RendererBackendType.null
    configure = params.callbacks.setup_imgui_config

    def with_textures():
        configure()
        imgui.get_io().backend_flags |= imgui.BackendFlags_.renderer_has_textures  # as the others have

    def test(ctx):
        try:
            Exercise(ctx, window).all()
        except BaseException:
            failed.append(traceback.format_exc())

    params.callbacks.setup_imgui_config = with_textures
    with contextlib.suppress(
        RuntimeError
    ):  # the null back end ends in an order that the test engine dislikes
        testing.run(
            test_function=test,
            runner_params=params,
            add_ons_params=window.add_ons,
            run_speed=testing.TestRunSpeed.fast,
        )
    print("\n".join(failed) or "all exercised")
    sys.stdout.flush()
    return bool(failed)


if __name__ == "__main__":
    os._exit(main())  # what is left of the toolkit is not taken down
