"""Says which expression the main person of a video, an image or a folder of frames shows.

examples:
  a video                           python Predict_Video.py clip.mp4
  many, as a table                  python Predict_Video.py clips/*.mp4 --csv answers.csv
  frames that are face crops        python Predict_Video.py --aligned Data/Val/Happy/000149120
  with a network of one's own       python Predict_Video.py clip.mp4 --checkpoint model/RUN/best.pth

Videos, and pictures that are not face crops, need `pip install -r requirements-faces.txt`.
exit status: 0 all answered, 1 an input shows no face, 2 an input, a flag or an installation is wrong
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from Code.data.clips import DataError
from Code.faces import MissingExtraError, NoFaceError, Prediction, Predictor
from Code.network.fan import SCORE_FUSION
from Code.training.engine import choose_compute
from Code.training.errors import UsageError
from Code.training.protocols import ATTENTIONS
from Code.training.setup import HelpFormatter, run_script

SHOWN_FRAMES = 3


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    usage, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=usage, epilog=examples, formatter_class=HelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="a video, an image, or a folder of frames")
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="a run's best.pth, a published FAN or a FER+ classifier (default: the newest best.pth in "
        "model/, else the FER+ classifier in pretrain_model/)",
    )
    parser.add_argument(
        "--image-size", type=pixels, metavar="PIXELS", help="input side (default: what the checkpoint says)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--aligned", action="store_true", help="frames are face crops already: detect nothing")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write every answer with its frames")
    parser.add_argument("--csv", type=output_file, metavar="FILE", help="write a line per answer")
    return parser


def describe(predictor: Predictor) -> str:
    """Which network answers, and what it was trained for."""
    info = predictor.info
    kind = "FAN" if info["kind"] == "published" else info["kind"]
    dataset = info["dataset"] or ("FER+" if predictor.knows_fer2013 else None)
    return (
        f"checkpoint: {info['path']} ({kind}, {ATTENTIONS[predictor.fan.at_type]}, "
        f"{f'trained on {dataset}' if dataset else 'it does not say what it was trained on'}, "
        f"{predictor.image_size} x {predictor.image_size} pixels)\n"
        f"labels: {', '.join(info['labels'])}"
    )


def report(prediction: Prediction, at_type: int) -> str:
    """One answer in words."""
    faces = len(prediction.frames)
    frames = f"{prediction.num_frames} frame" + ("" if prediction.num_frames == 1 else "s")
    searched = "" if np.isnan(prediction.boxes).all() else f", {faces} with a face"
    lines = [f"{prediction.path}: {prediction.expression} ({frames}{searched})"]
    lines += [f"  {label:<12} {share:.3f}" for label, share in prediction.probabilities.items()]
    if at_type == SCORE_FUSION:
        lines.append(f"  every frame counts the same (score fusion): {1 / faces:.4f}")
    else:
        shown = []
        for index in prediction.most_weighted(SHOWN_FRAMES):
            time, weight = prediction.times[index], prediction.weights[index]
            name = prediction.frames[index] if math.isnan(time) else f"{time:.2f} s"
            shown.append(f"{name} ({weight:.4f})")
        lines.append(f"  most weighted: {', '.join(shown)}")
    return "\n".join(lines)


def as_record(prediction: Prediction, checkpoint: str) -> dict[str, Any]:
    """One answer as plain values; what is not there (the time of an image, a box) is None."""

    def plain(array: Any) -> list[Any]:
        return [None if math.isnan(value) else value for value in array.tolist()]

    return {
        "input": prediction.path,
        "checkpoint": checkpoint,
        "expression": prediction.expression,
        "probabilities": prediction.probabilities,
        "num_frames": prediction.num_frames,
        "num_faces": len(prediction.frames),
        "frames": list(prediction.frames),
        "times": plain(prediction.times),
        "alpha": plain(prediction.alpha),
        "weights": plain(prediction.weights),
        "boxes": [plain(box) for box in prediction.boxes],
    }


def write_csv(path: Path, predictions: list[Prediction], labels: tuple[str, ...]) -> None:
    """A line per answer: input, expression, counts, a probability per label in the network's order."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["input", "expression", "num_frames", "num_faces", *labels])
        for p in predictions:
            shares = [f"{p.probabilities[label]:.6f}" for label in labels]
            writer.writerow([p.path, p.expression, p.num_frames, len(p.frames), *shares])


def pixels(text: str) -> int:
    """An input side; ResNet18 makes a single feature of 32 pixels."""
    if not text.isdecimal() or not 32 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels from 32 to 4096")
    return int(text)


def output_file(text: str) -> Path:
    """A file to write at the end; what would fail then, fails before the work."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        wrong = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise argparse.ArgumentTypeError(f"{text}: {wrong}; name a file in a folder that exists")
    return path


def main() -> int:
    """Answers every input; one that is broken or shows no face is named, and the others go on."""
    args = build_parser().parse_args()
    device = choose_compute(args.device, "fp32").device
    predictor = Predictor(args.checkpoint, device, image_size=args.image_size)
    print(describe(predictor), flush=True)
    if predictor.info["dataset"] == "sample":
        print("note: it was trained on drawn faces; what it says about real ones means little", file=sys.stderr)
    predictions, status = [], 0
    for path in args.inputs:
        try:
            prediction = predictor(path, aligned=args.aligned, progress=True)
        except MissingExtraError as error:
            raise UsageError(str(error)) from error
        except NoFaceError as error:
            print(error, file=sys.stderr)
            status = max(status, 1)
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
        else:
            predictions.append(prediction)
            print(report(prediction, predictor.fan.at_type), flush=True)
    try:
        if args.csv:
            write_csv(args.csv, predictions, predictor.info["labels"])
        if args.json:
            records = [as_record(prediction, predictor.info["path"]) for prediction in predictions]
            args.json.write_text(json.dumps(records, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be written ({error.strerror})") from error
    return status


if __name__ == "__main__":
    sys.exit(run_script(main))
