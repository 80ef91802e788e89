"""The report of a check: what was looked for and found, as a table or as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.names import counted, grouped, printable

STATUS = {"note": 0, "warning": 1, "error": 2}
BOTH = "both"  # for findings about both splits together
_SHOWN = 5


@dataclass
class Finding:
    """One kind of fault.

    Attributes:
        name: what is looked for, in the plural: "frames that cannot be read".
        level: "error", "warning" or "note".
        counts: split or "both" -> how often it was found.
        items: one line per case, or per group of cases.
    """

    name: str
    level: str
    counts: dict[str, int]
    items: list[str]

    @classmethod
    def of(cls, name: str, level: str, items: Mapping[str, list[str]]) -> Finding:
        """A kind of fault with a line per case; `items` has a list per split."""
        counts = {split: len(lines) for split, lines in items.items()}
        return cls(name, level, counts, [line for lines in items.values() for line in lines])

    @property
    def found(self) -> int:
        """How often it was found in all splits."""
        return sum(self.counts.values())

    def line(self, shown: int = 3) -> str:
        """All in one line: `clips shorter than 3 frames: 2 in train (Fear/1, Sad/7)`."""
        counts = " and ".join(
            f"{count}" if split == BOTH else f"{count} in {split}" for split, count in self.counts.items() if count
        )
        more = ", ..." if len(self.items) > shown else ""
        return f"{self.name}: {counts}" + (f" ({', '.join(self.items[:shown])}{more})" if self.items else "")


@dataclass
class CheckReport:
    """The result of a check.

    Attributes:
        labels: class names in the order of their indices.
        classes: split -> a row per class: its clips, its frames, and the shortest, median and longest clip in frames.
        checks: everything that was looked for, found or not.
        advice: what to do about errors of lists and folders.
        frames: number of image files read.
    """

    labels: tuple[str, ...]
    classes: dict[str, list[dict[str, float]]]
    checks: list[Finding]
    advice: list[str]
    frames: int

    @property
    def status(self) -> int:
        """0 clean, 1 with warnings, 2 with errors."""
        return max((STATUS[check.level] for check in self.checks if check.found), default=0)

    def found(self, level: str) -> list[Finding]:
        """What was found of a level."""
        return [check for check in self.checks if check.found and check.level == level]

    def as_json(self) -> dict[str, Any]:
        """The whole report as plain values, with all items."""
        rows = {
            split: [{"label": label, **row} for label, row in zip(self.labels, rows, strict=True)]
            for split, rows in self.classes.items()
        }
        checks = [{**vars(check), "found": check.found} for check in self.checks]
        return {**vars(self), "status": self.status, "classes": rows, "checks": checks}

    def as_table(self) -> str:
        """The report as text: classes, everything that was looked for, what was found, and the conclusion."""
        columns = ("clips", "frames", "length")
        table = [["class", *(f"{split} {column}" for split in self.classes for column in columns)]]
        for index, label in enumerate(self.labels):
            table.append([f"{index} {printable(label)}"])
            for rows in self.classes.values():
                row = rows[index]
                length = f"{row['shortest']} / {row['median']:g} / {row['longest']}" if row["clips"] else "-"
                table[-1] += [grouped(int(row["clips"])), grouped(int(row["frames"])), length]
        table.append(["all"])
        for rows in self.classes.values():
            table[-1] += [*(grouped(sum(int(row[of]) for row in rows)) for of in ("clips", "frames")), ""]
        found = [["check", *self.classes, BOTH, ""]]
        for check in self.checks:
            cells = [grouped(check.counts[of]) if of in check.counts else "" for of in (*self.classes, BOTH)]
            found.append([check.name, *cells, check.level if check.found else ""])
        lines = [*_aligned(table), "(length: frames of the shortest / median / longest clip)", "", *_aligned(found)]
        for level in ("error", "warning", "note"):
            for check in self.found(level):
                lines += ["", f"{level}: {check.name}: {grouped(check.found)}"]
                lines += [f"  {item}" for item in check.items[:_SHOWN]]
                if len(check.items) > _SHOWN:
                    lines.append(f"  and {len(check.items) - _SHOWN} more; --json lists all")
        kinds = [counted(len(self.found(of)), f"kind of {of}", f"kinds of {of}s") for of in ("warning", "error")]
        result = ["clean", f"usable, {kinds[0]}", f"not usable, {kinds[1]}"][self.status]
        frames = f"{grouped(self.frames)} {'frame' if self.frames == 1 else 'frames'}"
        return "\n".join([*lines, *[""][: len(self.advice)], *self.advice, "", f"{result}; {frames} decoded"])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns columns: the first one to the left, the others to the right."""
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]).rstrip() for row in rows]
