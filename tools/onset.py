"""Makes a clip out of two photographs of one person: neutral, then an expression, then neutral again.

    python -m tools.onset london/neutral_front/094_03.jpg london/smiling_front/094_08.jpg --output smile.mp4
    python -m tools.onset london/neutral_front london/smiling_front --label happiness --output Data/Onsets

The course of the expression is known: smile.csv has the intensity of every frame. Two folders give a clip for each
person: photographs of one person have the same name up to the first `_`. Their clips are face crops in gray, as in
FER2013, in `Data/Onsets/Train/<label>/<person>/<frame>.png`, with `Data/Onsets/intensity.csv`.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from Code.common.commandline import check_outputs, run_script, script_parser, seed
from Code.common.errors import UsageError
from Code.common.files import atomic_file, atomic_text, writing
from Code.common.progress import Progress
from Code.data.clips import DataError
from Code.data.images import read_image
from Code.data.intensity import Row, write_intensity
from Code.data.listing import list_folder
from Code.faces.align import FACE_SIZE, FER2013_EYES, similarity
from Code.faces.detect import Detector
from Code.faces.render import VideoWriter
from Code.recipes.stills import main_face
from tools.morph import Morph

SIDE = 480  # pixels of the squares around the face
EYES = ((0.4, 0.46), (0.6, 0.46))  # in them, as shares of the side
SHOWN = 0.86  # share of the square that a video shows, so that the head can move without an edge coming into view
COURSE = (1.2, 0.7, 1.4, 1.0, 0.7)  # seconds: neutral, onset, apex, offset, neutral
VIDEO_SIDE, FPS = 360, 25.0  # of a video
FRAMES = 16  # of a clip of face crops
# How far the head moves from its mean: turn (radians), size, right, down (half sides of the square); seconds of a sway.
SWAY, PERIODS = (math.radians(1.5), 0.012, 0.02, 0.012), (1.7, 4.1)


def intensities(course: Sequence[float], fps: float) -> np.ndarray:
    """The intensity of every frame, float64 [T] in [0, 1]: it rises and falls as half a wave of a cosine.

    Args:
        course: seconds of neutral, onset, apex, offset and neutral.
        fps: frames per second.
    """
    times = np.arange(max(1, round(sum(course) * fps))) / fps
    ends = np.cumsum(course)
    linear = np.interp(times, ends[:4], (0, 1, 1, 0))
    return (1 - np.cos(np.pi * linear)) / 2


def sway(count: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Where a head is that is not held still, float64 [T, 4]: turn, size, right and down, see `SWAY`."""
    times = np.arange(count)[:, None] / fps
    waves = [
        np.sin(2 * np.pi * (times / rng.uniform(*PERIODS, 4) + rng.uniform(size=4))) * share for share in (0.65, 0.35)
    ]
    return sum(waves) * np.array(SWAY)


def view_of(shown: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The map from a frame to the square, float64 [2, 3], both from -1 to 1.

    Args:
        shown: float [2, 3], the same map while the head does not move.
        place: float [4], a row of `sway`.
    """
    turn, size, right, down = place
    c, s = math.cos(turn) * (1 + size), math.sin(turn) * (1 + size)
    moved: np.ndarray = np.array([[c, -s, right], [s, c, down]]) @ np.vstack([shown, [0, 0, 1]])
    return moved


def crop_view() -> np.ndarray:
    """The map from FER2013's crop to the square, float64 [2, 3]."""
    eyes = (np.array(FER2013_EYES) + 0.5) / FACE_SIZE * 2 - 1
    return similarity(eyes, np.array(EYES) * 2 - 1)


def morph_between(first: Path, second: Path, detector: Detector) -> Morph:
    """Finds the face in two photographs of a person, and registers one to the other; DataError if there is none."""
    squares, points = zip(*(_square(path, detector) for path in (first, second)), strict=True)
    return Morph(squares[0], squares[1], np.stack(points))


def _square(path: Path, detector: Detector) -> tuple[torch.Tensor, np.ndarray]:
    """The square around the face, float [3, SIDE, SIDE] in [0, 1], and the five landmarks in it, float [5, 2]."""
    image = read_image(str(path))
    faces = detector(image[None])[0]
    chosen = main_face(faces, image.shape)
    if chosen is None:
        raise DataError(f"{path}: no face; give a photograph of a face from the front")
    matrix = similarity(faces.landmarks[chosen][:2], np.array(EYES) * SIDE - 0.5)
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    backward = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]  # square -> photograph
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    height, width = image.shape[:2]
    if scale < 1:
        small = [max(1, round(length * scale)) for length in (height, width)]
        pixels = F.interpolate(pixels, small, mode="bicubic", antialias=True, align_corners=False)
    axis = torch.arange(SIDE, dtype=torch.float64)
    grid = torch.stack([*torch.meshgrid(axis, axis, indexing="xy"), torch.ones(SIDE, SIDE)], dim=-1)
    there = (grid @ torch.from_numpy(backward.T) + 0.5) * 2 / torch.tensor([width, height]) - 1
    square = F.grid_sample(pixels, there[None].float(), mode="bicubic", padding_mode="border", align_corners=False)
    landmarks = np.concatenate([faces.landmarks[chosen], np.ones((5, 1))], axis=1) @ matrix.T
    return square[0].clamp(0, 1), landmarks


