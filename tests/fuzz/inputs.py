"""What people bring, damaged: videos, pictures, lists of every reader, checkpoints."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import Predict_Video
from Code.common.names import AFEW_LABELS
from Code.data.clips import DataError
from Code.data.images import read_image
from Code.network.fan import FAN
from Code.network.weights import load_fan, published_weights
from Code.sample.clip import SampleSpec, draw_clip
from tests.fuzz.engine import Kind, call
from tests.readers.test_every_reader import FORMATS
from tests.trees import stub_clip

SIDE = 32  # input of the tiny networks
BACKBONE = "shufflenet_v2_x0_5"  # the smallest of torchvision
VIDEOS = {"a.mp4": "h264", "b.mp4": "mpeg4", "c.mkv": "ffv1", "d.avi": "mjpeg", "f.webm": "libvpx-vp9"}
VIDEOS |= {"g.ts": "mpeg2video", "i.flv": "flv", "j.wmv": "wmv2"}
PICTURES = {"JPEG": "RGB L CMYK", "PNG": "RGB P LA 1 I;16", "BMP": "RGB P", "WEBP": "RGB RGBA", "GIF": "P"}


def people(label: str = "Happy", person: int = 0, size: int = 96) -> list[Image.Image]:
    """Four frames of a drawn person, in which the detector finds a face."""
    spec = SampleSpec(frames=(4, 4), distractors=(0.0, 0.0), noise=(0.0, 0.0), size=size)
    return [picture for picture, _ in draw_clip(label, 0, 0, person, spec)]


def encode(path: Path, pictures: list[Image.Image], codec: str) -> None:
    """Writes a video; the container is that of the name."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25 if codec == "mpeg2video" else 5)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def build_videos(folder: Path) -> None:
    pictures = people()
    for name, codec in VIDEOS.items():
        encode(folder / name, pictures, codec)
    for suffix in ("gif", "webp", "png"):
        pictures[0].save(folder / f"m.{suffix}", save_all=True, append_images=pictures[1:], duration=200, loop=0)
    tiny_checkpoints(folder)


def read_video(path: Path, rng: random.Random) -> int:
    """Predict_Video.py, with and without detection, and what it writes."""
    words = ["--device", "cpu", "--checkpoint", "run.pth", "--csv", "answers.csv", "--json", "answers.json"]
    words += rng.choice([["--aligned"], ["--aligned"], ["--people", "main"], ["--people", "all"]])
    words += rng.choice([[], ["--window", "0.4"], ["--fps", "3"]])
    words += rng.choice([["--no-figure"], ["--no-figure"], ["--annotate", "drawn.mkv"]])
    status = call(Predict_Video, [path, *words])
    if status:
        return status if status not in (1, 2) else 0
    with open("answers.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert abs(sum(float(row[label]) for label in AFEW_LABELS) - 1) < 0.01, row
    for answer in json.loads(Path("answers.json").read_text(encoding="utf-8")):
        assert abs(sum(answer["weights"]) - 1) < 0.01 and min(answer["weights"]) >= 0, answer["weights"]
    return 0


def build_pictures(folder: Path) -> None:
    image = people()[0].resize((24, 24))
    for kind, modes in PICTURES.items():
        for mode in modes.split():
            image.convert("L" if "I" in mode else "RGB").convert(mode).save(folder / f"{kind}-{mode}.jpg", kind)


def read_picture(path: Path, rng: random.Random) -> None:
    """Reads at two sizes, which must agree."""
    refusals = []
    for size in (None, 16):
        try:
            image = read_image(str(path), size)
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        except DataError as error:
            refusals.append(error)
    assert len(refusals) in (0, 2), refusals
    if refusals:
        raise refusals[0]


def tiny_checkpoints(folder: Path) -> None:
    """A run's checkpoint, and a published one in both formats of torch."""
    torch.manual_seed(0)
    state = published_weights(FAN(1, 7, backbone=BACKBONE))
    run = {"format": "emotion-fan/1", "state_dict": state, "at_type": 1, "labels": list(AFEW_LABELS)}
    torch.save({**run, "image_size": SIDE, "dataset": "afew", "backbone": BACKBONE, "epoch": 3}, folder / "run.pth")
    published = {"state_dict": {f"module.{name}": value for name, value in state.items()}, "image_size": SIDE}
    published |= {"epoch": 3, "arch": BACKBONE, "best_prec1": np.float64(51.2)}
    torch.save(published, folder / "published_zip.pth.tar")
    torch.save(published, folder / "published_old.pth.tar", _use_new_zipfile_serialization=False)


def read_network(path: Path, rng: random.Random) -> None:
    fan, info = load_fan(path)
    assert info["labels"] and info["image_size"] >= 1
    with torch.inference_mode():
        fan(torch.zeros(1, 2, 3, SIDE, SIDE), torch.tensor([2]))


def build_lists(folder: Path) -> None:
    for name, form in FORMATS.items():
        for number in range(1, 6):
            stub_clip(folder / name / form.folder.format(number))
        lines = [form.line.format(number) for number in range(1, 6)]
        (folder / f"{name}.txt").write_text("\n".join(([form.header] if form.header else []) + lines) + "\n")


def read_list(path: Path, rng: random.Random) -> None:
    clips = FORMATS[path.stem].read(path.with_suffix(""), path, skip_empty=rng.random() < 0.3)
    names = [clip.name for clip in clips.clips]
    assert names and len(set(names)) == len(names)
    for clip in clips.clips:
        assert 0 <= clip.label < len(clips.labels) and clip.frames and ".." not in Path(clip.name).parts, clip


KINDS = (
    Kind("video", build_videos, "[a-m].*", read_video),
    Kind("picture", build_pictures, "*.jpg", read_picture),
    Kind("list", build_lists, "*.txt", read_list),
    Kind("checkpoint", tiny_checkpoints, "*", read_network),
)
