"""The report of a check: what was looked for and found, as a table or as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.wording import counted, grouped, printable

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
        decoded: every image was decoded; if not, only headers were read.
        frames: number of image files read.
        seconds: how long it took.
    """

    labels: tuple[str, ...]
    classes: dict[str, list[dict[str, float]]]
    checks: list[Finding]
    advice: list[str]
    decoded: bool
    frames: int
    seconds: float

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
        splits = list(self.classes)
        rows = [["class", *(f"{split} {column}" for split in splits for column in ("clips", "frames", "length"))]]
        for index, label in enumerate(self.labels):
            cells = []
            for split in splits:
                row = self.classes[split][index]
                length = f"{row['shortest']} / {row['median']:g} / {row['longest']}" if row["clips"] else "-"
                cells += [grouped(int(row["clips"])), grouped(int(row["frames"])), length]
            rows.append([f"{index} {printable(label)}", *cells])
        total = [
            cell
            for split in splits
            for cell in (*(grouped(sum(int(row[of]) for row in self.classes[split])) for of in ("clips", "frames")), "")
        ]
        columns = [*splits, BOTH]
        found = [["check", *columns, ""]]
        for check in self.checks:
            cells = [grouped(check.counts[column]) if column in check.counts else "" for column in columns]
            found.append([check.name, *cells, check.level if check.found else ""])
        lines = [*_aligned([*rows, ["all", *total]]), "(length: frames of the shortest / median / longest clip)", ""]
        lines += _aligned(found)
        for level in ("error", "warning", "note"):
            for check in self.found(level):
                lines += ["", f"{level}: {check.name}: {grouped(check.found)}"]
                lines += [f"  {item}" for item in check.items[:_SHOWN]]
                if len(check.items) > _SHOWN:
                    lines.append(f"  and {len(check.items) - _SHOWN} more; --json lists all")
        return "\n".join([*lines, *([""] if self.advice else []), *self.advice, "", self._conclusion()])

    def _conclusion(self) -> str:
        errors, warnings = (
            counted(len(self.found(level)), f"kind of {level}", f"kinds of {level}s") for level in ("error", "warning")
        )
        result = ["clean", f"usable, {warnings}", f"not usable, {errors}"][self.status]
        read = "decoded" if self.decoded else "opened, not decoded"
        speed = f", {self.frames / self.seconds:.0f} frames/s" if self.seconds > 1 else ""
        frames = f"{grouped(self.frames)} {'frame' if self.frames == 1 else 'frames'}"
        return f"{result}; {frames} {read} in {self.seconds:.0f} s{speed}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns columns: the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
