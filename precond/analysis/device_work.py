"""What a method asks of a GPU, counted on any machine: the forms for a device run here, in torch, and every
tensor operation is seen on its way. An operation is one launch, views are none, and those of
precond.device.ops are one each, as their Triton kernels are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from precond.krylov.cuda_cg import CudaCG
from precond.preconditioner import Preconditioner

FREE = ("device", "empty", "empty_like", "empty_strided", "new_empty")  # launch nothing
FACTORISATIONS = {  # flops of one n x n matrix; cuSOLVER takes several launches for what is one here
    "linalg_inv_ex": lambda n: 2.0 * n**3,
    "linalg_cholesky_ex": lambda n: n**3 / 3.0,
    "_linalg_eigh": lambda n: 9.0 * n**3,
    "cholesky_inverse": lambda n: 2.0 * n**3 / 3.0,
    "cholesky_solve": lambda n: 2.0 * n**3,
    "linalg_solve_triangular": lambda n: 1.0 * n**3,
}


class Operation(NamedTuple):
    """One launch: its name, the bytes of the tensors that it reads or writes, each once, and its
    floating-point operations.
    """

    name: str
    bytes: int
    flops: float


class Work(NamedTuple):
    """Of a run of operations: launches, bytes, those of them that single blocks move, floating-point
    operations.
    """

    launches: int
    bytes: int
    in_blocks: int
    flops: float

    def seconds(self, launch: float, bandwidth: float, in_block: float, rate: float) -> float:
        """A model: so long a launch (s), each byte once, at the device's bandwidth or at a block's from its
        shared memory (bytes/s), and the arithmetic (flops/s).
        """
        moved = (self.bytes - self.in_blocks) / bandwidth + self.in_blocks / in_block
        return self.launches * launch + moved + self.flops / rate


class Recorder(TorchDispatchMode):
    """Lists the operations that run under it in ``operations``."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        del types
        if "out" not in (kwargs or {}):  # products into a given tensor are one operation, seen whole or not
            with self:  # what is made of several operations, and is seen whole in inference mode
                result = function.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = function(*args, **(kwargs or {}))
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        places = {value.untyped_storage().data_ptr() for value in given}
        is_view = any(value.untyped_storage().data_ptr() in places for value in made)
        writes, name = function._schema.is_mutable, function.overloadpacket.__name__
        if name in FREE or (is_view and not writes) or not (given or made):
            return result
        tensors = {(v.untyped_storage().data_ptr(), v.storage_offset(), v.numel()): v for v in given + made}
        held = sum(_held(value) for value in tensors.values())
        self.operations.append(Operation(name, held, _flops(function, given, made, args, kwargs)))
        return result


def _held(value: Tensor) -> int:
    """Bytes behind ``value``: what is expanded, or seen through several windows, counts once."""
    entries = math.prod(n for n, stride in zip(value.shape, value.stride(), strict=True) if stride)
    return min(entries * value.element_size(), value.untyped_storage().nbytes())


def _flops(function: Any, given: list[Tensor], made: list[Tensor], args: tuple, kwargs: Any) -> float:
    name, packet = function.overloadpacket.__name__, function.overloadpacket
    if name == "matmul":  # of a matrix and a vector, or of two matrices
        return 2.0 * given[0].numel() * math.prod(given[1].shape[1:])
    if packet in flop_registry:
        return float(flop_registry[packet](*args, **(kwargs or {}), out_val=made[0] if made else None))
    if name in FACTORISATIONS:
        shape = given[0].shape
        return math.prod(shape[:-2]) * FACTORISATIONS[name](shape[-1])
    entries = max((value.numel() for value in [*given, *made]), default=0)
    return 2.0 * entries if function.namespace == "htp_fluid" else float(entries)


def operations_of(work: Callable[[], object]) -> list[Operation]:
    """What ``work`` launches, in its order."""
    with torch.inference_mode(), Recorder() as recorder:
        work()
    return recorder.operations


def summed(operations: list[Operation], fused_bytes: int = 0) -> Work:
    """Their sum. Operations in a row of which each touches at most ``fused_bytes`` count as one launch: what
    one thread block could do that keeps so much in its shared memory.
    """
    small = [operation.bytes <= fused_bytes for operation in operations]
    launches = sum(not (here and before) for before, here in zip([False, *small], small, strict=False))
    held = [operation.bytes for operation in operations]
    in_blocks = sum(each for each, fused in zip(held, small, strict=True) if fused)
    return Work(launches, sum(held), in_blocks, sum(operation.flops for operation in operations))


def device_work(preconditioner: Preconditioner, b: Tensor) -> dict[str, list[Operation]]:
    """The operations of a ``setup``, of the ``inference`` in it, and of one ``iteration`` on ``b`` (nx, ny).

    It is one that would run on a device, set up for the present solids; see precond.host.compiled for how
    its torch form is had on a CPU.
    """
    parts: dict[str, list[Operation]] = {"setup": [], "inference": []}
    for part, work in preconditioner._stages():
        parts[part] += operations_of(work)
    loop = CudaCG(preconditioner.operator, preconditioner, 100)
    loop.b.copy_(b)
    loop.load()
    loop.start()
    return {**parts, "iteration": operations_of(loop.iterate)}
