"""The generated sample, in AFEW's layout. It is drawn when it is first read."""

from __future__ import annotations

import os
from dataclasses import replace

from ..common.machine import available_cores
from ..common.names import AFEW_LABELS
from ..data.clips import ClipSet
from ..data.intensity import Intensities, intensities_of
from ..readers.afew import read_afew
from ..readers.base import Reader, Request
from . import draw_sample

SAMPLE_ROOT = "Data/Sample"


class Sample(Reader):
    """Draws the sample in its usual folder if it is missing. A clip's number is its person's number."""

    makes_folds = True
    person_pattern = "[^/]+$"
    writes = True

    def locate(self, request: Request) -> Request:
        request = super().locate(request)
        if not _is_ours(request):
            return request
        # Its lists exist by the time it is read.
        usual, flags = self.defaults, request.flags
        return replace(
            request,
            train_list=request.train_list if "train_list" in flags else usual.train_list,
            val_list=request.val_list if "val_list" in flags else usual.val_list,
        )

    def prepare(self, request: Request) -> None:
        if _is_ours(request):
            draw_sample(SAMPLE_ROOT, workers=available_cores(), progress=True)

    def is_missing(self, request: Request) -> bool:
        return not _is_ours(request) and super().is_missing(request)

    def intensities(self, clips: ClipSet) -> Intensities | None:
        return intensities_of(clips)


def _is_ours(request: Request) -> bool:
    return not {"train_root", "val_root"} & request.flags.keys()


reader = Sample(
    "sample",
    read_afew,
    Request(
        labels=AFEW_LABELS,
        train_root=os.path.join(SAMPLE_ROOT, "Train"),
        val_root=os.path.join(SAMPLE_ROOT, "Val"),
        train_list=os.path.join(SAMPLE_ROOT, "list_train.txt"),
        val_list=os.path.join(SAMPLE_ROOT, "list_eval.txt"),
    ),
)
