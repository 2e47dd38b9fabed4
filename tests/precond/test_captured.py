"""Set-up and solve as captured programs, proven without a GPU: recorded on the CPU and replayed (`Tape`), and
traced on tensors that claim to be on a CUDA device.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from precond import PCG, PoissonOperator, available_preconditioners, make_preconditioner
from precond.classical.diagonal import Jacobi
from precond.krylov import cuda_cg
from precond.krylov.cuda_cg import CudaCG
from precond.preconditioner import Preconditioner

pytestmark = pytest.mark.usefixtures("torch_forms")

# Device operations that one iteration takes: those of its application and four fused ones.
OPERATIONS = {
    "none": 5,
    "jacobi": 5,
    "multigrid": 58,
    "block-jacobi": 9,
    "coarse-monomial": 9,
    "coarse-iterated": 9,
    "coarse-geneo": 9,
    "coarse-learned": 9,
    "coarse-monomial:coarse_level=true": 19,
    "coarse-iterated:coarse_level=true": 19,
    "coarse-learned:coarse_level=true": 19,
    "hmatrix": 28,
    "neural-spai": 17,
}
TWO_LEVEL = ("coarse-monomial", "coarse-iterated", "coarse-geneo", "coarse-learned")
CAPTURABLE = ("none", "jacobi", "multigrid", "block-jacobi", *TWO_LEVEL, "hmatrix", "neural-spai")
LEVELLED = tuple(f"{name}:coarse_level=true" for name in TWO_LEVEL if name != "coarse-geneo")
FORMS = (*CAPTURABLE, *LEVELLED)


def device_form(name, operator):
    """The preconditioner as it would be on a GPU; ``name`` may be its class."""
    if not isinstance(name, str):
        return name(operator)
    return make_preconditioner(name, operator, **({"on_device": True} if name.startswith(TWO_LEVEL) else {}))


def shape_for(name):
    """A grid of several groups of leaves for a coarse level."""
    return (75, 58) if name in LEVELLED else (40, 27)


def test_all_but_the_cpu_only_are_capturable(make_case):
    operator = make_case((16, 16), 10.0, False).operator
    made = {name: make_preconditioner(name, operator) for name in available_preconditioners(choosing=False)}
    assert {name for name, one in made.items() if one.capturable} == set(CAPTURABLE)
    assert all(one.cpu_only != one.capturable for one in made.values())


def below_an_open_top(case):
    """The operator of a case whose box has no lid."""
    nx, ny = case.shape
    openings = np.zeros((2, ny), dtype=bool), np.array([[False] * nx, [True] * nx])
    return PoissonOperator.from_density(case.density, case.solid, openings=openings)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("with_solids", "lid"), [(False, True), (True, True), (True, False)])
def test_replays_follow_a_and_b_changed_in_place(make_case, taped, name, with_solids, lid):
    case = make_case(shape_for(name), 100.0, with_solids)
    operator = case.operator if lid else below_an_open_top(case)
    preconditioner = device_form(name, operator)
    if not preconditioner.capturable_setup:
        pytest.skip("set-up asks the host")
    preconditioner.setup()
    loop = CudaCG(operator, preconditioner, 2000)
    assert len(taped) == 2
    for factor, b in zip((1.0, 30.0, 0.1), case.vectors(3), strict=True):
        density = torch.from_numpy(case.density).clone()
        density[: len(density) // 2] *= factor
        operator.update(density)
        preconditioner.setup()
        outcome, history, residual, scale = loop.run(b, None, 1e-8, 2000)
        report = PCG(operator, preconditioner, max_iterations=2000).solve(b)
        assert outcome is report.outcome
        # sums in another order pass the tolerance earlier or later where the residual rests on a plateau
        assert abs(len(history) - 1 - report.iterations) <= report.iterations // 30
        assert (loop.x * scale - report.x).norm() <= 1e-6 * report.x.norm()
        assert report.converged == (residual <= 1.000001e-8)


def moved(value, memo):
    """``value`` with every tensor in it replaced by a fake one on "cuda"; attributes are set in place."""
    if id(value) in memo:
        return memo[id(value)][0]
    if isinstance(value, torch.Tensor):
        room = value.untyped_storage().nbytes() // value.element_size()  # what is around a view, too
        storage = torch.empty(room, dtype=value.dtype, device="cuda")
        made = storage.as_strided(value.size(), value.stride(), value.storage_offset())
    elif isinstance(value, torch.device):
        made = torch.device("cuda", 0)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        made = type(value)(*(moved(item, memo) for item in value))
    elif isinstance(value, list | tuple):
        made = type(value)(moved(item, memo) for item in value)
    elif isinstance(value, dict):
        made = {key: moved(item, memo) for key, item in value.items()}
    elif isinstance(value, Preconditioner) or type(value).__module__.startswith(("precond", "torch.nn")):
        memo[id(value)] = (value, value)
        for key, item in list(vars(value).items()):
            object.__setattr__(value, key, moved(item, memo))
        return value
    else:
        made = value
    memo[id(value)] = (made, value)  # keeps the old one, so that its id stays its own
    return made


GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace c10::impl { C10_REGISTER_GUARD_IMPL(CUDA, NoOpDeviceGuardImpl<DeviceType::CUDA>) }
"""


