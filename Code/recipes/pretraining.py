"""Pretraining of a backbone as a classifier of single faces: FER+ with more faces, or any labeled pictures.

The pictures are clips of one frame. The result is a file in the published format, from which FAN starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from ..common.device import Compute
from ..common.errors import UsageError
from ..common.names import FERPLUS_FILE, FOLDERS_FILE, MS1M_FILE, OTHER_FILE
from ..data.augment import PlainFrames
from ..data.batches import ArrayStore, Batch, FrameTable, Loading, Store, TrainingBatches, open_stores
from ..network.attention import FANOutput, ScoreFusion
from ..network.backbone import DEFAULT_BACKBONE
from ..network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from ..network.fan import FAN
from ..network.prior import Balance, class_shares
from ..network.start import start_from
from ..network.weights import load_fan, load_trained, to_published
from ..readers.ferplus import FERPlusSplit, read_ferplus
from ..results.report import write_report
from ..training.loops import (
    EvaluationSplit,
    Loss,
    State,
    cross_entropy,
    epoch_line,
    evaluate_split,
    summary,
    train_one_epoch,
)
from ..training.metrics import MANY_CLASSES
from ..training.run import LAST, open_run
from ..training.stopping import plain_flags, resumable, stop_if_asked
from ..training.train import conclude, log_line
from . import FERPLUS, Recipe
from .augmentation import VARIED, FaceAugmentation, Mixing
from .ferplus_accuracy import ferplus_split, report_test
from .pictures import ferplus_faces, read_pictures, with_extra
from .teachers import taught

DROPOUT = 0.2  # before the classifier
WEIGHT_DECAY = 0.05  # of weights, not of biases and batch-norm parameters
AVERAGE = 0.998  # decay of the average of the weights
PICTURES = "pictures"  # the dataset of `--dataset folders` in runs and files; "folders" are clips there
TEACHERS = "teachers.npz"  # in the folder of a run
# To train on, and how it is loaded; to evaluate after every epoch, and at the end. Targets may be probabilities.
Data = tuple[FrameTable, Store, Loading, EvaluationSplit, EvaluationSplit]


def ferplus_data(recipe: Recipe, splits: Mapping[str, FERPlusSplit]) -> Data:
    """FER+, and the faces of `--extra`."""
    training = splits["Training"]
    copies = training.copies_of(splits["PublicTest"], splits["PrivateTest"])
    table, images = ferplus_faces(training.only(~copies), "votes")
    print(
        f"FER+: {len(table)} training images of {len(training.names)}, labeled by their votes; {copies.sum()} are left "
        "out, since they are validation or test images, too"
    )
    if recipe.extra:
        table, images = with_extra(table, images, recipe)
    val, test = (ferplus_split(splits[usage], "majority") for usage in ("PublicTest", "PrivateTest"))
    return table, ArrayStore(images), Loading(), val, test


def folder_data(recipe: Recipe, compute: Compute) -> Data:
    """Any labeled pictures, a folder per class."""
    train, val, how = read_pictures(recipe)
    print(
        f"{recipe.data_root}: {len(train.clips)} training and {len(val.clips)} validation pictures of "
        f"{len(train.labels)} classes ({how})"
    )
    stores, loading = open_stores(
        [train, val], recipe.image_size, compute.device, cache=recipe.cache, workers=recipe.workers
    )
    evaluated = EvaluationSplit.of(val, stores[1], loading, compute)
    return FrameTable.of(train), stores[0], loading, evaluated, evaluated


def train_backbone(recipe: Recipe, compute: Compute) -> None:
    """Trains, evaluates after every epoch, and writes the run's folder and the file."""
    splits = read_ferplus(recipe.data_root) if recipe.dataset == FERPLUS else {}
    name = FERPLUS if splits else PICTURES
    table, store, loading, val, test = ferplus_data(recipe, splits) if splits else folder_data(recipe, compute)
    batches = TrainingBatches(
        table, store, num_frames=1, batch_size=recipe.batch_size, seed=recipe.seed, loading=loading
    )
    labels = table.labels
    shares = class_shares(table.targets, len(labels))
    balance = Balance(recipe.balance, recipe.balance_floor)
    has_ms1m = splits and recipe.backbone in (None, DEFAULT_BACKBONE) and MS1M_FILE.exists()
    pretrained = recipe.pretrained or (str(MS1M_FILE) if has_ms1m else "none")
    with open_run(recipe.resume, recipe.output, f"{name}_backbone") as run:
        state = start_training(recipe, labels, pretrained, balance.offset(shares), len(batches), compute)
        about: dict[str, Any] = {"class_shares": shares.tolist(), "recipe": recipe.as_published(pretrained)}
        if (run.folder / LAST).is_file():
            checkpoint = run.resume(state, labels, len(batches))
            about = {name: checkpoint[name] for name in about}  # what the run started from may be another file by now
        else:
            resolved = {"pretrained": pretrained, "backbone": state.saved.backbone.name}
            run.write_arguments(plain_flags(asdict(recipe)), resolved, compute)
        run.write_log(state.log)
        about |= {"labels": list(labels), "dataset": name, "protocol": {}, "precision": compute.precision}
        with resumable(run.folder):
            if recipe.teachers:
                batches.table = taught(recipe, batches, shares, run.folder / TEACHERS, compute)
            loss = balanced_loss(shares, balance)
            for epoch in range(state.epoch + 1, recipe.epochs + 1):
                size = recipe.size(epoch)
                augment = FaceAugmentation(size, **VARIED if recipe.vary else {})
                mixing = Mixing(recipe.mix, augment, loss)
                transform, loss_function = (mixing.transform, mixing.loss) if recipe.mix else (augment, loss)
                trained = train_one_epoch(state, batches, epoch, transform, loss_function, recipe.print_freq)
                val.transform = PlainFrames(size)
                metrics, evaluation = evaluate_split(state.saved, val, compute)
                line = log_line(epoch, trained, metrics, evaluation)
                grown = bool(state.best) and size != recipe.size(state.best["epoch"])
                state.finish_epoch(line, best=grown)
                run.save_epoch(state, {**about, "image_size": size, "metrics": metrics})
                print(epoch_line(line, recipe.epochs), flush=True)
                stop_if_asked()
            test.transform = PlainFrames(recipe.size(recipe.epochs))
            chosen_on = "the validation images" if splits else "the evaluated pictures"
            results = conclude(state, test, run, {"selected_on": f"best on {chosen_on}"})
        checkpoint = read_checkpoint(run.folder / LAST)  # the last epoch: no split chose it
        load_trained(state.saved, checkpoint)
        backbone = state.saved.backbone.name
        usual = FERPLUS_FILE if backbone == DEFAULT_BACKBONE else Path(OTHER_FILE.format(backbone))
        file = recipe.export or (usual if splits else run.folder / FOLDERS_FILE.format(backbone))
        save_atomically(published_file(state.saved, checkpoint, half=recipe.half), file)
        print(f"wrote {file}; everything else is in {run.folder}")
        if splits:
            report_test(file, splits, compute)
        else:
            print(f"validation, {len(labels)} classes: {summary(results['last'])}")
            print(f"FER+ from these weights:  python Pretrain_FERPlus.py --pretrained {file}")
            print(f"FAN from these weights:   python Demo_AFEW_Attention.py --pretrained {file}")
        if len(labels) <= MANY_CLASSES:  # a report has a row per class
            print(f"see {write_report(run.folder)}")


