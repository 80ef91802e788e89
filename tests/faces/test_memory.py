"""Memory stays bounded however long a video is: peak resident memory of the scripts."""

from __future__ import annotations

import os
import subprocess
import sys
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
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured in other units elsewhere"),
]


def peak_memory(*command: Any) -> int:
    """Runs a script of the project, which must succeed; bytes that were resident at most."""
    script = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(script.pid, 0)
    script.returncode = os.waitstatus_to_exitcode(status)
    assert script.returncode == 0
    return 1024 * usage.ru_maxrss


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
