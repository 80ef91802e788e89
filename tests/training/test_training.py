"""The engine and what stands around it: evaluation of packed frames, schedules, averaging, runs, errors."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from Code.common import commandline
from Code.common.device import Compute, choose_compute
from Code.common.errors import UsageError
from Code.data.augment import FlippedClips, PlainFrames, to_float
from Code.data.batches import ArrayStore, EvaluationBatches, FrameTable, TrainingBatches
from Code.network import start as starting
from Code.network.fan import FAN, FANOutput
from Code.readers import find
from Code.training import loops
from Code.training.loops import State, evaluate, train_one_epoch
from Code.training.run import newest_best, open_run
from Code.training.train import decay
from tests.runs import same

CPU = Compute(torch.device("cpu"))
LENGTHS = [1, 5, 2, 9, 1, 1, 3]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def random_clips(lengths: list[int], num_classes: int = 4) -> tuple[FrameTable, ArrayStore]:
    """Noise of 32 x 32, a different grey level in every clip."""
    rng = np.random.default_rng(0)
    level = np.repeat(np.linspace(0, 155, len(lengths)), lengths)[:, None, None, None]
    frames = (level + rng.integers(0, 100, (sum(lengths), 3, 32, 32))).astype(np.uint8)
    names = [f"clip{c}" for c in range(len(lengths))]
    labels = tuple(f"class{c}" for c in range(num_classes))
    targets = torch.arange(len(lengths)) % num_classes
    return FrameTable(np.array(lengths), targets, names, labels), ArrayStore(frames)


def seeded_fan(at_type: int, dropout: float | None = None) -> FAN:
    torch.manual_seed(0)
    return FAN(at_type, 4, dropout=dropout).eval()


# Evaluation


@pytest.mark.parametrize("at_type", [0, 1, 2])
@pytest.mark.parametrize(("batch_frames", "group"), [(1, 64), (4, 3), (7, 1), (64, 64)])
def test_packed_frames_give_each_clip_what_it_has_alone(at_type, batch_frames, group, monkeypatch):
    monkeypatch.setattr(loops, "CLIPS_AT_ONCE", group)
    fan, (table, store) = seeded_fan(at_type), random_clips(LENGTHS)
    batches = EvaluationBatches(table, store, batch_frames=batch_frames)  # clips of 5 and 9 exceed batches of 4
    result = evaluate(fan, batches, compute=CPU, transform=PlainFrames())
    assert result.logits.shape == (7, 4) and result.logits.dtype == torch.float32
    assert result.frames == sum(LENGTHS) and result.seconds > 0
    for clip, length in enumerate(LENGTHS):
        start = table.offsets[clip]
        with torch.inference_mode():
            alone = fan(to_float(store.frames[start : start + length])[None])
        assert torch.allclose(result.logits[clip], alone.logits[0], atol=1e-5)
        for name in ("alpha", "weights", "beta"):
            values, expected = getattr(result, name), getattr(alone, name)
            if expected is None:
                assert values == [] and name == "beta" and at_type != 1
            else:
                assert values[clip].shape == (length,)
                assert np.allclose(values[clip], expected[0].numpy(), atol=1e-5)
        assert result.weights[clip].sum() == pytest.approx(1, abs=1e-5)


def test_evaluation_is_repeatable_and_leaves_no_trace():
    fan, (table, store) = seeded_fan(1), random_clips(LENGTHS)
    before = {name: value.clone() for name, value in fan.state_dict().items()}
    fan.train()
    batches = EvaluationBatches(table, store, batch_frames=6)
    first, second = (evaluate(fan, batches, compute=CPU, transform=PlainFrames()).logits for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in fan.state_dict().items())


def test_bf16_and_fp32_mostly_agree():
    fan, (table, store) = seeded_fan(1), random_clips([2, 3, 1, 4] * 4)
    batches = EvaluationBatches(table, store, batch_frames=16)
    full = evaluate(fan, batches, compute=CPU, transform=PlainFrames()).logits
    half = evaluate(fan, batches, compute=Compute(CPU.device, "bf16"), transform=PlainFrames()).logits
    assert half.dtype == torch.float32 and not torch.equal(full, half)
    assert torch.allclose(full, half, atol=0.1 * float(full.std()))
    assert (full.argmax(1) == half.argmax(1)).float().mean() >= 0.8


# Training


def state_of(fan: FAN, compute: Compute, forward: Callable[..., FANOutput], lr: float) -> State:
    optimizer = torch.optim.SGD(fan.parameters(), lr=lr, momentum=0.9)
    return State(fan, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0), compute, forward)


def train(
    device: str = "cpu",
    *,
    lr: float = 1e-3,
    epochs: int = 1,
    seed: int = 0,
    dropout: float | None = None,
    compiled: bool = False,
) -> tuple[list[dict], FAN]:
    """Three steps an epoch on random clips, in fp32, from one and the same network."""
    compute = Compute(torch.device(device))
    fan, (table, store) = seeded_fan(1, dropout).to(device), random_clips(LENGTHS)
    batches = TrainingBatches(table, store, num_frames=3, batch_size=7, seed=seed)
    forward = torch.compile(fan, backend="eager") if compiled else fan
    state = state_of(fan, compute, forward, lr)
    return [train_one_epoch(state, batches, epoch, FlippedClips()) for epoch in range(1, epochs + 1)], fan


def test_losses_follow_the_seed():
    (one, fan), (again, twin), (other, _) = train(seed=0), train(seed=0), train(seed=1)
    assert one[0]["train_loss"] == again[0]["train_loss"] != other[0]["train_loss"]
    assert same(fan.state_dict(), twin.state_dict())


def test_compiled_network_trains_alike():
    """`--compile`, with the part that traces and without the part that needs a compiler of C++."""
    (log,), fan = train()
    (other,), compiled = train(compiled=True)
    assert other["train_loss"] == pytest.approx(log["train_loss"], abs=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(fan.parameters(), compiled.parameters(), strict=True))


def test_training_learns_what_it_is_shown():
    logs, _ = train(lr=0.02, epochs=5)
    assert logs[-1]["train_loss"] < 0.6 * logs[0]["train_loss"] and logs[-1]["train_war"] > logs[0]["train_war"]


@pytest.mark.gpu
@needs_cuda
def test_cuda_agrees_with_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    # Without dropout, whose random numbers are each device's own.
    (cpu,), trained = train(dropout=0.0)
    (cuda,), trained_there = train("cuda", dropout=0.0)
    assert cuda["train_loss"] == pytest.approx(cpu["train_loss"], abs=1e-3)
    batches = EvaluationBatches(*random_clips(LENGTHS), batch_frames=6)
    there = Compute(torch.device("cuda"))
    own = trained.state_dict()
    for name, value in trained_there.state_dict().items():
        assert torch.allclose(value.cpu(), own[name], rtol=1e-3, atol=1e-3), name
    one = evaluate(trained, batches, compute=CPU, transform=PlainFrames())
    other = evaluate(trained.cuda(), batches, compute=there, transform=PlainFrames())
    assert torch.allclose(one.logits, other.logits, atol=1e-3)


# Schedules and averaging


def test_afew_decays_after_60_and_120_of_180_epochs():
    protocol = find("afew").protocol
    assert (protocol.epochs, protocol.lr, protocol.batch_size, protocol.num_frames) == (180, 4e-6, 48, 3)
    assert (protocol.momentum, protocol.weight_decay, protocol.samples_per_clip) == (0.9, 1e-4, None)
    factors = [decay(protocol, 7)(step) for step in range(180 * 7)]
    assert factors[: 60 * 7] == [1.0] * 420
    assert factors[60 * 7 : 120 * 7] == [0.2] * 420
    assert factors[120 * 7 :] == pytest.approx([0.04] * 420)


# Devices, weights, folders


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "cpu:x", "", "meta", "hpu"])
def test_device_that_is_not_there_is_one_line(device):
    with pytest.raises(UsageError) as caught:
        choose_compute(device)
    assert str(caught.value).startswith(f"--device {device}: ") and "\n" not in str(caught.value)


def test_precision_follows_the_flag_then_the_checkpoint_then_the_hardware():
    assert choose_compute("cpu", "fp32", trained_with="bf16").precision == "fp32"
    assert choose_compute("cpu", "auto", trained_with="bf16").precision == "bf16"
    assert choose_compute("cpu", "auto", trained_with="fp16").precision in ("fp32", "bf16")
    assert choose_compute("cpu").precision in ("fp32", "bf16")


def test_starting_file_prefers_what_the_user_put_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert starting.starting_file("none") is None and starting.starting_file("a/b.pth") == Path("a/b.pth")
    assert starting.starting_file(None) == starting.FERPLUS_FILE  # neither is there: the error names this one
    Path("pretrain_model").mkdir()
    starting.FAN_FILE.touch()
    assert starting.starting_file(None) == starting.FAN_FILE
    starting.FERPLUS_FILE.touch()
    assert starting.starting_file(None) == starting.FERPLUS_FILE


def best_of(folder: Path, started: str, at_type: int = 1, fold: int | None = None) -> Path:
    folder.mkdir(parents=True)
    args = {"dataset": "sample", "at_type": at_type, "fold": fold}
    (folder / "args.json").write_text(json.dumps({"args": args, "started": started}))
    (folder / "best.pth").touch()
    return folder / "best.pth"


def test_run_folders_are_never_shared_and_the_newest_best_is_found(tmp_path):
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(open_run(None, tmp_path, "sample_relation-attention")) for _ in range(3)]
        assert len({run.folder for run in runs}) == 3
        assert all("_sample_relation-attention" in run.folder.name for run in runs)
    assert newest_best(tmp_path, "sample", 1) is None and not list(tmp_path.iterdir())  # empty ones are removed
    # By the stored time in UTC, not by the name: an hour of autumn repeats, and folders are renamed.
    later = best_of(tmp_path / "20261025-020500_sample_relation-attention", "2026-10-25T01:05:00.000000+00:00")
    best_of(tmp_path / "20261025-025500_sample_relation-attention", "2026-10-25T00:55:00.000000+00:00")
    other = best_of(tmp_path / "other", "2024-01-01T00:00:00.000000+00:00", at_type=0)
    fold = best_of(tmp_path / "series" / "fold-02", "2028-01-01T00:00:00.000000+00:00", fold=2)
    assert newest_best(tmp_path, "sample") == newest_best(tmp_path, "sample", 1) == later
    assert newest_best(tmp_path, "sample", 0) == other and newest_best(tmp_path, "sample", 1, fold=2) == fold
    assert newest_best(tmp_path, "ckplus") is None


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (commandline.positive, {"1": 1, "12": 12}, ["0", "-1", "1.5", "", "x"]),
        (commandline.count, {"0": 0, "7": 7}, ["-1", "4294967296", "1e3"]),
        (commandline.from_zero, {"0": 0.0, "4e-6": 4e-6}, ["-1", "nan", "inf", "x"]),
        (commandline.share, {"0": 0.0, "0.998": 0.998}, ["1", "-0.1", "nan"]),
    ],
)
def test_numbers_of_the_command_line(check, good, bad):
    assert {text: check(text) for text in good} == good
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="is not"):
            check(text)
