"""What the shipped backbone brings: FAN on the generated sample, from it and from random weights.

    python benchmarks/backbone_curves.py --figure docs/backbone.png

Runs two trainings of the public command that differ only in --pretrained, and draws their validation accuracy over the
epochs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def log_of(name: str, flags: list[str], output: Path) -> list[dict]:
    """Trains once and returns the lines of the log."""
    folder = output / name
    command = [sys.executable, "Demo_AFEW_Attention.py", "--dataset", "sample", "--at_type", "1"]
    subprocess.run([*command, "--output", str(folder), *flags], cwd=ROOT, check=True)
    newest = max(folder.glob("*/log.jsonl"), key=lambda path: path.stat().st_mtime)
    return [json.loads(line) for line in newest.read_text().splitlines()]


def main() -> int:
    from Code.results.figures import curve_figure, line_styles

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--output", type=Path, default=ROOT / "model" / "backbone_curves", help="for the runs")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more flags for both trainings")
    args = parser.parse_args()
    # Both train the whole network, as random weights must, at the image size of the shipped backbone.
    size = ["--image-size", "80", "--no-freeze-backbone", "--epochs", "6", "--lr", "4e-2", "--samples-per-clip", "2"]
    output = args.output.resolve()
    runs = {
        "from the FER+ backbone": log_of("backbone", [*size, *args.extra], output),
        "from random weights": log_of("random", [*size, "--pretrained", "none", *args.extra], output),
    }
    curves = {name: (log, "val_war") for name, log in runs.items()}
    figure = curve_figure("validation WAR (%)", curves, line_styles({name: name for name in runs}))
    figure.legend(loc="outside lower left", ncols=2, fontsize=8, frameon=False)
    figure.savefig(args.figure, dpi=165)
    print(f"wrote {args.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
