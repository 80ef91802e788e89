"""Trains the backbone that FAN starts from: ResNet18 on FER+, written in the published format.

examples:
  make the backbone from random weights           python Pretrain_FERPlus.py --data-root Data/FERPlus
  on a laptop, at a smaller input                 python Pretrain_FERPlus.py --image-size 64 --epochs 16
  start from MS-Celeb-1M weights                  python Pretrain_FERPlus.py
                                                     --pretrained pretrain_model/Resnet18_MS1M_pytorch.pth.tar
  more faces, stronger augmentation               python Pretrain_FERPlus.py --extra Data/Faces --balance 1 --vary
  one network from the answers of several         python Pretrain_FERPlus.py --teachers one.pth.tar other.pth.tar
  any labeled faces, or identities                python Pretrain_FERPlus.py --dataset folders --data-root TREE
  measure a file on the private test              python Pretrain_FERPlus.py -e
                                                     --checkpoint pretrain_model/Resnet18_FER+_open.pth.tar
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Code.common.commandline import (
    add_device,
    count,
    from_zero,
    image_side,
    number,
    positive,
    run_script,
    script_parser,
    seed,
    share,
)
from Code.common.conventions import FERPLUS_LABELS, IMAGE_SIZE
from Code.common.errors import UsageError
from Code.common.wording import counted
from Code.data.readers.ferplus import LABEL_MODES, read_ferplus
from Code.training.launch import MACHINE_FLAGS, parse, resume_command

if TYPE_CHECKING:  # imported in the functions: torch takes seconds, and `--help` shall not
    from torch import Tensor

    from Code.data.loaders import Store, TrainingBatches
    from Code.data.readers.ferplus import FERPlusSplit
    from Code.network.fan import FAN
    from Code.training.compute import Compute
    from Code.training.engine import EvaluationSplit, Transform
    from Code.training.losses import Loss

MS1M_FILE = Path("pretrain_model/Resnet18_MS1M_pytorch.pth.tar")
FERPLUS_FILE = Path("pretrain_model/Resnet18_FER+_pytorch.pth.tar")
OTHER_FILE = "pretrain_model/{}_FER+.pth.tar"
FOLDERS_FILE = "{}_folders_pytorch.pth.tar"
DATASET, FOLDERS = "ferplus", "folders"
PICTURES = "pictures"  # what runs and files of --dataset folders say; "folders" are clips there


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        choices=(DATASET, FOLDERS),
        default=DATASET,
        help="FER+, or folders: labeled face crops, of emotions or identities, <root>/<Class>/<image>",
    )
    data.add_argument(
        "--data-root",
        type=Path,
        default=Path("Data/FERPlus"),
        metavar="DIR",
        help="holds fer2013new.csv and either fer2013.csv or the folders FER2013Train, FER2013Valid, FER2013Test; "
        "of folders: a folder per class, or train and val with a folder per class each",
    )
    data.add_argument(
        "--extra",
        nargs="+",
        default=[],
        metavar="DIR",
        help="more faces beside FER+: <emotion>/<image>, and unlabeled/<image> for --teachers",
    )
    data.add_argument(
        "--data-list", metavar="FILE", help="of folders: a CSV file with the columns path, label, split[, person]"
    )
    data.add_argument(
        "--val-share",
        type=share,
        default=0.1,
        metavar="S",
        help="of folders: share to hold out, if nothing else splits",
    )
    data.add_argument(
        "--person-pattern", metavar="REGEX", help="of folders: finds the person in a name such as Happy/anna_03.jpg"
    )
    data.add_argument(
        "--label-mode",
        choices=LABEL_MODES,
        default="crossentropy",
        help="how ten votes become a target (FER+ paper)",
    )
    start = parser.add_argument_group("network")
    start.add_argument(
        "--pretrained",
        metavar="PATH|none",
        help=f"weights to start from: ImageNet, MS-Celeb-1M or FER+ (default: {MS1M_FILE} if it is there, else none)",
    )
    start.add_argument(
        "--backbone",
        metavar="NAME",
        help="a classification network of torchvision, such as resnet50 (default: that of the weights, or resnet18)",
    )
    start.add_argument("--image-size", type=image_side, default=IMAGE_SIZE, metavar="PIXELS", help="side of the input")
    start.add_argument(
        "--small-size",
        type=count,
        default=0,
        metavar="PIXELS",
        help="side of the input in the first --small-epochs; 0: none",
    )
    start.add_argument("--small-epochs", type=count, default=0, metavar="N", help="epochs at --small-size")
    recipe = parser.add_argument_group("training")
    recipe.add_argument("--epochs", type=positive, default=40, metavar="N", help="number of epochs")
    recipe.add_argument("--batch-size", type=positive, default=128, metavar="N", help="images per step")
    recipe.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw", help="the optimizer")
    recipe.add_argument(
        "--lr",
        "--learning-rate",
        type=from_zero,
        default=2e-3,
        metavar="RATE",
        help="highest learning rate, of a one-cycle schedule",
    )
    recipe.add_argument(
        "--weight-decay", "--wd", type=from_zero, default=0.05, metavar="W", help="of weights, not biases"
    )
    recipe.add_argument("--dropout", type=share, default=0.2, metavar="P", help="before the classifier")
    recipe.add_argument(
        "--average", type=share, default=0.998, metavar="DECAY", help="exponential weight averaging; 0: none"
    )
    recipe.add_argument(
        "--balance",
        type=from_zero,
        default=0.0,
        metavar="TAU",
        help="how much of the class shares to keep out of the network: 0 nothing, 1 all (logit-adjusted loss)",
    )
    recipe.add_argument(
        "--balance-floor", type=share, default=0.0, metavar="S", help="rarer classes count as this share in --balance"
    )
    recipe.add_argument(
        "--teachers",
        nargs="+",
        default=[],
        metavar="FILE",
        help="networks of the same classes whose mean answers become the targets (distillation)",
    )
    recipe.add_argument(
        "--votes", type=number(0, 1), default=0.5, metavar="S", help="weight of the labels beside --teachers"
    )
    recipe.add_argument(
        "--vary",
        action="store_true",
        help="stronger augmentation, as in videos: JPEG, blur, low resolution, light, color, wider crops",
    )
    recipe.add_argument(
        "--mix", type=share, default=0.0, metavar="SHARE", help="share of the steps with mixup or CutMix"
    )
    recipe.add_argument(
        "--no-augmentation",
        action="store_true",
        help="only flip the images, to measure what the other augmentation brings",
    )
    recipe.add_argument("--seed", type=seed, default=0, metavar="N", help="of weights, order and augmentation")
    run = parser.add_argument_group("run")
    run.add_argument(
        "-e", "--evaluate", action="store_true", help="evaluate --checkpoint on the private test instead of training"
    )
    run.add_argument(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help=f"of -e (default: {FERPLUS_FILE}, or the file that ships with the project)",
    )
    run.add_argument(
        "--export",
        type=Path,
        metavar="PATH",
        help=f"file to write at the end (default: {FERPLUS_FILE}; of another backbone {OTHER_FILE.format('NAME')}; of "
        "--dataset folders in the run's folder)",
    )
    run.add_argument("--half", action="store_true", help="write the file in half precision: 22 MB instead of 45")
    run.add_argument(
        "--output", type=Path, default=Path("model"), metavar="DIR", help="parent of the folder of the run"
    )
    run.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume the run in this folder, as if it had not been interrupted",
    )
    run.add_argument(
        "--checkpoint-every",
        type=from_zero,
        default=15.0,
        metavar="MINUTES",
        help="save inside long epochs, too; fractions allowed, 0: only after each epoch",
    )
    run.add_argument("--workers", type=count, metavar="N", help="of folders: processes that load pictures")
    run.add_argument(
        "--cache",
        choices=("auto", "none", "disk", "device"),
        default="auto",
        help="of folders: where decoded pictures are kept",
    )
    run.add_argument(
        "--cache-dir", type=Path, default=Path("Data/Cache"), metavar="DIR", help="folder of the files of --cache disk"
    )
    add_device(run)
    run.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto", help="of the backbone")
    run.add_argument(
        "--print-freq", "-p", type=count, default=0, metavar="N", help="print the loss every N steps; 0: never"
    )
    return parser


def images_split(split: FERPlusSplit, size: int, labels: str = "majority") -> EvaluationSplit:
    """Images to evaluate at an input side, in pixels; `labels` as in `evaluation_table`."""
    from Code.data.augment import PlainFrames
    from Code.data.loaders import EvaluationBatches
    from Code.data.readers.ferplus import plurality_table, table_of
    from Code.training.engine import EvaluationSplit

    table, store = plurality_table(split) if labels == "plurality" else table_of(split, labels)
    return EvaluationSplit(EvaluationBatches(table, store, batch_frames=256), PlainFrames(size))


def report_test(model: FAN, splits: dict[str, FERPlusSplit], size: int, compute: Compute) -> None:
    """Prints the accuracy on the private test, as published with a majority label, and for every image."""
    from Code.training.engine import evaluate_split, summary

    test = splits["PrivateTest"]
    metrics, _ = evaluate_split(model, images_split(test, size), compute)
    print(f"private test, majority label, 8 classes: {summary(metrics)}")
    for label, recall in zip(FERPLUS_LABELS, metrics["per_class_recall"], strict=True):
        print(f"  recall {label:<10} " + ("-" if recall is None else f"{100 * recall:5.1f} %"))
    print("  confusion (rows true): " + " ".join(str(row) for row in metrics["confusion"]))
    metrics, _ = evaluate_split(model, images_split(test, size, "plurality"), compute)
    print(f"private test, most voted label, no majority needed: {summary(metrics)}")


def evaluate_file(args: argparse.Namespace, compute: Compute) -> int:
    """`-e`: evaluates a file of the published format on the private test."""
    import torch

    from Code.network.pretrained import load_fan
    from Code.network.weights import starting_file

    fan, info = load_fan(args.checkpoint or starting_file(None) or FERPLUS_FILE)
    if tuple(info["labels"]) != FERPLUS_LABELS:
        raise UsageError(f"--checkpoint {info['path']}: its labels are {', '.join(info['labels'])}, not those of FER+")
    size = info["image_size"]
    print(f"{info['path']}: {info['kind']}, {info['backbone']}, {size} x {size} pixels")
    fan.to(compute.device, memory_format=torch.channels_last)
    report_test(fan, read_ferplus(args.data_root), size, compute)
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
    import torch
    import torch.nn.functional as F

    from Code.data.extra_faces import MAX_SIDE, JoinedStore, read_extra, with_extra
    from Code.data.loaders import ArrayStore, TrainingBatches
    from Code.data.readers.ferplus import SIDE, table_of
    from Code.training.balance import Balance, balanced_loss, class_shares
    from Code.training.losses import any_label

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
        """Probability mode: an image's label is drawn from its shares, anew every epoch."""
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
    from Code.data.augment import PlainFrames
    from Code.data.loaders import EvaluationBatches, FrameTable
    from Code.data.readers.picture_folders import read_picture_folders
    from Code.training.balance import Balance, balanced_loss, class_shares
    from Code.training.engine import EvaluationSplit
    from Code.training.frames import batch_frames, open_frames

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
    import torch

    from Code.data.augment import FaceAugmentation, PlainFrames
    from Code.data.face_variation import Mixing, VariedFaces
    from Code.network.attention import ScoreFusion
    from Code.network.backbone import DEFAULT_BACKBONE
    from Code.network.checkpoints import save_atomically
    from Code.network.pretrained import load_fan
    from Code.network.weights import start_from
    from Code.results.report import write_report
    from Code.training.balance import class_shares
    from Code.training.engine import evaluate_split, summary
    from Code.training.launch import plain, remember_folder
    from Code.training.metrics import MANY_CLASSES
    from Code.training.run_folder import LAST, Run, check_space, checkpoint_bytes, newest_whole
    from Code.training.teachers import kept_answers, taught
    from Code.training.trainer import Training, averaged, conclude, load_weights, one_cycle, per_step, run_training

    splits = read_ferplus(args.data_root) if args.dataset == DATASET else {}
    data = ferplus_material(args, splits) if splits else folders_material(args, compute)
    batches, table = data.batches, data.batches.table
    labels, dataset = table.labels, DATASET if splits else PICTURES

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
    model.to(compute.device, memory_format=torch.channels_last)

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
        val_transform=lambda epoch: PlainFrames(size_of(epoch)),
        checkpoint_every=args.checkpoint_every,
    )
    check_space(args.resume or args.output, checkpoint_bytes(model) * (2 if args.average else 1))
    run = Run(args.resume) if args.resume else Run.create(args.output, dataset, ScoreFusion.at_type)
    run.clear_leftovers()
    if (run.folder / LAST).is_file():
        training.resume(newest_whole(run.folder))
    elif not args.resume:
        run.write_arguments(plain(args), {}, compute)
    run.begin_log(training.lines)
    remember_folder(run.folder)
    shares = class_shares(table.targets, len(labels))
    if args.teachers:
        answers = run.folder / "teachers.npz"
        print(f"{counted(len(args.teachers), 'teacher')} for {len(table)} faces; answers: {answers}", flush=True)
        teaching = kept_answers(answers, args.teachers, table, data.store, shares, compute)
        table.targets = taught(table.targets, teaching, args.votes)
    run_training(training, run)

    conclude(training, run, data.test)
    # The last epoch is exported: the learning rate has come down there, and no split chose it.
    checkpoint = load_weights(model, run.folder / "last.pth")
    if splits:
        of_other = Path(OTHER_FILE.format(model.backbone.name))
        usual = FERPLUS_FILE if model.backbone.name == DEFAULT_BACKBONE else of_other
    else:
        usual = run.folder / FOLDERS_FILE.format(model.backbone.name)
    export = args.export or usual
    save_atomically(published_file(model, args, dataset, labels, shares, checkpoint), export)
    print(f"wrote {export}; everything else is in {run.folder}")
    fan, _ = load_fan(export)
    fan.to(compute.device, memory_format=torch.channels_last)
    if splits:
        report_test(fan, splits, args.image_size, compute)
    else:
        data.val.transform = PlainFrames(args.image_size)
        print(f"validation, {len(labels)} classes: {summary(evaluate_split(fan, data.val, compute)[0])}")
        print(f"FER+ from these weights:  python Pretrain_FERPlus.py --pretrained {export}")
        print(f"FAN from these weights:   python Demo_AFEW_Attention.py --pretrained {export}")
    run.close()
    if len(labels) <= MANY_CLASSES:  # a report has a row per class
        print(f"see {write_report(run.folder)}")
    return 0


