"""MTCNN (Zhang et al. 2016, arXiv 1604.02878): its three networks, and full passes of them over pictures.

The weights come with facenet-pytorch. Its modules are not imported: they need all of torchvision and torch's compiler,
which takes longer than answering a short video.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ..common.device import has_bf16
from ..common.errors import MissingExtraError, how_to_install

# Sides in pixels of the squares that the networks see, and how sure each of them has to be of a face.
SIDES, THRESHOLDS = {"p": 12, "r": 24, "o": 48}, {"p": 0.6, "r": 0.7, "o": 0.7}
# For each convolution of a network the side of the max pooling of stride 2 behind it; 0: none.
POOLS = {"p": (2, 0, 0), "r": (3, 3, 0), "o": (3, 3, 2, 0)}
# The heads, which are applied as one. P-Net has no linear layers: its heads are 1 x 1 convolutions.
HEADS = {"p": ("conv4_1", "conv4_2"), "r": ("dense5_1", "dense5_2"), "o": ("dense6_1", "dense6_2", "dense6_3")}
# Crops that a network takes at once. More leave a CPU's caches, and torch compiles a kernel for each new number.
AT_ONCE = {"r": 16, "o": 8}
PYRAMID_FACTOR, STRIDE = 0.709, 2  # from level to level of the image pyramid; P-Net sees every second pixel of one
# What is shrunk by this or more is made from a copy of half the size. P-Net's levels need less detail than crops.
LEVEL_RATIO, CROP_RATIO = 3.0, 4.0
SAME_FACE_IOU = 0.5  # candidates that overlap a face by more vote on where it is
COMPARED_AT_ONCE = 128  # candidates; most are dropped before their turn comes


def weights_folder() -> Path:
    """Where facenet-pytorch keeps the weights; MissingExtraError: it is not installed."""
    spec = importlib.util.find_spec("facenet_pytorch")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"face detection needs facenet-pytorch: {how_to_install('faces')}")
    return Path(spec.submodule_search_locations[0]) / "data"


class MTCNNStage:
    """One of the networks: "p" proposes candidates, "r" refines them, "o" locates landmarks.

    On a CPU that has bf16, R-Net and O-Net convolve in it, in oneDNN's own order of pixels: that takes half of the
    time, and moves landmarks by 0.03 pixels. P-Net does not: its scores are close to each other, and rounded ones would
    choose other candidates.
    """

    def __init__(self, letter: str, device: torch.device | str = "cpu") -> None:
        self.side, self.threshold = SIDES[letter], THRESHOLDS[letter]
        self._device = torch.device(device)
        on_cpu = self._device.type == "cpu" and torch.backends.mkldnn.is_available()
        self._reduced = on_cpu and letter != "p" and has_bf16(self._device)
        self._at_once, self._pools = AT_ONCE.get(letter, 0), POOLS[letter]
        stored = torch.load(weights_folder() / f"{letter}net.pt", map_location=self._device, weights_only=True)
        number = len(self._pools)
        self._convolutions = [
            [self._convolution(stored[name.format(at)]) for name in ("conv{}.weight", "conv{}.bias", "prelu{}.weight")]
            for at in range(1, number + 1)
        ]
        weight, bias = (torch.cat([stored[f"{name}.{part}"] for name in HEADS[letter]]) for part in ("weight", "bias"))
        self._heads = self._convolution(weight) if letter == "p" else weight, bias
        self._dense: tuple[Tensor, Tensor, Tensor] | None = None
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

        They are float32 [N, outputs]; of P-Net, which has no landmarks, [N, h, w, outputs], for every second pixel.
        """
        if not self._dense:
            return self._outputs(pixels)
        return torch.cat([self._outputs(part) for part in pixels.split(self._at_once)])

    def _outputs(self, pixels: Tensor) -> Tensor:
        # In memory the channels come last: so the poolings are several times as fast.
        x = ((pixels.to(self._device).float() - 127.5) * 0.0078125).permute(0, 3, 1, 2)
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


