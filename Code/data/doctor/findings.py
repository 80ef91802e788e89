"""What the dataset doctor is given, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from Code.data.clips import Clip, ClipSet, DataError

SPLITS = ("train", "val")
BOTH = "both"  # for what concerns the two splits together


@dataclass
class Split:
    """What a reader gave for one split.

    Attributes:
        clips: the clips that can be read; None where nothing could.
        error: what the reader refused.
    """

    clips: ClipSet | None
    error: DataError | None = None

    @classmethod
    def read(cls, reader: Callable[[], ClipSet]) -> Split:
        """Calls a reader, and keeps what is readable when it refuses."""
        try:
            return cls(reader())
        except DataError as error:
            return cls(error.readable, error)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips.clips if self.clips else ())

    def __len__(self) -> int:
        return len(self.clips.clips) if self.clips else 0


@dataclass
class Check:
    """One thing that was looked for.

    Attributes:
        name: what it is, in the plural: "frames that are no images".
        level: what finding it means: "error", "warning" or "note".
        counts: split, or "both" -> how many; zero where it was looked for and not found.
        items: a line per case, or per group of cases.
    """

    name: str
    level: str
    counts: dict[str, int]
    items: list[str]

    @property
    def found(self) -> int:
        """How many, in all."""
        return sum(self.counts.values())

    @classmethod
    def of(cls, name: str, level: str, items: dict[str, list[str]]) -> Check:
        """A check with one case per item; `items` has a list per split."""
        return cls(name, level, {split: len(lines) for split, lines in items.items()}, joined(items.values()))

    def line(self, shown: int = 3) -> str:
        """The finding in one line: `clips shorter than 3 frames: 2 in train (Fear/1, Sad/7)`."""
        counts = " and ".join(
            f"{count}" if split == BOTH else f"{count} in {split}" for split, count in self.counts.items() if count
        )
        more = ", ..." if len(self.items) > shown else ""
        return f"{self.name}: {counts}" + (f" ({', '.join(self.items[:shown])}{more})" if self.items else "")


def joined(lists: Iterable[list[str]]) -> list[str]:
    """One list of several."""
    return [item for items in lists for item in items]
