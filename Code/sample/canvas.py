"""The pixels of the sample: the canvas and the basic shapes of faces, and what spoils a drawn frame.

Coordinates are face units: the picture shows x and y in [-1, 1] (y downwards). The canvas is `MARGIN` times as large,
so that a moving head never shows its border, and has twice the resolution of the picture.

Pixels come from additions, multiplications, divisions and square roots only. IEEE 754 rounds these the same way on
every machine, whereas the last bits of exp, sin and pow depend on the vector library. For the same reason, hills are
polynomials instead of Gaussians.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

Array = np.ndarray

MARGIN = 1.2
OCCLUDERS = ("hand", "block", "microphone", "scarf")


class Canvas:
    """A square canvas of `size` pixels a side for a picture of `picture_size`, `px` of them to a face unit.

    `x` and `y` are the coordinates of the pixel centers, float32 [1, size] and [size, 1].
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


# A drawn frame that is spoiled: float32 [H, W, 3], gray levels from 0 to 255


def _grid(size: int) -> tuple[Array, Array]:
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size)) - np.float32(1)
    return axis[None, :], axis[:, None]


def _lay(image: Array, inside: Array, color: Array) -> Array:
    """Draws an object over the image. `inside` is its signed distance in face units, positive inside."""
    px = image.shape[0] / 2
    near = step((inside + np.float32(0.08)) * np.float32(10))  # its soft shadow
    image = image * (1 - np.float32(0.45) * near[..., None])
    cover = step(inside * np.float32(px / 1.4) + 0.5)[..., None]
    return image + cover * (color - image)


