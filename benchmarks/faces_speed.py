"""How fast faces are found, and how long the scripts take from a file to its result.

Three tables, each of whose rows is measured in turns, `--rounds` times, on the same frames and cores:

1. Finding faces in each video, frames already decoded, one thread: facenet-pytorch's own loop, full passes on every
   frame (`--detect-every 1`), and key frames with refinement in between (the default).
2. `--end-to-end`: Predict_Video.py and Prepare_Faces.py, from file to result, start of Python included, on videos of
   several sizes with one and four faces, made from the first video; with and without `--fps 5`.
3. `--folder`: the same scripts on all of the videos as one command, so that the start is paid once.

Every figure is given twice: frames per second of wall time, and CPU milliseconds per frame, which other work on the
machine changes less. `--against` adds another checkout of this project, such as an older commit, with its defaults.

examples:
  python benchmarks/faces_speed.py clip.mp4 talk.mkv --end-to-end --busy 2
  python benchmarks/faces_speed.py clips/*.mp4 --folder --no-finding --against ../earlier
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.common.commandline import run_script
from Code.common.errors import require
from Code.common.files import save_text
from Code.common.machine import available_cores, keep_freed_memory
from Code.faces.align import align_face
from Code.faces.detect import MIN_FACE_SHARE, Detector
from Code.faces.keyframes import find_faces
from Code.faces.settings import DETECT_EVERY, MIN_FACE
from Code.faces.video import Frame, Source, batches

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((480, 360), (720, 576), (1920, 1080))
SCRIPTS = {"Predict_Video.py": ("--no-figure",), "Prepare_Faces.py": ()}


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


# Finds faces in a checkout of this project, of any age, as often as a line comes: seconds of wall and CPU time.
ELSEWHERE = """
import itertools, sys, time
import numpy, torch
torch.set_num_threads(1)
try:
    from Code.common.machine import keep_freed_memory
except ImportError:
    from Code.training.allocator import keep_freed_memory
keep_freed_memory()
from Code.faces.detect import Detector
from Code.faces.video import Source, batches
frames = list(itertools.islice(Source(sys.argv[1], threads=1).frames(), int(sys.argv[2])))
detector = Detector(torch.device("cpu"))
try:
    from Code.faces.keyframes import find_faces
except ImportError:
    def find_faces(frames, detector):
        for batch in batches(frames, 700_000):
            yield from detector(numpy.stack([frame.image for frame in batch]))
print(len(frames), flush=True)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in find_faces(iter(frames), detector):
        pass
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""


class Elsewhere:
    """Finds faces in another checkout, in a process that keeps the decoded frames.

    Args:
        root: the checkout.
        path: the video.
        count: of its frames.
    """

    def __init__(self, root: Path, path: Path, count: int) -> None:
        command = [sys.executable, "-c", ELSEWHERE, str(path.resolve()), str(count)]
        self._process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"finding faces in another checkout failed: exit status {self._process.wait()}")
        return line

    def __call__(self) -> Spent:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        wall, cpu = map(float, self._answer().split())
        return Spent(wall, cpu)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def finding(path: Path, count: int, rounds: int, against: Path | None) -> dict[str, Any]:
    """The first table's row for one video; before it, decoding and warping."""
    frames: list[Frame] = []
    decoding = timed(lambda: frames.extend(itertools.islice(Source(path, threads=1).frames(), count)))
    detector = Detector()
    mtcnn = require("facenet_pytorch", "facenet-pytorch", "detection").MTCNN(keep_all=True)
    height, width, _ = frames[0].image.shape
    mtcnn.min_face_size = max(MIN_FACE, min(height, width) * MIN_FACE_SHARE)

    def library() -> None:
        for batch in batches(iter(frames)):
            mtcnn.detect(np.stack([frame.image for frame in batch]), landmarks=True)

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
    if against is None:
        return row(label, len(frames), in_turns(rounds, ways))
    elsewhere = Elsewhere(against, path, len(frames))
    try:
        return row(label, len(frames), in_turns(rounds, {f"in {against.name}": elsewhere, **ways}))
    finally:
        elsewhere.close()


