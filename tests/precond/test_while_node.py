"""Loops in a capture: the calls that make one, on a stand-in for NVIDIA's bindings; and the bindings' own
names where they are installed.
"""

import contextlib
import ctypes
import enum
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from precond.device import while_node
from precond.device.while_node import WhileNodeError, WhileNodes, missing

CUDA = torch.device("cuda", 0)
Result = enum.IntEnum("Result", {"CUDA_SUCCESS": 0, "CUDA_ERROR_NOT_SUPPORTED": 801})


class Driver:
    """The calls of cuda.bindings.driver that a loop takes, in the names of version 13, noted in ``calls``;
    ``fails`` is the one that answers with an error. A capture is a list of what was put into it.
    """

    bindings = (13, 0)
    CUresult = Result
    CUgraphNodeType = SimpleNamespace(CU_GRAPH_NODE_TYPE_CONDITIONAL="conditional")
    CUgraphConditionalNodeType = SimpleNamespace(CU_GRAPH_COND_TYPE_WHILE="while")
    CUstreamUpdateCaptureDependencies_flags = SimpleNamespace(CU_STREAM_SET_CAPTURE_DEPENDENCIES="set")
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="thread local")

    def __init__(self, version=13000, fails=None):
        self.version, self.fails, self.calls = version, fails, []
        self.graph = []
        self.capturing = {}  # stream: (graph, the nodes that the next one follows)
        self.handles = {}  # handle: the graph that it was made in

    def _answer(self, name, *values):
        self.calls.append(name)
        failed = name == self.fails and name not in self.calls[:-1]
        return (Result.CUDA_ERROR_NOT_SUPPORTED if failed else Result.CUDA_SUCCESS, *values)

    def CUgraphNodeParams(self):
        return SimpleNamespace(type=None, conditional=SimpleNamespace())

    def cuDriverGetVersion(self):
        return self._answer("cuDriverGetVersion", self.version)

    def cuModuleLoadData(self, image):
        assert image.endswith(b"}\n\0")
        return self._answer("cuModuleLoadData", "module")

    def cuModuleGetFunction(self, module, name):
        assert (module, name) == ("module", b"set_condition")
        return self._answer("cuModuleGetFunction", "kernel")

    def cuCtxGetCurrent(self):
        return self._answer("cuCtxGetCurrent", "context")

    def cuStreamGetCaptureInfo(self, stream):
        graph, last = self.capturing[stream]
        return self._answer("cuStreamGetCaptureInfo", "active", 7, graph, list(last), None, len(last))

    def cuGraphConditionalHandleCreate(self, graph, context, default, flags):
        assert (context, default, flags) == ("context", 0, 0)
        handle = 100 + len(self.handles)
        self.handles[handle] = graph
        return self._answer("cuGraphConditionalHandleCreate", handle)

    def cuGraphAddNode(self, graph, dependencies, edges, count, parameters):
        what = parameters.conditional
        assert (parameters.type, what.type, what.size, what.ctx) == ("conditional", "while", 1, "context")
        assert edges is None
        assert count == len(dependencies)
        assert self.handles[what.handle] is graph
        what.phGraph_out = [[]]
        graph.append(("while", what.handle, what.phGraph_out[0], tuple(dependencies)))
        return self._answer("cuGraphAddNode", len(graph) - 1)

    def cuStreamUpdateCaptureDependencies(self, stream, nodes, edges, count, flags):
        assert (edges, count, flags) == (None, len(nodes), "set")
        self.capturing[stream] = (self.capturing[stream][0], list(nodes))
        return self._answer("cuStreamUpdateCaptureDependencies")

    def cuStreamBeginCaptureToGraph(self, stream, graph, dependencies, edges, count, mode):
        assert (dependencies, edges, count, mode) == (None, None, 0, "thread local")
        assert stream not in self.capturing
        answer = self._answer("cuStreamBeginCaptureToGraph")
        if answer[0] == Result.CUDA_SUCCESS:
            self.capturing[stream] = (graph, [])
        return answer

    def cuStreamEndCapture(self, stream):
        graph, _ = self.capturing.pop(stream)
        return self._answer("cuStreamEndCapture", graph)

    def cuLaunchKernel(self, kernel, *arguments):
        *sizes, stream, (values, types), extra = arguments
        assert (kernel, sizes, extra) == ("kernel", [1, 1, 1, 1, 1, 1, 0], 0)
        assert types == (ctypes.c_void_p, ctypes.c_uint64)
        self.launch(stream, "set", *values)
        return self._answer("cuLaunchKernel")

    def launch(self, stream, *what):
        """A kernel on a stream."""
        graph, last = self.capturing[stream]
        graph.append((*what, tuple(last)))
        last[:] = [len(graph) - 1]


