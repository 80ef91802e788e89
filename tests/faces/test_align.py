"""Alignment: where the eyes land, what is kept, what is black, and faces in profile."""

from __future__ import annotations

import math

import numpy as np
import pytest

from Code.faces.align import FACE_SIZE, FER2013_EYES, PAPER_EYES, SIDE, Eyes, align_face, face_similarity, similarity

# A frontal face in units of its eyes' distance, from the middle between the eyes.
SHAPE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.577], [-0.406, 1.048], [0.406, 1.048]])


def face_for(eyes: Eyes) -> np.ndarray:
    """Five landmarks of a frontal face whose eyes are at `eyes`."""
    left, right = np.array(eyes)
    return SHAPE * np.hypot(*(right - left)) + (left + right) / 2


FACE = face_for(PAPER_EYES)


def moved(points: np.ndarray, scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    """Points scaled, turned and shifted, by complex arithmetic."""
    turn = scale * np.exp(1j * np.radians(degrees))
    z = turn * (points[:, 0] + 1j * points[:, 1]) + complex(x, y)
    return np.stack([z.real, z.imag], axis=1)


def test_similarity_undoes_a_known_one_and_never_mirrors() -> None:
    source = FACE
    matrix = similarity(source, moved(source, 2.5, -70, 30, -12))
    np.testing.assert_allclose(np.linalg.det(matrix[:, :2]), 2.5**2)
    np.testing.assert_allclose(matrix @ [0, 0, 1], [30, -12], atol=1e-9)
    mirrored = similarity(source, source * [-1, 1])
    assert np.linalg.det(mirrored[:, :2]) > 0
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((5, 2)), source)


@pytest.mark.parametrize("eyes", [PAPER_EYES, FER2013_EYES])
@pytest.mark.parametrize(
    ("scale", "degrees"), [(1.0, 0), (0.25, 0), (0.3, 35), (1.7, -20), (4.0, 0), (5.3, 100), (1.3, 180)]
)
def test_drawn_landmarks_land_on_the_template(scale: float, degrees: float, eyes: Eyes) -> None:
    """Faces from a quarter of the crop's size to five times it, upright or not."""
    points = moved(face_for(eyes) - FACE_SIZE / 2, scale, degrees, 0, 0)
    half = math.ceil(scale * FACE_SIZE * 0.75) + 7
    points += [half + 3.3, half - 5.6]
    image = np.zeros((2 * half, 2 * half + 9), dtype=np.float64)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    spot = max(2.5 * scale, 1.0)
    for px, py in points:
        image += 250 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * spot**2))
    crop = align_face(np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), points, eyes=eyes)
    assert crop.shape == (FACE_SIZE, FACE_SIZE, 3)
    assert crop.dtype == np.uint8
    for tx, ty in eyes:
        left, top = round(tx) - 14, round(ty) - 14
        window = crop[top : top + 29, left : left + 29, 0].astype(np.float64)
        wy, wx = np.mgrid[top : top + 29, left : left + 29]
        found = np.array([(window * wx).sum(), (window * wy).sum()]) / window.sum()
        assert np.hypot(*(found - [tx, ty])) < 0.5


def test_what_lies_outside_the_picture_is_black_and_the_inside_is_kept() -> None:
    white = np.full((300, 300, 3), 255, dtype=np.uint8)
    shifted = align_face(white, FACE - np.array([112, 0]))  # the left half of the face is off the picture
    assert not shifted[:, :110].any()
    assert (shifted[:, 114:] == 255).all()
    assert not align_face(white, FACE + np.array([5000, 0])).any()


def test_a_large_face_is_shrunk_without_aliasing() -> None:
    """Stripes finer than the crop's pixels become grey, not a pattern."""
    stripes = np.zeros((1200, 1200, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    crop = align_face(stripes, FACE * 5.02)
    inside = crop[20:200, 20:200].astype(int)
    assert abs(inside.mean() - 127.5) < 2
    assert np.ptp(inside) < 12


@pytest.mark.parametrize("eyes", [PAPER_EYES, FER2013_EYES])
def test_a_face_in_profile_goes_by_its_box(eyes: Eyes) -> None:
    """Eyes close together must not blow the face up."""
    height = 120.0
    profile = np.array([[100, 80], [112, 80], [96, 100], [101, 120], [109, 120]], dtype=float)
    box = np.array([60, 40, 150, 40 + height])
    matrix = face_similarity(profile, box, eyes)
    ratio = (eyes[1][0] - eyes[0][0]) / (PAPER_EYES[1][0] - PAPER_EYES[0][0])
    side = FACE_SIZE / np.hypot(matrix[0, 0], matrix[1, 0])
    assert side == pytest.approx(SIDE * height / ratio)
    middle = matrix @ [105, 100, 1]  # of the box
    if eyes == PAPER_EYES:
        np.testing.assert_allclose(middle, [FACE_SIZE / 2, FACE_SIZE / 2], atol=1e-9)
    up = matrix[:, :2] @ (profile[3:].mean(axis=0) - profile[:2].mean(axis=0))
    assert up[0] == pytest.approx(0, abs=1e-9)
    assert up[1] > 0
    assert np.linalg.det(matrix[:, :2]) > 0
