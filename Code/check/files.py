"""Checks of the dataset doctor that read image files: unreadable files, sizes, modes, and copies.

`scan` reads every file once, in several threads or processes. The checks count what it found. Copies are files with the
same bytes, whatever their names.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..common.machine import available_cores
from ..common.progress import Progress
from ..common.wording import printable
from ..data.clips import Clip, DataError
from ..data.images import ImageError, ImageFacts, read_facts, read_header
from . import BOTH, Check, Split

_TASK_FRAMES = 256  # frames that a worker receives at once
_WORTH_PROCESSES = 4000  # frames; for fewer, starting processes takes longer than the work
_THREADS = 8  # reading headers is mostly waiting for the disk


@dataclass
class ClipFacts:
    """Properties of the frames of one clip.

    Attributes:
        faults: (kind of `ImageError`, line naming the file) of each frame that cannot be read.
        traits: trait -> (number of frames that have it, name of the first of them). Traits are
            ("size", width, height), ("mode", mode), ("transparent",), ("animated",) and ("rotated",).
        digests: 8 bytes per frame, in order, zero if it cannot be read. Empty if only headers were read.
    """

    faults: list[tuple[str, str]] = field(default_factory=list)
    traits: dict[tuple[str | int, ...], tuple[int, str]] = field(default_factory=dict)
    digests: bytes = b""

    def add(self, frame: str, facts: ImageFacts) -> None:
        """Adds one frame."""
        traits: list[tuple[str | int, ...]] = [("size", facts.width, facts.height), ("mode", facts.mode)]
        traits += [(name,) for name in ("transparent", "animated", "rotated") if getattr(facts, name)]
        for trait in traits:
            count, first = self.traits.get(trait, (0, frame))
            self.traits[trait] = count + 1, first
        self.digests += facts.digest


def scan(
    clips: Sequence[Clip], *, decode: bool, workers: int | None = None, progress: str | None = None
) -> list[ClipFacts]:
    """Reads every frame of some clips.

    Args:
        clips: the clips with the frames.
        decode: decode all pixels and take digests, in worker processes if there are many. If false, only read headers.
        workers: processes that decode; None takes one per core.
        progress: label of the progress bar; None shows none.

    Returns:
        The facts of each clip, in order.

    Raises:
        DataError: a worker process died.
    """
    lengths = [len(clip) for clip in clips]
    total = sum(lengths)
    facts: list[ClipFacts] = []
    tasks = list(_tasks(clips))
    pool = _pool(decode, workers or available_cores(), total)
    try:
        with Progress(progress or "", total, show=progress is not None) as bar:
            for part in pool.map(_scan_clips, tasks, [decode] * len(tasks)):
                bar(sum(lengths[len(facts) : len(facts) + len(part)]))
                facts += part
    except BrokenProcessPool:
        raise DataError(
            f"{printable(clips[len(facts)].folder)}: a process died while decoding this clip or one after it: a file "
            "that crashes the decoder, or too little memory (--workers 1 needs less)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return facts


def _pool(decode: bool, workers: int, frames: int) -> Executor:
    if not decode:
        return ThreadPoolExecutor(_THREADS)
    if workers == 1 or frames < _WORTH_PROCESSES:
        return ThreadPoolExecutor(workers)
    # spawn: a process that is forked while other threads run (torch's, for example) may hang.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _tasks(clips: Sequence[Clip]) -> Iterator[list[Clip]]:
    """Splits clips into tasks of a few hundred frames."""
    task: list[Clip] = []
    frames = 0
    for clip in clips:
        task.append(clip)
        frames += len(clip)
        if frames >= _TASK_FRAMES:
            yield task
            task, frames = [], 0
    if task:
        yield task


def _scan_clips(clips: list[Clip], decode: bool) -> list[ClipFacts]:
    look = read_facts if decode else read_header
    all_facts = []
    for clip in clips:
        facts = ClipFacts()
        for index, frame in enumerate(clip.frames):
            try:
                facts.add(frame, look(clip.path(index)))
            except ImageError as error:
                facts.faults.append((error.kind, str(error)))
                facts.digests += bytes(8) if decode else b""
        all_facts.append(facts)
    return all_facts


Facts = Mapping[str, Sequence[ClipFacts]]
Wanted = Callable[[tuple[Any, ...]], bool]
_FAULTS = {  # kind of ImageError -> name
    "not an image": "frames that are not images",
    "truncated": "frames that are truncated",
    "damaged": "frames that cannot be decoded",
    "empty file": "frames of 0 bytes",
    "too large": "frames that are too large",
    "unreadable": "frames that cannot be opened",
    "missing": "frames that disappeared",
}
_GRAY = {"L", "LA"}
_USUAL = {"RGB", "L"}


def frame_checks(splits: Mapping[str, Split], facts: Facts) -> list[Check]:
    """The checks of single files. `facts` has the result of `scan` per split."""
    total = _counts(facts)
    sizes = Counter({trait[1:]: count for trait, count in total.items() if trait[0] == "size"})
    usual = sizes.most_common(1)[0][0] if sizes else (0, 0)
    gray = sum(count for trait, count in total.items() if trait[0] == "mode" and trait[1] in _GRAY)
    mixed = gray < sizes.total()

    def collect(name: str, level: str, wanted: Wanted) -> Check:
        return _with_trait(splits, facts, name, level, wanted)

    return [
        *(_faults(facts, kind, name) for kind, name in _FAULTS.items()),
        collect(
            f"frames of another size than the usual {usual[0]} x {usual[1]}",
            "warning",
            lambda trait: trait[0] == "size" and trait[1:] != usual,
        ),
        collect(
            "frames that are not square, and will be squeezed",
            "warning",
            lambda trait: trait[0] == "size" and trait[1] != trait[2],
        ),
        collect(
            "grayscale frames among color frames" if mixed else "grayscale frames",
            "warning" if mixed else "note",
            lambda trait: trait[0] == "mode" and trait[1] in _GRAY,
        ),
        collect(
            "frames in unusual pixel formats, converted to RGB",
            "warning",
            lambda trait: trait[0] == "mode" and trait[1] not in _USUAL,
        ),
        collect("frames with transparency, which is dropped", "warning", lambda trait: trait[0] == "transparent"),
        collect("animations, whose first frame is read", "warning", lambda trait: trait[0] == "animated"),
        collect("frames rotated by their EXIF orientation", "warning", lambda trait: trait[0] == "rotated"),
    ]


def _counts(facts: Facts) -> Counter:
    total: Counter = Counter()
    for clips in facts.values():
        for clip in clips:
            for trait, (count, _) in clip.traits.items():
                total[trait] += count
    return total


def _faults(facts: Facts, kind: str, name: str) -> Check:
    lines = {
        split: [line for clip in clips for found, line in clip.faults if found == kind]
        for split, clips in facts.items()
    }
    return Check.of(name, "error", lines)


def _with_trait(splits: Mapping[str, Split], facts: Facts, name: str, level: str, wanted: Wanted) -> Check:
    """Counts the frames with a wanted trait. Each value of the trait has one line, with its first frame."""
    counts = dict.fromkeys(splits, 0)
    values: dict[str, tuple[int, str]] = {}
    for split in splits:
        for clip, clip_facts in zip(splits[split], facts[split], strict=True):
            for trait, (count, frame) in clip_facts.traits.items():
                if wanted(trait):
                    counts[split] += count
                    value = f"{trait[1]} x {trait[2]}" if trait[0] == "size" else str(trait[-1])
                    number, first = values.get(value, (0, f"{split} {printable(clip.name)}/{printable(frame)}"))
                    values[value] = number + count, first
    items = [
        f"{count} {value}, first {first}"
        for value, (count, first) in sorted(values.items(), key=lambda pair: -pair[1][0])
    ]
    return Check(name, level, counts, items)


@dataclass
class _Frames:
    """The N frames of a split in one row: digests uint64 [N], owners (their clips) int64 [N], offsets of the clips."""

    name: str
    clips: list[Clip]
    digests: np.ndarray
    owners: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, name: str, split: Split, facts: Sequence[ClipFacts]) -> _Frames:
        digests = [np.frombuffer(clip.digests, np.uint64) for clip in facts]
        lengths = [len(part) for part in digests]
        return cls(
            name=name,
            clips=list(split),
            digests=np.concatenate([np.empty(0, np.uint64), *digests]),
            owners=np.repeat(np.arange(len(lengths)), lengths),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        )

    def frame(self, index: np.intp | int) -> str:
        """`train Fear/3/001.jpg`."""
        owner = self.owners[index]
        clip = self.clips[owner]
        return f"{self.name} {printable(clip.name)}/{printable(clip.frames[index - self.offsets[owner]])}"


def content_checks(splits: Mapping[str, Split], facts: Facts) -> list[Check]:
    """The checks for copies: of clips, of frames in both splits, in several clips, in one clip. `facts`: see `scan`."""
    rows = {name: _Frames.of(name, split, facts[name]) for name, split in splits.items()}
    return [
        _copied_clips(splits, facts),
        _leaked_frames(rows),
        *_shared_frames(rows),
        _repeated_frames(rows),
    ]


def _copied_clips(splits: Mapping[str, Split], facts: Facts) -> Check:
    """Clips with the same frames as another clip, in the same order."""
    seen: dict[bytes, tuple[str, Clip]] = {}
    counts = dict.fromkeys([*splits, BOTH], 0)
    items = []
    for name, split in splits.items():
        for clip, clip_facts in zip(split, facts[name], strict=True):
            if clip_facts.faults or not clip.frames:
                continue
            other, original = seen.setdefault(clip_facts.digests, (name, clip))
            if original is clip or original.folder == clip.folder:  # a finding of another check
                continue
            counts[name if other == name else BOTH] += 1
            classes = "" if original.label == clip.label else ", in another class"
            items.append(f"{name} {printable(clip.name)} = {other} {printable(original.name)}{classes}")
    return Check("clips that are copies of other clips", "warning", counts, items)


def _leaked_frames(rows: Mapping[str, _Frames]) -> Check:
    """Validation frames that are also training frames."""
    name = "val frames that are also train frames"
    if "train" not in rows or "val" not in rows:
        return Check(name, "warning", {BOTH: 0}, [])
    train, val = rows["train"], rows["val"]
    folders = {clip.folder for clip in train.clips}
    # A folder that is in both splits is a finding of another check.
    own = np.array([clip.folder not in folders for clip in val.clips], dtype=bool)
    leaked = np.isin(val.digests, train.digests[train.digests != 0]) & own[val.owners]
    order = np.argsort(train.digests, kind="stable")
    items = []
    for owner in np.unique(val.owners[leaked]):
        start, stop = val.offsets[owner : owner + 2]
        indices = start + np.flatnonzero(leaked[start:stop])
        source = order[np.searchsorted(train.digests, val.digests[indices[0]], sorter=order)]
        items.append(f"{len(indices)} of {stop - start} frames, {val.frame(indices[0])} = {train.frame(source)}")
    return Check(name, "warning", {BOTH: int(leaked.sum())}, items)


def _shared_frames(rows: Mapping[str, _Frames]) -> list[Check]:
    """Frames that are in several clips of one split, and those whose clips have different classes."""
    shared = Check("frames in several clips of a split", "warning", {}, [])
    torn = Check("frames in clips of different classes", "warning", {}, [])
    for name, row in rows.items():
        labels = np.array([clip.label for clip in row.clips], dtype=np.int64)
        for check, group in ((shared, row.owners), (torn, labels[row.owners])):
            pairs = np.unique(np.stack([row.digests, group.astype(np.uint64)], axis=1), axis=0)
            digests, groups = np.unique(pairs[:, 0], return_counts=True)
            several = digests[(groups > 1) & (digests != 0)]
            check.counts[name] = int(np.isin(row.digests, several).sum())
            places: dict[int, list[str]] = defaultdict(list)
            for index in np.flatnonzero(np.isin(row.digests, several[:1000])):
                places[int(row.digests[index])].append(row.frame(int(index)))
            check.items += [" = ".join([*same[:3], "..."] if len(same) > 3 else same) for same in places.values()]
    return [shared, torn]


def _repeated_frames(rows: Mapping[str, _Frames]) -> Check:
    """Frames that repeat an earlier frame of their clip: a still, or a video sampled at too high a rate."""
    counts, items = {}, []
    for name, row in rows.items():
        pairs = np.stack([row.digests, row.owners.astype(np.uint64)], axis=1)[row.digests != 0]
        distinct, times = np.unique(pairs, axis=0, return_counts=True)
        counts[name] = int((times - 1).sum())
        extra = np.bincount(distinct[:, 1].astype(np.int64), weights=times - 1, minlength=len(row.clips))
        items += [
            f"{int(extra[owner])} in {name} {printable(row.clips[owner].name)}"
            for owner in np.argsort(-extra, kind="stable")[:1000]
            if extra[owner]
        ]
    return Check("repeated frames of a clip", "note", counts, items)
