"""The report of a run, made from real small run folders; and the reading of runs."""

from __future__ import annotations

import base64
import csv
import json
import re
from functools import partial
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from Code.common.commandline import run_script
from Code.common.errors import ProjectError
from Code.results import report
from Code.results.page import bars_path
from Code.results.report import write_report

LABELS = ["Happy", "Angry", "Sad"]
ALERT = "<script>alert(1)</script>"
LOG = [
    {"epoch": epoch, "lr": 0.1 / epoch, "train_loss": 2 / epoch, "train_war": 1 - 0.5 / epoch,
     "val_loss": 1.5, "val_war": 0.25 * epoch, "val_uar": 0.2 * epoch,
     "seconds": 3.25, "frames_per_second": 411.4}
    for epoch in (1, 2, 3)
]  # fmt: skip
CLIPS = {  # clip: (label, prediction, probabilities); one clip is taken for Sad, and no clip is Sad
    "Happy/a": ("Happy", "Happy", (0.9, 0.05, 0.05)),
    "Happy/b": ("Happy", "Happy", (0.6, 0.3, 0.1)),
    ALERT: ("Angry", "Sad", (0.1, 0.125, 0.775)),
    "Angry/$c": ("Angry", "Angry", (0.1, 0.8, 0.1)),
}


def result(**changes: Any) -> dict[str, Any]:
    metrics = {
        "epoch": 2, "accuracy": 0.75, "accuracy_interval": [0.301, 0.954], "accuracy_listed": 0.6, "uar": 0.75,
        "uar_interval": [0.3, 0.9],
        "per_class_recall": [1.0, 0.5, None], "confusion": [[2, 0, 0], [0, 1, 1], [0, 0, 0]],
        "num_clips": 4, "num_clips_listed": 5, "num_skipped": 1,
    }  # fmt: skip
    return metrics | changes


