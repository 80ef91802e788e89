"""Who a synthetic face is: traits drawn from a generator. Lengths in face units (see `drawing.canvas`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Rgb = tuple[float, float, float]

SKINS = (
    (236, 200, 176),
    (226, 184, 156),
    (214, 168, 136),
    (196, 148, 116),
    (172, 124, 94),
    (138, 96, 72),
    (108, 74, 56),
)
HAIRS = (
    (28, 24, 22),
    (48, 34, 26),
    (84, 56, 36),
    (128, 88, 50),
    (178, 140, 92),
    (120, 54, 30),
    (150, 146, 142),
)
IRISES = ((52, 34, 24), (80, 54, 32), (92, 96, 62), (86, 116, 140), (96, 104, 110))
STYLES = ("short", "short", "parted", "fringe", "long", "long", "bald", "tied", "curly")


@dataclass(frozen=True, slots=True)
class Person:
    """Traits of one synthetic person.

    Attributes:
        style: of the hair, one of `STYLES`.
        chin: y of its tip; eye_y, nose_y (tip) and mouth_y likewise.
        jaw_square: 0 pointed chin, 1 square jaw.
        eye_x: distance of the eyes' centres from the middle; eye_width is half an eye's width.
        eye_open, eye_tilt: factor of the opening; rise of the outer corners.
        brow_gap: from the eye up to the brow.
        hairline: y of the hair's edge in the middle of the forehead.
        age: 0 to 1, depth of wrinkles and folds.
        beard: 0 none, 1 full.
        glasses: "", "round" or "square".
        light: direction towards the light (x right, y down, z to the viewer).
        ambient: light from everywhere, 0 to 1.
        asymmetry: how much livelier the right brow is than the left one.
    """

    skin: Rgb
    hair: Rgb
    iris: Rgb
    style: str
    head_width: float
    chin: float
    jaw_square: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    brow_gap: float
    brow_thick: float
    brow_arch: float
    brow_dark: float
    nose_y: float
    nose_width: float
    nose_high: float
    mouth_y: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    lip_red: float
    hairline: float
    age: float
    beard: float
    glasses: str
    light: tuple[float, float, float]
    ambient: float
    asymmetry: float


def draw_person(rng: np.random.Generator) -> Person:
    """Draw the traits of one person."""
    u = rng.uniform
    tone = int(rng.integers(len(SKINS)))
    fair = tone < 4  # fair hair and light eyes on dark skin are rare enough to look like a mistake
    hair = HAIRS[int(rng.integers(len(HAIRS) if fair else 2))]
    iris = IRISES[int(rng.integers(len(IRISES) if fair else 2))]
    style = STYLES[int(rng.integers(len(STYLES)))]
    manly = style in ("short", "bald", "parted") and u() < 0.75
    return Person(
        skin=_shade(SKINS[tone], u(0.92, 1.06), rng),
        hair=_shade(hair, u(0.8, 1.25), rng),
        iris=_shade(iris, 1.0, rng),
        style=style,
        head_width=u(0.70, 0.80),
        chin=u(0.90, 1.0),
        jaw_square=u(0.15, 0.75) + (0.1 if manly else -0.1),
        eye_x=u(0.31, 0.36),
        eye_y=u(-0.23, -0.17),
        eye_width=u(0.145, 0.175),
        eye_open=u(0.85, 1.15),
        eye_tilt=u(-0.02, 0.05),
        brow_gap=u(0.165, 0.205),
        brow_thick=u(0.026, 0.042) if manly else u(0.019, 0.032),
        brow_arch=u(0.01, 0.05),
        brow_dark=u(0.8, 1.1),
        nose_y=u(0.17, 0.24),
        nose_width=u(0.13, 0.18),
        nose_high=u(0.85, 1.2),
        mouth_y=u(0.47, 0.54),
        mouth_width=u(0.25, 0.31),
        lip_upper=u(0.034, 0.055),
        lip_lower=u(0.05, 0.075),
        lip_red=u(0.3, 0.6) if manly else u(0.4, 1.0),
        hairline=u(-0.80, -0.66),
        age=u(0.1, 0.8),
        beard=u(0.35, 1.0) if manly and u() < 0.35 else 0.0,
        glasses=("round", "square")[int(rng.integers(2))] if u() < 0.2 else "",
        light=(u(-0.55, 0.55), u(-0.75, -0.25), 1.0),
        ambient=u(0.40, 0.56),
        asymmetry=u(-0.08, 0.08),
    )


def _shade(rgb: tuple[int, int, int], factor: float, rng: np.random.Generator) -> Rgb:
    """The colour, lighter or darker by `factor` and a little off."""
    red, green, blue = (min(max(c * factor + rng.uniform(-3.0, 3.0), 4.0), 245.0) for c in rgb)
    return red, green, blue
