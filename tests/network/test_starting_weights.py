"""A trained FAN as a start for other classes, or for another attention: what fits is kept, and the rest is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from Code.common.names import AFEW_LABELS
from Code.common.names import FERPLUS_LABELS as FERPLUS
from Code.network.checkpoints import CheckpointError, save_atomically
from Code.network.fan import FAN
from Code.network.prior import log_prior
from Code.network.start import keep_classifier, start_from
from Code.network.weights import published_weights, to_published
from tests.runs import save_run

OWN = ("Bored", "Curious", "Tired")


def write_fan(path: Path, labels: tuple[str, ...], at_type: int = 1) -> FAN:
    """A run's file, in half precision as FANs are shipped."""
    torch.manual_seed(5)
    fan = FAN(at_type, len(labels)).half()
    save_run(path, fan, labels, image_size=80)
    return fan.float()


def write_published(path: Path, num_classes: int) -> FAN:
    """A FAN of the published code, which names no classes."""
    torch.manual_seed(5)
    fan = FAN(1, num_classes)
    save_atomically({"state_dict": {f"module.{name}": value for name, value in published_weights(fan).items()}}, path)
    return fan


def fresh(at_type: int, num_classes: int) -> FAN:
    torch.manual_seed(0)
    return FAN(at_type, num_classes)


def started(
    model: FAN, path: Path, labels: tuple[str, ...], mapping: dict[str, str] | None = None
) -> tuple[int | None, str]:
    """Loads the start into a network that has the same random weights; returns the image size and the message."""
    start = start_from(path, model.at_type, labels, seed=0, mapping=mapping)
    model.load_state_dict(start.fan.state_dict())
    return start.image_size, start.message


def assert_equal(first: FAN, second: FAN, *layers: str) -> None:
    for layer in layers:
        for kind in ("weight", "bias"):
            name = f"{layer}.{kind}"
            assert torch.equal(published_weights(first)[name], published_weights(second)[name]), name


@pytest.mark.parametrize("labels", [OWN, tuple(f"class {number}" for number in range(8))], ids=["3", "8"])
def test_other_classes_start_with_the_attention_and_a_new_classifier(tmp_path: Path, labels: tuple[str, ...]) -> None:
    trained = write_fan(tmp_path / "fan.pth", FERPLUS)
    model = fresh(1, len(labels))
    size, message = started(model, tmp_path / "fan.pth", labels)
    assert size == 80
    assert "initialized anew: pred_fc2;" in message and "\n" not in message
    assert f"classifier: 0 of {len(labels)} classes loaded by name, new: {', '.join(labels)} (" in message
    assert f"(the file's classes: {', '.join(FERPLUS)});" in message
    assert_equal(model, trained, "alpha.0", "beta.0", "bn1")
    assert_equal(model, fresh(1, len(labels)), "pred_fc2")


def test_classes_that_mean_the_same_are_taken_over_where_a_flag_says_so(tmp_path: Path) -> None:
    trained = write_fan(tmp_path / "fan.pth", FERPLUS)
    model = fresh(1, 2)
    _, message = started(model, tmp_path / "fan.pth", ("Happy", "Tired"), {"Happy": "happiness"})
    assert "classifier: 1 of 2 classes loaded by name, new: Tired" in message
    assert torch.equal(model.head.pred_fc2.weight[0], trained.head.pred_fc2.weight[FERPLUS.index("happiness")])
    assert torch.equal(model.head.pred_fc2.weight[1], fresh(1, 2).head.pred_fc2.weight[1])


def test_a_flag_says_what_classes_mean_even_if_their_names_are_the_same(tmp_path: Path) -> None:
    trained = write_fan(tmp_path / "fan.pth", OWN)
    model = fresh(1, 3)
    _, message = started(model, tmp_path / "fan.pth", OWN, {"Bored": "Tired", "Tired": "Bored"})
    assert "classifier: 3 of 3 classes loaded by name;" in message
    assert torch.equal(model.head.pred_fc2.weight, trained.head.pred_fc2.weight[[2, 1, 0]])
    with pytest.raises(CheckpointError, match=r"fan.pth: --map-labels Tired=Sleepy: the file's classes are Bored, "):
        started(model, tmp_path / "fan.pth", OWN, {"Tired": "Sleepy"})


def test_published_fan_that_names_no_classes(tmp_path: Path) -> None:
    trained = write_published(tmp_path / "seven.pth", 7)
    model = fresh(1, 7)
    started(model, tmp_path / "seven.pth", AFEW_LABELS)
    assert_equal(model, trained, "alpha.0", "beta.0", "pred_fc2")
    _, message = started(fresh(1, 3), tmp_path / "seven.pth", OWN)
    assert "(the file's classes: Happy, Angry" in message

    trained = write_published(tmp_path / "five.pth", 5)
    _, message = started(model := fresh(1, 3), tmp_path / "five.pth", OWN)
    assert "(the file's classes: 5)" in message
    assert_equal(model, trained, "alpha.0", "beta.0")
    started(model := fresh(1, 5), tmp_path / "five.pth", tuple("abcde"))  # nobody can tell what they mean
    assert_equal(model, trained, "pred_fc2")


@pytest.mark.parametrize(
    ("stored", "wanted", "kept", "new"),
    [
        (0, 1, ("alpha.0",), "beta.0, pred_fc2"),
        (1, 0, ("alpha.0",), "pred_fc1"),
        (2, 0, ("pred_fc1",), "alpha.0"),
        (2, 1, (), "alpha.0, beta.0, pred_fc2"),
        (1, 2, (), "pred_fc1"),
    ],
)
def test_another_attention_takes_what_it_has_in_common(
    tmp_path: Path, stored: int, wanted: int, kept: tuple[str, ...], new: str
) -> None:
    trained = write_fan(tmp_path / "fan.pth", OWN, stored)
    model = fresh(wanted, len(OWN))
    _, message = started(model, tmp_path / "fan.pth", OWN)
    assert f"initialized anew: {new};" in message
    assert_equal(model, trained, "bn1", *kept)
    assert_equal(model, fresh(wanted, len(OWN)), *new.split(", "))


def test_a_kept_classifier_of_a_part_of_the_classes_keeps_its_prior(tmp_path: Path) -> None:
    torch.manual_seed(5)
    shares = [0.5, 0.25, 0.2, 0.05]
    content = {"state_dict": to_published(FAN(2, 4)), "labels": list("abcd"), "class_shares": shares}
    recipe = {"balance": "1.0", "balance_floor": "0.1"}
    for name, about in (("plain.pth", {}), ("balanced.pth", {"recipe": recipe})):
        save_atomically({**content, **about}, tmp_path / name)
    kept = keep_classifier(FAN(0, 3), tmp_path / "balanced.pth", ("a", "b", "d"), {})
    before, after = log_prior({**content, "recipe": recipe}), log_prior(kept)
    assert torch.allclose(after, before[[0, 1, 3]].log_softmax(dim=0), atol=1e-6)
    kept = keep_classifier(FAN(0, 3), tmp_path / "plain.pth", ("a", "b", "d"), {})  # a run without --balance, too
    for shares in (kept["recipe"]["prior"], kept["class_shares"]):
        assert shares == pytest.approx([0.625, 0.3125, 0.0625])
