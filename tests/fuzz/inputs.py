"""What people bring, damaged: videos, pictures, crops for a script, lists of every reader, checkpoints."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import Predict_Video
from Code.common.names import AFEW_LABELS
from Code.data.clips import DataError
from Code.data.images import read_image
from Code.faces.video import Source
from Code.network.fan import FAN
from Code.network.weights import load_fan, published_weights
from Code.sample.clip import SampleSpec, draw_clip
from tests.fuzz.engine import Kind, call
from tests.readers.test_every_reader import FORMATS
from tests.trees import stub_clip

SIDE = 32  # input of the tiny networks
BACKBONE = "shufflenet_v2_x0_5"  # the smallest of torchvision
VIDEOS = {
    "a.mp4": "h264", "b.mp4": "mpeg4", "c.mkv": "ffv1", "d.avi": "mjpeg", "e.mov": "mjpeg", "f.webm": "libvpx-vp9",
    "g.ts": "mpeg2video", "h.mpg": "mpeg1video", "i.flv": "flv", "j.wmv": "wmv2",
}  # fmt: skip


def people(frames: int = 4, size: int = 96) -> list[Image.Image]:
    """A person of the sample in a few frames, in which the detector finds a face."""
    spec = SampleSpec(frames=(frames, frames), distractors=(0.0, 0.0), noise=(0.0, 0.0), size=size)
    return [picture for picture, _ in draw_clip("Happy", 0, 0, 0, spec)]


def encode(path: Path, pictures: list[Image.Image], codec: str) -> None:
    """Writes a video; the container is that of the name."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25 if codec in ("mpeg1video", "mpeg2video") else 5)
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


def read_video(path: Path, rng: random.Random) -> None:
    """Frames that a network may see, with times that rise."""
    source = Source(path, threads=rng.choice([0, 1]))
    frames = list(source.frames(fps=rng.choice([None, None, 2.0])))
    assert frames, "no frames, and no error"
    for frame in frames:
        assert frame.image.dtype == np.uint8 and frame.image.ndim == 3 and frame.image.shape[2] == 3
    numbers, times = [frame.number for frame in frames], [frame.time for frame in frames]
    assert numbers == sorted(set(numbers))
    assert np.isnan(times).all() or (np.isfinite(times).all() and all(a < b for a, b in pairwise(times))), times
    assert all(line.isprintable() for line in source.problems), source.problems


def images() -> Iterator[bytes]:
    """Whole files in all formats and modes that occur."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((24, 24))
    exif = Image.Exif()
    exif[0x0112] = 6
    still: list[tuple[str, str, dict]] = [
        ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True, "exif": exif}), ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {"exif": exif}), ("PNG", "P", {"transparency": 0}), ("PNG", "LA", {}), ("PNG", "I;16", {}),
        ("PNG", "1", {}), ("BMP", "RGB", {}), ("BMP", "P", {}),
        ("WEBP", "RGB", {"exif": exif}), ("WEBP", "RGBA", {"lossless": True}), ("GIF", "P", {}),
    ]  # fmt: skip
    for kind, mode, options in still:
        file = io.BytesIO()
        (image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)).save(file, kind, **options)
        yield file.getvalue()
    for kind in ("GIF", "PNG", "WEBP"):
        file = io.BytesIO()
        image.save(file, kind, save_all=True, append_images=[image.rotate(90), image.rotate(180)])
        yield file.getvalue()


def build_pictures(folder: Path) -> None:
    for number, content in enumerate(images()):
        (folder / f"{number:02d}.jpg").write_bytes(content)


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


def build_predicted(folder: Path) -> None:
    build_videos(folder)
    (folder / "crops").mkdir()
    for number, picture in enumerate(people(4, 64)):
        picture.save(folder / "crops" / f"{number}.png")
    tiny_checkpoints(folder)


def read_predicted(path: Path, rng: random.Random) -> None:
    """Predict_Video.py, with and without detection, and what it writes."""
    words = ["--device", "cpu", "--checkpoint", "run.pth", "--csv", "answers.csv", "--json", "answers.json"]
    words += ["--aligned"] if rng.random() < 0.7 else ["--people", rng.choice(["main", "all"])]
    words += rng.choice([[], ["--window", "0.4"], ["--fps", "3"]])
    words += ["--no-figure"] if rng.random() < 0.9 else ["--annotate", "drawn.mkv"]
    Path("answers.csv").unlink(missing_ok=True)
    status = call(Predict_Video.main, [path.parent if path.parent.name == "crops" else path, *words])
    assert status in (0, 1, 2), f"exit status {status}"
    if status:
        return
    with open("answers.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert abs(sum(float(row[label]) for label in AFEW_LABELS) - 1) < 0.01, row
    for answer in json.loads(Path("answers.json").read_text(encoding="utf-8")):
        assert abs(sum(answer["weights"]) - 1) < 0.01 and min(answer["weights"]) >= 0, answer["weights"]


def build_lists(folder: Path) -> None:
    for name, form in FORMATS.items():
        name = name.replace(" ", "-")
        for number in range(1, 6):
            stub_clip(folder / name / form.folder.format(number))
        lines = [form.line.format(number) for number in range(1, 6)]
        (folder / f"{name}.txt").write_text("\n".join(([form.header] if form.header else []) + lines) + "\n")


def read_list(path: Path, rng: random.Random) -> None:
    form = next(form for name, form in FORMATS.items() if name.replace(" ", "-") == path.stem)
    clips = form.read(path.with_suffix(""), path, skip_empty=rng.random() < 0.3)
    names = [clip.name for clip in clips.clips]
    assert names and len(set(names)) == len(names)
    for clip in clips.clips:
        assert 0 <= clip.label < len(clips.labels) and clip.frames and ".." not in Path(clip.name).parts, clip


KINDS = (
    Kind("video", build_videos, [("*.*", "bytes")], read_video),
    Kind("picture", build_pictures, [("*.jpg", "bytes")], read_picture),
    Kind("predict", build_predicted, [("[a-m].*", "bytes"), ("crops/*", "bytes")], read_predicted),
    Kind("list", build_lists, [("*.txt", "text"), ("*.txt", "table")], read_list),
    Kind("checkpoint", tiny_checkpoints, [("*", "bytes")], read_network),
)
