"""Splits clips into training and validation clips, and writes a list of both.

    python -m Code.readers.heldout faces --output clips.csv
    python -m Code.readers.heldout faces --output clips.csv --person-pattern '^[^/]+/([^_]+)_'

`faces` contains <Class>/<clip>/<frame>, as Prepare_Faces.py writes them. The list is a plain list:
`python Demo_AFEW_Attention.py --dataset list --train-root faces --train-list clips.csv`.
`Split` reads it again, and warns of persons and copies that are on both sides.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.commandline import number, run_script, script_parser
from ..common.commandline import seed as any_seed
from ..common.files import save_text, writing
from ..common.wording import counted
from ..data.clips import ClipSet, DataError
from ..data.folds import hold_out, name_persons
from .folders import read_folders
from .plainlist import parse_plain_list

SHARE = 0.25
SHOWN = 5  # copies or persons named in a warning


def split_clips(clips: ClipSet, *, share: float = SHARE, seed: int = 0) -> tuple[ClipSet, ClipSet, str]:
    """Draws validation clips: all clips of some persons, or some clips of each class if persons are unknown.

    Args:
        clips: all clips.
        share: of the clips that become validation clips.
        seed: of the random draw.

    Returns:
        Training clips, validation clips, and how they were chosen, for the log.

    Raises:
        DataError: there are fewer than two classes, or a class would have no training or no validation clip.
    """
    counts = Counter(clip.label for clip in clips.clips)
    few = [f"{clips.labels[label]} has {counts[label]}" for label in range(len(clips.labels)) if counts[label] < 2]
    if len(clips.labels) < 2 or few:
        what = f"too few clips: {', '.join(few)}" if few else f"only one class, {clips.labels[0]}"
        raise DataError(f"{clips.root}: {what}; a training needs at least two classes with two clips each")
    train, val, how = hold_out(clips, seed, share)
    left = {clip.label for clip in train.clips}
    lost = [name for label, name in enumerate(clips.labels) if label not in left]
    if lost:
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
        for clip in clips.clips:
            writer.writerow([clip.name, clips.labels[clip.label], name, clip.person])
    return text.getvalue()


@dataclass(frozen=True)
class Split:
    """The content of such a list, which people may have changed.

    Attributes:
        train, val: name of a clip -> its person, "" if unknown.
        classes: name of a clip -> its class; usually, but not always, the folder that it is in.
    """

    train: dict[str, str]
    val: dict[str, str]
    classes: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Split:
        """Reads a plain list with a column split.

        Raises:
            DataError: all problems of the list.
        """
        content, problems = parse_plain_list(str(path))
        if problems:
            raise DataError(problems, str(path))
        sides: dict[str, dict[str, str]] = {"train": {}, "val": {}}
        for clip, side in zip(content.clips, content.splits, strict=True):
            if side in sides:
                sides[side][clip.name] = clip.person
        return cls(**sides, classes={clip.name: content.labels[clip.label] for clip in content.clips})

    def warnings(self, videos: Mapping[str, str]) -> list[str]:
        """What makes the accuracy on the held-out clips look better than it is: persons and copies on both sides.

        Args:
            videos: name of a clip -> the file that it comes from.
        """
        found = []
        both = sorted({*self.train.values()} & {*self.val.values()} - {""})
        if both:
            found.append(f"{counted(len(both), 'person')} in training and held-out clips: {_some(both)}")
        if "" in self.val.values() or "" in self.train.values():
            found.append(
                "the clips do not name their persons, so the same person may be in training and held-out clips; "
                "--person-pattern tells where a name has the person"
            )
        held, trained = ({name: videos[name] for name in side if name in videos} for side in (self.val, self.train))
        copies = copies_of(held, trained)
        if copies:
            pairs = [f"{name} = {other}" for name, other in copies]
            found.append(f"{counted(len(copies), 'held-out video')} also in training, the same file: {_some(pairs)}")
        return found


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def copies_of(first: Mapping[str, str], second: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of names, one of each side, whose files have the same bytes.

    Args:
        first, second: name -> file.
    """

    def size(path: str) -> int:
        return os.path.getsize(path) if os.path.isfile(path) else -1

    def digest(path: str) -> bytes:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    by_size: dict[int, list[str]] = defaultdict(list)
    for name, path in second.items():
        by_size[size(path)].append(name)
    pairs = []
    for name, path in first.items():
        candidates = by_size.get(size(path), []) if size(path) > 0 else []
        pairs += [(name, other) for other in candidates if digest(path) == digest(second[other])]
    return pairs


def main(argv: Sequence[str] | None = None) -> int:
    """Split a tree of face folders into training and validation clips."""
    parser = script_parser(__doc__, prog="python -m Code.readers.heldout")
    parser.add_argument("root", metavar="FACES", help="contains <Class>/<clip>/<frame>")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the list to write")
    parser.add_argument(
        "--share",
        type=number(0, 1, above=True, below=True),
        default=SHARE,
        metavar="S",
        help="of the clips that become validation clips",
    )
    parser.add_argument("--seed", type=any_seed, default=0, metavar="N", help="of the random draw")
    parser.add_argument(
        "--person-pattern",
        metavar="REGEX",
        help="finds the person in a clip's name, `Happy/anna_03`: its first group, or the whole match. "
        "Keeps all clips of a person in one split",
    )
    args = parser.parse_args(argv)

    def split() -> int:
        clips = read_folders(args.root, skip_empty=True)
        if args.person_pattern:
            clips = name_persons(clips, args.person_pattern)
        train, val, how = split_clips(clips, share=args.share, seed=args.seed)
        with writing(args.output):
            save_text(as_list(train, val), args.output)
        print(f"{args.output}: {counted(len(train.clips), 'clip')} to train on, {len(val.clips)} held out ({how})")
        return 0

    return run_script(split)


if __name__ == "__main__":
    raise SystemExit(main())
