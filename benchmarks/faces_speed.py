"""How fast faces are prepared: decoding, detection, warping, and all of it, per number of worker processes.

Detection alone and all of it take turns, `--rounds` times, on the same frames and cores. Detection alone is the same
detector, in as many processes with as many threads, on frames that are decoded already. All of it is what
Prepare_Faces.py calls, from the first clip that is ready on, so that the start of the worker processes, which is told
apart, does not count. Beside them: detection as facenet-pytorch's own loop does it, one process.

example: python benchmarks/faces_speed.py clip.mp4 talk.mkv --workers 1 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.common.errors import require
from Code.common.machine import keep_freed_memory
from Code.faces.align import align_face
from Code.faces.detect import MIN_FACE_SHARE, Detector
from Code.faces.inputs import find_jobs
from Code.faces.prepare import prepare_all
from Code.faces.settings import MIN_FACE, Settings
from Code.faces.video import Frame, Source, batches

CPU = torch.device("cpu")


def decode(path: Path, count: int) -> tuple[list[Frame], float]:
    """The first frames of a video, and frames a second with one thread."""
    source = Source(path, threads=1)
    start = time.perf_counter()
    frames = list(itertools.islice(source.frames(), count))
    return frames, len(frames) / (time.perf_counter() - start)


def detect(path: Path, count: int, threads: int, orders: Any, spent: Any) -> None:
    """A process that detects in frames which are decoded already, once per order, until the order is None."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    frames, _ = decode(path, count)
    detector = Detector(CPU)
    stacks = [np.stack([frame.image for frame in batch]) for batch in batches(iter(frames), detector.pixels_at_once)]
    detector(stacks[0])  # warm
    spent.put(0.0)
    while orders.get() is not None:
        start = time.perf_counter()
        for stack in stacks:
            detector(stack)
        spent.put(time.perf_counter() - start)


class DetectionAlone:
    """Detecting processes that wait between rounds.

    Args:
        path: whose first `count` frames each of them decodes once.
        count: at most the video's frames.
        workers: processes; one alone has all threads, as Prepare_Faces.py has it, several have one each.
    """

    def __init__(self, path: Path, count: int, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._frames, self._workers = count * workers, workers
        self._orders, self._spent = context.Queue(), context.Queue()
        threads = torch.get_num_threads() if workers == 1 else 1
        arguments = (path, count, threads, self._orders, self._spent)
        self._processes = [context.Process(target=detect, args=arguments, daemon=True) for _ in range(workers)]
        for process in self._processes:
            process.start()
        for _ in self._processes:
            self._spent.get()

    def speed(self) -> float:
        """Frames a second of all processes together."""
        for _ in self._processes:
            self._orders.put("go")
        return self._frames / max(self._spent.get() for _ in self._processes)

    def close(self) -> None:
        """Ends them."""
        for _ in self._processes:
            self._orders.put(None)
        for process in self._processes:
            process.join()


def whole_speed(path: Path, workers: int, copies: int) -> tuple[float, float]:
    """Frames a second after the first clip of each worker, and seconds until then; `copies` clips a worker follow."""
    with tempfile.TemporaryDirectory() as folder:
        videos, output = Path(folder) / "videos", Path(folder) / "faces"
        videos.mkdir()
        for copy in range((1 + copies) * workers):
            shutil.copy(path, videos / f"{copy}{path.suffix}")
        jobs, _ = find_jobs(videos)
        start = time.perf_counter()
        records = prepare_all(jobs, output, Settings(), workers=workers, device=CPU, progress=lambda frames: None)
        for _ in range(workers):
            next(records)
        first = time.perf_counter()
        frames = sum(record.frames for record in records)
        return frames / (time.perf_counter() - first), first - start


def warp_speed(frames: list[Frame]) -> float:
    """Faces a second, one thread; NaN if the first frames show none."""
    found = [(frame.image, faces) for frame in frames[:16] for faces in Detector(CPU)(frame.image[None])]
    faces = [(image, f.landmarks[0], f.boxes[0]) for image, f in found if len(f.boxes)]
    start, done = time.perf_counter(), 0
    while faces and time.perf_counter() - start < 2:
        align_face(*faces[done % len(faces)])
        done += 1
    return done / (time.perf_counter() - start) if done else float("nan")


def library_speed(frames: list[Frame]) -> float:
    """Frames a second of facenet-pytorch's own loop, one thread."""
    shape = frames[0].image.shape
    mtcnn = require("facenet_pytorch", "facenet-pytorch", "detection").MTCNN(keep_all=True)
    mtcnn.min_face_size = max(MIN_FACE, min(shape[:2]) * MIN_FACE_SHARE)
    stacks = [np.stack([frame.image for frame in batch]) for batch in batches(iter(frames), 700_000)]
    mtcnn.detect(stacks[0], landmarks=True)
    start = time.perf_counter()
    for stack in stacks:
        mtcnn.detect(stack, landmarks=True)
    return len(frames) / (time.perf_counter() - start)


def spread(values: list[float], digits: int = 1) -> str:
    """Median (lowest - highest)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} - {max(values):.{digits}f})"


def measure(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one video."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    frames, decoding = decode(path, args.frames)
    height, width, _ = frames[0].image.shape
    figures: dict[str, Any] = {"video": path.name, "width": width, "height": height, "frames": len(frames)}
    figures |= {"decode": decoding, "warp": warp_speed(frames), "library_detection": library_speed(frames[:64])}
    torch.set_num_threads(threads)
    print(
        f"{path.name}: {width} x {height}, {len(frames)} frames; one thread each: decoding {decoding:.0f} frames/s, "
        f"warping {figures['warp']:.0f} faces/s, facenet-pytorch's detection "
        f"{figures['library_detection']:.1f} frames/s",
        flush=True,
    )
    figures["workers"] = []
    for workers in args.workers:
        alone = DetectionAlone(path, len(frames), workers)
        rounds: dict[str, list[float]] = {"detection": [], "whole": [], "share": [], "start_seconds": []}
        for _ in range(args.rounds):
            detection = alone.speed()
            whole, start = whole_speed(path, workers, args.copies)
            for name, value in zip(rounds, (detection, whole, 100 * whole / detection, start), strict=True):
                rounds[name].append(value)
        alone.close()
        figures["workers"].append({"workers": workers, **rounds})
        print(
            f"  {workers} worker(s): detection alone {spread(rounds['detection'])} frames/s, all of it "
            f"{spread(rounds['whole'])} frames/s, {spread(rounds['share'], 0)} %; "
            f"first clip after {spread(rounds['start_seconds'])} s",
            flush=True,
        )
    return figures


def main() -> None:
    """Prints a line per video and number of workers, and writes everything as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--frames", type=int, default=200, help="of each video, for decoding and detection alone")
    parser.add_argument("--copies", type=int, default=2, help="of each video per worker, for all of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("model/faces_speed.json"))
    args = parser.parse_args()
    keep_freed_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    about = {
        "command": " ".join(["python", "benchmarks/faces_speed.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "cores": cores,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "av": require("av", "PyAV", "reading a video").__version__,
    }
    print(about, flush=True)
    results = {**about, "videos": [measure(path, args) for path in args.videos]}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"wrote {args.json}")


if __name__ == "__main__":
    main()