def start_training(
    recipe: Recipe, labels: Sequence[str], pretrained: str, offset: Tensor, steps: int, compute: Compute
) -> State:
    """The network at its start, on the device, with its optimizer, for epochs of `steps` steps.

    `pretrained` is a file or "none"; `offset`, float [C], is that of `Balance`.
    """
    file = None if pretrained.lower() == "none" else Path(pretrained)
    start = start_from(
        file, ScoreFusion.at_type, labels, seed=recipe.seed, backbone=recipe.backbone, dropout=DROPOUT, with_head=False
    )
    model = start.fan
    for epoch in (1, recipe.epochs):
        model.backbone.check_image_size(recipe.size(epoch))
    print(f"{start.message}; backbone {model.backbone.name}")
    if file is not None and continue_classifier(model, file, labels, offset):
        print("the classifier starts from the file's, too: its classes are the same")
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    optimizer = adamw(model, recipe.lr)
    schedule = LambdaLR(optimizer, lambda step: one_cycle(min(step / steps / recipe.epochs, 1)))
    average = averaged(model)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    return State(model, optimizer, schedule, compute, model, average)


def continue_classifier(fan: FAN, path: Path, labels: Sequence[str], offset: Tensor) -> bool:
    """Starts the classifier of `fan` from a file's, if that classifies features into the same classes; says whether.

    `offset`, float [C], is what the logits of this training lack. The file's may lack another part of its class shares.
    """
    try:
        trained, info = load_fan(path)
    except CheckpointError:  # `start_from` has read the backbone: the file has no classifier that says its classes
        return False
    own, given = fan.classifier, trained.classifier
    if own.in_features != given.in_features or list(info["labels"]) != list(labels):
        return False
    own.load_state_dict(given.state_dict())
    if info["class_shares"]:
        of_file = Balance.of(info["recipe"]).offset(torch.tensor(info["class_shares"]))
        with torch.no_grad():
            own.bias.add_(torch.nan_to_num(of_file - offset, posinf=0.0, neginf=0.0))
    return True


