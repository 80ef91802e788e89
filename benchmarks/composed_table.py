"""What attention brings on clips composed of FER+ stills, by the share of frames that distract (docs/composed.md).

    python benchmarks/composed_table.py --data-root Data/FERPlus
    python benchmarks/composed_table.py --data-root Data/FERPlus --checkpoint pretrain_model/FAN_FER+_composed.pth

Trains heads (score fusion, self-attention, self + relation-attention) on the frozen backbone. Each seed has its own
training clips, and the last epoch counts. All are evaluated on the same clips of the private test (`--eval-split val`:
of the validation split), composed once for each level: 0, 25, 50, 75 and 90 % of the frames distract. The table
also has the backbone itself, a frame classifier whose scores are averaged over the clip, and the networks that
`--checkpoint` names. Differences of two methods have 95 % intervals for paired clips. Features are kept in
`--output`, so that a second call takes seconds; so is everything measured, in `table_test.json`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


from Code.common.device import Compute, choose_compute, describe_device, versions  # noqa: E402
from Code.common.names import FAN_FILE, FERPLUS_LABELS  # noqa: E402
from Code.composed.plan import VERSION, ComposedSpec, choose_stills  # noqa: E402
from Code.composed.reader import SPLITS, Composer  # noqa: E402
from Code.data.batches import (  # noqa: E402
    ArrayStore,
    EvaluationBatches,
    FrameTable,
    Loading,
    TrainingBatches,
)
from Code.network.fan import FAN  # noqa: E402
from Code.network.weights import load_fan  # noqa: E402
from Code.readers.ferplus import read_ferplus  # noqa: E402
from Code.training.features import PlainView, store_features  # noqa: E402
from Code.training.intervals import paired_difference  # noqa: E402
from Code.training.loops import EvaluationSplit, State, evaluate_split, train_one_epoch  # noqa: E402

LEVELS = (0, 25, 50, 75, 90)  # percent of frames that distract
NAMES = {2: "no attention (score fusion), trained", 0: "self-attention", 1: "self + relation-attention"}
PLAIN = "FER+ frame classifier, scores averaged"
# Learning rate of SGD, x 0.2 after each third of the epochs: the best of 0.003 to 0.3 on validation clips.
RATES = {2: 3e-1, 0: 3e-3, 1: 3e-3}
MEASURES = ("accuracy", "uar", "attention_correlation", "attention_auc")


class Clips:
    """Composed clips as features of a fixed backbone."""

    def __init__(self, composer: Composer, store: ArrayStore) -> None:
        self.table = FrameTable.of(composer.clips(Path()))
        self.table.renewed = False  # the features belong to one composition
        self.store, self.composer = store, composer

    def split(self) -> EvaluationSplit:
        frames = [self.composer.frames(clip) for clip in range(len(self.table))]
        truth = [np.array([frame.importance for frame in of_clip]) for of_clip in frames]
        batches = EvaluationBatches(self.table, self.store, batch_frames=4096)
        intensities = dict(zip(self.table.names, truth, strict=True))
        return EvaluationSplit(batches, PlainView(), intensities=intensities)


def encoded(fan: FAN, composer: Composer, size: int, compute: Compute, file: Path) -> Clips:
    """The features of a split, from `file` if it exists."""
    if file.is_file():
        return Clips(composer, ArrayStore(torch.load(file, weights_only=True)))
    start = time.perf_counter()
    clips = composer.clips(Path())
    table, frames = FrameTable.of(clips), clips.renderer(clips, size)
    store = store_features(fan, table, frames, compute, mirrored=False, loading=Loading())
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(store.frames, file.with_suffix(".partial"))
    file.with_suffix(".partial").rename(file)
    print(f"# {file.stem}: {len(store.frames)} frames, {time.perf_counter() - start:.0f} s", flush=True)
    return Clips(composer, store)


def trained_head(clips: Clips, at_type: int, seed: int, epochs: int, compute: Compute, file: Path) -> FAN:
    """A FAN with a head trained on features, or loaded from `file`. Its backbone is random: do not use it."""
    torch.manual_seed(seed)
    model = FAN(at_type, len(FERPLUS_LABELS))
    if file.is_file():
        model.head.load_state_dict(torch.load(file, weights_only=True))
        return model
    length = int(clips.table.lengths[0])
    batches = TrainingBatches(clips.table, clips.store, num_frames=length, batch_size=32, seed=seed, samples_per_clip=1)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=RATES[at_type], momentum=0.9, weight_decay=1e-4)
    thirds = [round(part * epochs * len(batches) / 3) for part in (1, 2)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, thirds, 0.2)
    model.backbone.requires_grad_(False)
    model.head.requires_grad_(True)
    state = State(model, optimizer, scheduler, compute, model)
    for epoch in range(1, epochs + 1):
        train_one_epoch(state, batches, epoch, PlainView())
    weights = model.head.state_dict()
    torch.save(weights, file.with_suffix(".partial"))
    file.with_suffix(".partial").rename(file)
    return model


def measured(model: FAN, levels: dict[int, Clips], compute: Compute) -> dict[int, dict[str, Any]]:
    """For each level the metrics, and for each clip whether it is right."""
    found = {}
    for level, clips in levels.items():
        metrics, evaluation = evaluate_split(model, clips.split(), compute)
        right = (evaluation.logits.argmax(dim=1) == clips.table.targets).int().tolist()
        found[level] = {**{name: metrics[name] for name in MEASURES}, "right": right}
    return found


def cell(values: list[float | None], scale: float, digits: int) -> str:
    """`mean (lowest to highest)`; `-` if nothing was measured."""
    known = [scale * value for value in values if value is not None]
    if not known:
        return "-"
    mean, low, high = sum(known) / len(known), min(known), max(known)
    return f"{mean:.{digits}f}" + (f" ({low:.{digits}f} to {high:.{digits}f})" if len(known) > 1 else "")


def tables(
    methods: dict[str, list[dict[int, dict[str, Any]]]], levels: list[int], classes: np.ndarray
) -> tuple[str, list[dict]]:
    """The tables as Markdown; the differences as data."""
    lines = [
        "| method | " + " | ".join(f"{level} % distract" for level in levels) + " |",
        "|---" * (len(levels) + 1) + "|",
    ]
    for title, name, scale, digits in (
        ("accuracy %", "accuracy", 100, 1), ("UAR %", "uar", 100, 1),
        ("rank correlation", "attention_correlation", 1, 2), ("AUC", "attention_auc", 1, 3),
    ):  # fmt: skip
        lines.append(f"| **{title}** |" + " |" * len(levels))
        for method, runs in methods.items():
            cells = [cell([run[level][name] for run in runs], scale, digits) for level in levels]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    pairs = [(NAMES[0], NAMES[2]), (NAMES[1], NAMES[2]), (NAMES[1], NAMES[0]), (NAMES[2], PLAIN)]
    others = [method for method in methods if method not in (*NAMES.values(), PLAIN)]
    pairs += [(other, name) for other in others for name in (PLAIN, NAMES[2], NAMES[1])]
    lines += ["", "| difference, points of accuracy | " + " | ".join(f"{level} %" for level in levels) + " |"]
    lines.append("|---" * (len(levels) + 1) + "|")
    found = []
    for first, second in pairs:
        cells = []
        for level in levels:
            one, other = (np.mean([run[level]["right"] for run in methods[name]], axis=0) for name in (first, second))
            war, uar = (paired_difference(one, other, classes, balanced=balanced) for balanced in (False, True))
            found.append({"first": first, "second": second, "level": level, "war": asdict(war), "uar": asdict(uar)})
            cells.append(f"{100 * war.value:+.1f} [{100 * war.low:+.1f}, {100 * war.high:+.1f}]")
        lines.append(f"| {first} minus {second} | {' | '.join(cells)} |")
    return "\n".join(lines), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("Data/FERPlus"), help="the FER+ folder")
    parser.add_argument("--pretrained", type=Path, default=ROOT / FAN_FILE, help="a FER+ frame classifier")
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=[], help="more networks to evaluate")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--train-clips", type=int, default=1500, help="for each seed")
    parser.add_argument("--clips", type=int, default=800, help="evaluated at each level")
    parser.add_argument("--levels", type=int, nargs="+", default=list(LEVELS), help="percent of frames that distract")
    parser.add_argument("--eval-split", choices=("val", "test"), default="test")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "model" / "composed_table", help="features, heads, table_<split>.json"
    )
    args = parser.parse_args()
    hardest = args.levels[-1]
    start, compute = time.perf_counter(), choose_compute()
    splits = read_ferplus(args.data_root)
    spec, split = ComposedSpec(), args.eval_split
    stills = {which: choose_stills(splits, SPLITS[which], spec.confidence) for which in ("train", split)}

    def levels_of(fan: FAN, size: int, name: str) -> dict[int, Clips]:
        found = {}
        for level in args.levels:
            telling = (1 - level / 100,) * 2
            composer = Composer(stills[split], ComposedSpec(telling=telling), split, args.clips, 0)
            file = args.output / f"{name}_{args.eval_split}_{args.clips}_{level}_{composer.stills.digest}-{VERSION}.pt"
            found[level] = encoded(fan, composer, size, compute, file)
        return found

    plain, info = load_fan(args.pretrained, at_type=2)
    plain.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    levels = levels_of(plain, info["image_size"], "backbone")
    methods: dict[str, list[dict[int, dict[str, Any]]]] = {PLAIN: [measured(plain, levels, compute)]}
    for seed in args.seeds:
        composer = Composer(stills["train"], spec, "train", args.train_clips, seed)
        file = args.output / f"backbone_train_{args.train_clips}_seed{seed}_{composer.stills.digest}-{VERSION}.pt"
        clips = encoded(plain, composer, info["image_size"], compute, file)
        for at_type, name in NAMES.items():
            head = args.output / f"head{at_type}_{RATES[at_type]:g}_{args.epochs}_{file.name}"
            model = trained_head(clips, at_type, seed, args.epochs, compute, head).to(compute.device)
            methods.setdefault(name, []).append(measured(model, levels, compute))
            print(
                f"# seed {seed}, {name}: {100 * methods[name][-1][hardest]['accuracy']:.1f} % at {hardest} %",
                flush=True,
            )
    for path in args.checkpoint:
        fan, about = load_fan(path)
        if tuple(about["labels"]) != FERPLUS_LABELS:
            raise SystemExit(f"error: --checkpoint {path}: its classes are not those of FER+")
        fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        methods[path.name] = [measured(fan, levels_of(fan, about["image_size"], path.stem), compute)]
    text, differences = tables(methods, args.levels, levels[args.levels[0]].table.targets.numpy())
    seconds = time.perf_counter() - start
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "device": describe_device(compute.device),
        "precision": compute.precision,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "seconds": seconds,
        "seeds": args.seeds,
        "stills": {SPLITS[which]: [len(part) for part in found.by_class] for which, found in stills.items()},
    }
    for runs in methods.values():
        for run in runs:
            for level in run.values():
                del level["right"]
    args.output.mkdir(parents=True, exist_ok=True)
    content = {**about, "methods": methods, "differences": differences}
    (args.output / f"table_{args.eval_split}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"\n{text}\n\n{args.clips} clips of {SPLITS[split]}, {len(args.seeds)} seeds; {seconds:.0f} s")
    print(f"{about['device']}, {compute.precision}, {about['threads']} threads, {about['versions']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
