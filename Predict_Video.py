"""Says which expression the main person of a video, an image or a folder of frames shows.

examples:
  a video                           python Predict_Video.py clip.mp4
  many, as a table                  python Predict_Video.py clips/*.mp4 --csv answers.csv
  the answer drawn on the video     python Predict_Video.py clip.mp4 --annotate answer.mp4
  a long video as a curve           python Predict_Video.py talk.mp4 --window 4 --stride 1
  frames that are face crops        python Predict_Video.py --aligned Data/Val/Happy/000149120
  with a network of one's own       python Predict_Video.py clip.mp4 --checkpoint model/RUN
  a camera, until Ctrl-C            python Predict_Video.py --camera 0

Figures and curves go to the folder `predictions`. Videos, and pictures that are not face crops, need
`pip install -r requirements-faces.txt`.
exit status: 0 all answered, 1 an input shows no face, 2 an input, a flag or an installation is wrong
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from Code.common.commandline import above_zero, add_device, run_script, script_parser, whole_number
from Code.common.conventions import MAX_IMAGE_SIZE
from Code.common.errors import UsageError
from Code.common.files import writing
from Code.common.machine import keep_freed_memory
from Code.common.progress import Progress
from Code.data.clips import DataError
from Code.faces.answers import as_record, describe, picture_names, report, write_csv, write_curve
from Code.faces.live import camera_frames, watch
from Code.faces.predict import NoFaceError, Predictor
from Code.faces.prediction import Prediction
from Code.faces.render import VideoWriter, annotate, attention_picture, curve_picture, draw_answer
from Code.faces.video import Source
from Code.results.figures import figure_bytes
from Code.training.compute import choose_compute

# What the running expression on a video looks at where no --window is given, seconds.
RUNNING_WINDOW, RUNNING_STRIDE = 2.0, 0.2


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__)
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="a video, an image, or a folder of frames")
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="a run (folder or file), a published FAN or a FER+ classifier (default: the FAN in pretrain_model/)",
    )
    parser.add_argument(
        "--image-size", type=pixels, metavar="PIXELS", help="input side (default: what the checkpoint says)"
    )
    add_device(parser)
    parser.add_argument("--aligned", action="store_true", help="frames are face crops already: detect nothing")
    parser.add_argument("--fps", type=above_zero, metavar="N", help="look at N frames a second at most (default: all)")
    parser.add_argument("--window", type=above_zero, metavar="SECONDS", help="also an answer per window: a curve")
    parser.add_argument(
        "--stride", type=above_zero, metavar="SECONDS", help="from one window to the next (default: half a window)"
    )
    written = parser.add_argument_group("what is written")
    written.add_argument(
        "--output", type=Path, default=Path("predictions"), metavar="FOLDER", help="for figures and curves"
    )
    written.add_argument("--no-figure", action="store_true", help="draw no figures")
    written.add_argument("--json", type=output_file, metavar="FILE", help="write every answer with its frames")
    written.add_argument("--csv", type=output_file, metavar="FILE", help="write a line per answer")
    written.add_argument(
        "--annotate",
        type=output_file,
        metavar="FILE",
        help="write the video (one input) with face box, running expression and frame weight",
    )
    parser.add_argument("--camera", metavar="N", help="answer live: a camera's number, a device, or an address")
    return parser


# ResNet18 makes a single feature of 32 pixels.
pixels = whole_number(32, MAX_IMAGE_SIZE, "of pixels")


def output_file(text: str) -> Path:
    """A file to write at the end; what would fail then, fails before the work."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        wrong = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise argparse.ArgumentTypeError(f"{text}: {wrong}; name a file in a folder that exists")
    return path


def check_flags(args: argparse.Namespace) -> None:
    """What argparse cannot see."""
    if bool(args.inputs) == bool(args.camera):
        raise UsageError("name a video, an image or a folder of frames, or --camera N, not both")
    if args.stride and not args.window:
        raise UsageError("--stride needs --window, the length of a window in seconds")
    if args.annotate and len(args.inputs) > 1:
        raise UsageError(f"--annotate writes one video, but there are {len(args.inputs)} inputs; name one")
    if args.annotate and any(_same_file(args.annotate, path) for path in args.inputs):
        raise UsageError(f"--annotate {args.annotate}: would overwrite the input; name another file")
    if args.camera and (args.json or args.csv or args.aligned or args.stride or args.fps):
        raise UsageError("--camera goes with --checkpoint, --window and --annotate only")
    if args.output.exists() and not args.output.is_dir():
        raise UsageError(f"--output {args.output}: is a file; name a folder")


