"""Fits a network to your own videos or pictures, in one command: faces, split, fit, and what it is worth.

examples:
  videos in <Class>/<name>.mp4           python Train_Own_Clips.py videos --output own
  pictures in <Class>/<name>.jpg         python Train_Own_Clips.py pictures --output own
  no person in the fit and held out      python Train_Own_Clips.py videos --person-pattern '/([^_]+)_'
  some hundreds of videos                python Train_Own_Clips.py videos --train
  the whole network, for many more       python Train_Own_Clips.py videos --train -- --no-freeze-backbone --epochs 15

The classifier of the network is fitted to the features of the clips; if that does not help, it stays as it is. Where
persons are known, each person's neutral clips serve as reference. Nothing is chosen on the held-out clips. Started
again, the command finds no face anew. Flags after `--` go to the training.
Needs `pip install -r requirements-faces.txt`.
exit status: 0 done, 2 an input, a flag or an installation is wrong; of --train: that of the step that failed
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with `python -P` and `python -I`

from Code.common.commandline import add_device, held_out_share, number, run_script, script_parser, seed
from Code.common.errors import UsageError
from Code.common.files import writing
from Code.readers.heldout import SHARE


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__, usage="%(prog)s VIDEOS [flags] [-- flags of Demo_AFEW_Attention.py]")
    add = parser.add_argument
    add("videos", type=Path, metavar="VIDEOS", help="holds <Class>/<name>.mp4, or <Class>/<name>.jpg")
    add("--output", type=Path, default=Path("own"), metavar="FOLDER", help="for everything it writes")
    start = "the run, FAN or FER+ classifier to start from (default: the FAN that comes with the project)"
    add("--pretrained", type=Path, metavar="PATH", help=start)
    add("--fps", type=number(0, 1000), default=10.0, metavar="N", help="read at most N frames a second; 0: all")
    add("--share", type=held_out_share, default=SHARE, metavar="S", help="of the clips, held out")
    person = "finds the person in `<Class>/<name>`; see Code.readers.heldout"
    add("--person-pattern", metavar="REGEX", help=person)
    add("--train", action="store_true", help="then also train attention and classifier on videos, and compare")
    add("--seed", type=seed, default=0, metavar="N", help="of split and training")
    add_device(parser)
    return parser


def main() -> int:
    """Goes through the steps; returns the exit status."""
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    args, flags = build_parser().parse_args(words[:at]), words[at + 1 :]
    if args.pretrained is not None and not args.pretrained.exists():
        raise UsageError(f"--pretrained {args.pretrained}: no such file or folder")
    if flags and not args.train:
        raise UsageError(f"{flags[0]}: flags after -- go to a training; add --train before --")

    from Code.own_clips import MANY, run

    training = None
    if args.train:
        import Demo_AFEW_Attention
        import Prepare_Faces

        training = (flags, Prepare_Faces.main, Demo_AFEW_Attention.main)
    del args.train
    with writing(args.output):
        clips = run(**vars(args), training=training)
    if clips >= MANY and not training:
        again = shlex.join(["python", *sys.argv, "--train"])
        print(f"{clips} clips may be enough to train the whole network, which is then compared: {again}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, lambda: shlex.join(["python", *sys.argv])))
