"""What Demo_AFEW_Attention.py says to somebody whose command cannot work: exit status 2 and the way out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import Demo_AFEW_Attention as script
from Code.network.fan import FAN
from Code.readers import names
from Code.training.run import checkpoint_payload

SCRIPT = Path(script.__file__).resolve()


@pytest.fixture
def data(tmp_path: Path, sample: Path) -> Path:
    """A working directory with the sample as AFEW in Data/."""
    (tmp_path / "Data").mkdir()
    for name in ("Train", "Val", "list_train.txt", "list_eval.txt"):
        (tmp_path / "Data" / name).symlink_to(sample / name)
    return tmp_path


def refused(outcome, *fragments: str, lines: int | None = 1) -> None:
    assert outcome.status == 2, outcome
    assert "Traceback" not in outcome.err
    for fragment in fragments:
        assert fragment in outcome.err
    if lines:
        assert len(outcome.err.strip().splitlines()) == lines, outcome.err


def test_first_command_in_an_empty_folder_gets_a_newcomer_further(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--at_type", "1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) < 20
    for fragment in ("Data/Train", "--dataset sample", "Happy"):
        assert fragment in done.stderr
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_help_shows_every_flag_its_default_and_an_example_per_use(call, tmp_path):
    outcome = call(script, "--help", cwd=tmp_path)
    assert outcome.status == 0 and outcome.err == ""
    flags, text = script.build_parser()._option_string_actions, " ".join(outcome.out.split())
    for word in (*flags, *names(), "(default: auto)", "(default: model)", "(default: Data/Train)", "(afew: 4e-6)"):
        assert word in text
    for use in ("--dataset sample", "-e", "--checkpoint", "--resume", "--fold all", "--pretrained none"):
        assert use in outcome.out.partition("examples:")[2]
    assert max(map(len, outcome.out.splitlines())) <= 120


def test_missing_weights_say_where_they_belong_and_how_to_start_without(call, data):
    outcome = call(script, cwd=data)
    refused(outcome, "pretrain_model/Resnet18_FER+_pytorch.pth.tar", "--pretrained none")
    refused(call(script, "--pretrained", "my/own.pth", cwd=data), "my/own.pth", "--pretrained none")
    assert not list(data.glob("model/*"))


@pytest.mark.parametrize(
    "words",
    ["--epochs 0", "--lr -1", "--lr nan", "--seed -1", "--image-size 4097", "--at_type 3", "--dataset nosuch",
     "--precision int8", "--no-such-flag"],
)  # fmt: skip
def test_values_that_make_no_sense_name_their_flag(call, tmp_path, words):
    refused(call(script, *words.split(), cwd=tmp_path), words.split()[0])


@pytest.mark.parametrize("pair", ["happy=happiness", "Happy=none"])
def test_a_training_maps_the_classes_of_its_data_and_drops_none(call, data, pair):
    flags = ("--pretrained", "none", "--image-size", 32, "--device", "cpu", "--map-labels", pair)
    refused(
        call(script, *flags, cwd=data), f"--map-labels {pair}: a training has all classes of the data: Happy, Angry"
    )
    assert not list(data.glob("model/*"))


def test_numbers_that_no_memory_holds(call, data):
    flags = ("--pretrained", "none", "--image-size", 32, "--device", "cpu", "--samples-per-clip", 999_999_999)
    outcome = call(script, *flags, "--frames", 99_999, cwd=data)
    assert outcome.status == 1 and "Traceback" not in outcome.err
    assert "error: not enough memory" in outcome.err and "--samples-per-clip" in outcome.err


def test_checkpoint_that_cannot_be_evaluated(call, data, tmp_path):
    refused(call(script, "-e", cwd=data), "no trained network for dataset afew in model", "--checkpoint")
    refused(call(script, "-e", "--checkpoint", "model/a/best.pth", cwd=data), "model/a/best.pth: no such file")
    refused(call(script, "-e", "--checkpoint", "Data", cwd=data), "Data: neither best.pth nor last.pth")
    (data / "text.pth").write_text("nothing")
    refused(call(script, "-e", "--checkpoint", "text.pth", cwd=data), "text.pth: not a checkpoint")


def test_checkpoint_of_another_attention_or_other_classes(call, data):
    about = {"image_size": 32, "dataset": "afew", "protocol": {}, "precision": "fp32", "epoch": 1, "metrics": {}}
    torch.save(checkpoint_payload(FAN(0, 2), labels=["a", "b"], **about), data / "two.pth")
    damaged = data / "model" / "newest"  # is not looked at
    damaged.mkdir(parents=True)
    (damaged / "best.pth").touch()
    (damaged / "args.json").write_text("[1, 2")
    outcome = call(script, "-e", "--checkpoint", "two.pth", "--at_type", 1, cwd=data)
    refused(outcome, "--at_type 1: two.pth was trained with --at_type 0")
    refused(
        call(script, "-e", "--checkpoint", "two.pth", cwd=data), "its classes are a, b; those of the data are Happy"
    )


@pytest.mark.parametrize("contents", [b"", b"not an image", None])
@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_frame_is_named_without_a_traceback(call, sample, tmp_path, contents, workers):
    shutil.copytree(sample, tmp_path / "copy")
    victims = [sorted((tmp_path / "copy").glob(pattern))[-1] for pattern in ("Train/*/*/*.jpg", "Val/*/*/*.jpg")]
    for path in victims:  # the last frame: without images, or broken off in the middle
        path.write_bytes(path.read_bytes()[:400] if contents is None else contents)
    flags = ("--dataset", "folders", "--pretrained", "none", "--image-size", 32, "--device", "cpu", "--epochs", 1)
    roots = ("--train-root", "copy/Train", "--val-root", "copy/Val", "--samples-per-clip", 40)
    outcome = call(script, *flags, *roots, "--workers", workers, cwd=tmp_path)
    refused(outcome, str(victims[0].relative_to(tmp_path)), lines=None)
    if contents is not None:  # seen at once, before the training: all of them
        assert str(victims[1].relative_to(tmp_path)) in outcome.err
        assert not list(tmp_path.glob("model/*"))
