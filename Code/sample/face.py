"""Draws one frame of a synthetic face.

The face is a relief, a height over the picture plane. Action units raise and lower parts of it (cheeks, furrows,
folds), and the person's light shades it. Parts with edges (eyes, brows, nostrils, lips, teeth) are painted on top, as
areas between curves. A mesh then moves the picture with the head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .canvas import MARGIN, Array, Canvas, bump, color, edge, line, step
from .person import Layers, Person

_F = np.float32
# Those of the Facial Action Coding System (Ekman and Friesen, 1978): the visible effects of one muscle each.
ACTION_UNITS = {
    "au1": "inner brow raised", "au2": "outer brow raised", "au4": "brows lowered and drawn together",
    "au5": "upper lid raised", "au6": "cheeks raised", "au7": "lids tightened", "au9": "nose wrinkled",
    "au10": "upper lip raised", "au12": "lip corners pulled up", "au15": "lip corners pulled down",
    "au16": "lower lip pulled down", "au17": "chin raised", "au20": "lips stretched sideways",
    "au22": "lips funnelled, mouth round", "au23": "lips tightened", "au25": "lips parted", "au26": "jaw dropped",
    "au43": "eyes closed",
}  # fmt: skip
ActionUnits = dict[str, float]


def add_action_units(*parts: ActionUnits) -> ActionUnits:
    """The sum of action units, each clipped to [-0.5, 1.4]."""
    total = dict.fromkeys(ACTION_UNITS, 0.0)
    for part in parts:
        for unit, strength in part.items():
            total[unit] = min(max(total[unit] + strength, -0.5), 1.4)
    return total


class Mouth:
    """The mouth: four curves, the edges of both lips, over s in [-1, 1] from corner to corner.

    `half` is half its width, `jaw` how far the jaw has dropped, `corner_y` the y of the corners, and `inner_top` and
    `inner_low` those, in the middle, of the upper lip's lower edge and the lower lip's upper edge.
    """

    def __init__(self, person: Person, units: ActionUnits) -> None:
        p, au = person, units
        self.person, self.units = person, units
        opened, smile, stretch = max(au["au25"], 0.0), au["au12"], au["au20"]
        tight, wrinkle = max(au["au23"], 0.0), max(au["au9"], 0.0)
        self.round = min(max(au["au22"], 0.0), 1.0)
        self.jaw = max(0.26 * au["au26"], 0.0)
        width = 1 + 0.29 * smile + 0.26 * stretch - 0.16 * tight - 0.42 * self.round
        self.half = p.mouth_width * (width - 0.06 * au["au17"] + 0.05 * au["au15"])
        y, pushed, lift = p.mouth_y, 0.035 * au["au17"], 0.055 * au["au10"] + 0.035 * wrinkle
        if opened < 0.05:
            self.inner_top = self.inner_low = y - 0.5 * lift - pushed + 0.02 * smile
        else:
            drawn = 0.026 + 0.05 * au["au16"] + 0.055 * smile + 0.03 * stretch
            self.inner_top = y - lift - pushed - 0.012 * opened - 0.01 * smile
            self.inner_low = y - 0.35 * lift - pushed + self.jaw + opened * drawn
        thin = 1 - 0.62 * tight
        upper = thin - 0.35 * smile - 0.25 * au["au10"] - 0.2 * stretch + 0.25 * self.round
        lower = thin - 0.25 * smile - 0.2 * stretch + 0.2 * au["au17"] + 0.15 * self.round
        self.upper, self.lower = p.lip_upper * max(upper, 0.22), p.lip_lower * max(lower, 0.25)
        closed = y - 0.5 * pushed
        middle = (self.inner_top + self.inner_low) / 2
        self.corner_y = closed + 0.55 * (middle - closed) + 0.2 * self.jaw * self.round
        self.corner_y += -0.115 * smile + 0.095 * au["au15"] + 0.025 * stretch + 0.02 * au["au10"]

    def paint(self, image: Array, canvas: Canvas) -> None:
        """Paints the mouth onto the canvas, float32 [3, S, S], in place."""
        p, au = self.person, self.units
        top = min(self.inner_top - self.upper, self.corner_y) - 0.08
        low = max(self.inner_low + self.lower, self.corner_y) + 0.12
        rows, cols = canvas.window(0, (top + low) / 2, self.half + 0.16, (low - top) / 2)
        x, y = canvas.x[:, cols], canvas.y[rows]
        patch = image[:, rows, cols]
        s = x * _F(1 / self.half)
        outer_top, inner_top, inner_low, outer_low = self._curves(s)
        within = (1 - abs(s)) * _F(self.half)
        # A shadow below the lower lip and light above the upper lip give the lips volume.
        patch *= 1 - _F(0.26) * bump(s, (y - outer_low - _F(0.025)) * 12, 0, 0, 0.32, 0.32)
        patch *= 1 + _F(0.06) * bump(s, (y - outer_top + _F(0.02)) * 14, 0, 0, 0.32, 0.25)

        skin = color(p.skin)
        red = skin * color([0.80, 0.52, 0.50]) + color([18, 2, 6])
        lip = (skin * _F(0.86 - 0.86 * p.lip_red) + red * _F(p.lip_red)) * _F(p.ambient + 0.42)
        v = (y - outer_top) / np.maximum(inner_top - outer_top, 0.004)
        upper = lip * (0.86 - _F(0.16) * step(v))
        patch += _F(0.92) * edge(np.minimum(np.minimum(y - outer_top, inner_top - y), within), 0.021) * (upper - patch)
        v = (y - inner_low) / np.maximum(outer_low - inner_low, 0.004)
        lower = lip * (1.04 - _F(0.30) * step(v * 0.9 + 0.02))
        lower += _F(34) * bump(s, v, p.light[0] * 0.25, 0.32, 0.22, 0.14)
        patch += _F(0.92) * edge(np.minimum(np.minimum(y - inner_low, outer_low - y), within), 0.021) * (lower - patch)

        gap = inner_low - inner_top
        hole = edge(np.minimum(np.minimum(y - inner_top, inner_low - y), within)) * step(gap * 60)
        patch += hole * (self._cavity(s, y, inner_top, inner_low) - patch)
        # The line between the lips, and the pits at the corners.
        seam = line(y - inner_top, 0.016) * step((1.06 - abs(s)) * 8)
        patch *= 1 - _F(0.62) * seam * (1 - 0.35 * step(gap * 40))
        pit, frown = 0.28 + 0.25 * max(au["au12"], au["au15"], 0), 0.25 * max(au["au15"], 0)
        for side in (-1, 1):
            patch *= 1 - _F(pit) * bump(x, y, side * self.half * 1.02, self.corner_y + 0.005, 0.026, 0.022)
            patch *= 1 - _F(frown) * bump(x, y, side * (self.half + 0.02), self.corner_y + 0.05, 0.022, 0.04)

    def _curves(self, s: Array) -> tuple[Array, Array, Array, Array]:
        """y of the outer top, inner top, inner low and outer low edges of the lips at s."""
        au = self.units
        s2 = np.minimum(s * s, 1)
        parabola, square, oval = 1 - s2, 1 - s2 * s2, np.sqrt(1 - s2)
        boxy = _F(min(0.6 * max(au["au20"], 0) + 0.6 * max(au["au16"], 0), 1))
        profile = parabola + boxy * (square - parabola)
        profile = profile + _F(self.round) * (oval - profile)
        # A raised upper lip goes up on both sides, without a peak.
        lifted = _F(0.8 * min(max(au["au10"], au["au9"], 0), 1))
        corner = _F(self.corner_y)
        inner_top = corner + (_F(self.inner_top) - corner) * (profile + lifted * (square - profile))
        inner_low = corner + (_F(self.inner_low) - corner) * profile
        flat = np.zeros_like(s)
        bow = bump(s, flat, 0, 0, 0.10, 1) - 0.8 * (bump(s, flat, 0.26, 0, 0.16, 1) + bump(s, flat, -0.26, 0, 0.16, 1))
        bow = bow * _F(0.014 * (1 - 0.6 * self.round))
        outer_top = inner_top - _F(self.upper) * oval * (1 - 0.25 * s2) + bow * parabola
        outer_low = inner_low + _F(self.lower) * parabola * (1 + 0.2 * parabola)
        return outer_top, inner_top, inner_low, outer_low

    def _cavity(self, s: Array, y: Array, inner_top: Array, inner_low: Array) -> Array:
        """Colors inside the open mouth: tongue, upper teeth and, above a lowered lip, lower teeth."""
        au = self.units
        inside = color([46, 18, 18]) + np.zeros_like(s + y)
        tongue = bump(s, y, 0, self.inner_low - 0.02, 0.42, 0.06) * step((inner_low - inner_top) * 8 - 0.5)
        inside += tongue * (color([150, 72, 72]) - inside)
        tooth = s * _F(self.half / 0.062)
        seam = step((abs(tooth - np.floor(tooth) - 0.5) - 0.40) * 10)
        ivory = (1 - 0.55 * s * s) * _F(0.72 + 0.28 * self.person.ambient) * (1 - _F(0.22) * seam)
        teeth = color([232, 224, 208]) * ivory
        shown = max(0.05 + 0.035 * au["au10"] + 0.03 * au["au12"] - 0.025 * self.round, 0.01)
        above = edge(inner_top + _F(shown) * (1 - 0.25 * s * s) - y, 0.021)
        inside += above * (teeth * (0.72 + 0.28 * step((y - inner_top) * 40)) - inside)
        bared = 0.03 * max(au["au20"], 0) + 0.06 * max(au["au16"], 0) - 0.01
        if bared > 0.008:
            below = edge(y - inner_low + _F(bared) * (1 - 0.3 * s * s), 0.021) * (1 - above)
            inside += below * (teeth * _F(0.86) - inside)
        return inside


_CELLS = 6  # per side, of the mesh that moves the picture


@dataclass(frozen=True, slots=True)
class Pose:
    """The pose of the head, and the direction of gaze."""

    dx: float = 0.0  # shift in face units
    dy: float = 0.0
    scale: float = 1.0  # 1 is the size of the aligned face
    roll: float = 0.0  # sine of the angle
    yaw: float = 0.0  # turn to the side; at 1 both eyes are just visible
    gaze: float = 0.0  # from -1, far left, to 1, far right


class Face:
    """Draws one synthetic person with any expression in any pose, in pictures of `size` pixels a side.

    `rng` draws the texture of skin and hair, and the background.
    """

    def __init__(self, person: Person, size: int, rng: np.random.Generator) -> None:
        self.person, self.size = person, size
        self.canvas = Canvas(size)
        self.layers = Layers(person, self.canvas, rng)
        side = self.canvas.size
        self.hairs = rng.integers(110, 256, (side, side)).astype(np.float32) * _F(1 / 255)

    def draw(self, units: ActionUnits, pose: Pose) -> Image.Image:
        """Draws the face with action units `units` in `pose`: RGB, size x size."""
        au = add_action_units(units)
        mouth = Mouth(self.person, au)
        image, cover = self._skin(au, mouth)
        for side in (-1, 1):
            self._eye(image, side, au, pose.gaze)
            self._brow(image, side, au)
            self._nostril(image, side, au)
            self._fold(image, side, au, mouth)
        mouth.paint(image, self.canvas)
        layers = self.layers
        image = layers.behind + cover * (image - layers.behind)
        image += layers.front_cover * (layers.front - image)
        if self.person.glasses:
            self._glasses(image)
        pixels = np.clip(image + _F(0.5), 0, 255).astype(np.uint8)
        return self._move(Image.merge("RGB", [Image.fromarray(channel) for channel in pixels]), pose)

    def _skin(self, au: ActionUnits, mouth: Mouth) -> tuple[Array, Array]:
        """Shaded skin [3, S, S], and its opacity [S, S]."""
        p, layers, px = self.person, self.layers, self.canvas.px
        height, width, albedo = layers.height, layers.half_width, layers.albedo
        for unit, relief in layers.relief.items():
            if abs(au[unit]) > 0.02:
                height = height + _F(au[unit]) * relief
        if mouth.jaw > 0.004:  # the jaw drops: shift the rows around and below the mouth down
            y = self.canvas.y[:, 0]
            source = y - _F(mouth.jaw) * step((y - _F(p.mouth_y - 0.30)) * _F(1.8))
            row = np.clip((source + _F(MARGIN)) * _F(px) - 0.5, 0, self.canvas.size - 1.001)
            low = row.astype(np.int64)
            part = row - low.astype(np.float32)
            width = width[low] + part * (width[low + 1] - width[low])
            height = height[low] + part[:, None] * (height[low + 1] - height[low])
            albedo = albedo[:, low]
        gx, gy = np.zeros_like(height), np.zeros_like(height)
        gx[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * _F(px / 2)
        gy[1:-1] = (height[2:] - height[:-2]) * _F(px / 2)
        lx, ly, lz = p.light
        length = math.sqrt(lx * lx + ly * ly + lz * lz)
        lambert = (_F(lz) - _F(lx) * gx - _F(ly) * gy) / (np.sqrt(gx * gx + gy * gy + 1) * _F(length))
        lambert = np.maximum(lambert, 0)
        shade = (_F(p.ambient) + _F(1.16 - p.ambient) * lambert) * layers.hair_shadow
        skin = albedo * shade
        skin[0] += (255 - skin[0]) * (1 - shade) * _F(0.03)  # shadows on skin are warm
        skin += np.maximum(lambert - _F(0.90), 0) * _F(156)
        return skin, step((width[:, None] - abs(self.canvas.x)) * _F(px / 3) + 0.5)

    def _eye(self, image: Array, side: int, au: ActionUnits, gaze: float) -> None:
        p = self.person
        ex, ey, ew = side * p.eye_x, p.eye_y, p.eye_width
        rows, cols = self.canvas.window(ex, ey, ew * 1.7, 0.2)
        x, y = self.canvas.x[:, cols], self.canvas.y[rows]
        patch = image[:, rows, cols]
        s = (x - _F(ex)) * _F(side / ew)  # -1 at the inner corner, 1 at the outer one
        arch = np.maximum(1 - s * s, 0)
        brow_in, brow_up = max(au["au4"], 0), min(max(au["au1"], 0), 1)
        wide, shut = min(max(au["au5"], 0), 1), 1 - min(max(1 - au["au43"], 0.0), 1.0)
        up = 0.064 * p.eye_open * (1 + 0.55 * au["au5"] - 0.30 * au["au7"] - 0.25 * au["au6"] - 0.14 * au["au4"])
        up = up * (1 - shut) - 0.022 * shut
        low = 0.040 * p.eye_open * (1 + 0.20 * au["au5"] - 0.65 * au["au7"] - 0.75 * au["au6"] - 0.3 * au["au9"])
        low = max(low, 0.004 if shut < 0.7 else 0.022)
        # Lids slant inwards below lowered brows, and droop outwards below raised inner brows.
        slant = 0.30 * brow_in * (1 - brow_up) - 0.30 * brow_up * (1 - wide) - 0.12
        tilt = _F(ey) - _F(p.eye_tilt) * s
        lid = tilt - _F(up) * arch * (1 + _F(slant) * s)
        under = tilt + _F(low) * arch * (1 + _F(0.25) * s)

        fade = edge((1.25 - abs(s)) * 0.1, 0.125)
        gap = 0.045 * (1 - 0.5 * au["au5"]) + 0.018 * shut
        patch *= 1 - _F(0.30) * fade * line(y - lid + _F(gap) * (0.4 + 0.6 * arch), 0.018)  # fold of the lid
        heavy = brow_in * 0.42 + max(au["au9"], 0) * 0.15
        patch *= 1 - _F(heavy) * bump(x, y, ex - side * 0.05, ey - 0.085, 0.12, 0.035)  # the brow's shadow
        inside = edge(np.minimum(np.minimum(y - lid, under - y), (1 - abs(s)) * _F(ew)))
        patch += inside * (self._eyeball(x, y, s, lid, ex + 0.05 * gaze, ey - 0.012) - patch)
        thick = _F(0.0065) + _F(0.0035) * s
        lashes = (1 - step((abs(y - lid) - thick) * _F(1 / 0.012))) * (abs(s) < 1.08)
        patch *= 1 - _F(0.72) * lashes
        patch *= 1 - _F(0.28) * line(y - under, 0.012) * (abs(s) < 1.0)
        pouch = 0.12 + 0.22 * max(au["au6"], au["au7"], 0)
        patch *= 1 - _F(pouch) * fade * line(y - under - _F(0.045 - 0.012 * au["au6"]), 0.022)

    def _eyeball(self, x: Array, y: Array, s: Array, lid: Array, gx: float, gy: float) -> Array:
        """The white of the eye with iris and pupil at (gx, gy), darker below the lid and in the corners."""
        p = self.person
        white = 1 - _F(0.38) * (1 - step((y - lid) * _F(1 / 0.055))) - _F(0.28) * s * s
        ball = color([226, 218, 212]) * (white * _F(0.55 + 0.45 * p.ambient))
        dx, dy = x - _F(gx), y - _F(gy)
        r = np.sqrt(dx * dx + dy * dy)
        iris = color(p.iris) * (0.6 + 0.6 * step(dy * 14 + 0.5)) * (1 - 0.45 * step((r - 0.045) * 50))
        ball += edge(_F(0.064) - r, 0.021) * (iris - ball)
        ball += edge(_F(0.028) - r, 0.021) * (_F(12) - ball)
        dx, dy = dx - _F(0.02 * p.light[0] + 0.008), dy + _F(0.024)
        ball += edge(_F(0.013) - np.sqrt(dx * dx + dy * dy)) * (_F(245) - ball)  # the reflection of the light
        return ball

    def _brow(self, image: Array, side: int, au: ActionUnits) -> None:
        p, one, two, four = self.person, au["au1"], au["au2"], au["au4"]
        lively = 1 + side * p.asymmetry
        base = p.eye_y - p.brow_gap
        drawn = max(four, 0)
        lowered = drawn * (1 - 0.75 * min(max(one, 0), 1))
        inner_y = base + 0.02 + lively * (-0.110 * one + 0.112 * lowered) + 0.04 * au["au9"]
        middle_y = base - p.brow_arch + lively * (-0.050 * one - 0.065 * two + 0.072 * lowered) + 0.03 * au["au9"]
        outer_y = base + 0.025 + lively * (-0.090 * two + 0.03 * one + 0.012 * lowered - 0.012 * four)
        inner_x = p.eye_x - p.eye_width * 1.12 - 0.04 * drawn
        outer_x = p.eye_x + p.eye_width * 1.25
        rows, cols = self.canvas.window(side * (inner_x + outer_x) / 2, (inner_y + outer_y) / 2, 0.27, 0.2)
        x, y = self.canvas.x[:, cols], self.canvas.y[rows]
        t = (x * _F(side) - _F(inner_x)) * _F(1 / (outer_x - inner_x))  # 0 inner end, 1 outer end
        bend = 4 * (middle_y - (inner_y + outer_y) / 2)
        curve = _F(inner_y) + _F(outer_y - inner_y) * t + _F(bend) * t * (1 - t)
        thick = _F(p.brow_thick) * (1.05 - 0.75 * np.maximum(t - 0.25, 0)) * (1 + _F(0.30 * drawn) * (1 - t))
        body = step((thick - abs(y - curve)) * 42 + 0.55) * step(t * 7 + 0.3) * step((1 - t) * 5 + 0.2)
        cover = np.minimum(body * _F(p.brow_dark) * self.hairs[rows, cols], 1)
        patch = image[:, rows, cols]
        patch += cover * (color(p.hair) * _F(0.42) - patch)

    def _nostril(self, image: Array, side: int, au: ActionUnits) -> None:
        p = self.person
        flare = 1 + 0.25 * max(au["au9"], 0) + 0.12 * max(au["au10"], 0)
        nx, ny = side * p.nose_width * 0.46 * flare, p.nose_y + 0.062 - 0.035 * au["au9"] - 0.012 * au["au10"]
        rows, cols = self.canvas.window(nx, ny, 0.2, 0.14)
        x, y = self.canvas.x[:, cols], self.canvas.y[rows]
        patch = image[:, rows, cols]
        patch *= 1 - _F(0.75) * bump(x, y, nx, ny, 0.026 * flare, 0.014)
        patch *= 1 - _F(0.28) * bump(x, y, side * p.nose_width * 0.98 * flare, ny - 0.03, 0.016, 0.038)
        patch *= 1 - _F(0.22) * bump(x, y, side * 0.03, ny + 0.022, 0.07, 0.014)

    def _fold(self, image: Array, side: int, au: ActionUnits, mouth: Mouth) -> None:
        """The fold from the wing of the nose past the corner of the mouth."""
        p = self.person
        raised = 0.9 * max(au["au12"], 0) + 0.8 * max(au["au9"], 0) + 0.7 * max(au["au10"], 0)
        pull = min(raised + 0.35 * max(au["au20"], 0), 1.3)
        top_x, top_y = p.nose_width * 1.15, p.nose_y - 0.04 * au["au9"]
        end_x = mouth.half + 0.075 + 0.03 * au["au12"]
        end_y = max(mouth.corner_y + 0.03 + 0.05 * au["au12"], top_y + 0.1)
        rows, cols = self.canvas.window(side * (top_x + end_x) / 2, (top_y + end_y) / 2, 0.2, 0.30)
        x, y = self.canvas.x[:, cols], self.canvas.y[rows]
        t = (y - _F(top_y)) * _F(1 / (end_y - top_y))
        bow = 4 * (0.05 * au["au12"] + 0.03 * au["au10"])
        d = x * _F(side) - (_F(top_x) + _F(end_x - top_x) * t + _F(bow) * t * (1 - t))
        ends = step(t * 6 + 0.5) * step((1 - t) * 3)
        patch = image[:, rows, cols]
        dark = 1 - step(np.maximum(-d * 11, d * 30))
        patch *= 1 - _F(0.05 + 0.10 * p.age + 0.21 * pull) * dark * ends
        patch *= 1 + _F(0.10 * pull) * bump(d, np.zeros_like(d), 0.05, 0.0, 0.035, 1.0) * ends

    def _glasses(self, image: Array) -> None:
        p = self.person
        for side in (-1, 1):
            cx, cy = side * p.eye_x, p.eye_y + 0.03
            rows, cols = self.canvas.window(cx, cy, 0.30, 0.26)
            x, y = self.canvas.x[:, cols] - _F(cx), self.canvas.y[rows] - _F(cy)
            corner_x, corner_y, radius = (0.0, 0.0, 0.215) if p.glasses == "round" else (0.16, 0.09, 0.065)
            qx, qy = np.maximum(abs(x) - _F(corner_x), 0), np.maximum(abs(y) - _F(corner_y), 0)
            outside = np.sqrt(qx * qx + qy * qy) - _F(radius)
            patch = image[:, rows, cols]
            patch += _F(0.05) * edge(-outside, 0.021) * (255 - patch)
            patch *= 1 - _F(0.62) * edge(_F(0.011) - abs(outside))
        rows, cols = self.canvas.window(0, p.eye_y, 0.14, 0.05)
        image[:, rows, cols] *= 1 - _F(0.55) * edge(_F(0.010) - abs(self.canvas.y[rows] - _F(p.eye_y)))

    def _move(self, picture: Image.Image, pose: Pose) -> Image.Image:
        """Shifts, scales, rolls and turns the canvas, and crops the picture from it."""
        out = 2 * self.size
        edges = [out * k // _CELLS for k in range(_CELLS + 1)]
        cosine = math.sqrt(1 - pose.roll * pose.roll)
        w = self.person.head_width + 0.1

        def source(across: int, down: int) -> tuple[float, float]:
            x, y = 2 * across / out - 1 - pose.dx, 2 * down / out - 1 - pose.dy
            x, y = (cosine * x + pose.roll * y) / pose.scale, (cosine * y - pose.roll * x) / pose.scale
            # Points nearer to the viewer move further when the head turns.
            depth = max(1 - x * x / (w * w), 0.0) * max(1 - y * y / 1.96, 0.0)
            x = (x - 0.34 * pose.yaw * depth) * (1 + 0.12 * abs(pose.yaw))
            limit = MARGIN - 0.01
            x, y = min(max(x, -limit), limit), min(max(y, -limit), limit)
            # Rounded to sixteenths of a pixel, so that differences in the last bits between machines have no effect.
            return round((x + MARGIN) * self.canvas.px * 16) / 16, round((y + MARGIN) * self.canvas.px * 16) / 16

        corners = [[source(across, down) for across in edges] for down in edges]
        cells = []
        for j in range(_CELLS):
            for i in range(_CELLS):
                box = (edges[i], edges[j], edges[i + 1], edges[j + 1])
                quad = (*corners[j][i], *corners[j + 1][i], *corners[j + 1][i + 1], *corners[j][i + 1])
                cells.append((box, quad))
        return picture.transform((out, out), Image.Transform.MESH, cells, Image.Resampling.BILINEAR).reduce(2)
