"""The picture of a simulation: the right colour in the right place, whatever the field does."""

import warnings
from types import SimpleNamespace

import cmap
import numpy as np
import pytest
import torch
from PIL import Image

from app.picture import (
    COLORMAPS,
    MOST_PIXELS,
    PALETTES,
    SOLID_COLOUR,
    VIEWS,
    Tracers,
    View,
    draw,
    nice_ceiling,
    render,
    save_png,
    size_of,
)
from app.picture.palettes import SOURCE_COLOURS, fluid_inks, solid_ink
from app.picture.walls import walls_of

PLAIN = View(colormap="grey", interface=False, light=False)  # the light fluid black, the heavy one white


class Still:
    """Stands for a simulation: fields that are given."""

    def __init__(self, fraction, contrast=100.0, solid=None, **fields):
        self.fraction = np.asarray(fraction, np.float32)
        self.shape = self.fraction.shape
        self.spacing = 1.0 / self.shape[1]
        self.time = 0.0
        self.velocity = torch.zeros(2, self.shape[0] + 1, self.shape[1] + 1, dtype=torch.float64)
        self.settings = SimpleNamespace(contrast=contrast)
        self.solid = np.zeros(self.shape, bool) if solid is None else solid
        self.kinds = np.zeros(self.shape, np.uint8)
        self.fields = {"density": 1.0 + (contrast - 1.0) * self.fraction, **fields}

    def field(self, name):
        return np.asarray(self.fields.get(name, self.fraction), np.float32)

    def phase_fraction(self):
        return self.fraction.copy()

    def solid_mask(self):
        return self.solid.copy()

    def source_kinds(self):
        return self.kinds.copy()


