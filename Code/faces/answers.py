"""Answers in words, in JSON and in tables."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Code.faces.predict import Predictor
from Code.faces.prediction import Curve, Prediction
from Code.network.fan import SCORE_FUSION
from Code.network.pretrained import trained_for
from Code.training.protocols import ATTENTIONS

SHOWN_FRAMES = 3


def describe(predictor: Predictor) -> str:
    """Which network answers, and what it was trained for."""
    info = predictor.info
    kind = "FAN" if info["kind"] == "published" else info["kind"]
    return (
        f"checkpoint: {info['path']} ({kind}, {ATTENTIONS[predictor.fan.at_type]}, {trained_for(info)}, "
        f"{predictor.image_size} x {predictor.image_size} pixels)\n"
        f"labels: {', '.join(info['labels'])}"
    )


def report(prediction: Prediction, at_type: int) -> str:
    """One answer in words."""
    faces = len(prediction.frames)
    frames = f"{prediction.num_frames} frame" + ("" if prediction.num_frames == 1 else "s")
    searched = "" if np.isnan(prediction.boxes).all() else f", {faces} with a face"
    others = f", the main one of {prediction.num_people} persons or shots" if prediction.num_people > 1 else ""
    lines = [f"{prediction.path}: {prediction.expression} ({frames}{searched}{others})"]
    lines += [f"  {label:<12} {share:.3f}" for label, share in prediction.probabilities.items()]
    if at_type == SCORE_FUSION:
        lines.append(f"  every frame counts the same (score fusion): {1 / faces:.4f}")
    else:
        shown = []
        for index in prediction.most_weighted(SHOWN_FRAMES):
            seconds, weight = prediction.times[index], prediction.weights[index]
            name = prediction.frames[index] if math.isnan(seconds) else f"{seconds:.2f} s"
            shown.append(f"{name} ({weight:.4f})")
        lines.append(f"  most weighted: {', '.join(shown)}")
    return "\n".join(lines)


def as_record(prediction: Prediction, checkpoint: str) -> dict[str, Any]:
    """One answer as plain values; what is not there (the time of an image, a box) is None."""

    def plain(array: Any) -> list[Any]:
        values = array.tolist()
        return [None if isinstance(value, float) and math.isnan(value) else value for value in values]

    record = {
        "input": prediction.path,
        "checkpoint": checkpoint,
        "expression": prediction.expression,
        "probabilities": prediction.probabilities,
        "num_frames": prediction.num_frames,
        "num_faces": len(prediction.frames),
        "num_people": prediction.num_people,
        "frames": list(prediction.frames),
        "times": plain(prediction.times),
        "alpha": plain(prediction.alpha),
        "beta": None if prediction.beta is None else plain(prediction.beta),
        "weights": plain(prediction.weights),
        "boxes": [plain(box) for box in prediction.boxes],
        "landmarks": [[plain(point) for point in points] for points in prediction.landmarks],
        "filled": plain(prediction.filled),
        "problems": list(prediction.problems),
    }
    if prediction.curve is not None:
        curve = prediction.curve
        record["curve"] = {
            "labels": list(curve.labels),
            "starts": plain(curve.starts),
            "ends": plain(curve.ends),
            "faces": plain(curve.faces),
            "expressions": curve.expressions,
            "probabilities": [plain(row) for row in curve.probabilities],
        }
    return record


def write_csv(path: Path, predictions: list[Prediction], labels: tuple[str, ...]) -> None:
    """A line per answer: input, expression, counts, a probability per label in the network's order."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["input", "expression", "num_frames", "num_faces", *labels])
        for p in predictions:
            shares = [f"{p.probabilities[label]:.6f}" for label in labels]
            writer.writerow([p.path, p.expression, p.num_frames, len(p.frames), *shares])


def write_curve(path: Path, curve: Curve) -> None:
    """A line per window: when, the expression, faces it rests on, a probability per label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["start", "end", "expression", "faces", *curve.labels])
        rows = zip(curve.starts, curve.ends, curve.expressions, curve.faces, curve.probabilities, strict=True)
        for start, end, expression, faces, shares in rows:
            cells = ["" if np.isnan(share) else f"{share:.6f}" for share in shares]
            writer.writerow([f"{start:.3f}", f"{end:.3f}", expression, faces, *cells])


def picture_names(paths: Sequence[str]) -> list[str]:
    """What the inputs' pictures are called: the input's name; where inputs share it, behind the name of its folder
    (`Happy_01`); where they share that, too, numbered."""
    places = [Path(path).resolve() for path in paths]
    stems = Counter(place.stem for place in places)
    names: list[str] = []
    for place in places:
        base = name = place.stem if stems[place.stem] == 1 else f"{place.parent.name}_{place.stem}"
        count = 1
        while name in names:
            count += 1
            name = f"{base}-{count}"
        names.append(name)
    return names