@pytest.fixture(scope="module")
def _device_guard(tmp_path_factory):
    """Lets a torch without CUDA index tensors that claim to be on such a device."""
    if torch.cuda.is_available() or shutil.which("g++") is None:
        pytest.skip("needs g++, and a machine without CUDA")
    folder = tmp_path_factory.mktemp("guard")
    (folder / "guard.cpp").write_text(GUARD)
    home = Path(torch.__file__).parent
    command = ["g++", "-std=c++20", "-shared", "-fPIC", "guard.cpp", "-o", "guard.so"]
    command += [f"-I{home / 'include'}", f"-L{home / 'lib'}", "-lc10"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    ctypes.CDLL(str(folder / "guard.so"))


@pytest.fixture
def on_fake_cuda(make_case, tape, monkeypatch, _device_guard):
    """Set-up, loop and a way to trace them, on tensors that claim to be on a CUDA device."""
    monkeypatch.setattr(cuda_cg, "Capture", lambda _device: SimpleNamespace(program=lambda work: work))
    monkeypatch.setattr(cuda_cg, "Snapshots", lambda _state: None)

    def build(name, with_solids=False, lid=True):
        case = make_case(shape_for(name), 100.0, with_solids)
        preconditioner = device_form(name, case.operator if lid else below_an_open_top(case))
        preconditioner.setup()
        mode = FakeTensorMode()
        with mode:
            moved(preconditioner, {})
            loop = CudaCG(preconditioner.operator, preconditioner, 100)

        def trace(work):
            with mode, tape() as recorded:
                work()
            assert all(
                value.device.type == "cuda"
                for _, _, args, kwargs, outputs in recorded.calls
                for value in tree_leaves((args, kwargs, outputs))
                if isinstance(value, torch.Tensor)
            )
            return recorded.names

        return preconditioner, loop, trace

    return build


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("with_solids", "lid"), [(False, True), (True, True), (True, False)])
def test_every_program_traces_on_a_cuda_device(on_fake_cuda, name, with_solids, lid):
    preconditioner, loop, trace = on_fake_cuda(name, with_solids, lid)
    parts = [len(trace(work)) for work in (loop.load, loop.start, loop.block, loop.replace, loop.finish)]
    assert all(parts)
    loop._nodes = SimpleNamespace(repeat=lambda _flag, body: body())
    assert len(trace(loop.attempt)) == sum(parts[1:]) + 2  # what is due next, and going on
    if preconditioner.capturable_setup:
        assert name == "none" or all(trace(work) for _, work in preconditioner._stages())


@pytest.mark.parametrize("name", FORMS)
def test_operations_of_an_iteration(on_fake_cuda, name):
    _, loop, trace = on_fake_cuda(name)
    assert len(trace(loop.iterate)) == OPERATIONS[name]


def test_the_operations_promised():
    assert OPERATIONS["jacobi"] <= 6
    assert OPERATIONS["coarse-learned"] <= 10


class Reading(Jacobi):
    """Asks the device for a number."""

    def _apply(self, residual, out):
        super()._apply(residual, out)
        out.mul_(float(residual.norm()) * 0.0 + 1.0)


