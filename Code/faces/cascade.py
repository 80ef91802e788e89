"""Full passes of MTCNN's three networks: what facenet-pytorch's own loop finds, many times as fast."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .mtcnn import (
    ONET_SIDE,
    ONET_THRESHOLD,
    PNET_SIDE,
    PNET_THRESHOLD,
    RNET_SIDE,
    RNET_THRESHOLD,
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

    Args:
        device: where the networks run.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._pnet, self._rnet, self._onet = (MTCNNStage(letter, device) for letter in "pro")

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, min_face: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Finds the faces in N pictures.

        Args:
            images: uint8 [N, H, W, 3], RGB, H and W at least `min_face`.
            min_face: smallest face in pixels, at least 12.

        Returns:
            For each picture boxes and scores, float64 [F, 5], and landmarks, float64 [F, 5, 2], largest first.
        """
        pictures = Pyramids(images)
        boxes, where = self._propose(pictures, min_face)
        boxes, where = self._refine(pictures, boxes, where)
        boxes, where, landmarks = self._locate(pictures, boxes, where)
        faces = []
        for picture in range(len(images)):
            here = np.flatnonzero(where == picture)
            sides = boxes[here, 2:4] - boxes[here, :2]
            here = here[np.argsort(sides.prod(axis=1))[::-1]]
            faces.append((boxes[here], landmarks[here]))
        return faces

    def _propose(self, pictures: Pyramids, min_face: float) -> tuple[np.ndarray, np.ndarray]:
        """P-Net's candidates of all pyramid levels: squares and scores [K, 5], and their pictures, int64 [K]."""
        sizes, squares, level = _squares(*pictures.size, min_face)
        outputs = torch.cat([self._pnet(pictures.level(*size)).flatten(1, 2) for size in sizes], dim=1)  # [N, P, 6]
        sure = outputs[..., 1] - outputs[..., 0] >= math.log(PNET_THRESHOLD / (1 - PNET_THRESHOLD))
        where, square = (index.cpu().numpy() for index in sure.nonzero(as_tuple=True))
        values = outputs[sure].double().cpu().numpy()
        table = np.concatenate([squares[square], face_probability(values)[:, None]], axis=1)
        kept = suppress(table, where * len(sizes) + level[square], 0.5)  # each level for itself
        kept = kept[suppress(table[kept], where[kept], 0.7)]
        candidates, offsets = table[kept], values[kept, 2:]
        sides = np.tile(candidates[:, 2:4] - candidates[:, :2], 2)
        moved = enclosing_squares(candidates[:, :4] + offsets * sides)
        return np.concatenate([moved, candidates[:, 4:]], axis=1), where[kept]

    def _refine(self, pictures: Pyramids, boxes: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The candidates that R-Net keeps, moved and made square again."""
        boxes, where, outputs = _apply(self._rnet, pictures, boxes, where, RNET_SIDE)
        scores = face_probability(outputs)
        sure = scores > RNET_THRESHOLD
        table, where = np.concatenate([boxes[sure, :4], scores[sure, None]], axis=1), where[sure]
        kept = suppress(table, where, 0.7)
        squares = enclosing_squares(shifted(table[kept, :4], outputs[sure][kept, 2:6]))
        return np.concatenate([squares, table[kept, 4:]], axis=1), where[kept]

    def _locate(
        self, pictures: Pyramids, boxes: np.ndarray, where: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """O-Net's faces: boxes and scores [F, 5], their pictures [F], landmarks [F, 5, 2]."""
        boxes, where, outputs = _apply(self._onet, pictures, boxes, where, ONET_SIDE)
        scores = face_probability(outputs)
        sure = scores > ONET_THRESHOLD
        boxes, where, scores, outputs = boxes[sure, :4], where[sure], scores[sure], outputs[sure]
        landmarks = landmarks_in_pixels(outputs[:, 6:], boxes)
        boxes = shifted(boxes, outputs[:, 2:6])
        kept = suppress(np.concatenate([boxes, scores[:, None]], axis=1), where, 0.7, of_smaller=True)
        same_face = (overlaps(boxes[kept], boxes) > SAME_FACE_IOU) & (where[kept, None] == where)
        weights = same_face * scores  # [kept, F]
        weights /= weights.sum(axis=1, keepdims=True)
        mean = np.concatenate([weights @ boxes, scores[kept, None]], axis=1)
        return mean, where[kept], np.einsum("kf,fpx->kpx", weights, landmarks)


class Pyramids:
    """N pictures, each with copies of half its size, a quarter, ...: little is read for a small result.

    Args:
        images: uint8 [N, H, W, 3], RGB.
    """

    def __init__(self, images: np.ndarray) -> None:
        self.size = images.shape[1:3]
        self._copies = [[Image.fromarray(np.ascontiguousarray(image))] for image in images]

    def level(self, height: int, width: int) -> Tensor:
        """All of the pictures at a smaller size: uint8 [N, height, width, 3]."""
        ratio = min(self.size[0] / height, self.size[1] / width) / LEVEL_RATIO
        whole = (0.0, 0.0, float(self.size[1]), float(self.size[0]))
        levels = [self._resized(picture, whole, ratio, (width, height)) for picture in range(len(self._copies))]
        return torch.from_numpy(np.stack([np.asarray(level) for level in levels]))

    def crops(self, corners: np.ndarray, where: np.ndarray, side: int) -> Tensor:
        """Crops of K candidates: uint8 [K, side, side, 3].

        Args:
            corners: int64 [K, 4], left, top, right, bottom in pixels, within the picture.
            where: int64 [K], their pictures.
            side: of the crops in pixels.
        """
        crops = []
        for (left, top, right, bottom), picture in zip(corners.tolist(), where.tolist(), strict=True):
            ratio = min(right - left, bottom - top) / side / CROP_RATIO
            crops.append(self._resized(picture, (left, top, right, bottom), ratio, (side, side)))
        return stacked(crops, side)

    def _resized(
        self, picture: int, box: tuple[float, float, float, float], ratio: float, size: tuple[int, int]
    ) -> Image.Image:
        """Part of a picture from its smallest copy that has at least 1 / (2 `ratio`) of the scale."""
        copies, halvings = self._copies[picture], max(0, math.floor(math.log2(ratio)) + 1)
        while len(copies) <= halvings:
            copies.append(copies[-1].reduce(2))
        left, top, right, bottom = (edge * 0.5**halvings for edge in box)
        return resized(copies[halvings], (left, top, right, bottom), size)


def _apply(
    network: MTCNNStage, pictures: Pyramids, boxes: np.ndarray, where: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A network's outputs, float64 [k, outputs], for the k candidates that overlap their picture, and these."""
    height, width = pictures.size
    corners = np.trunc(boxes[:, :4]).astype(np.int64)  # from 1, ends included
    corners[:, :2] = np.maximum(corners[:, :2], 1) - 1
    corners[:, 2:] = np.minimum(corners[:, 2:], (width, height))
    inside = (corners[:, :2] < corners[:, 2:]).all(axis=1)
    boxes, where = boxes[inside], where[inside]
    if not len(boxes):
        return boxes, where, np.zeros((0, 16))
    return boxes, where, network(pictures.crops(corners[inside], where, side)).double().cpu().numpy()


@lru_cache(maxsize=4)
def _squares(height: int, width: int, min_face: float) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
    """The sizes of the pyramid's levels, and of all P squares that P-Net sees in them: corners [P, 4], level [P]."""
    sizes, squares, levels = [], [], []
    scale = PNET_SIDE / min_face
    while min(height, width) * scale >= PNET_SIDE:
        sizes.append((int(height * scale + 1), int(width * scale + 1)))
        rows, columns = (-(-(side - 2) // 2) - 4 for side in sizes[-1])  # P-Net's convolutions and its pooling
        at = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=2).reshape(-1, 2) * STRIDE + 1
        squares.append(np.floor(np.concatenate([at, at + (PNET_SIDE - 1)], axis=1) / scale))
        levels.append(np.full(len(at), len(sizes)))
        scale *= PYRAMID_FACTOR
    return sizes, np.concatenate(squares), np.concatenate(levels)


def suppress(table: np.ndarray, where: np.ndarray, limit: float, *, of_smaller: bool = False) -> np.ndarray:
    """Non-maximum suppression: drops boxes that overlap one with a higher score by more than a limit.

    Args:
        table: float [K, 5 or more], left, top, right, bottom, score.
        where: int64 [K], the pictures that they are in.
        limit: of the overlap.
        of_smaller: the overlap is the share of the smaller of two boxes, with pixels as areas; otherwise IoU.

    Returns:
        int64, indices of those that stay, the highest score first.
    """
    order = np.argsort(-table[:, 4], kind="stable")
    stays = np.zeros(len(table), dtype=bool)
    for picture in np.unique(where):
        here = order[where[order] == picture]
        boxes, kept = table[here, :4], np.zeros(0, dtype=np.int64)
        for start in range(0, len(boxes), COMPARED_AT_ONCE):
            part = np.arange(start, min(start + COMPARED_AT_ONCE, len(boxes)))
            if len(kept):
                part = part[~(overlaps(boxes[kept], boxes[part], of_smaller=of_smaller) > limit).any(axis=0)]
            drops = overlaps(boxes[part], boxes[part], of_smaller=of_smaller) > limit
            free = np.ones(len(part), dtype=bool)
            for index, row in enumerate(drops):
                if free[index]:
                    free[index + 1 :] &= ~row[index + 1 :]
            kept = np.concatenate([kept, part[free]])
        stays[here[kept]] = True
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
