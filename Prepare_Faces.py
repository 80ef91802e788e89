"""Turns videos, or raw frames, into folders of aligned faces to train the main script on.

examples:
  one video                          python Prepare_Faces.py clip.mp4 faces
  AFEW's <Class>/<clip>.avi          python Prepare_Faces.py AFEW/Train Data/Train
  CK+'s raw frames S005/001/*.png    python Prepare_Faces.py Data/CKPlus/cohn-kanade-images Data/CKPlus/faces
  five frames a second, everybody    python Prepare_Faces.py talks faces --fps 5 --faces all

The output is the same tree: for each clip a folder of 224 x 224 JPEG faces, numbered by source frame. Beside them are
faces.csv with a line per frame, and summary.json. After an interruption, the same command resumes. Needs `pip install
-r requirements-faces.txt`.
exit status: 0 a face in every clip, 1 clips without a face or unreadable, 2 a wrong input, flag or installation
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with `python -P` and `python -I`

from Code.common.commandline import add_device, frame_rate, number, positive, run_script, script_parser
from Code.common.files import writing
from Code.common.names import MAX_IMAGE_SIZE
from Code.data.clips import DataError
from Code.faces.settings import DETECT_EVERY, MIN_FACE


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__)
    parser.add_argument("input", metavar="INPUT", type=Path, help="a video, or a folder of videos or of raw frames")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder for the faces; created if it is missing")
    parser.add_argument("--fps", type=frame_rate, metavar="N", help="read at most N frames a second (default: all)")
    parser.add_argument(
        "--faces",
        choices=("main", "all"),
        default="main",
        help="main: the person that is largest for longest; all: a folder per person, <clip>_01, <clip>_02, ...",
    )
    parser.add_argument(
        "--min-face",
        type=number(MIN_FACE, MAX_IMAGE_SIZE, int),
        metavar="PIXELS",
        help=f"smallest face (default: 1/24 of the picture's shorter side, at least {MIN_FACE})",
    )
    parser.add_argument(
        "--detect-every",
        type=positive,
        default=DETECT_EVERY,
        metavar="N",
        help="search at least one frame in N in full, and follow known faces in the others; 1 searches every frame",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes, each on one core (default: one per core, but no more than clips; 1 on a GPU)",
    )
    add_device(parser)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status. `words`: the command line; None: that of this process."""
    args = build_parser().parse_args(words)
    inside = args.output.resolve()
    if args.input.is_dir() and args.input.resolve() in (inside, *inside.parents):  # it would be the next call's input
        raise DataError(f"{args.output}: lies inside the input {args.input}; name a folder outside of it")
    from Code.faces.prepare import Settings, prepare_tree

    settings = Settings(args.faces, args.fps, args.min_face, args.detect_every)
    try:
        with writing(args.output):
            every = prepare_tree(args.input, args.output, settings, device=args.device, workers=args.workers)
            return 0 if every else 1
    except KeyboardInterrupt:
        print("\nstopped; the same command resumes", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run_script(main))
