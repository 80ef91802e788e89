"""From pictures to an answer: alignment, reading, the main person, Predict_Video.py and its errors.

The people here are those of the generated sample, whom the detector takes for real.
"""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import Predict_Video
from Code.data.clips import DataError
from Code.data.sample_clip import SampleSpec, draw_clip
from Code.data.store import read_image
from Code.faces.align import FACE_SIZE, FER2013_EYES, PAPER_EYES, Eyes, align_face, similarity, template
from Code.faces.detect import Detector, Faces, main_person, overlap
from Code.faces.predict import Predictor, default_checkpoint
from Code.faces.video import BATCH_FRAMES, BATCH_PIXELS, Frame, batches, read_frames
from Code.network.fan import FAN
from Code.network.pretrained import CheckpointError, save_atomically, to_published
from Code.training.setup import run_script

FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
AFEW = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")
SIZE = 40


# ---- alignment


def moved(points: np.ndarray, scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    """Points scaled, turned and shifted, by complex arithmetic."""
    turn = scale * np.exp(1j * np.radians(degrees))
    z = turn * (points[:, 0] + 1j * points[:, 1]) + complex(x, y)
    return np.stack([z.real, z.imag], axis=1)


@pytest.mark.parametrize("eyes", [PAPER_EYES, FER2013_EYES])
def test_template_puts_the_eyes_where_asked(eyes: Eyes) -> None:
    np.testing.assert_allclose(template(eyes)[:2], eyes)
    nose, left_mouth, right_mouth = template(eyes)[2:]
    assert eyes[0][1] < nose[1] < left_mouth[1] == right_mouth[1] < FACE_SIZE
    assert left_mouth[0] < nose[0] < right_mouth[0]


def test_similarity_undoes_a_known_one_and_never_mirrors() -> None:
    source = template()
    matrix = similarity(source, moved(source, 2.5, -70, 30, -12))
    np.testing.assert_allclose(np.linalg.det(matrix[:, :2]), 2.5**2)
    np.testing.assert_allclose(matrix @ [0, 0, 1], [30, -12], atol=1e-9)
    mirrored = similarity(source, source * [-1, 1])
    assert np.linalg.det(mirrored[:, :2]) > 0
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((5, 2)), source)


@pytest.mark.parametrize("eyes", [PAPER_EYES, FER2013_EYES])
@pytest.mark.parametrize(
    ("scale", "degrees"), [(1.0, 0), (0.25, 0), (0.3, 35), (1.7, -20), (4.0, 0), (5.3, 100), (1.3, 180)]
)
def test_drawn_landmarks_land_on_the_template(scale: float, degrees: float, eyes: Eyes) -> None:
    """Faces from a quarter of the crop's size to five times it, upright or not."""
    points = moved(template(eyes) - FACE_SIZE / 2, scale, degrees, 0, 0)
    half = math.ceil(scale * FACE_SIZE * 0.75) + 7
    points += [half + 3.3, half - 5.6]
    image = np.zeros((2 * half, 2 * half + 9), dtype=np.float64)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    spot = max(2.5 * scale, 1.0)
    for px, py in points:
        image += 250 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * spot**2))
    crop = align_face(np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), points, eyes)
    assert crop.shape == (FACE_SIZE, FACE_SIZE, 3)
    assert crop.dtype == np.uint8
    for tx, ty in template(eyes):
        left, top = round(tx) - 14, round(ty) - 14
        window = crop[top : top + 29, left : left + 29, 0].astype(np.float64)
        wy, wx = np.mgrid[top : top + 29, left : left + 29]
        found = np.array([(window * wx).sum(), (window * wy).sum()]) / window.sum()
        assert np.hypot(*(found - [tx, ty])) < 0.5


def test_what_lies_outside_the_picture_is_black_and_the_inside_is_kept() -> None:
    white = np.full((300, 300, 3), 255, dtype=np.uint8)
    shifted = align_face(white, template() - np.array([112, 0]))  # the left half of the face is off the picture
    assert not shifted[:, :110].any()
    assert (shifted[:, 114:] == 255).all()
    assert not align_face(white, template() + np.array([5000, 0])).any()


