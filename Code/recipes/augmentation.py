"""Augmentation of single faces to pretrain on; with `--vary` as videos show them, with `--mix` two in one image.

Random numbers are drawn on the CPU from the generator of the epoch, so that a seed means the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batches import Batch
from ..network.attention import FANOutput
from ..training.loops import Loss

# Luminance table of the JPEG standard (ITU-T T.81, table K.1): the step of each frequency at quality 50.
_JPEG_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
BLOCK = 8
CONCENTRATION = 0.4  # of the symmetric beta distribution of the second image's weight
Transform = Callable[[Tensor, torch.Generator], Tensor]


@dataclass
class FaceAugmentation:
    """Varies face crops. What has an extent v is drawn uniformly from [-v, v] for each image; 0: not at all."""

    size: int  # side of the result, in pixels
    roll: float = 12.0  # degrees
    scale: float = 0.15  # relative size of the crop
    shift: float = 0.12  # fraction of half the image's side
    contrast: float = 0.4
    brightness: float = 0.2  # the range is [0, 1]
    erase: float = 0.5  # share of images with a box of random gray (occlusion)
    stretch: float = 0.0  # relative change of the height against the width
    gamma: float = 0.0  # of its logarithm
    light: float = 0.0  # relative brightness at the border, in a random direction
    small: float = 0.0  # share of images of low resolution
    blur: float = 0.0  # share of images out of focus
    jpeg: float = 0.0  # share of images that are compressed
    noise: float = 0.0  # highest standard deviation
    tint: float = 0.0  # relative gain of each color channel, in half of the images

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [B, T, channels, H, W] -> float32 [B, T, 3, S, S] in [0, 1]; every frame is varied by itself."""
        images = frames.flatten(0, 1).float().div_(255)  # [N, channels, H, W]
        images = self.place(images, generator)
        images = self.expose(images, generator)
        for share, change in ((self.small, self._shrink), (self.blur, self._blur), (self.jpeg, self._compress)):
            if share:
                chosen = torch.randperm(len(images), generator=generator)[: round(share * len(images))]
                for group in filter(len, chosen.chunk(2)):
                    images[group] = change(images[group], generator)
        images = self.erase_box(images, generator).expand(-1, 3, -1, -1)
        images = self.color(images, generator).contiguous(memory_format=torch.channels_last)
        return images.unflatten(0, frames.shape[:2])

    def place(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Flips, rolls, scales, stretches and shifts [N, channels, H, W] -> [N, channels, S, S] by one affine map."""
        number = len(images)

        def draw(extent: float) -> Tensor:
            return (torch.rand(number, generator=generator) * 2 - 1) * extent

        angle, zoom = draw(math.radians(self.roll)), 1 + draw(self.scale)
        tall = 1 + draw(self.stretch) if self.stretch else 1.0
        mirror = torch.where(torch.rand(number, generator=generator) < 0.5, -1.0, 1.0)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        across = torch.stack([mirror * cos, -sin * tall, draw(self.shift)], dim=1)
        down = torch.stack([mirror * sin, cos * tall, draw(self.shift)], dim=1)
        theta = torch.stack([across, down], dim=1).to(images.device)  # [N, 2, 3]
        grid = F.affine_grid(theta, [number, 1, self.size, self.size], align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)  # black outside of the source

    def expose(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changes gamma, light from one side, contrast and brightness of float images [N, channels, S, S]."""

        def draw(extent: float) -> Tensor:
            return ((torch.rand(len(images), 1, 1, 1, generator=generator) * 2 - 1) * extent).to(images.device)

        if self.gamma:
            images = (images.clamp(0, 1) + 1e-3) ** draw(self.gamma).exp()
        if self.light:
            axis, angle = torch.linspace(-1, 1, self.size, device=images.device), draw(math.pi)
            slope = axis[None, None, None, :] * angle.cos() + axis[None, None, :, None] * angle.sin()
            images = images * (1 + draw(self.light) * slope)
        contrast, brightness = draw(self.contrast), draw(self.brightness)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return ((images - mean) * (1 + contrast) + mean + brightness).clamp_(0, 1)

    def _shrink(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """To a third to three quarters of the side, and back."""
        side = max(4, round(float(torch.empty(1).uniform_(0.33, 0.75, generator=generator)) * self.size))
        small = F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
        return F.interpolate(small, (self.size, self.size), mode="bilinear", align_corners=False)

    def _blur(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A Gaussian; sigma is 1 to 3 % of the side."""
        sigma = float(torch.empty(1).uniform_(0.01, 0.03, generator=generator)) * self.size
        reach = max(1, round(2 * sigma))
        offsets = torch.arange(-reach, reach + 1, device=images.device)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
        padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
        blurred = F.conv2d(padded, kernel[:, :, None, :], groups=images.shape[1])
        return F.conv2d(blurred, kernel[:, :, :, None], groups=images.shape[1])

    def _compress(self, images: Tensor, generator: torch.Generator) -> Tensor:
        quality = torch.empty(len(images)).uniform_(10, 60, generator=generator)
        return jpeg_losses(images, quality.to(images.device))

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

    def color(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Tints float images [N, 3, S, S], and adds noise."""
        number = len(images)
        if self.tint:
            gain = 1 + (torch.rand(number, 3, 1, 1, generator=generator) * 2 - 1) * self.tint
            gain[torch.rand(number, generator=generator) < 0.5] = 1
            images = images * gain.to(images.device)
        if self.noise:
            grain = torch.rand(number, 1, 1, 1, generator=generator) * self.noise
            noise = torch.randn(number, 1, self.size, self.size, generator=generator) * grain
            images = images + noise.to(images.device)
        return images.clamp(0, 1)


# As videos show faces: larger extents, and what cameras, codecs and light do to them.
VARIED = {"roll": 18.0, "scale": 0.18, "shift": 0.14, "stretch": 0.1, "gamma": 0.5, "light": 0.4, "small": 0.25}
VARIED |= {"blur": 0.2, "jpeg": 0.3, "noise": 0.04, "tint": 0.15}


def jpeg_losses(images: Tensor, quality: Tensor) -> Tensor:
    """Images, float [N, channels, H, W] in [0, 1], as JPEG compression leaves them (ITU-T T.81).

    Each channel is treated as luminance. `quality`: float [N], 1 to 99, on the scale of libjpeg.
    """
    height, width = images.shape[-2:]
    down, across = -height % BLOCK, -width % BLOCK
    padded = F.pad(images, (0, across, 0, down), mode="replicate") * 255 - 128
    wave = torch.arange(BLOCK, device=images.device, dtype=images.dtype)
    basis = (math.pi / BLOCK * (wave[None, :] + 0.5) * wave[:, None]).cos() * math.sqrt(2 / BLOCK)  # [frequency, place]
    basis[0] /= math.sqrt(2)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None, None, None, None]
    steps = torch.tensor(_JPEG_STEPS, device=images.device, dtype=images.dtype)[:, None, :]
    steps = (steps * scale).round().clamp(1, 255)  # [N, 1, 1, 8, 1, 8]
    blocks = padded.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK))  # [N, channels, rows, 8, columns, 8]
    waves = torch.einsum("nkrycx,vy,ux->nkrvcu", blocks, basis, basis)
    waves = (waves / steps).round() * steps
    blocks = torch.einsum("nkrvcu,vy,ux->nkrycx", waves, basis, basis)
    return ((blocks.flatten(-2).flatten(-3, -2) + 128) / 255)[..., :height, :width].clamp(0, 1)


