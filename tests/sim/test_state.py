"""States: copied, saved, put on another grid."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from precond.errors import UsageError
from sim.scenes import load_scene
from sim.settings import SimulationSettings
from sim.simulation import Simulation
from sim.state import State, load_state, save_state


def simulation(scene="dam-break", grid=(32, 16), steps=0, **settings):
    made = Simulation(
        SimulationSettings(scene=scene, grid=grid, preconditioner="multigrid", **settings), load_scene(scene)
    )
    for _ in range(steps):
        made.step()
    return made


def test_a_restored_state_goes_on_to_the_bit():
    one = simulation(steps=5)
    one.paint(1.0, 0.2, 0.15, "solid")
    one.stir(0.5, 0.5, 1.0, 0.0, 0.2)
    state = one.state()
    other = simulation()
    other.restore(state)
    one.restore(state)
    for _ in range(4):
        assert one.step().iterations == other.step().iterations
    assert all(torch.equal(a, b) for a, b in zip(one.state(), other.state(), strict=True))
    assert one.time > float(state.clock[0])


def test_a_file_holds_the_whole_state(tmp_path):
    one = simulation(steps=3, contrast=300.0)
    path = save_state(tmp_path / "new" / "s.safetensors", one.state(), one.settings)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    state, settings = load_state(path)
    assert all(torch.equal(a, b) for a, b in zip(one.state(), state, strict=True))
    assert SimulationSettings(**settings) == one.settings
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_another_grid_keeps_volume_solids_and_flow():
    one = simulation(grid=(64, 32), steps=20)
    one.paint(1.5, 0.8, 0.15, "solid")
    for grid in ((128, 64), (96, 48), (32, 16)):
        other = simulation(grid=grid)
        other.restore(one.state().on_grid(grid))
        assert other.phase_volume() == pytest.approx(one.phase_volume(), rel=2e-3)
        assert other.solid_mask().mean() == pytest.approx(one.solid_mask().mean(), rel=0.15)
        assert other.total_energy() == pytest.approx(one.total_energy(), rel=0.05)
        assert other.time == one.time
        report = other.step()
        assert report.outcome == "converged"
        assert np.abs(other.field("divergence")).max() < 0.05


def test_a_refined_grid_coarsened_again_is_the_old_one():
    state = simulation(grid=(16, 12), steps=8).state()
    again = state.on_grid((48, 36)).on_grid((16, 12))
    for name in ("phase", "pressure", "solid", "velocity"):
        torch.testing.assert_close(getattr(again, name), getattr(state, name), rtol=0, atol=1e-9)


def damaged(tmp_path, **changes):
    path = save_state(tmp_path / "s.safetensors", simulation().state(), SimulationSettings(grid=(32, 16)))
    tensors = load_file(path) | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, path, {"format": "htp-fluid state 1", "settings": "{}"})
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"phase": None}, "is not a saved state"),
        ({"phase": torch.zeros(3)}, "phase is"),
        ({"velocity": torch.full((2, 33, 17), torch.nan, dtype=torch.float64)}, "velocity is not finite"),
        ({"phase": torch.full((32, 16), 1.5, dtype=torch.float64)}, "shares of cells"),
        ({"solid": torch.ones(32, 16, dtype=torch.uint8)}, "fluid left"),
        ({"moved": torch.zeros(2, 33, 17)}, "moved is .*float32"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, changes, says):
    with pytest.raises(UsageError, match=rf"state .*s.safetensors: .*{says}"):
        load_state(damaged(tmp_path, **changes))


def test_a_file_that_is_no_state_is_one_line(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x00" * 7)
    for path, says in ((tmp_path / "a.safetensors", "cannot be read"), (tmp_path / "b", "no such file")):
        with pytest.raises(UsageError, match=says):
            load_state(path)


def test_a_state_of_another_grid_is_refused():
    with pytest.raises(UsageError, match="cells"):
        simulation(grid=(16, 16)).restore(simulation().state())


def test_the_memory_of_a_state_is_told():
    state = simulation().state()
    assert state.bytes == sum(t.numel() * t.element_size() for t in state)
    assert isinstance(state, State)