def write_results(run: Path, **content: Any) -> None:
    (run / "results.json").write_text(json.dumps({"labels": LABELS, **content}))


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def make_run(folder: Path) -> Path:
    folder.mkdir()
    about = {
        "command": f"python Demo_AFEW_Attention.py --output {ALERT}",
        "args": {"at_type": 1, "lr": 0.1, "train_root": ALERT, "resume": None},
        "versions": {"torch": "2.12.0"},
        "git_commit": None,
        "device": "cpu",
    }
    (folder / "args.json").write_text(json.dumps(about))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
    last = result(epoch=3, accuracy=0.5, uar=0.5, confusion=[[1, 1, 0], [0, 1, 1], [0, 0, 0]])
    write_results(folder, last=last, best=result(attention_correlation=0.6789))
    rows = [[name, label, said, *shares] for name, (label, said, shares) in CLIPS.items()]
    write_csv(folder / "predictions.csv", [["clip", "label", "prediction", *LABELS], *rows])
    frames = [[name, f"{at}{ALERT}.jpg", 0.1 + at / 4, 0.5, (1 + at) / 6] for name in CLIPS for at in range(3)]
    write_csv(folder / "attention.csv", [["clip", "frame", "alpha", "beta", "weight"], *frames])
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder to change."""
    return make_run(tmp_path / "run")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an unchanged run."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "20260102-030405_sample_<b>relation"))


class Page(HTMLParser):
    """Elements, attributes and visible text of a page, as a browser would take them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.glued = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.glued = tag == "wbr"  # where a line may be broken is still one word
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.glued and self.texts:
            self.texts[-1] += data
        else:
            self.texts.append(data)
        self.glued = False

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_report_holds_the_run(reported: Path) -> None:
    assert reported.name == "report.html"
    page = Page(reported)
    for expected in (
        "best epoch 2 75.00 %", "last epoch 3 50.00 %", "too few clips for an interval",
        "UAR 75.00 %", "4 of 5 listed; 1 without frames skipped, 60.00 % of those listed", "0.679 rank correlation",
        "chosen by its accuracy on these clips", "1 wrong, 3 right", "3 epochs as a table", "411",
        "This run does not say where its frames are", "at_type 1 (relation-attention)",
        "Not set: resume", "torch 2.12.0",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert re.search(r"Angry 2 1 50\.0 100\.0 Sad \(1\)", page.text)
    assert re.search(r"Sad 0 0 - 0\.0", page.text)  # no clip of the class: no recall


def test_the_most_certain_clip_comes_first(tmp_path: Path) -> None:
    said = [("r1", "Angry", 0.9), ("w1", "Sad", 0.6), ("r2", "Angry", 0.5), ("w2", "Happy", 0.95)]
    rows = [
        [name, "Angry", guess, *(sure if guess == label else (1 - sure) / 2 for label in LABELS)]
        for name, guess, sure in said
    ]
    write_csv(tmp_path / "predictions.csv", [["clip", "label", "prediction", *LABELS], *rows])
    text = Page(write_report(tmp_path)).text
    order = (
        "w2 true Angry, predicted Happy (wrong), 95 %", "r1 true Angry, predicted Angry (right), 90 %",
        "w1 true Angry, predicted Sad (wrong), 60 %", "r2 true Angry, predicted Angry (right), 50 %",
    )  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_bars_are_the_weights_of_the_file(reported: Path) -> None:
    page = Page(reported)
    heights = [value for name, value in page.attributes if name == "style" and value.startswith("--a")]
    assert len(heights) == 3 * len(CLIPS)
    assert heights[:3] == ["--a:10;--w:33", "--a:35;--w:67", "--a:60;--w:100"]
    assert bars_path([0, 2.0, -1, 0.5]) == "M1 100v-100h.85v100zM3 100v-50h.85v50z"


def test_names_show_as_text(reported: Path) -> None:
    page = Page(reported)
    assert page.text.count(ALERT) == 3  # the clip, the argument and the command
    assert page.tags.count("script") == 1 and "onclick" not in reported.read_text(encoding="utf-8")
    assert reported.read_text(encoding="utf-8").count("<script") == 1
    assert any(
        name == "title" and value.startswith(f"2{ALERT}.jpg, frame 3, highest: alpha 0.600")
        for name, value in page.attributes
    )


def test_report_refers_to_nothing_outside(reported: Path) -> None:
    page = Page(reported)
    referring = {"src", "href", "srcset", "data", "action", "poster", "xlink:href", "background"}
    references = [value for name, value in page.attributes if name in referring]
    (svg, *_) = [value for value in references if value.startswith("data:image/svg+xml;base64,")]
    assert all(value.startswith(("data:", "#")) for value in references)
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", reported.read_text(encoding="utf-8"))
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for value in references if value.startswith("#")} <= anchors
    curves = ElementTree.parse(BytesIO(base64.b64decode(svg.split(",")[1]))).getroot()
    links = [value for element in curves.iter() for name, value in element.attrib.items() if name.endswith("href")]
    assert links and all(link.startswith("#") for link in links)


def test_an_evaluation_without_log_and_attention_has_a_report(run: Path) -> None:
    (run / "log.jsonl").unlink()
    (run / "attention.csv").unlink()
    write_results(run, best=result(num_skipped=0))
    page = Page(write_report(run))
    assert "Not in this run's folder: log.jsonl, attention.csv." in page.text
    assert "img" not in page.tags and "svg" not in page.tags
    assert "75.00 %" in page.text and "without frames" not in page.text and "Happy/b" in page.text


def test_one_epoch_and_checkpoints_are_shown_once(run: Path) -> None:
    write_results(run, best=result(), last=result())
    text = Page(write_report(run)).text
    assert "best and last epoch 2 75.00 %" in text and "its numbers are optimistic" not in text
    write_results(run, selected_on="last, none chosen", best=result(), last=result())
    assert "last epoch 2 75.00 %" in Page(write_report(run)).text
    write_results(run, selected_on="best on clips held out of training", best=result(), last=result(epoch=3))
    assert "its numbers are optimistic" not in Page(write_report(run)).text
    about = json.loads((run / "args.json").read_text())
    about["args"] |= {"evaluate": True, "dataset": "ckplus"}
    (run / "args.json").write_text(json.dumps(about))
    write_results(run, best=result())
    text = Page(write_report(run)).text
    assert "checkpoint of epoch 2 75.00 %" in text and "Relation-attention on CK+, evaluation" in text


