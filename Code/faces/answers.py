"""Answers in words, in JSON and in tables."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..common.files import atomic_text, shown_path
from ..common.names import counted, one_line
from ..network.attention import HEADS
from ..readers import STILLS, trained_on
from .predict import Predictor
from .prediction import Curve, Prediction, answer_text, columns, row_columns

SHOWN_FRAMES = 3
NO_PEOPLE = ("composed", "sample", *STILLS)  # datasets that are no videos of people: an accuracy there says little


class Unanswered(NamedTuple):
    """An input without an answer, and why."""

    path: str
    reason: str


def describe(predictor: Predictor) -> str:
    """Which network answers, what it was trained on, and its accuracy if that is one of videos of people; its labels;
    the prior, if it is stated.
    """
    info, metrics = predictor.info, predictor.info["metrics"]
    dataset = info["dataset"] or ("ferplus" if predictor.knows_fer2013 else None)
    reached = ""
    if dataset not in NO_PEOPLE and "accuracy" in metrics:
        clips = f" of {metrics['num_clips']} validation clips" if "num_clips" in metrics else ""
        reached = f"accuracy there {100 * metrics['accuracy']:.1f} %{clips}; "
    elif dataset not in NO_PEOPLE and "best_prec1" in metrics:  # the published format has it in percent
        reached = f"accuracy there {metrics['best_prec1']:.1f} % in validation; "
    assumed = "" if info["names_labels"] else " (assumed: its file has no labels)"
    lines = [
        f"network: {shown_path(info['path'])} ({predictor.fan.head.title}, {trained_on(dataset)}; {reached}"
        f"{predictor.image_size} x {predictor.image_size} pixels)",
        f"labels: {', '.join(predictor.labels)}{assumed}",
    ]
    if predictor.prior is not None:
        stated = ", ".join(f"{label} {share:.3f}" for label, share in predictor.prior.items())
        unknown = "; its file does not say the shares that it was trained on, so they count as equal"
        lines.append(f"prior: {stated}{unknown if info['class_shares'] is None else ''}")
    return "\n".join(lines)


def report_main(prediction: Prediction, at_type: int) -> str:
    """The answer of a network with this attention for the main person of an input, in words."""
    searched = "" if np.isnan(prediction.boxes).all() else f", {len(prediction.frames)} with a face"
    others = prediction.num_people - 1
    if others and prediction.num_cuts:
        searched += f", main person; {counted(others, 'other person or shot', 'other people or shots')}: --people all"
    elif others:
        searched += f", main person; {counted(others, 'other person', 'other people')}: --people all"
    answer = answer_text(prediction.expression, prediction.uncertain)
    lines = [f"{one_line(prediction.path)}: {answer} ({counted(prediction.num_frames, 'frame')}{searched})"]
    lines += [f"  {label:<12} {share:.3f}" for label, share in prediction.probabilities.items()]
    if prediction.neutral is not None:
        lines.append(f"  compared with a neutral face: {prediction.neutral}")
    if HEADS[at_type].weighs_frames:
        heaviest = prediction.most_weighted(SHOWN_FRAMES)
        names = [f"{prediction.times[index]:.2f} s" for index in heaviest]
        if not prediction.has_times:
            names = [one_line(prediction.frames[index]) for index in heaviest]
        shown = (f"{name} ({prediction.weights[index]:.4f})" for name, index in zip(names, heaviest, strict=True))
        lines.append(f"  highest weights: {', '.join(shown)}")
    else:
        lines.append(f"  every frame has the same weight (score fusion): {1 / len(prediction.frames):.4f}")
    return "\n".join(lines)


def report_everybody(predictions: Sequence[Prediction]) -> str:
    """The answers for all people of an input, in words, one line each."""
    first = predictions[0]
    many = counted(len(predictions), "person", "people")
    shots = "; a cut starts new ones" if first.num_cuts else ""
    lines = [f"{one_line(first.path)}: {many} ({counted(first.num_frames, 'frame')}{shots})"]
    for prediction in predictions:
        ranked = list(prediction.probabilities.items())[:3]
        shares = answer_text(", ".join(f"{label} {share:.3f}" for label, share in ranked), prediction.uncertain)
        seen = counted(len(prediction.frames), "frame")
        if prediction.has_times:
            seen = f"{prediction.seconds[0]:.2f} to {prediction.seconds[1]:.2f} s, {seen}"
        box = "" if np.isnan(prediction.box).any() else f", box {' '.join(f'{side:.0f}' for side in prediction.box)}"
        lines.append(f"  person {prediction.person}: {shares} ({seen}{box})")
    return "\n".join(lines)


def _plain(array: np.ndarray) -> list[Any]:
    """Values for JSON, nested as in the array; NaN is None."""
    values = array.astype(object)
    values[array != array] = None
    plain: list[Any] = values.tolist()
    return plain


def as_record(prediction: Prediction | Unanswered) -> dict[str, Any]:
    """One answer as plain values; what does not exist (the time of an image, a box) is None."""
    if isinstance(prediction, Unanswered):
        return {"input": prediction.path, "expression": "", "problems": [prediction.reason]}
    by_frame, curve = prediction.frame_probabilities, prediction.curve
    record = {
        "input": prediction.path,
        "checkpoint": prediction.network,
        **{name: getattr(prediction, name) for name in ("expression", "uncertain", "probabilities", "prior")},
        **{name: getattr(prediction, name) for name in ("neutral", "person", "track")},
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
        "frame_probabilities": {label: _plain(by_frame[:, at]) for at, label in enumerate(prediction.labels)},
        **{name: _plain(getattr(prediction, name)) for name in ("boxes", "landmarks", "filled")},
        "problems": list(prediction.problems),
    }
    if curve is not None:
        arrays = ("starts", "ends", "num_faces", "uncertain", "probabilities")
        record["curve"] = {
            "labels": list(curve.labels),
            "expressions": curve.expressions,
            **{name: _plain(getattr(curve, name)) for name in arrays},
        }
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

    Args:
        everybody: write the person, too: number, track, seconds seen, box.
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
        counts = [int(p.uncertain), p.num_frames, len(p.frames)]
        rows.append([p.path, *person, p.expression, *counts, "; ".join(p.problems), *shares])
    _write_table(path, header, rows)


def write_frames(path: Path, predictions: Sequence[Prediction], labels: Sequence[str]) -> None:
    """One line for each frame of each answer, with the columns of `Prediction.to_frame`."""

    def row(name: str, person: int, frame: str, time: float, *values: Any) -> list[Any]:
        (*box, filled, alpha, weight, uncertain), shares = values[: -len(labels)], values[-len(labels) :]
        place = [*_cells([time], 4), *_cells(box, 2), int(filled)]
        return [name, person, frame, *place, *_cells([alpha, weight], 6), int(uncertain), *_cells(shares, 6)]

    rows = (row(*values) for prediction in predictions for values in prediction.rows())
    _write_table(path, row_columns(labels), rows)


def write_curve(path: Path, curve: Curve) -> None:
    """One line for each window: start and end, the expression, whether it is uncertain (1) or not (0), the number of
    faces, a probability for each label.
    """
    uncertain, rows = curve.uncertain, []
    for at, expression in enumerate(curve.expressions):
        time, shares = _cells([curve.starts[at], curve.ends[at]], 3), _cells(curve.probabilities[at], 6)
        rows.append([*time, expression, int(uncertain[at]), curve.num_faces[at], *shares])
    _write_table(path, columns(["start", "end", "expression", "uncertain", "num_faces"], curve.labels), rows)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_text(path, newline="", errors="backslashreplace") as file:  # as messages show a name
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _cells(values: Iterable[float], digits: int) -> list[str]:
    """Numbers for a table; NaN is an empty cell."""
    return ["" if math.isnan(value) else f"{value:.{digits}f}" for value in values]
