"""Training of the definite `hmatrix`: one network for all grids, on random systems and frames of scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from precond.config import Number, Whole
from precond.errors import UsageError
from precond.learned.far_field import product
from precond.learned.hmatrix import COUNTED_TWICE, Geometry, HMatrix, Parts, parts_of
from precond.learned.proposals import HMatrixConfig, ProposalNetwork, Proposals
from precond.poisson import PoissonOperator
from precond.preconditioner import Preconditioner
from precond.training.coarse_learned import RandomSystems
from precond.training.data import held_out, mixed_systems, unseen_families
from precond.training.loop import Count, Positive, Share, Task, Training
from precond.training.objectives import cosine_hutchinson, root_of, sai, smoothed, truncated


class HMatrixTraining(Training):
    """How to train; what to train is HMatrixConfig's.

    far-field and kaporin are `far_field_number` and `kaporin_number`, in closed form; the former sees no
    leaves and takes ``probes`` vectors for a trace. cosine and sai are the published objectives, with
    ``probes`` vectors. truncated leaves out the share ``left_out`` of the eigenvalues; it trains on systems
    of at most DENSE cells alone. All three are explained at precond.training.objectives.
    """

    steps: Count = 10000
    learning_rate: Positive = 3e-3  # falls as a cosine to a fiftieth of it
    warm_up: Count = 100  # steps
    small_until: Share = 0.2  # share of the steps before the systems above SMALL cells come
    objective: Literal["far-field", "kaporin", "truncated", "cosine", "sai"] = "far-field"
    probes: Count = 64
    left_out: Annotated[Number, Field(ge=0.0, lt=1.0)] = 0.05
    threads: Count = 1
    evaluate_every: Count = 1000
    save_every: Count = 500


SMALL = 2200  # cells
DENSE = 1100  # cells: a step takes all eigenvectors of a dense matrix


class HMatrixData(RandomSystems):
    """Random systems, some large ones, and frames of the simulator."""

    systems: Count = 200
    large_systems: Annotated[Whole, Field(ge=0)] = 6
    simulator_frames: Annotated[Whole, Field(ge=0)] = 48


class Vectors:
    """A of one system, and its M for given proposals, on vectors (m, N) float64 in the grid's order.

    N counts all cells, solids too, where vectors are zero; there is one fluid component. What the objectives
    of precond.training.objectives want; static.
    """

    def __init__(self, operator: PoissonOperator, geometry: Geometry):
        matrix = operator.to_csr().tocoo()
        places = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
        values = torch.from_numpy(matrix.data)
        self.matrix = torch.sparse_coo_tensor(places, values, matrix.shape, check_invariants=True).coalesce()
        self.geometry, vectors = geometry, geometry.leaves.vectors
        self.cells, self.position = vectors.cells, vectors.position  # (K, L), (N,)
        self.fluid = geometry.mask.view(-1)[self.position]  # (N,)
        self.diagonal = operator.diagonal().view(-1) * self.fluid

    @cached_property
    def root(self) -> Tensor:
        """R (n, N) with R^T R = A."""
        return root_of(self.matrix.to_dense())

    def apply_a(self, rows: Tensor) -> Tensor:
        """A times each of ``rows`` (m, N)."""
        return (self.matrix @ rows.mT).mT

    def project(self, rows: Tensor) -> Tensor:
        """``rows`` (m, N) less their means over the fluid."""
        rows = rows * self.fluid
        return rows - self.fluid * (rows.sum(dim=1, keepdim=True) / self.fluid.sum())

    def apply_m(self, proposed: Proposals, parts: Parts, rows: Tensor) -> Tensor:
        """M times each of ``rows`` (m, N), differentiable in the proposals."""
        tree, mask = self.geometry.tree, self.geometry.mask[..., None]
        columns = torch.cat([rows.mT, rows.new_zeros(1, len(rows))])[self.cells] * mask  # (K, L, m)
        if proposed.leaf is None:
            near = self.geometry.leaves.inverses.double() @ columns
        else:
            leaf = proposed.leaf.double()
            near = leaf @ (leaf.mT @ columns) + proposed.jacobi.double()[..., None] * columns
        strips = parts.basis.mT @ columns  # (K, r, m)
        far = parts.far.times(parts.far.transposed_times(tree.in_slots(strips)))[tree.slots]
        if proposed.leaf is None:
            far = far - COUNTED_TWICE * strips
        return ((near + parts.basis @ far) * mask).flatten(0, 1)[self.position].mT

    def loss(self, proposed: Proposals, parts: Parts, training: HMatrixTraining) -> Tensor:
        """The objective that ``training`` names, fresh probes."""
        apply_m = partial(self.apply_m, proposed, parts)
        if training.objective == "truncated":
            return truncated(apply_m, self.root, training.left_out)
        probes = self.fluid * torch.randn(training.probes, len(self.fluid), dtype=self.fluid.dtype)
        if training.objective == "sai":
            return sai(apply_m, self.apply_a, probes, self.project)
        probes = smoothed(probes, self.apply_a, self.diagonal, self.project)
        return cosine_hutchinson(apply_m, self.apply_a, probes, self.project)


class System:
    """One operator with all that a training step needs of it; static."""

    def __init__(self, operator: PoissonOperator, leaf_size: int, rank: int):
        self.operator = operator
        self.geometry = Geometry(operator, leaf_size, rank)
        self.geometry.update()
        self.geometry.leaves._setup()
        self.geometry.features.update()
        self.cells = int(self.geometry.mask.sum())

    @cached_property
    def vectors(self) -> Vectors:
        """For the objectives that apply M."""
        return Vectors(self.operator, self.geometry)

    def loss(self, network: ProposalNetwork, training: HMatrixTraining | None = None) -> Tensor:
        """Of the network's M, the objective of ``training`` or the Kaporin number."""
        proposed = network(self.geometry.features, self.geometry.tree)
        parts = parts_of(self.geometry, proposed, network.config.leaf_iterations)
        if training is None or training.objective == "kaporin":
            return kaporin_number(self.geometry, proposed, parts)
        if training.objective == "far-field":
            return far_field_number(self.geometry, parts, training.probes)
        return self.vectors.loss(proposed, parts, training)


