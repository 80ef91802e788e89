"""Crops the faces of labeled pictures, one per picture, into a tree to pretrain on.

    python -m Code.recipes.stills lfw/images --table lfw/legend.csv --columns image emotion --output Data/LFW
    python -m Code.recipes.stills london --classes smiling_front=happiness neutral_front=neutral --output Data/London

Writes <Class>/<picture>.png: the crop of FER2013 in gray, for `Pretrain_FERPlus.py --extra`, or with `--crop paper` the
crop of the paper in color, for `--dataset folders`. The class comes from the table, or from the folder of the picture.
A picture without a class goes to `unlabeled`. Of several faces, a large one near the center is chosen. Existing crops
are skipped.
"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.commandline import add_device, check_outputs, number, pair, run_script, script_parser
from ..common.device import choose_compute
from ..common.errors import UsageError
from ..common.files import atomic_file, regular, writing
from ..common.names import printable
from ..common.progress import Progress
from ..data.clips import DataError
from ..data.images import read_image
from ..data.listing import FRAME_SUFFIXES, walk
from ..faces.align import FER2013_EYES, PAPER_EYES, align_face
from ..faces.detect import Detector, Faces
from ..faces.settings import MIN_FACE
from .pictures import UNLABELED

CROPS = {"fer2013": (FER2013_EYES, "L"), "paper": (PAPER_EYES, "RGB")}
SURE = 0.9  # the lowest detection score of a face to learn from


def _labeled(root: Path, table: Path | None, columns: Sequence[str], classes: dict[str, str]) -> dict[Path, str]:
    """The class of every picture in a folder and its subfolders, or of every line of a table."""
    if table is None:
        notes: list[str] = []
        files = [Path(folder, name) for folder, names in walk(str(root), notes) for name in names]
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        files = [path for path in files if path.suffix.lower() in FRAME_SUFFIXES]
        named = [(path, "" if path.parent == root else path.parent.name) for path in files]
    else:
        try:
            with open(table, newline="", encoding="utf-8-sig", opener=regular) as file:
                rows = [[(row[column] or "").strip() for column in columns] for row in csv.DictReader(file)]
        except KeyError as error:
            raise DataError(f"{table}: no column {error}; see --columns") from None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{table}: cannot be read as a CSV file ({error})") from None
        named = [(root / path, name) for path, name in rows]
    if not named:
        raise DataError(f"{printable(str(table or root))}: no pictures")
    labels: dict[Path, str] = {}
    for path, name in named:
        label = classes.get(name, name.lower()) or UNLABELED
        labels[path] = label if labels.get(path, label) == label else UNLABELED  # contradictory
    return labels


def main_face(faces: Faces, shape: tuple[int, ...]) -> int | None:
    """The index of the largest face, weighted by its distance from the center; None without a face of score `SURE`."""
    if not (faces.scores >= SURE).any():
        return None
    middle = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2 / np.array([shape[1], shape[0]]) - 0.5
    area = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1)
    return int(np.argmax(np.where(faces.scores >= SURE, area * np.exp(-8 * (middle**2).sum(axis=1)), -1)))


def _crop_files(labels: dict[Path, str], output: Path) -> dict[Path, Path]:
    """The file of each crop, named like the picture; like its folders, too, where a class has several of that name."""
    root = Path(os.path.commonpath([path.parent for path in labels]))
    often = Counter((label, path.stem.casefold()) for path, label in labels.items())
    files = {}
    for path, label in labels.items():
        alone = often[label, path.stem.casefold()] == 1
        name = path.stem if alone else "_".join(path.relative_to(root).with_suffix("").parts)
        files[path] = output / label / f"{name}.png"
    check_outputs(files.values(), [])
    return files


def _crop(path: Path, target: Path, detector: Detector, crop: str, side: int) -> str:
    """Writes the crop of a picture's face, unless it is there, and says what it did."""
    if target.exists():
        return "skipped"
    image = read_image(str(path))
    faces = detector(image)
    chosen = main_face(faces, image.shape)
    if chosen is None:
        return "no face"
    eyes, mode = CROPS[crop]
    face = Image.fromarray(align_face(image, faces.landmarks[chosen], faces.boxes[chosen], eyes))
    with atomic_file(target) as file:
        face.convert(mode).resize((side, side), Image.Resampling.BILINEAR).save(file, "PNG")
    return "written"


def main(argv: Sequence[str] | None = None) -> int:
    """Crops the faces; returns the exit status: 1 if there is no face at all."""
    parser = script_parser(__doc__, prog="python -m Code.recipes.stills")
    parser.add_argument("root", type=Path, metavar="PICTURES", help="folder of pictures; subfolders may name classes")
    parser.add_argument("--output", type=Path, required=True, metavar="TREE", help="gets <Class>/<picture>.png")
    parser.add_argument("--table", type=Path, metavar="FILE", help="a CSV file with the classes of the pictures")
    parser.add_argument("--columns", nargs=2, default=["path", "label"], metavar=("PATH", "CLASS"), help="of it")
    parser.add_argument("--classes", nargs="+", type=pair, default=[], metavar="OLD=NEW", help="classes to rename")
    parser.add_argument("--crop", choices=tuple(CROPS), default="fer2013", help="fer2013: in gray; paper: in color")
    parser.add_argument("--size", type=number(32, 224, int), default=112, metavar="PIXELS", help="side of a crop")
    add_device(parser)
    args = parser.parse_args(argv)
    if not args.root.is_dir():
        raise UsageError(f"{args.root}: no such folder")
    classes = dict(renaming.split("=", 1) for renaming in args.classes)
    labels = _labeled(args.root, args.table, args.columns, classes)
    files = _crop_files(labels, args.output)
    detector = Detector(choose_compute(args.device, "fp32").device, min_face=MIN_FACE)
    outcomes: Counter[str] = Counter()
    with writing(args.output), Progress("crop", len(files), unit="pictures") as progress:
        for path, target in files.items():
            try:
                outcomes[_crop(path, target, detector, args.crop, args.size)] += 1
            except DataError as error:
                progress.say(str(error))
                outcomes["unreadable"] += 1
            progress()
    crops = Counter(label for path, label in labels.items() if files[path].exists())
    print(f"{args.output}: " + ", ".join(f"{label} {count}" for label, count in crops.most_common()))
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    return 0 if crops else 1


if __name__ == "__main__":
    sys.exit(run_script(main))
