"""Tracking: who is who, cuts, gaps, smoothing, the main person."""

from __future__ import annotations

import numpy as np
import pytest

from Code.faces.detect import Faces
from Code.faces.track import CutFinder, Track, Tracker, completed, credible, ranked


def faces(*boxes: tuple[float, float, float], score: float = 0.99) -> Faces:
    """Square faces (left, top, side); landmarks at fixed shares of the box."""
    corners = np.array([(x, y, x + side, y + side) for x, y, side in boxes], dtype=float).reshape(-1, 4)
    shares = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
    landmarks = corners[:, None, :2] + shares * (corners[:, 2:] - corners[:, :2])[:, None]
    return Faces(corners, landmarks, np.full(len(corners), score))


def tracked(*frames: Faces, cuts: tuple[int, ...] = (), fps: float = 25.0) -> list[Track]:
    tracker = Tracker()
    for position, found in enumerate(frames):
        tracker.update(position, position / fps, found, position in cuts)
    return tracker.tracks


def test_two_people_keep_their_tracks_when_the_detector_changes_their_order() -> None:
    left, right = (0, 0, 50), (100, 0, 50)
    tracks = tracked(faces(left, right), faces(right, left), faces(left), faces(right, left))
    assert [list(track.positions) for track in tracks] == [[0, 1, 2, 3], [0, 1, 3]]
    assert tracks[0].table[:, 0].tolist() == [0, 0, 0, 0]
    assert tracks[1].table[:, 0].tolist() == [100, 100, 100]


@pytest.mark.parametrize(("step", "people"), [(25, 1), (29, 2)])  # overlap 1/3, 0.27 of a box of 50
def test_a_face_that_overlaps_too_little_is_somebody_else(step: float, people: int) -> None:
    assert len(tracked(faces((0, 0, 50)), faces((step, 0, 50)))) == people


