"""Makes a clip out of two photographs of one person: neutral, then an expression, then neutral again.

    python -m tools.onset london/neutral_front/094_03.jpg london/smiling_front/094_08.jpg --output smile.mp4
    python -m tools.onset london/neutral_front london/smiling_front --label happiness --output Data/Onsets

The course of the expression is known: smile.csv has the intensity of every frame. Two folders give a clip for each
person: photographs of one person have the same name up to the first `_`. Their clips are face crops in gray, as in
FER2013, in `Data/Onsets/Train/<label>/<person>/<frame>.png`, with `Data/Onsets/intensity.csv`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from Code.common.commandline import check_outputs, run_script, script_parser, seed
from Code.common.errors import UsageError
from Code.common.files import atomic_file, save_text, writing
from Code.common.progress import Progress
from Code.data.clips import DataError
from Code.data.images import read_image
from Code.data.intensity import Row, write_intensity
from Code.data.listing import list_folder
from Code.faces.align import FACE_SIZE, FER2013_EYES, similarity
from Code.faces.detect import Detector
from Code.faces.render import VideoWriter
from Code.recipes.stills import main_face

SIDE = 480  # pixels of the squares around the face
EYES = ((0.4, 0.46), (0.6, 0.46))  # in them, as shares of the side
SHOWN = 0.86  # share of the square that a video shows, so that the head can move without an edge coming into view
COURSE = (1.2, 0.7, 1.4, 1.0, 0.7)  # seconds: neutral, onset, apex, offset, neutral
VIDEO_SIDE, FPS = 360, 25.0  # of a video
FRAMES = 16  # of a clip of face crops
# How far the head moves from its mean: turn (radians), size, right, down (half sides of the square); seconds of a sway.
SWAY, PERIODS = (math.radians(1.5), 0.012, 0.02, 0.012), (1.7, 4.1)
# (side of the pictures in pixels, cells of the field per side, steps of Adam), coarse to fine.
STAGES = ((120, 16, 60), (240, 32, 80))
RATE = 0.004  # of Adam, in half sides of the picture
WINDOW = 9
STRETCH, FOLD = 1.0, 100.0  # weights of the penalties
SMALLEST = 0.3  # an area may shrink to this share before it counts as a fold
INVERSION = 12  # steps of the fixed point iteration; s u is a contraction, since it does not fold


class Morph:
    """Two photographs of one person, float [3, S, S] in [0, 1], and everything between them.

    The second one is registered to the first: a smooth field of displacements u says where each point x of the first is
    in the second, x + u(x). A frame that shows the share s of the change lies on the way, at x + s u(x): both are
    warped there, and blended with weights 1 - s and s. The field starts as a thin-plate spline through corresponding
    points, float [2, P, 2] in pixels, and then maximizes the local correlation of the pictures, coarse to fine.
    """

    def __init__(self, first: Tensor, second: Tensor, points: np.ndarray) -> None:
        self.pictures = torch.stack([first, second])
        self.field = _register(self.pictures, (points + 0.5) * (2 / first.shape[-1]) - 1)

    def frame(self, share: float, view: np.ndarray, side: int) -> np.ndarray:
        """The frame that shows a share of the change, uint8 [side, side, 3]: 0 is the first photograph, 1 the second.

        `view`, float [2, 3], is the affine map from the frame to the square. Both reach from -1 to 1.
        """
        at = there = _grid(side, view)
        for _ in range(INVERSION):  # the x with x + s u(x) = there
            at = there - share * _moves(self.field, at)
        both = torch.cat([at, at + _moves(self.field, at)])
        first, second = F.grid_sample(self.pictures, both, mode="bicubic", padding_mode="border", align_corners=False)
        mixed = (1 - share) * first + share * second
        return np.asarray(mixed.permute(1, 2, 0).mul(255).round().clamp(0, 255).to(torch.uint8))


def _grid(side: int, view: np.ndarray) -> Tensor:
    """Where an affine map brings each pixel of a square, float [1, side, side, 2] in [-1, 1]."""
    return F.affine_grid(torch.from_numpy(view)[None].float(), [1, 1, side, side], align_corners=False)


def _moves(field: Tensor, at: Tensor) -> Tensor:
    """The displacements [1, H, W, 2] at places; the field's outer nodes lie on the border of the square."""
    return F.grid_sample(field, at, mode="bicubic", padding_mode="border", align_corners=True).permute(0, 2, 3, 1)