def film(source: Path, path: Path, size: tuple[int, int], people: int, count: int) -> None:
    """Writes a video of so many frames: the source, forward and backward, once or in four quarters of the picture."""
    av = require("av", "PyAV", "writing a video")
    frames = [Image.fromarray(frame.image) for frame in itertools.islice(Source(source).frames(), count)]
    across = 1 if people == 1 else 2
    cell = size[0] // across, size[1] // across
    cells = [ImageOps.fit(frame, cell) for frame in frames]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 20 * size[0] * size[1]
        for _, image in zip(range(count), itertools.cycle(cells + cells[::-1]), strict=False):
            picture = Image.new("RGB", size)
            for place in range(across**2):
                picture.paste(image, (place % across * cell[0], place // across * cell[1]))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def script(root: Path, name: str, video: Path, flags: tuple[str, ...], fine: tuple[int, ...] = (0,)) -> Spent:
    """Runs a script of a checkout on a video or a folder of videos.

    Args:
        root: the checkout.
        name: of the script.
        video: its input.
        flags: more of the command line.
        fine: exit statuses that are no failure; 1 says that a video shows no face.
    """
    with tempfile.TemporaryDirectory() as folder:
        predicts = name == "Predict_Video.py"
        output = ["--output", folder] if predicts else [f"{folder}/faces"]
        # Earlier versions of Predict_Video.py took videos, but no folders of them.
        given = sorted(map(str, video.iterdir())) if predicts and video.is_dir() else [str(video)]
        command = [sys.executable, name, *given, *output, *SCRIPTS[name], "--device", "cpu", *flags]
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in fine:
            raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}")
        return Spent(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)


def end_to_end(source: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The second table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for (width, height), people in itertools.product(SIZES, (1, 4)):
            video = Path(folder) / f"{width}x{height}_{people}.mp4"
            film(source, video, (width, height), people, args.frames)
            for name, fps in itertools.product(SCRIPTS, ((), ("--fps", "5"))):
                ways: dict[str, Callable[[], Spent]] = {}
                if args.against:
                    ways[f"in {args.against.name}"] = partial(script, args.against, name, video, fps)
                for every in (1, DETECT_EVERY):
                    flags = (*fps, "--detect-every", str(every))
                    ways[" ".join(flags[-2:])] = partial(script, ROOT, name, video, flags)
                label = f"{name} {' '.join(fps)}: {width} x {height}, {people} face(s), {args.frames} frames"
                rows.append(row(label, args.frames, in_turns(args.rounds, ways)))
    return rows


def as_one_command(videos: list[Path], args: argparse.Namespace) -> list[dict[str, Any]]:
    """The third table."""
    frames = sum(1 for video in videos for _ in Source(video).frames())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for video in videos:
            (Path(folder) / video.name).symlink_to(video.resolve())
        for name in SCRIPTS:
            flags = ("--workers", "1") if name == "Prepare_Faces.py" else ()
            roots = [args.against, ROOT] if args.against else [ROOT]
            ways: dict[str, Callable[[], Spent]] = {
                f"in {root.name}": partial(script, root, name, Path(folder), flags, (0, 1)) for root in roots
            }
            rows.append(row(f"{name}: {len(videos)} videos, {frames} frames", frames, in_turns(args.rounds, ways)))
    return rows


def spin() -> None:
    """Keeps a core busy."""
    matrix = np.ones((200, 200))
    while True:
        matrix = matrix @ matrix * 1e-3


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Inside, so many other processes compute."""
    processes = [multiprocessing.get_context("spawn").Process(target=spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()


def main() -> int:
    """Prints the tables, and writes all figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=200, help="of each video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--end-to-end", action="store_true", help="also time the scripts, on videos made from the first one"
    )
    parser.add_argument("--folder", action="store_true", help="also time the scripts on all videos as one command")
    parser.add_argument("--no-finding", action="store_true", help="omit the first table")
    parser.add_argument("--against", type=Path, help="another checkout, which takes its turns")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="processes that keep the cores busy meanwhile")
    parser.add_argument("--json", type=Path, default=Path("model/faces_speed.json"))
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    about = {
        "command": " ".join(["python", "benchmarks/faces_speed.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "cores": available_cores(),
        "busy": args.busy,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "av": require("av", "PyAV", "reading a video").__version__,
    }
    print(about, flush=True)
    with busy(args.busy):
        results: dict[str, Any] = {
            **about,
            "finding": []
            if args.no_finding
            else [finding(path, args.frames, args.rounds, args.against) for path in args.videos],
        }
        if args.end_to_end:
            results["end_to_end"] = end_to_end(args.videos[0], args)
        if args.folder:
            results["folder"] = as_one_command(args.videos, args)
    save_text(json.dumps(results, indent=1) + "\n", args.json)
    print(f"wrote {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
