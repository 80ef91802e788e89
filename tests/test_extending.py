"""docs/extending.md is true: each diff of the page is applied to a copy of the project, trained, stopped, resumed and
evaluated with the page's own commands, with and without a frozen backbone."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from Code.network.attention import all_parameter_names
from Code.network.checkpoints import read_checkpoint
from Code.sample import draw_sample
from Code.sample.clip import SampleSpec

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "extending.md"
WEIGHTS = "pretrain_model/FAN_FER+_composed.pth"
TINY = "--epochs 2 --image-size 32 --batch-size 8 --samples-per-clip 2 --lr 0.01 --workers 0 --cache none --device cpu"
MOST_FILES = {"attention": 2, "dataset": 1, "backbone": 1, "loss": 1, "augmentation": 1}
EMOTIONS = {"Neutral": 1, "Happy": 3, "Sad": 4, "Angry": 5, "Fear": 6, "Disgust": 7, "Surprise": 8}  # RAVDESS's numbers

# Runs commands one after another, so that torch is imported once. A step with "stop" gets SIGTERM after its first
# epoch, and its checkpoint is kept. RUN is the folder of the first run.
DRIVER = """
import contextlib, glob, json, os, shutil, signal, sys
from Code.training import train
from tests.conftest import call_script
from tests.runs import without_pictures
import Demo_AFEW_Attention as script

def call(arguments, stop=False):
    line = train.epoch_line
    if stop:
        train.epoch_line = lambda *given: (os.kill(os.getpid(), signal.SIGTERM), line(*given))[1]
    runs = sorted(glob.glob("model/*/"))
    outcome = call_script(script, *(runs[0] if word == "RUN" else word for word in arguments), cwd=".")
    train.epoch_line = line
    if stop:
        shutil.copy(*glob.glob("model/*/last.pth"), "stopped.pth")
    print(json.dumps([outcome.status, outcome.out, outcome.err]), flush=True)

pictures, steps = json.loads(sys.argv[1])
with contextlib.nullcontext() if pictures else without_pictures():
    for step in steps:
        call(**step)
"""


@dataclass(frozen=True)
class Extension:
    """A section of the page."""

    diff: str
    commands: list[list[str]]

    @property
    def files(self) -> list[str]:
        return re.findall(r"^\+\+\+ b/(.*)$", self.diff, re.MULTILINE)


def extensions() -> dict[str, Extension]:
    """By the last word of their headings; those with a diff."""
    found = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = dict(re.findall(r"^```(\w+ ?\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
        if "diff" in blocks:
            commands = [shlex.split(line, comments=True) for line in blocks["sh extension"].splitlines()]
            found[section.split("\n")[0].split()[-1]] = Extension(blocks["diff"], commands)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project's tracked files. The weights are linked: nothing writes to them."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs a git clone, to know which files belong to the project")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():  # not deleted by an edit that is not committed yet
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copy if not name.startswith("pretrain_model/") else lambda source, to: to.symlink_to(source)
            copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 clips to train on and 14 to evaluate on, in the layout of AFEW."""
    spec = SampleSpec(num_train_clips=14, num_val_clips=14, frames=(4, 5), size=40)
    return draw_sample(tmp_path_factory.mktemp("drawn") / "Sample", spec=spec)


def as_ravdess(clips: Path, root: Path) -> None:
    """The same clips under the names of RAVDESS: 14 actors with two clips each."""
    for split in ("Train", "Val"):
        for number, folder in enumerate(sorted((clips / split).glob("*/*")), start=1):
            emotion = EMOTIONS[folder.parent.name]
            kind = 1 if split == "Train" else 2
            shutil.copytree(folder, root / f"Actor_{number:02d}/01-01-{emotion:02d}-01-01-0{kind}-{number:02d}")


def apply(extension: Extension, tree: Path) -> None:
    done = subprocess.run(["git", "apply", "-"], cwd=tree, input=extension.diff, capture_output=True, text=True)
    assert done.returncode == 0, f"{PAGE.name} no longer fits the code; make its diff anew\n{done.stderr}"


def roots_of(name: str, clips: Path, tree: Path) -> list[str]:
    if name == "dataset":
        as_ravdess(clips, tree / "Data/RAVDESS")
        return []
    lists = ["--train-list", str(clips / "list_train.txt"), "--val-list", str(clips / "list_eval.txt")]
    return ["--train-root", str(clips / "Train"), "--val-root", str(clips / "Val"), *lists]


