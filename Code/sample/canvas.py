"""The canvas that synthetic faces are drawn on, and the basic shapes that everything on it is made of.

Coordinates are face units: the picture shows x and y in [-1, 1] (y downwards). The canvas is `MARGIN` times as large,
so that a moving head never shows its border, and has twice the resolution of the picture.

Pixels come from additions, multiplications, divisions and square roots only. IEEE 754 rounds these the same way on
every machine, whereas the last bits of exp, sin and pow depend on the vector library. For the same reason, hills are
polynomials instead of Gaussians.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

MARGIN = 1.2


class Canvas:
    """Coordinates of a square canvas for a picture of `picture_size` pixels a side.

    Attributes:
        size: side of the canvas, in pixels.
        px: canvas pixels of one face unit.
        x, y: coordinates of the pixel centers, float32 [1, size] and [size, 1].
    """

    def __init__(self, picture_size: int) -> None:
        self.size = 2 * round(picture_size * MARGIN)
        self.px = self.size / (2 * MARGIN)
        axis = (np.arange(self.size, dtype=np.float32) + 0.5) * np.float32(1 / self.px) - np.float32(MARGIN)
        self.x, self.y = axis[None, :], axis[:, None]

    def window(self, cx: float, cy: float, half_width: float, half_height: float) -> tuple[slice, slice]:
        """Rows and columns within half_width, half_height of (cx, cy)."""

        def pixels(center: float, half: float) -> slice:
            lowest = int((center - half + MARGIN) * self.px)
            highest = int((center + half + MARGIN) * self.px) + 2
            return slice(max(lowest, 0), min(highest, self.size))

        return pixels(cy, half_height), pixels(cx, half_width)

    def add_hill(self, field: Array, high: float, cx: float, cy: float, sx: float, sy: float) -> None:
        """Adds a `bump` of height `high` to a field [size, size], in place."""
        rows, cols = self.window(cx, cy, 2.9 * sx, 2.9 * sy)
        field[rows, cols] += np.float32(high) * bump(self.x[:, cols], self.y[rows], cx, cy, sx, sy)


def step(t: Array) -> Array:
    """Smooth step of an array of any shape: 0 below 0, 1 above 1, cubic between."""
    t = np.minimum(np.maximum(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def edge(distance: Array, width: float = 0.016) -> Array:
    """Opacity in [0, 1] of an area with a soft edge, from its signed distance (positive inside)."""
    return step(distance * np.float32(1 / width) + 0.5)


def line(distance: Array, half_width: float) -> Array:
    """Opacity in [0, 1] of a soft line, of the distance's shape: 1 at distance 0, and 0 from `half_width` on."""
    return 1.0 - step(abs(distance) * np.float32(1 / half_width))


def bump(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """A hill [H, W] of height 1 at (cx, cy): nearly a Gaussian with deviations sx and sy, and 0 beyond 2.8 of them."""
    dx, dy = (x - np.float32(cx)) / np.float32(sx), (y - np.float32(cy)) / np.float32(sy)
    t = np.maximum(1.0 - (dx * dx + dy * dy) * np.float32(0.125), 0.0)
    t *= t
    return t * t


def cloud(rng: np.random.Generator, size: int, cells_y: int, cells_x: int) -> Array:
    """Smooth random field, float32 [size, size] in [0, 1], with about cells_y x cells_x spots."""
    field = rng.integers(0, 256, (cells_y + 1, cells_x + 1)).astype(np.float32) * np.float32(1 / 255)
    for axis, cells in ((0, cells_y), (1, cells_x)):
        place = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(cells / size)
        low = np.minimum(place.astype(np.int64), cells - 1)
        part = step(place - low.astype(np.float32))
        part = part[:, None] if axis == 0 else part[None, :]
        first, second = field.take(low, axis), field.take(low + 1, axis)
        field = first + part * (second - first)
    return field


def color(rgb: tuple[float, float, float] | list[float]) -> Array:
    """An RGB triple as float32 [3, 1, 1], to be multiplied with [H, W] fields."""
    return np.array(rgb, np.float32)[:, None, None]
