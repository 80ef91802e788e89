"""Full passes of MTCNN's three networks: the candidates of facenet-pytorch's own loop, in a third of its time.

The library resamples the picture for each pyramid level and each candidate. Here all means over rectangles come from
one integral image. It holds integers, so the means are the same to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

from Code.common.errors import require

# Sides of the crops that R-Net and O-Net see, and how many of them at once.
SECOND_SIDE, THIRD_SIDE = 24, 48
CANDIDATES_AT_ONCE = 512
# Candidates that overlap a face by more than this vote on where it is.
SAME_FACE_IOU = 0.5


class Cascade:
    """P-Net (12 pixels) proposes, R-Net (24) refines, O-Net (48) locates: Zhang et al. 2016, arXiv 1604.02878.

    Args:
        mtcnn: facenet_pytorch.MTCNN, whose networks (changed in place), thresholds and pyramid are used.
        vote: a face's box and landmarks are the means of its candidates', weighted by score. The library takes the
            candidate with the highest score. As nearly all scores are close to 1, that choice is nearly random, and
            boxes jitter.
    """

    def __init__(self, mtcnn: Any, *, vote: bool = True) -> None:
        self._vote = vote
        self._library = require("facenet_pytorch.models.utils.detect_face", "facenet-pytorch", "face detection")
        self._proposals = mtcnn.pnet
        self._proposals.pool1 = HalvingPool()
        # With channels last, 3 x 3 pooling is several times as fast.
        self._refinement = mtcnn.rnet.to(memory_format=torch.channels_last)
        self._landmarks = mtcnn.onet.to(memory_format=torch.channels_last)
        self._thresholds, self._factor = mtcnn.thresholds, mtcnn.factor
        self.device: torch.device = mtcnn.device

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, min_face: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Finds the faces in N pictures.

        Args:
            images: uint8 [N, H, W, 3], RGB, H and W at least `min_face`.
            min_face: smallest face in pixels, at least 12.

        Returns:
            For each picture boxes and scores, float32 [F, 5], and landmarks, float32 [F, 5, 2], largest first.
        """
        sums = rectangle_sums(images, self.device)
        boxes, where = self._propose(sums, min_face)
        boxes, where = self._refine(sums, boxes, where)
        boxes, where, points = self._locate(sums, boxes, where)
        found = []
        for index in range(len(images)):
            mine = where == index
            box, point = boxes[mine].cpu().numpy(), points[mine].cpu().numpy()
            order = np.argsort((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))[::-1]
            found.append((box[order], point[order]))
        return found

    def _propose(self, sums: Tensor, min_face: float) -> tuple[Tensor, Tensor]:
        """P-Net's candidates of all pyramid levels: boxes and scores [K, 5], and their pictures, int64 [K]."""
        height, width = sums.shape[1] - 1, sums.shape[2] - 1
        scale = 12 / min_face
        boxes, where = [], []
        while min(height, width) * scale >= 12:
            level = resample(sums, int(height * scale + 1), int(width * scale + 1))
            offsets, shares = self._proposals(normalized(level))
            found, images = self._library.generateBoundingBox(offsets, shares[:, 1], scale, self._thresholds[0])
            kept = batched_nms(found[:, :4], found[:, 4], images, 0.5)
            boxes.append(found[kept])
            where.append(images[kept])
            scale *= self._factor
        candidates, image = torch.cat(boxes), torch.cat(where)
        kept = batched_nms(candidates[:, :4], candidates[:, 4], image, 0.7)
        candidates, image = candidates[kept], image[kept]
        sides = (candidates[:, 2:4] - candidates[:, :2]).repeat(1, 2)
        moved = candidates[:, :4] + candidates[:, 5:] * sides
        return self._library.rerec(torch.cat([moved, candidates[:, 4:5]], dim=1)), image

    def _refine(self, sums: Tensor, boxes: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """The candidates that R-Net keeps, moved and made square again."""
        boxes, where, crops = crop_candidates(sums, boxes, where, SECOND_SIDE)
        if not len(boxes):
            return boxes, where
        offsets, shares = self._in_parts(self._refinement, crops)
        sure = shares[:, 1] > self._thresholds[1]
        boxes, where, offsets = torch.cat([boxes[sure, :4], shares[sure, 1:2]], dim=1), where[sure], offsets[sure]
        kept = batched_nms(boxes[:, :4], boxes[:, 4], where, 0.7)
        return self._library.rerec(self._library.bbreg(boxes[kept], offsets[kept])), where[kept]

    def _locate(self, sums: Tensor, boxes: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """O-Net's faces, with landmarks [F, 5, 2]."""
        boxes, where, crops = crop_candidates(sums, boxes, where, THIRD_SIDE)
        if not len(boxes):
            return boxes, where, boxes.new_zeros(0, 5, 2)
        offsets, points, shares = self._in_parts(self._landmarks, crops)
        sure = shares[:, 1] > self._thresholds[2]
        boxes, where = torch.cat([boxes[sure, :4], shares[sure, 1:2]], dim=1), where[sure]
        points = place_landmarks(points[sure], boxes)
        boxes = self._library.bbreg(boxes, offsets[sure])
        kept = self._library.batched_nms_numpy(boxes[:, :4], boxes[:, 4], where, 0.7, "Min")
        if not self._vote:
            return boxes[kept], where[kept], points[kept]
        same_face = (box_iou(boxes[kept, :4], boxes[:, :4]) > SAME_FACE_IOU) & (where[kept, None] == where)
        weights = nn.functional.normalize(same_face * boxes[:, 4], p=1, dim=1)  # [kept, F]
        mean = torch.cat([weights @ boxes[:, :4], boxes[kept, 4:]], dim=1)
        return mean, where[kept], torch.einsum("kf,fpx->kpx", weights, points)

    @staticmethod
    def _in_parts(network: nn.Module, crops: Tensor) -> tuple[Tensor, ...]:
        parts = [network(normalized(part)) for part in crops.split(CANDIDATES_AT_ONCE)]
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))


