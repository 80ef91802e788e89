"""What came of the inputs: counts by kind, and the smallest input of each finding.

A finding is an exception that is no `ProjectError`, a message that is none, a hang, a crash, a wrong number that was
taken as right, or a file that was changed although the reader had no business with it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


class BrokenKindError(RuntimeError):
    """The files of a kind cannot be made, or are not accepted without a fault: a mistake in the project or here."""


class Wrong(AssertionError):
    """A result that contradicts itself or the input. The text up to the first colon names the kind of fault."""


@dataclass
class Finding:
    """What went wrong with an input, and how to see it again.

    Attributes:
        size: number of faults, and bytes of the damaged file.
    """

    kind: str
    what: str  # traceback, message, hang, crash, wrong, touched
    signature: str
    detail: str
    index: int
    size: tuple[int, int] = (0, 0)
    times: int = 1


@dataclass
class Tally:
    """What came of the inputs so far.

    Attributes:
        keep: a folder for each finding, with its smallest input.
    """

    seed: int
    keep: Path
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    slowest: dict[str, tuple[float, int]] = field(default_factory=dict)

    def note(self, kind: str, outcome: str, index: int = 0, seconds: float = 0.0) -> None:
        self.counts.setdefault(kind, Counter())[outcome] += 1
        self.slowest[kind] = max(self.slowest.get(kind, (0.0, 0)), (seconds, index))

    def keeps(self, finding: Finding, files: dict[str, bytes]) -> bool:
        """Counts a finding; keeps its files, by name, if they are the smallest. Says whether it is a new one."""
        key = f"{finding.kind} {finding.signature}"
        known = self.findings.get(key)
        if known is not None:
            known.times += 1
            if known.size <= finding.size:
                return False
            finding.times = known.times
        self.findings[key] = finding
        name = f"{finding.kind}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        folder = self.keep / name
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            (folder / Path(path).name).write_bytes(content)
        again = f"python -m tests.fuzz --seed {self.seed} --only {finding.kind} --index {finding.index}"
        about = f"{finding.what}: {finding.signature}\nagain: {again}\nfiles: {', '.join(files)}\n\n{finding.detail}\n"
        (folder / "about.txt").write_text(about, encoding="utf-8", errors="backslashreplace")
        return known is None

    def breaks(self, kind: str, error: BrokenKindError) -> None:
        """Counts a kind that cannot be tried."""
        self.note(kind, "broken")
        if self.keeps(Finding(kind, "broken", "whole files are not accepted", str(error), 0), {}):
            print(f"{kind}: {error}", flush=True)

    def table(self) -> str:
        """Counts by kind, and the findings."""
        lines = [f"{'kind':<14}{'inputs':>8}{'accepted':>10}{'refused':>9}{'findings':>10}   slowest"]
        for kind, counts in sorted(self.counts.items()):
            bad = counts.total() - counts["accepted"] - counts["refused"]
            seconds, index = self.slowest[kind]
            lines.append(
                f"{kind:<14}{counts.total():>8}{counts['accepted']:>10}{counts['refused']:>9}{bad:>10}"
                f"   {seconds:.1f} s (index {index})"
            )
        lines.append(f"{'all':<14}{sum(counts.total() for counts in self.counts.values()):>8}")
        for key, finding in sorted(self.findings.items()):
            lines.append(f"{finding.what} x {finding.times}, index {finding.index}: {key}")
        if self.findings:
            lines.append(f"smallest input of each: {self.keep}")
        return "\n".join(lines)
