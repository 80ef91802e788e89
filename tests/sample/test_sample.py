"""The generated sample: reproducible, complete, with the right intensities."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from Code.common.commandline import run_script
from Code.common.names import AFEW_LABELS
from Code.data.clips import DataError
from Code.data.intensity import read_intensity
from Code.sample import VERSION, draw_sample
from Code.sample.__main__ import main
from Code.sample.clip import DISTRACTORS, SampleSpec, draw_clip, plan_clip
from Code.sample.person import Person
from tests.trees import read_afew

PROJECT = Path(__file__).parents[2]
SMALL = SampleSpec(num_train_clips=7, num_val_clips=7, frames=(4, 6), size=32)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_sample(tmp_path_factory.mktemp("data") / "Sample", seed=3, spec=SMALL)


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# Reproducible


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere Pillow may round a pixel apart")
def test_pixels_are_what_they_were() -> None:
    """Drawn, written as JPEG and decoded: the same pixels as when this number was recorded, in two clips of each class.

    There is no tolerance: everything before Pillow is exact, and Pillow's arithmetic is the same on all x86-64
    machines. If pixels change on purpose, increase `VERSION`, so that old samples are drawn again.
    """
    digest, kinds = hashlib.sha256(), {""}
    for clip in range(14):
        for picture, truth in draw_clip(AFEW_LABELS[clip % 7], 0, clip % 2, clip, SampleSpec()):
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=92)
            digest.update(np.asarray(Image.open(buffer)).tobytes())
            kinds.add(truth.distractor)
    assert kinds == {"", *DISTRACTORS}
    assert (VERSION, digest.hexdigest()) == (1, "307f473f882f7f3582901e2901aacda6c984af3dba6b9b6e8c87c511c3cf6758")


def test_no_person_is_in_both_splits_or_in_two_clips_or_seeds() -> None:
    numbers = [(0, split, clip) for split, clips in enumerate((420, 140)) for clip in range(clips)] + [(1, 0, 0)]
    assert len({str(vars(Person(np.random.default_rng(each)))) for each in numbers}) == len(numbers)
    first, other = (next(draw_clip("Fear", seed, 0, 3, SMALL))[0] for seed in (1, 2))
    assert np.abs(np.asarray(first, int) - np.asarray(other)).mean() > 10


def test_number_of_workers_does_not_matter(sample: Path, tmp_path: Path) -> None:
    assert _files(draw_sample(tmp_path / "Sample", seed=3, workers=2, spec=SMALL)) == _files(sample)


# Files


def test_reads_as_afew(sample: Path) -> None:
    for split, list_file in (("Train", "list_train.txt"), ("Val", "list_eval.txt")):
        listed, scanned = read_afew(str(sample / split), str(sample / list_file)), read_afew(str(sample / split))
        assert sorted(clip.name for clip in listed.clips) == sorted(clip.name for clip in scanned.clips)
        assert sorted(clip.label for clip in listed.clips) == list(range(7))  # balanced
        for path in (path for clip in listed.clips for path in clip.paths):
            with Image.open(path) as picture:
                assert (picture.size, picture.mode, picture.format) == ((32, 32), "RGB", "JPEG")


def test_intensity_tells_of_every_frame(sample: Path) -> None:
    truth = read_intensity(sample / "intensity.csv")
    clips = [(split, clip) for split in ("Train", "Val") for clip in read_afew(str(sample / split)).clips]
    assert set(truth) == {(split, clip.name, frame) for split, clip in clips for frame in clip.frames}
    for (_, clip, _), (intensity, distractor) in truth.items():
        assert 0 <= intensity <= 1
        assert distractor in ("", *DISTRACTORS)
        if distractor:
            assert intensity == 0
        elif clip.startswith("Neutral/"):
            assert intensity == 1


# Drawn once, and again if necessary


def _draw(root: Path, seed: int = 0) -> Path:
    return draw_sample(root, seed=seed, spec=SampleSpec(num_train_clips=2, num_val_clips=1, frames=(4, 4), size=32))


def test_a_second_call_reuses_what_is_there(tmp_path: Path) -> None:
    root = _draw(tmp_path / "Sample")
    before = root.stat().st_ino, (root / "sample.json").stat().st_mtime_ns
    _draw(root)
    assert (root.stat().st_ino, (root / "sample.json").stat().st_mtime_ns) == before
    assert [path.name for path in tmp_path.iterdir()] == ["Sample"]  # no temporary folder is left


def test_another_seed_replaces_the_sample(tmp_path: Path) -> None:
    root = _draw(tmp_path / "Sample", seed=0)
    first = _files(root)
    second = _files(_draw(root, seed=1))
    assert first["Train/Happy/000000/001.jpg"] != second["Train/Happy/000000/001.jpg"]
    assert _files(_draw(tmp_path / "Fresh", seed=1)) == second  # nothing of the old sample is left


@pytest.mark.parametrize("kind", ["alone", "with a readme", "in a sample"])
def test_data_that_is_not_the_sample_is_never_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "in a sample":
        _draw(tmp_path, seed=1)
    if kind == "with a readme":
        (tmp_path / "README.txt").write_text("My clips")
    own = tmp_path / ("letter.txt" if kind == "in a sample" else "Train/Happy/000000/001.jpg")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_bytes(b"mine")
    with pytest.raises(DataError, match="not a generated sample"):
        _draw(tmp_path)
    assert run_script(lambda: main(["--output", str(tmp_path)])) == 2
    assert "not a generated sample" in capsys.readouterr().err and own.read_bytes() == b"mine"


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "Sample"
    flags = ["--seed", "4", "--train-clips", "1", "--val-clips", "1", "--size", "32", "--workers", "1"]
    assert main(["--output", str(root), *flags]) == 0
    assert str(root) in capsys.readouterr().out
    assert (root / "Val" / "Happy" / "100000" / "001.jpg").is_file()
    with pytest.raises(SystemExit) as stop:
        main(["--seed", "-1"])
    assert stop.value.code == 2


# Clips


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), expression=st.sampled_from(AFEW_LABELS))
def test_course_of_a_clip(seed: int, expression: str) -> None:
    spec = SampleSpec()
    shown, kinds = plan_clip(expression, spec, np.random.default_rng(seed))
    count = len(shown)
    assert len(kinds) == count
    assert spec.frames[0] <= count <= spec.frames[1]
    assert spec.distractors[0] * count - 1 <= sum(map(bool, kinds)) <= spec.distractors[1] * count + 1
    if expression == "Neutral":
        assert set(shown) == {1.0}
        assert "neutral" not in kinds
        return
    peak = int(np.argmax(shown))
    assert all(np.diff(shown[: peak + 1]) >= 0)  # rises
    assert all(np.diff(shown[peak:]) <= 0)  # and falls
    assert max(level for level, kind in zip(shown, kinds, strict=True) if not kind) == max(shown) > 0.3


def _start_drawing(root: Path, *words: str) -> subprocess.Popen[str]:
    """A process that draws, once its first pictures are there."""
    command = [sys.executable, "-m", "Code.sample", "--output", str(root), "--workers", "2", *words]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # the tests may run with it ignored
    )
    deadline = time.monotonic() + 60
    while not list(root.parent.glob(f".{root.name}.*.tmp/Train/*/*/*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_a_second_process_waits_for_the_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few = ("--train-clips", "40", "--val-clips", "7", "--size", "32")
    process = _start_drawing(tmp_path / "Sample", *few)
    draw_sample(tmp_path / "Sample", spec=SampleSpec(num_train_clips=40, num_val_clips=7, size=32))
    assert capfd.readouterr().out == f"another process draws {tmp_path / 'Sample'}; waiting for it\n"
    assert process.communicate()[1].count("Traceback") == 0 and process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["Sample"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_all_processes_end_the_drawing_without_a_traceback(tmp_path: Path, number: int) -> None:
    process = _start_drawing(tmp_path / "Sample")
    os.killpg(process.pid, number)
    _, err = process.communicate()
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert process.returncode == 130 and err.endswith("stopped; what was saved is kept\n")
        assert list(tmp_path.iterdir()) == []