def write_clip(morph: Morph, path: Path, number: int) -> int:
    """Writes a video, and a table of its frames beside it: frame, time and intensity; returns how many frames it has.

    Args:
        number: the seed of the head's motion.
    """
    shares = intensities(COURSE, FPS)
    places = sway(len(shares), FPS, np.random.default_rng(number))
    shown = np.array([[SHOWN, 0, 0], [0, SHOWN, 0]])
    with VideoWriter(path, (VIDEO_SIDE, VIDEO_SIDE)) as writer:
        for index, (share, place) in enumerate(zip(shares, places, strict=True)):
            frame = morph.frame(float(share), view_of(shown, place), VIDEO_SIDE)
            writer.add(Image.fromarray(frame), index / FPS)
    with atomic_text(path.with_suffix(".csv"), newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("frame", "time", "intensity"))
        rows.writerows((f"{index:07d}", f"{index / FPS:.2f}", f"{share:.4f}") for index, share in enumerate(shares))
    return len(shares)


def pairs(first: Path, second: Path) -> list[tuple[str, Path, Path]]:
    """(person, photograph, photograph) for everyone with a photograph in both folders; DataError if nobody has."""
    of_person = [
        {Path(name).stem.split("_")[0]: folder / name for name in list_folder(str(folder), [])[1]}
        for folder in (first, second)
    ]
    both = [(person, path, of_person[1][person]) for person, path in of_person[0].items() if person in of_person[1]]
    if not both:
        raise DataError(f"{first} and {second}: no two photographs have the same name up to the first _")
    return both


def write_crops(
    people: Sequence[tuple[str, Path, Path]], root: Path, label: str, number: int, detector: Detector
) -> int:
    """Writes a clip of face crops for each person; the seconds of their courses are random.

    Args:
        label: the class.
        number: the seed of courses and motion.

    Returns:
        The number of clips.
    """
    lines: list[Row] = []
    clips = 0
    with Progress("onsets", len(people), unit="clips") as bar:
        for at, (person, first, second) in enumerate(people):
            rng = np.random.default_rng([number, at])
            bar()
            try:
                morph = morph_between(first, second, detector)
            except DataError as error:
                bar.say(f"skipped: {error}")
                continue
            course = np.array(COURSE) * rng.uniform(0.3, 1.7, len(COURSE))
            fps = FRAMES / course.sum()
            shares, places = intensities(course.tolist(), fps), sway(FRAMES, fps, rng)
            for index, (share, place) in enumerate(zip(shares, places, strict=True)):
                face = Image.fromarray(morph.frame(float(share), view_of(crop_view(), place), FACE_SIZE)).convert("L")
                target = root / "Train" / label / person / f"{index:03d}.png"
                with atomic_file(target) as file:
                    face.resize((FACE_SIZE // 2, FACE_SIZE // 2), Image.Resampling.BILINEAR).save(file, "PNG")
                lines.append(("Train", f"{label}/{person}", target.name, float(share), ""))
            clips += 1
    write_intensity(root, lines)
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the clip or the clips; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m tools.onset")
    parser.add_argument("neutral", type=Path, metavar="NEUTRAL", help="a photograph, or a folder of them")
    parser.add_argument("expression", type=Path, metavar="EXPRESSION", help="the same person or people")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="a video; of folders: a folder")
    parser.add_argument("--label", default="happiness", help="the class of clips of folders")
    parser.add_argument("--seed", type=seed, default=0, help="of the head's motion")
    args = parser.parse_args(argv)
    for path in (args.neutral, args.expression):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    if args.neutral.is_dir() != args.expression.is_dir():
        raise UsageError(f"{args.neutral} and {args.expression}: give two photographs or two folders")
    if not args.neutral.is_dir():
        check_outputs([args.output, args.output.with_suffix(".csv")], [args.neutral, args.expression])
    detector = Detector("cpu")
    with writing(args.output):
        if args.neutral.is_dir():
            people = pairs(args.neutral, args.expression)
            count = write_crops(people, args.output, args.label, args.seed, detector)
            print(f"wrote {args.output}: {count} clips of {FRAMES} frames, and intensity.csv")
        else:
            morph = morph_between(args.neutral, args.expression, detector)
            count = write_clip(morph, args.output, args.seed)
            print(f"wrote {args.output}: {count} frames, and {args.output.with_suffix('.csv')}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
