"""What reduced precision changes: accuracy and predictions of the same networks under each precision.

    python benchmarks/precision.py                                   # under ten minutes on two cores

Draws a sample with more validation clips than the demo has, trains each attention once from the shipped backbone, and
evaluates each network on all validation clips with `-e --precision`, fp32 first. The last columns compare with fp32:
the change in accuracy, how many clips keep their prediction, and the largest change of a probability.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from Code.common.device import choose_compute  # noqa: E402


def main_script(*arguments: object) -> None:
    """Runs the public command; shows its output only if it fails."""
    command = [sys.executable, "Demo_AFEW_Attention.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nerror: {' '.join(command)} ended with status {done.returncode}")


def outcome_of(folder: Path) -> tuple[float, list[str], np.ndarray]:
    """From the folder of an evaluation: accuracy in percent, predictions, probabilities [clips, C]."""
    (results,) = folder.glob("*_evaluation/results.json")
    accuracy = 100 * json.loads(results.read_text())["best"]["accuracy"]
    with (results.parent / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = [name for name in rows[0] if name not in ("clip", "label", "prediction")]
    return accuracy, [row["prediction"] for row in rows], np.array([[float(row[c]) for c in classes] for row in rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    auto = choose_compute().precision
    parser.add_argument(
        "--precisions",
        nargs="+",
        default=[auto],
        help="in addition to fp32 (default: what auto chooses on this machine)",
    )
    parser.add_argument("--at_types", type=int, nargs="+", default=[1, 0, 2])
    parser.add_argument("--val-clips", type=int, default=700)
    parser.add_argument("--image-size", type=int, default=80)
    parser.add_argument("--json", type=Path, default=Path("model/precision.json"))
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "Sample"
        draw = [sys.executable, "-m", "Code.sample", "--output", str(data), "--workers", str(os.cpu_count())]
        draw += ["--val-clips", str(args.val_clips), "--seed", "1", "--size", str(args.image_size)]
        subprocess.run(draw, cwd=ROOT, check=True)
        roots = ["--dataset", "sample", "--train-root", data / "Train", "--val-root", data / "Val"]
        roots += ["--train-list", data / "list_train.txt", "--val-list", data / "list_eval.txt"]
        roots += ["--image-size", args.image_size]
        for at_type in args.at_types:
            trained = Path(name) / f"trained{at_type}"
            main_script(*roots, "--at_type", at_type, "--output", trained)
            (checkpoint,) = trained.glob("*/best.pth")
            outcomes = {}
            for precision in dict.fromkeys(["fp32", *args.precisions]):
                folder = Path(name) / f"{at_type}_{precision}"
                main_script("-e", "--checkpoint", checkpoint, *roots, "--precision", precision, "--output", folder)
                outcomes[precision] = outcome_of(folder)
            accuracy, predictions, probabilities = outcomes["fp32"]
            for precision, (own_accuracy, own, own_probabilities) in outcomes.items():
                rows.append(
                    {
                        "at_type": at_type,
                        "precision": precision,
                        "clips": len(own),
                        "accuracy": own_accuracy,
                        "difference": own_accuracy - accuracy,
                        "same": 100 * float(np.mean([a == b for a, b in zip(own, predictions, strict=True)])),
                        "largest": float(np.abs(own_probabilities - probabilities).max()),
                    }
                )
                print(f"# {rows[-1]}", file=sys.stderr, flush=True)
    print(f"{choose_compute().device}; torch {torch.__version__}; {args.image_size} x {args.image_size} frames\n")
    print("| at_type | precision | clips | accuracy % | minus fp32 | same prediction % | largest change |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['at_type']} | {row['precision']} | {row['clips']} | {row['accuracy']:.2f} | "
            f"{row['difference']:+.2f} | {row['same']:.2f} | {row['largest']:.4f} |"
        )
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
