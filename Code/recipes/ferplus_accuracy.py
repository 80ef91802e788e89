"""The accuracy of a classifier of faces on FER+, as published figures count it, and how far it can be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from ..common.device import Compute
from ..common.errors import UsageError
from ..common.names import FERPLUS_FILE, FERPLUS_LABELS
from ..data.augment import PlainFrames
from ..data.batches import ArrayStore, EvaluationBatches
from ..network.prior import prior_shift, stated_shares
from ..network.start import starting_file
from ..network.weights import load_fan
from ..readers.ferplus import FERPlusSplit
from ..training.loops import EvaluationSplit, evaluate, summary
from ..training.metrics import classification_metrics
from .pictures import ferplus_faces

BINS = 15  # of the expected calibration error, as in the paper


def ferplus_split(split: FERPlusSplit, rule: str, size: int | None = None) -> EvaluationSplit:
    """A split of FER+ to evaluate at a size, labeled by a rule of `ferplus_faces`."""
    table, images = ferplus_faces(split, rule)
    return EvaluationSplit(EvaluationBatches(table, ArrayStore(images), batch_frames=256), PlainFrames(size))


def report_test(path: Path | None, splits: Mapping[str, FERPlusSplit], compute: Compute) -> None:
    """Prints a file's accuracy on the private test, as it is, and with the priors of `--prior` if those are others.

    Published figures are of a majority label, and of networks that know the class shares of FER+. Without a path, the
    file is the one that trainings start from. UsageError: its classes are not those of FER+.
    """
    fan, info = load_fan(path or starting_file(None) or FERPLUS_FILE)
    size, labels = info["image_size"], info["labels"]
    if tuple(labels) != FERPLUS_LABELS:
        raise UsageError(f"--checkpoint {info['path']}: its labels are {', '.join(labels)}, not those of FER+")
    print(f"{info['path']}: {fan.head.title}, {info['backbone']}, {size} x {size} pixels")
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    test, copies = splits["PrivateTest"], splits["PrivateTest"].copies_of(splits["Training"])
    majority, voted, val = (
        ferplus_split(split, rule, size)
        for split, rule in ((test, "majority"), (test, "plurality"), (splits["PublicTest"], "majority"))
    )
    logits, of_voted, of_val = (
        evaluate(fan, part.batches, compute, part.transform).logits for part in (majority, voted, val)
    )
    targets = majority.table.targets
    copied = set(test.only(copies).names)
    others = torch.tensor([name not in copied for name in majority.table.names])
    shift = torch.zeros(len(FERPLUS_LABELS))
    for prior in (None, "uniform", "ferplus") if info["class_shares"] else (None,):
        if prior:
            shift = prior_shift(stated_shares(prior, info), info)
            if torch.allclose(shift, shift[0], atol=1e-4):  # it has this prior
                continue
            print(f"the same with --prior {prior}:")
        metrics = classification_metrics((logits + shift).softmax(dim=1), targets)
        print(f"private test, majority label, 8 classes: {summary(metrics)}")
        for index, row in enumerate(metrics["confusion"]):
            if sum(row):
                low, high = binomtest(row[index], sum(row)).proportion_ci(method="wilson")
                recall = f"{100 * row[index] / sum(row):5.1f} % ({100 * low:.0f} to {100 * high:.0f} %)"
                print(f"  recall {FERPLUS_LABELS[index]:<10} {recall}")
        print("  confusion (rows true): " + " ".join(str(row) for row in metrics["confusion"]))
        if others.any() and not others.all():
            alone = classification_metrics((logits[others] + shift).softmax(dim=1), targets[others])
            print(f"  without the {int((~others).sum())} that are also training images: {summary(alone)}")
        every = classification_metrics((of_voted + shift).softmax(dim=1), voted.table.targets)
        print(f"private test, most voted label, no majority needed: {summary(every)}")
    truth = val.table.targets
    fitted = fit_temperature(of_val, truth, shift)
    errors = [100 * calibration_error((of_val / t + shift).softmax(dim=1), truth) for t in (1.0, fitted)]
    print(
        f"validation, majority label, with the prior of FER+: expected calibration error {errors[0]:.1f} %; "
        f"{errors[1]:.1f} % with --temperature {fitted:.2f} of Code.recipes.release"
    )


def fit_temperature(logits: Tensor, labels: Tensor, offset: Tensor) -> float:
    """The temperature, 0.05 to 20, by which logits [N, C] must be divided for the smallest cross-entropy.

    Guo, Pleiss, Sun, Weinberger: "On calibration of modern neural networks", ICML 2017, arXiv 1706.04599. `offset`,
    float [C], is the log of the class shares that the logits lack.
    """
    exact = logits.double()

    def cost(log_temperature: float) -> float:
        return float(F.cross_entropy(exact / math.exp(log_temperature) + offset, labels))

    best = minimize_scalar(cost, bounds=(math.log(0.05), math.log(20)), method="bounded", options={"xatol": 1e-4})
    return math.exp(best.x)


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error of float [N, C] with labels int64 [N]: mean distance of certainty and accuracy."""
    return float(multiclass_calibration_error(probabilities, labels, probabilities.shape[1], n_bins=BINS, norm="l1"))
