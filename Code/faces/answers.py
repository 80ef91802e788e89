"""The work of Predict_Video.py: a network answers every input, in words, figures, a video, JSON and tables."""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..common.commandline import prior_of
from ..common.device import keep_freed_memory
from ..common.files import atomic_text, shown_path, writing
from ..common.names import counted, one_line
from ..data.clips import DataError
from ..readers import crop_of, trained_on
from .figures import MOST_PEOPLE, Gallery, figure_names
from .live import answer_camera
from .predict import NoFaceError, Predictor
from .prediction import FRAME_COLUMNS, Curve, Prediction, answer_text, columns
from .render import annotate
from .video import FileSource

# The running expression on a video covers this window, if --window is not given; seconds.
RUNNING_WINDOW, RUNNING_STRIDE = 2.0, 0.2
SHOWN_FRAMES, SHOWN_FILES = 3, 4  # of one input, in what is printed
RECORD = (
    *("expression", "uncertain", "probabilities", "prior", "neutral", "person", "track", "seconds", "box"),
    *("num_frames", "num_faces", "num_people", "frames", "times", "alpha", "beta", "weights"),
    *("frame_probabilities", "boxes", "landmarks", "filled", "problems"),
)  # what --json says of a person


class Unanswered(NamedTuple):
    """An input without an answer, and why."""

    path: str
    reason: str


def run(args: argparse.Namespace) -> int:
    """Loads a network, answers and writes. One input that is broken or shows no face is reported; the others go on.

    `args` are the flags of Predict_Video.py; `inputs`: input -> why it cannot be read, or "". Returns the exit status.
    """
    keep_freed_memory()
    names = ("device", "precision", "image_size", "people", "detect_every", "classes")
    known = {name: getattr(args, name) for name in names}
    predictor = Predictor(args.checkpoint, prior=prior_of(args.prior or []), **known)
    print(describe(predictor), flush=True)
    if crop_of(predictor.info) == "own" and not args.aligned:
        _note(
            "trained on the crops that come with its dataset, but faces are cut out as by Prepare_Faces.py; "
            "expect less, or give such crops with --aligned"
        )
    if args.camera:
        return 0 if answer_camera(predictor, args.camera, args.window or RUNNING_WINDOW, args.annotate) else 1

    everybody = args.people == "all"
    gallery = Gallery(args.output, len(args.inputs), everybody=everybody) if args.figures else None
    answers: list[Prediction | Unanswered] = []
    status = 0
    with writing(args.output):
        for path, name in figure_names(args.inputs, args.output, args.neutral).items():
            predictions: list[Prediction] = []
            try:
                predictions = _answered(predictor, path, args)
                _print_files(_drawn(predictions, name, args, gallery))
            except (DataError, NoFaceError) as error:  # also if the annotated video cannot be written
                print(f"error: {error}" if isinstance(error, DataError) else error, file=sys.stderr)
                status = max(status, error.status)
                if not predictions:
                    reason = str(error).removeprefix(f"{one_line(path)}: ")
                    answers.append(Unanswered(path, reason))
                    if gallery:
                        gallery.add_unanswered(path, reason)
            answers += predictions
        if gallery:
            print(f"page: {gallery.write()}", flush=True)
        if args.csv:
            write_csv(args.csv, answers, predictor.labels, everybody=everybody)
        if args.csv_frames:
            write_frames(args.csv_frames, answers, predictor.labels)
        if args.json:
            write_json(args.json, answers)
    return status


def _answered(predictor: Predictor, path: str, args: argparse.Namespace) -> list[Prediction]:
    """Answers one input, and prints the answers; DataError or NoFaceError: there is none."""
    if args.inputs[path]:
        raise DataError(args.inputs[path])
    options = {name: getattr(args, name) for name in ("aligned", "fps", "neutral", "window", "stride")}
    if args.annotate and not args.window and FileSource(path).is_video:
        options |= {"window": RUNNING_WINDOW, "stride": RUNNING_STRIDE}
    predictions = predictor.answer(path, progress=True, **options)
    print(report_everybody(predictions) if args.people == "all" else report_main(predictions[0]), flush=True)
    for problem in predictions[0].problems:
        _note(one_line(problem))
    return predictions