def test_the_training_of_a_backbone_is_not_score_fusion(run: Path) -> None:
    about = {"args": {"votes": 0.5, "pretrained": "none", "lr": 0.001}}
    (run / "args.json").write_text(json.dumps(about))
    pretraining = run.rename(run.parent / "20260102-030405_ferplus_score-fusion")
    page = Page(write_report(pretraining))
    assert "Backbone pretrained on single faces of FER+" in page.text and "score-fusion" not in page.text
    assert "pretrained random weights" in page.text


def test_a_run_that_has_only_begun_has_a_report(run: Path) -> None:
    for name in ("results.json", "predictions.csv", "attention.csv"):
        (run / name).unlink()
    (run / "log.jsonl").write_text(json.dumps({"epoch": 1, "train_loss": 1.5}) + "\n")
    page = Page(write_report(run))
    # One epoch makes no curve: the table is open instead.
    assert "1.5000" in page.text and "1 epoch as a table" in page.text and "img" not in page.tags
    assert ("open", "") in page.attributes and "Confusion" not in page.text
    (run / "log.jsonl").write_text("".join(json.dumps({"epoch": at, "train_loss": 1 / at}) + "\n" for at in (1, 2)))
    page = Page(write_report(run))
    assert page.tags.count("img") == 1 and ("open", "") not in page.attributes


def test_classes_may_have_the_names_of_columns(run: Path) -> None:
    names = ["clip", "label", "prediction"]
    of_one = result(num_clips=1, per_class_recall=[None, 0.0, None], confusion=[[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    write_results(run, labels=names, best=of_one)
    write_csv(run / "predictions.csv", [[*names, *names], ["Happy/a", "label", "clip", 0.62, 0.21, 0.17]])
    assert "true label, predicted clip (wrong), 62 %" in Page(write_report(run)).text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results.json", "{", "results.json: is not JSON"),
        ("results.json", "[]", "results.json: Expected `object`, got `array`"),
        ("results.json", '{"labels": ["a"], "best": {}}', "missing required field `accuracy`"),
        ("results.json", '{"labels": ["a"]}', "predictions.csv: has other classes than results.json"),
        ("args.json", '{"args": []}', "Expected `object`, got `array` - at `$.args`"),
        ("args.json", "[" * 9999, "args.json: "),
        ("log.jsonl", '{"epoch": 1}\n{"epo\n', "log.jsonl:2: is not JSON"),
        ("log.jsonl", '{"epoch": "1"}\n', "log.jsonl:1: Expected `int`, got `str` - at `$.epoch`"),
        ("predictions.csv", "clip,label\n", "predictions.csv:1: is damaged (its columns are 'clip,label'"),
        ("predictions.csv", "clip,label,prediction,A\na,A,A\n", "predictions.csv:2: is damaged ("),
        ("predictions.csv", "clip,label,prediction,A\na,A,B,1\n", "is damaged (no column for A or B)"),
        ("attention.csv", "clip,frame,alpha,beta,weight\na,1.jpg,x,,1\n", "attention.csv:2: is damaged (could"),
    ],
)  # fmt: skip
def test_broken_files_are_named(run: Path, name: str, content: str, message: str) -> None:
    (run / name).write_text(content)
    with pytest.raises(ProjectError, match=re.escape(message)):
        write_report(run)


def test_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    for folder, message in ((tmp_path / "none", "no such folder"), (tmp_path, "not a run's folder")):
        assert run_script(partial(report.main, [str(folder)])) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
