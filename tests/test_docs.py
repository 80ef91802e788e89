"""What the pages say is true: their commands run, their flags exist, their links lead somewhere.

Each block of commands says behind the language of its fence, where no reader sees it, what its commands need:

    ```sh run        nothing: run by the fast tests
    ```sh slow       time: run by `make test-slow`, on little data (see `LITTLE` and the fixture `place`)
    ```sh install    an environment of their own: only the files and targets that they name are checked
    ```sh data       a dataset that is not public
    ```sh gpu        a GPU; likewise `cluster`, `camera`
    ```sh extension  the diff above it: run by test_extending.py

Flags are checked in all of them. Blocks of Python are run likewise. Blocks of other languages are not commands.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from Code import readers
from Code.common.names import FAN_FILE
from Code.sample import draw_sample
from Code.sample.clip import SampleSpec
from tests.fuzz.inputs import encode, people

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    *(f"{folder}/README.md" for folder in ("Data", "model", "pretrain_model", "benchmarks")),
]
RUN, NEEDS = ("run", "slow"), ("install", "data", "gpu", "cluster", "camera", "extension")

# Placeholders of the pages -> files of the fixture `place`.
STAND_INS = {"CLIP480x360": "clip.mp4", "CLIP720x576": "talk.mp4"}
TINY = "--epochs 1 --image-size 32 --samples-per-clip 1 --batch-size 8"
# Script -> flags that keep a command small; the last of a flag that is given twice counts.
LITTLE = {
    "Demo_AFEW_Attention.py": TINY,
    "Pretrain_FERPlus.py": "--epochs 1 --small-epochs 0 --image-size 32 --batch-size 8",
    "benchmarks/backbone_curves.py": f"--extra {TINY}",
    "benchmarks/composed_table.py": "--seeds 0 --epochs 1 --train-clips 16 --clips 8 --levels 50",
    "benchmarks/faces_speed.py": "--frames 2 --rounds 1",
    "benchmarks/full_protocol.py": "--clips 7 --train-frames 8 --val-frames 8 --epochs 2 --extra --image-size 32",
    "benchmarks/precision.py": "--val-clips 7 --image-size 32 --at_types 1 --precisions bf16",
    "benchmarks/report_cost.py": "--clips 3 --frames 4",
    "benchmarks/sample_table.py": f"--seeds 0 --at_types 1 --extra {TINY}",
    "benchmarks/scaling.py": "--frames 100 200 --turns 1",
    "benchmarks/throughput.py": "--image-size 32 --clips 7 --steps 1 --rounds 1 --no-warm-up",
}
# What the Python of a page takes for granted.
PRELUDE = """
import numpy as np, torch
from PIL import Image
frames = np.stack([np.asarray(Image.open("photo.jpg").convert("RGB"))] * 2)
faces, lengths = torch.rand(2, 3, 3, 32, 32), torch.tensor([3, 2])
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its logical lines, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


