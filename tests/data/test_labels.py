"""Checkpoints with other data, and the data that the flags of the main script read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import Demo_AFEW_Attention as script
from Code.common.names import AFEW_LABELS
from Code.data.clips import DataError, map_labels
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.network.start import start_from
from Code.network.weights import published_weights
from Code.readers import find
from Code.readers.folders import read_folders
from Code.readers.official import CKPLUS_LABELS
from Code.training.run import checkpoint_payload
from Code.training.train import decay
from tests.trees import stub_ckplus, stub_clip, stub_dfew

OTHER_ORDER = tuple(reversed(AFEW_LABELS))


def checkpoint(path: Path, labels: tuple[str, ...], dataset: str = "sample") -> FAN:
    torch.manual_seed(0)
    fan = FAN(1, len(labels))
    about = {"image_size": 32, "dataset": dataset, "protocol": {}, "precision": "fp32", "epoch": 1, "metrics": {}}
    save_atomically(checkpoint_payload(fan, labels=labels, **about), path)
    return fan


def test_names_in_another_order_are_mapped_and_others_are_refused_until_they_are(tmp_path):
    for name in ("Anger/1", "Contempt/2", "Happy/3"):
        stub_clip(tmp_path / name)
    data = read_folders(tmp_path)
    for mapping in ({}, {"Anger": "Angri", "Contempt": "none"}, {"Angr": "Angry"}):
        with pytest.raises(DataError, match="for example --map-labels Anger=Angry"):
            map_labels(data, AFEW_LABELS, mapping, "--checkpoint x")
    clips = map_labels(data, OTHER_ORDER, {"Anger": "Angry", "Contempt": "none"}, "--checkpoint x")
    names = [(clip.name, OTHER_ORDER[clip.label]) for clip in clips.clips]
    assert names == [("Anger/1", "Angry"), ("Happy/3", "Happy")] and clips.labels == OTHER_ORDER
    assert "--map-labels: 1 clip of classes mapped to none not evaluated" in clips.notes
    assert any("checkpoint's order" in note for note in clips.notes)


def test_evaluation_maps_classes_to_the_checkpoints_order(call, sample, tmp_path):
    fan = checkpoint(tmp_path / "one.pth", AFEW_LABELS)
    state = {name: value.clone() for name, value in published_weights(fan).items()}
    order = [AFEW_LABELS.index(name) for name in OTHER_ORDER]
    for name in ("pred_fc2.weight", "pred_fc2.bias"):
        state[name] = state[name][order]
    stored = torch.load(tmp_path / "one.pth", weights_only=True)
    save_atomically({**stored, "state_dict": state, "labels": list(OTHER_ORDER)}, tmp_path / "two.pth")
    found = []
    for name in ("one.pth", "two.pth"):  # without --dataset, that of the checkpoint
        flags = ("--val-root", sample / "Val", "--workers", 0, "--device", "cpu", "--output", tmp_path / name[:3])
        outcome = call(script, "-e", "--checkpoint", tmp_path / name, *flags, cwd=tmp_path)
        assert outcome.status == 0, outcome.err
        (run,) = (tmp_path / name[:3]).iterdir()
        assert "_sample_" in run.name
        found.append(json.loads((run / "results.json").read_text()))
    assert "classes: 0 Surprise, 1 Neutral" in outcome.out
    assert found[1]["labels"] == list(OTHER_ORDER) and found[0]["best"]["accuracy"] == found[1]["best"]["accuracy"]
    matrices = [torch.tensor(result["best"]["confusion"]) for result in found]
    assert torch.equal(matrices[1], matrices[0][order][:, order])


def test_starting_weights_hand_their_classifier_over_by_name(tmp_path):
    fan = checkpoint(tmp_path / "afew.pth", AFEW_LABELS)
    labels = CKPLUS_LABELS
    before = start_from(None, 1, labels, seed=0).fan.head.pred_fc2.weight
    start = start_from(tmp_path / "afew.pth", 1, labels, seed=0)
    new = start.fan
    assert "6 of 7 classes loaded by name, new: Contempt" in start.message
    for index, name in enumerate(labels):
        expected = before[index] if name == "Contempt" else fan.head.pred_fc2.weight[AFEW_LABELS.index(name)]
        assert torch.equal(new.head.pred_fc2.weight[index], expected), name
    assert torch.equal(new.head.alpha[0].weight, fan.head.alpha[0].weight)


@pytest.mark.parametrize(
    ("dataset", "epochs", "factors"),
    [
        ("afew", 180, {0: 1, 59: 1, 60: 0.2, 119: 0.2, 120: 0.04}),
        ("ckplus", 60, {0: 1, 29: 1, 30: 0.2, 59: 0.2}),
        ("dfew", 100, {39: 1, 40: 0.1, 79: 0.1, 80: 0.01}),
        ("ferv39k", 100, {39: 1, 40: 0.1, 80: 0.01}),
        ("mafw", 100, {39: 1, 40: 0.1, 80: 0.01}),
    ],
)
def test_protocols_decay_where_their_sources_say_and_scale_with_the_epochs(dataset, epochs, factors):
    protocol = find(dataset).protocol
    assert protocol.epochs == epochs
    shorter = protocol.trained_for(epochs // 10)
    for done, factor in factors.items():
        assert decay(protocol, 1)(done) == pytest.approx(factor)
        assert decay(shorter, 10)(done) == pytest.approx(factor)


def test_ckplus_folds_are_written_without_training(call, tmp_path):
    stub_ckplus(tmp_path / "Data/CKPlus")
    outcome = call(script, "--dataset", "ckplus", "--write-folds", "folds.txt", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "33 39 40 35 30 37 29 29 33 22 clips; no known person in two" in outcome.out
    assert (tmp_path / "folds.txt").read_text().startswith("1-fold 33 ") and not (tmp_path / "model").exists()


def refused(outcome, *fragments: str) -> None:
    assert outcome.status == 2 and "Traceback" not in outcome.err, outcome
    assert all(fragment in outcome.err for fragment in fragments), outcome.err


def test_mistakes_with_folds_and_labels(call, sample, tmp_path):
    lists = ("--train-root", sample / "Train", "--val-root", sample / "Val")
    refused(call(script, *lists, "--fold", 1, cwd=tmp_path), "--fold: afew has a fixed split")
    refused(call(script, *lists, "--folds", 3, cwd=tmp_path), "--folds", "add --fold all")
    refused(call(script, *lists, "--labels", "a", "b", cwd=tmp_path), "--labels: afew has its own classes")
    refused(call(script, "--dataset", "list", cwd=tmp_path), "--dataset list: name it with --train-list")
    refused(call(script, "--dataset", "list", "--train-list", "no.csv", cwd=tmp_path), "no.csv: no such list file")
    flags = ("--dataset", "folders", "--train-root", sample / "Train", "--fold")
    refused(call(script, *flags, "all", cwd=tmp_path), "without a person", "--person-pattern")
    refused(call(script, *flags, "x", cwd=tmp_path), "is neither the number of a fold nor all")
    refused(call(script, *flags, 9, "--person-pattern", "[^/]+$", cwd=tmp_path), "--fold 9: there are 5 folds")
    stub_dfew(tmp_path / "DFEW")
    dfew = ("--dataset", "dfew", "--train-root", tmp_path / "DFEW", "--fold")
    refused(call(script, *dfew, 6, cwd=tmp_path), "--fold 6: there are 5 folds")
    refused(call(script, "--dataset", "ckplus", cwd=tmp_path), "Data/CKPlus: no such folder", "cohn-kanade-images")


def test_dfew_fold_and_own_list_train_through_their_readers(call, tmp_path):
    stub_dfew(tmp_path / "DFEW")
    for file in tmp_path.rglob("*.jpg"):
        Image.new("RGB", (32, 32), (sum(file.parent.name.encode()) % 255, 90, 30)).save(file)
    tiny = ("--image-size", 32, "--workers", 0, "--device", "cpu", "--precision", "fp32", "--pretrained", "none",
            "--epochs", 1, "--frames", 1, "--at_type", 0)  # fmt: skip
    dfew = ("--dataset", "dfew", "--train-root", tmp_path / "DFEW")
    outcome = call(script, *dfew, *tiny, "--fold", 2, "--output", tmp_path / "m1", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "fold 2 of 5" in outcome.out and "classes: 0 Happy, 1 Sad, 2 Neutral, 3 Angry" in outcome.out
    (run,) = (tmp_path / "m1").iterdir()
    again = call(script, "-e", "--checkpoint", run / "best.pth", "--output", tmp_path / "m2", "--device", "cpu",
                 "--workers", 0, cwd=tmp_path)  # fmt: skip
    assert again.status == 0 and "fold 2 of 5\n" in again.out, again.err
    (other,) = (tmp_path / "m2").iterdir()
    results = [json.loads((folder / "results.json").read_text())["best"] for folder in (run, other)]
    assert results[0] == results[1]

    rows = [f"{n:05d},{'no' if n % 2 else 'yes'},{'test' if n > 14 else 'train'}" for n in range(1, 21)]
    own = tmp_path / "DFEW/Clip/clip_224x224/own.csv"
    own.write_text("\n".join(["path,label,split", *rows]))
    flags = ("--dataset", "list", "--train-list", own, "--samples-per-clip", 1, "--output", tmp_path / "m3")
    outcome = call(script, *tiny, *flags, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "classes: 0 no, 1 yes" in outcome.out and "6 clips" in outcome.out
