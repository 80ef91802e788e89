"""Says which expression the people in a video, an image or a folder of frames show; see `--help`."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with `python -P` and `python -I`

from Code.faces.command import main, script

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(script())
