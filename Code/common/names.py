"""What the field's files agree on: the image size, the class names and their order, the spellings of an expression."""

from __future__ import annotations

from pathlib import Path

from .wording import name_key

VERSION = "0.2.0"  # of the project and of the installed package
IMAGE_SIZE = 224  # side in pixels of the published networks' input
MAX_IMAGE_SIZE = 4096  # side in pixels; a checkpoint or a flag that asks for more is refused
CHECKPOINT_FORMAT = "emotion-fan/1"
# The attention heads by their number, `--at_type`; here, since a command line shows them without importing torch.
ATTENTION_TITLES = {0: "self-attention", 1: "relation-attention", 2: "score-fusion"}
DEFAULT_AT_TYPE = 1  # the attention head: self-attention and relation-attention, the full method of the paper

# Networks, relative to the project. FAN_FILE comes with it. Trainings start from its backbone, or from FERPLUS_FILE if
# the user puts one there.
FAN_FILE = Path("pretrain_model/FAN_FER+_composed.pth")
FERPLUS_FILE = Path("pretrain_model/Resnet18_FER+_pytorch.pth.tar")
MS1M_FILE = Path("pretrain_model/Resnet18_MS1M_pytorch.pth.tar")
OTHER_FILE = "pretrain_model/{}_FER+.pth.tar"  # of another backbone, by its name
FOLDERS_FILE = "{}_folders_pytorch.pth.tar"  # of `--dataset folders`, in the folder of the run

# Class names in the order of their indices, as the published networks' outputs have them.
AFEW_LABELS = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")
FERPLUS_LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")

# Spellings of one expression in different datasets.
SYNONYMS = (
    ("happy", "happiness", "joy"),
    ("angry", "anger"),
    ("disgust", "disgusted"),
    ("fear", "afraid", "fearful", "scared"),
    ("sad", "sadness"),
    ("neutral", "neutrality", "calm"),
    ("surprise", "surprised"),
    ("contempt", "contemptuous"),
)
_FIRST = {word: group[0] for group in SYNONYMS for word in group}


def expression(label: str) -> str:
    """One word for all spellings of an expression: `happiness`, `Happy` and `JOY` are `happy`."""
    word = name_key(label)
    return _FIRST.get(word, word)
