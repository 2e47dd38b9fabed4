"""Other libraries' solvers: the right solution of the same system, honest skips, one inner AMGX iteration."""

import importlib.machinery
import json
import sys
import types

import numpy as np
import pytest
import torch

from app.bench import external as peers_module
from app.bench.contest import Frame
from app.bench.external import CLASSES, amgx_configuration, make_peer, missing
from app.bench.external_system import PeerSystem
from app.bench.settings import PEERS
from app.cli import main
from precond import PoissonOperator
from precond.problems.gallery import bubbles, mazes

HERE = [name for name in PEERS if not missing(name)]


def dense_solution(system):
    """The solution of mean zero over the fluid, which is one component, by a dense pseudo-inverse."""
    matrix = system.operator().to_csr().toarray()
    return np.linalg.pinv(matrix, hermitian=True) @ system.b.numpy().ravel()


def test_every_name_has_its_class():
    assert tuple(CLASSES) == PEERS
    assert {"peer:superlu"} <= set(HERE)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("make", [bubbles, mazes])
def test_a_peer_solves_the_frames_system(name, make):
    system = make((19, 17), 100.0, 3)
    frame = Frame(system)
    prepared = PeerSystem.of(frame.operator)
    assert prepared.matrix.shape == (system.n, system.n)
    peer = make_peer(name, 1e-10, 500)
    peer.setup(prepared)
    x, iterations = peer.solve(prepared.vector(system.b))
    grid = prepared.grid(x, system.shape)
    assert frame.residual(grid) <= 1e-9
    assert 1 <= iterations < 200
    expected = dense_solution(system)
    found = frame.operator.project(grid).numpy().ravel()
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)
    if name == "peer:ilupp-ic0":
        assert iterations <= peer.products <= iterations + 2
    elif peer.products is not None:
        assert (peer.products, iterations) == (0, 1)


def run(tmp_path, *arguments):
    out = tmp_path / "out"
    code = main(
        ["bench", "--sizes", "256", "--frames", "2", "--preconds", "direct", "--out", str(out), *arguments]
    )
    return code, json.loads((out / "bench.json").read_text(encoding="utf-8")) if out.exists() else None


def test_all_peers_stand_in_the_table_or_are_left_out_with_a_reason(tmp_path, capsys):
    code, content = run(tmp_path, "--peers", "all")
    assert code == 0
    present = {entry["preconditioner"] for entry in content["table"]}
    assert present == {"direct", *HERE}
    assert set(content["skipped"]) == set(PEERS) - set(HERE)
    printed = capsys.readouterr().out
    for name in set(PEERS) - set(HERE):
        assert f"left out: {name}: needs {CLASSES[name].needs}" in printed
    for row in content["rows"]:
        assert row["outcome"] == "converged"
        assert row["relative_residual"] <= 1e-8 * 1.01
        assert row["memory_mib"] > 0.0
        assert row["total_ms"] == pytest.approx(row["setup_ms"] + row["solve_ms"])
    engines = {row["preconditioner"]: row["engine"] for row in content["rows"]}
    assert engines["direct"] == "eager"
    assert engines["peer:superlu"] == "superlu"


def test_a_peer_that_is_named_must_be_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(CLASSES["peer:cholmod"], "needs", "no_such_package")
    code, content = run(tmp_path, "--peers", "cholmod")
    assert (code, content) == (2, None)
    assert "peer:cholmod needs no_such_package: pip install scikit-sparse" in capsys.readouterr().err


def test_a_peer_with_a_wrong_solution_fails(tmp_path, monkeypatch):
    right = peers_module.SuperLu._solved
    monkeypatch.setattr(peers_module.SuperLu, "_solved", lambda self, b: right(self, b) * (1.0 + 1e-6))
    _, content = run(tmp_path, "--peers", "superlu")
    outcomes = {row["preconditioner"]: row["outcome"] for row in content["rows"]}
    assert outcomes["direct"] == "converged"
    assert outcomes["peer:superlu"].startswith("failed: the true residual is 1.0")


def test_a_peer_that_breaks_fails_alone(tmp_path, monkeypatch):
    def broken(_self, _system):
        raise RuntimeError("no\nluck")

    monkeypatch.setattr(peers_module.SuperLu, "setup", broken)
    _, content = run(tmp_path, "--peers", "superlu")
    outcomes = {row["preconditioner"]: row["outcome"] for row in content["rows"]}
    assert outcomes == {"direct": "converged", "peer:superlu": "failed: no luck"}


def test_memory_of_a_factor_is_that_of_its_entries(tmp_path):
    _, content = run(tmp_path, "--peers", "superlu")
    own, peer = (
        {row["memory_mib"] for row in content["rows"] if row["preconditioner"] == name}
        for name in ("direct", "peer:superlu")
    )
    assert own == peer  # the same factors


@pytest.mark.parametrize("kind", ["amg", "dilu"])
def test_amgx_runs_one_inner_iteration_with_our_tolerance(kind):
    solver = amgx_configuration(kind, 1e-7, 321)["solver"]
    assert (solver["solver"], solver["tolerance"], solver["max_iters"]) == ("PCG", 1e-7, 321)
    assert solver["preconditioner"]["max_iters"] == 1
    assert solver["convergence"] == "RELATIVE_INI_CORE"


def test_amgx_is_called_as_its_wrapper_documents(monkeypatch, tmp_path):
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
    system = bubbles((12, 11), 10.0, 1)
    frame = Frame(system)
    prepared = PeerSystem.of(frame.operator)
    peer = make_peer("peer:amgx-amg", 1e-8, 100)
    peer.setup(prepared)
    x, iterations = peer.solve(prepared.vector(system.b))
    assert calls == ["initialize", "setup", ("solve", True)]
    assert iterations == 7
    assert frame.residual(prepared.grid(x, system.shape)) < 1e-10
    _, content = run(tmp_path, "--peers", "amgx-amg", "amgx-dilu")
    rows = [row for row in content["rows"] if row["preconditioner"].startswith("peer:")]
    assert {(row["outcome"], row["engine"], row["iterations"]) for row in rows} == {("converged", "amgx", 7)}
    assert {(row["memory_mib"], row["matrix_products"]) for row in rows} == {(None, None)}


def test_a_matrix_that_is_not_finite_is_refused():
    operator = bubbles((12, 11), 10.0, 1).operator()
    operator.update(torch.full(operator.shape, torch.nan, dtype=torch.float64))
    with pytest.raises(ValueError, match="not finite"):
        PeerSystem.of(operator)


def test_projected_results_have_no_mean_over_any_component():
    density = torch.ones(14, 11, dtype=torch.float64)
    solid = torch.zeros(14, 11, dtype=torch.bool)
    solid[6] = True  # two rooms
    system = PeerSystem.of(PoissonOperator.from_density(density, solid))
    assert system.matrix.shape == (13 * 11, 13 * 11)
    random = np.random.default_rng(0)
    result = system.projected(np.diag(random.uniform(1.0, 2.0, 143))) @ random.standard_normal(143)
    sums = np.bincount(system.component, result)
    assert len(sums) == 2
    assert np.abs(sums).max() < 1e-12
    assert np.abs(result).max() > 0.1
    assert np.abs(system.matrix @ np.ones(143)).max() < 1e-12
    assert np.linalg.eigvalsh(system.pinned.toarray())[0] > 1e-4