class Driver12(Driver):
    """As version 12 of the bindings has them, without data of the edges."""

    bindings = (12, 8)

    def cuStreamGetCaptureInfo(self, stream):
        *values, _edges, count = super().cuStreamGetCaptureInfo(stream)
        return *values, count

    def cuGraphAddNode(self, graph, dependencies, count, parameters):
        return super().cuGraphAddNode(graph, dependencies, None, count, parameters)

    def cuStreamUpdateCaptureDependencies(self, stream, nodes, count, flags):
        return super().cuStreamUpdateCaptureDependencies(stream, nodes, None, count, flags)


class Streams:
    """What WhileNodes uses of torch.cuda."""

    def __init__(self, patch, driver):
        self.current, self.driver, self.pools, self.waits = self.stream(1), driver, [], []
        numbers = iter(range(2, 99))
        patch.setattr(torch.version, "cuda", "13.0")
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "device", lambda _device: contextlib.nullcontext())
        patch.setattr(torch.cuda, "Stream", lambda: self.stream(next(numbers)))
        patch.setattr(torch.cuda, "MemPool", lambda: "pool")
        patch.setattr(torch.cuda, "current_stream", lambda _device: self.current)
        patch.setattr(
            torch.cuda, "is_current_stream_capturing", lambda: self.current.cuda_stream in driver.capturing
        )
        patch.setattr(torch.cuda, "stream", self.use)
        patch.setattr(torch.cuda, "use_mem_pool", self.allocate)
        patch.setattr(while_node, "_bindings", lambda: (driver, driver.bindings))

    def stream(self, number):
        """A stream of this number."""

        def wait(other):
            self.waits.append((number, other.cuda_stream))

        return SimpleNamespace(cuda_stream=number, wait_stream=wait)

    @contextlib.contextmanager
    def use(self, stream):
        """Make ``stream`` the current one."""
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def allocate(self, pool, device):
        """Only one at a time may, as torch has it."""
        assert (pool, device) == ("pool", CUDA)
        assert "open" not in self.pools
        self.pools.append("open")
        try:
            yield
        finally:
            self.pools[-1] = "closed"

    def kernel(self, name):
        """Something of torch's on the current stream."""
        self.driver.launch(self.current.cuda_stream, name)


@pytest.fixture
def on(monkeypatch):
    """Loops on a stand-in for the driver, and its streams, with a capture under way on the current one."""

    def begin(driver, capturing=True):
        streams = Streams(monkeypatch, driver)
        nodes = WhileNodes(torch.device("cuda"))
        if capturing:
            driver.capturing[1] = (driver.graph, [])
        driver.calls.clear()
        return nodes, streams

    return begin


FLAGS = torch.zeros(2, dtype=torch.float64)
OUTER, INNER = FLAGS[0], FLAGS[1]


@pytest.mark.parametrize("kind", [Driver, Driver12])
def test_a_loop_in_a_loop(on, kind):
    driver = kind()
    nodes, streams = on(driver)
    seen = []

    def block():
        streams.kernel("block")
        seen.append((streams.current.cuda_stream, list(streams.pools)))

    def stretch():
        seen.append((streams.current.cuda_stream, list(streams.pools)))
        nodes.repeat(INNER, block)
        streams.kernel("replace")

    streams.kernel("start")
    nodes.repeat(OUTER, stretch)
    streams.kernel("finish")
    blocks = [("block", ()), ("set", INNER.data_ptr(), 101, (0,))]
    stretches = [
        ("set", INNER.data_ptr(), 101, ()),
        ("while", 101, blocks, (0,)),
        ("replace", (1,)),
        ("set", OUTER.data_ptr(), 100, (2,)),
    ]
    assert driver.graph == [
        ("start", ()),
        ("set", OUTER.data_ptr(), 100, (0,)),
        ("while", 100, stretches, (1,)),
        ("finish", (2,)),
    ]
    assert seen == [(2, ["open"]), (3, ["open"])]  # a stream each, one pool
    assert streams.pools == ["closed"]
    assert streams.current.cuda_stream == 1
    assert list(driver.capturing) == [1]
    assert driver.calls.count("cuLaunchKernel") == 4  # one a turn, and one to enter each loop


