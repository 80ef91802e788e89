"""Folders of runs: which is the newest, which are removed, who may write to one, and what `--resume` takes from one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import Demo_AFEW_Attention as script
import Pretrain_FERPlus as pretraining
from Code.common.errors import UsageError
from Code.common.lock import one_writer
from Code.training import launch
from Code.training.run_folder import MARK, Run
from Code.training.run_places import new_run, newest_best, remove_empty, remove_own_empty
from tests.runs import SMALL, ended_alike, flags_of, log_of, only_run, without_pictures

NAME = "20260101-000000_sample_relation-attention"


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with without_pictures():
        yield


def finished(folder: Path, started: str | None = None, mtime: float | None = None) -> Path:
    run = Run(folder)
    run.save("best.pth", {})
    if started:
        (folder / "args.json").write_text(json.dumps({"started": started}))
    for path in folder.iterdir():
        os.utime(path, None if mtime is None else (mtime, mtime))
    return folder


def test_the_newest_is_by_the_stored_time_in_utc(tmp_path):
    # The hour that repeats: the later run has the earlier name.
    later = finished(tmp_path / "20261025-020500_sample_relation-attention", "2026-10-25T01:05:00.000000+00:00")
    finished(tmp_path / "20261025-025500_sample_relation-attention", "2026-10-25T00:55:00.000000+00:00")
    assert newest_best(tmp_path, "sample", 1) == later / "best.pth"
    # The same moment in another zone, and stamps that are none.
    finished(tmp_path / "20270101-000000_sample_relation-attention", "2026-10-25T02:00:00.000000+01:00")
    assert newest_best(tmp_path, "sample", 1) == later / "best.pth"
    for at, stamp in enumerate(("", "tomorrow", "2099-01-01T00:00:00", "9" * 400)):
        finished(tmp_path / f"2026090{at + 1}-000000_sample_relation-attention", stamp, mtime=1_700_000_000)
    assert newest_best(tmp_path, "sample", 1) == later / "best.pth"


def test_runs_of_earlier_versions_have_the_time_of_their_name_unless_it_is_later_than_their_files(tmp_path):
    now = time.time()
    finished(tmp_path / "20991231-000000_sample_relation-attention", mtime=now - 9_000_000)
    finished(tmp_path / "20230101-000000_sample_relation-attention", mtime=now)  # copied today
    newer = finished(tmp_path / "20991231-000000_sample_self-attention", mtime=now - 4_000_000)
    assert newest_best(tmp_path, "sample") == newer / "best.pth"


def test_a_folder_without_a_checkpoint_is_marked_and_never_the_newest(tmp_path):
    with new_run(tmp_path, "sample", "relation-attention") as run:
        assert "may be deleted" in (run.folder / MARK).read_text()
        (run.folder / "best.pth").write_bytes(b"")  # as if copied there
        assert newest_best(tmp_path, "sample", 1) is None
        run.save("last.pth", {})
        assert not (run.folder / MARK).exists() and newest_best(tmp_path, "sample", 1) is not None
    assert run.folder.is_dir()


def test_the_first_checkpoint_of_a_fold_unmarks_the_folders_around_it_and_no_others(tmp_path):
    (tmp_path / MARK).write_text("a user's file of this name")
    with new_run(tmp_path / "model", "sample", "relation-attention", "_folds_seeds") as run:
        Run(run.folder / "seed-3" / "fold-01").save("last.pth", {})
        assert not (run.folder / MARK).exists()
    (tmp_path / "model" / MARK).write_text("")
    Run(tmp_path / "model" / NAME).save("last.pth", {})
    assert (tmp_path / MARK).exists() and (tmp_path / "model" / MARK).exists()


def test_a_run_that_fails_before_its_first_checkpoint_leaves_no_folder(tmp_path):
    for error in (UsageError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), new_run(tmp_path / "model", "sample", "relation-attention", "_folds") as run:
            launch.remember_folder(run.folder, outermost=True)
            Run(run.folder / "fold-01").begin_log()
            raise error
        assert list((tmp_path / "model").iterdir()) == [] and launch.resume_command() is None


FOREIGN = ["notes.txt", "last.pth", "teachers.npz", ".hidden", "fold-01/my.txt", "data/x", "fold-01/fold-01/fold-01/x"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_with_anything_else_in_it_stays(tmp_path, name):
    with pytest.raises(UsageError), new_run(tmp_path, "sample", "relation-attention") as run:
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_text("mine")
        raise UsageError("x")
    assert (run.folder / name).read_text() == "mine" and (run.folder / MARK).exists()
    remove_own_empty(tmp_path)
    assert (run.folder / name).read_text() == "mine" and not remove_empty(run.folder)


def killed(parent: Path) -> Path:
    """The folder of a run of this command that was killed before its first checkpoint."""
    folder = parent / NAME
    (folder / "fold-01").mkdir(parents=True)
    (folder / MARK).write_text(f"may be deleted\n{launch.command_line()}\n")
    for name in ("args.json", "log.jsonl", "events.out.tfevents.1.host", ".args.json.17.tmp", "fold-01/log.jsonl"):
        (folder / name).write_text("")
    return folder


def test_a_new_start_removes_what_a_killed_one_left(tmp_path):
    folder, elsewhere = killed(tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "log.jsonl").write_text("kept")
    (folder / "args.json").unlink()
    (folder / "args.json").symlink_to(elsewhere / "log.jsonl")  # a link is removed, not what it leads to
    remove_own_empty(tmp_path)
    assert not folder.exists() and (elsewhere / "log.jsonl").read_text() == "kept"


def test_a_new_start_leaves_folders_of_others(tmp_path, monkeypatch):
    folder = killed(tmp_path)
    with one_writer(folder):
        remove_own_empty(tmp_path)
    assert (folder / "fold-01" / "log.jsonl").exists()
    with monkeypatch.context() as patch:
        patch.setattr("sys.argv", ["Demo_AFEW_Attention.py", "--another"])
        remove_own_empty(tmp_path)
    assert (folder / "fold-01" / "log.jsonl").exists()
    moved = folder.rename(tmp_path.parent / f"moved-{tmp_path.name}")
    folder.symlink_to(moved)
    remove_own_empty(tmp_path)
    assert (moved / "fold-01" / "log.jsonl").exists()
    folder.unlink()
    linked = killed(tmp_path)
    (linked / "fold-02").symlink_to(moved / "fold-01")
    remove_own_empty(tmp_path)
    assert linked.exists() and (moved / "fold-01" / "log.jsonl").exists()


def test_a_failed_training_leaves_no_folder_and_no_hint(call, sample, tmp_path):
    # All of them, so that the first step fails whichever frames it draws. Their headers are right.
    whole = {path: path.read_bytes() for path in sample.glob("Train/*/*/*.jpg")}
    for path, content in whole.items():
        path.write_bytes(content[: len(content) // 2])
    try:
        outcome = call(
            script, *flags_of(sample, "--epochs", 1, "--pretrained", "none", "--cache", "none"), cwd=tmp_path
        )
    finally:
        for path, content in whole.items():
            path.write_bytes(content)
    assert outcome.status == 2 and ".jpg: cannot be decoded" in outcome.err and "resume" not in outcome.err
    assert not list(tmp_path.glob("model/*"))


def test_two_processes_do_not_resume_one_run(call, sample, tmp_path):
    flags = flags_of(sample, "--epochs", 3, "--pretrained", "none", "--workers", 0)
    for name in ("whole", "two"):
        (tmp_path / name).mkdir()
    assert call(script, *flags, cwd=tmp_path / "whole").status == 0
    command = [sys.executable, str(Path(script.__file__)), *map(str, flags), "--checkpoint-every", "1e-9"]
    process = subprocess.Popen(command, cwd=tmp_path / "two", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "two").glob("model/*/last.pth")):
        time.sleep(0.2)
    run = only_run(tmp_path / "two")
    second = call(script, "--resume", run, "--device", "cpu", cwd=tmp_path / "two")
    assert second.status == 2 and f"process {process.pid} on " in second.err and second.err.count("\n") == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    outcome = call(script, "--resume", run, "--device", "cpu", cwd=tmp_path / "two")
    assert outcome.status == 0, outcome.err
    assert ended_alike(run, only_run(tmp_path / "whole"))
    assert [line["epoch"] for line in log_of(run)] == [1, 2, 3]
    assert not list(run.glob(".*"))


VALUES = [
    *({"epochs": value} for value in ("x", -1, 0, 1.5, True, [], {}, None, "9" * 30, 1e400)),
    *({"lr": value} for value in (-1, "nan", [0.1], False)),
    *({"seeds": value} for value in (1, "1", [1.5], [None], [[1]], {"0": 1})),
    *({"at_type": value} for value in (7, "x", [], 1.0)),
    *({"dataset": value} for value in ("nosuch", 1, [], {})),
    *({"evaluate": 1, "deterministic": value} for value in (1, "yes", [], {})),
    *({"freeze_backbone": value} for value in (0, "no", [])),
    *({"root_map": value} for value in ("a=b", ["a"], [1])),
    *({"fold": value} for value in ("some", 0, 1.0, [])),
    *({"train_root": value} for value in (1, [], "a\0b", True)),
    *({"labels": value} for value in ("Happy", [1])),
]


@pytest.mark.parametrize("given", VALUES, ids=lambda given: json.dumps(given)[:40])
def test_given_values_go_through_the_parser(call, tmp_path, given):
    run = tmp_path / "model" / NAME
    run.mkdir(parents=True)
    (run / "args.json").write_text(json.dumps({"given": {"seed": 3, **given}}))
    outcome = call(script, "--resume", run, cwd=tmp_path)
    name = list(given)[-1]
    if given == {"epochs": None}:  # not given: the protocol's
        assert "Data/Train: no such folder" in outcome.err
        return
    assert outcome.status == 2 and f"args.json: given.{name}: " in outcome.err and outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        '{"given": []}',
        '{"given": 1}',
        "{}",
        '{"args": 5, "given": {}}',
        "[" * 9000,
        "\udcff",
        '{"version": 9}',
    ],
)
@pytest.mark.parametrize("of", [script, pretraining])
def test_arguments_of_another_shape_are_named(call, tmp_path, of, content):
    run = tmp_path / "model" / NAME
    run.mkdir(parents=True)
    (run / "args.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    outcome = call(of, "--resume", run, cwd=tmp_path)
    assert outcome.status == 2 and f"--resume {run}: {run}/args.json: " in outcome.err and outcome.err.count("\n") == 1


def test_pretraining_is_not_called_score_fusion(call, make_ferplus, tmp_path):
    make_ferplus(tmp_path / "FERPlus", as_csv=False)
    flags = ("--data-root", tmp_path / "FERPlus", "--epochs", 1, "--image-size", 32, "--batch-size", 8, *SMALL[4:8])
    outcome = call(pretraining, *flags, "--export", tmp_path / "x.pth", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert only_run(tmp_path).name.endswith("_ferplus_backbone")
