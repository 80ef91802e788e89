"""What the tests of faces share: tiny networks, crops, videos of drawn people, and a way to call the scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import Predict_Video
import Prepare_Faces
from Code.common.commandline import run_script
from Code.faces.detect import Detector, Faces
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.network.weights import to_published
from Code.sample.clip import SampleSpec, draw_clip
from tests.runs import save_run

Networks = dict[str, tuple[Path, FAN]]  # "classifier" or "fan" -> its file and the network
Call, Write, Draw = Callable[..., int], Callable[..., Path], Callable[..., Image.Image]  # fixtures that are called
AFEW = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")
SIZE = 40  # input side of the tiny networks


def plain(level: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture of one gray level."""
    return Image.new("RGB", size, (level, level, level))


class CountingDetector(Detector):
    """Its `passes` is the number of frames that were searched in full."""

    passes = 0

    def __call__(self, image: np.ndarray) -> Faces:
        self.passes += 1
        return super().__call__(image)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Random networks: a FER+ frame classifier in the published format, and a run's FAN."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    classifier, fan = FAN(2, 8).eval(), FAN(1, 7).eval()
    classifier.head.pred_fc1.weight.data *= 20  # else all probabilities are nearly equal
    fan.head.alpha[0].weight.data *= 20
    fan.head.pred_fc2.weight.data *= 20
    save_atomically({"state_dict": to_published(classifier), "image_size": SIZE}, folder / "ferplus.pth.tar")
    save_run(folder / "best.pth", fan, AFEW, image_size=SIZE, dataset="afew", epoch=3)
    return {"classifier": (folder / "ferplus.pth.tar", classifier), "fan": (folder / "best.pth", fan)}


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Five pictures of 50 x 50 that look like frames of one clip, smooth so that resizing keeps them apart."""
    folder = tmp_path / "crops"
    folder.mkdir()
    coarse = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3))
    coarse = (0.75 * coarse[:1] + 0.25 * coarse).astype(np.uint8)
    for number, pixels in enumerate(coarse):
        Image.fromarray(pixels).resize((50, 50), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Runs Predict_Video.py in this process, in a folder of its own; returns its exit status."""

    def call(*args: Any) -> int:
        flags = ("--device", "cpu", "--output", tmp_path / "predictions")
        return run_main(Predict_Video.main, monkeypatch, "Predict_Video.py", *flags, *args)

    return call


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs Prepare_Faces.py in this process, with one worker unless told otherwise; returns its exit status."""

    def call(*args: Any) -> int:
        workers = () if "--workers" in args else ("--workers", 1)
        return run_main(Prepare_Faces.main, monkeypatch, "Prepare_Faces.py", "--device", "cpu", *workers, *args)

    return call


def run_main(main: Callable[[], int], monkeypatch: pytest.MonkeyPatch, *argv: Any) -> int:
    monkeypatch.setattr(sys, "argv", [str(part) for part in argv])
    try:
        return run_script(main)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


@pytest.fixture(scope="session")
def person() -> Draw:
    """A person of the generated sample, 224 x 224: the detector takes all of them for real, so the tests can."""
    drawn: dict[tuple[int, str], list[Image.Image]] = {}

    def draw(number: int = 0, expression: str = "Neutral", frame: int = 0) -> Image.Image:
        if (number, expression) not in drawn:
            spec = SampleSpec(frames=(4, 4), distractors=(0.0, 0.0), noise=(0.0, 0.0), size=224)
            drawn[number, expression] = [image for image, _ in draw_clip(expression, 0, 0, number, spec)]
        return drawn[number, expression][frame]

    return draw


@pytest.fixture(scope="session")
def write_video() -> Write:
    """Encodes pictures or PyAV's frames as a video: container by suffix, times in seconds where they are uneven."""
    av = pytest.importorskip("av", reason="videos need PyAV")

    def write(
        path: Path,
        pictures: list[Any],
        *,
        codec: str = "mpeg4",
        fps: int = 10,
        times: list[float] | None = None,
        rotation: int = 0,
        aspect: Fraction | None = None,
        title: str = "",
        pixels: str = "yuv420p",
        setup: Callable[[Any], None] = lambda stream: None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = [av.VideoFrame.from_image(each) if isinstance(each, Image.Image) else each for each in pictures]
        with av.open(str(path), "w") as container:
            if title:
                container.metadata["title"] = title
            stream = container.add_stream(codec, rate=fps)
            stream.width, stream.height = frames[0].width, frames[0].height
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else pixels
            stream.bit_rate = 8_000_000
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            if times:
                stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
            if rotation:
                stream.set_display_rotation(rotation)
            setup(stream)
            for index, frame in enumerate(frames):
                if times:
                    frame.pts, frame.time_base = round(times[index] * 1000), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def video(write_video: Write, tmp_path: Path) -> Path:
    """Five frames of one color each, 64 x 48."""
    pictures = [Image.new("RGB", (64, 48), (level, 90, 90)) for level in range(0, 250, 50)]
    return write_video(tmp_path / "plain.mp4", pictures)


@pytest.fixture(scope="session")
def scene_of(person: Draw) -> Draw:
    """A grey room with people in it: (number, left, top, side) each."""

    def draw(*people: tuple[int, int, int, int], size: tuple[int, int] = (192, 144), grey: int = 90) -> Image.Image:
        room = Image.new("RGB", size, (grey, grey, grey))
        for number, left, top, side in people:
            room.paste(person(number).resize((side, side)), (left, top))
        return room

    return draw
