"""Faces of the box at which the pressure is given: operator and methods against direct solves."""

import functools

import numpy as np
import pytest
import scipy.sparse
import torch

from precond import PCG, Outcome, PoissonOperator, make_preconditioner
from precond.host import compiled
from precond.krylov.cuda_cg import CudaCG
from precond.registry import available_preconditioners

SHAPE = (37, 30)
KINDS = ("none", "bar", "sealed")  # of solids
SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # left, right, bottom, top


def openings(*walls: int) -> tuple[np.ndarray, np.ndarray]:
    """All of these ``walls`` open, 0 to 3 as SIDES."""
    x, y = np.zeros((2, SHAPE[1]), dtype=bool), np.zeros((2, SHAPE[0]), dtype=bool)
    for wall in walls:
        (x, x, y, y)[wall][wall % 2] = True
    return x, y


def drops(contrast: float) -> np.ndarray:
    """Heavy drops, one at the top, one in a corner, in light fluid."""
    x, y = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    heavy = np.zeros(SHAPE, dtype=bool)
    for cx, cy, radius in ((12.0, 28.0, 6.0), (36.0, 1.0, 9.0), (22.0, 14.0, 5.0), (3.0, 20.0, 2.5)):
        heavy |= (x - cx) ** 2 + (y - cy) ** 2 < radius**2
    return np.where(heavy, contrast, 1.0)


def solids(kind: str) -> np.ndarray:
    """A bar and a plate at the top, ``sealed``: and a ring whose inside is closed; or none."""
    solid = np.zeros(SHAPE, dtype=bool)
    if kind != "none":
        solid[5:25, 8] = solid[28:31, 22:] = True
    if kind == "sealed":
        solid[8:18, 11:19] = True
        solid[10:16, 13:17] = False
    return solid


def assembled(
    density: np.ndarray, solid: np.ndarray, open_x: np.ndarray, open_y: np.ndarray, harmonic: bool
) -> scipy.sparse.csr_array:
    """A cell by cell, apart from the product's own code."""
    nx, ny = SHAPE
    matrix = scipy.sparse.lil_array((nx * ny, nx * ny))
    opened = open_x[0], open_x[1], open_y[0], open_y[1]
    for i in range(nx):
        for j in range(ny):
            for (di, dj), faces in zip(SIDES, opened, strict=True):
                a, b, k = i + di, j + dj, i * ny + j
                if solid[i, j]:
                    continue
                if not (0 <= a < nx and 0 <= b < ny):
                    matrix[k, k] += 2.0 / density[i, j] if faces[j if di else i] else 0.0
                elif not solid[a, b]:
                    rho = density[i, j], density[a, b]
                    weight = 0.5 / rho[0] + 0.5 / rho[1] if harmonic else 2.0 / sum(rho)
                    matrix[k, k] += weight
                    matrix[k, a * ny + b] -= weight
    return matrix.tocsr()


@functools.cache
def solution(kind: str, contrast: float) -> tuple[np.ndarray, np.ndarray]:
    """b, of mean zero inside the ring, and what solves for it directly, of mean zero there too."""
    solid = solids(kind)
    b = np.random.default_rng(1).standard_normal(SHAPE) * ~solid
    ring = np.zeros(SHAPE, dtype=bool)
    if kind == "sealed":
        ring[10:16, 13:17] = True
        b[ring] -= b[ring].mean()
    fluid = np.flatnonzero(~solid.ravel())
    matrix = assembled(drops(contrast), solid, *openings(3), harmonic=True)[fluid][:, fluid]
    free = ring.ravel()[fluid].astype(float)
    x = np.zeros(SHAPE)
    x.ravel()[fluid] = np.linalg.solve(matrix.toarray() + np.outer(free, free), b.ravel()[fluid])
    return b, x


