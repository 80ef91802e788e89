"""Finds a face again in the next frame: MTCNN's last two networks on a few crops around the previous box.

A full pass of the cascade spends nearly all of its time on the search for candidates. In consecutive frames the
previous box is as good a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from Code.faces.cascade import SECOND_SIDE, THIRD_SIDE, normalized, place_landmarks

# The square that O-Net sees of a face, in heights of the face's box: its side, and how much lower than the box's its
# center lies. Means over the squares that lead to a face in full passes over real videos.
SQUARE_SIDE, SQUARE_DROP = 0.93, 0.03
# R-Net sees that square twice, moved to the left and to the right by this many heights. The mean of its two answers
# is steadier than one answer, and a crop for R-Net costs a fifth of one for O-Net.
SHIFTS = np.array([-0.05, 0.05])
# How far crops may reach beyond the previous box, in its longer side.
MARGIN = 0.35


class Refiner:
    """R-Net and O-Net on the CPU, where so few crops cost less than the launch of a GPU's kernels.

    Args:
        mtcnn: facenet_pytorch.MTCNN, of which weights and thresholds are used.
    """

    def __init__(self, mtcnn: Any) -> None:
        rnet, onet = mtcnn.rnet, mtcnn.onet
        self._thresholds = mtcnn.thresholds[1:]
        self._rnet = Layers(
            [(rnet.conv1, rnet.prelu1, 3), (rnet.conv2, rnet.prelu2, 3), (rnet.conv3, rnet.prelu3, 0)],
            (rnet.dense4, rnet.prelu4),
            (rnet.dense5_1, rnet.dense5_2),
        )
        self._onet = Layers(
            [
                *((onet.conv1, onet.prelu1, 3), (onet.conv2, onet.prelu2, 3)),
                *((onet.conv3, onet.prelu3, 2), (onet.conv4, onet.prelu4, 0)),
            ],
            (onet.dense5, onet.prelu5),
            (onet.dense6_1, onet.dense6_2, onet.dense6_3),
        )

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Moves boxes onto the faces near them.

        Args:
            images: N pictures, uint8 [H, W, 3], RGB.
            boxes: float [N, K, 4], for each picture K > 0 faces of a neighboring frame.

        Returns:
            boxes float64 [N, K, 4], landmarks float64 [N, K, 5, 2] and scores float64 [N, K]. A score is 0 where R-Net
            or O-Net finds no face.
        """
        shape = boxes.shape[:2]
        patches = [Patch(image, box) for image, row in zip(images, boxes, strict=True) for box in row]
        boxes = boxes.reshape(-1, 4)
        squares = usual_squares(boxes)[:, None] + shifts(boxes)  # [N K, S, 4]
        crops = [patch.crop(square, SECOND_SIDE) for patch, two in zip(patches, squares, strict=True) for square in two]
        answers = self._rnet(crops).reshape(len(boxes), len(SHIFTS), -1)
        sure = face_share(answers).mean(axis=1) > self._thresholds[0]
        squares = enclosing_squares(moved(squares, answers[..., 2:6])).mean(axis=1)  # [N K, 4]

        answers = self._onet([patch.crop(square, THIRD_SIDE) for patch, square in zip(patches, squares, strict=True)])
        scores = face_share(answers)
        sure &= scores > self._thresholds[1]
        landmarks = place_landmarks(torch.from_numpy(answers[:, 6:]), torch.from_numpy(squares)).numpy()
        found = moved(squares, answers[:, 2:6])
        return found.reshape(*shape, 4), landmarks.reshape(*shape, 5, 2), (scores * sure).reshape(shape)