def _drawn(predictions: list[Prediction], name: str, args: argparse.Namespace, gallery: Gallery | None) -> list[Path]:
    """Writes the figures, the tables of curves and the video of one input, as asked for; returns the files."""
    everybody = args.people == "all"
    files = gallery.add(predictions, name, curves=bool(args.window)) if gallery else []
    for prediction in predictions[:MOST_PEOPLE]:
        if args.window and prediction.curve is not None:
            person = f"_person{prediction.person}" if everybody else ""
            files.append(args.output / f"{name}{person}_curve.csv")
            write_curve(files[-1], prediction.curve)
    if args.annotate:
        annotate(predictions, args.annotate, everybody=everybody)
        files.append(args.annotate)
    return files


def _print_files(files: Sequence[Path]) -> None:
    if files:
        more = f" and {len(files) - SHOWN_FILES} more" if len(files) > SHOWN_FILES else ""
        print(one_line(f"  written: {', '.join(map(str, files[:SHOWN_FILES]))}{more}"), flush=True)


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def describe(predictor: Predictor) -> str:
    """Which network answers, what it was trained on, its labels, and the prior, if it is stated."""
    info = predictor.info
    dataset = info["dataset"] or ("ferplus" if predictor.knows_fer2013 else None)
    assumed = "" if info["names_labels"] else " (assumed: its file has no labels)"
    lines = [
        f"network: {shown_path(info['path'])} ({predictor.fan.head.title}, {trained_on(dataset)}; "
        f"{predictor.image_size} x {predictor.image_size} pixels)",
        f"labels: {', '.join(predictor.labels)}{assumed}",
    ]
    if predictor.prior is not None:
        lines.append(f"prior: {', '.join(f'{label} {share:.3f}' for label, share in predictor.prior.items())}")
    return "\n".join(lines)


def report_main(prediction: Prediction) -> str:
    """The answer for the main person of an input, in words."""
    searched = "" if np.isnan(prediction.boxes).all() else f", {prediction.num_faces} with a face"
    if prediction.num_people > 1:
        others = counted(prediction.num_people - 1, "other person", "other people")
        searched += f", main person; {others}: --people all"
    answer = answer_text(prediction.expression, prediction.uncertain)
    lines = [f"{one_line(prediction.path)}: {answer} ({counted(prediction.num_frames, 'frame')}{searched})"]
    lines += [f"  {label:<12} {share:.3f}" for label, share in prediction.probabilities.items()]
    if prediction.neutral is not None:
        lines.append(f"  compared with a neutral face: {prediction.neutral}")
    heaviest = []
    for index in prediction.most_weighted(SHOWN_FRAMES):
        name = f"{prediction.times[index]:.2f} s" if prediction.has_times else one_line(prediction.frames[index])
        heaviest.append(f"{name} ({prediction.weights[index]:.4f})")
    return "\n".join([*lines, f"  highest weights: {', '.join(heaviest)}"])


def report_everybody(predictions: Sequence[Prediction]) -> str:
    """The answers for all people of an input, in words, one line each."""
    first = predictions[0]
    many = counted(len(predictions), "person", "people")
    lines = [f"{one_line(first.path)}: {many} ({counted(first.num_frames, 'frame')})"]
    for prediction in predictions:
        ranked = list(prediction.probabilities.items())[:3]
        shares = answer_text(", ".join(f"{label} {share:.3f}" for label, share in ranked), prediction.uncertain)
        seen = counted(prediction.num_faces, "frame")
        if prediction.has_times:
            seen = f"{prediction.seconds[0]:.2f} to {prediction.seconds[1]:.2f} s, {seen}"
        box = "" if np.isnan(prediction.box).any() else f", box {' '.join(f'{side:.0f}' for side in prediction.box)}"
        lines.append(f"  person {prediction.person}: {shares} ({seen}{box})")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """A value for JSON: arrays and tuples as lists, NaN as None."""
    if not isinstance(value, (np.ndarray, tuple)):
        return value
    values = np.array(value, dtype=object)
    values[values != values] = None
    return values.tolist()


