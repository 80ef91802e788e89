"""The accuracy of a classifier of faces on FER+, as published figures count it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..common.device import Compute
from ..common.errors import UsageError
from ..common.names import FERPLUS_FILE, FERPLUS_LABELS
from ..data.augment import PlainFrames
from ..data.batches import EvaluationBatches
from ..network.fan import FAN
from ..network.prior import Balance
from ..network.start import starting_file
from ..network.weights import load_fan
from ..readers.ferplus import FERPlusSplit, read_ferplus
from ..training.loops import EvaluationSplit, evaluate_split, summary
from .faces import ferplus_faces


def ferplus_split(split: FERPlusSplit, rule: str) -> EvaluationSplit:
    """A split of FER+ to evaluate, labeled by a rule of `ferplus_faces`."""
    faces = ferplus_faces(split, rule)
    return EvaluationSplit(EvaluationBatches(faces.table(), faces.store(), batch_frames=256), PlainFrames())


def evaluate_file(path: Path | None, data_root: Path, compute: Compute) -> int:
    """`-e`: evaluates a file of the published format on the private test.

    Args:
        path: None: the one that trainings start from.
    """
    path = path or starting_file(None) or FERPLUS_FILE
    fan, info = load_fan(path)
    if tuple(info["labels"]) != FERPLUS_LABELS:
        raise UsageError(f"--checkpoint {info['path']}: its labels are {', '.join(info['labels'])}, not those of FER+")
    size = info["image_size"]
    print(f"{info['path']}: {fan.head.title}, {info['backbone']}, {size} x {size} pixels")
    report_test(path, read_ferplus(data_root)["PrivateTest"], compute)
    return 0


def report_test(path: Path, test: FERPlusSplit, compute: Compute) -> None:
    """Prints a file's accuracy on the private test, as published with a majority label, and for every image.

    A network that was trained with `--balance` is evaluated twice: as it is, and with the class shares of its training
    set put back. Published figures are of networks that know them.
    """
    fan, info = load_fan(path)
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    _print_test(fan, test, info["image_size"], compute)
    balance = Balance.of(info["recipe"])
    if balance.tau and info["class_shares"]:
        classifier = getattr(fan.head, fan.head.classifier)
        with torch.no_grad():
            classifier.bias += balance.offset(torch.tensor(info["class_shares"])).to(classifier.bias)
        print("the same with the class shares of the training set, which --balance has kept out:")
        _print_test(fan, test, info["image_size"], compute)


def _print_test(fan: FAN, test: FERPlusSplit, size: int, compute: Compute) -> None:
    def measured(rule: str) -> dict[str, Any]:
        return evaluate_split(fan, replace(ferplus_split(test, rule), transform=PlainFrames(size)), compute)[0]

    metrics = measured("majority")
    print(f"private test, majority label, 8 classes: {summary(metrics)}")
    for label, recall in zip(FERPLUS_LABELS, metrics["per_class_recall"], strict=True):
        print(f"  recall {label:<10} " + ("-" if recall is None else f"{100 * recall:5.1f} %"))
    print("  confusion (rows true): " + " ".join(str(row) for row in metrics["confusion"]))
    print(f"private test, most voted label, no majority needed: {summary(measured('plurality'))}")
