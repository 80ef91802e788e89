"""The faster loop over MTCNN's networks finds what facenet-pytorch's own finds; refinement finds faces again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from Code.common.device import has_bf16
from Code.faces.cascade import Cascade, suppress
from Code.faces.detect import Detector, overlap
from Code.faces.mtcnn import MTCNNStage
from Code.faces.pictures import Pyramids, Sums


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def slope(height: int, width: int) -> np.ndarray:
    """Two pictures in which each pixel hardly differs from its neighbors."""
    down, across = np.mgrid[:height, :width]
    picture = np.stack([down, across, (down + across) // 2], axis=2)
    return np.stack([picture, 250 - picture]).astype(np.uint8)


def by_area(images: np.ndarray, height: int, width: int) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, height, width, 3]."""
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return interpolate(planes, size=(height, width), mode="area").permute(0, 2, 3, 1)


@pytest.mark.parametrize(("height", "width"), [(57, 33), (24, 41), (2, 3), (5, 120)])
def test_sums_resample_pictures_to_the_last_bit(height: int, width: int) -> None:
    images = noise(2, 57, 82, 3)
    assert torch.equal(Sums(images, "cpu").level(height, width), by_area(images, height, width))


def test_sums_that_overflow_still_have_the_right_differences() -> None:
    sums = Sums(np.full((1, 40, 30, 3), 255, dtype=np.uint8), "cpu")
    sums._sums += torch.iinfo(torch.int32).max  # as in the far corner of a very large picture
    assert torch.equal(sums.level(7, 9), torch.full((1, 7, 9, 3), 255.0))


CORNERS, WHERE = np.array([[4, 2, 30, 28], [0, 0, 20, 21], [59, 49, 90, 70]]), np.array([0, 1, 1])


def test_sums_cut_candidates_to_the_last_bit() -> None:
    images = noise(2, 70, 90, 3)
    crops = Sums(images, "cpu").crops(CORNERS, WHERE, 24)
    for (left, top, right, bottom), place, crop in zip(CORNERS, WHERE, crops, strict=True):
        assert torch.equal(crop, by_area(images[place : place + 1, top:bottom, left:right], 24, 24)[0])


@pytest.mark.parametrize("side", [6, 17, 24])
def test_pillow_resamples_by_area_too(side: int) -> None:
    images = slope(170, 190)
    sums, pyramids = Sums(images, "cpu"), Pyramids(images)
    assert (pyramids.level(side, 2 * side) - sums.level(side, 2 * side)).abs().max() < 3
    corners = np.concatenate([CORNERS, [[10, 0, 170, 170]]])
    crops = pyramids.crops(corners, np.array([0, 1, 1, 1]), side)
    assert (crops - sums.crops(corners, np.array([0, 1, 1, 1]), side)).abs().max() < 3


def test_of_overlapping_candidates_the_surest_in_each_picture_stays() -> None:
    table = np.array(
        [[0, 0, 10, 10, 0.7], [1, 0, 11, 10, 0.9], [1, 0, 11, 10, 0.8], [40, 40, 50, 50, 0.6], [42, 42, 46, 46, 0.5]]
    )
    where = np.array([0, 0, 1, 0, 0])
    assert suppress(table, where, 0.5).tolist() == [1, 2, 3, 4]
    assert suppress(table, where, 0.5, of_smaller=True).tolist() == [1, 2, 3]  # the last one lies within another
    nothing = np.zeros((0, 5))
    assert suppress(nothing, np.zeros(0), 0.5).tolist() == []


def test_thousands_of_candidates_are_suppressed_as_in_torchvision() -> None:
    ops = pytest.importorskip("torchvision.ops")
    random = np.random.default_rng(0)
    corner, sides = random.uniform(0, 200, (2000, 2)), random.uniform(5, 40, (2000, 2))
    table = np.concatenate([corner, corner + sides, random.random((2000, 1))], axis=1)
    expected = ops.nms(torch.from_numpy(table[:, :4]), torch.from_numpy(table[:, 4]), 0.4)
    assert suppress(table, np.zeros(2000), 0.4).tolist() == expected.tolist()


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
    found = Cascade(vote=False, exact=True)(images, 20)
    assert [len(box) for box, _ in found] == [0 if box is None else len(box) for box in boxes]
    assert [len(box) for box, _ in found][:3] == [2, 0, 1]
    for index in (0, 2):
        np.testing.assert_allclose(found[index][0][:, :4], boxes[index], atol=1e-2)
        np.testing.assert_allclose(found[index][0][:, 4], scores[index], atol=1e-4)
        np.testing.assert_allclose(found[index][1], landmarks[index], atol=1e-2)
    usual = Cascade()(images, 20)
    for (boxes, landmarks), (library_boxes, library_landmarks) in zip(usual, found, strict=True):
        assert len(boxes) == len(library_boxes)
        for box, points, other in zip(boxes, landmarks, library_landmarks, strict=True):
            assert overlap(library_boxes[:, :4], box[:4]).max() > 0.85
            assert np.hypot(*(points - other)[:2].T).max() < 0.05 * (box[3] - box[1])


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="a CPU without bf16 computes in float32 anyway")
@pytest.mark.parametrize(("letter", "side"), [("p", 40), ("r", 24), ("o", 48)])
def test_bf16_hardly_moves_what_the_networks_say(letter: str, side: int, scene_of: Callable[..., Image.Image]) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    scene = scene_of((0, 5, 40, 90), (1, 150, 20, 150), size=(320, 200))
    boxes = [(5 + n, 40 + n, 95 - n, 130) for n in range(9)] + [(150 - n, 20, 300, 170 + n) for n in range(9)]
    crops = np.stack([np.asarray(scene.resize((side, side), Image.Resampling.BOX, box)) for box in boxes])
    pixels = torch.from_numpy(crops)
    with torch.inference_mode():
        usual, exact = MTCNNStage(letter)(pixels), MTCNNStage(letter, exact=True)(pixels)
    assert usual.shape == exact.shape and usual.dtype == torch.float32
    if letter == "p":
        assert torch.equal(usual, exact)
    else:
        assert 0 < (usual[:, 2:] - exact[:, 2:]).abs().max() < 0.01  # in sides of the crop
        assert (usual[:, 1] - usual[:, 0] - exact[:, 1] + exact[:, 0]).abs().max() < 0.2  # logits


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
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    rng = np.random.default_rng(0)
    scene = np.asarray(scene_of((0, 30, 10, 120)), dtype=float)
    images = np.stack([(scene + rng.normal(0, 6, scene.shape)).clip(0, 255).astype(np.uint8) for _ in range(8)])
    spread = {}
    for vote in (False, True):
        found = Cascade(vote=vote)(images, 20)
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