def as_record(prediction: Prediction | Unanswered) -> dict[str, Any]:
    """One answer as plain values; what does not exist (the time of an image, a box) is None."""
    if isinstance(prediction, Unanswered):
        return {"input": prediction.path, "expression": "", "problems": [prediction.reason]}

    record = {name: _plain(getattr(prediction, name)) for name in RECORD}
    shares = zip(prediction.labels, prediction.frame_probabilities.T, strict=True)
    record["frame_probabilities"] = {label: _plain(values) for label, values in shares}
    record = {"input": prediction.path, "checkpoint": prediction.network, **record}
    curve = prediction.curve
    if curve is not None:
        names = ("labels", "expressions", "starts", "ends", "num_faces", "uncertain", "probabilities")
        record["curve"] = {name: _plain(getattr(curve, name)) for name in names}
    return record


def write_json(path: Path, answers: Sequence[Prediction | Unanswered]) -> None:
    """Every answer with its frames, see `as_record`."""
    with atomic_text(path) as file:  # piece by piece: the record of an hour of video is long
        json.dump([as_record(answer) for answer in answers], file, indent=1, allow_nan=False)
        file.write("\n")


def write_csv(
    path: Path, answers: Sequence[Prediction | Unanswered], labels: Sequence[str], *, everybody: bool
) -> None:
    """One line for each answer: input, expression, whether it is uncertain (1) or not (0), counts, a probability for
    each label in the network's order, and problems; of an input without an answer, only the reason.

    `everybody`: write the person, too: number, track, seconds seen, box.
    """
    who = ["person", "track", "start", "end", "left", "top", "right", "bottom"] if everybody else []
    header = columns(["input", *who, "expression", "uncertain", "num_frames", "num_faces", "problems"], labels)
    rows: list[list[Any]] = []
    for p in answers:
        if isinstance(p, Unanswered):
            rows.append([p.path, *[""] * (len(who) + 4), p.reason, *[""] * len(labels)])
            continue
        person = [p.person, p.track, *_cells(p.seconds, 3), *_cells(p.box, 1)] if everybody else []
        shares = _cells((p.probabilities[label] for label in labels), 6)
        counts = [int(p.uncertain), p.num_frames, p.num_faces]
        rows.append([p.path, *person, p.expression, *counts, "; ".join(p.problems), *shares])
    _write_table(path, header, rows)


def write_frames(path: Path, answers: Iterable[Prediction | Unanswered], labels: Sequence[str]) -> None:
    """One line for each frame of each answer, with the columns of `Prediction.to_frame`."""
    digits = {"time": 4, "left": 2, "top": 2, "right": 2, "bottom": 2}
    rows = (
        row
        for answer in answers
        if isinstance(answer, Prediction)
        for row in zip(*(_cells(values, digits.get(name, 6)) for name, values in answer.columns().items()), strict=True)
    )
    _write_table(path, columns(FRAME_COLUMNS, labels), rows)


def write_curve(path: Path, curve: Curve) -> None:
    """One line for each window: start and end, the expression, whether it is uncertain (1) or not (0), the number of
    faces, a probability for each label.
    """
    spans = (_cells(curve.starts, 3), _cells(curve.ends, 3))
    shares = (_cells(values, 6) for values in curve.probabilities.T)
    rows = zip(*spans, curve.expressions, _cells(curve.uncertain, 0), curve.num_faces, *shares, strict=True)
    _write_table(path, columns(["start", "end", "expression", "uncertain", "num_faces"], curve.labels), rows)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_text(path, newline="", errors="backslashreplace") as file:  # as messages show a name
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _cells(values: Iterable[Any], digits: int) -> Iterator[str]:
    """Values for a table: numbers with so many digits, truths as 1 and 0; NaN is an empty cell."""
    for value in values:
        if isinstance(value, (float, np.floating)):
            yield "" if math.isnan(value) else f"{value:.{digits}f}"
        else:
            yield str(int(value)) if isinstance(value, (bool, np.bool)) else str(value)
