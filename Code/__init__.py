"""Frame Attention Networks for facial expression recognition in videos."""

from Code.faces.predict import NoFaceError, Prediction, Predictor
from Code.network.fan import FAN, FANOutput
from Code.network.pretrained import LoadReport, load_fan, load_published

__all__ = [
    "FAN",
    "FANOutput",
    "LoadReport",
    "NoFaceError",
    "Prediction",
    "Predictor",
    "load_fan",
    "load_published",
]
