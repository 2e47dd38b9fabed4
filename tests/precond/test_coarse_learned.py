"""The leaf network: it decides columns and nothing else, is asked no more than it must be, and its shipped
weights take few iterations on systems they were not trained on, one file for every grid.
"""

import numpy as np
import pytest
import torch

from precond import PCG, PoissonOperator, available_preconditioners
from precond.learned import MODELS
from precond.learned import coarse_learned as coarse_learned_module
from precond.learned.coarse_learned import DEFAULT_MODEL, build, coarse_learned
from precond.learned.compiled_leaf_network import columns_of, parameters_of
from precond.learned.leaf_network import LeafNetwork, LeafNetworkConfig, leaf_features
from precond.learned.weights import read_card
from precond.problems import gallery

shipped = pytest.mark.skipif(
    "coarse-learned" not in available_preconditioners(), reason="no weights of coarse-learned"
)
FORMS = {"hierarchy": False, "two levels": True}


def network_of(seed: int = 0, spread: float = 0.5, **config: int) -> LeafNetwork:
    """Whose head says anything."""
    torch.manual_seed(seed)
    network = LeafNetwork(LeafNetworkConfig(**{"columns": 3, "width": 8, **config}))
    torch.nn.init.normal_(network.head.weight, std=spread)
    return network.requires_grad_(False)


def made(operator: PoissonOperator, network: LeafNetwork | None = None, **options: bool):
    form = coarse_learned(operator, network, **options)
    form.setup()
    return form


def mean_iterations(family: str, n: int, frames: int, contrast: float | None = None) -> float:
    counts = []
    for frame in range(frames):
        problem = gallery.problem(family, n, frame, "test", contrast)
        operator = problem.operator()
        report = PCG(operator, made(operator), rtol=1e-8).solve(problem.b)
        assert report.converged
        assert not report.flexible
        counts.append(report.iterations)
    return float(np.mean(counts))


@shipped
@pytest.mark.parametrize("n", [1024, 2048, 8192, 16384])
def test_barriers_take_at_most_twelve_iterations_at_every_size(n: int) -> None:
    assert mean_iterations("barriers", n, frames=2) <= 12


@shipped
@pytest.mark.parametrize(
    ("family", "contrast", "most"), [("bubbles", 1e4, 15), ("stripes", 1e4, 15), ("mazes", None, 20)]
)
def test_iterations_at_high_contrast_and_in_thin_channels(
    family: str, contrast: float | None, most: int
) -> None:
    assert mean_iterations(family, 4096, 2, contrast) <= most


@shipped
def test_the_network_beats_the_monomials_it_starts_from() -> None:
    untrained = build(read_card(DEFAULT_MODEL))  # its head is zero
    counts = np.zeros(2)
    for frame in range(4):
        problem = gallery.problem("bubbles", 4096, frame, "test", 10_000.0)
        operator = problem.operator()
        forms = made(operator), made(operator, untrained)
        counts += [PCG(operator, form).solve(problem.b).iterations for form in forms]
    assert counts[0] <= counts[1]


@shipped
@pytest.mark.parametrize("two_level", FORMS.values(), ids=FORMS)
def test_scaling_the_density_changes_nothing(two_level: bool) -> None:
    density = gallery.bubbles((48, 40), 1000.0, 2).density
    residual = torch.randn(48, 40, dtype=torch.float64)
    results = []
    for scale in (1.0, 1e3):
        operator = PoissonOperator.from_density(density * scale)
        form, right = made(operator, two_level=two_level), operator.project(residual.clone())
        start = torch.zeros_like(right)
        if form.initial_correction(right, start):
            right -= operator.matvec(start)
        results.append(form.apply(right, torch.empty_like(right)) / scale)
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4 * float(results[0].abs().max()))


@shipped
def test_the_card_says_how_the_weights_came_about() -> None:
    card, other = read_card(DEFAULT_MODEL), read_card(MODELS / "hmatrix.safetensors")
    assert card.keys() == other.keys()
    assert all(card.values())
    assert card["parameters"] == sum(weight.numel() for weight in build(card).parameters())
    assert card["steps_done"] == card["training"]["steps"] == card["validation"][-1]["step"]
    assert not any(entry["failed"] for entry in [*card["validation"], *card["test"].values()])


@pytest.mark.parametrize("spread", [0.0, 0.5, 10.0])
@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("two_level", FORMS.values(), ids=FORMS)
def test_it_is_definite_and_converges_whatever_the_network_says(
    make_case, two_level: bool, heads: int, spread: float
) -> None:
    case = make_case((28, 17), 10_000.0, True)
    operator = case.operator
    form = made(operator, network_of(1, spread, attention_heads=heads), two_level=two_level)
    vectors, start = case.vectors(20), torch.zeros(operator.shape, dtype=torch.float64)
    for v in vectors:
        if form.initial_correction(v, start):
            operator.project(v.sub_(operator.matvec(start)))
    images = torch.stack([form.apply(v, torch.empty_like(v)) for v in vectors])
    gram = torch.einsum("aij,bij->ab", vectors, images)
    assert (gram - gram.T).abs().max() < 1e-4 * gram.abs().max()
    assert torch.linalg.eigvalsh((gram + gram.T) / 2).min() > 0.0
    b = case.vectors(1)[0]
    report = PCG(operator, form, rtol=1e-10).solve(b)
    assert report.converged
    expected = case.solution(b)
    np.testing.assert_allclose(report.x.numpy(), expected, atol=1e-5 * np.abs(expected).max())


