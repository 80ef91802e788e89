"""Figures and the report of a run, made from real small run folders."""

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

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from Code.common.commandline import run_script
from Code.common.errors import ProjectError
from Code.results import figures, report
from Code.results.figures import attention_figure, choose_frames, figure_bytes
from Code.results.page import bars_path
from Code.results.report import write_report
from tools import method

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
        "epoch": 2,
        "accuracy": 0.75,
        "accuracy_interval": [0.301, 0.954],
        "accuracy_listed": 0.6,
        "uar": 0.75,
        "per_class_recall": [1.0, 0.5, None],
        "confusion": [[2, 0, 0], [0, 1, 1], [0, 0, 0]],
        "num_clips": 4,
        "num_clips_listed": 5,
        "num_skipped": 1,
    }
    return metrics | changes


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
    results = {
        "labels": LABELS,
        "last": result(
            epoch=3,
            accuracy=0.5,
            accuracy_listed=0.4,
            uar=0.5,
            per_class_recall=[0.5, 0.5, None],
            confusion=[[1, 1, 0], [0, 1, 1], [0, 0, 0]],
        ),
        "best": result(attention_correlation=0.6789),
    }
    (folder / "results.json").write_text(json.dumps(results))
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


def clip(frames: int, height: int = 20, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.integers(2, 20))
def test_chosen_frames_are_few_spread_and_hold_both_ends(weights: list[float], most: int) -> None:
    chosen = choose_frames(weights, most)
    assert chosen == sorted(set(chosen)) and chosen[0] >= 0 and chosen[-1] < len(weights)
    assert len(chosen) <= most
    assert {int(np.argmax(weights)), int(np.argmin(weights))} <= set(chosen)
    if len(weights) <= most:
        assert chosen == list(range(len(weights)))


def test_chosen_frames_need_room_for_both_ends() -> None:
    with pytest.raises(ValueError, match="max_frames is 1"):
        choose_frames([0.1, 0.2], 1)


def test_attention_figure_has_two_bars_over_each_frame_and_a_line_of_intensity() -> None:
    alpha, weights = np.array([0.2, 0.4, 0.8, 0.6]), np.array([0.1, 0.2, 0.4, 0.3])
    figure = attention_figure(
        clip(4), alpha, weights, title="Happy/a", label=0, prediction="Angry", labels=LABELS,
        probabilities=[0.25, 0.7, 0.05], intensity=[0, 0.5, 1, 0.5],
    )  # fmt: skip
    bars, strip, panel = figure.axes
    blue, orange = bars.containers
    assert [bar.get_height() for bar in blue] == pytest.approx(list(alpha))
    assert [bar.get_height() for bar in orange] == pytest.approx([0.25, 0.5, 1, 0.75])
    assert {bar.get_facecolor()[:3] for bar in blue} != {bar.get_facecolor()[:3] for bar in orange}
    (line,) = bars.lines
    assert list(np.asarray(line.get_ydata())) == [0, 0.5, 1, 0.5]
    assert len(strip.images) == 4
    assert [bar.get_width() for bar in panel.containers[0]] == pytest.approx([0.25, 0.7, 0.05])
    assert "true Happy, predicted Angry  (wrong)" in [text.get_text() for text in figure.texts]
    # Bars stand over their frames only if both axes have the same extent; frames keep their shape (20 x 16).
    assert bars.get_position().x0 == strip.get_position().x0 and bars.get_xlim() == strip.get_xlim()
    wide, high = figure.get_size_inches()
    frame = strip.get_position().width * wide / 4 * 0.94, strip.get_position().height * high
    assert frame[1] / frame[0] == pytest.approx(20 / 16)


def test_attention_figure_of_a_long_clip_shows_its_highest_and_lowest_frame() -> None:
    weights = np.full(90, 1.0)
    weights[[17, 71]] = 3.0, 0.1
    frames = clip(90)
    figure = attention_figure(frames, np.full(90, 0.5), weights / weights.sum(), title="a")
    ticks = [tick.get_text() for tick in figure.axes[1].get_xticklabels()]
    assert len(ticks) <= 12 and "18\nhighest" in ticks and "72\nlowest" in ticks
    shown = np.asarray(figure.axes[1].images[ticks.index("18\nhighest")].get_array())
    assert np.array_equal(shown, frames[17])


def test_a_single_frame_and_equal_weights_are_drawn() -> None:
    figure = attention_figure(clip(1), [1.0], [1.0], title="a")
    assert [bar.get_height() for bars in figure.axes[0].containers for bar in bars] == [1.0, 1.0]
    figure = attention_figure(clip(3), [0.3] * 3, [1 / 3] * 3, title="a")
    assert not any("highest" in tick.get_text() for tick in figure.axes[1].get_xticklabels())


