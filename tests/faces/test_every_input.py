"""Every input has its row: without a face, unreadable, pictures that are no clip; arguments are checked in Python."""

from __future__ import annotations

import csv
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from Code import Predictor
from Code.faces import render
from Code.faces.detect import overlap
from Code.faces.inputs import why_apart
from Code.faces.render import Label, draw_people
from tests.faces.conftest import AFEW, Call, Draw, Networks


@pytest.fixture
def predictor(checkpoints: Networks) -> Predictor:
    return Predictor(checkpoints["fan"][0], "cpu", precision="fp32")


def photographs(folder: Path, number: int, names: str = "{:03d}.png", size: tuple[int, int] = (48, 48)) -> list[Path]:
    """Pictures that have nothing in common."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(2)
    for index in range(number):
        pixels = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(folder / names.format(index))
    return sorted(folder.iterdir())


def test_inputs_without_an_answer_have_their_row_their_record_and_their_card(
    checkpoints: Networks, person: Draw, predict: Call, tmp_path: Path
) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    inputs = [tmp_path / name for name in ("grey.png", "gone\udcfc.png", "broken.jpg", "face.png")]
    Image.new("RGB", (64, 48), (90, 90, 90)).save(inputs[0])
    inputs[2].write_bytes(b"\xff\xd8 and no more")
    person().save(inputs[3])
    table, records = tmp_path / "new" / "a.csv", tmp_path / "other" / "deep" / "a.json"  # folders that are made
    flags = ("--checkpoint", checkpoints["fan"][0], "--csv", table, "--json", records, "--people", "all")
    assert predict(*inputs, *flags) == 2
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [row["input"] for row in rows] == [str(path).replace("\udcfc", "\\udcfc") for path in inputs]  # escaped
    assert rows[0]["problems"] == "no face in 1 frame" and "not valid UTF-8" in rows[1]["problems"]
    assert all(row["expression"] == row["Happy"] == row["person"] == "" and row["problems"] for row in rows[:3])
    assert rows[3]["expression"] in AFEW and rows[3]["problems"] == ""
    written = json.loads(records.read_text())
    assert [record["expression"] for record in written[:3]] == [""] * 3
    assert written[0] == {"input": str(inputs[0]), "expression": "", "problems": ["no face in 1 frame"]}
    page = (tmp_path / "predictions" / "predictions.html").read_text()
    assert page.count("<article") == 4 and "no answer: no face in 1 frame" in page and "none 3" in page
    assert str(Path.home()) not in page + records.read_text() or tmp_path.is_relative_to(Path.home())


def test_pictures_that_do_not_follow_each_other_are_answered_one_by_one(
    predictor: Predictor, crops: Path, tmp_path: Path
) -> None:
    files = photographs(tmp_path / "photographs", 6)
    with pytest.warns(UserWarning, match="the images show different things, so its 6 images are no clip"):
        answers = predictor(tmp_path / "photographs", aligned=True)
    assert [each.path for each in answers] == list(map(str, files)) and {each.num_frames for each in answers} == {1}
    assert predictor(tmp_path / "photographs", aligned=True, pictures=False).num_frames == 6
    assert len(predictor(crops, aligned=True, pictures=True)) == 5  # type: ignore[arg-type]  # a folder is many
    assert why_apart(sorted(crops.iterdir())) == ""
    assert (
        why_apart(photographs(tmp_path / "named", 2, "face{:d}a.png")) == "the names of the images are no frame numbers"
    )
    Image.new("RGB", (30, 40)).save(crops / "9.png")
    assert why_apart(sorted(crops.iterdir())) == "the images differ in size"


def test_the_script_says_that_pictures_are_no_clip(
    checkpoints: Networks, predict: Call, capsys: Any, tmp_path: Path
) -> None:
    photographs(tmp_path / "set" / "photographs", 6)
    flags = (tmp_path / "set", "--aligned", "--no-figure", "--checkpoint", checkpoints["fan"][0])
    assert predict(*flags, "--csv", tmp_path / "a.csv") == 0
    assert "note: " in (err := capsys.readouterr().err) and "each is answered" in err and "--clip" in err
    assert len(list(csv.DictReader((tmp_path / "a.csv").open()))) == 6
    assert predict(*flags, "--clip", "--csv", tmp_path / "a.csv") == 0
    assert capsys.readouterr().err == "" and len(list(csv.DictReader((tmp_path / "a.csv").open()))) == 1


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"image_size": 8}, "image_size: '8' is not a whole number from 32 to"),
        ({"precision": "int8"}, "precision is 'int8'; expected 'auto', 'fp32', 'bf16', 'fp16'"),
        ({"device": 99}, "--device 99: not usable here"),
        ({"prior": {"joy": 1}}, "--prior joy: no such class"),
        ({"classes": ["happy", "joy"]}, "--classes joy: no such class; this network knows Happy, Angry"),
    ],
)
def test_wrong_arguments_are_named_at_construction(checkpoints: Networks, argument: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as error:
        Predictor(checkpoints["fan"][0], **{"device": "cpu", **argument})
    assert str(error.value).startswith(says)


@pytest.mark.parametrize(
    "argument", [{"fps": float("nan")}, {"window": 1e-9}, {"stride": "x"}, {"neutral": 0}, {"people": "some"}]
)
def test_wrong_arguments_are_named_at_the_call(predictor: Predictor, crops: Path, argument: dict[str, Any]) -> None:
    (name,) = argument
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        predictor(crops, aligned=True, **argument)


def test_a_neutral_reference_may_be_in_memory(predictor: Predictor, crops: Path) -> None:
    of_file = predictor(crops, aligned=True, neutral=crops / "3.png")
    picture = Image.open(crops / "3.png")
    for given in (picture, np.asarray(picture)):
        answer = predictor(crops, aligned=True, neutral=given)
        assert answer.probabilities == pytest.approx(of_file.probabilities, abs=1e-6) and answer.neutral == "array"


def test_classes_that_are_left_out_are_in_no_output(
    checkpoints: Networks, crops: Path, predict: Call, tmp_path: Path
) -> None:
    path = checkpoints["fan"][0]
    kept = [name for name in AFEW if name not in ("Disgust", "Neutral")]
    every = Predictor(path, "cpu")(crops, aligned=True)
    few = Predictor(path, "cpu", classes=[name.lower() for name in kept], prior={"sad": 0.4})(crops, aligned=True)
    assert few.labels == tuple(kept) and list(few.prior or {}) == kept and few.frame_probabilities.shape == (5, 5)
    odds = np.array([every.probabilities[name] * (2 if name == "Sad" else 1) for name in kept])  # 0.4 for 1 / 5
    np.testing.assert_allclose([few.probabilities[name] for name in kept], odds / odds.sum(), atol=1e-6)
    files = [tmp_path / name for name in ("a.csv", "f.csv", "a.json")]
    flags = ("--aligned", "--checkpoint", path, "--csv", files[0], "--csv-frames", files[1], "--json", files[2])
    assert predict(crops, *flags, "--classes", *kept) == 0
    for file in (*files, tmp_path / "predictions" / "predictions.html"):
        assert "Disgust" not in file.read_text() and "Surprise" in file.read_text()


def test_labels_of_a_crowd_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float, str]] = []
    monkeypatch.setattr(render, "_draw_text", lambda draw, place, text, unit, color: drawn.append((*place, text)))
    boxes = [np.array([40.0 * (n % 8), 40.0 * (n // 8), 40.0 * (n % 8) + 30, 40.0 * (n // 8) + 36]) for n in range(24)]
    draw_people(
        np.zeros((240, 330, 3), dtype=np.uint8), [Label(box, n, "happiness 53 %") for n, box in enumerate(boxes, 1)]
    )
    assert len({int(text.split()[0]) for *_, text in drawn}) == len(drawn) >= 18  # most at least with the number
    assert any("happiness" in text for *_, text in drawn)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    areas = [(x, y, x + width, y + height) for x, y, t in drawn for width, height in [render._size_of(ruler, t, 9)]]
    assert not any(overlap(np.array([one]), np.array(other))[0] for one, other in combinations(areas, 2))
