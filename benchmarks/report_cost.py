"""What a report costs: time, peak memory and size, for a run of many clips.

    python benchmarks/report_cost.py --clips 400 --frames 60

Writes frames (224 x 224 JPEG, noise over a gradient) and the files of a run into a temporary folder, and makes the
report in its own process. The operating system reports the peak memory of that process.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")


def write_run(root: Path, clips: int, frames: int) -> Path:
    """Makes the folder of a run with predictions, weights and frames; each clip has its own files."""
    rng = np.random.default_rng(0)
    gradient = np.linspace(60, 180, 224)[:, None, None]
    pictures = []
    for number in range(frames):
        noisy = gradient + rng.normal(0, 15, (224, 224, 3)) + number
        path = root / f"{number}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        pictures.append(path.read_bytes())
    run = root / "run"
    run.mkdir()
    said = rng.integers(0, len(LABELS), clips)
    with (
        (run / "predictions.csv").open("w", newline="") as predictions,
        (run / "attention.csv").open("w", newline="") as attention,
        (run / "clips.csv").open("w", newline="") as places,
    ):
        tables = csv.writer(predictions), csv.writer(attention), csv.writer(places)
        tables[0].writerow(["clip", "label", "prediction", *LABELS])
        tables[1].writerow(["clip", "frame", "alpha", "beta", "weight", "intensity"])
        tables[2].writerow(["clip", "folder"])
        for clip in range(clips):
            label = LABELS[clip % len(LABELS)]
            name, folder = f"{label}/{clip:06d}", root / "frames" / str(clip)
            folder.mkdir(parents=True)
            shares = rng.dirichlet(np.ones(len(LABELS)))
            shares[[said[clip], shares.argmax()]] = shares[[shares.argmax(), said[clip]]]
            tables[0].writerow([name, label, LABELS[said[clip]], *(f"{share:.6f}" for share in shares)])
            tables[2].writerow([name, folder])
            weights = rng.dirichlet(np.ones(frames))
            for number, data in enumerate(pictures):
                (folder / f"{number:04d}.jpg").write_bytes(data)
                row = [name, f"{number:04d}.jpg", f"{rng.random():.6f}", "0.5", f"{weights[number]:.6f}", "0.5"]
                tables[1].writerow(row)
    confusion = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(confusion, (np.arange(clips) % len(LABELS), said), 1)
    counts = confusion.sum(1)
    recalls = [int(confusion[at, at]) / int(count) if count else None for at, count in enumerate(counts)]
    present = [recall for recall in recalls if recall is not None]
    best = {
        "accuracy": float(confusion.trace() / clips), "accuracy_interval": [0.0, 1.0],
        "uar": sum(present) / len(present), "uar_interval": [0.0, 1.0],
        "per_class_recall": recalls, "confusion": confusion.tolist(),
        "num_clips": clips, "num_clips_listed": clips, "num_skipped": 0, "epoch": 1,
    }  # fmt: skip
    (run / "results.json").write_text(json.dumps({"labels": LABELS, "best": best}))
    return run


def main() -> int:
    """Measures and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--frames", type=int, default=60, help="in each clip")
    parser.add_argument("--keep", type=Path, help="copy the report to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder), args.clips, args.frames)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "Code.results.report", str(run)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # KiB on Linux
        page = run / "report.html"
        size = page.stat().st_size / 1e6
        if args.keep:
            args.keep.write_bytes(page.read_bytes())
    print(f"{args.clips} clips x {args.frames} frames: {seconds:.1f} s, {peak:.0f} MiB peak memory, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
