"""Answers in words, in JSON and in tables."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import atomic_text
from ..common.wording import counted, one_line
from ..network.attention import HEADS
from ..network.weights import trained_on
from .predict import Predictor
from .prediction import Curve, Prediction, columns, row_columns, said

SHOWN_FRAMES = 3
# Names of files that are not valid text are written byte for byte.
ANY_NAME = "surrogateescape"


def describe(predictor: Predictor) -> str:
    """Which network answers, what it was trained on and its accuracy there; its labels; the prior, if it is stated."""
    info = predictor.info
    path = Path(info["path"])
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    assumed = "" if info["names_labels"] else " (assumed: its file has no labels)"
    lines = [
        f"network: {path} ({predictor.fan.head.title}, {trained_on(info)}; {accuracy(info)}; "
        f"{predictor.image_size} x {predictor.image_size} pixels)",
        f"labels: {', '.join(predictor.labels)}{assumed}",
    ]
    if predictor.prior is not None:
        stated = ", ".join(f"{label} {share:.3f}" for label, share in predictor.prior.items())
        unknown = "; its file does not say the shares that it was trained on, so they count as equal"
        lines.append(f"prior: {stated}{unknown if info['class_shares'] is None else ''}")
    return "\n".join(lines)


def accuracy(info: dict[str, Any]) -> str:
    """The accuracy that a checkpoint of `load_fan` reached on its own validation data."""
    metrics = info["metrics"]
    if "accuracy" in metrics:
        clips = f" of {metrics['num_clips']} validation clips" if "num_clips" in metrics else ""
        return f"accuracy there {100 * metrics['accuracy']:.1f} %{clips}"
    if "best_prec1" in metrics:  # the published format has it in percent
        return f"accuracy there {metrics['best_prec1']:.1f} % in validation"
    return "its accuracy is not in the file"


def report(predictions: Sequence[Prediction], at_type: int, *, everybody: bool = False) -> str:
    """The answers to one input, in words.

    Args:
        predictions: of one input, the main person first.
        at_type: of the network.
        everybody: all people were asked for.
    """
    return _report_people(predictions) if everybody else _report_main(predictions[0], at_type)


def _report_main(prediction: Prediction, at_type: int) -> str:
    faces = len(prediction.frames)
    searched = "" if np.isnan(prediction.boxes).all() else f", {faces} with a face"
    others = prediction.num_people - 1
    if others and prediction.num_cuts:
        searched += f", main person; {counted(others, 'other person or shot', 'other people or shots')}: --people all"
    elif others:
        searched += f", main person; {counted(others, 'other person', 'other people')}: --people all"
    answer = said(prediction.expression, prediction.uncertain)
    lines = [f"{one_line(prediction.path)}: {answer} ({counted(prediction.num_frames, 'frame')}{searched})"]
    lines += [f"  {label:<12} {share:.3f}" for label, share in prediction.probabilities.items()]
    if prediction.neutral is not None:
        lines.append(f"  compared with a neutral face: {prediction.neutral}")
    if not HEADS[at_type].weighs_frames:
        lines.append(f"  every frame has the same weight (score fusion): {1 / faces:.4f}")
    else:
        shown = []
        for index in prediction.most_weighted(SHOWN_FRAMES):
            seconds, weight = prediction.times[index], prediction.weights[index]
            name = one_line(prediction.frames[index]) if math.isnan(seconds) else f"{seconds:.2f} s"
            shown.append(f"{name} ({weight:.4f})")
        lines.append(f"  highest weights: {', '.join(shown)}")
    return "\n".join(lines)


def _report_people(predictions: Sequence[Prediction]) -> str:
    first = predictions[0]
    many = counted(len(predictions), "person", "people")
    shots = "; a cut starts new ones" if first.num_cuts else ""
    lines = [f"{one_line(first.path)}: {many} ({counted(first.num_frames, 'frame')}{shots})"]
    for prediction in predictions:
        ranked = list(prediction.probabilities.items())[:3]
        shares = said(", ".join(f"{label} {share:.3f}" for label, share in ranked), prediction.uncertain)
        seen = counted(len(prediction.frames), "frame")
        if prediction.has_times:
            seen = f"{prediction.seconds[0]:.2f} to {prediction.seconds[1]:.2f} s, {seen}"
        box = "" if np.isnan(prediction.box).any() else f", box {' '.join(f'{side:.0f}' for side in prediction.box)}"
        lines.append(f"  person {prediction.person}: {shares} ({seen}{box})")
    return "\n".join(lines)


def _plain(array: np.ndarray) -> list[Any]:
    """Values for JSON; NaN is None."""
    values = array.tolist()
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def as_record(prediction: Prediction) -> dict[str, Any]:
    """One answer as plain values; what does not exist (the time of an image, a box) is None."""
    record = {
        "input": prediction.path,
        "checkpoint": prediction.network,
        "expression": prediction.expression,
        "uncertain": prediction.uncertain,
        "probabilities": prediction.probabilities,
        "prior": prediction.prior,
        "neutral": prediction.neutral,
        "person": prediction.person,
        "track": prediction.track,
        "seconds": _plain(np.array(prediction.seconds)),
        "box": _plain(prediction.box),
        "num_frames": prediction.num_frames,
        "num_faces": len(prediction.frames),
        "num_people": prediction.num_people,
        "frames": list(prediction.frames),
        "times": _plain(prediction.times),
        "alpha": _plain(prediction.alpha),
        "beta": None if prediction.beta is None else _plain(prediction.beta),
        "weights": _plain(prediction.weights),
        "frame_probabilities": {
            label: _plain(prediction.frame_probabilities[:, index]) for index, label in enumerate(prediction.labels)
        },
        "boxes": [_plain(box) for box in prediction.boxes],
        "landmarks": [[_plain(point) for point in points] for points in prediction.landmarks],
        "filled": _plain(prediction.filled),
        "problems": list(prediction.problems),
    }
    if prediction.curve is not None:
        curve = prediction.curve
        record["curve"] = {
            "labels": list(curve.labels),
            "starts": _plain(curve.starts),
            "ends": _plain(curve.ends),
            "faces": _plain(curve.faces),
            "expressions": curve.expressions,
            "uncertain": _plain(curve.uncertain),
            "probabilities": [_plain(row) for row in curve.probabilities],
        }
    return record


def write_json(path: Path, predictions: Sequence[Prediction]) -> None:
    """Every answer with its frames, see `as_record`."""
    records = [as_record(prediction) for prediction in predictions]
    with atomic_text(path) as file:  # piece by piece: the record of an hour of video is long
        json.dump(records, file, indent=1, allow_nan=False)
        file.write("\n")


def write_csv(
    path: Path, predictions: Sequence[Prediction], labels: tuple[str, ...], *, everybody: bool = False
) -> None:
    """One line for each answer: input, expression, whether it is uncertain (1) or not (0), counts, a probability for
    each label in the network's order.

    Args:
        everybody: write the person, too: number, track, seconds seen, box.
    """
    with atomic_text(path, newline="", errors=ANY_NAME) as file:
        writer = csv.writer(file)
        who = ["person", "track", "start", "end", "left", "top", "right", "bottom"] if everybody else []
        writer.writerow(columns(["input", *who, "expression", "uncertain", "num_frames", "num_faces"], labels))
        for p in predictions:
            person = [p.person, p.track, *_cells(p.seconds, 3), *_cells(p.box, 1)] if everybody else []
            shares = [f"{p.probabilities[label]:.6f}" for label in labels]
            writer.writerow([p.path, *person, p.expression, int(p.uncertain), p.num_frames, len(p.frames), *shares])


def write_frames(path: Path, predictions: Sequence[Prediction], labels: tuple[str, ...]) -> None:
    """One line for each frame of each answer, with the columns of `Prediction.to_frame`."""
    with atomic_text(path, newline="", errors=ANY_NAME) as file:
        writer = csv.writer(file)
        writer.writerow(row_columns(labels))
        for prediction in predictions:
            for name, person, frame, *values in prediction.rows():
                time, *box, filled, alpha, weight, uncertain = values[: -len(labels)]
                shares = [f"{share:.6f}" for share in values[-len(labels) :]]
                numbers = [
                    *_cells([time], 4),
                    *_cells(box, 2),
                    int(filled),
                    f"{alpha:.6f}",
                    f"{weight:.6f}",
                    int(uncertain),
                ]
                writer.writerow([name, person, frame, *numbers, *shares])


def write_curve(path: Path, curve: Curve) -> None:
    """One line for each window: start and end, the expression, whether it is uncertain (1) or not (0), the number of
    faces, a probability for each label.
    """
    with atomic_text(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns(["start", "end", "expression", "uncertain", "faces"], curve.labels))
        answers = zip(curve.expressions, curve.uncertain, curve.faces, curve.probabilities, strict=True)
        for start, end, (expression, uncertain, faces, shares) in zip(curve.starts, curve.ends, answers, strict=True):
            writer.writerow([f"{start:.3f}", f"{end:.3f}", expression, int(uncertain), faces, *_cells(shares, 6)])


def _cells(values: Iterable[float], digits: int) -> list[str]:
    """Numbers for a table; NaN is an empty cell."""
    return ["" if math.isnan(value) else f"{value:.{digits}f}" for value in values]
