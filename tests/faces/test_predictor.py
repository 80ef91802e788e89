"""As a library: what it takes, the network's answer, one person and all, windows of time, the default checkpoint."""

from __future__ import annotations

import copy
import csv
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import Demo_AFEW_Attention as script
from Code import Predictor
from Code.common.device import Compute
from Code.data.clips import DataError
from Code.faces.align import FER2013_EYES, PAPER_EYES, Eyes, align_face
from Code.faces.prediction import FRAME_COLUMNS, columns, crops_of, windows
from tests.faces.conftest import AFEW, Draw, Networks, Write
from tests.runs import save_run

FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
SIZE = 40


def as_clip(folder: Path, mode: str) -> torch.Tensor:
    """A folder's frames as the main script reads them, in color (RGB) or gray (L): float [1, T, 3, S, S]."""
    pictures = [Image.open(path).convert(mode).resize((SIZE, SIZE), 2) for path in sorted(folder.iterdir())]
    frames = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255


def test_frame_classifier_answers_as_score_fusion_of_grey_frames(checkpoints: Networks, crops: Path) -> None:
    path, classifier = checkpoints["classifier"]
    answer = Predictor(path, "cpu", precision="fp32")(crops, aligned=True)
    with torch.inference_mode():
        frames = as_clip(crops, "L")
        scores = torch.cat([classifier(frames[:, index : index + 1]).logits for index in range(5)])
    expected = scores.mean(dim=0).softmax(dim=0)
    assert max(expected) > 0.2
    np.testing.assert_allclose([answer.probabilities[name] for name in FERPLUS], expected, atol=1e-4)
    assert answer.expression == FERPLUS[int(expected.argmax())]
    assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
    np.testing.assert_allclose(np.stack([answer.weights, answer.alpha]), 0.2)
    assert answer.num_frames == 5 and np.isnan(answer.times).all() and answer.boxes.shape == (5, 4)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, scene_of: Draw) -> Path:
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
    kind: str, eyes: Eyes, other: Eyes, checkpoints: Networks, scene: Path, tmp_path: Path
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
    (tmp_path / "crops").mkdir()
    for number, crop in enumerate(crops):
        Image.fromarray(crop).save(tmp_path / "crops" / f"{number}.png")
    same = predictor(tmp_path / "crops", aligned=True)
    assert answer.probabilities == pytest.approx(same.probabilities, abs=1e-5)


def test_everybody_gets_an_answer_of_their_own(checkpoints: Networks, scene: Path) -> None:
    predictor = Predictor(checkpoints["fan"][0], "cpu", people="all")
    first, second = predictor(scene)
    assert [(each.person, each.num_people) for each in (first, second)] == [(1, 2), (2, 2)]
    assert first.track != second.track
    assert second.frames == ("5.png", "6.png", "7.png")
    np.testing.assert_allclose((second.box[:2] + second.box[2:]) / 2, [240, 110], atol=25)
    main = predictor(scene, people="main")
    assert main.person == 1 and main.num_people == 2
    assert main.probabilities == pytest.approx(first.probabilities, abs=1e-6)
    with torch.inference_mode():
        features = torch.from_numpy(second.features)
        expected = checkpoints["fan"][1].attend(features[None]).logits[0].softmax(dim=0)
    np.testing.assert_allclose([second.probabilities[name] for name in AFEW], expected, atol=1e-5)
    together = crops_of([first, second], [[0, 6], [2]])
    np.testing.assert_array_equal(together[0], first.crops([0, 6]))
    np.testing.assert_array_equal(together[1], second.crops([2]))


def test_frames_in_memory_are_answered_as_files_are(checkpoints: Networks, scene: Path, crops: Path) -> None:
    predictor = Predictor(checkpoints["fan"][0], "cpu")
    frames = np.stack([np.asarray(Image.open(scene / f"{number}.png").convert("RGB")) for number in range(8)])
    of_files = predictor(scene)
    for given in (frames, frames / 255.0, (frames / 255.0).astype(np.float32)):
        answer = predictor(given)
        assert answer.probabilities == pytest.approx(of_files.probabilities, abs=1e-6)
        np.testing.assert_array_equal(answer.crops([3]), of_files.crops([3]))
    assert predictor(frames[0]).num_frames == 1
    picture = Image.open(crops / "0.png")
    assert [each.path for each in predictor([crops, np.asarray(picture), picture], aligned=True)] == [
        *(str(crops), "array", "array")
    ]


