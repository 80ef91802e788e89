"""Clips composed of FER+ stills: see `Code.composed`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import UsageError
from ..common.names import FERPLUS_LABELS
from ..data.clips import ClipSet
from ..data.intensity import Intensities, intensities_of
from ..readers.base import Labels, Reader, Request
from ..readers.ferplus import read_ferplus
from .plan import ComposedSpec

COMPOSED_ROOT = Path("Data/Composed")
TRAIN_CLIPS, VAL_CLIPS = 2000, 800  # if no flag says how many


class Composed(Reader):
    """Composes training clips when they are read; writes evaluated clips to files once."""

    writes = True

    def locate(self, request: Request) -> Request:
        given = [name for name in ("val_root", "train_list", "val_list") if name in request.flags]
        if given:
            flag = f"--{given[0].replace('_', '-')}"
            raise UsageError(f"{flag}: --dataset composed uses the splits of FER+ in --data-root; omit it")
        return super().locate(request)

    def frames_per_sample(self, request: Request) -> int | None:
        return composed_spec(request.flags).frames[0]  # whole clips, since a few frames may not show the expression

    def is_missing(self, request: Request) -> bool:
        return not os.path.isdir(request.train_root)

    def read_split(self, request: Request, split: str, labels: Labels) -> ClipSet:
        root = Path(request.train_root)
        if self.is_missing(request):
            read_ferplus(root)  # raises, before torch is imported
        from .render import TEST, VAL, compose_evaluated, compose_training

        spec, flags = composed_spec(request.flags), request.flags
        if split == "train":
            return compose_training(root, spec, flags.get("train_clips", TRAIN_CLIPS), request.seed)
        usage = TEST if request.eval_split == "test" else VAL
        count = flags.get("val_clips", VAL_CLIPS)
        return compose_evaluated(root, COMPOSED_ROOT, spec, count, usage, progress=True)

    def intensities(self, clips: ClipSet) -> Intensities | None:
        return intensities_of(clips)


def composed_spec(flags: Mapping[str, Any]) -> ComposedSpec:
    """The settings of composed clips. One number stands for both ends of a range."""
    given: dict[str, Any] = {}
    for name, flag in (("frames", "clip_frames"), ("telling", "telling")):
        if values := flags.get(flag):
            if len(values) > 2:
                raise UsageError(f"--{flag.replace('_', '-')}: takes one number or two, the ends of a range")
            given[name] = (values[0], values[-1])
    if flags.get("distractors"):
        given["distractors"] = tuple(dict.fromkeys(flags["distractors"]))
    return ComposedSpec(**given)


reader = Composed(
    "composed",
    None,
    Request(labels=FERPLUS_LABELS, train_root="Data/FERPlus", val_root="Data/FERPlus", one_root=True),
)
