"""The picture of a simulation: the right colour in the right place, whatever the field does."""

import warnings
from types import SimpleNamespace

import cmap
import numpy as np
import pytest
from PIL import Image

from app.picture import COLORMAPS, SOLID_COLOUR, VIEWS, View, draw, nice_ceiling, render, save_png

FLUID = np.array([[13, 21, 38], [63, 164, 232]])  # the first and the last colour of "fluid"


class Still:
    """Stands for a simulation: fields that are given."""

    def __init__(self, fraction, contrast=100.0, solid=None, **fields):
        self.fraction = np.asarray(fraction, np.float32)
        self.shape = self.fraction.shape
        self.settings = SimpleNamespace(contrast=contrast)
        self.solid = np.zeros(self.shape, bool) if solid is None else solid
        self.fields = {"density": 1.0 + (contrast - 1.0) * self.fraction, **fields}

    def field(self, name):
        return np.asarray(self.fields[name], np.float32)

    def phase_fraction(self):
        return self.fraction.copy()

    def solid_mask(self):
        return self.solid.copy()


def bottom_left(nx=12, ny=8):
    """Heavy fluid in the lower half of the left half."""
    fraction = np.zeros((nx, ny))
    fraction[: nx // 2, : ny // 2] = 1.0
    return fraction


@pytest.mark.parametrize("scale", [1, 5])
def test_first_index_runs_right_and_second_up(scale):
    image = render(Still(bottom_left()), View(interface=False), scale)
    assert image.shape == (8 * scale, 12 * scale, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    heavy = np.abs(image.astype(int) - FLUID[1]).max(axis=2) <= 2  # (H, W)
    light = np.abs(image.astype(int) - FLUID[0]).max(axis=2) <= 2
    rows, columns = np.arange(8 * scale) / scale, np.arange(12 * scale) / scale
    inside = (rows[:, None] >= 5.5) & (columns[None, :] < 4.5)  # away from the edge of the block
    outside = (rows[:, None] < 2.5) | (columns[None, :] >= 7.5)
    assert heavy[inside].all()
    assert light[outside].all()


def test_density_is_shown_on_a_logarithmic_scale():
    still = Still(np.zeros((8, 8)), density=np.full((8, 8), 10.0))  # halfway between 1 and 100
    expected = cmap.Colormap("viridis")(0.5).rgba8[:3]
    colour = render(still, View(colormap="viridis", interface=False))[0, 0]
    assert np.abs(colour.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("name", sorted(set(COLORMAPS) - {"fluid"}))
def test_colours_are_those_of_the_known_colormap(name):
    ramp = np.repeat(np.linspace(0.0, 2.0, 9)[:, None], 8, axis=1)
    still = Still(np.zeros((9, 8)), speed=ramp)
    image = render(still, View("speed", name, (0.0, 2.0), interface=False))
    reference = cmap.Colormap(
        {
            "grey": "matlab:gray",
            "RdBu": "colorbrewer:RdBu",
            "coolwarm": "matplotlib:coolwarm",
            "berlin": "crameri:berlin",
        }.get(name, name)
    )
    expected = np.array([reference(k / 8.0).rgba8[:3] for k in range(9)], int)
    assert np.abs(image[0].astype(int) - expected).max() <= 5  # 256 levels


@pytest.mark.parametrize("field", ["vorticity", "divergence"])
def test_range_of_a_signed_field_is_symmetric(field):
    values = np.full((16, 8), -3.0)
    values[0] = 1.0
    picture = draw(Still(np.zeros((16, 8)), **{field: values}), View(field))
    assert picture.scale.high == -picture.scale.low
    assert 3.0 <= picture.scale.high <= 5.0


def test_automatic_range_holds_all_pressures_and_ignores_solids():
    values = np.linspace(-3.1, 7.7, 128).reshape(16, 8)
    solid = np.zeros((16, 8), bool)
    solid[5, 5] = True
    values[5, 5] = 1e6
    picture = draw(Still(np.zeros((16, 8)), solid=solid, pressure=values), View("pressure"))
    assert picture.scale.low <= -3.1
    assert 7.7 <= picture.scale.high < 12.0


def test_fixed_range_cuts_off_what_is_beyond():
    speed = np.full((8, 8), 5.0)
    speed[:4] = -5.0
    image = render(Still(np.zeros((8, 8)), speed=speed), View("speed", "grey", (0.0, 1.0)))
    assert (image[:, :4] == 0).all()
    assert (image[:, 4:] == 255).all()


@pytest.mark.parametrize("scale", [1, 4])
def test_solids_have_their_own_colour(scale):
    solid = np.zeros((12, 8), bool)
    solid[3, 0] = True  # the bottom row
    image = render(Still(np.ones((12, 8)), solid=solid), View(), scale)
    block = image[7 * scale :, 3 * scale : 4 * scale]
    assert (block == SOLID_COLOUR).all()
    assert (image == SOLID_COLOUR).all(axis=2).sum() == scale**2


def test_solid_in_heavy_fluid_has_no_halo():
    solid = np.zeros((12, 12), bool)
    solid[5:8, 5:8] = True
    fraction = np.where(solid, 0.0, 1.0)
    image = render(Still(fraction, solid=solid), View(interface=False), 4).astype(int)
    fluid = ~solid.T[::-1].repeat(4, axis=0).repeat(4, axis=1)
    assert np.abs(image[fluid] - FLUID[1]).max() <= 8  # it would be 100 with one


def test_interface_is_drawn_where_half_is_heavy():
    nx, ny, scale, radius = 48, 48, 4, 15.3
    x, y = np.meshgrid(np.arange(nx) + 0.5, np.arange(ny) + 0.5, indexing="ij")
    distance = np.hypot(x - 24.0, y - 24.0)
    still = Still(np.clip(0.5 + radius - distance, 0.0, 1.0))
    changed = (render(still, View(), scale) != render(still, View(interface=False), scale)).any(axis=2)
    rows, columns = np.nonzero(changed)
    measured = np.hypot((columns + 0.5) / scale - 24.0, (rows + 0.5) / scale - 24.0)
    assert np.abs(measured - radius).max() < 0.5  # cells
    angles = np.degrees(np.arctan2(rows + 0.5 - 96.0, columns + 0.5 - 96.0))
    assert len(np.unique(angles.round(-1))) == 37  # all the way round


@pytest.mark.parametrize("field", VIEWS)
@pytest.mark.parametrize("values", [0.0, 4.2, np.nan, np.inf])
def test_no_field_is_too_odd_to_draw(field, values):
    still = Still(np.zeros((8, 8)), contrast=1.0, **{field: np.full((8, 8), values)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = draw(still, View(field), 3)
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
    image = render(Still(bottom_left()), View(), 3)
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
    image = render(simulation, View(field), 2)
    assert image.shape == (32, 64, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 5