def _same_file(first: Path, second: str) -> bool:
    return first.exists() and Path(second).exists() and first.samefile(second)


def write_pictures(prediction: Prediction, args: argparse.Namespace, name: str) -> None:
    """The attention figure, the curve and the annotated video of one answer; says where they are."""
    written = []
    curve = prediction.curve if args.window else None
    if not args.no_figure or curve is not None:
        args.output.mkdir(parents=True, exist_ok=True)
    if not args.no_figure:
        written.append(args.output / f"{name}.png")
        written[-1].write_bytes(figure_bytes(attention_picture(prediction), "png"))
    if curve is not None:
        written.append(args.output / f"{name}_curve.csv")
        write_curve(written[-1], curve)
        if not args.no_figure:
            written.append(args.output / f"{name}_curve.png")
            written[-1].write_bytes(figure_bytes(curve_picture(curve, Path(prediction.path).name), "png"))
    if args.annotate:
        with Progress(f"{name}: drawing", Source(prediction.path).total) as bar:
            annotate(prediction, args.annotate, bar)
        written.append(args.annotate)
    if written:
        print(f"  written: {', '.join(map(str, written))}", flush=True)


def answer(predictor: Predictor, args: argparse.Namespace) -> tuple[list[Prediction], int]:
    """Answers every input; one that is broken or shows no face is named, and the others go on."""
    predictions: list[Prediction] = []
    status = 0
    for path, name in zip(args.inputs, picture_names(args.inputs), strict=True):
        try:
            window, stride = args.window, args.stride
            if args.annotate and not window and Source(path).is_video:
                window, stride = RUNNING_WINDOW, RUNNING_STRIDE
            prediction = predictor(
                path, aligned=args.aligned, window=window, stride=stride, fps=args.fps, progress=True
            )
            print(report(prediction, predictor.fan.at_type), flush=True)
            for problem in prediction.problems:
                print(f"damaged: {problem}", file=sys.stderr)
            write_pictures(prediction, args, name)
        except NoFaceError as error:
            print(error, file=sys.stderr)
            status = max(status, 1)
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
        else:
            predictions.append(prediction)
    return predictions, status


def live(predictor: Predictor, args: argparse.Namespace) -> int:
    """Prints the running expression of a camera until it ends or Ctrl-C; 1 if nobody ever showed a face."""
    writer: VideoWriter | None = None
    told, faces, started = -1.0, 0, time.monotonic()
    on_terminal = sys.stdout.isatty()
    try:
        for frames, said in enumerate(
            watch(predictor, camera_frames(args.camera), args.window or RUNNING_WINDOW), start=1
        ):
            faces += said.box is not None
            line = f"{said.expression} {100 * said.share:.0f} %" if said.expression else "no face"
            if on_terminal or said.frame.time - told >= 1:
                told = said.frame.time
                speed = frames / max(time.monotonic() - started, 1e-9)
                text = f"{said.frame.time:8.2f} s  {line:<24} {speed:5.1f} frames/s"
                print(f"\r{text}" if on_terminal else text, end="" if on_terminal else "\n", flush=True)
            if args.annotate:
                picture = draw_answer(said.frame.image, said.box, line, said.weight)
                writer = writer or VideoWriter(args.annotate, picture.size)
                writer.add(picture, said.frame.time)
    except KeyboardInterrupt:
        print()
    finally:
        if writer is not None:
            writer.close()
    if not faces:
        print(f"--camera {args.camera}: no face", file=sys.stderr)
    return 0 if faces else 1


def main() -> int:
    """Loads a network, says which, answers."""
    args = build_parser().parse_args()
    check_flags(args)
    keep_freed_memory()
    device = choose_compute(args.device, "fp32").device
    predictor = Predictor(args.checkpoint, device, image_size=args.image_size)
    print(describe(predictor), flush=True)
    if predictor.info["dataset"] == "sample":
        print("note: it was trained on drawn faces; what it says about real ones means little", file=sys.stderr)
    if args.camera:
        return live(predictor, args)
    with writing(args.output):
        predictions, status = answer(predictor, args)
        if args.csv:
            write_csv(args.csv, predictions, predictor.info["labels"])
        if args.json:
            records = [as_record(prediction, predictor.info["path"]) for prediction in predictions]
            with args.json.open("w", encoding="utf-8") as file:  # piece by piece: an hour of video has much to tell
                json.dump(records, file, indent=1, allow_nan=False)
                file.write("\n")
    return status


if __name__ == "__main__":
    sys.exit(run_script(main))
