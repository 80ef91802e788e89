"""CK+'s raw frames become aligned faces that the main script reads, with labels, persons and folds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import Demo_AFEW_Attention
from Code.data.folds import folds_by_person
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.network.weights import published_weights
from Code.readers.official import CKPLUS_LABELS, EMOTION_NUMBERS
from tests.faces.conftest import SIZE, run_main
from tests.trees import read_ckplus

pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")

FRAMES = (1, 2, 11)
# Sequence, emotion's number (None: no label), drawn person.
SEQUENCES = (
    *(("S005/001", 3, 0), ("S010/002", 7, 1), ("S010/004", 1, 1), ("S011/001", 5, 2)),
    *(("S011/003", None, 2), ("S022/001", 2, 3), ("S130/007", 6, 4)),
)


@pytest.fixture(scope="module")
def ckplus(tmp_path_factory: pytest.TempPathFactory, scene_of: Callable[..., Image.Image]) -> Path:
    """Raw frames and labels as distributed: grey pictures, larger than faces, which move and differ in size."""
    root = tmp_path_factory.mktemp("data") / "CK Plus"
    for name, emotion, person in SEQUENCES:
        stem = name.replace("/", "_")
        frames, labels = root / "cohn-kanade-images" / name, root / "Emotion" / name
        frames.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number in FRAMES:
            scene = scene_of((person, 30 + number, 8, 100 + 4 * person))
            scene.convert("L").save(frames / f"{stem}_{number:08d}.png")
        if emotion:
            (labels / f"{stem}_{FRAMES[-1]:08d}_emotion.txt").write_text(f"   {emotion:.7e}\n")
    (root / "cohn-kanade-images" / ".DS_Store").touch()
    return root


@pytest.fixture
def prepared(ckplus: Path, prepare: Callable[..., int]) -> Path:
    """The root with `faces` beside the raw frames; a second test finds all of it done."""
    assert prepare(ckplus / "cohn-kanade-images", ckplus / "faces") == 0
    return ckplus


def test_the_reader_takes_the_faces_with_labels_persons_and_folds(prepared: Path) -> None:
    clips = read_ckplus(prepared)
    assert clips.notes == ["1 sequence without a label not used"]
    expected = {name: CKPLUS_LABELS.index(EMOTION_NUMBERS[emotion]) for name, emotion, _ in SEQUENCES if emotion}
    assert {clip.name: clip.label for clip in clips.clips} == expected
    for clip in clips.clips:
        assert Path(clip.folder) == prepared / "faces" / clip.name
        assert list(clip.frames) == [f"{number:07d}.jpg" for number in FRAMES]
        for frame in clip.frames:
            with Image.open(Path(clip.folder) / frame) as image:
                assert image.size == (224, 224)
    folds = folds_by_person(clips, 3)
    assert {clip.person for clip in folds.val(1).clips} == {"S005", "S022"}


def test_the_main_script_checks_and_evaluates_them(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    run = {"format": "emotion-fan/1", "state_dict": published_weights(FAN(1, 7)), "at_type": 1, "image_size": SIZE}
    save_atomically({**run, "labels": list(CKPLUS_LABELS), "dataset": "ckplus", "epoch": 1}, tmp_path / "best.pth")
    monkeypatch.chdir(tmp_path)
    flags = ("Demo_AFEW_Attention.py", "--dataset", "ckplus", "--train-root", prepared, "--device", "cpu")
    assert run_main(Demo_AFEW_Attention.main, monkeypatch, *flags, "--folds", 5, "--check", "--json") < 2
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 18
    assert not [check["items"] for check in report["checks"] if check["level"] == "error" and check["found"]]
    machine = ("--workers", 0, "--cache", "none", "--precision", "fp32")
    assert run_main(Demo_AFEW_Attention.main, monkeypatch, *flags, *machine, "-e", "--checkpoint", "best.pth") == 0
    (folder,) = (tmp_path / "model").glob("*_evaluation")
    rows = list(csv.DictReader((folder / "attention.csv").open(encoding="utf-8")))
    assert len(rows) == 3 * sum(emotion is not None for _, emotion, _ in SEQUENCES)
    weights = np.array([float(row["weight"]) for row in rows]).reshape(-1, 3)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-3)
