"""From a video, an image or a folder of frames to an expression."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from Code.faces.align import FER2013_EYES, PAPER_EYES, align_face
from Code.faces.detect import Detector, main_person
from Code.faces.video import Frame, batches, read_frames
from Code.network.pretrained import CheckpointError, load_fan

PROJECT = Path(__file__).resolve().parents[2]
# A file that the user put there comes before the one that ships with the project.
BACKBONES = ("Resnet18_FER+_pytorch.pth.tar", "Resnet18_FER+_open.pth.tar")


class NoFaceError(RuntimeError):
    """No frame of an input shows a face."""


@dataclass(frozen=True)
class Prediction:
    """What the network says about one input, of which T frames show a face.

    Attributes:
        path: the input.
        expression: the most probable label.
        probabilities: label -> probability (softmax of the clip's logits), most probable first.
        num_frames: frames of the input, those without a face included.
        frames: T names: file names, or frame numbers of a video, from 0000000.
        times: float64 [T], seconds since the first frame of the video; NaN for files.
        alpha: float32 [T], self-attention; 1 / T for score fusion.
        weights: float32 [T], what each frame counts; sums to 1.
        boxes: float64 [T, 4], face in the picture: left, top, right, bottom; NaN where none was searched.
    """

    path: str
    expression: str
    probabilities: dict[str, float]
    num_frames: int
    frames: tuple[str, ...]
    times: np.ndarray
    alpha: np.ndarray
    weights: np.ndarray
    boxes: np.ndarray

    def most_weighted(self, count: int = 3) -> list[int]:
        """Indices of the frames that count most, heaviest first; of equal ones the earlier first."""
        return [int(index) for index in np.argsort(-self.weights, kind="stable")[:count]]


def default_checkpoint(root: Path = PROJECT) -> Path:
    """The newest run's best.pth below root/model, else a FER+ classifier of root/pretrain_model.

    Raises:
        CheckpointError: if there is none; how to make one.
    """
    runs = list(root.glob("model/*/best.pth"))
    if runs:
        # Folders begin with date and time, which a copy keeps, unlike the time of the file.
        return max(runs, key=lambda path: (path.parent.name, path.stat().st_mtime))
    for name in BACKBONES:
        if (root / "pretrain_model" / name).exists():
            return root / "pretrain_model" / name
    raise CheckpointError(
        f"no checkpoint in {root / 'model'} or {root / 'pretrain_model'}: train one with "
        "`python Demo_AFEW_Attention.py`, or name one with --checkpoint"
    )


class _Face(NamedTuple):
    frame: Frame
    box: np.ndarray  # float64 [4], NaN where none was searched
    crop: np.ndarray  # uint8 [H, W, 3]


class Predictor:
    """A trained network that is called with a path.

    Args:
        checkpoint: a run's checkpoint, a published FAN or a FER+ frame classifier; None takes
            `default_checkpoint()`.
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
        fan, self.info = load_fan(default_checkpoint() if checkpoint is None else checkpoint)
        self.fan = fan.to(self.device)
        self.image_size = image_size or self.info["image_size"]
        # A FER+ classifier knows FER2013's own crop, in grey; FAN knows the paper's, in colour. Files of the
        # published format need not say what they were trained on: then it is FER+.
        dataset, kind = self.info["dataset"], self.info["kind"]
        self.knows_fer2013 = dataset == "ferplus" or (kind == "frame classifier" and dataset is None)
        self._detector: Detector | None = None

    def __call__(self, path: str | Path, *, aligned: bool = False, progress: bool = False) -> Prediction:
        """Reads an input once, frame by frame; memory grows by 2 KB per face, not by its pixels.

        Args:
            path: a video, an image or a folder of the frames of one clip.
            aligned: every frame is a face crop already: nothing is detected.
            progress: show a bar on stderr if that is a terminal.

        Raises:
            DataError: if the input is missing, broken or empty.
            NoFaceError: if no frame shows a face.
            MissingExtraError: if PyAV (videos) or facenet-pytorch (detection) is needed and not installed.
        """
        total, frames = read_frames(path)
        num_frames, last_box = 0, None
        names: list[str] = []
        times: list[float] = []
        boxes: list[np.ndarray] = []
        features: list[Tensor] = []
        hidden = None if progress else True  # None: tqdm looks whether stderr is a terminal
        with tqdm(frames, Path(path).name, total, leave=False, unit="frame", disable=hidden) as bar:
            for batch in batches(bar):
                num_frames += len(batch)
                faces = self._as_they_are(batch) if aligned else self._find(batch, last_box)
                if faces:
                    last_box = faces[-1].box
                    features.append(self._encode([face.crop for face in faces]))
                    names += [face.frame.name for face in faces]
                    times += [face.frame.time for face in faces]
                    boxes += [face.box for face in faces]
        if not names:
            plural = "" if num_frames == 1 else "s"
            raise NoFaceError(f"{path}: no face in {num_frames} frame{plural}")

        with torch.inference_mode():
            output = self.fan.attend(torch.cat(features).unsqueeze(0))  # [T, 512] -> [1, T, 512]
            probabilities = output.logits[0].softmax(dim=0).tolist()
        ranked = sorted(zip(self.info["labels"], probabilities, strict=True), key=lambda pair: -pair[1])
        return Prediction(
            path=str(path),
            expression=ranked[0][0],
            probabilities=dict(ranked),
            num_frames=num_frames,
            frames=tuple(names),
            times=np.array(times),
            alpha=output.alpha[0].cpu().numpy(),
            weights=output.weights[0].cpu().numpy(),
            boxes=np.stack(boxes),
        )

    def _as_they_are(self, batch: list[Frame]) -> list[_Face]:
        return [_Face(frame, np.full(4, np.nan), frame.image) for frame in batch]

    def _find(self, batch: list[Frame], last_box: np.ndarray | None) -> list[_Face]:
        """The main person, cut out as the network knows faces, for the frames that show one."""
        if self._detector is None:
            self._detector = Detector(self.device)
        eyes = FER2013_EYES if self.knows_fer2013 else PAPER_EYES
        found = []
        for frame, faces in zip(batch, self._detector(np.stack([f.image for f in batch])), strict=True):
            chosen = main_person(faces, last_box)
            if chosen is not None:
                last_box = faces.boxes[chosen]
                found.append(_Face(frame, last_box, align_face(frame.image, faces.landmarks[chosen], eyes)))
        return found

    @torch.inference_mode()
    def _encode(self, crops: list[np.ndarray]) -> Tensor:
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
