"""The first picture of the README: the faces of docs/example.mp4, their attention, and the true intensity of the smile.

    python benchmarks/example_figure.py --figure docs/example.png

Run it again when the shipped network changes. It also says how well the weights of the frames rank their intensity.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.common.commandline import run_script
from Code.common.files import atomic_file

EXAMPLE = Path(__file__).resolve().parents[1] / "docs" / "example.mp4"
DPI = 130
COLORS = 256  # of the palette; a third of the size of a picture with all colors


def true_intensity(path: Path) -> dict[str, float]:
    """Frame -> intensity, as `tools.onset` writes it."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["frame"]: float(row["intensity"]) for row in csv.DictReader(file)}


def main() -> int:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=EXAMPLE, help="with a table of the same name")
    parser.add_argument("--checkpoint", metavar="PATH", help="another network than the shipped FAN")
    parser.add_argument("--figure", type=Path, required=True, help="the PNG to write")
    args = parser.parse_args()

    from Code.faces.figures import attention_picture
    from Code.faces.predict import Predictor
    from Code.results.figures import choose_frames, figure_bytes
    from Code.training.metrics import attention_metrics

    answer = Predictor(args.checkpoint, "cpu")(args.clip)
    known = true_intensity(args.clip.with_suffix(".csv"))
    truth = np.array([known[frame] for frame in answer.frames])
    shown = choose_frames(answer.weights)
    figure = attention_picture(answer, shown, answer.crops(shown), truth)
    with Image.open(io.BytesIO(figure_bytes(figure, "png", dpi=DPI))) as picture, atomic_file(args.figure) as file:
        picture.convert("RGB").quantize(COLORS).save(file, "PNG", optimize=True)
    correlation, auc = attention_metrics({"clip": answer.weights}, {"clip": truth}).values()
    print(f"wrote {args.figure}: {answer!r}")
    print(f"weights and true intensity: rank correlation {correlation:.3f}, AUC {auc:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
