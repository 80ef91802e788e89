"""What a user can set about finding faces, with its defaults. Imports nothing, so that scripts start fast."""

from __future__ import annotations

from dataclasses import dataclass

# MTCNN's smallest face in pixels. Below it the image pyramid is empty, and facenet-pytorch raises.
MIN_FACE = 20
# At least one frame in so many is searched in full; in the others, known faces are followed.
DETECT_EVERY = 20


@dataclass(frozen=True)
class Settings:
    """How clips are prepared; the same for all of an output folder.

    Attributes:
        faces: "main": the main person of each clip; "all": a folder per person.
        fps: at most this many frames a second; None: all.
        min_face: smallest face in pixels; None: see `Detector`.
        detect_every: at least one frame in so many is searched in full; 1: all of them.
    """

    faces: str = "main"
    fps: float | None = None
    min_face: int | None = None
    detect_every: int = DETECT_EVERY
