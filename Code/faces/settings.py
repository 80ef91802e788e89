"""What a user can set about faces, with its defaults. Imports nothing, so that scripts start fast."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Settings:
    """How clips are prepared; the same for all of an output folder.

    Attributes:
        faces: "main": the main person of each clip; "all": a folder per person.
        fps: at most this many frames a second; None: all.
        min_face: smallest face in pixels; None: see `Detector`.
        detect_every: at least one frame in `detect_every` is searched in full; 1: all of them.
    """

    faces: str = "main"
    fps: float | None = None
    min_face: int | None = None
    detect_every: int = DETECT_EVERY
