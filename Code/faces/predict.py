"""From a video, an image, a folder of frames or an array to an expression for each person."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor, nn

from ..common.device import choose_compute
from ..common.errors import ProjectError, UsageError
from ..common.files import shown_path
from ..common.names import counted, one_line
from ..common.progress import Progress, prefetched
from ..data.clips import DataError
from ..data.images import to_rgb, upright_rgb
from ..network.attention import FANOutput
from ..network.checkpoints import CheckpointError
from ..network.prior import log_prior, stated_shares
from ..network.weights import find_checkpoint, load_fan
from ..readers import crop_of
from .align import FER2013_EYES, PAPER_EYES, Eyes
from .detect import Detector
from .extract import Analysis, all_frames, analyse, whole_track
from .inputs import Job, inputs_in
from .neutral import Reference, is_in_input, neutral_frames, neutral_shift
from .prediction import Curve, InputFaces, Prediction, windows
from .settings import DETECT_EVERY, checked
from .track import completed
from .video import ArraySource, FileSource, Source

BATCH_FACES, FRAMES_AT_ONCE = 32, 1024  # encoded together, and classified together: memory does not grow with them
LONG_CLIP = 4096  # frames; above, attention makes no copies of them
Input = str | os.PathLike[str] | np.ndarray | Image.Image


class Options(TypedDict, total=False):
    """The keywords of `Predictor.__call__`, which explains them, besides `people`."""

    pictures: bool | None
    errors: str
    aligned: bool
    window: float | None
    stride: float | None
    fps: float | None
    neutral: Reference | None
    progress: bool


if hasattr(os, "register_at_fork"):  # torch's threads do not survive a fork, and would be waited for
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class NoFaceError(ProjectError, RuntimeError):
    """No frame of an input shows a face."""

    status = 1


class Predictor:
    """A trained network that answers videos, images, folders of frames and arrays, without gradients.

        predictor = Predictor()                                    # the FAN that comes with the project
        answer = predictor("clip.mp4")                             # a Prediction of the main person
        answer.expression, answer.probabilities, answer.weights
        people = predictor("clip.mp4", people="all")               # a list, a Prediction for each person
        answers = predictor(["a.mp4", "b.mp4"])                    # a list; a folder of videos likewise
        answer = predictor(frames)                                 # uint8 [T, H, W, 3] or [H, W, 3], RGB

    Args:
        checkpoint: a run (its folder or its checkpoint), a published FAN or a FER+ frame classifier;
            None: the FAN that comes with the project.
        device: "auto" (CUDA if available), a torch device, or the number of a GPU.
        image_size: input side in pixels; None: what the checkpoint says.
        people: "main": the main person of each input, the largest (size x time); "all": everybody.
        detect_every: search at least one frame in `detect_every` in full, and follow known faces in the others.
        prior: label -> how often the class occurs where the inputs come from, see `stated_shares`; or "uniform" or
            "ferplus"; None: as the network's file says.
        classes: the classes to choose from, the others are left out; None: all that the network knows.
        precision: of the backbone's arithmetic: "fp32", "bf16" or "fp16"; "auto": bf16 if the hardware has it, as in
            training and evaluation.

    Attributes:
        fan, info: the network, in evaluation mode, and what `load_fan` says about it: kind, path, at_type, dataset, ...
        labels: the classes that answers choose from, in the network's order.

    Raises:
        CheckpointError: the checkpoint is missing or cannot be used.
        ValueError: names the argument (as a flag) that is wrong, or that does not fit the network or this machine.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        device: str | int | torch.device = "auto",
        *,
        image_size: int | None = None,
        people: str = "main",
        detect_every: int = DETECT_EVERY,
        prior: Mapping[str, float] | str | None = None,
        classes: Sequence[str] | None = None,
        precision: str = "auto",
    ) -> None:
        self.people = _one_of("people", people, "main", "all")
        self.detect_every = checked("detect_every", detect_every)
        image_size = checked("image_size", image_size)
        self._compute = choose_compute(str(device), _one_of("precision", precision, "auto", "fp32", "bf16", "fp16"))
        self.device = self._compute.device
        fan, self.info = load_fan(find_checkpoint(checkpoint))
        self.fan = fan.to(self.device, torch.float32).requires_grad_(False)  # whatever torch's default is
        self.image_size: int = image_size or self.info["image_size"]
        fan.backbone.check_image_size(self.image_size)
        self._classes = _indices(self.info["labels"], classes)
        self.labels: tuple[str, ...] = tuple(self.info["labels"][at] for at in self._classes)

        self.prior, shift = None, torch.zeros(len(self.labels))
        if prior is not None:
            shares = self.info["class_shares"]
            known = {"labels": self.labels, "class_shares": shares and [shares[at] for at in self._classes]}
            self.prior = stated_shares(prior, known)
            shift = torch.tensor(list(self.prior.values())).log() - log_prior(self.info)[self._classes]
        self._shift = shift.to(self.device, torch.float32)
        # A FER+ classifier was trained on FER2013's crop, in gray; FAN on the paper's, in color.
        self.knows_fer2013 = crop_of(self.info) == "fer2013"
        self.eyes: Eyes = FER2013_EYES if self.knows_fer2013 else PAPER_EYES
        self._backbone = fan.backbone
        if self.device.type == "cpu" and self._compute.precision == "bf16":
            # Autocast would convert the weights for every batch, a tenth of the time. The features are the same.
            self._backbone = copy.deepcopy(fan.backbone)
            for module in self._backbone.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(torch.bfloat16)
                    module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
        self._neutral: dict[tuple[object, ...], Tensor] = {}  # (file, as it is now, aligned) -> features

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and copies: without the detector, which is built again."""
        return {name: value for name, value in vars(self).items() if name != "detector"}

    @cached_property
    def detector(self) -> Detector:
        """Built on first use: aligned frames need no facenet-pytorch."""
        return Detector(self.device)

    @overload
    def __call__(
        self, inputs: Input, *, people: Literal["main"] | None = None, **options: Unpack[Options]
    ) -> Prediction: ...

    @overload
    def __call__(self, inputs: Any, *, people: str | None = None, **options: Unpack[Options]) -> list[Prediction]: ...

    def __call__(
        self,
        inputs: Any,
        *,
        people: str | None = None,
        pictures: bool | None = None,
        errors: str = "raise",
        **options: Any,
    ) -> Any:
        """Answers one input or several.

        Args:
            inputs: a path (a video, an image, or a folder with the frames of one clip); a folder of videos; an array,
                uint8 [H, W, 3] or [T, H, W, 3] in RGB, or float in [0, 1]; a picture of Pillow; or a list of these. A
                list of arrays is several pictures; `np.stack` makes a clip of them.
            people: "main" or "all"; None: as the predictor was built.
            pictures: whether the images in a folder are pictures, each answered by itself, or the frames of one clip;
                None: a clip if they follow each other, else pictures, with a Python warning.
            errors: "warn": an input without a face, or one that cannot be read, is a Python warning, and has no answer;
                for lists and folders.
            aligned (False): every frame is a face crop: detect nothing.
            window (None): also answer each window of this many seconds (`Prediction.curve`).
            stride (None): seconds from one window to the next; None: half a window.
            fps (None): read at most this many frames of a second of video.
            neutral (None): where the person is known to be neutral, see `Code.faces.neutral`: their first seconds in
                the input; the same person as a path, an array or a picture (for the main person only); or "auto".
            progress (False): show the progress on stderr.

        Returns:
            A `Prediction` for one input; a list of them for several inputs or `people="all"`, in the order of the
            inputs, and each input's main person first. A folder of videos or pictures is several inputs.

        Raises:
            DataError: an input, or `neutral`, is missing, broken or empty, or has no times for what is asked for.
            NoFaceError: no frame shows a face.
            MissingExtraError: PyAV (videos) or facenet-pytorch (detection) is needed and not installed.
            ValueError: names the argument that is wrong.
        """
        _one_of("errors", errors, "raise", "warn")
        given, several = sources(inputs, pictures)
        answers: list[Prediction] = []
        for source in given:
            try:
                answers += self.answer(source, people=people, **options)
            except (DataError, NoFaceError) as error:
                if errors == "raise" or not several:
                    raise
                warnings.warn(str(error), stacklevel=2)
        return answers if several or (people or self.people) == "all" else answers[0]

    @torch.inference_mode()
    def answer(
        self,
        source: str | os.PathLike[str] | Source,
        *,
        people: str | None = None,
        aligned: bool = False,
        window: float | None = None,
        stride: float | None = None,
        fps: float | None = None,
        neutral: Reference | None = None,
        progress: bool = False,
    ) -> list[Prediction]:
        """Answers one input; see `__call__`. Memory grows by some KB a face, not with the input's pixels.

        Returns an answer for each person, the main person first; for `people="main"` only that one.
        """
        everybody = _one_of("people", people or self.people, "main", "all") == "all"
        window, stride, fps = checked("window", window), checked("stride", stride), checked("fps", fps)
        reference: Tensor | None = None
        if neutral is not None and not is_in_input(neutral):
            if everybody:
                raise UsageError("--neutral: a file shows one person; name seconds, or answer the main person only")
            reference = self._features_of(neutral, aligned)
        source = source if isinstance(source, Source) else FileSource(Path(source))
        analysis, ranked = self._people(source, aligned, fps, progress)
        chosen = ranked if everybody else ranked[:1]
        spans = np.zeros((2, 0)) if window is None else windows(analysis.times, window, stride)
        # A curve of the main person is about that of each window.
        positions = np.searchsorted(analysis.times, spans).T.tolist()
        main = [] if everybody or aligned else [analysis.main(start, stop) for start, stop in positions]
        paths = {
            track: whole_track(analysis) if aligned else completed(analysis.tracks[track], analysis.times)
            for track in sorted({*chosen, *(track for track in main if track is not None)})
        }
        faces = InputFaces(source, analysis, paths, aligned, self.eyes)
        features = self._encode_all(faces, progress)
        source.forget()  # an answer that is kept must not keep its frames in memory

        answers = []
        shifts = {track: torch.zeros_like(self._shift) for track in paths}
        for person, track in enumerate(chosen, start=1):
            shifts[track], words = self._shift_of(faces, track, features[track], neutral, reference)
            curve = None
            if window is not None:
                whose = [track] * spans.shape[1] if everybody or aligned else main
                curve = self._curve(faces, features, shifts, whose, spans)
            known = {"person": person, "num_people": len(ranked), "neutral": words, "curve": curve}
            answers.append(self._prediction(faces, track, features[track], shifts[track], **known))
        return answers

    def _people(self, source: Source, aligned: bool, fps: float | None, progress: bool) -> tuple[Analysis, list[int]]:
        """What an input shows, and its people's tracks, the main person first. NoFaceError: it shows nobody."""
        if aligned:
            return all_frames(source, fps), [0]
        detector, every = self.detector, self.detect_every
        with Progress(f"{one_line(source.path.name)}: detecting faces", source.total, show=progress) as bar:
            analysis = analyse(source, detector, fps=fps, detect_every=every, prefetch=True, progress=bar)
        ranked = analysis.ranked()
        if not ranked:
            raise NoFaceError(one_line(f"{source.path}: no face in {counted(len(analysis.names), 'frame')}"))
        return analysis, ranked

    def _shift_of(
        self, faces: InputFaces, track: int, features: Tensor, neutral: Reference | None, reference: Tensor | None
    ) -> tuple[Tensor, str | None]:
        """What `neutral` adds to the logits of a person, [C], and where they are neutral, in words.

        `reference`: their features [T, D] in a file or array; None if `neutral` is a part of the input.
        """
        if neutral is None:
            return torch.zeros_like(self._shift), None
        if reference is not None:
            words = str(neutral) if isinstance(neutral, (str, os.PathLike)) else "array"
        else:
            times = faces.analysis.times[faces.paths[track].positions]
            part, words = neutral_frames(self.fan, features, times, neutral, self.info["labels"])
            reference = features[part]
        return neutral_shift(self.fan, reference, self.info)[self._classes], words

    def _features_of(self, reference: Reference, aligned: bool) -> Tensor:
        """Features [T, D] of what shows the person neutral; a file is answered once for all inputs."""
        (given,), _ = sources(reference, pictures=False)
        file = os.path.abspath(given) if isinstance(given, str) else ""
        key = file, *Job("", file).fingerprint(), aligned
        if not file or key not in self._neutral:
            try:
                (shown,) = self.answer(given, people="main", aligned=aligned)
            except NoFaceError as error:
                raise DataError(f"neutral: {error}") from None
            self._neutral[key] = torch.from_numpy(shown.features).to(self.device)
        return self._neutral[key]

    def _prediction(self, faces: InputFaces, track: int, features: Tensor, shift: Tensor, **known: Any) -> Prediction:
        """The answer for one person from their features, [T, D]; `known`: more fields of it."""
        output = self.attend(features, shift)
        shares = output.logits[0].softmax(dim=0).tolist()
        ranked = sorted(zip(self.labels, shares, strict=True), key=lambda pair: -pair[1])
        parts = features.unsqueeze(1).split(FRAMES_AT_ONCE)  # each frame as a clip of its own
        each_frame = torch.cat([self.fan.attend(part).logits for part in parts])
        frame_logits = each_frame[:, self._classes] + (self._shift + shift)
        analysis, path = faces.analysis, faces.paths[track]
        return Prediction(
            path=str(faces.source.path),
            network=shown_path(self.info["path"]),
            expression=ranked[0][0],
            probabilities=dict(ranked),
            prior=self.prior,
            labels=self.labels,
            logits=output.logits[0].cpu().numpy(),
            track=track,
            num_frames=len(analysis.names),
            frames=tuple(analysis.names[position] for position in path.positions),
            numbers=analysis.numbers[path.positions],
            times=analysis.times[path.positions],
            alpha=output.alpha[0].cpu().numpy(),
            beta=None if output.beta is None else output.beta[0].cpu().numpy(),
            weights=output.weights[0].cpu().numpy(),
            features=features.cpu().numpy(),
            frame_probabilities=frame_logits.softmax(dim=1).cpu().numpy(),
            boxes=path.boxes,
            landmarks=path.landmarks,
            filled=path.filled,
            problems=analysis.problems,
            faces=faces,
            **known,
        )

    def _curve(
        self,
        faces: InputFaces,
        features: Mapping[int, Tensor],
        shifts: Mapping[int, Tensor],
        whose: Sequence[int | None],
        spans: np.ndarray,
    ) -> Curve:
        """The answer for each window, `spans` [2, W], from the features of its person, the track in `whose`."""
        shares, counts = np.full((len(whose), len(self.labels)), np.nan), np.zeros(len(whose), dtype=np.int64)
        for index, track in enumerate(whose):
            if track is None:
                continue
            times = faces.analysis.times[faces.paths[track].positions]
            first, last = np.searchsorted(times, spans[:, index])
            if first < last:
                output = self.attend(features[track][int(first) : int(last)], shifts[track])
                shares[index], counts[index] = output.logits[0].softmax(dim=0).cpu().numpy(), last - first
        return Curve(self.labels, spans[0], spans[1], shares, counts)

    @torch.inference_mode()
    def attend(self, features: Tensor, shift: Tensor | float = 0.0) -> FANOutput:
        """The answer to one clip, from its features [T, D]; the logits [1, C] are shifted by the prior, and by `shift`.

        CheckpointError if it is not finite.
        """
        attend = self.fan.head.attend_long if len(features) > LONG_CLIP else self.fan.attend
        output = attend(features[None])
        if not (output.logits.isfinite().all() and output.weights.isfinite().all()):
            raise CheckpointError(f"{self.info['path']}: its weights are too large to compute with; name another one")
        return replace(output, logits=output.logits[:, self._classes] + (self._shift + shift))

    @torch.inference_mode()
    def encode(self, crops: Sequence[np.ndarray]) -> Tensor:
        """Features [N, D] of N crops, uint8 [H, W, 3], resized as in training."""
        # In gray, one channel is resized instead of three that are equal.
        size, mode = (self.image_size, self.image_size), "L" if self.knows_fer2013 else "RGB"
        resized = [Image.fromarray(crop).convert(mode).resize(size, Image.Resampling.BILINEAR) for crop in crops]
        images = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in resized])).to(self.device)
        with self._compute.autocast():
            features: Tensor = self._backbone(images.permute(0, 3, 1, 2).float() / 255)  # [N, 3, S, S] -> [N, D]
        return features.float()

    def _encode_all(self, faces: InputFaces, progress: bool) -> dict[int, Tensor]:
        """Features [T, D] of each track, a batch of faces at a time."""
        # Filled in place: a list of an hour's features and their stack would take twice the memory.
        features = {
            track: torch.empty(len(path), self.fan.feature_size, device=self.device, dtype=torch.float32)
            for track, path in faces.paths.items()
        }
        total, name = sum(map(len, faces.paths.values())), one_line(faces.source.path.name)
        images = prefetched(faces.images(faces.paths, self.image_size, gray=self.knows_fer2013), size=BATCH_FACES)
        with Progress(f"{name}: reading faces", total, unit="faces", show=progress) as bar:
            while batch := list(islice(images, BATCH_FACES)):
                for face, feature in zip(batch, self.encode([face.image for face in batch]), strict=True):
                    features[face.track][face.place] = feature
                bar(len(batch))
        return features


