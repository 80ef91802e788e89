"""The doctor's search for copies: clips and frames whose files have the same bytes, whatever their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from Code.data.clips import Clip
from Code.data.findings import BOTH, Check, Split
from Code.data.lists import printable
from Code.data.scan import ClipFacts


@dataclass
class _Frames:
    """All frames of a split in one row: digests uint64 [N], and the clip of each, int64 [N]."""

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


def content_checks(splits: Mapping[str, Split], facts: Mapping[str, Sequence[ClipFacts]]) -> list[Check]:
    """See `check`."""
    rows = {name: _Frames.of(name, split, facts[name]) for name, split in splits.items()}
    return [
        _copied_clips(splits, facts),
        _leaked_frames(rows),
        *_shared_frames(rows),
        _repeated_frames(rows),
    ]


def _copied_clips(splits: Mapping[str, Split], facts: Mapping[str, Sequence[ClipFacts]]) -> Check:
    """Clips with the frames of another one, in its order."""
    seen: dict[bytes, tuple[str, Clip]] = {}
    counts = dict.fromkeys([*splits, BOTH], 0)
    items = []
    for name, split in splits.items():
        for clip, clip_facts in zip(split, facts[name], strict=True):
            if clip_facts.faults or not clip.frames:
                continue
            other, original = seen.setdefault(clip_facts.digests, (name, clip))
            if original is clip or original.folder == clip.folder:  # the same folder is told as such
                continue
            counts[name if other == name else BOTH] += 1
            classes = "" if original.label == clip.label else ", of another class"
            items.append(f"{name} {printable(clip.name)} = {other} {printable(original.name)}{classes}")
    return Check("clips that are copies of other clips", "warning", counts, items)


def _leaked_frames(rows: Mapping[str, _Frames]) -> Check:
    """Validation frames that are training frames, too."""
    name = "val frames that are also train frames"
    if "train" not in rows or "val" not in rows:
        return Check(name, "warning", {BOTH: 0}, [])
    train, val = rows["train"], rows["val"]
    folders = {clip.folder for clip in train.clips}
    own = np.array([clip.folder not in folders for clip in val.clips], dtype=bool)  # not one and the same clip
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
    """Frames that several clips of one split have, and those among them that are given several classes."""
    shared = Check("frames that several clips of a split have", "warning", {}, [])
    torn = Check("frames that clips of different classes have", "warning", {}, [])
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
    """Frames that repeat an earlier one of their clip: stills, or a video that was sampled too finely."""
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
    return Check("frames that repeat another one of their clip", "note", counts, items)
