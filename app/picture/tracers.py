"""Specks that the flow carries, so that motion shows inside the fluids; the simulation knows none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from precond.host.compiled import compiled

if TYPE_CHECKING:
    from sim.fields import Fields

Array = np.ndarray
COUNT = 1200
LIFE = 90  # pictures that a speck is seen in
LONGEST = 4  # steps, of at most a cell each, between two pictures: who jumps farther begins anew
STREAK = 4.0  # pictures' worth of a speck's way that it is drawn along
FAINTEST, OPAQUE = 0.08, 0.42  # at rest, and where it is fast
RADIUS = 0.9  # of a speck, in pixels
LONG = 26.0  # pixels of the longest streak


@compiled
def velocity_at(velocity: Array, x: float, y: float) -> tuple[float, float]:
    """Bilinear between faces, at a place in cells."""
    nx, ny = velocity.shape[1] - 1, velocity.shape[2] - 1
    i, j = min(max(int(x), 0), nx - 1), min(max(int(y), 0), ny - 1)
    s, t = x - i, y - j
    below, above = min(max(int(y - 0.5), 0), ny - 1), min(int(y + 0.5), ny - 1)
    share = y - 0.5 - below if above > below else 0.0
    u = (1.0 - share) * ((1.0 - s) * velocity[0, i, below] + s * velocity[0, i + 1, below])
    u += share * ((1.0 - s) * velocity[0, i, above] + s * velocity[0, i + 1, above])
    left, right = min(max(int(x - 0.5), 0), nx - 1), min(int(x + 0.5), nx - 1)
    share = x - 0.5 - left if right > left else 0.0
    v = (1.0 - share) * ((1.0 - t) * velocity[1, left, j] + t * velocity[1, left, j + 1])
    v += share * ((1.0 - t) * velocity[1, right, j] + t * velocity[1, right, j + 1])
    return u, v


@compiled
def move(specks: Array, velocity: Array, solid: Array, courant: float, fresh: Array) -> None:
    """Carry ``specks`` (n, 5: x, y in cells, its last way in cells, age) over ``courant``: time over spacing.

    Who is too old, too fast or in a solid goes on at the place ``fresh`` (n, 2), in cells.
    """
    nx, ny = solid.shape
    for k in range(len(specks)):
        x, y = specks[k, 0], specks[k, 1]
        u, v = velocity_at(velocity, x, y)
        steps = int(courant * max(abs(u), abs(v))) + 1
        if steps <= LONGEST:
            for _ in range(steps):
                u, v = velocity_at(velocity, x, y)
                half = 0.5 * courant / steps
                u, v = velocity_at(velocity, x + half * u, y + half * v)
                x, y = x + 2.0 * half * u, y + 2.0 * half * v
        x, y = min(max(x, 0.0), nx - 1e-3), min(max(y, 0.0), ny - 1e-3)
        specks[k, 4] += 1.0
        if steps > LONGEST or specks[k, 4] > LIFE or solid[int(x), int(y)] or not (x == x and y == y):
            specks[k, 0], specks[k, 1], specks[k, 4] = fresh[k, 0], fresh[k, 1], 0.0
            specks[k, 2] = specks[k, 3] = 0.0
        else:
            specks[k, 2], specks[k, 3] = x - specks[k, 0], y - specks[k, 1]
            specks[k, 0], specks[k, 1] = x, y


@compiled
def streaks(pixels: Array, specks: Array, solid: Array, ink: Array, scale: float) -> None:
    """Draw ``specks`` over ``pixels`` (height, width) uint32, each soft and as long as its last way."""
    height, width = pixels.shape
    for k in range(len(specks)):
        x, y, way_x, way_y, age = specks[k]
        if solid[int(x), int(y)]:
            continue
        end_x, end_y = x * scale, height - y * scale
        along_x, along_y = STREAK * way_x * scale, -STREAK * way_y * scale
        length = np.sqrt(along_x * along_x + along_y * along_y)
        if length > LONG:
            along_x, along_y, length = along_x * LONG / length, along_y * LONG / length, LONG
        young = min(age, LIFE - age) / (0.2 * LIFE)
        opacity = min(young, 1.0) * (FAINTEST + (OPAQUE - FAINTEST) * min(length / 8.0, 1.0))
        steep = abs(along_y) > abs(along_x)
        tilt = (along_x / along_y if steep else along_y / along_x) if length > 0.0 else 0.0
        half = (RADIUS + 0.5) * np.sqrt(1.0 + tilt * tilt)  # of the streak, across its rows or columns
        begin, way, across = (end_y, along_y, end_x) if steep else (end_x, along_x, end_y)
        rows = height if steep else width
        columns = width if steep else height
        first, last = min(begin, begin - way) - RADIUS - 0.5, max(begin, begin - way) + RADIUS + 0.5
        for row in range(max(int(first), 0), min(int(last) + 1, rows)):
            middle = across + tilt * (row + 0.5 - begin)
            for column in range(max(int(middle - half), 0), min(int(middle + half) + 1, columns)):
                right, down = (column, row) if steep else (row, column)
                from_x, from_y = end_x - (right + 0.5), end_y - (down + 0.5)
                back = 0.0
                if length > 0.0:
                    back = min(max((from_x * along_x + from_y * along_y) / (length * length), 0.0), 1.0)
                away_x, away_y = from_x - back * along_x, from_y - back * along_y
                share = RADIUS + 0.5 - np.sqrt(away_x * away_x + away_y * away_y)
                share = min(max(share, 0.0), 1.0) * opacity * (1.0 - back * 0.8)
                if share <= 0.0:
                    continue
                word = pixels[down, right]
                red, green, blue = word & 255, (word >> 8) & 255, (word >> 16) & 255
                red += share * (ink[0] - red)
                green += share * (ink[1] - green)
                blue += share * (ink[2] - blue)
                pixels[down, right] = (
                    (255 << 24) | int(blue + 0.5) << 16 | int(green + 0.5) << 8 | int(red + 0.5)
                )


class Tracers:
    """COUNT specks in one simulation after another. Their places come from their own random numbers."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._specks = np.zeros((0, 5))
        self._shape, self._time = (0, 0), 0.0

    @property
    def places(self) -> np.ndarray:
        """(n, 2) float64: where they are, in cells."""
        return self._specks[:, :2]

    def follow(self, fields: Fields, solid: np.ndarray) -> None:
        """Go with the flow to the time of ``fields``; begin anew on another grid and where time went back."""
        if fields.shape != self._shape or fields.time < self._time:
            self._shape, self._time = fields.shape, fields.time
            ages = self._random.uniform(0.0, LIFE, COUNT)
            self._specks = np.concatenate([self._anywhere(), np.zeros((COUNT, 2)), ages[:, None]], axis=1)
        courant = (fields.time - self._time) / fields.spacing
        self._time = fields.time
        if courant > 0.0:
            velocity = fields.velocity.detach().cpu().numpy()
            move(self._specks, velocity, solid, courant, self._anywhere())

    def draw(self, pixels: np.ndarray, ink: np.ndarray, solid: np.ndarray) -> None:
        """Draw them over ``pixels`` (height, width) uint32 in the colour ``ink`` (3,) float32."""
        streaks(pixels, self._specks, solid, ink, pixels.shape[1] / self._shape[0])

    def _anywhere(self) -> np.ndarray:
        """(COUNT, 2) places in cells."""
        return self._random.uniform(0.0, self._shape, (COUNT, 2))
