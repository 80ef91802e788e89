"""Trees of labeled pictures, faces beside FER+'s, and what teachers say of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from Code.recipes.extra_faces import JoinedStore, read_extra, resized, with_extra
from PIL import Image

from Code.common.device import choose_compute
from Code.data.clips import DataError
from Code.data.stores import ArrayStore, FrameTable
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.network.pretrained import load_fan
from Code.network.weights import to_published
from Code.recipes.pictures import read_picture_folders
from Code.recipes.teachers import answers_of, kept_answers, taught

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
    split = read_picture_folders(tmp_path)
    assert split.train.labels == ("1", "2", "10") == split.val.labels
    assert [clip.name for clip in split.val.clips] == ["2/d.jpg"] and split.val.clips[0].label == 1
    assert "train and test" in split.how


def test_a_share_is_held_out_of_every_class_and_persons_stay_together(tmp_path):
    names = [f"{label}/img{index}.jpg" for label in LABELS for index in range(10)]
    split = read_picture_folders(tree(tmp_path / "unknown", names), share=0.2)
    assert [len(split.train.clips), len(split.val.clips)] == [16, 4]
    names = [f"{label}/subject{person}_{index}.jpg" for label in LABELS for person in range(5) for index in range(3)]
    split = read_picture_folders(tree(tmp_path / "persons", names), share=0.2)
    persons = [{clip.person for clip in part.clips} for part in (split.train, split.val)]
    assert persons[1] and not persons[0] & persons[1]


def test_identities_are_held_out_by_picture_not_by_person(tmp_path):
    names = [f"subject{person}/{index}.jpg" for person in range(4) for index in range(5)]
    split = read_picture_folders(tree(tmp_path, names), share=0.2, person_pattern=r"(subject\d+)/")
    assert {clip.label for clip in split.train.clips} == {clip.label for clip in split.val.clips} == {0, 1, 2, 3}


def test_a_list_may_say_the_split(tmp_path):
    tree(tmp_path, ["calm/a.jpg", "glad/b.jpg", "glad/c.jpg"])
    rows = ["path,label,split,person", "calm/a.jpg,calm,train,x", "glad/b.jpg,glad,train,x", "glad/c.jpg,glad,test,y"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    split = read_picture_folders(tmp_path, list_file=tmp_path / "list.csv")
    assert split.train.labels == LABELS and [clip.path(0)[-5:] for clip in split.val.clips] == ["c.jpg"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("glad/c.jpg,glad,later,y", "line 4: split .later. is neither train nor val"),
        ("glad/gone.jpg,glad,val,y", "line 4: no such file"),
        ("../secret.jpg,glad,val,y", "line 4: no such file"),
        ("glad/c.jpg,sad,val,y", "line 4: class .sad. has no training picture"),
        ("glad/c.jpg,glad,val,x", "is in train and in val"),
        ("glad/./b.jpg,glad,val,y", "line 4: .glad/./b.jpg. is already in line 3"),
    ],
)
def test_mistakes_of_a_list_name_its_line(tmp_path, row, message):
    tree(tmp_path, ["calm/a.jpg", "glad/b.jpg", "glad/c.jpg"])
    rows = ["path,label,split,person", "calm/a.jpg,calm,train,x", "glad/b.jpg,glad,train,x", row]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=message):
        read_picture_folders(tmp_path, list_file=tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.jpg", "b.jpg"], "2 pictures that are in no class's folder"),
        (["calm/a.jpg"], "only one class, calm"),
        (["train/calm/a.jpg", "train/glad/b.jpg", "val/sad/c.jpg"], "sad: not a class of the training pictures"),
    ],
)
def test_mistakes_of_a_tree_are_one_line(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        read_picture_folders(tree(tmp_path / "root", names))
    with pytest.raises(DataError, match="cannot be read"):
        read_picture_folders(tmp_path / "gone")


# Faces beside FER+'s


def test_extra_faces_have_labels_or_none(tmp_path):
    picture(tmp_path / "glad" / "a.png", 200, side=50)
    picture(tmp_path / "unlabeled" / "b.png", 10)
    extra = read_extra([tmp_path], LABELS, side=24)
    assert extra.images.shape == (2, 1, 24, 24) and extra.names == ["glad/a.png", "unlabeled/b.png"]
    assert extra.targets.tolist() == [[0, 1], [0, 0]] and extra.labeled.tolist() == [True, False]
    assert np.unique(extra.images[0]).tolist() == [200]


def test_joined_stores_read_in_the_order_asked_for():
    one = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 1, 8, 8)
    other = (10 + torch.arange(2, dtype=torch.uint8))[:, None, None, None].expand(2, 1, 16, 16)
    store = JoinedStore([ArrayStore(one), ArrayStore(other)], [3, 2], 16)
    read = store.read(np.array([4, 0, 3, 2]))
    assert read.shape == (4, 1, 16, 16) and read[:, 0, 5, 5].tolist() == [11, 0, 10, 2]
    assert store.read(np.array([1])).unique().tolist() == [1]
    assert resized(other, 16) is other


def test_the_table_grows_by_the_faces_that_are_kept(tmp_path):
    picture(tmp_path / "glad" / "a.png")
    picture(tmp_path / "unlabeled" / "b.png")
    extra = read_extra([tmp_path], LABELS, side=16)
    table = FrameTable(np.ones(2, dtype=np.int64), torch.eye(2), ["x", "y"], LABELS, 2, [])
    grown = with_extra(table, extra, extra.labeled)
    assert len(grown) == 3 and grown.names == ["x", "y", "glad/a.png"] and grown.targets[2].tolist() == [0, 1]
    assert grown.num_frames == 3 and len(table) == 2


# Teachers


def write_teacher(path, seed, **about):
    torch.manual_seed(seed)
    model = FAN(2, 2)
    save_atomically({"state_dict": to_published(model), "labels": list(LABELS), "image_size": 32, **about}, path)
    return path


def test_answers_are_the_mean_of_teachers_and_of_both_sides_and_know_the_shares(tmp_path, capsys):
    images = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    table = FrameTable(np.ones(5, dtype=np.int64), torch.full((5, 2), 0.5), list("abcde"), LABELS, 5, [])
    shares, compute = torch.tensor([0.9, 0.1]), choose_compute("cpu", "fp32")
    files = [write_teacher(tmp_path / "1", 1), write_teacher(tmp_path / "2", 2)]
    one, other, both = (
        answers_of(some, table, ArrayStore(images), shares, compute) for some in (files[:1], files[1:], files)
    )
    assert torch.allclose(both, (one + other) / 2, atol=1e-6) and torch.allclose(both.sum(dim=1), torch.ones(5))
    mirrored = answers_of(files, table, ArrayStore(images.flip(-1)), shares, compute)
    assert torch.allclose(both, mirrored, atol=1e-5)
    balanced = write_teacher(tmp_path / "3", 1, recipe={"balance": "1.0"})
    assert float(answers_of([balanced], table, ArrayStore(images), shares, compute)[:, 0].min()) > float(
        one[:, 0].max()
    )
    kept = tmp_path / "answers.npz"
    first = kept_answers(kept, files, table, ArrayStore(images), shares, compute)
    assert torch.equal(kept_answers(kept, ["gone"], table, ArrayStore(images), shares, compute), first)
    whole, flipped = kept.read_bytes(), bytearray(kept.read_bytes())
    flipped[-200] ^= 1  # of a number: the archive's checksum notices
    for damaged in (b"", whole[:200], bytes(flipped)):
        kept.write_bytes(damaged)
        assert torch.equal(kept_answers(kept, files, table, ArrayStore(images), shares, compute), first)
        assert f"note: {kept}: damaged (" in capsys.readouterr().err
        assert torch.equal(kept_answers(kept, ["gone"], table, ArrayStore(images), shares, compute), first)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_teachers_of_another_training_set_answer_with_the_shares_of_this_one(tmp_path, balance):
    table = FrameTable(np.ones(1, dtype=np.int64), torch.full((1, 2), 0.5), ["a"], LABELS, 1, [])
    store, compute = ArrayStore(torch.full((1, 1, 32, 32), 99, dtype=torch.uint8)), choose_compute("cpu", "fp32")
    theirs, shares = torch.tensor([0.2, 0.8]), torch.tensor([0.9, 0.1])
    about = {"class_shares": theirs.tolist(), "recipe": {"balance": str(balance)}}
    teacher = write_teacher(tmp_path / "other", 1, **about)
    with torch.inference_mode():
        logits = load_fan(teacher)[0](torch.full((1, 1, 3, 32, 32), 99 / 255)).logits
    # The shares that its logits have are taken out, those of this training set are put in.
    wanted = (logits - (1 - balance) * theirs.log() + shares.log()).softmax(dim=1)
    assert torch.allclose(answers_of([teacher], table, store, shares, compute), wanted, atol=1e-5)
    same = write_teacher(tmp_path / "same", 1, **{**about, "class_shares": shares.tolist()})
    unsaid = write_teacher(tmp_path / "unsaid", 1, recipe=about["recipe"])
    one, other = (answers_of([file], table, store, shares, compute) for file in (same, unsaid))
    assert torch.equal(one, other)


def test_labels_count_by_their_part_and_teachers_alone_where_there_are_none():
    targets, answers = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.2, 0.8], [0.3, 0.7]])
    assert torch.allclose(taught(targets, answers, 0.5), torch.tensor([[0.6, 0.4], [0.3, 0.7]]))
    assert torch.allclose(taught(targets, answers, 1.0)[0], targets[0])
