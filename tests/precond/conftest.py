"""Boxes of two fluids with and without solids, each with a matrix assembled independently of the operator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.csgraph
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, _get_current_dispatch_mode
from torch.utils._pytree import tree_leaves

from precond import PoissonOperator
from precond.device import graph
from precond.host import compiled
from precond.krylov import cuda_cg
from precond.preconditioner import Preconditioner


@pytest.fixture
def torch_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on a device, on this machine: nothing is compiled for the CPU."""
    monkeypatch.setattr(compiled, "used", False)


def assembled(density: np.ndarray, solid: np.ndarray) -> np.ndarray:
    """A for ``density`` and ``solid`` (nx, ny) as a dense matrix, face by face."""
    nx, ny = density.shape
    matrix = np.zeros((nx * ny, nx * ny))
    for i in range(nx):
        for j in range(ny):
            for other in ((i + 1, j), (i, j + 1)):
                if other[0] >= nx or other[1] >= ny or solid[i, j] or solid[other]:
                    continue
                harmonic_mean = 2.0 / (1.0 / density[i, j] + 1.0 / density[other])
                here, there = i * ny + j, other[0] * ny + other[1]
                for a, b, sign in ((here, here, 1), (there, there, 1), (here, there, -1), (there, here, -1)):
                    matrix[a, b] += sign / harmonic_mean
    return matrix


def walls_and_pockets(shape: tuple[int, int]) -> np.ndarray:
    """Two rooms, a closed pocket of 2 x 3 cells, a channel one cell wide and an isolated cell."""
    nx = shape[0]
    solid = np.zeros(shape, dtype=bool)
    middle = nx // 2
    solid[middle] = True
    solid[3:7, 4:9] = True
    solid[4:6, 5:8] = False
    solid[middle + 3 : nx - 2, 7] = solid[middle + 3 : nx - 2, 9] = True
    solid[nx - 2, 2] = solid[nx - 4, 2] = solid[nx - 3, 1] = solid[nx - 3, 3] = True
    return solid


