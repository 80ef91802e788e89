"""Says which expression the people in a video, an image or a folder of frames show.

examples:
  a video                           python Predict_Video.py clip.mp4
  everybody in it                   python Predict_Video.py clip.mp4 --people all
  all videos of a folder            python Predict_Video.py clips
  the answers as a table            python Predict_Video.py clips/*.mp4 --csv answers.csv
  each frame's answer as a table    python Predict_Video.py clip.mp4 --csv-frames frames.csv
  the answer drawn on the video     python Predict_Video.py clip.mp4 --annotate answer.mp4
  a long video as a curve           python Predict_Video.py talk.mp4 --window 4 --stride 1
  frames that are face crops        python Predict_Video.py --aligned Data/Val/Happy/000149120
  with another network              python Predict_Video.py clip.mp4 --checkpoint model/RUN
  where anger is frequent           python Predict_Video.py clip.mp4 --prior anger=0.4
  beside the same person's neutral  python Predict_Video.py clip.mp4 --neutral neutral.jpg
  a camera, until Ctrl-C            python Predict_Video.py --camera 0

Figures, curves and a page that shows all of them, predictions.html, go to the folder `predictions`. Videos, and
pictures that are not face crops, need `pip install -r requirements-faces.txt`.
exit status: 0 all answered, 1 an input shows no face, 2 an input, a flag or an installation is wrong
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..common.commandline import (
    above_zero,
    add_device,
    check_outputs,
    run_script,
    script_parser,
)
from ..common.errors import IS_CLONE, UsageError
from ..common.files import check_replaceable
from ..common.names import VERSION
from ..data.clips import DataError
from ..data.images import open_image
from ..data.listing import FRAME_SUFFIXES
from .inputs import VIDEO_SUFFIXES, WRITTEN_SUFFIXES, Kind, inputs_in
from .settings import DETECT_EVERY, NUMBERS
from .video import Source


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__ if IS_CLONE else (__doc__ or "").replace("python Predict_Video.py", "emotion-fan"))
    parser.add_argument("--version", action="version", version=f"emotion-fan {VERSION}")
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="a video, an image, a folder of frames, or a folder of videos"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="a run (folder or file), a published FAN or a FER+ classifier (default: the FAN in pretrain_model/)",
    )
    parser.add_argument(
        "--people",
        choices=("main", "all"),
        default="main",
        help="answer the main person of each input, or everybody in it",
    )
    parser.add_argument(
        "--image-size",
        type=NUMBERS["image_size"],
        metavar="PIXELS",
        help="input side (default: what the checkpoint says)",
    )
    add_device(parser)
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of the backbone; auto: bf16 if the hardware has it, else fp32",
    )
    parser.add_argument(
        "--prior",
        nargs="+",
        action="extend",
        metavar="uniform|ferplus|CLASS=SHARE",
        help="how often classes occur where the inputs come from: uniform, all equally often; ferplus, as in FER+; or "
        "shares, which need not sum to 1, and 1 / C for a class that is not named (default: as the file says)",
    )
    parser.add_argument(
        "--neutral",
        type=neutral_reference,
        metavar="SECONDS|FILE|auto",
        help="where the person is known to be neutral: their first seconds in each input, or a picture or video; auto: "
        "the second of a long video in which they look most neutral",
    )
    parser.add_argument(
        "--classes", nargs="+", action="extend", metavar="NAME", help="choose from these classes only (default: all)"
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--pictures", action="store_true", default=None, help="images in a folder are answered one by one"
    )
    images.add_argument(
        "--clip",
        dest="pictures",
        action="store_false",
        help="images in a folder are the frames of one clip (default: "
        "if they are numbered, have one size and follow each other)",
    )
    parser.add_argument("--aligned", action="store_true", help="frames are face crops: do not detect faces")
    parser.add_argument("--fps", type=NUMBERS["fps"], metavar="N", help="read at most N frames a second (default: all)")
    parser.add_argument(
        "--detect-every",
        type=NUMBERS["detect_every"],
        default=DETECT_EVERY,
        metavar="N",
        help="search at least one frame in N in full, and follow known faces in the others; 1 searches every frame",
    )
    parser.add_argument(
        "--window", type=NUMBERS["window"], metavar="SECONDS", help="also answer each window of time: a curve"
    )
    parser.add_argument(
        "--stride",
        type=NUMBERS["stride"],
        metavar="SECONDS",
        help="from one window to the next (default: half a window)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", type=Path, default=Path("predictions"), metavar="FOLDER", help="for figures, curves and their page"
    )
    output.add_argument("--no-figure", dest="figures", action="store_false", help="draw no figures, and write no page")
    output.add_argument("--json", type=output_file, metavar="FILE", help="write every answer with its frames")
    output.add_argument("--csv", type=output_file, metavar="FILE", help="write a line for each answer")
    output.add_argument(
        "--csv-frames", type=output_file, metavar="FILE", help="write a line for each frame: time, box, weight, classes"
    )
    output.add_argument(
        "--annotate",
        type=video_file,
        metavar="FILE",
        help="write the video (one input) with face box, running expression, frame weight, and its sound",
    )
    parser.add_argument("--camera", metavar="N", help="answer live: a camera's number, a device, or an address")
    return parser


def neutral_reference(text: str) -> float | Path | str:
    """An argparse type: seconds, a file, or "auto"."""
    path = Path(text)
    if path.exists() or text == "auto":
        return path if path.exists() else text
    try:
        return above_zero(text)
    except argparse.ArgumentTypeError:
        what = "neither a number of seconds above 0, nor a file, nor auto"
        raise argparse.ArgumentTypeError(f"{text!r} is {what}") from None


def output_file(text: str) -> Path:
    """An argparse type: a file to write at the end. What would fail then fails before the work."""
    path = Path(text)
    try:
        check_replaceable(path)
        folder = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}; name a file") from None
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: is a folder; name a file")
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: {folder} is a file, not a folder; name another one")
    if not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: nothing can be written to {folder}; name another folder")
    return path


def video_file(text: str) -> Path:
    """An argparse type: a video to write."""
    path = output_file(text)
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text}: name a video ending in {', '.join(WRITTEN_SUFFIXES)}")
    return path


def check_flags(args: argparse.Namespace) -> None:
    """Checks what argparse cannot see."""
    if not args.inputs and not args.camera:
        raise UsageError("nothing to answer; name a video, an image, a folder of frames or videos, or --camera N")
    if args.inputs and args.camera:
        raise UsageError(f"name either inputs or --camera, not both: {args.inputs[0]}, --camera {args.camera}")
    if args.stride and not args.window:
        raise UsageError("--stride needs --window, the length of a window in seconds")
    if args.annotate and len(args.inputs) > 1:
        raise UsageError(f"--annotate writes one video, but there are {len(args.inputs)} inputs; name one")
    if args.camera and (
        args.json or args.csv or args.csv_frames or args.aligned or args.stride or args.fps or args.neutral
    ):
        raise UsageError(
            "--camera goes with --checkpoint, --image-size, --device, --prior, --window and --annotate only"
        )
    if args.camera and args.people != "main":
        raise UsageError("--camera answers the main person only; omit --people all")
    if isinstance(args.neutral, Path) and args.people != "main":
        raise UsageError(f"--neutral {args.neutral}: shows one person; name seconds, or omit --people all")
    if args.aligned and args.people != "main":
        raise UsageError("--aligned frames show one person; omit --people all")
    if args.output.exists() and not args.output.is_dir():
        raise UsageError(f"--output {args.output}: is a file; name a folder")
    if args.checkpoint and not Path(args.checkpoint).exists():
        raise UsageError(f"--checkpoint {args.checkpoint}: no such file or folder; a run is model/<run>")


def find_inputs(given: Sequence[str], pictures: bool | None) -> tuple[list[str], dict[str, str]]:
    """The inputs, each folder of videos or pictures replaced by what is in it; and why some of them cannot be read.

    What is named itself is opened, so that a file which is no video is refused before the network is loaded.
    """
    inputs: list[str] = []
    broken: dict[str, str] = {}
    for path in given:
        try:
            if path and not Path(path).exists():
                raise DataError(f"{path}: no such file or folder")
            clips = inputs_in(path, pictures, lambda line: print(f"note: {line}", file=sys.stderr))
            if clips is None and Source(path).kind is Kind.PICTURE:
                with open_image(path, whole=False):  # raises if it is no picture
                    pass
            inputs += [path] if clips is None else clips
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            inputs.append(path)
            broken[path] = str(error)
    return list(dict.fromkeys(inputs)), broken


def main(words: Sequence[str] | None = None) -> int:
    """Checks the flags and the inputs; what takes time to import comes after that.

    Args:
        words: the command line; None: that of this process.
    """
    args = build_parser().parse_args(words)
    check_flags(args)
    args.inputs, args.broken = find_inputs(args.inputs, args.pictures)
    if args.inputs and len(args.broken) == len(args.inputs):
        return 2
    if args.annotate and len(args.inputs) > 1:
        raise UsageError(f"--annotate writes one video, but there are {len(args.inputs)} in the folder; name one")
    neutral = args.neutral if isinstance(args.neutral, Path) else None
    outputs = (args.annotate, args.csv, args.csv_frames, args.json)
    check_outputs(outputs, [*args.inputs, args.checkpoint, neutral], (*FRAME_SUFFIXES, *VIDEO_SUFFIXES, ".pth", ".tar"))

    from .script import run

    return max(run(args), 2 if args.broken else 0)


def script() -> int:
    """The script Predict_Video.py, and the command `emotion-fan` of the installed package; returns the exit status."""
    return run_script(main)
