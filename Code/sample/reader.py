"""The generated sample, in AFEW's layout. It is drawn when it is first read."""

from __future__ import annotations

import os

from ..common.names import AFEW_LABELS
from ..common.progress import available_cores
from ..data.intensity import intensities_of
from ..data.request import Request, TrainingProtocol
from ..readers.base import Reader
from ..readers.folders import scan_folders
from . import draw_sample

SAMPLE_ROOT = "Data/Sample"


def _draw(request: Request) -> None:
    """Draws the sample in its usual folder, if it is read from there and missing."""
    if not request.train_root and not request.val_root:
        draw_sample(SAMPLE_ROOT, workers=available_cores(), progress=True)


SAMPLE = Reader(
    name="sample",
    title="the generated sample",
    trained_on="the drawn faces of the generated sample, not real ones",
    # A minute or two on two CPU cores. Only the head is trained: fine-tuning the whole network for the same time was
    # worse (relation-attention 80 to 91 %, correlation 0.3 to 0.6).
    protocol=TrainingProtocol(
        epochs=48,
        lr=1e-2,
        decay_at=(16, 32),
        batch_size=32,
        samples_per_clip=4,
        freeze_backbone=True,
        image_size=80,  # the shipped backbone's 96 pixels are slower and 4 points worse on drawn faces
        fixed_size=True,
    ),
    labels=AFEW_LABELS,
    train_root=os.path.join(SAMPLE_ROOT, "Train"),
    val_root=os.path.join(SAMPLE_ROOT, "Val"),
    train_list=os.path.join(SAMPLE_ROOT, "list_train.txt"),
    val_list=os.path.join(SAMPLE_ROOT, "list_eval.txt"),
    makes_folds=True,
    person_pattern="[^/]+$",  # a clip's number is its person's number
    scan=scan_folders,
    prepare=_draw,
    intensities=intensities_of,
)
