"""Pretraining of a backbone as a classifier of single faces: FER+ with more faces, or any labeled pictures.

The pictures are clips of one frame. The result is a file in the published format, from which FAN starts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.device import Compute
from ..common.names import FERPLUS_FILE, FOLDERS_FILE, MS1M_FILE, OTHER_FILE, counted
from ..data.augment import PlainFrames
from ..data.batches import FrameTable, Loading, Store, TrainingBatches, open_stores
from ..network.attention import ScoreFusion
from ..network.backbone import DEFAULT_BACKBONE
from ..network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from ..network.fan import FAN
from ..network.prior import Balance, class_shares
from ..network.start import start_from
from ..network.weights import load_fan, to_published
from ..readers.ferplus import SIDE, FERPlusSplit, read_ferplus
from ..results.report import write_report
from ..training.loops import EvaluationSplit, epoch_line, evaluate_split, summary, train_one_epoch
from ..training.metrics import MANY_CLASSES
from ..training.resume import resumable
from ..training.run import BEST, LAST, Run, State, check_resumable, load_weights, open_run
from ..training.stopping import deferred_signals, stop_if_asked
from ..training.train import log_line, write_results
from .face_variation import FaceAugmentation, VariedFaces
from .faces import MAX_SIDE, ferplus_faces, joined, read_extra
from .ferplus_accuracy import ferplus_split, report_test
from .mixing import Mixing
from .optimization import adamw, averaged, balanced_loss, one_cycle
from .pictures import read_pictures
from .recipe import FERPLUS, Recipe
from .teachers import read_answers, save_answers, taught, teachers_answers

DROPOUT = 0.2  # before the classifier
PICTURES = "pictures"  # the dataset of `--dataset folders` in runs and files; "folders" are clips there
TEACHERS = "teachers.npz"  # in the folder of a run


@dataclass
class Material:
    """What to train on, and what to evaluate on: `val` after every epoch, `test` at the end."""

    dataset: str
    table: FrameTable  # targets are class indices, or class probabilities
    store: Store
    val: EvaluationSplit
    test: EvaluationSplit
    loading: Loading

    def batches(self, recipe: Recipe) -> TrainingBatches:
        """Batches of the training pictures."""
        return TrainingBatches(
            self.table, self.store, num_frames=1, batch_size=recipe.batch_size, seed=recipe.seed, loading=self.loading
        )


def ferplus_material(recipe: Recipe, splits: dict[str, FERPlusSplit]) -> Material:
    """FER+, and the faces of `--extra`. Faces without a label need teachers."""
    training = splits["Training"]
    copies = training.copies_of(splits["PublicTest"], splits["PrivateTest"])
    faces = ferplus_faces(training.only(~copies), "votes")
    print(
        f"FER+: {len(faces)} training images of {len(training.names)}, labeled by their votes; {copies.sum()} are left "
        "out, since they are validation or test images, too"
    )
    if recipe.extra:
        extra = read_extra(recipe.extra, min(max(recipe.image_size, SIDE), MAX_SIDE))
        if not recipe.teachers:
            extra = extra.labeled()
        labeled = len(extra.labeled())
        print(f"extra: {labeled} labeled and {len(extra) - labeled} unlabeled faces from {', '.join(recipe.extra)}")
        faces = joined(faces, extra)
    val, test = (ferplus_split(splits[usage], "majority") for usage in ("PublicTest", "PrivateTest"))
    return Material(FERPLUS, faces.table(), faces.store(), val, test, Loading())


def folders_material(recipe: Recipe, compute: Compute, workers: int | None, cache: str | None) -> Material:
    """Any labeled pictures, a folder per class."""
    split = read_pictures(
        recipe.data_root,
        list_file=recipe.data_list,
        share=recipe.val_share,
        seed=recipe.seed,
        person_pattern=recipe.person_pattern,
    )
    print(
        f"{recipe.data_root}: {len(split.train.clips)} training and {len(split.val.clips)} validation pictures of "
        f"{len(split.train.labels)} classes ({split.how})"
    )
    (train, val), loading, _ = open_stores(
        [split.train, split.val], recipe.image_size, compute.device, cache=cache, workers=workers
    )
    evaluated = EvaluationSplit.of(split.val, val, loading, compute)
    return Material(PICTURES, FrameTable.of(split.train), train, evaluated, evaluated, loading)


def start_training(recipe: Recipe, material: Material, pretrained: str, shares: Tensor, compute: Compute) -> State:
    """The network at its start, on the device, with its optimizer. `pretrained` is a file, or "none"."""
    labels, file = material.table.labels, None if pretrained.lower() == "none" else Path(pretrained)
    kind = ScoreFusion.at_type
    start = start_from(file, kind, labels, seed=recipe.seed, backbone=recipe.backbone, dropout=DROPOUT, with_head=False)
    model = start.fan
    for epoch in (1, recipe.epochs):
        model.backbone.check_image_size(recipe.size(epoch))
    print(f"{start.message}; backbone {model.backbone.name}")
    offset = Balance(recipe.balance, recipe.balance_floor).offset(shares)
    if file is not None and start.image_size is not None and continue_classifier(model, file, labels, offset):
        print("the classifier starts from the file's, too: its classes are the same")
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    optimizer = adamw(model, recipe.lr)
    rate, steps = one_cycle(recipe.epochs), len(material.batches(recipe))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / steps))
    average = averaged(model)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    return State(model, optimizer, scheduler, compute.scaler(), average)


def continue_classifier(fan: FAN, path: Path, labels: Sequence[str], offset: Tensor) -> bool:
    """Starts the classifier from a file's, if that classifies single features into the same classes; says whether.

    Args:
        fan: with the backbone of the file already; its classifier is changed in place.
        path: the file. One without a known classifier, such as ImageNet's, gives its backbone alone.
        labels: classes of `fan`, in order.
        offset: float [C], what the logits of this training lack. The file's may lack another part of its class shares.
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


