"""Frames and batches: decoding, the frames of an epoch, and broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from Code.data.batches import ArrayStore, EvaluationBatches, FileStore, FrameTable, TrainingBatches, draw_segments
from Code.data.clips import Clip, ClipSet, DataError
from Code.data.images import read_image

clip_lengths = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def make_table(lengths: list[int]) -> FrameTable:
    """Clip c is named `c` and of class c % 3."""
    number = len(lengths)
    targets = torch.arange(number) % 3
    return FrameTable(np.array(lengths), targets, [str(c) for c in range(number)], ("a", "b", "c"), number, [])


def numbered_store(total: int) -> ArrayStore:
    """Every pixel of frame i has the value i."""
    return ArrayStore(np.broadcast_to(np.arange(total, dtype=np.uint8)[:, None, None, None], (total, 1, 2, 2)).copy())


# The frames of an epoch


@settings(deadline=None)
@given(clip_lengths, st.integers(1, 8), st.integers(0, 2**32))
def test_one_frame_of_each_segment_and_short_clips_repeat_in_order(lengths, k, seed):
    clips, frames = draw_segments(np.array(lengths), k, np.random.default_rng(seed))
    assert frames.shape == (sum(lengths), k)
    for clip, row in zip(clips, frames, strict=True):
        bounds = [i * lengths[clip] // k for i in range(k + 1)]
        if lengths[clip] < k:
            assert list(row) == bounds[:-1]
            assert set(row) == set(range(lengths[clip]))
        else:
            assert all(low <= frame < high for low, frame, high in zip(bounds, row, bounds[1:], strict=False))
            assert (np.diff(row) > 0).all()


@settings(deadline=None)
@given(clip_lengths, st.integers(1, 5), st.one_of(st.none(), st.integers(1, 6)))
def test_samples_of_a_clip_are_its_frames_or_as_many_as_asked(lengths, k, samples_per_clip):
    clips, _ = draw_segments(np.array(lengths), k, np.random.default_rng(0), samples_per_clip)
    expected = lengths if samples_per_clip is None else [samples_per_clip] * len(lengths)
    assert np.bincount(clips, minlength=len(lengths)).tolist() == expected


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 11])
def test_every_frame_is_drawn_and_frames_of_a_segment_equally_often(length, k):
    _, frames = draw_segments(np.array([length]), k, np.random.default_rng(1), 4000)
    counts = np.bincount(frames.ravel(), minlength=length)
    assert (counts > 0).all()
    if length >= k:
        for i in range(k):
            part = counts[i * length // k : (i + 1) * length // k]
            assert part == pytest.approx(4000 / len(part), abs=5 * (4000 / len(part)) ** 0.5)


def test_samples_are_shuffled_over_clips():
    clips, _ = draw_segments(np.full(20, 10), 3, np.random.default_rng(0))
    assert np.abs(np.diff(clips)).mean() > 4  # in clip order it would be 0.1; of random pairs it is 6.7


# Training batches


def plan_of(epoch: int, seed: int = 0) -> list[list[int]]:
    batches = TrainingBatches(make_table([5, 7, 9]), numbered_store(21), num_frames=3, batch_size=4, seed=seed)
    batches.set_epoch(epoch)
    return [key.ravel().tolist() for key in batches.plan.keys]


def test_plan_depends_on_seed_and_epoch_alone():
    assert plan_of(7) == plan_of(7)
    assert plan_of(7) != plan_of(8)
    assert plan_of(7) != plan_of(7, seed=1)
    batches = TrainingBatches(make_table([5, 7, 9]), numbered_store(21), num_frames=3, batch_size=4, seed=0)
    for epoch in range(1, 8):
        batches.set_epoch(epoch)
    assert [key.ravel().tolist() for key in batches.plan.keys] == plan_of(7)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_the_planned_frames_of_the_right_clips_in_every_epoch(workers):
    table = make_table([5, 7, 9])
    batches = TrainingBatches(table, numbered_store(21), num_frames=3, batch_size=4, seed=0, workers=workers)
    seen = []
    for epoch in (1, 2):
        batches.set_epoch(epoch)
        assert len(batches) == 5  # 21 samples: one more would be another batch
        for batch, key in zip(batches, batches.plan.keys, strict=True):
            frames = batch["frames"]
            assert frames.shape == (4, 3, 1, 2, 2) and frames.dtype == torch.uint8
            assert torch.equal(frames[..., 0, 0, 0], torch.from_numpy(key))
            clip = batch["clips"].numpy()
            assert (table.offsets[clip][:, None] <= key).all() and (key < table.offsets[clip + 1][:, None]).all()
            assert torch.equal(batch["labels"], batch["clips"] % 3)
            assert batch["lengths"].tolist() == [3, 3, 3, 3]
            seen.append(key.ravel().tolist())
    assert seen == plan_of(1) + plan_of(2)


@pytest.mark.parametrize(("lengths", "batch_size", "sizes"), [([5], 4, [4]), ([3], 4, [3]), ([4, 4], 4, [4, 4])])
def test_small_last_batch_is_left_out_unless_it_is_the_only_one(lengths, batch_size, sizes):
    table = make_table(lengths)
    batches = TrainingBatches(table, numbered_store(sum(lengths)), num_frames=2, batch_size=batch_size, seed=0)
    assert [len(batch["labels"]) for batch in batches] == sizes


# Image files


def gradient(height: int = 24, width: int = 24) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width] * 255 // (max(height, width) - 1)
    return Image.fromarray(np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8))


MODES = {
    "png": ("RGB", "L", "LA", "P", "RGBA", "1"),
    "jpg": ("RGB", "L", "CMYK"),
    "bmp": ("RGB", "L", "P", "RGBA", "1"),
    "webp": ("RGB", "L", "RGBA"),
    "gif": ("RGB", "L", "P"),
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix in MODES for mode in MODES[suffix]])
def test_every_mode_of_image_becomes_rgb(tmp_path, suffix, mode):
    image, path = gradient().convert(mode), tmp_path / f"frame.{suffix}"
    image.save(path)
    pixels = read_image(str(path))
    assert pixels.shape == (24, 24, 3) and pixels.dtype == np.uint8
    expected = np.asarray(image.convert("RGB"), dtype=int)
    assert np.abs(pixels - expected).mean() < (0.5 if suffix in ("png", "bmp") else 25)


def test_16_bit_gray_keeps_its_shades(tmp_path):
    shades = np.linspace(0, 65535, 24 * 24).astype(np.uint16).reshape(24, 24)
    Image.fromarray(shades).save(tmp_path / "deep.png")
    pixels = read_image(str(tmp_path / "deep.png"))
    assert np.array_equal(pixels, np.repeat((shades >> 8).astype(np.uint8)[..., None], 3, axis=-1))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("size", [8, 24, 40])
def test_frames_are_brought_to_one_size(tmp_path, suffix, size):
    path = str(tmp_path / f"frame.{suffix}")
    gradient(32, 24).save(path)  # not square: squeezed
    pixels = read_image(path, size)
    assert pixels.shape == (size, size, 3)
    expected = np.asarray(gradient(32, 24).resize((size, size), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(pixels - expected).mean() < (0.01 if suffix == "png" else 6)


def png_bytes(folder: Path) -> bytes:
    gradient().save(folder / "whole.png")
    return (folder / "whole.png").read_bytes()


@pytest.mark.parametrize("spoil", ["missing", "empty", "truncated", "random", "text", "folder", "bomb"])
def test_file_that_is_no_image_is_one_line_naming_it(tmp_path, spoil):
    path, whole = tmp_path / f"{spoil}.png", png_bytes(tmp_path)
    if spoil == "folder":
        path.mkdir()
    elif spoil != "missing":
        header = whole[:16] + (60000).to_bytes(4, "big") * 2 + whole[24:]
        contents = {
            "empty": b"",
            "truncated": whole[: len(whole) // 2],
            "random": np.random.default_rng(0).bytes(500),
            "text": b"<html>404 not found</html>\n",
            "bomb": header,
        }
        path.write_bytes(contents[spoil])
    with pytest.raises(DataError) as caught:
        read_image(str(path), 16)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert str(caught.value).count(str(path)) == 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.data())
def test_damaged_file_never_raises_anything_but_a_data_error(tmp_path_factory, kind, data):
    path = tmp_path_factory.getbasetemp() / "damaged"
    gradient().save(path, kind)
    contents = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        contents[data.draw(st.integers(33, len(contents) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(contents[: data.draw(st.integers(0, len(contents)))])
    try:
        assert read_image(str(path), 16).shape == (16, 16, 3)
    except DataError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


# Stores behind a loader


@pytest.fixture
def clip_set(tmp_path: Path) -> ClipSet:
    """Two clips of 3 and 2 frames; frame i has the gray value 40 * i."""
    clips = []
    for number, name in enumerate([("0", "1", "2"), ("3", "4")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for frame in name:
            Image.new("L", (8, 8), 40 * int(frame)).save(folder / f"{frame}.png")
        clips.append(Clip(f"{number}", str(folder), tuple(f"{frame}.png" for frame in name), number))
    return ClipSet(clips, ("a", "b"), str(tmp_path))


def test_file_store_reads_frames_in_the_order_asked(clip_set):
    frames = FileStore(clip_set, 4).read(np.array([4, 0, 3, 3]))
    assert frames.shape == (4, 3, 4, 4) and frames.dtype == torch.uint8
    assert frames[:, 0, 0, 0].tolist() == [160, 0, 120, 120]


@pytest.mark.parametrize("workers", [0, 2])
def test_all_bad_files_of_a_batch_are_named_without_a_traceback(clip_set, workers):
    for clip, index in ((0, 1), (1, 0)):
        Path(clip_set.clips[clip].path(index)).write_bytes(b"")
    table, store = FrameTable.of(clip_set), FileStore(clip_set, 4)
    for batches in (
        EvaluationBatches(table, store, batch_frames=8, workers=workers),
        TrainingBatches(table, store, num_frames=3, batch_size=5, seed=0, workers=workers),
    ):
        message = ""
        try:
            list(batches)
        except DataError as error:  # not pytest.raises, whose traceback would keep the workers alive
            message = str(error)
        assert clip_set.clips[0].path(1) in message and clip_set.clips[1].path(0) in message
        assert clip_set.clips[0].path(0) not in message
        assert "Traceback" not in message and "worker" not in message


@given(clip_lengths, st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_evaluation_packs_all_frames_in_order(lengths, batch_frames):
    table = make_table(lengths)
    batches = EvaluationBatches(table, numbered_store(sum(lengths)), batch_frames=batch_frames)
    packed = list(batches)
    assert len(packed) == len(batches)
    assert [len(frames) for frames in packed[:-1]] == [batch_frames] * (len(packed) - 1)
    assert torch.cat(packed)[:, 0, 0, 0].tolist() == list(range(sum(lengths)))
