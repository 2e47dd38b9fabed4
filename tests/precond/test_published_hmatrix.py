"""The paper's form: applied as it is defined, honest where it breaks down, trained resumably."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from precond import PCG, Outcome, PoissonOperator, PreconditionerError, make_preconditioner
from precond.errors import UsageError
from precond.learned.factors import Factors, FactorsConfig, FactorsNetwork
from precond.learned.published_hmatrix import PublishedHMatrix
from precond.learned.weights import ModelError, model_for, model_sizes, save_model
from precond.partition.tiles import Tiles, tiles
from precond.problems.gallery import benchmark_density
from precond.training.loop import judged, train
from precond.training.objectives import kaporin
from precond.training.published_hmatrix import Frame, PublishedTask

MODEL = {"leaf_size": 32, "trunk": {"width": 16, "heads": 2, "layers": 1, "tile_tokens": 8}}


def small_network(seed=0):
    torch.manual_seed(seed)
    return FactorsNetwork(FactorsConfig.of(MODEL))


def random_factors(count, length=8, rank=4):
    torch.manual_seed(count)
    shapes = (count, length, length), (count, length, 2 * rank), (count - 1, rank, rank), (count, 1, length)
    return Factors(*(torch.randn(shape, dtype=torch.float64) for shape in shapes))


def assembled(factors):
    """M as a dense matrix, tile by tile as the formula says."""
    count, length, _ = factors.leaf.shape
    u, v = (part.reshape(count * length, -1).numpy() for part in factors.node.chunk(2, dim=-1))
    dense = np.zeros((count * length, count * length))
    for k, leaf in enumerate(factors.leaf.numpy()):
        own = slice(k * length, (k + 1) * length)
        dense[own, own] = leaf @ leaf.T + np.diag(factors.jacobi[k, 0].numpy())
    for (row, column, size), core in zip(tiles(count), factors.core.numpy(), strict=True):
        rows = slice(row * length, (row + size) * length)
        columns = slice(column * length, min(column + size, count) * length)
        dense[rows, columns] = u[rows] @ core @ v[columns].T
        dense[columns, rows] = dense[rows, columns].T
    return dense


@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_applied_as_assembled(count):
    factors = random_factors(count)
    dense = assembled(factors)
    partition = Tiles.of(count)
    partition.rows, partition.columns = partition.rows.double(), partition.columns.double()
    vectors = torch.randn(5, count, 8, dtype=torch.float64)
    batched = factors.times(vectors.transpose(0, 1).contiguous(), partition).transpose(0, 1)
    np.testing.assert_allclose(batched.reshape(5, -1), vectors.reshape(5, -1).numpy() @ dense, atol=1e-9)
    single = factors.times(vectors[0][:, None], partition)
    torch.testing.assert_close(single[:, 0], batched[0])


@pytest.mark.parametrize(("shape", "solids"), [((8, 8), False), ((28, 17), True), ((46, 45), False)])
def test_symmetric_and_blind_to_solids(make_case, shape, solids):
    case = make_case(shape, 100.0, solids)
    form = PublishedHMatrix(case.operator, small_network())
    form.setup()
    vectors = case.vectors(6)
    results = torch.stack([form.apply(v, torch.empty_like(v)) for v in vectors])
    gram = torch.einsum("aij,bij->ab", vectors, results)
    torch.testing.assert_close(gram, gram.T, atol=2e-5 * float(gram.abs().max()), rtol=0)
    assert not results[:, torch.from_numpy(case.solid)].any()
    assert set(form.seconds) == {"setup", "inference"}
    assert form.seconds["inference"] > 0


def test_scales_as_the_inverse(make_case):
    case = make_case((24, 19), 100.0, False)
    form = PublishedHMatrix(case.operator, small_network())
    form.setup()
    v = case.vectors(1)[0]
    before = form.apply(v, torch.empty_like(v)).clone()
    case.operator.update(torch.from_numpy(case.density * 50.0))
    form.setup()
    after = form.apply(v, torch.empty_like(v))
    torch.testing.assert_close(after, 50.0 * before, rtol=1e-3, atol=1e-3 * float(after.abs().max()))


def test_an_untrained_network_is_solved_with_or_named(make_case):
    """Close to Jacobi at the start; with its sign turned, PCG says what is wrong."""
    case = make_case((20, 13), 10.0, False)
    b = case.vectors(1)[0]
    form = PublishedHMatrix(case.operator, small_network())
    form.setup()
    report = PCG(case.operator, form).solve(b)
    assert report.converged
    assert report.flexible
    form.factors.leaf.zero_()
    form.factors.jacobi.neg_()
    assert PCG(case.operator, form).solve(b).outcome is Outcome.INDEFINITE_PRECONDITIONER


def test_the_nearest_model_is_transferred(tmp_path, monkeypatch):
    monkeypatch.setattr("precond.learned.weights.MODELS", tmp_path)
    operator = benchmark_density(400, 0).operator()
    with pytest.raises(ModelError, match="no model file"):
        PublishedHMatrix(operator)
    for size in (256, 1024):
        card = {"model": MODEL, "training": {"n": size}}
        save_model(tmp_path / f"hmatrix-published-{size}.safetensors", small_network(), card)
    (tmp_path / "hmatrix-published-best.safetensors").touch()
    assert model_sizes("hmatrix-published").keys() == {256, 1024}
    transferred = PublishedHMatrix(operator)
    assert transferred.trained_at == 256
    assert transferred.transferred
    assert "trained at N = 256" in transferred.note
    own = PublishedHMatrix(benchmark_density(1024, 0).operator())
    assert (own.trained_at, own.transferred, own.note) == (1024, False, "")
    with pytest.raises(PreconditionerError, match="no model file"):
        PublishedHMatrix(operator, weights=tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    "trunk", [{"off_diagonal_stream": False, "axial_buffers": False}, {"tile_tokens": 24}]
)
def test_configurations_without_tiles_are_refused(trunk):
    with pytest.raises(ValueError, match=r"stream|multiple"):
        FactorsConfig.of({**MODEL, "trunk": {**MODEL["trunk"], **trunk}})


def test_frames_multiply_by_the_matrix():
    problem = benchmark_density(300, 0, "train")  # 18 x 17, six cells solid
    frame = Frame(problem, 32, with_root=True)
    operator = problem.operator()
    rows = torch.randn(3, frame.mask.numel()) * frame.mask
    product = frame.apply_a(rows)
    for row, found in zip(rows, product, strict=True):
        field = row[frame.features.position].double().view(operator.shape)
        expected = operator.matvec(field).view(-1)
        torch.testing.assert_close(found[frame.features.position].double(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rows @ frame.root.mT @ frame.root, product, atol=1e-3, rtol=1e-3)
    assert frame.project(rows).sum(dim=1).abs().max() < 1e-3


@pytest.mark.parametrize("index", range(4))
def test_the_root_of_a_frame_leaves_out_the_null_space(index):
    problem = benchmark_density(600, index, "train")
    frame = Frame(problem, 32, with_root=True)
    assert len(frame.root) == 599  # rounded to float32, A's row sums are not zero
    matrix = problem.operator().to_csr().toarray()
    matrix = matrix[matrix.diagonal() > 0][:, matrix.diagonal() > 0]
    root = matrix.diagonal() ** -0.5
    eigenvalues = np.linalg.eigvalsh(root[:, None] * matrix * root)[1:]  # of D^-1 A
    expected = np.log(eigenvalues.mean()) - np.log(eigenvalues).mean()
    inverse_diagonal = frame.mask / frame.diagonal.clamp(min=1e-30)
    found = kaporin(lambda rows: rows * inverse_diagonal, frame.root)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("objective", "mirrored"), [("cosine", False), ("cosine", True), ("sai", False), ("kaporin", False)]
)
def test_training_resumes(tmp_path, objective, mirrored):
    training = {"n": 200, "frames": 3, "steps": 6, "frames_per_step": 2, "probes": 4, "warm_up": 1}
    training |= {
        "raw_weight": 0.4 * mirrored,
        "objective": objective,
        "mirrored": mirrored,
        "evaluate_every": 3,
        "validation_frames": 2,
    }
    config = {"model": MODEL, "training": training}
    whole = train(PublishedTask(config), tmp_path / "whole.safetensors")
    path: Path = tmp_path / "cut.safetensors"
    train(PublishedTask(config), path, minutes=0.0)
    cut = train(PublishedTask(config), path)
    assert cut["training"] == whole["training"]
    assert cut["steps_done"] == whole["steps_done"] == 6
    assert len(cut["test"]["barriers 200"]["iterations"]) == 20
    states = [torch.load(tmp_path / f"{name}.checkpoint")["network"] for name in ("whole", "cut")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    other = {**config, "training": {**config["training"], "seed": 1}}
    with pytest.raises(ValueError, match="another run"):
        train(PublishedTask(other), path)


def test_training_starts_from_weights(tmp_path):
    settings = {"n": 200, "frames": 2, "steps": 1, "frames_per_step": 1, "probes": 2, "learning_rate": 1e-30}
    first = tmp_path / "first.safetensors"
    save_model(first, small_network(seed=5), {"model": MODEL})
    content = {"model": MODEL, "training": {**settings, "start": str(first)}}
    train(PublishedTask(content), tmp_path / "next.safetensors")
    before, after = load_file(first), load_file(tmp_path / "next.safetensors")
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-20)
    with pytest.raises(UsageError, match="not the one to train"):
        PublishedTask({**content, "model": {**MODEL, "leaf_size": 64}})


def test_failures_are_counted():
    task = PublishedTask({"model": MODEL})
    with torch.no_grad():
        task.network.core_head.weight.normal_(std=10.0)
    assert judged(task, [benchmark_density(300, 0)]) == {"iterations": [None], "mean": None, "failed": 1}


def test_painting_does_not_change_which_weights_are_chosen():
    """A rebuilt preconditioner has those of one that was kept: the grid decides, not the fluid."""
    chosen = []
    for width in (0, 40, 60):
        solid = torch.zeros(64, 64, dtype=torch.bool)
        solid[:width] = True
        operator = PoissonOperator.from_density(torch.ones(64, 64), solid)
        preconditioner = make_preconditioner("hmatrix", operator, definite=False)
        chosen.append((preconditioner.trained_at, preconditioner.transferred))
    assert chosen == [(4096, False), (4096, True), (4096, True)]


@pytest.mark.parametrize("n", [1024, 2048, 4096, 8192, 16384])
def test_frames_of_the_benchmark_have_weights_of_their_own(n):
    chosen = model_for("hmatrix-published", benchmark_density(n, 0).density.numel())
    assert chosen.stem == f"hmatrix-published-{n}"
