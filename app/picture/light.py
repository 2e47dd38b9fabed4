"""How bright the fluids are: darker in the depth, brighter where the surface between them faces the light."""

from __future__ import annotations

import numpy as np

from precond.host.compiled import compiled

Array = np.ndarray
SOFTNESS = 0.028  # of the shorter side: how far the surface is felt
PASSES = 2
FROM_X, FROM_Y = -0.45, 0.893  # where the light comes from: above, a little from the left
DARK, DEPTH, RISE, FACING = 0.16, 0.42, 0.16, 0.5  # shares of the brightness


@compiled
def box_along_rows(source: Array, target: Array, radius: int) -> None:
    """Means over 2 radius + 1 values, written transposed; beyond the ends the last value goes on."""
    rows, columns = source.shape
    share = 1.0 / (2 * radius + 1)
    for j in range(rows):
        row = source[j]
        total = row[0] * (radius + 1.0)
        for i in range(radius):
            total += row[min(i, columns - 1)]
        for i in range(columns):
            total += row[min(i + radius, columns - 1)] - row[max(i - radius - 1, 0)] * (i > 0)
            if i == 0:
                total -= row[0]
            target[i, j] = total * share


@compiled
def blurred(values: Array, radius: int) -> Array:
    """``values`` (rows, columns) float32 blurred along both axes."""
    rows, columns = values.shape
    out, turned = values.copy(), np.empty((columns, rows), np.float32)
    for _ in range(PASSES):
        box_along_rows(out, turned, radius)
        box_along_rows(turned, out, radius)
    return out


@compiled
def brightness(f: Array, solid: Array, some_solid: bool) -> Array:
    """(ny + 2, nx + 2) float32 in 0 to 255, for both fluids, from fractions and solids (0 or 1) alike."""
    rows, columns = f.shape
    radius = max(1, int(SOFTNESS * min(rows, columns) + 0.5))
    weight = np.float32(1.0) - solid
    soft = blurred(f * weight, radius) if some_solid else blurred(f, radius)
    if some_solid:
        parts = blurred(weight, radius)
        for j in range(rows):
            for i in range(columns):
                soft[j, i] = soft[j, i] / parts[j, i] if parts[j, i] > 0.02 else f[j, i]
    out = np.empty_like(f)
    reach = 2.5 * radius
    for j in range(rows):
        below, above = max(j - 1, 0), min(j + 1, rows - 1)
        rise = (j - 0.5) / (rows - 2)
        for i in range(columns):
            across = soft[j, min(i + 1, columns - 1)] - soft[j, max(i - 1, 0)]
            up = soft[above, i] - soft[below, i]
            facing = -0.5 * reach * (across * FROM_X + up * FROM_Y)
            near = 4.0 * soft[j, i] * (1.0 - soft[j, i])
            value = DARK + RISE * rise + DEPTH * near + FACING * facing
            out[j, i] = 255.0 * min(max(value, 0.0), 1.0)
    return out
