"""What the size of a dataset costs: indexing, memory and a training step, from 1 000 to 1 000 000 frames.

    python benchmarks/scaling.py                       # under three minutes

Makes stub trees `<Class>/<clip>/<frame>.jpg` in which all frames are hard links to a few real JPEGs (FERV39k has about
1 000 000 frames). Each size is measured in its own process, because peak memory counts per process: reading the
folders, planning an epoch, and training steps whose frames are decoded on demand. The sizes take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CLASSES, FRAMES_PER_CLIP, STEPS_PER_TURN = 7, 25, 4


def make_tree(root: Path, frames: int) -> None:
    """Makes a tree of hard links: a million frames use disk space only for their names."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / "frame.jpg")
    for clip in range(frames // FRAMES_PER_CLIP):
        folder = root / "data" / f"class{clip % CLASSES}" / f"{clip:06d}"
        folder.mkdir(parents=True)
        if clip % 1000 == 0:  # file systems limit the number of links to a file
            source = root / f"frame{clip}.jpg"
            shutil.copy(root / "frame.jpg", source)
        for frame in range(FRAMES_PER_CLIP):
            os.link(source, folder / f"{frame:03d}.jpg")


def peak_memory() -> float:
    """GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def serve(root: Path) -> None:
    """In a child process: indexes a tree, reports the cost, and trains for a turn of steps for each line it reads."""
    from Code.data.augment import FlippedClips
    from Code.data.batches import FileStore, FrameTable, TrainingBatches, draw_segments
    from Code.network.fan import FAN
    from Code.readers.folders import read_folders

    before = peak_memory()
    start = time.perf_counter()
    clips = read_folders(root / "data")
    store, table = FileStore(clips, 32), FrameTable.of(clips)
    indexed = time.perf_counter() - start
    start = time.perf_counter()
    draw_segments(table.lengths, 3, np.random.default_rng(0))
    planned = time.perf_counter() - start
    about = {
        "frames": table.num_frames,
        "index_seconds": indexed,
        "plan_seconds": planned,
        "peak_memory_gib": peak_memory(),
        "before_data_gib": before,
    }
    print(json.dumps(about), flush=True)
    model, flips, generator = FAN(1, CLASSES), FlippedClips(), torch.Generator()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batches = TrainingBatches(table, store, num_frames=3, batch_size=48, seed=0)
    iterator = (batch for epoch in count(1) for batch in batches.epoch(epoch))  # an epoch of the smallest size is short
    for _ in sys.stdin:
        seconds = []
        for _ in range(STEPS_PER_TURN):
            start = time.perf_counter()
            batch = next(iterator)
            loss = torch.nn.functional.cross_entropy(model(flips(batch["frames"], generator)).logits, batch["labels"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seconds.append(1000 * (time.perf_counter() - start))
        print(json.dumps({"milliseconds": seconds, "peak_memory_gib": peak_memory()}), flush=True)


class Child:
    """One size, in its own process."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.row = self._answer()
        self.milliseconds: list[float] = []

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: the child process ended with status {self.process.wait()}; see its message above")
        return json.loads(line)

    def turn(self, *, counts: bool) -> None:
        """Runs some steps, while the other children wait."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.row["peak_memory_gib"] = answer["peak_memory_gib"]
        if counts:
            self.milliseconds += answer["milliseconds"]

    def close(self) -> dict[str, Any]:
        """Ends the process and returns its row of the table."""
        self.process.communicate()
        low, middle, high = np.percentile(self.milliseconds, [25, 50, 75])
        return self.row | {"step_milliseconds": middle, "quartiles": [low, high]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--turns", type=int, default=8, help=f"turns of {STEPS_PER_TURN} steps for each size")
    parser.add_argument("--json", type=Path, default=Path("model/scaling.json"))
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for frames in args.frames:
            root = Path(folder) / str(frames)
            make_tree(root, frames)
            children.append(Child(root))
            print(f"# {children[-1].row}", file=sys.stderr, flush=True)
        for turn in range(args.turns + 1):  # the first warms up
            for child in children:
                child.turn(counts=turn > 0)
        rows = [child.close() for child in children]
    print("| frames | index s | plan of an epoch s | step ms (quartiles) | peak memory GiB | of it before any data |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        low, high = row["quartiles"]
        print(
            f"| {row['frames']:,} | {row['index_seconds']:.2f} | {row['plan_seconds']:.2f} | "
            f"{row['step_milliseconds']:.0f} ({low:.0f} to {high:.0f}) | {row['peak_memory_gib']:.2f} | "
            f"{row['before_data_gib']:.2f} |".replace(",", " ")
        )
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
