"""`predictions.html`: the answers of one call with their faces, on one page that needs no other file."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.files import short_name, shown_path
from ..common.names import counted, natural_key
from ..results.figures import choose_frames
from ..results.page import Card, Pictures, jpeg_uri, make_course, make_tiles, write_page
from .prediction import Prediction

PAGE = "predictions.html"
LONGEST_NAME = 100  # bytes of an input's name, or its folder's, in the names of its figures
FIGURES = (".png", ".csv")


def figure_names(inputs: Sequence[str], folder: Path, reference: Path | None = None) -> list[str]:
    """A name for the figures of each input: its own; if several inputs share it, with its folder (`Happy_01`) and, if
    they still do, with a number. No figure takes the place of a file that is read.

    Args:
        folder: of the figures.
        reference: another file that is read.
    """
    paths = [Path(os.path.abspath(path)) for path in inputs]
    here = Path(os.path.abspath(folder))
    read = [*paths, *([] if reference is None else [Path(os.path.abspath(reference))])]
    read += here.glob("*") if here in paths else ()  # a folder of frames
    taken = {_root(path.stem) for path in read if path.suffix.lower() in FIGURES and path.parent == here}
    stems = [short_name(path.name if path.is_dir() else path.stem, LONGEST_NAME) for path in paths]
    often = Counter(map(str.casefold, stems))
    names = []
    for path, stem in zip(paths, stems, strict=True):
        base = f"{short_name(path.parent.name, LONGEST_NAME)}_{stem}"
        alone = [stem] if often[stem.casefold()] == 1 else []
        candidates = chain(alone, [base], (f"{base}-{number}" for number in count(2)))
        names.append(next(name for name in candidates if _root(name) not in taken))
        taken.add(_root(names[-1]))
    return names


def _root(name: str) -> str:
    """What the figures of an input have in common: those of `clip` and of `clip_curve` could have one name."""
    return re.sub(r"(_person[0-9]+)?(_curve)?$", "", name.casefold())


def card_without_answer(path: str, reason: str) -> Card:
    """What the page says about an input without an answer."""
    return Card(Path(path).name, seen=f"no answer: {reason}", note=shown_path(Path(path).parent))


def card_of(
    prediction: Prediction, shown: Sequence[int], crops: np.ndarray, figures: Sequence[Path], pictures: Pictures
) -> Card:
    """What the page says about one answer.

    Args:
        shown: indices of the frames whose faces are at hand, ascending.
        crops: these faces, uint8 [len(shown), H, W, 3].
        figures: its files in the folder of the page.
        pictures: how many faces the page can show, and their size.
    """
    path = Path(prediction.path)
    person = f", person {prediction.person} of {prediction.num_people}" if prediction.num_people > 1 else ""
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
        path.name + person,
        prediction=prediction.expression,
        certainty=prediction.probabilities[prediction.expression],
        uncertain=prediction.uncertain,
        probabilities={label: prediction.probabilities[label] for label in prediction.labels},
        tiles=tiles,
        course=make_course(times or prediction.frames, prediction.weights),
        seen=f"{len(prediction.frames)} of {counted(prediction.num_frames, 'frame')}{seen}",
        links=[figure.name for figure in figures],
        note=shown_path(path.parent),
        problems=prediction.problems,
    )


def write_gallery(folder: Path, cards: Sequence[Card], pictures: Pictures) -> Path:
    """Writes the page with what `card_of` makes of each answer.

    Raises:
        UsageError: it cannot be written.
    """
    ranked = sorted(cards, key=lambda card: (-round(card.certainty, 2), natural_key(card.name)))
    counts = Counter(card.prediction for card in ranked)
    expressions = sorted(counts, key=natural_key)
    folders = sorted({card.note for card in cards}, key=natural_key)
    choices = [("said", "expression", expressions)]
    choices += [("folder", "folder", folders)] if len(folders) > 1 else []
    for card in ranked:
        card.data = {
            "said": expressions.index(card.prediction),
            "folder": folders.index(card.note),
            "right": 1,
            "certainty": card.certainty,
        }
        card.note = f"in {card.note}" if len(folders) > 1 else ""
    return write_page(
        folder / PAGE,
        "predictions.html.j2",
        name="Predictions",
        cards=ranked,
        total=len(ranked),
        summary=", ".join(f"{label or 'none'} {count}" for label, count in counts.most_common()),
        choices=choices,
        pictures=pictures,
        longer=any(card.course and card.course.frames > len(card.tiles) for card in cards),
    )
