"""The work of Predict_Video.py: a network answers every input, and figures, a page, a video and tables are written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.commandline import prior_of
from ..common.device import keep_freed_memory
from ..common.errors import UsageError
from ..common.files import atomic_file, writing
from ..common.names import one_line
from ..common.progress import Progress
from ..data.clips import DataError
from ..readers import crop_of
from ..results.figures import figure_bytes
from ..results.page import Card, Pictures
from .answers import (
    Unanswered,
    describe,
    report_everybody,
    report_main,
    write_csv,
    write_curve,
    write_frames,
    write_json,
)
from .figures import MOST_PEOPLE, attention_picture, curve_picture, people_picture, shown_frames, title_of
from .gallery import card_of, card_without_answer, figure_names, write_gallery
from .live import answer_camera
from .predict import NoFaceError, Predictor
from .prediction import Prediction, crops_of
from .render import annotate
from .video import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The running expression on a video covers this window, if --window is not given; seconds.
RUNNING_WINDOW, RUNNING_STRIDE = 2.0, 0.2
SHOWN_FILES = 4  # of one input, in its line `written:`


def run(args: argparse.Namespace) -> int:
    """Loads a network, answers and writes. One input that is broken or shows no face is reported; the others go on.

    Args:
        args: the flags of Predict_Video.py; `broken`: input -> why it cannot be read, which has been printed.

    Returns:
        The exit status.
    """
    keep_freed_memory()
    names = ("device", "precision", "image_size", "people", "detect_every", "classes")
    try:
        predictor = Predictor(
            args.checkpoint,
            prior=prior_of(args.prior or []),
            **{name: getattr(args, name) for name in names},
        )
    except UsageError as error:  # of an argument, which is a flag here
        argument, _, rest = str(error).partition(" ")
        raise UsageError(f"--{argument.replace('_', '-')} {rest}") from None
    print(describe(predictor), flush=True)
    if predictor.info["dataset"] == "sample":
        _note("trained on drawn faces; its answers about real ones mean little")
    if crop_of(predictor.info) == "own" and not args.aligned:
        _note(
            "trained on the crops that come with its dataset, but faces are cut out as by Prepare_Faces.py; "
            "expect less, or give such crops with --aligned"
        )
    if args.camera:
        return 0 if answer_camera(predictor, args.camera, args.window or RUNNING_WINDOW, args.annotate) else 1
    with writing(args.output):
        answers, status = answer_inputs(predictor, args)
        if args.csv:
            write_csv(args.csv, answers, predictor.labels, everybody=args.people == "all")
        if args.csv_frames:
            predictions = [answer for answer in answers if isinstance(answer, Prediction)]
            write_frames(args.csv_frames, predictions, predictor.labels)
        if args.json:
            write_json(args.json, answers)
    return status


def answer_inputs(predictor: Predictor, args: argparse.Namespace) -> tuple[list[Prediction | Unanswered], int]:
    """Answers every input, and writes its figures and the page of all of them. Returns the answers and the status."""
    answers: list[Prediction | Unanswered] = []
    cards: list[Card] = []
    status = 0
    reference = args.neutral if isinstance(args.neutral, Path) else None
    names = figure_names(args.inputs, args.output, reference)
    pictures = Pictures(len(names))
    for path, name in zip(args.inputs, names, strict=True):
        reason = args.broken.get(path, "")
        predictions: list[Prediction] = []
        try:
            if not reason:
                predictions = answer_input(predictor, path, args)
                cards += write_pictures(predictions, args, name, pictures)
        except NoFaceError as error:
            print(error, file=sys.stderr)
            reason, status = str(error), max(status, 1)
        except DataError as error:  # also if its annotated video cannot be written
            print(f"error: {error}", file=sys.stderr)
            reason, status = str(error), 2
        reason = reason.removeprefix(f"{one_line(path)}: ")
        answers += predictions or [Unanswered(path, reason)]
        cards += [] if predictions or not args.figures else [card_without_answer(path, reason)]
    if cards:
        print(f"page: {write_gallery(args.output, cards, pictures)}", flush=True)
    return answers, status


def answer_input(predictor: Predictor, path: str, args: argparse.Namespace) -> list[Prediction]:
    """Answers one input, and prints the answers."""
    window, stride = args.window, args.stride
    if args.annotate and not window and Source(path).is_video:
        window, stride = RUNNING_WINDOW, RUNNING_STRIDE
    predictions = predictor.answer(
        path, aligned=args.aligned, window=window, stride=stride, fps=args.fps, neutral=args.neutral, progress=True
    )
    at_type = predictor.fan.at_type
    print(report_everybody(predictions) if args.people == "all" else report_main(predictions[0], at_type), flush=True)
    for problem in predictions[0].problems:
        _note(one_line(problem))
    return predictions


def write_pictures(
    predictions: Sequence[Prediction], args: argparse.Namespace, name: str, pictures: Pictures
) -> list[Card]:
    """Writes the figures, the curves and the annotated video of one input under a name, and prints where they are.

    Returns what the page shows of each person; nothing without figures.
    """
    everybody, draws = args.people == "all", args.figures
    drawn = predictions[:MOST_PEOPLE]
    shown = [shown_frames(prediction) for prediction in drawn]
    crops = crops_of(drawn, shown) if draws else []
    written: list[Path] = []
    cards: list[Card] = []

    def write_figure(ending: str, figure: Figure) -> Path:
        path = args.output / f"{name}{ending}.png"
        with atomic_file(path) as file:
            file.write(figure_bytes(figure, "png"))
        return path

    if draws and everybody:
        written.append(write_figure("", people_picture(predictions)))
    for index, prediction in enumerate(drawn):
        person = f"_person{prediction.person}" if everybody else ""
        own = []
        if draws:
            own.append(write_figure(person, attention_picture(prediction, shown[index], crops[index])))
        if args.window and prediction.curve is not None:
            own.append(args.output / f"{name}{person}_curve.csv")
            write_curve(own[-1], prediction.curve)
            if draws:
                own.append(write_figure(f"{person}_curve", curve_picture(prediction.curve, title_of(prediction))))
        if draws:
            cards.append(card_of(prediction, shown[index], crops[index], [*written[:everybody], *own], pictures))
        written += own
    if len(predictions) > MOST_PEOPLE:
        print(f"  figures show {MOST_PEOPLE} of {len(predictions)} people; --csv and --json hold all", flush=True)
    if args.annotate:
        with Progress(f"{one_line(name)}: drawing", predictions[0].num_frames) as bar:
            problem = annotate(predictions, args.annotate, bar, everybody=everybody)
        if problem:
            print(f"{args.annotate}: {problem}", file=sys.stderr)
        written.append(args.annotate)
    if written:
        more = f" and {len(written) - SHOWN_FILES} more" if len(written) > SHOWN_FILES else ""
        print(one_line(f"  written: {', '.join(map(str, written[:SHOWN_FILES]))}{more}"), flush=True)
    return cards


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