def _spline(points: np.ndarray, cells: int) -> Tensor:
    """The thin-plate spline through the points, [1, 2, cells, cells]; the border of the square stays where it is."""
    ring = [(x, y) for x in np.linspace(-1, 1, 5) for y in np.linspace(-1, 1, 5) if 1 in (abs(x), abs(y))]
    places = np.concatenate([points[0], ring])
    moves = np.concatenate([points[1] - points[0], np.zeros((len(ring), 2))])
    axis = np.linspace(-1, 1, cells)
    nodes = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    values = RBFInterpolator(places, moves, kernel="thin_plate_spline")(nodes)
    return torch.from_numpy(values).float().view(1, cells, cells, 2).permute(0, 3, 1, 2)


def _register(pictures: Tensor, points: np.ndarray) -> Tensor:
    """The field of displacements, [1, 2, cells, cells], in half sides of the square."""
    field = _spline(points, STAGES[0][1])
    for side, cells, steps in STAGES:
        field = F.interpolate(field, (cells, cells), mode="bicubic", align_corners=True).requires_grad_(True)
        one, other = F.interpolate(pictures, (side, side), mode="area").mean(1, keepdim=True).split(1)
        grid = _grid(side, np.eye(2, 3))
        adam = torch.optim.Adam([field], lr=RATE)
        for _ in range(steps):
            u = F.interpolate(field, (side, side), mode="bicubic", align_corners=True)
            moved = F.grid_sample(other, grid + u.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
            loss = _penalty(u) - _correlation(one, moved).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        field = field.detach()
    return field


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    """The correlation of two pictures around each pixel, in [-1, 1]; near 0 where nothing is to be seen."""

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, WINDOW, 1, WINDOW // 2, count_include_pad=False)

    m, n = mean(one), mean(other)
    spread = ((mean(one * one) - m * m).clamp(min=0) + 1e-4) * ((mean(other * other) - n * n).clamp(min=0) + 1e-4)
    return (mean(one * other) - m * n) / spread.sqrt()


def _penalty(u: Tensor) -> Tensor:
    """Of stretching: the mean square of the first derivatives; and of folds: where an area almost vanishes."""
    per_pixel = u.shape[-1] / 2
    across, down = (u[..., 1:] - u[..., :-1]) * per_pixel, (u[..., 1:, :] - u[..., :-1, :]) * per_pixel
    x, y = across[0, :, :-1], down[0, :, :, :-1]
    area = (1 + x[0]) * (1 + y[1]) - x[1] * y[0]  # the determinant of the map's derivative
    stretch = across.square().mean() + down.square().mean()
    return STRETCH * stretch + FOLD * (SMALLEST - area).clamp(min=0).square().mean()


def intensities(course: Sequence[float], fps: float) -> np.ndarray:
    """The intensity of every frame, float64 [T] in [0, 1], of a `COURSE`: rises and falls as half a cosine's wave."""
    times = np.arange(round(sum(course) * fps)) / fps
    linear = np.interp(times, np.cumsum(course)[:4], (0, 1, 1, 0))
    return (1 - np.cos(np.pi * linear)) / 2


def sway(count: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Where a head is that is not held still, float64 [T, 4]: turn, size, right and down, see `SWAY`."""
    times = np.arange(count)[:, None] / fps
    waves = np.zeros((count, 4))
    for share in (0.65, 0.35):
        waves += np.sin(2 * np.pi * (times / rng.uniform(*PERIODS, 4) + rng.uniform(size=4))) * share
    return waves * np.array(SWAY)


def view_of(still: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The map from a frame to the square, float64 [2, 3], if it is `still` without motion; `moved`: a row of `sway`."""
    turn, size, right, down = moved
    c, s = math.cos(turn) * (1 + size), math.sin(turn) * (1 + size)
    return np.asarray(np.array([[c, -s, right], [s, c, down]]) @ np.vstack([still, [0, 0, 1]]))


def crop_view() -> np.ndarray:
    """The map from FER2013's crop to the square, float64 [2, 3]."""
    eyes = (np.array(FER2013_EYES) + 0.5) / FACE_SIZE * 2 - 1
    return similarity(eyes, np.array(EYES) * 2 - 1)


def morph_between(first: Path, second: Path, detector: Detector) -> Morph:
    """Finds the face in two photographs of a person, and registers one to the other; DataError if there is none."""
    squares, points = zip(*(_square(path, detector) for path in (first, second)), strict=True)
    return Morph(*squares, np.stack(points))


def _square(path: Path, detector: Detector) -> tuple[Tensor, np.ndarray]:
    """The square around the face, float [3, SIDE, SIDE] in [0, 1], and the five landmarks in it, float [5, 2]."""
    image = read_image(str(path))
    faces = detector(image)
    chosen = main_face(faces, image.shape)
    if chosen is None:
        raise DataError(f"{path}: no face; give a photograph of a face from the front")
    matrix = similarity(faces.landmarks[chosen][:2], np.array(EYES) * SIDE - 0.5)
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    backward = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]  # square -> photograph
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    height, width = image.shape[:2]
    if scale < 1:
        small = [round(height * scale), round(width * scale)]
        pixels = F.interpolate(pixels, small, mode="bicubic", antialias=True, align_corners=False)
    axis = torch.arange(SIDE, dtype=torch.float64)
    grid = torch.stack([*torch.meshgrid(axis, axis, indexing="xy"), torch.ones(SIDE, SIDE)], dim=-1)
    there = (grid @ torch.from_numpy(backward.T) + 0.5) * 2 / torch.tensor([width, height]) - 1
    square = F.grid_sample(pixels, there[None].float(), mode="bicubic", padding_mode="border", align_corners=False)
    landmarks = np.concatenate([faces.landmarks[chosen], np.ones((5, 1))], axis=1) @ matrix.T
    return square[0].clamp(0, 1), landmarks


def frames_of(
    morph: Morph, course: Sequence[float], fps: float, still: np.ndarray, side: int, rng: np.random.Generator
) -> Iterator[tuple[float, Image.Image]]:
    """The intensity and the picture of every frame of a clip."""
    shares = intensities(course, fps)
    for share, moved in zip(shares.tolist(), sway(len(shares), fps, rng), strict=True):
        yield share, Image.fromarray(morph.frame(share, view_of(still, moved), side))


def write_clip(morph: Morph, path: Path, rng: np.random.Generator) -> int:
    """Writes a video, and beside it a table of its frames: frame, time and intensity; returns how many there are."""
    still, lines = np.array([[SHOWN, 0, 0], [0, SHOWN, 0]]), []
    with VideoWriter(path, (VIDEO_SIDE, VIDEO_SIDE)) as writer:
        for index, (share, frame) in enumerate(frames_of(morph, COURSE, FPS, still, VIDEO_SIDE, rng)):
            writer.add(frame, index / FPS)
            lines.append(f"{index:07d},{index / FPS:.2f},{share:.4f}\n")
    save_text("frame,time,intensity\n" + "".join(lines), path.with_suffix(".csv"))
    return len(lines)


def write_crops(first: Path, second: Path, root: Path, label: str, number: int, detector: Detector) -> int:
    """Writes a clip of face crops of everyone with a photograph in both folders; returns how many. `number`: a seed."""
    neutral, expressive = (
        {Path(name).stem.split("_")[0]: folder / name for name in list_folder(str(folder), [])[1]}
        for folder in (first, second)
    )
    people = [person for person in neutral if person in expressive]
    if not people:
        raise DataError(f"{first} and {second}: no two photographs have the same name up to the first _")
    lines: list[Row] = []
    with Progress("onsets", len(people), unit="clips") as bar:
        for at, person in enumerate(people):
            rng = np.random.default_rng([number, at])
            bar()
            try:
                morph = morph_between(neutral[person], expressive[person], detector)
            except DataError as error:
                bar.say(f"skipped: {error}")
                continue
            course = np.array(COURSE) * rng.uniform(0.3, 1.7, len(COURSE))
            frames = frames_of(morph, course.tolist(), FRAMES / course.sum(), crop_view(), FACE_SIZE, rng)
            for index, (share, frame) in enumerate(frames):
                target = root / "Train" / label / person / f"{index:03d}.png"
                face = frame.convert("L").resize((FACE_SIZE // 2, FACE_SIZE // 2), Image.Resampling.BILINEAR)
                with atomic_file(target) as file:
                    face.save(file, "PNG")
                lines.append(("Train", f"{label}/{person}", target.name, share, ""))
    write_intensity(root, lines)
    return len({clip for _, clip, *_ in lines})


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the clip or the clips; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m tools.onset")
    parser.add_argument("neutral", type=Path, metavar="NEUTRAL", help="a photograph, or a folder of them")
    parser.add_argument("expression", type=Path, metavar="EXPRESSION", help="the same person or people")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="a video; of folders: a folder")
    parser.add_argument("--label", default="happiness", help="the class of clips of folders")
    parser.add_argument("--seed", type=seed, default=0, help="of the head's motion")
    args = parser.parse_args(argv)
    pair, detector = (args.neutral, args.expression), Detector("cpu")
    with writing(args.output):
        if all(path.is_dir() for path in pair):
            count = write_crops(*pair, args.output, args.label, args.seed, detector)
            print(f"wrote {args.output}: {count} clips of {FRAMES} frames, and intensity.csv")
        elif all(path.is_file() for path in pair):
            check_outputs([args.output, args.output.with_suffix(".csv")], pair)
            count = write_clip(morph_between(*pair, detector), args.output, np.random.default_rng(args.seed))
            print(f"wrote {args.output}: {count} frames, and {args.output.with_suffix('.csv')}")
        else:
            raise UsageError(f"{args.neutral} and {args.expression}: give two photographs or two folders")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
