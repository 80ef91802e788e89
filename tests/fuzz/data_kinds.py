"""What people bring: videos, pictures, lists of every reader, FER+'s tables, checkpoints, exported networks."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import runpy
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from Code.common.names import AFEW_LABELS
from Code.data.clips import ClipSet
from Code.data.folds import folds_from_file, read_fold_file
from Code.data.images import ImageError, check_image, read_image
from Code.data.intensity import read_intensity
from Code.network.checkpoints import read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.network.weights import load_fan, published_weights
from Code.readers.ferplus import read_ferplus
from Code.recipes.pictures import read_pictures
from Code.sample.clip import SampleSpec, draw_clip
from Code.training.run_folder import checkpoint_payload
from tests.fuzz.engine import PROJECT, Case, Kind
from tests.fuzz.findings import Wrong
from tests.readers.test_every_reader import FORMATS
from tests.trees import ckplus_sequences, read_ckplus, stub_ckplus, stub_clip

SIDE = 32  # input of the tiny networks
BACKBONE = "shufflenet_v2_x0_5"  # the smallest of torchvision


def people(frames: int = 4, size: int = 96) -> list[Image.Image]:
    """A person of the sample in a few frames, in which the detector finds a face."""
    spec = SampleSpec(frames=(frames, frames), distractors=(0.0, 0.0), noise=(0.0, 0.0), size=size)
    return [picture for picture, _ in draw_clip("Happy", 0, 0, 0, spec)]


def encode(path: Path, pictures: list[Image.Image], codec: str, *, rotation: int = 0, sound: bool = False) -> None:
    """Writes a video; the container is that of the name."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25 if codec in ("mpeg1video", "mpeg2video") else 5)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        voice: Any = container.add_stream("aac", rate=16_000) if sound else None
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
        if voice is not None:
            tone = np.sin(np.arange(16_000) / 20).astype(np.float32)[None]
            for at in range(0, 8000, 1000):
                frame = av.AudioFrame.from_ndarray(tone[:, at : at + 1000], format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 16_000, at, Fraction(1, 16_000)
                container.mux(voice.encode(frame))
            container.mux(voice.encode())


VIDEOS = {
    "a.mp4": "h264", "b.mp4": "mpeg4", "c.mkv": "ffv1", "d.avi": "mjpeg", "e.mov": "mjpeg", "f.webm": "libvpx-vp9",
    "g.ts": "mpeg2video", "h.mpg": "mpeg1video", "i.mkv": "h264", "j.avi": "mpeg4", "k.flv": "flv", "l.wmv": "wmv2",
}  # fmt: skip


def build_videos(folder: Path) -> None:
    pictures = people()
    for name, codec in VIDEOS.items():
        encode(folder / name, pictures, codec, rotation=90 if name == "e.mov" else 0, sound=name in ("b.mp4", "i.mkv"))
    for suffix in ("gif", "webp", "png"):
        pictures[0].save(folder / f"m.{suffix}", save_all=True, append_images=pictures[1:], duration=200, loop=0)
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.from_pillow(pictures[0]).save(folder / "n.heic")


def check_frames(frames: list[Any], problems: list[str]) -> None:
    """Frames that a network may see, with times that rise."""
    for frame in frames:
        image = frame.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise Wrong(f"frame: {image.dtype} {image.shape}")
    numbers = [frame.number for frame in frames]
    times = [frame.time for frame in frames if frame.time == frame.time]
    if numbers != sorted(set(numbers)):
        raise Wrong(f"numbers of frames: {numbers[:50]}")
    if any(later <= earlier for earlier, later in pairwise(times)) or not np.isfinite(times).all():
        raise Wrong(f"times of frames: {times[:50]}")
    if any(not line.isprintable() for line in problems):
        raise Wrong(f"a problem that is no line: {problems}")


def read_video(case: Case) -> bool:
    from Code.faces.video import Source

    source = Source(case.path, threads=case.rng.choice([0, 1]))
    if source.total is not None and source.total < 0:
        raise Wrong(f"number of frames: {source.total}")
    frames = list(source.frames(fps=case.rng.choice([None, None, 2.0])))
    check_frames(frames, source.problems)
    if not frames:
        raise Wrong("no frames: and no error")
    wanted = {frame.number for frame in frames[::2]}
    again = list(source.frames(wanted=wanted))
    if {frame.number for frame in again} - wanted:
        raise Wrong("frames that were not asked for: " + str([frame.number for frame in again]))
    for frame in again:
        (before,) = [other for other in frames if other.number == frame.number]
        # Of damaged parts, ffmpeg may show anything, and not the same twice.
        if before.image.shape != frame.image.shape or str(before.time) != str(frame.time):
            raise Wrong(f"another frame: {frame.number} differs when it is read again")
    return True


def build_pictures(folder: Path) -> None:
    from tests.scripts.test_mutations import images

    for number, content in enumerate(images()):
        (folder / f"{number:02d}.jpg").write_bytes(content)


def read_picture(case: Case) -> bool:
    """Reads at two sizes and by the doctor, which must agree."""
    errors: list[ImageError] = []
    readers: tuple[Callable[[str], object], ...] = (lambda path: read_image(path, 16), read_image, check_image)
    for read in readers:
        try:
            value = read(str(case.path))
        except ImageError as error:
            errors.append(error)
            continue
        if isinstance(value, np.ndarray) and (value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3):
            raise Wrong(f"picture: {value.dtype} {value.shape}")
    if errors:
        if len(errors) != len(readers):
            raise Wrong(f"readers disagree: {errors}")
        raise errors[0]
    return True


def build_predicted(folder: Path) -> None:
    """Videos, crops, and a tiny network in both formats."""
    build_videos(folder)
    (folder / "crops").mkdir()
    for number, picture in enumerate(people(4, 64)):
        picture.save(folder / "crops" / f"{number}.png")
    tiny_checkpoints(folder)


def probabilities_of(rows: list[dict[str, str]], labels: list[str]) -> None:
    """A table's probabilities are probabilities."""
    for row in rows:
        values = [float(row[label]) for label in labels]
        if not all(0 <= value <= 1 for value in values) or abs(sum(values) - 1) > 0.01:
            raise Wrong(f"probabilities: {values}")


def read_predicted(case: Case) -> bool:
    """Predict_Video.py, with and without detection, and what it writes."""
    import Predict_Video

    rng = case.rng
    flags: list[object] = ["--device", "cpu", "--checkpoint", "run.pth", "--csv", "answers.csv", "--json", "a.json"]
    flags += ["--aligned"] if rng.random() < 0.7 else ["--people", rng.choice(["main", "all"])]
    flags += rng.choice([[], ["--window", 0.4], ["--fps", 3]])
    flags += ["--csv-frames", "frames.csv"] if rng.random() < 0.3 else []
    flags += ["--no-figure"] if rng.random() < 0.9 else []
    flags += ["--annotate", "drawn.mp4"] if rng.random() < 0.1 else []
    given = "crops" if case.target.startswith("crops/") else case.target
    status, out, _ = case.call(Predict_Video, given, *flags)
    if status:
        if (case.folder / "drawn.mp4").exists():
            raise Wrong("left behind: drawn.mp4 of an input that was refused")
        return False
    with (case.folder / "answers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not out:
        raise Wrong("no answer: status 0")
    probabilities_of(rows, list(AFEW_LABELS))
    for answer in json.loads((case.folder / "a.json").read_text(encoding="utf-8")):
        weights = answer["weights"]
        if not all(0 <= weight <= 1 for weight in weights) or abs(sum(weights) - 1) > 0.01:
            raise Wrong(f"weights: {weights}")
    return True


def tiny_fan(at_type: int = 1) -> FAN:
    torch.manual_seed(0)
    return FAN(at_type, 7, backbone=BACKBONE).eval()


def tiny_checkpoints(folder: Path) -> None:
    """A run's checkpoint, and a published one in both formats of torch."""
    about: dict[str, Any] = {"labels": AFEW_LABELS, "image_size": SIDE, "dataset": "afew", "protocol": {}}
    payload = checkpoint_payload(tiny_fan(), **about, precision="fp32", epoch=3, metrics={"accuracy": 0.5})
    save_atomically(payload, folder / "run.pth")


def build_checkpoints(folder: Path) -> None:
    tiny_checkpoints(folder)
    state = {f"module.{name}": value for name, value in published_weights(tiny_fan()).items()}
    published = {"state_dict": state, "image_size": SIDE, "epoch": 3, "arch": BACKBONE}
    published["best_prec1"] = np.float64(51.2)
    torch.save(published, folder / "published_zip.pth.tar")
    torch.save(published, folder / "published_old.pth.tar", _use_new_zipfile_serialization=False)


def read_any_checkpoint(case: Case) -> bool:
    path = case.path
    if case.rng.random() < 0.2:
        read_checkpoint(path)
        return True
    fan, info = load_fan(path)
    if not info["labels"] or info["image_size"] < 1:
        raise Wrong(f"what the checkpoint says: {info}")
    with torch.inference_mode():
        frames = torch.zeros(1, 2, 3, SIDE, SIDE)
        if not fan(frames, torch.tensor([2])).logits.isfinite().all():
            raise Wrong("logits: not finite")
    return True


def build_lists(folder: Path) -> None:
    for name, form in FORMATS.items():
        name = name.replace(" ", "-")
        for number in range(1, 6):
            stub_clip(folder / name / form.folder.format(number))
        lines = [form.line.format(number) for number in range(1, 6)]
        (folder / f"{name}.txt").write_text("\n".join(([form.header] if form.header else []) + lines) + "\n")
    stub_ckplus(folder / "ckplus", ckplus_sequences()[:30], unlabeled=2)
    clips = read_ckplus(folder / "ckplus")
    half = len(clips.clips) // 2
    blocks = []
    for fold, part in enumerate((clips.clips[:half], clips.clips[half:]), start=1):
        counts = " ".join(f"{label} {sum(clips.labels[c.label] == label for c in part)}" for label in clips.labels)
        blocks += [f"{fold}-fold {len(part)} {counts}", *(f"{c.name} {clips.labels[c.label]}" for c in part)]
    (folder / "folds.txt").write_text("\n".join(blocks) + "\n")
    (folder / "pictures" / "Happy").mkdir(parents=True)
    (folder / "pictures" / "Sad").mkdir()
    rows = ["path,label,split,person"]
    for number in range(6):
        label = ("Happy", "Sad")[number % 2]
        (folder / "pictures" / label / f"{number}.jpg").touch()
        rows.append(f"{label}/{number}.jpg,{label},{('train', 'val')[number > 3]},p{number}")
    (folder / "pictures.csv").write_text("\n".join(rows) + "\n")
    rows = ["split,clip,frame,intensity,distractor", *(f"Train,Happy/{n},00{n}.jpg,0.{n}000," for n in range(1, 9))]
    (folder / "intensity.csv").write_text("\n".join(rows) + "\n")


def check_clips(clips: ClipSet) -> None:
    if not clips.clips:
        raise Wrong("no clips: and no error")
    for clip in clips.clips:
        if not 0 <= clip.label < len(clips.labels) or not clip.frames:
            raise Wrong(f"clip: {clip}")
        if ".." in Path(clip.name).parts:
            raise Wrong(f"outside: clip {clip.name!r} leads out of its root")
    names = [clip.name for clip in clips.clips]
    if len(set(names)) != len(names):
        raise Wrong(f"twice: {names}")


def read_any_list(case: Case) -> bool:
    name = case.target.partition("/")[0].removesuffix(".txt")
    if name == "pictures.csv":
        split = read_pictures("pictures", list_file=case.path)
        check_clips(split.train)
        check_clips(split.val)
    elif name == "intensity.csv":
        for intensity, _ in read_intensity(case.path).values():
            if not 0 <= intensity <= 1:
                raise Wrong(f"intensity: {intensity}")
    elif name == "folds":
        clips = read_ckplus("ckplus")
        listed, _ = read_fold_file(str(case.path), clips.labels)
        folds = folds_from_file(clips, listed, str(case.path))
        members = [clip.name for part in folds.members() for clip in part]
        if len(set(members)) != len(members):
            raise Wrong(f"a clip in two folds: {members}")
    elif name == "ckplus":
        check_clips(read_ckplus("ckplus"))
    else:
        form = next(form for key, form in FORMATS.items() if key.replace(" ", "-") == name)
        check_clips(form.read(case.folder / name, case.path, skip_empty=case.rng.random() < 0.3))
    return True


def build_ferplus(folder: Path) -> None:
    from tests.conftest import write_ferplus

    counts = {"Training": 4, "PublicTest": 2, "PrivateTest": 2}
    write_ferplus(folder / "folders", as_csv=False, counts=counts)
    write_ferplus(folder / "table", as_csv=True, counts=counts)


def read_any_ferplus(case: Case) -> bool:
    splits = read_ferplus(case.folder / case.target.partition("/")[0], workers=1)
    for split in splits.values():
        if split.votes.shape[1:] != (10,) or (split.votes < 0).any() or not np.isfinite(split.votes).all():
            raise Wrong(f"votes: {split.votes}")
        if split.images.dtype != np.uint8 or len(split.images) != len(split.votes):
            raise Wrong(f"images: {split.images.shape}")
    return True


def build_onnx(folder: Path) -> None:
    from Code.onnx.export import export

    tiny_checkpoints(folder)
    export(*load_fan(folder / "run.pth"), folder / "fan.onnx")
    (folder / "run.pth").unlink()
    (folder / "crops").mkdir()
    for number, picture in enumerate(people(4, 64)):
        picture.save(folder / "crops" / f"{number}.jpg")


@contextlib.contextmanager
def _said() -> Iterator[io.StringIO]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        yield out


def read_onnx(case: Case) -> bool:
    """docs/onnx_example.py, as it is."""
    before = sys.argv
    sys.argv = ["onnx_example.py", "fan.onnx", "crops"]
    try:
        with _said() as out:
            runpy.run_path(str(PROJECT / "docs" / "onnx_example.py"), run_name="__main__")
    except SystemExit as stop:
        if not isinstance(stop.code, str) or not stop.code.strip() or not stop.code.isprintable():
            raise Wrong(f"message: {stop.code!r}") from None
        return False
    finally:
        sys.argv = before
    said = out.getvalue().splitlines()[1]
    shares = [float(part.rpartition(" ")[2]) for part in said.split(", ")]
    if not all(0 <= share <= 1 for share in shares):
        raise Wrong(f"probabilities: {said}")
    return True


KINDS = (
    Kind("video", build_videos, [(name, "bytes") for name in (*VIDEOS, "m.gif", "m.webp", "m.png", "n.heic")],
         read_video, share=4),
    Kind("picture", build_pictures, [("*.jpg", "bytes")], read_picture, share=3),
    Kind("predict", build_predicted, [*((name, "bytes") for name in VIDEOS), ("m.*", "bytes"), ("crops/*", "bytes")],
         read_predicted, writes=("answers.csv", "a.json", "frames.csv", "drawn.mp4", "predictions*")),
    Kind("list", build_lists, [("*.txt", "text"), ("*.csv", "table"), ("ckplus/Emotion/*/*/*.txt", "text")],
         read_any_list, share=3),
    Kind("ferplus", build_ferplus, [("*/fer2013new.csv", "table"), ("table/fer2013.csv", "table")], read_any_ferplus),
    Kind("checkpoint", build_checkpoints, [("run.pth", "bytes"), ("published_*", "bytes")], read_any_checkpoint),
    Kind("onnx", build_onnx, [("fan.onnx", "bytes"), ("crops/*.jpg", "bytes")], read_onnx),
)  # fmt: skip