@lru_cache(maxsize=1)
def random_systems(seed: int, count: int, large: int, leaf_size: int, rank: int) -> tuple[System, ...]:
    """The first ``count``, and ``large`` ones, made once for all runs of a study that have these leaves."""
    return tuple(System(operator, leaf_size, rank) for operator in mixed_systems(seed, count, large))


def far_field_number(geometry: Geometry, parts: Parts, probes: int) -> Tensor:
    """(m / K) log K(W^T A_c W), the Kaporin number of the coarse problem alone, m its rank, up to a constant.

    Of MA's eigenvalues the leaves decide most, and their sum hides the few small ones that cost iterations:
    here is only what the far field can change. log det W is the sum over its cores; with A_c's kernel c, log
    det' W^T A_c W = const + 2 log det W + log |W^-1 c|^2. The trace is over ``probes`` random signs, which
    misses little, W^T A_c W being near the identity. A system costs O(K r^2 probes), however large.
    """
    tree, (count, _, rank) = geometry.tree, parts.basis.shape
    signs = torch.randint(0, 2, (count, rank, probes), dtype=parts.basis.dtype) * 2.0 - 1.0
    work = parts.far.times(tree.in_slots(signs))
    image = work + product(tree, parts.couplings, slice(None), work)
    trace, log_det = (work * image).sum() / probes, 0.0
    kernel = tree.in_slots(parts.constant).view(-1)  # (P r,)
    for columns, core in zip(parts.far.columns, parts.far.cores, strict=True):
        mixing = core + torch.eye(core.shape[-1], dtype=core.dtype)  # K, upper triangular
        log_det = log_det + 2.0 * mixing.diagonal(dim1=1, dim2=2).log().sum()
        strips = kernel.view(len(columns), -1, 1)
        pooled = (columns.mT @ strips).view(len(core), -1, 1)
        mixed = torch.linalg.solve_triangular(mixing, pooled, upper=True) - pooled
        kernel = (strips + columns @ mixed.view(len(columns), -1, 1)).view(-1)  # F^-1
    log_det = log_det + (kernel.square().sum() / parts.constant.square().sum()).log()
    m = count * rank - 1
    return (m * (trace / m).log() - log_det) / count