class Cascade:
    """Full passes: finds what facenet-pytorch's own loop finds, many times as fast.

    The box and the landmarks of a face are the means of its candidates', weighted by score. The library takes the
    candidate with the highest score. As nearly all scores are close to 1, that choice is nearly random, and boxes
    jitter.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._pnet, self._rnet, self._onet = (MTCNNStage(letter, device) for letter in "pro")

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, min_face: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes [F, 4], landmarks [F, 5, 2] and scores [F], float64, of the faces in a picture, the largest first.

        The picture is uint8 [H, W, 3], RGB, with sides of at least `min_face`, the smallest face: 12 pixels or more.
        """
        picture = Pyramid(image)
        squares, outputs = _apply(self._rnet, picture, self._propose(picture, min_face))
        kept = suppress(squares, face_probability(outputs), 0.7)
        squares, outputs = _apply(self._onet, picture, enclosing_squares(shifted(squares[kept], outputs[kept, 2:6])))
        landmarks, boxes = landmarks_in_pixels(outputs[:, 6:], squares), shifted(squares, outputs[:, 2:6])
        scores = face_probability(outputs)
        kept = suppress(boxes, scores, 0.7, of_smaller=True)
        weights = (overlaps(boxes[kept], boxes) > SAME_FACE_IOU) * scores  # [kept, F]
        weights /= weights.sum(axis=1, keepdims=True)
        boxes, landmarks, scores = weights @ boxes, np.einsum("kf,fpx->kpx", weights, landmarks), scores[kept]
        order = np.argsort((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))[::-1]
        return boxes[order], landmarks[order], scores[order]

    def _propose(self, picture: Pyramid, min_face: float) -> np.ndarray:
        """P-Net's candidates of all pyramid levels: squares [K, 4]."""
        sizes, squares, levels = _squares(*picture.size, min_face)
        outputs = torch.cat([self._pnet(picture.level(*size)).flatten(0, 2) for size in sizes])  # [P, 6]
        limit = self._pnet.threshold
        sure = outputs[:, 1] - outputs[:, 0] >= math.log(limit / (1 - limit))
        values, chosen = outputs[sure].double().cpu().numpy(), sure.cpu().numpy()
        squares, levels, scores = squares[chosen], levels[chosen], face_probability(values)
        of_level = [np.flatnonzero(levels == level) for level in range(len(sizes))]
        kept = np.concatenate([at[suppress(squares[at], scores[at], 0.5)] for at in of_level])
        kept = kept[suppress(squares[kept], scores[kept], 0.7)]
        sides = np.tile(squares[kept, 2:] - squares[kept, :2], 2)
        return enclosing_squares(squares[kept] + values[kept, 2:] * sides)


