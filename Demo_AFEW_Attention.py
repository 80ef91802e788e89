"""Trains and evaluates Frame Attention Networks (FAN) for facial expression recognition in videos.

examples:
  train on the generated sample, no data needed    python Demo_AFEW_Attention.py --dataset sample --at_type 1
  train on AFEW from Data/Train and Data/Val       python Demo_AFEW_Attention.py --at_type 1
  evaluate the newest trained network              python Demo_AFEW_Attention.py --at_type 1 -e
  evaluate a checkpoint                            python Demo_AFEW_Attention.py -e --checkpoint model/RUN
  train on your own <Class>/<clip>/<frame> folders python Demo_AFEW_Attention.py --dataset folders
                                                     --train-root faces/train --val-root faces/val
  check the data, every image of it                python Demo_AFEW_Attention.py --check
  resume a run that was stopped                    python Demo_AFEW_Attention.py --resume model/RUN
  train on the four GPUs of a machine              torchrun --nproc_per_node 4 Demo_AFEW_Attention.py --at_type 1
  CK+ in ten person-independent folds              python Demo_AFEW_Attention.py --dataset ckplus --fold all
  DFEW in its five folds, three seeds              python Demo_AFEW_Attention.py --dataset dfew --fold all --seeds 0 1 2
  train on your own clips, named in a list         python Demo_AFEW_Attention.py --dataset list --train-list own.csv
  train on clips composed of FER+ faces            python Demo_AFEW_Attention.py --dataset composed
                                                     --data-root Data/FERPlus
  start from random weights                        python Demo_AFEW_Attention.py --pretrained none
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with `python -P` and `python -I`

from Code.common.commandline import (
    add_device,
    check_outputs,
    count,
    fold,
    from_zero,
    image_side,
    pair,
    positive,
    run_script,
    script_parser,
    seed,
)
from Code.common.errors import UsageError
from Code.common.names import ATTENTION_TITLES, DEFAULT_AT_TYPE
from Code.composed.plan import DISTRACTORS
from Code.readers import names
from Code.training.stopping import parse_resumable


def build_parser() -> argparse.ArgumentParser:
    """The command line. Flags that a protocol sets have no default here."""
    note = (
        "\nDefaults that depend on the dataset come from its protocol; flags override them. Ctrl+C and SIGTERM stop a"
        "\ntraining after the step under way; --resume repeats the epoch under way and goes on (docs/stopping.md)."
    )
    parser = script_parser(__doc__, note)
    heads = ", ".join(f"{number} {title}" for number, title in ATTENTION_TITLES.items())
    add = parser.add_argument_group("what to do").add_argument
    add(
        "--at_type",
        "--attention",
        type=int,
        choices=ATTENTION_TITLES,
        help=f"attention head: {heads} (default: {DEFAULT_AT_TYPE}; with -e, that of the checkpoint)",
    )
    add("-e", "--evaluate", action="store_true", help="evaluate a trained network, do not train")
    add(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="of -e: a file, or the folder of a run (default: the newest best.pth of the dataset and attention)",
    )
    add("--check", action="store_true", help="check lists, folders and every image; status 0, 1 or 2")
    add("--json", action="store_true", help="with --check: print the report as JSON")
    add(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume the run in this folder, as if it had not been interrupted; begin it there if nothing is there",
    )

    add = parser.add_argument_group("data").add_argument
    add("--dataset", choices=names(), help="dataset and its protocol (default: afew; with -e, that of the checkpoint)")
    add(
        "--train-root",
        "--data-root",
        metavar="DIR",
        help="folder with <Class>/<clip>/<frame> (default: Data/Train), or with official files (Data/CKPlus)",
    )
    add("--val-root", metavar="DIR", help="the same for validation (default: Data/Val, or the training root)")
    add(
        "--train-list",
        metavar="FILE",
        help="list with lines `Class/clip Class`, or another format of Data/README.md; none: read all folders "
        "(default: Data/list_train.txt if it exists)",
    )
    add("--val-list", metavar="FILE", help="the same for validation (default: Data/list_eval.txt if it exists)")
    add("--root-map", action="append", type=pair, metavar="OLD=NEW", help="in lists: replace the folder OLD by NEW")
    add("--labels", nargs="+", metavar="NAME", help="order of the classes, with --dataset folders or list")
    add(
        "--map-labels",
        nargs="+",
        type=pair,
        metavar="DATA=CHECKPOINT",
        help="classes with other names in the data than in the checkpoint; CLASS=none drops a class of the data",
    )
    add("--eval-split", choices=("val", "test"), help="split to evaluate, where there are both (default: val)")
    add("--skip-empty", action="store_true", help="skip clips without frames, and count them")

    add = parser.add_argument_group("clips composed of FER+ stills (--dataset composed)").add_argument
    add("--clip-frames", type=positive, nargs="+", metavar="N", help="frames per clip, or a range such as 8 24 (16)")
    add(
        "--telling",
        type=from_zero,
        nargs="+",
        metavar="SHARE",
        help="share of frames that show the expression, or a range (0.1 1)",
    )
    add("--distractors", choices=DISTRACTORS, nargs="+", metavar="KIND", help="kinds of distractors (all)")
    add("--train-clips", type=positive, metavar="N", help="training clips per epoch (2000)")
    add("--val-clips", type=positive, metavar="N", help="validation clips, composed once from seed 0 (800)")

    add = parser.add_argument_group("folds and seeds").add_argument
    add("--fold", type=fold, metavar="N|all", help="one fold, or all, pooled (default: all, if the dataset has folds)")
    add("--folds", type=positive, metavar="K", help="number of folds (ckplus: 10, dfew: 5, others: 5)")
    add("--fold-file", metavar="FILE", help="read the folds from a file in the format that was published for CK+")
    add("--write-folds", type=Path, metavar="FILE", help="write the folds to a file in that format, and stop")
    add("--person-pattern", metavar="REGEX", help="finds the person in a clip's name: the first group, or the match")
    add("--seeds", type=seed, nargs="+", metavar="N", help="train once with each seed; reports mean and spread")
    add(
        "--select-on",
        choices=("val", "heldout", "last"),
        default="val",
        help="clips that choose the best epoch: val, the evaluated ones, as papers do; heldout, a tenth of the persons "
        "of the training set; last: no choice, the last epoch counts",
    )

    add = parser.add_argument_group("training").add_argument
    add("--pretrained", metavar="PATH|none", help="starting weights; none: random (default: from pretrain_model)")
    add(
        "--freeze-backbone",
        action=argparse.BooleanOptionalAction,
        help="train only the head, on features that are computed once: minutes on a CPU (default: only for sample and "
        "composed)",
    )
    add(
        "--keep-classifier",
        action="store_true",
        help="start from the classifier of --pretrained and leave it unchanged: with a frozen backbone, only attention "
        "is trained",
    )
    add(
        "--backbone",
        metavar="NAME",
        help="a classification network of torchvision, such as resnet50 (default: that of the weights, or resnet18)",
    )
    add(
        "--augmentation",
        default="flip",
        metavar="NAME",
        help="of training clips: flip, none, or your own (docs/extending.md)",
    )
    add("--loss", default="cross-entropy", metavar="NAME", help="cross-entropy, or your own (docs/extending.md)")
    add("--epochs", type=positive, metavar="N", help="number of epochs (afew: 180)")
    add("--lr", "--learning-rate", type=from_zero, metavar="RATE", help="learning rate of SGD (afew: 4e-6)")
    add("--momentum", type=from_zero, metavar="M", help="momentum of SGD (0.9)")
    add("--weight-decay", "--wd", type=from_zero, metavar="W", help="weight decay of SGD (1e-4)")
    add("--batch-size", type=positive, metavar="N", help="samples per step (afew: 48)")
    add("--frames", type=positive, metavar="K", help="frames per training sample, one from each of K segments (3)")
    add("--samples-per-clip", type=positive, metavar="N", help="samples per clip and epoch (afew: its frames)")
    add("--image-size", type=image_side, metavar="PIXELS", help="side of the input (default: that of the weights)")
    add("--seed", type=seed, default=0, metavar="N", help="of weights, sampling, augmentation and dropout")

    machine = parser.add_argument_group("machine and output")
    add_device(machine)
    add = machine.add_argument
    add(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of the backbone; auto: bf16 if the hardware has it, else fp32",
    )
    add("--workers", type=count, metavar="N", help="processes that load frames (default: by the number of cores)")
    add(
        "--cache",
        choices=("none", "memory", "device"),
        help="frames: none, decode them when needed; memory or device (GPU), decode them once and keep them there "
        "(default: memory, where they fit well)",
    )
    add("--compile", action="store_true", help="train with torch.compile: a slow start, then faster steps on GPUs")
    add(
        "--deterministic",
        action="store_true",
        help="the same numbers every time on CUDA, too, also across --resume; slower",
    )
    add("--output", type=Path, default=Path("model"), metavar="DIR", help="parent of the folders of runs")
    add(
        "--figures",
        type=count,
        default=0,
        metavar="N",
        help="draw attention figures of the N most and least certain clips, right and wrong",
    )
    add("--print-freq", "-p", type=count, default=0, metavar="N", help="print the loss every N steps; 0: never")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Checks the command line, then imports torch, which takes seconds.

    Args:
        words: the command line; None: that of this process.
    """
    args = parse_resumable(build_parser(), words)
    if args.json and not args.check:
        raise UsageError("--json: only goes with --check")
    check_outputs([args.write_folds], [args.train_list, args.val_list, args.fold_file])

    from Code.common.device import keep_freed_memory
    from Code.experiment import check_data, evaluate, settings_of, train, train_series, write_folds
    from Code.results.report import write_figures
    from Code.training.ddp import processes

    flags = vars(args)
    if args.check:
        return check_data(settings_of(flags), as_json=args.json)
    keep_freed_memory()
    with processes(args.device) as world:
        if args.write_folds:
            print(write_folds(settings_of(flags), args.write_folds))
            return 0
        if args.evaluate:
            folder = evaluate(flags)
        else:
            settings, seeds = settings_of(flags), list(dict.fromkeys(args.seeds or []))
            if settings.data.fold == "all" or seeds:
                train_series(settings, seeds, args.resume)
                return 0
            folder = train(settings, args.resume)
        if args.figures and world.is_main:
            print(f"figures: {write_figures(folder, args.figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
