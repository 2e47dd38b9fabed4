"""What demo and record are asked for, and how settings of any command come from flags and from a YAML file.

Precedence: defaults < the scene's own settings < the settings file < the flags. Nothing heavy is imported
here, so that `--help` and a mistyped option answer at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from app.config.flags import flag, name_of
from precond.config import Number, Settings, Switch, Text, Whole, read_yaml, setting, validated
from precond.errors import UsageError
from sim.settings import SimulationSettings

DEFAULT_FRAMES = 300
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
    out: Text | None = setting(
        None, "directory of the recording (default: a numbered one under runs/)", metavar="DIR"
    )
    video: Switch = setting(False, "also write run.mp4 (needs the extra `video`)")
    video_fps: Number = setting(30.0, "pictures per second of simulated time in the video", ge=1, le=240)
    view: Annotated[Text, _known("VIEWS")] = setting(
        "density", "field to show: density, pressure, speed, vorticity or divergence"
    )
    colormap: Annotated[Text, _known("COLORMAPS")] | None = setting(
        None, "colours to show it in (default: the view's own)"
    )
    theme: Literal["dark", "light"] = setting("dark", "colours of the window around the picture")


class RunOptions(RunSettings, SimulationSettings):
    """What can be given to demo and record, as flags or in a file."""


class AppSettings(RunSettings):
    """What demo and record need: the simulation's settings and those of the run around it."""

    simulation: SimulationSettings = Field(default_factory=SimulationSettings)
    given: dict[str, Any] = Field({}, description="settings from file or flags: they outlive a scene")

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the option names, usable as a settings file again (without ``out``)."""
        run = self.model_dump(exclude={"simulation", "given", "out"}, exclude_none=True)
        return {**self.simulation.model_dump(), **run}


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
    """Settings of demo or record from ``flags`` and the file that they name. Raises what `merged` raises, and
    UsageError for the scene.
    """
    options = merged(RunOptions, flags)
    chosen = {name: value for name, value in options if name in options.model_fields_set}
    run = {name: chosen.pop(name) for name in RunSettings.model_fields if name in chosen}
    return AppSettings(**run, simulation=scene_settings(options.scene, chosen), given=chosen)


def scene_settings(scene_name: str, given: dict[str, Any]) -> SimulationSettings:
    """Defaults < the scene's own settings < ``given``. Raises UsageError."""
    from sim.scenes import load_scene

    own = load_scene(scene_name).settings
    return SimulationSettings(**{**own, **given, "scene": scene_name})
