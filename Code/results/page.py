"""The parts of the HTML pages: clips as cards, pictures of their frames, and curves that follow dark mode.

A page is one file: styles, script and pictures are inside. Its content security policy forbids everything else, and
allows the page's own script by its hash. Everything that comes from files is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ..common.files import atomic_text, writing
from ..common.names import counted, percent
from ..data.clips import DataError
from ..data.images import read_image
from .figures import Line, Style, curve_figure, extremes, figure_bytes, relative

Floats = Sequence[float] | NDArray[np.floating]
TEMPLATES = Path(__file__).parent / "templates"
# (clips on the page at most, frames of each, side in pixels, JPEG quality): pictures of about 13 MB together.
SIZES = ((500, 12, 72, 75), (1000, 8, 64, 70), (2000, 6, 56, 60), (4000, 4, 48, 50), (10**9, 2, 48, 35))
MOST_BARS = 400  # of a curve of weights


@dataclass
class Tile:
    """One frame of a clip, and its attention."""

    label: str  # its number from 1, or its time
    frame: str  # the name of its file
    alpha: float  # in [0, 1]
    weight: float
    share: float  # the weight relative to the clip's highest, in [0, 1]
    intensity: float | None  # in [0, 1]
    mark: str  # "highest", "lowest" or ""
    picture: str = ""  # a data URI


@dataclass
class Card:
    """A clip and what a network says about it."""

    name: str
    label: str = ""  # the true class; "" if it is unknown
    prediction: str = ""  # "" in a comparison, where each run has its own in `answers`
    certainty: float = 0.0
    uncertain: bool = False
    probabilities: Mapping[str, float] = field(default_factory=dict)
    tiles: Sequence[Tile] = ()  # of the frames that represent the clip
    course: Sequence[float] = ()  # see `make_course`; drawn below the tiles if they leave frames out
    # What the script filters and sorts by: `certainty`, `right` (0 or 1), and the number of the entry for each filter.
    data: dict[str, float | str] = field(default_factory=dict)
    seen: str = ""  # a line below the name, such as how many frames there are
    links: Sequence[str] = ()  # names of files beside the page
    note: str = ""  # one more line
    problems: Sequence[str] = ()  # what was damaged
    answers: Sequence[Mapping[str, Any]] = ()  # `run`, `row` and `course` of each run


class Box(NamedTuple):
    """A result in large digits, a line below it, and more numbers with their names."""

    title: str
    value: str
    text: str
    rows: list[tuple[str, str]]


def make_tiles(
    frames: Sequence[str],
    alpha: Floats,
    weights: Floats,
    shown: Sequence[int],
    *,
    labels: Sequence[str] | None = None,
    intensity: Sequence[float] = (),
) -> list[Tile]:
    """Tiles for the frames with the indices `shown` of a clip of T `frames`, without pictures.

    `alpha`, `weights` and, where it is known, the true `intensity` are [T]; `labels` are T texts below the pictures
    (default: numbers from 1).
    """
    shares = relative(weights)
    marks = extremes(shares)
    tiles = []
    for at in shown:
        label, truth = labels[at] if labels else str(at + 1), intensity[at] if intensity else None
        numbers = float(alpha[at]), float(weights[at]), float(shares[at])
        tiles.append(Tile(label, frames[at], *numbers, truth, marks.get(at, "")))
    return tiles


def make_course(weights: ArrayLike) -> list[float]:
    """The weights of all frames of a clip, relative to the highest, for a curve of at most `MOST_BARS` bars."""
    shares = relative(weights)
    return [float(part.max()) for part in np.array_split(shares, min(MOST_BARS, len(shares)))]


class Pictures:
    """Puts pictures into tiles: at most `frames` of a clip, of `side` pixels. The more clips, the fewer and smaller."""

    def __init__(self, clips: int) -> None:
        _, self.frames, self.side, self.quality = next(size for size in SIZES if clips <= size[0])
        self.unread, self.first_unread = 0, ""  # how many could not be read so far, and the first error

    def read(self, tiles: Iterable[Tile], folder: Path) -> None:
        """Adds the pictures of one clip from its folder. Counts those that cannot be read."""
        for tile in tiles:
            try:
                image = Image.fromarray(read_image(str(folder / tile.frame), self.side))
                tile.picture = jpeg_uri(image, self.quality)
            except DataError as error:
                self.first_unread = self.first_unread or error.problems[0]
                self.unread += 1


def jpeg_uri(image: Image.Image, quality: int = 75) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{_base64(buffer.getvalue())}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def curve_pictures(panels: Mapping[str, Mapping[str, Line]], styles: Mapping[str, Style]) -> list[tuple[str, str]]:
    """(title, picture) for each panel that a log has values for: its lines, without a legend, as an SVG data URI."""
    pictures = []
    for title, lines in panels.items():
        if any(row.get(key) is not None for log, key in lines.values() for row in log):
            svg = figure_bytes(curve_figure(title, lines, styles), "svg", transparent=True)
            pictures.append((title, f"data:image/svg+xml;base64,{_base64(svg)}"))
    return pictures


def write_page(path: Path, template: str, **context: Any) -> Path:
    """Renders a template into a file, UsageError if it cannot be written. Generators are consumed meanwhile."""
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": partial(percent, digits=1),
        "bars": bars_path,
        "counted": counted,
        "breakable": _breakable,
        "glued": lambda text: text.replace(" to ", " to\N{NO-BREAK SPACE}"),  # a range is broken before its "to" only
    }
    css, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("base.css", "page.js"))
    digest = _base64(hashlib.sha256(script.encode()).digest())
    context |= {"css": Markup(css), "script": Markup(script), "script_hash": f"sha256-{digest}"}
    stream = environment.get_template(template).stream(**context)
    stream.enable_buffering(256)
    # A file name that is not valid Unicode is shown with question marks.
    with writing(path), atomic_text(path, errors="replace") as file:
        file.writelines(stream)
    return path


def _breakable(text: str) -> Markup:
    """A name that may be broken behind its separators, and nowhere else."""
    return Markup(re.sub(r"([_/=])(?=\w)", r"\1<wbr>", str(escape(text))))


def bars_path(values: Sequence[float]) -> str:
    """Bars of values in [0, 1] as one SVG path, for a viewBox of `0 0 T 100`; an element a bar takes more bytes."""
    heights = ((at, round(100 * value)) for at, value in enumerate(values))
    return "".join(f"M{at} 100v-{height}h.85v{height}z" for at, height in heights if height)
