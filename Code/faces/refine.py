"""Finds a face again in the next frame: MTCNN's last two networks on a few crops around the previous box.

A full pass of the cascade spends nearly all of its time on the search for candidates. In consecutive frames the
previous box is as good a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from .mtcnn import MTCNNStage, enclosing_squares, face_probability, landmarks_in_pixels, resized, shifted, stacked

# The square that O-Net sees of a face, in heights of the face's box: its side, and how much lower than the box's its
# center lies. Means over the squares that lead to a face in full passes over real videos.
SQUARE_SIDE, SQUARE_DROP = 0.93, 0.03
# R-Net sees that square twice, moved to the left and to the right by this many heights. The mean of its two answers
# is steadier than one answer, and a crop for R-Net costs a fifth of one for O-Net.
SHIFTS = np.array([-0.05, 0.05])
# How far crops may reach beyond the previous box, in its longer side.
MARGIN = 0.35


class Refiner:
    """R-Net and O-Net on the CPU, where so few crops cost less than the launch of a GPU's kernels."""

    def __init__(self) -> None:
        self._rnet, self._onet = MTCNNStage("r"), MTCNNStage("o")

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Moves boxes, float [N, K, 4], onto the faces near them in N pictures, uint8 [H, W, 3], RGB; K > 0.

        Returns:
            boxes float64 [N, K, 4], landmarks float64 [N, K, 5, 2] and scores float64 [N, K]. A score is 0 where R-Net
            or O-Net finds no face.
        """
        shape = boxes.shape[:2]
        patches = [Patch(image, box) for image, row in zip(images, boxes, strict=True) for box in row]
        squares = usual_squares(boxes.reshape(-1, 4))  # [N K, S, 4]
        crops = [
            patch.crop(square, self._rnet.side) for patch, pair in zip(patches, squares, strict=True) for square in pair
        ]
        outputs = self._rnet(stacked(crops, self._rnet.side)).double().numpy().reshape(*squares.shape[:2], -1)
        sure = face_probability(outputs).mean(axis=1) > self._rnet.threshold
        squares = enclosing_squares(shifted(squares, outputs[..., 2:6])).mean(axis=1)  # [N K, 4]

        crops = [patch.crop(square, self._onet.side) for patch, square in zip(patches, squares, strict=True)]
        outputs = self._onet(stacked(crops, self._onet.side)).double().numpy()
        scores = face_probability(outputs)
        scores *= sure & (scores > self._onet.threshold)
        landmarks = landmarks_in_pixels(outputs[:, 6:], squares)
        moved = shifted(squares, outputs[:, 2:6])
        return moved.reshape(*shape, 4), landmarks.reshape(*shape, 5, 2), scores.reshape(shape)


def usual_squares(boxes: np.ndarray) -> np.ndarray:
    """The squares [K, S, 4] that O-Net usually sees of faces with these boxes [K, 4], moved by each of the S SHIFTS."""
    heights = (boxes[:, 3] - boxes[:, 1])[:, None]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 + heights * (0, SQUARE_DROP)
    squares = np.concatenate([centers - heights * SQUARE_SIDE / 2, centers + heights * SQUARE_SIDE / 2], axis=1)
    return squares[:, None] + heights[:, None] * SHIFTS[:, None] * (1, 0, 1, 0)


class Patch:
    """The part of a picture around a box: copied once, cropped several times."""

    def __init__(self, image: np.ndarray, box: np.ndarray) -> None:
        left, top, right, bottom = box.tolist()
        reach = MARGIN * max(right - left, bottom - top)
        self._left, self._top = max(0, math.floor(left - reach)), max(0, math.floor(top - reach))
        part = image[self._top : max(0, math.ceil(bottom + reach)), self._left : max(0, math.ceil(right + reach))]
        self._picture = Image.fromarray(np.ascontiguousarray(part)) if part.size else None

    def crop(self, box: np.ndarray, side: int) -> Image.Image | None:
        """A box [4] as a square of `side` pixels, without what lies outside the patch; None: all of it does."""
        if self._picture is None:
            return None
        left, top, right, bottom = (int(edge) for edge in box.tolist())
        left, top = max(0, left - 1 - self._left), max(0, top - 1 - self._top)
        right, bottom = min(self._picture.width, right - self._left), min(self._picture.height, bottom - self._top)
        if left >= right or top >= bottom:
            return None
        return resized(self._picture, (left, top, right, bottom), (side, side))
