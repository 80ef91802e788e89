"""Runs side by side, and a run's figures as files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Code.common.commandline import run_script
from Code.results import report
from Code.results.compare import clips_that_differ, group_runs, pairs_of, read_runs
from Code.results.runs import read_run
from Code.training.records import ReportError

LABELS = ["Happy", "Sad"]


def make_run(folder: Path, at_type: int, seed: int, right: str, lr: float = 0.1) -> Path:
    """A run on clips c0, c1, ... (Happy and Sad in turn); `right` has a 1 where a clip is predicted right."""
    folder.mkdir(parents=True)
    hits = [mark == "1" for mark in right]
    truth = [at % 2 for at in range(len(hits))]
    said = [label if hit else 1 - label for label, hit in zip(truth, hits, strict=True)]
    confusion = np.zeros((2, 2), int)
    np.add.at(confusion, (truth, said), 1)
    accuracy, recalls = float(np.mean(hits)), confusion.diagonal() / confusion.sum(1)
    best = {
        "epoch": 1, "accuracy": accuracy, "accuracy_interval": [accuracy / 2, (1 + accuracy) / 2],
        "accuracy_listed": accuracy, "uar": float(recalls.mean()), "uar_interval": [0, 1],
        "per_class_recall": recalls.tolist(),
        "confusion": confusion.tolist(), "num_clips": len(hits), "num_clips_listed": len(hits), "num_skipped": 0,
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps({"labels": LABELS, "best": best, "last": best}))
    (folder / "args.json").write_text(json.dumps({"args": {"at_type": at_type, "seed": seed, "lr": lr}}))
    (folder / "log.jsonl").write_text("".join(json.dumps({"epoch": e, "val_war": 0.1 * e}) + "\n" for e in (1, 2)))
    frames = folder / "frames"
    frames.mkdir()
    for at in range(3):
        Image.fromarray(np.full((20, 20, 3), 80 * at, np.uint8)).save(frames / f"{at}.png")
    tables = {
        "predictions.csv": [["clip", "label", "prediction", *LABELS]]
        + [[f"c{at}", LABELS[truth[at]], LABELS[said[at]], 0.3 + 0.4 * (said[at] == 0), 0.3 + 0.4 * (said[at] == 1)]
           for at in range(len(hits))],
        "attention.csv": [["clip", "frame", "alpha", "beta", "weight", "intensity"]]
        + [[f"c{at}", f"{of}.png", 0.5, 0.5, (of + 1) / 6, of / 2] for at in range(len(hits)) for of in range(3)],
        "clips.csv": [["clip", "folder"], *([f"c{at}", frames] for at in range(len(hits)))],
    }  # fmt: skip
    for name, rows in tables.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    marks = [
        ("relation", 1, 0, "111110"),
        ("fusion", 2, 0, "110000"),
        ("relation1", 1, 1, "111100"),
        ("self", 0, 0, "111000"),
    ]
    return [make_run(tmp_path / name, at_type, seed, right) for name, at_type, seed, right in marks]


def test_runs_are_grouped_as_the_paper_has_them(runs: list[Path]) -> None:
    methods = group_runs(read_runs(runs))
    assert [method.name for method in methods] == ["A", "B", "C"]
    assert [method.settings["head"] for method in methods] == ["score-fusion", "self-attention", "relation-attention"]
    assert [method.description for method in methods[:2]] == ["score-fusion", "like A, but self-attention"]
    assert [[*method.runs] for method in methods] == [["A"], ["B"], ["C1", "C2"]]
    assert methods[2].spread("best", "accuracy") == ("75.00", "66.67 to 83.33")
    assert methods[2].right()["c4"] == 0.5


def test_runs_that_differ_in_a_rate_are_two_methods(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / str(lr), 1, 0, "1100", lr) for lr in (0.1, 0.2)]
    methods = group_runs(read_runs(folders))
    assert [method.description for method in methods] == ["relation-attention, lr 0.1", "like A, but lr 0.2"]


def test_the_key_names_what_differs_from_the_nearest_method(tmp_path: Path) -> None:
    flags = [(2, 0.1, "a.pth"), (1, 0.1, "a.pth"), (1, 0.2, "none"), (0, 0.1, None)]
    folders = [make_run(tmp_path / str(at), head, 0, "1100", lr) for at, (head, lr, _) in enumerate(flags)]
    for folder, (head, lr, start) in zip(folders, flags, strict=True):
        (folder / "args.json").write_text(json.dumps({"args": {"at_type": head, "lr": lr, "pretrained": start}}))
    assert [method.description for method in group_runs(read_runs(folders))] == [
        "score-fusion, lr 0.1, pretrained a.pth",
        "like A, but self-attention, pretrained -",
        "like A, but relation-attention",
        "like C, but lr 0.2, pretrained random weights",
    ]


def test_runs_of_one_method_are_named_by_seed_or_folder(tmp_path: Path) -> None:
    seeds = group_runs(read_runs([make_run(tmp_path / f"s{seed}", 1, seed, "1100") for seed in (1, 0)]))
    assert [method.description for method in seeds] == ["relation-attention, seed 0", "like A, but seed 1"]
    same = group_runs(read_runs([make_run(tmp_path / name, 1, 0, "1100") for name in ("one", "two")]))
    assert [method.description for method in same] == ["relation-attention, folder one", "like A, but folder two"]


def test_paired_differences_and_differing_clips(runs: list[Path]) -> None:
    methods = group_runs(read_runs(runs))
    pair = next(pair for pair in pairs_of(methods) if (pair.first, pair.second) == ("C", "A"))
    assert pair.war.value == pytest.approx(2.5 / 6) and (pair.better, pair.worse, pair.clips) == (3, 0, 6)
    # Three clips better and none worse of six: exact McNemar says p = 0.25.
    assert pair.war.low < 0 < pair.war.value < pair.war.high and not pair.war.clear
    assert [(round(gap, 2), clip.name) for gap, clip in clips_that_differ(methods)] == [
        (1.0, "c2"), (1.0, "c3"), (0.5, "c4"),
    ]  # fmt: skip


def test_the_comparison_is_a_page_and_a_table(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "both.html"
    assert report.main(["--compare", *map(str, runs), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "C: like A, but relation-attention" in printed and "C  2     75.00 (66.67 to 83.33)" in printed
    assert "C - A: WAR +41.67 points (-13.63 to +74.06), UAR" in printed and "; 6 clips" in printed
    assert str(output) in printed
    page = output.read_text()
    assert "75.00<small>66.67 to\N{NO-BREAK SPACE}83.33</small>" in page and "C &minus; A" in page
    assert page.count("<article") == 3 and "data:image/jpeg;base64," in page and 'data-m0="0"' in page
    # The key of the curves is outside the plots.
    assert page.count('<svg class="line"') == 4 and page.count("data:image/svg+xml") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: runs[:1], "two or more runs"),
        (lambda runs: [runs[0], runs[0]], "each once"),
        (lambda runs: [runs[0], make_other(runs[1], "labels")], "its classes are"),
        (lambda runs: [runs[0], make_other(runs[1], "predictions")], "has no predictions.csv"),
        (lambda runs: [runs[0], make_other(runs[1], "names")], "no clip in common"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(runs: list[Path], change, message: str, capsys) -> None:
    argv = ["--compare", *map(str, change(runs))]
    assert run_script(lambda: report.main(argv)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def make_other(run: Path, what: str) -> Path:
    if what == "labels":
        text = (run / "results.json").read_text().replace("Sad", "Fear")
        (run / "results.json").write_text(text)
        (run / "predictions.csv").write_text((run / "predictions.csv").read_text().replace("Sad", "Fear"))
    elif what == "predictions":
        (run / "predictions.csv").unlink()
    else:
        for name in ("predictions.csv", "attention.csv", "clips.csv"):
            (run / name).write_text((run / name).read_text().replace("\nc", "\nd"))
    return run


def test_figures_of_notable_clips_are_files(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(runs[0]), "--figures", "1"]) == 0
    names = sorted(path.name for path in (runs[0] / "figures").iterdir())
    assert [name.rsplit("_", 1)[0] for name in names] == [
        kind for kind in ("right_least_certain_1", "right_most_certain_1", "wrong_most_certain_1") for _ in range(2)
    ]
    assert {name[-4:] for name in names} == {".png", ".svg"}
    assert run_script(lambda: report.main([str(runs[0]), "--clip", "nobody", "--output", "x.png"])) == 2
    assert "--clip nobody: is not in" in capsys.readouterr().err
    (runs[0] / "frames/2.png").unlink()
    with pytest.raises(ReportError, match=r"2\.png"):
        report.clip_figure(read_run(runs[0]), read_run(runs[0]).clips[0])
