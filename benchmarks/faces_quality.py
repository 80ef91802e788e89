"""How well prepared faces are aligned: detects the eyes again in what Prepare_Faces.py wrote.

example: python benchmarks/faces_quality.py faces [--sheets FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.faces.align import FACE_SIZE, PAPER_EYES
from Code.faces.detect import Detector

SHOWN = 24
BORDER = 112  # grey around a crop: the detector does badly on faces that reach the picture's rim
THUMB = 112


def written(folder: Path) -> dict[str, list[int]]:
    """Frames with a face, by clip, as faces.csv tells."""
    clips: dict[str, list[int]] = defaultdict(list)
    with (folder / "faces.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["track"]:
                clips[row["clip"]].append(int(row["frame"]))
    return clips


def contact_sheet(folder: Path, frames: list[int], title: str) -> Image.Image:
    """Evenly chosen faces of a clip, with their frame numbers and the template's eyes."""
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(SHOWN, len(frames)))]
    columns = 8
    sheet = Image.new("RGB", (columns * THUMB, 16 + THUMB * -(-len(chosen) // columns)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 2), title, fill="black")
    for at, number in enumerate(chosen):
        left, top = at % columns * THUMB, 16 + at // columns * THUMB
        with Image.open(folder / f"{number:07d}.jpg") as image:
            sheet.paste(image.resize((THUMB, THUMB)), (left, top))
        for x, y in PAPER_EYES:
            px, py = left + x * THUMB / FACE_SIZE, top + y * THUMB / FACE_SIZE
            draw.line((px - 3, py, px + 3, py), fill="lime")
            draw.line((px, py - 3, px, py + 3), fill="lime")
        draw.text((left + 3, top + THUMB - 12), str(number), fill="yellow")
    return sheet


def main() -> None:
    """Prints a line per clip."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="an output of Prepare_Faces.py")
    parser.add_argument("--sheets", type=Path, help="also write a contact sheet per clip into this folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    detector = Detector(min_face=60)
    eyes = np.array(PAPER_EYES)
    errors_of_all = []
    print("clip: faces, found again, eyes' distance from the template median / 95 % (px), jitter (px)")
    for clip, frames in written(args.folder).items():
        found: dict[int, np.ndarray] = {}
        for start in range(0, len(frames), 16):
            part = frames[start : start + 16]
            images = np.stack([np.asarray(Image.open(args.folder / clip / f"{number:07d}.jpg")) for number in part])
            images = np.pad(images, ((0, 0), (BORDER, BORDER), (BORDER, BORDER), (0, 0)), constant_values=127)
            for number, faces in zip(part, detector(images), strict=True):
                if len(faces.boxes):
                    found[number] = faces.landmarks[0][:2] - BORDER
        errors = np.array([np.hypot(*(points - eyes).T).max() for points in found.values()])
        errors_of_all.append(errors)
        # Jitter: how far the middle between the eyes moves from one frame to the next, root mean square.
        steps = [found[number + 1].mean(axis=0) - found[number].mean(axis=0) for number in found if number + 1 in found]
        jitter = np.sqrt((np.array(steps) ** 2).sum(axis=1).mean()) if steps else float("nan")
        median, most = (np.percentile(errors, share) for share in (50, 95)) if len(errors) else (np.nan, np.nan)
        print(f"{clip}: {len(frames)}, {len(found)}, {median:.2f} / {most:.2f}, {jitter:.2f}", flush=True)
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            contact_sheet(args.folder / clip, frames, clip).save(args.sheets / f"{clip.replace('/', '_')}.png")
    joined = np.concatenate(errors_of_all)
    print(f"all: {np.percentile(joined, 50):.2f} / {np.percentile(joined, 95):.2f} over {len(joined)} faces")


if __name__ == "__main__":
    main()