@pytest.mark.parametrize("walls", [(3,), (0, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("face_density", ["harmonic", "arithmetic"])
@pytest.mark.parametrize("kind", KINDS)
def test_operator_is_the_one_assembled_cell_by_cell(walls, face_density, kind, monkeypatch):
    density, solid = drops(1e4), solids(kind)
    wanted = assembled(density, solid, *openings(*walls), face_density == "harmonic")
    p = np.random.default_rng(0).standard_normal(SHAPE) * ~solid
    for used in (True, False):
        monkeypatch.setattr(compiled, "used", used)
        operator = PoissonOperator.from_density(
            np.ones(SHAPE), solid, face_density=face_density, openings=openings(*walls)
        )
        operator.update(density)
        assert abs(operator.to_csr() - wanted).max() < 1e-12
        image = operator.matvec(torch.from_numpy(p)).numpy()
        assert image.ravel() == pytest.approx(wanted @ p.ravel(), abs=1e-12)
        assert operator.nullity == (kind == "sealed")


def below_an_open_top(kind: str, contrast: float) -> PoissonOperator:
    """Drops and solids below an open top."""
    return PoissonOperator.from_density(drops(contrast), solids(kind), openings=openings(3))


def check(name: str, kind: str, contrast: float, loop: type | None = None) -> None:
    """``name`` solves below an open top as a direct solve does, in ``loop`` unless PCG is to choose."""
    operator, (b, wanted) = below_an_open_top(kind, contrast), solution(kind, contrast)
    preconditioner = make_preconditioner(name, operator)
    preconditioner.setup()
    if loop is None:
        report = PCG(operator, preconditioner, rtol=1e-10, max_iterations=8000).solve(b)
        converged, x = report.converged, report.x.numpy()
    else:
        cg = loop(operator, preconditioner, 8000)
        outcome, _, _, scale = cg.run(torch.from_numpy(b), None, 1e-10, 8000)
        converged, x = outcome is Outcome.CONVERGED, scale * cg.x.numpy()
    assert converged
    assert np.abs(x - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", available_preconditioners())
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_solves_below_an_open_top(name, kind):
    check(name, kind, 1e4)


@pytest.mark.parametrize("name", ["jacobi", "multigrid", "coarse-iterated", "coarse-learned", "hmatrix"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("torch_forms")
def test_forms_for_a_device_do_as_well(name, kind):
    check(name, kind, 1e4, CudaCG)


@pytest.mark.parametrize(
    "name", ["multigrid", "coarse-iterated", "coarse-learned", "hmatrix", "block-jacobi"]
)
def test_update_follows_what_flows_through_an_opening(name):
    operator, (b, _) = below_an_open_top("bar", 1e2), solution("bar", 1e2)
    updated, anew = make_preconditioner(name, operator), make_preconditioner(name, operator)
    updated.setup()
    density = drops(1e2)
    density[14:24, 27:] = 1e2
    operator.update(density)
    updated.update()
    anew.setup()
    counts = [PCG(operator, m, rtol=1e-10, max_iterations=200).solve(b).iterations for m in (updated, anew)]
    assert counts[0] <= counts[1] + 2


def test_an_opening_that_a_solid_covers_is_none():
    solid = np.zeros(SHAPE, dtype=bool)
    solid[:, -1] = True
    operator = PoissonOperator.from_density(drops(10.0), solid, openings=openings(3))
    closed = PoissonOperator.from_density(drops(10.0), solid)
    assert operator.nullity == 1
    assert abs(operator.to_csr() - closed.to_csr()).max() == 0.0


def test_openings_of_another_shape_are_refused():
    x, y = openings(3)
    with pytest.raises(ValueError, match="openings must have the shapes"):
        PoissonOperator.from_density(np.ones(SHAPE), openings=(y, x))


@pytest.mark.parametrize(
    "value", [3, "top", [[1, 2], [3]], [None, None], ([[True], [True, False]], 1), np.nan]
)
def test_openings_of_another_kind_are_refused(value):
    with pytest.raises(ValueError, match=r"openings must be two arrays of truth values, not [^\n]*$"):
        PoissonOperator.from_density(np.ones(SHAPE), openings=value)
    x, y = openings(3)
    with pytest.raises(ValueError, match="openings must hold truth values"):
        PoissonOperator.from_density(np.ones(SHAPE), openings=(x, np.where(y, np.nan, 0.0)))
