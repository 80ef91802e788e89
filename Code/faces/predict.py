"""From a video, an image or a folder of frames to an expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from Code.common.errors import ProjectError
from Code.common.prefetch import ahead
from Code.common.progress import Progress
from Code.faces.align import FER2013_EYES, PAPER_EYES, Eyes
from Code.faces.detect import Detector
from Code.faces.extract import Analysis, analyse
from Code.faces.long import FRAMES_AT_ONCE, attend_in_parts
from Code.faces.prediction import Curve, Found, Prediction, windows
from Code.faces.track import Path as FacePath
from Code.faces.track import follow
from Code.faces.video import Source
from Code.network.backbone import FEATURE_SIZE
from Code.network.fan import FANOutput
from Code.network.pretrained import default_checkpoint, find_checkpoint, knows_fer2013, load_fan

ENCODED_AT_ONCE = 32


class NoFaceError(ProjectError, RuntimeError):
    """No frame of an input shows a face."""

    status = 1


class Predictor:
    """A trained network that is called with a path.

    Args:
        checkpoint: a run (its folder or its checkpoint), a published FAN or a FER+ frame classifier;
            None takes `default_checkpoint()`.
        device: "auto" (CUDA if there is one), or a torch device.
        image_size: input side in pixels; None takes what the checkpoint says.

    Attributes:
        info: what `load_fan` knows of the checkpoint: kind, path, labels, at_type, dataset, ...

    Raises:
        CheckpointError: if the checkpoint is missing or cannot be used.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        device: str | torch.device = "auto",
        *,
        image_size: int | None = None,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        fan, self.info = load_fan(default_checkpoint() if checkpoint is None else find_checkpoint(checkpoint))
        self.fan = fan.to(self.device)
        self.image_size = image_size or self.info["image_size"]
        # A FER+ classifier knows FER2013's own crop, in grey; FAN knows the paper's, in colour.
        self.knows_fer2013 = knows_fer2013(self.info)
        self.eyes: Eyes = FER2013_EYES if self.knows_fer2013 else PAPER_EYES
        self._detector: Detector | None = None

    @property
    def detector(self) -> Detector:
        """Made when it is first needed: aligned frames do without facenet-pytorch."""
        if self._detector is None:
            self._detector = Detector(self.device)
        return self._detector

    def __call__(
        self,
        path: str | Path,
        *,
        aligned: bool = False,
        window: float | None = None,
        stride: float | None = None,
        fps: float | None = None,
        progress: bool = False,
    ) -> Prediction:
        """Reads an input twice, frame by frame; memory grows by 3 KB per face, not by its pixels.

        Args:
            path: a video, an image or a folder of the frames of one clip.
            aligned: every frame is a face crop already: nothing is detected.
            window: also answer for each window of so many seconds (`Prediction.curve`).
            stride: seconds from one window to the next; None: half a window.
            fps: look at most at this many frames a second of a video.
            progress: show on stderr how far it is.

        Raises:
            DataError: if the input is missing, broken or empty, or if windows of images are asked for.
            NoFaceError: if no frame shows a face.
            MissingExtraError: if PyAV (videos) or facenet-pytorch (detection) is needed and not installed.
        """
        source = Source(path)
        name = Path(path).name
        if aligned:
            analysis = _as_it_is(source, fps)
            main: int | None = 0
        else:
            detector = self.detector
            with Progress(f"{name}: finding faces", source.total, show=progress) as bar:
                analysis = analyse(source, detector, fps=fps, overlap=True, progress=bar)
            main = analysis.main()
        if main is None:
            plural = "" if len(analysis.names) == 1 else "s"
            raise NoFaceError(f"{path}: no face in {len(analysis.names)} frame{plural}")

        spans = None if window is None else windows(analysis.times, window, stride)
        people = [] if spans is None else self._main_of_windows(analysis, *spans, aligned=aligned)
        wanted = sorted({main, *(track for track in people if track is not None)})
        paths = {
            track: _whole(analysis) if aligned else follow(analysis.tracks[track], analysis.times) for track in wanted
        }
        found = Found(source, analysis, paths, main, aligned, self.eyes)
        total = sum(map(len, paths.values()))
        with Progress(f"{name}: reading faces", total, show=progress) as bar:
            features = self._encode_all(found, wanted, bar)

        output = self.attend(features[main])
        shares = output.logits[0].softmax(dim=0).tolist()
        ranked = sorted(zip(self.info["labels"], shares, strict=True), key=lambda pair: -pair[1])
        where = paths[main]
        return Prediction(
            path=str(path),
            expression=ranked[0][0],
            probabilities=dict(ranked),
            logits=output.logits[0].cpu().numpy(),
            num_frames=len(analysis.names),
            num_people=len(analysis.people),
            frames=tuple(analysis.names[position] for position in where.positions),
            numbers=analysis.numbers[where.positions],
            times=analysis.times[where.positions],
            alpha=output.alpha[0].cpu().numpy(),
            beta=None if output.beta is None else output.beta[0].cpu().numpy(),
            weights=output.weights[0].cpu().numpy(),
            features=features[main].cpu().numpy(),
            boxes=where.boxes,
            landmarks=where.landmarks,
            filled=where.filled,
            curve=None if spans is None else self._curve(analysis, paths, features, people, *spans),
            problems=analysis.problems,
            _found=found,
        )

    @torch.inference_mode()
    def attend(self, features: Tensor) -> FANOutput:
        """The network's answer to one clip of features, float [T, 512]; B is 1."""
        if len(features) > FRAMES_AT_ONCE:
            return attend_in_parts(self.fan, features)
        return self.fan.attend(features.unsqueeze(0))

    @torch.inference_mode()
    def encode(self, crops: Sequence[np.ndarray]) -> Tensor:
        """Features [N, 512] of N crops, uint8 [H, W, 3], resized as training resizes them."""
        resized = []
        for crop in crops:
            image = Image.fromarray(crop)
            if self.knows_fer2013:
                image = image.convert("L").convert("RGB")
            size = (self.image_size, self.image_size)
            resized.append(np.asarray(image.resize(size, Image.Resampling.BILINEAR)))
        images = torch.from_numpy(np.stack(resized)).to(self.device)  # [N, S, S, 3]
        return self.fan.encode(images.permute(0, 3, 1, 2).float() / 255)

    def _encode_all(self, found: Found, tracks: Sequence[int], progress: Callable[[int], object]) -> dict[int, Tensor]:
        """Features [T, 512] of each track, a batch of faces at a time."""
        # Filled in place: a list of an hour's features and their stack would take twice their memory.
        features = {track: torch.empty(len(found.paths[track]), FEATURE_SIZE, device=self.device) for track in tracks}
        waiting: list[tuple[tuple[int, int], np.ndarray]] = []

        def flush() -> None:
            encoded = self.encode([image for _, image in waiting])
            for ((track, place), _), feature in zip(waiting, encoded, strict=True):
                features[track][place] = feature
            progress(len(waiting))
            waiting.clear()

        for face in ahead(iter(found.images(tracks)), room=ENCODED_AT_ONCE):
            waiting.append(face)
            if len(waiting) == ENCODED_AT_ONCE:
                flush()
        if waiting:
            flush()
        return features

    @staticmethod
    def _main_of_windows(
        analysis: Analysis, starts: np.ndarray, ends: np.ndarray, *, aligned: bool
    ) -> list[int | None]:
        """Whose face each window is about."""
        if aligned:
            return [0] * len(starts)
        first, last = np.searchsorted(analysis.times, starts), np.searchsorted(analysis.times, ends)
        return [analysis.main(int(start), int(stop)) for start, stop in zip(first, last, strict=True)]

    def _curve(
        self,
        analysis: Analysis,
        paths: dict[int, FacePath],
        features: dict[int, Tensor],
        people: Sequence[int | None],
        starts: np.ndarray,
        ends: np.ndarray,
    ) -> Curve:
        labels = self.info["labels"]
        shares, faces = np.full((len(starts), len(labels)), np.nan), np.zeros(len(starts), dtype=np.int64)
        for index, track in enumerate(people):
            if track is None:
                continue
            times = analysis.times[paths[track].positions]
            first, last = np.searchsorted(times, (starts[index], ends[index]))
            if first < last:
                output = self.attend(features[track][int(first) : int(last)])
                shares[index], faces[index] = output.logits[0].softmax(dim=0).cpu().numpy(), last - first
        tracks = np.array([-1 if track is None else track for track in people], dtype=np.int64)
        return Curve(labels, starts, ends, shares, faces, tracks)


def _as_it_is(source: Source, fps: float | None) -> Analysis:
    """All frames, with nothing searched in them."""
    read = [(frame.name, frame.number, frame.time) for frame in source.frames(fps=fps)]
    names, numbers, times = zip(*read, strict=True)
    return Analysis(names, np.array(numbers), np.array(times, dtype=np.float64), (), [], [0], tuple(source.problems))


def _whole(analysis: Analysis) -> FacePath:
    """Everything as one person's path, places unknown."""
    count = len(analysis.names)
    boxes, landmarks = np.full((count, 4), np.nan), np.full((count, 5, 2), np.nan)
    scores, filled = np.full(count, np.nan), np.zeros(count, dtype=bool)
    return FacePath(np.arange(count), boxes, landmarks, scores, filled, boxes, landmarks)
