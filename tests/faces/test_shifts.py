"""What shifts an answer: class shares that a user states, and how the person looks when neutral; and its certainty."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from Code import Predictor
from Code.common.errors import UsageError
from Code.common.names import FERPLUS_LABELS
from Code.data.clips import DataError
from Code.faces.detect import Faces
from Code.faces.live import watch
from Code.faces.neutral import PART, neutral_frames, neutral_shift
from Code.faces.prediction import Curve, answer_text, is_uncertain
from Code.faces.settings import UNCERTAIN_MARGIN
from Code.faces.video import Frame
from Code.network.checkpoints import CheckpointError, save_atomically
from Code.network.fan import FAN
from Code.network.prior import log_prior, prior_shift, stated_shares
from Code.network.weights import load_fan
from tests.faces.conftest import AFEW, Call, Networks
from tests.runs import save_run


def info_of(shares: tuple[float, ...] | None, recipe: dict[str, str] | None = None) -> dict[str, Any]:
    return {"labels": ("a", "b", "c"), "class_shares": shares, "recipe": recipe}


def test_a_prior_moves_probabilities_as_bayes_says() -> None:
    q, p = torch.tensor([0.6, 0.3, 0.1]), {"a": 0.2, "b": 0.2, "c": 0.6}
    likelihood = torch.tensor([0.5, 0.2, 0.9])
    logits = (likelihood * q).log()  # of a network that learned the shares q
    shifted = (logits + prior_shift(p, info_of((0.6, 0.3, 0.1)))).softmax(dim=0)
    expected = likelihood * torch.tensor([0.2, 0.2, 0.6])
    torch.testing.assert_close(shifted, expected / expected.sum())


def test_what_a_network_takes_for_granted_is_what_its_file_says() -> None:
    shares = (0.6, 0.3, 0.1)
    assert log_prior(info_of(None)).tolist() == [0, 0, 0]
    torch.testing.assert_close(log_prior(info_of(shares)).softmax(0), torch.tensor(shares))
    balanced = log_prior(info_of(shares, {"balance": "1.0"}))
    torch.testing.assert_close(balanced.softmax(0), torch.full((3,), 1 / 3))
    floored = log_prior(info_of(shares, {"balance": "1.0", "balance_floor": "0.2"}))
    torch.testing.assert_close(floored, torch.tensor([1, 1, 0.5]).log())  # the rare class stays half as likely
    assert torch.isfinite(log_prior(info_of((0.5, 0.5, 0.0)))).all()


def test_shares_need_not_sum_to_one_and_unnamed_classes_keep_theirs() -> None:
    labels = ("a", "B", "c", "d")
    info = {"labels": labels}
    assert stated_shares({}, info) == dict.fromkeys(labels, 0.25)
    assert stated_shares({"a": 0.25, "b": 0.5}, info) == pytest.approx({"a": 0.2, "B": 0.4, "c": 0.2, "d": 0.2})
    assert stated_shares({"c": 0}, info) == pytest.approx({"a": 1 / 3, "B": 1 / 3, "c": 0, "d": 1 / 3})
    for prior, message in (
        ({"joy": 1}, "--prior joy: no such class; this network knows a, B, c, d"),
        ({"a": -1}, "--prior: shares are numbers from 0"),
        ({"a": float("nan")}, "shares are numbers from 0"),
        (dict.fromkeys(labels, 0), "one of them above 0"),
    ):
        with pytest.raises(UsageError, match=message):
            stated_shares(prior, {"labels": labels})


def test_the_answer_the_frames_the_curve_and_the_camera_have_the_prior(
    checkpoints: Networks, crops: Path, video: Path
) -> None:
    path = checkpoints["fan"][0]
    plain, stated = Predictor(path, "cpu"), Predictor(path, "cpu", prior={"sad": 3 / 7, "FEAR": 0})
    shift = np.array([0, 0, 0, -np.inf, np.log(3), 0, 0])
    before, after = plain(crops, aligned=True), stated(crops, aligned=True)
    assert before.prior is None
    assert after.prior == pytest.approx({**dict.fromkeys(AFEW, 1 / 8), "Fear": 0, "Sad": 3 / 8})

    def moved(shares: np.ndarray) -> np.ndarray:
        scaled = shares * np.exp(shift)
        return scaled / scaled.sum(axis=-1, keepdims=True)

    def row(answer: Any) -> np.ndarray:
        return np.array([answer.probabilities[label] for label in AFEW])

    np.testing.assert_allclose(row(after), moved(row(before)), atol=1e-6)
    np.testing.assert_allclose(after.frame_probabilities, moved(before.frame_probabilities), atol=1e-6)
    np.testing.assert_array_equal(after.weights, before.weights)
    assert after.probabilities["Fear"] == 0 and after.logits[3] == -np.inf

    curves = [predictor.answer(video, aligned=True, window=0.3)[0].curve.probabilities for predictor in (plain, stated)]
    np.testing.assert_allclose(curves[1], moved(curves[0]), atol=1e-6)

    points = np.array([[20.0, 20.0], [40.0, 20.0], [30.0, 30.0], [22.0, 40.0], [38.0, 40.0]])
    face = Faces(np.array([[10.0, 5.0, 50.0, 55.0]]), points[None], np.ones(1))
    frame = Frame("0", 0, 0.0, np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    shares = []
    for predictor in (plain, stated):
        predictor.detector = lambda image: face  # type: ignore[assignment,misc]
        (now,) = watch(predictor, iter([frame]), 1.0)
        shares.append(now.text)
    assert shares[0] != shares[1]


def test_an_answer_is_uncertain_if_its_best_two_classes_are_close() -> None:
    near, far = UNCERTAIN_MARGIN - 0.01, UNCERTAIN_MARGIN + 0.01
    rows = np.array([[0.4, 0.4 - near, 0.2 + near], [0.7, 0.7 - far, far - 0.4], [0.1, 0.8, 0.1], [np.nan] * 3])
    assert is_uncertain(rows[:1]).tolist() == [True]
    assert is_uncertain(rows).tolist() == [True, False, False, False]
    assert is_uncertain(np.array([1.0])).tolist() is False  # a network of one class
    assert answer_text("anger", True) == "anger, uncertain" and answer_text("anger", False) == "anger"
    curve = Curve(("a", "b", "c"), np.arange(4.0), np.arange(4.0) + 1, rows, np.array([3, 3, 3, 0]))
    assert curve.uncertain.tolist() == [True, False, False, False]


@pytest.fixture
def undecided(tmp_path: Path) -> Path:
    """A network that finds Happy and Sad nearly equally likely, whatever it sees."""
    torch.manual_seed(0)
    fan = FAN(0, 7).eval()
    fan.head.pred_fc1.weight.data.zero_()
    fan.head.pred_fc1.bias.data[:] = torch.tensor([2.0, 0, 0, 0, 1.9, 0, 0])
    about = {"image_size": 40, "dataset": "afew", "class_shares": [0.4, *[0.1] * 6]}
    return save_run(tmp_path / "undecided.pth", fan, AFEW, **about)


def test_every_output_says_uncertain(
    undecided: Path, crops: Path, predict: Call, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = {name: tmp_path / name for name in ("a.csv", "f.csv", "a.json")}
    flags = ["--csv", files["a.csv"], "--csv-frames", files["f.csv"], "--json", files["a.json"]]
    assert predict(crops, "--aligned", "--checkpoint", undecided, *flags) == 0
    assert f"{crops}: Happy, uncertain (5 frames)" in capsys.readouterr().out
    with files["a.csv"].open() as table, files["f.csv"].open() as frames:
        assert [row["uncertain"] for row in csv.DictReader(table)] == ["1"]
        assert [row["uncertain"] for row in csv.DictReader(frames)] == ["1"] * 5
    (record,) = json.loads(files["a.json"].read_text())
    assert record["uncertain"] is True and record["prior"] is None
    page = (tmp_path / "predictions" / "predictions.html").read_text()
    assert '<span class="clear">Happy</span>, uncertain, 39&nbsp;%' in page

    answer = Predictor(undecided, "cpu")(crops, aligned=True)
    assert answer.uncertain and repr(answer).endswith("Happy 39 %, uncertain, 5 of 5 frames)")

    # Happy had the share 0.4 in its training; where it is as rare as the others, the answer is certain.
    assert predict(crops, "--aligned", "--checkpoint", undecided, "--prior", "Happy=1", "Sad=1") == 0
    out = capsys.readouterr().out
    assert f"{crops}: Sad (5 frames)" in out and "prior: Happy 0.368, Angry 0.053" in out
    page = (tmp_path / "predictions" / "predictions.html").read_text()
    assert "5 of 5 frames, with the prior Happy 0.368, Angry 0.053" in page


@pytest.mark.parametrize("shares", [[0.5, 0.5], "half", [1, 1, 1, 1, 1, 1, -1]])
def test_shares_that_do_not_fit_are_refused(undecided: Path, tmp_path: Path, shares: object) -> None:
    content = torch.load(undecided, weights_only=True)
    save_atomically({**content, "class_shares": shares}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="class_shares"):
        load_fan(tmp_path / "odd.pth")


def test_priors_with_names():
    shares = (0.35, 0.27, 0.12, 0.13, 0.09, 0.01, 0.02, 0.01)
    info = {"labels": FERPLUS_LABELS, "class_shares": shares, "recipe": {"balance": "1.0"}}
    twice = {"recipe": {"prior": [2 / 9, *[1 / 9] * 7]}}
    assert stated_shares("uniform", info) == dict.fromkeys(FERPLUS_LABELS, 1 / 8)
    assert tuple(stated_shares("ferplus", info).values()) == shares
    # A file whose neutral is twice as likely: uniform takes that out, ferplus exchanges it.
    assert prior_shift(stated_shares("uniform", info), info | twice).softmax(0)[0] == pytest.approx(1 / 15)
    exchanged = (log_prior(info | twice) + prior_shift(stated_shares("ferplus", info), info | twice)).softmax(0)
    assert exchanged.tolist() == pytest.approx(shares, rel=1e-4)
    for prior, network in (("ferplus", info | {"class_shares": None}), ("often", info)):
        with pytest.raises(UsageError, match=f"--prior {prior}"):
            stated_shares(prior, network)


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


def test_a_file_says_its_mean_neutral_feature(checkpoints: Networks, tmp_path: Path) -> None:
    path = checkpoints["fan"][0]
    assert load_fan(path)[1]["neutral_feature"] is None
    stored = torch.load(path, weights_only=True)
    torch.save({**stored, "neutral_feature": [0.5] * 512}, tmp_path / "fan.pth")
    assert load_fan(tmp_path / "fan.pth")[1]["neutral_feature"] == (0.5,) * 512
    torch.save({**stored, "neutral_feature": [0.5] * 3}, tmp_path / "fan.pth")
    with pytest.raises(ValueError, match="neutral_feature are not 512 numbers"):
        load_fan(tmp_path / "fan.pth")


@pytest.fixture
def predictor(checkpoints: Networks) -> Predictor:
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
    checkpoints: Networks, video: Path, crops: Path, tmp_path: Path, predict: Call, capsys: pytest.CaptureFixture[str]
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
