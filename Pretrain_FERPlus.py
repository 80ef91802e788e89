"""Trains the backbone that FAN starts from: ResNet18 on FER+, written in the published format.

examples:
  make the backbone from random weights           python Pretrain_FERPlus.py --data-root Data/FERPlus
  on a laptop, at a smaller input                 python Pretrain_FERPlus.py --image-size 64 --epochs 16
  start from MS-Celeb-1M weights                  python Pretrain_FERPlus.py
                                                     --pretrained pretrain_model/Resnet18_MS1M_pytorch.pth.tar
  measure a file on the private test              python Pretrain_FERPlus.py -e
                                                     --checkpoint pretrain_model/Resnet18_FER+_open.pth.tar
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Code.common.commandline import (
    add_device,
    count,
    from_zero,
    image_side,
    positive,
    run_script,
    script_parser,
    seed,
    share,
)
from Code.common.conventions import FERPLUS_LABELS, IMAGE_SIZE
from Code.common.errors import UsageError
from Code.data.readers.ferplus import LABEL_MODES, read_ferplus
from Code.training.launch import MACHINE_FLAGS, parse, resume_command

if TYPE_CHECKING:  # imported in the functions: torch takes seconds, and `--help` shall not
    from Code.data.readers.ferplus import FERPlusSplit
    from Code.network.fan import FAN
    from Code.training.compute import Compute
    from Code.training.engine import EvaluationSplit

MS1M_FILE = Path("pretrain_model/Resnet18_MS1M_pytorch.pth.tar")
FERPLUS_FILE = Path("pretrain_model/Resnet18_FER+_pytorch.pth.tar")
OTHER_FILE = "pretrain_model/{}_FER+.pth.tar"
DATASET = "ferplus"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data-root",
        type=Path,
        default=Path("Data/FERPlus"),
        metavar="DIR",
        help="holds fer2013new.csv and either fer2013.csv or the folders FER2013Train, FER2013Valid, FER2013Test",
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
        help=f"file to write at the end (default: {FERPLUS_FILE}; of another backbone {OTHER_FILE.format('NAME')})",
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


def train(args: argparse.Namespace, compute: Compute) -> int:
    """Trains, evaluates and writes the file."""
    import torch

    from Code.data.augment import FaceAugmentation, PlainFrames
    from Code.data.loaders import TrainingBatches
    from Code.data.readers.ferplus import table_of
    from Code.network.attention import ScoreFusion
    from Code.network.backbone import DEFAULT_BACKBONE
    from Code.network.checkpoints import save_atomically
    from Code.network.pretrained import load_fan
    from Code.network.weights import start_from
    from Code.results.report import write_report
    from Code.training.launch import plain, remember_folder
    from Code.training.losses import any_label, cross_entropy
    from Code.training.run_folder import LAST, Run, check_space, checkpoint_bytes, newest_whole
    from Code.training.trainer import Training, averaged, conclude, load_weights, one_cycle, per_step, run_training

    splits = read_ferplus(args.data_root)
    table, store = table_of(splits["Training"], args.label_mode)
    print(f"FER+: {len(table)} training images by label mode {args.label_mode}, of {len(splits['Training'].names)}")
    shares = table.targets

    of_resnet18 = args.backbone in (None, DEFAULT_BACKBONE)
    pretrained = args.pretrained or (str(MS1M_FILE) if MS1M_FILE.exists() and of_resnet18 else "none")
    start = start_from(
        None if pretrained.lower() == "none" else Path(pretrained),
        ScoreFusion.at_type,
        FERPLUS_LABELS,
        seed=args.seed,
        backbone=args.backbone,
        dropout=args.dropout,
        with_head=False,
    )
    model = start.fan
    for size in {args.image_size, args.small_size or args.image_size}:
        model.backbone.check_image_size(size)
    print(f"{start.message}; backbone {model.backbone.name}")
    usual = FERPLUS_FILE if model.backbone.name == DEFAULT_BACKBONE else Path(OTHER_FILE.format(model.backbone.name))
    export = args.export or usual
    model.to(compute.device, memory_format=torch.channels_last)

    batches = TrainingBatches(table, store, num_frames=1, batch_size=args.batch_size, seed=args.seed)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if args.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=args.lr, momentum=0.9, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(groups, lr=args.lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, per_step(one_cycle(args.epochs), len(batches)))

    def transform(epoch: int) -> FaceAugmentation:
        size = args.small_size if args.small_size and epoch <= args.small_epochs else args.image_size
        if args.no_augmentation:
            return FaceAugmentation(size, roll=0, scale=0, shift=0, contrast=0, brightness=0, erase=0)
        return FaceAugmentation(size)

    def draw_labels(epoch: int) -> None:
        """Probability mode: an image's label is drawn from its shares, anew every epoch."""
        generator = torch.Generator().manual_seed((args.seed << 20) + epoch)
        table.targets = torch.multinomial(shares, 1, generator=generator)[:, 0]

    def size_of(epoch: int) -> int:
        return transform(epoch).size

    training = Training(
        model=model,
        train=batches,
        val=images_split(splits["PublicTest"], args.image_size),
        optimizer=optimizer,
        scheduler=scheduler,
        compute=compute,
        transform=transform,
        epochs=args.epochs,
        seed=args.seed,
        labels=FERPLUS_LABELS,
        image_size=args.image_size,
        dataset=DATASET,
        protocol={"label_mode": args.label_mode},
        loss_function=any_label if args.label_mode == "multitarget" else cross_entropy,
        average=averaged(model, args.average) if args.average else None,
        before_epoch=draw_labels if args.label_mode == "probability" else None,
        print_freq=args.print_freq,
        val_transform=lambda epoch: PlainFrames(size_of(epoch)),
        checkpoint_every=args.checkpoint_every,
    )
    check_space(args.resume or args.output, checkpoint_bytes(model) * (2 if args.average else 1))
    run = Run(args.resume) if args.resume else Run.create(args.output, DATASET, ScoreFusion.at_type)
    run.clear_leftovers()
    if (run.folder / LAST).is_file():
        training.resume(newest_whole(run.folder))
    elif not args.resume:
        run.write_arguments(plain(args), {}, compute)
    run.begin_log(training.lines)
    remember_folder(run.folder)
    run_training(training, run)

    conclude(training, run, images_split(splits["PrivateTest"], args.image_size))
    # The last epoch is exported: the learning rate has come down there, and no split chose it.
    checkpoint = load_weights(model, run.folder / "last.pth")
    save_atomically(published_file(model, args, checkpoint["epoch"], checkpoint["metrics"]), export)
    print(f"wrote {export}; everything else is in {run.folder}")
    fan, _ = load_fan(export)
    report_test(fan.to(compute.device, memory_format=torch.channels_last), splits, args.image_size, compute)
    run.close()
    print(f"see {write_report(run.folder)}")
    return 0


