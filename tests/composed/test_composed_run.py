"""`--dataset composed` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import Demo_AFEW_Attention as script
from tests.runs import only_run, read_json, rows_of

CLIPS = ("--clip-frames", 6, "--train-clips", 16, "--val-clips", 8, "--telling", 0.3, 0.6)
SMALL = ("--image-size", 32, "--batch-size", 8, "--workers", 0, "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory, make_ferplus) -> tuple[object, ...]:
    counts = {"Training": 32, "PublicTest": 24, "PrivateTest": 24}
    root = make_ferplus(tmp_path_factory.mktemp("fer") / "FERPlus", as_csv=False, counts=counts)
    return ("--dataset", "composed", "--data-root", root, *CLIPS, *SMALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, call, flags) -> Path:
    cwd = tmp_path_factory.mktemp("composed")
    outcome = call(script, *flags, "--pretrained", "none", "--epochs", 2, "--figures", 1, cwd=cwd)  # never frozen
    assert outcome.status == 0, outcome.err
    assert "train: 16 clips, 96 frames, 8 classes" in outcome.out
    return only_run(cwd)


def test_a_run_holds_weights_against_true_importance(run: Path) -> None:
    results = read_json(run / "results.json")["last"]
    assert -1 <= results["attention_correlation"] <= 1 and 0 <= results["attention_auc"] <= 1
    rows = rows_of(run / "attention.csv")
    assert len(rows) == 8 * 6 and {row["intensity"] for row in rows} == {"0.0000", "1.0000"}
    page = (run / "report.html").read_text()
    assert page.count("data:image/jpeg") >= 8 and "are not where they were" not in page
    assert list((run / "figures").iterdir())


def test_evaluation_reads_the_same_clips_again(run: Path, call, flags) -> None:
    cwd, root = run.parents[1], flags[3]
    outcome = call(script, "-e", "--checkpoint", run / "best.pth", "--data-root", root, *SMALL, cwd=cwd)
    assert outcome.status == 0, outcome.err
    (again,) = run.parent.glob("*_evaluation")
    first, second = (read_json(folder / "results.json")["best"] for folder in (run, again))
    assert first["confusion"] == second["confusion"] and first["loss"] == pytest.approx(second["loss"])
    test = call(script, *flags, "-e", "--checkpoint", run / "best.pth", "--eval-split", "test", cwd=cwd)
    assert test.status == 0, test.err
    assert {path.name.split("-")[0] for path in (cwd / "Data/Composed").iterdir()} == {"val", "test"}


def test_the_head_alone_learns_and_seeds_are_summed_up(tmp_path: Path, call, flags, run: Path) -> None:
    more = ("--pretrained", run / "best.pth", "--freeze-backbone", "--epochs", 1, "--seeds", 0, 1, "--at_type", 0)
    outcome = call(script, *flags, *more, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    summary = read_json(only_run(tmp_path) / "summary.json")
    assert len(summary["last"]["attention_correlation"]["values"]) == 2


def test_the_check_looks_at_composed_clips(run: Path, tmp_path: Path, call, flags) -> None:
    outcome = call(script, *flags, "--check", cwd=run.parents[1])
    assert outcome.status == 0, outcome.out + outcome.err
    assert "frames that cannot be read" in outcome.out and "clean; 48 frames decoded" in outcome.out
    missing = call(script, "--dataset", "composed", "--data-root", tmp_path / "none", "--check", cwd=tmp_path)
    assert missing.status == 2 and "fer2013new.csv: missing" in missing.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--val-root", "x"), "--dataset composed: uses the splits of FER+"),
        (("--telling", "0"), "--telling 0 0: shares must be above 0"),
        (("--telling", "0.5", "1.5"), "--telling 0.5 1.5: shares must be above 0 and at most 1"),
        (("--fold", "1"), "--fold: composed has a fixed split"),
        (("--distractors", "other"), "--distractors other: lasts for a moment"),
    ],
)
def test_wrong_flags_are_refused_in_one_line(tmp_path: Path, call, flags, more, message) -> None:
    outcome = call(script, *flags, *more, "--pretrained", "none", cwd=tmp_path)
    assert outcome.status == 2 and outcome.err.startswith(f"error: {message}"), outcome.err
    assert outcome.err.count("\n") == 1 and not list(tmp_path.glob("model/*"))
