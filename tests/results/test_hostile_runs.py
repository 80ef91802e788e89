"""Runs whose files were cut, edited or swapped, or are of another version: what does not fit is named, never shown."""

from __future__ import annotations

import copy
import csv
import functools
import io
import json
import operator
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from Code.common.commandline import run_script
from Code.common.errors import ProjectError
from Code.data.clips import Clip
from Code.results import report, run_figures
from Code.results.run_files import ReportError, read_run
from Code.results.run_state import check_tables
from Code.training.engine import Evaluation
from Code.training.metrics import classification_metrics
from Code.training.run_folder import Run

LABELS = ("Happy", "Sad")


def write_run(folder: Path, seed: int = 0) -> Path:
    """A finished run as a training writes it, with six clips of three frames."""
    run, generator = Run(folder), torch.Generator().manual_seed(seed)
    clips = [Clip(f"{LABELS[at % 2]}/{at}", f"frames/{at}", ("1.jpg", "2.jpg", "3.jpg"), at % 2) for at in range(6)]
    rows = [np.full(3, 1 / 3, np.float32) for _ in clips]
    evaluation = Evaluation(torch.randn(6, 2, generator=generator), rows, list(rows), rows)
    targets = [clip.label for clip in clips]
    metrics = classification_metrics(evaluation.logits.softmax(dim=1), torch.tensor(targets)) | {"epoch": 1}
    run.write_predictions(LABELS, [clip.name for clip in clips], targets, evaluation)
    run.write_attention(clips, evaluation)
    run.write_results(LABELS, {"last": metrics, "best": metrics}, {"selected_on": "best on the evaluated split"})
    (folder / "args.json").write_text(json.dumps({"version": 1, "args": {"at_type": 1, "seed": seed}}))
    (folder / "log.jsonl").write_text('{"epoch": 1, "val_war": 0.5}\n{"epoch": 2, "val_war": 0.5}\n')
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def as_of_an_earlier_version(run: Path) -> None:
    """results.json without rows and checksums."""
    content = json.loads((run / "results.json").read_text())
    del content["version"], content["tables"]
    (run / "results.json").write_text(json.dumps(content))


def change(path: Path, edit: Callable[[list[list[str]]], object]) -> None:
    rows = list(csv.reader(path.open(newline="")))
    edit(rows)
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path.write_text(text.getvalue(), newline="")


