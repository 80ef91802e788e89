"""`predictions.html`: all answers whose figures lie in one folder, on one page that needs no other file."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.errors import UsageError
from ..common.files import remove_leftovers, save_text, short_name
from ..common.json_files import MissingStateError, StateError, read_state
from ..common.wording import counted, natural_key
from ..data.listing import is_unicode
from .prediction import Prediction

PAGE = "predictions.html"
# What the page is made of, a file for each input. Each also keeps its name from being given to another input.
RECORDS = ".answers"
VERSION = 1  # of the records
SIDE, QUALITY = 72, 75  # of a face on the page, pixels
LONGEST_NAME = 100  # bytes of an input's name, or its folder's, in the names of its figures
COURSE = 400  # bars of a weight curve at most
# (answers on a page, faces of each of them at most): 500 x 12 faces of 2 KB are 12 MB.
MOST_FACES = ((500, 12), (1000, 6), (2000, 3))
FIGURES = (".png", ".csv")
_DATA = "data:image/jpeg;base64,"
# Files of one input may end in this, so that `clip` and `clip_curve` must not be two inputs.
_ENDING = re.compile(r"(_person[0-9]+)?(_curve)?$")


@dataclass
class Tile:
    """A face of an answer, as the page shows it: alpha and share in %, the picture as a data URL."""

    label: str
    frame: str
    alpha: int
    weight: float
    share: int
    mark: str
    picture: str

    def __post_init__(self) -> None:
        if not self.picture.startswith(_DATA):
            raise ValueError("picture: is not a JPEG in the page itself")


@dataclass
class Card:
    """What the page says about one answer.

    Attributes:
        course: the weight curve, in [0, 1].
        figures: names of files in the folder of the page.
        number, said, in_folder, by_network: set by the page: which answer, expression, folder and network this is.
    """

    name: str
    folder: str
    network: str
    expression: str
    certainty: float
    probabilities: dict[str, float]
    seen: str
    num_faces: int
    course: list[float]
    problems: list[str]
    figures: list[str]
    tiles: list[Tile]
    uncertain: bool = False
    number: int = 0
    said: int = 0
    in_folder: int = 0
    by_network: int = 0

    def __post_init__(self) -> None:
        if self.expression not in self.probabilities:
            raise ValueError(f"probabilities: has no {self.expression!r}")
        if not all(0 <= share <= 1.001 for share in (self.certainty, *self.probabilities.values(), *self.course)):
            raise ValueError("certainty, probabilities and course: expected numbers from 0 to 1")
        if any(name in ("", ".", "..") or Path(name).name != name or not is_unicode(name) for name in self.figures):
            raise ValueError("figures: expected names of files beside the page")


@dataclass
class Answers:
    """A record: the input that a name belongs to, and the answers to it."""

    input: str
    cards: list[Card] = field(default_factory=list)
    version: int = VERSION


class Gallery:
    """The figures of a folder: their names, and the page that shows them.

    A name belongs to one input, also in later calls: figures of inputs in different folders never overwrite each other,
    nor a file that is no figure, such as an input. A damaged record keeps its name, but is not shown.

    Args:
        folder: is made when the first name is taken.
        say: called with a line for each damaged record.

    Raises:
        UsageError: the folder of the records is a link.
    """

    def __init__(self, folder: Path, say: Callable[[str], object] = lambda line: None) -> None:
        self.folder = folder
        self._say = say
        self._inputs: dict[str, str] = {}  # name, in lower case -> input
        self._damaged: set[Path] = set()
        self._spared: set[str] = set()  # names of files that are not figures of an earlier call
        if (folder / RECORDS).is_symlink():
            raise UsageError(f"{folder / RECORDS}: is a link, and nothing is written through links; remove it")
        for path in sorted((folder / RECORDS).glob("*.json")):
            self._read(path)

    def names(self, paths: Sequence[str]) -> list[str]:
        """A name for the figures of each input: its own; if several inputs share it, with its folder (`Happy_01`)
        and, if they still do, with a number. Reserves them.

        Raises:
            OSError: the folder cannot be written to.
        """
        (self.folder / RECORDS).mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder, lambda name: name.endswith((*FIGURES, PAGE)))
        remove_leftovers(self.folder / RECORDS, lambda name: name.endswith(".json"))
        places = [Path(os.path.abspath(path)) for path in paths]
        self._spared = {_root(path.stem) for path in self.folder.iterdir() if path.suffix.lower() in FIGURES}
        self._spared -= {_root(path.stem) for path in (self.folder / RECORDS).glob("*.json")}
        stems = [short_name(place.name if place.is_dir() else place.stem, LONGEST_NAME) for place in places]
        often = Counter(map(str.casefold, stems))
        return [
            self._reserve(place, stem, alone=often[stem.casefold()] == 1)
            for place, stem in zip(places, stems, strict=True)
        ]

    def add(self, name: str, cards: Sequence[Card]) -> None:
        """Keeps the answers to one input for the page.

        Args:
            name: one of `names`.
            cards: what `card_of` makes of its answers.
        """
        answers = Answers(self._inputs[name.casefold()], list(cards))
        save_text(json.dumps(asdict(answers)), self._record(name))

    def drop(self, name: str) -> None:
        """Gives the name of an input without an answer back, unless it has an earlier answer."""
        answers = self._read(self._record(name))
        if answers is not None and not answers.cards:
            self._record(name).unlink(missing_ok=True)

    def write(self) -> Path:
        """Writes the page anew, with the answers of all calls so far.

        Raises:
            ReportError: it cannot be written.
        """
        cards: list[Card] = []
        for path in (self.folder / RECORDS).glob("*.json"):
            answers = self._read(path)
            cards += answers.cards if answers else []
        cards.sort(key=lambda card: (-round(card.certainty, 2), natural_key(card.name)))
        most = next((faces for answers, faces in MOST_FACES if len(cards) <= answers), 2)
        labels = sorted({label for card in cards for label in card.probabilities}, key=natural_key)
        said = [label for label in labels if any(card.expression == label for card in cards)]
        folders = sorted({card.folder for card in cards}, key=natural_key)
        networks = sorted({card.network for card in cards}, key=natural_key)
        for number, card in enumerate(cards):
            card.number = number
            card.tiles = _fewer(card.tiles, most)
            card.said = said.index(card.expression)
            card.in_folder, card.by_network = folders.index(card.folder), networks.index(card.network)
        counts = Counter(card.expression for card in cards)
        # matplotlib, which it imports, is not needed by answers without figures
        from ..results.page import Card as PageCard
        from ..results.page import Course, Pictures, write_page
        from ..results.page import Tile as PageTile

        choices = [("said", "expression", said)]
        choices += [("folder", "folder", folders)] if len(folders) > 1 else []
        choices += [("network", "network", networks)] if len(networks) > 1 else []
        note = ("in {0.folder}" if len(folders) > 1 else "") + (" by {0.network}" if len(networks) > 1 else "")
        shown = [
            PageCard(
                card.name,
                prediction=card.expression,
                certainty=card.certainty,
                uncertain=card.uncertain,
                probabilities=card.probabilities,
                tiles=[
                    PageTile(of.label, of.frame, of.alpha / 100, of.weight, of.share / 100, None, of.mark, of.picture)
                    for of in card.tiles
                ],
                course=Course(card.course, card.num_faces, max(card.tiles, key=lambda of: of.weight).frame),
                data={
                    "said": card.said,
                    "folder": card.in_folder,
                    "network": card.by_network,
                    "right": 1,
                    "certainty": card.certainty,
                },
                seen=card.seen,
                links=card.figures,
                note=note.format(card).strip(),
                problems=card.problems,
            )
            for card in cards
        ]
        return write_page(
            self.folder / PAGE,
            "predictions.html.j2",
            name="Predictions",
            cards=shown,
            choices=choices,
            pictures=Pictures(len(cards)),
            total=len(cards),
            summary=", ".join(f"{label} {count}" for label, count in counts.most_common()),
            longer=any(len(card.tiles) < card.num_faces for card in cards),
        )

    def _record(self, name: str) -> Path:
        return self.folder / RECORDS / f"{name}.json"

    def _read(self, path: Path) -> Answers | None:
        """A record; None if it is damaged, or another process has dropped it."""
        try:
            answers = read_state(path, Answers, remedy="delete it; it is not on the page", newest=VERSION)
        except MissingStateError:
            return None
        except StateError as error:
            if path not in self._damaged:
                self._say(str(error))
            self._damaged.add(path)
            return None
        self._inputs[path.stem.casefold()] = answers.input
        return answers

    def _reserve(self, place: Path, stem: str, *, alone: bool) -> str:
        for path in (self.folder / RECORDS).glob("*.json"):
            if self._inputs.get(path.stem.casefold()) == str(place):
                return path.stem
        base = f"{short_name(place.parent.name, LONGEST_NAME)}_{stem}"
        number = 1
        name = stem if alone else base
        while not self._take(name, place):
            number = 1 if name == stem else number + 1
            name = base if number == 1 else f"{base}-{number}"
        return name

    def _take(self, name: str, place: Path) -> bool:
        """Reserves a name; False if another input has it, or one whose files could have the same names."""
        root = _root(name)
        if root in self._spared or any(
            _root(other) == root and owner != str(place) for other, owner in self._inputs.items()
        ):
            return False
        path = self._record(name)
        try:
            _write_new(path, json.dumps(asdict(Answers(str(place)))))
        except FileExistsError:  # another process was faster, or the file is damaged
            self._read(path)
            return self._inputs.get(name.casefold()) == str(place)
        self._inputs[name.casefold()] = str(place)
        return True


def _root(name: str) -> str:
    """What all files of an input have in common."""
    return _ENDING.sub("", name.casefold())


def _write_new(path: Path, text: str) -> None:
    """Writes a file that must not exist. Another process sees all of it or nothing.

    Raises:
        FileExistsError: it exists.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    finally:
        temporary.unlink(missing_ok=True)


