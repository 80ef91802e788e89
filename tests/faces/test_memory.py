"""Memory stays bounded however long a video is: peak resident memory of the scripts and their worker processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from Code.network.fan import FAN

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1.5 * 2**30
HOUR = 90_000  # frames, at 25 a second

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory of other processes is read from /proc"),
]


def resident(process: int) -> int:
    """Bytes of a process and all that it started; 0 if it is gone."""
    try:
        own = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if "VmRSS" in line)
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (OSError, StopIteration):
        return 0
    return 1024 * int(own.split()[1]) + sum(resident(int(child)) for child in children)


def peak_memory(*command: Any) -> int:
    """Runs a script of the project, which must succeed, and watches its memory, bytes."""
    with subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as script:
        peak = 0
        while script.poll() is None:
            peak = max(peak, resident(script.pid))
            time.sleep(0.05)
        assert script.stdout is not None
        said = script.stdout.read()
    assert script.returncode == 0, said
    return peak


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, scene_of: Callable[..., Image.Image]) -> Callable[[int], Path]:
    """Writes a video of so many frames: a drawn person of 96 pixels who sways, 160 x 120, 25 frames a second."""
    av = pytest.importorskip("av", reason="videos need PyAV")
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    pictures = [np.asarray(scene_of((0, 20 + n, 10, 96), size=(160, 120))) for n in range(25)]
    pictures += pictures[::-1]

    def write(frames: int) -> Path:
        path = tmp_path_factory.mktemp("film") / f"{frames}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            planes = [av.VideoFrame.from_ndarray(p, format="rgb24").reformat(format="yuv420p") for p in pictures]
            for number in range(frames):
                frame = planes[number % len(planes)]
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


def commands(video: Path, folder: Path, checkpoint: Path) -> Iterator[tuple[str, list[Any]]]:
    """Faces of a video, and its answer over time with everything that can be written."""
    yield "prepare", ["Prepare_Faces.py", video, folder / "faces", "--device", "cpu"]
    written = ("--output", folder / "predictions", "--json", folder / "a.json", "--csv", folder / "a.csv")
    windows = ("--window", 4, "--stride", 1)
    yield "predict", ["Predict_Video.py", video, "--checkpoint", checkpoint, "--device", "cpu", *windows, *written]


@pytest.mark.timeout(900)
def test_an_hour_of_video_stays_below_a_gibibyte_and_a_half(
    film: Callable[[int], Path], checkpoints: dict[str, tuple[Path, FAN]], tmp_path: Path
) -> None:
    """All of its frames are decoded, twice, one in 25 is looked at."""
    video = film(HOUR)
    for name, command in commands(video, tmp_path, checkpoints["fan"][0]):
        assert peak_memory(*command, "--fps", 1) < LIMIT, name
    assert len(list((tmp_path / "faces" / str(HOUR)).iterdir())) == HOUR // 25
    assert len((tmp_path / "predictions" / f"{HOUR}_curve.csv").read_text().splitlines()) > 3590


@pytest.mark.timeout(900)
def test_an_hour_of_faces_would_stay_below_a_gibibyte_and_a_half(
    film: Callable[[int], Path], checkpoints: dict[str, tuple[Path, FAN]], tmp_path: Path
) -> None:
    """A face in each frame: what 17 500 frames more take, carried on to an hour."""
    less_frames, more_frames = 2_500, 20_000
    short, long = film(less_frames), film(more_frames)
    peaks: dict[str, list[int]] = {}
    for video in (short, long):
        for name, command in commands(video, tmp_path / video.stem, checkpoints["fan"][0]):
            (tmp_path / video.stem).mkdir(exist_ok=True)
            peaks.setdefault(name, []).append(peak_memory(*command))
    for name, (less, more) in peaks.items():
        growth = (more - less) / (more_frames - less_frames)
        hour = more + max(growth, 0) * (HOUR - more_frames)
        assert hour < LIMIT, name
