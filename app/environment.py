"""The machine: what it is, which versions run on it, and how its threads are kept apart."""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from precond.errors import UsageError
from precond.host import threads
from sim.caches import cache_folder, can_be_written

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "htp-fluid"
PACKAGES = (
    PROJECT,
    "torch",
    "numba",
    "taichi",
    "numpy",
    "scipy",
    "imgui-bundle",
    "pyamg",
    "ilupp",
    "scikit-sparse",
)
_OWN_CACHE = Path(threads.__file__).parent / "__pycache__"  # where numba keeps code, beside its source
_CACHE, _REMOVED_BY = "NUMBA_CACHE_DIR", "HTP_FLUID_CACHE_REMOVED_BY"  # in the environment
_QUIET = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


_program = False


def is_program() -> bool:
    """Whether this process was started to run one command, as opposed to a test or somebody's own code."""
    return _program


def prepare(program: bool = False) -> None:
    """Set what must be set before torch and numba are imported; what the user has set himself stays.
    ``program``: see `is_program`; then compiled code gets another folder where its own cannot be written.
    """
    global _program
    _program = program
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if program:
        _find_cache()


def _find_cache() -> None:
    """Have numba keep its code where it can, also for processes to come and for a program begun anew."""
    process = str(os.getpid())  # stays when the program begins anew, and is not a child's
    if _CACHE not in os.environ and not can_be_written(_OWN_CACHE):
        try:
            folder, is_temporary = cache_folder("numba")
        except OSError as error:
            reason = error.strerror or error
            print(f"htp-fluid: the compiler's code cannot be kept anywhere: {reason}", file=sys.stderr)
            return
        os.environ[_CACHE] = str(folder)
        if is_temporary:
            os.environ[_REMOVED_BY] = process
    if os.environ.get(_REMOVED_BY) == process:
        atexit.register(shutil.rmtree, os.environ[_CACHE], ignore_errors=True)


def use_one_thread() -> None:
    """One torch thread: at interactive grid sizes a second one gains nothing and can cost 8 ms a region.

    Raises UsageError where the environment asks for a number of other threads that is none.
    """
    import torch

    threads.count()

    torch.set_num_threads(1)


def check_device(device: str) -> None:
    """Raise UsageError when torch cannot compute on ``device`` here."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device: torch {torch.__version__} finds no CUDA device here; use --device cpu")


def devices() -> dict[str, str]:
    """What ``--device`` can name, with a description each."""
    gpu = _gpu() or "not available: torch finds no CUDA device"
    return {"cpu": f"{_cpu_model()}, {cores()} cores", "cuda": gpu}


def describe() -> dict[str, Any]:
    """Versions, hardware and commit, as plain values for a YAML or JSON header."""
    return {"versions": _versions(), "hardware": _hardware(), "commit": _commit()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = _own_version() if package == PROJECT else "not installed"
    return found


def _own_version() -> str:
    """The version in pyproject.toml: a checkout that runs without being installed."""
    text = _text(ROOT / "pyproject.toml")
    return next(iter(re.findall(r'^version = "(.+)"$', text, re.M)), "unknown")


def _hardware() -> dict[str, Any]:
    import torch

    clocks = ("nvidia-smi", "--query-gpu=clocks.sm,clocks.max.sm,clocks.mem", "--format=csv,noheader")
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "threads": threads.count(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "gpu": _gpu(),
        "gpu_clocks": (_said(*clocks) or "").partition("\n")[0] or None if _gpu() else None,
        "os": platform.platform(),
    }


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _cpu_model() -> str:
    models = re.findall(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")), re.M)
    return models[0].strip() if models else platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None  # not told on this platform


def _commit() -> str | None:
    """Commit of the checkout that runs, "+changes" appended when tracked files differ; None outside one."""
    git = ("git", "-C", str(ROOT))
    head = _said(*git, "rev-parse", "HEAD") if (ROOT / ".git").exists() else None
    changed = _said(*git, "status", "--porcelain", "--untracked-files=no") if head else None
    return None if changed is None else head + ("+changes" if changed else "")


def _said(*command: str) -> str | None:
    """What ``command`` prints; None where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _text(path: Path) -> str:
    """What ``path`` holds; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
