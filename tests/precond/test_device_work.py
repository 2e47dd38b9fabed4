"""What is counted of a device's work, on operations whose cost is known."""

import pytest
import torch

from precond import make_preconditioner
from precond.analysis.device_work import device_work, operations_of, summed

MATRIX = torch.eye(6, dtype=torch.float64)
VECTOR = torch.ones(100, dtype=torch.float64)


@pytest.mark.parametrize(
    ("work", "launches", "held", "flops"),
    [
        (lambda: VECTOR.view(10, 10).mT, 0, 0, 0),
        (lambda: torch.empty(100), 0, 0, 0),
        (lambda: VECTOR + VECTOR, 1, 2 * 800, 100),  # it reads one tensor
        (lambda: torch.add(VECTOR, VECTOR.clone(), out=VECTOR.clone()), 3, 2 * 1600 + 3 * 800, 300),
        (lambda: VECTOR.clone().mul_(2.0), 2, 1600 + 800, 200),
        (lambda: VECTOR[:1].expand(50).clone(), 1, 8 + 400, 50),
        (lambda: VECTOR.view(4, 25) @ VECTOR.view(25, 4), 1, 800 + 128, 2 * 4 * 4 * 25),
        (lambda: torch.linalg.cholesky_ex(MATRIX), 1, 2 * 288 + 4, 6**3 / 3),
    ],
    ids=["view", "room", "sum", "out", "in place", "expanded", "product", "factor"],
)
def test_known_operations(work, launches, held, flops):
    found = summed(operations_of(work))
    assert found.launches == launches
    assert (found.bytes, found.flops) == (held, flops)


def test_small_operations_in_a_row_may_be_one_launch():
    small, large = torch.ones(10), torch.ones(1000)

    def work():
        small.add_(1.0).mul_(2.0)
        large.add_(1.0)
        small.add_(1.0).mul_(2.0)

    operations = operations_of(work)
    assert summed(operations).launches == 5
    assert summed(operations, fused_bytes=100).launches == 3
    assert summed(operations, fused_bytes=100_000).launches == 1
    assert summed(operations).seconds(1.0, 1e30, 1.0, 1e30) == pytest.approx(5.0)
    assert summed(operations, fused_bytes=100).seconds(0.0, 1e30, 1.0, 1e30) == pytest.approx(4 * 40)


@pytest.mark.usefixtures("torch_forms")
@pytest.mark.parametrize(("name", "launches"), [("jacobi", 5), ("coarse-monomial", 9), ("neural-spai", 17)])
def test_an_iteration_moves_what_its_vectors_hold(make_case, name, launches):
    case = make_case((32, 32), 100.0, False)
    options = {"on_device": True} if name == "coarse-monomial" else {}
    preconditioner = make_preconditioner(name, case.operator, **options)
    preconditioner.setup()
    parts = device_work(preconditioner, case.vectors(1)[0])
    work = summed(parts["iteration"])
    assert work.launches == launches
    assert bool(parts["inference"]) == (name == "neural-spai")
    if name == "jacobi":  # dots, direction, product and update: 4, 3, 5 and 5 vectors; three of M
        assert work.bytes / (8 * 1024) == pytest.approx(4 + 3 + 5 + 5 + 3, rel=0.05)
