"""The pictures of a full pass, resampled by area as in training: levels of the pyramid, and crops of candidates.

On a CPU Pillow does it. On a GPU all means over rectangles come from one integral image, so that no candidate needs a
kernel of its own.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .mtcnn import resized, stacked

# What is shrunk by this or more is made from a copy of half the size. P-Net's levels need less detail than crops.
LEVEL_RATIO, CROP_RATIO = 3.0, 4.0


class Pyramids:
    """N pictures on the CPU, each with copies of half its size, a quarter, ...: little is read for a small result.

    Args:
        images: uint8 [N, H, W, 3], RGB.
    """

    def __init__(self, images: np.ndarray) -> None:
        self.size = images.shape[1:3]
        self._copies = [[Image.fromarray(np.ascontiguousarray(image))] for image in images]

    def level(self, height: int, width: int) -> Tensor:
        """All of the pictures at a smaller size: uint8 [N, height, width, 3]."""
        halvings = _halvings(min(self.size[0] / height, self.size[1] / width), LEVEL_RATIO)
        everything = (0.0, 0.0, float(self.size[1]), float(self.size[0]))
        levels = [self._resized(place, everything, halvings, (width, height)) for place in range(len(self._copies))]
        return torch.from_numpy(np.stack([np.asarray(level) for level in levels]))

    def crops(self, corners: np.ndarray, where: np.ndarray, side: int) -> Tensor:
        """Crops of K candidates: uint8 [K, side, side, 3].

        Args:
            corners: int64 [K, 4], left, top, right, bottom in pixels, within the picture.
            where: int64 [K], their pictures.
            side: of the crops in pixels.
        """
        cut = []
        for (left, top, right, bottom), place in zip(corners.tolist(), where.tolist(), strict=True):
            halvings = _halvings(min(right - left, bottom - top) / side, CROP_RATIO)
            cut.append(self._resized(place, (left, top, right, bottom), halvings, (side, side)))
        return stacked(cut, side)

    def _resized(
        self, place: int, box: tuple[float, float, float, float], halvings: int, size: tuple[int, int]
    ) -> Image.Image:
        copies = self._copies[place]
        while len(copies) <= halvings:
            copies.append(copies[-1].reduce(2))
        scale = 0.5**halvings
        left, top, right, bottom = (edge * scale for edge in box)
        return resized(copies[halvings], (left, top, right, bottom), size)


def _halvings(ratio: float, least: float) -> int:
    """How often a picture is halved before it is resampled, if it shrinks by `ratio`: at least `least` / 2 is left."""
    return max(0, math.floor(math.log2(ratio / least)) + 1)


class Sums:
    """N pictures as integral images: the sums over all rectangles from the top left, int32 [N, H + 1, W + 1, 3].

    They hold integers, so the means are those of `interpolate(mode="area")` to the last bit. The sums overflow in large
    pictures. Their differences, sums over smaller rectangles, are right nevertheless.

    Args:
        images: uint8 [N, H, W, 3], RGB.
        device: where the sums are.
    """

    def __init__(self, images: np.ndarray, device: torch.device | str) -> None:
        self.size = images.shape[1:3]
        pixels = torch.from_numpy(images).to(device)
        along = pixels.cumsum(2, dtype=torch.int32).cumsum(1, dtype=torch.int32)
        self._sums = functional.pad(along, (0, 0, 1, 0, 1, 0))

    def level(self, height: int, width: int) -> Tensor:
        """All of the pictures at a smaller size: float32 [N, height, width, 3]."""
        sizes = torch.tensor(self.size, device=self._sums.device)
        top, bottom = _windows(sizes[0], height)
        left, right = _windows(sizes[1], width)
        rows = self._sums.index_select(1, bottom) - self._sums.index_select(1, top)
        total = (rows.index_select(2, right) - rows.index_select(2, left)).float()
        return total / (bottom - top)[:, None, None] / (right - left)[:, None]

    def crops(self, corners: np.ndarray, where: np.ndarray, side: int) -> Tensor:
        """Crops of K candidates: float32 [K, side, side, 3]; see `Pyramids.crops`."""
        height, width = self.size
        left, top, right, bottom = torch.from_numpy(corners).to(self._sums.device).unbind(1)
        first_row, last_row = (top[:, None] + at for at in _windows(bottom - top, side))  # [K, side]
        first_column, last_column = (left[:, None] + at for at in _windows(right - left, side))
        start = torch.from_numpy(where).to(self._sums.device)[:, None] * (height + 1)
        flat = self._sums.view(-1, 3)

        def corner(rows: Tensor, columns: Tensor) -> Tensor:
            at = ((start + rows) * (width + 1))[:, :, None] + columns[:, None]
            return flat.index_select(0, at.view(-1))

        total = corner(last_row, last_column) - corner(first_row, last_column)
        total += corner(first_row, first_column) - corner(last_row, first_column)
        rows, columns = last_row - first_row, last_column - first_column
        return total.view(-1, side, side, 3).float() / rows[:, :, None, None] / columns[:, None, :, None]


def _windows(length: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Starts and ends of the windows of area interpolation from `length` pixels to `parts`: [..., parts] each."""
    part = torch.arange(parts, device=length.device)
    length = length[..., None]
    return part * length // parts, ((part + 1) * length + parts - 1) // parts