def test_names_are_text_and_not_mathtext() -> None:
    odd = "$\\frac{$_^"
    drawn = [
        attention_figure(clip(2), [0.1, 0.2], [0.4, 0.6], title=odd, label=0, prediction=1, labels=[odd, "b"],
                         probabilities=[0.5, 0.5]),
        figures.confusion_figure([[1, 2], [0, 0]], [odd, "b"]),
        figures.compare_curves({odd: LOG}, "val_war"),
    ]  # fmt: skip
    for figure in drawn:
        assert figure_bytes(figure, "png")[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": np.zeros((2, 8, 8, 3))}, r"expected uint8 \[T, H, W, 3\]"),
        ({"frames": clip(0)}, "T > 0"),
        ({"alpha": [0.5]}, "alpha has shape"),
        ({"weights": [0.5, float("nan")]}, "finite"),
        ({"intensity": [0.5]}, "intensity has shape"),
        ({"probabilities": [0.5, 0.5]}, "need labels"),
        ({"probabilities": [0.5, 0.5], "labels": LABELS}, "3 labels"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    given_sizes = {"frames": clip(2), "alpha": [0.5, 0.5], "weights": [0.5, 0.5], "title": "a"} | changes
    with pytest.raises(ValueError, match=message):
        attention_figure(**given_sizes)


def test_confusion_figure_has_counts_and_rates() -> None:
    figure = figures.confusion_figure(result()["confusion"], LABELS)
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"2\n100 %", "1\n50 %"}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Happy (2)", "Angry (2)", "Sad (0)"]
    with pytest.raises(ValueError, match="3 labels"):
        figures.confusion_figure([[1]], LABELS)


def test_curves_have_the_values_of_the_log_and_gaps_where_it_has_none() -> None:
    lines = [*LOG, {"epoch": 4, "train_loss": None}]
    drawn = figures.run_curves(lines)
    assert list(drawn) == ["loss", "WAR (%)", "UAR (%)", "learning rate"]
    loss, war, uar, rate = (figure.axes[0] for figure in drawn.values())
    assert [line.get_linestyle() for line in loss.lines] == ["--", "-"]  # training, validation
    values = np.asarray(war.lines[1].get_ydata(), dtype=float)
    assert values[:3] == pytest.approx([25, 50, 75]) and np.isnan(values[3])
    assert len(uar.lines) == len(rate.lines) == 1
    assert figures.run_curves([]) == {} and list(figures.run_curves([{"epoch": 1, "lr": 0.1}])) == ["learning rate"]


def test_runs_are_compared_by_line_and_dash() -> None:
    figure = figures.compare_curves({"self": LOG, "relation": LOG[:2]}, "val_uar")
    (axes,) = figure.axes
    assert axes.get_legend() is None and len(figure.legends) == 1  # outside the plot
    assert [len(np.asarray(line.get_xdata())) for line in axes.lines] == [3, 2]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 2
    with pytest.raises(ValueError, match="'nothing'"):
        figures.compare_curves({"self": LOG}, "nothing")


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert figure_bytes(figures.compare_curves({"a": LOG}, "lr")) == figure_bytes(
        figures.compare_curves({"a": LOG}, "lr")
    )


def test_method_figure_is_a_white_card_as_svg_and_png(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "method.svg"
    assert method.main([str(path)]) == 0
    root = ElementTree.parse(path).getroot()
    points = [float(root.attrib[side].removesuffix("pt")) for side in ("width", "height")]
    assert points[0] == 648 and 300 < points[1] < 400  # 9 in: 900 px at 100 dpi
    picture = Image.open(path.with_suffix(".png")).convert("RGBA")
    corner, inside = picture.getpixel((0, 0)), picture.getpixel((picture.width // 2, 40))
    assert corner[3] == 0 and inside == (255, 255, 255, 255)
    with pytest.raises(SystemExit, match="2"):
        method.main([str(tmp_path / "method.jpg")])


def test_report_holds_the_run(reported: Path) -> None:
    assert reported.name == "report.html"
    page = Page(reported)
    for expected in (
        "best epoch 2 75.00 %", "last epoch 3 50.00 %", "too few clips for an interval",
        "UAR 75.00 %", "4 of 5 listed; 1 without frames skipped, 60.00 % of those listed", "0.679 rank correlation",
        "chosen by its accuracy on these clips", "1 wrong, 3 right", "3 epochs as a table", "411",
        "torch 2.12.0",
    ):  # fmt: skip
        assert " ".join(expected.split()) in page.text, expected
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
    assert any(value.startswith("data:image/svg+xml;base64,") for value in references)
    assert all(value.startswith(("data:", "#")) for value in references)
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", reported.read_text(encoding="utf-8"))
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for value in references if value.startswith("#")} <= anchors


def test_an_evaluation_without_log_and_attention_has_a_report(run: Path) -> None:
    (run / "log.jsonl").unlink()
    (run / "attention.csv").unlink()
    (run / "results.json").write_text(json.dumps({"labels": LABELS, "best": result(num_skipped=0)}))
    page = Page(write_report(run))
    assert "Not in this run's folder: log.jsonl, attention.csv." in page.text
    assert "img" not in page.tags and "svg" not in page.tags
    assert "75.00 %" in page.text and "without frames" not in page.text and "Happy/b" in page.text


def test_one_epoch_and_checkpoints_are_shown_once(run: Path) -> None:
    results = {"labels": LABELS, "best": result(), "last": result()}
    (run / "results.json").write_text(json.dumps(results))
    text = Page(write_report(run)).text
    assert "best and last epoch 2 75.00 %" in text and "its numbers are optimistic" not in text
    results = {"labels": LABELS, "selected_on": "last, none chosen", "best": result(), "last": result()}
    (run / "results.json").write_text(json.dumps(results))
    assert "last epoch 2 75.00 %" in Page(write_report(run)).text
    held_out = {"selected_on": "best on clips held out of training", "best": result(), "last": result(epoch=3)}
    (run / "results.json").write_text(json.dumps({"labels": LABELS, **held_out}))
    assert "its numbers are optimistic" not in Page(write_report(run)).text
    about = json.loads((run / "args.json").read_text())
    about["args"] |= {"evaluate": True, "dataset": "ckplus"}
    (run / "args.json").write_text(json.dumps(about))
    (run / "results.json").write_text(json.dumps({"labels": LABELS, "best": result()}))
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
    of_one = result(
        accuracy=0,
        accuracy_interval=[0, 0.793],
        accuracy_listed=0,
        uar=0,
        per_class_recall=[None, 0.0, None],
        num_clips=1,
        confusion=[[0, 0, 0], [1, 0, 0], [0, 0, 0]],
    )
    results = {"labels": names, "best": of_one}
    (run / "results.json").write_text(json.dumps(results))
    write_csv(run / "predictions.csv", [[*names, *names], ["Happy/a", "label", "clip", 0.62, 0.21, 0.17]])
    assert "true label, predicted clip (wrong), 62 %" in Page(write_report(run)).text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results.json", "{", "results.json: is not JSON"),
        ("results.json", "[]", "results.json: expected object, got array"),
        ("results.json", '{"labels": ["a"], "best": {}}', "best: has no field accuracy"),
        ("log.jsonl", '{"epoch": 1}\n{"epo\n', "log.jsonl:2: is not JSON"),
        ("log.jsonl", '{"epoch": "1"}\n', "log.jsonl:1: epoch: expected int, got str"),
        ("predictions.csv", "clip,label\n", "predictions.csv:1: the columns are 'clip,label'"),
        ("predictions.csv", "clip,label,prediction,A\na,A,A\n", "predictions.csv:2: 3 values, expected 4"),
        ("predictions.csv", "clip,label,prediction,A\na,A,B,1\n", "no column for class 'B'"),
        ("attention.csv", "clip,frame,alpha,beta,weight\na,1.jpg,x,,1\n", "clip 'a': 'x' is not a number"),
    ],
)  # fmt: skip
def test_broken_files_are_named(run: Path, name: str, content: str, message: str) -> None:
    (run / name).write_text(content)
    with pytest.raises(ProjectError, match=message):
        write_report(run)


def test_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    for folder, message in ((tmp_path / "none", "no such folder"), (tmp_path, "not a run's folder")):
        assert run_script(partial(report.main, [str(folder)])) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_inlined_curves_are_an_image_without_references(reported: Path) -> None:
    source = next(value for name, value in Page(reported).attributes if name == "src")
    svg = ElementTree.parse(BytesIO(base64.b64decode(source.split(",")[1]))).getroot()
    links = [value for element in svg.iter() for name, value in element.attrib.items() if name.endswith("href")]
    assert links and all(link.startswith("#") for link in links)


def test_figures_leave_pyplot_alone() -> None:
    from matplotlib import pyplot

    assert isinstance(figures.compare_curves({"a": LOG}, "lr"), Figure)
    assert pyplot.get_fignums() == []
