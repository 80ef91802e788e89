"""Pretraining of a backbone as a classifier of single faces; `Pretrain_FERPlus.py` only parses the flags.

The images are those of FER+, more faces in addition to them, or any labeled pictures. `Code.training.trainer` trains on
them as clips of one frame. The result is a file in the published format.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.device import Compute
from ..common.errors import UsageError
from ..common.files import remove_leftovers
from ..common.names import FERPLUS_FILE, FERPLUS_LABELS, FOLDERS_FILE, MS1M_FILE, OTHER_FILE
from ..common.wording import counted
from ..data.augment import FaceAugmentation, PlainFrames
from ..data.loaders import EvaluationBatches, TrainingBatches
from ..data.stores import ArrayStore, FrameTable, Store
from ..network.attention import ScoreFusion
from ..network.backbone import DEFAULT_BACKBONE
from ..network.checkpoints import CheckpointError, save_atomically
from ..network.fan import FAN
from ..network.pretrained import load_fan
from ..network.prior import Balance, balanced_loss, class_shares
from ..network.weights import start_from, starting_file, to_published
from ..readers.ferplus import SIDE, FERPlusSplit, plurality_table, read_ferplus, table_of
from ..results.report import write_report
from ..training.engine import EvaluationSplit, Transform, evaluate_split, summary
from ..training.frames import batch_frames, open_frames
from ..training.launch import MACHINE_FLAGS, plain, remember_folder
from ..training.losses import Loss, any_label
from ..training.metrics import MANY_CLASSES
from ..training.run_folder import LAST, Run, check_space, checkpoint_bytes, newest_whole
from ..training.run_places import new_run, writer_of
from ..training.schedules import averaged, one_cycle, per_step
from ..training.trainer import Training, conclude, load_weights, run_training
from .extra_faces import MAX_SIDE, JoinedStore, read_extra, with_extra
from .face_variation import Mixing, VariedFaces
from .pictures import read_picture_folders
from .teachers import kept_answers, taught

FERPLUS = "ferplus"
PICTURES = "pictures"  # the dataset of `--dataset folders` in runs and files; "folders" are clips there


def images_split(split: FERPlusSplit, size: int, labels: str = "majority") -> EvaluationSplit:
    """Images to evaluate at an input side, in pixels; by majority, or by plurality: the most voted label."""
    table, store = plurality_table(split) if labels == "plurality" else table_of(split, labels)
    return EvaluationSplit(EvaluationBatches(table, store, batch_frames=256), PlainFrames(size))


def report_test(fan: FAN, info: dict[str, Any], splits: dict[str, FERPlusSplit], compute: Compute) -> None:
    """Prints the accuracy on the private test, as published with a majority label, and for every image.

    A network that was trained with `--balance` is evaluated twice: as it is, and with the class shares of its training
    set put back. Published figures are of networks that know them.

    Args:
        fan, info: from `load_fan`.
    """
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    _print_test(fan, splits, info["image_size"], compute)
    balance = Balance.of(info["recipe"])
    if balance.tau and info["class_shares"]:
        classifier = getattr(fan.head, fan.head.classifier)
        with torch.no_grad():
            classifier.bias += balance.offset(torch.tensor(info["class_shares"])).to(classifier.bias)
        print("the same with the class shares of the training set, which --balance has kept out:")
        _print_test(fan, splits, info["image_size"], compute)


def _print_test(fan: FAN, splits: dict[str, FERPlusSplit], size: int, compute: Compute) -> None:
    test = splits["PrivateTest"]
    metrics, _ = evaluate_split(fan, images_split(test, size), compute)
    print(f"private test, majority label, 8 classes: {summary(metrics)}")
    for label, recall in zip(FERPLUS_LABELS, metrics["per_class_recall"], strict=True):
        print(f"  recall {label:<10} " + ("-" if recall is None else f"{100 * recall:5.1f} %"))
    print("  confusion (rows true): " + " ".join(str(row) for row in metrics["confusion"]))
    metrics, _ = evaluate_split(fan, images_split(test, size, "plurality"), compute)
    print(f"private test, most voted label, no majority needed: {summary(metrics)}")


def evaluate_file(args: argparse.Namespace, compute: Compute) -> int:
    """`-e`: evaluates a file of the published format on the private test."""
    fan, info = load_fan(args.checkpoint or starting_file(None) or FERPLUS_FILE)
    if tuple(info["labels"]) != FERPLUS_LABELS:
        raise UsageError(f"--checkpoint {info['path']}: its labels are {', '.join(info['labels'])}, not those of FER+")
    size = info["image_size"]
    print(f"{info['path']}: {info['kind']}, {info['backbone']}, {size} x {size} pixels")
    report_test(fan, info, read_ferplus(args.data_root), compute)
    return 0


@dataclass
class Material:
    """What to train on, and what to evaluate on.

    Attributes:
        batches: of single pictures, with class indices or class probabilities as targets.
        store: their pixels.
        val: evaluated after every epoch.
        test: evaluated at the end, for results.json.
        loss: of the training.
        before_epoch: called before each epoch, or None.
    """

    batches: TrainingBatches
    store: Store
    val: EvaluationSplit
    test: EvaluationSplit
    loss: Loss
    before_epoch: Callable[[int], None] | None = None


def ferplus_material(args: argparse.Namespace, splits: dict[str, FERPlusSplit]) -> Material:
    """FER+, and the faces of `--extra`."""
    table, pixels = table_of(splits["Training"], args.label_mode)
    store: Store = pixels
    print(f"FER+: {len(table)} training images by label mode {args.label_mode}, of {len(splits['Training'].names)}")
    if table.targets.ndim == 1 and (args.extra or args.teachers):
        table.targets = F.one_hot(table.targets, len(FERPLUS_LABELS)).float()
    if args.extra:
        side = min(max(args.image_size, SIDE), MAX_SIDE)
        extra = read_extra(args.extra, FERPLUS_LABELS, side)
        keep = extra.labeled | bool(args.teachers)
        kept, labeled = int(keep.sum()), int(extra.labeled.sum())
        print(f"extra: {labeled} labeled and {kept - labeled} unlabeled faces from {', '.join(args.extra)}")
        store = JoinedStore([store, ArrayStore(extra.images[keep.numpy()])], [len(table), kept], side)
        table = with_extra(table, extra, keep)
    batches = TrainingBatches(table, store, num_frames=1, batch_size=args.batch_size, seed=args.seed)
    shares = table.targets

    def draw_labels(epoch: int) -> None:
        """Probability mode: an image's label is drawn from its shares, again in every epoch."""
        generator = torch.Generator().manual_seed((args.seed << 20) + epoch)
        table.targets = torch.multinomial(shares, 1, generator=generator)[:, 0]

    balance = Balance(args.balance, args.balance_floor)
    return Material(
        batches,
        store,
        val=images_split(splits["PublicTest"], args.image_size),
        test=images_split(splits["PrivateTest"], args.image_size),
        loss=any_label
        if args.label_mode == "multitarget"
        else balanced_loss(class_shares(shares, len(FERPLUS_LABELS)), balance),
        before_epoch=draw_labels if args.label_mode == "probability" else None,
    )