def train_backbone(
    recipe: Recipe,
    compute: Compute,
    *,
    given: dict[str, Any],
    output: Path,
    resume: Path | None = None,
    export: Path | None = None,
    half: bool = False,
    workers: int | None = None,
    cache: str | None = None,
    print_freq: int = 0,
) -> int:
    """Trains, evaluates and writes the file; the arguments are flags of Pretrain_FERPlus.py, `given` all of them."""
    splits = read_ferplus(recipe.data_root) if recipe.dataset == FERPLUS else {}
    material = ferplus_material(recipe, splits) if splits else folders_material(recipe, compute, workers, cache)
    labels = material.table.labels
    shares = class_shares(material.table.targets, len(labels))
    of_resnet18 = recipe.backbone in (None, DEFAULT_BACKBONE)
    usual = str(MS1M_FILE) if splits and of_resnet18 and MS1M_FILE.exists() else "none"
    pretrained = recipe.pretrained or usual
    with open_run(resume, output, f"{material.dataset}_backbone") as run:
        state = start_training(recipe, material, pretrained, shares, compute)
        about = {"class_shares": shares.tolist(), "recipe": recipe.as_published(pretrained)}
        last = run.folder / LAST
        if last.is_file():
            checkpoint = read_checkpoint(last)
            check_resumable(checkpoint, last, labels)
            steps = len(material.batches(recipe))
            state.resume(checkpoint, last, seed=recipe.seed, epochs=recipe.epochs, steps=steps)
            about = {name: checkpoint[name] for name in about}  # what the run started from may be another file by now
        else:
            run.write_arguments(given, {"pretrained": pretrained, "backbone": state.network.backbone.name}, compute)
        run.write_log(state.log)
        with resumable(run.folder), deferred_signals():
            if recipe.teachers:
                material.table = taught_table(recipe, material, shares, run.folder / TEACHERS, compute)
            train_epochs(recipe, material, state, run, shares, about, compute, print_freq)
            conclude(run, state.network, material.test, compute, bool(splits))
        checkpoint = read_checkpoint(last)  # the last epoch: no split chose it
        load_weights(state.network, checkpoint, last)
        name = state.network.backbone.name
        if splits:
            export = export or (FERPLUS_FILE if name == DEFAULT_BACKBONE else Path(OTHER_FILE.format(name)))
        else:
            export = export or run.folder / FOLDERS_FILE.format(name)
        save_atomically(published_file(state.network, checkpoint, half=half), export)
        print(f"wrote {export}; everything else is in {run.folder}")
        report_file(export, splits, material.val, compute)
        if len(labels) <= MANY_CLASSES:  # a report has a row per class
            print(f"see {write_report(run.folder)}")
    return 0


