"""Pixels from the outlines of fluids and solids, each with the share of it that they cover."""

from __future__ import annotations

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray
OPAQUE = 255 << 24
FROM_X, FROM_Y = -0.45, 0.893  # where the light comes from, as in app.picture.light
BEVEL = 0.26  # how much solids brighten and darken at their edges
BEVEL_PIXELS = 5.0
WIDEST = 1.7  # half a line, in pixels
CRISP = 8.0  # one over the slope, per cell, below which faint droplets lose their glow


@compiled
def weights(at: float, count: int) -> tuple[int, float, float, float, float, float, float]:
    """The cell at a place, in cells, and of the quadratic spline over it and its neighbours the weights of
    their coefficients in its value and in its slope.
    """
    cell = min(max(int(at), 0), count - 1)
    u = at - cell - 0.5
    return cell, 0.5 * (0.5 - u) ** 2, 0.75 - u * u, 0.5 * (0.5 + u) ** 2, u - 0.5, -2.0 * u, 0.5 + u


@compiled
def mixed_rows(field: Array, j: int, below: float, same: float, above: float, out: Array) -> None:
    """One row of ``field`` between its rows j, j + 1 and j + 2."""
    first, second, third = field[j], field[j + 1], field[j + 2]
    for i in range(len(out)):
        out[i] = below * first[i] + same * second[i] + above * third[i]


@compiled
def word(red: float, green: float, blue: float) -> int:
    """Bytes R, G, B, 255."""
    return OPAQUE | int(blue + 0.5) << 16 | int(green + 0.5) << 8 | int(red + 0.5)


@compiled
def outline_at(row: Array, up_row: Array, i: int, across: Array, x: int) -> tuple[float, float, float, float]:
    """How far a pixel is inside an outline, in cells, the direction that leads farther in, and the slope."""
    west, here, east = row[i], row[i + 1], row[i + 2]
    value = across[0, x] * west + across[1, x] * here + across[2, x] * east
    right = across[3, x] * west + across[4, x] * here + across[5, x] * east
    up = across[0, x] * up_row[i] + across[1, x] * up_row[i + 1] + across[2, x] * up_row[i + 2]
    slope = np.sqrt(right * right + up * up) + np.float32(1e-6)
    return value / slope, right / slope, up / slope, slope


@compiled
def pixels_of_cells(width: int, nx: int) -> tuple[Array, Array]:
    """The first pixel of every cell in a row, then the width; and the six weights of every pixel."""
    begins, across = np.full(nx + 1, width), np.empty((6, width), np.float32)
    for x in range(width - 1, -1, -1):
        i, a, b, c, slope_a, slope_b, slope_c = weights((x + 0.5) / width * nx, nx)
        across[0, x], across[1, x], across[2, x] = a, b, c
        across[3, x], across[4, x], across[5, x] = slope_a, slope_b, slope_c
        begins[i] = x
    for i in range(nx - 1, -1, -1):  # cells of less than a pixel
        begins[i] = min(begins[i], begins[i + 1])
    return begins, across


@compiled
def paint(
    out: Array,
    levels: Array,
    phase: Array,
    phase_sides: Array,
    solid: Array,
    solid_sides: Array,
    inks: Array,
    solid_ink: Array,
    line_ink: Array,
    line: float,
    bevelled: bool,
    lit: bool,
) -> None:
    """Fill ``out`` (height, width) uint32 with the bytes R, G, B, A, row 0 on top.

    ``levels`` (ny + 2, nx + 2) float32 picks colours from 0 to 255 out of ``inks`` (2, 256, 3) float32: the
    light fluid's, the heavy fluid's. ``phase`` and ``solid`` are coefficients from app.picture.contour with
    their sides. ``line``: how opaque the line between the fluids is; ``bevelled``: solids have bright and
    dark edges; ``lit``: the line glows where it faces the light.
    """
    (height, width), (ny, nx), half = out.shape, phase_sides.shape, np.float32(0.5)
    scale = np.float32(width / nx)
    half_line = min(max(scale / 7.0, 0.6), WIDEST)
    begins, across = pixels_of_cells(width, nx)
    words = np.empty((2, 256), np.uint32)
    for k in range(2):
        for level in range(256):
            words[k, level] = word(inks[k, level, 0], inks[k, level, 1], inks[k, level, 2])
    solid_word = word(solid_ink[0], solid_ink[1], solid_ink[2])
    level_row, phase_row, phase_up, solid_row, solid_up = np.empty((5, nx + 2), np.float32)
    for y in range(height):
        j, below, same, above, below_up, same_up, above_up = weights((height - y - 0.5) / height * ny, ny)
        mixed_rows(levels, j, below, same, above, level_row)
        mixed_rows(phase, j, below, same, above, phase_row)
        mixed_rows(phase, j, below_up, same_up, above_up, phase_up)
        mixed_rows(solid, j, below, same, above, solid_row)
        mixed_rows(solid, j, below_up, same_up, above_up, solid_up)
        for i in range(nx):
            side, wall = phase_sides[j, i], solid_sides[j, i]
            west, here, east = level_row[i], level_row[i + 1], level_row[i + 2]
            if wall == 1:
                out[y, begins[i] : begins[i + 1]] = solid_word
                continue
            if side < 2 and wall == 0:
                level = int(here + half)
                if int(west + half) == level == int(east + half):  # and all between them
                    out[y, begins[i] : begins[i + 1]] = words[side, level]
                    continue
                for x in range(begins[i], begins[i + 1]):
                    level = int(across[0, x] * west + across[1, x] * here + across[2, x] * east + half)
                    out[y, x] = words[side, level]
                continue
            for x in range(begins[i], begins[i + 1]):
                level = int(across[0, x] * west + across[1, x] * here + across[2, x] * east + half)
                heavy, glow = np.float32(side & 1), np.float32(0.0)
                if side >= 2:
                    distance, right, up, slope = outline_at(phase_row, phase_up, i, across, x)
                    distance *= scale
                    heavy = min(max(0.5 + distance, 0.0), 1.0)
                    if lit:
                        facing = max(-right * FROM_X - up * FROM_Y, 0.0)
                        band = min(max(half_line + 0.8 - abs(distance - half_line), 0.0), 1.0)
                        glow = line * band * (0.25 + 0.75 * facing * facing) * min(slope * CRISP, 1.0)
                    else:
                        glow = line * min(max(half_line + 0.5 - abs(distance), 0.0), 1.0)
                red = inks[0, level, 0] + heavy * (inks[1, level, 0] - inks[0, level, 0])
                green = inks[0, level, 1] + heavy * (inks[1, level, 1] - inks[0, level, 1])
                blue = inks[0, level, 2] + heavy * (inks[1, level, 2] - inks[0, level, 2])
                red += glow * (line_ink[0] - red)
                green += glow * (line_ink[1] - green)
                blue += glow * (line_ink[2] - blue)
                if wall >= 2:
                    distance, right, up, _ = outline_at(solid_row, solid_up, i, across, x)
                    distance *= scale
                    share, shine = min(max(0.5 + distance, 0.0), 1.0), 1.0
                    if bevelled:
                        edge = max(1.0 - max(distance, 0.0) / BEVEL_PIXELS, 0.0)
                        shine -= BEVEL * edge * (right * FROM_X + up * FROM_Y)
                    red += share * (min(shine * solid_ink[0], 255.0) - red)
                    green += share * (min(shine * solid_ink[1], 255.0) - green)
                    blue += share * (min(shine * solid_ink[2], 255.0) - blue)
                out[y, x] = word(red, green, blue)
