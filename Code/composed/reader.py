"""Clips composed of FER+ stills: see `Code.composed`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.errors import UsageError
from ..common.names import FERPLUS_LABELS
from ..data.clips import ClipSet
from ..data.intensity import intensities_of
from ..data.request import Protocol, Request
from ..readers.base import Reader
from .plan import ComposedSpec

COMPOSED_ROOT = Path("Data/Composed")
TRAIN_CLIPS, VAL_CLIPS = 2000, 800  # if no flag says how many


class Composed(Reader):
    """Composes training clips when they are read; writes evaluated clips to files once."""

    def check(self, request: Request) -> None:
        super().check(request)
        for name in ("val_root", "train_list", "val_list"):
            if getattr(request, name):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag}: --dataset composed uses the splits of FER+ in --data-root; omit it")
        composed_spec(request)

    def frames_per_sample(self, request: Request) -> int | None:
        return composed_spec(request).frames[0]  # whole clips, since a few frames may not show the expression

    def read(self, request: Request, split: str | None, labels: Sequence[str] | None = None) -> ClipSet:
        root = Path(request.train_root or self.train_root)
        from .splits import TEST, VAL, compose_evaluated, compose_training

        spec = composed_spec(request)
        if split == "train":
            return compose_training(root, spec, request.train_clips or TRAIN_CLIPS, request.seed)
        usage = TEST if request.eval_split == "test" else VAL
        return compose_evaluated(root, COMPOSED_ROOT, spec, request.val_clips or VAL_CLIPS, usage, progress=True)


def composed_spec(request: Request) -> ComposedSpec:
    """The settings of composed clips. One number stands for both ends of a range."""
    given: dict[str, Any] = {}
    for name, flag in (("frames", "clip_frames"), ("telling", "telling")):
        if values := getattr(request, flag):
            if len(values) > 2:
                raise UsageError(f"--{flag.replace('_', '-')}: takes one number or two, the ends of a range")
            given[name] = (values[0], values[-1])
    if request.distractors:
        given["distractors"] = tuple(dict.fromkeys(request.distractors))
    return ComposedSpec(**given)


COMPOSED = Composed(
    name="composed",
    title="composed clips",
    trained_on="clips composed of single gray pictures of faces (FER+)",
    # A sample is a whole clip: K is the length of the clips. Only the head is trained: it takes minutes on two CPU
    # cores, and classifies more clips correctly than the whole network trained for the same time.
    protocol=Protocol(
        num_frames=16,
        epochs=24,
        lr=1e-2,
        decay_at=(8, 16),
        batch_size=32,
        samples_per_clip=1,
        freeze_backbone=True,
        image_size=80,
    ),
    crop="fer2013",
    labels=FERPLUS_LABELS,
    train_root="Data/FERPlus",
    intensities=intensities_of,
)
