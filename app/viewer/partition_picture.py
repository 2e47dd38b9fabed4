"""From a partition and a leaf's basis to pixels and words; nothing here knows the toolkit."""

from __future__ import annotations

import math

import numpy as np

from app.picture import SOLID_COLOUR, Scale, colour_table, nice_ceiling
from precond.analysis.inspection import RANK_TOLERANCE, Inspection, LeafBasis
from precond.partition.tiles import tile_of

QUANTITIES = {"norm": "inferno", "rank": "viridis"}  # what colours a tile, and in which colours
DENSE_COLOUR = (104, 112, 130)  # a leaf on the diagonal, which has no rank to show
SIGNED_COLOURS = "coolwarm"
EDGE_PIXELS = 6.0  # tiles of fewer pixels have no edge drawn
EDGE_SHADE = 0.45


def tile_scale(inspection: Inspection, quantity: str) -> Scale:
    """The range of the colours of all tiles, for the norm of the leaves too."""
    if quantity == "rank":
        return Scale(0.0, float(inspection.ranks.max(initial=1)), whole=True)
    norms = np.concatenate([inspection.norms, inspection.leaf_norms])
    norms = norms[norms > 0.0]
    if norms.size == 0:
        return Scale(0.1, 1.0, logarithmic=True)
    least = float(norms.min())
    power = 10.0 ** math.floor(math.log10(least))
    low = max(power * step for step in (1.0, 2.0, 5.0) if power * step <= 1.000001 * least)
    high = nice_ceiling(float(norms.max()))
    return Scale(low, high if high > low else 10.0 * low, logarithmic=True)


def partition_pixels(inspection: Inspection, quantity: str, side: int) -> np.ndarray:
    """The K x K matrix of leaves as a (side, side, 4) uint8 image, row 0 on top, every tile in its colour."""
    count = len(inspection.leaf_norms)
    leaf = np.arange(side) * count // side  # of each pixel
    rows, columns = leaf[:, None], leaf[None, :]
    tile = tile_of(count, *np.broadcast_arrays(rows, columns))  # (side, side), -1 on the diagonal
    scale, table = tile_scale(inspection, quantity), colour_table(QUANTITIES[quantity])
    of_tile = inspection.ranks if quantity == "rank" else inspection.norms
    levels = np.append(scale.levels(of_tile), 0)[tile]
    levels = np.where(tile < 0, scale.levels(inspection.leaf_norms)[leaf], levels)
    pixels = table[levels].view(np.uint8).reshape(side, side, 4)
    if quantity == "rank":
        pixels[tile < 0, :3] = DENSE_COLOUR
    size = np.append(inspection.tiles[:, 2], 1)[tile]
    edge = np.zeros(tile.shape, dtype=bool)
    for width in np.unique(size[size * side >= EDGE_PIXELS * count]):
        begins = np.append(True, np.diff(leaf // width) > 0)
        edge |= (size == width) & (begins[:, None] | begins[None, :])
    pixels[edge, :3] = (EDGE_SHADE * pixels[edge, :3]).astype(np.uint8)
    return pixels


def describe(inspection: Inspection, row: int, column: int) -> str:
    """In words, the tile that holds the pair of leaves (row, column), or the leaf on the diagonal."""
    count, length = len(inspection.leaf_norms), inspection.leaf_size
    tile = inspection.tile_at(row, column)
    if tile < 0:
        norm = inspection.leaf_norms[row]
        return f"leaf {row}, dense\n{length} x {length} cells\nFrobenius norm {norm:.4g}"
    top, left, height = inspection.tiles[tile].tolist()
    width, transposed = min(height, count - left), ""
    if row > column:
        top, height, left, width, transposed = left, width, top, height, ", transposed"
    return (
        f"tile {tile + 1} of {count - 1}{transposed}\n"
        f"rows: leaves {top} to {top + height - 1}\n"
        f"columns: leaves {left} to {left + width - 1}\n"
        f"{height} x {width} leaves, {height * length} x {width * length} cells\n"
        f"rank {inspection.ranks[tile]} (singular values above {RANK_TOLERANCE:g} of the largest)\n"
        f"Frobenius norm {inspection.norms[tile]:.4g}"
    )


def placed(cells: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """``values`` (n, c) of flat ``cells`` in the box around them: (c, height, width), elsewhere NaN."""
    i, j = np.divmod(cells, shape[1])
    images = np.full((values.shape[1], np.ptp(j) + 1, np.ptp(i) + 1), np.nan, dtype=np.float32)
    images[:, j.max() - j, i - i.min()] = values.T
    return images


def basis_scale(basis: LeafBasis) -> Scale:
    """From minus the largest absolute entry to this."""
    reach = float(np.abs(basis.columns).max(initial=0.0))
    reach = reach if np.isfinite(reach) and reach > 0.0 else 1.0
    return Scale(-reach, reach)


def basis_pixels(basis: LeafBasis, solid: np.ndarray) -> np.ndarray:
    """The columns in diverging colours, (c, height, width, 4) uint8, a pixel to a cell.

    ``solid`` (nx, ny) bool is drawn as in the field; transparent outside the leaf.
    """
    images = np.nan_to_num(placed(basis.cells, basis.columns, solid.shape))
    pixels = colour_table(SIGNED_COLOURS)[basis_scale(basis).levels(images)]
    pixels = pixels[..., None].view(np.uint8)  # (c, height, width, 4)
    walls = placed(basis.cells, solid.reshape(-1, 1)[basis.cells], solid.shape)[0]  # 1, 0 or NaN
    pixels[:, walls == 1.0, :3] = SOLID_COLOUR
    pixels[:, np.isnan(walls)] = 0
    return pixels


def outline(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The border of a set of flat cells, as `borders` has it."""
    inside = np.zeros((shape[0] + 2, shape[1] + 2), dtype=bool)
    i, j = np.divmod(cells, shape[1])
    inside[i + 1, j + 1] = True
    return borders(inside) - 1


def borders(labels: np.ndarray) -> np.ndarray:
    """Where ``labels`` (nx, ny) of neighbouring cells differ: (n, 4) int64, straight segments from (x, y) to
    (x, y), in cells, as long as can be.
    """
    upright = _runs(labels[1:] != labels[:-1])  # (line, first, end): x - 1 and two y
    level = _runs((labels[:, 1:] != labels[:, :-1]).T)
    x, y = upright[:, 0] + 1, level[:, 0] + 1
    return np.concatenate(
        [
            np.stack([x, upright[:, 1], x, upright[:, 2]], axis=1),
            np.stack([level[:, 1], y, level[:, 2], y], axis=1),
        ]
    )


def _runs(marked: np.ndarray) -> np.ndarray:
    """The runs of True in every row of a matrix, (n, 3) int64: row, first column, column after the last."""
    edges = np.diff(np.pad(marked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, first = np.nonzero(edges == 1)
    return np.stack([rows, first, np.nonzero(edges == -1)[1]], axis=1)
