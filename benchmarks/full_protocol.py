"""How long the whole AFEW protocol takes on this machine, from measured epochs with as many frames as AFEW has.

    python benchmarks/full_protocol.py                          # 46 000 + 23 000 frames, 3 epochs, projected
    python benchmarks/full_protocol.py --epochs 180             # the whole protocol, nothing projected
    python benchmarks/full_protocol.py --clips 14 --train-frames 300 --val-frames 150       # quick, for a CPU

Draws clips of 224 x 224 JPEG frames, repeats them under other names up to the number of frames asked for, and trains
and evaluates with the public command at the settings of the paper (K = 3, batches of 48 samples, one sample per frame).
The first epoch warms up. The speed of the others is projected to 180 epochs of 46 000 samples of 3 frames and
23 000 evaluation frames.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAIN_FRAMES, EVALUATION_FRAMES, EPOCHS = 46_000, 23_000, 180


def repeat_clips(root: Path, frames: int) -> int:
    """Fills a <Class>/<clip>/<frame> tree with hard links up to this number of frames; returns the number."""
    clips = [clip for folder in sorted(root.iterdir()) for clip in sorted(folder.iterdir())]
    count = sum(len(os.listdir(clip)) for clip in clips)
    copy = 0
    while count < frames:
        copy += 1
        for clip in clips:
            if count >= frames:
                break
            twin = clip.with_name(f"{clip.name}_{copy}")
            twin.mkdir()
            for frame in clip.iterdir():
                os.link(frame, twin / frame.name)
                count += 1
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=210, help="training clips to draw (default: %(default)s)")
    parser.add_argument("--train-frames", type=int, default=TRAIN_FRAMES, help="(default: %(default)s)")
    parser.add_argument("--val-frames", type=int, default=EVALUATION_FRAMES, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs to train, at least 2 (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more flags for the training")
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("--epochs: give at least 2; the first one only warms up")
    with tempfile.TemporaryDirectory() as folder:
        data, runs = Path(folder) / "data", Path(folder) / "runs"
        draw = [sys.executable, "-m", "Code.sample", "--output", str(data), "--size", "224"]
        draw += ["--workers", str(os.cpu_count())]
        draw += ["--train-clips", str(args.clips), "--val-clips", str(max(7, args.clips // 2))]
        subprocess.run(draw, cwd=ROOT, check=True)
        counts = [repeat_clips(data / "Train", args.train_frames), repeat_clips(data / "Val", args.val_frames)]
        command = [sys.executable, "Demo_AFEW_Attention.py", "--at_type", "1", "--epochs", str(args.epochs)]
        command += ["--image-size", "224", "--train-root", str(data / "Train"), "--val-root", str(data / "Val")]
        command += ["--output", str(runs), *args.extra]
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True)
        process_seconds = time.perf_counter() - start
        (run,) = runs.iterdir()
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        about = json.loads((run / "args.json").read_text())
    warm = lines[1:]
    train_rate = statistics.median(line["frames_per_second"] for line in warm)
    val_rate = statistics.median(line["val_frames_per_second"] for line in warm)
    figures = {
        "device": about["device"],
        "precision": about["precision"],
        "versions": about["versions"],
        "frames": {"train": counts[0], "val": counts[1]},
        "epochs_measured": len(lines),
        "seconds_per_epoch": [round(line["seconds"], 3) for line in lines],
        "process_minutes_measured": process_seconds / 60,
        "train_frames_per_second": train_rate,
        "evaluation_frames_per_second": val_rate,
        "projected_minutes_full_afew_protocol": EPOCHS
        * (3 * TRAIN_FRAMES / train_rate + EVALUATION_FRAMES / val_rate)
        / 60,
    }
    print(json.dumps(figures, indent=1))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
