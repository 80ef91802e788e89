"""Renders the frames of composed clips: stills that are spoiled, moved and lit.

A frame is one resampling step of its still. Each is computed on its own, so that its pixels do not depend on the frames
that it is rendered with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from .plan import Frame

_SIGMA = (2.5, 4.5)  # of the blur, in pixels of a 48 x 48 still
_CROP = (0.3, 0.5)  # visible share of the still's side in a bad crop
_TURN = (math.radians(70), math.radians(180))
_DARK = (0.06, 0.2)  # remaining contrast
_GRAIN = 0.03  # standard deviation of the noise in a dark frame
_BRIGHT = (0.08, 0.25)  # remaining contrast, below white
_COVER = (0.55, 0.85)  # half the sides of an occluder, relative to half the picture's side


def render(images: np.ndarray, frames: Sequence[Frame], size: int) -> Tensor:
    """T frames as uint8 [T, 1, size, size], of the stills `images`, uint8 [N, 48, 48], that they name."""
    sources = images[[frame.still for frame in frames]].astype(np.float32) / 255  # [T, 48, 48]
    pose = np.stack([frame.pose for frame in frames])
    for at, frame in enumerate(frames):
        kind, spoil = frame.kind, frame.spoil
        if kind == "blurred":
            sources[at] = gaussian_filter(sources[at], _between(_SIGMA, spoil[0]), mode="nearest")
        elif kind == "turned":
            pose[at, 1] += _between(_TURN, spoil[0]) * (1 if spoil[1] < 0.5 else -1)
        elif kind == "cropped":
            scale = _between(_CROP, spoil[0])
            # Off center: the crop shows less than half of the face, and stays inside the still.
            angle, reach = 2 * math.pi * spoil[1], min(0.55, 0.95 - scale)
            pose[at, 2:] = scale, reach * math.cos(angle), reach * math.sin(angle)
    pictures = _resampled(torch.from_numpy(sources), pose, size)  # [T, size, size]
    mean = pictures.mean(dim=(1, 2), keepdim=True)
    light = np.stack([frame.light for frame in frames]).astype(np.float32)
    contrast, brightness = torch.from_numpy(light).T[:, :, None, None]
    pictures = (pictures - mean) * contrast + mean + brightness
    for at, frame in enumerate(frames):
        kind, spoil = frame.kind, frame.spoil
        if kind == "occluded":
            pictures[at] = _occluded(pictures[at], spoil)
        elif kind == "dark":
            grain = np.random.default_rng(frame.noise).normal(0, _GRAIN, (size, size)).astype(np.float32)
            pictures[at] = pictures[at].clamp(0, 1) * _between(_DARK, spoil[0]) + torch.from_numpy(grain)
        elif kind == "bright":
            pictures[at] = 1.02 - (1 - pictures[at].clamp(0, 1)) * _between(_BRIGHT, spoil[0])
    return pictures.clamp_(0, 1).mul_(255).round_().to(torch.uint8)[:, None]


def _between(ends: tuple[float, float], share: float) -> float:
    return float(ends[0] + (ends[1] - ends[0]) * share)


def _resampled(sources: Tensor, pose: np.ndarray, size: int) -> Tensor:
    """Moves stills [T, 48, 48] by their poses to [T, size, size]. Outside of a still, its border is repeated."""
    mirror, _, scale, right, down = torch.from_numpy(pose.astype(np.float32)).T[:, :, None, None]
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1
    x, y = axis[None, None, :] * mirror, axis[None, :, None]
    # float64, because in float32 cos and sin of vectors may differ from those of single values
    cos, sin = (torch.from_numpy(f(pose[:, 1]).astype(np.float32))[:, None, None] for f in (np.cos, np.sin))
    across = scale * (cos * x - sin * y) + right
    along = scale * (sin * x + cos * y) + down
    grid = torch.stack([across, along], dim=-1)  # [T, size, size, 2]
    return F.grid_sample(sources[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _occluded(picture: Tensor, spoil: np.ndarray) -> Tensor:
    """Covers most of a face with a shaded, slanted block."""
    size = len(picture)
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1
    center = (spoil[:2] - 0.5) * 0.5
    wide, high = _between(_COVER, spoil[2]), _between(_COVER, spoil[3])
    angle = (spoil[4] - 0.5) * math.pi / 3
    x, y = axis[None, :] - float(center[0]), axis[:, None] - float(center[1])
    across, along = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    shade = 0.1 + 0.8 * float(spoil[5]) + 0.15 * across
    return torch.where((across.abs() < wide) & (along.abs() < high), shade, picture)
