"""Input and findings of the dataset doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..data.clips import Clip, ClipSet, DataError

SPLITS = ("train", "val")
BOTH = "both"  # for findings about both splits together


@dataclass
class Split:
    """What a reader returned for one split.

    Attributes:
        clips: the clips that can be read; None if there are none.
        error: the error of the reader, if any.
    """

    clips: ClipSet | None
    error: DataError | None = None

    @classmethod
    def read(cls, reader: Callable[[], ClipSet]) -> Split:
        """Calls a reader. If it raises, keeps the error and the clips that can be read."""
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
    """One check and its findings.

    Attributes:
        name: what it looks for, in the plural: "frames that are not images".
        level: severity of a finding: "error", "warning" or "note".
        counts: split or "both" -> number of findings.
        items: one line per finding, or per group of findings.
    """

    name: str
    level: str
    counts: dict[str, int]
    items: list[str]

    @property
    def found(self) -> int:
        """Number of findings in all splits."""
        return sum(self.counts.values())

    @classmethod
    def of(cls, name: str, level: str, items: dict[str, list[str]]) -> Check:
        """A check with one finding per item; `items` has a list per split."""
        return cls(name, level, {split: len(lines) for split, lines in items.items()}, joined(items.values()))

    def line(self, shown: int = 3) -> str:
        """The findings in one line: `clips shorter than 3 frames: 2 in train (Fear/1, Sad/7)`."""
        counts = " and ".join(
            f"{count}" if split == BOTH else f"{count} in {split}" for split, count in self.counts.items() if count
        )
        more = ", ..." if len(self.items) > shown else ""
        return f"{self.name}: {counts}" + (f" ({', '.join(self.items[:shown])}{more})" if self.items else "")


def joined(lists: Iterable[list[str]]) -> list[str]:
    """Concatenates lists."""
    return [item for items in lists for item in items]
