"""Augmentation of single faces to pretrain on.

`FaceAugmentation` moves, lights and covers face crops. `VariedFaces` (`--vary`) adds what videos do to a face: they are
compressed, blurred, lit from one side, and cropped closer or wider. Random numbers are drawn on the CPU from the
generator of the epoch, so that a seed means the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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


@dataclass
class FaceAugmentation:
    """Varies face crops in one resampling step.

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
            return _drawn(extent, number, generator)

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
        extents = self.contrast, self.brightness
        contrast, brightness = (_drawn(each, len(images), generator, images.device) for each in extents)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return ((images - mean) * (1 + contrast) + mean + brightness).clamp_(0, 1)

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


@dataclass
class VariedFaces(FaceAugmentation):
    """`FaceAugmentation` with larger extents, and what cameras, codecs and light do to a face.

    Attributes:
        gamma: extent of its logarithm.
        light: relative brightness at the border, brighter on one side and darker on the other, in a random direction.
        small: share of images that are shrunk to 1/3 to 3/4 of the side and enlarged again.
        blur: share of images that are blurred (Gaussian, sigma 1 to 3 % of the side).
        jpeg: share of images that are compressed as JPEG does, at quality 10 to 60.
        noise: highest standard deviation of the noise.
        tint: relative gain of each color channel, in half of the images; gray images become colored.
    """

    roll: float = 18.0
    scale: float = 0.18
    shift: float = 0.14
    stretch: float | None = 0.1
    gamma: float = 0.5
    light: float = 0.4
    small: float = 0.25
    blur: float = 0.2
    jpeg: float = 0.3
    noise: float = 0.04
    tint: float = 0.15

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [B, T, channels, H, W] -> float32 [B, T, 3, S, S] in [0, 1]; every frame is varied by itself."""
        images = frames.flatten(0, 1).float().div_(255)  # [N, channels, H, W]
        images = self.place(images, generator)
        images = self.expose(images, generator)
        images = self._some(images, self.small, generator, self._shrink)
        images = self._some(images, self.blur, generator, self._blur)
        images = self._some(images, self.jpeg, generator, self._compress)
        images = self.erase_box(images, generator).expand(-1, 3, -1, -1)
        images = self._color(images, generator).clamp_(0, 1).contiguous(memory_format=torch.channels_last)
        return images.unflatten(0, frames.shape[:2])

    def expose(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Gamma and light from one side, then contrast and brightness, of float images [N, channels, S, S]."""
        device = images.device

        def draw(extent: float) -> Tensor:
            return _drawn(extent, len(images), generator, device)

        images = (images.clamp(0, 1) + 1e-3) ** draw(self.gamma).exp()
        axis = torch.linspace(-1, 1, self.size, device=device)
        angle = draw(math.pi)
        slope = axis[None, None, None, :] * angle.cos() + axis[None, None, :, None] * angle.sin()
        return super().expose(images * (1 + draw(self.light) * slope), generator)

    def _some(
        self,
        images: Tensor,
        part: float,
        generator: torch.Generator,
        change: Callable[[Tensor, torch.Generator], Tensor],
    ) -> Tensor:
        """Changes a random share of the images, in two groups."""
        chosen = torch.randperm(len(images), generator=generator)[: round(part * len(images))]
        images = images.clone() if len(chosen) else images
        for group in chosen.chunk(2):
            if len(group):
                at = group.to(images.device)
                images[at] = change(images[at], generator)
        return images

    def _shrink(self, images: Tensor, generator: torch.Generator) -> Tensor:
        side = max(4, round(float(torch.empty(1).uniform_(0.33, 0.75, generator=generator)) * self.size))
        small = F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
        return F.interpolate(small, (self.size, self.size), mode="bilinear", align_corners=False)

    def _blur(self, images: Tensor, generator: torch.Generator) -> Tensor:
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

    def _color(self, images: Tensor, generator: torch.Generator) -> Tensor:
        number, device = len(images), images.device
        gain = 1 + (torch.rand(number, 3, 1, 1, generator=generator) * 2 - 1) * self.tint
        gain[torch.rand(number, generator=generator) < 0.5] = 1
        grain = torch.rand(number, 1, 1, 1, generator=generator) * self.noise
        noise = torch.randn(number, 1, self.size, self.size, generator=generator)
        return images * gain.to(device) + (noise * grain).to(device)


def _drawn(extent: float, number: int, generator: torch.Generator, device: torch.device | None = None) -> Tensor:
    """Uniform in [-extent, extent]: float [N], or [N, 1, 1, 1] on a device."""
    values = (torch.rand(number, generator=generator) * 2 - 1) * extent
    return values if device is None else values.to(device)[:, None, None, None]


def jpeg_losses(images: Tensor, quality: Tensor) -> Tensor:
    """Images as JPEG compression leaves them: the frequencies of 8 x 8 blocks, rounded (ITU-T T.81).

    Each channel is treated as luminance.

    Args:
        images: float [N, channels, H, W] in [0, 1].
        quality: float [N], 1 to 99, on the scale of libjpeg.
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
    pixels = blocks.flatten(-2).flatten(-3, -2)
    return ((pixels + 128) / 255)[..., :height, :width].clamp(0, 1)