class Case:
    """Two fluids in a box: the operator under test and what it is compared with."""

    def __init__(self, shape: tuple[int, int], contrast: float, with_solids: bool, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        x, y = np.mgrid[: shape[0], : shape[1]]
        heavy = ((x // 6 + y // 5) % 2 == 0) ^ (self.rng.random(shape) < 0.02)
        self.shape = shape
        self.density = np.where(heavy, contrast, 1.0) * self.rng.uniform(0.9, 1.1, shape)
        self.solid = walls_and_pockets(shape) if with_solids else np.zeros(shape, dtype=bool)
        self.operator = PoissonOperator.from_density(self.density, self.solid)
        self.matrix = assembled(self.density, self.solid)
        _, self.label = scipy.sparse.csgraph.connected_components(scipy.sparse.csr_array(self.matrix))

    def project(self, v: np.ndarray | torch.Tensor) -> np.ndarray:
        """``v`` (nx, ny) less its mean over every component of the graph; a solid cell is one."""
        flat = np.asarray(v).ravel()
        mean = np.bincount(self.label, flat) / np.bincount(self.label)
        return (flat - mean[self.label]).reshape(self.shape)

    def vectors(self, count: int) -> torch.Tensor:
        """Random vectors (count, nx, ny) of mean zero over every component."""
        return torch.from_numpy(
            np.stack([self.project(self.rng.standard_normal(self.shape)) for _ in range(count)])
        )

    def solution(self, b: np.ndarray | torch.Tensor) -> np.ndarray:
        """The mean-zero x (nx, ny) with A x = b for mean-zero b, by dense elimination."""
        same = self.label[:, None] == self.label
        x = np.linalg.solve(self.matrix + same * self.matrix.max() / len(self.matrix), np.asarray(b).ravel())
        return self.project(x)

    def residual(self, x: torch.Tensor, b: torch.Tensor) -> float:
        """||b - A x|| / ||b|| for mean-zero b."""
        difference = b.numpy().ravel() - self.matrix @ x.numpy().ravel()
        return float(np.linalg.norm(difference) / np.linalg.norm(b.numpy()))


CASES = {
    "open-box": ((16, 16), 100.0, False),
    "odd-sizes-contrast-10000": ((37, 22), 10_000.0, False),
    "solids": ((28, 17), 100.0, True),
    "solids-contrast-10000": ((25, 20), 10_000.0, True),
    "long-and-thin": ((70, 8), 10.0, False),
}


@pytest.fixture(scope="session")
def make_case() -> Callable[..., Case]:
    """Build a case of its own, free to be changed."""
    return Case


@pytest.fixture(scope="session", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Every kind of box that a preconditioner must take. Shared: not to be changed."""
    return Case(*CASES[request.param])


READS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "is_nonzero", "equal")


class HostReadError(AssertionError):
    """A program that is to be captured asked the device something."""


class Tape(TorchDispatchMode):
    """A CUDA graph on the CPU: records the operations of a program, and plays them again without its Python.

    Each runs again on the very tensors it was recorded with, so what the program did outside torch, read from
    the host, or wrote to tensors made later is not in it, as it would not be in a graph. Reads are refused.
    """

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        del types
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        indices = [
            index for a in args if isinstance(a, list) for index in a if isinstance(index, torch.Tensor)
        ]
        if name in READS or (name.startswith("index") and any(i.dtype == torch.bool for i in indices)):
            raise HostReadError(f"{name} makes the host wait")
        result = function(*args, **kwargs)
        flat = result if isinstance(result, tuple | list) else (result,)
        outputs = [value for value in flat if isinstance(value, torch.Tensor)]
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        storages = {value.untyped_storage()._cdata for value in given}
        aliases = any(value.untyped_storage()._cdata in storages for value in outputs)
        writes = function._schema.is_mutable
        if writes or not aliases:
            self.calls.append((name, function, args, kwargs, [] if writes else outputs))
        return result

    @property
    def names(self):
        """Of the operations that a graph would launch."""
        return [name for name, *_ in self.calls if name not in ("device", "empty", "empty_like", "new_empty")]

    def replay(self):
        """All of it again."""
        with torch.inference_mode():
            for _, function, args, kwargs, outputs in self.calls:
                result = function(*args, **kwargs)
                flat = result if isinstance(result, tuple | list) else (result,)
                again = [value for value in flat if isinstance(value, torch.Tensor)]
                for output, value in zip(outputs, again, strict=False):
                    output.copy_(value)


class TapeCapture:
    """Stands in for precond.device.graph.Capture."""

    def __init__(self, device=None):
        del device
        self.tapes = []

    def program(self, function):
        """Warmed up and recorded."""
        for _ in range(2):
            function()
        tape = Tape()
        with tape:
            function()
        self.tapes.append(tape)
        return tape.replay


class Loops:
    """Stands in for precond.device.while_node.WhileNodes: asks the flag before every turn; on a tape the loop
    is recorded as one operation that is played as often as the flag then says.
    """

    def __init__(self, device=None):
        del device
        self.turns = 0

    def repeat(self, flag, body):
        """See there."""
        recorder = _get_current_dispatch_mode()
        if not isinstance(recorder, Tape):
            self._play(flag, body)
            return
        turn = Tape()
        with _disable_current_modes(), turn:
            body()
        recorder.calls.append(("while", lambda: self._play(flag, turn.replay), (), {}, []))

    def _play(self, flag, turn):
        while float(flag) > 0.0:
            turn()
            self.turns += 1


@pytest.fixture
def loops(monkeypatch):
    """Single launches are possible from now on. Returns the class that does them."""
    monkeypatch.setattr(cuda_cg, "WhileNodes", Loops)
    return Loops


class Scripted(Preconditioner):
    """M given by a function of (residual, call number)."""

    name = "scripted"

    def __init__(self, operator, function, definite=True):
        super().__init__(operator)
        self._function = function
        self.symmetric_positive_definite = definite
        self.calls = 0
        self.setup()

    def _setup(self):
        pass

    def _apply(self, residual, out):
        self.calls += 1
        out.copy_(self._function(residual, self.calls))


@pytest.fixture(scope="session")
def scripted():
    """The class: see there. It is set up."""
    return Scripted


@pytest.fixture(scope="session")
def tape():
    """The class: see there."""
    return Tape


@pytest.fixture
def taped(monkeypatch):
    """Loops and set-ups made from now on are recorded and replayed, as on a CUDA device. Returns the captures
    made.
    """
    made = []

    class Kept(TapeCapture):
        def __init__(self, device=None):
            super().__init__(device)
            made.append(self)

    monkeypatch.setattr(cuda_cg, "Capture", Kept)
    monkeypatch.setattr(graph, "Capture", Kept)
    monkeypatch.setattr(graph, "captures", lambda _device: True)
    return made
