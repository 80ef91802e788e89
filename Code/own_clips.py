"""From videos or pictures in class folders to a network that is fitted to them, and what the fit is worth.

Faces are found and encoded once. A part of the clips is held out, the classifier is fitted to the others
(`Code.recipes.fit`), and the held-out clips are answered before and after; if asked for, also after a whole training.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .common.errors import ProjectError, UsageError
from .common.files import PROJECT, atomic_text, one_writer, save_text
from .common.names import DEFAULT_AT_TYPE, counted, expression, natural_key
from .common.progress import Progress
from .data.clips import Clip, ClipSet, DataError
from .data.folds import name_persons
from .data.listing import FRAME_SUFFIXES
from .faces.inputs import Job, find_jobs
from .faces.neutral import NEUTRAL, PART
from .faces.predict import NoFaceError, Predictor
from .network.checkpoints import read_checkpoint, save_atomically
from .network.fan import FAN
from .readers.heldout import as_list, split_clips
from .readers.tables import parse_table
from .recipes.fit import STRENGTH, fit_head, fit_helps
from .results.runs import read_run
from .training.intervals import difference_text, paired_difference
from .training.run import checkpoint_payload

MANY = 300  # clips with which a training of the whole network may be better than a fit
# Of a frozen backbone's head. With more epochs or a higher rate it overfits few clips; new classes need more.
EPOCHS, RATE, EPOCHS_OF_NEW, RATE_OF_NEW = 12, 0.001, 24, 0.003
BATCH, SAMPLES, FEWEST_SAMPLES = 32, 400, 4
FEWEST_PERSONS = 5  # whose mean is a typical neutral face; that of two made answers worse
Command = Callable[[Sequence[str]], int]  # a script's `main`: flags -> exit status


@dataclass
class OwnClips:
    """The N clips that show a face, divided into those of the fit and those that are held out."""

    names: list[str]  # `<Class>/<name>`
    classes: tuple[str, ...]  # C names
    targets: np.ndarray  # int64 [N]
    held: np.ndarray  # bool [N], whether a clip is held out
    persons: np.ndarray  # N names, "" where unknown
    features: np.ndarray  # float64 [N, D], of the clips by the network that is fitted

    def with_references(self, mean: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None, int]:
        """The features with each person's neutral clips as reference of their other clips, see `Code.faces.neutral`.

        `mean` is the neutral feature, float [D]; None: that of the persons of the fit, if there are `FEWEST_PERSONS`.
        Returns features, float64 [N, D], the mean neutral feature, and how many clips have a reference.
        """
        neutral = np.array([expression(self.classes[target]) == NEUTRAL for target in self.targets])
        neutral &= self.persons != ""
        if mean is None:
            known = neutral & ~self.held
            own = [self.features[known & (self.persons == person)].mean(axis=0) for person in set(self.persons[known])]
            mean = np.mean(own, axis=0) if len(own) >= FEWEST_PERSONS else None
        features, count = self.features.copy(), 0
        for at, person in enumerate(self.persons if mean is not None else ()):
            others = neutral & (self.persons == person) & (np.arange(len(neutral)) != at)
            if others.any():
                features[at] -= PART * (self.features[others].mean(axis=0) - mean)
                count += 1
        return features, mean, count

    def compared(self, right: Mapping[str, np.ndarray]) -> str:
        """Compares ways, each bool [held-out clips]: right answers, last minus first with interval, each class."""
        truth = self.targets[self.held]

        def counts(some: np.ndarray) -> str:
            return ", ".join(f"{values[some].sum()} of {some.sum()} {way}" for way, values in right.items())

        (first, base), *_, (last, best) = right.items()
        gain = paired_difference(best, base, truth)
        lines = [f"held-out clips right: {counts(truth >= 0)}"]
        lines.append(f"{last} - {first}: {100 * gain.value:+.1f} points ({difference_text(gain, 1)})")
        lines += [f"  {self.classes[at]}: {counts(truth == at)}" for at in np.unique(truth)]
        return "\n".join(lines)


def find_clips(root: Path) -> dict[str, str]:
    """`<Class>/<name>` -> a video, a folder of frames or a picture; DataError: one is not in a class folder."""
    paths: dict[str, str] = {}
    for job in find_jobs(root)[0]:
        pictures = [each for each in Path(job.path).glob("*") if each.suffix.lower() in FRAME_SUFFIXES]
        if job.name.count("/") == 1:
            paths[job.name] = job.path
        elif pictures and Path(job.path).parent == root:
            paths |= {f"{job.name}/{picture.name}": str(picture) for picture in pictures}
        else:
            where = f"{root}/<Class>/<name>.mp4 or <Class>/<name>.jpg"
            raise DataError(f"{job.path}: is not in a class folder; put all into {where}")
    return dict(sorted(paths.items(), key=lambda item: natural_key(item[0])))


def encoded(paths: Mapping[str, str], predictor: Predictor, fps: float, kept: Path) -> dict[str, np.ndarray]:
    """The features, float64 [D], of each clip that shows a face; those that the file `kept` has are not made again."""
    network = str(predictor.info["path"])
    made_with = [network, *Job("", network).fingerprint(), fps]
    before = read_checkpoint(kept) if kept.is_file() else {}
    clips: dict[str, Any] = before["clips"] if before.get("made_with") == made_with else {}
    now = {name: Job("", path).fingerprint() for name, path in paths.items()}
    left = [name for name in paths if name not in clips or clips[name][0] != now[name]]
    try:
        with Progress("finding faces", len(paths), unit="clips", done=len(paths) - len(left), show=bool(left)) as bar:
            for name in left:
                clips.pop(name, None)
                try:
                    (answer,) = predictor.answer(paths[name], people="main", fps=fps or None)
                    output = predictor.attend(torch.from_numpy(answer.features).to(predictor.device))
                    clips[name] = now[name], output.clip_features[0].cpu()
                except (NoFaceError, DataError) as error:
                    bar.say(f"skipped: {error}")
                bar(1)
    finally:  # what was made is kept if the user stops
        save_atomically({"made_with": made_with, "clips": clips}, kept)
    return {name: clips[name][1].double().numpy() for name in paths if name in clips}


def divided(
    features: Mapping[str, np.ndarray], videos: Path, output: Path, *, share: float, seed: int, pattern: str | None
) -> OwnClips:
    """The clips, divided by OUTPUT/clips.csv, which people may correct; other clips or flags divide them anew."""
    table, state = output / "clips.csv", output / "own.json"
    now = json.dumps({"share": share, "seed": seed, "person_pattern": pattern, "clips": sorted(features)}) + "\n"
    if not (table.is_file() and state.is_file() and state.read_text(encoding="utf-8") == now):
        labels = tuple(sorted({name.split("/")[0] for name in features}, key=natural_key))
        rows = [Clip(name, str(videos), (name,), labels.index(name.split("/")[0])) for name in features]
        clips = ClipSet(rows, labels, str(videos))
        train, val, how = split_clips(name_persons(clips, pattern) if pattern else clips, share=share, seed=seed)
        save_text(as_list(train, val), table)
        save_text(now, state)
        print(f"{table}: {counted(len(train.clips), 'clip')} to fit to, {len(val.clips)} held out ({how})", flush=True)
    listed = parse_table(str(table))
    if listed.problems:
        raise listed.error()
    known = [clip for clip in listed.clips if clip.name in features]
    own = OwnClips(
        names=[clip.name for clip in known],
        classes=tuple(listed.labels),
        targets=np.array([clip.label for clip in known]),
        held=np.array([clip.split != "train" for clip in known]),
        persons=np.array([clip.person for clip in known]),
        features=np.stack([features[clip.name] for clip in known]),
    )
    fitted = {row.tobytes() for row in own.features[~own.held]}
    copies = [own.names[at] for at in np.flatnonzero(own.held) if own.features[at].tobytes() in fitted]
    if copies:
        print(f"warning: {counted(len(copies), 'held-out clip')} also in the fit, such as {copies[0]}", flush=True)
    return own


def classes_kept(classes: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Your class -> the network's class that gives it its weights: of the same name, or of the same expression."""
    by_expression = {expression(label): label for label in labels}
    pairs = {name: name if name in labels else by_expression.get(expression(name)) for name in classes}
    return {name: label for name, label in pairs.items() if label is not None}