def try_out(name: str, clips: Path, tree: Path, *, frozen: bool, pictures: bool) -> None:
    """Trains with the page's command, stops after an epoch, resumes, and evaluates with the page's command."""
    extension = extensions()[name]
    apply(extension, tree)
    weights_from = "none" if name == "backbone" else WEIGHTS
    own = roots_of(name, clips, tree)
    checks = [command[2:] for command in extension.commands if "--check" in command]
    train, evaluate = (command[2:] for command in extension.commands if "--check" not in command)
    freeze = ["--freeze-backbone" if frozen else "--no-freeze-backbone", "--pretrained", weights_from]
    steps = [{"arguments": [*check, *own]} for check in checks]
    steps.append({"arguments": [*train, *own, *TINY.split(), *freeze], "stop": True})
    steps.append({"arguments": ["--resume", "RUN"]})
    steps.append({"arguments": [*evaluate, *own, "--cache", "none"]})  # finds the run by dataset and attention
    command = [sys.executable, "-c", DRIVER, json.dumps([pictures, steps])]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    *others, interrupted, resumed, evaluated = map(json.loads, done.stdout.splitlines())
    for status, out, err in (resumed, evaluated):
        assert status == 0, out + err
    for status, out, err in others:  # 1: the check warns of short clips, and of a class without any
        assert status == 1 and "no problems of lists and folders" in out, out + err
    assert interrupted[0] == 143 and "--resume" in interrupted[2], interrupted

    runs = [path.parent for path in (tree / "model").glob("*/args.json")]
    again, run = sorted(runs, key=lambda folder: not folder.name.endswith("_evaluation"))
    stopped = read_checkpoint(tree / "stopped.pth")
    ended = read_checkpoint(run / "last.pth")
    assert (stopped["epoch"], ended["epoch"]) == (1, 2)
    first, second = (json.loads((folder / "results.json").read_text())["best"] for folder in (run, again))
    assert second["loss"] == pytest.approx(first["loss"], abs=1e-5) and second["confusion"] == first["confusion"]
    if pictures:
        assert (run / "report.html").stat().st_size > 10_000

    weights, later = stopped["state_dict"], ended["state_dict"]
    changed = {layer for layer in weights if not torch.equal(weights[layer], later[layer])}
    if name == "backbone":
        assert ended["backbone"] != "resnet18" and {"0.weight", "0.bias"} <= changed
        return
    backbone = read_checkpoint(ROOT / WEIGHTS)["state_dict"].keys() - all_parameter_names()
    head = weights.keys() - backbone
    assert head <= changed, f"not trained: {sorted(head - changed)}"
    assert changed == head if frozen else "layer1.0.conv1.weight" in changed


# Fast


def test_each_extension_takes_few_files() -> None:
    assert {name: len(extension.files) for name, extension in extensions().items()} == MOST_FILES
    rows = re.findall(r"^\| \[an? (\w+)\].*?\| (\d+ \| \d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert ("backbone", "0 | 0") in rows  # of torchvision
    table = dict(rows)
    for name, extension in extensions().items():
        lines = len(re.findall(r"^\+(?!\+\+ )", extension.diff, re.MULTILINE))
        assert table[name] == f"{len(extension.files)} | {lines}", name


def test_the_diffs_fit_the_code_and_its_style(tree: Path) -> None:
    for extension in extensions().values():
        apply(extension, tree)
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "Code"], cwd=tree, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_a_new_attention_is_trained_on_a_frozen_backbone(clips: Path, tree: Path) -> None:
    try_out("attention", clips, tree, frozen=True, pictures=False)


# Slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frozen"),
    [("attention", True), ("attention", False), ("dataset", True), ("loss", True), ("loss", False),
     ("augmentation", False), ("backbone", False)],
)  # fmt: skip
def test_an_extension_works_as_the_page_says(name: str, frozen: bool, clips: Path, tree: Path) -> None:
    try_out(name, clips, tree, frozen=frozen, pictures=True)


ANSWERS = """
import sys
from pathlib import Path
from Code import FAN, Predictor, load_fan
from Code.network.checkpoints import save_atomically
from Code.network.weights import published_weights
from Code.onnx import export

fan = FAN(3, 2).eval()
run = {"format": "emotion-fan/1", "state_dict": published_weights(fan), "at_type": 3, "labels": ["Happy", "Sad"]}
save_atomically({**run, "image_size": 32}, "best.pth")
answer = Predictor("best.pth", "cpu")(sys.argv[1], aligned=True)
assert answer.weights.sum() > 0.999 and answer.weights.std() > 0
export(*load_fan("best.pth"), Path("head.onnx"), "head")
"""


@pytest.mark.slow
def test_a_new_attention_predicts_and_is_exported(clips: Path, tree: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs requirements-onnx.txt")
    apply(extensions()["attention"], tree)
    folder = next((clips / "Val" / "Fear").iterdir())
    command = [sys.executable, "-c", ANSWERS, str(folder)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