def test_a_large_face_is_shrunk_without_aliasing() -> None:
    """Stripes finer than the crop's pixels become grey, not a pattern."""
    stripes = np.zeros((1200, 1200, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    crop = align_face(stripes, template() * 5.02)
    inside = crop[20:200, 20:200].astype(int)
    assert abs(inside.mean() - 127.5) < 2
    assert np.ptp(inside) < 12


# ---- the main person


def faces(*boxes: tuple[float, float, float, float]) -> Faces:
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return Faces(array, np.zeros((len(array), 5, 2)), np.ones(len(array)))


def test_main_person_is_followed_although_a_larger_one_appears() -> None:
    small, large = (10, 10, 50, 50), (100, 100, 300, 300)
    assert main_person(faces(small, large), None) == 1
    assert main_person(faces(small, large), np.array([14.0, 8, 52, 49])) == 0
    assert main_person(faces(small, large), np.array([60.0, 60, 99, 99])) == 1
    assert main_person(faces((12, 12, 40, 40), small, large), np.array(small, dtype=float)) == 1
    assert main_person(faces(), np.array(small, dtype=float)) is None


def test_overlap_is_intersection_over_union() -> None:
    boxes = faces((0, 0, 2, 2), (1, 1, 3, 3), (5, 5, 6, 6), (-1, -1, 3, 3)).boxes
    np.testing.assert_allclose(overlap(boxes, np.array([0.0, 0, 2, 2])), [1, 1 / 7, 0, 4 / 16])


# ---- reading


def test_batches_hold_one_size_and_stay_small() -> None:
    def frames(*shapes: tuple[int, int]) -> Iterator[Frame]:
        for number, shape in enumerate(shapes):
            yield Frame(str(number), math.nan, np.zeros((*shape, 3), dtype=np.uint8))

    sizes = [[frame.image.shape[:2] for frame in batch] for batch in batches(frames((4, 5), (4, 5), (5, 4)))]
    assert sizes == [[(4, 5), (4, 5)], [(5, 4)]]
    assert [len(batch) for batch in batches(frames(*[(2, 2)] * 70))] == [BATCH_FRAMES, BATCH_FRAMES, 6]
    side = math.isqrt(BATCH_PIXELS // 2)
    assert [len(batch) for batch in batches(frames(*[(side, side)] * 5))] == [2, 2, 1]
    assert [len(batch) for batch in batches(frames(*[(side * 2, side)] * 2))] == [1, 1]


def test_folder_is_read_in_natural_order_and_pictures_upright(tmp_path: Path) -> None:
    upright = np.zeros((6, 4, 3), dtype=np.uint8)
    upright[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.fromarray(np.rot90(upright)).save(tmp_path / "f10.png", exif=exif)
    Image.fromarray(upright[..., 0]).save(tmp_path / "f9.png")
    Image.fromarray(np.dstack([upright, upright[..., 0]])).save(tmp_path / "f2.png")
    (tmp_path / ".f1.png").write_bytes(b"hidden")
    (tmp_path / "notes.txt").write_text("no picture")
    total, frames = read_frames(tmp_path)
    read = list(frames)
    assert total == 3
    assert [frame.name for frame in read] == ["f2.png", "f9.png", "f10.png"]
    assert all(math.isnan(frame.time) for frame in read)
    for frame in read:
        np.testing.assert_array_equal(frame.image, upright)


def write_video(path: Path, levels: list[int], *, codec: str = "mpeg4", rotation: int = 0) -> None:
    """A video of plain frames, 64 x 48, 10 per second, whose top left corner is white."""
    av = pytest.importorskip("av", reason="videos need PyAV")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 2_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        for level in levels:
            image = np.full((48, 64, 3), level, dtype=np.uint8)
            image[:16, :16] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv"])
def test_video_frames_come_in_order_with_their_times(tmp_path: Path, name: str) -> None:
    levels = [0, 40, 80, 120, 160, 200]
    write_video(tmp_path / name, levels)
    total, frames = read_frames(tmp_path / name)
    read = list(frames)
    assert total in (None, len(levels))
    assert [frame.name for frame in read] == [f"{number:07d}" for number in range(6)]
    np.testing.assert_allclose([frame.time for frame in read], np.arange(6) / 10, atol=1e-3)
    for frame, level in zip(read, levels, strict=True):
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        assert abs(frame.image[20:, 20:].mean() - level) < 6


def test_a_video_that_says_how_it_was_held_comes_upright(tmp_path: Path) -> None:
    write_video(tmp_path / "phone.mp4", [0, 0], rotation=90)
    _, frames = read_frames(tmp_path / "phone.mp4")
    image = next(frames).image
    assert image.shape == (64, 48, 3)
    assert image[-12:, :12].mean() > 200  # top left, turned by a quarter counterclockwise
    assert image[:12, :12].mean() < 50


def test_files_that_are_no_videos_are_named(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    for name, says in (("sound.wav", "no video stream"), ("empty.mp4", "broken"), ("noise.mp4", "broken")):
        with pytest.raises(DataError, match=f"{name}.*{says}") as caught:
            list(read_frames(tmp_path / name)[1])
        assert len(caught.value.problems) == 1


# ---- prediction


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, FAN]]:
    """Random networks: a FER+ frame classifier in the published format, and a run's FAN."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    classifier, fan = FAN(2, 8).eval(), FAN(1, 7).eval()
    classifier.pred_fc1.weight.data *= 20  # else all probabilities are nearly equal
    fan.alpha[0].weight.data *= 20
    fan.pred_fc2.weight.data *= 20
    save_atomically({"state_dict": to_published(classifier), "image_size": SIZE}, folder / "ferplus.pth.tar")
    run = {"format": "emotion-fan/1", "state_dict": fan.state_dict(), "at_type": 1, "labels": list(AFEW)}
    save_atomically({**run, "image_size": SIZE, "dataset": "afew", "epoch": 3}, folder / "best.pth")
    return {"classifier": (folder / "ferplus.pth.tar", classifier), "fan": (folder / "best.pth", fan)}


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Five coloured pictures of 50 x 50, smooth so that resizing keeps them apart."""
    folder = tmp_path / "crops"
    folder.mkdir()
    coarse = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    for number, pixels in enumerate(coarse):
        Image.fromarray(pixels).resize((50, 50), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def predict(monkeypatch: pytest.MonkeyPatch, *args: Any) -> int:
    """Runs the script in this process; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["Predict_Video.py", "--device", "cpu", *map(str, args)])
    try:
        return run_script(Predict_Video.main)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


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
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames: a person of the generated sample; nobody; the same person beside a larger one."""
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    spec = SampleSpec(distractors=(0.0, 0.0), noise=(0.0, 0.0))
    first, second = (next(draw_clip("Neutral", 0, 0, clip, spec))[0] for clip in (0, 1))
    frames = [Image.new("RGB", (380, 240), (90, 90, 90)) for _ in range(3)]
    frames[0].paste(first.resize((130, 130)), (10, 50))
    frames[2].paste(first.resize((130, 130)), (16, 53))
    frames[2].paste(second.resize((220, 220)), (155, 10))
    folder = tmp_path_factory.mktemp("scene")
    for number, frame in enumerate(frames):
        frame.save(folder / f"{number}.png")
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
    assert answer.num_frames == 3
    assert answer.frames == ("0.png", "2.png")
    for box, left, top in zip(answer.boxes, (10, 16), (50, 53), strict=True):
        centre = (box[:2] + box[2:]) / 2
        assert np.abs(centre - [left + 65, top + 65]).max() < 25

    detector = Detector()
    pictures = [np.asarray(Image.open(scene / name)) for name in answer.frames]
    found = detector(np.stack(pictures))
    assert [len(faces.boxes) for faces in found] == [1, 2]
    landmarks = [faces.landmarks[overlap(faces.boxes, answer.boxes[0]).argmax()] for faces in found]
    for name, wanted in (("right", eyes), ("wrong", other)):
        (tmp_path / name).mkdir()
        for number, (picture, points) in enumerate(zip(pictures, landmarks, strict=True)):
            crop = align_face(picture, points, wanted)
            again = detector(crop[None])[0].landmarks[0]
            assert np.hypot(*(again[:2] - wanted).T).max() < 12  # a drawn face is not of average shape
            Image.fromarray(crop).save(tmp_path / name / f"{number}.png")
    right, wrong = (predictor(tmp_path / name, aligned=True) for name in ("right", "wrong"))
    assert answer.probabilities == pytest.approx(right.probabilities, abs=1e-5)
    assert answer.probabilities != pytest.approx(wrong.probabilities, abs=1e-3)


def test_script_prints_and_writes_every_answer(
    checkpoints: dict[str, tuple[Path, FAN]],
    crops: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, _ = checkpoints["fan"]
    single = crops / "3.png"
    table, records = tmp_path / "answers.csv", tmp_path / "answers.json"
    flags = ("--aligned", "--checkpoint", path, "--csv", table, "--json", records)
    assert predict(monkeypatch, crops, single, *flags) == 0
    out, err = capsys.readouterr()
    assert str(path) in out
    assert "afew" in out
    assert all(label in out for label in AFEW)
    assert err == ""

    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    written = json.loads(records.read_text(encoding="utf-8"))
    assert [row["input"] for row in rows] == [record["input"] for record in written] == [str(crops), str(single)]
    for row, record in zip(rows, written, strict=True):
        assert row["expression"] == record["expression"] == max(AFEW, key=lambda name: float(row[name]))
        assert f"{record['input']}: {record['expression']}" in out
        assert sum(float(row[name]) for name in AFEW) == pytest.approx(1, abs=1e-5)
        assert sum(record["weights"]) == pytest.approx(1, abs=1e-5)
        assert record["times"] == [None] * record["num_frames"]
    order = np.argsort(-np.array(written[0]["weights"]))[:3]
    expected = ", ".join(f"{written[0]['frames'][i]} ({written[0]['weights'][i]:.4f})" for i in order)
    assert f"most weighted: {expected}" in out


def test_aligned_video_reports_times(
    checkpoints: dict[str, tuple[Path, FAN]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_video(tmp_path / "clip.mp4", [0, 60, 120, 180, 240])
    assert predict(monkeypatch, tmp_path / "clip.mp4", "--aligned", "--checkpoint", checkpoints["fan"][0]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "most weighted" in line)
    assert line.count(" s (") == 3


def test_default_checkpoint_is_the_newest_run_then_a_users_file_then_the_shipped_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--checkpoint"):
        default_checkpoint(tmp_path)
    (tmp_path / "pretrain_model").mkdir()
    wanted = [
        "pretrain_model/Resnet18_FER+_open.pth.tar",
        "pretrain_model/Resnet18_FER+_pytorch.pth.tar",
        "model/2026-01-02_030405_afew_self-attention/best.pth",
        "model/2026-02-01_000000_sample_score-fusion/best.pth",
    ]
    for name in wanted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        assert default_checkpoint(tmp_path) == tmp_path / name


# ---- errors


def test_wrong_inputs_are_named_in_a_line_each_and_the_others_go_on(
    checkpoints: dict[str, tuple[Path, FAN]],
    crops: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    wrong = [tmp_path / name for name in ("missing.mp4", "empty", "texts", "broken.jpg")]
    flags = ("--aligned", "--checkpoint", checkpoints["classifier"][0])
    assert predict(monkeypatch, *wrong, crops, *flags) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == len(wrong)
    for line, path in zip(lines, wrong, strict=True):
        assert line.startswith(f"error: {path}")
    assert f"{crops}: " in out


def test_a_broken_video_is_named(
    checkpoints: dict[str, tuple[Path, FAN]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_video(tmp_path / "whole.mp4", [0, 60, 120])
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])
    flags = ("--aligned", "--checkpoint", checkpoints["classifier"][0])
    assert predict(monkeypatch, tmp_path / "half.mp4", *flags) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'half.mp4'}: no video stream in it; broken")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--checkpoint", "nowhere.pth"), "nowhere.pth"),
        (("--image-size", "0"), "--image-size"),
        (("--device", "abacus"), "--device"),
        (("--json", "no/such/folder/a.json"), "no/such/folder"),
        (("--csv", "."), "is a folder"),
    ],
)
def test_wrong_flags_are_named(
    flags: tuple[str, ...],
    says: str,
    crops: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert predict(monkeypatch, crops, "--aligned", *flags) == 2
    assert says in capsys.readouterr().err


def test_without_the_extras_aligned_frames_still_work_and_the_rest_says_what_to_install(
    checkpoints: dict[str, tuple[Path, FAN]], crops: Path, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").touch()
    script = """
import sys
sys.modules["av"] = sys.modules["facenet_pytorch"] = None  # importing them now raises ImportError
import Predict_Video
from Code.training.setup import run_script
checkpoint, crops, picture, video = sys.argv[1:]
for args in (["--aligned", crops], [picture], [video, "--aligned"]):
    sys.argv = ["Predict_Video.py", "--checkpoint", checkpoint, *args]
    print("status", run_script(Predict_Video.main))
"""
    done = subprocess.run(
        [
            *(sys.executable, "-c", script, str(checkpoints["classifier"][0])),
            *(str(crops), str(crops / "0.png"), str(tmp_path / "clip.mp4")),
        ],
        cwd=Path(Predict_Video.__file__).parent,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("status")] == ["status 0"] + ["status 2"] * 2
    detection, video = done.stderr.splitlines()
    assert "facenet-pytorch" in detection
    assert "PyAV" in video
    assert all("pip install -r requirements-faces.txt" in line for line in (detection, video))


@pytest.mark.parametrize("shape", [(120, 160), (12, 9), (1, 1), (20, 400)])
def test_no_face_is_said_and_is_exit_status_1(
    shape: tuple[int, int],
    checkpoints: dict[str, tuple[Path, FAN]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    picture = tmp_path / "grey.png"
    Image.fromarray(np.full(shape, 128, dtype=np.uint8)).save(picture)
    assert predict(monkeypatch, picture, "--checkpoint", checkpoints["classifier"][0]) == 1
    out, err = capsys.readouterr()
    assert err == f"{picture}: no face in 1 frame\n"
    assert "neutral" in out  # which network, and its labels, are said all the same