def bottom_left(nx=12, ny=8):
    """Heavy fluid in the lower half of the left half."""
    fraction = np.zeros((nx, ny))
    fraction[: nx // 2, : ny // 2] = 1.0
    return fraction


def fractions(shape, inside, samples=16):
    """Share of every cell where ``inside(x, y)``, in cells."""
    x, y = np.meshgrid(*(np.arange(n * samples) / samples + 0.5 / samples for n in shape), indexing="ij")
    return inside(x, y).reshape(shape[0], samples, shape[1], samples).mean((1, 3))


def disc(x0, y0, radius):
    return lambda x, y: (x - x0) ** 2 + (y - y0) ** 2 < radius**2


def heavy_share(image):
    """How much of every pixel of a PLAIN picture is heavy, 0 to 1."""
    return image[..., 1] / 255.0


@pytest.mark.parametrize("scale", [1, 5])
def test_first_index_runs_right_and_second_up(scale):
    image = render(Still(bottom_left()), PLAIN, 12 * scale)
    assert image.shape == (8 * scale, 12 * scale, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    rows, columns = np.arange(8 * scale) / scale, np.arange(12 * scale) / scale
    inside = (rows[:, None] >= 5.0) & (columns[None, :] < 4.5)  # away from the edge of the block
    outside = (rows[:, None] < 2.5) | (columns[None, :] >= 7.0)
    assert (image[inside] == 255).all()
    assert (image[outside] == 0).all()


def test_density_is_shown_on_a_logarithmic_scale():
    view = View(colormap="viridis", range=(1.0, 100.0), interface=False, light=False)
    colour = render(Still(np.ones((8, 8)), contrast=10.0), view, 8)[0, 0]  # halfway between 1 and 100
    assert np.abs(colour.astype(int) - cmap.Colormap("viridis")(0.5).rgba8[:3]).max() <= 2


@pytest.mark.parametrize("name", sorted(set(COLORMAPS) - set(PALETTES)))
def test_colours_are_those_of_the_known_colormap(name):
    steps = np.repeat(np.linspace(0.0, 2.0, 9).repeat(3)[:, None], 8, axis=1)
    still = Still(np.zeros((27, 8)), speed=steps)
    image = render(still, View("speed", name, (0.0, 2.0), interface=False), 27)
    reference = cmap.Colormap(
        {
            "grey": "matlab:gray",
            "RdBu": "colorbrewer:RdBu",
            "coolwarm": "matplotlib:coolwarm",
            "berlin": "crameri:berlin",
        }.get(name, name)
    )
    expected = np.array([reference(k / 8.0).rgba8[:3] for k in range(9)], int)
    assert np.abs(image[0, 1::3].astype(int) - expected).max() <= 5  # 256 levels


@pytest.mark.parametrize("field", ["vorticity", "divergence"])
def test_range_of_a_signed_field_is_symmetric(field):
    values = np.full((16, 8), -3.0)
    values[0] = 1.0
    picture = draw(Still(np.zeros((16, 8)), **{field: values}), View(field), (16, 8))
    assert picture.scale.high == -picture.scale.low
    assert 3.0 <= picture.scale.high <= 5.0


def test_automatic_range_holds_all_pressures_and_ignores_solids():
    values = np.linspace(-3.1, 7.7, 128).reshape(16, 8)
    solid = np.zeros((16, 8), bool)
    solid[5, 5] = True
    values[5, 5] = 1e6
    picture = draw(Still(np.zeros((16, 8)), solid=solid, pressure=values), View("pressure"), (16, 8))
    assert picture.scale.low <= -3.1
    assert 7.7 <= picture.scale.high < 12.0


def test_automatic_range_of_the_divergence_leaves_out_sources():
    values = np.full((16, 8), 1e-6)
    kinds = np.zeros((16, 8), np.uint8)
    kinds[3:6, 2:5] = 1
    values[kinds > 0] = 50.0
    fields = Still(np.zeros((16, 8)), divergence=values)
    fields.kinds = kinds
    assert draw(fields, View("divergence"), (16, 8)).scale.high == pytest.approx(1e-6)


def test_fixed_range_cuts_off_what_is_beyond():
    speed = np.full((8, 8), 5.0)
    speed[:4] = -5.0
    image = render(Still(np.zeros((8, 8)), speed=speed), View("speed", "grey", (0.0, 1.0)), 8)
    assert (image[:, :3] == 0).all()
    assert (image[:, 5:] == 255).all()


def test_solids_have_their_own_colour_and_area():
    shape, radius, scale = (48, 40), 9.3, 8
    cells = fractions(shape, disc(22.6, 18.2, radius), 1) > 0.5
    image = render(Still(np.ones(shape), solid=cells), PLAIN, 48 * scale).astype(int)
    share = np.abs(image - 255).sum(axis=2) / np.abs(np.array(SOLID_COLOUR) - 255).sum()
    assert share.sum() / scale**2 == pytest.approx(cells.sum(), rel=0.05)
    rows, columns = np.nonzero((share > 0.2) & (share < 0.8))
    measured = np.hypot((columns + 0.5) / scale - 22.6, 40.0 - (rows + 0.5) / scale - 18.2)
    assert np.abs(measured - radius).max() < 0.5  # stairs reach 0.7 cells
    assert measured.std() < 0.15
    assert (image[round((40.0 - 18.2) * scale), round(22.6 * scale)] == SOLID_COLOUR).all()


@pytest.mark.parametrize("thickness", [1, 2])
def test_thin_walls_and_gaps_stay(thickness):
    solid = np.zeros((48, 24), bool)
    for first in range(0, 48, 2 * thickness):
        solid[first : first + thickness, 4:20] = True
    image = render(Still(np.ones((48, 24)), solid=solid), PLAIN, 48 * 8)
    row = image[12 * 8]
    middles = row[4 * thickness :: 8 * thickness].astype(int)  # of walls and gaps in turn
    assert (middles[0::2] == SOLID_COLOUR).all()
    assert (middles[1::2] == 255).all()


def test_solid_in_heavy_fluid_has_no_halo():
    solid = np.zeros((12, 12), bool)
    solid[5:8, 5:8] = True
    image = render(Still(np.where(solid, 0.0, 1.0), solid=solid), PLAIN, 48).astype(int)
    between = image[..., 0] * 0.0
    for channel, colour in enumerate(SOLID_COLOUR):  # every pixel is a mixture of white and the solid's
        between = np.maximum(
            between,
            np.abs(
                (255 - image[..., channel]) / (255 - colour) - (255 - image[..., 0]) / (255 - SOLID_COLOUR[0])
            ),
        )
    assert between.max() < 0.03


def test_interface_is_where_it_is_and_smooth():
    shape, scale, centre, radius = (64, 48), 8, (31.7, 23.2), 15.3
    image = render(Still(fractions(shape, disc(*centre, radius))), PLAIN, 64 * scale)
    share = heavy_share(image)
    rows, columns = np.nonzero((share > 0.02) & (share < 0.98))
    x, y = (columns + 0.5) / scale - centre[0], 48.0 - (rows + 0.5) / scale - centre[1]
    outline = np.hypot(x, y) * scale + share[rows, columns] - 0.5  # where half of a pixel is covered
    assert np.abs(outline - radius * scale).max() < 0.5
    assert np.sqrt(np.mean((outline - radius * scale) ** 2)) < 0.3  # pixels
    assert len(np.unique(np.degrees(np.arctan2(y, x)).round(-1))) == 37  # all the way round
    assert len(rows) < 3.0 * 2.0 * np.pi * radius * scale  # a pixel wide, not fuzzy


@pytest.mark.parametrize(
    ("radius", "within"), [(0.3, 0.4), (0.45, 0.15), (0.8, 0.06), (1.5, 0.04), (6.0, 0.01)]
)
def test_droplets_have_their_size(radius, within):
    """The area of all the heavy pixels, against the fractions: of droplets in heavy fluid's place, and
    bubbles.
    """
    places = np.random.default_rng(3).uniform(-0.5, 0.5, (6, 2))
    for bubble in (False, True):
        measured = []
        for x, y in places:
            heavy = fractions((24, 24), disc(12.0 + x, 12.0 + y, radius))
            image = render(Still(1.0 - heavy if bubble else heavy), PLAIN, 24 * 12)
            share = 1.0 - heavy_share(image) if bubble else heavy_share(image)
            measured.append(share.sum() / 144.0 / heavy.sum())
        assert np.mean(measured) == pytest.approx(1.0, abs=within)
        assert min(measured) > 0.4


def test_a_droplet_has_no_halo():
    heavy = np.zeros((24, 24))
    heavy[12, 12] = 0.5
    share = heavy_share(render(Still(heavy), PLAIN, 24 * 12))
    rows, columns = np.nonzero(share > 0.0)
    assert np.hypot(rows + 0.5 - 11.5 * 12, columns + 0.5 - 12.5 * 12).max() < 0.4 * 12 * 1.2 + 1.0
    assert share.max() == 1.0


def test_a_mirrored_state_gives_a_mirrored_picture():
    random = np.random.default_rng(5)
    heavy = np.clip(np.cumsum(random.normal(0.0, 0.4, (40, 24)), axis=0) + 0.5, 0.0, 1.0)
    solid = random.random((40, 24)) > 0.95
    straight = render(Still(heavy, solid=solid), PLAIN, 333).astype(int)
    mirrored = render(Still(heavy[::-1], solid=solid[::-1]), PLAIN, 333).astype(int)
    assert np.mean(np.abs(straight - mirrored[:, ::-1]).max(axis=2) > 2) < 1e-3  # but for rounding


def test_the_line_and_the_light_change_only_how_bright_it_is():
    heavy = fractions((40, 24), disc(15.0, 10.0, 6.0))
    flat = render(Still(heavy), View(interface=False, light=False), 400).astype(int)
    line = render(Still(heavy), View(light=False), 400).astype(int)
    lit = render(Still(heavy), View(), 400).astype(int)
    changed = np.nonzero((line != flat).any(axis=2))
    measured = np.hypot((changed[1] + 0.5) / 10 - 15.0, 24.0 - (changed[0] + 0.5) / 10 - 10.0)
    assert np.abs(measured - 6.0).max() < 0.4  # cells
    inside = np.hypot(*(np.indices((240, 400)) + 0.5 - np.array([140.0, 150.0])[:, None, None])) < 60
    blue = lit[..., 2] - lit[..., 0]
    assert blue[inside].min() > 1.2 * blue[~inside].max() or blue[inside].mean() > 3.0 * blue[~inside].mean()


@pytest.mark.parametrize("grid", [(1, 1), (3, 2), (5, 40)])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (30, 200)])
def test_any_grid_and_any_size_can_be_drawn(grid, size):
    random = np.random.default_rng(0)
    still = Still(random.random(grid), solid=random.random(grid) > 0.7)
    assert draw(still, View(), size, Tracers()).rgba.shape == (size[1], size[0], 4)


