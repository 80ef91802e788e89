"""What the program wrote itself: runs, folds, prepared faces, recipes, galleries, the sample, caches."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import Demo_AFEW_Attention
import Prepare_Faces
import Train_Own_Clips
from Code.common import steps as steps_module
from Code.common.names import AFEW_LABELS
from Code.common.steps import Steps
from Code.data.cache import CacheFile
from Code.readers.afew import read_afew
from Code.results.compare import compare_runs
from Code.results.report import write_report
from Code.results.runs import RunFiles, read_run
from Code.sample import draw_sample
from Code.sample.clip import SampleSpec
from Code.training.launch import parse
from Code.training.records import as_dict
from tests.fuzz.data_kinds import BACKBONE, SIDE, encode, people, tiny_checkpoints
from tests.fuzz.engine import Case, Kind
from tests.fuzz.findings import Wrong
from tests.runs import without_pictures

SPEC = SampleSpec(num_train_clips=14, num_val_clips=7, frames=(4, 5), size=32)
SMALL = ("--image-size", SIDE, "--batch-size", 14, "--device", "cpu", "--precision", "fp32", "--lr", 0.01,
         "--workers", 0, "--backbone", BACKBONE, "--pretrained", "none", "--samples-per-clip", 1,
         "--cache", "none")  # fmt: skip


def must(case: Case, script: Any, *flags: object) -> str:
    """Calls a script that has to succeed."""
    status, out, err = case.call(script, *flags)
    if status:
        raise RuntimeError(f"status {status}: {err}")
    return out


def builder(folder: Path) -> Case:
    import random

    return Case(folder, folder, "", random.Random(0))


def trained(folder: Path, *flags: object) -> Path:
    """A run on a small sample, as `folder`/model/run; TensorBoard's file is left out.

    The sample is read as AFEW: without its folders, nothing is drawn in their place.
    """
    draw_sample("Sample", spec=SPEC)
    roots = ("--train-root", "Sample/Train", "--val-root", "Sample/Val")
    lists = ("--train-list", "Sample/list_train.txt", "--val-list", "Sample/list_eval.txt")
    with without_pictures():
        must(builder(folder), Demo_AFEW_Attention, "--dataset", "afew", *roots, *lists, *SMALL, *flags)
    (made,) = (folder / "model").iterdir()
    run = made.rename(folder / "model" / "20260101-000000_afew_relation-attention")
    for path in run.rglob("events.*"):
        path.unlink()
    return run


QUIETLY = ("--device", "cpu", "--workers", 0, "--cache", "none")
RUN = "model/20260101-000000_afew_relation-attention"


def build_run(folder: Path) -> None:
    trained(folder, "--epochs", 2)


def in_unit(value: Any, what: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise Wrong(f"{what}: {value!r} is not from 0 to 1")


def check_metrics(metrics: dict[str, Any], labels: list[str]) -> None:
    """Metrics are possible, and follow from their own confusion matrix."""
    confusion = np.array(metrics["confusion"])
    if confusion.shape != (len(labels), len(labels)) or confusion.dtype.kind != "i" or (confusion < 0).any():
        raise Wrong(f"confusion: {metrics['confusion']}")
    in_unit(metrics["accuracy"], "accuracy")
    in_unit(metrics["uar"], "uar")
    if metrics["num_clips"] != confusion.sum():
        raise Wrong(f"num_clips: {metrics['num_clips']} but a confusion matrix of {confusion.sum()}")
    if abs(metrics["accuracy"] - np.trace(confusion) / max(1, confusion.sum())) > 1e-4:
        raise Wrong(f"accuracy: {metrics['accuracy']} does not follow from {metrics['confusion']}")


def check_run(run: RunFiles) -> None:
    """What a report shows is possible, and its parts fit each other."""
    for name, metrics in run.shown_results:
        check_metrics(as_dict(metrics), run.labels)
        if run.clips and len(run.clips) != metrics.num_clips and not name.startswith("last epoch"):
            raise Wrong(f"rows: {len(run.clips)} of predictions.csv, {metrics.num_clips} clips in results.json")
    names = [clip.name for clip in run.clips]
    if len(set(names)) != len(names):
        raise Wrong(f"a clip twice: {names}")
    for clip in run.clips:
        for value in clip.probabilities:
            in_unit(value, "probability")
        if abs(sum(clip.probabilities) - 1) > 0.01:
            raise Wrong(f"sum of probabilities: {clip.probabilities}")
        if clip.weights is not None:
            for value in (*clip.weights.weight, *clip.weights.alpha):
                in_unit(value, "weight")
            if abs(sum(clip.weights.weight) - 1) > 0.01:
                raise Wrong(f"sum of weights: {clip.weights.weight}")
    for line in run.log:
        for key, value in line.items():
            if key in ("val_accuracy", "val_uar", "train_accuracy") and value is not None:
                in_unit(value, key)
            if isinstance(value, float) and not math.isfinite(value):
                raise Wrong(f"log: {key} {value}")
    epochs = [line["epoch"] for line in run.log]
    if any(not isinstance(epoch, int) or epoch < 1 for epoch in epochs) or epochs != sorted(set(epochs)):
        raise Wrong(f"epochs: {epochs}")


def check_arguments(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Every argument that a run gives back is one that its flag allows."""
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        if value is None or value == action.default or action.nargs == 0:
            if action.nargs == 0 and value is not None and not isinstance(value, bool):
                raise Wrong(f"--resume gives {action.dest}: {value!r}")
            continue
        values = value if isinstance(value, list) else [value]
        for each in values:
            kind: Callable[[str], Any] = action.type or str  # type: ignore[assignment]
            try:
                fits = kind(str(each)) == each
            except (argparse.ArgumentTypeError, ValueError):
                fits = False
            if not fits or (action.choices and each not in action.choices):
                raise Wrong(f"--resume gives {action.dest}: {value!r}")


