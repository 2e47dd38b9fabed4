"""The learned peer: definite whatever its network says, applied as defined, trained on what it documents."""

import numpy as np
import pytest
import torch

from precond import PCG, PreconditionerError, make_preconditioner
from precond.learned.neural_spai import DEFAULT_MODEL, Faces, NeuralSpai, SpaiConfig, SpaiNetwork
from precond.learned.weights import ModelError, read_card, save_model
from precond.poisson import PoissonOperator
from precond.problems.gallery import Problem, benchmark_density
from precond.training.data import held_out, random_system, unseen_families
from precond.training.loop import judged, train
from precond.training.neural_spai import NeuralSpaiTask, SpaiSystem

EPSILON = 3e-3
MODEL = {"width": 8, "layers": 2, "epsilon": EPSILON}


def random_network(seed=0):
    """With heads that say something."""
    torch.manual_seed(seed)
    network = SpaiNetwork(SpaiConfig(**MODEL))
    for last in (network.diagonal[2], network.off_diagonal.out):
        torch.nn.init.normal_(last.weight)
    return network


def made(operator, network):
    form = NeuralSpai(operator, network)
    form.setup()
    return form


def applied(form, vectors):
    return torch.stack([form.apply(v, torch.empty_like(v)) for v in vectors])


def applied_to_units(form):
    """M as a dense matrix, without the means taken out, column by column."""
    n = form.operator.density.numel()
    columns = torch.eye(n, dtype=torch.float64).view(n, *form.operator.shape)
    out = torch.empty_like(columns)
    for column, image in zip(columns, out, strict=True):
        form._apply(column, image)
    return out.view(n, n).T.numpy()


def g_of(form):
    """G as a dense matrix, face by face from what the network says."""
    with torch.no_grad():
        diagonal, entries = (part.double().numpy() for part in form.network(form.features))
    nx, ny = form.operator.shape
    g = np.diag(diagonal)
    for (di, dj), values in zip(((-1, 0), (1, 0), (0, -1), (0, 1)), entries, strict=True):
        for i in range(nx):
            for j in range(ny):
                if 0 <= i + di < nx and 0 <= j + dj < ny:
                    g[i * ny + j, (i + di) * ny + j + dj] = values[i * ny + j]
                else:
                    assert values[i * ny + j] == 0.0
    return g


def scaled(case):
    """S = D^-1/2 A D^-1/2 of the independently assembled A, and the diagonal of D^-1/2, zero where A's is."""
    diagonal = np.diag(case.matrix)
    root = np.where(diagonal > 0.0, 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0)), 0.0)
    return root[:, None] * case.matrix * root, root


def test_faces_describe_the_scaled_matrix(case):
    s, root = scaled(case)
    faces = Faces(case.operator)
    np.testing.assert_allclose(faces.scale, root, rtol=1e-14)
    rows = torch.eye(len(s), dtype=torch.float64)
    np.testing.assert_allclose(faces.times(faces.coupled, -faces.couplings, rows), s, atol=1e-6)
    shares = -(root**2)[:, None] * case.matrix
    np.fill_diagonal(shares, 0.0)
    for entries, expected in ((faces.shares, shares), (faces.reversed(faces.shares), shares.T)):
        product = faces.times(torch.zeros_like(faces.coupled), entries, rows)
        np.testing.assert_allclose(product.T, expected, atol=1e-6)


def test_applied_as_defined_and_definite(case):
    form = made(case.operator, random_network())
    s, root = scaled(case)
    g = g_of(form)
    assert not g[(s == 0.0) & ~np.eye(len(s), dtype=bool)].any()  # A's pattern and nothing beyond
    m = applied_to_units(form)
    expected = root[:, None] * (g @ g.T + EPSILON * np.eye(len(g))) * root
    np.testing.assert_allclose(m, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(m, m.T, rtol=1e-5, atol=1e-6 * np.abs(m).max())
    coupled = root > 0.0
    inner = m[np.ix_(coupled, coupled)] / np.outer(root[coupled], root[coupled])
    assert np.linalg.eigvalsh(inner).min() > 0.98 * EPSILON
    assert not m[~coupled].any()
    assert form.symmetric_positive_definite


def test_an_untrained_network_is_jacobi(make_case):
    case = make_case((28, 17), 100.0, True)
    jacobi = make_preconditioner("jacobi", case.operator)
    jacobi.setup()
    vectors = case.vectors(3)
    expected = (1.0 + EPSILON) * applied(jacobi, vectors)
    found = applied(made(case.operator, SpaiNetwork(SpaiConfig(**MODEL))), vectors)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6 * float(expected.abs().max()))


