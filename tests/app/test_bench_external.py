"""Other libraries' solvers: the right solution of the same system, honest skips, one inner AMGX iteration."""

import dataclasses
import importlib.machinery
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from app.bench import external
from app.bench.case import Judge
from app.bench.external import SOLVERS, ExternalSystem, amgx_configuration
from app.bench.settings import EXTERNAL_SOLVERS
from app.cli import main
from precond import PoissonOperator
from precond.classical.amg import ruge_stueben
from precond.problems.gallery import bubbles, mazes

HERE = [name for name in SOLVERS if not SOLVERS[name].missing]


def dense_solution(system):
    """The solution of mean zero over the fluid, which is one component, by a dense pseudo-inverse."""
    matrix = system.operator().to_csr().toarray()
    return np.linalg.pinv(matrix, hermitian=True) @ system.b.numpy().ravel()


@pytest.fixture
def changed(monkeypatch):
    """``changed(name, field=value)`` changes how an external solver is described."""

    def change(name, **fields):
        monkeypatch.setitem(SOLVERS, name, dataclasses.replace(SOLVERS[name], **fields))

    return change


def solved(name, problem, rtol):
    """Solution (nx, ny), iterations and products with A."""
    system = ExternalSystem.of(problem.operator())
    solve, _ = SOLVERS[name].setup(system, rtol, 500)
    x, iterations, products = solve(problem.b.numpy().ravel()[system.cells])
    grid = np.zeros(problem.shape)
    grid.ravel()[system.cells] = x
    return grid, iterations, products


def test_every_name_has_its_solver():
    assert tuple(SOLVERS) == EXTERNAL_SOLVERS
    assert "external:superlu" in HERE


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("make", [bubbles, mazes])
def test_a_solver_solves_the_frames_system(name, make):
    problem = make((19, 17), 100.0, 3)
    assert ExternalSystem.of(problem.operator()).matrix.shape == (problem.n, problem.n)
    grid, iterations, products = solved(name, problem, 1e-10)
    assert Judge(problem).residual(grid) <= 1e-9
    assert 1 <= iterations < 200
    expected = dense_solution(problem)
    found = problem.operator().project(torch.from_numpy(grid)).numpy().ravel()
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)
    if name == "external:ilupp-ic0":
        assert iterations <= products <= iterations + 2
    elif products is not None:
        assert (products, iterations) == (0, 1)


def outcomes(found):
    return {row["method"]: row["outcome"] for row in found.rows}


def test_all_stand_in_the_table_or_are_left_out_with_a_reason(benched, capsys):
    found = benched("--external", "all", preconds=("direct",))
    assert set(outcomes(found)) == {"direct", *HERE}
    skipped = found.runs["bench"]["skipped"]
    assert set(skipped) == set(EXTERNAL_SOLVERS) - set(HERE)
    printed = capsys.readouterr().out
    for name, reason in skipped.items():
        assert reason.startswith(f"needs {SOLVERS[name].needs}")
        assert f"left out: {name}: {reason}" in printed
    for row in found.rows:
        assert row["outcome"] == "converged"
        assert row["relative_residual"] <= 1e-8 * 1.01
        assert row["memory_mib"] > 0.0
        assert row["inference_ms"] == 0.0 < min(row["setup_ms"], row["solve_ms"])
    engines = {row["method"]: row["engine"] for row in found.rows}
    assert (engines["direct"], engines["external:superlu"]) == ("numba", "superlu")


def test_one_that_is_named_must_be_there(changed, tmp_path, capsys):
    changed("external:cholmod", needs="no_such_package")
    out = tmp_path / "out"
    assert main(["bench", "--external", "cholmod", "--out", str(out)]) == 2
    assert "external:cholmod needs no_such_package: pip install scikit-sparse" in capsys.readouterr().err


def test_one_with_a_wrong_solution_fails(changed, benched):
    right = SOLVERS["external:superlu"].setup

    def wrong(*arguments):
        solve, memory = right(*arguments)
        return lambda b: (solve(b)[0] * (1.0 + 1e-6), 1, 0), memory

    changed("external:superlu", setup=wrong)
    found = outcomes(benched("--external", "superlu", preconds=("direct",)))
    assert found["direct"] == "converged"
    assert found["external:superlu"].startswith("failed: the true residual is 1.0")


def test_one_that_breaks_fails_alone(changed, benched):
    def broken(*_arguments):
        raise RuntimeError("no\nluck")

    changed("external:superlu", setup=broken)
    found = outcomes(benched("--external", "superlu", preconds=("direct",)))
    assert found == {"direct": "converged", "external:superlu": "failed: no luck"}