def fit(own: OwnClips, predictor: Predictor, output: Path) -> tuple[str, np.ndarray]:
    """Writes OUTPUT/fan.pth and answers.csv; returns what the fit is worth, and which held-out clips it gets right."""
    classifier, stated = predictor.fan.classifier, predictor.info["neutral_feature"]
    kept = classes_kept(own.classes, predictor.labels)
    known = np.array([name in kept for name in own.classes])
    rows = [predictor.labels.index(kept[name]) for name in own.classes if name in kept]
    weight, bias = np.zeros((len(own.classes), own.features.shape[1])), np.zeros(len(own.classes))
    weight[known], bias[known] = classifier.weight[rows].cpu().numpy(), classifier.bias[rows].cpu().numpy()
    typical = None if stated is None else np.tile(stated, own.features.shape[1] // len(stated))
    features, typical, count = own.with_references(typical)
    x, y, persons = features[~own.held], own.targets[~own.held], own.persons[~own.held].tolist()
    helps, why = True, "some classes are new to the network"
    if known.all():
        helps, why = fit_helps(x, y, persons, weight, bias)
    fitted = fit_head(x, y, weight, bias) if helps else (weight, bias)
    about = {"clips": len(y), "strength": STRENGTH if helps else None, "clips_with_a_reference": count}
    save_atomically(fitted_network(predictor, own.classes, *fitted, about, typical), output / "fan.pth")

    answers = {
        "before": np.where(known, own.features @ weight.T + bias, -np.inf).argmax(axis=1),
        "after": (features @ fitted[0].T + fitted[1]).argmax(axis=1),
    }
    with atomic_text(output / "answers.csv", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["clip", "class", "person", "held_out", *answers])
        for at, name in enumerate(own.names):
            given = [own.classes[labels[at]] for labels in answers.values()]
            table.writerow([name, own.classes[own.targets[at]], own.persons[at], int(own.held[at]), *given])
    right = {way: (given == own.targets)[own.held] for way, given in answers.items()}
    how = f"fitted with strength {STRENGTH:g}" if helps else "the network stays as it is"
    references = f"{count} of {counted(len(own.names), 'clip')} with the person's neutral clips as reference"
    return f"{how}: {why}\n{references}\n{own.compared(right)}", right["after"]


def fitted_network(
    predictor: Predictor, classes: Sequence[str], weight: np.ndarray, bias: np.ndarray, about: dict[str, Any],
    typical: np.ndarray | None,
) -> dict[str, Any]:  # fmt: skip
    """The network with another classifier: an ordinary file of a FAN, for the crops of the one that it was."""
    source, info = predictor.fan, predictor.info
    fan = FAN(source.at_type, len(classes), backbone=source.backbone.name)
    others = {name: value for name, value in source.state_dict().items() if f".{fan.head.classifier}." not in name}
    fan.load_state_dict(others, strict=False)
    fan.classifier.weight.data, fan.classifier.bias.data = Tensor(weight), Tensor(bias)
    return checkpoint_payload(
        fan,
        labels=list(classes),
        dataset=info["dataset"] or ("ferplus" if info["kind"] == "frame classifier" else None),
        metrics={},
        recipe={**(info["recipe"] or {}), "own_fit": about},
        neutral_feature=None if typical is None else typical[: fan.feature_size].tolist(),
        **{name: info[name] for name in ("image_size", "protocol", "precision", "epoch")},
    )


def train_whole(
    own: OwnClips, videos: Path, output: Path, predictor: Predictor, flags: Sequence[str],
    prepare: Command, train: Command, *, fps: float, seed: int, device: str,
) -> tuple[Path, np.ndarray]:  # fmt: skip
    """Trains attention and classifier; returns the run's folder, and which held-out clips are right, bool.

    The folder is named by flags and clips, so that the same command resumes it.
    """
    faces, table, start = output / "faces", output / "clips.csv", predictor.info
    rate = ["--fps", f"{fps:g}"] if fps else []
    _call("Prepare_Faces.py", [str(videos), str(faces), *rate, "--device", device], prepare, passes=1)
    is_fan = predictor.fan.head.weighs_frames  # a frame classifier gives its backbone
    kept = classes_kept(own.classes, start["labels"]) if is_fan else {}
    at_type = str(start["at_type"] if is_fan else DEFAULT_AT_TYPE)
    renamed = [f"{name}={label}" for name, label in kept.items() if name != label]
    epochs, step = (EPOCHS, RATE) if len(kept) == len(own.classes) else (EPOCHS_OF_NEW, RATE_OF_NEW)
    samples = max(FEWEST_SAMPLES, math.ceil(SAMPLES / max(1, int((~own.held).sum()))))
    words = ["--dataset", "list", "--train-root", str(faces), "--train-list", str(table)]
    words += ["--pretrained", str(start["path"]), *(["--map-labels", *renamed] if renamed else [])]
    words += ["--at_type", at_type, "--freeze-backbone", "--epochs", str(epochs), "--lr", f"{step:g}"]
    words += ["--batch-size", str(BATCH), "--samples-per-clip", str(samples), "--select-on", "last"]
    words += ["--seed", str(seed), "--cache", "none", "--device", device, "--precision", "fp32", *flags]
    run = output / "model" / hashlib.sha256(f"{words} {table.read_text()}".encode()).hexdigest()[:12]
    _call("Demo_AFEW_Attention.py", [*words, "--resume", str(run)], train)
    said = {clip.name: clip.right for clip in read_run(run).clips}
    if not said:
        raise UsageError(f"{run}: no results; do the flags after -- ask for a training?")
    return run, np.array([said.get(name, False) for name, out in zip(own.names, own.held, strict=True) if out])


def _call(script: str, words: Sequence[str], main: Command, passes: int = 0) -> None:
    """Prints a command, which also works alone, and calls it; exit statuses up to `passes` are no failures."""
    print(shlex.join(["python", str(PROJECT / script), *words]), flush=True)
    if (status := main(words)) > passes:  # it has printed why
        error = ProjectError(f"{script} failed; what was done before it is kept, and the same command resumes here")
        error.status = status
        raise error


def run(
    videos: Path, output: Path, pretrained: Path | None, *, fps: float, share: float, person_pattern: str | None,
    seed: int, device: str, training: tuple[Sequence[str], Command, Command] | None,
) -> int:  # fmt: skip
    """Goes through the steps, and prints what they came to; returns the number of clips.

    `training`: also train the whole network: flags, Prepare_Faces.py and Demo_AFEW_Attention.py.
    """
    paths = find_clips(videos)
    with one_writer(output):
        predictor = Predictor(pretrained, device, precision="fp32")
        print(f"start: {predictor.info['path']} ({', '.join(predictor.labels)})", flush=True)
        features = encoded(paths, predictor, fps, output / "features.pt")
        if not features:
            raise DataError(f"{videos}: no clip shows a face")
        own = divided(features, videos, output, share=share, seed=seed, pattern=person_pattern)
        report, right = fit(own, predictor, output)
        print(f"{report}\nnetwork: {output / 'fan.pth'}", flush=True)
        if training:
            folder, trained = train_whole(own, videos, output, predictor, *training, fps=fps, seed=seed, device=device)
            compared = own.compared({"after the fit": right, "after the training": trained})
            print(f"{compared}\nnetwork: {folder / 'best.pth'}\nreport:  {folder / 'report.html'}")
            report += "\n" + compared
        save_text(report + "\n", output / "report.txt")
    return len(own.names)