def test_the_calls_of_a_loop_in_their_order(on):
    driver = Driver()
    nodes, streams = on(driver)
    nodes.repeat(OUTER, lambda: streams.kernel("body"))
    assert driver.calls == [
        "cuStreamGetCaptureInfo",
        "cuCtxGetCurrent",
        "cuGraphConditionalHandleCreate",
        "cuLaunchKernel",
        "cuStreamGetCaptureInfo",
        "cuGraphAddNode",
        "cuStreamUpdateCaptureDependencies",
        "cuStreamBeginCaptureToGraph",
        "cuLaunchKernel",
        "cuStreamEndCapture",
    ]


def test_a_warm_up_runs_the_body_once_on_its_stream(on):
    driver = Driver()
    nodes, streams = on(driver, capturing=False)
    seen = []
    nodes.repeat(OUTER, lambda: nodes.repeat(INNER, lambda: seen.append(streams.current.cuda_stream)))
    assert seen == [3]
    assert streams.waits == [(2, 1), (3, 2), (2, 3), (1, 2)]
    assert driver.calls == streams.pools == []


@pytest.mark.parametrize(
    "name",
    [
        "cuStreamGetCaptureInfo",
        "cuCtxGetCurrent",
        "cuGraphConditionalHandleCreate",
        "cuLaunchKernel",
        "cuGraphAddNode",
        "cuStreamUpdateCaptureDependencies",
        "cuStreamBeginCaptureToGraph",
        "cuStreamEndCapture",
    ],
)
def test_a_call_that_fails_is_named_and_everything_is_as_before(on, name):
    nodes, streams = on(Driver(fails=name))
    with pytest.raises(WhileNodeError, match=f"^{name} answered CUDA_ERROR_NOT_SUPPORTED$"):
        nodes.repeat(OUTER, lambda: streams.kernel("body"))
    assert streams.current.cuda_stream == 1
    assert "open" not in streams.pools
    nodes.repeat(OUTER, lambda: streams.kernel("body"))  # the stand-in fails but once


