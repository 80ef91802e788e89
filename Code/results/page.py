"""The parts of the HTML pages: templates, pictures of frames, and figures that follow dark mode.

A page is one file: styles, script and pictures are inside. Its content security policy forbids everything else, and
allows the page's own script by its hash. Everything that comes from files is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from ..common.files import atomic_text
from ..common.progress import Progress
from ..common.wording import counted, percent
from ..data.clips import DataError
from ..data.images import read_image
from ..training.intervals import difference_text, interval_text, uar_interval
from .figures import (
    CYCLE,
    FAINT,
    GRAY,
    INK,
    LOG_TITLES,
    SOFT,
    LogLine,
    Style,
    choose_frames,
    compare_curves,
    figure_bytes,
)
from .run_files import HEAD_TITLES, ClipRow, ReportError, RunFiles

T = TypeVar("T")
TEMPLATES = Path(__file__).parent / "templates"
# Colors of figures in dark mode, as base.css has them.
DARK = {
    "#ffffff": "#161b22", INK: "#e6edf3", SOFT: "#9aa4af", GRAY: "#6e7681", FAINT: "#30363d",
    **dict(zip(CYCLE, ("#4aa8e0", "#f0b429", "#2ec4a0", "#e3a1c8", "#9bd4f7", "#ff8a4c", "#e6edf3"), strict=True)),
}  # fmt: skip


def write_page(path: Path, template: str, **context: Any) -> Path:
    """Renders a template into a file. Generators in the context are consumed while the page is written.

    Args:
        path: of the page; it appears when it is complete.
        template: name of a file in `TEMPLATES`.

    Raises:
        ReportError: the run's files lack something that the template needs, or the page cannot be written.
    """
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    context |= {
        "css": Markup(_palette() + (TEMPLATES / "base.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
    }
    stream = _environment().get_template(template).stream(**context)
    stream.enable_buffering(256)
    try:
        # A file name that is not valid Unicode is shown with question marks.
        with atomic_text(path, errors="replace") as file:
            file.writelines(stream)
    except (KeyError, UndefinedError) as error:
        raise ReportError(
            f"{path.parent}: results.json or log.jsonl lacks {error}; was it written by this project?"
        ) from error
    except OSError as error:
        raise ReportError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def with_progress(items: Iterable[T], label: str, total: int, *, show: bool) -> Iterator[T]:
    """The same items, with a progress bar that counts clips."""
    with Progress(label, total, unit="clips", show=show) as progress:
        for item in items:
            yield item
            progress()


def picture(figure: Figure) -> str:
    """A figure as a data URI. It follows the reader's color scheme, and nothing in it can reach the page around it."""
    svg = figure_bytes(figure, "svg").decode("utf-8")
    for color in DARK:
        svg = svg.replace(color, f"var({_variable(color)})")
    start = svg.index(">", svg.index("<svg")) + 1
    svg = f"{svg[:start]}<style>{_palette()}</style>{svg[start:]}"
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def log_curves(
    logs: Mapping[str, Sequence[LogLine]], keys: Iterable[str], styles: Mapping[str, Style]
) -> list[tuple[str, str]]:
    """(title, picture) for each of these values of log.jsonl that a run has: a line for each run, without a legend."""
    return [
        (LOG_TITLES[key], picture(compare_curves(logs, key, styles, legend=False)))
        for key in keys
        if any(line.get(key) is not None for log in logs.values() for line in log)
    ]


def _variable(color: str) -> str:
    return f"--c-{color[1:]}"


def _palette() -> str:
    """CSS variables for the colors of figures."""
    light = "".join(f"{_variable(color)}:{color};" for color in DARK)
    dark = "".join(f"{_variable(color)}:{value};" for color, value in DARK.items())
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": partial(percent, digits=1), "bars": bars_path, "counted": counted, "line": _line}
    environment.filters |= {"plain": plain, "breakable": breakable, "words": words, "glued": glued}
    environment.globals |= {"war_range": _war_range, "uar_range": _uar_range, "difference_text": difference_text}
    return environment


def _war_range(metrics: dict[str, Any]) -> str:
    return interval_text(metrics["accuracy_interval"], metrics["num_clips"])


def _uar_range(metrics: dict[str, Any]) -> str:
    # Runs of earlier versions have no interval of the UAR.
    return interval_text(metrics.get("uar_interval") or uar_interval(metrics["confusion"]), metrics["num_clips"])


def _line(style: Style) -> Markup:
    """A piece of a plotted line, for a key outside the plot."""
    color, dash = style
    pattern = {"-": "none", "--": "6 3", "-.": "7 2 1.5 2", ":": "1.5 2.5"}[dash]
    return Markup(
        f'<svg class="line" viewBox="0 0 26 8" aria-hidden="true"><path d="M0 4H26" '
        f'style="stroke:var({_variable(color)});stroke-dasharray:{pattern}"/></svg>'
    )


def breakable(text: str) -> Markup:
    """A name that may be broken behind its separators, and nowhere else."""
    return Markup(re.sub(r"([_/=])(?=\w)", r"\1<wbr>", str(escape(text))))


def glued(text: str) -> str:
    """A range that is broken before its "to" only."""
    return text.replace(" to ", " to\N{NO-BREAK SPACE}")


def words(command: str) -> Markup:
    """A command that is broken between its arguments, not at the hyphens inside them."""
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in command.split(" "))


