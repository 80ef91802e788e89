"""What stays the same in all frames of a synthetic face: the traits of its person, and the layers drawn from them.

Lengths are in face units, see `Code.sample.canvas`.
"""

from __future__ import annotations

import numpy as np

from .canvas import Array, Canvas, bump, cloud, color, step

_F = np.float32
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
HAIRS = ((28, 24, 22), (48, 34, 26), (84, 56, 36), (128, 88, 50), (178, 140, 92), (120, 54, 30), (150, 146, 142))
IRISES = ((52, 34, 24), (80, 54, 32), (92, 96, 62), (86, 116, 140), (96, 104, 110))
STYLES = ("short", "short", "parted", "fringe", "long", "long", "bald", "tied", "curly")  # of hair


class Person:
    """The traits of one synthetic person, drawn at random. The order of the lines is that of the random numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        u = rng.uniform
        tone = int(rng.integers(len(SKINS)))
        fair = tone < 4  # light hair and eyes with dark skin are so rare that they look like a mistake
        hair = HAIRS[int(rng.integers(len(HAIRS) if fair else 2))]
        iris = IRISES[int(rng.integers(len(IRISES) if fair else 2))]
        self.style = STYLES[int(rng.integers(len(STYLES)))]
        manly = self.style in ("short", "bald", "parted") and u() < 0.75
        self.skin = _shade(SKINS[tone], u(0.92, 1.06), rng)
        self.hair = _shade(hair, u(0.8, 1.25), rng)
        self.iris = _shade(iris, 1.0, rng)
        self.head_width = u(0.70, 0.80)
        self.chin = u(0.90, 1.0)  # y of its tip
        self.jaw_square = u(0.15, 0.75) + (0.1 if manly else -0.1)  # 0 pointed chin, 1 square jaw
        self.eye_x = u(0.31, 0.36)  # of the eyes' centers from the middle
        self.eye_y = u(-0.23, -0.17)
        self.eye_width = u(0.145, 0.175)  # half the width of an eye
        self.eye_open = u(0.85, 1.15)  # factor of the eyes' opening
        self.eye_tilt = u(-0.02, 0.05)  # rise of the outer corners
        self.brow_gap = u(0.165, 0.205)  # from eye to brow
        self.brow_thick = u(0.026, 0.042) if manly else u(0.019, 0.032)
        self.brow_arch = u(0.01, 0.05)
        self.brow_dark = u(0.8, 1.1)
        self.nose_y = u(0.17, 0.24)  # of its tip
        self.nose_width = u(0.13, 0.18)
        self.nose_high = u(0.85, 1.2)
        self.mouth_y = u(0.47, 0.54)
        self.mouth_width = u(0.25, 0.31)
        self.lip_upper = u(0.034, 0.055)
        self.lip_lower = u(0.05, 0.075)
        self.lip_red = u(0.3, 0.6) if manly else u(0.4, 1.0)
        self.hairline = u(-0.80, -0.66)  # y of the edge of the hair in the middle of the forehead
        self.age = u(0.1, 0.8)  # 0 to 1, depth of wrinkles and folds
        self.beard = u(0.35, 1.0) if manly and u() < 0.35 else 0.0  # 0 none, 1 full
        self.glasses = ("round", "square")[int(rng.integers(2))] if u() < 0.2 else ""
        self.light = (u(-0.55, 0.55), u(-0.75, -0.25), 1.0)  # its direction: x right, y down, z to the viewer
        self.ambient = u(0.40, 0.56)  # share of ambient light, 0 to 1
        self.asymmetry = u(-0.08, 0.08)  # how much more the right brow moves than the left


def _shade(rgb: tuple[int, int, int], factor: float, rng: np.random.Generator) -> Rgb:
    """The color times `factor`, with small random changes."""
    red, green, blue = (min(max(c * factor + rng.uniform(-3.0, 3.0), 4.0), 245.0) for c in rgb)
    return red, green, blue


_SIDES = (-1, 1)

# How far hair of each style reaches down at the temples, and its thickness.
_REACH = {"long": 1.3, "fringe": 0.15, "curly": 0.1, "parted": 0.0, "short": -0.02, "tied": -0.2}
_VOLUME = {"long": 0.1, "fringe": 0.07, "curly": 0.17, "parted": 0.06, "short": 0.04, "tied": 0.01}


class Layers:
    """What of a person does not change between frames: float32 arrays over the S x S pixels of the canvas."""

    def __init__(self, person: Person, canvas: Canvas, rng: np.random.Generator) -> None:
        self.person, self.canvas = person, canvas
        self.half_width = self._outline(person.chin)  # half the face's width in each row, [S]
        self.height = self._height()  # relief of the neutral face, in face units towards the viewer, [S, S]
        self.relief = self._relief()  # action unit -> change of the relief at strength 1, [S, S]
        self.albedo = self._albedo(rng)  # skin color, beard included, [3, S, S]
        strands = cloud(rng, canvas.size, 6, 90)
        if person.style == "curly":
            strands = 0.3 + 0.5 * cloud(rng, canvas.size, 60, 60)
        gloss = bump(canvas.x, canvas.y, person.light[0] * 0.8, -0.88, 0.5, 0.2)
        self.front = color(person.hair) * (0.55 + 0.7 * strands + 0.5 * gloss)  # hair before the face, [3, S, S]
        wobble = (cloud(rng, canvas.size, 8, 14) - 0.5) * _F(0.07)
        self.front_cover = self._hair(wobble, rng)  # its opacity, [S, S]
        # The share of the light on the skin below the hair, [S, S].
        self.hair_shadow = 1 - _F(0.30) * np.roll(self.front_cover, max(int(0.03 * canvas.px), 1), axis=0)
        self.behind = self._behind(wobble, strands, rng)

    def _outline(self, chin: float) -> Array:
        p, y = self.person, self.canvas.y[:, 0]
        middle = -0.10
        above = np.clip((middle - y) * _F(1 / (middle + 1.2)), 0, 1)
        below = np.clip((y - middle) * _F(1 / (chin - middle)), 0, 1)
        square = below * below
        pointed = _F(1 - p.jaw_square)
        curve = pointed * square + (1 - pointed) * square * square
        return _F(p.head_width) * np.sqrt((1 - above * above * above) * (1 - curve))

    def _height(self) -> Array:
        p, x, y, add = self.person, self.canvas.x, self.canvas.y, self.canvas.add_hill
        n, e, m = p.nose_y, p.eye_y, p.mouth_y
        # The outline of the relief is longer than that of the face, because the chin faces forward.
        across = x / np.maximum(self._outline(p.chin + 0.3)[:, None], 0.05)
        h = _F(0.62) * np.sqrt(np.maximum(1.0 - _F(0.93) * across * across, 0.02))
        h = h - _F(0.22) * (y + 0.1) * (y + 0.1)
        below = np.maximum(y - _F(p.chin - 0.13), 0)
        h = h - _F(3.0) * below * below
        add(h, 0.13 * p.nose_high, 0, n - 0.02, 0.062, 0.075)  # tip of the nose
        add(h, 0.07 * p.nose_high, 0, (n + e) / 2 + 0.03, 0.06, 0.16)  # bridge
        for side in _SIDES:
            add(h, 0.055, side * p.nose_width * 0.72, n + 0.015, 0.042, 0.045)  # wings
            add(h, -0.085, side * (p.eye_x - 0.03), e - 0.01, 0.145, 0.085)  # sockets
            add(h, 0.035, side * p.eye_x, e + 0.005, 0.10, 0.06)  # eyeballs
            add(h, 0.045, side * p.eye_x * 0.95, e - p.brow_gap, 0.17, 0.06)  # brow ridge
            add(h, 0.06, side * 0.46, 0.10, 0.16, 0.14)  # cheekbones
            add(h, -(0.02 + 0.02 * p.age), side * 0.44, 0.46, 0.10, 0.18)  # hollow below them
        add(h, 0.06, 0, m + 0.02, 0.24, 0.16)  # teeth behind the lips
        add(h, -0.012, 0, (n + m) / 2 + 0.03, 0.022, 0.06)  # philtrum
        add(h, -0.035, 0, m + 0.16, 0.15, 0.04)  # hollow below the lower lip
        add(h, 0.06, 0, p.chin - 0.14, 0.15, 0.09)  # chin
        return h

    def _relief(self) -> dict[str, Array]:
        p = self.person
        e, n, m, b = p.eye_y, p.nose_y, p.mouth_y, p.eye_y - p.brow_gap
        crease = 0.7 + 0.6 * p.age
        units = ("au1", "au2", "au4", "au6", "au9", "au10", "au12", "au15", "au17", "au20")
        r = {unit: np.zeros((self.canvas.size, self.canvas.size), np.float32) for unit in units}

        def add(unit: str, depth: float, cx: float, cy: float, sx: float, sy: float) -> None:
            self.canvas.add_hill(r[unit], depth, cx, cy, sx, sy)

        for k in range(3):  # lines of the forehead, in the middle for the inner brows
            add("au1", -0.014 * crease, 0, b - 0.09 - 0.085 * k, 0.15, 0.013)
            add("au9", -0.022 * crease, 0, e + 0.01 + 0.055 * k, 0.07, 0.012)  # wrinkles across the bridge of the nose
        add("au9", 0.045, 0, n - 0.07, 0.06, 0.05)  # the tip of the nose goes up
        add("au9", -0.040, 0, n + 0.04, 0.06, 0.04)
        add("au17", 0.050, 0, p.chin - 0.15, 0.14, 0.07)
        add("au17", -0.030, 0, p.chin - 0.27, 0.13, 0.022)
        for side in _SIDES:
            corner = p.mouth_width
            for k in range(3):
                add("au2", -0.012 * crease, side * 0.26, b - 0.10 - 0.085 * k, 0.16, 0.013)
                # crow's feet
                add("au6", -0.010 * crease, side * (p.eye_x + 0.24), e + 0.05 * (k - 1), 0.05, 0.010)
            add("au4", -0.030 * crease, side * 0.055, b + 0.02, 0.014, 0.075)  # frown lines
            add("au4", 0.040, side * 0.14, b + 0.035, 0.07, 0.045)
            add("au6", 0.060, side * 0.40, e + 0.20, 0.13, 0.07)
            add("au6", -0.020, side * p.eye_x, e + 0.095, 0.11, 0.016)
            add("au9", -0.020 * crease, side * 0.09, e + 0.10, 0.014, 0.06)
            add("au9", 0.045, side * 0.17, n - 0.04, 0.07, 0.07)
            add("au10", 0.040, side * 0.22, n + 0.03, 0.07, 0.09)
            add("au12", 0.065, side * 0.43, n + 0.02, 0.12, 0.10)
            add("au12", -0.020, side * (corner + 0.14), m - 0.03, 0.03, 0.06)
            add("au15", -0.022 * crease, side * (corner + 0.035), m + 0.15, 0.020, 0.07)
            add("au15", 0.030, side * (corner + 0.11), m + 0.10, 0.06, 0.08)
            add("au17", -0.014, side * 0.07, p.chin - 0.15, 0.03, 0.03)
            add("au20", -0.022 * crease, side * (corner + 0.13), m + 0.05, 0.022, 0.11)
        return r

    def _albedo(self, rng: np.random.Generator) -> Array:
        p, x, y, size = self.person, self.canvas.x, self.canvas.y, self.canvas.size
        add = self.canvas.add_hill
        mottle = 1.0 + _F(0.05) * (cloud(rng, size, 40, 40) - 0.5) + _F(0.09) * (cloud(rng, size, 7, 7) - 0.5)
        skin = color(p.skin) * mottle
        flush = np.zeros((size, size), np.float32)
        add(flush, 0.10, 0, p.nose_y, 0.09, 0.08)
        dark = np.zeros((size, size), np.float32)
        add(dark, 0.22, 0, p.nose_y + 0.09, p.nose_width * 0.75, 0.03)
        for side in _SIDES:
            add(flush, 0.10, side * 0.42, 0.17, 0.17, 0.13)
            # Thin skin around the eyes and the furrow beside the nose are dark in any light.
            add(dark, 0.14 + 0.10 * p.age, side * (p.eye_x - 0.02), p.eye_y + 0.10, 0.11, 0.032)
            add(dark, 0.20, side * (p.eye_x - p.eye_width - 0.03), p.eye_y - 0.02, 0.05, 0.07)
            add(dark, 0.12, side * p.eye_x, p.eye_y - 0.075, 0.13, 0.03)
            add(dark, 0.16, side * p.nose_width * 1.12, p.nose_y + 0.02, 0.02, 0.05)
        skin[1:] *= 1.0 - flush
        skin *= 1.0 - dark
        if p.beard:
            jaw = step((y - _F(0.18)) * 3.0 - (1 - abs(x) * _F(1 / 0.7)) * 0.9 + 0.35)
            mustache = bump(x, y, 0, p.nose_y + 0.15, 0.22, 0.05)
            bare = bump(x, y, 0, p.mouth_y, 0.24, 0.07)
            cover = (jaw * (1 - bare) + mustache * 0.8) * (0.55 + 0.6 * cloud(rng, size, 90, 60))
            skin += np.clip(cover, 0, 1) * _F(0.8 * p.beard) * (color(p.hair) * 0.8 - skin)
        return skin

    def _soft(self, distance: Array, pixels: float) -> Array:
        return step(distance * _F(self.canvas.px / pixels) + 0.5)

    def _hair(self, wobble: Array, rng: np.random.Generator) -> Array:
        """Opacity of the hair in front of the face and around the skull, [S, S]."""
        p, x, y = self.person, self.canvas.x, self.canvas.y
        parting = _F(rng.uniform(-0.5, 0.5))
        if p.style == "bald":
            return np.zeros_like(wobble)
        limit = _F(p.hairline) + wobble
        if p.style == "fringe":
            limit = limit + 0.20 + 0.06 * cloud(rng, self.canvas.size, 2, 24) - 0.08 * x * parting
        elif p.style == "parted":
            limit = limit + 0.30 * np.minimum(abs(x - parting * 0.6), 0.55) - 0.04
        else:
            limit = limit + _F(0.22) * x * x
        skull = np.maximum(self.half_width[:, None], 0.02)
        temples = abs(x) - skull + _F(0.09) - wobble - _F(0.06) * step((y + 0.2) * 2)
        curtain = self._soft(temples, 5) * self._soft(_F(_REACH[p.style]) - y + 3 * wobble, 22)
        outer = self.half_width[:, None] + _F(_VOLUME[p.style]) + wobble
        if p.style == "long":
            outer = outer + _F(0.1) * step(y * 2 + 0.6) + step(y * 1.5 + 0.1)
        return np.maximum(self._soft(limit - y, 5), curtain) * self._soft(outer - abs(x), 4)

    def _behind(self, wobble: Array, strands: Array, rng: np.random.Generator) -> Array:
        """Background, long hair, neck, clothes and ears, [3, S, S]."""
        p, x, y, size = self.person, self.canvas.x, self.canvas.y, self.canvas.size
        tint = [rng.uniform(-30, 30) for _ in range(3)]
        gray = rng.uniform(40, 210)
        backdrop = 0.7 + 0.6 * cloud(rng, size, 3, 3) + 0.25 * (cloud(rng, size, 12, 12) - 0.5)
        behind = color([gray + t for t in tint]) * backdrop
        if p.style == "long":
            outer = _F(p.head_width + rng.uniform(0.12, 0.26)) - _F(0.10) * np.maximum(-y - 0.3, 0)
            behind += self._soft(outer + wobble - abs(x), 4) * (self.front * 0.75 - behind)
        shade = 1 - 0.35 * bump(x, y, 0, p.chin, 0.6, 0.16) + 0.2 * x * _F(p.light[0])
        neck = color(p.skin) * _F(p.ambient * 0.95) * shade
        narrow = 0.46 - abs(x) + wobble * 0.2 - np.maximum(0.7 - y, 0) * 9
        behind += self._soft(narrow, 2) * (neck - behind)
        cloth = color([rng.uniform(20, 220) for _ in range(3)]) * (0.6 + 0.4 * strands)
        behind += self._soft(y - 1.12 + 0.09 * abs(x), 2) * (cloth - behind)
        if p.style != "long":
            for side in _SIDES:
                ear = self._soft(0.5 * (bump(x, y, side * (p.head_width + 0.01), 0.02, 0.055, 0.11) - 0.3), 2)
                rim = 0.62 + 0.25 * bump(x, y, side * (p.head_width + 0.04), 0, 0.03, 0.1)
                behind += ear * (color(p.skin) * rim - behind)
        return behind
