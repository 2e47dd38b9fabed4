"""The house rules that a machine can check: what may import what, and what may be left out."""

from __future__ import annotations

import ast
import functools
import graphlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {"app": {"app", "sim", "precond"}, "sim": {"sim", "precond"}, "precond": {"precond"}}
BASE = {"errors", "memory", "host", "poisson"}
LAYERS = {  # of precond: what each part may import besides itself
    "errors": set(),
    "memory": set(),
    "files": set(),
    "config": {"errors"},
    "host": {"errors"},
    "poisson": {"errors", "host"},
    "partition": BASE,
    "device": BASE,
    "factorisation": BASE,
    "preconditioner": {*BASE, "device"},
    "krylov": {*BASE, "device", "preconditioner"},
    "problems": {"errors", "poisson", "partition"},
}
FORMS = {*BASE, "partition", "factorisation", "preconditioner"}
LAYERS |= {
    "classical": FORMS,
    "two_level": {*FORMS, "device"},
    "learned": {*FORMS, "two_level"},
    "registry": {"errors", "poisson", "preconditioner", "learned"},  # of learned the folder's name alone
}
LAYERS["multilevel"] = {*FORMS, "two_level"}
LAYERS["learned"] |= {"multilevel", "files"}
LAYERS["auto"] = {"host", "poisson", "preconditioner", "registry"}
LAYERS |= {
    "analysis": {*FORMS, "krylov", "two_level", "learned", "multilevel"},
    "training": {*LAYERS, "analysis"} - {"registry"},
    "study": {*LAYERS, "analysis", "training"},
}
SOURCES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
LAZY = {"precond/__init__.py", "precond/registry.py", "precond/device/ops.py"}  # by name, at run time


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in SOURCES}


@functools.cache
def imported(path: Path, only_top: bool = False) -> set[str]:
    """Full names of what ``path`` imports, of modules where they are the project's own; ``only_top``: when it
    is imported itself.
    """
    tree = ast.parse(path.read_text())
    inside = {
        node
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(outer)
    }
    names = set()
    for node in ast.walk(tree):
        if only_top and node in inside:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write imports from the package's root"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (full & MODULES) or {str(node.module)}
    return names


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert {name.split(".")[0] for name in imported(path)} & set(MAY_IMPORT) <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", sorted((ROOT / "precond").rglob("*.py")), ids=module_of)
def test_the_layers_of_precond(path: Path) -> None:
    own = part_of(module_of(path))
    parts = {part_of(name) for name in imported(path) if name.split(".")[0] == "precond"} - {own, ""}
    assert own == "" or parts <= LAYERS[own]


def test_no_two_files_import_each_other() -> None:
    """Nor three in a ring, whether at once, in a function or for the type checker alone."""
    graph = {module_of(path): imported(path) & MODULES - {module_of(path)} for path in SOURCES}
    graphlib.TopologicalSorter(graph).prepare()


def test_only_the_device_and_its_loop_touch_graphs_and_kernels() -> None:
    for path in (ROOT / "precond").rglob("*.py"):
        if "device" not in path.parts and path.name != "cuda_cg.py":
            assert "torch.cuda" not in path.read_text(), path
            assert not {name for name in imported(path) if name.split(".")[0] in ("triton", "cuda")}, path


def test_imports_in_functions_are_of_what_may_be_missing() -> None:
    """precond imports its own parts at the top of a file, but for the registry, which names them."""
    for path in (ROOT / "precond").rglob("*.py"):
        if str(path.relative_to(ROOT)) not in LAZY:
            late = imported(path) - imported(path, only_top=True)
            assert not {name for name in late if name.split(".")[0] == "precond"}, path


def run(code: str, cwd: Path = ROOT) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_precond_can_be_copied_and_needs_torch_numpy_and_scipy_alone(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "precond", tmp_path / "precond", ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("yaml", "pydantic", "safetensors", "tqdm", "taichi", "numba", "pandas",
        "sim", "app"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
import numpy as np
from precond import PCG, PoissonOperator, available_preconditioners, make_preconditioner
print(available_preconditioners())
operator = PoissonOperator.from_density(1.0 + np.arange(20 * 24).reshape(20, 24) % 7)
for name in ("none", "jacobi", "multigrid", "block-jacobi", "coarse-monomial", "coarse-geneo", "direct"):
    preconditioner = make_preconditioner(name, operator)
    preconditioner.setup()
    assert PCG(operator, preconditioner).solve(np.random.default_rng(0).standard_normal((20, 24))).converged
"""
    assert "coarse-learned" not in run(code, tmp_path)  # its weights stay behind


def test_solving_and_comparing_load_neither_taichi_nor_a_window() -> None:
    loaded = "print([m for m in ('taichi', 'imgui_bundle') if m in sys.modules])"
    modules = ("precond", "app.cli", "app.bench.run")
    assert run("import sys\n" + "\n".join(f"import {m}\n{loaded}" for m in modules)).split() == ["[]"] * 3


def test_errors_and_settings_load_no_torch() -> None:
    loaded = (
        "import precond.errors, precond.config, sim.settings, app.cli, sys; print('torch' in sys.modules)"
    )
    assert run(loaded).strip() == "False"


def test_the_top_level_holds_what_the_readme_says() -> None:
    allowed = {
        "app",
        "sim",
        "precond",
        "assets",
        "tests",
        "docs",
        "pyproject.toml",
        "README.md",
        "RESULTS.md",
    }
    allowed |= {"Makefile", "CHANGELOG.md", "LICENSE"}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= allowed
