"""A display for the window tests, a window on a small simulation to drive, and small benchmarks."""

from __future__ import annotations

import contextlib
import csv
import ctypes
import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

PACKAGES = {  # what the window needs at run time, and the Debian package that brings it
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libEGL.so.1": "libegl1",
    "libOpenGL.so.0": "libopengl0",
    "libGL.so.1": "libgl1",
}


def missing_packages() -> list[str]:
    """Debian packages without which no window opens here."""
    missing = []
    for library, package in PACKAGES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    if "DISPLAY" not in os.environ:
        if shutil.which("Xvfb") is None:
            missing.append("xvfb")
        if not glob.glob("/usr/lib/*/dri/swrast_dri.so") and not glob.glob("/usr/lib/*/libgallium*"):
            missing.append("libgl1-mesa-dri")
    return missing


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A display: the one that is there, or an Xvfb of our own."""
    if sys.platform != "linux":
        pytest.skip("the window tests drive an X window on Linux")
    missing = missing_packages()
    if missing:
        pytest.skip(f"the window tests need these Debian packages: {' '.join(missing)}")
    if "DISPLAY" in os.environ:
        yield os.environ["DISPLAY"]
        return
    reader, writer = os.pipe()
    command = [
        "Xvfb",
        "-displayfd",
        str(writer),
        "-screen",
        "0",
        "1280x800x24",
        "-noreset",
        "-nolisten",
        "tcp",
    ]
    server = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    with os.fdopen(reader) as number:
        name = f":{number.readline().strip()}"
    if name == ":":
        server.wait(10)
        pytest.skip("Xvfb (Debian package xvfb) does not start here")
    os.environ["DISPLAY"] = name
    yield name
    del os.environ["DISPLAY"]
    server.terminate()
    server.wait(10)


class Here:
    """Does a helper's jobs at once, in this process."""

    busy = False

    def submit(self, function: Callable, *arguments: object) -> SimpleNamespace:
        job = SimpleNamespace(results=[], done=True, failure="")
        try:
            job.results += function(*arguments)
        except Exception as error:
            job.failure = str(error)
        return job

    def poll(self) -> None:
        pass

    def stop(self) -> None:
        pass


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """What sessions of this test compute beside the window is done at once, in this process."""
    helper = Here()
    monkeypatch.setattr("app.race.beside.Helper", lambda: helper)
    return helper


@pytest.fixture
def drive(display: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:  # noqa: ARG001
    """``drive(test, **settings)`` opens a window on a small dam break, in an empty folder, and runs ``test``.

    ``test(ctx, window)`` gets the test engine's context; what it asserts fails the pytest test. ``size``
    (pixels) and ``scale`` are the window's and the screen's, all else settings.
    """
    monkeypatch.chdir(tmp_path)

    def run(
        test: Callable, size: tuple[int, int] | None = None, scale: float = 0.0, **settings: object
    ) -> None:
        from imgui_bundle.immapp import testing

        from app.config.settings import app_settings
        from app.engine import Engine
        from app.viewer.session import Session
        from app.viewer.window import Window

        engine = Engine.with_substitute(app_settings({"grid": (64, 32), **settings}))
        window = Window(Session(engine))
        window.params.ini_disable = True
        if size:
            window.params.dpi_aware_params.dpi_window_size_factor = scale
            window.params.app_window_params.window_geometry.size = tuple(round(n / scale) for n in size)
        try:
            testing.run(
                test_function=lambda ctx: test(ctx, window),
                runner_params=window.params,
                add_ons_params=window.add_ons,
                run_speed=testing.TestRunSpeed.fast,
            )
        finally:
            window.session.beside.close()

    return run


@pytest.fixture(scope="session")
def read_bench() -> Callable[[Path], SimpleNamespace]:
    """Reads what `bench` wrote to a directory: rows, a dictionary each with numbers as numbers, and the parts
    of the header.
    """

    def value(text: str) -> Any:
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
        return text or None

    def read(directory: Path) -> SimpleNamespace:
        with (directory / "bench.csv").open(encoding="utf-8", newline="") as file:
            rows = [{name: value(text) for name, text in row.items()} for row in csv.DictReader(file)]
        return SimpleNamespace(rows=rows, **yaml.safe_load((directory / "bench.yaml").read_text("utf-8")))

    return read


@pytest.fixture
def benched(tmp_path: Path, read_bench: Callable) -> Callable[..., SimpleNamespace]:
    """What `bench` writes when run with some arguments, on two frames of 256 cells unless they say other."""
    from app.cli import main

    def run(*arguments: str, preconds: tuple[str, ...] = ("jacobi", "multigrid")) -> SimpleNamespace:
        command = ["bench", "--sizes", "256", "--frames", "2", "--out", str(tmp_path / "out"), *arguments]
        assert main([*command, "--preconds", *preconds] if preconds else command) == 0
        return read_bench(tmp_path / "out")

    return run
