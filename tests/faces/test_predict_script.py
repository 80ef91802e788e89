"""Predict_Video.py: what it prints and writes, and its errors."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import Predict_Video
from Code.network.fan import FAN

AFEW = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")


def test_script_prints_and_writes_every_answer(
    checkpoints: dict[str, tuple[Path, FAN]],
    crops: Path,
    tmp_path: Path,
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, _ = checkpoints["fan"]
    single = crops / "3.png"
    table, records = tmp_path / "answers.csv", tmp_path / "answers.json"
    flags = ("--aligned", "--checkpoint", path, "--csv", table, "--json", records)
    assert predict(crops, single, *flags) == 0
    out, err = capsys.readouterr()
    assert str(path) in out
    assert "(AFEW)" in out
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
    write_video: Callable[..., Path],
    tmp_path: Path,
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_video(tmp_path / "clip.mp4", [Image.new("RGB", (64, 48), (level, 90, 90)) for level in range(0, 250, 50)])
    assert predict(tmp_path / "clip.mp4", "--aligned", "--checkpoint", checkpoints["fan"][0]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "most weighted" in line)
    assert line.count(" s (") == 3


def test_wrong_inputs_are_named_in_a_line_each_and_the_others_go_on(
    checkpoints: dict[str, tuple[Path, FAN]],
    crops: Path,
    tmp_path: Path,
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    wrong = [tmp_path / name for name in ("missing.mp4", "empty", "texts", "broken.jpg")]
    flags = ("--aligned", "--checkpoint", checkpoints["classifier"][0])
    assert predict(*wrong, crops, *flags) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == len(wrong)
    for line, path in zip(lines, wrong, strict=True):
        assert line.startswith(f"error: {path}")
    assert f"{crops}: " in out


def test_a_broken_video_is_named(
    checkpoints: dict[str, tuple[Path, FAN]],
    write_video: Callable[..., Path],
    tmp_path: Path,
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_video(tmp_path / "whole.mp4", [Image.new("RGB", (64, 48), (level, 90, 90)) for level in range(0, 250, 50)])
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])
    flags = ("--aligned", "--checkpoint", checkpoints["classifier"][0])
    assert predict(tmp_path / "half.mp4", *flags) == 2
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
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert predict(crops, "--aligned", *flags) == 2
    assert says in capsys.readouterr().err


def test_without_the_extras_aligned_frames_still_work_and_the_rest_says_what_to_install(
    checkpoints: dict[str, tuple[Path, FAN]], crops: Path, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(bytes(100))  # an empty file is told without PyAV
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
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    picture = tmp_path / "grey.png"
    Image.fromarray(np.full(shape, 128, dtype=np.uint8)).save(picture)
    assert predict(picture, "--checkpoint", checkpoints["classifier"][0]) == 1
    out, err = capsys.readouterr()
    assert err == f"{picture}: no face in 1 frame\n"
    assert "neutral" in out  # which network, and its labels, are said all the same


@pytest.fixture
def clip(write_video: Callable[..., Path], scene_of: Callable[..., Image.Image], tmp_path: Path) -> Path:
    """Twenty frames at 10 per second: one person, who walks out of the picture after frame 14."""
    pictures = [scene_of(*([(0, 20 + n, 15, 112)] if n < 15 else [])) for n in range(20)]
    return write_video(tmp_path / "clip.mp4", pictures)


def test_a_video_becomes_an_answer_a_figure_a_curve_and_a_video(
    clip: Path,
    checkpoints: dict[str, tuple[Path, FAN]],
    predict: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    av = pytest.importorskip("av")
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    drawn = tmp_path / "answer.mp4"
    flags = ("--window", 1, "--stride", 0.5, "--annotate", drawn, "--json", tmp_path / "a.json")
    assert predict(clip, *flags, "--checkpoint", checkpoints["fan"][0]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "(20 frames, 15 with a face)" in out
    record = json.loads((tmp_path / "a.json").read_text())[0]
    assert record["frames"] == [f"{number:07d}" for number in range(15)]
    heaviest = sorted(range(15), key=lambda index: -record["weights"][index])[:3]
    shown = ", ".join(f"{record['times'][index]:.2f} s ({record['weights'][index]:.4f})" for index in heaviest)
    assert f"most weighted: {shown}" in out

    with Image.open(tmp_path / "predictions" / "clip.png") as figure:
        assert figure.width > 900
    with Image.open(tmp_path / "predictions" / "clip_curve.png") as curve:
        assert curve.width > 900
    rows = list(csv.DictReader((tmp_path / "predictions" / "clip_curve.csv").open(encoding="utf-8")))
    assert [(row["start"], row["end"]) for row in rows] == [("0.000", "1.000"), ("0.500", "1.500"), ("1.000", "2.000")]
    assert [int(row["faces"]) for row in rows] == [10, 10, 5]
    for row in rows:
        assert row["expression"] == max(AFEW, key=lambda name: float(row[name]))
        assert sum(float(row[name]) for name in AFEW) == pytest.approx(1, abs=1e-4)

    with av.open(str(drawn)) as container:
        pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(pictures) == 20
    assert not list(tmp_path.glob("*.partial*"))

    def orange(picture: np.ndarray) -> int:
        """Pixels in the colour of the box and the bar."""
        return int(((picture[..., 0] > 180) & (picture[..., 2] < 90) & (picture[..., 1] > 80)).sum())

    box, nobody = orange(pictures[5]), orange(pictures[18])
    assert box > 200
    assert nobody < box / 5
    assert pictures[5][:8, :8].mean() < 60  # the running expression's dark field


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "name a video"),
        (("a.mp4", "--camera", "0"), "not both"),
        (("a.mp4", "--stride", "1"), "--stride needs --window"),
        (("a.mp4", "b.mp4", "--annotate", "c.mp4"), "--annotate writes one video"),
        (("--camera", "0", "--csv", "c.csv"), "--camera goes with"),
        (("a.mp4", "--window", "0"), "--window"),
    ],
)
def test_flags_that_do_not_go_together_are_named(
    flags: tuple[str, ...], says: str, predict: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(*flags) == 2
    assert says in capsys.readouterr().err


def test_a_stream_is_answered_live_and_a_missing_camera_is_named(
    clip: Path,
    checkpoints: dict[str, tuple[Path, FAN]],
    predict: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file stands for the camera: the same code reads both, except that no frame of a file is dropped."""
    av = pytest.importorskip("av")
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    flags = ("--checkpoint", checkpoints["fan"][0])
    assert predict("--camera", clip, "--annotate", tmp_path / "live.mp4", "--window", 0.4, *flags) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "frames/s" in line]
    assert len(lines) == 2
    assert any(name in lines[0] for name in AFEW)
    with av.open(str(tmp_path / "live.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20
    assert predict("--camera", "97", *flags) == 2
    assert "--camera 97" in capsys.readouterr().err
