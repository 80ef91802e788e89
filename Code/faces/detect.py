"""Faces and their five landmarks: in a whole picture, around a known face, or refined from a box nearby."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from .mtcnn import (
    Cascade,
    MTCNNStage,
    enclosing_squares,
    face_probability,
    landmarks_in_pixels,
    overlaps,
    resized,
    shifted,
    stacked,
)
from .settings import MIN_FACE

MIN_FACE_SHARE = 1 / 24  # of the picture; smaller faces are of no interest, and cost most of the search
# Of two refined faces that overlap by more than TWIN_IOU, the less certain one goes: both are the same face. One that
# overlaps the box that it was refined from by less than LEAST_REFINED_IOU is another face, or none.
TWIN_IOU, LEAST_REFINED_IOU = 0.5, 0.5
AROUND = 1.5  # how far the surroundings of a face reach from its center, in longer sides of its box
# The square that O-Net sees of a face, in heights of the face's box: its side, and how much lower than the box's its
# center lies. Means over the squares that lead to a face in full passes over real videos.
SQUARE_SIDE, SQUARE_DROP = 0.93, 0.03
# R-Net sees that square twice, moved to the left and to the right by this many heights. The mean of its two answers
# is steadier than one answer, and a crop for R-Net costs a fifth of one for O-Net.
SHIFTS = np.array([-0.05, 0.05])
MARGIN = 0.35  # how far crops may reach beyond the previous box, in its longer side


@dataclass(frozen=True, slots=True)
class Faces:
    """The F faces of one picture, in its pixels (pixel centers at whole numbers)."""

    boxes: np.ndarray  # float64 [F, 4], left, top, right, bottom
    # float64 [F, 5, 2], x and y of the eyes, the nose tip, the corners of the mouth; what is left in the picture first
    landmarks: np.ndarray
    scores: np.ndarray  # float64 [F], the detector's confidence

    def __len__(self) -> int:
        return len(self.boxes)

    @staticmethod
    def none() -> Faces:
        """F is 0."""
        return Faces(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))

    def only(self, chosen: np.ndarray | Sequence[int]) -> Faces:
        """Some of the faces, by index or by mask."""
        return Faces(self.boxes[chosen], self.landmarks[chosen], self.scores[chosen])

    def joined(self, more: Faces) -> Faces:
        """These faces, then others."""
        pairs = (self.boxes, more.boxes), (self.landmarks, more.landmarks), (self.scores, more.scores)
        return Faces(*map(np.concatenate, pairs))


class Detector:
    """MTCNN as facenet-pytorch ships it, weights included; MissingExtraError: that is not installed.

    It uses one thread, however many torch has: its convolutions are so small that two threads gain little on idle
    cores, and wait for each other most of the time on busy ones.

    Args:
        device: where full passes run. Refinement runs on the CPU, where its few crops cost less than a GPU's launches.
        min_face: smallest face in pixels, at least 20; None: 1/24 of a picture's shorter side, at least 20.
    """

    def __init__(self, device: torch.device | str = "cpu", min_face: int | None = None) -> None:
        self.min_face = min_face
        self._cascade = Cascade(device)
        self._rnet, self._onet = MTCNNStage("r"), MTCNNStage("o")

    def smallest(self, image: np.ndarray) -> float:
        """The side in pixels of the smallest face that is searched in a picture [H, W, 3]."""
        return max(MIN_FACE, self.min_face or min(image.shape[:2]) * MIN_FACE_SHARE)

    def __call__(self, image: np.ndarray) -> Faces:
        """A full pass over a picture, uint8 [H, W, 3], RGB."""
        return self._search(image, self.smallest(image))

    def _search(self, image: np.ndarray, smallest: float) -> Faces:
        if min(image.shape[:2]) < smallest:  # the image pyramid would be empty
            return Faces.none()
        with one_thread():
            return Faces(*self._cascade(image, smallest))

    def search_around(self, image: np.ndarray, box: np.ndarray) -> Faces:
        """A full pass over the surroundings of a face whose box [4] in a neighboring frame is known.

        Finds faces of at least half its size, in pixels of the whole picture, uint8 [H, W, 3], RGB.
        """
        side = float((box[2:] - box[:2]).max())
        center = (box[:2] + box[2:]) / 2
        left, top = np.maximum(center - AROUND * side, 0).astype(int)
        right, bottom = np.maximum(center + AROUND * side, 0).astype(int)
        found = self._search(image[top:bottom, left:right], max(self.smallest(image), side / 2))
        corner = np.array([left, top], dtype=np.float64)
        return Faces(found.boxes + np.tile(corner, 2), found.landmarks + corner, found.scores)

    def refine(self, images: Sequence[np.ndarray], boxes: np.ndarray) -> list[Faces]:
        """Finds K faces near boxes, float [N, K, 4], in N pictures, uint8 [H, W, 3], many times as fast as full passes.

        Full passes spend nearly all of their time on candidates; in the next frame, the previous box is as good a one.
        For each picture K faces in the same order; their score is 0 where no face is found, where it is too far from
        its box to be the same face, and where a surer face is found in the same place.
        """
        if not boxes.shape[1]:
            return [Faces.none() for _ in images]
        with one_thread():
            refined = self._refined(images, boxes)
        for faces, start in zip(refined, boxes, strict=True):
            for index in np.argsort(-faces.scores):
                if faces.scores[index]:
                    wrong = overlap(faces.boxes, faces.boxes[index]) > TWIN_IOU
                    wrong[index] = overlap(start[index : index + 1], faces.boxes[index])[0] < LEAST_REFINED_IOU
                    faces.scores[wrong] = 0
        return refined

    @torch.inference_mode()
    def _refined(self, images: Sequence[np.ndarray], boxes: np.ndarray) -> list[Faces]:
        """R-Net and O-Net on a few crops around each box. The score is 0 where one of them finds no face."""
        shape = boxes.shape[:2]
        patches = [_Patch(image, box) for image, row in zip(images, boxes, strict=True) for box in row]
        flat = boxes.reshape(-1, 4)
        heights = (flat[:, 3] - flat[:, 1])[:, None]
        centers = (flat[:, :2] + flat[:, 2:]) / 2 + heights * (0, SQUARE_DROP)
        usual = np.concatenate([centers - heights * SQUARE_SIDE / 2, centers + heights * SQUARE_SIDE / 2], axis=1)
        squares = usual[:, None] + heights[:, None] * SHIFTS[:, None] * (1, 0, 1, 0)  # [N K, 2, 4]
        pairs = zip(patches, squares, strict=True)
        crops = [patch.crop(square, self._rnet.side) for patch, pair in pairs for square in pair]
        outputs = self._rnet(stacked(crops, self._rnet.side)).double().numpy().reshape(*squares.shape[:2], -1)
        sure = face_probability(outputs).mean(axis=1) > self._rnet.threshold
        squares = enclosing_squares(shifted(squares, outputs[..., 2:6])).mean(axis=1)  # [N K, 4]

        crops = [patch.crop(square, self._onet.side) for patch, square in zip(patches, squares, strict=True)]
        outputs = self._onet(stacked(crops, self._onet.side)).double().numpy()
        scores = face_probability(outputs)
        scores *= sure & (scores > self._onet.threshold)
        moved = shifted(squares, outputs[:, 2:6]).reshape(*shape, 4)
        landmarks = landmarks_in_pixels(outputs[:, 6:], squares).reshape(*shape, 5, 2)
        return [Faces(*parts) for parts in zip(moved, landmarks, scores.reshape(shape), strict=True)]


class _Patch:
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
