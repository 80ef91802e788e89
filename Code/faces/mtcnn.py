"""MTCNN's three networks, with the weights that come with facenet-pytorch, and what full passes and refinement share.

P-Net proposes candidates, R-Net refines them, O-Net locates landmarks: Zhang et al. 2016, arXiv 1604.02878. The
networks are plain functions here: the package's modules import all of torchvision and torch's compiler, which takes
longer than answering a short video.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ..common.device import has_bf16
from ..common.errors import MissingExtraError, how_to_install


def weights_folder() -> Path:
    """Where facenet-pytorch keeps the weights; the package is not imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    spec = importlib.util.find_spec("facenet_pytorch")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"face detection needs facenet-pytorch: {how_to_install('faces')}")
    return Path(spec.submodule_search_locations[0]) / "data"


# Sides in pixels of the squares that the networks see, and how sure each of them has to be of a face.
SIDES, THRESHOLDS = {"p": 12, "r": 24, "o": 48}, {"p": 0.6, "r": 0.7, "o": 0.7}
# For each convolution of a network the side of the max pooling of stride 2 behind it; 0: none.
POOLS = {"p": (2, 0, 0), "r": (3, 3, 0), "o": (3, 3, 2, 0)}
# The heads, which are applied as one. P-Net has no linear layers: its heads are 1 x 1 convolutions.
HEADS = {"p": ("conv4_1", "conv4_2"), "r": ("dense5_1", "dense5_2"), "o": ("dense6_1", "dense6_2", "dense6_3")}
# Crops that a network takes at once. More leave a CPU's caches, and torch compiles a kernel for each new number.
AT_ONCE = {"r": 16, "o": 8}


class MTCNNStage:
    """One of the three networks, "p", "r" or "o".

    On a CPU that has bf16, R-Net and O-Net convolve in it, in oneDNN's own order of pixels: that takes half of the
    time, and moves landmarks by 0.03 pixels. P-Net does not: its scores are close to each other, and rounded ones would
    choose other candidates.
    """

    def __init__(self, letter: str, device: torch.device | str = "cpu") -> None:
        self.side, self.threshold = SIDES[letter], THRESHOLDS[letter]
        self.device = torch.device(device)
        on_cpu = self.device.type == "cpu" and torch.backends.mkldnn.is_available()
        self._reduced = on_cpu and letter != "p" and has_bf16(self.device)
        stored = torch.load(weights_folder() / f"{letter}net.pt", map_location=self.device, weights_only=True)
        self._at_once = AT_ONCE.get(letter, 0)
        self._pools, number = POOLS[letter], len(POOLS[letter])
        self._convolutions = [
            [self._convolution(stored[name.format(at)]) for name in ("conv{}.weight", "conv{}.bias", "prelu{}.weight")]
            for at in range(1, number + 1)
        ]
        weight, bias = (torch.cat([stored[f"{name}.{part}"] for name in HEADS[letter]]) for part in ("weight", "bias"))
        self._dense: tuple[Tensor, Tensor, Tensor] | None = None
        self._heads = self._convolution(weight) if letter == "p" else weight, bias
        if letter != "p":
            layer = f"dense{number + 1}"
            hidden, channels = stored[f"{layer}.weight"], len(stored[f"conv{number}.bias"])
            side = math.isqrt(hidden.shape[1] // channels)
            # The weights came from a library that flattens [W, H, C]; here the maps are [H, W, C].
            hidden = hidden.view(-1, side, side, channels).transpose(1, 2).flatten(1).contiguous()
            self._dense = hidden, stored[f"{layer}.bias"], stored[f"prelu{number + 1}.weight"]

    def _convolution(self, parameter: Tensor) -> Tensor:
        """A parameter in the precision and the order that the convolutions take."""
        if self._reduced:
            return parameter.bfloat16().to_mkldnn()
        return parameter.contiguous(memory_format=torch.channels_last) if parameter.dim() == 4 else parameter

    def __call__(self, pixels: Tensor) -> Tensor:
        """The outputs of all heads for uint8 [N, H, W, 3]: "face or not" as two logits, four offsets, ten landmarks.

        Returns:
            float32 [N, outputs]; of P-Net, which has no landmarks, [N, h, w, outputs], for every second pixel.
        """
        if not self._dense:
            return self._outputs(pixels)
        return torch.cat([self._outputs(part) for part in pixels.split(self._at_once)])

    def _outputs(self, pixels: Tensor) -> Tensor:
        # In memory the channels come last: so the poolings are several times as fast.
        x = ((pixels.to(self.device).float() - 127.5) * 0.0078125).permute(0, 3, 1, 2)
        if self._reduced:
            x = x.bfloat16().to_mkldnn()
        for (weight, bias, slope), pool in zip(self._convolutions, self._pools, strict=True):
            x = torch.prelu(torch.conv2d(x, weight, bias), slope)
            if pool:
                x = torch.max_pool2d(x, pool, 2, ceil_mode=True)
        if not self._dense:
            return torch.conv2d(x, *self._heads).permute(0, 2, 3, 1)
        if self._reduced:
            x = x.to_dense(torch.float32)
        weight, bias, slope = self._dense
        x = torch.prelu(functional.linear(x.permute(0, 2, 3, 1).flatten(1), weight, bias), slope)
        return functional.linear(x, *self._heads)


def face_probability(outputs: np.ndarray) -> np.ndarray:
    """The softmax's second share [...] of the first two outputs [..., outputs]: how sure a network is of a face."""
    return 1 / (1 + np.exp(outputs[..., 0] - outputs[..., 1]))


def shifted(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Boxes [..., 4] whose edges move by offsets [..., 4], in widths and heights of the box."""
    sides = boxes[..., 2:] - boxes[..., :2] + 1
    return boxes + offsets * np.concatenate([sides, sides], axis=-1)


def enclosing_squares(boxes: np.ndarray) -> np.ndarray:
    """Squares with the centers and the longer sides of boxes [..., 4]."""
    centers, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    half = sides.max(axis=-1, keepdims=True) / 2
    return np.concatenate([centers - half, centers + half], axis=-1)


def landmarks_in_pixels(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """O-Net's landmarks [F, 10], five x and then five y in sides of their box, in pixels: [F, 5, 2]."""
    corner, sides = boxes[:, None, :2], (boxes[:, 2:4] - boxes[:, :2] + 1)[:, None]
    return sides * points.reshape(-1, 2, 5).transpose(0, 2, 1) + corner - 1


def resized(picture: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """Part of a picture (left, top, right, bottom) resampled to (width, height): by area, and enlarged smoothly."""
    enlarged = box[2] - box[0] < size[0] or box[3] - box[1] < size[1]
    return picture.resize(size, Image.Resampling.BILINEAR if enlarged else Image.Resampling.BOX, box)


def stacked(crops: Sequence[Image.Image | None], side: int) -> Tensor:
    """Pictures of one size as uint8 [N, side, side, 3]; None is black.

    They are copied within Pillow: handing each of them over by itself takes longer than making it.
    """
    column = Image.new("RGB", (side, side * len(crops)))
    for index, crop in enumerate(crops):
        if crop is not None:
            column.paste(crop, (0, index * side))
    return torch.from_numpy(np.array(column)).view(-1, side, side, 3)
