"""How a page is made: templates with escaping, a policy that lets nothing in from outside, written piece by piece."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from Code.data.clips import DataError
from Code.data.images import read_image
from Code.results.figures import choose_frames, figure_bytes
from Code.results.intervals import uar_interval
from Code.results.run_files import ClipRow, ReportError, RunFiles

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, template: str, **context: Any) -> Path:
    """Renders a template into a file, piece by piece: generators in the context are drawn as the page grows.

    The page's own script is the only one that its policy lets run, by its hash.

    Args:
        path: of the page; it appears when it is whole.
        template: a file of `TEMPLATES`.

    Raises:
        ReportError: the template asks for something that the run's files do not have, or the page cannot be
            written.
    """
    script = (TEMPLATES / "gallery.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    context |= {
        "css": Markup((TEMPLATES / "base.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
    }
    stream = _environment().get_template(template).stream(**context)
    stream.enable_buffering(256)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A name that is no valid text in any encoding is shown with "?" in the place of its odd bytes.
        with draft.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(stream)
        draft.replace(path)
    except (KeyError, UndefinedError) as error:
        raise ReportError(
            f"{path.parent}: results.json or log.jsonl lacks {error}; was it written by this project?"
        ) from error
    except OSError as error:
        raise ReportError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def inline(figure: Figure) -> str:
    """A figure as a data URI: nothing to fetch, and nothing in it can reach the page around it."""
    return "data:image/svg+xml;base64," + base64.b64encode(figure_bytes(figure, "svg")).decode("ascii")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "plain": _plain, "bars": bars_path, "uar_range": _uar_range}
    return environment


def _percent(share: float | None, digits: int = 1) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _uar_range(metrics: dict[str, Any]) -> str:
    low, high = metrics.get("uar_interval") or uar_interval(metrics["confusion"])
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"


PICTURE_BYTES = 13_000_000  # of all pictures of a page together, as base64
# (bytes that a clip may take, frames shown, side in pixels): pictures get fewer and smaller as clips get more.
SIZES = ((20_000, 12, 72), (10_000, 8, 64), (5_000, 6, 56), (2_500, 4, 48), (0, 2, 48))
QUALITIES = (75, 55, 35, 15)


@dataclass
class Tile:
    """One frame shown: its place in the clip (from 1), what the network made of it, and its picture.

    alpha, share (of the clip's highest weight) and intensity are in [0, 1]; `mark` is "highest", "lowest" or "".
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
    """A clip as the page shows it; `truth` and `said` are indices of its classes."""

    number: int
    clip: ClipRow
    truth: int
    said: int
    tiles: list[Tile]


@dataclass
class Gallery:
    """Makes the cards of a run's clips while they are asked for, so that no page's pictures are in memory at once.

    Args:
        run: whose clips.
        frames_root: where the frames are now, `<frames_root>/<clip>/<frame>`; None: where they were.
        clips: how many clips share the page's room; None: all of the run's.

    Attributes:
        unread: pictures that could not be read so far, and why the first one could not.
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
        """Frames shown of a clip at most."""
        return self._plan[1]

    @property
    def side(self) -> int:
        """Width and height of a picture in pixels."""
        return self._plan[2]

    def cards(self) -> Iterator[Card]:
        """All clips, in the run's order."""
        index = {label: at for at, label in enumerate(self.run.labels)}
        for number, clip in enumerate(self.run.clips):
            tiles = self.tiles(clip)
            self.add_pictures(clip.name, tiles)
            yield Card(number, clip, index[clip.label], index[clip.prediction], tiles)

    def tiles(self, clip: ClipRow, most: int | None = None) -> list[Tile]:
        """The frames that stand for a clip, without their pictures; none where its weights are unknown."""
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
        """Puts JPEG data URIs into tiles; what cannot be read is counted.

        Args:
            folder: where the frames were, if another run than this gallery's knows that.
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
        """Where a clip's frames are looked for; None where the run does not say."""
        return self.frames_root / clip if self.frames_root is not None else self.run.folders.get(clip)


def _jpeg_uri(picture: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def bars_path(values: Sequence[float]) -> str:
    """Bars as the data of one SVG path, for a viewBox of `0 0 T 100`; values outside [0, 1] are cut off.

    One path per clip instead of an element per frame keeps the page of a large dataset small enough to open.
    """
    heights = ((at, round(100 * min(max(value, 0.0), 1.0))) for at, value in enumerate(values))
    return "".join(f"M{at} 100v-{height}h.85v{height}z" for at, height in heights if height)
