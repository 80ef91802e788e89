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

from ..common.commandline import add_device, check_outputs, number, run_script, script_parser
from ..common.errors import IS_CLONE, UsageError
from ..common.files import check_replaceable
from ..common.names import VERSION
from ..data.clips import DataError
from ..data.listing import FRAME_SUFFIXES
from .inputs import VIDEO_SUFFIXES, WRITTEN_SUFFIXES, inputs_in
from .settings import DETECT_EVERY, NUMBERS
from .video import FileSource


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__ if IS_CLONE else (__doc__ or "").replace("python Predict_Video.py", "emotion-fan"))
    add = parser.add_argument
    add("--version", action="version", version=f"emotion-fan {VERSION}")
    add("inputs", nargs="*", metavar="INPUT", help="a video, an image, a folder of frames, or a folder of videos")
    add("--checkpoint", metavar="PATH", help="a run, a published FAN or a FER+ classifier (default: the shipped FAN)")
    add("--people", choices=("main", "all"), default="main", help="answer each input's main person, or everybody")
    add("--image-size", type=NUMBERS["image_size"], metavar="PIXELS", help="input side (default: the checkpoint's)")
    add_device(parser)
    add(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of the backbone; auto: bf16 if the hardware has it, else fp32",
    )
    add(
        "--prior",
        nargs="+",
        action="extend",
        metavar="uniform|ferplus|CLASS=SHARE",
        help="how often classes occur where the inputs come from: uniform, all equally often; ferplus, as in FER+; or "
        "shares, which need not sum to 1, and 1 / C for a class that is not named (default: as the file says)",
    )
    add(
        "--neutral",
        type=neutral_reference,
        metavar="SECONDS|FILE|auto",
        help="where the person is known to be neutral: their first seconds in each input, or a picture or video; auto: "
        "the second of a long video in which they look most neutral",
    )
    add("--classes", nargs="+", action="extend", metavar="NAME", help="choose from these classes only (default: all)")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--pictures", action="store_true", default=None, help="answer images in a folder one by one")
    images.add_argument(
        "--clip",
        dest="pictures",
        action="store_false",
        help="images in a folder are the frames of one clip (default: if they are numbered, have one size and follow "
        "each other)",
    )
    add("--aligned", action="store_true", help="frames are face crops: do not detect faces")
    add("--fps", type=NUMBERS["fps"], metavar="N", help="read at most N frames a second (default: all)")
    add(
        "--detect-every",
        type=NUMBERS["detect_every"],
        default=DETECT_EVERY,
        metavar="N",
        help="search at least one frame in N in full, and follow known faces in the others; 1 searches every frame",
    )
    add("--window", type=NUMBERS["window"], metavar="SECONDS", help="also answer each window of time: a curve")
    add("--stride", type=NUMBERS["stride"], metavar="SECONDS", help="from one window to the next (default: half of it)")
    add("--camera", metavar="N", help="answer live: a camera's number, a device, or an address")
    add = parser.add_argument_group("output").add_argument
    add("--output", type=Path, default="predictions", metavar="FOLDER", help="for figures, curves and their page")
    add("--no-figure", dest="figures", action="store_false", help="draw no figures, and write no page")
    add("--json", type=output_file, metavar="FILE", help="write every answer with its frames")
    add("--csv", type=output_file, metavar="FILE", help="write a line for each answer")
    add("--csv-frames", type=output_file, metavar="FILE", help="a line for each frame: time, box, weight, classes")
    add("--annotate", type=video_file, metavar="FILE", help="write the video (one input) with the answer drawn on it")
    return parser


def neutral_reference(text: str) -> float | str:
    """An argparse type: seconds, a file, or "auto"."""
    if text == "auto" or Path(text).exists():
        return text
    try:
        return number(0.001)(text)
    except argparse.ArgumentTypeError:
        what = "neither a number of seconds above 0, nor a file, nor auto"
        raise argparse.ArgumentTypeError(f"{text!r} is {what}") from None


def output_file(text: str) -> Path:
    """An argparse type: a file to write at the end. What would fail then fails before the work."""
    path = Path(text)
    try:
        check_replaceable(path)
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise argparse.ArgumentTypeError(f"{text}: cannot be written; name a file in a folder that can be written")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}; name a file") from None
    return path


def video_file(text: str) -> Path:
    """An argparse type: a video to write."""
    path = output_file(text)
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text}: name a video ending in {', '.join(WRITTEN_SUFFIXES)}")
    return path


def find_inputs(given: Sequence[str], pictures: bool | None) -> dict[str, str]:
    """The inputs, each folder of videos or pictures replaced by what is in it: input -> why it cannot be read, or "".

    What is named itself is opened, so that a file which is no video is refused before the network is loaded.
    """
    inputs: dict[str, str] = {}
    for path in given:
        try:
            clips = inputs_in(path, pictures, lambda line: print(f"note: {line}", file=sys.stderr))
            if clips is None:
                FileSource(path)
            inputs |= dict.fromkeys([path] if clips is None else clips, "")
        except DataError as error:
            inputs[path] = str(error)
    return inputs


def main(words: Sequence[str] | None = None) -> int:
    """Checks the flags and the inputs; what takes time to import comes after that. `words`: the command line."""
    args = build_parser().parse_args(words)
    if bool(args.inputs) == bool(args.camera):
        raise UsageError("name what to answer: a video, an image, a folder of frames or videos, or --camera N")
    if args.stride and not args.window:
        raise UsageError("--stride needs --window, the length of a window in seconds")
    tables = (args.csv, args.csv_frames, args.json)
    if args.camera and (any((*tables, args.aligned, args.stride, args.fps, args.neutral)) or args.people != "main"):
        flags = "--checkpoint, --image-size, --device, --precision, --prior, --classes, --window and --annotate"
        raise UsageError(f"--camera goes with {flags} only, and answers the main person")
    if args.output.exists() and not args.output.is_dir():
        raise UsageError(f"--output {args.output}: is a file; name a folder")
    if args.checkpoint and not Path(args.checkpoint).exists():
        raise UsageError(f"--checkpoint {args.checkpoint}: no such file or folder; a run is model/<run>")
    args.inputs = find_inputs(args.inputs, args.pictures)
    if args.annotate and len(args.inputs) > 1:
        raise UsageError(f"--annotate writes one video, but there are {len(args.inputs)} inputs; name one")
    if args.inputs and all(args.inputs.values()):
        raise DataError(list(args.inputs.values()))
    neutral = args.neutral if isinstance(args.neutral, str) else None
    suffixes = (*FRAME_SUFFIXES, *VIDEO_SUFFIXES, ".pth", ".tar")
    check_outputs((args.annotate, *tables), [*args.inputs, args.checkpoint, neutral], suffixes)

    from .answers import run

    return run(args)


def script() -> int:
    """The script Predict_Video.py, and the command `emotion-fan` of the installed package; returns the exit status."""
    return run_script(main)