class Mixing:
    """The transform and the loss of a training in which a share of the steps mixes every image with another one.

    Half of these steps blend two images (mixup, Zhang et al., arXiv 1710.09412), the others paste a box of one into the
    other (CutMix, Yun et al., arXiv 1905.04899). `augment` comes before, and `unmixed` is the loss with one label.
    """

    def __init__(self, share: float, augment: Transform, unmixed: Loss) -> None:
        self.share, self.augment, self.unmixed = share, augment, unmixed
        self.second: Tensor | None = None  # int64 [B], the image that each one was mixed with
        self.weight = 1.0  # of the first image

    def transform(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [B, 1, channels, H, W] -> float32 [B, 1, 3, S, S] in [0, 1]."""
        images = self.augment(frames, generator)
        chance, cut, down, across = torch.rand(4, generator=generator).tolist()
        self.second = None
        if chance >= self.share:
            return images
        self.second = torch.randperm(len(images), generator=generator).to(images.device)
        self.weight = 1 - _second_weight(generator)
        second = images[self.second]
        if cut < 0.5:
            return images.lerp(second, 1 - self.weight)
        height, width = images.shape[-2:]
        box_height, box_width = (round(math.sqrt(1 - self.weight) * side) for side in (height, width))
        top, left = round(down * (height - box_height)), round(across * (width - box_width))
        box = (..., slice(top, top + box_height), slice(left, left + box_width))
        images = images.clone()
        images[box] = second[box]
        self.weight = 1 - box_height * box_width / (height * width)
        return images

    def loss(self, output: FANOutput, batch: Batch) -> Tensor:
        """The mean of the losses with the labels of the first and of the second images, weighted."""
        if self.second is None:
            return self.unmixed(output, batch)
        swapped: Batch = {**batch, "labels": batch["labels"][self.second]}
        return self.weight * self.unmixed(output, batch) + (1 - self.weight) * self.unmixed(output, swapped)


def _second_weight(generator: torch.Generator) -> float:
    """A beta variate, folded to at most 1/2: the first image's label always counts at least half."""
    # torch's beta distribution takes no generator; Jöhnk's method needs uniform numbers only.
    while True:
        one, two = (torch.rand(2, generator=generator) ** (1 / CONCENTRATION)).tolist()
        if 0 < one + two <= 1:
            value = one / (one + two)
            return min(value, 1 - value)
