"""Reads a camera, and answers while it is running."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, stack

from ..common.errors import require
from ..data.clips import DataError
from .align import align_face
from .decoder import Clock, Upright, choose_stream, file_url, progressive
from .detect import Detector, Faces
from .keyframes import STRETCH_SECONDS, follow
from .predict import Predictor
from .prediction import answer_text, is_uncertain
from .render import VideoWriter, draw_answer
from .settings import DETECT_EVERY
from .track import NEIGHBOURS, CutFinder, Tracker
from .video import Frame

# A frame further than this from the one before is a key frame, in seconds. It is more than in videos: where a full pass
# takes long, frames that were dropped meanwhile must not make every frame a key frame.
LIVE_STEP = 0.5


class LiveAnswer(NamedTuple):
    """The prediction for the last seconds."""

    frame: Frame  # the latest
    text: str  # such as `anger 53 %`
    weight: float | None = None  # of the latest frame, relative to the largest in the window; None: no face in it
    box: np.ndarray | None = None  # float64 [4], the main person's face in the latest frame; None: not visible


def camera_frames(which: str) -> Iterator[Frame]:
    """Yields upright RGB frames with times in seconds since the first; from a live camera always the latest frame.

    `which` is a camera's number, or what else ffmpeg opens: a device, a URL, a file (all of whose frames are read).
    DataError: it cannot be opened, or its frames cannot be decoded. MissingExtraError: PyAV is not installed.
    """
    av = require("av", "PyAV", "reading a camera")
    name, kind, live = which, None, not Path(which).is_file()
    if not live:
        name = file_url(which)
    elif which.startswith("video="):
        kind = "dshow"
    elif which.isdecimal():
        if sys.platform == "win32":
            raise DataError(f'--camera {which}: on Windows, cameras have names; use "video=NAME"')
        name, kind = (which, "avfoundation") if sys.platform == "darwin" else (f"/dev/video{which}", "v4l2")
    try:
        container = av.open(name, format=kind)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"--camera {which}: {name} cannot be opened ({reason}); is a camera connected?") from None
    clock, number = Clock(None), 0
    with container:
        stream = choose_stream(container, f"--camera {which}")
        upright, decoded = Upright(stream), progressive(container.decode(stream))
        try:
            for picture in _newest(decoded) if live else decoded:
                yield Frame(f"{number:07d}", number, clock(picture.time), upright(picture))
                number += 1
        except av.error.FFmpegError as error:
            raise DataError(f"--camera {which}: stopped sending after {number} frames ({error.strerror})") from None


def _newest(decoded: Iterator[Any]) -> Iterator[Any]:
    """Decodes in a thread and yields only the latest frame, since a queue would fall further and further behind."""
    latest: queue.Queue[Any] = queue.Queue(1)

    def put(item: Any) -> None:
        with suppress(queue.Empty):
            latest.get_nowait()
        latest.put(item)

    def read() -> None:
        try:
            for picture in decoded:
                put(picture)
            put(None)
        except Exception as error:  # raised again in the thread that waits for frames
            put(error)

    threading.Thread(target=read, daemon=True).start()
    while (picture := latest.get()) is not None:
        if isinstance(picture, Exception):
            raise picture
        yield picture


class LiveFinder:
    """Finds the faces in a camera's frames as `find_faces` does in a video's, but does not wait for the next frames.

    A newcomer is seen with the next key frame. While nobody is seen, and after a face was lost, every frame is one.
    """

    def __init__(self, detector: Detector, every: int = DETECT_EVERY) -> None:
        self._detector, self._every = detector, every
        self._is_cut = CutFinder()
        self._key: Frame | None = None  # None: the next frame is one
        self._last_time = 0.0
        self._before = self._latest = Faces.none()

    def __call__(self, frame: Frame) -> tuple[Faces, bool]:
        """The faces of the next frame, and whether a shot begins with it."""
        cut = self._is_cut(frame.image)
        if cut or self._is_key(frame):
            faces = self._detector(frame.image)
            self._key = frame
            self._before = Faces.none() if cut else self._latest
        else:
            (faces,), _ = follow(self._detector, [frame.image], self._before, self._latest)
            self._before = self._latest
        if not len(faces) or len(faces) < len(self._latest):
            self._key = None
        self._latest, self._last_time = faces, frame.time
        return faces, cut

    def _is_key(self, frame: Frame) -> bool:
        key = self._key
        if key is None or frame.number - key.number >= self._every or frame.image.shape != key.image.shape:
            return True
        return frame.time - key.time > STRETCH_SECONDS or frame.time - self._last_time > LIVE_STEP


def watch(predictor: Predictor, frames: Iterator[Frame], window: float) -> Iterator[LiveAnswer]:
    """Yields a prediction after every frame, from the main person's faces in the last `window` seconds."""
    tracker, find = Tracker(), LiveFinder(predictor.detector, predictor.detect_every)
    seen: deque[tuple[float, int, np.ndarray, np.ndarray]] = deque()  # time, track, box, landmarks
    encoded: deque[tuple[float, int, Tensor]] = deque()  # time, track, features [D]
    for position, frame in enumerate(frames):
        faces, cut = find(frame)
        tracks = tracker.update(position, frame.time, faces, cut)
        seen.extend((frame.time, *face) for face in zip(tracks, faces.boxes, faces.landmarks, strict=True))
        for recent in (seen, encoded):
            while recent and recent[0][0] <= frame.time - window:
                recent.popleft()
        areas: dict[int, float] = {}
        for _, track, box, _ in seen:
            areas[track] = areas.get(track, 0.0) + float((box[2:] - box[:2]).clip(min=0).prod())
        main = max(areas, key=lambda track: areas[track], default=None)
        is_visible = main in tracks
        if main is not None and is_visible:
            # The mean of the last frames does not tremble; it lags by one frame, since the next ones are unknown.
            last = [(box, landmarks) for _, track, box, landmarks in seen if track == main][-(NEIGHBOURS + 1) :]
            boxes, landmarks = map(np.array, zip(*last, strict=True))
            crop = align_face(frame.image, landmarks.mean(axis=0), boxes.mean(axis=0), predictor.eyes)
            encoded.append((frame.time, main, predictor.encode([crop])[0]))
        features = [feature for _, track, feature in encoded if track == main]
        if not features:
            yield LiveAnswer(frame, "no face")
            continue
        output = predictor.attend(stack(features))
        shares = output.logits[0].softmax(dim=0).cpu().numpy()
        text = answer_text(predictor.labels[shares.argmax()], bool(is_uncertain(shares)), float(shares.max()))
        weight = float(output.weights[0, -1] / output.weights[0].max()) if is_visible else None
        yield LiveAnswer(frame, text, weight, boxes[-1] if is_visible else None)