def folders_material(args: argparse.Namespace, compute: Compute) -> Material:
    """Any labeled pictures, a folder per class."""
    split = read_picture_folders(
        args.data_root,
        list_file=args.data_list,
        share=args.val_share,
        seed=args.seed,
        person_pattern=args.person_pattern,
    )
    print(
        f"{args.data_root}: {len(split.train.clips)} training and {len(split.val.clips)} validation pictures of "
        f"{len(split.train.labels)} classes ({split.how})"
    )
    frames = open_frames(
        [split.train, split.val],
        args.image_size,
        compute,
        cache=args.cache,
        cache_dir=args.cache_dir,
        workers=args.workers,
        training_batch=args.batch_size,
    )
    train, val = frames.stores
    batches = frames.training_batches(split.train, train, num_frames=1, batch_size=args.batch_size, seed=args.seed)
    held = EvaluationSplit(
        EvaluationBatches(FrameTable.of(split.val), val, batch_frames=batch_frames(compute), **frames.loading),
        PlainFrames(args.image_size),
    )
    shares = class_shares(batches.table.targets, len(split.train.labels))
    return Material(batches, train, held, held, balanced_loss(shares, Balance(args.balance, args.balance_floor)))


def train(args: argparse.Namespace, compute: Compute) -> int:
    """Trains, evaluates and writes the file."""
    with nullcontext() if args.resume is None else writer_of(args.resume):
        return _train(args, compute)


