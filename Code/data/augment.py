"""From uint8 frames on the device to float frames in [0, 1] that the network sees.

A transform maps `frames` uint8 [B, T, channels, H, W] and a CPU generator to float32 [B, T, 3, S, S]. Random numbers
are drawn on the CPU and moved, so that a seed means the same on every device. Frames are not normalized by mean and
deviation: the published checkpoints expect [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import UsageError


def to_float(frames: Tensor, size: int | None = None) -> Tensor:
    """uint8 [..., channels, H, W] -> float32 [..., 3, S, S] in [0, 1]; grayscale becomes three equal channels."""
    images = frames.flatten(0, -4).float().div_(255)  # [N, channels, H, W]
    if size is not None and images.shape[-2:] != (size, size):
        images = F.interpolate(
            images, (size, size), mode="bilinear", align_corners=False, antialias=size < images.shape[-1]
        )
    # The memory format in which convolutions are fast; the backbone gets the images as they are.
    images = images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    return images.unflatten(0, frames.shape[:-3])


class PlainFrames:
    """Evaluation: converts frames to float, and resizes them if `size` is given."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size

    def __call__(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `to_float`; nothing is drawn."""
        return to_float(frames, self.size)


class FlippedClips:
    """Training of FAN: flips clips horizontally with probability 1/2, all frames of a clip alike."""

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [B, T, channels, H, W] -> float32 [B, T, 3, H, W] in [0, 1]."""
        flip = torch.rand(len(frames), generator=generator) < 0.5
        flip = flip.to(frames.device, non_blocking=True)[:, None, None, None, None]
        return to_float(torch.where(flip, frames.flip(-1), frames))


# The choices of `--augmentation` for training clips. A new one is a class above and an entry here.
AUGMENTATIONS: dict[str, Callable[[], Callable[[Tensor, torch.Generator], Tensor]]] = {
    "flip": FlippedClips,
    "none": PlainFrames,
}


def augmentation_named(name: str) -> Callable[[Tensor, torch.Generator], Tensor]:
    """The augmentation that `--augmentation` names.

    Raises:
        UsageError: there is no such augmentation.
    """
    if name not in AUGMENTATIONS:
        raise UsageError(f"--augmentation {name}: unknown; Code/data/augment.py has {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[name]()
