"""Faces in a camera's frames: those of full passes on every frame, with few full passes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from Code.faces.detect import Detector, Faces, overlap
from Code.faces.live import LiveFinder
from Code.faces.video import Frame
from tests.faces.conftest import CountingDetector, Draw

pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")


def live(pictures: list[Image.Image], fps: float = 25.0, every: int = 10) -> tuple[list[Faces], list[int], list[int]]:
    """The faces of each frame, the frames that were searched in full, and the cuts."""
    detector = CountingDetector()
    find = LiveFinder(detector, every)
    faces, full, cuts = [], [], []
    for n, picture in enumerate(pictures):
        before = detector.passes
        found, cut = find(Frame(f"{n:07d}", n, n / fps, np.asarray(picture)))
        faces.append(found)
        if detector.passes > before:
            full.append(n)
        if cut:
            cuts.append(n)
    return faces, full, cuts


def test_somebody_who_moves_is_followed_with_a_tenth_of_the_full_passes(scene_of: Draw) -> None:
    pictures = [scene_of((0, 5 + 2 * n, 40, 90), size=(320, 200)) for n in range(21)]
    found, full, _ = live(pictures)
    assert full == [0, 10, 20]
    detector = Detector()
    for faces, picture in zip(found, pictures, strict=True):
        expected = detector(np.asarray(picture))
        assert len(faces) == len(expected) == 1
        assert overlap(faces.boxes, expected.boxes[0])[0] > 0.85
        eyes = faces.landmarks[0, :2] - expected.landmarks[0, :2]
        assert np.hypot(*eyes.T).max() < 0.04 * (expected.boxes[0, 3] - expected.boxes[0, 1])


def test_the_first_face_is_found_at_once_and_a_lost_one_is_searched_at_once(scene_of: Draw) -> None:
    empty, shown = scene_of(size=(160, 120)), scene_of((0, 30, 10, 96), size=(160, 120))
    found, full, _ = live([empty] * 3 + [shown] * 4 + [empty] * 2 + [shown] * 2)
    assert [len(faces) for faces in found] == [0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1]
    assert full == [0, 1, 2, 3, 8, 9]


def test_a_newcomer_is_found_with_the_next_key_frame(scene_of: Draw) -> None:
    one, two = (0, 5, 40, 90), (1, 170, 20, 150)
    found, full, _ = live([scene_of(one, size=(320, 200))] * 3 + [scene_of(one, two, size=(320, 200))] * 5, every=4)
    assert [len(faces) for faces in found] == [1] * 4 + [2] * 4
    assert full == [0, 4]


def test_a_shot_begins_with_a_key_frame_and_every_1_searches_all(scene_of: Draw) -> None:
    pictures = [scene_of((0, 30, 10, 120), grey=60)] * 3 + [scene_of((1, 60, 12, 118), grey=170)] * 3
    found, full, cuts = live(pictures)
    assert [len(faces) for faces in found] == [1] * 6
    assert full == [0, 3] and cuts == [3]
    assert live(pictures, every=1)[1] == list(range(6))
