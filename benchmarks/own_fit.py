"""What labeled clips of other people are worth: accuracy against how many of them a classifier is fitted to.

    python benchmarks/own_fit.py FOLDER... [--person-pattern REGEX] [--checkpoint FAN]

FOLDER holds <Class>/<name>, as for Train_Own_Clips.py. In each of ten draws, 60 % of the persons give the clips of the
fit, and all clips of the others are answered. Twice: without, and with each person's neutral clips as reference.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from Code.data.clips import Clip, ClipSet
from Code.data.folds import name_persons
from Code.faces.predict import Predictor
from Code.own_clips import OwnClips, classes_kept, encoded, find_clips
from Code.recipes.fit import fit_head, fit_helps

COUNTS = (8, 16, 24, 50, 100, 200, 400)
DRAWS = 10


def read(folder: Path, pattern: str, predictor: Predictor, kept: Path) -> OwnClips:
    """The clips of a folder with their features, which stay in the file `kept`."""
    features = encoded(find_clips(folder), predictor, 0.0, kept)
    labels = tuple(sorted({name.split("/")[0] for name in features}))
    clips = ClipSet([Clip(name, "", ("",), labels.index(name.split("/")[0])) for name in features], labels, str(folder))
    named = name_persons(clips, pattern).clips
    return OwnClips(
        names=[clip.name for clip in named],
        classes=labels,
        targets=np.array([clip.label for clip in named]),
        held=np.zeros(len(named), dtype=bool),
        persons=np.array([clip.person for clip in named]),
        features=np.stack([features[clip.name] for clip in named]),
    )


def curve(own: OwnClips, features: np.ndarray, predictor: Predictor) -> dict[int, list[tuple[float, float]]]:
    """For each number of clips: the accuracies in % of each draw, before the fit and after."""
    kept, fan = classes_kept(own.classes, predictor.labels), predictor.fan
    rows = [predictor.labels.index(kept[name]) for name in own.classes]
    start = fan.classifier.weight[rows].double().numpy(), fan.classifier.bias[rows].double().numpy()
    people, result = sorted(set(own.persons)), {count: [] for count in (0, *COUNTS)}

    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        chosen = rng.permutation(people)[: round(0.6 * len(people))]
        fit_part = np.isin(own.persons, chosen)
        order = rng.permutation(np.flatnonzero(fit_part))

        def right(weight: np.ndarray, bias: np.ndarray, at: np.ndarray = ~fit_part) -> float:
            return 100 * float(((features[at] @ weight.T + bias).argmax(axis=1) == own.targets[at]).mean())

        result[0].append((right(*start), right(*start)))
        for count in COUNTS:
            if count > len(order):
                continue
            some = order[:count]
            x, y = features[some], own.targets[some]
            helps, _ = fit_helps(x, y, own.persons[some].tolist(), *start)
            head = fit_head(x, y, *start) if helps else start
            result[count].append((right(*start), right(*head)))
    return result


def main() -> None:
    """Prints a table for each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--person-pattern", default=r"/([A-Za-z]*[0-9]*)", metavar="REGEX")
    parser.add_argument("--checkpoint", type=Path, metavar="FAN", help="default: the FAN that comes with the project")
    parser.add_argument(
        "--keep", type=Path, default=Path("model"), metavar="FOLDER", help="for the features of each FOLDER"
    )
    args = parser.parse_args()
    predictor = Predictor(args.checkpoint, "cpu", precision="fp32")
    stated = predictor.info["neutral_feature"]
    for folder in args.folders:
        own = read(folder, args.person_pattern, predictor, args.keep / f"{folder.name}.features.pt")
        width = own.features.shape[1]
        mean = None if stated is None else np.tile(stated, width // len(stated))
        print(f"{folder}: {len(own.names)} clips, {len(own.classes)} classes, {len(set(own.persons))} persons")
        referenced, _, some = own.with_references(mean)
        for way, features in (("without references", own.features), (f"{some} with a reference", referenced)):
            if way.startswith("0 "):
                continue
            for count, pairs in curve(own, features, predictor).items():
                if pairs:
                    before, after = np.array(pairs).T
                    low, high = np.percentile(after - before, [2.5, 97.5])
                    gain = f"{(after - before).mean():+.1f} points ({low:+.1f} to {high:+.1f} in {len(pairs)} draws)"
                    print(f"  {way}, {count:3} labeled: {after.mean():.1f} % right, {gain}")


if __name__ == "__main__":
    main()
