"""The overview of folds and seeds: made from real small run folders, and readable in a browser on a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from Code.common.commandline import run_script
from Code.common.json_files import StateError
from Code.results import report
from Code.results.series import write_overview
from Code.training.metrics import confusion_metrics
from Code.training.records import Results, as_dict, read_results
from Code.training.series import fold_summary, seed_summary, spread

LABELS = ["Happy", "Angry", "Sad"]


def result(confusion: list[list[int]], **about: Any) -> dict[str, Any]:
    metrics = confusion_metrics(torch.tensor(confusion), num_listed=sum(map(sum, confusion)))
    metrics |= {"epoch": 2, "loss": 1.0}
    return {"labels": LABELS, "selected_on": "best on the evaluated split", **about, "last": metrics, "best": metrics}


def write_run(folder: Path, results: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "log.jsonl").write_text("".join(json.dumps({"epoch": e, "val_war": 0.3 * e}) + "\n" for e in (1, 2)))
    (folder / "report.html").write_text("")


FOLDS = [[[3, 1, 0], [0, 2, 0], [0, 0, 1]], [[2, 0, 0], [1, 1, 0], [1, 0, 0]]]


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """A run of two folds; 12 clips together, of which 9 are right."""
    folder = tmp_path / "20260102-030405_ckplus_relation-attention_folds"
    for at, confusion in enumerate(FOLDS, start=1):
        write_run(folder / f"fold-{at:02d}", result(confusion, fold=at, num_folds=2))
    results = [read_results(folder / f"fold-{at:02d}/results.json") for at in (1, 2)]
    (folder / "summary.json").write_text(json.dumps(as_dict(fold_summary(results))))
    (folder / "args.json").write_text(json.dumps({"args": {"at_type": 1, "dataset": "ckplus", "fold": "all"}}))
    return folder


def test_folds_are_pooled_with_intervals_and_averaged_with_a_range(folds: Path) -> None:
    assert report.write_report(folds) == folds / "summary.html"
    page = (folds / "summary.html").read_text().replace("\N{NO-BREAK SPACE}%", " %")
    assert "<h1>Relation-attention on CK+: 2 folds</h1>" in page and "75.00 %" in page
    assert "accuracy (WAR) of 12 clips; 95 % interval 46.8 to 91.1 %" in page  # Wilson, 9 of 12
    assert "72.86 ± 18.18, 60.00 to 85.71" in page
    assert '<a href="fold-01/report.html">fold 1</a>' in page and page.count("data:image/svg+xml") == 1
    assert "Confusion, last epoch" in page and "Confusion, best epoch" in page
    assert "t interval" not in page and "[" not in page[page.index("<h1>") :]


def test_seeds_have_a_mean_a_range_and_their_own_overviews(folds: Path, tmp_path: Path) -> None:
    whole = tmp_path / "seeds"
    for seed in (3, 1):
        (whole / f"seed-{seed}").parent.mkdir(exist_ok=True)
        folds.rename(whole / f"seed-{seed}") if seed == 3 else write_run(
            whole / "seed-1", result(FOLDS[0], num_folds=2)
        )
    pooled = json.loads((whole / "seed-3/summary.json").read_text())
    whole_result = {**result(FOLDS[0], num_folds=2), **{which: pooled[which]["pooled"] for which in ("last", "best")}}
    (whole / "seed-3/results.json").write_text(json.dumps(whole_result))
    summary = seed_summary([3, 1], [read_results(whole / f"seed-{seed}/results.json") for seed in (3, 1)])
    (whole / "summary.json").write_text(json.dumps(as_dict(summary)))
    page = write_overview(whole).read_text()
    assert "2 folds, 2 seeds</h1>" in page and '<a href="seed-3/summary.html">seed 3</a>' in page
    assert '<a href="seed-1/report.html">seed 1</a>' in page and "mean of 2 seeds on 12 clips" in page
    assert "75.00 to\N{NO-BREAK SPACE}85.71" in page and "seed 3</h1>" in (whole / "seed-3/summary.html").read_text()
    assert "| range |  | 75.00 to 85.71 |" in (whole / "summary.md").read_text()


def test_a_single_fold_has_no_deviation_and_too_few_clips_no_interval(folds: Path) -> None:
    tiny = [msgspec.convert(result([[1, 0, 0], [0, 1, 0], [0, 0, 0]], fold=1, num_folds=1), Results)]
    (folds / "summary.json").write_text(json.dumps(as_dict(fold_summary(tiny))))
    write_overview(folds)
    table = (folds / "summary.md").read_text()
    assert ": 1 fold, 2 clips" in table and "100.00 % accuracy (WAR) of 2 clips; too few clips for an interval" in table
    assert spread([0.5]).std is None


def test_a_broken_summary_is_one_line(folds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in ("{", "[]", '{"labels": []}'):
        (folds / "summary.json").write_text(content)
        assert run_script(lambda: report.main([str(folds)])) == 2
        error = capsys.readouterr().err
        assert "summary.json" in error and error.count("\n") == 1
    with pytest.raises(StateError, match=r"summary\.json: is missing"):
        write_overview(folds.parent)
