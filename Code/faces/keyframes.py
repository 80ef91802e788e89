"""Faces in consecutive frames: full passes of the detector on key frames, and refinement of their faces in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..common.progress import prefetched
from .detect import Detector, Faces, overlap
from .mtcnn import overlaps
from .settings import DETECT_EVERY
from .track import SAME_PERSON_IOU, CutFinder
from .video import Frame

# If much has changed since a key frame, somebody may have come: the next one then follows after half as many frames.
# Changed: CHANGED_CELLS cells of a 32 x 32 thumbnail, faces left out, differ by more than CHANGED_LEVELS gray levels.
CHANGED_CELLS, CHANGED_LEVELS = 40, 25
STRETCH_SECONDS = 1.0  # key frames are at most this far apart
# A frame further than this from the one before is a key frame, as in a video thinned by --fps: a face may be anywhere.
STEP_SECONDS = 0.15
# The frames after a key frame stay in memory until the next one, whose new faces are followed back through them.
STRETCH_BYTES = 96 * 2**20
LEAST_LAST_STRETCH = 4  # the last frame of a shot is a key frame, too, if the one before is further back than this
REFINED_TOGETHER = 5  # frames that are refined from the same boxes at once, which takes less time than one by one
# Unless a face is found where it was expected, with at least this overlap, it is refined again from where it was found.
STEADY_IOU = 0.75
LEAST_MOTION = 0.05  # a face that moves by less of its height from frame to frame is expected to stay


class SearchedFrame(NamedTuple):
    """A frame and what was found in it."""

    frame: Frame
    faces: Faces
    cut: bool  # a shot begins with it
    full: bool  # a full pass searched it


def find_faces(
    frames: Iterable[Frame], detector: Detector, every: int = DETECT_EVERY, *, prefetch: bool = False
) -> Iterator[SearchedFrame]:
    """Finds the faces in the frames of a clip; at least one frame in `every` is a key frame.

    `prefetch`: decode in one thread and search key frames in another while this thread refines.
    """
    stretches = _stretches(prefetched(iter(frames), size=4) if prefetch else frames, detector, every)
    stretches = prefetched(stretches, size=1) if prefetch else stretches
    stretch, before = next(stretches, None), Faces.none()
    while stretch is not None:
        following = next(stretches, None)
        after = following.faces[0] if following is not None and following.continues else None
        yield from stretch.search(detector, before, after)
        before = Faces.none() if after is None else stretch.faces[-1]
        stretch = following


def _stretches(frames: Iterable[Frame], detector: Detector, every: int) -> Iterator[_Stretch]:
    """Chooses the key frames, runs full passes on them, and yields each with the frames after it."""
    is_cut = CutFinder()
    stretch: _Stretch | None = None
    for frame in frames:
        cut = is_cut(frame.image)
        if stretch is not None and not cut and stretch.takes(frame, is_cut.thumbnail, every):
            stretch.frames.append(frame)
            continue
        continues = stretch is not None and not cut and frame.image.shape == stretch.frames[0].image.shape
        if stretch is not None:
            yield stretch
        stretch = _Stretch(frame, detector(frame.image), is_cut.thumbnail, cut, continues)
    if stretch is not None:
        yield stretch


class _Stretch:
    """A key frame and the frames after it, up to the next one.

    `continues`: it shows the same shot, in the same size, as the frame before; `cut`: a shot begins with it.
    """

    def __init__(self, key: Frame, faces: Faces, thumbnail: np.ndarray, cut: bool, continues: bool) -> None:
        self.frames = [key]
        self.faces = [faces]  # of the first frames, as far as they are searched
        self.continues = continues
        self._thumbnail, self._cut = thumbnail, cut

    def takes(self, frame: Frame, thumbnail: np.ndarray, every: int) -> bool:
        """Whether the next frame of the same shot belongs to this stretch; if not, it is the next key frame."""
        key, count = self.frames[0], len(self.frames)
        if count >= every or (count + 1) * key.image.nbytes > STRETCH_BYTES or frame.image.shape != key.image.shape:
            return False
        # Images have no times: comparisons with NaN are false.
        if frame.time - key.time > STRETCH_SECONDS or frame.time - self.frames[-1].time > STEP_SECONDS:
            return False
        return 2 * count < every or not much_changed(thumbnail, self._thumbnail, key.image.shape, self.faces[0])

    def search(self, detector: Detector, before: Faces, following: Faces | None) -> Iterator[SearchedFrame]:
        """Searches and yields all of its frames, knowing the faces `before` the key frame and in the `following` one.

        None: the next key frame belongs to another shot, or there is none.
        """
        end, together = len(self.frames), REFINED_TOGETHER
        if following is None and end > LEAST_LAST_STRETCH:
            end -= 1
            following = detector(self.frames[end].image)
        while (start := len(self.faces)) < end:
            images = [frame.image for frame in self.frames[start : min(end, start + together)]]
            followed, steady = follow(detector, images, self.faces[-2] if start > 1 else before, self.faces[-1])
            self.faces += followed
            together = min(together + 1, REFINED_TOGETHER) if steady else len(followed)
        if following is not None:
            self._follow_back(detector, following)
            if end < len(self.frames):
                self.faces.append(following)
        for number, (frame, faces) in enumerate(zip(self.frames, self.faces, strict=True)):
            yield SearchedFrame(frame, faces, self._cut and number == 0, number in (0, end))

    def _follow_back(self, detector: Detector, faces: Faces) -> None:
        """Adds new faces of the next key frame to the frames before it, as far back as they are found."""
        new = faces.only(_unknown(faces, self.faces[-1]))
        for index in range(len(self.faces) - 1, 0, -1):
            if len(new):
                here = detector.refine([self.frames[index].image], new.boxes[None])[0]
                new = here.only((here.scores > 0) & _unknown(here, self.faces[index]))
                self.faces[index] = self.faces[index].joined(new)


def much_changed(thumbnail: np.ndarray, before: np.ndarray, shape: tuple[int, ...], faces: Faces) -> bool:
    """Whether somebody may have come since a key frame: without its faces, the thumbnails [S, S] differ by much."""
    differs = np.abs(thumbnail - before) > CHANGED_LEVELS
    cells = np.array([differs.shape[1] / shape[1], differs.shape[0] / shape[0]] * 2)
    for box in faces.boxes:
        reach = (box[3] - box[1]) / 2
        left, top, right, bottom = ((box + reach * np.array([-1, -1, 1, 1])) * cells).clip(min=0).astype(int)
        differs[top : bottom + 1, left : right + 1] = False
    return int(differs.sum()) >= CHANGED_CELLS


def follow(detector: Detector, images: Sequence[np.ndarray], before: Faces, latest: Faces) -> tuple[list[Faces], bool]:
    """Finds the latest faces, whose motion `before` shows, in the next frames, as long as all are where expected.

    Returns the faces in the first frames, at least in one, where those that are lost are missing; and whether all were
    where they were expected in all of the frames.
    """
    steps = np.arange(1, len(images) + 1)[:, None, None]
    expected = latest.boxes + steps * np.tile(_motion(before, latest), 2)  # [N, K, 4]
    followed: list[Faces] = []
    for faces, boxes in zip(detector.refine(images, expected), expected, strict=True):
        steady = (faces.scores > 0) & (overlaps(faces.boxes, boxes).diagonal() > STEADY_IOU)
        if not steady.all():
            return followed or [_follow_unsteady(detector, images[0], boxes, faces, steady)], False
        followed.append(faces)
    return followed, True


def _follow_unsteady(
    detector: Detector, image: np.ndarray, expected: np.ndarray, faces: Faces, steady: np.ndarray
) -> Faces:
    """The `steady` ones, bool [K], of the faces that were refined from `expected` boxes [K, 4], and others found again:
    refined a second time, or searched around if they are lost (score 0).
    """
    result = faces.only(steady)
    start = np.where(faces.scores[:, None] > 0, faces.boxes, expected)[~steady]
    again = detector.refine([image], start[None])[0]
    for index, box in enumerate(expected[~steady]):
        here = again.only([index])
        if not here.scores[0] or not faces.scores[~steady][index]:
            around = detector.search_around(image, box)
            shared = overlap(around.boxes, box)
            here = around.only([int(shared.argmax())] if shared.max(initial=0) > SAME_PERSON_IOU else [])
        result = result.joined(here.only(_unknown(here, result)))
    return result


def _motion(before: Faces, faces: Faces) -> np.ndarray:
    """How far each face moved since the frame before, float64 [K, 2], pixels; 0 if hardly, or if it was not there."""
    if not len(before):
        return np.zeros((len(faces), 2))
    shared = overlaps(before.boxes, faces.boxes)
    old, new = before.boxes[shared.argmax(axis=0)], faces.boxes
    moves = (new[:, :2] + new[:, 2:] - old[:, :2] - old[:, 2:]) / 2
    moved = np.hypot(*moves.T) > LEAST_MOTION * (new[:, 3] - new[:, 1])
    return np.where((moved & (shared.max(axis=0) > SAME_PERSON_IOU))[:, None], moves, 0.0)


def _unknown(faces: Faces, known: Faces) -> np.ndarray:
    """Which faces are none of the known ones: bool [K]."""
    return np.asarray(~(overlaps(known.boxes, faces.boxes) > SAME_PERSON_IOU).any(axis=0))
