"""Figures of an answer: attention over the frames, people in a frame, a curve over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..common.names import counted
from ..results.figures import CYCLE, INK, SOFT, attention_figure, choose_frames, plain_style, shorten
from .prediction import Curve, Prediction, answer_text
from .render import WHITE, color_of, hue_of, ink_on

FIGURE_FRAMES = 12  # drawn in the figure of a longer clip
MOST_PEOPLE = 20  # drawn in one figure


def title_of(prediction: Prediction) -> str:
    """The input's name, and the person's number if there are several."""
    person = f", person {prediction.person} of {prediction.num_people}" if prediction.num_people > 1 else ""
    return Path(prediction.path).name + person


def shown_frames(prediction: Prediction, most: int = FIGURE_FRAMES) -> list[int]:
    """Indices of the frames that stand for a clip in a picture, ascending."""
    return choose_frames(prediction.weights, most)


def attention_picture(
    prediction: Prediction, shown: Sequence[int], crops: np.ndarray, intensity: np.ndarray | None = None
) -> Figure:
    """The faces with their attention bars.

    Args:
        shown: indices of the frames to draw, ascending.
        crops: their faces, uint8 [len(shown), H, W, 3].
        intensity: float [T], the true intensity of the expression, where it is known.
    """
    return attention_figure(
        crops,
        prediction.alpha,
        prediction.weights,
        shown=shown,
        title=title_of(prediction),
        prediction=answer_text(prediction.expression, prediction.uncertain),
        probabilities={label: prediction.probabilities[label] for label in prediction.labels},
        intensity=intensity,
        times=prediction.times if prediction.has_times else None,
    )


@plain_style
def people_picture(predictions: Sequence[Prediction]) -> Figure:
    """The frame that shows most of the people, each with a box and a number, and the answers beside it.

    Args:
        predictions: of the people of one input, in the order of their numbers.
    """
    drawn = predictions[:MOST_PEOPLE]
    seen: dict[int, float] = {}  # frame -> people in it; of several such frames, the one where their weights are high
    for prediction in drawn:
        shares = prediction.weights / prediction.weights.max() / (2 * len(drawn))
        for number, share in zip(prediction.numbers.tolist(), shares.tolist(), strict=True):
            seen[number] = seen.get(number, 0.0) + 1 + share
    best = max(seen, key=lambda number: seen[number])
    (frame,) = predictions[0].source.frames(wanted={best})
    height, width = frame.image.shape[:2]

    # In inches, as the rows of the table have a height of their own.
    row_high, margin, title_high = 0.27, 0.1, 0.4
    wide = min(max(4.2 * width / height, 2.4), 7.5)
    high = wide * height / width
    answers = 1.95 + 0.7 * any(prediction.uncertain for prediction in drawn)
    table = answers + (2.35 if predictions[0].has_times else 0.85)
    body = max(high, row_high * (len(drawn) + 1))
    size = wide + table + 2 * margin, title_high + body + margin
    figure = Figure(figsize=size, facecolor="white")

    def write(x: float, below: float, text: str, **style: Any) -> None:
        place = x / size[0], 1 - below / size[1]
        figure.text(*place, text, va="top", parse_math=False, **{"color": INK, "size": 9.5, **style})

    low = margin + (body - high) / 2
    axes = figure.add_axes((margin / size[0], low / size[1], wide / size[0], high / size[1]))
    axes.imshow(frame.image)
    axes.set_axis_off()
    for prediction in drawn:
        at = np.flatnonzero(prediction.numbers == best)
        if not len(at) or np.isnan(prediction.boxes[at[0]]).any():
            continue
        left, top, right, bottom = prediction.boxes[at[0]]
        color = hue_of(prediction.person)
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=2))
        ink = "white" if ink_on(color_of(prediction.person)) == WHITE else "black"
        tag = {"facecolor": color, "edgecolor": "none", "boxstyle": "square,pad=0.25"}
        axes.text(left, top, str(prediction.person), color=ink, size=9, weight="bold", va="bottom", bbox=tag)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))

    when = "" if math.isnan(frame.time) else f", at {frame.time:.2f} s"
    name = shorten(Path(predictions[0].path).name, 60)
    write(margin, margin, f"{name}: {counted(len(predictions), 'person', 'people')}{when}", size=10.5, weight="bold")
    for row, prediction in enumerate(drawn):
        below = title_high + row_high * row
        x = wide + 2 * margin
        write(x, below, str(prediction.person), color=hue_of(prediction.person), weight="bold")
        answer = shorten(prediction.expression, 18)
        write(x + 0.35, below, answer_text(answer, prediction.uncertain), weight="bold")
        write(x + answers, below, f"{100 * prediction.probabilities[prediction.expression]:.0f} %")
        if prediction.has_times:
            first, last = prediction.seconds
            write(x + answers + 0.6, below, f"{first:.1f} to {last:.1f} s", color=SOFT)
    if len(predictions) > len(drawn):
        more = f"and {len(predictions) - len(drawn)} more"
        write(wide + 2 * margin, title_high + row_high * len(drawn), more, color=SOFT)
    return figure


@plain_style
def curve_picture(curve: Curve, title: str) -> Figure:
    """Probabilities over time, a line for each label, with gaps where no face is visible."""
    figure = Figure(figsize=(9.0, 3.6), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    middles = (curve.starts + curve.ends) / 2
    marker = "o" if len(curve) < 40 else None
    for index, label in enumerate(curve.labels):
        dash = "-" if index < len(CYCLE) else "--"
        color = CYCLE[index % len(CYCLE)]
        axes.plot(middles, curve.probabilities[:, index], dash, color=color, label=label, marker=marker, ms=3, lw=1.5)
    axes.set(xlabel="time (s)", ylabel="probability", ylim=(-0.02, 1.02))
    axes.set_xlim(float(curve.starts[0]), float(curve.ends[-1]))
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    return figure