class Moving(Jacobi):
    """Keeps its numbers somewhere else after every set-up, which runs uncaptured."""

    capturable_setup = False

    def _setup(self):
        self._inverse = torch.zeros_like(self._inverse)
        super()._setup()


class Outside(Jacobi):
    """Does its work where a capture does not see it."""

    def _apply(self, residual, out):
        out.numpy()[...] = self._inverse.numpy() * residual.numpy()


class Elsewhere(Jacobi):
    """Keeps a tensor on the host."""

    def __init__(self, operator):
        super().__init__(operator)
        self._order = None

    def _apply(self, residual, out):
        super()._apply(residual, out)
        out.view(-1).index_select(0, torch.zeros(3, dtype=torch.int64))


def solved_again(kind, case, single_launch=False):
    """Whether replays of a set-up and a loop made for one A and b solve for another; the counts show."""
    operator = case.operator
    preconditioner = kind(operator)
    preconditioner.setup()
    loop = CudaCG(operator, preconditioner, 400, single_launch=single_launch)
    assert not loop.note
    for b in case.vectors(2):
        operator.update(torch.from_numpy(case.density).flip(0) * torch.linspace(1.0, 9.0, case.shape[1]))
        preconditioner.setup()
        _, history, _, _ = loop.run(b, None, 1e-8, 400)
        plain = Jacobi(operator)
        plain.setup()
        report = PCG(operator, plain, max_iterations=400).solve(b)
        if abs(len(history) - 1 - report.iterations) > 2:
            return False
    return True


@pytest.mark.parametrize("single_launch", [False, True])
@pytest.mark.parametrize(("kind", "solves"), [(Jacobi, True), (Moving, False), (Outside, False)])
@pytest.mark.usefixtures("taped", "loops")
def test_replays_show_what_a_capture_would_miss(make_case, kind, solves, single_launch):
    assert solved_again(kind, make_case((40, 27), 100.0, False), single_launch) is solves


@pytest.mark.parametrize("single_launch", [False, True])
@pytest.mark.usefixtures("taped", "loops")
def test_a_read_is_refused(make_case, single_launch):
    with pytest.raises(AssertionError, match="makes the host wait"):
        solved_again(Reading, make_case((40, 27), 100.0, False), single_launch)


@pytest.mark.parametrize("kind", [Reading, Elsewhere])
def test_a_trace_on_a_cuda_device_refuses_reads_and_tensors_of_the_host(on_fake_cuda, kind):
    _, loop, trace = on_fake_cuda(kind)
    with pytest.raises((AssertionError, RuntimeError)):
        trace(loop.iterate)


def test_several_components_are_projected_one_by_one(on_fake_cuda):
    _, loop, trace = on_fake_cuda("jacobi", with_solids=True)
    assert loop.operator.components > 1
    assert len(trace(loop.iterate)) == OPERATIONS["jacobi"] + 6


def test_new_solids_are_set_up_and_do_not_become_what_follows(make_case, taped):
    case = make_case((40, 27), 100.0, False)
    preconditioner = device_form("coarse-learned", case.operator)
    preconditioner.setup()
    preconditioner.update()
    solid = torch.zeros(case.shape, dtype=torch.bool)
    solid[3:9, 4:11] = True
    case.operator.set_solid(solid)
    for _ in range(2):
        preconditioner.update()
    programs = preconditioner._captured._programs
    assert {name: len(parts) for name, parts in programs.items()} == {"setup": 3, "update": 2}
    assert len(taped) == 2


def test_a_loop_fits_one_preconditioner_and_its_solids_alone(make_case):
    case = make_case((40, 27), 100.0, False)
    preconditioner = device_form("jacobi", case.operator)
    preconditioner.setup()
    loop = CudaCG(case.operator, preconditioner, 100)
    assert loop.fits(preconditioner, 100)
    assert not loop.fits(preconditioner, 101)
    assert not loop.fits(device_form("jacobi", case.operator), 100)
    case.operator.set_solid(case.operator.solid)  # the same again
    assert loop.fits(preconditioner, 100)
    solid = torch.zeros(case.shape, dtype=torch.bool)
    solid[3:9, 4:11] = True
    case.operator.set_solid(solid)
    assert not loop.fits(preconditioner, 100)