def test_scales_as_the_inverse(make_case):
    case = make_case((24, 19), 100.0, True)
    form = made(case.operator, random_network())
    vectors = case.vectors(3)
    before = applied(form, vectors)
    case.operator.update(torch.from_numpy(case.density * 50.0))
    form.setup()
    after = applied(form, vectors)
    torch.testing.assert_close(after, 50.0 * before, rtol=1e-4, atol=1e-4 * float(after.abs().max()))


def test_turned_and_mirrored_flows_get_turned_and_mirrored_matrices(make_case):
    case = make_case((24, 19), 100.0, False)
    network = random_network()
    v = case.vectors(1)[0]
    before = applied(made(case.operator, network), [v])[0]
    turned = Problem(torch.from_numpy(case.density.T[::-1].copy()), torch.zeros(19, 24), v, 0).operator()
    after = applied(made(turned, network), [v.T.flip(0).contiguous()])[0]
    torch.testing.assert_close(
        after.flip(0).T.contiguous(), before, rtol=1e-4, atol=1e-5 * float(before.abs().max())
    )


def system_of(case, factor=1.0):
    return SpaiSystem(PoissonOperator.from_density(factor * case.density, case.solid))


def loss(system, network, probes, seed=0):
    torch.manual_seed(seed)
    return system.loss(network, probes)


def test_the_loss_is_the_frobenius_norm_of_the_published_residual(make_case):
    case = make_case((13, 11), 20.0, False)
    s, root = scaled(case)
    network = random_network()
    g = g_of(made(case.operator, network))
    residual = s @ (g @ g.T + EPSILON * np.eye(len(g))) - np.eye(len(g))  # S M - I, in the published order
    kernel = 1.0 / root
    kernel /= np.linalg.norm(kernel)
    residual -= np.outer(residual @ kernel, kernel)  # probes have no part in the null space
    expected = np.sum(residual**2) / len(g)
    with torch.no_grad():
        found = [float(loss(system_of(case), network, 2000, seed)) for seed in range(4)]
    assert np.mean(found) == pytest.approx(expected, rel=0.02)


def test_the_loss_is_blind_to_the_size_of_the_matrix(make_case):
    case = make_case((13, 11), 20.0, False)
    network = random_network()
    with torch.no_grad():
        losses = [float(loss(system_of(case, factor), network, 8)) for factor in (1.0, 37.0, 1e-3)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_the_loss_is_least_at_the_best_multiple(make_case):
    """Over multiples t of G without eps it is a quadratic in t^2, known from the dense matrices."""
    case = make_case((13, 11), 20.0, False)
    network = SpaiNetwork(SpaiConfig(**{**MODEL, "epsilon": 1e-12}))
    s, _ = scaled(case)
    best = np.sqrt(np.trace(s) / np.trace(s @ s))  # G = t I: least ||t^2 S - I||
    system, values = system_of(case), []
    for factor in (0.97, 1.0, 1.03):
        with torch.no_grad():
            network.diagonal[2].bias.fill_(factor * best - 1.0)
            values.append(float(loss(system, network, 4000)))
    assert values[1] < min(values[0], values[2])


def test_gradients_are_true(make_case):
    system = system_of(make_case((13, 11), 20.0, False))
    network = random_network().double()
    system.kernel = system.kernel.double()
    for name in ("shares", "couplings", "coupled", "open"):
        setattr(system.faces, name, getattr(system.faces, name).double())
    gradients = torch.autograd.grad(loss(system, network, 3), list(network.parameters()))
    for seed in range(3):
        torch.manual_seed(seed)
        directions = [torch.randn_like(p) for p in network.parameters()]
        values = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                for p, direction in zip(network.parameters(), directions, strict=True):
                    p.add_(step * direction)
                values.append(float(loss(system, network, 3)))
        with torch.no_grad():
            for p, direction in zip(network.parameters(), directions, strict=True):
                p.add_(1e-6 * direction)
        expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=1e-5)


def test_which_weights_are_loaded(tmp_path, monkeypatch):
    operator = benchmark_density(400, 0).operator()
    path = tmp_path / "some.safetensors"
    save_model(path, random_network(), {"model": MODEL})
    assert NeuralSpai(operator, path).network.config == SpaiConfig(**MODEL)
    with pytest.raises(PreconditionerError, match="no model file"):
        NeuralSpai(operator, tmp_path / "other.safetensors")
    assert NeuralSpai(operator).network.config == SpaiConfig(**read_card(DEFAULT_MODEL)["model"])
    monkeypatch.setattr("precond.learned.neural_spai.DEFAULT_MODEL", path)
    assert NeuralSpai(operator).network.config == SpaiConfig(**MODEL)
    card = path.with_suffix(".yaml")
    card.write_text(card.read_text().replace("width: 8", "width: 0"))
    with pytest.raises(ModelError, match="width: 0"):
        NeuralSpai(operator)


