"""Demo_AFEW_Attention.py from the command line: what a run writes, and that an evaluation gives the same."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import Demo_AFEW_Attention as script
from Code.common.names import AFEW_LABELS, FAN_FILE
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.network.weights import published_weights
from tests.runs import SMALL, TIMES, flags_of, log_of, only_run, read_json, rows_of


def tiny(sample: Path, *more: object) -> tuple[object, ...]:
    return flags_of(sample, "--workers", 0, "--pretrained", "none", *more)


# A run


def test_log_has_a_line_per_epoch_and_so_have_the_screen_and_tensorboard(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = [json.loads(line) for line in (trained.folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    values = ["lr", "train_loss", "train_war", "val_loss", "val_war", "val_uar", "val_attention_correlation"]
    assert all(isinstance(line[name], float) for line in lines for name in (*values, *TIMES))
    # Three steps an epoch: decays after 2 / 3 and 4 / 3 of the two epochs, that is before step 3 and step 5.
    assert [line["lr"] for line in lines] == pytest.approx([0.01 * 0.2, 0.01 * 0.04])
    printed = re.findall(
        r"^epoch (\d)/2 .*train loss ([\d.]+) WAR .*val loss .* UAR .* s, \d+ frames/s$", trained.out, re.M
    )
    assert printed == [(str(line["epoch"]), f"{line['train_loss']:.4f}") for line in lines]
    events = EventAccumulator(str(trained.folder)).Reload()
    assert {"train/loss", "val/war", "val/uar", "lr"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]


def test_run_folder_is_complete(trained, sample):
    present = {path.name for path in trained.folder.iterdir()}
    expected = """args.json log.jsonl last.pth best.pth results.json predictions.csv attention.csv clips.csv
        report.html"""
    assert set(expected.split()) <= present and any(name.startswith("events.out.tfevents") for name in present)
    assert len(present) == 10
    assert re.fullmatch(r"\d{8}-\d{6}_sample_relation-attention", trained.folder.name)
    about = read_json(trained.folder / "args.json")
    arguments = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "num_frames": 3, "batch_size": 8, "epochs": 2,
                 "at_type": 1, "image_size": 32, "seed": 0, "pretrained": "none", "backbone": "resnet18",
                 "train_root": str(sample / "Train"), "val_list": str(sample / "list_eval.txt")}  # fmt: skip
    assert {name: about["args"][name] for name in arguments} == arguments
    assert about["versions"]["torch"] and about["device"].startswith("cpu") and "git_commit" in about
    assert about["precision"] == "fp32"


def test_results_have_every_key_and_agree_with_the_log_and_the_predictions(trained):
    results, log = read_json(trained.folder / "results.json"), log_of(trained.folder)
    assert results["labels"] == list(AFEW_LABELS)
    keys = """accuracy uar per_class_recall confusion num_clips num_clips_listed num_skipped accuracy_interval
        uar_interval accuracy_listed loss epoch attention_correlation attention_auc"""
    for which in ("last", "best"):
        metrics = results[which]
        assert set(metrics) == set(keys.split())
        names = {"accuracy": "war", "uar": "uar", "loss": "loss", "attention_correlation": "attention_correlation"}
        line = log[metrics["epoch"] - 1]
        assert all(metrics[name] == line[f"val_{short}"] for name, short in names.items())
        assert metrics["num_clips"] == metrics["num_clips_listed"] == 7 and metrics["num_skipped"] == 0
    assert results["last"]["epoch"] == 2
    assert results["best"]["accuracy"] == max(line["val_war"] for line in log)
    rows = rows_of(trained.folder / "predictions.csv")
    assert len(rows) == 7 and list(rows[0]) == ["clip", "label", "prediction", *AFEW_LABELS]
    for row in rows:
        chances = {label: float(row[label]) for label in AFEW_LABELS}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert chances[row["prediction"]] == max(chances.values())
        assert row["clip"].startswith(row["label"] + "/")
    assert sum(row["label"] == row["prediction"] for row in rows) / 7 == results["best"]["accuracy"]


def test_attention_has_every_frame_of_every_clip(trained, sample):
    rows = rows_of(trained.folder / "attention.csv")
    files = sorted(path.relative_to(sample / "Val").as_posix() for path in (sample / "Val").glob("*/*/*.jpg"))
    assert sorted(f"{row['clip']}/{row['frame']}" for row in rows) == files
    sums: dict[str, float] = {}
    for row in rows:
        assert 0 <= float(row["alpha"]) <= 1 and 0 <= float(row["beta"]) <= 1  # six digits of a sigmoid
        sums[row["clip"]] = sums.get(row["clip"], 0) + float(row["weight"])
    assert list(sums.values()) == pytest.approx([1] * 7, abs=1e-4)


def test_checkpoints_describe_themselves(trained):
    for name in ("best.pth", "last.pth"):
        checkpoint = torch.load(trained.folder / name, weights_only=True)
        assert checkpoint["format"] == "emotion-fan/1" and checkpoint["at_type"] == 1
        assert checkpoint["labels"] == list(AFEW_LABELS) and checkpoint["image_size"] == 32
        assert checkpoint["dataset"] == "sample" and checkpoint["protocol"]["num_frames"] == 3
        assert checkpoint["metrics"]["num_clips"] == 7 and checkpoint["precision"] == "fp32"
        assert set(checkpoint["state_dict"]) == set(published_weights(FAN(1, 7)))
        assert (checkpoint["training"] is None) == (name == "best.pth")


# Evaluation


@pytest.mark.parametrize(
    ("flags", "which"),
    [(("--at_type", 1), "best"), (("--checkpoint", "last.pth"), "last"), (("--checkpoint", ""), "best")],
)
def test_evaluation_gives_exactly_the_numbers_of_the_training(trained, call, sample, tmp_path, flags, which):
    shutil.copytree(trained.folder, tmp_path / "model" / trained.folder.name)
    if flags[0] == "--checkpoint":
        flags = ("--checkpoint", trained.folder / flags[1])
    data = flags_of(sample)[:10]  # size and precision are the checkpoint's
    outcome = call(script, *data, "--workers", 0, "--device", "cpu", "-e", *flags, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    (folder,) = (tmp_path / "model").glob("*_evaluation")
    assert read_json(folder / "results.json")["best"] == read_json(trained.folder / "results.json")[which]
    if which == "best":
        for name in ("predictions.csv", "attention.csv"):
            assert (folder / name).read_bytes() == (trained.folder / name).read_bytes()
    summary = next(line for line in outcome.out.splitlines() if line.startswith("accuracy (WAR)"))
    assert f"({'best on the evaluated split' if which == 'best' else 'last'}): {summary}" in trained.out
    assert (folder / "report.html").is_file() and not (folder / "best.pth").exists()


def test_the_head_of_a_published_file_can_be_chosen(call, sample, tmp_path):
    torch.manual_seed(0)
    weights = {**published_weights(FAN(0, 7)), **published_weights(FAN(1, 7))}
    save_atomically({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "fan.tar")
    for at_type, title in ((0, "self-attention"), (1, "relation-attention")):
        flags = ("-e", "--checkpoint", "fan.tar", "--workers", 0, "--at_type", at_type)
        outcome = call(script, *flags_of(sample, *flags), cwd=tmp_path)
        assert outcome.status == 0 and f"evaluating fan.tar ({title})" in outcome.out, outcome.err


# Other trainings


@pytest.mark.parametrize(
    ("at_type", "flags"), [(0, ("--seed", 1)), (2, ("--frames", 2, "--samples-per-clip", 1, "-p", 1))]
)
def test_other_attentions_train(call, sample, tmp_path, at_type, flags):
    outcome = call(script, *tiny(sample, "--attention", at_type, "--epochs", 1, *flags), cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    folder = only_run(tmp_path)
    assert folder.name.endswith({0: "self-attention", 2: "score-fusion"}[at_type])
    assert all(row["beta"] == "" for row in rows_of(folder / "attention.csv"))
    correlation = read_json(folder / "results.json")["best"]["attention_correlation"]
    assert (correlation == 0) == (at_type == 2)
    assert ("step 1/1: loss" in outcome.out) == (at_type == 2)


def test_own_folders_from_the_shipped_fans_backbone_with_an_empty_clip_left_out(call, sample, tmp_path):
    for split in ("Train", "Val"):
        shutil.copytree(sample / split, tmp_path / "Data" / split)
        (tmp_path / "Data" / split / "Sad" / "empty").mkdir()
    fan = {"format": "emotion-fan/1", "at_type": 0, "labels": list(AFEW_LABELS), "image_size": 24}
    save_atomically({**fan, "state_dict": published_weights(FAN(0, 7).half())}, tmp_path / FAN_FILE)
    flags = ("--dataset", "folders", "--epochs", 1, "--samples-per-clip", 1, "--workers", 0, *SMALL[4:6])

    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 2
    assert "Data/Train/Sad/empty: no frames" in outcome.err
    assert "--skip-empty" in outcome.err

    outcome = call(script, *flags, "--skip-empty", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert f"starting from {FAN_FILE}" in outcome.out and "frames of 24 x 24" in outcome.out
    assert "initialized anew: alpha.0, beta.0, pred_fc2" in outcome.out  # its backbone alone
    results = read_json(only_run(tmp_path) / "results.json")
    assert results["labels"] == sorted(AFEW_LABELS)
    best = results["best"]
    assert (best["num_clips"], best["num_clips_listed"], best["num_skipped"]) == (7, 8, 1)
    assert best["accuracy_listed"] == best["accuracy"] * 7 / 8
    assert "1 of 8 listed clips skipped" in outcome.out