def balanced_loss(shares: Tensor, balance: Balance) -> Loss:
    """Cross-entropy of logits + tau * log(shares [C]). UsageError: tau is above 0, and a class has no images."""
    if not balance.tau:
        return cross_entropy
    if absent := int((shares <= 0).sum()):
        raise UsageError(f"--balance {balance.tau:g}: {absent} of {len(shares)} classes have no training images")
    offset = balance.offset(shares)

    def loss(output: FANOutput, batch: Batch) -> Tensor:
        return F.cross_entropy(output.logits + offset.to(output.logits.device), batch["labels"])

    return loss


def adamw(model: nn.Module, lr: float) -> torch.optim.AdamW:
    """AdamW whose weight decay spares biases and batch-norm parameters; `lr` is the highest learning rate."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


def one_cycle(done: float) -> float:
    """A factor on the learning rate, where a share of all steps is done.

    A cosine from 0.1 up to 1 over a fifth of the steps, then a cosine down to 0.001.
    """
    begin, end, position = (0.1, 1.0, done / 0.2) if done < 0.2 else (1.0, 0.001, (done - 0.2) / 0.8)
    return end + (begin - end) * (1 + float(np.cos(np.pi * position))) / 2


def averaged(model: nn.Module, decay: float = AVERAGE) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics.

    It starts fast: after n steps the decay is min(decay, (1 + n) / (10 + n)).
    """

    def update(averages: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        steps = int(steps)
        weight = 1 - min(decay, (1 + steps) / (10 + steps))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), weight)
            else:
                average.copy_(value)  # batch counters

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def published_file(network: FAN, checkpoint: dict[str, Any], *, half: bool) -> dict[str, Any]:
    """The published format (`state_dict` behind `module.`, with the backbone's own classifier) and its origin."""
    copied = ("epoch", "labels", "class_shares", "image_size", "dataset", "recipe")
    return {
        "state_dict": to_published(network, half=half),
        "arch": network.backbone.name,
        "best_prec1": 100 * checkpoint["metrics"]["accuracy"],
        **{name: checkpoint[name] for name in copied},
    }
