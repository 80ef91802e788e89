"""Writes a trained network to publish: in half precision, without paths of the machine that it was trained on.

    python -m Code.recipes.release model/RUN --data-root Data/FERPlus --output pretrain_model/FAN_FER+_composed.pth
    python -m Code.recipes.release FILE --prior ferplus --output pretrain_model/FER+prior.pth

The file of a run says how it was made: commands, versions, device, date and metrics. `--data-root` adds the mean
feature of FER+'s neutral training faces, which `Predict_Video.py --neutral` needs. `--temperature` makes a network
less sure; `Pretrain_FERPlus.py -e` prints the one that fits. `--prior` says how likely each class is before a face is
seen. Both only change the classifier.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..common.commandline import check_outputs, number, prior_of, run_script, script_parser
from ..common.files import writing
from ..composed.plan import NEUTRAL, ComposedSpec, choose_stills
from ..data.augment import to_float
from ..network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from ..network.prior import prior_shift, stated_shares
from ..network.weights import load_fan, stored_classifier, stored_labels
from ..readers.ferplus import read_ferplus
from ..training.records import as_dict, read_arguments, read_results

INPUT = "RGB, or gray as three equal channels, in [0, 1]; no mean/std normalization"
PATHS = ("train_root", "val_root", "train_list", "val_list")  # of one machine
PUBLISHED = {"format", "at_type", "labels", "image_size", "dataset", "precision", "epoch", "backbone", "class_shares"}
PUBLISHED |= {"recipe", "metrics", "neutral_feature"}


def released(checkpoint: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint of a run, to publish; `about` says how it was made. Weights must be finite in half precision."""
    weights = {}
    for name, value in checkpoint["state_dict"].items():
        weights[name] = value.half() if value.is_floating_point() else value
        if not torch.isfinite(weights[name]).all():
            raise CheckpointError(f"{name} is not finite in half precision")
    protocol = {name: value for name, value in checkpoint["protocol"].items() if name not in PATHS}
    flags = protocol.get("data_flags", {})
    protocol["data_flags"] = {name: value for name, value in flags.items() if name not in PATHS}
    known = {name: value for name, value in checkpoint.items() if name in PUBLISHED}
    return known | {"state_dict": weights, "protocol": protocol, "training": None, "input": INPUT, "about": about}


def with_classifier(
    checkpoint: Mapping[str, Any], temperature: float = 1.0, prior: Mapping[str, float] | str | None = None
) -> dict[str, Any]:
    """A checkpoint whose logits are divided by a temperature, and then have another prior, see `stated_shares`.

    Its recipe says the prior. The accuracy with another prior is another one, and left out. CheckpointError: it has no
    classifier. UsageError: the prior does not go with its classes.
    """
    stored = stored_classifier(checkpoint)
    if not stored:
        raise CheckpointError("no classifier")
    changed = {name: checkpoint["state_dict"][name].float() / temperature for name in stored}
    kept = {name: value for name, value in checkpoint.items() if name not in ("training", "metrics", "best_prec1")}
    if prior is None and "metrics" in checkpoint:
        kept["metrics"] = {name: value for name, value in checkpoint["metrics"].items() if name != "loss"}
    if prior is not None:
        recipe, shares = dict(checkpoint.get("recipe") or {}), checkpoint.get("class_shares")
        info = {"labels": stored_labels(checkpoint, None), "class_shares": shares, "recipe": recipe}
        stated = stated_shares(prior, info)
        for name in (name for name in stored if name.endswith(".bias")):
            changed[name] += prior_shift(stated, info)
        kept["recipe"] = recipe | {"prior": list(stated.values())}
    weights = checkpoint["state_dict"]
    changed = {name: value.to(weights[name].dtype) for name, value in changed.items()}
    return kept | {"state_dict": {**weights, **changed}}


def neutral_feature(path: Path, data_root: Path) -> list[float]:
    """The mean feature, D numbers, that a network has of the neutral training faces of composed clips."""
    fan, info = load_fan(path)
    stills = choose_stills(read_ferplus(data_root), "Training", ComposedSpec().confidence)
    faces = torch.from_numpy(stills.images[stills.by_class[NEUTRAL]])[:, None]  # uint8 [N, 1, 48, 48]
    with torch.inference_mode():
        features = torch.cat([fan.encode(to_float(part, info["image_size"])) for part in faces.split(256)])
    return features.double().mean(dim=0).float().tolist()


def about_run(run: Path, which: str, before: Sequence[Path]) -> dict[str, Any]:
    """How the network of a run was made. `before`: the runs that it started from, oldest first."""
    own = read_arguments(run)
    return {
        "commands": [read_arguments(folder).command for folder in (*before, run)],
        "versions": own.versions,
        "device": own.device,
        "precision": own.precision,
        "threads": own.threads,
        "date": own.started[:10].replace("-", ""),
        "seed": own.args.get("seed"),
        "results": as_dict(getattr(read_results(run / "results.json"), which)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m Code.recipes.release")
    parser.add_argument("network", type=Path, metavar="RUN|FILE", help="a run's folder, or a file")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="of a run: which epoch")
    parser.add_argument("--after", type=Path, nargs="+", default=[], metavar="RUN", help="runs before it, oldest first")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="FER+, whose neutral faces the file is to know")
    parser.add_argument("--temperature", type=number(0.05, 20), default=1.0, metavar="T", help="divides the logits")
    parser.add_argument("--prior", nargs="+", metavar="uniform|ferplus|CLASS=SHARE", help="of its classes")
    args = parser.parse_args(argv)
    check_outputs([args.output], [args.network, *args.after])
    is_run = args.network.is_dir()
    path = args.network / f"{args.which}.pth" if is_run else args.network
    checkpoint = read_checkpoint(path)
    about = about_run(args.network, args.which, args.after) if is_run else {}
    if args.data_root:
        checkpoint["neutral_feature"] = neutral_feature(path, args.data_root)
    try:
        if args.temperature != 1 or args.prior:
            checkpoint = with_classifier(checkpoint, args.temperature, prior_of(args.prior or []))
        content = released(checkpoint, about) if is_run else checkpoint
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    with writing(args.output):
        save_atomically(content, args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