@cache
def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w*) *(.*)\n((?:(?!```).*\n)*)```$", text, re.MULTILINE):
            line = text[: match.start()].count("\n") + 1
            found.append(Block(page, line, match[1], match[2].strip(), match[3]))
    return found


def marked(language: str, *marks: str) -> list[Block]:
    return [block for block in blocks() if block.language == language and block.mark in marks]


def scripts_in(command: str) -> Iterator[tuple[str, list[str]]]:
    """The scripts and modules of the project that a command starts, each with its own words."""
    words = shlex.split(command, comments=True)
    for index, word in enumerate(words):
        if " " in word and "Demo_AFEW" in word:  # bash -c '...'
            yield from scripts_in(word)
        starts = word.endswith(".py") or (word.startswith("Code.") and words[index - 1] == "-m")
        if starts and (index == 0 or not words[index - 1].startswith("--")):
            rest = words[index + 1 :]
            stop = next((at for at, each in enumerate(rest) if each in ("--", "||", "&&", "|", ";")), len(rest))
            yield word, rest[:stop]
            return


# Fast


def test_every_command_is_run_or_says_what_it_needs() -> None:
    allowed = {"sh": (*RUN, *NEEDS), "python": RUN}
    for block in blocks():
        where = f"{block.page}:{block.line}"
        assert block.mark in allowed.get(block.language, [block.mark]), f"{where}: mark it as one of {allowed}"
        command = re.search(r"^(python|make|torchrun|pip) ", block.text, re.MULTILINE)
        assert block.language in allowed or not command, f"{where}: a command in a block that is not `sh`"
    fences = sum((ROOT / page).read_text(encoding="utf-8").count("\n```") for page in PAGES)
    assert fences == 2 * len(blocks()), "a fence that is not closed, or not at the start of its line"


def test_flags_exist() -> None:
    used = {}
    for block in marked("sh", *RUN, *NEEDS):
        for command in block.commands:
            for script, words in scripts_in(command):
                path = script.replace(".", "/") if script.startswith("Code.") else script.removesuffix(".py")
                assert any((ROOT / f"{path}{end}").is_file() for end in (".py", "/__main__.py")), f"{block}: {script}"
                flags = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
                used.setdefault(path, set()).update((flag, f"{block.page}:{block.line}") for flag in flags)
    scripts = [path for path in used if "/" not in path]
    with ThreadPoolExecutor() as pool:
        helps = dict(zip(scripts, pool.map(help_of, scripts), strict=True))
    for path, flags in used.items():
        # The modules and benchmarks import torch first, so their help is read where it is written.
        sources = [ROOT / f"{path}{end}" for end in (".py", "/__init__.py", "/__main__.py")]
        text = helps.get(path) or "".join(file.read_text(encoding="utf-8") for file in sources if file.is_file())
        for flag, place in flags:
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", text), f"{place}: {path} has no flag {flag}"


@cache
def quick(command: str) -> str:
    """What a command prints that ends at once."""
    done = execute(command, ROOT)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def help_of(script: str) -> str:
    return quick(f"python -I {script}.py --help")  # -I: without the folder of the script, as in embeddable Pythons


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: {target} is not there"
        assert not anchor or anchor in anchors(path), f"{page}: {target}: no such heading"


def anchors(path: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pages_are_short_and_begin_where_users_begin() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:22])
    for wanted in ("make demo", "python Predict_Video.py docs/example.mp4", "make test", "](docs/example.png)"):
        assert wanted in first_screen
    words = {
        page: len((ROOT / page).read_text(encoding="utf-8").split())
        for page in (*PAGES, "CHANGELOG.md", "CONTRIBUTING.md")
    }
    assert sum(words.values()) <= 17_000, sorted(words.items(), key=lambda item: -item[1])


def numbers_of_measured_tables() -> set[str]:
    """The numbers in the tables of all pages that stand in a section with a command, and those of the literature."""
    numbers: set[str] = set()
    for page in PAGES:
        for section in re.split(r"^#+ ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE):
            if "\n```sh " in section or section.startswith("Results in the literature"):
                rows = re.findall(r"^\|.*$", section, re.MULTILINE)
                numbers.update(re.findall(r"\d+(?:\.\d+)?", " ".join(rows)))
    return numbers


@pytest.mark.parametrize("page", ["README.md", "docs/weights.md"])
def test_percentages_in_prose_are_in_a_table_beside_its_command(page: str) -> None:
    text = re.sub(r"^```.*?^```$|^\|.*$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    said = re.findall(r"(?:(\d+(?:\.\d+)?)(?: to |, | and ))?(\d+(?:\.\d+)?) %", text.replace("95 % interval", ""))
    unfounded = {number for pair in said for number in pair if number} - numbers_of_measured_tables()
    assert not unfounded, f"{page}: no table beside a command has {sorted(unfounded)} %"


def test_defaults_in_options_are_those_of_the_protocols() -> None:
    text = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    table = {row[0].split(",")[0].split(" (")[0]: row[1:] for row in rows[:9]}
    assert set(re.findall(r"`(\w+)`", " ".join(table["flag"]))) == set(readers.names())
    for column, names in enumerate(table["flag"]):
        for dataset in re.findall(r"`(\w+)`", names):
            protocol = readers.find(dataset).protocol
            said = {row: cells[column] for row, cells in table.items()}
            decay = f"{protocol.decay:g}: {', '.join(f'{at:g}' for at in protocol.decay_at)}"
            assert float(said["`--lr`"]) == protocol.lr, dataset
            assert (said["`--freeze-backbone`"] == "yes") == protocol.freeze_backbone, dataset
            for row, value in {
                "`--epochs`": protocol.epochs,
                "factor on the learning rate": decay,
                "`--batch-size`": protocol.batch_size,
                "`--frames`": protocol.num_frames,
                "`--samples-per-clip` in an epoch": protocol.samples_per_clip or "its frames",
            }.items():
                assert said[row] == str(value), (dataset, row)


def test_what_installs_names_files_and_targets_that_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for block in marked("sh", "install", *RUN):
        for command in block.commands:
            words = shlex.split(command, comments=True)
            for flag, name in pairwise(words):
                assert flag != "-r" or (ROOT / name).is_file(), f"{block.page}: {command}"
                assert flag != "make" or name in targets, f"{block.page}: {command}"


def test_quick_commands_run_and_python_compiles() -> None:
    for block in marked("python", *RUN):
        ast.parse(block.text, f"{block.page}:{block.line}")
    with ThreadPoolExecutor() as pool:
        list(pool.map(quick, (command for block in marked("sh", "run") for command in block.commands)))


# Slow


def execute(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a shell command with this Python."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=1800
    )


def made_little(command: str) -> str:
    """A command of a page on little data."""
    command = re.sub(r"\s#.*$", "", command)
    for placeholder, name in STAND_INS.items():
        command = command.replace(placeholder, name)
    for script, flags in LITTLE.items():
        if script not in command or re.search(r"--check\b", command):
            continue
        if script == "Demo_AFEW_Attention.py" and re.search(r" (-e|--resume)\b", command):
            flags = ""
        if "composed" in command and script == "Demo_AFEW_Attention.py":
            flags += " --train-clips 16 --val-clips 8"
        if script == "Pretrain_FERPlus.py" and " -e " in command:
            flags = ""
        command = f"{command} {flags}"
    return command


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, make_ferplus) -> Path:
    """A copy of the project with little data under the names that the pages use."""
    place = tmp_path_factory.mktemp("pages") / "project"
    place.mkdir()
    for name in ("Code", "docs", "benchmarks", "tools"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.py"), *ROOT.glob("*.txt"), ROOT / "Makefile", ROOT / "pyproject.toml"):
        shutil.copy(file, place)
    (place / "pretrain_model").mkdir()
    (place / FAN_FILE).symlink_to(ROOT / FAN_FILE)
    # Few and small clips that pass for the whole sample, for AFEW, and for folders of face crops.
    sample = draw_sample(
        place / "Data" / "Sample", spec=SampleSpec(num_train_clips=14, num_val_clips=7, frames=(4, 6), size=48)
    )
    stamp = json.loads((sample / "sample.json").read_text())
    (sample / "sample.json").write_text(json.dumps({**stamp, "spec": asdict(SampleSpec())}))
    for source, names in {"Train": ("Data/Train", "faces/train"), "Val": ("Data/Val", "faces/val")}.items():
        for name in names:
            shutil.copytree(sample / source, place / name)
    rows = []
    for split, persons in (("train", 7), ("val", 1)):
        for index, clip in enumerate(sorted((place / "faces" / split).glob("*/*"))):
            rows.append(f"{clip.relative_to(place)},{clip.parent.name},{split},{split}{index % persons}")
    (place / "own.csv").write_text("\n".join(["path,label,split,person", *rows]) + "\n")
    make_ferplus(place / "Data" / "FERPlus", as_csv=False, counts={"Training": 48, "PublicTest": 32, "PrivateTest": 32})
    write_videos(place)
    train = f"python Demo_AFEW_Attention.py --dataset sample --at_type 1 {TINY}"
    for name in ("RUN", "RUN2"):
        done = execute(f"{train} --output {name} --seed {len(name)} && mv {name}/* model_{name}", place)
        assert done.returncode == 0, done.stderr
        (place / "model").mkdir(exist_ok=True)
        (place / f"model_{name}").rename(place / "model" / name)
    return place


def write_videos(place: Path) -> None:
    """Videos of drawn people, and a picture."""
    pytest.importorskip("av", reason="videos need PyAV")
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    clips = {
        f"videos/{label}/p{person}_{label}.mp4": (label, person) for label in ("Happy", "Sad") for person in range(3)
    }
    for name, (label, person) in {**clips, "clip.mp4": ("Happy", 0), "talk.mp4": ("Surprise", 1)}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        pictures = people(label, person, size=144)
        encode(place / name, pictures, "mpeg4")
        pictures[0].save(place / "photo.jpg")


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "project", symlinks=True))


def made_from(command: str, place: Path) -> list[str]:
    """A command of a page, or those of a target of the Makefile, on little data."""
    if not command.startswith("make "):
        return [made_little(command)]
    target = shlex.split(command, comments=True)[1]
    if target == "test":
        return []  # runs this
    lines = execute(f"make -n {target}", place).stdout.splitlines()
    return [made_little(line.replace('".venv/bin/python"', "python")) for line in lines if "Demo_AFEW" in line]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", sorted({block.page for block in blocks() if block.mark == "slow"}))
def test_commands_run_in_their_order(page: str, place: Path) -> None:
    failed = []
    for block in blocks():
        if block.page != page or block.mark != "slow":
            continue
        if block.language == "python":
            (place / "block.py").write_text(PRELUDE + block.text)
            commands = ["python block.py"]
        else:
            commands = [small for command in block.commands for small in made_from(command, place)]
        for command in commands:
            done = execute(command, place)
            if done.returncode and not (done.returncode == 1 and "--check" in command):  # warns of clips of few frames
                failed.append(f"{page}:{block.line}: {command}\n{(done.stdout + done.stderr)[-2000:]}")
    assert not failed, "\n\n".join(failed)
