"""The learned method of arXiv 2510.27517: a sparse approximate inverse whose factor a graph network predicts.

On the system scaled to a unit diagonal, S = D^-1/2 A D^-1/2,

    M = D^-1/2 (G G^T + eps I) D^-1/2,    G on A's five-point pattern,

so M is symmetric positive definite whatever the network says and scales as A^-1 does. S follows from the
shares w_ij / A_ii alone; they are all that the network sees, so it is blind to the density's unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from precond.learned import MODELS
from precond.learned.weights import load_model
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner, Stage

DEFAULT_MODEL = MODELS / "neural-spai.safetensors"

FEATURES = 3  # of a cell, and of a face


@dataclass(frozen=True)
class SpaiConfig:
    """Sizes of the network and eps, the published one."""

    width: int = 24
    layers: int = 3
    epsilon: float = 3e-3

    def __post_init__(self) -> None:
        for name in ("width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a whole number from 1")
        if not self.epsilon > 0.0:
            raise ValueError(f"epsilon: {self.epsilon} is not a number above 0")


class Faces:
    """What the network sees: the grid's faces as a graph, four from each of N cells, order -x, +x, -y, +y.

    The flat neighbour of cell k through face f is k + steps[f], wrapped around: where there is none, or it is
    solid, the face is closed and all its numbers are zero. Static buffers; `update` makes no host sync.

    shares: (4, N) float32, w_ij / A_ii. couplings: (4, N) float32, -S_ij, the geometric mean of the shares
    from both sides. open: (4, N, 1) float32, one or zero. coupled: (N,) float32, one where A_ii > 0. scale:
    (N,) float64, A_ii^-1/2, zero elsewhere.
    """

    def __init__(self, operator: PoissonOperator):
        self.operator = operator
        ny, n = operator.shape[1], operator.density.numel()
        self.steps = (-ny, ny, -1, 1)
        zeros = partial(torch.zeros, dtype=torch.float32, device=operator.device)
        self.shares, self.couplings, self.open = zeros(4, n), zeros(4, n), zeros(4, n, 1)
        self.coupled, self.scale = zeros(n), zeros(n, dtype=torch.float64)
        self.update()

    def update(self) -> None:
        """Follow the operator's present coefficients and solids, in place."""
        x, y = self.operator.face_weights_x, self.operator.face_weights_y
        weights = torch.stack([x[:-1], x[1:], y[:, :-1], y[:, 1:]])
        if self.operator.openings is not None:
            for border in (weights[0, 0], weights[1, -1], weights[2, :, 0], weights[3, :, -1]):
                border.zero_()  # nothing is beyond an opening
        weights = weights.flatten(1)  # (4, N)
        diagonal = self.operator.diagonal().view(-1)
        coupled = diagonal > 0.0
        self.coupled.copy_(coupled)
        self.scale.copy_(torch.where(coupled, diagonal.rsqrt(), diagonal))  # NaN stays, and is named by PCG
        is_open = weights > 0.0
        self.open.copy_(is_open[..., None])
        self.shares.copy_(torch.where(is_open, weights / diagonal, 0.0))
        scaled = self.scale * self.across(self.scale.expand(4, -1))
        self.couplings.copy_(weights * scaled)

    def across(self, values: Tensor) -> Tensor:
        """``values`` (4, N) of the cells beyond each face."""
        return torch.stack([v.roll(-step, 0) for v, step in zip(values, self.steps, strict=True)])

    def reversed(self, values: Tensor) -> Tensor:
        """``values`` (4, N) of the same faces seen from the other side: the transpose of a matrix on them."""
        return self.across(values.unflatten(0, (2, 2)).flip(1).flatten(0, 1))

    def times(self, diagonal: Tensor, entries: Tensor, rows: Tensor) -> Tensor:
        """The five-point matrix of ``diagonal`` (N,) and ``entries`` (4, N) times each of ``rows`` (m, N)."""
        beyond = zip(entries, self.steps, strict=True)
        return diagonal * rows + sum(entry * rows.roll(-step, 1) for entry, step in beyond)

    def times_m(self, diagonal: Tensor, entries: Tensor, epsilon: float, rows: Tensor) -> Tensor:
        """G G^T + eps I of G's ``diagonal`` and ``entries`` times each of ``rows`` (m, N)."""
        inner = self.times(diagonal, self.reversed(entries), rows)
        return self.times(diagonal, entries, inner) + epsilon * rows


def mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Two layers."""
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, outputs))


class FaceNetwork(nn.Module):
    """Two layers on a face's own numbers, its cell's and those of the cell beyond, concatenated.

    The first layer is split: what cells share is multiplied once per cell, not once per face.
    """

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.face, self.out = nn.Linear(width, width), nn.Linear(width, outputs)
        self.own, self.beyond = (nn.Linear(width, width, bias=False) for _ in range(2))

    def forward(self, h: Tensor, e: Tensor, faces: Faces) -> Tensor:
        """``h`` (N, d) of the cells and ``e`` (4, N, d) of the faces to (4, N, outputs)."""
        own, beyond = self.own(h), self.beyond(h)  # (N, d)
        steps = zip(e, faces.steps, strict=True)  # one face at a time: less for a CPU's cache to hold
        hidden = (self.face(face) + beyond.roll(-step, 0) + own for face, step in steps)
        return torch.stack([self.out(F.gelu(part)) for part in hidden])


class Messages(nn.Module):
    """Along each face e += f(e, own, beyond), then in each cell h += g(h, sum of e over open faces)."""

    def __init__(self, width: int):
        super().__init__()
        self.face, self.cell = FaceNetwork(width, width), mlp(2 * width, width, width)

    def forward(self, h: Tensor, e: Tensor, faces: Faces) -> tuple[Tensor, Tensor]:
        """``h`` (N, d) of the cells and ``e`` (4, N, d) of the faces."""
        e = e + self.face(h, e, faces)
        arrived = (e * faces.open).sum(dim=0)  # (N, d)
        return h + self.cell(torch.cat([h, arrived], dim=-1)), e


class SpaiNetwork(nn.Module):
    """Shares in, G out; no layer knows directions, so turned and mirrored flows get turned and mirrored G.

    It starts at G = I, which is Jacobi.
    """

    def __init__(self, config: SpaiConfig):
        super().__init__()
        self.config = config
        d = config.width
        self.node, self.edge = mlp(FEATURES, d, d), mlp(FEATURES, d, d)
        self.layers = nn.ModuleList(Messages(d) for _ in range(config.layers))
        self.diagonal, self.off_diagonal = mlp(d, d, 1), FaceNetwork(d, 1)
        for parameter in (*self.diagonal[2].parameters(), *self.off_diagonal.out.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, faces: Faces) -> tuple[Tensor, Tensor]:
        """G's diagonal (N,) and its entries on the faces (4, N), in the row of the cell they start from."""
        shares, couplings = faces.shares, faces.couplings
        edge = torch.stack([shares, faces.reversed(shares), couplings], dim=-1)  # (4, N, 3)
        node = [faces.coupled, shares.square().sum(dim=0), couplings.square().sum(dim=0)]
        h, e = self.node(torch.stack(node, dim=-1)), self.edge(edge)  # (N, d), (4, N, d)
        for layer in self.layers:
            h, e = layer(h, e, faces)
        return 1.0 + self.diagonal(h)[:, 0], self.off_diagonal(h, e, faces)[..., 0] * couplings


class NeuralSpai(Preconditioner):
    """Kept in float32. ``weights``: a file, by default DEFAULT_MODEL for every grid, or a network in
    memory. Raises ModelError for weights that are unusable.
    """

    name = "neural-spai"
    capturable = True

    def __init__(self, operator: PoissonOperator, weights: str | Path | SpaiNetwork | None = None):
        super().__init__(operator)
        if not isinstance(weights, SpaiNetwork):
            weights, _ = load_model(weights or DEFAULT_MODEL, self.build)
        self.network = weights.to(operator.device)
        self.features = Faces(operator)
        n = self.features.scale.numel()
        zeros = partial(torch.zeros, dtype=torch.float32, device=operator.device)
        self._own, self._shift, self._residual, self._middle, self._result = (zeros(n) for _ in range(5))
        self._rows, self._columns = zeros(4, n), zeros(4, n)
        self._by_columns = self._terms(self._columns, self._residual, self._middle)
        self._by_rows = self._terms(self._rows, self._middle, self._result)

    @staticmethod
    def build(card: dict[str, Any]) -> SpaiNetwork:
        """The untrained network of a model card."""
        return SpaiNetwork(SpaiConfig(**card["model"]))

    def _terms(self, entries: Tensor, x: Tensor, out: Tensor) -> list[tuple]:
        """What each face adds: views of ``out`` (N,), of ``entries`` (4, N), of ``x`` (N,) a step away."""
        terms = []
        for entry, step in zip(entries, self.features.steps, strict=True):
            here = slice(max(0, -step), -step if step > 0 else None)
            there = slice(max(0, step), step if step < 0 else None)
            terms.append((out[here], entry[here], x[there]))
        return terms

    def _stages(self) -> list[Stage]:
        return [("setup", self.features.update), ("inference", self._predict)]

    def _predict(self) -> None:
        faces = self.features
        with torch.inference_mode():
            diagonal, entries = self.network(faces)
        torch.mul(diagonal, faces.scale, out=self._own)
        torch.mul(entries, faces.scale, out=self._rows)  # D^-1/2 G
        self._columns.copy_(faces.reversed(self._rows))  # its transpose
        torch.mul(faces.scale, faces.scale, out=self._shift).mul_(self.network.config.epsilon)

    def _apply(self, residual: Tensor, out: Tensor) -> None:
        self._residual.copy_(residual.view(-1))
        torch.mul(self._own, self._residual, out=self._middle)
        for target, entry, neighbour in self._by_columns:
            target.addcmul_(entry, neighbour)
        torch.mul(self._own, self._middle, out=self._result)
        for target, entry, neighbour in self._by_rows:
            target.addcmul_(entry, neighbour)
        self._result.addcmul_(self._shift, self._residual)
        out.view(-1).copy_(self._result)
