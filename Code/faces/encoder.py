"""From face crops to the features that attention weighs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..common.device import Compute
from ..network.fan import FAN


class Encoder:
    """The backbone of a network, with crops prepared as in training.

    Args:
        fan: the network, in evaluation mode and on the device of `compute`.
        compute: device and precision.
        image_size: input side in pixels.
        gray: the network was trained on gray pictures.
    """

    def __init__(self, fan: FAN, compute: Compute, image_size: int, *, gray: bool) -> None:
        self._compute = compute
        self._size = (image_size, image_size)
        self._gray = gray
        self._encode = fan.encode
        if compute.device.type == "cpu" and compute.precision == "bf16":
            self._encode = converted_once(fan.backbone)

    @torch.inference_mode()
    def __call__(self, crops: Sequence[np.ndarray]) -> Tensor:
        """Features [N, D] of N crops, uint8 [H, W, 3]."""
        images = torch.from_numpy(np.stack([self._resized(crop) for crop in crops])).to(self._compute.device)
        with self._compute.autocast():
            features: Tensor = self._encode(images.permute(0, 3, 1, 2).float() / 255)
        return features.float()

    def _resized(self, crop: np.ndarray) -> np.ndarray:
        image = Image.fromarray(crop)
        if self._gray:  # one channel is resized instead of three that are equal
            return np.asarray(image.convert("L").resize(self._size, Image.Resampling.BILINEAR).convert("RGB"))
        return np.asarray(image.resize(self._size, Image.Resampling.BILINEAR))


def converted_once(backbone: nn.Module) -> nn.Module:
    """A copy whose convolutions keep their weights in bf16, in the order in which they are used.

    Autocast converts them for every batch, which takes a tenth of the time on a CPU. The features are the same.
    """
    copied = copy.deepcopy(backbone)
    for module in copied.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.to(torch.bfloat16, memory_format=torch.channels_last)
            module.weight = nn.Parameter(weight, requires_grad=False)
            if module.bias is not None:
                module.bias = nn.Parameter(module.bias.bfloat16(), requires_grad=False)
    return copied