@shipped
def test_two_levels_take_few_iterations() -> None:
    problem = gallery.problem("bubbles", 1024, 0, "test", 10_000.0)
    operator = problem.operator()
    report = PCG(operator, made(operator, two_level=True)).solve(problem.b)
    assert report.converged
    assert report.iterations <= 25


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(("shape", "solids"), [((16, 24), False), ((22, 13), False), ((37, 26), True)])
def test_both_forms_show_the_network_the_same_leaves(
    make_case, shape: tuple[int, int], solids: bool, opened: bool
) -> None:
    """The two-level form orders leaves in another way, and cuts them at the walls as the hierarchy does."""
    case = make_case(shape, 100.0, solids)
    sides = np.ones((2, shape[1]), bool), np.ones((2, shape[0]), bool)
    operator = PoissonOperator.from_density(case.density, case.solid, openings=sides if opened else None)
    hierarchy, two = (coarse_learned(operator, network_of(), two_level=form) for form in FORMS.values())
    hierarchy.setup()
    seen = leaf_features(hierarchy._face_weights(hierarchy.leaves.kind))
    of_two = leaf_features(two._faces.of(operator))
    first = two.leaves.vectors.cells.numpy().min(axis=1)  # of a leaf, the corner
    i, j = np.divmod(first, shape[1])
    number = i // 4 * -(-shape[1] // 4) + j // 4
    assert sorted(number) == list(range(len(seen)))
    torch.testing.assert_close(of_two, seen[torch.from_numpy(number)], rtol=1e-5, atol=1e-6)


def test_where_a_leaf_lies_is_not_seen() -> None:
    density = torch.ones(64, 64, dtype=torch.float64)
    density[9:14, 10:13] = density[41:46, 34:37] = 50.0  # 32 cells further along x, 24 along y
    operator = PoissonOperator.from_density(density)
    form = made(operator, network_of())
    kind = form.leaves.kind.reshape(16, 16)
    assert (kind[10:12, 8:10] == kind[2:4, 2:4]).all()
    assert np.abs(form.starts[kind[2, 2]] - form.starts[kind[3, 2]]).max() > 1e-3


@pytest.fixture
def counted(monkeypatch):
    """A network and the numbers of leaves that it was asked about."""
    counts, columns_of = [], coarse_learned_module.columns_of

    def asked(weights, parameters):
        counts.append(len(weights))
        return columns_of(weights, parameters)

    monkeypatch.setattr(coarse_learned_module, "columns_of", asked)
    return network_of(), counts


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_the_compiled_network_is_the_network(blocks):
    """On leaves of mazes, where every feature is met, with weights of no symmetry."""
    operator = gallery.problem("mazes", 4096, 0, "test", 1e3).operator()
    network = LeafNetwork(LeafNetworkConfig(columns=4, width=24, blocks=blocks))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    form = made(operator, network)
    weights = form._face_weights(form.new_kinds())
    assert len(weights) > 100
    with torch.inference_mode():
        expected = network(leaf_features(weights))
    found = columns_of(weights.numpy(), parameters_of(network))
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


def two_layers() -> torch.Tensor:
    density = torch.ones(64, 64, dtype=torch.float64)
    density[:, 32:] = 1000.0
    return density


def test_leaves_that_are_alike_are_asked_about_once(counted) -> None:
    """Light and heavy ones inside, at walls, in corners; at the interface above and below it."""
    network, counts = counted
    form = made(PoissonOperator.from_density(two_layers()), network)
    assert counts == [9 + 2 * 3]
    form.setup()
    assert counts[1:] == [15]  # a set-up depends on nothing before it


def test_an_update_asks_about_changed_leaves_alone(counted) -> None:
    network, counts = counted
    operator = PoissonOperator.from_density(two_layers())
    form = made(operator, network)
    counts.clear()
    density = two_layers()
    density[30:33, 14:17] = 500.0
    operator.update(density)
    form.update()
    assert counts == [4]
    assert form.seconds["inference"] > 0.0
    density[30:33, 14:17] = 550.0  # within the drift
    operator.update(density)
    form.update()
    assert counts == [4]
    anew = made(operator, network)
    b = operator.project(torch.randn(64, 64, dtype=torch.float64))
    kept, fresh = (PCG(operator, one).solve(b).iterations for one in (form, anew))
    assert kept <= fresh + 2


def test_with_attention_a_change_asks_about_all_leaves() -> None:
    network, counts = network_of(attention_heads=2), []
    network.register_forward_hook(lambda _network, _features, columns: counts.append(len(columns)))
    operator = PoissonOperator.from_density(two_layers())
    form = made(operator, network)
    density = two_layers()
    density[30:33, 14:17] = 500.0
    operator.update(density)
    form.update()
    assert counts == [256, 256]


def test_without_compiled_loops_there_are_two_levels(torch_forms) -> None:  # noqa: ARG001
    operator = gallery.bubbles((16, 16), 100.0, 1).operator()
    form = made(operator, network_of())
    assert form.capturable
    assert (form.leaf_size, form.rank) == (16, 4)
    assert form.seconds["inference"] > 0.0
    with pytest.raises(ValueError, match="numba"):
        coarse_learned(operator, network_of(), two_level=False)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"columns": 0}, "columns must be a whole number from 1 to 7, not 0"),
        ({"columns": 8}, "columns"),
        ({"width": 2}, "width"),
        ({"width": 8.0}, "width must be a whole number"),
        ({"blocks": -1}, "blocks"),
        ({"leaf_iterations": 0}, "leaf_iterations"),
        ({"threshold": 1.0}, "threshold must be from 0 to below 1"),
        ({"attention_heads": 5}, "attention_heads must divide the width, 64"),
    ],
)
def test_sizes_that_cannot_be_are_refused(config: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LeafNetworkConfig(**config)
