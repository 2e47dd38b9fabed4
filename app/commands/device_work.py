"""`device-work`: launches, bytes and arithmetic that each method would ask of a GPU, counted on this machine,
and what a model makes of them. No time is measured.
"""

from __future__ import annotations

import sys

from tqdm import tqdm

from app.environment import use_one_thread
from precond import PCG, PreconditionerError, available_preconditioners, make_preconditioner
from precond.analysis.device_work import Operation, Work, device_work, summed
from precond.errors import UsageError
from precond.host import compiled
from precond.problems.gallery import problem

SMALLEST, LARGEST = 64, 65_536  # cells
LAUNCH_S = 1.2e-6  # between small kernels of a CUDA graph; published: 0.9 to 1.5 us on an H100
BANDWIDTH = 3.35e12  # bytes/s of an H100
IN_BLOCK = 225e9  # bytes/s that one block moves in shared memory: 128 a clock, at 1.76 GHz
RATE = 34e12  # float64 flops/s of an H100
SHARED_MEMORY = 227 * 1024  # bytes of one thread block of an H100
HEAD = ("method", "set-up", "inference", "an iteration", "iterations", "solve", "set-up and inference", "all")


def device_work_table(cells: list[int]) -> int:
    """Print a Markdown table for every number of ``cells``; returns 0. Raises UsageError for bad numbers."""
    for n in cells:
        if not SMALLEST <= n <= LARGEST:
            raise UsageError(f"--cells: {n} is not a whole number from {SMALLEST} to {LARGEST}")
    use_one_thread()
    compiled.used = False  # the forms for a device
    names = available_preconditioners(choosing=False)
    with tqdm(total=len(cells) * len(names), unit="method", disable=None, file=sys.stderr) as bar:
        tables = [(n, [row for name in names for row in _rows(name, n, bar)]) for n in cells]
    for n, rows in tables:
        print(f"\n{n:,} cells; launches / MB / Mflop, then modelled microseconds:\n")
        for row in (HEAD, ["---"] * len(HEAD), *rows):
            print(f"| {' | '.join(row)} |")
    return 0


def _rows(name: str, cells: int, bar: tqdm) -> list[list[str]]:
    """The rows of a method on the first frame of barriers; none where it does not run on a device."""
    bar.set_description(f"{cells} cells, {name}")
    bar.update()
    system = problem("barriers", cells, 0, "test", None)
    operator = system.operator()
    try:
        preconditioner = make_preconditioner(name, operator, on_device=True)
    except PreconditionerError:  # it has no form of its own for a device
        preconditioner = make_preconditioner(name, operator)
    if not preconditioner.capturable:
        return []
    preconditioner.setup()
    parts = device_work(preconditioner, system.b)
    count = PCG(operator, preconditioner).solve(system.b).iterations
    rows = [_row(f"`{name}`", parts, count, 0)]
    if name == "multigrid":
        rows.append(_row("`multigrid`, small levels fused", parts, count, SHARED_MEMORY))
    return rows


def _row(title: str, parts: dict[str, list[Operation]], count: int, fused: int) -> list[str]:
    work = {part: summed(operations, fused) for part, operations in parts.items()}
    microseconds = {part: 1e6 * of.seconds(LAUNCH_S, BANDWIDTH, IN_BLOCK, RATE) for part, of in work.items()}
    solve, before = count * microseconds["iteration"], microseconds["setup"] + microseconds["inference"]
    times = (f"{value:,.0f}" for value in (solve, before, before + solve))
    return [title, *map(_as_text, work.values()), str(count), *times]


def _as_text(work: Work) -> str:
    return f"{work.launches} / {work.bytes / 1e6:.3g} / {work.flops / 1e6:.3g}" if work.launches else "-"
