"""Splits clips into training and validation clips, and writes a list of both.

    python -m Code.readers.heldout faces --output clips.csv
    python -m Code.readers.heldout faces --output clips.csv --person-pattern '^[^/]+/([^_]+)_'

`faces` contains <Class>/<clip>/<frame>, as Prepare_Faces.py writes them. The list is a plain list:
`python Demo_AFEW_Attention.py --dataset list --train-root faces --train-list clips.csv`.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..common.commandline import check_outputs, held_out_share, run_script, script_parser
from ..common.commandline import seed as any_seed
from ..common.files import save_text, writing
from ..common.names import counted
from ..data.clips import ClipSet, DataError
from ..data.folds import hold_out, name_persons
from ..data.listing import FRAME_SUFFIXES
from .folders import read_folders

SHARE = 0.25


def split_clips(clips: ClipSet, *, share: float = SHARE, seed: int = 0) -> tuple[ClipSet, ClipSet, str]:
    """Draws a share of validation clips: all clips of some persons, or some of each class if persons are unknown.

    Returns:
        Training clips, validation clips, and how they were chosen, for the log.

    Raises:
        DataError: there are fewer than two classes, or a class would have no training clip.
    """
    counts = Counter(clips.labels[clip.label] for clip in clips.clips)
    few = [f"{name} has {counts[name]}" for name in clips.labels if counts[name] < 2]
    if len(clips.labels) < 2 or few:
        what = f"too few clips: {', '.join(few)}" if few else f"only one class, {clips.labels[0]}"
        raise DataError(f"{clips.root}: {what}; a training needs at least two classes with two clips each")
    train, val, how = hold_out(clips, seed, share)
    left = {clips.labels[clip.label] for clip in train.clips}
    if lost := [name for name in clips.labels if name not in left]:
        raise DataError(
            f"{clips.root}: all clips of {', '.join(lost)} show persons held out for validation; "
            "try another --seed, or a smaller --share"
        )
    return train, val, how


def as_list(train: ClipSet, val: ClipSet) -> str:
    """The text of a plain list with the columns path, label, split and person."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "split", "person"])
    for name, clips in (("train", train), ("val", val)):
        writer.writerows([clip.name, clips.labels[clip.label], name, clip.person] for clip in clips.clips)
    return text.getvalue()


def main(words: Sequence[str] | None = None) -> int:
    """Splits a tree of face folders into training and validation clips; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m Code.readers.heldout")
    parser.add_argument("root", metavar="FACES", help="contains <Class>/<clip>/<frame>")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the list to write")
    parser.add_argument(
        "--share", type=held_out_share, default=SHARE, metavar="S", help="of the clips that are held out"
    )
    parser.add_argument("--seed", type=any_seed, default=0, metavar="N", help="of the random draw")
    parser.add_argument(
        "--person-pattern",
        metavar="REGEX",
        help="finds the person in a clip's name, `Happy/anna_03`: its first group, or the whole match. "
        "Keeps all clips of a person in one split",
    )
    args = parser.parse_args(words)
    check_outputs([args.output], [args.root], FRAME_SUFFIXES)
    clips = read_folders(args.root, skip_empty=True)
    if args.person_pattern:
        clips = name_persons(clips, args.person_pattern)
    train, val, how = split_clips(clips, share=args.share, seed=args.seed)
    with writing(args.output):
        save_text(as_list(train, val), args.output)
    print(f"{args.output}: {counted(len(train.clips), 'clip')} to train on, {len(val.clips)} held out ({how})")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main))