def _train(args: argparse.Namespace, compute: Compute) -> int:
    splits = read_ferplus(args.data_root) if args.dataset == FERPLUS else {}
    data = ferplus_material(args, splits) if splits else folders_material(args, compute)
    batches, table = data.batches, data.batches.table
    labels, dataset = table.labels, FERPLUS if splits else PICTURES

    of_resnet18 = args.backbone in (None, DEFAULT_BACKBONE) and bool(splits)
    pretrained = args.pretrained or (str(MS1M_FILE) if MS1M_FILE.exists() and of_resnet18 else "none")
    start = start_from(
        None if pretrained.lower() == "none" else Path(pretrained),
        ScoreFusion.at_type,
        labels,
        seed=args.seed,
        backbone=args.backbone,
        dropout=args.dropout,
        with_head=False,
    )
    model = start.fan
    for size in {args.image_size, args.small_size or args.image_size}:
        model.backbone.check_image_size(size)
    print(f"{start.message}; backbone {model.backbone.name}")
    shares = class_shares(table.targets, len(labels))
    if start.image_size is not None and continues_classifier(model, pretrained, labels, offset_of(args, shares)):
        print("the classifier starts from the file's, too: its classes are the same")
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs

    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if args.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=args.lr, momentum=0.9, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(groups, lr=args.lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, per_step(one_cycle(args.epochs), len(batches)))

    mixing = Mixing(args.mix) if args.mix else None

    def size_of(epoch: int) -> int:
        return args.small_size if args.small_size and epoch <= args.small_epochs else args.image_size

    def transform(epoch: int) -> Transform:
        size = size_of(epoch)
        if args.no_augmentation:
            return FaceAugmentation(size, roll=0, scale=0, shift=0, contrast=0, brightness=0, erase=0)
        varied = VariedFaces(size) if args.vary else FaceAugmentation(size)
        return mixing.frames(varied) if mixing else varied

    training = Training(
        model=model,
        train=batches,
        val=data.val,
        optimizer=optimizer,
        scheduler=scheduler,
        compute=compute,
        transform=transform,
        epochs=args.epochs,
        seed=args.seed,
        labels=labels,
        image_size=args.image_size,
        dataset=dataset,
        protocol={"label_mode": args.label_mode} if splits else {},
        loss_function=mixing.loss(data.loss) if mixing else data.loss,
        average=averaged(model, args.average) if args.average else None,
        before_epoch=data.before_epoch,
        print_freq=args.print_freq,
        size_of=size_of,
        prior={"class_shares": shares.tolist(), "recipe": recipe_of(args, pretrained)},
        checkpoint_every=args.checkpoint_every,
    )
    check_space(args.resume or args.output, checkpoint_bytes(model) * (2 if args.average else 1))
    with nullcontext(Run(args.resume)) if args.resume else new_run(args.output, dataset, "backbone") as run:
        run.clear_leftovers()
        if (run.folder / LAST).is_file():
            training.resume(newest_whole(run.folder))
        elif not args.resume:
            run.write_arguments(plain(args), {"pretrained": pretrained, "backbone": model.backbone.name}, compute)
        run.begin_log(training.lines)
        remember_folder(run.folder)
        if args.teachers:
            answers = run.folder / "teachers.npz"
            print(f"{counted(len(args.teachers), 'teacher')} for {len(table)} faces; answers: {answers}", flush=True)
            teaching = kept_answers(answers, args.teachers, table, data.store, shares, compute)
            table.targets = taught(table.targets, teaching, args.votes)
        run_training(training, run)
        chosen_on = "the validation images" if splits else "the evaluated pictures"
        conclude(training, run, data.test, {"selected_on": f"best on {chosen_on}"})
        return finish(args, run, training, data, splits, compute)