def answer_camera(predictor: Predictor, which: str, window: float, annotate: Path | None = None) -> bool:
    """Prints the running expression of a camera until it ends or Ctrl-C: once a second, or all the time on a terminal.

    `annotate` is a video to write, with the answers drawn on it. Returns whether any frame showed a face.
    """
    printed, faces, started = -1.0, 0, time.monotonic()
    start, end = ("\r", "") if sys.stdout.isatty() else ("", "\n")
    writer: VideoWriter | None = None
    try:
        for frames, now in enumerate(watch(predictor, camera_frames(which), window), start=1):
            faces += now.box is not None
            if start or now.frame.time - printed >= 1:
                printed = now.frame.time
                speed = frames / max(time.monotonic() - started, 1e-9)
                print(f"{start}{printed:8.2f} s  {now.text:<30} {speed:5.1f} frames/s", end=end, flush=True)
            if annotate:
                picture = draw_answer(now.frame.image, now.box, now.text, now.weight)
                writer = writer or VideoWriter(annotate, picture.size)
                writer.add(picture, now.frame.time)
    except KeyboardInterrupt:
        print()
    finally:
        if writer is not None:  # what was recorded until the camera broke off is kept
            writer.close()
    if not faces:
        print(f"--camera {which}: no face", file=sys.stderr)
    return faces > 0
