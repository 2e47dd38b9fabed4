"""Every option of every command in one table, read from flags and from a YAML file alike.

Precedence: defaults < the scene's own settings < the settings file < the flags. Nothing heavy is imported
here, so that `--help` and a mistyped option answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.bench.settings import BENCH_OPTIONS, SINGLE_LAUNCH, BenchSettings
from app.config.options import Option, frames, number, switch, text, whole
from precond.errors import UsageError
from sim.settings import MAX_CELLS, MAX_CONTRAST, MIN_CELLS, SettingsError, SimulationSettings


@dataclass
class AppSettings:
    """What `demo` and `record` need: the simulation's settings and those of the run around it."""

    simulation: SimulationSettings = field(default_factory=SimulationSettings)
    frames: int | None = None  # stop after so many; None: demo runs until closed, record takes DEFAULT_FRAMES
    out: str | None = None  # directory of the recording; None: a numbered one under runs/
    video: bool = False
    video_fps: float = 30.0  # pictures per second of simulated time in run.mp4
    view: str = "density"
    colormap: str | None = None  # None: the view's own
    given: dict[str, Any] = field(
        default_factory=dict
    )  # simulation settings from file or flags: they outlive a scene

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the option names, usable as a settings file again (without ``out``)."""
        values = self.simulation.model_dump()
        run = {name: getattr(self, name) for name in ("frames", "video", "video_fps", "view", "colormap")}
        return {**values, **{name: value for name, value in run.items() if value is not None}}


DEFAULT_FRAMES = 300


def _video_fps(value: Any) -> float:
    if not 1.0 <= number(value) <= 240.0:
        raise SettingsError(f"{value!r} is not a number from 1 to 240")
    return number(value)


def _grid(value: Any) -> tuple[int, int]:
    parts = value.lower().split("x") if isinstance(value, str) else value
    try:
        nx, ny = parts
        return whole(nx, MIN_CELLS, MAX_CELLS), whole(ny, MIN_CELLS, MAX_CELLS)
    except (TypeError, ValueError):
        raise SettingsError(
            f"{value!r} is not two whole numbers of cells from {MIN_CELLS} to {MAX_CELLS}, like 128x64"
        ) from None


SIMULATION_OPTIONS = [
    Option("scene", text, "NAME|FILE", "what flows: a scene's name (see `list`) or your own scene file"),
    Option("grid", _grid, "NXxNY", "cells along x and y, like 128x64"),
    Option("contrast", number, "RATIO", f"density of the heavy fluid over the light, 1 to {MAX_CONTRAST:g}"),
    Option("preconditioner", text, "NAME", "what speeds up the pressure solve (see `list`)"),
    Option("rtol", number, "NUMBER", "relative residual at which the pressure solve stops, like 1e-4"),
    Option("max_iterations", whole, "COUNT", "iterations after which a pressure solve gives up"),
    Option("warm_start", switch, "", "start each pressure solve from the last pressure"),
    Option("reuse_setup", switch, "", "keep what still serves of a preconditioner's set-up between frames"),
    Option("gravity", number, "M/S2", "acceleration downwards, m/s^2"),
    Option("heavy_viscosity", number, "M2/S", "kinematic viscosity of the heavy fluid, m^2/s"),
    Option("light_viscosity", number, "M2/S", "kinematic viscosity of the light fluid, m^2/s"),
    Option("courant", number, "NUMBER", "share of a cell that may flow out of it in one time step"),
    Option("max_time_step", number, "SECONDS", "longest time step"),
    Option("device", text, "cpu|cuda", "where to compute"),
    SINGLE_LAUNCH,
    Option("seed", whole, "NUMBER", "start of every random choice; the same seed gives the same run"),
]
RUN_OPTIONS = [
    Option("frames", frames, "COUNT", f"frames to run (record: {DEFAULT_FRAMES}; demo: until you close it)"),
    Option("out", text, "DIR", "directory of the recording (default: a numbered one under runs/)"),
    Option("video", switch, "", "also write run.mp4 (needs the extra `video`)"),
    Option("video_fps", _video_fps, "NUMBER", "pictures per second of simulated time in the video, 1 to 240"),
    Option("view", text, "NAME", "field to show: density, pressure, speed, vorticity or divergence"),
    Option("colormap", text, "NAME", "colours to show it in (default: the view's own)"),
]
OPTIONS = {
    "demo": SIMULATION_OPTIONS + RUN_OPTIONS,
    "record": SIMULATION_OPTIONS + RUN_OPTIONS,
    "bench": BENCH_OPTIONS,
}


def default(command: str, name: str) -> Any:
    """Default of option ``name`` of ``command``."""
    if command == "bench":
        return getattr(BenchSettings(), name)
    return getattr(SimulationSettings() if name in SimulationSettings.names() else AppSettings(), name)


def read_settings_file(path: str | Path, command: str) -> dict[str, Any]:
    """Options of ``command`` from a YAML file, or from the ``settings`` part of a recording's run.yaml.

    Names may be spelled like the setting (max_iterations) or the flag (max-iterations, precond).
    Raises SettingsError naming file, field and allowed values.
    """
    from precond.config import read_yaml

    try:
        data = read_yaml(path)
    except UsageError as error:
        raise SettingsError(f"settings file {error}") from None
    if isinstance(data, dict) and isinstance(data.get("settings"), dict):
        data = data["settings"]
    if not isinstance(data, dict):
        raise SettingsError(f"settings file {path}: expected lines like `contrast: 100`")
    return _converted(command, data, f"settings file {path}")


def _converted(command: str, data: dict[Any, Any], source: str) -> dict[str, Any]:
    """The options of ``command`` in ``data`` by name, checked. Raises SettingsError that names ``source``."""
    options = {option.name: option for option in OPTIONS[command]}
    values = {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        name = "preconditioner" if name == "precond" else name
        if name not in options:
            raise SettingsError(f"{source}: {key}: unknown; allowed: {', '.join(options)}")
        try:
            values[name] = options[name].convert(value)
        except SettingsError as error:
            raise SettingsError(f"{source}: {key}: {error}") from None
        _check(name, values[name], f"{source}: {key}")
    return values


def _check(name: str, value: Any, source: str) -> None:
    """Raise SettingsError that names ``source`` when ``value``, or one of several, is out of the range of
    setting ``name``.
    """
    if name not in SimulationSettings.names():
        return
    several = isinstance(value, tuple | list) and name != "grid"
    for one in value if several else [value]:
        try:
            SimulationSettings(**{name: one})
        except UsageError as error:
            raise SettingsError(f"{source}: {str(error).removeprefix(name + ': ')}") from None


def _given(command: str, flags: dict[str, Any]) -> dict[str, Any]:
    """File and flags of one command line merged, flags winning; all values checked."""
    flags = dict(flags)
    path = flags.pop("settings", None)
    from_file = read_settings_file(path, command) if path is not None else {}
    options = {option.name: option for option in OPTIONS[command]}
    for name, value in flags.items():
        _check(name, value, options[name].flag)
        if options[name].several:
            flags[name] = options[name].convert(value)  # once each, as from a file
    return {**from_file, **flags}


def bench_settings(flags: dict[str, Any]) -> BenchSettings:
    """Settings of `bench` from the given flags (and the file that ``flags["settings"]`` names)."""
    return BenchSettings.of(_given("bench", flags))


def bench_settings_of(values: dict[str, Any], source: str) -> BenchSettings:
    """Settings of `bench` from ``values`` of a YAML file. Raises SettingsError that names ``source``."""
    given = _converted("bench", values, source)
    try:
        return BenchSettings.of(given)
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from None


def app_settings(command: str, flags: dict[str, Any]) -> AppSettings:
    """Settings of `demo` or `record` from the given flags (and the file that ``flags["settings"]`` names).

    Raises SettingsError for the file, a flag, the view or the colormap, and SceneError for the scene.
    """
    given = _given(command, flags)
    simulation = {name: given[name] for name in SimulationSettings.names() if name in given}
    run = {name: value for name, value in given.items() if name not in simulation}
    settings = AppSettings(given=simulation, **run)
    from app.picture import COLORMAPS, VIEWS

    for name, allowed in (("view", VIEWS), ("colormap", COLORMAPS)):
        value = getattr(settings, name)
        if value is not None and value not in allowed:
            raise SettingsError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
    settings.simulation = scene_settings(
        simulation.get("scene", SimulationSettings().scene), given=simulation
    )
    return settings


def scene_settings(scene_name: str, given: dict[str, Any]) -> SimulationSettings:
    """Defaults < the scene's own settings < ``given``. Raises SceneError or SettingsError."""
    from sim.scenes import load_scene

    own = load_scene(scene_name).settings
    return SimulationSettings(**{**own, **given, "scene": scene_name})
