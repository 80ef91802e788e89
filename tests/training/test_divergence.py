"""A loss that is no number stops the training and names the batch's clips; the last good checkpoint stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import Demo_AFEW_Attention as script
from Code.common.errors import TrainingDivergedError
from Code.network.checkpoints import read_checkpoint
from Code.training import loops
from Code.training.loops import LOSSES, Step, check_finite, cross_entropy
from tests.runs import flags_of, log_of, only_run, without_pictures

NAMES = [f"c{number}" for number in range(9)]


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with without_pictures():
        yield


def steps(*losses: float) -> list[Step]:
    """Step n has the clips n and n + 1."""
    return [(n, torch.tensor(loss), torch.tensor([n, n, n + 1])) for n, loss in enumerate(losses, start=1)]


def test_the_first_step_that_is_not_finite_is_named():
    check_finite(7, steps(1.0, 1e30), NAMES, nn.Linear(2, 2))
    with pytest.raises(TrainingDivergedError, match=r"epoch 7: .* in step 2 or .* the clips c2, c3; .*--lr"):
        check_finite(7, steps(1.0, torch.nan, torch.inf), NAMES, nn.Linear(2, 2))


def test_weights_that_a_finite_loss_has_spoilt_are_found():
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.bias[1] = torch.inf
    with pytest.raises(TrainingDivergedError, match="in step 2 or after it, with the clips c2, c3;"):
        check_finite(2, steps(1.0, 1.0), NAMES, model)


@pytest.mark.parametrize("checked", [1, loops.CHECKED_STEPS])
def test_training_stops_with_the_clips_named_and_the_last_good_checkpoint_kept(
    call, sample, tmp_path, monkeypatch, checked
):
    names = [line.split()[0] for line in (sample / "list_train.txt").read_text().splitlines()]
    batches = []

    def spoilt(output, batch):
        batches.append([names[clip] for clip in batch["clips"].tolist()])
        return cross_entropy(output, batch) * (torch.nan if len(batches) == 5 else 1)

    monkeypatch.setitem(LOSSES, "cross-entropy", spoilt)
    monkeypatch.setattr(loops, "CHECKED_STEPS", checked)
    flags = (*flags_of(sample, "--epochs", 2, "--pretrained", "none"), "--workers", 0)
    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 1 and "Traceback" not in outcome.err
    folder = only_run(tmp_path)
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: epoch 2: the loss is not finite in step 2 or after it, with the clips ")
    assert "to resume" not in line
    named = line.partition("with the clips ")[2].partition(";")[0].split(", ")
    assert named == list(dict.fromkeys(batches[4]))
    held = read_checkpoint(folder / "last.pth")
    assert held["epoch"] == 1 and all(value.isfinite().all() for value in held["state_dict"].values())
    assert len(log_of(folder)) == 1
