"""Frames a second of Prepare_Faces.py and of its parts: decoding, detection, warping, and all of it.

Decoding and warping have one thread. Detection for N workers has N processes of one thread each, as
Prepare_Faces.py has them, on frames that are decoded already. All of it is Prepare_Faces.py on copies of the
video; the speed is the one it prints, which counts the start of its worker processes.

example: python benchmarks/faces_speed.py clip.mp4 --workers 1 2 --frames 100
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.faces.align import align_face
from Code.faces.detect import Detector
from Code.faces.video import BATCH_FRAMES, Frame, Source, batches

ROOT = Path(__file__).resolve().parents[1]


def decode(path: Path, count: int) -> tuple[list[Frame], float]:
    """The first frames of a video, and frames a second."""
    source = Source(path, threads=1)
    start = time.perf_counter()
    frames = list(itertools.islice(source.frames(), count))
    return frames, len(frames) / (time.perf_counter() - start)


def detect(path: Path, count: int, barrier: Any, spent: Any) -> None:
    """One worker: detects in frames that are decoded already, once everybody is ready."""
    torch.set_num_threads(1)
    frames, _ = decode(path, count)
    stacks = [np.stack([frame.image for frame in batch]) for batch in batches(iter(frames), BATCH_FRAMES)]
    detector = Detector()
    detector(stacks[0][:2])  # warm
    barrier.wait()
    start = time.perf_counter()
    for stack in stacks:
        detector(stack)
    spent.put((len(frames), time.perf_counter() - start))


def detection_speed(path: Path, count: int, workers: int) -> float:
    """Frames a second of all workers together."""
    context = multiprocessing.get_context("spawn")
    barrier, spent = context.Barrier(workers), context.Queue()
    processes = [context.Process(target=detect, args=(path, count, barrier, spent)) for _ in range(workers)]
    for process in processes:
        process.start()
    results = [spent.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(frames for frames, _ in results) / max(seconds for _, seconds in results)


def warp_speed(frames: list[Frame]) -> float:
    """Faces a second, one thread."""
    found = [(frame.image, faces) for frame in frames[:16] for faces in Detector()(frame.image[None])]
    faces = [(image, f.landmarks[0], f.boxes[0]) for image, f in found if len(f.boxes)]
    if not faces:
        raise SystemExit("error: no face in the first 16 frames; name another video")
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < 2:
        align_face(*faces[done % len(faces)])
        done += 1
    return done / (time.perf_counter() - start)


def whole_speed(path: Path, workers: int, copies: int) -> float:
    """What Prepare_Faces.py says about copies of the video, in frames a second."""
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder) / "videos"
        videos.mkdir()
        for copy in range(copies):
            shutil.copy(path, videos / f"{copy}{path.suffix}")
        command = [sys.executable, str(ROOT / "Prepare_Faces.py"), str(videos), f"{folder}/faces"]
        done = subprocess.run(
            [*command, "--workers", str(workers), "--device", "cpu"], capture_output=True, text=True, check=True
        )
    match = re.search(r": ([0-9.]+) frames/s with", done.stdout)
    if match is None:
        raise SystemExit(f"error: Prepare_Faces.py says no speed: {done.stdout}")
    return float(match[1])


def main() -> None:
    """Prints a line per number of workers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--frames", type=int, default=200, help="for decoding and detection alone")
    parser.add_argument("--copies", type=int, default=2, help="of the video per worker, for all of it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    frames, decoding = decode(args.video, args.frames)
    height, width, _ = frames[0].image.shape
    print(f"{args.video.name}: {width} x {height}, {len(frames)} frames")
    print(f"decoding {decoding:.0f} frames/s, warping {warp_speed(frames):.0f} faces/s, one thread each")
    for workers in args.workers:
        detection = detection_speed(args.video, args.frames, workers)
        whole = whole_speed(args.video, workers, args.copies * workers)
        print(
            f"{workers} worker(s): detection alone {detection:.1f} frames/s, all of it {whole:.1f} frames/s "
            f"({100 * whole / detection:.0f} %)",
            flush=True,
        )


if __name__ == "__main__":
    main()
