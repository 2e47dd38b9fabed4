"""What the window remembers from one day to the next: view, brush, pace, and whether it was explained."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from app.config.settings import SPEEDS, THEMES
from app.output import write_whole
from app.picture import COLORMAPS, VIEWS
from app.viewer.materials import MATERIALS
from app.viewer.session import BRUSH_LIMITS, Brush, Session
from precond.config import Number, Settings, Switch, read_yaml, validated
from precond.errors import UsageError

FILE = "preferences.yaml"


class Preferences(Settings):
    """One person's; ``scale``: pixels per point of the screen that the layout was made on."""

    view: Literal[VIEWS] = VIEWS[0]
    colormap: Literal[COLORMAPS] | None = None
    interface: Switch = True
    light: Switch = True
    paint: Literal[tuple(MATERIALS)] = Brush.paint
    theme: Literal[THEMES] = THEMES[0]
    tracers: Switch | None = None
    radius: Number = Field(Brush.radius, ge=BRUSH_LIMITS["radius"][0], le=BRUSH_LIMITS["radius"][1])
    strength: Number = Field(Brush.strength, ge=BRUSH_LIMITS["strength"][0], le=BRUSH_LIMITS["strength"][1])
    speed: Number = Field(1.0, **SPEEDS)
    explained: Switch = False
    scale: Number = Field(1.0, gt=0)

    @classmethod
    def read(cls, folder: Path) -> Preferences:
        """Those in ``folder``; the defaults where there are none, or none that can be used."""
        try:
            return validated(cls, read_yaml(folder / FILE))
        except UsageError:
            return cls()

    def write(self, folder: Path) -> None:
        """Keep them in ``folder``. Raises OutputError."""
        write_whole(folder / FILE, yaml.safe_dump(self.model_dump()))

    def apply(self, session: Session) -> None:
        """Set what the settings of the run do not."""
        given = session.engine.settings.model_fields_set
        changes = {"interface": self.interface, "light": self.light, "tracers": self.tracers}
        if not given & {"view", "colormap"}:
            changes |= {"field": self.view, "colormap": self.colormap}
        session.change_view(**changes)
        brush = session.brush
        brush.paint, brush.radius, brush.strength = self.paint, self.radius, self.strength
        if "speed" not in given:
            session.change_speed("speed", self.speed)
        if "theme" not in given:
            session.theme = self.theme
        session.explained = self.explained

    @classmethod
    def of(cls, session: Session, scale: float) -> Preferences:
        """The present ones."""
        view, brush = session.view, session.brush
        return cls(
            view=view.field,
            colormap=view.colormap,
            interface=view.interface,
            light=view.light,
            tracers=view.tracers,
            theme=session.theme,
            paint=brush.paint,
            radius=brush.radius,
            strength=brush.strength,
            speed=session.worker.speed,
            explained=session.explained,
            scale=scale,
        )
