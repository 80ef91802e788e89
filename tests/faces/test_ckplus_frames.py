"""CK+'s raw frames become aligned faces that the main script reads, with labels, persons and folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from Code.data.folds import folds_by_person
from Code.readers.official import CKPLUS_LABELS, EMOTION_NUMBERS
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


def test_the_reader_takes_the_faces_with_labels_persons_and_folds(ckplus: Path, prepare: Callable[..., int]) -> None:
    assert prepare(ckplus / "cohn-kanade-images", ckplus / "faces") == 0  # beside the raw frames
    clips = read_ckplus(ckplus)
    assert clips.notes == ["1 sequence without a label not used"]
    expected = {name: CKPLUS_LABELS.index(EMOTION_NUMBERS[emotion]) for name, emotion, _ in SEQUENCES if emotion}
    assert {clip.name: clip.label for clip in clips.clips} == expected
    for clip in clips.clips:
        assert Path(clip.folder) == ckplus / "faces" / clip.name
        assert list(clip.frames) == [f"{number:07d}.jpg" for number in FRAMES]
        for frame in clip.frames:
            with Image.open(Path(clip.folder) / frame) as image:
                assert image.size == (224, 224)
    folds = folds_by_person(clips, 3)
    assert {clip.person for clip in folds.val(1).clips} == {"S005", "S022"}