def test_not_a_number_is_light_fluid():
    heavy = bottom_left()
    heavy[9, 2] = np.nan
    share = heavy_share(render(Still(heavy), PLAIN, 120))
    assert share[:, 75:].max() == 0.0
    assert share[60:, :40].min() == 1.0


@pytest.mark.parametrize(("shape", "side"), [((128, 64), 3840), ((64, 128), 3840), ((96, 96), 500)])
def test_pictures_are_not_larger_than_a_screen_needs(shape, side):
    width, height = size_of(shape, side, MOST_PIXELS)
    assert width / height == pytest.approx(shape[0] / shape[1], rel=0.01)
    assert width * height <= 1.01 * MOST_PIXELS
    assert max(width, height) == side or width * height > 0.98 * MOST_PIXELS


def lab(colours):
    """(n, 3) sRGB, 0 to 255, to CIE Lab at D65."""
    linear = linearised(colours)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    share = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16.0 / 116.0)
    return np.stack(
        [116.0 * f[:, 1] - 16.0, 500.0 * (f[:, 0] - f[:, 1]), 200.0 * (f[:, 1] - f[:, 2])], axis=1
    )


def linearised(colours):
    share = np.asarray(colours, float) / 255.0
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


SEEN_BY = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "everybody": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


@pytest.mark.parametrize("eyes", SEEN_BY)
@pytest.mark.parametrize("name", PALETTES)
def test_the_palettes_can_be_told_apart(name, eyes):
    """Every shade of one fluid from every shade of the other, and both from solids, in CIE Lab."""

    def seen(colours):
        linear = np.clip(linearised(colours) @ SEEN_BY[eyes].T, 0.0, 1.0)
        back = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1.0 / 2.4) - 0.055)
        return lab(255.0 * back)

    light, heavy = (seen(fluid_inks(name, share)[::16]) for share in (0.0, 1.0))
    solid = seen(solid_ink(name)[None])
    for one, other in ((light, heavy), (light, solid), (heavy, solid)):
        apart = np.linalg.norm(one[:, None] - other[None], axis=2)
        assert apart.min() > 20.0


