"""Pretrain_FERPlus.py from the command line, on a tiny FER+ of noise."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import Pretrain_FERPlus as script
from Code.common.names import AFEW_LABELS, FAN_FILE, FERPLUS_FILE, FERPLUS_LABELS, FOLDERS_FILE, MS1M_FILE
from Code.network.checkpoints import read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.network.prior import Balance
from Code.network.start import start_from
from Code.network.weights import load_fan, load_published, published_weights, to_published
from Code.readers.ferplus import read_ferplus
from Code.recipes import pretraining
from Code.recipes.pretraining import adamw, averaged, continue_classifier, one_cycle
from Code.results.runs import read_run
from tests.runs import log_of, only_run, same

SMALL = ("--image-size", 32, "--batch-size", 8, "--device", "cpu", "--precision", "fp32")


def private_test(out: str) -> list[str]:
    return out[out.index("private test, majority label") :].splitlines()[:10]


def test_a_training_writes_the_published_format_and_leaves_out_test_images(call, make_ferplus, tmp_path):
    root = make_ferplus(tmp_path / "fer", as_csv=False)
    training, private = (read_ferplus(root)[usage].names for usage in ("Training", "PrivateTest"))
    shutil.copy(root / "FER2013Test" / private[0], root / "FER2013Train" / training[0])
    outcome = call(script, "--data-root", root, "--epochs", 1, *SMALL, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "22 training images of 23, labeled by their votes; 1 are left out" in outcome.out
    assert "starting from random weights" in outcome.out

    path = tmp_path / FERPLUS_FILE
    file = torch.load(path, weights_only=True)
    weights = file["state_dict"]
    assert all(name.startswith("module.") for name in weights)
    assert weights["module.fc.weight"].shape == (8, 512) and 40e6 < path.stat().st_size < 46e6
    assert {name.removeprefix("module.fc.") for name in weights if ".fc." in name} == {"weight", "bias"}
    assert file["image_size"] == 32 and file["arch"] == "resnet18" and isinstance(file["best_prec1"], float)

    fan, info = load_fan(path)
    assert info["kind"] == "frame classifier" and info["labels"] == FERPLUS_LABELS
    assert info["image_size"] == 32 and fan.at_type == 2 and fan.num_classes == 8
    backbone = FAN(1)
    assert load_published(backbone, file).dropped == ["fc.weight", "fc.bias"]
    assert torch.equal(backbone.backbone.network.conv1.weight, fan.backbone.network.conv1.weight)

    folder = only_run(tmp_path)
    assert folder.name.endswith("_ferplus_backbone")
    expected = {"args.json", "log.jsonl", "last.pth", "best.pth", "results.json", "predictions.csv", "report.html"}
    assert expected <= {path.name for path in folder.iterdir()}
    results = json.loads((folder / "results.json").read_text())
    assert results["labels"] == list(FERPLUS_LABELS) and results["last"]["num_clips"] == 7
    stored = torch.load(folder / "last.pth", weights_only=True)["state_dict"]
    assert torch.equal(weights["module.conv1.weight"], stored["conv1.weight"])

    printed = private_test(outcome.out)
    assert f"{100 * results['last']['accuracy']:.2f} %" in printed[0]
    assert [line.split()[1] for line in printed[1:8]] == [FERPLUS_LABELS[0], *FERPLUS_LABELS[2:]]  # that occur
    assert printed[9].startswith("  without the 1 that are also training images: accuracy")
    again = call(script, "-e", "--data-root", root, *SMALL[-4:], cwd=tmp_path)
    assert again.status == 0 and private_test(again.out) == printed and "expected calibration error" in again.out


def stopped_and_resumed(call, flags, cwd, before_resuming=lambda: None):
    """The folder of a run of two epochs that Ctrl+C stops within the second, and that is then resumed."""
    cwd.mkdir()
    evaluate, calls = pretraining.evaluate_split, iter(range(9))

    def interrupted(*arguments):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "evaluate_split", interrupted)
        assert call(script, *flags, cwd=cwd).status == 130
    assert not (cwd / FERPLUS_FILE).exists()
    before_resuming()
    folder = only_run(cwd)
    outcome = call(script, "--resume", f"model/{folder.name}", "--device", "cpu", cwd=cwd)
    assert outcome.status == 0, outcome.err
    return folder


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(call, ferplus, tmp_path):
    """With extra faces, teachers (whose answers the run keeps), balance, augmentation and two sizes."""
    extra = write_faces(tmp_path / "extra", {"anger": 3, "unlabeled": 4})
    teachers = [write_network(tmp_path / f"{seed}.pth.tar", seed) for seed in (1, 2)]
    flags = ("--data-root", ferplus, "--epochs", 2, *SMALL, "--small-size", 24, "--small-epochs", 1, "--balance", 1)
    flags += ("--extra", extra, "--teachers", *teachers, "--vary", "--mix", 0.5)
    (tmp_path / "whole").mkdir()
    outcome = call(script, *flags, cwd=tmp_path / "whole")
    assert outcome.status == 0, outcome.err
    assert "extra: 3 labeled and 4 unlabeled faces" in outcome.out and "2 teachers for 30 faces" in outcome.out
    file = torch.load(tmp_path / "whole" / FERPLUS_FILE, weights_only=True)
    assert file["recipe"]["balance"] == "1.0" and sum(file["class_shares"]) == pytest.approx(1)
    assert file["recipe"]["teachers"] == "1.pth.tar 2.pth.tar" and str(tmp_path) not in str(file["recipe"])
    checkpoint = read_checkpoint(only_run(tmp_path / "whole") / "last.pth")  # a teacher or a start, too
    assert checkpoint["recipe"] == file["recipe"] and checkpoint["class_shares"] == file["class_shares"]

    folder = stopped_and_resumed(call, flags, tmp_path / "parts", lambda: [path.unlink() for path in teachers])
    assert log_of(only_run(tmp_path / "whole")) == log_of(folder)
    again = torch.load(tmp_path / "parts" / FERPLUS_FILE, weights_only=True)
    assert same(file["state_dict"], again["state_dict"])


def test_files_say_what_they_started_from_and_what_they_were_evaluated_at(call, ferplus, tmp_path, monkeypatch):
    """MS-Celeb-1M weights are the start if they are there; the best epoch is one of those at the last side."""
    evaluate, accuracies = pretraining.evaluate_split, iter([0.9, 0.2])

    def better_when_small(*arguments):
        metrics, evaluation = evaluate(*arguments)
        return {**metrics, "accuracy": next(accuracies, metrics["accuracy"])}, evaluation

    monkeypatch.setattr(pretraining, "evaluate_split", better_when_small)
    save_atomically({"state_dict": to_published(FAN(2, 5))}, tmp_path / MS1M_FILE)
    flags = ("--epochs", 2, "--small-size", 24, "--small-epochs", 1, *SMALL)
    outcome = call(script, "--data-root", ferplus, *flags, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    folder = only_run(tmp_path)
    best, file = read_checkpoint(folder / "best.pth"), read_checkpoint(tmp_path / FERPLUS_FILE)
    assert best["epoch"] == 2 and best["image_size"] == file["image_size"] == 32
    assert file["recipe"] == best["recipe"] and file["recipe"]["pretrained"] == MS1M_FILE.name
    assert json.loads((folder / "args.json").read_text())["args"]["pretrained"] == str(MS1M_FILE)
    assert not read_run(folder).chosen_here  # chosen on PublicTest, reported on PrivateTest


# Mistakes


def test_missing_data_are_all_named_and_processes_refused(call, ferplus, tmp_path, monkeypatch):
    outcome = call(script, cwd=tmp_path)
    assert outcome.status == 2 and "Traceback" not in outcome.err
    for name in ("fer2013new.csv", "FER2013Train", "FER2013Valid", "FER2013Test", "Data/README.md"):
        assert name in outcome.err
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = call(script, "--data-root", ferplus, *SMALL, cwd=tmp_path)
    assert outcome.status == 2 and outcome.err.startswith("error: torchrun: each process")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", 0), "--epochs"),
        (("--mix", 1.5), "--mix"),
        (("--pretrained", "gone.pth"), "--pretrained gone.pth: no such file"),
        (("-e",), str(FERPLUS_FILE)),
        (("--extra", "extra"), 'unknown class "glee"'),
        (("--extra", "gone"), "gone: no such folder"),
        (("--teachers", "gone.pth"), "--teachers gone.pth: no such file"),
        (("--teachers", "t.pth"), "t.pth: its classes are a, b"),
        (("--teacher-weights", "1"), "--teacher-weights: 1 for 0 --teachers"),
        (("--dataset", "folders", "--teachers", "x"), "--teachers: goes with --dataset ferplus only"),
        (("--dataset", "folders", "-e"), "-e: goes with --dataset ferplus only"),
    ],
)
def test_mistakes_are_one_line(call, ferplus, tmp_path, flags, message):
    write_faces(tmp_path / "extra", {"glee": 1})
    save_atomically({"state_dict": to_published(FAN(2, 2)), "labels": ["a", "b"]}, tmp_path / "t.pth")
    outcome = call(script, "--data-root", ferplus, *SMALL, *flags, cwd=tmp_path)
    assert outcome.status == 2 and message in outcome.err and "Traceback" not in outcome.err


# Networks and folders


def write_faces(root, folders, *, side=40, seed=5):
    """A folder per name with so many grey pictures of noise."""
    rng = np.random.default_rng(seed)
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(root / folder / f"{index:02d}.png")
    return root


def write_network(path, seed, **about):
    torch.manual_seed(seed)
    content = {"state_dict": to_published(FAN(2, 8)), "labels": list(FERPLUS_LABELS), "image_size": 32, **about}
    save_atomically(content, path)
    return path


def test_the_shipped_fan_is_a_frame_classifier_and_a_start(call, ferplus, tmp_path):
    """One file: a FAN with self-attention, whose classifier sees one frame as it sees a clip."""
    torch.manual_seed(3)
    trained = FAN(0, 8)
    about = {"format": "emotion-fan/1", "at_type": 0, "labels": list(FERPLUS_LABELS), "image_size": 32}
    save_atomically({**about, "state_dict": published_weights(trained)}, tmp_path / FAN_FILE)
    frames = torch.rand(3, 1, 3, 32, 32)
    with torch.inference_mode():
        own, alone = (load_fan(tmp_path / FAN_FILE, at_type=kind)[0](frames).logits for kind in (0, 2))
    assert torch.equal(own, alone)
    outcome = call(script, "-e", "--data-root", ferplus, *SMALL[4:], cwd=tmp_path)
    assert outcome.status == 0 and outcome.out.startswith(f"{FAN_FILE}: self-attention, resnet18, 32 x 32 pixels")
    fan = FAN(2, 8)
    assert continue_classifier(fan, tmp_path / FAN_FILE, FERPLUS_LABELS, torch.zeros(8))
    assert torch.equal(fan.classifier.weight, trained.classifier.weight)


def test_any_labeled_folders_give_a_start(call, tmp_path):
    tree = write_faces(tmp_path / "tree", {"anna": 6, "bert": 6, "carl": 6})
    flags = ("--dataset", "folders", "--data-root", tree, "--val-share", 0.3, "--epochs", 1, *SMALL, "--half")
    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "12 training and 6 validation pictures of 3 classes" in outcome.out
    folder = only_run(tmp_path)
    title = (folder / "report.html").read_text().split("<h1>")[1].split("</h1>")[0]
    assert "Backbone pretrained on labeled pictures" in title and "FER+" not in title
    file = folder / FOLDERS_FILE.format("resnet18")
    assert not (tmp_path / FERPLUS_FILE).exists() and f"--pretrained model/{folder.name}/{file.name}" in outcome.out
    content = torch.load(file, weights_only=True)
    assert content["labels"] == ["anna", "bert", "carl"] and content["state_dict"]["module.fc.weight"].shape == (3, 512)
    assert content["state_dict"]["module.conv1.weight"].dtype == torch.float16 and file.stat().st_size < 24e6
    assert start_from(file, 1, AFEW_LABELS, seed=0).image_size == 32


def test_very_many_identities_are_counted_together(call, tmp_path):
    tree = write_faces(tmp_path / "tree", {f"person {index}": 2 for index in range(101)}, side=32)
    flags = ("--dataset", "folders", "--data-root", tree, "--val-share", 0.5, "--epochs", 1, *SMALL)
    outcome = call(script, *flags, "--export", "start.pth.tar", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "validation, 101 classes: accuracy" in outcome.out and (tmp_path / "start.pth.tar").is_file()
    folder = only_run(tmp_path)
    assert (folder / "predictions.csv").read_text().splitlines()[0] == "clip,label,prediction"
    assert json.loads((folder / "results.json").read_text())["last"]["confusion"] == []


def test_a_balanced_network_is_evaluated_with_both_priors(call, ferplus, tmp_path):
    shares = [1e-3] * 3 + [1.0 - 7e-3] + [1e-3] * 4
    write_network(tmp_path / "balanced", 0, class_shares=shares, recipe={"balance": "1.0", "balance_floor": "0.0"})
    outcome = call(script, "-e", "--data-root", ferplus, "--checkpoint", "balanced", *SMALL[4:], cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    confusion, of_ferplus = (
        np.array(json.loads(f"[{part.split('(rows true): ')[1].splitlines()[0].replace('] [', '], [')}]"))
        for part in outcome.out.split("the same with --prior ferplus")
    )
    others = np.arange(8) != 3
    assert confusion[:, others].any() and not of_ferplus[:, others].any()
    assert confusion.sum() == of_ferplus.sum() > 0

    write_network(tmp_path / "plain", 0, class_shares=shares)
    outcome = call(script, "-e", "--data-root", ferplus, "--checkpoint", "plain", *SMALL[4:], cwd=tmp_path)
    assert outcome.status == 0 and "--prior ferplus" not in outcome.out and "--prior uniform" in outcome.out


def test_a_network_of_the_same_classes_is_continued_with_its_classifier_and_prior(tmp_path):
    shares = torch.arange(1.0, 9.0) / 36
    for name, recipe in (("plain", {}), ("balanced", {"balance": "1.0"})):
        write_network(tmp_path / name, 7, class_shares=shares.tolist(), recipe=recipe)
    trained = load_fan(tmp_path / "plain")[0].head.pred_fc1
    for name, tau, moved in (("plain", 0, 0), ("plain", 1, -1), ("balanced", 1, 0), ("balanced", 0, 1)):
        fan = FAN(2, 8)
        assert continue_classifier(fan, tmp_path / name, FERPLUS_LABELS, Balance(tau).offset(shares))
        assert torch.equal(fan.head.pred_fc1.weight, trained.weight)
        assert torch.allclose(fan.head.pred_fc1.bias, trained.bias + moved * shares.log(), atol=1e-6)
    others = [*FERPLUS_LABELS[1:], FERPLUS_LABELS[0]]
    assert not continue_classifier(FAN(2, 8), tmp_path / "plain", others, torch.zeros(8))


# Steps


def test_weight_decay_spares_biases_and_batch_norm():
    fan = FAN(2, 8)
    decayed, others = adamw(fan, 1e-3).param_groups
    assert decayed["weight_decay"] == 0.05 and others["weight_decay"] == 0
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(fan.parameters()))


def test_one_cycle_rises_falls_and_ends_low():
    assert [one_cycle(share) for share in (0, 0.2, 1)] == pytest.approx([0.1, 1, 0.001])
    values = [one_cycle(step / 400) for step in range(401)]
    assert values[:81] == sorted(values[:81]) and values[80:] == sorted(values[80:], reverse=True)


def test_average_is_quick_at_first_and_takes_buffers_along():
    fan, expected = FAN(0), 0.0
    average = averaged(fan, 0.9)
    own, batch_norm = fan.head.pred_fc1.bias, fan.backbone.network.bn1
    mean, norm = average.module.head.pred_fc1.bias, average.module.backbone.network.bn1
    for done in range(120):
        with torch.no_grad():
            own.fill_(float(done))
            batch_norm.running_mean.fill_(float(done))
            batch_norm.num_batches_tracked += 1
        average.update_parameters(fan)
        decay = min(0.9, (1 + done) / (10 + done)) if done else 0.0  # the first update is a copy
        expected = decay * expected + (1 - decay) * done
        assert [mean[0].item(), norm.running_mean[0].item()] == pytest.approx([expected] * 2, rel=1e-4)
        assert torch.equal(norm.num_batches_tracked, batch_norm.num_batches_tracked)
