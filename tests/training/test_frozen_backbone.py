"""`--freeze-backbone`: the head learns on features computed once; the backbone stays what it was."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import Demo_AFEW_Attention as script
from Code.common.device import Compute
from Code.data.batches import ArrayStore, FrameTable, Loading
from Code.network.checkpoints import read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.network.weights import to_published
from Code.training import loops
from Code.training.features import PlainView, RandomView, store_features
from tests.runs import at_step, flags_of, interrupt, only_run

HEAD = ("alpha", "beta", "pred_fc1", "pred_fc2")


def flags(sample: Path) -> tuple[object, ...]:
    return flags_of(sample, "--workers", 0)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone in the published format."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("start") / "backbone.pth.tar"
    save_atomically({"state_dict": to_published(FAN(2, 8)), "image_size": 32}, path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, call, sample, start) -> Path:
    cwd = tmp_path_factory.mktemp("fixed")
    outcome = call(script, *flags(sample), "--pretrained", start, "--at_type", 1, "--epochs", 3, cwd=cwd)
    assert outcome.status == 0, outcome.err
    assert "the backbone is frozen" in outcome.out
    return only_run(cwd)


def test_the_backbone_stays_and_the_head_learns(run: Path, start: Path) -> None:
    before = {name.removeprefix("module."): value for name, value in read_checkpoint(start)["state_dict"].items()}
    after = read_checkpoint(run / "last.pth")["state_dict"]
    for name in before.keys() - {"fc.weight", "fc.bias"}:
        assert torch.equal(after[name], before[name]), name
    learnt = [name for name in after if name.split(".")[0] in HEAD]
    assert {name.split(".")[0] for name in learnt} == {"alpha", "beta", "pred_fc2"}
    losses = [json.loads(line)["train_loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(set(losses)) == 3


def test_evaluation_from_frames_gives_the_numbers_of_the_training(run: Path, call, sample) -> None:
    outcome = call(script, *flags(sample), "-e", "--checkpoint", run / "best.pth", cwd=run.parents[1])
    assert outcome.status == 0, outcome.err
    (again,) = run.parent.glob("*_evaluation")
    first, second = (json.loads((folder / "results.json").read_text())["best"] for folder in (run, again))
    assert first["confusion"] == second["confusion"] and first["loss"] == second["loss"]


def test_views_are_drawn_per_clip() -> None:
    features = torch.stack([torch.zeros(64, 3, 4), torch.ones(64, 3, 4)], dim=2)  # [B, T, V, D]
    drawn = RandomView()(features, torch.Generator().manual_seed(0))
    assert drawn.shape == (64, 3, 4)
    per_clip = drawn.mean(dim=(1, 2))
    assert set(per_clip.tolist()) == {0.0, 1.0}
    assert torch.equal(PlainView()(features), torch.zeros(64, 3, 4))


def test_features_are_those_of_the_frames_and_of_the_mirrored_frames(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)
    table = FrameTable(np.array([3, 4]), torch.tensor([0, 1]), ["a", "b"], ("x", "y"))
    torch.manual_seed(0)
    fan = FAN(1, 2)
    compute = Compute(torch.device("cpu"))
    monkeypatch.setitem(loops.BATCH_FRAMES, "cpu", 4)
    store = store_features(fan, table, ArrayStore(frames), compute, mirrored=True, loading=Loading())
    pixels = torch.from_numpy(frames).float() / 255
    with torch.no_grad():
        fan.eval()
        expected = torch.stack([fan.encode(pixels), fan.encode(pixels.flip(-1))], dim=1)
    assert torch.allclose(store.read(np.arange(7)), expected, atol=1e-5)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """A frame classifier with the classes of the sample, in another order."""
    torch.manual_seed(6)
    classes = sorted(folder.name for folder in (sample / "Train").iterdir() if folder.is_dir())[::-1]
    path = tmp_path_factory.mktemp("named") / "classifier.pth.tar"
    weights = to_published(FAN(2, len(classes)))
    shares = [1 / 28 * number for number in range(1, 8)]
    about = {"labels": classes, "class_shares": shares, "recipe": {"balance": "1.0", "lr": "0.1"}}
    save_atomically({"state_dict": weights, "image_size": 32, **about}, path)
    return path


@pytest.mark.parametrize("at_type", [0, 1])
def test_a_kept_classifier_is_that_of_the_start_and_only_attention_learns(
    tmp_path: Path, call, sample: Path, named: Path, at_type: int
) -> None:
    given = ("--pretrained", named, "--keep-classifier", "--at_type", at_type, "--epochs", 2)
    with at_step(5, interrupt):  # in the second epoch
        outcome = call(script, *flags(sample), *given, cwd=tmp_path)
    assert outcome.status == 130 and "its classifier is kept, only attention is trained" in outcome.out
    folder, start = only_run(tmp_path), read_checkpoint(named)
    begun = read_checkpoint(folder / "last.pth")
    outcome = call(script, "--resume", folder, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    after = read_checkpoint(folder / "last.pth")
    rows = [start["labels"].index(label) for label in after["labels"]]
    assert rows != sorted(rows)
    weight, bias = (start["state_dict"][f"module.fc.{kind}"][rows] for kind in ("weight", "bias"))
    both, name = torch.cat([weight, weight], dim=1) / 2, f"pred_fc{at_type + 1}"
    for checkpoint in (begun, after):
        assert torch.equal(checkpoint["state_dict"][f"{name}.bias"], bias)
        assert torch.equal(checkpoint["state_dict"][f"{name}.weight"], both if at_type else weight)
        # The prior of its answers is that of the classifier, not of the clips.
        assert checkpoint["class_shares"] == pytest.approx([start["class_shares"][row] for row in rows])
        assert checkpoint["recipe"]["prior"] == pytest.approx([1 / 7] * 7)  # balanced
    assert not torch.equal(after["state_dict"]["alpha.0.weight"], begun["state_dict"]["alpha.0.weight"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--pretrained", "none", "--freeze-backbone"), "--freeze-backbone: needs trained weights"),
        (("--pretrained", "none", "--keep-classifier"), "--keep-classifier: needs trained weights"),
        (("--at_type", 2, "--keep-classifier"), "--keep-classifier: leaves nothing to train without attention"),
        (("--at_type", 0, "--keep-classifier"), "has no class "),
    ],
)
def test_what_cannot_be_frozen(tmp_path: Path, call, sample: Path, start: Path, given, says: str) -> None:
    outcome = call(script, *flags(sample), "--pretrained", start, *given, cwd=tmp_path)
    assert outcome.status == 2 and says in outcome.err and outcome.err.count("\n") == 1
    assert not list(tmp_path.glob("model/*"))