def test_a_body_that_fails_ends_its_capture(on):
    driver = Driver()
    nodes, streams = on(driver)

    def body():
        nodes.repeat(INNER, lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        nodes.repeat(OUTER, body)
    assert list(driver.capturing) == [1]
    assert streams.pools == ["closed"]
    assert nodes._depth == 0


@pytest.mark.parametrize("name", ["cuModuleLoadData", "cuModuleGetFunction"])
def test_a_kernel_that_cannot_be_loaded_is_said(on, name):
    with pytest.raises(WhileNodeError, match=name):
        on(Driver(fails=name))


@pytest.mark.parametrize(
    ("version", "bindings", "said"),
    [
        (13000, (13, 0), ""),
        (13000, (12, 8), ""),
        (12060, (12, 9), ""),
        (12050, (12, 9), "the driver is for CUDA 12.5, older than 12.6"),
        (11080, (12, 9), "the driver is for CUDA 11.8, older than 12.6"),
        (
            12090,
            (13, 5),
            "cuda-bindings 13.5 wants a driver for CUDA 13, this is one for 12.9 "
            "(pip install 'cuda-bindings<13')",
        ),
        (13000, (12, 4), "cuda-bindings 12.4 is older than 12.8"),
    ],
)
def test_versions(monkeypatch, version, bindings, said):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(while_node, "_bindings", lambda: (Driver(version), bindings))
    assert missing(CUDA) == said
    if said:
        with pytest.raises(WhileNodeError, match=re.escape(said)):
            WhileNodes(CUDA)


def test_what_else_may_be_missing(monkeypatch):
    assert missing(torch.device("cpu")) == "there are no CUDA graphs on a CPU"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert missing(CUDA) == "this build of torch is not one for CUDA"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert missing(CUDA) == "cuda-bindings is not installed (pip install 'htp-fluid[cuda]')"
    driver = Driver(fails="cuDriverGetVersion")
    monkeypatch.setattr(while_node, "_bindings", lambda: (driver, (13, 0)))
    assert missing(CUDA) == "cuDriverGetVersion answered CUDA_ERROR_NOT_SUPPORTED"


def arguments(function):
    """How many the bindings' function takes, as its documentation says."""
    head = function.__doc__.strip().split("\n")[0]
    depth, count = 0, 1
    for letter in head[head.index("(") + 1 :]:
        depth += (letter in "([") - (letter in ")]")
        count += letter == "," and depth == 0
    return 0 if "()" in head else count


def test_the_bindings_have_every_name_that_is_used():
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    driver, version = while_node._bindings()
    assert version >= while_node.OLDEST_BINDINGS
    edges = version >= (13, 0)
    taken = {
        "cuDriverGetVersion": 0,
        "cuCtxGetCurrent": 0,
        "cuModuleLoadData": 1,
        "cuModuleGetFunction": 2,
        "cuLaunchKernel": 11,
        "cuStreamGetCaptureInfo": 1,
        "cuGraphConditionalHandleCreate": 4,
        "cuGraphAddNode": 4 + edges,
        "cuStreamUpdateCaptureDependencies": 4 + edges,
        "cuStreamBeginCaptureToGraph": 6,
        "cuStreamEndCapture": 1,
    }
    assert {name: arguments(getattr(driver, name)) for name in taken} == taken
    assert driver.CUresult.CUDA_SUCCESS == 0
    assert driver.CUresult(801).name == "CUDA_ERROR_NOT_SUPPORTED"
    assert driver.CUstreamUpdateCaptureDependencies_flags.CU_STREAM_SET_CAPTURE_DEPENDENCIES == 1
    assert driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL == 1
    handle = driver.CUgraphConditionalHandle(0x1234)
    assert int(handle) == 0x1234
    parameters = while_node.node_parameters(driver, handle, driver.CUcontext(0x5678))
    assert int(parameters.conditional.phGraph_out[0]) == 0
    words = (ctypes.c_uint64 * 6).from_address(parameters.getPtr())
    # CUgraphNodeParams of cuda.h: type 13, then from byte 16 handle, type 1 and size 1, graphs, context
    assert [words[0] & 0xFFFFFFFF, *words[2:4], words[5]] == [13, 0x1234, 1 | 1 << 32, 0x5678]


LOOPS = """
import sys
sys.path[:0] = {folders!r}
from types import SimpleNamespace
import pytest, torch
from test_while_node import Streams
from precond.device import while_node
patch = pytest.MonkeyPatch()
real = while_node._bindings
streams = Streams(patch, SimpleNamespace(bindings=None, capturing=(1, 2)))
patch.setattr(while_node, "_bindings", real)
nodes = while_node.WhileNodes(torch.device("cuda"))
flags = torch.zeros(2, dtype=torch.float64)
print(f"flags {{flags.data_ptr():x}}", flush=True)
nodes.repeat(flags[0], lambda: nodes.repeat(flags[1], lambda: print("body", flush=True)))
"""


@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="needs gcc, and Linux")
def test_the_bindings_hand_on_what_they_are_given(tmp_path):
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    here = Path(__file__).parent
    library = str(tmp_path / "libcuda.so.1")
    subprocess.run(["gcc", "-shared", "-fPIC", str(here / "stub_driver.c"), "-o", library], check=True)
    ran = subprocess.run(
        [sys.executable, "-u", "-c", LOOPS.format(folders=[str(here), str(here.parents[1])])],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    flag = int(next(line for line in said if line.startswith("flags")).split()[1], 16)

    def entry(stream, flag):
        return [
            f"info {stream:#x}",
            "handle 0x50 0xc0 0 0",
            f"launch 0x31 1 0 {stream:#x} {flag:x} abcdef0123",
            f"info {stream:#x}",
            "node 0x50 after 0x70 1 type 13: abcdef0123 100000001 0xc0",  # size 1, type 1
            f"update {stream:#x} 0x71 1 1",
            f"begin {stream + 1:#x} 0x60 0 1",
        ]

    def leave(stream, flag):
        return [f"launch 0x31 1 0 {stream:#x} {flag:x} abcdef0123", f"end {stream:#x}"]

    wanted = [f"load {len(while_node.PTX)}", "function 0x30 set_condition", f"flags {flag:x}"]
    wanted += entry(1, flag) + entry(2, flag + 8) + ["body"] + leave(3, flag + 8) + leave(2, flag)
    assert said == wanted


def assembler():
    """Triton's ptxas, or the machine's."""
    triton = pytest.importorskip("triton", reason="triton is not installed")
    own = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    found = str(own) if own.is_file() else shutil.which("ptxas")
    return found or pytest.skip("there is no ptxas")


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_the_kernel_assembles(tmp_path, architecture):
    (tmp_path / "kernel.ptx").write_text(while_node.PTX)
    command = [assembler(), f"-arch={architecture}", "kernel.ptx", "-o", "kernel.cubin"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert while_node.KERNEL in (tmp_path / "kernel.cubin").read_bytes()
