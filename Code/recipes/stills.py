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
import torch
from PIL import Image

from ..common.commandline import add_device, check_outputs, pair, run_script, script_parser, whole_number
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


def labeled_pictures(
    root: Path, table: Path | None, columns: Sequence[str], classes: dict[str, str]
) -> list[tuple[Path, str]]:
    """(file, class) of every picture in a folder and its subfolders, or of every line of a table.

    Args:
        columns: of the table: the picture's path, relative to `root`, and its class.
        classes: class of the folders or the table -> class to write; others become lower case.

    Raises:
        DataError: the table cannot be read, or there are no pictures.
    """
    if table is None:
        notes: list[str] = []
        files = sorted(
            Path(folder, name)
            for folder, names in walk(str(root), notes)
            for name in names
            if name.lower().endswith(FRAME_SUFFIXES)
        )
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        if not files:
            raise DataError(f"{printable(str(root))}: no pictures")
        named = [(path, "" if path.parent == root else path.parent.name) for path in files]
    else:
        try:
            with open(table, newline="", encoding="utf-8-sig", opener=regular) as file:
                reader = csv.DictReader(file)
                absent = set(columns) - set(reader.fieldnames or ())
                if absent:
                    raise DataError(f"{table}, line 1: columns missing: {', '.join(sorted(absent))}; see --columns")
                named = [(root / (row[columns[0]] or "").strip(), (row[columns[1]] or "").strip()) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{table}: cannot be read as a CSV file ({error})") from None
    classes_of: dict[Path, set[str]] = {}
    for path, name in named:
        classes_of.setdefault(path, set()).add(classes.get(name, name.lower()) or UNLABELED)
    # A picture with contradictory labels counts as unlabeled.
    return [(path, names.pop() if len(names) == 1 else UNLABELED) for path, names in classes_of.items()]


def main_face(faces: Faces, shape: tuple[int, ...]) -> int | None:
    """The index of the largest face, weighted by its distance from the center; None without a face of score `SURE`."""
    if not (faces.scores >= SURE).any():
        return None
    middle = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2 / np.array([shape[1], shape[0]]) - 0.5
    area = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1)
    return int(np.argmax(np.where(faces.scores >= SURE, area * np.exp(-8 * (middle**2).sum(axis=1)), -1)))


def crop_files(pictures: Sequence[tuple[Path, str]], output: Path) -> dict[Path, Path]:
    """The file of each picture's crop, named like the picture.

    Pictures of one class and name (001.jpg of several people) are called by their folders, too: `anna_001.png`.

    Raises:
        UsageError: two pictures would still be one file.
    """
    root = Path(os.path.commonpath([path.parent for path, _ in pictures]))
    often = Counter((label, path.stem.casefold()) for path, label in pictures)
    files = {}
    for path, label in pictures:
        parts = path.relative_to(root).with_suffix("").parts
        name = "_".join(parts) if often[label, path.stem.casefold()] > 1 else path.stem
        files[path] = output / label / f"{name}.png"
    check_outputs(files.values(), [])
    return files


def crop_still(path: Path, target: Path, detector: Detector, crop: str, side: int) -> str:
    """Writes the crop of a picture's face, unless it is there; returns "written", "skipped" or "no face".

    Raises:
        DataError: the picture cannot be read.
    """
    if target.exists():
        return "skipped"
    image = read_image(str(path))
    (faces,) = detector(image[None])
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
    parser.add_argument("--size", type=whole_number(32, 224), default=112, metavar="PIXELS", help="side of a crop")
    add_device(parser)
    args = parser.parse_args(argv)
    if not args.root.is_dir():
        raise UsageError(f"{args.root}: no such folder")
    classes = {old: new for old, _, new in (text.partition("=") for text in args.classes)}
    pictures = labeled_pictures(args.root, args.table, args.columns, classes)
    device = "cuda" if args.device == "auto" and torch.cuda.is_available() else args.device
    detector = Detector("cpu" if device == "auto" else device, min_face=MIN_FACE)
    outcomes: Counter[str] = Counter()
    crops: Counter[str] = Counter()
    files = crop_files(pictures, args.output)
    with writing(args.output), Progress("crop", len(pictures), unit="pictures") as progress:
        for path, label in pictures:
            try:
                outcome = crop_still(path, files[path], detector, args.crop, args.size)
            except DataError as error:
                progress.say(str(error))
                outcome = "unreadable"
            outcomes[outcome] += 1
            crops[label] += outcome in ("written", "skipped")
            progress()
    print(f"{args.output}: " + ", ".join(f"{label} {count}" for label, count in crops.most_common() if count))
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    return 0 if crops.total() else 1


if __name__ == "__main__":
    sys.exit(run_script(main))