@pytest.mark.parametrize("step", [4, 10, 16])
@pytest.mark.parametrize("order", [1, -1])
def test_people_who_pass_each_other_keep_their_tracks(step: int, order: int) -> None:
    """The one in front is seen all the time, the other one is hidden meanwhile."""
    frames = []
    for number in range(400 // step):
        front, back = (step * number, 0, 90), (400 - step * number, 0, 90)
        seen = [front] if abs(front[0] - back[0]) < 60 else [front, back][::order]
        frames.append(faces(*seen))
    first, second, *others = sorted(tracked(*frames), key=lambda track: track.table[0, 0])
    assert np.all(np.diff(first.table[:, 0]) > 0) and len(first) == len(frames)
    assert np.all(np.diff(second.table[:, 0]) < 0)
    assert not others and second.table[-1, 0] < 100


def test_nobody_is_who_they_were_behind_a_cut_or_after_two_seconds() -> None:
    same = faces((0, 0, 50))
    assert [list(t.positions) for t in tracked(same, same, same, same, cuts=(2,))] == [[0, 1], [2, 3]]
    nobody = faces()
    assert len(tracked(same, *[nobody] * 19, same, fps=10)) == 1
    assert len(tracked(same, *[nobody] * 21, same, fps=10)) == 2


def test_cuts_are_found_and_motion_and_noise_are_none() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
    scenes = [np.kron(scene, np.ones((20, 20, 1), dtype=np.uint8)) for scene in (first, second)]
    found, finder = [], CutFinder()
    for number in range(30):
        scene = np.roll(scenes[number // 10 % 2], 2 * (number % 10), axis=1)
        noisy = (scene + rng.normal(0, 6, scene.shape)).clip(0, 255).astype(np.uint8)
        if finder(noisy):
            found.append(number)
    assert found == [10, 20]


def test_short_gaps_are_filled_between_their_neighbours_and_marked_long_ones_are_not() -> None:
    short = tracked(faces((0, 0, 50)), faces((10, 0, 50)), faces(), faces(), faces((16, 6, 50)))[0]
    path = completed(short, np.arange(5) / 25)
    np.testing.assert_array_equal(path.positions, np.arange(5))
    np.testing.assert_array_equal(path.filled, [False, False, True, True, False])
    np.testing.assert_array_equal(np.isnan(path.scores), path.filled)
    np.testing.assert_allclose(path.boxes[:, :2], [[0, 0], [10, 0], [12, 2], [14, 4], [16, 6]])
    np.testing.assert_allclose(path.landmarks[2, 0], [12 + 15, 2 + 20])

    at_ten = tracked(faces((0, 0, 50)), *[faces()] * 4, faces((0, 0, 50)), fps=10)[0]  # 0.5 s
    path = completed(at_ten, np.arange(6) / 10)
    np.testing.assert_array_equal(path.positions, [0, 5])
    assert not path.filled.any()


def test_landmarks_are_averaged_over_five_frames_and_do_not_lag() -> None:
    rng = np.random.default_rng(0)
    jitter = rng.uniform(-0.25, 0.25, 40)
    track = tracked(*[faces((2 * n + jitter[n], 0, 60)) for n in range(40)])[0]
    path = completed(track, np.arange(40) / 25)
    left_eye = path.landmarks[:, 0, 0]
    expected = [left_eye[n - 2 : n + 3].mean() for n in range(2, 38)]
    np.testing.assert_allclose(path.smooth_landmarks[2:38, 0, 0], expected)
    np.testing.assert_allclose(path.smooth_landmarks[1, 0, 0], left_eye[:3].mean())
    assert path.smooth_landmarks[0, 0, 0] == left_eye[0]
    steady = completed(tracked(*[faces((2 * n, 0, 60)) for n in range(9)])[0], np.arange(9) / 25)
    np.testing.assert_allclose(steady.smooth_landmarks, steady.landmarks)  # even motion is kept


def test_a_face_that_jerks_is_followed_not_averaged_away() -> None:
    """A hand-held camera: the mean of five frames would be up to four pixels off, on a face of 60."""
    places = 12 * np.sin(np.arange(40) / 1.5)
    path = completed(tracked(*[faces((100 + x, 0, 60)) for x in places])[0], np.arange(40) / 25)
    away = np.abs(path.smooth_landmarks - path.landmarks)[2:-2].max(axis=(1, 2))
    mean = np.convolve(places, np.ones(5) / 5, "valid")
    assert np.abs(mean - places[2:-2]).max() > 4
    assert away.max() <= 0.5 + 1e-9  # STEADY_PIXELS
    assert (away > 0).any()
    still = completed(tracked(*[faces((100 + 0.2 * (n % 2), 0, 60)) for n in range(40)])[0], np.arange(40) / 25)
    assert np.ptp(still.smooth_boxes[2:-2, 0]) < 0.05


def test_no_average_reaches_over_a_cut_or_between_frames_far_apart() -> None:
    near, far = faces((0, 0, 50)), faces((8, 0, 50))
    for track in tracked(near, near, near, far, far, far, cuts=(3,)):
        path = completed(track, np.arange(6) / 25)
        np.testing.assert_allclose(path.smooth_boxes, path.boxes)
    thinned = tracked(near, far, near, far, fps=2)[0]
    path = completed(thinned, np.arange(4) / 2)
    np.testing.assert_allclose(path.smooth_boxes, path.boxes)


def test_false_alarms_are_nobody_and_single_pictures_are_somebody() -> None:
    person, ghost = (0, 0, 50), (200, 0, 50)
    tracks = tracked(faces(person), faces(person, ghost), *[faces(person)] * 18)
    assert credible(tracks, 20) == [0]
    assert credible(tracked(faces(person)), 1) == [0]
    assert credible(tracked(*[faces(person, score=0.8)] * 20), 20) == []
    tracker = Tracker()
    for position in range(20):  # refinement is less sure of a dim face than the full passes that confirm it
        full = position % 10 == 0
        tracker.update(position, position / 25, faces(person, score=0.98 if full else 0.8), False, full=full)
    assert credible(tracker.tracks, 20) == [0]


def test_the_main_person_is_the_largest_for_longest_not_the_first() -> None:
    small, large = (0, 0, 40), (100, 0, 60)
    tracks = tracked(*[faces(small)] * 6, *[faces(small, large)] * 6)
    assert ranked(tracks, [0, 1]) == [1, 0]  # 6 x 3600 against 12 x 1600
    assert ranked(tracks, [0, 1], 0, 6) == ranked(tracks, [0]) == [0]
    assert ranked(tracks, [1], 0, 6) == ranked([], []) == []
