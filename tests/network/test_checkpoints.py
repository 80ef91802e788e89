"""Checkpoint files are read as data: old formats load, damaged ones are named, and no file runs code."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from Code.network.checkpoints import CheckpointError, read_checkpoint, save_atomically

FORMATS = pytest.mark.parametrize("zipped", [False, True], ids=["legacy", "zip"])


def one_line(caught: pytest.ExceptionInfo[CheckpointError], path: Path) -> str:
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


# --------------------------------------------------------------------- what training scripts of 2018 saved


@FORMATS
def test_numpy_numbers(tmp_path: Path, zipped: bool) -> None:
    numbers = [np.float64(80.25), np.float32(0.5), np.float16(0.25), np.int64(-7), np.uint8(200), np.bool_(True)]
    torch.save({"numbers": numbers}, tmp_path / "best.pth", _use_new_zipfile_serialization=zipped)
    for value, number in zip(read_checkpoint(tmp_path / "best.pth")["numbers"], numbers, strict=True):
        assert value == number.item() and type(value) is type(number.item())


def test_numpy_number_under_its_old_module_name(tmp_path: Path) -> None:
    """numpy 2 writes numpy._core; every file of 2018 says numpy.core."""
    path = tmp_path / "old.pth"
    torch.save({"best_prec1": np.float64(48.82)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old.count(b"cnumpy.core.multiarray\nscalar") == 1
    path.write_bytes(old)
    assert read_checkpoint(path)["best_prec1"] == 48.82


@FORMATS
def test_tensors_from_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    """Storages that the file tags as cuda:0 come to the CPU, with or without a GPU here."""
    path = tmp_path / "cuda.pth"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        content = {"state_dict": {"module.x": torch.arange(3.0)}, "best_prec1": torch.tensor(80.2)}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    raw = path.read_bytes()
    assert b"cuda:0" in raw and b"cpu" not in raw
    checkpoint = read_checkpoint(path)
    assert checkpoint["state_dict"]["module.x"].tolist() == [0, 1, 2]
    assert checkpoint["best_prec1"].device.type == "cpu"


# ------------------------------------------------------------------------------ files that are no checkpoint


def test_missing_file_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "pretrain_model" / "Resnet18_FER+_pytorch.pth.tar"
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert "pretrain_model/README.md" in one_line(caught, path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        np.random.default_rng(0).bytes(4096),
        b"<!DOCTYPE html><html>Quota exceeded</html>",
        b"PK\x03\x04" + b"\0" * 100,
        b"\x80\x02",
        pickle.dumps({"state_dict": {}}, protocol=2),
    ],
    ids=["empty", "zeros", "random", "html", "zip head", "pickle head", "plain pickle"],
)
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.pth.tar"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    one_line(caught, path)


def test_not_a_dict_and_not_a_file(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for path, reason in ((tmp_path / "list.pth", "holds a list, not a dict"), (tmp_path, "cannot be read")):
        with pytest.raises(CheckpointError, match=reason) as caught:
            read_checkpoint(path)
        one_line(caught, path)


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, run: Callable[..., object], *arguments: object) -> None:
        self.call = (run, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@FORMATS
@pytest.mark.parametrize("way", ["eval", "os.mkdir"])
def test_code_in_a_file_never_runs(tmp_path: Path, zipped: bool, way: str) -> None:
    target = tmp_path / "executed"
    attack = {
        "eval": Malicious(eval, f"open({str(target)!r}, 'w').close()"),
        "os.mkdir": Malicious(os.mkdir, str(target)),
    }[way]
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {}, "best_prec1": attack}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert "refused, it would run code on loading" in one_line(caught, path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists(), "the attack of this test must be a real one"


class ForgedType:
    """Pickles as numpy.dtype called with ``code``, followed by a state of the attacker's choice."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, (self.code, False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 27)


@pytest.mark.parametrize("code", ["V8", "O8", "f0", "M8", "f8,O", "f99"])
def test_numpy_types_other_than_numbers_are_refused(tmp_path: Path, code: str) -> None:
    """A forged numpy type would let the file choose memory addresses to read."""
    path = tmp_path / "forged.pth"
    scalar = np.float64(0).__reduce__()[0]
    torch.save({"best_prec1": Malicious(scalar, ForgedType(code), b"\x41" * 8)}, path)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    one_line(caught, path)


# --------------------------------------------------------------------------------------- save_atomically


def test_save_replaces_whole_files_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.pth"
    save_atomically({"epoch": 1, "weights": torch.arange(3)}, path)
    save_atomically({"epoch": 2, "weights": torch.arange(3)}, path)
    assert read_checkpoint(path)["epoch"] == 2
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_atomically({"epoch": 3, "unpicklable": lambda: None}, path)
    assert read_checkpoint(path)["epoch"] == 2, "a failed attempt must leave the earlier file"
    assert [file.name for file in path.parent.iterdir()] == ["last.pth"], "no temporary may stay behind"


# ------------------------------------------------------------------------- damage, and the checkpoint before it


def test_every_flipped_bit_is_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    payload = {"state_dict": {"w": torch.arange(64.0)}, "epoch": 3}
    save_atomically(payload, path)
    whole, rng, found = path.read_bytes(), np.random.default_rng(0), 0
    for position in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = read_checkpoint(path)
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            found += 1
        else:  # padding between records
            assert loaded["epoch"] == 3 and torch.equal(loaded["state_dict"]["w"], payload["state_dict"]["w"])
    assert found > 100