@pytest.mark.parametrize("field", VIEWS)
@pytest.mark.parametrize("values", [0.0, 4.2, np.nan, np.inf])
def test_no_field_is_too_odd_to_draw(field, values):
    still = Still(np.zeros((8, 8)), contrast=1.0, **{field: np.full((8, 8), values)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = draw(still, View(field), (24, 24))
    assert picture.rgba.shape == (24, 24, 4)
    assert (picture.rgba[..., 3] == 255).all()
    assert np.isfinite([picture.scale.low, picture.scale.high]).all()
    assert picture.scale.low < picture.scale.high


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"field": "colour"}, "density"),
        ({"colormap": "jet"}, "viridis"),
        ({"field": "speed", "range": (2.0, 2.0)}, "empty"),
        ({"field": "speed", "range": (0.0, np.nan)}, "empty"),
        ({"field": "density", "range": (0.0, 5.0)}, "above 0"),
    ],
)
def test_wrong_view_says_what_is_right(wrong, said):
    with pytest.raises(ValueError, match=said):
        View(**wrong)


def test_png_keeps_every_pixel(tmp_path):
    image = render(Still(bottom_left()), View(), 36)
    path = save_png(tmp_path / "new" / "picture.png", image)
    with Image.open(path) as stored:
        assert (np.asarray(stored) == image).all()


def test_round_numbers_are_not_below():
    values = 10.0 ** np.linspace(-9.0, 9.0, 500)
    rounded = np.array([nice_ceiling(value) for value in values])
    assert (rounded >= 0.999 * values).all()
    assert (rounded <= 1.7 * values).all()
    assert nice_ceiling(0.3) == pytest.approx(0.3)
    assert [nice_ceiling(value) for value in (0.0, -1.0, np.nan, np.inf)] == [1.0] * 4


