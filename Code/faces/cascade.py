"""Full passes of MTCNN's three networks: what facenet-pytorch's own loop finds, many times as fast."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from .mtcnn import (
    PYRAMID_FACTOR,
    SECOND_SIDE,
    THIRD_SIDE,
    THRESHOLDS,
    MTCNNStage,
    enclosing_squares,
    face_share,
    moved,
    place_landmarks,
)
from .pictures import Pyramids, Sums

# P-Net sees squares of 12 pixels, one at every second pixel.
FIRST_SIDE, STRIDE = 12, 2
# Candidates that overlap a face by more than this vote on where it is.
SAME_FACE_IOU = 0.5
# Candidates that are compared with each other at once. Most are dropped before their turn comes.
COMPARED_AT_ONCE = 128


class Cascade:
    """P-Net (12 pixels) proposes, R-Net (24) refines, O-Net (48) locates.

    Args:
        device: where the networks run.
        vote: a face's box and landmarks are the means of its candidates', weighted by score. The library takes the
            candidate with the highest score. As nearly all scores are close to 1, that choice is nearly random, and
            boxes jitter.
        exact: resample on the CPU, too, to the last bit as the library does, and compute in float32.
    """

    def __init__(self, device: torch.device | str = "cpu", *, vote: bool = True, exact: bool = False) -> None:
        self.device = torch.device(device)
        self._vote = vote
        self._sums = exact or self.device.type != "cpu"
        self._proposals, self._refinement, self._landmarks = (
            MTCNNStage(letter, device, exact=exact) for letter in "pro"
        )

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, min_face: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Finds the faces in N pictures.

        Args:
            images: uint8 [N, H, W, 3], RGB, H and W at least `min_face`.
            min_face: smallest face in pixels, at least 12.

        Returns:
            For each picture boxes and scores, float64 [F, 5], and landmarks, float64 [F, 5, 2], largest first.
        """
        pictures = Sums(images, self.device) if self._sums else Pyramids(images)
        boxes, where = self._propose(pictures, min_face)
        boxes, where = self._refine(pictures, boxes, where)
        boxes, where, points = self._locate(pictures, boxes, where)
        found = []
        for index in range(len(images)):
            mine = np.flatnonzero(where == index)
            sides = boxes[mine, 2:4] - boxes[mine, :2]
            mine = mine[np.argsort(sides.prod(axis=1))[::-1]]
            found.append((boxes[mine], points[mine]))
        return found

    def _propose(self, pictures: Pyramids | Sums, min_face: float) -> tuple[np.ndarray, np.ndarray]:
        """P-Net's candidates of all pyramid levels: boxes and scores [K, 5], and their pictures, int64 [K]."""
        sizes, squares, level = _squares(*pictures.size, min_face)
        answers = torch.cat(
            [self._proposals(pictures.level(*size)).flatten(1, 2) for size in sizes], dim=1
        )  # [N, P, 6]
        sure = answers[..., 1] - answers[..., 0] >= math.log(THRESHOLDS[0] / (1 - THRESHOLDS[0]))
        where, place = (index.cpu().numpy() for index in sure.nonzero(as_tuple=True))
        outputs = answers[sure].double().cpu().numpy()
        table = np.concatenate([squares[place], face_share(outputs)[:, None]], axis=1)
        kept = suppress(table, where * len(sizes) + level[place], 0.5)  # each level for itself
        kept = kept[suppress(table[kept], where[kept], 0.7)]
        candidates, offsets, where = table[kept], outputs[kept, 2:], where[kept]
        sides = np.tile(candidates[:, 2:4] - candidates[:, :2], 2)
        squares = enclosing_squares(candidates[:, :4] + offsets * sides)
        return np.concatenate([squares, candidates[:, 4:]], axis=1), where

    def _refine(self, pictures: Pyramids | Sums, boxes: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The candidates that R-Net keeps, moved and made square again."""
        boxes, where, answers = _answers(self._refinement, pictures, boxes, where, SECOND_SIDE)
        scores = face_share(answers)
        sure = scores > THRESHOLDS[1]
        boxes, where = np.concatenate([boxes[sure, :4], scores[sure, None]], axis=1), where[sure]
        kept = suppress(boxes, where, 0.7)
        squares = enclosing_squares(moved(boxes[kept, :4], answers[sure][kept, 2:6]))
        return np.concatenate([squares, boxes[kept, 4:]], axis=1), where[kept]

    def _locate(
        self, pictures: Pyramids | Sums, boxes: np.ndarray, where: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """O-Net's faces, with landmarks [F, 5, 2]."""
        boxes, where, answers = _answers(self._landmarks, pictures, boxes, where, THIRD_SIDE)
        scores = face_share(answers)
        sure = scores > THRESHOLDS[2]
        boxes, where, scores, answers = boxes[sure, :4], where[sure], scores[sure], answers[sure]
        points = place_landmarks(answers[:, 6:], boxes)
        boxes = moved(boxes, answers[:, 2:6])
        table = np.concatenate([boxes, scores[:, None]], axis=1)
        kept = suppress(table, where, 0.7, of_smaller=True)
        if not self._vote:
            return table[kept], where[kept], points[kept]
        same_face = (shared_area(boxes[kept], boxes) > SAME_FACE_IOU) & (where[kept, None] == where)
        weights = same_face * scores  # [kept, F]
        weights /= weights.sum(axis=1, keepdims=True)
        mean = np.concatenate([weights @ boxes, scores[kept, None]], axis=1)
        return mean, where[kept], np.einsum("kf,fpx->kpx", weights, points)


def _answers(
    network: MTCNNStage, pictures: Pyramids | Sums, boxes: np.ndarray, where: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a network says about the candidates that overlap their picture: boxes, pictures, outputs float64 [k, O]."""
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
    scale = FIRST_SIDE / min_face
    while min(height, width) * scale >= FIRST_SIDE:
        sizes.append((int(height * scale + 1), int(width * scale + 1)))
        rows, columns = (-(-(side - 2) // 2) - 4 for side in sizes[-1])  # P-Net's convolutions and its pooling
        at = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=2).reshape(-1, 2) * STRIDE + 1
        squares.append(np.floor(np.concatenate([at, at + (FIRST_SIDE - 1)], axis=1) / scale))
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
        mine = order[where[order] == picture]
        stays[mine[_not_dropped(table[mine, :4], limit, of_smaller=of_smaller)]] = True
    return order[stays[order]]


def _not_dropped(boxes: np.ndarray, limit: float, *, of_smaller: bool) -> np.ndarray:
    """Indices of the boxes [K, 4], the highest score first, that overlap none of them which comes before."""
    kept = np.zeros(0, dtype=np.int64)
    for start in range(0, len(boxes), COMPARED_AT_ONCE):
        part = np.arange(start, min(start + COMPARED_AT_ONCE, len(boxes)))
        if len(kept):
            part = part[~(shared_area(boxes[kept], boxes[part], of_smaller=of_smaller) > limit).any(axis=0)]
        drops = shared_area(boxes[part], boxes[part], of_smaller=of_smaller) > limit
        stays = np.ones(len(part), dtype=bool)
        for index, row in enumerate(drops):
            if stays[index]:
                stays[index + 1 :] &= ~row[index + 1 :]
        kept = np.concatenate([kept, part[stays]])
    return kept


def shared_area(boxes: np.ndarray, others: np.ndarray, *, of_smaller: bool = False) -> np.ndarray:
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
