"""From pictures of people to faces that FAN can read, and to its answer.

All of it imports without the packages of requirements-faces.txt; what needs one says so when it is used.
"""

from Code.faces.predict import NoFaceError, Predictor
from Code.faces.prediction import Prediction
from Code.faces.video import MissingExtraError

__all__ = ["MissingExtraError", "NoFaceError", "Prediction", "Predictor"]