@pytest.mark.parametrize("field", VIEWS)
def test_real_simulation_is_drawn(make_simulation, field):
    simulation = make_simulation("dam-break", grid=(32, 16))
    simulation.step()
    image = render(simulation, View(field), 64)
    assert image.shape == (32, 64, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 5


def test_tracers_go_with_the_flow_and_leave_it_alone():
    still, tracers, solid = Still(np.zeros((40, 30))), Tracers(), np.zeros((40, 30), bool)
    still.velocity[0], still.velocity[1] = 0.5, -0.25  # a cell is 1/30 m: 15 and 7.5 cells a second
    before = still.velocity.clone()
    tracers.follow(still, solid)
    begun = tracers.places.copy()
    still.time = 0.1
    tracers.follow(still, solid)
    moved = tracers.places - begun
    inside = (begun[:, 0] < 38.0) & (begun[:, 1] > 1.0)
    assert np.mean(np.abs(moved[inside] - [1.5, -0.75]).max(axis=1) < 1e-6) > 0.95  # some begin anew
    assert (still.velocity == before).all()
    still.time = 0.0  # a reset
    tracers.follow(still, solid)
    assert (tracers.places >= 0.0).all()
    assert (tracers.places < [40.0, 30.0]).all()


def test_tracers_turn_with_a_vortex():
    """Around the middle, as far from it as they began."""
    n = 48
    still, tracers, solid = Still(np.zeros((n, n))), Tracers(), np.zeros((n, n), bool)
    still.velocity[0] = -(torch.arange(n + 1)[None, :] + 0.5 - n / 2) / n  # rigid: one radian a second
    still.velocity[1] = (torch.arange(n + 1)[:, None] + 0.5 - n / 2) / n
    tracers.follow(still, solid)
    begun = tracers.places - n / 2
    for step in range(1, 11):
        still.time = 0.05 * step
        tracers.follow(still, solid)
    ended = tracers.places - n / 2
    radius = np.hypot(*begun.T)
    kept = (radius > 3.0) & (radius < 20.0) & (np.abs(np.hypot(*ended.T) - radius) < 0.02)
    turned = np.angle((ended[:, 0] + 1j * ended[:, 1]) / (begun[:, 0] + 1j * begun[:, 1]))
    assert kept.sum() > 0.7 * ((radius > 3.0) & (radius < 20.0)).sum()
    assert turned[kept] == pytest.approx(np.full(kept.sum(), 0.5), abs=0.01)


def test_tracers_are_drawn_in_fluids_alone():
    solid = np.zeros((32, 32), bool)
    solid[8:24, 8:24] = True
    still, tracers = Still(np.zeros((32, 32)), solid=solid), Tracers()
    for step in range(20):  # to let those in solids begin anew
        still.time = 0.01 * step
        traced = draw(still, View(), (256, 256), tracers).rgba
    changed = (traced != draw(still, View(), (256, 256)).rgba).any(axis=2)
    assert changed.sum() > 500
    assert not changed[80:176, 80:176].any()
    assert (
        draw(still, View("speed"), (256, 256), tracers).rgba == draw(still, View("speed"), (256, 256)).rgba
    ).all()


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("upright", [True, False])
def test_long_thin_walls_and_gaps_are_drawn_along_all_their_length(width, upright):
    solid = np.zeros((48, 48), bool)
    solid[15 : 15 + width, :30] = solid[30 : 30 + width, 18:] = True
    for mask, expected in ((solid, solid), (~solid, ~solid)):
        mask = mask if upright else mask.T
        outline = walls_of(mask).outline[1:-1, 1:-1]  # (ny, nx)
        inside = (outline > 0.0).T
        assert (inside != (expected if upright else expected.T)).mean() < 0.01


def test_sources_and_drains_have_borders():
    still = Still(np.zeros((16, 8)))
    still.kinds[2:6, 1:4], still.kinds[10:14, 4:8] = 1, 3
    image = render(still, PLAIN, 160)
    for kind, left, right, top, bottom in (("heavy source", 20, 60, 40, 70), ("drain", 100, 140, 0, 40)):
        border = (image == SOURCE_COLOURS[kind]).all(axis=2)
        expected = np.zeros_like(border)
        expected[top:bottom, left:right] = True
        expected[top + 1 : bottom - 1, left + 1 : right - 1] = False
        np.testing.assert_array_equal(border, expected)