def published_file(
    model: FAN,
    args: argparse.Namespace,
    dataset: str,
    labels: Sequence[str],
    shares: Tensor,
    checkpoint: dict[str, Any],
) -> dict[str, Any]:
    """The published format (`state_dict` behind `module.`, with the backbone's own classifier) and its origin.

    Args:
        shares: float [C], how often the training set shows each class; `--balance` keeps a part of it out.
        checkpoint: of the run.
    """
    from Code.network.weights import to_published

    return {
        "state_dict": to_published(model, half=args.half),
        "arch": model.backbone.name,
        "epoch": checkpoint["epoch"],
        "best_prec1": 100 * checkpoint["metrics"]["accuracy"],
        "labels": list(labels),
        "class_shares": shares.tolist(),
        "image_size": args.image_size,
        "dataset": dataset,
        "recipe": {
            name: str(value)
            for name, value in vars(args).items()
            if value not in (None, []) and name not in {*MACHINE_FLAGS, "data_root", "data_list", "export"}
        },
    }


def check_flags(args: argparse.Namespace) -> None:
    """Refuses flags that do not go together."""
    if args.dataset == FOLDERS and args.evaluate:
        raise UsageError("-e: evaluates FER+ networks; a run of --dataset folders evaluates itself at its end")
    for name in ("extra", "teachers"):
        if args.dataset == FOLDERS and getattr(args, name):
            raise UsageError(f"--{name}: goes with --dataset {DATASET} only")
    if args.teachers and args.label_mode in ("probability", "multitarget"):
        raise UsageError(f"--teachers: does not go with --label-mode {args.label_mode}; use crossentropy or majority")
    if args.balance and args.label_mode == "multitarget":
        raise UsageError("--balance: does not go with --label-mode multitarget, whose loss is another one")
    if args.no_augmentation and (args.vary or args.mix):
        raise UsageError("--no-augmentation: does not go with --vary and --mix")


def check_files(args: argparse.Namespace) -> None:
    """Looks for the files that the flags name."""
    for path in () if args.resume else args.teachers:  # a run to resume may have kept their answers
        if not Path(path).exists():
            raise UsageError(f"--teachers {path}: no such file")
    if args.dataset == DATASET and not args.data_root.is_dir():
        read_ferplus(args.data_root)  # raises: how to get FER+ and where to put it
    for flag, path in (("--checkpoint", args.checkpoint), ("--pretrained", args.pretrained)):
        if path and str(path).lower() != "none" and not Path(path).exists():
            raise UsageError(
                f"{flag} {path}: no such file; see pretrain_model/README.md, or start with --pretrained none"
            )


def main() -> int:
    """Checks the command line and the files it names, then imports torch, which takes seconds."""
    args = parse(build_parser())
    check_flags(args)
    check_files(args)

    from Code.common.machine import keep_freed_memory
    from Code.training.compute import choose_compute
    from Code.training.stopping import listening

    keep_freed_memory()
    compute = choose_compute(args.device, args.precision)
    with listening():
        return evaluate_file(args, compute) if args.evaluate else train(args, compute)


if __name__ == "__main__":
    sys.exit(run_script(main, resume_command))
