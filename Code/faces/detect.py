"""Faces and their five landmarks in a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from Code.faces.video import require

# MTCNN's smallest face in pixels; below it the image pyramid is empty and the detector raises.
MIN_FACE = 20
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
        self._mtcnn = facenet.MTCNN(keep_all=True, min_face_size=MIN_FACE, device=torch.device(device))

    def __call__(self, images: np.ndarray) -> list[Faces]:
        """Detects in N pictures of one size.

        Args:
            images: uint8 [N, H, W, 3], RGB.
        """
        if min(images.shape[1:3]) < MIN_FACE:
            return [_faces([], [], []) for _ in images]
        self._mtcnn.min_face_size = max(MIN_FACE, self.min_face or min(images.shape[1:3]) * MIN_FACE_SHARE)
        found = self._mtcnn.detect(images, landmarks=True)
        # Without a face the detector says None, and [None] for the scores.
        return [
            _faces([], [], []) if box is None else _faces(box, points, score)
            for box, score, points in zip(*found, strict=True)
        ]


def _faces(boxes: object, landmarks: object, scores: object) -> Faces:
    return Faces(
        np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        np.asarray(landmarks, dtype=np.float64).reshape(-1, 5, 2),
        np.asarray(scores, dtype=np.float64).reshape(-1),
    )


def overlap(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union [F] of boxes [F, 4] with one box [4]."""
    sides = np.minimum(boxes[:, 2:], other[2:]) - np.maximum(boxes[:, :2], other[:2])  # [F, 2]
    shared = sides.clip(min=0).prod(axis=1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (other[2:] - other[:2]).prod() - shared)
