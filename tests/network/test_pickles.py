"""A file that would run code when it is unpickled: refused in one line in every place where a file is read."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch

import Demo_AFEW_Attention as main_script
import Predict_Video as predict_script
import Pretrain_FERPlus as pretrain_script
from tests.runs import flags_of


class Planter:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.fixture
def evil(tmp_path) -> tuple[bytes, Path]:
    """(a file's bytes, the file that it would make)."""
    planted, file = tmp_path / "planted", io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "labels": Planter(planted)}, file)
    return file.getvalue(), planted


def begun_run(cwd: Path, data: bytes, given: dict, *names: str) -> str:
    """A run's folder whose checkpoints are the file."""
    folder = cwd / "model" / "20260101-000000_sample_relation-attention"
    folder.mkdir(parents=True)
    (folder / "args.json").write_text(json.dumps({"given": given}))
    for name in names:
        (folder / name).write_bytes(data)
    return str(folder.relative_to(cwd))


@pytest.mark.parametrize(
    "place",
    ["main --pretrained", "main default backbone", "main -e", "main -e default",
     "predict", "pretrain --pretrained", "pretrain default start", "pretrain -e"],
)  # fmt: skip
def test_scripts_refuse_it(call, evil, sample, ferplus, tmp_path, place):
    data, planted = evil
    (tmp_path / "evil.pth").write_bytes(data)
    training = (*flags_of(sample, "--epochs", 1), "--workers", 0, "--cache", "none")
    fer = ("--data-root", ferplus, "--device", "cpu")
    faces = ("--aligned", next((sample / "Val" / "Sad").iterdir()), "--device", "cpu")
    backbone = tmp_path / "pretrain_model"
    backbone.mkdir()
    script, flags = main_script, ()
    if place == "main --pretrained":
        flags = (*training, "--pretrained", "evil.pth")
    elif place == "main default backbone":
        shutil.copy(tmp_path / "evil.pth", backbone / "Resnet18_FER+_pytorch.pth.tar")
        flags = training
    elif place == "main -e":
        flags = ("-e", "--checkpoint", "evil.pth", *training)
    elif place == "main -e default":
        begun_run(tmp_path, data, {}, "best.pth")
        flags = ("-e", *training)
    elif place == "predict":
        script, flags = predict_script, ("--checkpoint", "evil.pth", *faces)
    elif place == "pretrain --pretrained":
        script, flags = pretrain_script, ("--pretrained", "evil.pth", *fer)
    elif place == "pretrain default start":
        shutil.copy(tmp_path / "evil.pth", backbone / "Resnet18_MS1M_pytorch.pth.tar")
        script, flags = pretrain_script, fer
    else:
        script, flags = pretrain_script, ("-e", "--checkpoint", "evil.pth", *fer)
    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 2, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert any(name in line for name in ("evil.pth", "last.pth", "previous.pth", "best.pth", "Resnet18_"))
    assert "refused" in line or "not a checkpoint" in line
    assert "Traceback" not in outcome.err and not planted.exists()