DATA = {"systems": 4, "large_systems": 1, "simulator_frames": 2}


def small_task(training, seed=0):
    """Judged by two of the problems that it sets apart."""
    content = {"model": MODEL, "training": {**training, "seed": seed}, "data": {**DATA, "large_systems": 0}}
    task = NeuralSpaiTask(content)
    assert (len(task.validation), task.tests.keys()) == (len(held_out()), unseen_families().keys())
    task.validation, task.tests = task.validation[:1], {"bubbles": task.validation[2:3]}
    return task


def test_systems_are_random_and_large_ones_and_frames_of_the_simulator():
    task = NeuralSpaiTask({"data": DATA})
    assert len(task.systems()) == 5
    asked = []

    def simulator(count, seed):
        asked.append((count, seed))
        return [benchmark_density(64, frame).operator() for frame in range(count)]

    task.simulator = simulator
    systems = task.systems()
    assert asked == [(2, 1)]
    cells = [system.kernel.numel() for system in systems]
    assert cells == [random_system(1, i).density.numel() for i in range(4)] + [91 * 91, 64, 64]
    assert all(int(system.faces.operator.components) == 1 for system in systems)
    loss = task.loss(systems[0], 0)
    assert 0.0 < float(loss.detach()) < 2.0  # of Jacobi
    assert len(task.draw(0, len(systems))) == task.training.systems_per_step


def test_training_resumes(tmp_path):
    training = {"steps": 6, "systems_per_step": 2, "probes": 2, "warm_up": 1}
    training |= {"evaluate_every": 3, "save_every": 3}
    whole = train(small_task(training), tmp_path / "whole.safetensors")
    path = tmp_path / "cut.safetensors"
    train(small_task(training), path, minutes=0.0)
    task = small_task(training)
    cut = train(task, path, card={"machine": "this one"})
    assert cut["steps_done"] == whole["steps_done"] == 6
    assert (cut["machine"], cut["preconditioner"]) == ("this one", "neural-spai")
    assert len(cut["test"]["bubbles"]["iterations"]) == 1
    states = [torch.load(tmp_path / f"{name}.checkpoint")["network"] for name in ("whole", "cut")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    best = min(entry["mean"] for entry in cut["validation"])
    task.network = NeuralSpai(benchmark_density(64, 0).operator(), path).network
    assert judged(task, task.validation)["mean"] == best
    with pytest.raises(ValueError, match="another run"):
        train(small_task(training, seed=1), path)


def test_a_short_training_beats_jacobi(tmp_path):
    task = small_task({"steps": 40, "systems_per_step": 2, "warm_up": 5, "evaluate_every": 40})
    jacobi = judged(task, task.tests["bubbles"])  # untrained
    card = train(task, tmp_path / "short.safetensors")
    assert card["test"]["bubbles"]["mean"] < 0.7 * jacobi["mean"]


def counts_of(operator, b):
    counts = []
    for name in ("jacobi", "neural-spai"):
        preconditioner = make_preconditioner(name, operator)
        preconditioner.setup()
        report = PCG(operator, preconditioner).solve(b)
        assert report.converged
        assert not report.flexible
        assert not preconditioner.note
        counts.append(report.iterations)
    return counts


@pytest.mark.parametrize("n", [1024, 2048, 4096, 8192, 16384])
def test_shipped_weights_halve_the_iterations_of_jacobi_at_every_size(n):
    for frame in range(2):
        problem = benchmark_density(n, frame)
        jacobi, ours = counts_of(problem.operator(), problem.b)
        assert ours < 0.55 * jacobi


def test_shipped_weights_serve_a_grid_with_solids(make_case):
    case = make_case((40, 33), 1000.0, True)
    jacobi, ours = counts_of(case.operator, case.vectors(1)[0])
    assert ours < 0.6 * jacobi


def test_shipped_weights_take_what_their_card_says():
    for name, problems in unseen_families().items():
        (expected,) = read_card(DEFAULT_MODEL)["test"][name]["iterations"]
        for problem in problems:
            _, ours = counts_of(problem.operator(), problem.b)
            assert ours == pytest.approx(expected, rel=0.03)
