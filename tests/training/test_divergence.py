"""A loss that is no number stops the training and names the batch's clips; the last good checkpoint stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import Demo_AFEW_Attention as script
from Code.common.errors import TrainingDivergedError
from Code.network.checkpoints import read_checkpoint
from Code.training.loops import CHECKED_STEPS, LOSSES, LossCheck, cross_entropy
from tests.runs import flags_of, log_of, only_run, without_pictures

NAMES = [f"clip{number}" for number in range(100)]


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with without_pictures():
        yield


def test_the_step_whose_loss_is_not_finite_is_named_later():
    losses = LossCheck(7, NAMES)
    for step in range(1, 20):
        losses.add(step, torch.tensor(float("nan") if step >= 5 else 1.0), torch.tensor([step, step, step + 1]))
    with pytest.raises(
        TrainingDivergedError, match=r"epoch 7: .*in step 5 or after it, with the clips clip5, clip6; .*--lr"
    ):
        losses.check()


def test_losses_are_looked_at_now_and_then():
    losses = LossCheck(1, NAMES)
    with pytest.raises(TrainingDivergedError, match="in step 2 or after it, with the clips clip2;"):
        for step in range(1, CHECKED_STEPS + 3):
            losses.add(step, torch.tensor(float("inf") if step == 2 else 1.0), torch.tensor([step]))
    assert step == CHECKED_STEPS + 1
    many = LossCheck(1, NAMES)
    for step in range(1, 1000):
        many.add(step, torch.tensor(1.0), torch.tensor([0]))
    assert len(many.recent) <= CHECKED_STEPS


def test_weights_that_a_finite_loss_has_spoilt_are_found():
    losses, model = LossCheck(2, NAMES), nn.Linear(2, 2)
    losses.add(1, torch.tensor(1.0), torch.tensor([3]))
    losses.check(model)
    losses.add(2, torch.tensor(1.0), torch.arange(70))
    with torch.no_grad():
        model.bias[1] = torch.inf
    losses.check()
    with pytest.raises(TrainingDivergedError, match=r"in step 2 or after it, with the clips clip0, .*, clip69;"):
        losses.check(model)


def test_training_stops_with_the_clips_named_and_the_last_good_checkpoint_kept(call, sample, tmp_path, monkeypatch):
    add, seen, batches = LossCheck.add, [], []

    def spoilt(output, batch):
        seen.append(1)
        return cross_entropy(output, batch) * (torch.nan if len(seen) == 5 else 1)

    def noted(self, step, loss, clips) -> None:
        batches.append({self.names[clip] for clip in clips.tolist()})
        add(self, step, loss, clips)

    monkeypatch.setitem(LOSSES, "cross-entropy", spoilt)
    monkeypatch.setattr(LossCheck, "add", noted)
    flags = (*flags_of(sample, "--epochs", 2, "--pretrained", "none"), "--workers", 0)
    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 1 and "Traceback" not in outcome.err
    folder = only_run(tmp_path)
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: epoch 2: the loss is not finite in step 2 or after it, with the clips ")
    assert "to resume" not in line
    named = line.partition("with the clips ")[2].partition(";")[0].split(", ")
    assert set(named) == batches[4] and len(named) == len(set(named))
    held = read_checkpoint(folder / "last.pth")
    assert held["epoch"] == 1 and all(value.isfinite().all() for value in held["state_dict"].values())
    assert len(log_of(folder)) == 1
