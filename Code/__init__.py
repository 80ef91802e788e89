"""Frame Attention Networks for facial expression recognition in videos.

The names below are imported when they are first used: `import Code` alone takes no time.
"""

from __future__ import annotations

import getpass
import importlib
import os
from typing import TYPE_CHECKING, Any

from .common.names import VERSION as __version__

if TYPE_CHECKING:
    from .faces.predict import NoFaceError as NoFaceError
    from .faces.predict import Predictor as Predictor
    from .faces.prediction import Prediction as Prediction
    from .network.fan import FAN as FAN
    from .network.fan import FANOutput as FANOutput
    from .network.weights import LoadReport as LoadReport
    from .network.weights import load_fan as load_fan
    from .network.weights import load_published as load_published

try:
    getpass.getuser()
except (KeyError, OSError, ImportError):  # a user id without a name, as under `docker run --user 54321`
    # The import of torch asks for the name, and whatever imports torch has imported this package before.
    os.environ["LOGNAME"] = f"uid{os.getuid()}" if hasattr(os, "getuid") else "user"

_HOME = {
    "FAN": ".network.fan",
    "FANOutput": ".network.fan",
    "LoadReport": ".network.weights",
    "NoFaceError": ".faces.predict",
    "Prediction": ".faces.prediction",
    "Predictor": ".faces.predict",
    "load_fan": ".network.weights",
    "load_published": ".network.weights",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """PEP 562."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
