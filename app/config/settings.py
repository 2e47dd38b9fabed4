"""What demo and record are asked for, and how settings of any command come from flags and from a YAML file.

Precedence: defaults < the scene's own settings < the settings file < the flags. Nothing heavy is imported
here, so that `--help` and a mistyped option answer at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from app.config.flags import flag, name_of
from precond.config import Number, Settings, Switch, Text, Whole, read_yaml, setting, validated
from precond.errors import UsageError
from sim.settings import SimulationSettings

DEFAULT_FRAMES = 300
SPEEDS = {"ge": 0.001, "le": 100}  # in which the speed lies
THEMES = ("dark", "light")
OF_ONE_RUN = ("out", "safe", "load", "replay")  # settings that a repetition does not take over
Model = TypeVar("Model", bound=Settings)


def _known(table: str) -> AfterValidator:
    """A check that a name stands in ``table`` of app.picture."""

    def check(name: str) -> str:
        from app import picture

        if name not in (names := getattr(picture, table)):
            raise ValueError(f"is not one of {', '.join(names)}")
        return name

    return AfterValidator(check)


class RunSettings(Settings):
    """The settings of a run around its simulation."""

    frames: Annotated[Whole, Field(ge=1, le=10**9)] | None = setting(
        None, f"frames to run (record: {DEFAULT_FRAMES}; demo: until you close it)"
    )
    seconds: Annotated[Number, Field(gt=0, le=1e6)] | None = setting(
        None, "simulated seconds to run, in place of --frames", unit="s"
    )
    speed: Number = setting(1.0, "simulated seconds a second, of the window and of the video", **SPEEDS)
    safe: Switch = setting(False, "demo: forget the saved layout and preferences this time")
    load: Text | None = setting(None, "begin with a saved state", metavar="FILE")
    replay: Text | None = setting(
        None, "record: repeat the input of this recording; other flags win over its settings", metavar="DIR"
    )
    out: Text | None = setting(
        None, "directory of the recording (default: a numbered one under runs/)", metavar="DIR"
    )
    video: Switch = setting(False, "also write run.mp4 (needs the extra `video`)")
    video_fps: Number = setting(30.0, "pictures per second of the video", ge=1, le=240)
    report: Switch = setting(
        False, "also write report.html, a page that shows all of the run (needs the extra `report`)"
    )
    view: Annotated[Text, _known("VIEWS")] = setting(
        "density", "field to show: density, pressure, speed, vorticity or divergence"
    )
    colormap: Annotated[Text, _known("COLORMAPS")] | None = setting(
        None, "colours to show it in (default: the view's own)"
    )
    theme: Literal[THEMES] = setting(THEMES[0], "colours of the window around the picture")


class RunOptions(RunSettings, SimulationSettings):
    """What can be given to demo and record, as flags or in a file."""


class AppSettings(RunSettings):
    """What demo and record need: the simulation's settings and those of the run around it."""

    simulation: SimulationSettings = Field(default_factory=SimulationSettings)
    given: dict[str, Any] = Field({}, description="settings from file or flags: they outlive a scene")

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the option names, usable as a settings file again (without OF_ONE_RUN)."""
        run = self.model_dump(exclude={"simulation", "given", *OF_ONE_RUN}, exclude_none=True)
        return {**self.simulation.model_dump(mode="json"), **run}


def merged(kind: type[Model], flags: dict[str, Any]) -> Model:
    """Settings from ``flags`` and from the YAML file that ``flags["settings"]`` names, or from the part
    ``settings`` of one, a recording's run.yaml; flags win.

    In the file, names may be spelled like the setting (max_iterations) or the flag (max-iterations, precond).
    Raises UsageError that names flag or file, the setting and what is allowed.
    """
    values: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    if "settings" in flags:
        source = f"settings file {flags['settings']}"
        try:
            data = read_yaml(flags["settings"])
        except UsageError as error:
            raise UsageError(f"settings file {error}") from None
        if isinstance(data, dict) and isinstance(data.get("settings"), dict):
            data = data["settings"]
        if not isinstance(data, dict):
            raise UsageError(f"{source}: expected lines like `contrast: 100`")
        for key, value in data.items():
            name = name_of(str(key))
            if name in values:
                raise UsageError(f"{source}: {key}: given twice, in two spellings")
            values[name], spelled[name] = value, f"{source}: {key}"
    for name in flags.keys() - {"settings"}:
        values[name], spelled[name] = flags[name], flag(name)
    return validated(kind, values, spelled=spelled)


def app_settings(flags: dict[str, Any]) -> AppSettings:
    """Settings of demo or record from ``flags`` and the file that they name, or from the recording that is to
    be repeated. Raises what `merged` raises, and UsageError for the scene and for --settings with --replay.
    """
    if "replay" in flags:
        if "settings" in flags:
            raise UsageError("--settings: not with --replay, which has settings of its own")
        return _replayed(flags)
    options = _options(flags)
    chosen = {name: value for name, value in options if name in options.model_fields_set}
    run = {name: chosen.pop(name) for name in RunSettings.model_fields if name in chosen}
    return AppSettings(**run, simulation=scene_settings(options.scene, chosen), given=chosen)


def _options(flags: dict[str, Any]) -> RunOptions:
    """As `merged`, with frames or seconds to run; both at one place are refused with UsageError."""
    options = merged(RunOptions, flags)
    if options.frames and options.seconds:
        told = [name for name in ("frames", "seconds") if name in flags]
        if len(told) != 1:
            raise UsageError("--seconds stands in place of --frames: give one of them")
        setattr(options, "frames" if told == ["seconds"] else "seconds", None)
    return options


def _replayed(flags: dict[str, Any]) -> AppSettings:
    """Those with which the recording ``flags["replay"]`` began, but for what flags give."""
    path = Path(flags["replay"]) / "run.yaml"
    if not path.is_file():
        raise UsageError(f"--replay: {flags['replay']} is not a recording: there is no run.yaml in it")
    options, recorded = _options(flags), dict(merged(RunOptions, {"settings": str(path)}))
    given = {name: getattr(options, name) for name in flags if name in SimulationSettings.model_fields}
    for name in ("scene", "grid", "seed"):
        if name in given:
            raise UsageError(f"{flag(name)}: not with --replay, whose input is for its own {name}")
    simulation = {name: recorded[name] for name in SimulationSettings.model_fields} | given
    run = {name: getattr(options, name) for name in flags if name in RunSettings.model_fields}
    return AppSettings(**run, simulation=SimulationSettings(**simulation), given=given)


def scene_settings(scene_name: str, given: dict[str, Any]) -> SimulationSettings:
    """Defaults < the scene's own settings < ``given``. Raises UsageError."""
    from sim.scenes import load_scene

    own = load_scene(scene_name).settings
    return SimulationSettings(**{**own, **given, "scene": scene_name})