def read_a_run(case: Case) -> bool:
    """Report, comparison, evaluation, `--resume`."""
    folder, way = case.folder / RUN, case.rng.random()
    if way < 0.55:
        check_run(read_run(folder))
    elif way < 0.65:
        write_report(folder)
        check_run(read_run(folder))
    elif way < 0.75:
        compare_runs([folder, case.whole / RUN], case.folder / "model" / "comparison.html")
        check_run(read_run(folder))
    elif way < 0.97:
        parser = Demo_AFEW_Attention.build_parser()
        check_arguments(parse(parser, ["--resume", str(folder)]), parser)
    else:
        flags = ("--resume", folder) if way < 0.985 else ("-e",)
        with without_pictures():
            status, _, _ = case.call(Demo_AFEW_Attention, *flags, *QUIETLY)
        if status:
            return False
        newest = max(path for path in (case.folder / "model").iterdir() if path.is_dir())
        check_run(read_run(newest))
    return True


def build_folds(folder: Path) -> None:
    run = trained(folder, "--epochs", 1, "--seeds", 0, 1)
    for path in run.rglob("*.pth"):
        path.unlink()


def read_folds(case: Case) -> bool:
    folder = case.folder / RUN
    if case.rng.random() < 0.6:
        if write_report(folder).name == "report.html":  # summary.json is no file
            return False
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for which in ("last", "best"):
            for name in ("accuracy", "uar"):
                in_unit(summary[which][name]["mean"], f"summary {name}")
        return True
    parser = Demo_AFEW_Attention.build_parser()
    check_arguments(parse(parser, ["--resume", str(folder)]), parser)
    return True


def build_resumed(folder: Path) -> None:
    """A training of two epochs that ended after the first."""
    run = trained(folder, "--epochs", 2)
    shutil.copy2(run / "previous.pth", run / "last.pth")
    for name in ("results.json", "predictions.csv", "attention.csv", "clips.csv", "report.html", "previous.pth"):
        (run / name).unlink(missing_ok=True)


