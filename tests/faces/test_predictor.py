"""As a library: the network's answer, the main person, windows of time, the default checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from Code import Predictor
from Code.data.clips import DataError
from Code.data.loaders import read_image
from Code.faces.align import FER2013_EYES, PAPER_EYES, Eyes, align_face
from Code.faces.detect import Detector
from Code.faces.prediction import windows
from Code.network.fan import FAN
from Code.network.pretrained import (
    CheckpointError,
    default_checkpoint,
    find_checkpoint,
    save_atomically,
    to_published,
    trained_on,
)

AFEW = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")
FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
SIZE = 40


def as_clip(folder: Path, *, grey: bool) -> torch.Tensor:
    """A folder's frames as the main script reads them, float [1, T, 3, S, S]."""
    frames = np.stack([read_image(str(path), SIZE) for path in sorted(folder.iterdir())])
    if grey:
        images = [
            np.asarray(Image.open(path).convert("L").resize((SIZE, SIZE), 2)) for path in sorted(folder.iterdir())
        ]
        frames = np.repeat(np.stack(images)[..., None], 3, axis=3)
    return torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255


def test_frame_classifier_answers_as_score_fusion_of_grey_frames(
    checkpoints: dict[str, tuple[Path, FAN]], crops: Path
) -> None:
    path, classifier = checkpoints["classifier"]
    answer = Predictor(path, "cpu")(crops, aligned=True)
    with torch.inference_mode():
        frames = as_clip(crops, grey=True)
        scores = torch.cat([classifier(frames[:, index : index + 1]).logits for index in range(5)])
    expected = scores.mean(dim=0).softmax(dim=0)
    assert max(expected) > 0.2
    np.testing.assert_allclose([answer.probabilities[name] for name in FERPLUS], expected, atol=1e-4)
    assert answer.expression == FERPLUS[int(expected.argmax())]
    assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
    np.testing.assert_allclose(answer.weights, 0.2)
    np.testing.assert_allclose(answer.alpha, 0.2)
    assert answer.num_frames == 5
    assert np.isnan(answer.times).all()
    assert answer.boxes.shape == (5, 4)


def test_a_runs_fan_answers_as_it_does_in_training(checkpoints: dict[str, tuple[Path, FAN]], crops: Path) -> None:
    path, fan = checkpoints["fan"]
    answer = Predictor(path, "cpu")(crops, aligned=True)
    with torch.inference_mode():
        expected = fan(as_clip(crops, grey=False))
    np.testing.assert_allclose(
        [answer.probabilities[name] for name in AFEW], expected.logits[0].softmax(dim=0), atol=1e-5
    )
    np.testing.assert_allclose(answer.alpha, expected.alpha[0], atol=1e-5)
    np.testing.assert_allclose(answer.weights, expected.weights[0], atol=1e-5)
    assert np.ptp(answer.weights) > 1e-3
    heaviest = answer.most_weighted()
    assert len(heaviest) == 3
    assert [answer.weights[index] for index in heaviest] == sorted(answer.weights, reverse=True)[:3]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, scene_of: Callable[..., Image.Image]) -> Path:
    """Eight frames: one person, missed in the third; in the last three a larger one beside them."""
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    folder = tmp_path_factory.mktemp("scene")
    for number in range(8):
        people = [] if number == 2 else [(0, 10 + number, 50, 130)]
        people += [(1, 160, 30, 160)] if number >= 5 else []
        scene_of(*people, size=(340, 240)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("kind", "eyes", "other"), [("classifier", FER2013_EYES, PAPER_EYES), ("fan", PAPER_EYES, FER2013_EYES)]
)
def test_main_person_is_found_followed_and_cut_out_as_the_network_knows_faces(
    kind: str,
    eyes: Eyes,
    other: Eyes,
    checkpoints: dict[str, tuple[Path, FAN]],
    scene: Path,
    tmp_path: Path,
) -> None:
    predictor = Predictor(checkpoints[kind][0], "cpu")
    answer = predictor(scene)
    assert (answer.num_frames, answer.num_people) == (8, 2)
    assert answer.frames == tuple(f"{number}.png" for number in range(8))
    np.testing.assert_array_equal(np.flatnonzero(answer.filled), [2])
    for number, box in enumerate(answer.boxes):
        assert np.abs((box[:2] + box[2:]) / 2 - [75 + number, 115]).max() < 25

    crops = answer.crops()
    assert crops.shape == (8, 224, 224, 3)
    np.testing.assert_array_equal(answer.crops([6, 1]), crops[[6, 1]])
    expected = [
        align_face(np.asarray(Image.open(scene / "0.png")), answer.landmarks[0], answer.boxes[0], wanted)
        for wanted in (eyes, other)
    ]
    right, wrong = (np.abs(crops[0].astype(int) - image).mean() for image in expected)
    assert right < 1
    assert wrong > 5
    for number in (1, 3, 4):
        (tmp_path / "crops").mkdir(exist_ok=True)
        padded = np.pad(crops[number], ((90, 90), (90, 90), (0, 0)), constant_values=127)
        again = Detector(min_face=80)(padded[None])[0].landmarks[0] - 90
        assert np.hypot(*(again[:2] - eyes).T).max() < 12
    for number, crop in enumerate(crops):
        Image.fromarray(crop).save(tmp_path / "crops" / f"{number}.png")
    same = predictor(tmp_path / "crops", aligned=True)
    assert answer.probabilities == pytest.approx(same.probabilities, abs=1e-5)


