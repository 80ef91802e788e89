"""Composed clips: reproducible, made of the stills of one split, and with the right importance of every frame."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from Code.common.names import FERPLUS_LABELS
from Code.composed.plan import DISTRACTORS, NEUTRAL, SPOILED, TELLING, ComposedSpec, Stills, choose_stills, plan_course
from Code.composed.render import render
from Code.composed.splits import VAL, Composer, compose_evaluated, compose_training
from Code.data.batches import FrameTable, Loading, TrainingBatches
from Code.data.clips import DataError
from Code.data.images import read_image
from Code.data.intensity import read_intensity
from Code.readers.ferplus import FERPlusSplit, read_ferplus

SPEC = ComposedSpec(frames=(6, 9), telling=(0.2, 0.7))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_ferplus) -> Path:
    counts = {"Training": 48, "PublicTest": 32, "PrivateTest": 32}
    return make_ferplus(tmp_path_factory.mktemp("fer") / "FERPlus", as_csv=False, counts=counts)


@pytest.fixture(scope="module")
def stills(root: Path) -> Stills:
    return choose_stills(read_ferplus(root), "Training", 0.6)


@pytest.fixture(scope="module")
def composer(stills: Stills) -> Composer:
    return Composer.of(stills, SPEC, 24, seed=3)


# Which stills


def as_split(images: list[int], votes: list[list[int]]) -> FERPlusSplit:
    pixels = np.array(images, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 48, 48), dtype=np.uint8)
    return FERPlusSplit(pixels, np.array(votes, dtype=np.float32), [f"{number}.png" for number in images])


def votes_for(label: int, votes: int) -> list[int]:
    row = [0] * 10
    row[label], row[8] = votes, 10 - votes  # all others would be ambiguous
    return row


def test_stills_are_those_whose_votes_agree() -> None:
    sure = as_split(list(range(10, 18)), [votes_for(label, 8) for label in range(8)])
    doubtful = as_split([30, 31], [votes_for(0, 5), votes_for(1, 6)])
    training = FERPlusSplit(
        np.concatenate([sure.images, doubtful.images]), np.concatenate([sure.votes, doubtful.votes]), [""] * 10
    )
    empty = as_split([50], [votes_for(0, 10)])
    chosen = choose_stills({"Training": training, "PublicTest": empty, "PrivateTest": empty}, "Training", 0.6)
    assert chosen.classes.tolist() == [*range(8), 1]
    assert chosen.images[:, 0, 0].tolist() == [*range(10, 18), 31]
    assert [part.tolist() for part in chosen.by_class] == [[0], [1, 8], *([n] for n in range(2, 8))]


def test_a_picture_in_two_splits_counts_for_the_later_one() -> None:
    rows = [votes_for(label, 9) for label in range(8)]
    training = as_split([1, *range(10, 18)], [votes_for(3, 9), *rows])
    public = as_split([2, 1, *range(20, 28)], [votes_for(3, 9), votes_for(3, 9), *rows])
    private = as_split([2, *range(30, 38)], [votes_for(3, 9), *rows])
    splits = {"Training": training, "PublicTest": public, "PrivateTest": private}
    chosen = {usage: choose_stills(splits, usage, 0.6) for usage in splits}
    assert [part.left_out for part in chosen.values()] == [1, 1, 0]
    seen = [set(part.images[:, 0, 0].tolist()) for part in chosen.values()]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert 2 in seen[2] and 1 in seen[1]


def test_a_class_without_stills_is_named(make_ferplus, tmp_path: Path) -> None:
    few = make_ferplus(tmp_path / "few", as_csv=True, counts={"Training": 8, "PublicTest": 8, "PrivateTest": 8})
    with pytest.raises(DataError, match="Training has no still of happiness with 60% of the votes"):  # 1: no face
        choose_stills(read_ferplus(few), "Training", 0.6)


def test_a_still_that_looks_alike_is_nearer_than_others(stills: Stills) -> None:
    rng = np.random.default_rng(0)

    def distance(other: int) -> float:
        return float(np.square(stills.looks[0] - stills.looks[other]).sum())

    for label in range(8):
        found = stills.alike(0, label, 200, rng)  # enough that each is drawn
        assert stills.classes[found] == label
        assert distance(found) == min(distance(int(other)) for other in stills.by_class[label])


# The course of a clip


@settings(deadline=None, max_examples=60)
@given(
    label=st.integers(0, 7),
    length=st.integers(1, 24),
    share=st.floats(0.05, 1),
    kinds=st.sets(st.sampled_from(DISTRACTORS), min_size=1).filter(lambda kinds: kinds != {"other"}),
    seed=st.integers(0, 2**32),
)
def test_every_clip_can_be_told(stills: Stills, label, length, share, kinds, seed) -> None:
    spec = ComposedSpec(telling=(share, share), distractors=tuple(sorted(kinds)))
    course = plan_course(label, length, stills, spec, np.random.default_rng(seed))
    telling = [kind == TELLING for kind in course.kind]
    assert len(course.kind) == length and course.importance.tolist() == telling
    assert set(course.kind) <= {TELLING, *kinds}
    if label == NEUTRAL and not kinds & set(SPOILED):
        assert all(telling)  # no distractors
    else:
        assert sum(telling) == max(1, round(length * share))
    shown = stills.classes[course.still]
    assert all(shown[at] == label for at in np.flatnonzero(telling))
    assert course.kind.count("other") <= sum(telling) / 2
    for at, kind in enumerate(course.kind):
        assert kind != "neutral" or (shown[at] == NEUTRAL and label != NEUTRAL)
        assert kind != "other" or shown[at] not in (label, NEUTRAL)
    if label == NEUTRAL:
        assert not {"neutral", "other"} & set(course.kind)
    assert ((course.spoil >= 0) & (course.spoil <= 1)).all()


def test_within_a_stretch_one_still_moves_a_little(stills: Stills) -> None:
    spec = ComposedSpec(telling=(1.0, 1.0), frames=(3, 3))  # too short for two stretches
    course = plan_course(1, 3, stills, spec, np.random.default_rng(5))
    assert len(set(course.still.tolist())) == 1
    frames = render(stills.images, course, 48)[:, 0].float()
    for first, second in ((0, 1), (1, 2)):
        assert not torch.equal(frames[first], frames[second])
        assert (np.abs(course.pose[first] - course.pose[second]) < 0.15).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": (9, 6)}, "--clip-frames 9 6: give the lower end first"),
        ({"telling": (0.0, 0.5)}, "--telling 0 0.5: shares must be above 0"),
        ({"telling": (0.5, 1.5)}, "--telling 0.5 1.5: shares must be above 0 and at most 1"),
        ({"distractors": ("neutral", "asleep")}, "--distractors asleep: choose from neutral, other, blurred"),
        ({"distractors": ("other",)}, "--distractors other: lasts for a moment"),
    ],
)
def test_options_that_make_no_clips_are_refused(options, message) -> None:
    with pytest.raises(DataError) as caught:
        ComposedSpec(**options)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


# Pixels


@pytest.mark.parametrize("kind", SPOILED)
def test_a_spoiled_frame_is_another_picture(stills: Stills, kind: str) -> None:
    course = plan_course(1, 4, stills, ComposedSpec(telling=(1.0, 1.0)), np.random.default_rng(1))
    clear = render(stills.images, course, 64).float()
    spoiled = render(stills.images, dataclasses.replace(course, kind=[kind] * 4), 64).float()
    assert ((clear - spoiled).abs().mean(dim=(1, 2, 3)) > 10).all()
    if kind == "dark":
        assert spoiled.mean() < 60
    if kind == "bright":
        assert spoiled.mean() > 200
    if kind == "blurred":  # of noise, almost nothing remains
        assert spoiled.std() < 0.5 * clear.std()


def test_a_frame_does_not_depend_on_those_it_is_read_with(root: Path) -> None:
    clips = compose_training(root, SPEC, 16, seed=2)
    store, total = clips.renderer(clips, 40), sum(map(len, clips.clips))
    ids = np.random.default_rng(0).permutation(3 * total)[:50]  # of three epochs
    together = store.read(ids)
    assert together.shape == (50, 1, 40, 40) and together.dtype == torch.uint8
    assert torch.equal(together, torch.cat([clips.renderer(clips, 40).read(ids[at : at + 1]) for at in range(50)]))


def test_epochs_and_seeds_differ_and_labels_stay(root: Path) -> None:
    one, other = (compose_training(root, SPEC, 16, seed=seed) for seed in (2, 3))
    assert [clip.label for clip in one.clips] == [clip.label for clip in other.clips]
    total = sum(map(len, one.clips))
    store = one.renderer(one, 32)
    first, second = store.read(np.arange(total)), store.read(np.arange(total) + total)
    assert not torch.equal(first, second)
    assert torch.equal(first, store.read(np.arange(total)))
    assert not torch.equal(first[:5], other.renderer(other, 32).read(np.arange(5)))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_ask_for_the_frames_of_their_epoch(root: Path, workers: int) -> None:
    clips = compose_training(root, SPEC, 16, seed=2)
    store, table = clips.renderer(clips, 32), FrameTable.of(clips)
    options = {"num_frames": 6, "batch_size": 4, "seed": 0, "samples_per_clip": 1}
    batches = TrainingBatches(table, store, loading=Loading(workers), **options)
    epochs = [list(batches.epoch(epoch)) for epoch in (1, 2, 1)]
    frames = [torch.cat([batch["frames"] for batch in batches]) for batches in epochs]
    assert torch.equal(frames[0], frames[2]) and not torch.equal(frames[0], frames[1])
    for number, batch in ((1, epochs[0][0]), (2, epochs[1][0])):  # frames of the clip in the same epoch
        clip = int(batch["clips"][0])
        ids = np.arange(table.offsets[clip], table.offsets[clip + 1]) + number * table.num_frames
        of_epoch = {frame.numpy().tobytes() for frame in store.read(ids)}
        assert {frame.numpy().tobytes() for frame in batch["frames"][0]} <= of_epoch


# Splits


def test_classes_have_clips_by_the_square_root_of_their_stills(stills: Stills) -> None:
    uneven = dataclasses.replace(stills, by_class=tuple(np.arange(n * n) for n in (6, 5, 1, 1, 1, 1, 1, 4)))
    assert np.bincount(Composer.of(uneven, SPEC, 200, 0).labels).tolist() == [60, 50, 10, 10, 10, 10, 10, 40]
    assert set(Composer.of(stills, SPEC, 8, 0).labels.tolist()) == set(range(8))


def test_validation_clips_are_files_with_their_importance(root: Path, tmp_path: Path) -> None:
    clips = compose_evaluated(root, tmp_path, SPEC, 16, VAL)
    (folder,) = tmp_path.iterdir()
    truth = read_intensity(folder / "intensity.csv")
    composer = Composer.of(choose_stills(read_ferplus(root), "PublicTest", SPEC.confidence), SPEC, 16, 0)
    assert clips.labels == FERPLUS_LABELS and len(clips.clips) == 16 == len({clip.name for clip in clips.clips})
    assert len(truth) == sum(map(len, clips.clips))
    for clip in clips.clips:
        number = int(clip.name.rsplit("-", 1)[1])
        course = composer.course(number)
        assert clip.label == composer.labels[number]
        assert [truth[clip.name, frame] for frame in clip.frames] == [
            (float(kind == TELLING), kind) for kind in course.kind
        ]
        pictures = np.stack([read_image(path) for path in clip.paths])[:, None, :, :, 0]
        assert np.array_equal(pictures, render(composer.stills.images, course, 80).numpy())
    written = (folder / "intensity.csv").stat().st_mtime_ns
    assert compose_evaluated(root, tmp_path, SPEC, 16, VAL).clips == clips.clips
    assert (folder / "intensity.csv").stat().st_mtime_ns == written  # composed once
    compose_evaluated(root, tmp_path, dataclasses.replace(SPEC, telling=(0.5, 0.5)), 16, VAL)
    assert len(list(tmp_path.iterdir())) == 2


def test_clips_without_their_facts_are_composed_again(root: Path, tmp_path: Path) -> None:
    clips = compose_evaluated(root, tmp_path, SPEC, 8, VAL)
    (folder,) = tmp_path.iterdir()
    for damage in ("", "[]"):
        (folder / "composed.json").write_text(damage)
        Path(clips.clips[0].path(0)).unlink()
        assert compose_evaluated(root, tmp_path, SPEC, 8, VAL).clips == clips.clips
        assert Path(clips.clips[0].path(0)).is_file() and list(tmp_path.iterdir()) == [folder]
