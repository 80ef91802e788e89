"""Clips between two photographs: pictures that are known to differ by a known motion, and both commands."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from Code.common.commandline import run_script
from Code.data.intensity import intensities_of
from Code.faces.align import FACE_SIZE, FER2013_EYES
from Code.faces.detect import Faces
from Code.readers.folders import read_folders
from tools import onset

SIDE = 160
WHOLE = np.eye(2, 3)  # a view of the whole square
# Of the drawn face below, in pixels of SIDE: eyes, nose, corners of the mouth.
NEUTRAL = np.array([[60.0, 70.0], [100.0, 70.0], [80.0, 90.0], [66.0, 112.0], [94.0, 112.0]])
SMILE = NEUTRAL + np.array([[0, 0], [0, 0], [0, 0], [-10, -6], [10, -6]])


def face(points: np.ndarray) -> np.ndarray:
    """A face of soft dots at five points, on a pattern that does not move, uint8 [SIDE, SIDE, 3]."""
    rng = np.random.default_rng(0)
    picture = 150 + 25 * gaussian_filter(rng.normal(size=(SIDE, SIDE)), 6) / 0.05
    y, x = np.mgrid[:SIDE, :SIDE]
    for index, (across, down) in enumerate(points):
        depth = 110 if index < 3 else 90
        picture -= depth * np.exp(-((x - across) ** 2 + (y - down) ** 2) / 30)
    return np.repeat(picture.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def darkest(picture: np.ndarray, near: np.ndarray, reach: int = 8) -> np.ndarray:
    """The darkest point around a place."""
    left, top = (near - reach).round().astype(int)
    part = gaussian_filter(picture[top : top + 2 * reach + 1, left : left + 2 * reach + 1, 0].astype(float), 1)
    down, across = np.unravel_index(part.argmin(), part.shape)
    return np.array([left + across, top + down])


@pytest.fixture(scope="module")
def morph() -> onset.Morph:
    return onset.Morph(tensor(face(NEUTRAL)), tensor(face(SMILE)), np.stack([NEUTRAL, SMILE]))


def test_a_morph_goes_from_one_photograph_to_the_other(morph):
    assert np.abs(morph.frame(0, WHOLE, SIDE).astype(int) - face(NEUTRAL)).max() <= 1
    error = np.abs(morph.frame(1, WHOLE, SIDE).astype(int) - face(SMILE))
    assert error.mean() < 1 and np.quantile(error, 0.999) < 12
    for share in (0.25, 0.5, 0.75):  # the corners of the mouth are on their way, and the eyes stay
        frame = morph.frame(share, WHOLE, SIDE)
        for index, place in enumerate(NEUTRAL + share * (SMILE - NEUTRAL)):
            assert np.hypot(*(darkest(frame, place) - place)) < 2, (share, index)
    right = np.array([[1.0, 0, 20 / SIDE * 2], [0, 1.0, 0]])  # shows what is 20 pixels further to the right
    assert np.hypot(*(darkest(morph.frame(0, right, SIDE), NEUTRAL[1] - [20, 0]) - (NEUTRAL[1] - [20, 0]))) < 1.5


def test_intensities_follow_the_course():
    values = onset.intensities((1, 1, 1, 2, 1), 10)
    assert len(values) == 60
    assert (values[:11] == 0).all() and (values[20:31] == 1).all() and (values[50:] == 0).all()
    assert values[15] == pytest.approx(0.5) and values[40] == pytest.approx(0.5)
    assert (np.diff(values[10:21]) > 0).all() and (np.diff(values[30:51]) < 0).all()


def test_a_head_sways_a_little_and_never_shows_an_edge():
    moves = onset.sway(500, 25, np.random.default_rng(3))
    assert moves.shape == (500, 4) and (np.abs(moves) <= np.array(onset.SWAY)).all()
    assert np.abs(np.diff(moves, axis=0)).max() < 0.01  # from one frame to the next
    still = np.array([[onset.SHOWN, 0, 0], [0, onset.SHOWN, 0]])
    corners = np.array([[-1, 1, -1, 1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    for turn in (-1, 1):
        assert np.abs(onset.view_of(still, turn * np.array(onset.SWAY)) @ corners).max() <= 1
    eyes = (np.array(FER2013_EYES) + 0.5) / FACE_SIZE * 2 - 1
    found = onset.crop_view() @ np.concatenate([eyes.T, np.ones((1, 2))])
    np.testing.assert_allclose((found.T + 1) / 2, onset.EYES)


class Told:
    """Finds the drawn faces: the smile has a brighter mouth. Nothing in a black picture."""

    def __init__(self, device="cpu", min_face=None):
        pass

    def __call__(self, image):
        scale = image.shape[0] / SIDE
        corner = (SMILE[3] * scale).round().astype(int)
        smiles = image[corner[1], corner[0], 0] < 100
        points = (SMILE if smiles else NEUTRAL) * scale
        number = int(image.any())
        box = np.array([[30.0, 30.0, 130.0, 140.0]]) * scale
        return Faces(box[:number], points[None][:number], np.array([0.99])[:number])


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    monkeypatch.setattr(onset, "Detector", Told)
    for folder, ending, points in (("neutral", "03", NEUTRAL), ("smiling", "08", SMILE)):
        (tmp_path / folder).mkdir()
        for person in ("001", "002"):
            Image.fromarray(face(points)).save(tmp_path / folder / f"{person}_{ending}.png")
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / folder / f"003_{ending}.png")
    return tmp_path


def test_two_photographs_give_a_video_and_its_table(photographs, capsys, monkeypatch):
    av = pytest.importorskip("av", reason="writes a video")
    output = photographs / "smile.mp4"
    files = [str(photographs / "neutral" / "001_03.png"), str(photographs / "smiling" / "001_08.png")]
    for name, value in {"COURSE": (0.4, 0.2, 0.4, 0.2, 0.2), "FPS": 10, "VIDEO_SIDE": 96}.items():
        monkeypatch.setattr(onset, name, value)
    assert onset.main([*files, "--output", str(output)]) == 0
    assert "14 frames" in capsys.readouterr().out
    with av.open(str(output)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name == "h264"
    assert len(frames) == 14 and frames[0].shape == (96, 96, 3)
    with output.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows[:2]] == ["0000000", "0000001"] and rows[3]["time"] == "0.30"
    values = np.array([float(row["intensity"]) for row in rows])
    assert values[0] == 0 and values.max() == 1 and math.isclose(values[5], 0.5)
    change = [np.abs(frame.astype(int) - frames[0]).mean() for frame in frames]
    assert change[8] > 2 * change[2] or change[8] > change[2] + 1  # the mouth moves more than the head


def test_two_folders_give_clips_that_the_readers_know(photographs, capsys, monkeypatch):
    monkeypatch.setattr(onset, "FRAMES", 6)
    folders = [str(photographs / "neutral"), str(photographs / "smiling")]
    root = photographs / "Onsets"
    assert onset.main([*folders, "--output", str(root)]) == 0
    said = "".join(capsys.readouterr())
    assert "2 clips of 6 frames" in said and "skipped" in said and "003_03.png" in said
    clips = read_folders(root / "Train", labels=("happiness",))
    assert [clip.name for clip in clips.clips] == ["happiness/001", "happiness/002"]
    with Image.open(root / "Train" / "happiness" / "001" / "000.png") as picture:
        assert picture.size == (112, 112) and picture.mode == "L"
    truth = intensities_of(clips)
    assert truth["happiness/001"].shape == (6,) and truth["happiness/001"].max() > 0.5


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("neutral", "smiling/001_08.png", "give two photographs or two folders"),
        ("neutral/003_03.png", "smiling/001_08.png", "no face"),
        ("neutral", "empty", "no two photographs have the same name"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(photographs, capsys, first, second, message):
    (photographs / "empty").mkdir()
    arguments = [str(photographs / first), str(photographs / second), "--output", str(photographs / "out.mp4")]
    assert run_script(lambda: onset.main(arguments)) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said


EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "example.mp4"


def test_the_example_is_small_plays_everywhere_and_has_a_line_for_each_frame():
    av = pytest.importorskip("av", reason="reads a video")
    assert EXAMPLE.stat().st_size < 1_000_000
    with av.open(str(EXAMPLE)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        times = [float(frame.time) for frame in container.decode(video=0)]
    with EXAMPLE.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["time"]) for row in rows] == pytest.approx(times, abs=0.001)
    assert 4 <= times[-1] <= 6


@pytest.mark.slow
def test_the_shipped_network_sees_the_smile_and_when_it_is():
    pytest.importorskip("facenet_pytorch", reason="finds the face")
    from Code.faces.predict import Predictor
    from Code.training.metrics import attention_metrics

    answer = Predictor(device="cpu")(EXAMPLE)
    assert answer.expression == "happiness" and len(answer.frames) == 125
    with EXAMPLE.with_suffix(".csv").open() as file:
        truth = np.array([float(row["intensity"]) for row in csv.DictReader(file)])
    auc = attention_metrics({"example": answer.weights}, {"example": truth})["attention_auc"]
    assert auc is not None and auc > 0.85
