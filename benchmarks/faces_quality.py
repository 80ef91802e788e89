"""How well prepared faces are aligned: detects the eyes again in what Prepare_Faces.py wrote.

Faces in profile, which go by their box (`face_similarity`), have their eyes elsewhere on purpose: they are counted
apart. Where several faces are found in a crop, the one nearest to where its own face was put is measured.

example: python benchmarks/faces_quality.py faces [--sheets FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.faces.align import FACE_SIZE, PAPER_EYES, face_similarity
from Code.faces.detect import Detector
from Code.faces.records import COLUMNS

SHOWN = 24
BORDER = 112  # grey around a crop: the detector does badly on faces that reach the picture's rim
THUMB = 112


@dataclass(frozen=True)
class Written:
    """A face that was written: its frame, whether it went by its box, and where its landmarks' middle was put."""

    number: int
    guarded: bool
    middle: np.ndarray


def written(folder: Path) -> dict[str, list[Written]]:
    """Faces by clip, as faces.csv tells."""
    clips: dict[str, list[Written]] = defaultdict(list)
    with (folder / "faces.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if not row["track"]:
                continue
            box = np.array([float(row[name]) for name in COLUMNS[3:7]])
            landmarks = np.array([float(row[name]) for name in COLUMNS[7:17]]).reshape(5, 2)
            matrix = face_similarity(landmarks, box)
            guarded = not np.allclose(matrix, face_similarity(landmarks))
            clips[row["clip"]].append(Written(int(row["frame"]), guarded, matrix @ [*landmarks.mean(axis=0), 1]))
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


def eyes_again(folder: Path, faces: list[Written], detector: Detector) -> dict[int, np.ndarray]:
    """Eyes [2, 2] by frame in the written crops, pixels of the crop; without frames whose face is not found again."""
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(faces), 16):
        part = faces[start : start + 16]
        images = np.stack([np.asarray(Image.open(folder / f"{face.number:07d}.jpg")) for face in part])
        images = np.pad(images, ((0, 0), (BORDER, BORDER), (BORDER, BORDER), (0, 0)), constant_values=127)
        for face, seen in zip(part, detector(images), strict=True):
            if len(seen.boxes):
                away = np.hypot(*(seen.landmarks.mean(axis=1) - BORDER - face.middle).T)
                found[face.number] = seen.landmarks[away.argmin()][:2] - BORDER
    return found


def two(values: np.ndarray) -> str:
    """Median / 95 %."""
    return f"{np.percentile(values, 50):.2f} / {np.percentile(values, 95):.2f}" if len(values) else "-"


def main() -> None:
    """Prints a line per clip."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="an output of Prepare_Faces.py")
    parser.add_argument("--sheets", type=Path, help="also write a contact sheet per clip into this folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    detector = Detector(min_face=60)
    of_all: dict[bool, list[float]] = {False: [], True: []}
    print("clip: faces, found again; eyes' distance from the template median / 95 % (px); in profile; jitter (px)")
    for clip, faces in written(args.folder).items():
        found = eyes_again(args.folder / clip, faces, detector)
        errors: dict[bool, list[float]] = {False: [], True: []}
        for face in faces:
            if face.number in found:
                errors[face.guarded].append(np.hypot(*(found[face.number] - PAPER_EYES).T).max())
        for guarded, values in errors.items():
            of_all[guarded] += values
        # Jitter: how far the middle between the eyes moves from one frame to the next, root mean square.
        steps = [found[number + 1].mean(axis=0) - found[number].mean(axis=0) for number in found if number + 1 in found]
        jitter = np.sqrt((np.array(steps) ** 2).sum(axis=1).mean()) if steps else float("nan")
        profile = f"{len(errors[True])} in profile: {two(np.array(errors[True]))}"
        print(
            f"{clip}: {len(faces)}, {len(found)}; {two(np.array(errors[False]))}; {profile}; {jitter:.2f}", flush=True
        )
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            sheet = contact_sheet(args.folder / clip, [face.number for face in faces], clip)
            sheet.save(args.sheets / f"{clip.replace('/', '_')}.png")
    for name, chosen in (("frontal", of_all[False]), ("in profile", of_all[True])):
        print(f"{name}: {two(np.array(chosen))} over {len(chosen)} faces")
    print(f"all: {two(np.array(of_all[False] + of_all[True]))}")


if __name__ == "__main__":
    main()