class HalvingPool(nn.Module):
    """nn.MaxPool2d(2, 2, ceil_mode=True) as two maxima of neighbors, several times as fast on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, ceil(H / 2), ceil(W / 2)]."""
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = nn.functional.pad(x, (0, width % 2, 0, height % 2), value=-torch.inf)
        x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        return torch.maximum(x[..., ::2], x[..., 1::2])


def normalized(pixels: Tensor) -> Tensor:
    """Pixels, 0 to 255, as the networks expect them: in [-1, 1]."""
    return (pixels - 127.5) * 0.0078125


def place_landmarks(points: Tensor, boxes: Tensor) -> Tensor:
    """O-Net's landmarks [F, 10], five x and then five y in sides of their box, in pixels: [F, 5, 2]."""
    corner, sides = boxes[:, None, :2], (boxes[:, 2:4] - boxes[:, :2] + 1)[:, None]
    return sides * points.reshape(-1, 2, 5).transpose(1, 2) + corner - 1


def rectangle_sums(images: np.ndarray, device: torch.device) -> Tensor:
    """Integral images, the sums over all rectangles from the top left: int32 [N, H + 1, W + 1, 3].

    The sums overflow in large pictures. Their differences, sums over smaller rectangles, are right nevertheless.
    """
    if device.type != "cpu":
        along = torch.from_numpy(images).to(device).cumsum(2, dtype=torch.int32).cumsum(1, dtype=torch.int32)
        return nn.functional.pad(along, (0, 0, 1, 0, 1, 0))
    count, height, width, _ = images.shape
    sums = np.zeros((count, height + 1, width + 1, 3), dtype=np.int32)
    along_row = np.empty((count, width, 3), dtype=np.int32)
    # Adding whole rows is three times as fast as numpy's cumsum over them.
    for row in range(height):
        np.cumsum(images[:, row], axis=1, dtype=np.int32, out=along_row)
        np.add(sums[:, row, 1:], along_row, out=sums[:, row + 1, 1:])
    return torch.from_numpy(sums)


def _windows(length: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Starts and ends of the `parts` windows of area interpolation over so many pixels: [..., parts]."""
    part = torch.arange(parts, device=length.device)
    length = length[..., None]
    return part * length // parts, ((part + 1) * length + parts - 1) // parts


def resample(sums: Tensor, height: int, width: int) -> Tensor:
    """Area interpolation of whole pictures: float32 [N, 3, height, width]."""
    sizes = torch.tensor([sums.shape[1] - 1, sums.shape[2] - 1], device=sums.device)
    top, bottom = _windows(sizes[0], height)
    left, right = _windows(sizes[1], width)
    rows = sums.index_select(1, bottom) - sums.index_select(1, top)
    total = (rows.index_select(2, right) - rows.index_select(2, left)).permute(0, 3, 1, 2).float()
    return total.contiguous() / (bottom - top)[:, None] / (right - left)


def crop_candidates(sums: Tensor, boxes: Tensor, where: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Crops candidates, with area interpolation.

    Args:
        sums: see `rectangle_sums`.
        boxes: float32 [K, 5], left, top, right, bottom (from 1, ends included), score.
        where: int64 [K], their pictures.
        side: of the crops in pixels.

    Returns:
        boxes and where of the candidates that overlap their picture, and their pixels, float32 [k, 3, side, side].
    """
    height, width = sums.shape[1] - 1, sums.shape[2] - 1
    corners = boxes[:, :4].trunc().long()
    left, top = (corners[:, axis].clamp(min=1) - 1 for axis in (0, 1))
    right, bottom = corners[:, 2].clamp(max=width), corners[:, 3].clamp(max=height)
    inside = (right > left) & (bottom > top)
    boxes, where = boxes[inside], where[inside]
    left, top, right, bottom = left[inside], top[inside], right[inside], bottom[inside]
    first_row, last_row = (top[:, None] + at for at in _windows(bottom - top, side))  # [k, side]
    first_column, last_column = (left[:, None] + at for at in _windows(right - left, side))
    flat = sums.view(-1, 3)

    def corner(rows: Tensor, columns: Tensor) -> Tensor:
        at = ((where[:, None] * (height + 1) + rows) * (width + 1))[:, :, None] + columns[:, None]
        return flat.index_select(0, at.view(-1))

    total = corner(last_row, last_column) - corner(first_row, last_column)
    total += corner(first_row, first_column) - corner(last_row, first_column)
    pixels = total.view(-1, side, side, 3).permute(0, 3, 1, 2).float()
    rows, columns = last_row - first_row, last_column - first_column
    return boxes, where, pixels / rows[:, None, :, None] / columns[:, None, None]