def test_windows_answer_as_the_network_does_on_their_frames(
    checkpoints: dict[str, tuple[Path, FAN]], write_video: Callable[..., Path], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (25, 4, 4, 3), dtype=np.uint8)
    clip = write_video(tmp_path / "c.mkv", [Image.fromarray(n).resize((48, 48)) for n in noise], codec="ffv1")
    answer = Predictor(checkpoints["fan"][0], "cpu")(clip, aligned=True, window=1.0, stride=0.8)
    curve = answer.curve
    assert curve is not None
    np.testing.assert_allclose(curve.starts, [0, 0.8, 1.6])
    np.testing.assert_array_equal(curve.faces, [10, 10, 9])
    with torch.inference_mode():
        part = torch.from_numpy(answer.features[8:18])[None]
        expected = checkpoints["fan"][1].attend(part).logits[0].softmax(dim=0)
    np.testing.assert_allclose(curve.probabilities[1], expected, atol=1e-5)
    assert curve.expressions[1] == AFEW[int(expected.argmax())]
    assert curve.at(0.0) == 0
    assert curve.at(9.0) == 2


def test_windows_cover_all_times_once_per_stride() -> None:
    """Ten seconds at 25 fps end at 9.96 s. Windows do not hold their end: a frame at 10 s needs one more."""
    cases = ((9.96, 4, 1, 7), (10, 4, 1, 8), (10, 4, 4, 3), (3, 4, 1, 1), (0, 1, 0.5, 1), (10, 1, 3, 4))
    for length, window, stride, count in cases:
        starts, ends = windows(np.linspace(0, length, 50), window, stride)
        assert len(starts) == count
        np.testing.assert_allclose(ends - starts, window)
        assert starts[-1] <= length
        assert stride > window or ends[-1] > length  # the last frame is in one
    with pytest.raises(DataError, match="images have none"):
        windows(np.array([np.nan]), 1.0)


def test_the_shipped_fan_answers_unless_another_network_is_named(tmp_path: Path) -> None:
    """Neither a run of three epochs nor what else lies in pretrain_model becomes the default unseen."""
    (tmp_path / "pretrain_model").mkdir()
    for name in ("model/2026-02-01_000000_folders_relation-attention/best.pth", "pretrain_model/A_afew.pth"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"FAN_FER\+_composed\.pth: no such file.*--checkpoint"):
        default_checkpoint(tmp_path)
    shipped = tmp_path / "pretrain_model" / "FAN_FER+_composed.pth"
    shipped.touch()
    assert default_checkpoint(tmp_path) == shipped


def test_a_fan_of_fer2013s_faces_answers_by_default_and_sees_them_as_it_learned_them(
    scene: Path, tmp_path: Path
) -> None:
    """A FAN that was trained on clips composed of FER+ pictures, beside the classifier it grew from."""
    folder = tmp_path / "pretrain_model"
    folder.mkdir()
    torch.manual_seed(0)
    fan = FAN(1, 8).eval()
    save_atomically({"state_dict": to_published(FAN(2, 8)), "image_size": SIZE}, folder / "Resnet18_FER+_open.pth.tar")
    about = {"format": "emotion-fan/1", "dataset": "composed", "at_type": 1, "labels": list(FERPLUS)}
    save_atomically({**about, "state_dict": fan.state_dict(), "image_size": SIZE}, folder / "FAN_FER+_composed.pth")
    predictor = Predictor(default_checkpoint(tmp_path), "cpu")
    assert (predictor.info["kind"], predictor.info["labels"], predictor.fan.at_type) == ("run", FERPLUS, 1)
    assert trained_on(predictor.info) == "trained on clips composed of single gray pictures of faces (FER+)"
    assert predictor.eyes == FER2013_EYES
    answer = predictor(scene)
    (tmp_path / "crops").mkdir()
    for number, crop in enumerate(answer.crops()):
        Image.fromarray(crop).save(tmp_path / "crops" / f"{number}.png")
    with torch.inference_mode():
        expected = fan(as_clip(tmp_path / "crops", grey=True))
    np.testing.assert_allclose(answer.weights, expected.weights[0], atol=1e-5)
    np.testing.assert_allclose(answer.logits, expected.logits[0], atol=1e-4)


def test_a_checkpoint_may_be_a_runs_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither best\.pth nor last\.pth"):
        find_checkpoint(tmp_path)
    for name in ("last.pth", "best.pth"):
        (tmp_path / name).touch()
        assert find_checkpoint(tmp_path) == tmp_path / name
    assert find_checkpoint(tmp_path / "best.pth") == tmp_path / "best.pth"
