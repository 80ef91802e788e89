"""The faster loop over MTCNN's networks finds what facenet-pytorch's own finds; refinement finds faces again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate, max_pool2d

from Code.faces.cascade import Cascade, HalvingPool, crop_candidates, rectangle_sums, resample
from Code.faces.detect import Detector, overlap

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


def test_candidates_vote_so_that_a_still_face_hardly_moves(scene_of: Callable[..., Image.Image]) -> None:
    """The library's boxes jump when noise makes another candidate the best one."""
    facenet = pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    rng = np.random.default_rng(0)
    scene = np.asarray(scene_of((0, 30, 10, 120)), dtype=float)
    images = np.stack([(scene + rng.normal(0, 6, scene.shape)).clip(0, 255).astype(np.uint8) for _ in range(8)])
    spread = {}
    for vote in (False, True):
        found = Cascade(facenet.MTCNN(keep_all=True), vote=vote)(images, 20)
        spread[vote] = np.stack([boxes[0, :4] for boxes, _ in found]).std(axis=0).mean()
    assert spread[True] < 0.7 * spread[False]


@pytest.mark.parametrize(("size", "step"), [((192, 144), 6), ((960, 720), 30)])
def test_refinement_finds_moved_faces_again(
    scene_of: Callable[..., Image.Image], size: tuple[int, int], step: int
) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    scenes = [scene_of((0, 20 + dx, 10, 120)).resize(size) for dx in (0, 6)]
    first, second = (np.asarray(scene) for scene in scenes)
    detector = Detector()
    before, after = detector(np.stack([first, second]))
    (again,) = detector.refine([second], before.boxes[None])
    assert overlap(again.boxes, after.boxes[0])[0] > 0.9
    assert np.hypot(*(again.landmarks - after.landmarks)[0].T).max() < 0.03 * size[0]
    assert np.ptp(before.boxes[0] - again.boxes[0]) < 2 * step  # moved, not resized


def test_refinement_loses_what_is_not_there_and_tells_twins_apart(scene_of: Callable[..., Image.Image]) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    image, empty = (np.asarray(scene) for scene in (scene_of((0, 20, 10, 120)), scene_of()))
    detector = Detector()
    box = detector(image[None])[0].boxes[0]
    here, nowhere = detector.refine([image, empty], np.stack([[box, box + 4], [box, box + 500]]))
    assert sorted(here.scores > 0) == [False, True]  # both boxes lead to the same face
    assert not nowhere.scores.any()
    assert len(detector.refine([image], np.zeros((1, 0, 4)))[0]) == 0


def test_the_surroundings_of_a_face_are_searched_in_pixels_of_the_picture(scene_of: Callable[..., Image.Image]) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    image = np.asarray(scene_of((0, 5, 40, 90), (1, 190, 20, 150), size=(360, 200)))
    detector = Detector()
    full = detector(image[None])[0]
    for box in full.boxes:
        around = detector.search_around(image, box + 20)
        assert overlap(around.boxes, box).max() > 0.85
    assert len(detector.search_around(image, full.boxes[0] + 1000)) == 0


def test_a_picture_smaller_than_the_smallest_face_shows_none() -> None:
    for min_face, sides in ((None, (10, 19)), (24, (20, 23))):
        detector = Detector(min_face=min_face)
        for side in sides:
            assert [len(faces.boxes) for faces in detector(np.zeros((2, side, 40, 3), np.uint8))] == [0, 0]


def test_a_detector_uses_one_thread(scene_of: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    before = torch.get_num_threads()
    seen = []
    monkeypatch.setattr(Cascade, "__call__", lambda *_: seen.append(torch.get_num_threads()) or [])
    torch.set_num_threads(2)
    try:
        Detector()(np.zeros((1, 40, 40, 3), dtype=np.uint8))
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
def test_a_gpu_finds_the_same(scene_of: Callable[..., Image.Image]) -> None:
    images = np.stack([np.asarray(scene_of((n, 20, 10, 120))) for n in range(3)])
    for here, there in zip(Detector("cpu")(images), Detector("cuda")(images), strict=True):
        np.testing.assert_allclose(here.boxes, there.boxes, atol=0.1)
        np.testing.assert_allclose(here.landmarks, there.landmarks, atol=0.1)
