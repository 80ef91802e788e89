"""Face crops that Prepare_Faces.py wrote keep the seconds of their video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from Code import Predictor
from Code.faces import render
from Code.faces.extract import crop_times
from Code.faces.figures import attention_picture
from Code.faces.prediction import Prediction
from Code.results.figures import choose_frames
from tests.faces.conftest import Call, Draw, Networks, Write


def test_prepared_crops_have_seconds_in_figures_and_windows(
    checkpoints: Networks,
    write_video: Write,
    scene_of: Draw,
    prepare: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    scenes = [scene_of()] * 2 + [scene_of((2, 30, 12, 120))] * 4  # no face at 0 and 0.1 s
    write_video(tmp_path / "videos" / "Sad" / "late.mp4", scenes)
    assert prepare(tmp_path / "videos", tmp_path / "faces") == 0
    predictor = Predictor(checkpoints["fan"][0], "cpu")
    (answer,) = predictor.answer(tmp_path / "faces" / "Sad" / "late", aligned=True, window=0.2)
    np.testing.assert_allclose(answer.times, [0.2, 0.3, 0.4, 0.5], atol=1e-4)
    assert answer.curve is not None and answer.curve.starts[0] <= 0.2
    shown = choose_frames(answer.weights)
    labels = [text.get_text() for axes in attention_picture(answer, shown, answer.crops(shown)).axes
              for text in axes.get_xticklabels()]  # fmt: skip
    assert [label.split("\n")[0] for label in labels if label][:4] == ["0.20", "0.30", "0.40", "0.50"]
    monkeypatch.chdir(tmp_path / "faces" / "Sad")
    assert Predictor(checkpoints["fan"][0], "cpu")("late", aligned=True).has_times  # a relative path, too


def test_a_video_of_prepared_crops_plays_as_it_was_filmed(
    checkpoints: Networks, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    av = pytest.importorskip("av", reason="videos need PyAV")
    seconds = [10.0, 10.5, 11.0, 12.0, 12.5]
    lines = [f"crops,{number},{time}" for number, time in enumerate(seconds)]
    (tmp_path / "faces.csv").write_text("\n".join(["clip,frame,time", *lines]))
    (answer,) = Predictor(checkpoints["fan"][0], "cpu").answer(crops, aligned=True, window=1)
    drawn: list[float] = []
    monkeypatch.setattr(Prediction, "text_at", lambda _, time: drawn.append(time) or "Sad 50 %")
    render.annotate([answer], tmp_path / "answer.mp4")
    assert drawn == seconds  # the windows of the curve are counted as these are
    with av.open(str(tmp_path / "answer.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([0, 0.5, 1, 2, 2.5], abs=0.01)


@pytest.mark.parametrize(
    "content",
    [
        "clip,frame,time\nHappy/a,0,0.0\nHappy/b,1,0.04\n",  # lacks a frame
        "clip,frame,time\nHappy/a,0,0.5\nHappy/a,1,0.25\n",  # does not ascend
        "name,label\nHappy/a,Happy\n",  # a table of something else
    ],
)
def test_a_table_without_the_times_of_all_frames_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "Happy" / "a").mkdir(parents=True)
    (tmp_path / "faces.csv").write_text(content)
    assert crop_times(tmp_path / "Happy" / "a", ["0.jpg", "1.jpg"]) is None
    (tmp_path / "faces.csv").write_text("clip,frame,time\nHappy/a,0,0.0\nHappy/a,1,0.04\n")
    assert crop_times(tmp_path / "Happy" / "a", ["0.jpg", "1.jpg"]) == pytest.approx([0, 0.04])
