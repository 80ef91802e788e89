"""Trains and evaluates Frame Attention Networks (FAN) for facial expression recognition in videos.

examples:
  learn the generated sample, no data needed       python Demo_AFEW_Attention.py --dataset sample --at_type 1
  train on AFEW from Data/Train and Data/Val       python Demo_AFEW_Attention.py --at_type 1
  evaluate the newest trained network              python Demo_AFEW_Attention.py --at_type 1 -e
  evaluate a checkpoint                            python Demo_AFEW_Attention.py -e --checkpoint model/RUN/best.pth
  train on your own <Class>/<clip>/<frame> folders python Demo_AFEW_Attention.py --dataset folders
                                                     --train-root faces/train --val-root faces/val
  examine the data, every image of it              python Demo_AFEW_Attention.py --check
  go on with a run that was stopped                python Demo_AFEW_Attention.py --resume model/RUN
  train on the four GPUs of a machine              torchrun --nproc_per_node 4 Demo_AFEW_Attention.py --at_type 1
  CK+ in ten person-independent folds              python Demo_AFEW_Attention.py --dataset ckplus --fold all
  DFEW in its five folds, three seeds              python Demo_AFEW_Attention.py --dataset dfew --fold all --seeds 0 1 2
  your own clips named by a list                   python Demo_AFEW_Attention.py --dataset list --train-list own.csv
  clips composed of FER+ stills, real faces        python Demo_AFEW_Attention.py --dataset composed
                                                     --data-root Data/FERPlus
  start from random weights                        python Demo_AFEW_Attention.py --pretrained none
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from Code.common.commandline import (
    add_device,
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
from Code.data.composed.plan import DISTRACTORS
from Code.network import attention_titles
from Code.training.datasets import check_paths, resolve, write_folds
from Code.training.launch import parse, resume_command
from Code.training.protocols import PROTOCOLS


def build_parser() -> argparse.ArgumentParser:
    """The command line. Flags that a protocol sets have no default here."""
    note = (
        "\nDefaults that depend on the dataset come from its protocol; a flag overrides."
        "\nCtrl+C, SIGTERM and SIGUSR1 end a training after its step, saved: status 130, 143, 0; --resume goes on."
        "\nUnder Slurm (#SBATCH --signal=TERM@90 --requeue) and torchrun (--max-restarts) a restarted command goes on"
        "\nwith the run that it began."
    )
    parser = script_parser(__doc__, note)
    what = parser.add_argument_group("what to do")
    what.add_argument(
        "--at_type",
        "--attention",
        type=int,
        choices=attention_titles(),
        help="0 self-attention, 1 self + relation, 2 none: score fusion (default: 1; with -e the checkpoint's)",
    )
    what.add_argument("-e", "--evaluate", action="store_true", help="evaluate a trained network, train nothing")
    what.add_argument(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="for -e (default: the newest best.pth of dataset and attention)",
    )
    what.add_argument(
        "--check", action="store_true", help="examine lists, folders and every image, train nothing; status 0, 1, 2"
    )
    what.add_argument("--json", action="store_true", help="for --check: the report as JSON")
    what.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with a run's folder where it was left; it ends the same"
    )

    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        choices=sorted(PROTOCOLS),
        help="which protocol and reader (default: afew), but with -e the checkpoint's",
    )
    data.add_argument(
        "--train-root",
        "--data-root",
        metavar="DIR",
        help="holds <Class>/<clip>/<frame> (default: Data/Train); a dataset's own tree (Data/CKPlus, Data/FERPlus)",
    )
    data.add_argument("--val-root", metavar="DIR", help="likewise (default: Data/Val, or the same tree)")
    data.add_argument(
        "--train-list",
        metavar="FILE",
        help="lines `Class/clip Class`; `none`: scan the folders (default: Data/list_train.txt if it is there)",
    )
    data.add_argument("--val-list", metavar="FILE", help="likewise (default: Data/list_eval.txt if it is there)")
    data.add_argument(
        "--root-map",
        action="append",
        type=pair,
        metavar="OLD=NEW",
        help="where the folders of a list that was written on another machine are on this one; may be repeated",
    )
    data.add_argument("--labels", nargs="+", metavar="NAME", help="order of the classes of --dataset folders or list")
    data.add_argument(
        "--map-labels",
        nargs="+",
        type=pair,
        metavar="DATA=CHECKPOINT",
        help="classes whose names differ between data and checkpoint; NAME=none leaves the data's class out",
    )
    data.add_argument(
        "--eval-split", choices=("val", "test"), help="of a list with both, or of composed clips (default: val)"
    )

    composed = parser.add_argument_group("clips composed of FER+ stills (--dataset composed)")
    composed.add_argument(
        "--clip-frames", type=positive, nargs="+", metavar="N", help="frames of a clip, or a range: 8 24 (16)"
    )
    composed.add_argument(
        "--telling",
        type=from_zero,
        nargs="+",
        metavar="SHARE",
        help="share of a clip's frames that show its expression, or a range of it; the others distract (0.1 1)",
    )
    composed.add_argument(
        "--distractors", choices=DISTRACTORS, nargs="+", metavar="KIND", help=f"of {' '.join(DISTRACTORS)} (all)"
    )
    composed.add_argument("--train-clips", type=positive, metavar="N", help="an epoch's clips (2000)")
    composed.add_argument("--val-clips", type=positive, metavar="N", help="composed once, from seed 0 (800)")

    folds = parser.add_argument_group("folds and seeds")
    folds.add_argument(
        "--fold",
        type=fold,
        metavar="N|all",
        help="train and evaluate one fold, or every one and pool them (default: all where the dataset has folds)",
    )
    folds.add_argument("--folds", type=positive, metavar="K", help="how many (ckplus: 10, dfew: 5, others: 5)")
    folds.add_argument("--fold-file", metavar="FILE", help="read the folds from a file as CK+'s was published")
    folds.add_argument("--write-folds", type=Path, metavar="FILE", help="write that file and stop")
    folds.add_argument(
        "--person-pattern",
        metavar="REGEX",
        help="finds the person in a clip's name: its first group, or all",
    )
    folds.add_argument("--seeds", type=seed, nargs="+", metavar="N", help="repeat with each: mean, deviation, range")
    folds.add_argument(
        "--select-on",
        choices=("val", "heldout", "last"),
        default="val",
        help="which clips choose the best epoch: those evaluated, as papers do, or a tenth of training's persons; "
        "last: no choice, the last epoch counts",
    )
    data.add_argument("--skip-empty", action="store_true", help="leave out clips without frames, and count them")

    recipe = parser.add_argument_group("training")
    recipe.add_argument(
        "--pretrained",
        metavar="PATH|none",
        help="weights to start from (default: see pretrain_model/README.md)",
    )
    recipe.add_argument(
        "--freeze-backbone",
        action=argparse.BooleanOptionalAction,
        help="the head alone learns, on features computed once: minutes on a CPU (sample, composed: yes, others: no)",
    )
    recipe.add_argument(
        "--backbone",
        metavar="NAME",
        help="a classification network of torchvision, as resnet50 (default: that of the starting weights, resnet18)",
    )
    recipe.add_argument(
        "--augmentation", default="flip", metavar="NAME", help="of training clips: flip, none, or one of your own"
    )
    recipe.add_argument("--loss", default="cross-entropy", metavar="NAME", help="cross-entropy, or one of your own")
    recipe.add_argument("--epochs", type=positive, metavar="N", help="(afew: 180)")
    recipe.add_argument("--lr", "--learning-rate", type=from_zero, metavar="RATE", help="of SGD (afew: 4e-6)")
    recipe.add_argument("--momentum", type=from_zero, metavar="M", help="of SGD (0.9)")
    recipe.add_argument("--weight-decay", "--wd", type=from_zero, metavar="W", help="of SGD (1e-4)")
    recipe.add_argument("--batch-size", type=positive, metavar="N", help="samples a step (afew: 48)")
    recipe.add_argument("--frames", type=positive, metavar="K", help="frames a training sample, one a segment (3)")
    recipe.add_argument(
        "--samples-per-clip",
        type=positive,
        metavar="N",
        help="an epoch's samples of a clip (afew: one per frame)",
    )
    recipe.add_argument(
        "--image-size", type=image_side, metavar="PIXELS", help="input side (what the weights were made at)"
    )
    recipe.add_argument("--seed", type=seed, default=0, metavar="N", help="of weights, sampling, flips and dropout")

    machine = parser.add_argument_group("machine and output")
    add_device(machine)
    machine.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of the backbone; auto: bf16 where the hardware has it, else fp32",
    )
    machine.add_argument(
        "--workers", type=count, metavar="N", help="processes that decode frames (default: by the cores)"
    )
    machine.add_argument(
        "--cache",
        choices=("auto", "none", "disk", "device"),
        default="auto",
        help="frames: none decoded when needed; disk decoded once, into a file; device in the GPU's memory",
    )
    machine.add_argument(
        "--cache-dir", type=Path, default=Path("Data/Cache"), metavar="DIR", help="where --cache disk keeps its files"
    )
    machine.add_argument(
        "--compile", action="store_true", help="torch.compile for training (slow start, faster steps on GPUs)"
    )
    machine.add_argument(
        "--deterministic",
        action="store_true",
        help="CUDA: the same numbers every time, also across --resume (slower; a CPU's are)",
    )
    machine.add_argument(
        "--checkpoint-every",
        type=from_zero,
        default=15.0,
        metavar="MINUTES",
        help="save inside long epochs too, to go on from there; fractions allowed, 0: only at their ends",
    )
    machine.add_argument("--output", type=Path, default=Path("model"), metavar="DIR", help="where runs' folders go")
    machine.add_argument(
        "--figures",
        type=count,
        default=0,
        metavar="N",
        help="attention figures of the N most and least certain clips, right and wrong, into the run's folder",
    )
    machine.add_argument(
        "--print-freq", "-p", type=count, default=0, metavar="N", help="print the loss every N steps; 0: never"
    )
    return parser


def check_files(args: argparse.Namespace) -> None:
    """Looks for the checkpoints that the flags name; the data is looked for by `check_paths`."""
    if args.checkpoint and not args.checkpoint.exists():
        raise UsageError(
            f"--checkpoint {args.checkpoint}: no such file; a trained FAN is model/<run>/best.pth, written by "
            "`python Demo_AFEW_Attention.py`"
        )
    if args.pretrained and args.pretrained.lower() != "none" and not Path(args.pretrained).exists():
        raise UsageError(
            f"--pretrained {args.pretrained}: no such file; see pretrain_model/README.md, or start without: "
            "--pretrained none"
        )


def main() -> int:
    """Checks the command line and the files it names, then imports torch, which takes seconds."""
    args = parse(build_parser())
    if args.json and not args.check:
        raise UsageError("--json: only goes with --check")
    check_files(args)
    protocol = None if args.evaluate else resolve(args)  # -e: what its checkpoint was trained on
    if protocol and not args.check:
        check_paths(protocol)

    from Code.common.machine import keep_freed_memory
    from Code.results.report import write_report
    from Code.results.run_figures import write_figures
    from Code.training.distributed import processes
    from Code.training.doctor import check_data
    from Code.training.folds import is_series, train_all
    from Code.training.run import evaluate_checkpoint, train
    from Code.training.stopping import listening

    if args.check:
        return check_data(args)
    keep_freed_memory()
    with listening(), processes(args.device) as world:
        if protocol is None:
            folder = evaluate_checkpoint(args)
        elif args.write_folds:
            print(write_folds(protocol, args.write_folds))
            return 0
        elif is_series(args, protocol):
            print(f"see {train_all(args, protocol, after_run=write_report) / 'summary.md'}")
            return 0
        else:
            folder = train(args, protocol)
        if world.is_main:
            if args.figures:
                print(f"figures: {write_figures(folder, args.figures)}")
            print(f"see {write_report(folder, progress=True)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, resume_command))
