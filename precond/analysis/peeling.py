"""The low-rank tiles of a symmetric matrix known by its products alone, peeled off coarsest first.

Products with random vectors on the column strips of one size show the column spaces of the tiles of that
size, once the coarser tiles are taken off; products with those spaces' bases give the tiles. After Lin, Lu,
Ying, J. Comput. Phys. 230 (2011), and Martinsson, SIAM J. Sci. Comput. 38 (2016). K leaves of r columns would
take K r products by unit vectors, and take about 2 ``samples`` log2(K) this way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def peel(
    multiply: Callable[[Tensor], Tensor],
    count: int,
    rank: int,
    samples: int = 64,
    device: torch.device | str = "cpu",
) -> tuple[list[Tensor], Tensor]:
    """Singular values of the tiles of a symmetric (K r, K r) matrix over ``count`` = K leaves, and its
    diagonal blocks (K, r, r), float64.

    ``multiply`` takes (K r, m) float64 to the matrix times it. The tiles come in the order of
    precond.partition.tiles, size by size: (T, s) for the T tiles of S leaves, falling, s = min(``samples``, S
    r). They are exact but for what coarser tiles hold beyond their first ``samples`` singular values.
    """
    length = count * rank
    padded = 1 << max(count - 1, 0).bit_length()
    generator = torch.Generator(device).manual_seed(0)
    coarser: list[tuple[Tensor, Tensor]] = []  # (T, S r, s) each: a tile is left @ right^T

    def remaining(x: Tensor) -> Tensor:
        """The matrix without the coarser tiles times ``x`` (P r, m)."""
        y = torch.zeros_like(x)
        y[:length] = multiply(x[:length])
        for left, right in coarser:
            strips = x.view(len(left), 2, -1, x.shape[1])  # (T, 2, S r, m): rows, columns
            taken = y.view_as(strips)
            taken[:, 0] -= left @ (right.mT @ strips[:, 1])
            taken[:, 1] -= right @ (left.mT @ strips[:, 0])
        return y

    found = []
    size = padded // 2
    while size:
        shape = (padded // (2 * size), size * rank, min(samples, size * rank))
        probes = torch.zeros(shape[0], 2, *shape[1:], dtype=torch.float64, device=device)
        probes[:, 1] = torch.randn(shape, generator=generator, dtype=torch.float64, device=device)
        seen = remaining(probes.view(-1, shape[2])).view_as(probes)[:, 0]
        left = torch.linalg.qr(seen).Q  # (T, S r, s)
        probes[:, 0], probes[:, 1] = left, 0.0
        right = remaining(probes.view(-1, shape[2])).view_as(probes)[:, 1]  # the tile's transpose times left
        existing = -(-(count - size) // (2 * size))  # the others lie in the padding
        found.append(torch.linalg.svdvals(right[:existing]))
        coarser.append((left, right))
        size //= 2
    units = torch.eye(rank, dtype=torch.float64, device=device).repeat(padded, 1)  # (P r, r)
    return found[::-1], remaining(units).view(padded, rank, rank)[:count]