def test_memory_is_that_of_what_the_set_up_holds(benched):
    found = benched("--external", "superlu", "pyamg-rs", preconds=("direct",))
    own, superlu, pyamg = (
        [row["memory_mib"] for row in found.rows if row["method"] == name]
        for name in ("direct", "external:superlu", "external:pyamg-rs")
    )
    assert own == superlu  # the same factors
    problem = bubbles((19, 17), 100.0, 3)
    system = ExternalSystem.of(problem.operator())
    hierarchy = ruge_stueben(system.pinned)
    matrices = [getattr(level, name) for level in hierarchy.levels for name in "APR" if hasattr(level, name)]
    least = sum(part.nbytes for m in matrices[1:] for part in (m.data, m.indices, m.indptr))
    _, memory = SOLVERS["external:pyamg-rs"].setup(system, 1e-8, 100)
    assert least <= sum(memory().values()) <= 1.5 * least
    assert min(pyamg) > 0.0


def test_pyamg_prints_nothing():
    """Its compiled code writes to the descriptor at last, so that only another process can show it."""
    code = (
        "import pyamg\n"
        "from app.bench.external import SOLVERS, ExternalSystem\n"
        "from precond import PoissonOperator, make_preconditioner\n"
        "from precond.problems.gallery import bubbles\n"
        "operator = PoissonOperator.from_density(bubbles((16, 16)).density * 1e-30)\n"
        "make_preconditioner('amg', operator).setup()\n"
        "system = ExternalSystem.of(operator)\n"
        "SOLVERS['external:pyamg-rs'].setup(system, 1e-8, 100)\n"
        "print('quiet', flush=True)\n"
        "pyamg.ruge_stuben_solver(system.pinned)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, _, after = ran.stdout.partition("quiet")
    assert before == ""
    assert "denominator was zero" in after  # without our care


@pytest.mark.parametrize("kind", ["amg", "dilu"])
def test_amgx_runs_one_inner_iteration_with_our_tolerance(kind):
    solver = amgx_configuration(kind, 1e-7, 321)["solver"]
    assert (solver["solver"], solver["tolerance"], solver["max_iters"]) == ("PCG", 1e-7, 321)
    assert solver["preconditioner"]["max_iters"] == 1
    assert solver["convergence"] == "RELATIVE_INI_CORE"


def test_amgx_is_called_as_its_wrapper_documents(monkeypatch, benched):
    """A stand-in with pyamgx's names that solves densely: order of calls and direction of copies."""
    calls = []

    class Handle:
        def create(self, *_arguments):
            return self

        create_simple = create_from_dict = create

    class Vector(Handle):
        def upload(self, values):
            self.values = values.copy()

        def download(self, values):
            values[:] = self.values

    class Matrix(Handle):
        def upload_CSR(self, matrix):
            self.dense = matrix.toarray()

    class Solver(Handle):
        iterations_number = 7

        def setup(self, matrix):
            calls.append("setup")
            self.matrix = matrix

        def solve(self, b, x, zero_initial_guess):
            calls.append(("solve", zero_initial_guess))
            x.values = np.linalg.solve(self.matrix.dense, b.values)

    library = types.ModuleType("pyamgx")
    library.initialize = lambda: calls.append("initialize")
    library.Config = library.Resources = Handle
    library.Vector, library.Matrix, library.Solver = Vector, Matrix, Solver
    library.__spec__ = importlib.machinery.ModuleSpec("pyamgx", None)
    monkeypatch.setitem(sys.modules, "pyamgx", library)
    external._amgx_handles.cache_clear()
    problem = bubbles((12, 11), 10.0, 1)
    grid, iterations, _ = solved("external:amgx-amg", problem, 1e-8)
    assert calls == ["initialize", "setup", ("solve", True)]
    assert iterations == 7
    assert Judge(problem).residual(grid) < 1e-10
    found = benched("--external", "amgx-amg", "amgx-dilu", preconds=("direct",))
    external._amgx_handles.cache_clear()
    rows = [row for row in found.rows if row["method"].startswith("external:")]
    assert {(row["outcome"], row["engine"], row["iterations"]) for row in rows} == {("converged", "amgx", 7)}
    assert {(row["memory_mib"], row["matrix_products"]) for row in rows} == {(None, None)}


def test_a_matrix_that_is_not_finite_is_refused():
    operator = bubbles((12, 11), 10.0, 1).operator()
    operator.update(torch.full(operator.shape, torch.nan, dtype=torch.float64))
    with pytest.raises(ValueError, match="not finite"):
        ExternalSystem.of(operator)


def test_projected_results_have_no_mean_over_any_component():
    density = torch.ones(14, 11, dtype=torch.float64)
    solid = torch.zeros(14, 11, dtype=torch.bool)
    solid[6] = True  # two rooms
    system = ExternalSystem.of(PoissonOperator.from_density(density, solid))
    assert system.matrix.shape == (13 * 11, 13 * 11)
    random = np.random.default_rng(0)
    result = system.projected(np.diag(random.uniform(1.0, 2.0, 143))) @ random.standard_normal(143)
    sums = np.bincount(system.component, result)
    assert len(sums) == 2
    assert np.abs(sums).max() < 1e-12
    assert np.abs(result).max() > 0.1
    assert np.abs(system.matrix @ np.ones(143)).max() < 1e-12
    assert np.linalg.eigvalsh(system.pinned.toarray())[0] > 1e-4