def _rod(x: Array, y: Array, a: tuple[float, float], b: tuple[float, float], radius: float) -> tuple[Array, Array]:
    """Signed distance to a rod from a to b with round ends, and its roundness (1 in the middle)."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / np.float32(dx * dx + dy * dy), 0, 1)
    qx, qy = x - a[0] - along * np.float32(dx), y - a[1] - along * np.float32(dy)
    distance = np.sqrt(qx * qx + qy * qy)
    roundness = np.sqrt(np.maximum(1 - distance * distance * np.float32(1 / (radius * radius)), 0))
    return np.float32(radius) - distance, roundness


def _hand(image: Array, skin: tuple[float, float, float], rng: np.random.Generator) -> Array:
    """A hand with its fingers over the face."""
    x, y = _grid(image.shape[0])
    tone = np.array(skin, np.float32) * np.float32(rng.uniform(0.75, 1.0))
    side = 1.0 if rng.integers(2) else -1.0
    cx, cy = side * rng.uniform(0.05, 0.35), rng.uniform(-0.35, 0.55)
    slope = rng.uniform(-0.25, 0.25)
    rods = [((side * 1.15, cy + 0.55 + 0.1 * slope), (cx + side * 0.55, cy + 0.25), 0.34)]
    for k in range(4):
        reach = (0.0, -0.12, -0.10, 0.06)[k] * side
        y0 = cy + 0.20 * (k - 1.2)
        knuckle, tip = (cx + side * 0.6, y0 * 0.75 + 0.25 * (cy + 0.2)), (cx + reach - side * 0.1, y0 + slope)
        rods.append((knuckle, tip, rng.uniform(0.085, 0.105)))
    for a, b, radius in rods:
        inside, roundness = _rod(x, y, a, b, radius)
        image = _lay(image, inside, tone * (0.45 + 0.55 * roundness[..., None]))
    return image


def _block(image: Array, rng: np.random.Generator) -> Array:
    """A flat object in front of the face: a sheet, a book, a phone."""
    size = image.shape[0]
    x, y = _grid(size)
    slope = np.float32(rng.uniform(-0.3, 0.3))
    side = 1.0 if rng.integers(2) else -1.0
    cx, cy = side * rng.uniform(0.1, 0.5), rng.uniform(-0.3, 0.7)
    u, v = ((x - np.float32(cx)) + slope * (y - np.float32(cy)), (y - np.float32(cy)) - slope * (x - np.float32(cx)))
    inside = np.minimum(np.float32(rng.uniform(0.5, 0.75)) - abs(u), np.float32(rng.uniform(0.35, 0.6)) - abs(v))
    color = rng.uniform(15, 235, 3).astype(np.float32)
    stripes = step(abs(v * 7 - np.floor(v * 7) - 0.5) * 8 - 2.6)[..., None] * (rng.integers(2) > 0)
    return _lay(image, inside, color * (0.85 + 0.25 * u[..., None]) * (1 - np.float32(0.35) * stripes))


def _microphone(image: Array, rng: np.random.Generator) -> Array:
    x, y = _grid(image.shape[0])
    cx, cy = rng.uniform(-0.2, 0.2), rng.uniform(0.35, 0.55)
    radius = rng.uniform(0.30, 0.40)
    end = (cx + rng.uniform(-0.5, 0.5), 1.4)
    inside, roundness = _rod(x, y, (cx, cy + 0.2), end, radius * 0.55)
    image = _lay(image, inside, np.float32(60) * (0.25 + 0.75 * roundness[..., None]) * np.ones(3, np.float32))
    dx, dy = x - np.float32(cx), y - np.float32(cy)
    far = np.sqrt(dx * dx + dy * dy)
    mesh = 0.8 + 0.4 * (abs(dx * 14 - np.floor(dx * 14) - 0.5) + abs(dy * 14 - np.floor(dy * 14) - 0.5))
    ball = np.float32(40) + np.float32(110) * bump(x, y, cx - 0.1, cy - 0.12, 0.14, 0.12)
    return _lay(image, np.float32(radius) - far, (ball * mesh)[..., None] * np.ones(3, np.float32))


def _scarf(image: Array, rng: np.random.Generator) -> Array:
    x, y = _grid(image.shape[0])
    top = np.float32(rng.uniform(0.12, 0.3)) + np.float32(rng.uniform(-0.15, 0.15)) * x + np.float32(0.18) * x * x
    folds = (y - top) * 6 + np.float32(rng.uniform(-2, 2)) * x
    wave = abs(folds - np.floor(folds) - 0.5) * 2
    color = rng.uniform(20, 220, 3).astype(np.float32)
    return _lay(image, y - top, color * (0.6 + 0.45 * wave * wave)[..., None])


def occlude(image: Array, kind: str, skin: tuple[float, float, float], rng: np.random.Generator) -> Array:
    """Puts an occluder (one of `OCCLUDERS`) in front of the face."""
    if kind == "hand":
        return _hand(image, skin, rng)
    return {"block": _block, "microphone": _microphone, "scarf": _scarf}[kind](image, rng)


def blur(image: Array, strength: float, streak: float) -> Array:
    """Blurs a frame: out of focus by `strength`, smeared sideways by `streak` (shares of its width)."""
    size = image.shape[0]
    reach = round(streak * size)
    if reach:
        padded = np.pad(image, ((0, 0), (reach, reach), (0, 0)), mode="edge")
        shifted = [padded[:, k : k + size] for k in range(2 * reach + 1)]
        image = sum(shifted[1:], shifted[0]) * np.float32(1 / len(shifted))
    picture = Image.fromarray(np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(round(strength * size, 2)))
    return np.asarray(picture, np.float32)


def darken(image: Array, rng: np.random.Generator) -> Array:
    """Bad light: almost dark, with one bright edge."""
    x, _ = _grid(image.shape[0])
    side = np.float32(1.0 if rng.integers(2) else -1.0)
    falloff = np.float32(rng.uniform(0.22, 0.36)) + np.float32(0.8) * step((x * side - np.float32(0.45)) * 1.4)
    return image * falloff[..., None]


def camera(image: Array, gain: float, tilt: float, noise: float, rng: np.random.Generator) -> Image.Image:
    """Applies the exposure `gain`, light that grows by the share `tilt` from the middle to the right, and noise.

    `noise` is its standard deviation in gray levels. It sums eight random bytes, half of them common to three colors.
    """
    size = image.shape[0]
    x, _ = _grid(size)
    image = image * (np.float32(gain) * (1 + np.float32(tilt) * x))[..., None]
    words = rng.integers(0, 256, (4, size, size, 4), dtype=np.uint8)
    grain = words.sum(axis=0, dtype=np.int32).astype(np.float32) - np.float32(510)
    # The standard deviation of one such sum is 148, that of two is 209.
    image += (grain[..., :3] + grain[..., 3:]) * np.float32(noise / 209)
    return Image.fromarray(np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8))
