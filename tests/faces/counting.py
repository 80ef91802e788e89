"""A detector that counts its full passes."""

from __future__ import annotations

import numpy as np

from Code.faces.detect import Detector, Faces


class CountingDetector(Detector):
    """Its `passes` is the number of frames that were searched in full."""

    passes = 0

    def __call__(self, images: np.ndarray) -> list[Faces]:
        self.passes += len(images)
        return super().__call__(images)
