"""What a data set's size costs: indexing, memory and a training step, from 1 000 to 1 000 000 frames.

    python benchmarks/scaling.py                       # under three minutes

Makes stub trees `<Class>/<clip>/<frame>.jpg` in which all frames are links to a few real JPEGs (FERV39k has about
1 000 000 frames), and measures each size in a process of its own, as its peak memory counts: reading the folders,
drawing an epoch's plan, and training steps whose frames are decoded on demand.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CLASSES, FRAMES_PER_CLIP = 7, 25


def make_tree(root: Path, frames: int) -> None:
    """Hard links: a million frames take no room but their names."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / "frame.jpg")
    for clip in range(frames // FRAMES_PER_CLIP):
        folder = root / "data" / f"class{clip % CLASSES}" / f"{clip:06d}"
        folder.mkdir(parents=True)
        if clip % 1000 == 0:  # a file may have some ten thousand names only
            source = root / f"frame{clip}.jpg"
            shutil.copy(root / "frame.jpg", source)
        for frame in range(FRAMES_PER_CLIP):
            os.link(source, folder / f"{frame:03d}.jpg")


def peak_memory() -> float:
    """GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(root: Path) -> dict[str, float]:
    """Everything about one tree, in this process."""
    from Code.data.afew import read_folders
    from Code.data.augment import FlippedClips
    from Code.data.loaders import TrainingBatches
    from Code.data.store import FileStore, FrameTable
    from Code.network.fan import FAN

    before = peak_memory()
    start = time.perf_counter()
    clips = read_folders(root / "data")
    store, table = FileStore(clips, 32), FrameTable.of(clips)
    indexed = time.perf_counter() - start
    start = time.perf_counter()
    batches = TrainingBatches(table, store, num_frames=3, batch_size=48, seed=0)
    planned = time.perf_counter() - start
    model, flips, generator = FAN(1, CLASSES), FlippedClips(), torch.Generator()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    seconds = []
    iterator = iter(batches)
    for _ in range(12):
        start = time.perf_counter()
        batch = next(iterator)
        loss = torch.nn.functional.cross_entropy(model(flips(batch["frames"], generator)).logits, batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return {
        "frames": table.num_frames,
        "index_seconds": indexed,
        "plan_seconds": planned,
        "step_milliseconds": 1000 * statistics.median(seconds[2:]),
        "peak_memory_gib": peak_memory(),
        "before_data_gib": before,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--json", type=Path, default=Path("model/scaling.json"))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in args.frames:
            root = Path(folder) / str(frames)
            make_tree(root, frames)
            command = [sys.executable, __file__, "--measure", str(root)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout))
            shutil.rmtree(root)
            print(f"# {rows[-1]}", file=sys.stderr, flush=True)
    print("| frames | index s | plan of an epoch s | training step ms | peak memory GiB | of it before any data |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['frames']:,} | {row['index_seconds']:.2f} | {row['plan_seconds']:.2f} | "
            f"{row['step_milliseconds']:.0f} | {row['peak_memory_gib']:.2f} | {row['before_data_gib']:.2f} |".replace(
                ",", " "
            )
        )
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
