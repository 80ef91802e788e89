"""A neutral reference: what it takes away, whose it is, and what cannot be one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from Code import Predictor
from Code.common.errors import UsageError
from Code.data.clips import DataError
from Code.faces.neutral import PART, checked_reference, first_seconds, neutral_shift
from Code.network.fan import FAN

AFEW = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def test_half_of_what_a_network_sees_in_neutral_frames_goes_but_neutral_stays() -> None:
    frames = torch.tensor([[5.0, 1.0, -2.0, 0.0], [3.0, 3.0, -4.0, 2.0]])  # mean 4, 2, -3, 1, which has the mean 1
    shift = neutral_shift(frames, ("neutral", "happy", "fear", "sad"))
    assert shift.tolist() == [0.0, -0.5, 2.0, 0.0] and PART == 0.5
    assert neutral_shift(frames, ("proud", "NEUTRAL", "fear", "sad")).tolist() == [-1.5, 0.0, 2.0, 0.0]


def test_the_first_seconds_are_those_of_the_person() -> None:
    times = np.array([2.0, 2.1, 2.2, 2.6])
    assert first_seconds(times, 0.25) == 3 and first_seconds(times, 0.01) == 1 and first_seconds(times, 9) == 4
    with pytest.raises(DataError, match="images have no times"):
        first_seconds(np.array([np.nan]), 1.0)
    assert checked_reference(1) == 1.0 and isinstance(checked_reference(1), float)
    for number in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected seconds above 0, or a file"):
            checked_reference(number)


@pytest.fixture
def predictor(checkpoints: dict[str, tuple[Path, FAN]]) -> Predictor:
    return Predictor(checkpoints["fan"][0], "cpu", prior={"sad": 0.5})


def expected_shift(predictor: Predictor, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        frames = predictor.fan.attend(torch.from_numpy(features)[:, None]).logits
    return neutral_shift(frames, AFEW).numpy()


def test_a_file_shifts_the_answer_and_its_frames(predictor: Predictor, crops: Path) -> None:
    before = predictor(crops, aligned=True)
    after = predictor(crops, aligned=True, neutral=crops / "3.png")
    shift = expected_shift(predictor, before.features[3:4])
    assert np.abs(shift).max() > 0.01
    np.testing.assert_allclose(after.logits, before.logits + shift, atol=1e-5)  # on top of the prior
    frames = np.stack([softmax(np.log(row) + shift) for row in before.frame_probabilities])
    np.testing.assert_allclose(after.frame_probabilities, frames, atol=1e-5)
    assert after.neutral == str(crops / "3.png") and before.neutral is None
    np.testing.assert_array_equal(after.weights, before.weights)
    shutil.copy(crops / "4.png", crops / "3.png")  # of somebody else, under the same name
    other = predictor([crops / "0.png"], aligned=True, neutral=crops / "3.png")[0]
    plain = predictor([crops / "0.png"], aligned=True)[0]
    shift = expected_shift(predictor, before.features[4:5])
    np.testing.assert_allclose(other.logits, plain.logits + shift, atol=1e-5)


@pytest.fixture
def video(write_video: Callable[..., Path], tmp_path: Path) -> Path:
    pictures = [Image.new("RGB", (64, 48), (level, 90, 90)) for level in range(0, 250, 50)]
    return write_video(tmp_path / "plain.mp4", pictures)


def test_first_seconds_shift_the_answer_and_the_curve(predictor: Predictor, video: Path) -> None:
    (before,) = predictor.answer(video, aligned=True, window=0.3)
    (after,) = predictor.answer(video, aligned=True, window=0.3, neutral=0.2)
    shift = expected_shift(predictor, before.features[:2])  # at 0 and 0.1 s
    np.testing.assert_allclose(after.logits, before.logits + shift, atol=1e-5)
    assert before.curve is not None and after.curve is not None
    curve = np.stack([softmax(np.log(row) + shift) for row in before.curve.probabilities])
    np.testing.assert_allclose(after.curve.probabilities, curve, atol=1e-5)
    assert after.neutral == "the first 0.2 s"
    assert predictor(video, aligned=True, neutral=1).neutral == "the first 1 s"


def test_what_cannot_be_a_reference_is_said(predictor: Predictor, crops: Path, video: Path) -> None:
    with pytest.raises(DataError, match="images have no times; name a picture or a video"):
        predictor(crops, aligned=True, neutral=0.5)
    with pytest.raises(UsageError, match="shows one person"):
        predictor(video, aligned=True, neutral=crops, people="all")
    with pytest.raises(DataError, match="no such file"):
        predictor(video, aligned=True, neutral="nowhere.jpg")
    pytest.importorskip("facenet_pytorch", reason="looks for a face")
    with pytest.raises(DataError, match=r"neutral: .*plain\.mp4: no face in 5 frames"):
        predictor(video, neutral=video)


def test_the_script_passes_it_on(
    checkpoints: dict[str, tuple[Path, FAN]], video: Path, crops: Path, tmp_path: Path,
    predict: Callable[..., int], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    network = ("--checkpoint", checkpoints["fan"][0], "--aligned")
    for given, says in (("0.2", "the first 0.2 s"), (crops / "3.png", str(crops / "3.png"))):
        assert predict(video, *network, "--neutral", given, "--json", tmp_path / "a.json") == 0
        assert f"  compared with a neutral face: {says}\n" in capsys.readouterr().out
        assert f"compared with a neutral face: {says}" in (tmp_path / "predictions" / "predictions.html").read_text()
        assert json.loads((tmp_path / "a.json").read_text())[0]["neutral"] == says
    for flags, says in (
        ((video, "--neutral", "soon"), "neither a number of seconds above 0 nor a file"),
        ((video, "--neutral", "0"), "neither a number of seconds above 0 nor a file"),
        ((video, "--neutral", crops, "--people", "all"), "shows one person; name seconds, or omit --people all"),
        (("--camera", "0", "--neutral", "1"), "--camera goes with"),
    ):
        assert predict(*flags) == 2
        assert says in capsys.readouterr().err.strip().splitlines()[-1]