def read_resumed(case: Case) -> bool:
    with without_pictures():
        status, _, _ = case.call(Demo_AFEW_Attention, "--resume", case.folder / RUN, *QUIETLY)
    if status:
        return False
    run = read_run(case.folder / RUN)
    check_run(run)
    if [line["epoch"] for line in run.log] != [1, 2]:
        raise Wrong(f"epochs after --resume: {run.log}")
    return True


def build_prepared(folder: Path) -> None:
    (folder / "videos" / "Happy").mkdir(parents=True)
    (folder / "videos" / "Sad").mkdir()
    encode(folder / "videos" / "Happy" / "1.mp4", people(), "h264")
    encode(folder / "videos" / "Sad" / "2.mp4", people(), "mpeg4")
    must(builder(folder), Prepare_Faces, "videos", "faces", "--device", "cpu", "--workers", 1)


def faces_of(output: Path) -> dict[str, bytes]:
    """What Prepare_Faces.py wrote, without its own records."""
    found = sorted(path for path in output.rglob("*") if path.is_file() and ".prepared" not in path.parts)
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in found if path.name[0] != "."}


def read_prepared(case: Case) -> bool:
    """Prepare_Faces.py again: the same faces as before."""
    status, _, _ = case.call(Prepare_Faces, "videos", "faces", "--device", "cpu", "--workers", 1)
    if status:
        return False
    made, whole = faces_of(case.folder / "faces"), faces_of(case.whole / "faces")
    name = case.target.removeprefix("faces/")
    if name.endswith(".jpg") and len(made.get(name, b"")) == len(whole[name]):
        made[name] = whole[name]  # sizes are compared, not bytes
    if made != whole:
        names = sorted(name for name in made.keys() | whole.keys() if made.get(name) != whole.get(name))
        raise Wrong(f"other faces: {names}")
    return True


def build_gallery(folder: Path) -> None:
    import Predict_Video

    tiny_checkpoints(folder)
    for name in ("one", "two"):
        (folder / name).mkdir()
        for number, picture in enumerate(people(4, 64)):
            picture.save(folder / name / f"{number}.jpg")
    must(builder(folder), Predict_Video, "--aligned", "one", "two", "--checkpoint", "run.pth", "--device", "cpu")


def read_gallery(case: Case) -> bool:
    """The page of all answers, when another one is added."""
    from Code.faces.gallery import Gallery

    gallery = Gallery(case.folder / "predictions")
    places = [str(case.folder / name) for name in ("one", "two", "three/one")]
    names = gallery.names(places)
    if len(set(names)) != 3 or any("/" in name for name in names):
        raise Wrong(f"names of figures: {names}")
    gallery.drop(names[2])
    gallery.write()
    return True


def build_recipe(folder: Path) -> None:
    for name, codec in (("Happy", "h264"), ("Sad", "mpeg4")):
        (folder / "videos" / name).mkdir(parents=True)
        for number in range(3):
            encode(folder / "videos" / name / f"{number}.mp4", people(), codec)
    tiny_checkpoints(folder)
    flags = ("--backbone", BACKBONE, "--image-size", SIDE, "--epochs", 1)
    must(builder(folder), Train_Own_Clips, "videos", "--output", "own", "--device", "cpu", "--pretrained", "run.pth",
         "--share", 0.34, "--predict", 0, "--", *flags, "--workers", 0)  # fmt: skip
    for path in (folder / "own").rglob("events.*"):
        path.unlink()


