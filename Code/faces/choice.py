"""Which checkpoint answers when none is named, and what it was trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from Code.network.pretrained import CheckpointError, load_fan

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = ("Resnet18_FER+_open.pth.tar", "FAN_FER+_composed.pth")
# Datasets whose faces are FER2013's: that crop, in grey.
_OF_FER2013 = ("ferplus", "composed")
_SUFFIXES = (".pth", ".pt", ".tar")


def find_checkpoint(path: str | Path) -> Path:
    """The file that `--checkpoint` means: a file, or a run's folder, whose best.pth (else last.pth) it is.

    Raises:
        CheckpointError: if a folder holds neither.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in ("best.pth", "last.pth"):
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path}: neither best.pth nor last.pth in this folder; name a run, model/<run>, or a file")


def default_checkpoint(root: Path = PROJECT) -> Path:
    """The newest run's best.pth below root/model, else what root/pretrain_model holds.

    A network that was trained on the generated sample knows drawn faces only. It comes last: behind
    whatever knows real ones. Of pretrain_model, a FAN comes before a frame classifier, and a file that the
    user put there before one that ships with the project; backbones that know no expressions are passed over.

    Raises:
        CheckpointError: if there is none; how to make one.
    """
    # Folders begin with date and time, which a copy keeps, unlike the time of the file.
    runs = sorted(root.glob("model/*/best.pth"), key=lambda path: (path.parent.name, path.stat().st_mtime))
    real = [path for path in runs if "sample" not in path.parent.name.split("_")]
    if real:
        return real[-1]
    usable: list[tuple[bool, bool, str, Path]] = []
    for path in (root / "pretrain_model").glob("*"):
        if not path.name.endswith(_SUFFIXES):
            continue
        try:
            kind = load_fan(path)[1]["kind"]
        except CheckpointError:  # a backbone, say; naming it with --checkpoint tells why
            continue
        usable.append((kind == "frame classifier", path.name in SHIPPED, path.name, path))
    if usable:
        return min(usable)[-1]
    if runs:
        return runs[-1]
    raise CheckpointError(
        f"no checkpoint in {root / 'model'} or {root / 'pretrain_model'}: train one with "
        "`python Demo_AFEW_Attention.py`, or name one with --checkpoint"
    )


def knows_fer2013(info: dict[str, Any]) -> bool:
    """Whether a network of `load_fan` knows FER2013's own crop, in grey, and not the paper's, in colour.

    Files of the published format need not say what they were trained on: a frame classifier is then FER+'s.
    """
    dataset: str | None = info["dataset"]
    return dataset in _OF_FER2013 or (info["kind"] == "frame classifier" and dataset is None)


def trained_for(info: dict[str, Any]) -> str:
    """What a network of `load_fan` was trained for, in words."""
    dataset = info["dataset"] or ("ferplus" if knows_fer2013(info) else None)
    known = {
        "ferplus": "single grey pictures of faces (FER+)",
        "composed": "clips composed of single grey pictures of faces (FER+)",
        "sample": "the generated sample's drawn faces, not real ones",
        "afew": "clips of films (AFEW)",
        "ckplus": "posed sequences from neutral to the apex (CK+)",
    }
    if dataset is None:
        return "it does not say what it was trained for"
    return f"trained for {known.get(dataset, dataset)}"
