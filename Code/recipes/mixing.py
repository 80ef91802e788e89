"""Mixup and CutMix: two faces in one image, and both of their labels in the loss.

Mixup (Zhang et al., arXiv 1710.09412) blends two images; CutMix (Yun et al., arXiv 1905.04899) pastes a box of one into
the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..data.batches import Batch
from ..network.attention import FANOutput
from ..training.losses import Loss

CONCENTRATION = 0.4  # of the symmetric beta distribution of the second image's weight
Transform = Callable[[Tensor, torch.Generator], Tensor]


class Mixing:
    """The transform and the loss of a training in which a share of the steps mixes every image with another one.

    Both belong together: the loss weights the labels of the two images as the transform before it has mixed them.

    Args:
        share: of the steps that mix; mixup in half of them, CutMix in the others.
        augment: what is done to the images before they are mixed.
        unmixed: the loss of images with one label.
    """

    def __init__(self, share: float, augment: Transform, unmixed: Loss) -> None:
        self.share, self.augment, self.unmixed = share, augment, unmixed
        self.second: Tensor | None = None  # int64 [B], the image that each one was mixed with
        self.weight = 1.0  # of the first image

    def transform(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [B, 1, channels, H, W] -> float32 [B, 1, 3, S, S] in [0, 1]."""
        images = self.augment(frames, generator)
        chance, cut, down, across = torch.rand(4, generator=generator).tolist()
        self.second, self.weight = None, 1.0
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
