"""How long the full AFEW protocol takes on this machine, projected from measured epochs.

    python benchmarks/full_protocol.py                  # on whatever --device auto finds
    python benchmarks/full_protocol.py --clips 14       # quick, for a CPU

Draws clips of 224 x 224 JPEG frames, trains and evaluates with the public command at the paper's settings
(K = 3, batches of 48 samples, one sample per frame), and scales the frames per second of the second
epoch (the first one warms up) to 46 000 samples of 3 frames and 23 000 evaluation frames an epoch, 180 epochs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAIN_FRAMES, EVALUATION_FRAMES, EPOCHS = 46_000 * 3, 23_000, 180


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=210, help="training clips to draw (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, runs = Path(folder) / "data", Path(folder) / "runs"
        draw = [sys.executable, "-m", "Code.data.sample", "--output", str(data), "--size", "224"]
        draw += ["--train-clips", str(args.clips), "--val-clips", str(max(7, args.clips // 2))]
        subprocess.run(draw, cwd=ROOT, check=True)
        command = [sys.executable, "Demo_AFEW_Attention.py", "--at_type", "1", "--epochs", "2", "--image-size", "224"]
        command += ["--train-root", str(data / "Train"), "--val-root", str(data / "Val"), "--output", str(runs)]
        subprocess.run(command, cwd=ROOT, check=True)
        (run,) = runs.iterdir()
        line = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
        about = json.loads((run / "args.json").read_text())
    hours = (
        EPOCHS * (TRAIN_FRAMES / line["frames_per_second"] + EVALUATION_FRAMES / line["val_frames_per_second"]) / 3600
    )
    figures = {
        "device": about["device"],
        "precision": about["precision"],
        "versions": about["versions"],
        "train_frames_per_second": line["frames_per_second"],
        "evaluation_frames_per_second": line["val_frames_per_second"],
        "projected_hours_full_afew_protocol": hours,
    }
    print(json.dumps(figures, indent=1))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
