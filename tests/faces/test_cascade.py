"""The faster loop over MTCNN's networks finds what facenet-pytorch's own finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate, max_pool2d

from Code.faces.cascade import Cascade, HalvingPool, crop_candidates, rectangle_sums, resample
from Code.faces.detect import Detector

CPU = torch.device("cpu")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def as_planes(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize(("height", "width"), [(57, 33), (24, 41), (2, 3), (5, 120)])
def test_pictures_are_resampled_to_the_last_bit(height: int, width: int) -> None:
    images = noise(2, 57, 82, 3)
    expected = interpolate(as_planes(images), size=(height, width), mode="area")
    assert torch.equal(resample(rectangle_sums(images, CPU), height, width), expected)


def test_sums_that_overflow_still_have_the_right_differences() -> None:
    sums = rectangle_sums(np.full((1, 40, 30, 3), 255, dtype=np.uint8), CPU)
    far = sums + torch.iinfo(torch.int32).max  # as in the far corner of a very large picture
    assert torch.equal(resample(far, 7, 9), torch.full((1, 3, 7, 9), 255.0))


def test_candidates_are_cut_and_resampled_to_the_last_bit_and_clipped_to_their_picture() -> None:
    images = noise(2, 70, 90, 3)
    boxes = torch.tensor(
        [[5.7, 3.2, 30.9, 28.1, 0.9], [-8, -3, 20, 21, 0.8], [60, 50, 130.5, 90, 0.7], [200, 10, 220, 30, 0.7]]
    )
    where = torch.tensor([0, 1, 1, 0])
    kept, of, pixels = crop_candidates(rectangle_sums(images, CPU), boxes, where, 24)
    assert torch.equal(kept, boxes[:3])  # the last one lies beside the picture
    assert of.tolist() == [0, 1, 1]
    planes = as_planes(images)
    for index, (left, top, right, bottom) in enumerate([(5, 3, 30, 28), (1, 1, 20, 21), (60, 50, 90, 70)]):
        part = planes[of[index], None, :, top - 1 : bottom, left - 1 : right]
        assert torch.equal(pixels[index, None], interpolate(part, size=(24, 24), mode="area"))


@pytest.mark.parametrize(("height", "width"), [(8, 10), (7, 10), (9, 5), (1, 1)])
def test_the_pool_is_the_librarys(height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(HalvingPool()(x), max_pool2d(x, 2, 2, ceil_mode=True))


def test_boxes_landmarks_and_scores_are_the_librarys(scene_of: Callable[..., Image.Image]) -> None:
    facenet = pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    scenes = [
        scene_of((0, 5, 40, 90), (1, 150, 20, 150), size=(320, 200)),
        scene_of(size=(320, 200)),
        scene_of((2, 60, 30, 140), size=(320, 200), grey=20),
        Image.fromarray(noise(200, 320, 3)),
    ]
    images = np.stack([np.asarray(scene) for scene in scenes])
    library = facenet.MTCNN(keep_all=True, min_face_size=20)
    boxes, scores, landmarks = library.detect(images, landmarks=True)
    found = Cascade(facenet.MTCNN(keep_all=True), vote=False)(images, 20)
    assert [len(box) for box, _ in found] == [0 if box is None else len(box) for box in boxes]
    assert [len(box) for box, _ in found][:3] == [2, 0, 1]
    for index in (0, 2):
        np.testing.assert_allclose(found[index][0][:, :4], boxes[index], atol=1e-2)
        np.testing.assert_allclose(found[index][0][:, 4], scores[index], atol=1e-4)
        np.testing.assert_allclose(found[index][1], landmarks[index], atol=1e-2)


def test_how_many_pictures_come_at_once_changes_nothing(scene_of: Callable[..., Image.Image]) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    images = np.stack([np.asarray(scene_of((n % 3, 20 + n, 10, 120))) for n in range(5)])
    detector = Detector()
    together, alone = detector(images), [detector(image[None])[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=1e-2)


@pytest.mark.gpu
def test_a_gpu_finds_the_same(scene_of: Callable[..., Image.Image]) -> None:
    images = np.stack([np.asarray(scene_of((n, 20, 10, 120))) for n in range(3)])
    for here, there in zip(Detector("cpu")(images), Detector("cuda")(images), strict=True):
        np.testing.assert_allclose(here.boxes, there.boxes, atol=0.1)
        np.testing.assert_allclose(here.landmarks, there.landmarks, atol=0.1)
