"""The gallery's thumbnails: `python -m app.commands.thumbnails` draws every scene after a moment."""

from __future__ import annotations

from PIL import Image

from app.config.settings import scene_settings
from app.environment import use_one_thread
from app.picture import View, render, save_png
from sim.scenes import THUMBNAIL_FOLDER, available_scenes, load_scene
from sim.simulation import Simulation

LONGER_SIDE = 192  # pixels
MOMENT_S = 0.4  # after the start, or half of the scene's time where that is more
FINER = 4  # pixels a cell, before the picture is made small


def thumbnails() -> None:
    """Write assets/scenes/thumbnails anew."""
    use_one_thread()
    for name in available_scenes():
        scene = load_scene(name)
        simulation = Simulation(scene_settings(name, {"preconditioner": "multigrid"}), scene)
        while simulation.time < max(MOMENT_S, 0.5 * scene.duration_s):
            simulation.step()
        image = Image.fromarray(render(simulation, View(), FINER * max(simulation.shape)))
        image.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
        print(save_png(THUMBNAIL_FOLDER / f"{name}.png", image))


if __name__ == "__main__":
    thumbnails()
