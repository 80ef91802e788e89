"""Thousands of spoiled images, lists and checkpoints: a result, or one line that names the file, and soon.

Mutations are drawn from a seed: what failed once fails again.
"""

from __future__ import annotations

import io
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from Code.common.names import AFEW_LABELS
from Code.data.clips import DataError
from Code.data.images import ImageError, check_image, read_image
from Code.network.checkpoints import CheckpointError, read_checkpoint
from Code.network.fan import FAN
from Code.network.weights import load_fan
from Code.training.run import checkpoint_payload
from tests.fuzz.damage import damaged
from tests.trees import read_afew

SECONDS = 5.0  # for one file; the slowest takes a tenth of it, but the machine may be busy


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """One to four faults of the kinds that disks and networks make."""
    return damaged(whole, "bytes", rng)


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


def survives(path: Path, read: Callable[[str], object], error: type[Exception]) -> bool:
    """Whether `read` accepts the file; its refusal must be one line that names it, and either must be quick."""
    begun = time.monotonic()
    try:
        read(str(path))
        accepted = True
    except error as refusal:
        lines = str(refusal).split("\n")
        assert len(lines) == 1 and lines[0].startswith(f"{path}: "), lines
        assert lines[0].isprintable() and len(lines[0]) < 2100
        accepted = False
    assert time.monotonic() - begun < SECONDS
    return accepted


def read_any_way(path: str) -> None:
    """Reads at two sizes and by the doctor, which must agree: what passes the doctor is uint8 RGB in a training."""
    verdicts = []
    for read in (lambda: read_image(path, 16), lambda: read_image(path), lambda: check_image(path)):
        try:
            value = read()
            verdicts.append(None)
            if isinstance(value, np.ndarray):
                assert value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3
        except ImageError as error:
            verdicts.append(error)
    assert len({verdict is None for verdict in verdicts}) == 1, verdicts
    if verdicts[0] is None:
        check_image(path, decode=False)
    else:
        raise verdicts[0]


@pytest.mark.parametrize("number", range(17))
def test_mutated_images(tmp_path, number):
    whole = list(images())[number]
    path, rng, outcomes = tmp_path / "frame.jpg", random.Random(number), Counter()
    path.write_bytes(whole)
    assert survives(path, read_any_way, ImageError)
    for _ in range(90):
        path.write_bytes(mutated(whole, rng))
        outcomes[survives(path, read_any_way, ImageError)] += 1
    assert outcomes[False] > 10  # the faults are faults


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_mutated_lists(tmp_path, encoding):
    root, path = tmp_path / "Train", tmp_path / "list.txt"
    for label in AFEW_LABELS:
        for clip in ("000149120", "a b", "Zo\u00eb"):
            (root / label / clip).mkdir(parents=True)
            (root / label / clip / "001.jpg").touch()
    lines = [f"{folder.parent.name}/{folder.name}\t{folder.parent.name}" for folder in sorted(root.glob("*/*"))]
    whole = "\r\n".join([*lines, ""]).encode(encoding)
    rng, outcomes = random.Random(0), Counter()
    for _ in range(200):
        path.write_bytes(mutated(whole, rng))
        try:
            clips = read_afew(root, path)
            assert clips.listed == len(clips.clips) > 0
            assert all(AFEW_LABELS[clip.label] == clip.name.partition("/")[0] for clip in clips.clips)
            outcomes["read"] += 1
        except DataError as error:
            assert all(line.startswith(str(path)) and line.isprintable() for line in error.problems), error.problems
            outcomes["refused"] += 1
    assert outcomes["refused"] > 40 and outcomes["read"] > 0


def small_checkpoint(new_format: bool) -> bytes:
    payload = {
        "state_dict": {"module.conv1.weight": torch.randn(4, 3, 3, 3), "module.bn1.bias": torch.zeros(4).half()},
        "labels": list(AFEW_LABELS), "epoch": 3, "best_prec1": np.float64(51.2), "arch": "resnet18", "image_size": 64,
    }  # fmt: skip
    file = io.BytesIO()
    torch.save(payload, file, _use_new_zipfile_serialization=new_format)
    return file.getvalue()


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "pickle"])
@pytest.mark.parametrize("read", [read_checkpoint, load_fan])
def test_mutated_checkpoints(tmp_path, new_format, read):
    whole, path = small_checkpoint(new_format), tmp_path / "best.pth"
    rng, outcomes = random.Random(1), Counter()
    for _ in range(150):
        path.write_bytes(mutated(whole, rng))
        outcomes[survives(path, read, CheckpointError)] += 1
    assert outcomes[False] > 60


@pytest.mark.slow
def test_mutated_checkpoints_of_a_run(tmp_path):
    about = {"labels": AFEW_LABELS, "image_size": 64, "dataset": "afew", "protocol": {}, "precision": "fp32"}
    path = tmp_path / "best.pth"
    torch.save(checkpoint_payload(FAN(1, 7), **about, epoch=1, metrics={}), path)
    whole = path.read_bytes()
    rng, outcomes = random.Random(2), Counter()
    for _ in range(40):
        path.write_bytes(mutated(whole, rng))
        outcomes[survives(path, load_fan, CheckpointError)] += 1
    assert outcomes[False] > 10
