"""Splits clips into training and validation, as a list that says which clip is what.

    python -m Code.data.split faces --output clips.csv
    python -m Code.data.split faces --output clips.csv --person-pattern '^[^/]+/([^_]+)_'

`faces` holds <Class>/<clip>/<frame>, as Prepare_Faces.py writes them. The list is of the project's own format:
`python Demo_AFEW_Attention.py --dataset list --train-root faces --train-list clips.csv`.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from Code.common.commandline import run_script
from Code.data.clips import ClipSet, DataError
from Code.data.folds import hold_out, name_persons
from Code.data.readers.folders import read_folders

SHARE = 0.25


def split_clips(clips: ClipSet, *, share: float = SHARE, seed: int = 0) -> tuple[ClipSet, ClipSet, str]:
    """Training clips, validation clips, and how they were chosen, for people.

    Whole persons are drawn where the clips name them, else some clips of each class.

    Raises:
        DataError: fewer than two classes, or a class of which no clip would be left on both sides.
    """
    counts = Counter(clip.label for clip in clips.clips)
    few = [f"{clips.labels[label]} has {counts[label]}" for label in range(len(clips.labels)) if counts[label] < 2]
    if len(clips.labels) < 2 or few:
        what = f"clips with faces: {', '.join(few)}" if few else f"one class alone, {clips.labels[0]}"
        raise DataError(f"{clips.root}: {what}; two classes of two clips each are the least that can be trained on")
    train, val, how = hold_out(clips, seed, share)
    left = {clip.label for clip in train.clips}
    lost = [name for label, name in enumerate(clips.labels) if label not in left]
    if lost:
        raise DataError(
            f"{clips.root}: all clips of {', '.join(lost)} are of persons held out for validation; "
            "try another --seed, or a smaller share"
        )
    return train, val, how


def as_list(train: ClipSet, val: ClipSet) -> str:
    """The text of a list: path,label,split,person."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "split", "person"])
    for name, clips in (("train", train), ("val", val)):
        for clip in clips.clips:
            writer.writerow([clip.name, clips.labels[clip.label], name, clip.person])
    return text.getvalue()


def between(text: str) -> float:
    """An argparse type: a share above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Split a tree of face folders into training and validation clips."""
    parser = argparse.ArgumentParser(prog="python -m Code.data.split", description=main.__doc__)
    parser.add_argument("root", metavar="FACES", help="holds <Class>/<clip>/<frame>")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the list to write")
    parser.add_argument(
        "--share", type=between, default=SHARE, metavar="S", help="of the clips, for validation (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the drawing")
    parser.add_argument(
        "--person-pattern",
        metavar="REGEX",
        help="finds the person in a clip's name, `Happy/anna_03`: its first group, or all; no person is then in both",
    )
    args = parser.parse_args(argv)
    try:
        if args.seed < 0:
            raise DataError(f"--seed {args.seed}: is not from zero up")
        clips = read_folders(args.root, skip_empty=True)
        if args.person_pattern:
            clips = name_persons(clips, args.person_pattern)
        train, val, how = split_clips(clips, share=args.share, seed=args.seed)
        temporary = args.output.with_name(f".{args.output.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(as_list(train, val), encoding="utf-8")
            os.replace(temporary, args.output)
        except OSError as error:
            raise DataError(f"--output {args.output}: cannot be written ({error.strerror})") from error
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: {len(train.clips)} clips to train on, {len(val.clips)} held out ({how})")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main))
