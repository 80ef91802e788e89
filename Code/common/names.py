"""What the field's files agree on (image size, class names, spellings), and names and numbers as people read them."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

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


_DIGITS = re.compile(r"([0-9]+)")
LONGEST = 300  # characters of a name in a message


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 clip`, `2 clips`, `0 clips`; `plural` is that of nouns that do not form it with an s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def grouped(number: int) -> str:
    """46080 -> `46 080`."""
    return f"{number:,}".replace(",", " ")


def percent(share: float | None, digits: int = 2) -> str:
    """0.98765 -> `98.77`; None -> `-`."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def quoted(text: str) -> str:
    """`text` in double quotes, printable."""
    return f'"{printable(text)}"'


def printable(text: str, longest: int = LONGEST) -> str:
    """`text` on one line of at most `longest` characters, with control characters and undecodable bytes escaped."""
    if len(text) > longest:
        text = f"{text[: longest // 2]}...{text[-longest // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(text: str) -> str:
    """A message on one line, however long: names of files may contain line breaks and codes that color a terminal."""
    return printable(text, len(text))


def name_key(name: str) -> str:
    """One spelling for all that look alike: Unicode's NFKC_Casefold, with single spaces."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", name).casefold())
    return " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key that puts `2.jpg` before `10.jpg`."""
    parts: list[str | int] = list(_DIGITS.split(name.casefold()))
    parts[1::2] = map(int, parts[1::2])  # text and numbers alternate, so text is compared with text
    return parts, name


def in_words(size: float) -> str:
    """A number of bytes as text: 830 MiB, 6.4 GiB."""
    mebibytes = size / 2**20
    return f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:.3g} MiB"
