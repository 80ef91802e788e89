"""How often the best and the second best class are right, by the margin between their probabilities.

    python benchmarks/uncertain.py --data-root Data/FERPlus --clips MEAD CREMA-D

`UNCERTAIN_MARGIN` (Code/faces/settings.py) is where the best class begins to be clearly ahead. FER+: its validation
images with a majority label, each as a clip of one frame. Clips: their names say their classes, see
`faces_elsewhere.py`.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.faces_elsewhere import VIDEOS, Seen, files_in
from Code.common.commandline import run_script
from Code.common.device import choose_compute
from Code.faces.predict import Predictor
from Code.faces.settings import UNCERTAIN_MARGIN
from Code.readers.ferplus import read_ferplus
from Code.recipes.ferplus_accuracy import ferplus_split
from Code.training.loops import evaluate

EDGES = (0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.9, 1)


def table(logits: np.ndarray, truth: np.ndarray) -> list[str]:
    """A line for each range of margins, and one for all answers that are uncertain."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = odds / odds.sum(axis=1, keepdims=True)
    order = np.argsort(-shares, axis=1)
    ranked = np.take_along_axis(shares, order, axis=1)
    margins, best, second = ranked[:, 0] - ranked[:, 1], order[:, 0] == truth, order[:, 1] == truth
    ranges = [*pairwise(EDGES), (0, UNCERTAIN_MARGIN)]
    lines = []
    for low, high in ranges:
        inside = (margins >= low) & (margins < high if high < 1 else margins <= 1)
        if inside.any():
            rates = f"best {100 * best[inside].mean():3.0f} %, second best {100 * second[inside].mean():3.0f} %"
            lines.append(f"  {low:.2f} to {high:.2f}: {inside.sum():5d} of {len(truth)}, right: {rates}")
    return lines


def main() -> int:
    """Prints a table for FER+ and one for the clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", metavar="PATH", help="another network than the shipped FAN")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder of FER+")
    parser.add_argument("--clips", nargs="*", default=[], type=Path, metavar="DIR")
    args = parser.parse_args()
    predictor = Predictor(args.checkpoint)
    if args.data_root:
        part = ferplus_split(read_ferplus(args.data_root)["PublicTest"], "majority", predictor.image_size)
        logits = evaluate(predictor.fan, part.batches, choose_compute(), part.transform).logits
        print("FER+ validation images", *table(logits.numpy(), part.table.targets.numpy()), sep="\n", flush=True)
    if args.clips:
        print("clips", *table(*Seen(files_in(args.clips, VIDEOS)).logits(predictor)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
