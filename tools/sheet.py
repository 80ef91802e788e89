"""A contact sheet of the generated sample: people at the apex of each expression, and one clip over time.

python -m tools.sheet docs/sample.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from Code.common.commandline import run_script, script_parser
from Code.common.files import writing
from Code.common.names import AFEW_LABELS
from Code.sample.canvas import camera
from Code.sample.clip import SampleSpec, draw_apex, draw_clip
from Code.sample.face import Face, Pose
from Code.sample.person import Person

WIDTH, FACE, GAP, TOP = 1000, 136, 6, 34
BARS = 70  # height of a bar with intensity 1
INK, FAINT, GOOD, BAD = (32, 36, 44), (120, 126, 136), (46, 125, 90), (190, 66, 52)
# Training clips: different people, and a clip with many kinds of distractors.
PEOPLE = (10, 22, 5, 14, 48)
COURSE = 28


def draw_sheet(path: Path) -> Path:
    """Draws the contact sheet of the sample, an RGB PNG 1000 pixels wide; returns `path`."""
    clip = list(draw_clip(AFEW_LABELS[COURSE % 7], 0, 0, COURSE, SampleSpec()))
    side = (WIDTH - GAP * (len(clip) + 1)) // len(clip)
    course_top = TOP + len(PEOPLE) * (FACE + GAP) + 40
    sheet = Image.new("RGB", (WIDTH, course_top + side + BARS + 40), "white")
    pen = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(17), ImageFont.load_default(11)

    left = (WIDTH - 7 * FACE - 6 * GAP) // 2
    for column, label in enumerate(AFEW_LABELS):
        x = left + column * (FACE + GAP)
        pen.text((x + FACE // 2, TOP // 2), label, INK, title, anchor="mm")
        for row, number in enumerate(PEOPLE):
            sheet.paste(_apex(label, number), (x, TOP + row * (FACE + GAP)))

    heading = f"One clip over time ({AFEW_LABELS[COURSE % 7]}): bars show the true intensity, distractors are red"
    pen.text((WIDTH // 2, course_top - 20), heading, INK, title, anchor="mm")
    left = (WIDTH - len(clip) * (side + GAP) + GAP) // 2
    base = course_top + side + BARS + 14
    pen.line((left, base + 1, WIDTH - left, base + 1), FAINT)
    for column, (picture, truth) in enumerate(clip):
        x = left + column * (side + GAP)
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x, course_top))
        if truth.distractor:
            pen.rectangle((x - 1, course_top - 1, x + side, course_top + side), outline=BAD, width=2)
            pen.text((x + side // 2, base + 14), truth.distractor, BAD, small, anchor="mm")
        else:
            pen.rectangle((x + 4, base - round(BARS * truth.intensity), x + side - 5, base), fill=GOOD)
            pen.text((x + side // 2, base + 14), f"{truth.intensity:.2f}", FAINT, small, anchor="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A palette of 256 colors makes almost no visible difference, and keeps the file small enough for a README.
    sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    return path


def _apex(label: str, number: int) -> Image.Image:
    """The person of training clip `number` showing `label` at its apex."""
    rng = np.random.default_rng([0, 0, number])
    face = Face(Person(rng), FACE, rng)
    rng = np.random.default_rng([0, 0, number, AFEW_LABELS.index(label)])
    pose = Pose(roll=rng.uniform(-0.06, 0.06), yaw=rng.uniform(-0.3, 0.3), gaze=rng.uniform(-0.3, 0.3))
    picture = face.draw(draw_apex(label, rng), pose)
    return camera(np.asarray(picture, np.float32), 1.0, 0.0, 2.0, rng)


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the sheet; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m tools.sheet")
    parser.add_argument("output", type=Path, metavar="PNG", help="the picture to write")
    args = parser.parse_args(argv)
    with writing(args.output):
        print(draw_sheet(args.output))
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
