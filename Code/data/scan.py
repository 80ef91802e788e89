"""All frames of a dataset, looked at or decoded once, many at a time: what the dataset doctor counts."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from Code.data.clips import Clip, DataError
from Code.data.images import ImageError, ImageFacts, examine, look_at
from Code.data.lists import printable

Progress = Callable[[int, int], None]

_TASK_FRAMES = 256  # frames handed to a worker at once
_WORTH_PROCESSES = 4000  # frames; below, a process takes longer to start than a thread to do the work
_THREADS = 8  # looking at headers is waiting for the disk, mostly


@dataclass
class ClipFacts:
    """What the frames of one clip are like.

    Attributes:
        faults: (kind of `ImageError`, line naming the file) of each frame that cannot be read.
        traits: trait -> (number of frames that have it, name of the first of them). Traits are
            ("size", width, height), ("mode", mode), and ("transparent",), ("animated",), ("rotated",).
        digests: 8 bytes per frame, in order, zero where it cannot be read; empty when only headers were looked at.
    """

    faults: list[tuple[str, str]] = field(default_factory=list)
    traits: dict[tuple[str | int, ...], tuple[int, str]] = field(default_factory=dict)
    digests: bytes = b""

    def add(self, frame: str, facts: ImageFacts) -> None:
        """Counts one frame."""
        traits: list[tuple[str | int, ...]] = [("size", facts.width, facts.height), ("mode", facts.mode)]
        traits += [(name,) for name in ("transparent", "animated", "rotated") if getattr(facts, name)]
        for trait in traits:
            count, first = self.traits.get(trait, (0, frame))
            self.traits[trait] = count + 1, first
        self.digests += facts.digest


def scan(
    clips: Sequence[Clip], *, decode: bool, workers: int | None = None, progress: Progress | None = None
) -> list[ClipFacts]:
    """Looks at every frame of some clips.

    Args:
        clips: whose frames to look at.
        decode: decode all pixels and take digests, in worker processes where there is enough to do; else read
            headers only.
        workers: processes that decode; None takes one per core.
        progress: is called with (frames done, frames in all).

    Returns:
        The facts of each clip, in order.

    Raises:
        DataError: a worker process died.
    """
    lengths = [len(clip) for clip in clips]
    total, done = sum(lengths), 0
    facts: list[ClipFacts] = []
    tasks = list(_tasks(clips))
    pool = _pool(decode, workers or available_cores(), total)
    try:
        for part in pool.map(_scan_clips, tasks, [decode] * len(tasks)):
            done += sum(lengths[len(facts) : len(facts) + len(part)])
            facts += part
            if progress:
                progress(done, total)
    except BrokenProcessPool:
        raise DataError(
            f"{printable(clips[len(facts)].folder)}: a process died decoding this clip or one of the next; a file "
            "that crashes the decoder, or too little memory (--workers 1 needs less)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return facts


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool(decode: bool, workers: int, frames: int) -> Executor:
    if not decode:
        return ThreadPoolExecutor(_THREADS)
    if workers == 1 or frames < _WORTH_PROCESSES:
        return ThreadPoolExecutor(workers)
    # spawn: a process that is forked while other threads run (torch's, say) may hang.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _tasks(clips: Sequence[Clip]) -> Iterator[list[Clip]]:
    """Runs of clips of some hundred frames."""
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
    look = examine if decode else look_at
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
