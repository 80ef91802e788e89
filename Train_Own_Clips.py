"""Trains a network on your own videos, in one command: faces, split, training, report and answers.

examples:
  videos in <Class>/<name>.mp4           python Train_Own_Clips.py videos --output own
  no person in training and validation   python Train_Own_Clips.py videos --person-pattern '/([^_]+)_'
  every frame, more epochs               python Train_Own_Clips.py videos --fps 0 -- --epochs 96
  the whole network, for many clips      python Train_Own_Clips.py videos -- --no-freeze-backbone --epochs 15

Steps: faces (Prepare_Faces.py), split, training on the clips that are not held out (Demo_AFEW_Attention.py, which
writes report.html), answers for the held-out clips before and after the training (Predict_Video.py). Each step prints
its command, which also works alone. Nothing is chosen on the held-out clips: the last epoch counts. Started again, the
command skips what is done. Flags after `--` go to the training.
Needs `pip install -r requirements-faces.txt`.
exit status: that of the step that failed; 0 done, 2 an input, a flag or an installation is wrong
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with `python -P` and `python -I`

from Code.common.commandline import add_device, count, number, run_script, script_parser, seed
from Code.common.errors import UsageError
from Code.common.files import writing
from Code.readers.heldout import SHARE


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__, usage="%(prog)s VIDEOS [flags] [-- flags of Demo_AFEW_Attention.py]")
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="holds <Class>/<name>.mp4 (or any other video)")
    parser.add_argument("--output", type=Path, default=Path("own"), metavar="FOLDER", help="for everything it writes")
    parser.add_argument(
        "--pretrained",
        type=Path,
        metavar="PATH",
        help="a run, a FAN or a backbone to start from (default: the FAN in pretrain_model/, else its backbone)",
    )
    parser.add_argument(
        "--fps", type=number(0, 1000), default=10.0, metavar="N", help="read at most N frames a second; 0: all"
    )
    parser.add_argument(
        "--share", type=number(0, 1, above=True, below=True), default=SHARE, metavar="S", help="of the clips, held out"
    )
    parser.add_argument(
        "--person-pattern", metavar="REGEX", help="finds the person in `<Class>/<name>`; see Code.readers.heldout"
    )
    parser.add_argument("--predict", type=count, default=12, metavar="N", help="draw at most N held-out clips")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of split and training")
    add_device(parser)
    return parser


def check_start(given: Path | None) -> None:
    """Refuses a start that cannot be one, before torch is imported."""
    if given is not None and str(given).lower() == "none":
        raise UsageError("--pretrained none: few clips cannot train a network from random weights; omit the flag")
    if given is not None and not given.exists():
        raise UsageError(f"--pretrained {given}: no such file or folder")


def main() -> int:
    """Goes through the steps; returns the exit status."""
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    args = build_parser().parse_args(words[:at])
    check_start(args.pretrained)

    import Demo_AFEW_Attention
    import Predict_Video
    import Prepare_Faces
    from Code.own_clips import OwnClips

    commands = {"prepare_faces": Prepare_Faces.main, "train": Demo_AFEW_Attention.main, "answer": Predict_Video.main}
    with writing(args.output):
        OwnClips(**vars(args), training=words[at + 1 :], **commands).run()
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, lambda: shlex.join(["python", *sys.argv])))
