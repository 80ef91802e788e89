"""How fast faces are found, and how long the scripts take from a file to its result.

Two tables, each of whose rows is measured in turns, `--rounds` times, on the same frames and cores:

1. Finding faces in each video, frames already decoded, one thread: facenet-pytorch's own loop, full passes on every
   frame (`--detect-every 1`), and key frames with refinement in between (the default).
2. `--folder`: Predict_Video.py and Prepare_Faces.py, from file to result, on all of the videos as one command, start
   of Python included.

Every figure is given twice: frames per second of wall time, and CPU milliseconds per frame, which other work on the
machine changes less. `--against` adds another checkout of this project, such as an older commit, to the first table.

examples:
  python benchmarks/faces_speed.py clip.mp4 talk.mkv
  python benchmarks/faces_speed.py clips/*.mp4 --folder --no-finding
  python benchmarks/faces_speed.py clips/*.mp4 --against ../earlier
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.common.commandline import run_script
from Code.common.device import keep_freed_memory
from Code.common.errors import require
from Code.common.files import save_text
from Code.common.progress import available_cores
from Code.faces.align import align_face
from Code.faces.detect import MIN_FACE_SHARE, Detector
from Code.faces.keyframes import find_faces
from Code.faces.settings import DETECT_EVERY, MIN_FACE
from Code.faces.video import FileSource, Frame

ROOT = Path(__file__).resolve().parents[1]
# Finds the faces in a video's first frames; prints seconds of wall and CPU time, and a hash of the faces.
FIND = """
import hashlib, itertools, sys, time, torch
from Code.faces.detect import Detector
from Code.faces.keyframes import find_faces
from Code.faces.video import FileSource
torch.set_num_threads(1)
frames, detector = list(itertools.islice(FileSource(sys.argv[1], threads=1).frames(), int(sys.argv[2]))), Detector()
wall, cpu = time.perf_counter(), time.process_time()
found = list(find_faces(iter(frames), detector))
print(time.perf_counter() - wall, time.process_time() - cpu)
print(hashlib.sha256(b"".join(each[1].landmarks.tobytes() for each in found)).hexdigest())
"""
SCRIPTS = {"Predict_Video.py": ("--no-figure",), "Prepare_Faces.py": ("--workers", "1")}


class Spent(NamedTuple):
    """Seconds of wall time and of CPU time."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Spent:
    """Runs something in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def in_turns(rounds: int, work: dict[str, Callable[[], Spent]]) -> dict[str, list[Spent]]:
    """A, B, C, A, B, C, ..."""
    spent: dict[str, list[Spent]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            spent[name].append(run())
    return spent


def row(label: str, frames: int, spent: dict[str, list[Spent]]) -> dict[str, Any]:
    """Prints frames/s and CPU ms per frame of each way, median (lowest - highest), and how many times the first's."""
    first = next(iter(spent.values()))
    print(label, flush=True)
    figures: dict[str, Any] = {"label": label, "frames": frames}
    for name, values in spent.items():
        speed, cost = [frames / s.wall for s in values], [1000 * s.cpu / frames for s in values]
        wall = statistics.median(a.wall / b.wall for a, b in zip(first, values, strict=True))
        cpu = statistics.median(a.cpu / b.cpu for a, b in zip(first, values, strict=True))
        print(
            f"  {name:20} {spread(speed)} frames/s, {spread(cost, 2)} CPU ms/frame: {wall:.2f} x, by CPU {cpu:.2f} x",
            flush=True,
        )
        figures[name] = {"frames_per_second": speed, "cpu_ms_per_frame": cost, "times_wall": wall, "times_cpu": cpu}
    return figures


