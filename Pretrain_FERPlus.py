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
                                                     --checkpoint pretrain_model/FAN_FER+_composed.pth
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with `python -P` and `python -I`

from Code.common.commandline import (
    add_device,
    check_outputs,
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
from Code.common.errors import UsageError
from Code.common.names import FERPLUS_FILE, MS1M_FILE, OTHER_FILE
from Code.readers.ferplus import read_ferplus
from Code.recipes import FERPLUS, FOLDERS, Recipe
from Code.training.stopping import parse_resumable


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", choices=(FERPLUS, FOLDERS), help="FER+, or folders of any labeled faces")
    data.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="holds fer2013new.csv and either fer2013.csv or the folders FER2013Train, FER2013Valid, FER2013Test; "
        "of folders: a folder per class, or train and val with a folder per class each",
    )
    data.add_argument("--extra", nargs="+", metavar="DIR", help="more faces: <emotion>/, unlabeled/ (for --teachers)")
    data.add_argument("--data-list", metavar="FILE", help="of folders: a table of path, label, split[, person]")
    data.add_argument("--val-share", type=share, metavar="S", help="of folders: share to hold out at random")
    data.add_argument("--person-pattern", metavar="REGEX", help="of folders: the person in a name, Happy/anna_03.jpg")
    start = parser.add_argument_group("network")
    start.add_argument(
        "--pretrained",
        metavar="PATH|none",
        help=f"weights to start from: ImageNet, MS-Celeb-1M or FER+ (default: {MS1M_FILE} if it is there, else none)",
    )
    start.add_argument("--backbone", metavar="NAME", help="such as resnet50 (default: the weights', or resnet18)")
    start.add_argument("--image-size", type=image_side, metavar="PIXELS", help="side of the input")
    start.add_argument("--small-size", type=count, metavar="PIXELS", help="side in the first --small-epochs; 0: none")
    start.add_argument("--small-epochs", type=count, metavar="N", help="epochs at --small-size")
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=positive, metavar="N", help="number of epochs")
    training.add_argument("--batch-size", type=positive, metavar="N", help="images per step")
    training.add_argument(
        "--lr", "--learning-rate", type=from_zero, metavar="RATE", help="highest of one cycle of AdamW"
    )
    balance = "how much of the class shares to keep out of the network: 0 nothing, 1 all (logit-adjusted loss)"
    training.add_argument("--balance", type=from_zero, metavar="TAU", help=balance)
    training.add_argument("--balance-floor", type=share, metavar="S", help="--balance: rarer classes count as this")
    training.add_argument(
        "--teachers",
        nargs="+",
        metavar="FILE",
        help="networks of the same classes whose mean answers become the targets (distillation), or tables of answers, "
        "NAME.npz with names and logits, see Code/recipes/teachers.py",
    )
    training.add_argument(
        "--teacher-weights",
        type=from_zero,
        nargs="+",
        metavar="W",
        help="add the logits of --teachers with these weights (default: the mean of their probabilities)",
    )
    training.add_argument("--votes", type=number(0, 1), metavar="S", help="weight of labels; --teachers have the rest")
    training.add_argument("--vary", action="store_true", help="as in videos: JPEG, blur, low resolution, light, color")
    training.add_argument("--mix", type=share, metavar="SHARE", help="share of the steps with mixup or CutMix")
    training.add_argument("--seed", type=seed, metavar="N", help="of weights, order and augmentation")
    run = parser.add_argument_group("run")
    run.add_argument("-e", "--evaluate", action="store_true", help="evaluate --checkpoint on the private test instead")
    run.add_argument("--checkpoint", type=Path, metavar="PATH", help=f"of -e (default: {FERPLUS_FILE}, or what ships)")
    run.add_argument(
        "--export",
        type=Path,
        metavar="PATH",
        help=f"file to write at the end (default: {FERPLUS_FILE}; of another backbone {OTHER_FILE.format('NAME')}; of "
        "--dataset folders in the run's folder)",
    )
    run.add_argument("--half", action="store_true", help="write the file in half precision: 22 MB instead of 45")
    run.add_argument("--output", type=Path, metavar="DIR", help="parent of the folder of the run")
    run.add_argument("--resume", type=Path, metavar="RUN", help="resume the run in this folder after its last epoch")
    run.add_argument("--workers", type=count, metavar="N", help="of folders: processes that load pictures")
    run.add_argument("--cache", choices=("none", "memory", "device"), help="of folders: where pictures are kept")
    add_device(run)
    run.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), help="of the backbone")
    run.add_argument("--print-freq", "-p", type=count, metavar="N", help="print the loss every N steps; 0: never")
    parser.set_defaults(**asdict(Recipe()))
    return parser


def check_flags(recipe: Recipe) -> None:
    """Refuses flags that do not go together, files that are missing, and several processes."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UsageError("torchrun: each process would train the same network; start it with python, on one device")
    if recipe.dataset == FOLDERS:
        for flag, given in (("-e", recipe.evaluate), ("--extra", recipe.extra), ("--teachers", recipe.teachers)):
            if given:
                raise UsageError(f"{flag}: goes with --dataset {FERPLUS} only")
    elif not recipe.data_root.is_dir():
        read_ferplus(recipe.data_root)  # raises: how to get FER+ and where to put it
    if recipe.teacher_weights and len(recipe.teacher_weights) != len(recipe.teachers):
        raise UsageError(f"--teacher-weights: {len(recipe.teacher_weights)} for {len(recipe.teachers)} --teachers")
    files = [("--checkpoint", recipe.checkpoint), ("--pretrained", recipe.pretrained)]
    if not recipe.resume:  # a run to resume may have kept their answers
        files += [("--teachers", teacher) for teacher in recipe.teachers]
    for flag, path in files:
        if path and str(path).lower() != "none" and not Path(path).exists():
            raise UsageError(f"{flag} {path}: no such file; see pretrain_model/README.md")


def main() -> int:
    """Checks the command line and the files it names, then imports torch, which takes seconds."""
    recipe = Recipe(**vars(parse_resumable(build_parser())))
    check_flags(recipe)

    from Code.common.device import choose_compute, keep_freed_memory
    from Code.recipes.ferplus_accuracy import report_test
    from Code.recipes.pretraining import train_backbone

    keep_freed_memory()
    check_outputs([recipe.export], [recipe.pretrained, *recipe.teachers, recipe.checkpoint])
    compute = choose_compute(recipe.device, recipe.precision)
    if recipe.evaluate:
        report_test(recipe.checkpoint, read_ferplus(recipe.data_root), compute)
    else:
        train_backbone(recipe, compute)
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