def kaporin_number(geometry: Geometry, proposed: Proposals, parts: Parts) -> Tensor:
    """(n / K) log K(MA), K(MA) = (tr(MA) / n) / det(MA)^(1/n) on A's range, up to a constant, in closed form.

    With B = blockdiag(B_k), less t U U^T for exact leaves, and V = U W, tr(MA) = tr(BA) + tr(V^T A V) and
    log det M = log det B + log det(1 + V^T B^-1 V). On the n-dimensional range of A, for one fluid component,
    log det MA = const + log det M + log(1^T M^-1 1). All dense matrices are of K r numbers a side: N may be
    large.
    """
    leaves, tree, mask = geometry.leaves, geometry.tree, geometry.mask
    count, _, rank = parts.basis.shape
    identity = torch.eye(count * rank, dtype=mask.dtype).view(count, rank, -1)
    slots = parts.far.times(tree.in_slots(identity))
    work = slots[tree.slots]  # (K, r, K r): W
    own = parts.basis.mT @ (leaves.blocks @ parts.basis)  # (K, r, r)
    image = own @ work + product(tree, parts.couplings, slice(None), slots)[tree.slots]
    trace, cells = (work * image).sum(), mask.sum()
    if proposed.leaf is None:  # B = D^-1 - t U U^T
        shrunk = torch.eye(rank, dtype=own.dtype) - COUNTED_TWICE * own
        gram, log_det = torch.linalg.solve(shrunk, own), torch.logdet(shrunk).sum()  # U^T B^-1 U
        kernel = gram @ parts.constant[..., None]
        ones = (parts.constant * kernel[..., 0]).sum()
        near = cells - COUNTED_TWICE * own.diagonal(dim1=1, dim2=2).sum()
    else:
        leaf = proposed.leaf.double() * mask[..., None]
        jacobi = torch.where(mask > 0.0, proposed.jacobi.double(), 1.0)
        inverse = leaf @ leaf.mT + torch.diag_embed(jacobi)
        factor = torch.linalg.cholesky(inverse)
        solved = torch.cholesky_solve(torch.cat([parts.basis, mask[..., None]], dim=-1), factor)
        gram, kernel = parts.basis.mT @ solved[..., :-1], parts.basis.mT @ solved[..., -1:]
        ones = (solved[..., -1] * mask).sum()
        log_det = 2.0 * (factor.diagonal(dim1=1, dim2=2).log() * mask).sum()
        near = (inverse * leaves.blocks * mask[..., None] * mask[:, None]).sum()
    work = work.flatten(0, 1)  # (K r, K r)
    joint = identity.flatten(0, 1) + work.mT @ (gram @ work.view_as(identity)).flatten(0, 1)
    factor = torch.linalg.cholesky(joint)
    part = torch.linalg.solve_triangular(factor, work.mT @ kernel.view(-1, 1), upper=False)
    log_det = log_det + 2.0 * factor.diagonal().log().sum() + (ones - part.square().sum()).log()
    n = cells - 1.0
    return (n * ((near + trace) / n).log() - log_det) / count


class HMatrixTask(Task):
    """One network for all grids; ``simulator`` makes frames of a simulator from their number and a seed."""

    name = "hmatrix"
    sections: ClassVar[dict[str, type]] = {
        "model": HMatrixConfig,
        "training": HMatrixTraining,
        "data": HMatrixData,
    }
    network_kind = ProposalNetwork
    limit = 2000
    last_rate = 0.02
    keeps_best = False  # held_out shares problems with the benchmark
    simulator: Callable[[int, int], list[PoissonOperator]] | None = None

    def __init__(self, content: dict[str, Any], where: str = ""):
        super().__init__(content, where)
        torch.set_num_threads(self.training.threads)
        self.validation, self.tests = held_out(), unseen_families()

    def form(self, operator: PoissonOperator) -> Preconditioner:
        """The hierarchical matrix."""
        return HMatrix(operator, self.network)

    def systems(self) -> Sequence[System]:
        """In rising order of their cells; at most DENSE for the truncated objective."""
        data, config = self.settings["data"], self.network.config
        leaves = config.leaf_size, config.trunk.tile_tokens
        frames = self.simulator(data.simulator_frames, data.seed) if self.simulator else []
        systems = [*random_systems(data.seed, data.systems, data.large_systems, *leaves)]
        systems += [System(operator, *leaves) for operator in frames]
        systems.sort(key=lambda system: system.cells)
        if self.training.objective == "truncated":
            systems = [system for system in systems if system.cells <= DENSE]
            if not systems:
                raise UsageError(f"data: no system has at most {DENSE:,} cells, as truncated needs")
        self._small = sum(system.cells <= SMALL for system in systems)
        return systems

    def draw(self, step: int, count: int) -> Sequence[int]:
        """One."""
        small = step < self.training.small_until * self.training.steps and self._small
        return np.random.default_rng((self.training.seed, step)).integers(small or count, size=1)

    def loss(self, system: System, _step: int) -> Tensor:
        """The objective of the network's M for one system."""
        return system.loss(self.network, self.training)
