"""The faster loop over MTCNN's networks finds what facenet-pytorch's own finds; refinement finds faces again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from Code.common.device import has_bf16
from Code.faces import mtcnn
from Code.faces.detect import Detector, overlap
from Code.faces.mtcnn import Cascade, MTCNNStage, Pyramid, suppress
from tests.faces.conftest import Draw

facenet = pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")


class AreaPyramid:
    """`Pyramid` with the library's resampling."""

    def __init__(self, image: np.ndarray) -> None:
        self.size = image.shape[:2]
        self._planes = torch.from_numpy(image)[None].permute(0, 3, 1, 2).float()

    def level(self, height: int, width: int) -> torch.Tensor:
        return interpolate(self._planes, size=(height, width), mode="area").permute(0, 2, 3, 1)

    def crops(self, corners: np.ndarray, side: int) -> torch.Tensor:
        parts = [self._planes[:, :, top:bottom, left:right] for left, top, right, bottom in corners]
        return torch.cat([interpolate(p, size=(side, side), mode="area") for p in parts]).permute(0, 2, 3, 1)


@pytest.mark.parametrize("side", [6, 17, 24])
def test_pictures_are_resampled_by_area(side: int) -> None:
    down, across = np.mgrid[:170, :190]
    slope = np.stack([down, across, (down + across) // 2], axis=2).astype(np.uint8)
    ours, by_area = Pyramid(slope), AreaPyramid(slope)
    assert (ours.level(side, 2 * side) - by_area.level(side, 2 * side)).abs().max() < 3
    crops = np.array([[4, 2, 30, 28], [0, 0, 24, 25], [10, 0, 170, 170]]), side
    assert (ours.crops(*crops) - by_area.crops(*crops)).abs().max() < 3


def test_candidates_are_suppressed_as_in_torchvision() -> None:
    ops = pytest.importorskip("torchvision.ops")
    random = np.random.default_rng(0)
    corner, sides = random.uniform(0, 200, (2000, 2)), random.uniform(5, 40, (2000, 2))
    boxes, scores = np.concatenate([corner, corner + sides], axis=1), random.random(2000)
    expected = ops.nms(*map(torch.from_numpy, (boxes, scores)), 0.4)
    assert suppress(boxes, scores, 0.4).tolist() == expected.tolist()
    within, two = np.array([[40.0, 40, 50, 50], [42, 42, 46, 46]]), np.array([0.6, 0.5])
    assert suppress(within, two, 0.5).tolist() == [0, 1]
    assert suppress(within, two, 0.5, of_smaller=True).tolist() == [0]


def test_faces_are_the_librarys(scene_of: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtcnn, "has_bf16", lambda device: False)
    monkeypatch.setattr(mtcnn, "Pyramid", AreaPyramid)
    scenes = [
        scene_of((0, 5, 40, 90), (1, 150, 20, 150), size=(320, 200)),
        scene_of(size=(320, 200)),
        scene_of((2, 60, 30, 140), size=(320, 200), grey=20),
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 320, 3), dtype=np.uint8)),
    ]
    images = np.stack([np.asarray(scene) for scene in scenes])
    boxes, scores, landmarks = facenet.MTCNN(keep_all=True, min_face_size=20).detect(images, landmarks=True)
    found = [Cascade()(image, 20) for image in images]
    assert [len(ours) for ours, _, _ in found] == [0 if box is None else len(box) for box in boxes]
    assert [len(ours) for ours, _, _ in found][:3] == [2, 0, 1]
    for index in (0, 2):
        for box, score, points in zip(boxes[index], scores[index], landmarks[index], strict=True):
            shared = overlap(found[index][0], box)
            assert shared.max() > 0.85  # candidates vote, where the library takes one
            assert found[index][2][shared.argmax()] == pytest.approx(score, abs=1e-4)
            assert np.hypot(*(found[index][1][shared.argmax()] - points).T).max() < 0.05 * (box[3] - box[1])


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="a CPU without bf16 computes in float32 anyway")
@pytest.mark.parametrize(("letter", "side"), [("p", 40), ("r", 24), ("o", 48)])
def test_bf16_hardly_moves_what_the_networks_say(
    letter: str, side: int, scene_of: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of((0, 5, 40, 90), (1, 150, 20, 150), size=(320, 200))
    boxes = [(5 + n, 40 + n, 95 - n, 130) for n in range(9)] + [(150 - n, 20, 300, 170 + n) for n in range(9)]
    crops = np.stack([np.asarray(scene.resize((side, side), Image.Resampling.BOX, box)) for box in boxes])
    with torch.inference_mode():
        usual = MTCNNStage(letter)(torch.from_numpy(crops))
        monkeypatch.setattr(mtcnn, "has_bf16", lambda device: False)
        exact = MTCNNStage(letter)(torch.from_numpy(crops))
    assert usual.shape == exact.shape and usual.dtype == torch.float32
    if letter == "p":
        assert torch.equal(usual, exact)
    else:
        assert 0 < (usual[:, 2:] - exact[:, 2:]).abs().max() < 0.01  # in sides of the crop
        assert (usual[:, 1] - usual[:, 0] - exact[:, 1] + exact[:, 0]).abs().max() < 0.2  # logits


def test_candidates_vote_so_that_a_still_face_hardly_moves(scene_of: Draw) -> None:
    """The library's boxes jump when noise makes another candidate the best one."""
    rng = np.random.default_rng(0)
    scene = np.asarray(scene_of((0, 30, 10, 120)), dtype=float)
    images = np.stack([(scene + rng.normal(0, 6, scene.shape)).clip(0, 255).astype(np.uint8) for _ in range(8)])
    detected, _ = facenet.MTCNN(keep_all=True, min_face_size=20).detect(images)
    library = np.array([boxes[0].tolist() for boxes in detected])
    cascade = Cascade()
    ours = np.stack([cascade(image, 20)[0][0] for image in images])
    assert ours.std(axis=0).mean() < 0.7 * library.std(axis=0).mean()


@pytest.mark.parametrize(("size", "step"), [((192, 144), 6), ((960, 720), 30)])
def test_refinement_finds_moved_faces_again(scene_of: Draw, size: tuple[int, int], step: int) -> None:
    first, second = (np.asarray(scene_of((0, 20 + dx, 10, 120)).resize(size)) for dx in (0, 6))
    detector = Detector()
    before, after = detector(first), detector(second)
    (again,) = detector.refine([second], before.boxes[None])
    assert overlap(again.boxes, after.boxes[0])[0] > 0.9
    assert np.hypot(*(again.landmarks - after.landmarks)[0].T).max() < 0.03 * size[0]
    assert np.ptp(before.boxes[0] - again.boxes[0]) < 2 * step  # moved, not resized


def test_refinement_loses_what_is_not_there_and_tells_twins_apart(scene_of: Draw) -> None:
    image, empty = (np.asarray(scene) for scene in (scene_of((0, 20, 10, 120)), scene_of()))
    detector = Detector()
    box = detector(image).boxes[0]
    here, nowhere = detector.refine([image, empty], np.stack([[box, box + 4], [box, box + 500]]))
    assert sorted(here.scores > 0) == [False, True]  # both boxes lead to the same face
    assert not nowhere.scores.any()
    assert len(detector.refine([image], np.zeros((1, 0, 4)))[0]) == 0


def test_the_surroundings_of_a_face_are_searched_in_pixels_of_the_picture(scene_of: Draw) -> None:
    image = np.asarray(scene_of((0, 5, 40, 90), (1, 190, 20, 150), size=(360, 200)))
    detector = Detector()
    full = detector(image)
    for box in full.boxes:
        assert overlap(detector.search_around(image, box + 20).boxes, box).max() > 0.85
    assert len(detector.search_around(image, full.boxes[0] + 1000)) == 0


def test_a_picture_smaller_than_the_smallest_face_shows_none() -> None:
    for min_face, sides in ((None, (10, 19)), (24, (20, 23))):
        detector = Detector(min_face=min_face)
        for side in sides:
            assert len(detector(np.zeros((side, 40, 3), np.uint8))) == 0


@pytest.mark.gpu
def test_a_gpu_finds_the_same(scene_of: Draw) -> None:
    image = np.asarray(scene_of((0, 20, 10, 120)))
    here, there = Detector("cpu")(image), Detector("cuda")(image)
    np.testing.assert_allclose(here.boxes, there.boxes, atol=0.1)
    np.testing.assert_allclose(here.landmarks, there.landmarks, atol=0.1)
