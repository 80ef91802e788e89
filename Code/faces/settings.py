"""What a user can set about faces, with its defaults. Imports little, so that scripts start fast."""

from __future__ import annotations

import argparse
from typing import Any

from ..common.commandline import frame_rate, number, positive
from ..common.errors import UsageError
from ..common.names import MAX_IMAGE_SIZE

# MTCNN's smallest face in pixels. Below it the image pyramid is empty, and facenet-pytorch raises.
MIN_FACE = 20
# How faces are found and cut out. To be raised by a change after which the same videos give other crops: clips that are
# prepared in two ways must not be mixed. Version 1 did not write it down.
FACES_VERSION = 2
# The table with a row for each face, in the output folder of Prepare_Faces.py.
FACES_TABLE = "faces.csv"
# At least one frame in DETECT_EVERY is searched in full; in the others, known faces are followed.
DETECT_EVERY = 20
# An answer is uncertain where the probabilities of the best two classes differ by less. Of FER+'s validation images
# with a smaller margin (524 of 3199), the best class is right in 42 % and the second best in 37 %; above it, the best
# one is ahead (margins of 0.15 to 0.20: 61 and 27 %). See benchmarks/uncertain.py.
UNCERTAIN_MARGIN = 0.15
# The numbers that are allowed, on the command line and in Python.
NUMBERS = {
    "image_size": number(32, MAX_IMAGE_SIZE, int),  # fewer show no expression
    "detect_every": positive,
    "fps": frame_rate,
    "window": number(0.01, 86_400),  # seconds; an hour of video has 720 000 windows of 0.01 s
    "stride": number(0.01, 86_400),
}


def checked(name: str, value: Any) -> Any:
    """The value of an argument in Python as a number; None stays None. UsageError, a ValueError, names a wrong one."""
    try:
        return None if value is None else NUMBERS[name](str(value))
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{name}: {error}") from None
