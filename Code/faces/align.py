"""Aligns faces: one similarity transform brings the eyes to fixed places in a crop of fixed size."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from ..common.names import IMAGE_SIZE

FACE_SIZE = IMAGE_SIZE  # side of a crop in pixels
Eyes = tuple[tuple[float, float], tuple[float, float]]

# Eyes in the paper's crop of 224 pixels: as in dlib's face chips with a padding of 25 %.
PAPER_EYES: Eyes = ((71.3, 70.4), (149.8, 70.4))
# Eyes in FER2013's crop: MTCNN's medians, (14.9, 18.2) and (32.8, 18.2) of 48 pixels, made symmetric.
FER2013_EYES: Eyes = ((70.0, 87.0), (153.0, 87.0))

# Sides of the paper's crop of frontal faces, in heights of MTCNN's box: the usual one and the smallest one. When a head
# turns away, its eyes come together in the picture, and a crop by their distance would be too small.
SIDE, SMALLEST_SIDE = 0.97, 0.85
# x, y, 1 of every pixel of the crop, float32 [224 * 224, 3].
_DOWN, _ACROSS = torch.meshgrid(*[torch.arange(FACE_SIZE, dtype=torch.float32)] * 2, indexing="ij")
_CROP_PIXELS = torch.stack([_ACROSS, _DOWN, torch.ones_like(_DOWN)], dim=2).view(-1, 3)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift (no shear, no reflection) that bring points closest to others, float64 [2, 3].

    With points [P, 2] as complex numbers z and w, w = a z + b; least squares give
    a = sum conj(z - mean z) (w - mean w) / sum |z - mean z|^2. Two points are mapped exactly. ValueError: all points of
    the source coincide.
    """
    z, w = source[:, 0] + 1j * source[:, 1], target[:, 0] + 1j * target[:, 1]
    centered = z - z.mean()
    spread = (np.abs(centered) ** 2).sum()
    if not spread:
        raise ValueError("all landmarks coincide, so no similarity is defined")
    a = (centered.conj() * (w - w.mean())).sum() / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def face_similarity(landmarks: np.ndarray, box: np.ndarray | None = None, eyes: Eyes = PAPER_EYES) -> np.ndarray:
    """The similarity, float64 [2, 3], from a picture to the crop that brings both eyes to `eyes`.

    For a face in profile, whose eyes would give a crop smaller than SMALLEST_SIDE of the box's height, the crop is
    SIDE of the box's height, centered on the box, and upright along the line from eyes to mouth. Landmarks [5, 2] and
    box [4] are the detector's; without a box, all are frontal. ValueError: the eyes coincide, and there is no box.
    """
    target, paper = np.array(eyes), np.array(PAPER_EYES)
    paper_apart = paper[1, 0] - paper[0, 0]
    side = np.hypot(*(landmarks[1] - landmarks[0])) * FACE_SIZE / paper_apart  # of the paper's crop by the eyes
    if box is None or side >= SMALLEST_SIDE * (box[3] - box[1]):
        return similarity(landmarks[:2], target)
    down = landmarks[3:].mean(axis=0) - landmarks[:2].mean(axis=0)
    length = np.hypot(*down)
    down = down / length if length else np.array([0.0, 1.0])
    center = (box[:2] + box[2:]) / 2
    # SIDE describes the paper's crop. Other crops scale with the distance of their eyes; where its middle is in them:
    ratio = (target[1, 0] - target[0, 0]) / paper_apart
    middle = target.mean(axis=0) + ratio * (FACE_SIZE / 2 - paper.mean(axis=0))
    scale = ratio * FACE_SIZE / (SIDE * (box[3] - box[1]))
    return similarity(np.stack([center, center + down]), np.stack([middle, middle + np.array([0, scale])]))


def align_face(
    image: np.ndarray, landmarks: np.ndarray, box: np.ndarray | None = None, eyes: Eyes = PAPER_EYES
) -> np.ndarray:
    """Cuts a face out of uint8 [H, W, 3] by `face_similarity`, with bicubic interpolation: uint8 [224, 224, 3].

    Faces larger than the crop are shrunk first, with antialiasing. What lies outside the picture is black.
    """
    matrix = face_similarity(landmarks, box, eyes)
    backward = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]  # crop -> image
    height, width, _ = image.shape
    # Only the part under the crop is shrunk and warped. The bicubic kernel needs 4 pixels more at its rim.
    side = FACE_SIZE - 1
    corners = backward @ np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]])  # [2, 4]
    left, top = (max(0, math.floor(edge) - 4) for edge in corners.min(axis=1))
    right, bottom = (math.ceil(edge) + 5 for edge in corners.max(axis=1))
    right, bottom = min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return np.zeros((FACE_SIZE, FACE_SIZE, 3), dtype=np.uint8)
    part = torch.from_numpy(image[top:bottom, left:right].copy()).permute(2, 0, 1)[None]  # uint8 [1, 3, rows, columns]
    scale = math.hypot(matrix[0, 0], matrix[1, 0])  # crop pixels per image pixel
    if scale < 1:
        shrunk = [max(1, round(length * scale)) for length in (bottom - top, right - left)]
        part = functional.interpolate(part, size=shrunk, mode="bicubic", antialias=True)

    # grid_sample's coordinates are -1 and 1 at the edges of the part, not at the centers of its outer pixels.
    across, down = 2 / (right - left), 2 / (bottom - top)
    shift = np.array([across * (0.5 - left) - 1, down * (0.5 - top) - 1])
    to_part = (np.diag([across, down]) @ backward + np.outer(shift, [0, 0, 1])).astype(np.float32)
    grid = (_CROP_PIXELS @ torch.from_numpy(to_part.T)).view(1, FACE_SIZE, FACE_SIZE, 2)
    pixels = part.to(torch.float32, memory_format=torch.contiguous_format)
    crop = functional.grid_sample(pixels, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    crop = crop[0].permute(1, 2, 0).round_().clamp_(0, 255)
    return crop.to(torch.uint8, memory_format=torch.contiguous_format).numpy()