def offset_of(args: argparse.Namespace, shares: Tensor) -> Tensor:
    """What `--balance` keeps out of the logits, float [C]."""
    return Balance(args.balance, args.balance_floor).offset(shares)


def continues_classifier(fan: FAN, path: str, labels: Sequence[str], offset: Tensor) -> bool:
    """Starts the classifier from a file's, if that is a frame classifier of the same classes; says whether it is.

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
    if trained.at_type != fan.at_type or list(info["labels"]) != list(labels):
        return False
    own, given = (getattr(network.head, network.head.classifier) for network in (fan, trained))
    own.load_state_dict(given.state_dict())
    if info["class_shares"]:
        theirs = Balance.of(info["recipe"]).offset(torch.tensor(info["class_shares"]))
        with torch.no_grad():
            own.bias += torch.nan_to_num(theirs - offset, posinf=0.0, neginf=0.0)
    return True


def finish(
    args: argparse.Namespace,
    run: Run,
    training: Training,
    data: Material,
    splits: dict[str, FERPlusSplit],
    compute: Compute,
) -> int:
    """Exports the backbone, evaluates the file, and writes the report."""
    model, labels = training.model, training.labels
    # The last epoch is exported: the learning rate has come down there, and no split chose it.
    checkpoint = load_weights(model, run.folder / "last.pth") | (training.prior or {})
    if splits:
        of_other = Path(OTHER_FILE.format(model.backbone.name))
        usual = FERPLUS_FILE if model.backbone.name == DEFAULT_BACKBONE else of_other
    else:
        usual = run.folder / FOLDERS_FILE.format(model.backbone.name)
    export = args.export or usual
    remove_leftovers(export.parent, export.name.__eq__)  # of a process that was killed while it wrote the file
    save_atomically(published_file(model, checkpoint, half=args.half), export)
    print(f"wrote {export}; everything else is in {run.folder}")
    fan, info = load_fan(export)
    if splits:
        report_test(fan, info, splits, compute)
    else:
        fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as above
        data.val.transform = PlainFrames(info["image_size"])
        print(f"validation, {len(labels)} classes: {summary(evaluate_split(fan, data.val, compute)[0])}")
        print(f"FER+ from these weights:  python Pretrain_FERPlus.py --pretrained {export}")
        print(f"FAN from these weights:   python Demo_AFEW_Attention.py --pretrained {export}")
    run.close()
    if len(labels) <= MANY_CLASSES:  # a report has a row per class
        print(f"see {write_report(run.folder)}")
    return 0


def published_file(model: FAN, checkpoint: dict[str, Any], *, half: bool) -> dict[str, Any]:
    """The published format (`state_dict` behind `module.`, with the backbone's own classifier) and its origin.

    Args:
        model: with the weights of the checkpoint.
        checkpoint: of the run. The file says what it says.
        half: in half precision.
    """
    said = ("epoch", "labels", "class_shares", "image_size", "dataset", "recipe")
    return {
        "state_dict": to_published(model, half=half),
        "arch": model.backbone.name,
        "best_prec1": 100 * checkpoint["metrics"]["accuracy"],
        **{name: checkpoint[name] for name in said},
    }


def recipe_of(args: argparse.Namespace, pretrained: str) -> dict[str, str]:
    """The flags that made a network, with the names of files and folders, not with where they are on this machine.

    Args:
        pretrained: the file that it started from, or "none".
    """
    return {
        name: " ".join(Path(place).name for place in value) if name in ("teachers", "extra") else str(value)
        for name, value in {**vars(args), "pretrained": Path(pretrained).name}.items()
        if value not in (None, []) and name not in {*MACHINE_FLAGS, "data_root", "data_list", "export"}
    }
