"""The house rules that a machine can check: app -> sim -> precond, files that can be read in one sitting."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {"app": {"app", "sim", "precond"}, "sim": {"sim", "precond"}, "precond": {"precond"}}
SOURCES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
LONGEST_FILE = 350


def imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write imports from the package's root"
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert imported_packages(path) & set(MAY_IMPORT) <= MAY_IMPORT[package]


def test_precond_knows_neither_taichi_nor_a_window() -> None:
    for path in (ROOT / "precond").rglob("*.py"):
        assert not imported_packages(path) & {"taichi", "imgui_bundle"}, path.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


def test_the_top_level_holds_what_the_readme_says() -> None:
    allowed = {
        "app",
        "sim",
        "precond",
        "assets",
        "tests",
        "pyproject.toml",
        "README.md",
        "RESULTS.md",
        "Makefile",
        "CHANGELOG.md",
        "LICENSE",
    }
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} == allowed
