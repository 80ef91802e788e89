"""The frames between two photographs of one person: an onset whose course is known exactly.

The second photograph is registered to the first: a smooth field of displacements u says where each point x of the first
is in the second, x + u(x). A frame that shows the share s of the change lies on the way, at x + s u(x): both
photographs are warped there, and blended with weights 1 - s and s.

The field starts as a thin-plate spline through points of the face, then maximizes the local correlation of the
pictures (normalized, windows of WINDOW pixels), coarse to fine, with a penalty on stretching and on folds.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import RBFInterpolator
from torch import Tensor

# (side of the pictures in pixels, cells of the field per side, steps of Adam), coarse to fine.
STAGES = ((120, 16, 60), (240, 32, 80))
RATE = 0.004  # of Adam, in half sides of the picture
WINDOW = 9
STRETCH, FOLD = 1.0, 100.0  # weights of the penalties
SMALLEST = 0.3  # an area may shrink to this share before it counts as a fold
INVERSION = 12  # steps of the fixed point iteration; s u is a contraction, since it does not fold


class Morph:
    """Two photographs of one person, float [3, S, S] in [0, 1], and everything between them.

    `points`, float [2, P, 2], are corresponding points in their pixels, such as eyes, nose and corners of the mouth.
    """

    def __init__(self, first: Tensor, second: Tensor, points: np.ndarray) -> None:
        self.first, self.second = first[None], second[None]
        self.field = _register(self.first, self.second, (points + 0.5) * (2 / first.shape[-1]) - 1)

    def frame(self, share: float, view: np.ndarray, side: int) -> np.ndarray:
        """The frame that shows a share of the change, uint8 [side, side, 3]: 0 is the first photograph, 1 the second.

        `view`, float [2, 3], is the affine map from the frame to the square. Both reach from -1 to 1.
        """
        there = _grid(side) @ torch.from_numpy(view[:, :2].T).float() + torch.from_numpy(view[:, 2]).float()
        at = there
        for _ in range(INVERSION):  # the x with x + s u(x) = there
            at = there - share * _moves(self.field, at)
        pictures = [_sample(self.first, at), _sample(self.second, at + _moves(self.field, at))]
        mixed = (1 - share) * pictures[0] + share * pictures[1]
        pixels: np.ndarray = mixed[0].permute(1, 2, 0).mul(255).round().clamp(0, 255).to(torch.uint8).numpy()
        return pixels


def _grid(side: int) -> Tensor:
    """x and y of every pixel in [-1, 1], float [1, side, side, 2]."""
    axis = (torch.arange(side) + 0.5) * (2 / side) - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)[None]


def _sample(picture: Tensor, at: Tensor) -> Tensor:
    return F.grid_sample(picture, at, mode="bicubic", padding_mode="border", align_corners=False)


def _moves(field: Tensor, at: Tensor) -> Tensor:
    """The displacements [1, H, W, 2] at places; the field's outer nodes lie on the border of the square."""
    return F.grid_sample(field, at, mode="bicubic", padding_mode="border", align_corners=True).permute(0, 2, 3, 1)


def _spline(points: np.ndarray, cells: int) -> Tensor:
    """The thin-plate spline through the points, [1, 2, cells, cells]; the border of the square stays where it is."""
    ring = [(x, y) for x in np.linspace(-1, 1, 5) for y in np.linspace(-1, 1, 5) if 1 in (abs(x), abs(y))]
    places = np.concatenate([points[0], ring])
    moves = np.concatenate([points[1] - points[0], np.zeros((len(ring), 2))])
    axis = np.linspace(-1, 1, cells)
    nodes = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    values = RBFInterpolator(places, moves, kernel="thin_plate_spline")(nodes)
    return torch.from_numpy(values).float().view(1, cells, cells, 2).permute(0, 3, 1, 2)


def _register(first: Tensor, second: Tensor, points: np.ndarray) -> Tensor:
    """The field of displacements, [1, 2, cells, cells], in half sides of the square."""
    field = _spline(points, STAGES[0][1])
    for side, cells, steps in STAGES:
        field = F.interpolate(field, (cells, cells), mode="bicubic", align_corners=True).requires_grad_(True)
        one, other = (F.interpolate(each, (side, side), mode="area").mean(1, keepdim=True) for each in (first, second))
        grid = _grid(side)
        adam = torch.optim.Adam([field], lr=RATE)
        for _ in range(steps):
            u = F.interpolate(field, (side, side), mode="bicubic", align_corners=True)
            moved = F.grid_sample(other, grid + u.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
            loss = _penalty(u) - _correlation(one, moved).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        field = field.detach()
    return field


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    """The correlation of two pictures around each pixel, in [-1, 1]; near 0 where nothing is to be seen."""

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, WINDOW, 1, WINDOW // 2, count_include_pad=False)

    m, n = mean(one), mean(other)
    spread = ((mean(one * one) - m * m).clamp(min=0) + 1e-4) * ((mean(other * other) - n * n).clamp(min=0) + 1e-4)
    return (mean(one * other) - m * n) / spread.sqrt()


def _penalty(u: Tensor) -> Tensor:
    """Of stretching: the mean square of the first derivatives; and of folds: where an area almost vanishes."""
    per_pixel = u.shape[-1] / 2
    across, down = (u[..., 1:] - u[..., :-1]) * per_pixel, (u[..., 1:, :] - u[..., :-1, :]) * per_pixel
    x, y = across[0, :, :-1], down[0, :, :, :-1]
    area = (1 + x[0]) * (1 + y[1]) - x[1] * y[0]  # the determinant of the map's derivative
    stretch = across.square().mean() + down.square().mean()
    return STRETCH * stretch + FOLD * (SMALLEST - area).clamp(min=0).square().mean()
