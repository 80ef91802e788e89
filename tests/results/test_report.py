"""The report of a run, made from small run folders; and the reading of runs."""

from __future__ import annotations

import base64
import json
import re
from functools import partial
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest

from Code.common.commandline import run_script
from Code.common.errors import ProjectError
from Code.results import report
from Code.results.page import bars_path
from Code.results.report import write_report
from tests.runs import make_run, write_rows

LABELS = ["Happy", "Angry", "Sad"]
ALERT = "<script>alert(1)</script>"
CLIPS = [  # name, label, prediction, certainty; one clip is taken for Sad, and no clip is Sad
    ("Happy/a", "Happy", "Happy", 0.9),
    ("Happy/b", "Happy", "Happy", 0.6),
    (ALERT, "Angry", "Sad", 0.775),
    ("Angry/$c", "Angry", "Angry", 0.8),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder to change."""
    return make_run(tmp_path / "run", LABELS, CLIPS, args={"at_type": 1, "lr": 0.1, "resume": None})


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an unchanged run. The frames of a clip are no longer there."""
    args = {"at_type": 1, "lr": 0.1, "train_root": ALERT, "resume": None}
    folder = tmp_path_factory.mktemp("runs") / "20260102-030405_sample_<b>relation"
    make_run(folder, LABELS, CLIPS, frames=3, skipped=1, args=args)
    results = json.loads((folder / "results.json").read_text())
    results["best"]["attention_correlation"] = 0.6789
    results["last"] |= {"epoch": 3, "accuracy": 0.5}
    (folder / "results.json").write_text(json.dumps(results))
    for picture in (folder / "frames/0").iterdir():
        picture.unlink()
    return write_report(folder)


class Page(HTMLParser):
    """Elements, attributes and visible text of a page, as a browser would take them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.glued = False
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.glued = tag == "wbr"  # where a line may be broken is still one word
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append((self.texts.pop() if self.glued and self.texts else "") + data)
        self.glued = False


def change(run: Path, name: str, **changes: object) -> None:
    (run / name).write_text(json.dumps(json.loads((run / name).read_text()) | changes))


def test_report_holds_the_run(reported: Path) -> None:
    page = Page(reported)
    for expected in (
        "best epoch 2 75.00 %", "last epoch 3 50.00 %", "too few clips for an interval", "UAR 75.00 %",
        "4 of 5 listed; 1 without frames skipped, 60.00 % of those listed", "0.679 rank correlation",
        "chosen by its accuracy on these clips", "1 wrong, 3 right", "3 epochs as a table", "3.2", "lr 0.1",
        "3 pictures could not be read",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert re.search(r"Angry 2 50\.0 100\.0 ", page.text)
    assert re.search(r"Sad 0 - 0\.0", page.text)  # no clip of the class: no recall
    answers = [
        f"{name} true {label}, predicted {said} ({'right' if label == said else 'wrong'}), {100 * sure:.0f} %"
        for name, label, said, sure in sorted(CLIPS, key=lambda clip: -clip[3])
    ]
    places = [page.text.replace("\N{NO-BREAK SPACE}", " ").index(answer) for answer in answers]
    assert places == sorted(places)  # the most certain first


def test_bars_are_the_weights_of_the_file(reported: Path) -> None:
    heights = [value for name, value in Page(reported).attributes if name == "style" and value.startswith("--a")]
    assert len(heights) == 3 * len(CLIPS)
    assert heights[:3] == ["--a:0;--w:33;--t:0", "--a:20;--w:67;--t:33", "--a:40;--w:100;--t:67"]
    assert bars_path([0, 1.0, 0, 0.5]) == "M1 100v-100h.85v100zM3 100v-50h.85v50z"


def test_names_show_as_text(reported: Path) -> None:
    page = Page(reported)
    assert page.text.count(ALERT) == 2  # the clip and the argument
    assert page.tags.count("script") == 1 and "onclick" not in reported.read_text(encoding="utf-8")
    assert reported.read_text(encoding="utf-8").count("<script") == 1


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


def test_one_epoch_and_checkpoints_are_shown_once(run: Path) -> None:
    text = Page(write_report(run)).text
    assert "best and last epoch 2 75.00 %" in text and "its numbers are optimistic" not in text
    change(run, "results.json", selected_on="last, none chosen")
    assert "last epoch 2 75.00 %" in Page(write_report(run)).text
    change(run, "results.json", last=None)
    change(run, "args.json", args={"at_type": 1, "evaluate": True, "dataset": "ckplus"})
    (run / "log.jsonl").unlink()
    page = Page(write_report(run))
    assert "checkpoint of epoch 2 75.00 %" in page.text and "Relation-attention on CK+, evaluation" in page.text
    assert "img" not in page.tags and "Happy/b" in page.text


def test_the_training_of_a_backbone_is_not_score_fusion(run: Path) -> None:
    change(run, "args.json", args={"votes": 0.5, "pretrained": "none", "lr": 0.001})
    page = Page(write_report(run.rename(run.parent / "20260102-030405_ferplus_score-fusion")))
    assert "Backbone pretrained on single faces of FER+" in page.text and "score-fusion" not in page.text


def test_a_run_that_has_only_begun_has_a_report(run: Path) -> None:
    for name in ("results.json", "predictions.csv"):
        (run / name).unlink()
    (run / "log.jsonl").write_text(json.dumps({"epoch": 1, "train_loss": 1.5}) + "\n")
    page = Page(write_report(run))
    # One epoch makes no curve: the table is open instead.
    assert "1.5000" in page.text and "1 epoch as a table" in page.text and "img" not in page.tags
    assert ("open", "") in page.attributes and "Confusion" not in page.text


def test_classes_may_have_the_names_of_columns(tmp_path: Path) -> None:
    names = ["clip", "label", "prediction"]
    run = make_run(tmp_path / "run", names, [("Happy/a", "label", "clip", 0.62)])
    assert "true label, predicted clip (wrong), 62" in Page(write_report(run)).text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results.json", '{"labels": ["a"], "best": {}}', "required field `accuracy`"),
        ("args.json", '{"args": []}', "args.json: "),
        ("log.jsonl", '{"epoch": 1}\n{"epo\n', "log.jsonl:2: is damaged"),
        ("predictions.csv", "clip,label,prediction,A\na,A,B,1\n", "predictions.csv or another table is damaged"),
        ("attention.csv", "clip,frame,alpha,beta,weight\na,1.jpg,x,,1\n", "another table is damaged (could not"),
    ],
)  # fmt: skip
def test_broken_files_are_named(run: Path, name: str, content: str, message: str) -> None:
    (run / name).write_text(content)
    with pytest.raises(ProjectError, match=re.escape(message)):
        write_report(run)


def test_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert run_script(partial(report.main, [str(tmp_path / "none")])) == 2
    error = capsys.readouterr().err
    assert "not a run's folder" in error and error.count("\n") == 1


def test_figures_of_notable_clips_are_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", LABELS, CLIPS, frames=3)
    assert report.main([str(run), "--figures", "1"]) == 0
    names = sorted(path.name for path in (run / "figures").iterdir())
    assert [name.rsplit("_", 1)[0] for name in names] == [
        kind for kind in ("right_least_certain_1", "right_most_certain_1", "wrong_most_certain_1") for _ in range(2)
    ]
    assert {name[-4:] for name in names} == {".png", ".svg"}
    for flags, message in ((("--clip", "nobody"), "--clip nobody: is not in"), (("--clip", "Happy/a"), "2.png")):
        (run / "frames/0/2.png").unlink(missing_ok=True)
        assert run_script(partial(report.main, [str(run), *flags, "--output", str(tmp_path / "x.png")])) == 2
        assert message in capsys.readouterr().err


def test_frames_may_have_moved(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS, CLIPS[:1], frames=3)
    (tmp_path / "moved/Happy").mkdir(parents=True)
    (run / "frames/0").rename(tmp_path / "moved/Happy/a")
    assert "could not be read" in Page(write_report(run)).text
    page = Page(write_report(run, tmp_path / "moved"))
    assert "could not be read" not in page.text and page.tags.count("img") >= 3
    write_rows(run / "clips.csv", [["clip", "folder"]])
    assert "Happy/a" in Page(write_report(run)).text