def read_recipe(case: Case) -> bool:
    """Train_Own_Clips.py once more, with steps that do nothing: what it says comes from the files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps_module, "run_python", lambda command, environment: 0)
        if case.target.endswith("steps.json") and case.rng.random() < 0.5:
            steps = Steps(case.path)
            for name in ("faces", "split", "training", "new"):
                steps.begun(name, ["a"], "b")
                steps.run(name, ["a"], "b")
            return True
        flags = ("--backbone", BACKBONE, "--image-size", SIDE, "--epochs", 1)
        status, out, _ = case.call(
            Train_Own_Clips, "videos", "--output", "own", "--device", "cpu", "--pretrained", "run.pth",
            "--share", 0.34, "--predict", 0, "--", *flags, "--workers", 0,
        )  # fmt: skip
    if status:
        return False
    if "held-out clips right: " not in out:
        raise Wrong(f"nothing said: {out}")
    return True


def build_sample(folder: Path) -> None:
    draw_sample(folder / "Sample", spec=SampleSpec(num_train_clips=2, num_val_clips=1, frames=(4, 4), size=32))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_sample(case: Case) -> bool:
    """The same sample again, or it is kept."""
    spec = SampleSpec(num_train_clips=2, num_val_clips=1, frames=(4, 4), size=32)
    draw_sample(case.folder / "Sample", spec=spec)
    made, whole = contents(case.folder / "Sample"), contents(case.whole / "Sample")
    wrong = sorted(name for name in made.keys() | whole.keys() if made.get(name) != whole.get(name))
    if [name for name in wrong if name != case.target.partition("/")[2]]:
        raise Wrong(f"another sample: {wrong}")
    return True


def build_cache(folder: Path) -> None:
    draw_sample(folder / "Sample", spec=SampleSpec(num_train_clips=2, num_val_clips=1, frames=(4, 4), size=32))
    CacheFile(_clips(), 16, Path("Cache")).open(0, lambda line: None, show_progress=False)
    for path in Path("Cache").glob("*.lock"):
        path.unlink()


def _clips() -> Any:
    return read_afew("Sample/Train", "Sample/list_train.txt", labels=AFEW_LABELS)


def read_cache(case: Case) -> bool:
    """Frames of a cache are those of the image files."""
    cache = CacheFile(_clips(), 16, Path("Cache"))
    frames = cache.open(0, lambda line: None, show_progress=False).read(np.arange(cache.num_frames))
    if not torch.equal(frames, cache.source.read(np.arange(cache.num_frames))):
        raise Wrong("frames: not those of the files")
    return True


RUN_FILES = [(f"{RUN}/{name}", form) for name, form in (
    ("args.json", "json"), ("log.jsonl", "lines"), ("results.json", "json"), ("predictions.csv", "table"),
    ("attention.csv", "table"), ("clips.csv", "table"),
)]  # fmt: skip
KINDS = (
    Kind("run", build_run, RUN_FILES, read_a_run, writes=(f"{RUN}/report.html", "model/*"), share=3),
    Kind("folds", build_folds, [(f"{RUN}/*.json", "json"), (f"{RUN}/seed-?/*.json", "json"),
         (f"{RUN}/seed-?/log.jsonl", "lines")], read_folds, writes=(f"{RUN}/summary.html",), share=2),
    Kind("resume", build_resumed, [(f"{RUN}/args.json", "json"), (f"{RUN}/log.jsonl", "lines"),
         (f"{RUN}/last.pth", "bytes")], read_resumed, writes=("model/*",), share=0.5),
    Kind("prepared", build_prepared, [("faces/.prepared/*.json", "json"), ("faces/.prepared/records/*/*.json", "json"),
         ("faces/.prepared/records/*/*.csv", "table"), ("faces/summary.json", "json"), ("faces/faces.csv", "table"),
         ("faces/*/*/*.jpg", "bytes")], read_prepared, writes=("faces", "faces/*"), share=2),
    Kind("gallery", build_gallery, [("predictions/.answers/*.json", "json")], read_gallery,
         writes=("predictions/*",), share=2),
    Kind("recipe", build_recipe, [("own/steps.json", "json"), ("own/clips.csv", "table"), ("own/before.csv", "table"),
         ("own/faces/faces.csv", "table"), ("own/model/*/results.json", "json"),
         ("own/model/*/predictions.csv", "table")], read_recipe, writes=("own/*",)),
    Kind("sample", build_sample, [("Sample/sample.json", "json")], read_sample, writes=("Sample", "Sample/*"), share=2),
    Kind("cache", build_cache, [("Cache/*.frames", "bytes")], read_cache, writes=("Cache/*",), share=2),
)  # fmt: skip
