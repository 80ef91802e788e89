"""The mouth of a synthetic face: its shape under given action units, and how it is painted."""

from __future__ import annotations

import numpy as np

from Code.data.drawing.canvas import Array, Canvas, bump, colour, edge, line, step
from Code.data.drawing.expressions import Units
from Code.data.drawing.person import Person

_F = np.float32


class Mouth:
    """Four curves (both edges of both lips) over s in [-1, 1] between the corners.

    Attributes:
        half: half its width, face units.
        jaw: how far the jaw has dropped.
        corner_y: y of the corners.
        inner_top, inner_low: y, in the middle, of the upper lip's lower edge and the lower lip's upper edge.
    """

    def __init__(self, person: Person, units: Units) -> None:
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
        """Paint it onto the canvas, float32 [3, S, S], in place."""
        p, au = self.person, self.units
        top = min(self.inner_top - self.upper, self.corner_y) - 0.08
        low = max(self.inner_low + self.lower, self.corner_y) + 0.12
        rows, cols = canvas.window(0, (top + low) / 2, self.half + 0.16, (low - top) / 2)
        x, y = canvas.x[:, cols], canvas.y[rows]
        patch = image[:, rows, cols]
        s = x * _F(1 / self.half)
        outer_top, inner_top, inner_low, outer_low = self._curves(s)
        within = (1 - abs(s)) * _F(self.half)
        # Shadow below the lower lip and light above the upper one give the lips body.
        patch *= 1 - _F(0.26) * bump(s, (y - outer_low - _F(0.025)) * 12, 0, 0, 0.32, 0.32)
        patch *= 1 + _F(0.06) * bump(s, (y - outer_top + _F(0.02)) * 14, 0, 0, 0.32, 0.25)

        skin = colour(p.skin)
        red = skin * colour([0.80, 0.52, 0.50]) + colour([18, 2, 6])
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
        """y of outer top, inner top, inner low and outer low edge of the lips at s."""
        au = self.units
        s2 = np.minimum(s * s, 1)
        parabola, square, oval = 1 - s2, 1 - s2 * s2, np.sqrt(1 - s2)
        boxy = _F(min(0.6 * max(au["au20"], 0) + 0.6 * max(au["au16"], 0), 1))
        profile = parabola + boxy * (square - parabola)
        profile = profile + _F(self.round) * (oval - profile)
        # A raised upper lip goes up at both sides, not to a peak.
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
        """Colours inside the open mouth: tongue, upper teeth and, below a lowered lip, lower ones."""
        au = self.units
        inside = colour([46, 18, 18]) + np.zeros_like(s + y)
        tongue = bump(s, y, 0, self.inner_low - 0.02, 0.42, 0.06) * step((inner_low - inner_top) * 8 - 0.5)
        inside += tongue * (colour([150, 72, 72]) - inside)
        tooth = s * _F(self.half / 0.062)
        seam = step((abs(tooth - np.floor(tooth) - 0.5) - 0.40) * 10)
        ivory = (1 - 0.55 * s * s) * _F(0.72 + 0.28 * self.person.ambient) * (1 - _F(0.22) * seam)
        teeth = colour([232, 224, 208]) * ivory
        shown = max(0.05 + 0.035 * au["au10"] + 0.03 * au["au12"] - 0.025 * self.round, 0.01)
        above = edge(inner_top + _F(shown) * (1 - 0.25 * s * s) - y, 0.021)
        inside += above * (teeth * (0.72 + 0.28 * step((y - inner_top) * 40)) - inside)
        bared = 0.03 * max(au["au20"], 0) + 0.06 * max(au["au16"], 0) - 0.01
        if bared > 0.008:
            below = edge(y - inner_low + _F(bared) * (1 - 0.3 * s * s), 0.021) * (1 - above)
            inside += below * (teeth * _F(0.86) - inside)
        return inside
