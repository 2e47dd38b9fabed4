"""Pictures of every panel, at two sizes and two densities of the screen, against kept ones.

They are compared coarsely and with tolerance: numbers and fonts may differ, places and colours may not.
UPDATE_PANELS=1 keeps new ones, which somebody has to look at.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

KEPT = Path(__file__).parent / "panels"
SHRINK = 8  # pixels of the screen to a pixel that is compared
TABS = ("Plots", "Race", "Partition", "Method")
MEAN = 6.0  # difference, of 255
SHARE, APART = 0.04, 40.0  # of the pixels that may be more than so far apart
FRAMES = 12


def shrunk(path):
    with Image.open(path) as image:
        small = image.convert("RGB").reduce(SHRINK)
    return small


@pytest.mark.parametrize("scale", [1.0, 1.5])
@pytest.mark.parametrize("size", [(800, 600), (1280, 800)])
def test_panels_look_as_they_did(drive, tmp_path, size, scale):
    from imgui_bundle.immapp import testing

    name = f"{size[0]}x{size[1]}-{scale:g}"
    taken = {}

    def test(ctx, window):
        session = window.session
        session.engine.paused = False
        while session.engine.frame < FRAMES:
            ctx.yield_()
        session.engine.paused = True
        for tab in TABS:
            session.front = tab
            ctx.yield_(4)
            path = tmp_path / f"{tab}.png"
            testing.capture(ctx, str(path))
            taken[tab] = shrunk(path)

    drive(test, size=size, scale=scale)
    assert set(taken) == set(TABS)
    different = []
    for tab, picture in taken.items():
        kept = KEPT / f"{name}-{tab.lower()}.png"
        if "UPDATE_PANELS" in os.environ:
            kept.parent.mkdir(exist_ok=True)
            picture.save(kept)
        with Image.open(kept) as image:
            assert image.size == picture.size
            apart = np.abs(np.asarray(image, float) - np.asarray(picture, float)).mean(axis=-1)
        if apart.mean() > MEAN or (apart > APART).mean() > SHARE:
            different.append(f"{kept.name}: {apart.mean():.1f}, {(apart > APART).mean():.1%}")
    assert different == []
