"""Loops inside a captured CUDA graph: conditional WHILE nodes, which torch does not capture by itself.

The node is added to the capture that torch has under way through NVIDIA's `cuda-bindings`, an optional
dependency; its body is captured on a stream of its own. A kernel of one thread hands a number on the device
to the node, before the loop and at the end of every turn; CUDA knows the function that it calls wherever PTX
is loaded. Source: CUDA C++ Programming Guide, section "Conditional Graph Nodes".
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

EXTRA = "cuda"  # of pyproject.toml
OLDEST_BINDINGS = (12, 8)
OLDEST_DRIVER = (12, 6)  # before it, the body of a node takes no cooperative kernel
DEPTH = 2  # loops that may stand in one another

KERNEL = b"set_condition"
PTX = """
.version 7.0
.target sm_75
.address_size 64
.extern .func cudaGraphSetConditional (.param .b64 handle, .param .b32 value);

// cudaGraphSetConditional(handle, *flag > 0.0)
.visible .entry set_condition (.param .u64 flag, .param .u64 handle)
{
    .reg .pred %positive;
    .reg .b32 %value;
    .reg .b64 %address, %node;
    .reg .f64 %number;
    .param .b64 first;
    .param .b32 second;
    ld.param.u64 %address, [flag];
    ld.param.u64 %node, [handle];
    cvta.to.global.u64 %address, %address;
    ld.global.f64 %number, [%address];
    setp.gt.f64 %positive, %number, 0d0000000000000000;
    selp.u32 %value, 1, 0, %positive;
    st.param.b64 [first], %node;
    st.param.b32 [second], %value;
    call.uni cudaGraphSetConditional, (first, second);
    ret;
}
"""


class WhileNodeError(RuntimeError):
    """A loop cannot be captured; the message says why."""


def missing(device: torch.device) -> str:
    """What is missing for loops in captures on ``device``, for people; empty where nothing is."""
    if device.type != "cuda":
        return "there are no CUDA graphs on a CPU"
    if torch.version.cuda is None:
        return "this build of torch is not one for CUDA"
    try:
        driver, bindings = _bindings()
    except ImportError:
        return f"cuda-bindings is not installed (pip install 'htp-fluid[{EXTRA}]')"
    if bindings < OLDEST_BINDINGS:
        return f"cuda-bindings {_text(bindings)} is older than {_text(OLDEST_BINDINGS)}"
    try:
        version = _call(driver, "cuDriverGetVersion")
    except WhileNodeError as error:
        return " ".join(str(error).split())
    found = version // 1000, version % 1000 // 10
    if found < OLDEST_DRIVER:
        return f"the driver is for CUDA {_text(found)}, older than {_text(OLDEST_DRIVER)}"
    if bindings[0] > found[0]:
        wanted = f"cuda-bindings {_text(bindings)} wants a driver for CUDA {bindings[0]}, this is one for"
        return f"{wanted} {_text(found)} (pip install 'cuda-bindings<{bindings[0]}')"
    return ""


class WhileNodes:
    """Puts loops into what is captured on ``device``. Its streams and the memory pool of the bodies must live
    as long as the graphs. Raises WhileNodeError where something is `missing`.
    """

    def __init__(self, device: torch.device):
        if reason := missing(device):
            raise WhileNodeError(reason)
        self._driver, version = _bindings()
        self._edges = (None,) if version >= (13, 0) else ()  # what they are like; since 13 it may be said
        with torch.cuda.device(device):
            self._device = torch.device("cuda", torch.cuda.current_device())  # pools want its number
            self._kernel = _kernel(self._driver, self._device)
            self._streams = [torch.cuda.Stream() for _ in range(DEPTH)]
            self._pool = torch.cuda.MemPool()  # torch's own for a capture is for that one stream
        self._depth = 0

    def repeat(self, flag: Tensor, body: Callable[[], None]) -> None:
        """``body`` while ``flag`` () float64, which must stay where it is, is positive; asked before every
        turn. Where nothing is captured, as in a warm-up, it runs once. Raises WhileNodeError.
        """
        outer, inner = torch.cuda.current_stream(self._device), self._streams[self._depth]
        self._depth += 1
        try:
            if torch.cuda.is_current_stream_capturing():
                self._add(flag, body, outer, inner)
            else:
                inner.wait_stream(outer)
                with torch.cuda.stream(inner):
                    body()
                outer.wait_stream(inner)
        finally:
            self._depth -= 1

    def _add(
        self, flag: Tensor, body: Callable[[], None], outer: torch.cuda.Stream, inner: torch.cuda.Stream
    ) -> None:
        call, driver = functools.partial(_call, self._driver), self._driver
        _, _, graph, *_ = call("cuStreamGetCaptureInfo", outer.cuda_stream)  # status, number, graph, nodes
        context = call("cuCtxGetCurrent")
        handle = call("cuGraphConditionalHandleCreate", graph, context, 0, 0)
        self._set(handle, flag, outer)
        _, _, graph, before, *_ = call("cuStreamGetCaptureInfo", outer.cuda_stream)
        parameters = node_parameters(driver, handle, context)
        node = call("cuGraphAddNode", graph, before, *self._edges, len(before), parameters)
        replace = driver.CUstreamUpdateCaptureDependencies_flags.CU_STREAM_SET_CAPTURE_DEPENDENCIES
        call("cuStreamUpdateCaptureDependencies", outer.cuda_stream, [node], *self._edges, 1, replace)
        pool = torch.cuda.use_mem_pool(self._pool, self._device)
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        with pool if self._depth == 1 else contextlib.nullcontext():  # it holds for what is inside, too
            graph = parameters.conditional.phGraph_out[0]
            call("cuStreamBeginCaptureToGraph", inner.cuda_stream, graph, None, None, 0, mode)
            try:
                with torch.cuda.stream(inner):
                    body()
                    self._set(handle, flag, inner)
            finally:  # whatever happened; the error of the body is the one to hear of
                ended = driver.cuStreamEndCapture(inner.cuda_stream)
            _checked(driver, "cuStreamEndCapture", ended)

    def _set(self, handle: Any, flag: Tensor, stream: torch.cuda.Stream) -> None:
        arguments = (flag.data_ptr(), int(handle)), (ctypes.c_void_p, ctypes.c_uint64)
        sizes = (1, 1, 1, 1, 1, 1, 0)
        _call(self._driver, "cuLaunchKernel", self._kernel, *sizes, stream.cuda_stream, arguments, 0)


def node_parameters(driver: ModuleType, handle: Any, context: Any) -> Any:
    """Those of a WHILE node; its body's graph is in them once it was added."""
    parameters = driver.CUgraphNodeParams()
    parameters.type = driver.CUgraphNodeType.CU_GRAPH_NODE_TYPE_CONDITIONAL
    parameters.conditional.handle = handle
    parameters.conditional.type = driver.CUgraphConditionalNodeType.CU_GRAPH_COND_TYPE_WHILE
    parameters.conditional.size = 1
    parameters.conditional.ctx = context
    return parameters


def _bindings() -> tuple[ModuleType, tuple[int, int]]:
    """The driver's functions, and the version of the package that has them. Raises ImportError."""
    from cuda.bindings import __version__, driver

    major, minor = __version__.split(".")[:2]
    return driver, (int(major), int(minor))


@functools.cache  # a module stays loaded
def _kernel(driver: ModuleType, device: torch.device) -> Any:  # noqa: ARG001
    """KERNEL on the current ``device``."""
    module = _call(driver, "cuModuleLoadData", PTX.encode() + b"\0")
    return _call(driver, "cuModuleGetFunction", module, KERNEL)


def _call(driver: ModuleType, name: str, *arguments: Any) -> Any:
    try:
        result = getattr(driver, name)(*arguments)
    except (RuntimeError, TypeError, ValueError) as error:  # the bindings' own: a driver without it, say
        raise WhileNodeError(f"{name}: {error}") from error
    return _checked(driver, name, result)


def _checked(driver: ModuleType, name: str, result: tuple) -> Any:
    """What ``name`` returned besides its status: nothing, one thing or several."""
    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise WhileNodeError(f"{name} answered {getattr(status, 'name', status)}")
    return values[0] if len(values) == 1 else values


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