def test_an_open_picture_is_answered_as_its_file_is(checkpoints: Networks, crops: Path, tmp_path: Path) -> None:
    picture, on_its_side = Image.open(crops / "0.png"), Image.Exif()
    on_its_side[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.jpg", exif=on_its_side)
    gray = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(gray).save(tmp_path / "16bit.png")
    predictor = Predictor(checkpoints["fan"][0], "cpu", image_size=50)
    for name in ("phone.jpg", "16bit.png"):
        of_file, of_picture = predictor([tmp_path / name, Image.open(tmp_path / name)], aligned=True)
        np.testing.assert_array_equal(of_picture.crops(), of_file.crops())
        assert of_picture.probabilities == pytest.approx(of_file.probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((4, 4, 3), 255.0), r"values from 255 to 255; expected uint8, or float in \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), r"or float in \[0, 1\]"),
        (np.zeros((4, 4, 3), dtype=np.int64), "an array of int64"),
        (np.zeros((4, 4), dtype=np.uint8), r"shape \[4, 4\]; expected \[H, W, 3\] or \[T, H, W, 3\]"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array: np.ndarray, says: str, checkpoints: Networks) -> None:
    with pytest.raises(DataError, match=says):
        Predictor(checkpoints["fan"][0], "cpu")(array, aligned=True)


def test_lists_and_folders_answer_each_clip(
    checkpoints: Networks, crops: Path, write_video: Write, tmp_path: Path
) -> None:
    pictures = [Image.open(crops / f"{number}.png").resize((48, 48)) for number in range(3)]
    for name in ("b/2.mp4", "b/1.mp4", "a.mkv"):
        write_video(tmp_path / "videos" / name, pictures)
    (tmp_path / "videos" / "about.txt").write_text("no video")
    predictor = Predictor(checkpoints["fan"][0].parent, "cpu")  # a run's folder: its best.pth
    with pytest.warns(UserWarning, match=r"skipped files .*: 1 \.txt"):
        answers = predictor(tmp_path / "videos", aligned=True)
    names = [Path(each.path).relative_to(tmp_path / "videos").as_posix() for each in answers]
    assert names == ["a.mkv", "b/1.mp4", "b/2.mp4"]
    assert predictor(sorted((tmp_path / "videos" / "b").glob("*.mp4")), aligned=True)[1].path == answers[2].path
    for given, says in (([crops, "nowhere"], "nowhere"), ("", "an empty path"), (b"0", "bytes: expected a path")):
        with pytest.raises((DataError, TypeError), match=says):
            predictor(given, aligned=True)
    with pytest.warns(UserWarning, match=r"nowhere: no such file"):
        (only,) = predictor([tmp_path / "nowhere", crops], aligned=True, errors="warn")
    assert only.path == str(crops)


def test_an_answers_frames_are_a_table(checkpoints: Networks, scene: Path) -> None:
    pytest.importorskip("pandas", reason="a table needs pandas")
    answer = Predictor(checkpoints["fan"][0], "cpu")(scene)
    table = answer.to_frame()
    assert list(table.columns) == columns(FRAME_COLUMNS, AFEW)
    assert list(table["frame"]) == list(answer.frames) and set(table["person"]) == {1} and table["time"].isna().all()
    np.testing.assert_array_equal(table[["left", "top", "right", "bottom"]], answer.boxes)
    np.testing.assert_allclose(table["weight"], answer.weights)
    with torch.inference_mode():  # a frame by itself is a clip of one frame
        alone = checkpoints["fan"][1].attend(torch.from_numpy(answer.features[4])[None, None]).logits[0].softmax(dim=0)
    np.testing.assert_allclose(table.loc[4, list(AFEW)].astype(float), alone, atol=1e-5)


def test_torch_hub_loads_a_network_and_a_predictor(checkpoints: Networks, crops: Path) -> None:
    known = {"repo_or_dir": str(Path(__file__).parents[2]), "source": "local", "checkpoint": str(checkpoints["fan"][0])}
    fan = torch.hub.load(model="fan", **known)
    assert fan.info["labels"] == AFEW and not fan.training
    assert torch.equal(fan.head.pred_fc2.weight, checkpoints["fan"][1].head.pred_fc2.weight)
    predictor = torch.hub.load(model="predictor", device="cpu", **known)
    assert predictor(crops, aligned=True).labels == AFEW


def test_windows_answer_as_the_network_does_on_their_frames(
    checkpoints: Networks, write_video: Write, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (25, 4, 4, 3), dtype=np.uint8)
    clip = write_video(tmp_path / "c.mkv", [Image.fromarray(n).resize((48, 48)) for n in noise], codec="ffv1")
    answer = Predictor(checkpoints["fan"][0], "cpu")(clip, aligned=True, window=1.0, stride=0.8)
    curve = answer.curve
    assert curve is not None
    np.testing.assert_allclose(curve.starts, [0, 0.8, 1.6])
    np.testing.assert_array_equal(curve.num_faces, [10, 10, 9])
    with torch.inference_mode():
        part = torch.from_numpy(answer.features[8:18])[None]
        expected = checkpoints["fan"][1].attend(part).logits[0].softmax(dim=0)
    np.testing.assert_allclose(curve.probabilities[1], expected, atol=1e-5)
    assert curve.expressions[1] == AFEW[int(expected.argmax())] and curve.at(0.0) == 0 and curve.at(9.0) == 2


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


@pytest.mark.parametrize(("dataset", "suffix"), [("composed", ".png"), ("list", ".jpg")])  # gray, and in color
def test_an_evaluation_gives_the_same_answer(
    call: Any, crops: Path, checkpoints: Networks, tmp_path: Path, dataset: str, suffix: str
) -> None:
    clip = tmp_path / "val" / "Sad" / "clip"
    clip.mkdir(parents=True)
    for path in crops.iterdir():
        Image.open(path).resize((224, 224)).save(clip / f"{path.stem}{suffix}")
    save_run(tmp_path / "fan.pth", checkpoints["fan"][1], AFEW, image_size=SIZE, dataset=dataset)
    flags = ("--dataset", "folders", "--val-root", tmp_path / "val", "--checkpoint", tmp_path / "fan.pth")
    outcome = call(script, "-e", *flags, "--device", "cpu", "--precision", "fp32", "--workers", 0, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert ("frames are read in gray" in outcome.out) == (dataset == "composed")
    with next((tmp_path / "model").glob("*/predictions.csv")).open() as file:
        (row,) = csv.DictReader(file)
    answer = Predictor(tmp_path / "fan.pth", "cpu", precision="fp32")(clip, aligned=True)
    assert row["prediction"] == answer.expression
    assert [float(row[label]) for label in AFEW] == pytest.approx(
        [answer.probabilities[name] for name in AFEW], abs=1e-5
    )


@pytest.mark.parametrize(("kind", "precision"), [("classifier", "fp32"), ("fan", "bf16")])  # gray, and in color
def test_features_are_those_of_evaluation_to_the_last_bit(precision: str, kind: str, checkpoints: Networks) -> None:
    """However the weights are kept: in bf16 they are converted once."""
    path, fan = checkpoints[kind]
    crops = np.random.default_rng(0).integers(0, 256, (3, 70, 70, 3), dtype=np.uint8)
    pictures = [Image.fromarray(crop) for crop in crops]
    if kind == "classifier":
        pictures = [picture.convert("L").convert("RGB") for picture in pictures]
    resized = np.stack([np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for picture in pictures])
    images = torch.from_numpy(resized).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode(), Compute(torch.device("cpu"), precision).autocast():
        expected = fan.encode(images).float()
    assert torch.equal(Predictor(path, "cpu", precision=precision).encode(list(crops)), expected)


def test_a_predictor_is_pickled_and_copied_also_after_use(checkpoints: Networks, scene: Path) -> None:
    predictor = Predictor(checkpoints["fan"][0], "cpu", prior={"sad": 0.5})
    before = predictor(scene).probabilities
    for other in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):
        assert other(scene).probabilities == before


FORKED = """
import multiprocessing, sys, torch
from Code import Predictor

def answer(path):
    return predictor(path).expression

torch.set_num_threads(2)  # a forked process waits for the threads that its parent has used
predictor = Predictor(sys.argv[1], "cpu")
before = answer(sys.argv[2])
with multiprocessing.get_context("fork").Pool(1) as pool:
    assert pool.map_async(answer, sys.argv[2:]).get(60) == [before]
"""


def test_a_forked_process_answers(checkpoints: Networks, scene: Path) -> None:
    project = Path(__file__).parents[2]
    command = [sys.executable, "-c", FORKED, str(checkpoints["fan"][0]), str(scene)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_torchs_default_dtype_changes_no_answer(checkpoints: Networks, crops: Path) -> None:
    expected = Predictor(checkpoints["fan"][0], "cpu", precision="fp32", prior={"sad": 0.5})(crops, aligned=True)
    torch.set_default_dtype(torch.float64)
    try:
        answer = Predictor(checkpoints["fan"][0], "cpu", precision="fp32", prior={"sad": 0.5})(crops, aligned=True)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(answer.logits, expected.logits, atol=1e-6)
    assert answer.features.dtype == np.float32
