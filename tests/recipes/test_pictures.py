"""Trees and lists of labeled pictures, faces beside FER+'s, and what teachers say of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from Code.common.device import choose_compute
from Code.common.names import FERPLUS_LABELS
from Code.data.batches import ArrayStore, FrameTable, TrainingBatches
from Code.data.clips import DataError
from Code.network.checkpoints import CheckpointError, save_atomically
from Code.network.fan import FAN
from Code.network.weights import load_fan, to_published
from Code.readers.ferplus import FERPlusSplit
from Code.recipes import Recipe
from Code.recipes.pictures import ferplus_faces, read_pictures, with_extra
from Code.recipes.teachers import taught, teachers_answers

LABELS = ("calm", "glad")


def picture(path, value=100, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side), value).save(path)


def tree(root, names):
    for name in names:
        picture(root / name)
    return str(root)


# Trees and lists


def test_folders_may_say_the_split(tmp_path):
    root = tree(tmp_path, ["train/1/a.jpg", "train/2/b.jpg", "train/10/c.jpg", "test/2/d.jpg"])
    train, val, how = read_pictures(Recipe(data_root=root))
    assert train.labels == ("1", "2", "10") == val.labels and how == "the folders train and test"
    assert [clip.name for clip in val.clips] == ["2/d.jpg"] and val.clips[0].label == 1


def test_a_share_is_held_out_of_every_class_and_persons_stay_together(tmp_path):
    names = [f"{label}/img{index}.jpg" for label in LABELS for index in range(10)]
    train, val, _ = read_pictures(Recipe(data_root=tree(tmp_path / "unknown", names), val_share=0.2))
    assert [len(train.clips), len(val.clips)] == [16, 4]
    names = [f"{label}/subject{person}_{index}.jpg" for label in LABELS for person in range(5) for index in range(3)]
    train, val, _ = read_pictures(Recipe(data_root=tree(tmp_path / "persons", names), val_share=0.2))
    persons = [{clip.person for clip in part.clips} for part in (train, val)]
    assert persons[1] and not persons[0] & persons[1]


def test_identities_are_held_out_by_picture_not_by_person(tmp_path):
    names = [f"subject{person}/{index}.jpg" for person in range(4) for index in range(5)]
    train, val, _ = read_pictures(
        Recipe(data_root=tree(tmp_path, names), val_share=0.2, person_pattern=r"(subject\d+)/")
    )
    assert {clip.label for clip in train.clips} == {clip.label for clip in val.clips} == {0, 1, 2, 3}


def read_listed(root, row):
    """Reads three pictures by a list whose last row is given."""
    tree(root, ["calm/a.jpg", "glad/b.jpg", "glad/c.jpg"])
    rows = ["path,label,split,person", "calm/a.jpg,calm,train,x", "glad/b.jpg,glad,train,x", row]
    (root / "list.csv").write_text("\n".join(rows))
    return read_pictures(Recipe(data_root=root, data_list=str(root / "list.csv")))


def test_a_list_may_say_the_split(tmp_path):
    train, val, _ = read_listed(tmp_path, "glad/c.jpg,glad,test,y")
    assert train.labels == LABELS and [clip.path(0)[-5:] for clip in val.clips] == ["c.jpg"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("glad/gone.jpg,glad,val,y", "line 4: no such file"),
        ("../secret.jpg,glad,val,y", "line 4: .* leaves the root"),
        ("glad/c.jpg,sad,val,y", "class .sad. has no training picture"),
        ("glad/c.jpg,glad,val,x", "is in train and in val"),
        ("glad/c.jpg,glad,train,x", "no picture of split val"),
    ],
)
def test_mistakes_of_a_list_are_named(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read_listed(tmp_path, row)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no such folder"),
        (["a.jpg", "b.jpg"], "2 pictures, but none in a class's folder"),
        (["calm/a.jpg"], "only one class, calm"),
        (["train/calm/a.jpg", "train/glad/b.jpg", "val/sad/c.jpg"], "unknown class .sad.; known: calm, glad"),
        (["calm/a.jpg", "glad/b.jpg"], "too few pictures or persons"),
    ],
)
def test_mistakes_of_a_tree_are_named(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        read_pictures(Recipe(data_root=tree(tmp_path / "root", names)))


# FER+ and faces beside it


def test_votes_majority_and_plurality_keep_other_images():
    votes = np.zeros((3, 10), dtype=np.float32)
    votes[0, :2] = 6, 4
    votes[1, :3] = 4, 3, 3
    votes[2, 9] = 10  # no face
    split = FERPlusSplit(np.zeros((3, 1, 48, 48), dtype=np.uint8), votes, ["a", "b", "c"])
    votes, majority, plurality = (ferplus_faces(split, rule)[0] for rule in ("votes", "majority", "plurality"))
    assert votes.targets[:, :2].tolist() == pytest.approx(np.array([[0.6, 0.4], [0.4, 0.3]]))
    assert majority.names == ["a"] and majority.targets.tolist() == [0] and plurality.names == ["a", "b"]
    with pytest.raises(DataError, match="the rule of votes keeps none of 1 images"):
        ferplus_faces(split.only(np.array([False, False, True])), "votes")


def test_extra_faces_have_labels_or_none_and_follow_those_of_ferplus(tmp_path, capsys):
    picture(tmp_path / "anger" / "a.png", 200, side=80)
    picture(tmp_path / "unlabeled" / "b.png", 10)
    images, recipe = torch.full((2, 1, 48, 48), 7, dtype=torch.uint8), Recipe(extra=[str(tmp_path)], image_size=64)
    own = replace(table_of(["x", "y"], torch.eye(8)[:2]), labels=FERPLUS_LABELS)
    table, images = with_extra(own, images, replace(recipe, teachers=["one"]))
    assert table.names == ["x", "y", "anger/a.png", "unlabeled/b.png"] and images.shape == (4, 1, 64, 64)
    assert [image.unique().tolist() for image in images] == [[7], [7], [200], [10]]
    anger = F.one_hot(torch.tensor(FERPLUS_LABELS.index("anger")), 8)
    assert torch.equal(table.targets, torch.stack([*own.targets, anger, torch.zeros(8)])) and table.num_frames == 4
    assert with_extra(own, images[:2], recipe)[0].names == ["x", "y", "anger/a.png"]
    assert "1 labeled and 1 unlabeled faces" in (out := capsys.readouterr().out) and "1 labeled and 0 unlabeled" in out


# Teachers

SHARES, COMPUTE = torch.tensor([0.9, 0.1]), choose_compute("cpu", "fp32")


def write_teacher(path, seed, **about):
    torch.manual_seed(seed)
    model = FAN(2, 2)
    save_atomically({"state_dict": to_published(model), "labels": list(LABELS), "image_size": 32, **about}, path)
    return path


def table_of(names, targets=None):
    targets = torch.full((len(names), 2), 0.5) if targets is None else targets
    return FrameTable(np.ones(len(names), dtype=np.int64), targets, names, LABELS)


def noise(number):
    return torch.randint(0, 256, (number, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_answers_are_the_mean_of_teachers_and_of_both_sides(tmp_path):
    files = [write_teacher(tmp_path / "1", 1), write_teacher(tmp_path / "2", 2)]

    def answers(paths, flipped=False):
        images = noise(5).flip(-1) if flipped else noise(5)
        return teachers_answers(Recipe(teachers=paths), table_of(list("abcde")), ArrayStore(images), SHARES, COMPUTE)

    one, other, both = answers(files[:1]), answers(files[1:]), answers(files)
    assert torch.allclose(both, (one + other) / 2, atol=1e-6) and torch.allclose(both.sum(dim=1), torch.ones(5))
    assert torch.allclose(both, answers(files, flipped=True), atol=1e-5)


def test_a_table_of_answers_is_a_teacher_and_logits_are_added_with_weights(tmp_path):
    table, store = table_of(["calm/a.png", "b", "c"]), ArrayStore(noise(3))
    file, network, logits = tmp_path / "t.npz", write_teacher(tmp_path / "1", 1), np.array([[3.0, 0], [1, 1], [0, 2]])

    def answers(paths, weights=()):
        return teachers_answers(Recipe(teachers=paths, teacher_weights=weights), table, store, SHARES, COMPUTE)

    np.savez(file, names=["x/c.jpg", "b.png", "other.png", "a.jpg"], logits=np.concatenate([logits, [[0, 3]]]))
    own = torch.tensor([[0.0, 3], [1, 1], [3, 0]])
    assert torch.allclose(answers([file]), (own + SHARES.log()).softmax(dim=1), atol=1e-6)
    both = answers([network, file])
    assert torch.allclose(both, (answers([network]) + answers([file])) / 2, atol=1e-6)
    of_network = answers([network]).log() - SHARES.log()
    wanted = (of_network / 1.16 + own / 1.66 + SHARES.log()).softmax(dim=1)
    assert torch.allclose(answers([network, file], (1 / 1.16, 1 / 1.66)), wanted, atol=1e-5)
    for content, message in (
        ({"names": ["b", "c"], "logits": logits[:2]}, "lacks 1 of 3 training pictures, such as calm/a.png"),
        ({"names": ["a", "b", "c"], "logits": np.zeros((3, 5))}, "one row a name, of 2 classes"),
        ({"names": ["a", "b", "c"]}, "damaged .*logits"),
    ):
        np.savez(file, **content)
        with pytest.raises(CheckpointError, match=message):
            answers([file])


def test_answers_are_kept_in_a_file_and_count_beside_labels_or_alone(tmp_path):
    file, teacher = tmp_path / "answers.npz", write_teacher(tmp_path / "1", 1)
    table, store = table_of(["a", "b"], torch.tensor([[1.0, 0.0], [0.0, 0.0]])), ArrayStore(noise(2))
    answers = teachers_answers(Recipe(teachers=[teacher]), table, store, SHARES, COMPUTE)
    Path(teacher).rename(tmp_path / "2")

    def targets(votes, table=table):
        recipe = Recipe(teachers=[str(tmp_path / "2")], votes=votes)
        batches = TrainingBatches(table, store, num_frames=1, batch_size=2, seed=0)
        return taught(recipe, batches, SHARES, file, COMPUTE).targets

    assert torch.allclose(targets(0.5), torch.stack([(table.targets[0] + answers[0]) / 2, answers[1]]))
    (tmp_path / "2").unlink()
    assert torch.allclose(targets(1.0), torch.stack([table.targets[0], answers[1]]))
    with pytest.raises(CheckpointError, match="answers for 2 faces, not for 3; start a new run"):
        targets(1.0, table_of(list("abc")))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"damaged .*; delete it"):
        targets(1.0)


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_teachers_of_another_training_set_answer_with_the_shares_of_this_one(tmp_path, balance):
    table, store = table_of(["a"]), ArrayStore(torch.full((1, 1, 32, 32), 99, dtype=torch.uint8))
    own = torch.tensor([0.2, 0.8])
    about = {"class_shares": own.tolist(), "recipe": {"balance": str(balance)}}
    teacher = write_teacher(tmp_path / "other", 1, **about)
    with torch.inference_mode():
        logits = load_fan(teacher)[0](torch.full((1, 1, 3, 32, 32), 99 / 255)).logits
    # The shares that its logits have are taken out, those of this training set are put in.
    wanted = (logits - (1 - balance) * own.log() + SHARES.log()).softmax(dim=1)
    same = write_teacher(tmp_path / "same", 1, **{**about, "class_shares": SHARES.tolist()})
    unstated = write_teacher(tmp_path / "unstated", 1, recipe=about["recipe"])
    answers, one, other = (
        teachers_answers(Recipe(teachers=[file]), table, store, SHARES, COMPUTE) for file in (teacher, same, unstated)
    )
    assert torch.allclose(answers, wanted, atol=1e-5) and torch.equal(one, other)
