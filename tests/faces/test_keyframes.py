"""Faces between key frames: found in the same frames, at the same places, as by full passes on every frame."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from Code.faces.detect import Detector, overlap
from Code.faces.keyframes import SearchedFrame, find_faces
from Code.faces.track import Tracker
from Code.faces.video import Frame
from tests.faces.conftest import CountingDetector, Draw

pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")


def frames(pictures: list[Image.Image], fps: float = 25.0) -> list[Frame]:
    return [Frame(f"{n:07d}", n, n / fps, np.asarray(picture)) for n, picture in enumerate(pictures)]


def both(
    pictures: list[Image.Image], every: int = 20, fps: float = 25.0
) -> tuple[list[SearchedFrame], list[SearchedFrame], int]:
    """What is found with key frames and with full passes only, and the number of full passes of the former."""
    detector = CountingDetector()
    refined = list(find_faces(frames(pictures, fps), detector, every))
    passes = detector.passes
    return refined, list(find_faces(frames(pictures, fps), detector, 1)), passes


def assert_same(refined: list[SearchedFrame], full: list[SearchedFrame]) -> None:
    assert [len(found.faces) for found in refined] == [len(found.faces) for found in full]
    assert [found.cut for found in refined] == [found.cut for found in full]
    for one, other in zip(refined, full, strict=True):
        for box, landmarks in zip(other.faces.boxes, other.faces.landmarks, strict=True):
            shared = overlap(one.faces.boxes, box)
            assert shared.max() > 0.85
            eyes = one.faces.landmarks[shared.argmax()][:2] - landmarks[:2]
            assert np.hypot(*eyes.T).max() < 0.04 * (box[3] - box[1])


def test_two_people_who_move_are_followed_with_few_full_passes(scene_of: Draw) -> None:
    pictures = [scene_of((0, 5 + n, 40, 90), (1, 170 - n // 2, 20, 150), size=(320, 200)) for n in range(21)]
    refined, full, passes = both(pictures, every=10)
    assert_same(refined, full)
    assert passes == 3  # frames 0, 10 and 20
    assert [number for number, searched in enumerate(refined) if searched.full] == [0, 10, 20]
    tracker = Tracker()
    for position, found in enumerate(refined):
        tracker.update(position, found.frame.time, found.faces, found.cut)
    assert [len(track) for track in tracker.tracks] == [21, 21]


def test_somebody_who_comes_or_goes_between_key_frames_is_found_in_the_same_frames(scene_of: Draw) -> None:
    comes = [scene_of((0, 20, 10, 120)) if n >= 4 else scene_of() for n in range(9)]
    assert_same(*both(comes)[:2])
    assert_same(*both(comes[::-1])[:2])


def test_a_shot_begins_with_a_key_frame(scene_of: Draw) -> None:
    pictures = [scene_of((0, 30, 10, 120), grey=60)] * 5 + [scene_of((1, 60, 12, 118), grey=170)] * 5
    refined, full, passes = both(pictures)
    assert_same(refined, full)
    assert [n for n, found in enumerate(refined) if found.cut] == [5]
    assert passes == 4  # first and last frame of both shots


def test_somebody_who_runs_is_expected_further_on(scene_of: Draw) -> None:
    pictures = [scene_of((0, 25 * n, 60, 80), size=(400, 200)) for n in range(12)]
    refined, full, _ = both(pictures)
    assert_same(refined, full)


def test_key_frames_are_no_further_apart_than_a_second(scene_of: Draw) -> None:
    _, _, passes = both([scene_of((0, 20, 10, 120))] * 21, fps=8)
    assert passes == 3  # at 0, 1.125 and 2.25 s


def test_faces_that_jump_between_the_frames_of_a_thinned_video_are_found(scene_of: Draw) -> None:
    refined, full, passes = both([scene_of((0, 20 + 24 * (n % 2), 10, 96), size=(160, 120)) for n in range(6)], fps=1)
    assert_same(refined, full)
    assert passes == 6


def test_threads_change_nothing(scene_of: Draw) -> None:
    pictures = [scene_of((0, 5 + n, 40, 90), size=(320, 200)) for n in range(12)]
    detector = Detector()
    alone = list(find_faces(frames(pictures), detector, 5))
    ahead = list(find_faces(frames(pictures), detector, 5, prefetch=True))
    for one, other in zip(alone, ahead, strict=True):
        np.testing.assert_array_equal(one.faces.boxes, other.faces.boxes)
        assert one.frame.number == other.frame.number
