"""Labelled pictures as a tree of face crops; the detector is told what to find."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from Code.common.commandline import run_script
from Code.faces.detect import Faces
from Code.recipes import stills

POINTS = np.array([[22.0, 25.0], [42.0, 25.0], [32.0, 36.0], [25.0, 46.0], [39.0, 46.0]])


class TwoFaces:
    """Finds a large face in the middle, and a small one at the border; none in a black picture."""

    def __init__(self, device="cpu", min_face=None):
        pass

    def __call__(self, image):
        number = 2 if image.any() else 0
        boxes = np.array([[0.0, 0.0, 12.0, 12.0], [12.0, 10.0, 52.0, 60.0]])[:number]
        return Faces(boxes, np.stack([POINTS / 5, POINTS])[:number], np.array([0.99, 0.98])[:number])


@pytest.fixture(autouse=True)
def told(monkeypatch):
    monkeypatch.setattr(stills, "Detector", TwoFaces)


def write(path, value=120):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 72), (value, value, 0)).save(path)


def written(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))


def test_folders_name_classes_and_what_is_there_stays(tmp_path, capsys):
    write(tmp_path / "in" / "smiling" / "a.jpg")
    write(tmp_path / "in" / "Fear" / "b.jpg")
    write(tmp_path / "in" / "c.jpg")
    write(tmp_path / "in" / "Fear" / "dark.jpg", 0)
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--classes", "smiling=happiness"]
    assert stills.main(arguments) == 0
    assert written(tmp_path / "out") == ["fear/b.png", "happiness/a.png", "unlabeled/c.png"]
    assert "3 written" in (said := capsys.readouterr().out) and "1 no face" in said
    with Image.open(tmp_path / "out" / "fear" / "b.png") as face:
        assert face.size == (112, 112) and face.mode == "L"
    assert stills.main(arguments) == 0 and "3 skipped" in capsys.readouterr().out


def test_a_table_names_classes_and_contradictions_none(tmp_path):
    for name in "abc":
        write(tmp_path / "in" / f"{name}.jpg")
    table = tmp_path / "legend.csv"
    table.write_text("user,image,emotion\n1,a.jpg,ANGER\n1,b.jpg,Fear\n2,b.jpg,sadness\n1,c.jpg,happiness\n")
    flags = ["--table", str(table), "--columns", "image", "emotion", "--crop", "paper", "--size", "48"]
    assert stills.main([str(tmp_path / "in"), "--output", str(tmp_path / "out"), *flags]) == 0
    assert written(tmp_path / "out") == ["anger/a.png", "happiness/c.png", "unlabeled/b.png"]
    with Image.open(tmp_path / "out" / "anger" / "a.png") as face:
        assert face.size == (48, 48) and face.mode == "RGB"


def test_pictures_of_one_name_are_called_by_their_folders(tmp_path):
    for name in ("ann/Happy/001", "ann/Happy/002", "bob/Happy/001", "bob/Sad/001"):
        write(tmp_path / "in" / f"{name}.jpg")
    assert stills.main([str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--device", "cpu"]) == 0
    expected = ["happy/002.png", "happy/ann_Happy_001.png", "happy/bob_Happy_001.png", "sad/001.png"]
    assert written(tmp_path / "out") == expected


def test_a_missing_table_is_one_line(tmp_path, capsys):
    words = [str(tmp_path), "--output", str(tmp_path / "out"), "--table", "gone.csv"]
    assert run_script(lambda: stills.main(words)) == 2
    assert "gone.csv: cannot be read" in capsys.readouterr().err
