"""Programs of static buffers: captured as CUDA graphs on a CUDA device, called as they are elsewhere.

What is captured is replayed with frozen pointers, so a program reads and writes buffers that its owner keeps,
and asks the host nothing. Every owner (a preconditioner on a grid) has a memory pool of its own and a stream
to capture on; torch hands out 32 of those in turn, which is harmless as long as all replay on one stream.
Taichi launches on the legacy default stream and is silently not recorded: it stays outside.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import torch

Stage = tuple[str, Callable[[], None]]  # what its time counts as, "setup" or "inference", and the work
WARM_UPS = 2  # first calls compile kernels and allocate workspaces, which a capture must not


def captures(device: torch.device) -> bool:
    """Whether programs on ``device`` are captured."""
    return device.type == "cuda"


class Clock:
    """Seconds since it was made: of the device's work on CUDA, by events, else of the host's."""

    def __init__(self, device: torch.device):
        self._device, self._events = device, []
        if device.type == "cuda":
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self._events[0].record(torch.cuda.current_stream(device))
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Until all work that was asked for so far is done; waits for it."""
        if not self._events:
            return time.perf_counter() - self._started
        first, last = self._events
        last.record(torch.cuda.current_stream(self._device))
        last.synchronize()
        return first.elapsed_time(last) / 1e3


class Capture:
    """The stream and memory pool that programs of one owner share."""

    def __init__(self, device: torch.device):
        self.device = device
        if captures(device):
            with torch.cuda.device(device):
                self._stream = torch.cuda.Stream()
                self._pool = torch.cuda.graph_pool_handle()

    def program(self, function: Callable[[], None]) -> Callable[[], None]:
        """``function`` as a program; to capture it, it is called WARM_UPS times. Raises RuntimeError."""
        if not captures(self.device):
            return function
        with torch.cuda.device(self.device):
            stream, collects = torch.cuda.current_stream(), gc.isenabled()
            self._stream.wait_stream(stream)
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UPS):
                    function()
            stream.wait_stream(self._stream)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            gc.collect()  # a collection during capture would free device memory, which breaks it
            gc.disable()
            try:
                options = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
                with torch.cuda.graph(graph, **options):
                    function()
            finally:
                torch.cuda.set_stream(stream)  # which torch leaves undone when the end of a capture fails
                if collects:
                    gc.enable()
        return graph.replay


class Snapshots:
    """The last two copies of a small device tensor; reading one makes the host wait for no later work."""

    def __init__(self, source: torch.Tensor):
        self._source, cuda = source, source.device.type == "cuda"
        self._copies = [torch.zeros(source.shape, dtype=source.dtype, pin_memory=cuda) for _ in range(2)]
        self._events = [torch.cuda.Event() for _ in range(2)] if cuda else []

    def take(self) -> None:
        """Copy the source once all work so far is done."""
        self._copies.reverse()
        self._events.reverse()
        self._copies[0].copy_(self._source, non_blocking=bool(self._events))
        if self._events:
            self._events[0].record(torch.cuda.current_stream(self._source.device))

    def last_but_one(self) -> list[float]:
        """The copy before the last one, waiting for that alone."""
        if self._events:
            self._events[1].synchronize()
        return self._copies[1].tolist()


class CapturedStages:
    """The parts of a set-up as programs, for as long as the solids stay."""

    def __init__(self, device: torch.device):
        self._device = device
        self._capture: Capture | None = None
        self._programs: dict[str, list[Stage]] = {}

    def programs(self, name: str, stages: list[Stage]) -> list[Stage]:
        """The programs of ``stages``, whose set is called ``name``; capturing them runs them."""
        if not captures(self._device):
            return stages
        self._capture = self._capture or Capture(self._device)
        if name not in self._programs:
            self._programs[name] = [(part, self._capture.program(work)) for part, work in stages]
        return self._programs[name]
