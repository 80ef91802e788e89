"""Composed clips: reproducible, made of the stills of one split, and with the right importance of every frame."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from Code.common.names import FERPLUS_LABELS
from Code.composed.plan import DISTRACTORS, NEUTRAL, SPOILED, TELLING, ComposedSpec, Stills, choose_stills, plan_clip
from Code.composed.reader import Composer, written_clips
from Code.composed.render import render
from Code.data.batches import FrameTable, Loading, TrainingBatches
from Code.data.clips import ClipSet, DataError
from Code.data.images import read_image
from Code.data.intensity import read_intensity
from Code.readers.ferplus import FERPlusSplit, read_ferplus

SPEC = ComposedSpec(frames=(6, 9), telling=(0.2, 0.7))


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory, make_ferplus) -> Stills:
    counts = {"Training": 48, "PublicTest": 32, "PrivateTest": 32}
    root = make_ferplus(tmp_path_factory.mktemp("fer") / "FERPlus", as_csv=False, counts=counts)
    return choose_stills(read_ferplus(root), "Training", 0.6)


def training(stills: Stills, seed: int = 2) -> ClipSet:
    return Composer(stills, SPEC, "train", 16, seed).clips(Path())


# Which stills


def as_split(images: list[int], votes: list[list[int]]) -> FERPlusSplit:
    pixels = np.array(images, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 48, 48), dtype=np.uint8)
    return FERPlusSplit(pixels, np.array(votes, dtype=np.float32), [f"{number}.png" for number in images])


def votes_for(label: int, votes: int) -> list[int]:
    row = [0] * 10
    row[label], row[8] = votes, 10 - votes  # all others would be ambiguous
    return row


def test_stills_are_those_whose_votes_agree() -> None:
    sure = [votes_for(label, 8) for label in range(8)]
    split = as_split([*range(10, 18), 30, 31], [*sure, votes_for(0, 5), votes_for(1, 6)])
    empty = as_split([50], [votes_for(0, 10)])
    chosen = choose_stills({"Training": split, "PublicTest": empty, "PrivateTest": empty}, "Training", 0.6)
    assert chosen.classes.tolist() == [*range(8), 1]
    assert chosen.images[:, 0, 0].tolist() == [*range(10, 18), 31]
    assert [part.tolist() for part in chosen.by_class] == [[0], [1, 8], *([n] for n in range(2, 8))]
    with pytest.raises(DataError, match=r"PublicTest has no still of happiness, surprise, .* with 60% of the votes"):
        choose_stills({"PublicTest": empty}, "PublicTest", 0.6)


def test_a_picture_in_two_splits_counts_for_the_later_one() -> None:
    rows = [votes_for(label, 9) for label in range(8)]
    splits = {
        "Training": as_split([1, *range(10, 18)], [votes_for(3, 9), *rows]),
        "PublicTest": as_split([2, 1, *range(20, 28)], [votes_for(3, 9), votes_for(3, 9), *rows]),
        "PrivateTest": as_split([2, *range(30, 38)], [votes_for(3, 9), *rows]),
    }
    seen = [set(choose_stills(splits, usage, 0.6).images[:, 0, 0].tolist()) for usage in splits]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert 2 in seen[2] and 1 in seen[1]


def test_a_still_that_looks_alike_is_nearer_than_others(stills: Stills) -> None:
    distances = np.square(stills.looks[0] - stills.looks).sum(axis=1)
    for label in range(8):
        alike = stills.alike(0, label, np.random.default_rng(0), candidates=200)  # enough that each is drawn
        assert stills.classes[alike] == label
        assert distances[alike] == distances[stills.by_class[label]].min()


# The frames of a clip


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
    frames = plan_clip(label, length, stills, spec, np.random.default_rng(seed))
    shown = [frame.kind for frame in frames]
    assert len(frames) == length and set(shown) <= {TELLING, *kinds}
    assert [frame.importance for frame in frames] == [kind == TELLING for kind in shown]
    if label == NEUTRAL:
        assert not {"neutral", "other"} & set(shown)
    if label == NEUTRAL and not kinds & set(SPOILED):
        assert set(shown) == {TELLING}  # no distractors
    else:
        assert shown.count(TELLING) == max(1, round(length * share))
    assert shown.count("other") <= shown.count(TELLING) / 2
    for frame in frames:
        still = stills.classes[frame.still]
        assert frame.kind != TELLING or still == label
        assert frame.kind != "neutral" or still == NEUTRAL
        assert frame.kind != "other" or still not in (label, NEUTRAL)
        assert ((frame.spoil >= 0) & (frame.spoil <= 1)).all()


def test_within_a_stretch_one_still_moves_a_little(stills: Stills) -> None:
    spec = ComposedSpec(telling=(1.0, 1.0), frames=(3, 3))  # too short for two stretches
    plan = plan_clip(1, 3, stills, spec, np.random.default_rng(5))
    assert len({frame.still for frame in plan}) == 1
    pictures = render(stills.images, plan, 48)[:, 0].float()
    for first, second in ((0, 1), (1, 2)):
        assert not torch.equal(pictures[first], pictures[second])
        assert (np.abs(plan[first].pose - plan[second].pose) < 0.15).all()


@pytest.mark.parametrize("kind", SPOILED)
def test_a_spoiled_frame_is_another_picture(stills: Stills, kind: str) -> None:
    plan = plan_clip(1, 4, stills, ComposedSpec(telling=(1.0, 1.0)), np.random.default_rng(1))
    clear = render(stills.images, plan, 64).float()
    spoiled = render(stills.images, [frame._replace(kind=kind) for frame in plan], 64).float()
    assert ((clear - spoiled).abs().mean(dim=(1, 2, 3)) > 10).all()
    assert kind != "dark" or spoiled.mean() < 60
    assert kind != "bright" or spoiled.mean() > 200
    assert kind != "blurred" or spoiled.std() < 0.5 * clear.std()  # of noise, almost nothing remains


# Splits


def test_classes_have_clips_by_the_square_root_of_their_stills(stills: Stills) -> None:
    uneven = dataclasses.replace(stills, by_class=tuple(np.arange(n * n) for n in (6, 5, 1, 1, 1, 1, 1, 4)))
    labels = Composer(uneven, SPEC, "train", 200, 0).labels
    assert np.bincount(labels).tolist() == [60, 50, 10, 10, 10, 10, 10, 40]
    assert set(Composer(stills, SPEC, "train", 8, 0).labels.tolist()) == set(range(8))


def test_a_frame_does_not_depend_on_those_it_is_read_with(stills: Stills) -> None:
    clips = training(stills)
    ids = np.random.default_rng(0).permutation(3 * sum(map(len, clips.clips)))[:50]  # of three epochs
    together = clips.renderer(clips, 40).read(ids)
    assert together.shape == (50, 1, 40, 40) and together.dtype == torch.uint8
    assert torch.equal(together, torch.cat([clips.renderer(clips, 40).read(ids[at : at + 1]) for at in range(50)]))


def test_epochs_and_seeds_differ_and_labels_stay(stills: Stills) -> None:
    one, other = training(stills, seed=2), training(stills, seed=3)
    assert [clip.label for clip in one.clips] == [clip.label for clip in other.clips]
    total, store = sum(map(len, one.clips)), one.renderer(one, 32)
    first, second = store.read(np.arange(total)), store.read(np.arange(total) + total)
    assert not torch.equal(first, second)
    assert torch.equal(first, store.read(np.arange(total)))
    assert not torch.equal(first[:5], other.renderer(other, 32).read(np.arange(5)))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_ask_for_the_frames_of_their_epoch(stills: Stills, workers: int) -> None:
    clips = training(stills)
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


def test_validation_clips_are_files_with_their_importance(stills: Stills, tmp_path: Path) -> None:
    composer = Composer(stills, SPEC, "val", 16, 0)
    clips = written_clips(composer, tmp_path)
    (folder,) = tmp_path.iterdir()
    truth = read_intensity(folder / "intensity.csv")
    assert clips.labels == FERPLUS_LABELS and len(clips.clips) == 16 == len({clip.name for clip in clips.clips})
    assert len(truth) == sum(map(len, clips.clips))
    for clip in clips.clips:
        number = int(clip.name.rsplit("-", 1)[1])
        plan = composer.frames(number)
        assert clip.label == composer.labels[number]
        assert [truth["Val", clip.name, name] for name in clip.frames] == [
            (frame.importance, frame.kind) for frame in plan
        ]
        pictures = np.stack([read_image(path) for path in clip.paths])[:, None, :, :, 0]
        assert np.array_equal(pictures, render(stills.images, plan, 80).numpy())
    written = (folder / "intensity.csv").stat().st_mtime_ns
    assert written_clips(composer, tmp_path).clips == clips.clips
    assert (folder / "intensity.csv").stat().st_mtime_ns == written  # composed once
    written_clips(Composer(stills, dataclasses.replace(SPEC, telling=(0.5, 0.5)), "val", 16, 0), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_of_two_trainings_one_composes_the_validation_clips_and_the_other_waits(stills: Stills, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda number: written_clips(Composer(stills, SPEC, "val", 8, 0), tmp_path), range(2))
    assert first.clips == second.clips and len(first.clips) == 8
