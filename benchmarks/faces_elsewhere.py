r"""How well a network recognizes FER+'s validation images, and stills and clips of people that it never saw.

    python benchmarks/faces_elsewhere.py --checkpoint model/RUN other.pth.tar --data-root Data/FERPlus \
        --stills JAFFE --clips MEAD CREMA-D

Stills and clips are evaluated as Predict_Video.py does it: face detection, crop, all frames. Their classes come from
their names: JAFFE (KA.AN1.39.jpg), MEAD (M030_front_angry_level3_001.mp4), CREMA-D (1001_DFA_ANG_XX.flv), or from the
folder (anger/any.jpg). Files of classes that a network does not have are skipped.

Every network is evaluated with the prior of its file, with a uniform prior and with that of FER+. A line of a table is
a set: WAR and UAR with 95 % intervals, cross-entropy, and the recall of each class. Choose a network and a prior on
validation images and development sets only.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.common.commandline import run_script
from Code.common.device import choose_compute
from Code.common.names import FERPLUS_LABELS
from Code.data.clips import DataError
from Code.faces.predict import NoFaceError, Predictor
from Code.faces.prediction import Prediction
from Code.network.prior import prior_shift, stated_shares
from Code.readers.ferplus import read_ferplus
from Code.recipes.ferplus_accuracy import ferplus_split
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
PRIORS = ("file", "uniform", "ferplus")


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


def row(name: str, logits: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> str:
    """A line of the table. Answers to stills are limited to the classes that occur among them."""
    scores = torch.from_numpy(logits).float()
    if name == "stills":
        scores[:, [index for index in range(len(labels)) if index not in truth]] = -torch.inf
    metrics = classification_metrics(scores.softmax(dim=1), torch.from_numpy(truth))
    (low, high), (least, most) = metrics["accuracy_interval"], metrics["uar_interval"]
    cells = [
        f"{name}, {len(truth)}",
        f"{100 * metrics['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})",
        f"{100 * metrics['uar']:.1f} ({100 * least:.1f} to {100 * most:.1f})",
        f"{F.cross_entropy(scores, torch.from_numpy(truth)):.2f}",
        *("-" if recall is None else f"{100 * recall:.1f}" for recall in metrics["per_class_recall"]),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Measures every checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", required=True, metavar="PATH")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder of FER+ (default: no images of FER+)")
    parser.add_argument("--split", default="PublicTest", choices=("PublicTest", "PrivateTest"), help="of FER+")
    parser.add_argument("--stills", nargs="*", default=[], type=Path, metavar="DIR")
    parser.add_argument("--clips", nargs="*", default=[], type=Path, metavar="DIR")
    args = parser.parse_args()
    compute = choose_compute("auto", "auto")
    stills, clips = Seen(files_in(args.stills, PICTURES)), Seen(files_in(args.clips, VIDEOS))
    splits = read_ferplus(args.data_root) if args.data_root else {}
    rules = {"majority": "FER+, majority", "plurality": "FER+, most voted"} if splits else {}
    for path in args.checkpoint:
        predictor = Predictor(path)
        labels = predictor.info["labels"]
        rows: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for rule, name in rules.items() if labels == FERPLUS_LABELS else ():
            part = ferplus_split(splits[args.split], rule, predictor.image_size)
            logits = evaluate(predictor.fan, part.batches, compute, part.transform).logits
            rows[name] = logits.numpy(), part.table.targets.numpy()
        rows |= {name: seen.logits(predictor) for name, seen in (("stills", stills), ("clips", clips)) if seen.files}
        for prior in PRIORS if predictor.info["class_shares"] else PRIORS[:2]:
            shift = np.zeros(len(labels), dtype=np.float32)
            if prior != "file":
                shift = prior_shift(stated_shares(prior, predictor.info), predictor.info).numpy()
            print(f"\n{path}, prior: {prior}\n")
            print(f"| set, images or clips | WAR % | UAR % | cross-entropy | {' | '.join(labels)} |")
            print("|---" * (len(labels) + 4) + "|")
            for name, (logits, truth) in rows.items():
                print(row(name, logits + shift, truth, labels), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
