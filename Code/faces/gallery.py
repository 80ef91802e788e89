"""`predictions.html`: all answers whose figures lie in one folder, on one page that needs no other file."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from Code.common.files import save_text
from Code.common.wording import counted
from Code.data.lists import natural_key
from Code.faces.prediction import Prediction
from Code.results.page import write_page

PAGE = "predictions.html"
# What the page is made of, a file for each input. Each also keeps its name from being given to another input.
RECORDS = ".answers"
SIDE, QUALITY = 72, 75  # of a face on the page, pixels
COURSE = 400  # bars of a weight curve at most
# (answers on a page, faces of each of them at most): 500 x 12 faces of 2 KB are 12 MB.
MOST_FACES = ((500, 12), (1000, 6), (2000, 3))
# Files of one input may end in this, so that `clip` and `clip_curve` must not be two inputs.
_ENDING = re.compile(r"(_person[0-9]+)?(_curve)?$")


class Gallery:
    """The figures of a folder: their names, and the page that shows them.

    A name belongs to one input, also in later calls: figures of inputs in different folders never overwrite each other.

    Args:
        folder: is made when the first name is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._inputs: dict[str, str] = {}  # name, in lower case -> input
        for path in sorted((folder / RECORDS).glob("*.json")):
            self._learn(path)

    def names(self, paths: Sequence[str]) -> list[str]:
        """A name for the figures of each input: its own; if several inputs share it, with its folder (`Happy_01`)
        and, if they still do, with a number. Reserves them.

        Raises:
            OSError: the folder cannot be written to.
        """
        (self.folder / RECORDS).mkdir(parents=True, exist_ok=True)
        places = [Path(os.path.abspath(path)) for path in paths]
        stems = [place.name if place.is_dir() else place.stem for place in places]
        often = Counter(map(str.casefold, stems))
        return [
            self._reserve(place, stem, alone=often[stem.casefold()] == 1)
            for place, stem in zip(places, stems, strict=True)
        ]

    def add(self, name: str, cards: Sequence[dict[str, Any]]) -> None:
        """Keeps the answers to one input for the page.

        Args:
            name: one of `names`.
            cards: what `card_of` makes of its answers.
        """
        path = self._record(name)
        record = json.loads(path.read_text(encoding="utf-8"))
        save_text(json.dumps(record | {"cards": list(cards)}), path)

    def drop(self, name: str) -> None:
        """Gives the name of an input without an answer back, unless it has an earlier answer."""
        with suppress(OSError, ValueError):
            if not json.loads(self._record(name).read_text(encoding="utf-8")).get("cards"):
                self._record(name).unlink()

    def write(self) -> Path:
        """Writes the page anew, with the answers of all calls so far.

        Raises:
            ReportError: it cannot be written.
        """
        cards = []
        for path in (self.folder / RECORDS).glob("*.json"):
            with suppress(OSError, ValueError):  # another process may be writing to the same folder
                record = json.loads(path.read_text(encoding="utf-8"))
                cards += record.get("cards", [])
        cards.sort(key=lambda card: (-round(card["certainty"], 2), natural_key(card["name"])))
        most = next((faces for answers, faces in MOST_FACES if len(cards) <= answers), 2)
        labels = sorted({label for card in cards for label in card["probabilities"]}, key=natural_key)
        said = [label for label in labels if any(card["expression"] == label for card in cards)]
        folders = sorted({card["folder"] for card in cards}, key=natural_key)
        networks = sorted({card["network"] for card in cards}, key=natural_key)
        for number, card in enumerate(cards):
            card["number"] = number
            card["tiles"] = _fewer(card["tiles"], most)
            card["said"] = said.index(card["expression"])
            card["in_folder"], card["by_network"] = folders.index(card["folder"]), networks.index(card["network"])
        counts = Counter(card["expression"] for card in cards)
        return write_page(
            self.folder / PAGE,
            "predictions.html.j2",
            name="Predictions",
            cards=cards,
            total=counted(len(cards), "answer"),
            summary=", ".join(f"{label} {count}" for label, count in counts.most_common()),
            said=said,
            folders=folders,
            networks=networks,
            side=SIDE,
            longer=any(len(card["tiles"]) < card["num_faces"] for card in cards),
        )

    def _record(self, name: str) -> Path:
        return self.folder / RECORDS / f"{name}.json"

    def _learn(self, path: Path) -> None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            self._inputs[path.stem.casefold()] = json.loads(path.read_text(encoding="utf-8"))["input"]

    def _reserve(self, place: Path, stem: str, *, alone: bool) -> str:
        for path in (self.folder / RECORDS).glob("*.json"):
            if self._inputs.get(path.stem.casefold()) == str(place):
                return path.stem
        base = f"{place.parent.name}_{stem}"
        number = 1
        name = stem if alone else base
        while not self._take(name, place):
            number = 1 if name == stem else number + 1
            name = base if number == 1 else f"{base}-{number}"
        return name

    def _take(self, name: str, place: Path) -> bool:
        """Reserves a name; False if another input has it, or one whose files could have the same names."""
        root = _ENDING.sub("", name.casefold())
        for other, owner in self._inputs.items():
            if _ENDING.sub("", other) == root and owner != str(place):
                return False
        path = self._record(name)
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump({"input": str(place)}, file)
        except FileExistsError:  # another process was faster, or the file is damaged
            self._learn(path)
            return self._inputs.get(name.casefold()) == str(place)
        self._inputs[name.casefold()] = str(place)
        return True


def card_of(prediction: Prediction, shown: Sequence[int], crops: np.ndarray, figures: Sequence[Path]) -> dict[str, Any]:
    """What the page says about one answer, as plain values.

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
            {
                "label": seconds or str(index + 1),
                "frame": prediction.frames[index],
                "alpha": round(100 * float(prediction.alpha[index])),
                "weight": float(weights[index]),
                "share": round(100 * float(shares[index])),
                "mark": marks.get(index, ""),
                "picture": _jpeg(crop),
            }
        )
    parts = np.array_split(shares, min(COURSE, len(shares)))
    path = Path(prediction.path)
    person = f", person {prediction.person} of {prediction.num_people}" if prediction.num_people > 1 else ""
    seen = f", {prediction.seconds[0]:.2f} to {prediction.seconds[1]:.2f} s" if prediction.has_times else ""
    return {
        "name": path.name + person,
        "folder": str(path.parent),
        "network": prediction.network,
        "expression": prediction.expression,
        "certainty": prediction.probabilities[prediction.expression],
        "probabilities": {label: prediction.probabilities[label] for label in prediction.labels},
        "seen": f"{len(prediction.frames)} of {counted(prediction.num_frames, 'frame')}{seen}",
        "num_faces": len(prediction.frames),
        "course": [float(part.max()) for part in parts],
        "problems": list(prediction.problems),
        "figures": [figure.name for figure in figures],
        "tiles": tiles,
    }


def _fewer(tiles: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many faces, the one with the highest weight among them."""
    if len(tiles) <= most:
        return tiles
    chosen = {round(float(place)) for place in np.linspace(0, len(tiles) - 1, most)}
    best = max(range(len(tiles)), key=lambda place: tiles[place]["share"])
    if best not in chosen:
        chosen.remove(min(chosen, key=lambda place: abs(place - best)))
        chosen.add(best)
    return [tiles[place] for place in sorted(chosen)]


def _jpeg(crop: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(crop).resize((SIDE, SIDE), Image.Resampling.BOX).save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
