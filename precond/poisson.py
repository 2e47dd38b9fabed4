"""The variable-density Poisson operator A = -div(w grad) on a box, five-point finite volumes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.sparse
import torch
from torch import Tensor

from precond.errors import in_one_line
from precond.host import grid
from precond.host.compiled import available

SMALLEST_SIDE = 8
_VERSIONS = itertools.count(1)
FACE_DENSITIES = ("harmonic", "arithmetic")
Openings = tuple[Any, Any]  # of the left and right walls (2, ny) and of the bottom and top ones (2, nx), bool
Device = torch.device | str


def as_grid(
    value: Any, name: str, shape: tuple[int, int] | None = None, device: Device | None = None
) -> Tensor:
    """``value``, a tensor or whatever numpy can make an array of, as a (nx, ny) float64 tensor without
    gradient, on ``device`` unless None. Raises ValueError for what is no grid of real numbers, or not of
    ``shape``.
    """
    if isinstance(value, Tensor):
        tensor = value.detach()
        if tensor.is_complex():
            raise ValueError(f"{name} must hold real numbers, not {tensor.dtype}")
        if tensor.layout != torch.strided:
            raise ValueError(f"{name} must be a dense array, not a tensor of layout {tensor.layout}")
        if tensor.device.type == "meta":
            raise ValueError(f"{name} must hold numbers; a tensor on the device meta has none")
    else:
        try:
            array = np.asarray(value)
            if array.dtype.kind not in "buif":
                raise TypeError
            tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be a 2-D array of real numbers, not {_said(value)}") from None
    if tensor.ndim != 2:
        raise ValueError(f"{name} must be a 2-D (nx, ny) array, not one of {tensor.ndim} dimensions")
    if shape is not None and tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have the shape {shape} of the density, not {tuple(tensor.shape)}")
    return tensor.to(device=device, dtype=torch.float64)


def _said(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _validated(density: Any) -> Tensor:
    """``density`` as float64. Raises ValueError unless 2-D, 8 x 8 or more, finite and positive."""
    density = as_grid(density, "density")
    if min(density.shape) < SMALLEST_SIDE:
        raise ValueError(
            f"density must have at least {SMALLEST_SIDE} cells along x and y, not {tuple(density.shape)}"
        )
    if not bool(torch.isfinite(density).all()):
        raise ValueError("density must be finite everywhere; it has NaN or infinite cells")
    if not bool((density > 0).all()):
        raise ValueError(
            f"density must be positive everywhere; its smallest value is {float(density.min()):g}"
        )
    return density


def _openings(openings: Openings, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Copies of both arrays, bool. Raises ValueError for what is not two arrays of the right shapes."""
    wanted = (2, shape[1]), (2, shape[0])
    try:
        grids = [as_grid(array, "openings", device="cpu") for array in openings]
    except (TypeError, ValueError):
        raise ValueError(f"openings must be two arrays of truth values, not {_said(openings)}") from None
    if tuple(tuple(grid.shape) for grid in grids) != wanted:
        raise ValueError(f"openings must have the shapes {wanted[0]} and {wanted[1]}")
    return tuple(_truth(grid, "openings").numpy() for grid in grids)


def _truth(grid: Tensor, name: str) -> Tensor:
    """Where ``grid`` is not zero. Raises ValueError for NaN and infinity."""
    if not bool(torch.isfinite(grid).all()):
        raise ValueError(f"{name} must hold truth values; there is NaN or infinity")
    return grid.bool()


