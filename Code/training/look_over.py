"""The quick part of the dataset doctor, before a training or an evaluation; its progress."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from Code.data.check import check
from Code.data.clips import ClipSet, DataError
from Code.data.findings import Split
from Code.data.scan import scan
from Code.training.distributed import from_main, world
from Code.training.protocols import Protocol

CHECKED_FRAMES = 200_000  # up to here every frame's header is looked at first, about 10 s


def look_over(train: ClipSet, val: ClipSet, protocol: Protocol, check_images: bool) -> None:
    """Prints what is suspicious about the data of a training; one of several processes looks, all hear of it.

    Args:
        check_images: look into image files too, if they are not too many.

    Raises:
        DataError: all files that are no images.
    """
    report = from_main(
        lambda: check(
            {"train": Split(train), "val": Split(val)},
            num_frames=protocol.num_frames,
            known_labels=protocol.labels,
            decode=False,
            headers=check_images and _few_frames(train, val),
            progress=ShownProgress("looking at frames"),
        )
    )
    broken = [item for finding in report.found("error") for item in finding.items]
    if broken:
        raise DataError(broken)
    if world().is_main:
        for finding in report.found("warning"):
            print(f"warning: {finding.line()}", file=sys.stderr)


def refuse_broken_images(clips: ClipSet) -> None:
    """All files of one split that are no images in one error, before an evaluation meets them one by one."""
    if _few_frames(clips):
        facts = from_main(lambda: scan(clips.clips, decode=False, progress=ShownProgress("looking at frames")))
        broken = [line for clip in facts for _, line in clip.faults]
        if broken:
            raise DataError(broken)


def _few_frames(*sets: ClipSet) -> bool:
    """Whether looking at every header is a matter of seconds."""
    return sum(len(clip) for clips in sets if clips.in_files for clip in clips.clips) <= CHECKED_FRAMES


class ShownProgress:
    """Progress on stderr: a bar on a terminal, elsewhere a line now and then.

    Args:
        label: what is being done.
        interval: seconds between two lines.
    """

    def __init__(self, label: str, interval: float = 10.0) -> None:
        self.label, self.interval = label, interval
        self.bar: tqdm | None = None
        self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Shows that `done` of `total` are done."""
        if sys.stderr.isatty():
            if self.bar is None:
                self.bar = tqdm(total=total, desc=self.label, unit=" frames", leave=False, dynamic_ncols=True)
            self.bar.update(done - self.bar.n)
            if done >= total:
                self.bar.close()
        elif time.monotonic() - self.last > self.interval:
            self.last = time.monotonic()
            print(f"{self.label}: {done} of {total}", file=sys.stderr, flush=True)
