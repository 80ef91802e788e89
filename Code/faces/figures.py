"""The folder `predictions`: figures of each answer, and one page, predictions.html, that needs no other file."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.files import atomic_file, shown_path
from ..common.names import counted, natural_key
from ..results.figures import CYCLE, Figure, attention_figure, choose_frames, figure_bytes, plain_style
from ..results.page import Card, Pictures, jpeg_uri, make_course, make_tiles, write_page
from .prediction import Curve, Prediction, answer_text, crops_of
from .render import Label, draw_people

MOST_PEOPLE = 20  # with a figure of their own
LONGEST_NAME = 100  # bytes of an input's name, or its folder's, in the names of its figures


def figure_names(inputs: Iterable[str], folder: Path, reference: object = None) -> dict[str, str]:
    """A name for the figures of each input: its own; if several inputs share it, with its folder (`Happy_01`) and, if
    they still do, with a number. No figure takes the place of a file in `folder` that is read, such as `reference`.
    """
    paths = {path: Path(os.path.abspath(path)) for path in inputs}
    here = Path(os.path.abspath(folder))
    read = [*paths.values(), *([Path(os.path.abspath(reference))] if isinstance(reference, str) else [])]
    read += here.glob("*") if here in read else ()  # a folder of frames
    taken = {_root(path.stem) for path in read if path.suffix.lower() in (".png", ".csv") and path.parent == here}
    stems = {key: _shortened(path.name if path.is_dir() else path.stem) for key, path in paths.items()}
    often = Counter(map(str.casefold, stems.values()))
    names = {}
    for key, stem in stems.items():
        base = f"{_shortened(paths[key].parent.name)}_{stem}"
        alone = [stem] if often[stem.casefold()] == 1 else []
        candidates = chain(alone, [base], (f"{base}-{number}" for number in count(2)))
        names[key] = next(name for name in candidates if _root(name) not in taken)
        taken.add(_root(names[key]))
    return names


def _shortened(name: str) -> str:
    """A name in at most `LONGEST_NAME` bytes: a file's may have 255, and more is derived from it."""
    raw = name.encode("utf-8", "surrogateescape")
    return name if len(raw) <= LONGEST_NAME else raw[:LONGEST_NAME].decode("utf-8", "ignore")


def _root(name: str) -> str:
    """What the figures of an input have in common: those of `clip` and of `clip_curve` could have one name."""
    return re.sub(r"(_person[0-9]+)?(_curve)?$", "", name.casefold())


def title_of(prediction: Prediction) -> str:
    """The input's name, and the person's number if there are several."""
    person = f", person {prediction.person} of {prediction.num_people}" if prediction.num_people > 1 else ""
    return Path(prediction.path).name + person


def attention_picture(
    prediction: Prediction, shown: Sequence[int], crops: np.ndarray, intensity: np.ndarray | None = None
) -> Figure:
    """The faces with their attention bars: frames `shown`, ascending, with their `crops`, uint8 [len(shown), H, W, 3].

    `intensity`, float [T], is the true intensity of the expression, where it is known.
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


def people_picture(predictions: Sequence[Prediction]) -> Image.Image:
    """The frame of an input that shows most of its people, each with a box, their number and their answer."""
    numbers, counts = np.unique(np.concatenate([each.numbers for each in predictions]), return_counts=True)
    best = int(numbers[counts.argmax()])
    (frame,) = predictions[0].faces.source.frames(wanted={best})
    labels = [
        Label(prediction.boxes[at], prediction.person, prediction.text_at(math.nan))
        for prediction in predictions
        for at in np.flatnonzero(prediction.numbers == best)
    ]
    return draw_people(frame.image, labels)


@plain_style
def curve_picture(curve: Curve, title: str) -> Figure:
    """Probabilities over time, a line for each label, with gaps where no face is visible."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    middles = (curve.starts + curve.ends) / 2
    marker = "o" if len(middles) < 40 else None
    for index, label in enumerate(curve.labels):
        dash = "-" if index < len(CYCLE) else "--"
        color = CYCLE[index % len(CYCLE)]
        axes.plot(middles, curve.probabilities[:, index], dash, color=color, label=label, marker=marker, ms=3, lw=1.5)
    axes.set(title=title, xlabel="time (s)", ylabel="probability", ylim=(-0.02, 1.02))
    axes.set_xlim(float(curve.starts[0]), float(curve.ends[-1]))
    axes.grid()
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def card_of(
    prediction: Prediction, shown: Sequence[int], crops: np.ndarray, figures: Sequence[Path], pictures: Pictures
) -> Card:
    """What the page says about one answer; `shown` and `crops` as in `attention_picture`."""
    seen = f", {prediction.seconds[0]:.2f} to {prediction.seconds[1]:.2f} s" if prediction.has_times else ""
    if prediction.prior is not None:
        seen += f", with the prior {', '.join(f'{name} {share:.3f}' for name, share in prediction.prior.items())}"
    seen += "" if prediction.neutral is None else f", compared with a neutral face: {prediction.neutral}"
    times = [f"{time:.2f} s" for time in prediction.times] if prediction.has_times else None
    chosen = choose_frames(prediction.weights[list(shown)], pictures.frames)
    frames = [shown[at] for at in chosen]
    tiles = make_tiles(prediction.frames, prediction.alpha, prediction.weights, frames, labels=times)
    for tile, crop in zip(tiles, crops[chosen], strict=True):
        tile.picture = jpeg_uri(Image.fromarray(crop).resize((pictures.side, pictures.side), Image.Resampling.BOX))
    return Card(
        title_of(prediction),
        prediction=prediction.expression,
        certainty=prediction.probabilities[prediction.expression],
        uncertain=prediction.uncertain,
        probabilities={label: prediction.probabilities[label] for label in prediction.labels},
        tiles=tiles,
        course=make_course(prediction.weights),
        seen=f"{prediction.num_faces} of {counted(prediction.num_frames, 'frame')}{seen}",
        links=[figure.name for figure in figures],
        note=shown_path(Path(prediction.path).parent),
        problems=prediction.problems,
    )


