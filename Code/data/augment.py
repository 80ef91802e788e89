"""From uint8 frames on the device to float frames in [0, 1] that the network sees.

A transform is called with `frames` uint8 [B, T, channels, H, W] and a CPU generator, and returns
float32 [B, T, 3, S, S]. Random numbers are drawn on the CPU and moved, so that a seed means the
same on every device. Frames are not normalized by mean and deviation: the published checkpoints expect [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass
class FaceAugmentation:
    """Pretraining on stills: varies face crops in one resampling step.

    One affine map per image combines flip, roll, scale and shift, and samples the source at the size of the network's
    input. Then brightness and contrast change, and one box is erased. All values are drawn uniformly from [-v, v].

    Attributes:
        size: side of the result, in pixels.
        roll: in degrees.
        scale: relative size of the crop.
        shift: fraction of half the image's side.
        contrast, brightness: relative to the range [0, 1].
        erase: probability of erasing a box with a random gray (occlusion).
        stretch: relative change of the height against the width; None: none is drawn.
    """

    size: int
    roll: float = 12.0
    scale: float = 0.15
    shift: float = 0.12
    contrast: float = 0.4
    brightness: float = 0.2
    erase: float = 0.5
    stretch: float | None = None

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [B, T, channels, H, W] -> float32 [B, T, 3, S, S] in [0, 1]; every frame is varied by itself."""
        images = frames.flatten(0, 1).float().div_(255)  # [N, channels, H, W]
        images = self.place(images, generator)
        images = self.expose(images, generator)
        images = self.erase_box(images, generator)
        images = images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        return images.unflatten(0, frames.shape[:2])

    def place(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Flips, rolls, scales, stretches and shifts float images [N, channels, H, W] -> [N, channels, S, S]."""
        number = len(images)

        def draw(extent: float) -> Tensor:
            return (torch.rand(number, generator=generator) * 2 - 1) * extent

        angle, zoom = draw(math.radians(self.roll)), 1 + draw(self.scale)
        tall = 1.0 if self.stretch is None else 1 + draw(self.stretch)
        mirror = torch.where(torch.rand(number, generator=generator) < 0.5, -1.0, 1.0)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        across = torch.stack([mirror * cos, -sin * tall, draw(self.shift)], dim=1)
        down = torch.stack([mirror * sin, cos * tall, draw(self.shift)], dim=1)
        theta = torch.stack([across, down], dim=1).to(images.device)  # [N, 2, 3]
        grid = F.affine_grid(theta, [number, 1, self.size, self.size], align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)  # black outside of the source

    def expose(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changes contrast and brightness of float images [N, channels, S, S]."""

        def draw(extent: float) -> Tensor:
            values = (torch.rand(len(images), generator=generator) * 2 - 1) * extent
            return values.to(images.device)[:, None, None, None]

        contrast, brightness = 1 + draw(self.contrast), draw(self.brightness)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return ((images - mean) * contrast + mean + brightness).clamp_(0, 1)

    def erase_box(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Covers a box in some of the float images [N, channels, S, S]."""
        number, size, device = len(images), self.size, images.device
        center = torch.rand(2, number, 1, generator=generator) * size
        half = (0.05 + 0.2 * torch.rand(2, number, 1, generator=generator)) * size
        hit = torch.rand(number, 1, 1, generator=generator) < self.erase
        gray = torch.rand(number, 1, 1, 1, generator=generator).to(device)
        pixels = torch.arange(size) + 0.5
        rows, columns = ((pixels - center).abs() < half).unbind(0)  # [N, S] each
        box = (rows[:, :, None] & columns[:, None, :] & hit).to(device)
        return torch.where(box[:, None], gray, images)