class Layers:
    """One of the two networks without its modules, whose calls would take a third of the time of so few crops.

    Args:
        convolutions: each with its PReLU and the side of the max pooling of stride 2 behind it; 0: none.
        dense: the hidden linear layer and its PReLU.
        heads: linear layers, applied as one.
    """

    def __init__(
        self,
        convolutions: list[tuple[nn.Conv2d, nn.PReLU, int]],
        dense: tuple[nn.Linear, nn.PReLU],
        heads: tuple[nn.Linear, ...],
    ) -> None:
        def here(tensor: Tensor | None) -> Tensor:
            assert tensor is not None  # all layers have a bias
            return tensor.detach().cpu()

        self._convolutions = [
            (here(layer.weight), here(layer.bias), here(slope.weight), pool) for layer, slope, pool in convolutions
        ]
        self._dense = here(dense[0].weight), here(dense[0].bias), here(dense[1].weight)
        self._heads = here(torch.cat([h.weight for h in heads])), here(torch.cat([h.bias for h in heads]))

    def __call__(self, crops: list[np.ndarray]) -> np.ndarray:
        """The heads' outputs, side by side, float64 [N, outputs], of N crops, uint8 [S, S, 3]."""
        # In memory the channels come last, as in the crops: so the poolings are several times as fast.
        x = normalized(torch.from_numpy(np.stack(crops)).float().permute(0, 3, 1, 2))
        for weight, bias, slope, pool in self._convolutions:
            x = torch.prelu(functional.conv2d(x, weight, bias), slope)
            if pool:
                x = functional.max_pool2d(x, pool, 2, ceil_mode=True)
        weight, bias, slope = self._dense
        # facenet-pytorch's weights came from a library that flattens [W, H, C].
        x = torch.prelu(functional.linear(x.permute(0, 3, 2, 1).flatten(1), weight, bias), slope)
        return functional.linear(x, *self._heads).double().numpy()


class Patch:
    """The part of a picture around a box: copied once, cropped several times.

    Args:
        image: uint8 [H, W, 3].
        box: float [4], left, top, right, bottom, counted from 1, ends included.
    """

    def __init__(self, image: np.ndarray, box: np.ndarray) -> None:
        left, top, right, bottom = box.tolist()
        reach = MARGIN * max(right - left, bottom - top)
        self._left, self._top = max(0, math.floor(left - reach)), max(0, math.floor(top - reach))
        part = image[self._top : max(0, math.ceil(bottom + reach)), self._left : max(0, math.ceil(right + reach))]
        self._picture = Image.fromarray(np.ascontiguousarray(part)) if part.size else None

    def crop(self, box: np.ndarray, side: int) -> np.ndarray:
        """A box, float [4], resampled by area: uint8 [side, side, 3].

        What lies outside the patch is left out, as in full passes; a box outside of it gives zeros.
        """
        if self._picture is not None:
            left, top, right, bottom = (int(edge) for edge in box.tolist())
            left, top = max(0, left - 1 - self._left), max(0, top - 1 - self._top)
            right, bottom = min(self._picture.width, right - self._left), min(self._picture.height, bottom - self._top)
            if left < right and top < bottom:
                size, part = (side, side), (left, top, right, bottom)
                return np.asarray(self._picture.resize(size, Image.Resampling.BOX, part))
        return np.zeros((side, side, 3), dtype=np.uint8)


def usual_squares(boxes: np.ndarray) -> np.ndarray:
    """The squares [K, 4] that O-Net usually sees of faces with these boxes [K, 4]."""
    heights = (boxes[:, 3] - boxes[:, 1])[:, None]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 + heights * (0, SQUARE_DROP)
    return np.concatenate([centers - heights * SQUARE_SIDE / 2, centers + heights * SQUARE_SIDE / 2], axis=1)


def shifts(boxes: np.ndarray) -> np.ndarray:
    """What to add to squares to move them by SHIFTS: [K, S, 4] for boxes [K, 4]."""
    heights = boxes[:, 3] - boxes[:, 1]
    return heights[:, None, None] * SHIFTS[:, None] * (1, 0, 1, 0)


def enclosing_squares(boxes: np.ndarray) -> np.ndarray:
    """Squares with the centers and the longer sides of boxes [..., 4]."""
    centers, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    half = sides.max(axis=-1, keepdims=True) / 2
    return np.concatenate([centers - half, centers + half], axis=-1)


def moved(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Boxes [..., 4] whose edges move by offsets [..., 4], in widths and heights of the box."""
    sides = boxes[..., 2:] - boxes[..., :2] + 1
    return boxes + offsets * np.concatenate([sides, sides], axis=-1)


def face_share(answers: np.ndarray) -> np.ndarray:
    """The softmax's second share [...] of the first two outputs [..., outputs]: how sure a network is of a face."""
    return 1 / (1 + np.exp(answers[..., 0] - answers[..., 1]))
