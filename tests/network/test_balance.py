"""The logit-adjusted loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from Code.common.errors import UsageError
from Code.data.batches import ArrayStore, FrameTable, TrainingBatches
from Code.network.attention import FANOutput
from Code.network.prior import Balance, class_shares
from Code.recipes.pretraining import balanced_loss
from Code.training.loops import cross_entropy


def output(logits):
    ones = torch.ones(len(logits), 1)
    return FANOutput(logits, ones, None, ones, ones)


def test_shares_of_hard_and_soft_targets_agree():
    hard = torch.tensor([0, 0, 1, 2])
    assert class_shares(hard, 3).tolist() == [0.5, 0.25, 0.25]
    assert torch.equal(class_shares(F.one_hot(hard, 3).float(), 3), class_shares(hard, 3))


@pytest.mark.parametrize("samples_per_clip", [None, 4])
def test_a_checkpoint_has_the_shares_of_the_samples_that_were_drawn(samples_per_clip):
    """AFEW and CK+ draw as many samples as a clip has frames: a class of long clips is seen more often."""
    lengths = np.array([2, 3, 15])
    table = FrameTable(lengths, torch.tensor([0, 0, 1]), list("abc"), ("short", "long"))
    store = ArrayStore(np.zeros((20, 3, 8, 8), np.uint8))
    settings = {"num_frames": 1, "batch_size": 1, "seed": 0, "samples_per_clip": samples_per_clip}
    batches = TrainingBatches(table, store, **settings)
    seen = torch.cat([batch["labels"] for batch in batches.epoch(1)])
    drawn = [float((seen == label).float().mean()) for label in (0, 1)]
    assert class_shares(table.targets, 2, batches.samples).tolist() == pytest.approx(drawn)
    assert drawn == pytest.approx([0.25, 0.75] if samples_per_clip is None else [2 / 3, 1 / 3])


def test_an_absent_class_cannot_be_balanced():
    assert balanced_loss(torch.tensor([0.5, 0.5, 0.0]), Balance()) is cross_entropy
    with pytest.raises(UsageError, match="1 of 3 classes have no training images"):
        balanced_loss(torch.tensor([0.5, 0.5, 0.0]), Balance(0.5))


def test_a_balanced_network_does_not_learn_the_shares():
    # All pictures look the same: the best answer is the shares with cross-entropy, and uniform with balance.
    shares = torch.tensor([0.7, 0.2, 0.1])
    for tau, wanted in ((0.0, shares), (1.0, torch.full((3,), 1 / 3))):
        logits = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=100)
        loss = balanced_loss(shares, Balance(tau))

        def closure(logits=logits, optimizer=optimizer, loss=loss):
            optimizer.zero_grad()
            value = loss(output(logits[None]), {"labels": shares[None]})
            value.backward()
            return value

        optimizer.step(closure)
        assert torch.allclose(logits.softmax(0), wanted, atol=1e-3)


def test_a_rare_class_counts_as_the_floor():
    shares = torch.tensor([0.79, 0.2, 0.01])
    assert torch.allclose(Balance(2.0, 0.1).offset(shares), 2 * torch.tensor([0.79, 0.2, 0.1]).log())


def test_a_file_says_its_balance_or_has_none():
    assert Balance.of({"balance": "1.0", "balance_floor": "0.02"}) == Balance(1.0, 0.02)
    assert Balance.of({"lr": "0.1"}) == Balance.of(None) == Balance()
