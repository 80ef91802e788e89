"""Degrades a drawn frame: occluders, blur, bad light, and the noise of a camera.

Arrays are float32 [H, W, 3] with gray levels from 0 to 255. Coordinates are face units, -1 to 1. The arithmetic rounds
the same way on every machine; see `drawing.canvas`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from .canvas import Array, bump, step

OCCLUDERS = ("hand", "block", "microphone", "scarf")


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
    return np.float32(radius) - distance, np.sqrt(
        np.maximum(1 - distance * distance * np.float32(1 / (radius * radius)), 0)
    )


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
        rods.append(
            (
                (cx + side * 0.6, y0 * 0.75 + 0.25 * (cy + 0.2)),
                (cx + reach - side * 0.1, y0 + slope),
                rng.uniform(0.085, 0.105),
            )
        )
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
    stripes = 1 - np.float32(0.35) * step(abs(v * 7 - np.floor(v * 7) - 0.5) * 8 - 2.6)[..., None] * (
        rng.integers(2) > 0
    )
    return _lay(image, inside, color * (0.85 + 0.25 * u[..., None]) * stripes)


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
    """Applies exposure, uneven light and noise.

    The noise is a sum of eight random bytes, which is nearly Gaussian. Half of it is common to the three colors.

    Args:
        image: the frame.
        gain: exposure.
        tilt: relative difference in brightness between the right edge and the middle.
        noise: standard deviation of the noise, in gray levels.
        rng: draws the noise.
    """
    size = image.shape[0]
    x, _ = _grid(size)
    image = image * (np.float32(gain) * (1 + np.float32(tilt) * x))[..., None]
    words = rng.integers(0, 256, (4, size, size, 4), dtype=np.uint8)
    grain = words.sum(axis=0, dtype=np.int32).astype(np.float32) - np.float32(510)
    # The standard deviation of one such sum is 148, that of two is 209.
    image += (grain[..., :3] + grain[..., 3:]) * np.float32(noise / 209)
    return Image.fromarray(np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8))
