"""Faces and their five landmarks in a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from Code.common.errors import require
from Code.faces.cascade import Cascade

# MTCNN's smallest face in pixels; below it the image pyramid is empty and the detector raises.
MIN_FACE = 20
# Pixels of the pictures that are searched together. On a CPU more of them leave its caches and take longer; a GPU
# works on float copies of all of them, 12 bytes a pixel and more: 16 frames of 720 x 576, 4K one by one.
CPU_PIXELS, GPU_PIXELS = 700_000, 8_000_000
# Nor is a person of interest smaller than this share of the picture; it spares large pictures most of the search.
MIN_FACE_SHARE = 1 / 24


@dataclass(frozen=True, slots=True)
class Faces:
    """The F faces of one picture, in its pixels (pixel centres at whole numbers).

    Attributes:
        boxes: float64 [F, 4], left, top, right, bottom.
        landmarks: float64 [F, 5, 2], x and y of the eye on the left of the picture, the one on the
            right, nose tip, mouth corner on the left, mouth corner on the right.
        scores: float64 [F], the detector's confidence.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray


class Detector:
    """MTCNN (Zhang et al. 2016, arXiv 1604.02878) as facenet-pytorch ships it, weights included.

    Args:
        device: where it runs.
        min_face: smallest face in pixels, at least 20; None: 1/24 of a picture's shorter side, at least 20.

    Raises:
        MissingExtraError: if facenet-pytorch is not installed.
    """

    def __init__(self, device: torch.device | str = "cpu", min_face: int | None = None) -> None:
        self.min_face = min_face
        facenet = require("facenet_pytorch", "facenet-pytorch", "face detection")
        self.device = torch.device(device)
        self._cascade = Cascade(facenet.MTCNN(keep_all=True, device=self.device))

    @property
    def pixels_at_once(self) -> int:
        """How many pixels of pictures are best given at once."""
        return CPU_PIXELS if self.device.type == "cpu" else GPU_PIXELS

    def __call__(self, images: np.ndarray) -> list[Faces]:
        """Detects in N pictures of one size.

        Args:
            images: uint8 [N, H, W, 3], RGB.
        """
        height, width = images.shape[1:3]
        shorter = min(height, width)
        if shorter < MIN_FACE:
            return [Faces(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0)) for _ in images]
        smallest = max(MIN_FACE, self.min_face or shorter * MIN_FACE_SHARE)
        room = max(1, self.pixels_at_once // (height * width))
        found = []
        for start in range(0, len(images), room):
            for boxes, landmarks in self._cascade(images[start : start + room], smallest):
                table = boxes.astype(np.float64)
                found.append(Faces(table[:, :4], landmarks.astype(np.float64), table[:, 4]))
        return found


def overlap(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union [F] of boxes [F, 4] with one box [4]."""
    sides = np.minimum(boxes[:, 2:], other[2:]) - np.maximum(boxes[:, :2], other[:2])  # [F, 2]
    shared = sides.clip(min=0).prod(axis=1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (other[2:] - other[:2]).prod() - shared)
