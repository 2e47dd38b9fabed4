"""Every scene runs and holds what it states; a wrong scene file is refused in words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import yaml

from precond.errors import UsageError
from precond.problems import gallery
from sim.checks import SceneStart, failures
from sim.scenes import SCENE_FOLDER, Scene, available_scenes, load_scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation

Maker = Callable[..., Simulation]
SCENES = {
    *(
        "barriers",
        "bubbler",
        "curtains",
        "dam-break",
        "falling-drop",
        "fountain",
        "lava-lamp",
        "maze",
        "pegs",
    ),
    *("channel", "filling", "porous-bed", "rayleigh-taylor", "rising-bubbles", "stripes", "waterfall"),
}


def test_the_scenes_are_there() -> None:
    assert set(available_scenes()) == SCENES


@pytest.mark.parametrize("name", sorted(SCENES))
def test_every_scene_keeps_its_promises(make_simulation: Maker, name: str) -> None:
    """On half the scene's grid, until its duration; with the default preconditioner at first and at last."""
    scene, default = load_scene(name), SimulationSettings().preconditioner
    nx, ny = scene.settings["grid"]
    simulation = make_simulation(scene, grid=(nx // 2, ny // 2))
    start = SceneStart.of(simulation)
    for method, share in ((default, 0.05), ("multigrid", 0.95), (default, 1.0)):
        simulation.select_preconditioner(method)
        while simulation.time < share * scene.duration_s:
            report = simulation.step()
            assert (report.preconditioner, report.solve.converged) == (method, True)
    assert failures(simulation, start) == []


def test_a_broken_promise_is_reported(make_simulation: Maker) -> None:
    scene = load_scene("dam-break")
    simulation = make_simulation(scene, grid=(32, 16))
    start = SceneStart.of(simulation)
    assert any("heavy_height" in failure for failure in failures(simulation, start))  # it has not fallen yet
    simulation.paint(1.5, 0.2, 0.3, "heavy")
    assert any("volume_drift" in failure for failure in failures(simulation, start))


def test_barriers_are_the_benchmarks_densities(make_simulation: Maker) -> None:
    density = make_simulation("barriers").density.numpy()
    published = gallery.benchmark_density(4096, 0).density.numpy()
    np.testing.assert_allclose(density / density.min(), published / published.min(), rtol=1e-6)


def test_a_scene_looks_the_same_on_every_grid() -> None:
    scene = load_scene("dam-break")
    coarse, _ = scene.initial_state((64, 32), 0)
    fine, _ = scene.initial_state((128, 64), 0)
    np.testing.assert_allclose(fine.reshape(64, 2, 32, 2).mean(axis=(1, 3)), coarse, atol=1e-12)
    assert fine.mean() == pytest.approx(0.3 * 0.7, rel=1e-12)


def solids(shape: dict[str, object], grid: tuple[int, int], seed: int = 0) -> np.ndarray:
    """The solid cells, (nx, ny) bool, of a scene with one shape."""
    scene = Scene("one", "one", "", 1.0, 1.0, {}, "light", [shape], {"speed_below": 1.0})
    return scene.initial_state(grid, seed)[1]


WHOLE = {"from": [0.0, 0.0], "to": [1.0, 1.0]}


@pytest.mark.parametrize("grid", [(64, 48), (128, 96), (50, 50), (96, 31)])
def test_a_maze_has_one_way_from_anywhere_to_anywhere(grid: tuple[int, int]) -> None:
    """Its ways are connected, and so is each of its walls with the box's, unless a way goes around it."""
    maze = {"shape": "maze", "corridor": 0.08, "wall": 0.04, **WHOLE}
    solid = solids(maze, grid)
    assert 0.2 < solid.mean() < 0.6
    assert scipy.ndimage.label(~solid)[1] == 1
    walls, count = scipy.ndimage.label(np.pad(solid, 1, constant_values=True), np.ones((3, 3)))
    assert count == 1, np.unique(walls)
    assert (solid != solids(maze, grid, seed=1)).any()
    assert (solid == solids(maze, grid)).all()


def test_a_bed_of_grains_lets_fluid_through() -> None:
    solid = solids({"shape": "grains", "size": 0.1, "pore": 0.03, **WHOLE}, (96, 96))
    stones = scipy.ndimage.label(solid)[1]
    assert 80 < stones < 170
    ways, _ = scipy.ndimage.label(~solid)
    assert (ways == np.bincount(ways[ways > 0]).argmax()).sum() > 0.95 * (~solid).sum()
    assert set(ways[:, 0]) & set(ways[:, -1]) - {0}  # from the floor to the top


@pytest.mark.parametrize(("direction", "axis"), [("horizontal", 0), ("vertical", 1)])
def test_stripes_cover_half_of_their_box_exactly(direction: str, axis: int) -> None:
    shape = {"shape": "stripes", "count": 7, "direction": direction, "from": [0, 0], "to": [1, 1]}
    scene = Scene("one", "one", "", 1.0, 1.0, {}, "light", [shape], {"speed_below": 1.0})
    phase, _ = scene.initial_state((61, 47), 0)
    assert phase.mean() == pytest.approx(0.5, rel=1e-12)
    assert np.ptp(phase, axis=axis).max() < 1e-12
    profile = phase.mean(axis=axis)
    assert (np.diff((profile > 0.5).astype(int)) == -1).sum() == 7
    waves = {**shape, "amplitude": 0.01, "waves": 2.0, "from": [0.1, 0.1], "to": [0.9, 0.9]}
    scene = Scene("one", "one", "", 1.0, 1.0, {}, "light", [waves], {"speed_below": 1.0})
    assert scene.initial_state((61, 47), 0)[0].mean() == pytest.approx(0.32, rel=1e-9)


@pytest.mark.parametrize("name", ["bubbler", "fountain", "maze", "pegs", "waterfall"])
def test_a_scene_with_sources_flows_from_its_first_step_and_never_rests(
    make_simulation: Maker, name: str
) -> None:
    scene = load_scene(name)
    nx, ny = scene.settings["grid"]
    simulation = make_simulation(scene, grid=(nx // 2, ny // 2))
    simulation.step()
    assert simulation.sources.active
    assert simulation.max_speed() > 0.1
    assert simulation.sources.source.sum().abs() < 1e-9


def test_the_seed_places_the_bubbles() -> None:
    scene = load_scene("rising-bubbles")
    first, _ = scene.initial_state((48, 48), 1)
    again, _ = scene.initial_state((48, 48), 1)
    other, _ = scene.initial_state((48, 48), 2)
    assert (first == again).all()
    assert (first != other).any()


RIGHT_TO_LEFT = {"shape": "rectangle", "from": [0.5, 0.0], "to": [0.1, 0.9]}
OUTSIDE = {"shape": "rectangle", "from": [1.2, 0.0], "to": [1.5, 0.9]}
BACKWARDS = {
    "shape": "bubbles",
    "count": 2,
    "smallest": 0.1,
    "largest": 0.1,
    "from": [0.9, 0.9],
    "to": [0.1, 0.1],
}


def wrong(change: Callable[[dict], object]) -> str:
    content = yaml.safe_load((SCENE_FOLDER / "dam-break.yaml").read_text())
    change(content)
    return yaml.safe_dump(content)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("just text", ["mapping", "title"]),
        ("a: [", ["not YAML"]),
        (wrong(lambda c: c.pop("height")), ["height", "missing"]),
        (wrong(lambda c: c.update(colour="red")), ["colour", "unknown", "title"]),
        (wrong(lambda c: c.update(height=-1)), ["height", "-1"]),
        (wrong(lambda c: c.update(duration="long")), ["duration", "'long'"]),
        (wrong(lambda c: c.update(background="wood")), ["background", "heavy, light"]),
        (wrong(lambda c: c["settings"].update(contrast=1e6)), ["settings", "contrast", "10000"]),
        (wrong(lambda c: c["settings"].update(grid=7)), ["settings", "grid"]),
        (wrong(lambda c: c["settings"].update(colour=1)), ["settings", "colour", "contrast"]),
        (wrong(lambda c: c["settings"].update(seed=1)), ["settings", "seed", "unknown"]),
        (wrong(lambda c: c.update(settings=[1])), ["settings", "mapping"]),
        (wrong(lambda c: c.update(shapes="disc")), ["shapes", "rectangle"]),
        (wrong(lambda c: c["shapes"].append({"shape": "star"})), ["number 2", "'star'", "disc"]),
        (
            wrong(lambda c: c["shapes"].append({"shape": "disc", "centre": [0.5, 0.5]})),
            ["number 2", "radius"],
        ),
        (wrong(lambda c: c["shapes"][0].update(to=[1])), ["number 1", "to", "[x, y]"]),
        (wrong(lambda c: c["shapes"].append({"shape": ["disc"]})), ["number 2", "['disc']", "bubbles"]),
        (wrong(lambda c: c["shapes"].append({"shape": {"a": 1}})), ["number 2", "bubbles"]),
        (wrong(lambda c: c["shapes"].append(BACKWARDS)), ["number 2", "to", "[0.1, 0.1]"]),
        (wrong(lambda c: c["shapes"].append({**BACKWARDS, "count": 2.7})), ["number 2", "count", "2.7"]),
        (wrong(lambda c: c["shapes"].append(RIGHT_TO_LEFT)), ["number 2", "to", "[0.1, 0.9]"]),
        (wrong(lambda c: c["shapes"][0].update(to=[0.0, 0.7])), ["number 1", "[0.0, 0.7]", "no area"]),
        (wrong(lambda c: c["shapes"].append(OUTSIDE)), ["number 2", "from: [1.2, 0.0]", "outside the box"]),
        (
            wrong(lambda c: c.update(backgroud=c.pop("background"))),
            ["background: missing", "backgroud: unknown; allowed: title"],
        ),
        (wrong(lambda c: c["settings"].update(preconditioner=["a"])), ["settings", "preconditioner"]),
        (wrong(lambda c: c["settings"].update(grid={16: 1, 8: 2})), ["settings", "grid"]),
        (wrong(lambda c: c.update(height=1e-300)), ["height", "1e-6"]),
        (wrong(lambda c: c.update(expect={"speed_below": float("nan")})), ["speed_below", "finite"]),
        ("title: 2020-99-99", ["cannot be read"]),
        ("x: " + 5000 * "9", ["cannot be read"]),
        (3000 * "[", ["cannot be read"]),
        (wrong(lambda c: c["shapes"][0].update(fill="wood")), ["fill", "heavy, light, solid, heavy source"]),
        (wrong(lambda c: c["settings"].update(source_rate=-1)), ["settings", "source_rate", "-1"]),
        (wrong(lambda c: c["shapes"].append({"shape": "maze", **WHOLE})), ["number 2", "corridor"]),
        (
            wrong(lambda c: c["shapes"].append({"shape": "grains", "size": 0, "pore": 0.1, **WHOLE})),
            ["number 2", "size", "0.01"],
        ),
        (wrong(lambda c: c["shapes"][0].update(size=1)), ["size", "unknown", "from"]),
        (wrong(lambda c: c.update(expect={})), ["expect", "volume_drift_below"]),
        (wrong(lambda c: c.update(expect={"luck_below": 1})), ["expect", "luck_below", "speed_above"]),
        (wrong(lambda c: c.update(expect={"speed_below": "fast"})), ["expect", "speed_below", "'fast'"]),
    ],
)
def test_a_wrong_scene_file_is_refused_in_words(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        load_scene(path)
    for word in [str(path), *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_and_unreadable_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dam-break"):
        load_scene("tea-pot")
    with pytest.raises(UsageError, match="dam-break"):
        load_scene(300 * "x")
    with pytest.raises(UsageError, match="cannot be read"):
        load_scene(tmp_path / "missing.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_scene("a\0b.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a text file"):
        load_scene(tmp_path / "binary.yaml")


def test_promises_can_be_checked_without_gravity_or_heavy_fluid(
    make_simulation: Maker, tmp_path: Path
) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text(wrong(lambda c: c.update(shapes=[])))
    simulation = make_simulation(load_scene(path), grid=(16, 8), gravity=0.0)
    start = SceneStart.of(simulation)
    simulation.step()
    broken = failures(simulation, start)
    assert [one for one in broken if "volume_drift" in one or "energy" in one] == []


def test_a_box_full_of_solid_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    full = {"shape": "rectangle", "from": [0, 0], "to": [1, 1], "fill": "solid"}
    path.write_text(wrong(lambda c: c["shapes"].append(full)))
    with pytest.raises(UsageError, match="fill the whole box"):
        load_scene(path).initial_state((16, 16), 0)