def _apply(network: MTCNNStage, picture: Pyramid, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The candidates that overlap the picture and of which a network is sure, and its outputs."""
    height, width = picture.size
    corners = np.trunc(squares).astype(np.int64)  # from 1, ends included
    corners[:, :2] = np.maximum(corners[:, :2], 1) - 1
    corners[:, 2:] = np.minimum(corners[:, 2:], (width, height))
    inside = (corners[:, :2] < corners[:, 2:]).all(axis=1)
    if not inside.any():
        return squares[:0], np.zeros((0, 16))
    outputs = network(picture.crops(corners[inside], network.side)).double().cpu().numpy()
    sure = face_probability(outputs) > network.threshold
    return squares[inside][sure], outputs[sure]


@lru_cache(maxsize=4)
def _squares(height: int, width: int, min_face: float) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
    """The sizes of the pyramid's levels, and of all P squares that P-Net sees in them: corners [P, 4], level [P]."""
    sizes, squares, levels = [], [], []
    side = SIDES["p"]
    scale = side / min_face
    while min(height, width) * scale >= side:
        sizes.append((int(height * scale + 1), int(width * scale + 1)))
        rows, columns = (-(-(length - 2) // 2) - 4 for length in sizes[-1])  # P-Net's convolutions and its pooling
        at = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=2).reshape(-1, 2) * STRIDE + 1
        squares.append(np.floor(np.concatenate([at, at + (side - 1)], axis=1) / scale))
        levels.append(np.full(len(at), len(sizes) - 1))
        scale *= PYRAMID_FACTOR
    return sizes, np.concatenate(squares), np.concatenate(levels)


class Pyramid:
    """A picture, uint8 [H, W, 3], with copies of half its size, a quarter, ...: little is read for a crop."""

    def __init__(self, image: np.ndarray) -> None:
        self.size = image.shape[:2]
        self._copies = [Image.fromarray(np.ascontiguousarray(image))]

    def level(self, height: int, width: int) -> Tensor:
        """The picture at a smaller size: uint8 [1, height, width, 3]."""
        ratio = min(self.size[0] / height, self.size[1] / width) / LEVEL_RATIO
        whole = (0.0, 0.0, float(self.size[1]), float(self.size[0]))
        return torch.from_numpy(np.array(self._resized(whole, ratio, (width, height))))[None]

    def crops(self, corners: np.ndarray, side: int) -> Tensor:
        """Crops uint8 [K, side, side, 3] of K candidates; corners int64 [K, 4], within the picture."""
        crops = []
        for left, top, right, bottom in corners.tolist():
            ratio = min(right - left, bottom - top) / side / CROP_RATIO
            crops.append(self._resized((left, top, right, bottom), ratio, (side, side)))
        return stacked(crops, side)

    def _resized(self, box: tuple[float, float, float, float], ratio: float, size: tuple[int, int]) -> Image.Image:
        """Part of the picture from its smallest copy that has at least 1 / (2 `ratio`) of the scale."""
        halvings = max(0, math.floor(math.log2(ratio)) + 1)
        while len(self._copies) <= halvings:
            self._copies.append(self._copies[-1].reduce(2))
        left, top, right, bottom = (edge * 0.5**halvings for edge in box)
        return resized(self._copies[halvings], (left, top, right, bottom), size)


def resized(picture: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """Part of a picture (left, top, right, bottom) resampled to (width, height): by area, and enlarged smoothly."""
    enlarged = box[2] - box[0] < size[0] or box[3] - box[1] < size[1]
    return picture.resize(size, Image.Resampling.BILINEAR if enlarged else Image.Resampling.BOX, box)


def stacked(crops: Sequence[Image.Image | None], side: int) -> Tensor:
    """Pictures of one size as uint8 [N, side, side, 3]; None is black."""
    # They are copied within Pillow: handing each of them over by itself takes longer than making it.
    column = Image.new("RGB", (side, side * len(crops)))
    for index, crop in enumerate(crops):
        if crop is not None:
            column.paste(crop, (0, index * side))
    return torch.from_numpy(np.array(column)).view(-1, side, side, 3)


def face_probability(outputs: np.ndarray) -> np.ndarray:
    """How sure a network is of a face: the softmax of the first two outputs [..., outputs], its second share [...]."""
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


def suppress(boxes: np.ndarray, scores: np.ndarray, limit: float, *, of_smaller: bool = False) -> np.ndarray:
    """Non-maximum suppression: drops boxes [K, 4] that overlap one with a higher score [K] by more than a limit.

    The overlap is IoU, or `of_smaller`: the share of the smaller of two boxes, with pixels as areas. Returns indices of
    those that stay, int64, the highest score first.
    """
    order = np.argsort(-scores, kind="stable")
    kept = order[:0]
    for start in range(0, len(order), COMPARED_AT_ONCE):
        part = order[start : start + COMPARED_AT_ONCE]
        part = part[~(overlaps(boxes[kept], boxes[part], of_smaller=of_smaller) > limit).any(axis=0)]
        drops = np.triu(overlaps(boxes[part], boxes[part], of_smaller=of_smaller) > limit, 1)
        free = np.ones(len(part), dtype=bool)
        for index, row in enumerate(drops):
            if free[index]:
                free &= ~row
        kept = np.concatenate([kept, part[free]])
    return kept


def overlaps(boxes: np.ndarray, others: np.ndarray, *, of_smaller: bool = False) -> np.ndarray:
    """How much each of A boxes [A, 4] overlaps each of B [B, 4]: float [A, B]; see `suppress`."""
    more = 1 if of_smaller else 0
    columns, rows = boxes.T[:, :, None], others.T.copy()[:, None]  # edges [4, A, 1] and [4, 1, B]
    width, height = (
        (np.minimum(columns[axis + 2], rows[axis + 2]) - np.maximum(columns[axis], rows[axis]) + more).clip(min=0)
        for axis in (0, 1)
    )
    both = width * height
    area, other = ((edges[2] - edges[0] + more) * (edges[3] - edges[1] + more) for edges in (columns, rows))
    return both / (np.minimum(area, other) if of_smaller else area + other - both)