def spread(values: list[float], digits: int = 1) -> str:
    """Median (lowest - highest)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} - {max(values):.{digits}f})"


def finding(path: Path, count: int, rounds: int) -> dict[str, Any]:
    """The first table's row for one video; before it, decoding and warping."""
    frames: list[Frame] = []
    decoding = timed(lambda: frames.extend(itertools.islice(FileSource(path, threads=1).frames(), count)))
    detector = Detector()
    mtcnn = require("facenet_pytorch", "facenet-pytorch", "detection").MTCNN(keep_all=True)
    height, width, _ = frames[0].image.shape
    mtcnn.min_face_size = max(MIN_FACE, min(height, width) * MIN_FACE_SHARE)

    def library() -> None:
        for start in range(0, len(frames), 8):
            mtcnn.detect(np.stack([frame.image for frame in frames[start : start + 8]]), landmarks=True)

    def search(every: int) -> None:
        for _ in find_faces(iter(frames), detector, every):
            pass

    faces = [(found.frame.image, found.faces) for found in find_faces(iter(frames[:16]), detector)]
    shown = [(image, f.landmarks[0], f.boxes[0]) for image, f in faces if len(f)]
    warping = timed(lambda: [align_face(*face) for face in shown])
    label = (
        f"{path.name}: {width} x {height}, {len(frames)} frames; decoding {1000 * decoding.cpu / len(frames):.2f} CPU "
        f"ms/frame, warping {1000 * warping.cpu / max(1, len(shown)):.2f} CPU ms/face"
    )
    ways: dict[str, Callable[[], Spent]] = {
        "facenet-pytorch": lambda: timed(library),
        "--detect-every 1": lambda: timed(lambda: search(1)),
        f"--detect-every {DETECT_EVERY}": lambda: timed(lambda: search(DETECT_EVERY)),
    }
    return row(label, len(frames), in_turns(rounds, ways))


def compared(path: Path, count: int, rounds: int, other: Path) -> dict[str, Any]:
    """The first table's row for one video in another checkout and in this one, each time in a process of its own."""
    faces: dict[str, str] = {}

    def find(root: Path) -> Spent:
        command = [sys.executable, "-c", FIND, str(path.resolve()), str(count)]
        times, faces[str(root)] = subprocess.run(
            command, cwd=root, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        return Spent(*map(float, times.split()))

    ways = {f"in {root.name}": partial(find, root) for root in (other.resolve(), ROOT)}
    figures = row(f"{path.name}: against {other}", min(count, FileSource(path).total or count), in_turns(rounds, ways))
    print("  the same faces" if len(set(faces.values())) == 1 else "  other faces", flush=True)
    return figures


def script(name: str, videos: Path, flags: tuple[str, ...]) -> Spent:
    """Runs a script on a folder of videos; status 1 says that one shows no face."""
    with tempfile.TemporaryDirectory() as folder:
        output = ["--output", folder] if name == "Predict_Video.py" else [f"{folder}/faces"]
        command = [sys.executable, name, str(videos), *output, "--device", "cpu", *flags]
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}")
        return Spent(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)


def as_one_command(videos: list[Path], rounds: int) -> list[dict[str, Any]]:
    """The second table."""
    frames = sum(1 for video in videos for _ in FileSource(video).frames())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for video in videos:
            (Path(folder) / video.name).symlink_to(video.resolve())
        for name, flags in SCRIPTS.items():
            ways = {name: partial(script, name, Path(folder), flags)}
            rows.append(row(f"{name}: {len(videos)} videos, {frames} frames", frames, in_turns(rounds, ways)))
    return rows


def main() -> int:
    """Prints the tables, and writes all figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=200, help="of each video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", action="store_true", help="also time the scripts on all videos as one command")
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout, which takes its turns")
    parser.add_argument("--no-finding", action="store_true", help="omit the first table")
    parser.add_argument("--json", type=Path, default=Path("model/faces_speed.json"))
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    about = {
        "command": " ".join(["python", "benchmarks/faces_speed.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "cores": available_cores(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "av": require("av", "PyAV", "reading a video").__version__,
    }
    print(about, flush=True)
    results: dict[str, Any] = {
        **about,
        "finding": [] if args.no_finding else [finding(path, args.frames, args.rounds) for path in args.videos],
    }
    if args.against:
        results["against"] = [compared(path, args.frames, args.rounds, args.against) for path in args.videos]
    if args.folder:
        results["folder"] = as_one_command(args.videos, args.rounds)
    save_text(json.dumps(results, indent=1) + "\n", args.json)
    print(f"wrote {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
