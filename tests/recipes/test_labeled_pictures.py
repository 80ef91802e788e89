"""Trees of labeled pictures, faces beside FER+'s, and what teachers say of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from Code.common.device import choose_compute
from Code.common.names import FERPLUS_LABELS
from Code.data.batches import ArrayStore, FrameTable
from Code.data.clips import DataError
from Code.network.checkpoints import CheckpointError, save_atomically
from Code.network.fan import FAN
from Code.network.weights import load_fan, to_published
from Code.readers.ferplus import FERPlusSplit
from Code.recipes.faces import Faces, ferplus_faces, joined, read_extra, resized
from Code.recipes.pictures import read_pictures
from Code.recipes.teachers import read_answers, save_answers, taught, teachers_answers

LABELS = ("calm", "glad")


def picture(path, value=100, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side), value).save(path)


def tree(root, names):
    for name in names:
        picture(root / name)
    return root


# Trees


def test_folders_may_say_the_split(tmp_path):
    tree(tmp_path, ["train/1/a.jpg", "train/2/b.jpg", "train/10/c.jpg", "test/2/d.jpg"])
    split = read_pictures(tmp_path)
    assert split.train.labels == ("1", "2", "10") == split.val.labels
    assert [clip.name for clip in split.val.clips] == ["2/d.jpg"] and split.val.clips[0].label == 1
    assert "train and test" in split.how


def test_a_share_is_held_out_of_every_class_and_persons_stay_together(tmp_path):
    names = [f"{label}/img{index}.jpg" for label in LABELS for index in range(10)]
    split = read_pictures(tree(tmp_path / "unknown", names), share=0.2)
    assert [len(split.train.clips), len(split.val.clips)] == [16, 4]
    names = [f"{label}/subject{person}_{index}.jpg" for label in LABELS for person in range(5) for index in range(3)]
    split = read_pictures(tree(tmp_path / "persons", names), share=0.2)
    persons = [{clip.person for clip in part.clips} for part in (split.train, split.val)]
    assert persons[1] and not persons[0] & persons[1]


def test_identities_are_held_out_by_picture_not_by_person(tmp_path):
    names = [f"subject{person}/{index}.jpg" for person in range(4) for index in range(5)]
    split = read_pictures(tree(tmp_path, names), share=0.2, person_pattern=r"(subject\d+)/")
    assert {clip.label for clip in split.train.clips} == {clip.label for clip in split.val.clips} == {0, 1, 2, 3}


ROWS = ["path,label,split,person", "calm/a.jpg,calm,train,x", "glad/b.jpg,glad,train,x"]


@pytest.fixture
def listed(tmp_path):
    """Reads three pictures by a list whose last row is given."""
    tree(tmp_path, ["calm/a.jpg", "glad/b.jpg", "glad/c.jpg"])

    def read(row):
        (tmp_path / "list.csv").write_text("\n".join([*ROWS, row]))
        return read_pictures(tmp_path, list_file=tmp_path / "list.csv")

    return read


def test_a_list_may_say_the_split(listed):
    split = listed("glad/c.jpg,glad,test,y")
    assert split.train.labels == LABELS and [clip.path(0)[-5:] for clip in split.val.clips] == ["c.jpg"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("glad/c.jpg,glad,later,y", "line 4: split .later. is not train, val or test"),
        ("glad/gone.jpg,glad,val,y", "line 4: no such file"),
        ("../secret.jpg,glad,val,y", "line 4: .* leaves the root"),
        ("glad/c.jpg,sad,val,y", "class .sad. of .glad/c.jpg. has no training picture"),
        ("glad/c.jpg,glad,val,x", "is in train and in val"),
        ("glad/./b.jpg,glad,val,y", "line 4: .glad/b.jpg. is already in line 3"),
        ("glad/c.jpg,glad,train,x", "no picture of split val"),
    ],
)
def test_mistakes_of_a_list_name_its_line(listed, row, message):
    with pytest.raises(DataError, match=message):
        listed(row)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.jpg", "b.jpg"], "2 pictures that are in no class's folder"),
        (["calm/a.jpg"], "only one class, calm"),
        (["train/calm/a.jpg", "train/glad/b.jpg", "val/sad/c.jpg"], "sad: not one of the classes; .* calm, glad"),
    ],
)
def test_mistakes_of_a_tree_are_one_line(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        read_pictures(tree(tmp_path / "root", names))
    with pytest.raises(DataError, match="cannot be read"):
        read_pictures(tmp_path / "gone")


# FER+ and faces beside it


def test_votes_majority_and_plurality_keep_other_images():
    votes = np.zeros((3, 10), dtype=np.float32)
    votes[0, :2] = 6, 4
    votes[1, :3] = 4, 3, 3
    votes[2, 9] = 10  # no face
    split = FERPlusSplit(np.zeros((3, 1, 48, 48), dtype=np.uint8), votes, ["a", "b", "c"])
    assert ferplus_faces(split, "votes").targets[:, :2].tolist() == pytest.approx(np.array([[0.6, 0.4], [0.4, 0.3]]))
    assert ferplus_faces(split, "majority").names == ["a"] and ferplus_faces(split, "majority").targets.tolist() == [0]
    assert ferplus_faces(split, "plurality").names == ["a", "b"]
    with pytest.raises(DataError, match="the rule of votes keeps none of 1 images"):
        ferplus_faces(replace(split, images=split.images[2:], votes=votes[2:], names=["c"]), "votes")


def test_extra_faces_have_labels_or_none_and_follow_those_of_ferplus(tmp_path):
    picture(tmp_path / "anger" / "a.png", 200, side=50)
    picture(tmp_path / "unlabeled" / "b.png", 10)
    extra = read_extra([str(tmp_path)], 24)
    assert extra.images.shape == (2, 1, 24, 24) and extra.names == ["anger/a.png", "unlabeled/b.png"]
    anger = FERPLUS_LABELS.index("anger")
    assert extra.targets[0].tolist() == F.one_hot(torch.tensor(anger), 8).tolist() and not extra.targets[1].any()
    assert extra.images[0].unique().tolist() == [200]
    assert extra.labeled().names == ["anger/a.png"]

    faces = Faces(torch.full((2, 1, 48, 48), 7, dtype=torch.uint8), torch.eye(8)[:2], ["x", "y"])
    both = joined(faces, extra)
    assert both.names == ["x", "y", *extra.names] and both.images.shape == (4, 1, 24, 24)
    assert both.images[:2].unique().tolist() == [7] and torch.equal(both.targets[2:], extra.targets)
    assert both.table().num_frames == 4 and both.store().read(np.array([2])).unique().tolist() == [200]
    assert resized(both.images, 24) is both.images


# Teachers


def write_teacher(path, seed, **about):
    torch.manual_seed(seed)
    model = FAN(2, 2)
    save_atomically({"state_dict": to_published(model), "labels": list(LABELS), "image_size": 32, **about}, path)
    return path


def test_answers_are_the_mean_of_teachers_and_of_both_sides_and_know_the_shares(tmp_path):
    images = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    table = FrameTable(np.ones(5, dtype=np.int64), torch.full((5, 2), 0.5), list("abcde"), LABELS, 5, [])
    files = [write_teacher(tmp_path / "1", 1), write_teacher(tmp_path / "2", 2)]

    def answers(paths, images=images):
        shares, compute = torch.tensor([0.9, 0.1]), choose_compute("cpu", "fp32")
        return teachers_answers(paths, table, ArrayStore(images), shares, compute)

    one, other, both = answers(files[:1]), answers(files[1:]), answers(files)
    assert torch.allclose(both, (one + other) / 2, atol=1e-6) and torch.allclose(both.sum(dim=1), torch.ones(5))
    assert torch.allclose(both, answers(files, images.flip(-1)), atol=1e-5)
    balanced = write_teacher(tmp_path / "3", 1, recipe={"balance": "1.0"})
    assert float(answers([balanced])[:, 0].min()) > float(one[:, 0].max())


def test_a_table_of_answers_is_a_teacher_and_logits_are_added_with_weights(tmp_path):
    table = FrameTable(np.ones(3, dtype=np.int64), torch.full((3, 2), 0.5), ["calm/a.png", "b", "c"], LABELS, 3, [])
    store, compute = ArrayStore(torch.zeros(3, 1, 32, 32, dtype=torch.uint8)), choose_compute("cpu", "fp32")
    shares, logits = torch.tensor([0.9, 0.1]), np.array([[3.0, 0], [1, 1], [0, 2], [0, 3]])
    file, network = tmp_path / "t.npz", write_teacher(tmp_path / "1", 1)

    def answers(paths, weights=()):
        return teachers_answers(paths, table, store, shares, compute, weights)

    np.savez(file, names=["x/c.jpg", "b.png", "other.png", "a.jpg"], logits=logits)
    own = torch.from_numpy(logits[[3, 1, 0]]).float()
    assert torch.allclose(answers([file]), (own + shares.log()).softmax(dim=1), atol=1e-6)
    both = answers([network, file])
    assert torch.allclose(both, (answers([network]) + answers([file])) / 2, atol=1e-6)
    theirs = answers([network]).log() - shares.log()
    wanted = (theirs / 1.16 + own / 1.66 + shares.log()).softmax(dim=1)
    assert torch.allclose(answers([network, file], (1 / 1.16, 1 / 1.66)), wanted, atol=1e-5)
    for content, message in (
        ({"names": ["b", "c"], "logits": logits[:2]}, "lacks 1 of 3 training pictures, such as calm/a.png"),
        ({"names": ["a", "b", "c"], "logits": np.zeros((3, 5))}, "one row a name, of 2 classes"),
        ({"names": ["a", "b", "c"]}, "damaged .*logits"),
    ):
        np.savez(file, **content)
        with pytest.raises(CheckpointError, match=message):
            answers([file])


def test_answers_are_kept_in_a_file(tmp_path):
    file, answers = tmp_path / "answers.npz", torch.rand(5, 2)
    save_answers(answers, file)
    assert torch.equal(read_answers(file, 5), answers)
    with pytest.raises(CheckpointError, match="answers for 5 faces, not for 6; start a new run"):
        read_answers(file, 6)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"damaged .*; delete it, and the teachers answer again"):
        read_answers(file, 5)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_teachers_of_another_training_set_answer_with_the_shares_of_this_one(tmp_path, balance):
    table = FrameTable(np.ones(1, dtype=np.int64), torch.full((1, 2), 0.5), ["a"], LABELS, 1, [])
    store, compute = ArrayStore(torch.full((1, 1, 32, 32), 99, dtype=torch.uint8)), choose_compute("cpu", "fp32")
    own, shares = torch.tensor([0.2, 0.8]), torch.tensor([0.9, 0.1])
    about = {"class_shares": own.tolist(), "recipe": {"balance": str(balance)}}
    teacher = write_teacher(tmp_path / "other", 1, **about)
    with torch.inference_mode():
        logits = load_fan(teacher)[0](torch.full((1, 1, 3, 32, 32), 99 / 255)).logits
    # The shares that its logits have are taken out, those of this training set are put in.
    wanted = (logits - (1 - balance) * own.log() + shares.log()).softmax(dim=1)
    assert torch.allclose(teachers_answers([teacher], table, store, shares, compute), wanted, atol=1e-5)
    same = write_teacher(tmp_path / "same", 1, **{**about, "class_shares": shares.tolist()})
    unstated = write_teacher(tmp_path / "unstated", 1, recipe=about["recipe"])
    one, other = (teachers_answers([file], table, store, shares, compute) for file in (same, unstated))
    assert torch.equal(one, other)


def test_labels_count_by_their_part_and_teachers_alone_where_there_are_none():
    targets, answers = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.2, 0.8], [0.3, 0.7]])
    assert torch.allclose(taught(targets, answers, 0.5), torch.tensor([[0.6, 0.4], [0.3, 0.7]]))
    assert torch.allclose(taught(targets, answers, 1.0)[0], targets[0])
