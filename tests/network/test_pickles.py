"""A file that would run code when it is unpickled: refused in one line in every place where a file is read."""

from __future__ import annotations

import io
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


@pytest.mark.parametrize("place", ["main --pretrained", "main -e", "predict", "pretrain default start"])
def test_scripts_refuse_it(call, evil, sample, ferplus, tmp_path, place):
    data, planted = evil
    (tmp_path / "evil.pth").write_bytes(data)
    training = (*flags_of(sample, "--epochs", 1), "--workers", 0, "--cache", "none")
    if place == "main --pretrained":
        script, flags = main_script, (*training, "--pretrained", "evil.pth")
    elif place == "main -e":
        script, flags = main_script, ("-e", "--checkpoint", "evil.pth", *training)
    elif place == "predict":
        crops = next((sample / "Val" / "Sad").iterdir())
        script, flags = predict_script, ("--checkpoint", "evil.pth", "--aligned", crops, "--device", "cpu")
    else:
        (tmp_path / "pretrain_model").mkdir()
        shutil.copy(tmp_path / "evil.pth", tmp_path / "pretrain_model" / "Resnet18_MS1M_pytorch.pth.tar")
        script, flags = pretrain_script, ("--data-root", ferplus, "--device", "cpu")
    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 2, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert any(name in line for name in ("evil.pth", "Resnet18_MS1M")) and "refused" in line
    assert "Traceback" not in outcome.err and not planted.exists()
