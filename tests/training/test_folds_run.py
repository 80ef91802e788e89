"""`--fold` and `--seeds` from end to end: the sample in five folds, stopped in the third, and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import Demo_AFEW_Attention as script
from Code.experiment import settings_of
from Code.results.series import write_fold_summary
from Code.training import train
from Code.training.records import ReportError
from tests.runs import at_call, flags_of, interrupt, only_run, read_json, rows_of, same


def tiny(sample: Path, *more: object) -> tuple[object, ...]:
    return flags_of(sample, "--workers", 0, "--pretrained", "none", "--epochs", 1, "--samples-per-clip", 1, *more)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, call, sample) -> tuple[Path, str, str, dict[str, bytes]]:
    """(folder, output before, output after, what fold 1 had written before) of a run stopped in its third fold."""
    cwd = tmp_path_factory.mktemp("folds")
    with at_call(7, train, "evaluate_split", interrupt):  # an epoch, last and best: three evaluations a fold
        before = call(script, *tiny(sample, "--fold", "all"), cwd=cwd)
    assert before.status == 130 and "Traceback" not in before.err
    folder = only_run(cwd)
    assert sorted(path.name for path in folder.glob("fold-*")) == ["fold-01", "fold-02", "fold-03"]
    for name in ("summary.json", "summary.md", "results.json", "predictions.csv"):
        assert not (folder / name).exists()  # two folds' results are not the whole's
    kept = {path.name: path.read_bytes() for path in (folder / "fold-01").iterdir()}
    after = call(script, "--resume", f"model/{folder.name}", "--device", "cpu", "--workers", 0, cwd=cwd)
    assert after.status == 0, after.err
    assert only_run(cwd) == folder
    return folder, before.out, after.out, kept


def test_resumed_run_does_the_folds_that_were_not_finished(interrupted):
    folder, before, after, kept = interrupted
    assert folder.name.endswith("_sample_relation-attention_folds") and f"--resume model/{folder.name}" in before
    assert [f"[{n}/5] fold-0{n}" in before for n in range(1, 6)] == [True, True, True, False, False]
    assert [f"[{n}/5] fold-0{n}: already finished" in after for n in range(1, 6)] == [True, True, False, False, False]
    assert {path.name: path.read_bytes() for path in (folder / "fold-01").iterdir()} == kept
    for n in range(1, 6):
        run = folder / f"fold-0{n}"
        assert [json.loads(line)["epoch"] for line in (run / "log.jsonl").read_text().splitlines()] == [1]
        assert (run / "report.html").is_file() and (run / "results.json").is_file()


def test_every_clip_is_evaluated_once_by_a_network_that_never_saw_its_person(interrupted, sample):
    folder = interrupted[0]
    tested = [[row["clip"] for row in rows_of(folder / f"fold-0{n}" / "predictions.csv")] for n in range(1, 6)]
    assert [len(clips) for clips in tested] == [5, 4, 4, 4, 4]
    everything = sorted(f"{path.parent.name}/{path.name}" for path in sample.glob("[TV]*/*/*"))
    assert sorted([name for clips in tested for name in clips]) == everything and len(everything) == 21
    assert [row["clip"] for row in rows_of(folder / "predictions.csv")] == [name for clips in tested for name in clips]
    persons = [{clip.split("/")[1] for clip in clips} for clips in tested]
    assert sum(len(group) for group in persons) == len(set.union(*persons)) == 21


def test_pooled_and_mean_results_follow_from_the_folds(interrupted):
    folder = interrupted[0]
    summary = read_json(folder / "summary.json")
    folds = [read_json(folder / f"fold-0{n}" / "results.json") for n in range(1, 6)]
    assert [(fold["fold"], fold["num_folds"]) for fold in folds] == [(n, 5) for n in range(1, 6)]
    for which in ("last", "best"):
        pooled = summary[which]["pooled"]
        confusion = sum(np.array(fold[which]["confusion"]) for fold in folds)
        assert pooled["confusion"] == confusion.tolist() and pooled["num_clips"] == 21
        assert pooled["accuracy"] == pytest.approx(np.trace(confusion) / 21)
        support = confusion.sum(axis=1)
        assert pooled["uar"] == pytest.approx(np.mean(confusion.diagonal() / support))
        mean = summary[which]["mean_over_folds"]
        for name in ("accuracy", "uar"):
            values = [fold[which][name] for fold in folds]
            assert mean[name]["values"] == values and mean[name]["mean"] == pytest.approx(np.mean(values))
            assert mean[name]["std"] == pytest.approx(np.std(values, ddof=1))
    rows = rows_of(folder / "predictions.csv")
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert summary["best"]["pooled"]["accuracy"] == pytest.approx(right / 21)
    whole = read_json(folder / "results.json")
    assert whole["pooled"] is True and whole["best"] == summary["best"]["pooled"]


def test_folds_of_other_classes_are_not_pooled(interrupted, tmp_path):
    folds = [interrupted[0] / "fold-01", tmp_path]
    results = read_json(interrupted[0] / "fold-02" / "results.json")
    (tmp_path / "results.json").write_text(json.dumps({**results, "labels": results["labels"][::-1]}))
    with pytest.raises(ReportError, match=r"fold 2: its classes are .*; those of fold 1 are .* with --labels"):
        write_fold_summary(tmp_path, folds)


def test_table_shows_each_fold_the_mean_the_pool_and_what_best_means(interrupted):
    folder, before, after, _ = interrupted
    table = (folder / "summary.md").read_text()
    assert table in after and "pooled" not in before
    assert "5 folds, 21 clips" in table and "best on the evaluated split" in table
    starts = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert starts[:7] == ["fold", *(f"fold {n}" for n in range(1, 6)), "mean over folds"]
    assert before.count("of fold 1 of 5 alone") == 2  # last and best
    assert f"see model/{folder.name}/summary.html" in after
    page = (folder / "summary.html").read_text()
    assert "fold-01/report.html" in page and "5 folds" in page and "<h2>Confusion, last epoch</h2>" in page


def test_a_single_fold_gives_the_same_and_is_named_as_a_fold(interrupted, call, sample, tmp_path):
    outcome = call(script, *tiny(sample, "--fold", 3), cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    run = only_run(tmp_path)
    assert run.name.endswith("_fold-3") and "of fold 3 of 5 alone: accuracy" in outcome.out
    other = interrupted[0] / "fold-03"
    assert read_json(run / "results.json") == read_json(other / "results.json")
    one, two = (torch.load(path / "last.pth", weights_only=True) for path in (run, other))
    assert same(one["state_dict"], two["state_dict"])

    outcome = call(script, "-e", "--dataset", "sample", "--device", "cpu", cwd=tmp_path)
    assert outcome.status == 2 and "no trained network for dataset sample" in outcome.err  # a fold's is not the whole's


def test_a_folds_checkpoint_is_evaluated_on_its_own_fold_and_with_a_warning_on_another(
    interrupted, call, sample, tmp_path
):
    checkpoint = interrupted[0] / "fold-02" / "best.pth"
    outcome = call(script, "-e", "--checkpoint", checkpoint, "--workers", 0, "--device", "cpu", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    run = only_run(tmp_path)
    assert run.name.endswith("_sample_relation-attention_fold-2_evaluation") and "fold 2 of 5\n" in outcome.out
    assert read_json(run / "results.json")["best"] == read_json(interrupted[0] / "fold-02" / "results.json")["best"]
    flags = flags_of(sample, "--fold", 3, "--workers", 0)
    outcome = call(script, "-e", "--checkpoint", checkpoint, *flags, cwd=tmp_path)
    assert outcome.status == 0 and "fold 3 of 5\n" in outcome.out
    assert "warning: the checkpoint is of fold 2 of 5: clips that it was trained on may be evaluated" in outcome.err


@pytest.mark.parametrize(
    ("flags", "folds"),
    [
        ((), (2, 4, "x")),
        (("--fold", "3"), (3, 4, "x")),
        (("--folds", "6"), (2, 6, "x")),
        (("--train-root", "faces"), (2, 4, "x")),
        (("--train-root", "other"), (2, None, None)),  # other data, so other folds
    ],
)
def test_a_fold_of_a_checkpoint_is_one_of_its_own_folds(flags, folds):
    """`--dataset ckplus` beside `-e`: without the flags that made the folds, fold 2 would be another one."""
    stored = {"folds": 4, "person_pattern": "x", "train_root": "faces"}
    info = {"dataset": "ckplus", "path": "best.pth", "protocol": {"data_flags": stored, "fold": 2, "num_folds": 4}}
    args = script.build_parser().parse_args(["-e", "--dataset", "ckplus", *flags])
    data = settings_of(vars(args), info).data
    assert (data.fold, data.folds, data.person_pattern) == folds


def test_seeds_are_repeated_and_summed_up(call, sample, tmp_path):
    outcome = call(script, *tiny(sample, "--seeds", 3, 1, "--select-on", "heldout"), cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    folder = only_run(tmp_path)
    assert folder.name.endswith("_seeds")
    summary = read_json(folder / "summary.json")
    results = [read_json(folder / f"seed-{seed}" / "results.json") for seed in (3, 1)]
    assert summary["seeds"] == [3, 1] and summary["num_clips"] == 7
    for which in ("last", "best"):
        values = [result[which]["accuracy"] for result in results]
        found = summary[which]["accuracy"]
        assert found["values"] == values and found["range"] == [min(values), max(values)]
        assert found["mean"] == pytest.approx(np.mean(values)) and found["std"] == pytest.approx(np.std(values, ddof=1))
    assert "| mean over seeds |" in outcome.out and "| range |" in outcome.out
    assert [read_json(folder / f"seed-{seed}" / "args.json")["args"]["seed"] for seed in (3, 1)] == [3, 1]
    # Chosen on clips held out of training, shown on the validation clips, and said so.
    assert "held out of training, to choose the epoch: 2 clips" in outcome.out and "(2 of 14 persons)" in outcome.out
    assert "best on clips held out of training" in outcome.out and "best on the evaluated split" not in outcome.out
    for result in results:
        assert result["selected_on"] == "best on clips held out of training" and result["best"]["num_clips"] == 7
    held = torch.load(folder / "seed-3" / "best.pth", weights_only=True)["metrics"]
    assert held["num_clips"] == 2


def test_folds_and_seeds_together(call, sample, tmp_path):
    flags = tiny(sample, "--at_type", 2, "--frames", 1, "--folds", 2, "--fold", "all", "--seeds", 0, 1)
    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    folder = only_run(tmp_path)
    names = sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("fold-*/results.json"))
    assert names == ["seed-0/fold-01", "seed-0/fold-02", "seed-1/fold-01", "seed-1/fold-02"]
    pooled = [read_json(folder / f"seed-{seed}" / "results.json")["last"]["accuracy"] for seed in (0, 1)]
    assert read_json(folder / "summary.json")["last"]["accuracy"]["values"] == pooled
    assert "2 folds, 2 seeds, 21 clips" in outcome.out


def test_the_last_epoch_counts_where_none_is_to_be_chosen(call, sample, tmp_path):
    flags = tiny(sample, "--lr", "0.5", "--epochs", "3", "--select-on", "last")
    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    results = read_json(only_run(tmp_path) / "results.json")
    assert results["best"] == results["last"] and results["last"]["epoch"] == 3
    assert results["selected_on"] == "last, none chosen" and outcome.out.count("epoch 3 (last, none chosen)") == 1