def plain(value: Any) -> str:
    """A value of args.json as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(entry)}" for key, entry in value.items()) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def setting(key: str, value: Any) -> str:
    """An argument's value for people."""
    if key == "pretrained" and value == "none":
        return "random weights"
    return "-" if value is None else plain(value)


def settings_of(args: dict[str, Any]) -> tuple[list[tuple[str, str]], list[str]]:
    """(name and value of each argument that is set, names of the others), in alphabetical order."""
    rows, unset = [], []
    for key, value in sorted(args.items()):
        if value is None or value == [] or value == {}:
            unset.append(key)
        elif key == "at_type" and value in HEAD_TITLES:
            rows.append((key, f"{value} ({HEAD_TITLES[value]})"))
        else:
            rows.append((key, setting(key, value)))
    return rows, unset


PICTURE_BYTES = 13_000_000  # for all pictures of a page together, as base64
# (bytes for a clip, frames shown, side in pixels): with more clips, pictures get fewer and smaller.
SIZES = ((20_000, 12, 72), (10_000, 8, 64), (5_000, 6, 56), (2_500, 4, 48), (0, 2, 48))
QUALITIES = (75, 55, 35, 15)


@dataclass
class Tile:
    """One frame of a clip, as a page shows it.

    Attributes:
        number: its position in the clip, from 1.
        frame: the name of its file.
        share: its weight relative to the clip's highest weight.
        alpha, share, intensity: in [0, 1].
        mark: "highest", "lowest" or "".
        picture: a data URI, if the file can be read.
    """

    number: int
    frame: str
    alpha: float
    weight: float
    share: float
    intensity: float | None
    mark: str
    picture: str | None = None


@dataclass
class Card:
    """A clip as the report shows it. `truth` and `said` are the indices of its true and its predicted class."""

    number: int
    clip: ClipRow
    truth: int
    said: int
    tiles: list[Tile]


@dataclass
class ClipCards:
    """Makes the cards of a run's clips one by one, so that a page's pictures are never in memory together.

    Args:
        run: whose clips.
        frames_root: where the frames are now, `<frames_root>/<clip>/<frame>` (default: where they were when the run
            was evaluated).
        clips: how many clips the page shows (default: all of the run).

    Attributes:
        unread: how many pictures could not be read so far.
        first_unread: the error of the first of them.
    """

    run: RunFiles
    frames_root: Path | None = None
    clips: int | None = None
    unread: int = 0
    first_unread: str = ""
    _plan: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        allowance = PICTURE_BYTES // max(self.clips or len(self.run.clips), 1)
        _, frames, side = next(size for size in SIZES if allowance >= size[0])
        self._plan = allowance, frames, side

    @property
    def most(self) -> int:
        """How many frames of a clip are shown at most."""
        return self._plan[1]

    @property
    def side(self) -> int:
        """Width and height of a picture in pixels."""
        return self._plan[2]

    def cards(self) -> Iterator[Card]:
        """All clips, most certain first."""
        index = {label: at for at, label in enumerate(self.run.labels)}
        for number, clip in enumerate(self.run.clips):
            tiles = self.tiles(clip)
            self.add_pictures(clip.name, tiles)
            yield Card(number, clip, index[clip.label], index[clip.prediction], tiles)

    def tiles(self, clip: ClipRow, most: int | None = None) -> list[Tile]:
        """The frames that represent a clip, without pictures; none if its weights are unknown."""
        weights = clip.weights
        if weights is None:
            return []
        shares = weights.shares
        highest, lowest = shares.index(max(shares)), shares.index(min(shares))
        marks = {highest: "highest", lowest: "lowest"} if shares[highest] - shares[lowest] > 1e-6 else {}
        return [
            Tile(
                number=at + 1,
                frame=weights.frames[at],
                alpha=min(max(weights.alpha[at], 0.0), 1.0),
                weight=weights.weight[at],
                share=shares[at],
                intensity=min(max(weights.intensity[at], 0.0), 1.0) if weights.intensity else None,
                mark=marks.get(at, ""),
            )
            for at in choose_frames(shares, most or self._plan[1])
        ]

    def add_pictures(self, clip: str, tiles: Sequence[Tile], folder: Path | None = None) -> None:
        """Adds the pictures to tiles, as data URIs. Counts those that cannot be read.

        Args:
            folder: where the frames were, for a clip of another run.
        """
        folder = self.folder(clip) or folder
        if folder is None:
            return
        read: list[tuple[Tile, Image.Image]] = []
        for tile in tiles:
            try:
                read.append((tile, Image.fromarray(read_image(str(folder / tile.frame), self.side))))
            except DataError as error:
                self.first_unread = self.first_unread or error.problems[0]
                self.unread += 1
        for quality in QUALITIES:
            encoded = [_jpeg_uri(picture, quality) for _, picture in read]
            if sum(map(len, encoded)) <= self._plan[0]:
                break
        for (tile, _), uri in zip(read, encoded, strict=True):
            tile.picture = uri

    def folder(self, clip: str) -> Path | None:
        """The folder of a clip's frames; None if the run does not say."""
        return self.frames_root / clip if self.frames_root is not None else self.run.folders.get(clip)


def _jpeg_uri(picture: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def bars_path(values: Sequence[float]) -> str:
    """Bars as one SVG path, for a viewBox of `0 0 T 100`. Values are clipped to [0, 1].

    One path for each clip, not one element for each frame, keeps the page of a large dataset small.
    """
    heights = ((at, round(100 * min(max(value, 0.0), 1.0))) for at, value in enumerate(values))
    return "".join(f"M{at} 100v-{height}h.85v{height}z" for at, height in heights if height)
