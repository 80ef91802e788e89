"""Faces and their five landmarks in a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from .cascade import Cascade, overlaps
from .refine import Refiner
from .settings import MIN_FACE

# Smaller faces than this share of the picture are of no interest, and skipping them saves most of the search.
MIN_FACE_SHARE = 1 / 24
# Of two refined faces that overlap by more than TWIN_IOU, the less certain one goes: both are the same face. One that
# overlaps the box that it was refined from by less than LEAST_REFINED_IOU is another face, or none.
TWIN_IOU, LEAST_REFINED_IOU = 0.5, 0.5
# How far the surroundings of a face reach from its center, in longer sides of its box.
AROUND = 1.5


@dataclass(frozen=True, slots=True)
class Faces:
    """The F faces of one picture, in its pixels (pixel centers at whole numbers).

    Attributes:
        boxes: float64 [F, 4], left, top, right, bottom.
        landmarks: float64 [F, 5, 2], x and y of the eye on the left of the picture, the one on the
            right, nose tip, mouth corner on the left, mouth corner on the right.
        scores: float64 [F], the detector's confidence.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls) -> Faces:
        """F is 0."""
        return cls(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))

    def only(self, chosen: np.ndarray | Sequence[int]) -> Faces:
        """Some of the faces, by index or by mask."""
        return Faces(self.boxes[chosen], self.landmarks[chosen], self.scores[chosen])

    def joined(self, more: Faces) -> Faces:
        """These faces, then others."""
        pairs = (self.boxes, more.boxes), (self.landmarks, more.landmarks), (self.scores, more.scores)
        return Faces(*map(np.concatenate, pairs))


class Detector:
    """MTCNN (Zhang et al. 2016, arXiv 1604.02878) as facenet-pytorch ships it, weights included.

    It uses one thread, however many torch has: its convolutions are so small that two threads gain little on idle
    cores, and wait for each other most of the time on busy ones.

    Args:
        device: where full passes run.
        min_face: smallest face in pixels, at least 20; None: 1/24 of a picture's shorter side, at least 20.

    Raises:
        MissingExtraError: if facenet-pytorch is not installed.
    """

    def __init__(self, device: torch.device | str = "cpu", min_face: int | None = None) -> None:
        self.min_face = min_face
        self._refiner = Refiner()
        self._cascade = Cascade(device)

    def smallest(self, image: np.ndarray) -> float:
        """The side in pixels of the smallest face that is searched in a picture [H, W, 3]."""
        return max(MIN_FACE, self.min_face or min(image.shape[:2]) * MIN_FACE_SHARE)

    def __call__(self, images: np.ndarray) -> list[Faces]:
        """Full passes over N > 0 pictures, uint8 [N, H, W, 3], RGB; all of their pyramids are in memory at once."""
        return self._search(images, self.smallest(images[0]))

    def _search(self, images: np.ndarray, smallest: float) -> list[Faces]:
        if min(images.shape[1:3]) < smallest:  # the image pyramid would be empty
            return [Faces.none() for _ in images]
        with one_thread():
            return [Faces(*parts) for parts in self._cascade(images, smallest)]

    def refine(self, images: Sequence[np.ndarray], boxes: np.ndarray) -> list[Faces]:
        """Finds K faces near boxes, float [N, K, 4], in N pictures, uint8 [H, W, 3], many times as fast as full passes.

        Returns:
            For each picture K faces in the same order. The score is 0 where no face is found, where it is too far from
            its box to be the same face, and where a surer face is found in the same place.
        """
        if not boxes.shape[1]:
            return [Faces.none() for _ in images]
        with one_thread():
            refined = [Faces(*parts) for parts in zip(*self._refiner(images, boxes), strict=True)]
        for faces, start in zip(refined, boxes, strict=True):
            for index in np.argsort(-faces.scores):
                if faces.scores[index]:
                    wrong = overlap(faces.boxes, faces.boxes[index]) > TWIN_IOU
                    wrong[index] = overlap(start[index : index + 1], faces.boxes[index])[0] < LEAST_REFINED_IOU
                    faces.scores[wrong] = 0
        return refined

    def search_around(self, image: np.ndarray, box: np.ndarray) -> Faces:
        """A full pass over the surroundings of a face whose box [4] in a neighboring frame is known.

        Returns:
            Faces of at least half its size, in pixels of the whole picture, uint8 [H, W, 3], RGB.
        """
        side = float((box[2:] - box[:2]).max())
        center = (box[:2] + box[2:]) / 2
        left, top = np.maximum(center - AROUND * side, 0).astype(int)
        right, bottom = np.maximum(center + AROUND * side, 0).astype(int)
        (found,) = self._search(image[None, top:bottom, left:right], max(self.smallest(image), side / 2))
        corner = np.array([left, top], dtype=np.float64)
        return Faces(found.boxes + np.tile(corner, 2), found.landmarks + corner, found.scores)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch uses one thread for what the calling thread does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union [F] of boxes [F, 4] with one box [4]."""
    return overlaps(boxes, box[None])[:, 0]