def taught_table(recipe: Recipe, material: Material, shares: Tensor, file: Path, compute: Compute) -> FrameTable:
    """The training pictures with the teachers' answers in their targets. `file` keeps the answers."""
    table = material.table
    print(f"{counted(len(recipe.teachers), 'teacher')} for {len(table)} faces; answers: {file}", flush=True)
    if not file.is_file():
        answers = teachers_answers(
            recipe.teachers, table, material.store, shares, compute, weights=recipe.teacher_weights
        )
        save_answers(answers, file)
    return replace(table, targets=taught(table.targets, read_answers(file, len(table)), recipe.votes))


def train_epochs(
    recipe: Recipe,
    material: Material,
    state: State,
    run: Run,
    shares: Tensor,
    about: dict[str, Any],
    compute: Compute,
    print_freq: int,
) -> None:
    """Trains the epochs that are left; after each, evaluates and writes a line of the log, last.pth and best.pth.

    Args:
        shares: float [C], which `--balance` keeps out of the logits.
        about: entries of every checkpoint.
    """
    batches = material.batches(recipe)
    loss = balanced_loss(shares, Balance(recipe.balance, recipe.balance_floor))
    for epoch in range(state.epoch + 1, recipe.epochs + 1):
        start, size = time.perf_counter(), recipe.size(epoch)
        augment = VariedFaces(size) if recipe.vary else FaceAugmentation(size)
        mixing = Mixing(recipe.mix, augment, loss)
        trained = train_one_epoch(
            state.model,
            batches,
            state.optimizer,
            state.scheduler,
            state.scaler,
            compute=compute,
            transform=mixing.transform if recipe.mix else augment,
            loss_function=mixing.loss if recipe.mix else loss,
            epoch=epoch,
            seed=recipe.seed,
            print_freq=print_freq,
        )
        material.val.transform = PlainFrames(size)
        metrics, evaluation = evaluate_split(state.network, material.val, compute)
        line = log_line(epoch, trained, metrics, evaluation, time.perf_counter() - start)
        grown = bool(state.best) and size != recipe.size(state.best["epoch"])
        best = state.finish_epoch(line, metrics, best=grown)
        of_epoch = {
            "labels": list(material.table.labels),
            "image_size": size,
            "dataset": material.dataset,
            "protocol": {},
            "precision": compute.precision,
            **about,
        }
        run.save_epoch(state, of_epoch, best=best, seed=recipe.seed, epochs=recipe.epochs)
        print(epoch_line(line, recipe.epochs), flush=True)
        stop_if_asked()


def conclude(run: Run, network: FAN, test: EvaluationSplit, compute: Compute, on_ferplus: bool) -> None:
    """Evaluates last.pth and best.pth, each at its size, and writes results.json, and the answers of the best."""
    results: dict[str, dict[str, Any]] = {}
    for which, name in (("last", LAST), ("best", BEST)):
        checkpoint = read_checkpoint(run.folder / name)
        load_weights(network, checkpoint, run.folder / name)
        test.transform = PlainFrames(checkpoint["image_size"])
        metrics, evaluation = evaluate_split(network, test, compute)
        results[which] = {"epoch": checkpoint["epoch"], **metrics}
    chosen_on = "the validation images" if on_ferplus else "the evaluated pictures"
    write_results(run, test, results, evaluation, {"selected_on": f"best on {chosen_on}"})


def published_file(network: FAN, checkpoint: dict[str, Any], *, half: bool) -> dict[str, Any]:
    """The published format (`state_dict` behind `module.`, with the backbone's own classifier) and its origin."""
    copied = ("epoch", "labels", "class_shares", "image_size", "dataset", "recipe")
    return {
        "state_dict": to_published(network, half=half),
        "arch": network.backbone.name,
        "best_prec1": 100 * checkpoint["metrics"]["accuracy"],
        **{name: checkpoint[name] for name in copied},
    }


def report_file(path: Path, splits: dict[str, FERPlusSplit], val: EvaluationSplit, compute: Compute) -> None:
    """Prints the accuracy of a file that was written, and how to go on with it."""
    if splits:
        report_test(path, splits, compute)
        return
    fan, info = load_fan(path)
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    val.transform = PlainFrames(info["image_size"])
    print(f"validation, {len(info['labels'])} classes: {summary(evaluate_split(fan, val, compute)[0])}")
    print(f"FER+ from these weights:  python Pretrain_FERPlus.py --pretrained {path}")
    print(f"FAN from these weights:   python Demo_AFEW_Attention.py --pretrained {path}")