def published_file(model: FAN, args: argparse.Namespace, epoch: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """The published format (`state_dict` behind `module.`, with the backbone's own classifier) and its origin."""
    from Code.network.weights import to_published

    return {
        "state_dict": to_published(model, half=args.half),
        "arch": model.backbone.name,
        "epoch": epoch,
        "best_prec1": 100 * metrics["accuracy"],
        "labels": list(FERPLUS_LABELS),
        "image_size": args.image_size,
        "dataset": DATASET,
        "recipe": {
            name: str(value)
            for name, value in vars(args).items()
            if value is not None and name not in {*MACHINE_FLAGS, "data_root", "export"}
        },
    }


def check_files(args: argparse.Namespace) -> None:
    """Looks for the files that the flags name."""
    if not args.data_root.is_dir():
        read_ferplus(args.data_root)  # raises: how to get FER+ and where to put it
    for flag, path in (("--checkpoint", args.checkpoint), ("--pretrained", args.pretrained)):
        if path and str(path).lower() != "none" and not Path(path).exists():
            raise UsageError(
                f"{flag} {path}: no such file; see pretrain_model/README.md, or start with --pretrained none"
            )


def main() -> int:
    """Checks the command line and the files it names, then imports torch, which takes seconds."""
    args = parse(build_parser())
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
