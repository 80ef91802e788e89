"""Pages of several runs: the overview of folds and seeds, and runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from Code.common.commandline import run_script
from Code.results import report
from Code.results.compare import clips_that_differ, group_runs, pairs_of, read_runs
from Code.results.series import write_fold_summary, write_overview, write_seed_summary
from Code.training.records import ReportError
from tests.runs import make_run

LABELS = ["Happy", "Sad"]


def method_run(folder: Path, at_type: int, seed: int, right: str, **args: object) -> Path:
    """A run on clips c0, c1, ... (Happy and Sad in turn); `right` has a 1 where a clip is predicted right."""
    clips = [(f"c{at}", LABELS[at % 2], LABELS[(at + (mark == "0")) % 2], 0.7) for at, mark in enumerate(right)]
    return make_run(folder, LABELS, clips, frames=3, args={"at_type": at_type, "seed": seed, "lr": 0.1, **args})


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    marks = [
        ("relation", 1, 0, "111110"),
        ("fusion", 2, 0, "110000"),
        ("relation1", 1, 1, "111100"),
        ("self", 0, 0, "111000"),
    ]
    return [method_run(tmp_path / name, at_type, seed, right) for name, at_type, seed, right in marks]


def test_runs_are_grouped_as_the_paper_has_them(runs: list[Path]) -> None:
    methods = group_runs(read_runs(runs))
    assert [method.name for method in methods] == ["A", "B", "C"]
    assert [method.description for method in methods] == ["score-fusion", "self-attention", "relation-attention"]
    assert [[*method.runs] for method in methods] == [["A"], ["B"], ["C1", "C2"]]
    of = methods[2].spread("best", "accuracy")
    assert of is not None and of.mean == 0.75 and of.range_text == "66.67 to 83.33"
    assert methods[2].right()["c4"] == 0.5


def test_methods_are_told_apart_by_what_differs_and_runs_of_one_by_seed_or_folder(tmp_path: Path) -> None:
    rates = [method_run(tmp_path / str(lr), 1, 0, "1100", lr=lr) for lr in (0.1, 0.2)]
    seeds = [method_run(tmp_path / f"s{seed}", 1, seed, "1100") for seed in (1, 0)]
    same = [method_run(tmp_path / name, 1, 0, "1100") for name in ("one", "two")]
    for folders, differing in ((rates, "lr 0.1|lr 0.2"), (seeds, "seed 0|seed 1"), (same, "folder one|folder two")):
        expected = [f"relation-attention, {value}" for value in differing.split("|")]
        assert [method.description for method in group_runs(read_runs(folders))] == expected


def test_paired_differences_and_differing_clips(runs: list[Path]) -> None:
    methods = group_runs(read_runs(runs))
    pair = next(pair for pair in pairs_of(methods) if (pair.first, pair.second) == ("C", "A"))
    assert pair.war.value == pytest.approx(2.5 / 6) and (pair.better, pair.worse, pair.war.clips) == (3, 0, 6)
    # Three clips better and none worse of six: exact McNemar says p = 0.25.
    assert pair.war.low < 0 < pair.war.value < pair.war.high and not pair.war.clear
    differing = clips_that_differ(methods)
    assert [rows["A"].name for rows in differing] == ["c2", "c3", "c4"] and [*differing[0]] == ["A", "B", "C1", "C2"]


def test_the_comparison_is_a_page_and_a_text(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "both.html"
    assert report.main(["--compare", *map(str, runs), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "C: relation-attention; 2 runs" in printed and "best epoch: WAR 75.00 ± 11.79 %" in printed
    assert "C - A: WAR +41.67 points (-13.63 to +74.06), UAR" in printed and "; 6 clips" in printed
    assert str(output) in printed
    page = output.read_text()
    assert "75.00<small>66.67 to\N{NO-BREAK SPACE}83.33</small>" in page and "C &minus; A" in page
    assert page.count("<article") == 3 and "data:image/jpeg;base64," in page and 'data-m0="0"' in page
    # The key of the curves is outside the plots.
    assert page.count('<svg class="line"') == 4 and page.count("data:image/svg+xml") == 2


def changed(run: Path, old: str, new: str) -> Path:
    """The run with another text in its results and predictions."""
    for name in ("results.json", "predictions.csv"):
        (run / name).write_text((run / name).read_text().replace(old, new))
    return run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: runs[:1], "two or more runs"),
        (lambda runs: [runs[0], changed(runs[1], "Sad", "Fear")], "its classes are"),
        (lambda runs: [runs[0], changed(runs[1], "\nc", "\nd")], "no clip in common"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(runs: list[Path], change, message: str, capsys) -> None:
    argv = ["--compare", *map(str, change(runs))]
    assert run_script(lambda: report.main(argv)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def write_folds(folder: Path, *rights: str) -> Path:
    """The folder of a run of folds, each as `method_run`."""
    folds = []
    for number, right in enumerate(rights, start=1):
        args = {"dataset": "ckplus", "fold": number, "num_folds": len(rights)}
        folds.append(method_run(folder / f"fold-{number:02d}", 1, 0, right, **args))
        change_results(folds[-1], fold=number, num_folds=len(rights))
    write_fold_summary(folder, folds)
    return folder


def change_results(run: Path, **changes: object) -> None:
    results = json.loads((run / "results.json").read_text()) | changes
    (run / "results.json").write_text(json.dumps(results))


def test_folds_are_pooled_with_intervals_and_averaged_with_a_range(tmp_path: Path) -> None:
    folds = write_folds(tmp_path / "folds", "1111110", "11100")  # 9 of 12 are right
    assert report.write_report(folds) == folds / "summary.html"
    page = (folds / "summary.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "<h1>Relation-attention on CK+: 2 folds</h1>" in page and "75.00 %" in page
    assert "accuracy (WAR), 95 % interval 46.8 to 91.1 %" in page  # Wilson, 9 of 12
    assert "72.86" in page and "18.18" in page and "60.00 to 85.71" in page
    assert '<a href="fold-01/report.html">fold 1</a>' in page and page.count("data:image/svg+xml") == 2
    assert "Confusion, last epoch" in page and "Confusion, best epoch" in page
    (folds / "fold-02/results.json").write_text("{")
    assert run_script(lambda: report.main([str(folds)])) == 2
    (folds / "fold-02").rename(folds / "fold-02.bak")  # a mean of the others would look like that of all
    with pytest.raises(ReportError, match="has 1 of 2 folds"):
        write_overview(folds)


def test_seeds_have_a_mean_a_range_and_their_own_overviews(tmp_path: Path) -> None:
    write_folds(tmp_path / "seed-3", "1111110", "11100")
    write_folds(tmp_path / "seed-1", "1111111", "11111")
    for seed in (1, 3):
        change_results(tmp_path / f"seed-{seed}", num_folds=2)
    write_seed_summary(tmp_path, [3, 1])
    page = write_overview(tmp_path).read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "2 folds, 2 seeds</h1>" in page and '<a href="seed-3/summary.html">seed 3</a>' in page
    assert "mean of 2 seeds on 12 clips" in page and "75.00 to 100.00" in page
    assert "2 folds</h1>" in (tmp_path / "seed-3/summary.html").read_text()
    table = (tmp_path / "summary.md").read_text()
    assert "| mean over seeds |  | 87.50 |" in table


def test_a_single_fold_has_no_deviation_and_too_few_clips_no_interval(tmp_path: Path) -> None:
    write_overview(write_folds(tmp_path / "folds", "11"))
    table = (tmp_path / "folds/summary.md").read_text()
    assert ": 1 fold, 2 clips" in table and "100.00 % accuracy (WAR), too few clips for an interval" in table
    assert "| standard deviation |  | - |" in table
