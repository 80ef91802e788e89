"""Full passes of MTCNN's three networks: what facenet-pytorch's own loop finds, many times as fast."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .mtcnn import (
    SIDES,
    MTCNNStage,
    enclosing_squares,
    face_probability,
    landmarks_in_pixels,
    resized,
    shifted,
    stacked,
)

# How much smaller each level of the image pyramid is. P-Net looks at every second pixel of a level.
PYRAMID_FACTOR, STRIDE = 0.709, 2
# What is shrunk by this or more is made from a copy of half the size. P-Net's levels need less detail than crops.
LEVEL_RATIO, CROP_RATIO = 3.0, 4.0
# Candidates that overlap a face by more than this vote on where it is.
SAME_FACE_IOU = 0.5
# Candidates that are compared with each other at once. Most are dropped before their turn comes.
COMPARED_AT_ONCE = 128


class Cascade:
    """P-Net proposes, R-Net refines, O-Net locates.

    The box and the landmarks of a face are the means of its candidates', weighted by score. The library takes the
    candidate with the highest score. As nearly all scores are close to 1, that choice is nearly random, and boxes
    jitter.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._pnet, self._rnet, self._onet = (MTCNNStage(letter, device) for letter in "pro")

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, min_face: float) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Finds the faces in N pictures.

        Args:
            images: uint8 [N, H, W, 3], RGB, H and W at least `min_face`.
            min_face: smallest face in pixels, at least 12.

        Returns:
            For each picture boxes [F, 4], landmarks [F, 5, 2] and scores [F], float64, the largest face first.
        """
        pictures = Pyramids(images)
        squares, where = self._refine(pictures, *self._propose(pictures, min_face))
        boxes, landmarks, scores, where = self._locate(pictures, squares, where)
        faces = []
        for picture in range(len(images)):
            here = np.flatnonzero(where == picture)
            sides = boxes[here, 2:] - boxes[here, :2]
            here = here[np.argsort(sides.prod(axis=1))[::-1]]
            faces.append((boxes[here], landmarks[here], scores[here]))
        return faces

    def _propose(self, pictures: Pyramids, min_face: float) -> tuple[np.ndarray, np.ndarray]:
        """P-Net's candidates of all pyramid levels: squares [K, 4], and their pictures, int64 [K]."""
        sizes, squares, level = _squares(*pictures.size, min_face)
        outputs = torch.cat([self._pnet(pictures.level(*size)).flatten(1, 2) for size in sizes], dim=1)  # [N, P, 6]
        limit = self._pnet.threshold
        sure = outputs[..., 1] - outputs[..., 0] >= math.log(limit / (1 - limit))
        where, square = (index.cpu().numpy() for index in sure.nonzero(as_tuple=True))
        values = outputs[sure].double().cpu().numpy()
        scores = face_probability(values)
        kept = suppress(squares[square], scores, where * len(sizes) + level[square], 0.5)  # each level for itself
        kept = kept[suppress(squares[square[kept]], scores[kept], where[kept], 0.7)]
        candidates = squares[square[kept]]
        sides = np.tile(candidates[:, 2:] - candidates[:, :2], 2)
        return enclosing_squares(candidates + values[kept, 2:] * sides), where[kept]

    def _refine(self, pictures: Pyramids, squares: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The candidates that R-Net keeps, moved and made square again."""
        squares, where, outputs = _apply(self._rnet, pictures, squares, where)
        kept = suppress(squares, face_probability(outputs), where, 0.7)
        return enclosing_squares(shifted(squares[kept], outputs[kept, 2:6])), where[kept]

    def _locate(
        self, pictures: Pyramids, squares: np.ndarray, where: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """O-Net's faces: boxes [F, 4], landmarks [F, 5, 2], scores [F], their pictures [F]."""
        squares, where, outputs = _apply(self._onet, pictures, squares, where)
        landmarks, boxes = landmarks_in_pixels(outputs[:, 6:], squares), shifted(squares, outputs[:, 2:6])
        scores = face_probability(outputs)
        kept = suppress(boxes, scores, where, 0.7, of_smaller=True)
        same_face = (overlaps(boxes[kept], boxes) > SAME_FACE_IOU) & (where[kept, None] == where)
        weights = same_face * scores  # [kept, F]
        weights /= weights.sum(axis=1, keepdims=True)
        return weights @ boxes, np.einsum("kf,fpx->kpx", weights, landmarks), scores[kept], where[kept]


class Pyramids:
    """N pictures, uint8 [N, H, W, 3], with copies of half their size, a quarter, ...: little is read for a crop."""

    def __init__(self, images: np.ndarray) -> None:
        self.size = images.shape[1:3]
        self._copies = [[Image.fromarray(np.ascontiguousarray(image))] for image in images]

    def level(self, height: int, width: int) -> Tensor:
        """All of the pictures at a smaller size: uint8 [N, height, width, 3]."""
        ratio = min(self.size[0] / height, self.size[1] / width) / LEVEL_RATIO
        whole = (0.0, 0.0, float(self.size[1]), float(self.size[0]))
        levels = [_resized(copies, whole, ratio, (width, height)) for copies in self._copies]
        return torch.from_numpy(np.stack([np.asarray(level) for level in levels]))

    def crops(self, corners: np.ndarray, where: np.ndarray, side: int) -> Tensor:
        """Crops uint8 [K, side, side, 3] of K candidates; corners int64 [K, 4], within the pictures `where`."""
        crops = []
        for (left, top, right, bottom), picture in zip(corners.tolist(), where.tolist(), strict=True):
            ratio = min(right - left, bottom - top) / side / CROP_RATIO
            crops.append(_resized(self._copies[picture], (left, top, right, bottom), ratio, (side, side)))
        return stacked(crops, side)


def _resized(
    copies: list[Image.Image], box: tuple[float, float, float, float], ratio: float, size: tuple[int, int]
) -> Image.Image:
    """Part of a picture from its smallest copy that has at least 1 / (2 `ratio`) of the scale."""
    halvings = max(0, math.floor(math.log2(ratio)) + 1)
    while len(copies) <= halvings:
        copies.append(copies[-1].reduce(2))
    left, top, right, bottom = (edge * 0.5**halvings for edge in box)
    return resized(copies[halvings], (left, top, right, bottom), size)


def _apply(
    network: MTCNNStage, pictures: Pyramids, squares: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The candidates that overlap their picture and of which a network is sure, their pictures, and its outputs."""
    height, width = pictures.size
    corners = np.trunc(squares).astype(np.int64)  # from 1, ends included
    corners[:, :2] = np.maximum(corners[:, :2], 1) - 1
    corners[:, 2:] = np.minimum(corners[:, 2:], (width, height))
    inside = (corners[:, :2] < corners[:, 2:]).all(axis=1)
    if not inside.any():
        return squares[:0], where[:0], np.zeros((0, 16))
    outputs = network(pictures.crops(corners[inside], where[inside], network.side)).double().cpu().numpy()
    sure = face_probability(outputs) > network.threshold
    return squares[inside][sure], where[inside][sure], outputs[sure]


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
        levels.append(np.full(len(at), len(sizes)))
        scale *= PYRAMID_FACTOR
    return sizes, np.concatenate(squares), np.concatenate(levels)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, where: np.ndarray, limit: float, *, of_smaller: bool = False
) -> np.ndarray:
    """Non-maximum suppression: drops boxes that overlap one with a higher score in their picture by more than a limit.

    Args:
        boxes, scores, where: float [K, 4], float [K], and int64 [K], the pictures that they are in.
        limit: of the overlap.
        of_smaller: the overlap is the share of the smaller of two boxes, with pixels as areas; otherwise IoU.

    Returns:
        int64, indices of those that stay, the highest score first.
    """
    order = np.argsort(-scores, kind="stable")
    stays = np.zeros(len(boxes), dtype=bool)
    for picture in np.unique(where):
        here = order[where[order] == picture]
        kept = here[:0]
        for start in range(0, len(here), COMPARED_AT_ONCE):
            part = here[start : start + COMPARED_AT_ONCE]
            part = part[~(overlaps(boxes[kept], boxes[part], of_smaller=of_smaller) > limit).any(axis=0)]
            drops = np.triu(overlaps(boxes[part], boxes[part], of_smaller=of_smaller) > limit, 1)
            free = np.ones(len(part), dtype=bool)
            for index, row in enumerate(drops):
                if free[index]:
                    free &= ~row
            kept = np.concatenate([kept, part[free]])
        stays[kept] = True
    return order[stays[order]]


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
