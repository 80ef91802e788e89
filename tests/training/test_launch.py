"""How a restarted command finds its run, and which command goes on with one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
import torch

import Demo_AFEW_Attention as script
from Code.common.device import Compute
from Code.training import launch
from Code.training.run_places import new_run

VARIABLES = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "WORLD_SIZE")


@pytest.fixture(autouse=True)
def started_plainly(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.argv", ["Demo_AFEW_Attention.py", "--seed", "3"])


def begun(args: argparse.Namespace) -> Path:
    with new_run(args.output, "afew", "relation-attention") as run:
        run.write_arguments(launch.plain(args), {}, Compute(torch.device("cpu")))
        run.save("last.pth", {})
        run.close()
    return run.folder


def parsed(tmp_path: Path, *more: object) -> argparse.Namespace:
    return script.build_parser().parse_args(["--seed", "3", "--output", str(tmp_path), *map(str, more)])


@pytest.mark.parametrize(
    ("first", "restart"),
    [
        ({"SLURM_JOB_ID": "17"}, {"SLURM_RESTART_COUNT": "1"}),
        ({"TORCHELASTIC_RUN_ID": "a-b-c", "TORCHELASTIC_RESTART_COUNT": "0"}, {"TORCHELASTIC_RESTART_COUNT": "1"}),
        ({"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"}, {"TORCHELASTIC_RESTART_COUNT": "2"}),
        ({"TORCHELASTIC_RUN_ID": "none", "SLURM_JOB_ID": "17"}, {"TORCHELASTIC_RESTART_COUNT": "1"}),
    ],
)
def test_restarted_command_finds_the_run_that_it_began(tmp_path, monkeypatch, first, restart):
    args = parsed(tmp_path)
    begun(args)  # before, by hand
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    assert launch.restarted_run(args) is None
    folder = begun(args)
    assert launch.restarted_run(args) is None  # the same command once more is another run
    for name, value in restart.items():
        monkeypatch.setenv(name, value)
    assert launch.restarted_run(args) == folder
    (tmp_path / "99990101-000000_afew").mkdir()
    (tmp_path / "99990101-000000_afew" / "args.json").write_text("[")
    assert launch.restarted_run(args) == folder
    assert launch.restarted_run(parsed(tmp_path, "-e")) is None
    with monkeypatch.context() as patch:
        patch.setattr("sys.argv", ["Demo_AFEW_Attention.py", "--seed", "4"])
        assert launch.restarted_run(args) is None
    if "SLURM_JOB_ID" in first:
        monkeypatch.setenv("SLURM_JOB_ID", "18")
    elif first["TORCHELASTIC_RUN_ID"] == "none":
        another = os.getppid() + 1
        monkeypatch.setattr(os, "getppid", lambda: another)
    else:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "d-e-f")
    assert launch.restarted_run(args) is None


def test_command_that_goes_on_names_the_folder_and_the_flags_of_the_machine(tmp_path):
    parser = script.build_parser()
    flags = ["--lr", "0.1", "--device", "cpu", "--workers", "0", "--compile", "--output", "some where", "-p", "5"]
    launch.parse(parser, flags)
    assert launch.resume_command() is None
    launch.remember_folder(Path("some where/all"), outermost=True)
    launch.remember_folder(Path("some where/all/fold-01"))
    command = launch.resume_command()
    assert command.startswith("python Demo_AFEW_Attention.py --resume 'some where/all' ")
    assert "--device cpu" in command and "--compile" in command and "--print-freq 5" in command
    assert "--lr" not in command and "--output" not in command
    launch.parse(parser, [])
    assert launch.resume_command() is None
