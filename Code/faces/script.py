"""The work of Predict_Video.py: a network answers every input, and figures, a page, a video and tables are written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.files import atomic_file, writing
from ..common.machine import keep_freed_memory
from ..common.progress import Progress
from ..common.wording import one_line
from ..data.clips import DataError
from ..readers import crop_of, trained_on
from ..results.figures import figure_bytes
from ..results.page import Card, Pictures
from .answers import describe, report_everybody, report_main, write_csv, write_curve, write_frames, write_json
from .figures import MOST_PEOPLE, attention_picture, curve_picture, people_picture, shown_frames, title_of
from .gallery import card_of, figure_names, write_gallery
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


@dataclass(frozen=True)
class Options:
    """The flags of Predict_Video.py, by their names."""

    inputs: Sequence[str]
    checkpoint: str | None
    people: str
    image_size: int | None
    device: str
    precision: str
    prior: Sequence[tuple[str, float]] | None
    neutral: float | str | Path | None
    aligned: bool
    fps: float | None
    detect_every: int
    window: float | None
    stride: float | None
    output: Path
    figures: bool
    json: Path | None
    csv: Path | None
    csv_frames: Path | None
    annotate: Path | None
    camera: str | None


def run(options: Options) -> int:
    """Loads a network, answers and writes. One input that is broken or shows no face is reported; the others go on.

    Args:
        options: the flags.

    Returns:
        The exit status.
    """
    keep_freed_memory()
    predictor = Predictor(
        options.checkpoint,
        options.device,
        precision=options.precision,
        image_size=options.image_size,
        people=options.people,
        detect_every=options.detect_every,
        prior=dict(options.prior) if options.prior else None,
    )
    dataset = predictor.info["dataset"] or ("ferplus" if predictor.knows_fer2013 else None)
    print(describe(predictor, trained_on(dataset)), flush=True)
    if predictor.info["dataset"] == "sample":
        _note("trained on drawn faces; its answers about real ones mean little")
    if crop_of(predictor.info) == "own" and not options.aligned:
        _note(
            "trained on the crops that come with its dataset, but faces are cut out as by Prepare_Faces.py; "
            "expect less, or give such crops with --aligned"
        )
    if options.camera:
        window = options.window or RUNNING_WINDOW
        return 0 if answer_camera(predictor, options.camera, window, options.annotate) else 1
    with writing(options.output):
        answers, status = answer_inputs(predictor, options)
        if options.csv:
            write_csv(options.csv, answers, predictor.labels, everybody=options.people == "all")
        if options.csv_frames:
            write_frames(options.csv_frames, answers, predictor.labels)
        if options.json:
            write_json(options.json, answers)
    return status


def answer_inputs(predictor: Predictor, options: Options) -> tuple[list[Prediction], int]:
    """Answers every input, and writes its figures and the page of all of them. Returns the answers and the status."""
    answers: list[Prediction] = []
    cards: list[Card] = []
    status = 0
    reference = options.neutral if isinstance(options.neutral, Path) else None
    names = figure_names(options.inputs, options.output, reference)
    pictures = Pictures(len(names))
    for path, name in zip(options.inputs, names, strict=True):
        try:
            window, stride = options.window, options.stride
            if options.annotate and not window and Source(path).is_video:
                window, stride = RUNNING_WINDOW, RUNNING_STRIDE
            predictions = predictor.answer(
                path,
                aligned=options.aligned,
                window=window,
                stride=stride,
                fps=options.fps,
                neutral=options.neutral,
                progress=True,
            )
            answers += predictions
            everybody = options.people == "all"
            words = report_everybody(predictions) if everybody else report_main(predictions[0], predictor.fan.at_type)
            print(words, flush=True)
            for problem in predictions[0].problems:
                _note(one_line(problem))
            cards += write_pictures(predictions, options, name, pictures)
        except NoFaceError as error:
            print(error, file=sys.stderr)
            status = max(status, 1)
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    if cards:
        print(f"page: {write_gallery(options.output, cards, pictures)}", flush=True)
    return answers, status


def write_pictures(predictions: Sequence[Prediction], options: Options, name: str, pictures: Pictures) -> list[Card]:
    """Writes the figures, the curves and the annotated video of one input, and prints where they are.

    Args:
        predictions: of the input.
        name: for its figures.
        pictures: how many faces the page can show, and their size.

    Returns:
        What the page shows of each person; nothing without figures.
    """
    everybody, draws = options.people == "all", options.figures
    drawn = predictions[:MOST_PEOPLE]
    shown = [shown_frames(prediction) for prediction in drawn]
    crops = crops_of(drawn, shown) if draws else []
    written: list[Path] = []
    cards: list[Card] = []

    def write_figure(ending: str, figure: Figure) -> Path:
        path = options.output / f"{name}{ending}.png"
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
        if options.window and prediction.curve is not None:
            own.append(options.output / f"{name}{person}_curve.csv")
            write_curve(own[-1], prediction.curve)
            if draws:
                own.append(write_figure(f"{person}_curve", curve_picture(prediction.curve, title_of(prediction))))
        if draws:
            cards.append(card_of(prediction, shown[index], crops[index], [*written[:everybody], *own], pictures))
        written += own
    if len(predictions) > MOST_PEOPLE:
        print(f"  figures show {MOST_PEOPLE} of {len(predictions)} people; --csv and --json hold all", flush=True)
    if options.annotate:
        with Progress(f"{one_line(name)}: drawing", predictions[0].num_frames) as bar:
            problem = annotate(predictions, options.annotate, bar, everybody=everybody)
        if problem:
            print(f"{options.annotate}: {problem}", file=sys.stderr)
        written.append(options.annotate)
    if written:
        more = f" and {len(written) - SHOWN_FILES} more" if len(written) > SHOWN_FILES else ""
        print(one_line(f"  written: {', '.join(map(str, written[:SHOWN_FILES]))}{more}"), flush=True)
    return cards


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