def _device(device: Device) -> torch.device:
    """``device`` as torch names it. Raises ValueError for one that cannot be computed on here."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found).cpu()
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = in_one_line(error).partition(". ")[0]
        raise ValueError(f"device must be one that torch can use here, not {device!r}: {reason}") from None
    return found


class NotCopied:
    """What works on buffers that others hold views of: a copy, or what a pickle brings back, would share some
    of them and not others. Both raise TypeError.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refused; pickle, `copy.copy` and `copy.deepcopy` ask it."""
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: make another one")


class PoissonOperator(NotCopied):
    """A = -div(w grad) with zero flux through walls and solids; unit spacing, positive semidefinite.

    Faces of the box named by ``openings`` are no walls: there the solution is given, half a spacing from the
    centre of the cell, whose density is the face's. Their weights 2 / rho stand where those of walls are
    zero, so that a row's four weights add up to its diagonal, and are coupled to nothing. A given value other
    than zero goes into the right-hand side, times the weight.

    The weight of a face between fluid cells i and j is one over a mean of their densities: by default the
    harmonic one, (rho_i + rho_j) / (2 rho_i rho_j), as in arXiv 2605.13343; with ``face_density``
    "arithmetic", 2 / (rho_i + rho_j), for which the projection is orthogonal in the kinetic energy of a
    momentum-conserving scheme. The null space is spanned by the indicator of every connected fluid component
    without an opening, a sealed one, and of every solid cell. All tensors are float64, allocated once and
    updated in place; `update`, `matvec` and `project` make no host sync.

    Attributes:
        shape: (nx, ny), x first. device: where every tensor lives. density: (nx, ny), the last density given.
        solid: (nx, ny) bool. fluid: (nx, ny), 1 on fluid cells, else 0. face_weights_x: (nx + 1, ny),
        face_weights_y: (nx, ny + 1), zero at walls and next to solids. anchors: (components,) int64, the flat
        index i * ny + j of one cell of every fluid component. component_sizes: cells in each of them. sealed:
        (components,) bool (numpy), and nullity, how many are. labels: (nx, ny) int64, component of each cell,
        -1 in solids (numpy). openings: (2, ny) and (2, nx) bool (numpy), or None for a closed box. products:
        with A so far, but for those that a device made by itself.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        device: Device = "cpu",
        face_density: str = "harmonic",
        openings: Openings | None = None,
    ):
        """An operator without coefficients; `from_density` is the public way in."""
        if face_density not in FACE_DENSITIES:
            raise ValueError(f"face_density must be one of {', '.join(FACE_DENSITIES)}, not '{face_density}'")
        self.face_density = face_density
        nx, ny = shape
        self.shape = (nx, ny)
        self.device = _device(device)
        self.density = self._zeros(nx, ny)
        self.solid = torch.zeros(nx, ny, dtype=torch.bool, device=self.device)
        self.face_weights_x = self._zeros(nx + 1, ny)
        self.face_weights_y = self._zeros(nx, ny + 1)
        self._diagonal, self.fluid = self._zeros(nx, ny), self._zeros(nx, ny)
        self.openings = None if openings is None else _openings(openings, self.shape)
        self._border = []  # of each wall: face weights, densities, 2 on open faces of fluid cells
        if self.openings is not None:
            wx, wy, rho = self.face_weights_x, self.face_weights_y, self.density
            sides = (wx[0], rho[0]), (wx[-1], rho[-1]), (wy[:, 0], rho[:, 0]), (wy[:, -1], rho[:, -1])
            self._border = [(*side, torch.zeros_like(side[1])) for side in sides]
        self._weights_next = self._zeros(nx, ny)  # face_weights_y[:, 1:], contiguous: zero where a row ends
        self._component = torch.zeros(nx * ny, dtype=torch.int64, device=self.device)
        self._component_sum = self._zeros(nx * ny + 1)
        self._component_weight = self._zeros(nx * ny + 1)  # 1 / cells of the component; 0 for solids
        self._cell_mean = self._zeros(nx * ny)
        self.geometry_version = 0  # of the present solids and of nothing else
        self.version = 0  # of the present coefficients and solids
        self.products = 0
        self._compiled = self.device.type == "cpu" and available()
        if not self._compiled:
            self._half = self._zeros(nx, ny)  # each cell's half of its faces' mean
            self._open_x, self._open_y = self._zeros(nx - 1, ny), self._zeros(nx, ny - 1)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    @classmethod
    def from_density(
        cls,
        density: Any,
        solid: Any = None,
        device: Device | None = None,
        face_density: str = "harmonic",
        openings: Openings | None = None,
    ) -> PoissonOperator:
        """The operator of ``density`` (nx, ny) > 0, any unit, with ``solid`` (nx, ny) bool cells closed off.

        All are copied. ``face_density`` is one of FACE_DENSITIES; ``openings`` are the faces of the left and
        right walls (2, ny) and of the bottom and top ones (2, nx) that are open, bool. Raises ValueError when
        density is not 2-D, smaller than 8 x 8, not finite or not positive, when the shapes differ, and for a
        device that torch cannot use here.
        """
        if device is None:
            device = density.device if isinstance(density, Tensor) else "cpu"
        density = _validated(density)
        operator = cls(tuple(density.shape), device, face_density, openings)
        operator.density.copy_(density)
        operator.set_solid(torch.zeros(operator.shape, dtype=torch.bool) if solid is None else solid)
        return operator

    def set_solid(self, solid: Any) -> None:
        """Close the cells of ``solid`` (nx, ny) bool, open all others; nothing where they are closed already.
        Labels components on the host: not for captured code.

        Raises ValueError when the shape is not the operator's, or for NaN and infinity.
        """
        solid = _truth(as_grid(solid, "solid", self.shape), "solid")
        if self.geometry_version and torch.equal(solid.to(self.device), self.solid):
            return
        self.solid.copy_(solid)
        fluid = ~solid.cpu().numpy()
        labels, count = scipy.ndimage.label(fluid)
        labels = labels.astype(np.int64)
        self.labels = labels - 1
        _, first, sizes = np.unique(labels, return_index=True, return_counts=True)
        has_solid = int(not fluid.all())
        self.component_sizes = sizes[has_solid:]
        self.anchors = torch.from_numpy(first[has_solid:].copy()).to(self.device)
        self.components = int(count)
        self._notice_openings(fluid)
        self.has_solid = bool(has_solid)
        self.geometry_version = next(_VERSIONS)
        weight = np.zeros(self._component_weight.numel())
        weight[1 : count + 1] = self.sealed / self.component_sizes
        self._component.copy_(torch.from_numpy(labels.ravel()))
        self._component_weight.copy_(torch.from_numpy(weight))
        self.fluid.copy_(torch.from_numpy(fluid))
        if not self._compiled:
            self._open_x.copy_(self.fluid[1:] * self.fluid[:-1])
            self._open_y.copy_(self.fluid[:, 1:] * self.fluid[:, :-1])
        self.update(self.density)

    def _notice_openings(self, fluid: np.ndarray) -> None:
        """Find which components are sealed, and the open faces of cells that are ``fluid`` (nx, ny) bool."""
        self.sealed = np.ones(self.components, dtype=bool)
        if self.openings is not None:
            (left, right), (bottom, top) = self.openings
            opened = np.zeros(self.shape, dtype=bool)
            sides = opened[0], opened[-1], opened[:, 0], opened[:, -1]
            cells = fluid[0], fluid[-1], fluid[:, 0], fluid[:, -1]
            walls = zip(sides, cells, (left, right, bottom, top), self._border, strict=True)
            for side, inside, open_faces, (*_, factor) in walls:
                side |= inside & open_faces
                factor.copy_(torch.from_numpy(2.0 * (inside & open_faces)))
            self.sealed[self.labels[opened]] = False
        self.nullity = int(self.sealed.sum())

    def update(self, density: Any) -> None:
        """New coefficients from ``density`` (nx, ny), in place, without host sync; its values are not
        checked.

        Raises ValueError for another shape or kind.
        """
        self.density.copy_(as_grid(density, "density", self.shape))
        self.version = next(_VERSIONS)
        wx, wy = self.face_weights_x, self.face_weights_y
        for weights, density, factor in self._border:
            torch.div(factor, density, out=weights)
        if self._compiled:
            changed = wx.numpy(), wy.numpy(), self._weights_next.numpy(), self._diagonal.numpy()
            harmonic = self.face_density == "harmonic"
            grid.set_weights(self.density.numpy(), self.fluid.numpy(), harmonic, *changed)
            return
        half = self._half
        if self.face_density == "harmonic":
            torch.reciprocal(self.density, out=half).mul_(0.5)
        else:
            torch.mul(self.density, 0.5, out=half)
        torch.add(half[1:], half[:-1], out=wx[1:-1])
        torch.add(half[:, 1:], half[:, :-1], out=wy[:, 1:-1])
        if self.face_density == "arithmetic":
            wx[1:-1].reciprocal_()
            wy[:, 1:-1].reciprocal_()
        if self.has_solid:
            wx[1:-1].mul_(self._open_x)
            wy[:, 1:-1].mul_(self._open_y)
        self._weights_next[:, :-1].copy_(wy[:, 1:-1])
        torch.add(wx[1:], wx[:-1], out=self._diagonal)
        self._diagonal.add_(wy[:, 1:]).add_(wy[:, :-1])

    def diagonal(self) -> Tensor:
        """The diagonal of A, (nx, ny), zero in solid and isolated cells. A live buffer: read only."""
        return self._diagonal

    def flat_face_weights(self) -> tuple[Tensor, Tensor]:
        """Live weights between flat cells k and k + ny, and k and k + 1 (zero where a row ends)."""
        return self.face_weights_x[1:-1].view(-1), self._weights_next.view(-1)[:-1]

    def check_shape(self, *fields: Tensor) -> None:
        """Raise ValueError unless all are (nx, ny)."""
        for field in fields:
            if tuple(field.shape) != self.shape:
                raise ValueError(f"vectors must have the shape {self.shape}, not {tuple(field.shape)}")

    def bind(self, p: Tensor, out: Tensor) -> Callable[[], Tensor]:
        """A function setting ``out`` = A ``p`` for these contiguous (nx, ny) buffers; views made once."""
        self.check_shape(p, out)
        if self._compiled:
            arrays = [tensor.numpy() for tensor in (p, self.face_weights_x, self.face_weights_y, out)]

            def compiled_product() -> Tensor:
                self.products += 1
                grid.multiply(*arrays)
                return out

            return compiled_product
        ny = self.shape[1]
        p, flat = p.view(-1), out.view(-1)
        diagonal = self._diagonal.view(-1)
        wx, wy = self.flat_face_weights()
        along_x = (flat[ny:], wx, p[:-ny]), (flat[:-ny], wx, p[ny:])
        along_y = (flat[1:], wy, p[:-1]), (flat[:-1], wy, p[1:])
        terms = (*along_x, *along_y)

        def product() -> Tensor:
            self.products += 1
            torch.mul(diagonal, p, out=flat)
            for target, weight, neighbour in terms:
                target.addcmul_(weight, neighbour, value=-1)
            return out

        return product

    def matvec(self, p: Tensor, out: Tensor | None = None) -> Tensor:
        """A p for ``p`` (nx, ny) float64, into contiguous ``out`` (not ``p`` itself) when given."""
        out = torch.empty(self.shape, dtype=torch.float64, device=self.device) if out is None else out
        return self.bind(p.contiguous(), out)()

    def border_weights(self) -> list[Tensor]:
        """Live face weights of the left, right, bottom and top walls where any face is open; else none."""
        return [weights for weights, *_ in self._border]

    def project(self, v: Tensor) -> Tensor:
        """Remove ``v``'s mean over each sealed component and zero its solids, in place; returns it."""
        self.check_shape(v)
        if self.nullity == 0:
            return v.mul_(self.fluid) if self.has_solid else v
        if self._compiled and self.components == 1 and v.is_contiguous():
            grid.project(v.numpy(), self.fluid.numpy(), float(self.component_sizes[0]))
            return v
        if not self.has_solid:
            return v.sub_(v.mean())
        v.mul_(self.fluid)
        if self.components == 1:
            return v.addcmul_(self.fluid, v.sum(), value=-1.0 / float(self.component_sizes[0]))
        self._component_sum.zero_().index_add_(0, self._component, v.reshape(-1))
        self._component_sum.mul_(self._component_weight)
        torch.index_select(self._component_sum, 0, self._component, out=self._cell_mean)
        return v.sub_(self._cell_mean.view(self.shape))

    def to_csr(self) -> scipy.sparse.csr_array:
        """A as (nx ny, nx ny) float64, cell (i, j) at i ny + j; zero rows for solid and isolated cells."""
        nx, ny = self.shape
        wx, wy = (weights.cpu().numpy() for weights in self.flat_face_weights())
        diagonal = self._diagonal.cpu().numpy().ravel()
        bands, offsets = [-wx, -wy, diagonal, -wy, -wx], [-ny, -1, 0, 1, ny]
        matrix = scipy.sparse.diags_array(bands, offsets=offsets, shape=(nx * ny, nx * ny), format="csr")
        matrix.eliminate_zeros()
        return matrix