class Gallery:
    """The figures of one call with `inputs` inputs, and their page; with `everybody`, figures of each person."""

    def __init__(self, folder: Path, inputs: int, *, everybody: bool) -> None:
        self._folder, self._everybody = folder, everybody
        self._pictures = Pictures(inputs)
        self._cards: list[Card] = []

    def add(self, predictions: Sequence[Prediction], name: str, *, curves: bool) -> list[Path]:
        """Writes the figures of one input under a name, those of curves only if asked for; returns the files."""
        drawn = predictions[:MOST_PEOPLE]
        shown = [choose_frames(prediction.weights) for prediction in drawn]
        files = [self._save(people_picture(predictions), name)] if self._everybody else []
        for prediction, indices, crops in zip(drawn, shown, crops_of(drawn, shown), strict=True):
            own = f"{name}_person{prediction.person}" if self._everybody else name
            links = [*files[: self._everybody], self._save(attention_picture(prediction, indices, crops), own)]
            if curves and prediction.curve is not None:
                links.append(self._save(curve_picture(prediction.curve, title_of(prediction)), f"{own}_curve"))
            self._cards.append(card_of(prediction, indices, crops, links, self._pictures))
            files += links[self._everybody :]
        return files

    def add_unanswered(self, path: str, reason: str) -> None:
        """Adds an input without an answer to the page."""
        self._cards.append(Card(Path(path).name, seen=f"no answer: {reason}", note=shown_path(Path(path).parent)))

    def _save(self, picture: Figure | Image.Image, name: str) -> Path:
        path = self._folder / f"{name}.png"
        with atomic_file(path) as file:
            if isinstance(picture, Figure):
                file.write(figure_bytes(picture, "png"))
            else:
                picture.save(file, "PNG")
        return path

    def write(self) -> Path:
        """Writes the page; UsageError if it cannot be written."""
        ranked = sorted(self._cards, key=lambda card: (-round(card.certainty, 2), natural_key(card.name)))
        counts = Counter(card.prediction for card in ranked)
        expressions = sorted(counts, key=natural_key)
        folders = sorted({card.note for card in ranked}, key=natural_key)
        choices = [("said", "expression", expressions)]
        choices += [("folder", "folder", folders)] if len(folders) > 1 else []
        for card in ranked:
            places = {"said": expressions.index(card.prediction), "folder": folders.index(card.note)}
            card.data = {**places, "right": 1, "certainty": card.certainty}
            card.note = f"in {card.note}" if len(folders) > 1 else ""
        return write_page(
            self._folder / "predictions.html",
            "predictions.html.j2",
            name="Predictions",
            cards=ranked,
            total=len(ranked),
            summary=", ".join(f"{label or 'none'} {count}" for label, count in counts.most_common()),
            choices=choices,
            pictures=self._pictures,
            longer=any(len(card.course) > len(card.tiles) for card in ranked),
        )
