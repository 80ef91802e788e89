"""Memory stays bounded however long a video is: peak resident memory of the scripts and their worker processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faces.conftest import Draw, Networks

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


@pytest.mark.timeout(900)
def test_an_hour_of_faces_stays_below_a_gibibyte_and_a_half(
    scene_of: Draw, checkpoints: Networks, tmp_path: Path
) -> None:
    """A face in each frame: what 17 500 frames more take, carried on to an hour."""
    av = pytest.importorskip("av", reason="videos need PyAV")
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    pictures = [np.asarray(scene_of((0, 20 + n, 10, 96), size=(160, 120))) for n in range(25)]  # sways
    lengths = (2_500, 20_000)
    peaks: dict[str, list[int]] = {"Prepare_Faces.py": [], "Predict_Video.py": []}
    for frames in lengths:
        folder = tmp_path / str(frames)
        folder.mkdir()
        video = folder / "film.mp4"
        with av.open(str(video), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for number in range(frames):
                picture = pictures[min(number % 50, 49 - number % 50)]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        peaks["Prepare_Faces.py"].append(peak_memory("Prepare_Faces.py", video, folder / "faces", "--device", "cpu"))
        flags = ("--checkpoint", checkpoints["fan"][0], "--device", "cpu", "--window", 4, "--stride", 1)
        written = ("--output", folder / "predictions", "--json", folder / "a.json", "--csv", folder / "a.csv")
        peaks["Predict_Video.py"].append(peak_memory("Predict_Video.py", video, *flags, *written))
    for name, (less, more) in peaks.items():
        growth = (more - less) / (lengths[1] - lengths[0])  # bytes a frame
        assert more + max(growth, 0) * (HOUR - lengths[1]) < LIMIT, name