CHANGES: dict[str, tuple[str, Callable[[list[list[str]]], object], str, str]] = {
    "cut at a line": ("predictions.csv", lambda rows: rows.pop(), "has 5 rows", "has 5 rows"),
    "a row five times": ("predictions.csv", lambda rows: rows.extend([rows[1]] * 4), "has 10 rows", "has 10 rows"),
    "a row instead of another": (
        "predictions.csv",
        lambda rows: rows.__setitem__(2, rows[1]),
        "was changed",
        "does not have the predictions",
    ),
    "probabilities of 7 and -5": (
        "predictions.csv",
        lambda rows: rows[1].__setitem__(slice(3, 5), ["7", "-5"]),
        "was changed",
        "'7' is not a number from 0 to 1",
    ),
    "not a number": ("predictions.csv", lambda rows: rows[1].__setitem__(3, "nan"), "was changed", "'nan' is not"),
    "not a sum of one": ("predictions.csv", lambda rows: rows[1].__setitem__(3, "0"), "was changed", "sum to 0."),
    "the header alone": ("predictions.csv", lambda rows: rows.__delitem__(slice(1, None)), "has 0 rows", "has 0 rows"),
    "a frame cut": ("attention.csv", lambda rows: rows.pop(), "has 17 rows", ""),
    "a frame twice": ("attention.csv", lambda rows: rows.insert(2, rows[1]), "has 19 rows", "has a frame twice"),
    "a weight of 9": ("attention.csv", lambda rows: rows[1].__setitem__(4, "9"), "was changed", "'9' is not a number"),
    "another folder": ("clips.csv", lambda rows: rows[1].__setitem__(1, "/etc"), "was changed", ""),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_table_is_named(run, capsys, name):
    table, edit, message, earlier = CHANGES[name]
    change(run / table, edit)
    compared = partial(report.main, ["--compare", str(run), str(write_run(run.parent / "other", seed=1))])
    figures = partial(run_figures.main, [str(run), "--figures", "1"])
    for reader in (partial(report.main, [str(run)]), compared, figures):
        assert run_script(reader) == 2
        error = capsys.readouterr().err
        assert f"{run / table}: {message}" in error and error.count("\n") == 1
    with pytest.raises(ReportError, match=message):
        check_tables(run)
    as_of_an_earlier_version(run)
    if earlier:
        with pytest.raises(ReportError, match=earlier):
            read_run(run)
    else:  # nothing to compare with, and nothing that cannot be
        assert len(read_run(run).clips) == 6


def test_an_older_run_is_read(run):
    as_of_an_earlier_version(run)
    assert len(read_run(run).clips) == 6
    check_tables(run)
    assert report.main([str(run)]) == 0


def test_results_come_last(tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def killed(self, name, content):
        raise KilledError

    monkeypatch.setattr(Run, "_write_json", killed)
    with pytest.raises(KilledError):
        write_run(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"predictions.csv", "attention.csv", "clips.csv"}


RESULTS: dict[str, tuple[Callable[[dict], object], str]] = {
    "accuracy": (lambda of: of["best"].__setitem__("accuracy", 0.99), "best: accuracy is 0.99, but"),
    "uar": (lambda of: of["last"].__setitem__("uar", -1), "last: uar is -1.0, expected a number from 0 to 1"),
    "confusion": (lambda of: of["best"]["confusion"].pop(), "best: confusion is not a square"),
    "counts": (lambda of: of["best"]["confusion"][0].__setitem__(0, 99), "best: confusion counts"),
    "negative": (lambda of: of["best"].__setitem__("confusion", [[7, -1], [0, 0]]), "best: confusion is not a square"),
    "text": (lambda of: of["best"].__setitem__("num_clips", "6"), "best.num_clips: expected int, got str"),
    "huge": (lambda of: of["best"].__setitem__("num_clips", 10**300), "best: num_clips is 1"),
    "huge epoch": (lambda of: of["best"].__setitem__("epoch", 10**400), "best.epoch"),
    "labels": (lambda of: of.__setitem__("labels", "Happy"), "labels: expected array, got str"),
    "classes": (
        lambda of: of.__setitem__("labels", ["Happy"]),
        "has 2 classes, but labels has 1",
    ),
    "recall": (lambda of: of["best"]["per_class_recall"].__setitem__(0, 0.123), "best: per_class_recall is 0.123, but"),
    "no recalls": (lambda of: of["best"].__setitem__("per_class_recall", []), "best.per_class_recall has 0 classes"),
    "interval": (lambda of: of["best"].__setitem__("accuracy_interval", [0.99, 1]), ", outside of its interval"),
    "turned": (lambda of: of["best"].__setitem__("uar_interval", [0.9, 0.1]), "best: uar_interval is from 0.9 to 0.1"),
    "listed": (lambda of: of["best"].__setitem__("num_clips_listed", 5), "best: num_clips_listed is 5, but"),
    "of the listed": (lambda of: of["best"].__setitem__("accuracy_listed", 0.01), "best: accuracy_listed is 0.01, but"),
    "no epoch": (lambda of: of["best"].__setitem__("epoch", float("nan")), "best: epoch is nan"),
    "tables": (lambda of: of.__setitem__("tables", {"predictions.csv": 6}), "tables.*: expected object, got int"),
    "newer": (lambda of: of.__setitem__("version", 2), "was written by a newer version of this program"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_that_cannot_be_are_named(run, name):
    edit, message = RESULTS[name]
    content = json.loads((run / "results.json").read_text())
    edit(content)
    (run / "results.json").write_text(json.dumps(content))
    with pytest.raises(ReportError) as caught:
        read_run(run)
    assert str(caught.value).startswith(f"{run / 'results.json'}: ") and message in str(caught.value)


@pytest.mark.parametrize(
    "args",
    [
        '{"args": {"at_type": []}}',
        '{"args": []}',
        '{"args": {"seed": {}}}',
        '{"versions": 1}',
        '{"command": 5}',
        "[" * 9999,
    ],
)
def test_arguments_of_another_shape_are_named(run, args):
    (run / "args.json").write_text(args)
    with pytest.raises(ReportError, match=r"args\.json: "):
        read_run(run)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A file with one thing changed: cut, a byte, a value of JSON, a repeated part."""
    kind, at = rng.randrange(5), rng.randrange(max(len(data), 1))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[at // 2 : at] + data[at:]
    values = [
        b"null",
        b"-1",
        b"[]",
        b"{}",
        b'"x"',
        b"1e999",
        b"true",
        b"NaN",
        b"9" * 5000,
        b"[" * 5000,
        b"\xff",
        b"0.5",
    ]
    parts = data.replace(b",", b"\0,\0").replace(b":", b"\0:\0").split(b"\0")
    parts[rng.randrange(len(parts))] = rng.choice(values)
    return b"".join(parts) if kind == 3 else rng.choice(values)


def test_mutated_files_end_in_one_line(tmp_path, monkeypatch):
    """Every reader of a run, on runs with one file mutated: it reads the run, or says in one line what is wrong."""
    monkeypatch.setattr(report, "write_page", lambda path, template, **context: list(context["cards"]) and path)
    good = write_run(tmp_path / "run")
    names = ("results.json", "args.json", "log.jsonl", "predictions.csv", "attention.csv", "clips.csv")
    contents = {name: (good / name).read_bytes() for name in names}
    rng, refused = random.Random(18), 0
    for number in range(200):
        name = rng.choice(names)
        if number % 2:
            as_of_an_earlier_version(good)
        (good / name).write_bytes(mutated(contents[name], rng))
        try:
            report.write_report(good)
        except ProjectError as error:
            refused += 1
            assert "\n" not in str(error) and str(good) in str(error), error
        for each, data in contents.items():
            (good / each).write_bytes(data)
    assert refused > 100


GONE = object()
ODD = (None, "x", -1, 1e308, float("nan"), True, [], {}, [None], 10**30, "\ud800")


def places_in(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in the content of a JSON file; of a list, the first and the last entry stand for all."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places_in(inner, (*path, name))
    elif isinstance(value, list):
        for at in sorted({0, len(value) - 1} & {*range(len(value))}):
            yield from places_in(value[at], (*path, at))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["results.json", "args.json", "log.jsonl"])
def test_every_value_may_be_any_other(run: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each value of a file replaced by each odd one, or gone: a whole page, or one line that says what is wrong."""
    monkeypatch.setattr(report, "picture", lambda figure: "")
    as_of_an_earlier_version(run)
    text = (run / name).read_text()
    content = [json.loads(line) for line in text.splitlines()] if name == "log.jsonl" else json.loads(text)
    if name == "args.json":
        content |= {"command": "python Demo_AFEW_Attention.py", "started": "2026-01-01", "versions": {"torch": "2"}}
        content |= {"given": {"seed": 0}, "launch": "1", "device": "cpu", "precision": "fp32", "threads": 1}
    read, refused = 0, 0
    for path in places_in(content):
        for odd in (*ODD, GONE):
            changed = copy.deepcopy(content)
            inner = functools.reduce(operator.getitem, path[:-1], changed)
            if odd is GONE:
                del inner[path[-1]]
            else:
                inner[path[-1]] = odd
            lines = changed if name == "log.jsonl" else [changed]
            (run / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
            try:
                report.write_report(run)
                read += 1
            except ProjectError as error:
                refused += 1
                assert "\n" not in str(error) and str(run) in str(error), error
    assert read > 10 and refused > 50


def test_a_log_whose_epochs_go_back_is_named_with_the_line(run: Path) -> None:
    with (run / "log.jsonl").open("a") as file:
        file.write('{"epoch": 1, "val_war": 0.5}\n')
    with pytest.raises(ReportError, match=r"log\.jsonl:3: has epoch 1 after epoch 2; remove the line"):
        read_run(run)
