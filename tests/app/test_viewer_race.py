"""The tabs of the race and of the method in the real window."""

import time

import numpy as np
import pytest
from PIL import Image

from app.race.helper import Helper


def press(ctx, name):
    from imgui_bundle import imgui

    ctx.key_press(getattr(imgui.Key, name))
    ctx.yield_(2)


def wait(ctx, done, seconds=40.0):
    """Let the window go on until ``done()``."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "it never was"
        ctx.yield_()


def choose(ctx, method):
    """Let ``method`` solve every frame too."""
    ctx.item_click("Plots/tabs/Race/**/###companion")
    ctx.yield_(2)
    ctx.item_click(f"//$FOCUSED/{method}")
    ctx.yield_(2)


def capture(ctx, path):
    """The window's pixels as (height, width, 3) int."""
    from imgui_bundle.immapp import testing

    testing.capture(ctx, str(path))
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def coloured(pixels, colour):
    """How many pixels have a colour of the theme."""
    return int((np.abs(pixels - 255 * np.array(colour[:3])).max(axis=2) < 12).sum())


def test_a_race_beside_the_running_simulation(drive, tmp_path, monkeypatch):
    """In a real process, which is warm before the window opens: a test may last a minute."""
    from app.race import solving
    from app.viewer import race as panel

    helper = Helper()
    job = helper.submit(solving.warm_up, ("jacobi", "multigrid", "none"))
    while not job.done:
        helper.poll()
    monkeypatch.setattr("app.race.beside.Helper", lambda: helper)

    def test(ctx, window):
        race, engine = window.session.beside.race, window.session.engine
        race.chosen = {"jacobi", "multigrid", "none"}
        ctx.yield_(3)
        frame = engine.frame
        press(ctx, "f5")
        wait(ctx, lambda: not race.running)
        assert engine.frame > frame  # it went on meanwhile
        assert {lane.method for lane in race.lanes} == race.chosen
        assert all(lane.converged for lane in race.lanes)
        ctx.yield_(2)
        pixels = capture(ctx, tmp_path / "race.png")
        assert all(coloured(pixels, panel.method_colour(name)) > 20 for name in race.chosen)
        ctx.item_click("Plots/tabs/Race/**/###race")
        ctx.yield_(2)
        wait(ctx, lambda: not race.running and len(race.lanes) == 3)

    drive(test, preconditioner="jacobi")


def test_failures_are_shown_as_such(drive, here, monkeypatch, tmp_path):  # noqa: ARG001
    from app.race import solving
    from app.viewer import theme

    def broken(*_):
        raise RuntimeError("out of luck")

    def test(ctx, window):
        race = window.session.beside.race
        race.chosen = {"ic0", "jacobi", "multigrid"}
        ctx.yield_(3)
        monkeypatch.setattr("precond.classical.diagonal.Jacobi._setup", broken)
        solving._warm.add("jacobi")
        press(ctx, "f5")
        wait(ctx, lambda: not race.running)
        failed = {lane.method: lane for lane in race.lanes}["jacobi"]
        assert (failed.outcome, failed.reason) == ("failed", "out of luck")
        assert coloured(capture(ctx, tmp_path / "failed.png"), theme.RED) > 20

    drive(test, preconditioner="multigrid")


def test_a_second_method_on_every_frame_is_in_the_plots(drive, here, tmp_path):  # noqa: ARG001
    from app.viewer import theme

    def test(ctx, window):
        session = window.session
        companion = session.beside.companion
        ctx.item_click("Plots/tabs/Race")
        ctx.yield_(2)
        assert companion.method == ""
        choose(ctx, "multigrid")
        wait(ctx, lambda: companion.solved >= 10)
        assert companion.history()["iterations"].min() >= 0
        assert companion.skipped <= 1
        press(ctx, "space")
        ctx.item_click("Plots/tabs/Plots")
        ctx.yield_(3)
        after = capture(ctx, tmp_path / "plots.png")
        assert coloured(after, theme.BESIDE) > 30  # its lines, and its square in the legend
        ctx.item_click("Plots/tabs/Race")
        ctx.yield_(2)
        choose(ctx, "off")
        ctx.yield_(2)
        assert companion.method == ""

    drive(test, preconditioner="jacobi")


def test_ticking_methods(drive, here):  # noqa: ARG001
    def test(ctx, window):
        race = window.session.beside.race
        ctx.item_click("Plots/tabs/Race")
        ctx.yield_(2)
        ctx.item_click("Plots/tabs/Race/**/###methods")
        ctx.yield_(2)
        ctx.item_click("//$FOCUSED/none of them")
        ctx.yield_(2)
        assert race.chosen == set()
        ctx.item_click("//$FOCUSED/multigrid")
        ctx.yield_(2)
        assert race.chosen == {"multigrid"}
        press(ctx, "escape")
        press(ctx, "f5")
        wait(ctx, lambda: not race.running)
        assert [lane.method for lane in race.lanes] == ["multigrid"]

    drive(test)


@pytest.mark.parametrize("size", [(800, 600), (1280, 800)])
def test_every_tab_draws_at_every_size(drive, here, monkeypatch, size):  # noqa: ARG001
    monkeypatch.setattr("app.viewer.window.SIZE", size)

    def test(ctx, window):
        session = window.session
        session.beside.race.chosen = {"jacobi", "multigrid"}
        session.ask(session.beside.companion.choose, "jacobi")
        ctx.yield_(3)
        press(ctx, "f5")
        wait(ctx, lambda: not session.beside.race.running)
        session.ask(session.change, "contrast", 10_000.0)
        for tab in ("Race", "Partition", "Method", "Plots"):
            ctx.item_click(f"Plots/tabs/{tab}")
            ctx.yield_(4)
            if tab == "Partition":
                session.inspector.all_leaves = True
                ctx.yield_(2)
                assert session.inspector.labels is not None
            if tab == "Method":
                assert window.method.pictures.shape == (2, 32, 64, 4)
                ctx.item_click("Plots/tabs/Method/**/of the start")
                ctx.yield_(4)
                assert session.beside.lessons.lesson.error == "start"
        assert [mark.value for mark in session.marks.latest] == [10_000.0]

    drive(test, preconditioner="coarse-monomial")
