"""What runs on a device."""

import pytest

from precond import available_preconditioners, make_preconditioner
from precond.host import compiled
from precond.problems import gallery


def capturable() -> list[str]:
    """The names that run on a device."""
    operator = gallery.benchmark_density(256, 0).operator()
    names = available_preconditioners()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "used", False)  # as there: two levels in place of a hierarchy
        found = [name for name in names if make_preconditioner(name, operator).capturable]
    return found + [f"{name}:coarse_level=true" for name in ("coarse-monomial", "coarse-learned")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a ``capturable_name`` runs for each of them."""
    if "capturable_name" in metafunc.fixturenames:
        metafunc.parametrize("capturable_name", capturable())
