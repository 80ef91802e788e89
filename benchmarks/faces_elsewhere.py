"""How well a network recognizes FER+'s validation images, and stills and clips of people that it never saw.

    python benchmarks/faces_elsewhere.py --checkpoint model/RUN other.pth.tar --data-root Data/FERPlus \
        --stills JAFFE --clips MEAD CREMA-D

Stills and clips are evaluated as Predict_Video.py does it: face detection, crop, all frames. Their classes come from
their names: JAFFE (KA.AN1.39.jpg), MEAD (M030_front_angry_level3_001.mp4), CREMA-D (1001_DFA_ANG_XX.flv), or from the
folder (anger/any.jpg). Files of classes that a network does not have are skipped.

Every network is evaluated with several priors: S times the logarithm of FER+'s class shares is added to its logits.
With --balance 1, S = 0 is neutral and S = 1 is the prior of FER+; without it, these are S = -1 and 0. Choose the prior
on validation images and development sets only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.common.commandline import run_script
from Code.common.device import choose_compute
from Code.common.names import FERPLUS_LABELS
from Code.data.augment import PlainFrames
from Code.data.batches import EvaluationBatches
from Code.data.clips import DataError
from Code.faces.predict import NoFaceError, Predictor
from Code.faces.prediction import Prediction
from Code.network.prior import class_shares
from Code.readers.ferplus import read_ferplus
from Code.recipes.faces import ferplus_faces
from Code.training.loops import evaluate
from Code.training.metrics import classification_metrics

PICTURES, VIDEOS = (".jpg", ".png", ".jpeg", ".bmp"), (".mp4", ".flv", ".avi", ".mov", ".mkv")
# Code or word in a name -> class.
CODES = {
    **{"AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "NE": "neutral", "SA": "sadness"},
    **{"SU": "surprise", "ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral"},
    **{"SAD": "sadness", "SUR": "surprise", "angry": "anger", "disgusted": "disgust", "happy": "happiness"},
    **{"sad": "sadness", "surprised": "surprise", **{name: name for name in FERPLUS_LABELS}},
}
_NAMES = (
    re.compile(r"^[A-Z]{2}\.([A-Z]{2})\d\.\d+$"),
    re.compile(r"^[MW]\d{3}_[a-z]+_([a-z]+)_level\d_\d+$"),
    re.compile(r"^\d{4}_[A-Z]{3}_([A-Z]{3})_[A-Z]{2}$"),
)
PRIORS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)


def shown_in(path: Path) -> str | None:
    """The class in the name of a file or of its folder; None if neither has one."""
    for pattern in _NAMES:
        if match := pattern.match(path.stem):
            return CODES.get(match[1])
    return CODES.get(path.parent.name)


def files_in(folders: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """Files with a class in their names."""
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes]
    return [path for path in found if shown_in(path)]


class Seen:
    """Stills or clips. Faces are detected once, and reused for every network with the same kind of crop."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self._found: dict[bool, dict[Path, Prediction]] = {}

    def logits(self, predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
        """Logits float [N, C] and class indices [N]; zeros without a face."""
        labels = list(predictor.info["labels"])
        known = self._found.setdefault(predictor.knows_fer2013, {})
        rows, truth = [], []
        for path in self.files:
            if shown_in(path) not in labels:
                continue
            truth.append(labels.index(str(shown_in(path))))
            try:
                if path not in known:
                    known[path] = predictor(path)
                    rows.append(known[path].logits)
                else:
                    crops = known[path].crops()
                    features = torch.cat([predictor.encode(crops[at : at + 32]) for at in range(0, len(crops), 32)])
                    rows.append(predictor.fan.attend(features[None]).logits[0].cpu().numpy())
            except NoFaceError:
                rows.append(np.zeros(len(labels), dtype=np.float32))
            except DataError as error:
                raise DataError(f"{path}: {error}") from None
        return np.array(rows), np.array(truth, dtype=np.int64)


def measured(logits: np.ndarray, truth: np.ndarray, classes: Sequence[int] | None = None) -> dict:
    """Metrics of rows of logits; answers are limited to `classes`, if given."""
    scores = torch.from_numpy(logits).float()
    if classes is not None:
        rest = [index for index in range(scores.shape[1]) if index not in classes]
        scores[:, rest] = -torch.inf
    return classification_metrics(scores.softmax(dim=1), torch.from_numpy(truth))


def main() -> int:
    """Measures every checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", required=True, metavar="PATH")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder of FER+ (default: no validation images)")
    parser.add_argument("--split", default="PublicTest", choices=("PublicTest", "PrivateTest"), help="of FER+")
    parser.add_argument("--stills", nargs="*", default=[], type=Path, metavar="DIR")
    parser.add_argument("--clips", nargs="*", default=[], type=Path, metavar="DIR")
    parser.add_argument("--priors", nargs="+", default=list(PRIORS), type=float, metavar="S")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append all results, one line per network and prior")
    args = parser.parse_args()
    compute = choose_compute("auto", "auto")
    stills, clips = Seen(files_in(args.stills, PICTURES)), Seen(files_in(args.clips, VIDEOS))
    splits = read_ferplus(args.data_root) if args.data_root else {}
    if splits:
        shares = class_shares(ferplus_faces(splits["Training"], "votes").targets, len(FERPLUS_LABELS))
        tables = {
            "majority": ferplus_faces(splits[args.split], "majority"),
            "most voted": ferplus_faces(splits[args.split], "plurality"),
        }
    for path in args.checkpoint:
        predictor = Predictor(path)
        labels = predictor.info["labels"]
        rows: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if splits and labels == FERPLUS_LABELS:
            for name, faces in tables.items():
                batches = EvaluationBatches(faces.table(), faces.store(), batch_frames=256)
                transform = PlainFrames(predictor.image_size)
                logits = evaluate(predictor.fan, batches, compute=compute, transform=transform).logits
                rows[name] = logits.numpy(), faces.targets.numpy()
        rows |= {name: seen.logits(predictor) for name, seen in (("stills", stills), ("clips", clips)) if seen.files}
        print(f"{path}: {predictor.image_size} x {predictor.image_size} pixels")
        known = splits and labels == FERPLUS_LABELS
        for prior in args.priors if known else [0.0]:
            offset = prior * shares.log().numpy() if known else np.zeros(len(labels), dtype=np.float32)
            parts, record = [], {"checkpoint": str(path), "prior": prior}
            for name, (logits, truth) in rows.items():
                classes = sorted(set(truth.tolist())) if name == "stills" else None
                metrics = measured(logits + offset, truth, classes)
                count, hits = metrics["num_clips"], round(metrics["accuracy"] * metrics["num_clips"])
                record[name] = {key: metrics[key] for key in ("accuracy", "accuracy_interval", "uar", "confusion")}
                low, high = metrics["accuracy_interval"]
                parts.append(
                    f"{name} {hits} of {count}, {100 * metrics['accuracy']:.1f} % [{100 * low:.0f}, {100 * high:.0f}] "
                    f"UAR {100 * metrics['uar']:.1f} %"
                )
            print(f"  prior {prior:+.2f}: " + " | ".join(parts), flush=True)
            if args.json:
                with args.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
