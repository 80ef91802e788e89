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
from Code.data.clips import DataError
from Code.faces.neutral import PART, neutral_frames, neutral_shift
from Code.network.fan import FAN
from Code.network.weights import load_fan

AFEW = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


@pytest.mark.parametrize("at_type", [0, 1, 2])
def test_a_part_of_what_tells_the_face_from_others_goes(at_type: int) -> None:
    fan = FAN(at_type, 4).eval()
    info = {"neutral_feature": tuple(torch.rand(512).tolist()), "labels": ("neutral", "happy", "fear", "sad")}
    features, clip = torch.rand(3, 512), torch.rand(1, 5, 512)
    with torch.inference_mode():
        shift = neutral_shift(fan, features, info)
        reference = fan.attend(features[None]).clip_features[0]
        mean = torch.tensor(info["neutral_feature"]).repeat(2 if at_type == 1 else 1)
        moved = fan.attend(clip).clip_features - 0.5 * (reference - mean)
        torch.testing.assert_close(fan.attend(clip).logits + shift, fan.classifier(moved))
        own = fan.attend(features[None]).logits[0]
        plain = neutral_shift(fan, features, {**info, "neutral_feature": None})
    assert plain[0] == 0 and PART == 0.5  # the logit of neutral stays
    torch.testing.assert_close(plain[1:], -0.5 * (own - own.mean())[1:])


def test_the_frames_are_the_first_ones_or_the_most_neutral_ones_of_the_person() -> None:
    fan, times = FAN(0, 3).eval(), np.array([2.0, 2.1, 2.2, 2.6])
    frames = torch.zeros(60, 512)
    frames[30:40, 0] = 3.0
    fan.classifier.weight.data = torch.zeros(3, 512)
    fan.classifier.weight.data[1, 0] = 1.0

    def found(reference: float | str, at: np.ndarray, labels: tuple[str, ...] = ("sad", "Calm", "fear")) -> slice:
        return neutral_frames(fan, frames[: len(at)], at, reference, labels)[0]

    assert [found(seconds, times).stop for seconds in (0.25, 0.01, 9.0)] == [3, 1, 4]
    assert found("auto", np.arange(60) / 5 + 2.0) == slice(30, 35)
    with pytest.raises(DataError, match=r"visible for 0.6 s, .*name a picture or a video"):
        found("auto", times)
    with pytest.raises(DataError, match="no class neutral"):
        found("auto", times, ("sad", "happy", "fear"))
    with pytest.raises(DataError, match="images have no times"):
        found(1.0, np.array([np.nan]))
    for number in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected seconds above 0, a file, or auto"):
            found(number, times)


def test_a_file_says_its_mean_neutral_feature(checkpoints: dict[str, tuple[Path, FAN]], tmp_path: Path) -> None:
    path = checkpoints["fan"][0]
    assert load_fan(path)[1]["neutral_feature"] is None
    stored = torch.load(path, weights_only=True)
    torch.save({**stored, "neutral_feature": [0.5] * 512}, tmp_path / "fan.pth")
    assert load_fan(tmp_path / "fan.pth")[1]["neutral_feature"] == (0.5,) * 512
    torch.save({**stored, "neutral_feature": [0.5] * 3}, tmp_path / "fan.pth")
    with pytest.raises(ValueError, match="neutral_feature is not 512 numbers"):
        load_fan(tmp_path / "fan.pth")


@pytest.fixture
def predictor(checkpoints: dict[str, tuple[Path, FAN]]) -> Predictor:
    return Predictor(checkpoints["fan"][0], "cpu", prior={"sad": 0.5})


def expected_shift(predictor: Predictor, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return neutral_shift(predictor.fan, torch.from_numpy(features), predictor.info).numpy()


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


def test_seconds_of_the_video_shift_the_answer_and_the_curve(
    predictor: Predictor, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = predictor.answer(video, aligned=True, window=0.3)
    (after,) = predictor.answer(video, aligned=True, window=0.3, neutral=0.2)
    shift = expected_shift(predictor, before.features[:2])  # at 0 and 0.1 s
    np.testing.assert_allclose(after.logits, before.logits + shift, atol=1e-5)
    assert before.curve is not None and after.curve is not None
    curve = np.stack([softmax(np.log(row) + shift) for row in before.curve.probabilities])
    np.testing.assert_allclose(after.curve.probabilities, curve, atol=1e-5)
    assert after.neutral == "the first 0.2 s"
    assert predictor(video, aligned=True, neutral=1).neutral == "the first 1 s"
    monkeypatch.setattr("Code.faces.neutral.LONG", 0.1)
    found = predictor(video, aligned=True, neutral="auto")
    assert found.neutral == "0.0 to 0.4 s, where the person looks most neutral"
    np.testing.assert_allclose(found.logits, before.logits + expected_shift(predictor, before.features), atol=1e-5)


def test_what_cannot_be_a_reference_is_said(predictor: Predictor, crops: Path, video: Path) -> None:
    for path, options, says in (
        (crops, {"neutral": 0.5}, "name a picture or a video"),
        (video, {"neutral": crops, "people": "all"}, "shows one person"),
        (video, {"neutral": "nowhere.jpg"}, "no such file"),
    ):
        with pytest.raises(ValueError, match=says):
            predictor(path, aligned=True, **options)
    pytest.importorskip("facenet_pytorch", reason="looks for a face")
    with pytest.raises(DataError, match=r"neutral: .*plain\.mp4: no face in 5 frames"):
        predictor(video, neutral=video)


def test_the_script_passes_it_on(
    checkpoints: dict[str, tuple[Path, FAN]],
    video: Path,
    crops: Path,
    tmp_path: Path,
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    network, says = ("--checkpoint", checkpoints["fan"][0], "--aligned"), str(crops / "3.png")
    assert predict(video, *network, "--neutral", says, "--json", tmp_path / "a.json") == 0
    assert f"  compared with a neutral face: {says}\n" in capsys.readouterr().out
    assert f"compared with a neutral face: {says}" in (tmp_path / "predictions" / "predictions.html").read_text()
    assert json.loads((tmp_path / "a.json").read_text())[0]["neutral"] == says
    for flags, says in (
        ((video, "--neutral", "soon"), "neither a number of seconds above 0, nor a file, nor auto"),
        ((video, *network, "--neutral", "auto"), "visible for 0.4 s"),
        (
            (video, "--neutral", crops, "--people", "all"),
            "shows one person; name seconds, or answer the main person only",
        ),
    ):
        assert predict(*flags) == 2
        assert says in capsys.readouterr().err.strip().splitlines()[-1]