def sources(given: Any, pictures: bool | None = None) -> tuple[list[Source | str], bool]:
    """The inputs that a predictor is called with, see `Predictor.__call__`, and whether they are several.

    Paths stay paths, so that a missing or broken one is an error only when its turn comes.

    Raises:
        DataError: an array that is no picture and no clip.
        TypeError: something else.
    """
    if isinstance(given, (str, os.PathLike)):
        clips = inputs_in(given, pictures, lambda line: warnings.warn(line, stacklevel=5))
        return ([os.fspath(given)], False) if clips is None else (list(clips), True)
    if isinstance(given, Image.Image) and given.format in ("GIF", "WEBP", "PNG") and getattr(given, "n_frames", 1) > 1:
        given = np.stack([np.asarray(to_rgb(frame)) for frame in ImageSequence.Iterator(given)])
    elif isinstance(given, Image.Image):
        given = np.asarray(upright_rgb(given))
    if isinstance(given, np.ndarray):
        return [ArraySource(given)], False
    if isinstance(given, (Sequence, Iterator)) and not isinstance(given, (bytes, bytearray)):
        return [source for each in given for source in sources(each, pictures)[0]], True
    raise TypeError(f"{type(given).__name__}: expected a path, a list of paths, a folder, or an array [T, H, W, 3]")


def _one_of(name: str, value: str, *known: str) -> str:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected {', '.join(map(repr, known))}")
    return value


def _indices(labels: Sequence[str], classes: Sequence[str] | None) -> list[int]:
    """Which of a network's classes are meant, ascending; None: all of them."""
    known = {label.casefold(): index for index, label in enumerate(labels)}
    unknown = [name for name in classes or () if name.casefold() not in known]
    if unknown or (classes is not None and not classes):
        raise UsageError(f"--classes {', '.join(unknown)}: no such class; this network knows {', '.join(labels)}")
    return sorted({known[name.casefold()] for name in classes}) if classes else list(range(len(labels)))