def card_of(prediction: Prediction, shown: Sequence[int], crops: np.ndarray, figures: Sequence[Path]) -> Card:
    """What the page says about one answer.

    Args:
        shown: indices of the frames to show, ascending.
        crops: their faces, uint8 [len(shown), H, W, 3].
        figures: its files in the folder of the page.
    """
    weights = prediction.weights
    shares = weights / weights.max()
    highest, lowest = int(weights.argmax()), int(weights.argmin())
    marks = {highest: "highest", lowest: "lowest"} if weights[highest] - weights[lowest] > 1e-6 else {}
    tiles = []
    for index, crop in zip(shown, crops, strict=True):
        seconds = f"{prediction.times[index]:.2f} s" if prediction.has_times else ""
        tiles.append(
            Tile(
                label=seconds or str(index + 1),
                frame=prediction.frames[index],
                alpha=round(100 * float(prediction.alpha[index])),
                weight=float(weights[index]),
                share=round(100 * float(shares[index])),
                mark=marks.get(index, ""),
                picture=_jpeg(crop),
            )
        )
    parts = np.array_split(shares, min(COURSE, len(shares)))
    path = Path(prediction.path)
    person = f", person {prediction.person} of {prediction.num_people}" if prediction.num_people > 1 else ""
    seen = f", {prediction.seconds[0]:.2f} to {prediction.seconds[1]:.2f} s" if prediction.has_times else ""
    if prediction.prior is not None:
        seen += f", with the prior {', '.join(f'{name} {share:.3f}' for name, share in prediction.prior.items())}"
    seen += "" if prediction.neutral is None else f", compared with a neutral face: {prediction.neutral}"
    return Card(
        name=path.name + person,
        folder=str(path.parent),
        network=prediction.network,
        expression=prediction.expression,
        uncertain=prediction.uncertain,
        certainty=prediction.probabilities[prediction.expression],
        probabilities={label: prediction.probabilities[label] for label in prediction.labels},
        seen=f"{len(prediction.frames)} of {counted(prediction.num_frames, 'frame')}{seen}",
        num_faces=len(prediction.frames),
        course=[float(part.max()) for part in parts],
        problems=list(prediction.problems),
        figures=[figure.name for figure in figures],
        tiles=tiles,
    )


def _fewer(tiles: list[Tile], most: int) -> list[Tile]:
    """At most `most` faces, evenly spaced, and always the one with the highest weight."""
    if len(tiles) <= most:
        return tiles
    chosen = {round(float(place)) for place in np.linspace(0, len(tiles) - 1, most)}
    best = max(range(len(tiles)), key=lambda place: tiles[place].share)
    if best not in chosen:
        chosen.remove(min(chosen, key=lambda place: abs(place - best)))
        chosen.add(best)
    return [tiles[place] for place in sorted(chosen)]


def _jpeg(crop: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(crop).resize((SIDE, SIDE), Image.Resampling.BOX).save(buffer, "JPEG", quality=QUALITY)
    return _DATA + base64.b64encode(buffer.getvalue()).decode("ascii")
